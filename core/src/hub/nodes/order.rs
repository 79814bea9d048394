//! Orders: what all hubs of all nodes are to carry out, and how they are told of it.

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::told::Hex;
use crate::{auth::Revocation, hub::bus::NodeId};

/// What all hubs of all nodes are to carry out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::hub) enum Order {
    /// Revoke tokens, and end the connections that go by them.
    Revoke(Revocation),
    /// End connections.
    Disconnect(Whom),
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
            Self::Disconnect(_) => OrderKind::Disconnect,
            Self::EndSessions { .. } => OrderKind::EndSessions,
        }
    }

    /// Bytes that it takes.
    pub(in crate::hub) fn weight(&self) -> usize {
        let names = match self {
            Self::Revoke(revocation) => {
                let names = [&revocation.id, &revocation.user].into_iter().flatten();
                names.map(|name| name.len()).sum()
            }
            Self::Disconnect(of) | Self::EndSessions { of, .. } => match of {
                Whom::User(user) => user.len(),
                Whom::Connection(_) => 0,
            },
        };
        size_of::<Self>() + names
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
}

impl Entry {
    /// Reads one. `None`: a node of a later version may have written it, and nobody here knows what to do.
    pub(in crate::hub) fn parse(json: &[u8]) -> Option<Self> {
        let written: WrittenEntry<'_> = serde_json::from_slice(json).ok()?;
        let order = match (written.revoke, written.disconnect, written.end_sessions) {
            (Some(of), None, None) => Order::Revoke(Revocation::parse(of.get()).ok()?),
            (None, Some(whom), None) => Order::Disconnect(Whom::parse(whom.get()).ok()?),
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
            Order::Disconnect(whom) => ("disconnect", whom.to_json()),
            Order::EndSessions { of, begun_by } => {
                ("begun_by", format!(r#"{},"end_sessions":{}"#, begun_by.as_millis(), of.to_json()))
            }
        };
        format!(r#"{{"id":"{:016x}","node":"{from}","{word}":{what}}}"#, id.0)
    }
}

/// Bytes of a user's name.
const USER_BYTES_MAX: usize = 256;

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
            (Order::Disconnect(Whom::User("ada".into())), r#""disconnect":{"user":"ada"}"#),
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
