//! What an application holds of a running server.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
};

use mahavishnu_core::{
    auth::Revocation,
    config::{Config, Hooks},
    hub::{Command, DrainPlan, Placement, Publication, Published, ShardId},
    reason::Reason,
};
use mahavishnu_links::LinkConfig;
use serde::Serialize;

use crate::{
    direct::TryError,
    mailbox::{Answer, Mail, Mailbox},
    publish::object,
};

/// Reaches a running server from anywhere. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(crate) mailboxes: Arc<[Mailbox]>,
    pub(crate) placement: Placement,
    /// What the handlers that were given at start make the core ask.
    pub(crate) hooks: Arc<Hooks>,
    /// There is a store.
    pub(crate) store: bool,
    /// There is a Redis.
    pub(crate) redis: bool,
}

/// Why a broadcast was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
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
#[non_exhaustive]
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
        let publication = Publication::new(channel, event, object(data)?);
        let home = self.placement.home(channel);
        let outcome = self.ask(home, |answer| Mail::Broadcast(publication, answer)).await;
        outcome.ok_or(BroadcastError::Stopped)?.map_err(BroadcastError::Refused)
    }

    /// Broadcasts without waiting for anything: from code that is not asynchronous, and from handlers, those included that
    /// are plain functions. It never blocks. Ok says that the channel's home has taken it into its mailbox; how many it has
    /// reached is not told, and what the core refuses then is counted by `websocket_message_errors_total` and otherwise lost.
    ///
    /// ```no_run
    /// # fn example(handle: mahavishnu_driver::Handle) {
    /// use mahavishnu_driver::TryError;
    /// use serde_json::json;
    ///
    /// match handle.try_broadcast("prices", "price.changed", &json!({ "cents": 99 })) {
    ///     Ok(()) => {}
    ///     Err(TryError::Full) => println!("the next price will do"),
    ///     Err(error) => eprintln!("not broadcast: {error}"),
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`TryError`], and nobody got it then; never `Gone`.
    pub fn try_broadcast(
        &self,
        channel: &str,
        event: &str,
        data: &(impl Serialize + ?Sized),
    ) -> Result<(), TryError> {
        let data = object(data).map_err(|_| TryError::NotAnObject)?;
        let publication = Publication::new(channel, event, data);
        let home = self.mailbox(self.placement.home(channel)).ok_or(TryError::Stopped)?;
        home.try_send(Mail::Command(Command::Publish { id: None, publication }))
    }

    /// Revokes tokens: connections that came with one are closed with 1008, and none is accepted any more. Returns when
    /// that is so on all shards, with the number of connections closed. A restart forgets it: what must outlast one
    /// belongs into [`Auth::revoked`](mahavishnu_core::config::Auth::revoked) too.
    pub async fn revoke(&self, revocation: Revocation) -> Result<u32, RevokeError> {
        let outcome = self.ask(ShardId(0), |answer| Mail::Revoke(revocation, answer)).await;
        let outcome = outcome.ok_or(RevokeError::Stopped)?;
        outcome.map(|published| published.subscribers).map_err(RevokeError::Refused)
    }

    /// Puts a new configuration in force on all shards. Live connections stay, but for those whose tokens it revokes;
    /// subscriptions that it forbids are taken back. The application's own handlers, its store and its Redis stay too.
    pub async fn reload(&self, config: &Config) {
        let config = Arc::new(Config {
            hooks: Hooks::clone(&self.hooks),
            store: self.store,
            bus: self.redis.then(|| config.bus.clone().unwrap_or_default()),
            ..config.clone()
        });
        self.tell_all(|| Command::Reload(config.clone())).await;
    }

    /// Tells all shards where Redis is from now on, or by which password. What is under way is done first where Redis is
    /// still the same. Does nothing for a server that was built without [`Builder::redis`](crate::Builder::redis).
    pub async fn reload_redis(&self, config: &LinkConfig) {
        let config = Arc::new(config.clone());
        for mailbox in self.mailboxes.iter() {
            mailbox.send(Mail::Redis(config.clone())).await;
        }
    }

    /// Sockets of any kind that the server holds.
    #[must_use]
    pub fn sockets(&self) -> usize {
        self.mailboxes.iter().map(|mailbox| mailbox.sockets.load(Ordering::Relaxed)).sum()
    }

    pub(crate) async fn drain(&self, plan: DrainPlan) {
        self.tell_all(|| Command::Drain(plan)).await;
    }

    /// Sends a mail and waits for its outcome. `None`: the shard has ended.
    pub(crate) async fn ask(
        &self,
        shard: ShardId,
        mail: impl FnOnce(Answer) -> Mail,
    ) -> Option<Result<Published, Reason>> {
        let (answer, outcome) = async_channel::bounded(1);
        let mailbox = self.mailboxes.get(usize::from(shard.0))?;
        if !mailbox.send(mail(answer)).await {
            return None;
        }
        // The answer is dropped with the shard.
        outcome.recv().await.ok()
    }

    async fn tell_all(&self, command: impl Fn() -> Command) {
        for mailbox in self.mailboxes.iter() {
            mailbox.command(command()).await;
        }
    }
}
