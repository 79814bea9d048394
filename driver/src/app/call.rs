//! One call of a handler: what it weighs, and that it is answered whatever becomes of it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use mahavishnu_core::hub::{Command, Handler};
use tracing::error;

use super::{
    BoxFuture,
    guard::{Guarded, Panicked, guard},
};
use crate::mailbox::{Mail, Mailbox};

/// What the application was given by a shard and is not done with.
#[derive(Debug, Default)]
pub(super) struct Load {
    bytes: AtomicUsize,
    /// Calls by which it hears of connections that came and went, altogether or in a channel.
    notices: AtomicUsize,
    /// A shard that stops waits for the last of these.
    awaited: AtomicBool,
}

impl Load {
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn notices(&self) -> usize {
        self.notices.load(Ordering::SeqCst)
    }

    /// From now on the shard is woken when the last notice is through.
    pub(super) fn wait_for_notices(&self) {
        self.awaited.store(true, Ordering::SeqCst);
    }
}

/// A call of a handler. If it is dropped before it was answered it has failed.
pub(super) struct Call {
    handler: Handler,
    mailbox: Mailbox,
    load: Arc<Load>,
    bytes: usize,
    answered: bool,
    /// It has panicked behind its answer.
    failed_later: bool,
}

impl Call {
    /// `data_bytes`: what the application is given with it.
    pub(super) fn new(
        handler: Handler,
        data_bytes: usize,
        mailbox: &Mailbox,
        load: &Arc<Load>,
    ) -> Self {
        let bytes = data_bytes.saturating_add(CALL_BYTES);
        load.bytes.fetch_add(bytes, Ordering::Relaxed);
        if is_notice(handler) {
            load.notices.fetch_add(1, Ordering::SeqCst);
        }
        Self {
            handler,
            mailbox: mailbox.clone(),
            load: load.clone(),
            bytes,
            answered: false,
            failed_later: false,
        }
    }

    /// Calls a handler that answers at once.
    pub(super) fn make<T>(&self, handler: impl FnOnce() -> T) -> Option<T> {
        self.told(guard(handler))
    }

    /// Calls a handler and waits for the future that it returns.
    pub(super) async fn make_async<T>(
        &mut self,
        handler: impl FnOnce() -> BoxFuture<T>,
    ) -> Option<T> {
        let mut future = Guarded::new(self.make(handler)?);
        let outcome = self.told((&mut future).await)?;
        // It has answered, and that counts; but a panic after it must not stay unknown.
        self.failed_later = self.told(future.discard()).is_none();
        Some(outcome)
    }

    /// Sends the answer, and waits for room.
    pub(super) async fn answer(mut self, command: Command) {
        self.mailbox.command(command).await;
        self.answered = true;
        if self.failed_later {
            self.mailbox.command(Command::Failed(self.handler)).await;
        }
    }

    /// It is over, and nobody waits for an answer.
    pub(super) fn done(mut self) {
        self.answered = true;
    }

    /// Logs a panic.
    fn told<T>(&self, outcome: Result<T, Panicked>) -> Option<T> {
        if outcome.is_err() {
            error!(handler = self.handler.name(), "the application's handler panicked");
        }
        outcome.ok()
    }

    fn fail(&self) {
        // Not among the commands, which may have no room: a drop cannot wait. There are no more of these than calls.
        self.mailbox.pass(Mail::Command(Command::Failed(self.handler)));
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.answered {
            self.fail();
        }
        self.load.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        if is_notice(self.handler)
            && self.load.notices.fetch_sub(1, Ordering::SeqCst) == 1
            && self.load.awaited.load(Ordering::SeqCst)
        {
            self.mailbox.ring();
        }
    }
}

fn is_notice(handler: Handler) -> bool {
    matches!(
        handler,
        Handler::Connect | Handler::Disconnect | Handler::Subscribed | Handler::Unsubscribed
    )
}

/// What a call weighs besides the data: a task, a place in a line, the future of a handler that does little.
const CALL_BYTES: usize = 1024;
