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
//! Each shard is one thread in `smol::block_on`, with one [`Hub`](mahavishnu_core::hub::Hub), and one
//! [`Poller`](poller::Poller) for all of its sockets, which smol waits for as for a single one. The thread's only task
//! takes turns: it takes mails, asks the poller, reads each socket that has something once, accepts, and then writes to
//! each that is to get something. So one turn gathers what all of them brought, and nothing but a few bytes is kept for a
//! socket. Handlers of the application run on smol's global executor (`smol::spawn`), never on a shard.
//!
//! [`poller`] is for other programs too that drive many sockets of their own.
//!
//! # Differences from mahavishnu-tokio
//!
//! The crates have the same public items, and the same files with the same items in the same order. What differs has one
//! of these reasons:
//!
//! | | tokio | smol |
//! |---|---|---|
//! | Waiting for the poller | each shard's runtime does it, edge-triggered: one system call | one reactor for the process, one-shot: it is told anew before each wait, six system calls. Shards take turns at it, and a shard may be woken by the thread that has it. While there is something to do no shard waits |
//! | Timer | set anew in each wait | left to ring early: setting it wakes the reactor |
//! | Handlers | run on the runtime that called [`Builder::start`] | run on smol's global executor, one thread unless `SMOL_THREADS` says otherwise |
//! | A channel whose receiver is gone | drops what is in it | keeps it, so the mailbox empties itself |
//!
//! The process needs no runtime around it: [`Builder::start`], [`Handle`] and [`Server::stop`] work under any executor.
//! A thread that waits in `smol::block_on` takes part in polling the reactor, and then wakes the shards for their
//! pollers; where it has no sockets of its own, `smol::future::block_on` leaves the reactor to the shards.

pub use mahavishnu_core as core;
pub use mahavishnu_driver::{
    Authorize, BroadcastError, Builder, Handle, Request, RequestResult, RevokeError, Server,
    poller, signal,
};
