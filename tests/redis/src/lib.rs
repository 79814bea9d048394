//! Real servers of Redis and Valkey for tests, which [`Redis::start`] starts on a free port with their data in a
//! temporary folder, and a small client to ask them. `scripts/setup-tests` installs them.

#![forbid(unsafe_code)]

mod client;
mod kind;
mod options;
mod ports;
mod process;
mod sentinel;
mod server;
mod value;

pub use self::{
    client::{Client, encode},
    kind::Kind,
    options::Options,
    sentinel::Sentinel,
    server::Redis,
    value::Value,
};
