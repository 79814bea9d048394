//! Mahavishnu on [tokio](https://tokio.rs): the pure core driven over real sockets.
//!
//! ```no_run
//! use mahavishnu_tokio::Server;
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
//! Each shard is one thread with a current-thread runtime, one [`Hub`](mahavishnu_core::hub::Hub), and one
//! [`Poller`](poller::Poller) for all of its sockets, which the runtime waits for as for a single one. The thread's only
//! task takes turns: it takes mails, asks the poller, reads each socket that has something once, accepts, and then writes
//! to each that is to get something. So one turn gathers what all of them brought, and nothing but a few bytes is kept for a
//! socket. Handlers of the application run on the runtime that called [`Builder::start`], never on a shard.
//!
//! [`poller`] is for other programs too that drive many sockets of their own.

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
