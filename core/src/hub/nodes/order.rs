//! Orders: what all hubs of all nodes are to carry out, and how they are told of it.

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::told::Hex;
use crate::{
    auth::Revocation,
    hub::{
        application::{DirectMessage, Disconnect, RetryAdvice},
        bus::NodeId,
    },
};

/// What all hubs of all nodes are to carry out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::hub) enum Order {
    /// Revoke tokens, and end the connections that go by them.
    Revoke(Revocation),
    /// End connections, in the application's words or the server's own.
    Disconnect(Whom, Option<Box<Disconnect>>),
    /// Send to a user's connections.
    Send { user: Arc<str>, message: DirectMessage },
    /// End sessions that had begun by this moment of the wall clock, whether or not a connection has them.
    EndSessions { of: Whom, begun_by: Duration },
}

/// What an order is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OrderKind {
    /// Revoking tokens.
    #[default]
    Revoke,
    /// Ending connections.
    Disconnect,
    /// Ending sessions.
    EndSessions,
    /// Sending to connections.
    Send,
}

/// Whose connections an operator ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whom {
    /// All of a user's.
    User(Arc<str>),
    /// The one whose client knows it by this `connection_id`.
    Connection(Uuid),
}

/// Why a request to end connections is refused. Says what to mend, never what was in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::hub) enum WhomError {
    /// Not a JSON object with one of the two members.
    Shape,
    /// No user's name, or one of more than 256 bytes.
    User,
    /// No UUID.
    Connection,
}

impl fmt::Display for WhomError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shape => "a JSON object with user or connection_id, one of them",
            Self::User => "user has 1 to 256 bytes",
            Self::Connection => "connection_id is a UUID",
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenWhom<'a> {
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    user: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    connection_id: Option<Cow<'a, str>>,
}

impl Whom {
    /// Reads `{"user": …}` or `{"connection_id": …}`.
    pub(in crate::hub) fn parse(json: &str) -> Result<Self, WhomError> {
        // A list of the members' values would pass for them.
        if !json.trim_start().starts_with('{') {
            return Err(WhomError::Shape);
        }
        let written: WrittenWhom<'_> = serde_json::from_str(json).map_err(|_| WhomError::Shape)?;
        match (written.user, written.connection_id) {
            (Some(user), None) if (1..=USER_BYTES_MAX).contains(&user.len()) => {
                Ok(Self::User(user.as_ref().into()))
            }
            (Some(_), None) => Err(WhomError::User),
            (None, Some(id)) => {
                Uuid::try_parse(&id).map(Self::Connection).map_err(|_| WhomError::Connection)
            }
            (Some(_), Some(_)) | (None, None) => Err(WhomError::Shape),
        }
    }

    /// The JSON that [`parse`](Self::parse) reads.
    pub(in crate::hub) fn to_json(&self) -> String {
        let written = match self {
            Self::User(user) => WrittenWhom { user: Some((&**user).into()), connection_id: None },
            Self::Connection(id) => {
                WrittenWhom { user: None, connection_id: Some(id.to_string().into()) }
            }
        };
        // Writing plain data into memory cannot fail.
        serde_json::to_string(&written).unwrap_or_default()
    }
}

impl Order {
    pub(in crate::hub) fn kind(&self) -> OrderKind {
        match self {
            Self::Revoke(_) => OrderKind::Revoke,
            Self::Disconnect(..) => OrderKind::Disconnect,
            Self::EndSessions { .. } => OrderKind::EndSessions,
            Self::Send { .. } => OrderKind::Send,
        }
    }

    /// Bytes that it takes.
    pub(in crate::hub) fn weight(&self) -> usize {
        let names = match self {
            Self::Revoke(revocation) => {
                let names = [&revocation.id, &revocation.user].into_iter().flatten();
                names.map(|name| name.len()).sum()
            }
            Self::Disconnect(of, _) | Self::EndSessions { of, .. } => match of {
                Whom::User(user) => user.len(),
                Whom::Connection(_) => 0,
            },
            Self::Send { user, message } => {
                user.len() + message.event().len() + message.data().len()
            }
        };
        let words = match self {
            Self::Disconnect(_, Some(how)) => size_of::<Disconnect>() + how.text.len(),
            Self::Disconnect(_, None)
            | Self::Revoke(_)
            | Self::EndSessions { .. }
            | Self::Send { .. } => 0,
        };
        size_of::<Self>() + names + words
    }
}

/// Names an order until it is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::hub) struct OrderId(pub(in crate::hub) u64);

/// An order as it stands in the control stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::hub) struct Entry {
    /// By which it is confirmed.
    pub(in crate::hub) id: OrderId,
    /// The node that gave it.
    pub(in crate::hub) from: NodeId,
    pub(in crate::hub) order: Order,
}

#[derive(Deserialize)]
struct WrittenEntry<'a> {
    id: Hex,
    node: Hex,
    #[serde(borrow, default)]
    revoke: Option<&'a RawValue>,
    #[serde(borrow, default)]
    disconnect: Option<&'a RawValue>,
    #[serde(borrow, default)]
    end_sessions: Option<&'a RawValue>,
    /// Of `end_sessions`, in milliseconds since the Unix epoch.
    #[serde(default)]
    begun_by: u64,
    #[serde(borrow, default)]
    send: Option<&'a RawValue>,
    /// Of `disconnect`. A node of an earlier version passes over it, and ends connections in the server's own words.
    #[serde(borrow, default)]
    close: Option<&'a RawValue>,
}

/// What is to be sent to a user's connections.
#[derive(Serialize, Deserialize)]
struct WrittenSend<'a> {
    #[serde(borrow)]
    user: Cow<'a, str>,
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow)]
    data: &'a RawValue,
}

impl WrittenSend<'_> {
    fn read(json: &RawValue) -> Option<Order> {
        let WrittenSend { user, event, data } = serde_json::from_str(json.get()).ok()?;
        let message = DirectMessage::new(&event, data.get());
        Some(Order::Send { user: user.into(), message })
    }

    /// Data that is no JSON is an empty object elsewhere: it was the application's to see to that.
    fn write(user: &str, message: &DirectMessage) -> String {
        let empty = serde_json::from_str::<&RawValue>("{}");
        let data = serde_json::from_str::<&RawValue>(message.data()).or(empty);
        let written = |data| WrittenSend { user: user.into(), event: message.event().into(), data };
        // Writing plain data into memory cannot fail.
        data.and_then(|data| serde_json::to_string(&written(data))).unwrap_or_default()
    }
}

/// How connections are to be ended.
#[derive(Serialize, Deserialize)]
struct WrittenClose<'a> {
    code: u16,
    #[serde(borrow)]
    text: Cow<'a, str>,
    /// In milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
    #[serde(default)]
    never: bool,
    #[serde(default)]
    at_once: bool,
}

impl WrittenClose<'_> {
    /// Nothing if this version would not send it.
    fn read(json: &RawValue) -> Option<Box<Disconnect>> {
        let written: WrittenClose<'_> = serde_json::from_str(json.get()).ok()?;
        let WrittenClose { code, text, retry_after, never, at_once } = written;
        let after = retry_after.map(|millis| RetryAdvice::After(Duration::from_millis(millis)));
        let retry = if never { Some(RetryAdvice::Never) } else { after };
        let how = Disconnect { code, text: text.into(), retry, at_once };
        how.check().is_ok().then(|| Box::new(how))
    }

    fn write(how: &Disconnect) -> String {
        let after = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let (retry_after, never) = match how.retry {
            Some(RetryAdvice::After(time)) => (Some(after(time)), false),
            Some(RetryAdvice::Never) => (None, true),
            None => (None, false),
        };
        let text = (&*how.text).into();
        let written =
            WrittenClose { code: how.code, text, retry_after, never, at_once: how.at_once };
        // Writing plain data into memory cannot fail.
        serde_json::to_string(&written).unwrap_or_default()
    }
}

impl Entry {
    /// Reads one. `None`: a node of a later version may have written it, and nobody here knows what to do.
    pub(in crate::hub) fn parse(json: &[u8]) -> Option<Self> {
        let written: WrittenEntry<'_> = serde_json::from_slice(json).ok()?;
        if let (Some(send), None, None) = (written.send, written.revoke, written.disconnect) {
            let order = WrittenSend::read(send)?;
            let (id, from) = (OrderId(written.id.0), NodeId(written.node.0));
            return Some(Self { id, from, order });
        }
        let order = match (written.revoke, written.disconnect, written.end_sessions) {
            (Some(of), None, None) => Order::Revoke(Revocation::parse(of.get()).ok()?),
            (None, Some(whom), None) => {
                let how = written.close.and_then(WrittenClose::read);
                Order::Disconnect(Whom::parse(whom.get()).ok()?, how)
            }
            (None, None, Some(whom)) => {
                let of = Whom::parse(whom.get()).ok()?;
                Order::EndSessions { of, begun_by: Duration::from_millis(written.begun_by) }
            }
            _ => return None,
        };
        Some(Self { id: OrderId(written.id.0), from: NodeId(written.node.0), order })
    }

    pub(in crate::hub) fn to_json(&self) -> String {
        let Self { id, from, order } = self;
        let (word, what) = match order {
            Order::Revoke(revocation) => ("revoke", revocation.to_json()),
            Order::Disconnect(whom, None) => ("disconnect", whom.to_json()),
            Order::Disconnect(whom, Some(how)) => {
                let close = WrittenClose::write(how);
                ("disconnect", format!(r#"{},"close":{close}"#, whom.to_json()))
            }
            Order::Send { user, message } => ("send", WrittenSend::write(user, message)),
            Order::EndSessions { of, begun_by } => {
                ("begun_by", format!(r#"{},"end_sessions":{}"#, begun_by.as_millis(), of.to_json()))
            }
        };
        format!(r#"{{"id":"{:016x}","node":"{from}","{word}":{what}}}"#, id.0)
    }
}

/// Bytes of a user's name.
pub(in crate::hub) const USER_BYTES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    const CONNECTION: &str = "0e0e0e0e-0e0e-4e0e-8e0e-0e0e0e0e0e0e";

    #[test]
    fn whom_to_end_is_a_user_or_a_connection() {
        let user = Whom::parse(r#" {"user":"a\"b"}"#).unwrap();
        assert_eq!(user, Whom::User("a\"b".into()));
        let connection = Whom::parse(&format!(r#"{{"connection_id":"{CONNECTION}"}}"#)).unwrap();
        for whom in [user, connection] {
            assert_eq!(Whom::parse(&whom.to_json()), Ok(whom));
        }
        let long = format!(r#"{{"user":"{}"}}"#, "x".repeat(257));
        let both = format!(r#"{{"user":"a","connection_id":"{CONNECTION}"}}"#);
        for (json, error) in [
            ("", WhomError::Shape),
            ("{}", WhomError::Shape),
            (r#"["ada",null]"#, WhomError::Shape),
            (r#"{"user":"ada","why":1}"#, WhomError::Shape),
            (&both, WhomError::Shape),
            (r#"{"user":""}"#, WhomError::User),
            (&long, WhomError::User),
            (r#"{"connection_id":"1"}"#, WhomError::Connection),
        ] {
            assert_eq!(Whom::parse(json), Err(error), "{json}");
        }
    }

    #[test]
    fn what_is_written_can_be_read_and_what_a_later_version_means_cannot() {
        let revocation = Revocation::parse(r#"{"jti":"t1","until":7}"#).unwrap();
        let orders = [
            (Order::Revoke(revocation), r#""revoke":{"jti":"t1","until":7}"#),
            (Order::Disconnect(Whom::User("ada".into()), None), r#""disconnect":{"user":"ada"}"#),
            (
                Order::Disconnect(
                    Whom::User("ada".into()),
                    Some(Box::new(
                        Disconnect::new(4000, "elsewhere")
                            .retry_after(Duration::from_millis(1_500)),
                    )),
                ),
                r#""disconnect":{"user":"ada"},"close":{"code":4000,"text":"elsewhere","retry_after":1500,"never":false,"at_once":false}"#,
            ),
            (
                Order::Send {
                    user: "ada".into(),
                    message: DirectMessage::new("a\"b", r#"{"n": [1]}"#),
                },
                r#""send":{"user":"ada","event":"a\"b","data":{"n": [1]}}"#,
            ),
            (
                Order::EndSessions {
                    of: Whom::User("ada".into()),
                    begun_by: Duration::from_millis(9),
                },
                r#""begun_by":9,"end_sessions":{"user":"ada"}"#,
            ),
        ];
        for (order, written) in orders {
            let entry = Entry { id: OrderId(0xa), from: NodeId(0xb), order };
            let json = entry.to_json();
            let expected =
                format!(r#"{{"id":"000000000000000a","node":"000000000000000b",{written}}}"#);
            assert_eq!(json, expected);
            assert_eq!(Entry::parse(json.as_bytes()), Some(entry));
        }
        for rest in
            [r#""later":{}"#, r#""end_sessions":{}"#, r#""revoke":{}"#, r#""disconnect":[]"#]
        {
            let json = format!(r#"{{"id":"000000000000000a","node":"000000000000000b",{rest}}}"#);
            assert_eq!(Entry::parse(json.as_bytes()), None, "{json}");
        }
    }
}
