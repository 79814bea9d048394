//! Harness of the conformance suite: one list of test bodies, run against every driver of the core.
//!
//! A body is given a [`Backend`] and starts a server on it: over real sockets on tokio, on smol or on plain threads, in the
//! simulator, or as the program in a process of its own. It gets blocking streams, over which tungstenite or plain bytes
//! speak, so that no client shares code with the server. On
//! real sockets waiting is waiting; in the simulator a read that finds nothing moves the clock on, so no time passes.

mod adapters;
mod backend;
mod counts;
#[path = "../../../driver/examples/own_runtime/own.rs"]
mod own;
pub mod program;
mod rig;
mod script;
pub mod secure;
mod simulated;
mod stream;
pub mod token;
mod watch;

pub use backend::{
    Answer, App, Backend, Did, Moved, OnAuthenticate, OnRequest, Said, Setup, Way, Wish,
};
pub use mahavishnu_tests::{
    Heard,
    http::Response,
    raw::{Frame, HANDSHAKE, masked, op, unmasked},
    wait::DEADLINE,
};
pub use rig::{Rig, base};
pub use script::{Script, Step, masked_times};
pub use stream::{Pipe, Stream};
pub use watch::watched;

/// A stream that speaks bytes, whatever is under it.
pub type Raw = mahavishnu_tests::Raw<Stream>;

/// A client of the message protocol, whatever is under it.
pub type Client = mahavishnu_tests::Client<Stream>;

/// A publish by HTTP, with further fields.
#[must_use]
pub fn post(fields: &[(&str, &str)], body: &serde_json::Value) -> Vec<u8> {
    mahavishnu_tests::http::post_bytes("/publish", fields, &body.to_string())
}
