//! In which order the application hears of a connection.
//!
//! What is put to it about one connection stands in a line, and one task at a time walks along it: each call runs until
//! it first waits for something, then the next one begins. So a handler that blocks holds up its own connection's, and
//! nobody else's.

use std::{
    collections::{HashMap, VecDeque},
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
};

use mahavishnu_core::hub::ConnId;

use super::BoxFuture;
use crate::runtime::Runtime;

/// A call of a handler, until it was answered.
pub(super) type Job = BoxFuture<()>;

/// The lines of a shard's connections. A connection has one while it is walked along.
#[derive(Clone, Default)]
pub(super) struct Lines(Arc<Mutex<HashMap<ConnId, VecDeque<Job>>>>);

impl Lines {
    /// Puts a call at the end of its connection's line.
    pub(super) fn put<R: Runtime>(&self, runtime: &R, conn: ConnId, job: Job) {
        let mut lines = self.lock();
        if let Some(line) = lines.get_mut(&conn) {
            line.push_back(job);
            return;
        }
        lines.insert(conn, VecDeque::new());
        drop(lines);
        let walk = Walk { lines: self.clone(), conn, over: false };
        runtime.spawn(walk.along(runtime.clone(), job));
    }

    /// No code of the application runs under the lock, and nothing that panics.
    fn lock(&self) -> MutexGuard<'_, HashMap<ConnId, VecDeque<Job>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One task's walk along a line.
struct Walk {
    lines: Lines,
    conn: ConnId,
    over: bool,
}

impl Walk {
    async fn along<R: Runtime>(mut self, runtime: R, mut job: Job) {
        loop {
            let done = poll_fn(|context| Poll::Ready(job.as_mut().poll(context).is_ready())).await;
            match self.next() {
                // One that waits does so in a task of its own. Whatever it has registered to be woken by wakes this one for
                // nothing: it registers anew.
                Some(next) => {
                    let waits = std::mem::replace(&mut job, next);
                    if !done {
                        runtime.spawn(waits);
                    }
                }
                None if done => return,
                None => return job.await,
            }
        }
    }

    /// The next call; the line goes with the last one.
    fn next(&mut self) -> Option<Job> {
        let mut lines = self.lines.lock();
        let next = lines.get_mut(&self.conn)?.pop_front();
        if next.is_none() {
            lines.remove(&self.conn);
            self.over = true;
        }
        next
    }
}

impl Drop for Walk {
    fn drop(&mut self) {
        if !self.over {
            // The runtime has given it up: those who stand there are given up, too, and each says so.
            let line = self.lines.lock().remove(&self.conn);
            drop(line);
        }
    }
}
