//! What a runtime has to do for a server: the seam between this crate and its adapters.
//!
//! A shard is one future on one thread. It waits for three things: its poller's file descriptor, a moment, and mail. Mail
//! wakes the future's own waker, so what a runtime adds is the other two ([`Waiter`]), a thread's loop around the future,
//! and a place for the application's handlers ([`Runtime`]). Both are static parameters: a wait is a few plain calls and
//! allocates nothing.

use std::{
    fmt, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    task::{Context, Poll},
    time::Instant,
};

use mio::Registry;

/// A runtime. Its value is what [`Builder::start`](crate::Builder::start) captures of the caller's runtime; handlers of
/// the application run there.
pub trait Runtime: Clone + fmt::Debug + Send + Sync + 'static {
    /// How a shard's future waits.
    type Waiter: Waiter;

    /// The runtime that the caller is in, or the only one that there is.
    ///
    /// # Errors
    ///
    /// The caller has to be within a runtime, and is not.
    fn current() -> io::Result<Self>;

    /// Runs a shard on the calling thread, which has nothing else to do until it is over. The shard's [`Waiter`] is made
    /// and used within.
    ///
    /// # Errors
    ///
    /// The thread cannot wait: the process has no file descriptor left.
    fn run<T>(shard: impl Future<Output = T>) -> io::Result<T>;

    /// Runs a task of the application to its end, not on a shard's thread. It may block its thread, though it should not,
    /// and does not panic. A runtime that is over drops it, at once or later.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static);

    /// Calls `call`, which is the application's and runs on a shard's thread, so that what it spawns runs where
    /// [`spawn`](Self::spawn) puts things.
    fn within<T>(&self, call: impl FnOnce() -> T) -> T {
        call()
    }
}

/// Waits for one poller, and for one moment. It belongs to one task.
pub trait Waiter: fmt::Debug + Sized {
    /// Prepares to wait for `descriptor`. Called where it is used: within [`Runtime::run`], or wherever a
    /// [`Poller`](crate::poller::Poller) of one's own is made.
    ///
    /// # Errors
    ///
    /// The process has no file descriptor left, or the runtime is without I/O.
    fn new(descriptor: Descriptor) -> io::Result<Self>;

    /// Ready when the descriptor may be readable, otherwise wakes the task when it is. The caller looks after each
    /// `Ready`, and asks for all that there is: an adapter may wait for edges, and forgets an edge when it says `Ready`,
    /// before the look. It may say `Ready` for nothing, and does when waiting fails: the look finds out.
    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()>;

    /// Sets the alarm, in place of the one that was set. It is called as rarely as possible, see
    /// [`Poller::ready_by`](crate::poller::Poller::ready_by).
    fn set_alarm(&mut self, at: Instant);

    /// Ready when the alarm rings, otherwise wakes the task when it does. Not called again before it is set anew.
    fn poll_alarm(&mut self, context: &mut Context<'_>) -> Poll<()>;
}

/// A poller's file descriptor: readable while the operating system has something to tell of its sockets. Nothing is read
/// from it but by the poller.
#[derive(Debug)]
pub struct Descriptor(pub(crate) Registry);

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
