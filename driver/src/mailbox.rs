//! How threads other than a shard's own reach it.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use async_channel::{Receiver, Sender, TrySendError};
use atomic_waker::AtomicWaker;
use bytes::Bytes;
use mahavishnu_core::{
    auth::Revocation,
    hub::{
        Command, CommandId, ConnId, DirectMessage, Disconnect, Handled, Listener, Look,
        Publication, Published, Recipient, Roll, SessionPage, ShardId, ShardMessage, StoreEvent,
        Whose,
    },
    reason::Reason,
};
use mahavishnu_links::LinkConfig;
use uuid::Uuid;

use crate::{adopt::Ask, direct::TryError, poller::TcpStream, resolve::Resolved};

/// Commands of the application that may wait for a shard. One more waits in the application.
const COMMANDS_MAX: usize = 1024;

/// Accepted sockets that may wait for a shard. Further ones are not accepted until it goes on.
const SOCKETS_COMING_MAX: usize = 1024;

/// Where the outcome of a command goes.
pub(crate) type Answer = Sender<Result<Published, Reason>>;

/// Where the answer to a question goes: a JSON object.
pub(crate) type Seen = Sender<Result<Bytes, Reason>>;

/// Where the answer to a question about sessions goes.
pub(crate) type Paged = Sender<SessionPage>;

/// Where the answer to a command about connections goes.
pub(crate) type Outcome = Sender<Result<Handled, Reason>>;

/// A command about connections, whose answer is waited for.
#[derive(Debug)]
pub(crate) enum About {
    Send(Recipient, DirectMessage),
    Subscribe { conn: ConnId, channel: Box<str>, granted: bool },
    Unsubscribe { conn: ConnId, channel: Box<str> },
    List { of: Roll, limit: u32, after: Option<u32> },
}

impl About {
    /// As the hub takes it.
    pub(crate) fn into_command(self, id: CommandId) -> Command {
        match self {
            Self::Send(to, message) => Command::Send { id: Some(id), to, message },
            Self::Subscribe { conn, channel, granted } => {
                Command::Subscribe { id: Some(id), conn, channel, granted }
            }
            Self::Unsubscribe { conn, channel } => {
                Command::Unsubscribe { id: Some(id), conn, channel }
            }
            Self::List { of, limit, after } => Command::List { id, of, limit, after },
        }
    }
}

/// What a shard's mailbox carries.
#[derive(Debug)]
pub(crate) enum Mail {
    Command(Command),
    /// A broadcast whose outcome is waited for.
    Broadcast(Publication, Answer),
    /// A revocation whose outcome is waited for.
    Revoke(Revocation, Answer),
    /// A question about a channel.
    Look(Box<str>, Look, Seen),
    /// A question about sessions.
    Sessions {
        of: Whose,
        limit: u32,
        after: Option<Uuid>,
        answer: Paged,
    },
    /// Sessions to be ended.
    EndSessions(Whose, Answer),
    /// A command about connections.
    About(About, Outcome),
    /// An event for all connections of a user, to all nodes.
    SendEverywhere(Arc<str>, DirectMessage, Answer),
    /// Connections to be ended.
    Dismiss(Recipient, Box<Disconnect>, Answer),
    /// A socket that another shard accepted.
    Socket(TcpStream, SocketAddr, Listener),
    /// A handshake that somebody else has read; its socket comes later.
    Adopt(Box<Ask>),
    /// The socket of one, and what was read from it behind the handshake.
    Attach(ConnId, TcpStream, Bytes),
    /// It will have none.
    Abandon(ConnId),
    /// A socket whose first bytes somebody else has read, and whose it is.
    Adopted(TcpStream, Bytes, Option<SocketAddr>),
    Shard(ShardId, Vec<ShardMessage>),
    /// What the store has to tell.
    Store(Vec<StoreEvent>),
    /// What became of the look-up with this number.
    Resolved(u64, Resolved),
    /// Redis is elsewhere, or wants another password.
    Redis(Arc<LinkConfig>),
    /// Somebody wants to know whether the shard takes turns.
    Pulse(Sender<()>),
}

/// The sending side of a shard's mailbox.
#[derive(Clone, Debug)]
pub(crate) struct Mailbox {
    /// Bounded: from the application.
    commands: Sender<Mail>,
    /// From other shards and the acceptor. Bounded by the credit that the hubs give each other, see
    /// [`Limits::shard_queue_bytes_max`](mahavishnu_core::limits::Shards::shard_queue_bytes_max), and by
    /// [`SOCKETS_COMING_MAX`].
    internal: Sender<Mail>,
    /// Wakes the shard. One for both, so that waiting for mail is a look at the queues and allocates nothing.
    bell: Arc<AtomicWaker>,
    /// Sockets of the shard.
    pub(crate) sockets: Arc<AtomicUsize>,
    /// Sockets that the shard has yet to take in.
    coming: Arc<AtomicUsize>,
}

/// The receiving side.
#[derive(Debug)]
pub(crate) struct Inbox {
    commands: Receiver<Mail>,
    internal: Receiver<Mail>,
    bell: Arc<AtomicWaker>,
}

impl Inbox {
    /// The next mail, from inside first. `None` if there is none.
    pub(crate) fn take(&self) -> Option<Mail> {
        self.internal.try_recv().or_else(|_| self.commands.try_recv()).ok()
    }

    /// The next mail of the application.
    pub(crate) fn take_command(&self) -> Option<Mail> {
        self.commands.try_recv().ok()
    }

    /// Ready if there is mail, otherwise wakes the task when there is.
    pub(crate) fn poll_mail(&self, context: &Context<'_>) -> Poll<()> {
        // First this, so that what comes between the two rings.
        self.bell.register(context.waker());
        if self.internal.is_empty() && self.commands.is_empty() {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    }

    /// Nobody waits: what comes now is found by looking, and waking would be a system call for nothing.
    pub(crate) fn mute(&self) {
        drop(self.bell.take());
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        // Without this the mails would stay as long as anybody can send: a broadcast among them would wait for ever.
        for mails in [&self.commands, &self.internal] {
            mails.close();
            while mails.try_recv().is_ok() {}
        }
    }
}

impl Mailbox {
    pub(crate) fn new() -> (Self, Inbox) {
        let (commands, commands_inbox) = async_channel::bounded(COMMANDS_MAX);
        let (internal, internal_inbox) = async_channel::unbounded();
        let bell = Arc::<AtomicWaker>::default();
        let inbox =
            Inbox { commands: commands_inbox, internal: internal_inbox, bell: bell.clone() };
        (Self { commands, internal, bell, sockets: Arc::default(), coming: Arc::default() }, inbox)
    }

    /// Sends what the application wants, and waits for room. `false`: the shard has ended and takes nothing any more.
    pub(crate) async fn send(&self, mail: Mail) -> bool {
        let sent = self.commands.send(mail).await.is_ok();
        self.bell.wake();
        sent
    }

    /// Sends what the application wants, if there is room.
    pub(crate) fn try_send(&self, mail: Mail) -> Result<(), TryError> {
        self.commands.try_send(mail).map_err(|error| match error {
            TrySendError::Full(_) => TryError::Full,
            TrySendError::Closed(_) => TryError::Stopped,
        })?;
        self.bell.wake();
        Ok(())
    }

    /// As [`send`](Self::send), where it makes no difference whether the shard has ended.
    pub(crate) async fn command(&self, command: Command) {
        self.send(Mail::Command(command)).await;
    }

    /// Sockets of the shard, those included that it has yet to take in: one that takes none in does not get them all.
    pub(crate) fn load(&self) -> usize {
        self.sockets.load(Ordering::Relaxed) + self.coming.load(Ordering::Relaxed)
    }

    /// Whether so many sockets wait for the shard that the next ones had better wait in the kernel.
    pub(crate) fn is_crowded(&self) -> bool {
        self.coming.load(Ordering::Relaxed) >= SOCKETS_COMING_MAX
    }

    /// A socket is on its way to the shard: [`Mail::Socket`].
    pub(crate) fn expect_socket(&self) {
        self.coming.fetch_add(1, Ordering::Relaxed);
    }

    /// The shard has taken it in.
    pub(crate) fn took_socket(&self) {
        self.coming.fetch_sub(1, Ordering::Relaxed);
    }

    /// Wakes the shard for something that it will find by itself.
    pub(crate) fn ring(&self) {
        self.bell.wake();
    }

    /// Sends what comes from inside.
    pub(crate) fn pass(&self, mail: Mail) {
        // One that has ended takes nothing any more.
        let _ = self.internal.try_send(mail);
        self.bell.wake();
    }
}

/// Broadcasts, revocations and questions of a shard whose outcome is waited for.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    next: u64,
    answers: HashMap<u64, Answer>,
    looks: HashMap<u64, Seen>,
    pages: HashMap<u64, Paged>,
    outcomes: HashMap<u64, Outcome>,
}

impl Waiting {
    pub(crate) fn add(&mut self, answer: Answer) -> CommandId {
        self.next += 1;
        self.answers.insert(self.next, answer);
        CommandId(self.next)
    }

    pub(crate) fn add_look(&mut self, seen: Seen) -> CommandId {
        self.next += 1;
        self.looks.insert(self.next, seen);
        CommandId(self.next)
    }

    pub(crate) fn seen(&mut self, id: CommandId, result: Result<Bytes, Reason>) {
        if let Some(seen) = self.looks.remove(&id.0) {
            // Whoever asked may have stopped waiting.
            let _ = seen.try_send(result);
        }
    }

    pub(crate) fn add_page(&mut self, paged: Paged) -> CommandId {
        self.next += 1;
        self.pages.insert(self.next, paged);
        CommandId(self.next)
    }

    pub(crate) fn paged(&mut self, id: CommandId, page: SessionPage) {
        if let Some(paged) = self.pages.remove(&id.0) {
            // Whoever asked may have stopped waiting.
            let _ = paged.try_send(page);
        }
    }

    pub(crate) fn add_outcome(&mut self, outcome: Outcome) -> CommandId {
        self.next += 1;
        self.outcomes.insert(self.next, outcome);
        CommandId(self.next)
    }

    pub(crate) fn handled(&mut self, id: CommandId, result: Result<Handled, Reason>) {
        if let Some(outcome) = self.outcomes.remove(&id.0) {
            // Whoever asked may have stopped waiting.
            let _ = outcome.try_send(result);
        }
    }

    pub(crate) fn done(&mut self, id: CommandId, result: Result<Published, Reason>) {
        if let Some(answer) = self.answers.remove(&id.0) {
            // Whoever asked may have stopped waiting.
            let _ = answer.try_send(result);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        sync::atomic::AtomicBool,
        task::{Wake, Waker},
    };

    use mahavishnu_core::hub::DrainPlan;

    use super::*;

    /// Whether it was woken.
    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    impl Woken {
        fn take(&self) -> bool {
            self.0.swap(false, Ordering::SeqCst)
        }
    }

    fn drain() -> Mail {
        Mail::Command(Command::Drain(DrainPlan::default()))
    }

    fn poll<T>(future: impl Future<Output = T>) -> Poll<T> {
        pin!(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn mail_wakes_who_waits_for_it_and_nobody_else() {
        let (mailbox, inbox) = Mailbox::new();
        let woken = Arc::<Woken>::default();
        let waker = Waker::from(woken.clone());
        let context = Context::from_waker(&waker);

        assert!(inbox.poll_mail(&context).is_pending());
        mailbox.pass(drain());
        assert!(woken.take());
        assert!(inbox.poll_mail(&context).is_ready());
        inbox.mute();
        assert_eq!(poll(mailbox.send(drain())), Poll::Ready(true));
        assert!(!woken.take());
        assert!(inbox.poll_mail(&context).is_ready());
        assert!(inbox.take().is_some() && inbox.take().is_some() && inbox.take().is_none());
        assert!(inbox.poll_mail(&context).is_pending());
    }

    #[test]
    fn commands_wait_for_room_and_mail_from_inside_does_not() {
        let (mailbox, inbox) = Mailbox::new();
        for _ in 0..COMMANDS_MAX {
            assert_eq!(poll(mailbox.send(drain())), Poll::Ready(true));
        }
        mailbox.pass(Mail::Shard(ShardId(1), Vec::new()));

        assert!(poll(mailbox.send(drain())).is_pending());

        assert!(matches!(inbox.take(), Some(Mail::Shard(..))));
        assert!(poll(mailbox.send(drain())).is_pending());
        assert!(inbox.take_command().is_some());
        assert_eq!(poll(mailbox.send(drain())), Poll::Ready(true));
    }

    #[test]
    fn who_does_not_wait_is_told_that_there_is_no_room() {
        let (mailbox, inbox) = Mailbox::new();
        for _ in 0..COMMANDS_MAX {
            assert_eq!(mailbox.try_send(drain()), Ok(()));
        }
        assert_eq!(mailbox.try_send(drain()), Err(TryError::Full));
        assert!(inbox.take_command().is_some());
        assert_eq!(mailbox.try_send(drain()), Ok(()));
        drop(inbox);
        assert_eq!(mailbox.try_send(drain()), Err(TryError::Stopped));
    }

    #[test]
    fn an_end_answers_what_has_come_and_refuses_what_comes() {
        let (mailbox, inbox) = Mailbox::new();
        let (answer, outcome) = async_channel::bounded(1);
        let publication = Publication::new("a", "e", "{}");
        assert_eq!(poll(mailbox.send(Mail::Broadcast(publication, answer))), Poll::Ready(true));
        assert!(poll(outcome.recv()).is_pending());

        drop(inbox);

        assert!(matches!(poll(outcome.recv()), Poll::Ready(Err(_))));
        assert_eq!(poll(mailbox.send(drain())), Poll::Ready(false));
    }
}
