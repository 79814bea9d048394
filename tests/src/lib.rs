//! Harness of the end-to-end tests: the `mahavishnu` binary as an operator starts it, and clients that talk to it over
//! real sockets. The conformance suite has its clients from here as well, over streams of its own.
//!
//! Nothing here looks inside the server. A test starts its own [`Server`] on free ports with a state directory of its
//! own, so tests run side by side. Everything that waits has a deadline ([`wait::DEADLINE`]); nothing sleeps to give
//! the server time.

pub mod binary;
pub mod browser;
pub mod certs;
pub mod client;
pub mod cluster;
pub mod collector;
pub mod dialogue;
pub mod faults;
pub mod fleet;
pub mod foreign;
pub mod http;
pub mod json;
pub mod line;
pub mod load;
pub mod manager;
pub mod metrics;
pub mod outages;
pub mod page;
pub mod prometheus;
pub mod proxy;
pub mod raw;
pub mod server;
pub mod stream;
pub mod token;
pub mod wait;

pub use client::{Client, Heard};
pub use cluster::Cluster;
pub use metrics::Metrics;
pub use raw::Raw;
pub use server::Server;
