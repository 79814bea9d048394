//! A server without threads and without a clock of its own, for test kits: its shards are futures that the caller polls, and
//! its time is what the caller says.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use mahavishnu_core::time::Now;

use crate::{
    builder::{Builder, Server},
    runtime::Runtime,
};

/// Time that passes only when it is told to. Cheap to clone; clones are the same clock.
#[derive(Clone, Debug)]
pub struct Time(Arc<Moment>);

#[derive(Debug)]
struct Moment {
    origin: Instant,
    unix: Duration,
    nanoseconds: AtomicU64,
}

impl Time {
    /// A clock that begins at `unix`, counted from 1970, and stands still.
    #[must_use]
    pub fn new(unix: Duration) -> Self {
        // Only differences count, so any origin gives the same run.
        Self(Arc::new(Moment { origin: Instant::now(), unix, nanoseconds: AtomicU64::new(0) }))
    }

    /// Both clocks now.
    #[must_use]
    pub fn now(&self) -> Now {
        let since = self.elapsed();
        Now { mono: self.0.origin + since, unix: self.0.unix + since }
    }

    /// Time since it began.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.0.nanoseconds.load(Ordering::SeqCst))
    }

    /// When a moment comes, as time since it began. Moments before that are zero.
    #[must_use]
    pub fn elapsed_at(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.0.origin)
    }

    /// Goes to a moment, as time since it began. What is past stays past: it never goes back. It ends after 584 years.
    pub fn set(&self, elapsed: Duration) {
        let nanoseconds = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        self.0.nanoseconds.fetch_max(nanoseconds, Ordering::SeqCst);
    }
}

/// A shard as a future. It is over when the shard is; whether it has failed is told by
/// [`Server::stop`](crate::Server::stop).
pub type Stepped = Pin<Box<dyn Future<Output = ()>>>;

impl<R: Runtime> Builder<R> {
    /// Builds the server, but starts no thread: each shard is a future, to be polled on this thread, whose [`Waiter`] says
    /// when there is something to look at, and `time` is the clock of all. One that is polled does all that there is to do.
    /// `mahavishnu-test` runs whole servers that way. A panic in a shard is the caller's.
    ///
    /// [`Waiter`]: crate::Waiter
    ///
    /// # Errors
    ///
    /// As those of [`start`](Self::start). And a store or a Redis, which have threads of their own: `InvalidInput`.
    pub async fn start_stepped(self, time: Time) -> io::Result<(Server<R>, Vec<Stepped>)> {
        if self.has_threads() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, THREADS));
        }
        let (server, shards) = self.assemble(Some(time)).await?;
        let shards = shards.into_iter().map(|(end, start)| Box::pin(end.step(start)) as Stepped);
        Ok((server, shards.collect()))
    }
}

/// What who wants such a server is told.
const THREADS: &str =
    "a store and a Redis have threads of their own: a server that is stepped has none";
