//! Mahavishnu on [smol](https://github.com/smol-rs/smol): the pure core driven over real sockets.
//!
//! ```no_run
//! use mahavishnu_smol::Server;
//! use serde_json::json;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let server = Server::builder()
//!     .listen("127.0.0.1:8686")
//!     .on_request("get_pool_status", |request| async move {
//!         Ok(json!({ "pool_id": request.data.get("pool_id"), "status": "idle", "workers": [] }))
//!     })
//!     .start()
//!     .await?;
//! server.handle().broadcast("workflow:42", "workflow.started", &json!({ "workflow_id": "42" })).await?;
//! server.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! # How it runs
//!
//! Each shard is one thread with a `LocalExecutor`, one [`Hub`](mahavishnu_core::hub::Hub), one reader task per socket
//! and one *turn* task. A reader takes what its socket has, feeds the hub and wakes the turn task, which queues behind
//! all readers that were ready: so one turn gathers what all of them brought, and writes each socket once. Handlers of
//! the application run on smol's global executor (`smol::spawn`), never on a shard.
//!
//! # Differences from mahavishnu-tokio
//!
//! The crates have the same public items, and the same files with the same items in the same order; `notify.rs` is the
//! only file that the other has not. What differs has one of these reasons:
//!
//! | | tokio | smol |
//! |---|---|---|
//! | Reactor | one for each shard, edge-triggered: a socket is registered once | one for the process, one-shot: each wait for a socket is a system call (`epoll_ctl`), and each look at the reactor is five. Shards take turns at it, and a shard may be woken by the thread that has it |
//! | Reading | waits, then reads | reads until the socket is empty, then waits |
//! | Turn | the future of `block_on` | a task in the queue of the executor, so that no look at the reactor comes before it |
//! | Timer | set anew in each turn | left to ring early: setting it wakes the reactor |
//! | Accepting | the scheduler's budget makes it give way | it gives way after each socket |
//! | Socket for another shard | is registered with that shard's reactor | stays as it is |
//! | Handlers | run on the runtime that called [`Builder::start`] | run on smol's global executor, one thread unless `SMOL_THREADS` says otherwise |
//! | A channel whose receiver is gone | drops what is in it | keeps it, so the mailbox empties itself |
//! | Waking the turn | `tokio::sync::Notify` | `notify.rs`: smol's own kind is for threads |
//!
//! The process needs no runtime around it: [`Builder::start`], [`Handle`] and [`Server::stop`] work under any executor.
//! A thread that waits in `smol::block_on` takes part in polling the reactor, and then wakes the shards for their
//! sockets; where it has no sockets of its own, `smol::future::block_on` leaves the reactor to the shards.

mod accept;
mod app;
mod audit;
mod builder;
mod clock;
mod handle;
pub mod poller;
mod shard;
pub mod signal;
mod socket;

pub use self::{
    app::{Authorize, Request, RequestResult},
    builder::{Builder, Server},
    handle::{BroadcastError, Handle, RevokeError},
};
pub use mahavishnu_core as core;
