//! The binary as operators use it: arguments in, lines and exit codes out.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers fail a test as tests do; clippy exempts only functions marked as tests"
)]

mod support;

mod boards;
mod client;
mod config;
mod config_diff;
mod control;
mod docs;
mod documents;
mod faults;
mod files;
mod history;
mod init;
mod interface;
mod rights;
mod server;
mod token;
mod words;
