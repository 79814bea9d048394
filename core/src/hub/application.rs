//! What the application says to connections and asks about them: the words of its commands and of their answers.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use uuid::Uuid;

use super::types::ConnId;
use crate::reason::Reason;

/// Whom a message or an end is meant for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recipient {
    /// One connection.
    Connection(ConnId),
    /// All connections of a user: `sub` or `user_id` of their tokens.
    User(Arc<str>),
}

/// An event for connections, and not for a channel. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectMessage {
    /// The event's name, and then its data.
    text: Bytes,
    event_bytes: usize,
}

impl DirectMessage {
    /// `data` is a JSON object, as text. It is sent as it stands.
    #[must_use]
    pub fn new(event: &str, data: &str) -> Self {
        Self::joined([event, data].concat().into(), event.len())
    }

    /// The same from one text: the first `event_bytes` are the event's name, the rest its data.
    #[must_use]
    pub fn joined(text: Bytes, event_bytes: usize) -> Self {
        Self { text, event_bytes }
    }

    /// The event's name; empty if it is no text.
    #[must_use]
    pub fn event(&self) -> &str {
        let event = self.text.get(..self.event_bytes).unwrap_or_default();
        std::str::from_utf8(event).unwrap_or_default()
    }

    /// Its data; empty if it is no text.
    #[must_use]
    pub fn data(&self) -> &str {
        let data = self.text.get(self.event_bytes..).unwrap_or_default();
        std::str::from_utf8(data).unwrap_or_default()
    }
}

/// What became of a message for connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Connections that it was handed to.
    pub reached: u32,
    /// Connections that had no room for it. They were closed, if that is the default of
    /// [`SlowReaders`](crate::config::SlowReaders), and have lost it otherwise.
    pub slow: u32,
}

/// How the application ends a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disconnect {
    /// The close code: 1000, 1008, 1012, 1013 or 3000 to 4999. Default 1008.
    pub code: u16,
    /// The close reason, for people: at most [`TEXT_BYTES_MAX`](Self::TEXT_BYTES_MAX) bytes. Default "Disconnected by the
    /// server".
    pub text: Box<str>,
    /// Whether and when the client may come back. It is told so by the event `session.closing`, just before the close frame.
    /// Default: nothing is said, and the code speaks for itself.
    pub retry: Option<RetryAdvice>,
    /// What is queued for the client is dropped and the close frame goes out at once, so that no advice is given. Default
    /// true.
    pub at_once: bool,
}

/// What a client that is disconnected is told about coming back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryAdvice {
    /// It is not to.
    Never,
    /// After this time. It is said to a tenth of a second.
    After(Duration),
}

impl Disconnect {
    /// Bytes of a close reason: what a control frame holds besides the code (RFC 6455 §5.5).
    pub const TEXT_BYTES_MAX: usize = 123;

    /// With a code and a text of the application's own, behind everything that is queued for the client.
    #[must_use]
    pub fn new(code: u16, text: impl Into<Box<str>>) -> Self {
        Self { code, text: text.into(), retry: None, at_once: false }
    }

    /// Tells the client when to come back.
    #[must_use]
    pub fn retry_after(self, time: Duration) -> Self {
        Self { retry: Some(RetryAdvice::After(time)), ..self }
    }

    /// Tells the client not to come back.
    #[must_use]
    pub fn retry_never(self) -> Self {
        Self { retry: Some(RetryAdvice::Never), ..self }
    }

    /// Drops what is queued for the client, and gives no advice.
    #[must_use]
    pub fn at_once(self) -> Self {
        Self { at_once: true, ..self }
    }

    /// Whether it can be sent.
    ///
    /// # Errors
    ///
    /// [`Reason::BadDisconnect`]: the code is none of those, or the text too long.
    pub fn check(&self) -> Result<(), Reason> {
        let code = matches!(self.code, 1000 | 1008 | 1012 | 1013 | 3000..=4999);
        if code && self.text.len() <= Self::TEXT_BYTES_MAX {
            Ok(())
        } else {
            Err(Reason::BadDisconnect)
        }
    }

    /// The data of `session.closing`, if there is any advice to give.
    pub(in crate::hub) fn advice(&self) -> Option<String> {
        let retry = self.retry.filter(|_| !self.at_once)?;
        Some(match retry {
            RetryAdvice::Never => r#"{"reason":"disconnect","retry":"never"}"#.to_owned(),
            RetryAdvice::After(time) => {
                let (seconds, tenths) = (time.as_secs(), time.subsec_millis() / 100);
                format!(
                    r#"{{"reason":"disconnect","retry":"later","return_after":{seconds}.{tenths}}}"#
                )
            }
        })
    }
}

impl Default for Disconnect {
    fn default() -> Self {
        let text = Reason::Disconnected.row().text.into();
        Self { code: 1008, text, retry: None, at_once: true }
    }
}

/// Why a connection is no subscriber of a channel any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Leave {
    /// Its client has said so, or has subscribed anew with other wishes.
    Client,
    /// The application has taken it out.
    Application,
    /// Its new token does not permit the channel.
    Token,
    /// The new configuration does not.
    Policy,
    /// It was to subscribe anew, which was refused for this reason.
    Refused(Reason),
    /// The connection has ended for this reason.
    Ended(Reason),
}

/// What the application wants listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Roll {
    /// Connections that were welcomed.
    Connections,
    /// Those of a user.
    User(Arc<str>),
    /// Those that subscribe to a channel.
    Subscribers(Box<str>),
    /// Channels that are at home at this hub and have subscribers, on whichever hub of the process.
    Channels,
}

/// A part of what was to be listed, in the order of places at this hub: what is there all the while is listed once, what
/// comes or goes meanwhile at most once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RollPage {
    /// How many there are at this hub, listed or not.
    pub total: u64,
    /// The connections.
    pub connections: Vec<ConnectionInfo>,
    /// The channels.
    pub channels: Vec<ChannelInfo>,
    /// Behind which place the next part begins; `None`: there is none.
    pub next: Option<u32>,
}

impl RollPage {
    /// Connections or channels in one part.
    pub const MAX: u32 = 1_000;
}

/// A connection, as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionInfo {
    /// The connection.
    pub conn: ConnId,
    /// The name by which its client and others know it.
    pub connection_id: Uuid,
    /// The user, if there is one.
    pub user: Option<Arc<str>>,
    /// Its address.
    pub peer: SocketAddr,
    /// Whether it came through TLS.
    pub secure: bool,
    /// How many channels it subscribes to.
    pub channels: u32,
    /// Bytes that wait to be sent to it.
    pub queued_bytes: usize,
}

/// A channel, as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChannelInfo {
    /// Its name.
    pub channel: Arc<str>,
    /// How many subscribe to it, on all hubs of the process.
    pub subscribers: u32,
}

/// What became of a command about connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handled {
    /// A message was sent.
    Sent(Sent),
    /// A connection is in a channel now, or out of it; whether that is new.
    Changed(bool),
    /// The connection is not there any more.
    Gone,
    /// What was to be listed.
    Listed(Box<RollPage>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_an_event_and_its_data() {
        let message = DirectMessage::new("a.b", "{}");
        assert_eq!((message.event(), message.data()), ("a.b", "{}"));
        let broken = DirectMessage::joined(Bytes::from_static(b"\xff{}"), 1);
        assert_eq!((broken.event(), broken.data()), ("", "{}"));
        let short = DirectMessage::joined(Bytes::from_static(b"a"), 2);
        assert_eq!((short.event(), short.data()), ("", ""));
    }

    #[test]
    fn only_codes_for_applications_and_short_texts_are_sent() {
        let allowed: Vec<u16> =
            (0..=u16::MAX).filter(|code| Disconnect::new(*code, "").check().is_ok()).collect();
        let expected: Vec<u16> = [1000, 1008, 1012, 1013].into_iter().chain(3000..=4999).collect();
        assert_eq!(allowed, expected);
        assert_eq!(Disconnect::new(4000, "x".repeat(123)).check(), Ok(()));
        assert_eq!(Disconnect::new(4000, "x".repeat(124)).check(), Err(Reason::BadDisconnect));
        assert_eq!(Disconnect::default().check(), Ok(()));
    }

    #[test]
    fn advice_says_whether_and_when_to_come_back() {
        let later = Disconnect::new(4000, "").retry_after(Duration::from_millis(3_790));
        let expected = r#"{"reason":"disconnect","retry":"later","return_after":3.7}"#;
        assert_eq!(later.advice().as_deref(), Some(expected));
        let never = Disconnect::new(4000, "").retry_never();
        let expected = r#"{"reason":"disconnect","retry":"never"}"#;
        assert_eq!(never.advice().as_deref(), Some(expected));
        assert_eq!(never.at_once().advice(), None);
        assert_eq!(Disconnect::new(4000, "").advice(), None);
    }
}
