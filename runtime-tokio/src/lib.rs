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
//! server.stop().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # How it runs
//!
//! [`mahavishnu_driver`] is the server; what is here is what it needs of tokio. Each shard is one thread with a
//! current-thread runtime of its own, whose only task is the shard. The runtime waits for the shard's poller as for a single
//! socket, edge-triggered: one system call. Its timer is a kept one, set anew where it has to ring earlier. Handlers of the
//! application run on the runtime that called [`Builder::start`], never on a shard.
//!
//! [`poller`] is for other programs too that drive many sockets of their own.

pub mod adopt;
#[cfg(feature = "hyper")]
pub mod hyper;
pub mod poller;
pub mod signal;

use std::io;

use mahavishnu_driver::Runtime;
use tokio::runtime;

pub use mahavishnu_core as core;
pub use mahavishnu_driver::{
    Access, AdoptError, Adoption, AuthenticateResult, Authorize, BroadcastError, ChannelInfo,
    ChannelState, CommandError, Connected, ConnectionInfo, Cursor, Disconnect, Handle, Handshake,
    History, HistoryEvent, HistoryRange, Leave, Listed, LookError, Message, Presence,
    PresenceMember, Publish, Refusal, Request, RequestResult, RetryAdvice, RevokeError, SendError,
    Sent, ServerFailed, Session, SessionCounts, Stopped, TryError,
};
pub use mahavishnu_driver::{bytes, http};

/// Collects what a server is to do, then starts it. [`Builder::start`] is called within a runtime; handlers run there.
pub type Builder = mahavishnu_driver::Builder<Tokio>;

/// A running server.
pub type Server = mahavishnu_driver::Server<Tokio>;

/// What who starts a server outside of a runtime is told.
const OUTSIDE: &str =
    "Builder::start has to be called within a tokio runtime: the application's handlers run there";

/// tokio, as [`mahavishnu_driver`] runs on it: the runtime that the application's handlers run on.
#[derive(Clone, Debug)]
pub struct Tokio(runtime::Handle);

impl Runtime for Tokio {
    type Waiter = poller::Waiter;

    fn current() -> io::Result<Self> {
        let current = runtime::Handle::try_current().map(Self);
        current.map_err(|_| io::Error::other(OUTSIDE))
    }

    fn run<T>(shard: impl Future<Output = T>) -> io::Result<T> {
        let runtime = runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        Ok(runtime.block_on(shard))
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(task);
    }

    fn within<T>(&self, call: impl FnOnce() -> T) -> T {
        let _entered = self.0.enter();
        call()
    }
}
