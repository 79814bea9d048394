//! What drives Mahavishnu's core over real sockets, on any runtime.
//!
//! Programs embed a server through an adapter, `mahavishnu-tokio` or `mahavishnu-smol`, whose `Server` and `Builder` are
//! those of this crate on that runtime. This crate names no runtime: [`Runtime`] and [`Waiter`] are all that one has to do.
//! `examples/own_runtime` is one of plain threads, without an async runtime at all.
//!
//! # How it runs
//!
//! Each shard is one thread with one future on it, one [`Hub`](mahavishnu_core::hub::Hub), and one
//! [`Poller`](poller::Poller) for all of its sockets, which the runtime waits for as for a single one. The future takes
//! turns: it takes mails, asks the poller, reads each socket that has something once, accepts, and then writes to each that
//! is to get something. So one turn gathers what all of them brought, and nothing but a few bytes is kept for a socket.
//! While there is something to do no shard waits. Waiting allocates nothing, and the alarm for the next deadline is set anew
//! only where it has to ring earlier than it would. Handlers of the application run where [`Runtime::spawn`] puts them,
//! never on a shard, and guarded: see [`Builder`].
//!
//! [`Handle`], [`Server::failed`] and [`Server::stop`] need no runtime: they may be waited for under any executor.
//!
//! [`poller`] is for other programs too that drive many sockets of their own.

mod accept;
mod adopt;
mod app;
mod audit;
mod builder;
mod clock;
mod direct;
mod handle;
mod hooks;
mod link;
mod listen;
mod looks;
mod mailbox;
mod members;
mod owner;
pub mod poller;
mod publish;
mod pulse;
mod recorder;
mod refusals;
mod reports;
mod resolve;
mod rolls;
mod runtime;
mod sessions;
mod shard;
pub mod signal;
mod socket;
mod stepped;
mod store;

pub use self::{
    adopt::{AdoptError, Adoption},
    app::{
        Access, AuthenticateResult, Authorize, Connected, Handshake, Refusal, Request,
        RequestResult,
    },
    builder::{Builder, Server, ServerFailed},
    direct::{Message, SendError, TryError},
    handle::{BroadcastError, Handle, RevokeError},
    looks::{
        ChannelState, History, HistoryEvent, HistoryRange, LookError, Presence, PresenceMember,
    },
    members::CommandError,
    publish::Publish,
    pulse::Pulse,
    rolls::{Cursor, Listed},
    runtime::{Descriptor, Runtime, Waiter},
    sessions::{Session, SessionCounts, Stopped},
    stepped::{Stepped, Time},
    store::{Store, StoreFailed},
};
pub use bytes;
pub use http;
pub use mahavishnu_core as core;
pub use mahavishnu_core::hub::{ChannelInfo, ConnectionInfo, Disconnect, Leave, RetryAdvice, Sent};
pub use mahavishnu_links as links;
