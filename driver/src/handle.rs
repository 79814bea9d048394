//! How threads other than a shard's own reach it: mailboxes, and the handle that an application holds.

use std::{
    collections::HashMap,
    fmt,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use mahavishnu_core::{
    auth::Revocation,
    config::{Config, Hooks},
    hub::{
        Command, CommandId, ConnId, DrainPlan, Listener, Placement, Publication, Published,
        ShardId, ShardMessage,
    },
    reason::Reason,
};
use serde::Serialize;
use smol::channel;

use crate::poller::TcpStream;

/// Commands of the application that may wait for a shard. One more waits in the application.
const COMMANDS_MAX: usize = 1024;

/// Accepted sockets that may wait for a shard. Further ones are not accepted until it goes on.
const SOCKETS_COMING_MAX: usize = 1024;

/// What a shard's mailbox carries.
#[derive(Debug)]
pub(crate) enum Mail {
    Command(Command),
    /// A broadcast whose outcome is waited for.
    Broadcast(Publication, channel::Sender<Result<Published, Reason>>),
    /// A revocation whose outcome is waited for.
    Revoke(Revocation, channel::Sender<Result<Published, Reason>>),
    /// A socket that another shard accepted.
    Socket(TcpStream, SocketAddr, Listener),
    Shard(ShardId, Vec<ShardMessage>),
}

/// The sending side of a shard's mailbox.
#[derive(Clone, Debug)]
pub(crate) struct Mailbox {
    /// Bounded: from the application.
    commands: channel::Sender<Mail>,
    /// From other shards and the acceptor. Bounded by the credit that the hubs give each other, see
    /// [`Limits::shard_queue_bytes_max`](mahavishnu_core::limits::Limits::shard_queue_bytes_max), and by
    /// [`SOCKETS_COMING_MAX`].
    internal: channel::Sender<Mail>,
    /// Sockets of the shard.
    pub(crate) sockets: Arc<AtomicUsize>,
    /// Sockets that the shard has yet to take in.
    coming: Arc<AtomicUsize>,
}

/// The receiving side.
#[derive(Debug)]
pub(crate) struct Inbox {
    // Pinned, so that one listener serves any number of waits.
    pub(crate) commands: Pin<Box<channel::Receiver<Mail>>>,
    pub(crate) internal: Pin<Box<channel::Receiver<Mail>>>,
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
        let (commands, commands_inbox) = channel::bounded(COMMANDS_MAX);
        let (internal, internal_inbox) = channel::unbounded();
        let mailbox = Self { commands, internal, sockets: Arc::default(), coming: Arc::default() };
        let commands = Box::pin(commands_inbox);
        (mailbox, Inbox { commands, internal: Box::pin(internal_inbox) })
    }

    /// Waits for room. A shard that has ended takes nothing any more.
    pub(crate) async fn command(&self, command: Command) {
        let _ = self.commands.send(Mail::Command(command)).await;
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

    pub(crate) fn pass(&self, mail: Mail) {
        let _ = self.internal.try_send(mail);
    }
}

/// Reaches a running server from anywhere. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(crate) mailboxes: Arc<[Mailbox]>,
    pub(crate) placement: Placement,
    /// What the handlers that were given at start make the core ask.
    pub(crate) hooks: Arc<Hooks>,
}

/// Why a broadcast was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BroadcastError {
    /// `data` did not serialise to a JSON object.
    NotAnObject,
    /// The core refused it: an invalid channel, data over the message limit, or [`Reason::Busy`]: a shard with
    /// subscribers takes nothing in at present. Nobody got it; try again later.
    Refused(Reason),
    /// The server has stopped.
    Stopped,
}

impl fmt::Display for BroadcastError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnObject => f.write_str("data must serialise to a JSON object"),
            Self::Refused(reason) => f.write_str(reason.row().text),
            Self::Stopped => f.write_str("the server has stopped"),
        }
    }
}

impl std::error::Error for BroadcastError {}

/// Why tokens were not revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevokeError {
    /// The core refused it: it names nothing, or there are too many.
    Refused(Reason),
    /// The server has stopped.
    Stopped,
}

impl fmt::Display for RevokeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(reason) => f.write_str(reason.row().text),
            Self::Stopped => f.write_str("the server has stopped"),
        }
    }
}

impl std::error::Error for RevokeError {}

impl Handle {
    /// Broadcasts `event` with `data` to everyone subscribed to `channel`, and says how many that were. Broadcasts of
    /// one task to one channel arrive in order.
    ///
    /// Each shard has 1,024 places for commands. While those of the channel's home are taken this waits for one, so an
    /// application that broadcasts faster than the server takes it in is slowed down, and what waits is bounded by its
    /// own tasks. It does not wait for subscribers: those that read too slowly meet their channel's policy, and while a
    /// whole shard does not keep up, the broadcast is refused with [`Reason::Busy`].
    ///
    /// # Errors
    ///
    /// [`BroadcastError`]; nobody got the broadcast then.
    pub async fn broadcast(
        &self,
        channel: &str,
        event: &str,
        data: &(impl Serialize + ?Sized),
    ) -> Result<Published, BroadcastError> {
        let data = serde_json::to_vec(data).map_err(|_| BroadcastError::NotAnObject)?;
        if data.first() != Some(&b'{') {
            return Err(BroadcastError::NotAnObject);
        }
        let publication =
            Publication { channel: channel.into(), event: event.into(), data: data.into() };
        let (answer, outcome) = channel::bounded(1);
        let home = self.placement.home(channel);
        let mailbox = self.mailboxes.get(usize::from(home.0)).ok_or(BroadcastError::Stopped)?;
        mailbox
            .commands
            .send(Mail::Broadcast(publication, answer))
            .await
            .map_err(|_| BroadcastError::Stopped)?;
        outcome.recv().await.map_err(|_| BroadcastError::Stopped)?.map_err(BroadcastError::Refused)
    }

    /// Revokes tokens: connections that came with one are closed with 1008, and none is accepted any more. Returns when
    /// that is so on all shards, with the number of connections closed. A restart forgets it: what must outlast one
    /// belongs into [`Auth::revoked`](mahavishnu_core::config::Auth::revoked) too.
    pub async fn revoke(&self, revocation: Revocation) -> Result<u32, RevokeError> {
        let (answer, outcome) = channel::bounded(1);
        let mailbox = self.mailboxes.first().ok_or(RevokeError::Stopped)?;
        mailbox
            .commands
            .send(Mail::Revoke(revocation, answer))
            .await
            .map_err(|_| RevokeError::Stopped)?;
        let outcome = outcome.recv().await.map_err(|_| RevokeError::Stopped)?;
        outcome.map(|published| published.subscribers).map_err(RevokeError::Refused)
    }

    /// Ends one connection with close code 1008.
    pub async fn disconnect(&self, conn: ConnId) {
        if let Some(mailbox) = self.mailboxes.get(usize::from(conn.shard().0)) {
            mailbox.command(Command::Disconnect { conn }).await;
        }
    }

    /// Puts a new configuration in force on all shards. Live connections stay, but for those whose tokens it revokes;
    /// subscriptions that it forbids are taken back. The application's own handlers stay too.
    pub async fn reload(&self, config: &Config) {
        let config = Arc::new(Config { hooks: Hooks::clone(&self.hooks), ..config.clone() });
        self.tell_all(|| Command::Reload(config.clone())).await;
    }

    /// Sockets of any kind that the server holds.
    #[must_use]
    pub fn sockets(&self) -> usize {
        self.mailboxes.iter().map(|mailbox| mailbox.sockets.load(Ordering::Relaxed)).sum()
    }

    pub(crate) async fn drain(&self, plan: DrainPlan) {
        self.tell_all(|| Command::Drain(plan)).await;
    }

    async fn tell_all(&self, command: impl Fn() -> Command) {
        for mailbox in self.mailboxes.iter() {
            mailbox.command(command()).await;
        }
    }
}

/// Broadcasts and revocations of a shard whose outcome is waited for.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    next: u64,
    answers: HashMap<u64, channel::Sender<Result<Published, Reason>>>,
}

impl Waiting {
    pub(crate) fn add(&mut self, answer: channel::Sender<Result<Published, Reason>>) -> CommandId {
        self.next += 1;
        self.answers.insert(self.next, answer);
        CommandId(self.next)
    }

    pub(crate) fn done(&mut self, id: CommandId, result: Result<Published, Reason>) {
        if let Some(answer) = self.answers.remove(&id.0) {
            // Whoever asked may have stopped waiting.
            let _ = answer.try_send(result);
        }
    }
}
