//! The core alone on one thread, between bytes in memory and sinks in memory.
//!
//! What is measured here is the same in three ways: as time (`benches/`), as instructions under callgrind (`hot`,
//! `scripts/instructions`), and as allocations (`tests/`). Sockets, runtimes and the kernel are the load generator's.

#![forbid(unsafe_code)]
#![expect(clippy::expect_used, reason = "a benchmark that cannot be set up has nothing to measure")]

pub mod frames;
pub mod hot;
pub mod stage;

pub use stage::{CHANNEL, Stage};
