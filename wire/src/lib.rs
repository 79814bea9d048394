//! What goes over the wire between Mahavishnu's clients and servers, as pure state machines.

#![forbid(unsafe_code)]

pub mod entropy;
mod limits;
pub mod protocol;
pub mod reason;
pub mod time;
pub mod ws;

pub use limits::Limits;
