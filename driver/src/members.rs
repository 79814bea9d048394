//! Connections in channels and their ends, by the application's will.

use std::fmt;

use mahavishnu_core::{
    hub::{Command, ConnId, Disconnect, Handled, Recipient, ShardId},
    reason::Reason,
};

use crate::{
    Handle,
    direct::ask,
    mailbox::{About, Mail},
};

/// Why nothing was done about a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CommandError {
    /// The connection is not there any more.
    Gone,
    /// The core refused it for this reason.
    Refused(Reason),
    /// The server has stopped.
    Stopped,
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str("the connection is gone"),
            Self::Refused(reason) => f.write_str(reason.row().text),
            Self::Stopped => f.write_str("the server has stopped"),
        }
    }
}

impl std::error::Error for CommandError {}

impl Handle {
    /// Makes a connection a subscriber of `channel`. Neither its token nor the policy nor
    /// [`authorize_subscribe`](crate::Builder::authorize_subscribe) is asked, and neither takes it back later; but the limits on
    /// channels hold. Whether that is new: if so, its client is told by the event `channel.subscribed` before the
    /// channel's first message. A session that is resumed does not bring it back: subscribe
    /// again in `on_connect`.
    ///
    /// ```no_run
    /// # async fn example(handle: mahavishnu_driver::Handle, conn: mahavishnu_driver::core::hub::ConnId) {
    /// if let Err(error) = handle.subscribe(conn, "tenant:7").await {
    ///     eprintln!("not subscribed: {error}");
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`CommandError`]; refused for [`InvalidChannel`](Reason::InvalidChannel), for one of the limits on channels, or as
    /// [`Busy`](Reason::Busy) while the application has not room to hear of subscriptions.
    pub async fn subscribe(&self, conn: ConnId, channel: &str) -> Result<bool, CommandError> {
        self.join(conn, channel, true).await
    }

    /// The same only if its client may subscribe to the channel, as long as it may.
    ///
    /// # Errors
    ///
    /// As [`subscribe`](Self::subscribe), and refused for [`SubscribeForbidden`](Reason::SubscribeForbidden).
    pub async fn subscribe_if_permitted(
        &self,
        conn: ConnId,
        channel: &str,
    ) -> Result<bool, CommandError> {
        self.join(conn, channel, false).await
    }

    async fn join(&self, conn: ConnId, channel: &str, granted: bool) -> Result<bool, CommandError> {
        self.change(conn, About::Subscribe { conn, channel: channel.into(), granted }).await
    }

    /// Takes a connection out of `channel`, however it came there. Whether it was in it: if so, its client is told by the
    /// event `channel.withdrawn` with the reason `application`. It may subscribe again, if it may at all; what
    /// [`authorize_subscribe`](crate::Builder::authorize_subscribe) has yet to decide is not affected.
    ///
    /// # Errors
    ///
    /// [`CommandError`]; refused for [`InvalidChannel`](Reason::InvalidChannel).
    pub async fn unsubscribe(&self, conn: ConnId, channel: &str) -> Result<bool, CommandError> {
        self.change(conn, About::Unsubscribe { conn, channel: channel.into() }).await
    }

    async fn change(&self, conn: ConnId, about: About) -> Result<bool, CommandError> {
        let Some(mailbox) = self.mailbox(conn.shard()) else { return Err(CommandError::Gone) };
        let handled = ask(mailbox, about).await.ok_or(CommandError::Stopped)?;
        match handled.map_err(CommandError::Refused)? {
            Handled::Changed(changed) => Ok(changed),
            Handled::Gone | Handled::Sent(_) | Handled::Listed(_) => Err(CommandError::Gone),
        }
    }

    /// Makes a connection a subscriber as [`subscribe`](Self::subscribe) does, without waiting for anything: from code that
    /// is not asynchronous, and from handlers. What comes of it is not told, but by
    /// [`on_subscribe`](crate::Builder::on_subscribe).
    ///
    /// # Errors
    ///
    /// [`TryError`](crate::TryError), and nothing was done then; never `NotAnObject`.
    pub fn try_subscribe(&self, conn: ConnId, channel: &str) -> Result<(), crate::TryError> {
        let mailbox = self.mailbox(conn.shard()).ok_or(crate::TryError::Gone)?;
        let channel = channel.into();
        let command = Command::Subscribe { id: None, conn, channel, granted: true };
        mailbox.try_send(Mail::Command(command))
    }

    /// Ends one connection, with a code and a text of the application's own and advice on coming back. Its token stays
    /// good: [`revoke`](Self::revoke) is for that. Whether it was there.
    ///
    /// ```no_run
    /// # async fn example(handle: mahavishnu_driver::Handle, conn: mahavishnu_driver::core::hub::ConnId) {
    /// use std::time::Duration;
    ///
    /// use mahavishnu_driver::Disconnect;
    ///
    /// let how = Disconnect::new(4001, "logged in elsewhere").retry_never();
    /// let ended = handle.disconnect(conn, how).await;
    /// let how = Disconnect::new(1013, "moving").retry_after(Duration::from_secs(5));
    /// let ended_users = handle.disconnect_user("ada", how).await;
    /// # let _ = (ended, ended_users);
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`CommandError`]; refused for [`BadDisconnect`](Reason::BadDisconnect): a code that applications may not send, or a
    /// text of more than 123 bytes.
    pub async fn disconnect(&self, conn: ConnId, how: Disconnect) -> Result<bool, CommandError> {
        let shard = conn.shard();
        if self.mailbox(shard).is_none() {
            return Ok(false);
        }
        Ok(self.dismiss(shard, Recipient::Connection(conn), how).await? > 0)
    }

    /// Ends all connections of a user (`sub` or `user_id` of their tokens), and says how many: of several nodes on all of
    /// them.
    ///
    /// # Errors
    ///
    /// [`CommandError`]; refused as [`disconnect`](Self::disconnect) is, for a name that no token can have, or for
    /// [`DisconnectedHere`](Reason::DisconnectedHere): the other nodes could not be told.
    pub async fn disconnect_user(&self, user: &str, how: Disconnect) -> Result<u32, CommandError> {
        self.dismiss(ShardId(0), Recipient::User(user.into()), how).await
    }

    async fn dismiss(
        &self,
        shard: ShardId,
        whom: Recipient,
        how: Disconnect,
    ) -> Result<u32, CommandError> {
        let how = Box::new(how);
        let outcome = self.ask(shard, |answer| Mail::Dismiss(whom, how, answer)).await;
        let outcome = outcome.ok_or(CommandError::Stopped)?;
        outcome.map(|done| done.subscribers).map_err(CommandError::Refused)
    }
}
