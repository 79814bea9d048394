//! Mahavishnu on [smol](https://github.com/smol-rs/smol): the pure core driven over real sockets.
//!
//! ```no_run
//! use mahavishnu_smol::Server;
//! use serde_json::json;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! smol::future::block_on(async {
//!     let server = Server::builder()
//!         .listen("127.0.0.1:8686")
//!         .on_request("get_pool_status", |request| async move {
//!             Ok(json!({ "pool_id": request.data.get("pool_id"), "status": "idle", "workers": [] }))
//!         })
//!         .start()
//!         .await?;
//!     server.handle().broadcast("workflow:42", "workflow.started", &json!({ "workflow_id": "42" })).await?;
//!     server.stop().await?;
//!     Ok(())
//! })
//! # }
//! ```
//!
//! # How it runs
//!
//! [`mahavishnu_driver`] is the server; what is here is what it needs of smol. Each shard is one thread in
//! `smol::block_on`, with the shard as its only task. smol waits for the shard's poller as for a single socket. Handlers of
//! the application run on smol's global executor (`smol::spawn`), never on a shard.
//!
//! The process needs no runtime around it: [`Builder::start`], [`Handle`] and [`Server::stop`] work under any executor.
//! A thread that waits in `smol::block_on` takes part in polling the reactor, and then wakes the shards for their
//! pollers; where it has no sockets of its own, `smol::future::block_on` leaves the reactor to the shards.
//!
//! [`poller`] is for other programs too that drive many sockets of their own.
//!
//! # Differences from mahavishnu-tokio
//!
//! | | tokio | smol |
//! |---|---|---|
//! | Waiting for the poller | each shard's runtime does it, edge-triggered: one system call | one reactor for the process, one-shot: it is told anew before each wait, six system calls. Shards take turns at it, and a shard may be woken by the thread that has it. While there is something to do no shard waits |
//! | Setting the alarm | takes a lock that nobody else wants | wakes the reactor, which is why the driver does it as rarely as possible |
//! | Handlers | run on the runtime that called [`Builder::start`] | run on smol's global executor, one thread unless `SMOL_THREADS` says otherwise |

pub mod adopt;
#[cfg(feature = "hyper")]
pub mod hyper;
pub mod poller;
pub mod signal;

use std::io;

use mahavishnu_driver::Runtime;

pub use mahavishnu_core as core;
pub use mahavishnu_driver::{
    Access, AdoptError, Adoption, AuthenticateResult, Authorize, BroadcastError, ChannelInfo,
    ChannelState, CommandError, Connected, ConnectionInfo, Cursor, Disconnect, Handle, Handshake,
    History, HistoryEvent, HistoryRange, Leave, Listed, LookError, Message, Presence,
    PresenceMember, Publish, Refusal, Request, RequestResult, RetryAdvice, RevokeError, SendError,
    Sent, ServerFailed, Session, SessionCounts, Stopped, TryError,
};
pub use mahavishnu_driver::{bytes, http};

/// Collects what a server is to do, then starts it. Handlers run on smol's global executor.
pub type Builder = mahavishnu_driver::Builder<Smol>;

/// A running server.
pub type Server = mahavishnu_driver::Server<Smol>;

/// smol, as [`mahavishnu_driver`] runs on it.
#[derive(Clone, Copy, Debug)]
pub struct Smol;

impl Runtime for Smol {
    type Waiter = poller::Waiter;

    fn current() -> io::Result<Self> {
        Ok(Self)
    }

    fn run<T>(shard: impl Future<Output = T>) -> io::Result<T> {
        Ok(smol::block_on(shard))
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        smol::spawn(task).detach();
    }
}
