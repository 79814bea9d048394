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
//! Each shard is one thread with a current-thread runtime, one [`Hub`](mahavishnu_core::hub::Hub), one reader task per
//! socket and one *turn* task. A reader takes what its socket has, feeds the hub and wakes the turn task, which runs
//! after all readers that were ready: so one turn gathers what all of them brought, and writes each socket once.
//! Handlers of the application run on the runtime that called [`Builder::start`], never on a shard.

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
