//! Harness of the conformance suite: one list of test bodies, run against every driver of the core.
//!
//! A body is given a [`Backend`] and starts a server on it: over real sockets on tokio, on smol or on plain
//! threads, or in the simulator. It
//! gets blocking streams, over which tungstenite or plain bytes speak, so that no client shares code with the server. On
//! real sockets waiting is waiting; in the simulator a read that finds nothing moves the clock on, so no time passes.

mod adapters;
mod backend;
mod client;
mod counts;
#[path = "../../../driver/examples/own_runtime/own.rs"]
mod own;
mod raw;
mod rig;
mod script;
pub mod secure;
mod simulated;
mod stream;
pub mod token;
mod watch;

pub use backend::{Answer, App, Backend, OnRequest, Setup};
pub use client::{Client, Heard};
pub use raw::{Frame, HANDSHAKE, Raw, Response, masked, op, post, unmasked};
pub use rig::{DEADLINE, Rig, base};
pub use script::{Script, Step, masked_times};
pub use stream::{Pipe, Stream};
pub use watch::watched;
