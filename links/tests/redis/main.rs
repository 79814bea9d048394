//! Links against real servers of Redis and Valkey. `scripts/setup-tests` installs them.

#![expect(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "tests of the whole say so by panicking, and have what a link does without: clocks, sockets, threads"
)]

mod appending;
mod away;
mod finding;
mod following;
mod healing;
mod node;
mod nodes;
mod presence;
mod refusing;
mod sessions;
mod taking;
