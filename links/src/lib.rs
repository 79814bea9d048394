//! A hub's link to Redis, through which several nodes are one server: a pure state machine, as the core is.
//!
//! A [`Link`] speaks RESP3 over one connection, which somebody else has made: no clock, no socket, no randomness but a seed.
//! [`BusCommand`]s come in from the hub, bytes from Redis; [`BusEvent`]s and bytes go out. Everything that fails here fails
//! by being said: to the hub as an event, to people as [`BusState::cause`](mahavishnu_core::hub::BusState::cause).
//!
//! # The contract
//!
//! A link belongs to one hub, and its driver works in turns, as with the hub:
//!
//! 1. Feed any number of inputs: those of the socket (`handle_resolved`, `handle_connected`, `handle_failed`,
//!    `handle_bytes`, `handle_eof`), [`handle_command`](Link::handle_command), [`handle_timeout`](Link::handle_timeout).
//!    [`Now::mono`](mahavishnu_core::time::Now::mono) never decreases from call to call.
//! 2. Take [`poll_event`](Link::poll_event) until it is empty and give each to the hub, in order.
//! 3. Take [`poll_action`](Link::poll_action) until it is empty and do what each says. There is at most one socket, and at
//!    most one attempt under way.
//! 4. Write [`transmit`](Link::transmit) to the socket and say how much was taken by [`transmitted`](Link::transmitted).
//! 5. Arm one timer for [`poll_timeout`](Link::poll_timeout).
//!
//! While [`wants_read`](Link::wants_read) is false the driver leaves bytes in the socket. It is over when
//! [`is_over`](Link::is_over), which only [`stop`](Link::stop) leads to.
//!
//! # What lies in Redis
//!
//! [`redis`] has the names of keys, the scripts, and what is announced how.
//!
//! # Features
//!
//! `tls`, on by default, compiles a cryptographic library in C. Without it a [`tls::Client`] cannot be made, and nothing
//! else changes.

#![forbid(unsafe_code)]

mod config;
mod limits;
mod link;
pub mod redis;
mod resp;
mod secret;
mod stats;
pub mod tls;

pub use self::{
    config::{LinkConfig, Servers},
    limits::LinkLimits,
    link::{Action, Asked, Inquiry, Link, Reply},
    secret::Secret,
    stats::{ErrorClass, LinkStats, Outage, RedisInfo, Sent},
};
#[doc(no_inline)]
pub use mahavishnu_core::hub::{
    AttendanceEvent, BusCommand, BusEvent, ChannelEvent, LinkEvent, NodeEvent, NodeId, VisitEvent,
};
