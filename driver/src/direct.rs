//! What an application sends to connections, and not to a channel.

use std::{fmt, sync::Arc};

use mahavishnu_core::{
    hub::{ConnId, DirectMessage, Handled, Recipient, Sent, ShardId},
    reason::Reason,
};
use serde::Serialize;

use crate::{
    Handle,
    mailbox::{About, Mail, Mailbox},
};

/// An event for connections, put together once: see [`Handle::send_message`]. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message(DirectMessage);

impl Message {
    /// An event with data that serialises to a JSON object.
    ///
    /// # Errors
    ///
    /// [`SendError::NotAnObject`].
    pub fn new(event: &str, data: &(impl Serialize + ?Sized)) -> Result<Self, SendError> {
        let mut text = Vec::with_capacity(event.len() + DATA_BYTES_EXPECTED);
        text.extend_from_slice(event.as_bytes());
        serde_json::to_writer(&mut text, data).map_err(|_| SendError::NotAnObject)?;
        if text.get(event.len()) != Some(&b'{') {
            return Err(SendError::NotAnObject);
        }
        Ok(Self(DirectMessage::joined(text.into(), event.len())))
    }
}

/// Why nothing was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError {
    /// `data` did not serialise to a JSON object.
    NotAnObject,
    /// The connection is not there any more.
    Gone,
    /// The connection has no room for it: more than
    /// [`outbox_bytes_max`](mahavishnu_core::limits::Delivery::outbox_bytes_max) would wait for it. It was closed as a slow
    /// reader, if that is the default of [`SlowReaders`](mahavishnu_core::config::SlowReaders), and has lost this message
    /// otherwise.
    Slow,
    /// The core refused it: no event's name or one that is too long, or data over the message limit.
    Refused(Reason),
    /// The server has stopped.
    Stopped,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnObject => f.write_str("data must serialise to a JSON object"),
            Self::Gone => f.write_str("the connection is gone"),
            Self::Slow => f.write_str("the connection reads too slowly"),
            Self::Refused(reason) => f.write_str(reason.row().text),
            Self::Stopped => f.write_str("the server has stopped"),
        }
    }
}

impl std::error::Error for SendError {}

/// Why the server was not told something at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TryError {
    /// `data` did not serialise to a JSON object.
    NotAnObject,
    /// There is no connection of this name.
    Gone,
    /// The shard has 1,024 commands to take: try again later, or wait with the method that waits.
    Full,
    /// The server has stopped.
    Stopped,
}

impl fmt::Display for TryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAnObject => "data must serialise to a JSON object",
            Self::Gone => "the connection is gone",
            Self::Full => "the server has too many commands to take",
            Self::Stopped => "the server has stopped",
        })
    }
}

impl std::error::Error for TryError {}

impl Handle {
    /// Sends `event` with `data` to one connection: an `event` message as broadcasts are, whose `room` is null. It is in the
    /// connection's outbox then, which is no word of its client's having got it. Messages of one task to one connection arrive
    /// in order; there is no order between them and broadcasts.
    ///
    /// It is not kept: a client that is away misses it. What is to be recovered is broadcast on a channel.
    ///
    /// ```no_run
    /// # async fn example(handle: mahavishnu_driver::Handle, conn: mahavishnu_driver::core::hub::ConnId) {
    /// use mahavishnu_driver::SendError;
    /// use serde_json::json;
    ///
    /// match handle.send(conn, "export.ready", &json!({ "url": "/exports/7" })).await {
    ///     Ok(()) => {}
    ///     Err(SendError::Gone) => println!("it has left meanwhile"),
    ///     Err(error) => eprintln!("not sent: {error}"),
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`SendError`].
    pub async fn send(
        &self,
        conn: ConnId,
        event: &str,
        data: &(impl Serialize + ?Sized),
    ) -> Result<(), SendError> {
        self.send_message(conn, &Message::new(event, data)?).await
    }

    /// The same with a message that was put together before, for whoever sends it to several.
    ///
    /// # Errors
    ///
    /// [`SendError`].
    pub async fn send_message(&self, conn: ConnId, message: &Message) -> Result<(), SendError> {
        let Some(mailbox) = self.mailbox(conn.shard()) else { return Err(SendError::Gone) };
        let about = About::Send(Recipient::Connection(conn), message.0.clone());
        let handled = ask(mailbox, about).await.ok_or(SendError::Stopped)?;
        match handled.map_err(SendError::Refused)? {
            Handled::Sent(Sent { reached: 0, .. }) => Err(SendError::Slow),
            Handled::Sent(_) | Handled::Changed(_) | Handled::Listed(_) => Ok(()),
            Handled::Gone => Err(SendError::Gone),
        }
    }

    /// Sends `event` with `data` to all connections of a user (`sub` or `user_id` of their tokens), and says how many it has
    /// reached and how many had no room. Nobody is no error.
    ///
    /// Of several nodes it is so on all of them, those that can be told: it waits until each has said how many it has reached,
    /// and does not hear of those without room. That goes through Redis and is not for many messages a second: a broadcast on
    /// a channel of the user's own is.
    ///
    /// ```no_run
    /// # async fn example(handle: mahavishnu_driver::Handle) -> Result<(), mahavishnu_driver::SendError> {
    /// use serde_json::json;
    ///
    /// let sent = handle.send_to_user("ada", "mail.arrived", &json!({ "unread": 3 })).await?;
    /// if sent.reached == 0 {
    ///     println!("ada is not here");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`SendError`], but neither `Gone` nor `Slow`.
    pub async fn send_to_user(
        &self,
        user: &str,
        event: &str,
        data: &(impl Serialize + ?Sized),
    ) -> Result<Sent, SendError> {
        self.send_message_to_user(user, &Message::new(event, data)?).await
    }

    /// The same with a message that was put together before.
    ///
    /// # Errors
    ///
    /// As [`send_to_user`](Self::send_to_user).
    pub async fn send_message_to_user(
        &self,
        user: &str,
        message: &Message,
    ) -> Result<Sent, SendError> {
        let user: Arc<str> = user.into();
        if self.redis {
            let message = message.0.clone();
            let mail = |answer| Mail::SendEverywhere(user, message, answer);
            let outcome = self.ask(ShardId(0), mail).await.ok_or(SendError::Stopped)?;
            let reached = outcome.map_err(SendError::Refused)?.subscribers;
            return Ok(Sent { reached, slow: 0 });
        }
        let (answer, outcomes) = async_channel::bounded(self.mailboxes.len());
        for mailbox in self.mailboxes.iter() {
            let about = About::Send(Recipient::User(user.clone()), message.0.clone());
            if !mailbox.send(Mail::About(about, answer.clone())).await {
                return Err(SendError::Stopped);
            }
        }
        drop(answer);
        let mut all = Sent::default();
        for _ in self.mailboxes.iter() {
            // The answer is dropped with the shard.
            let handled = outcomes.recv().await.map_err(|_| SendError::Stopped)?;
            if let Handled::Sent(sent) = handled.map_err(SendError::Refused)? {
                all.reached += sent.reached;
                all.slow += sent.slow;
            }
        }
        Ok(all)
    }

    /// Sends to one connection without waiting for anything: from code that is not asynchronous, and from handlers, which
    /// may greet in `on_connect`. What comes of it is not told; what the core refuses is counted, see
    /// [`SendError::Refused`].
    ///
    /// # Errors
    ///
    /// [`TryError`]; nothing was sent then.
    pub fn try_send(
        &self,
        conn: ConnId,
        event: &str,
        data: &(impl Serialize + ?Sized),
    ) -> Result<(), TryError> {
        let message = Message::new(event, data).map_err(|_| TryError::NotAnObject)?;
        self.try_send_message(conn, &message)
    }

    /// The same with a message that was put together before.
    ///
    /// # Errors
    ///
    /// [`TryError`]; nothing was sent then.
    pub fn try_send_message(&self, conn: ConnId, message: &Message) -> Result<(), TryError> {
        let mailbox = self.mailbox(conn.shard()).ok_or(TryError::Gone)?;
        let command = mahavishnu_core::hub::Command::Send {
            id: None,
            to: Recipient::Connection(conn),
            message: message.0.clone(),
        };
        mailbox.try_send(Mail::Command(command))
    }

    /// The mailbox of a shard, if there is one of that number.
    pub(crate) fn mailbox(&self, shard: ShardId) -> Option<&Mailbox> {
        self.mailboxes.get(usize::from(shard.0))
    }
}

/// Asks a shard about connections. `None`: it has ended.
pub(crate) async fn ask(mailbox: &Mailbox, about: About) -> Option<Result<Handled, Reason>> {
    let (answer, outcome) = async_channel::bounded(1);
    if !mailbox.send(Mail::About(about, answer)).await {
        return None;
    }
    // The answer is dropped with the shard.
    outcome.recv().await.ok()
}

/// Bytes of data that most events have at most, so that their text is allocated once.
const DATA_BYTES_EXPECTED: usize = 128;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_message_is_an_event_with_an_object() {
        let message = Message::new("a.b", &json!({ "n": 1 })).unwrap();
        assert_eq!(message, Message(DirectMessage::new("a.b", r#"{"n":1}"#)));
        for data in [json!([1]), json!(null), json!("{}")] {
            assert_eq!(Message::new("a", &data), Err(SendError::NotAnObject));
        }
    }
}
