//! The Mahavishnu core: a WebSocket broadcast server as a pure state machine.

pub mod auth;
pub mod entropy;
pub mod limits;
pub mod protocol;
pub mod reason;
pub mod time;
pub mod ws;
