//! What nodes tell each other at once, and what nothing is kept of.

use serde::{Deserialize, Serialize};

use super::order::OrderId;
use crate::hub::{
    answering::{Call, Given},
    bus::{NodeId, SessionHeld, SessionKey, Writer},
    types::{RequestError, RequestId, ShardId},
};

/// One message of [`BusCommand::Tell`](crate::hub::BusCommand::Tell).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::hub) enum Told {
    /// This node is there.
    Alive(NodeId),
    /// A node has carried an order out, by which so many connections have ended there.
    CarriedOut { order: OrderId, node: NodeId, closed: u32 },
    /// A session was claimed that this hub had.
    Claimed { to: Writer, held: SessionHeld },
    /// A back-end has answered a request of another node.
    Given(Box<Given>),
    /// What became of that.
    Taken { from: Call, taken: bool },
}

/// The same as JSON. A node of a later version may say something else, which is passed over.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Written {
    Alive { node: Hex },
    CarriedOut { order: Hex, node: Hex, closed: u32 },
    Claimed { node: Hex, shard: u16, session: [Hex; 2], claim: u64 },
    Given { to: WrittenCall, from: WrittenCall, reply: WrittenReply },
    Taken { from: WrittenCall, taken: bool },
}

/// A question of a hub.
#[derive(Serialize, Deserialize)]
struct WrittenCall {
    node: Hex,
    shard: u16,
    index: u32,
    generation: u32,
}

/// What a back-end says: data as text, or why not.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WrittenReply {
    Data(String),
    Error { code: Box<str>, message: Box<str> },
}

impl From<Call> for WrittenCall {
    fn from(call: Call) -> Self {
        let Call { node, shard, request: RequestId { index, generation } } = call;
        Self { node: Hex(node.0), shard: shard.0, index, generation }
    }
}

impl From<WrittenCall> for Call {
    fn from(written: WrittenCall) -> Self {
        let WrittenCall { node: Hex(node), shard, index, generation } = written;
        let request = RequestId { index, generation };
        Self { node: NodeId(node), shard: ShardId(shard), request }
    }
}

/// A number as nodes and orders are named: sixteen digits.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct Hex(pub(super) u64);

impl From<Hex> for String {
    fn from(Hex(number): Hex) -> Self {
        format!("{number:016x}")
    }
}

impl TryFrom<String> for Hex {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let sound = text.len() == 16 && text.bytes().all(is_digit);
        let number = sound.then(|| u64::from_str_radix(&text, 16).ok()).flatten();
        number.map(Self).ok_or("not sixteen digits")
    }
}

impl Told {
    pub(in crate::hub) fn parse(json: &[u8]) -> Option<Self> {
        Some(match serde_json::from_slice(json).ok()? {
            Written::Alive { node: Hex(node) } => Self::Alive(NodeId(node)),
            Written::CarriedOut { order: Hex(order), node: Hex(node), closed } => {
                Self::CarriedOut { order: OrderId(order), node: NodeId(node), closed }
            }
            Written::Claimed { node: Hex(node), shard, session: [Hex(high), Hex(low)], claim } => {
                let key = SessionKey(u128::from(high) << 64 | u128::from(low));
                let to = Writer { node: NodeId(node), shard };
                Self::Claimed { to, held: SessionHeld { key, claim } }
            }
            Written::Given { to, from, reply } => {
                let reply = match reply {
                    WrittenReply::Data(data) => Ok(data.into()),
                    WrittenReply::Error { code, message } => Err(RequestError { code, message }),
                };
                Self::Given(Box::new(Given { to: to.into(), from: from.into(), reply }))
            }
            Written::Taken { from, taken } => Self::Taken { from: from.into(), taken },
        })
    }

    pub(in crate::hub) fn into_json(self) -> Vec<u8> {
        let written = match self {
            Self::Alive(node) => Written::Alive { node: Hex(node.0) },
            Self::CarriedOut { order, node, closed } => {
                Written::CarriedOut { order: Hex(order.0), node: Hex(node.0), closed }
            }
            Self::Claimed { to: Writer { node, shard }, held: SessionHeld { key, claim } } => {
                let session = [Hex((key.0 >> 64) as u64), Hex(key.0 as u64)];
                Written::Claimed { node: Hex(node.0), shard, session, claim }
            }
            Self::Given(given) => {
                let Given { to, from, reply } = *given;
                let reply = match reply {
                    Ok(data) => WrittenReply::Data(String::from_utf8_lossy(&data).into_owned()),
                    Err(RequestError { code, message }) => WrittenReply::Error { code, message },
                };
                Written::Given { to: to.into(), from: from.into(), reply }
            }
            Self::Taken { from, taken } => Written::Taken { from: from.into(), taken },
        };
        // Writing plain data into memory cannot fail.
        serde_json::to_vec(&written).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read_and_anything_else_is_passed_over() {
        let alive = Told::Alive(NodeId(0xabc));
        assert_eq!(alive.clone().into_json(), br#"{"alive":{"node":"0000000000000abc"}}"#);
        let carried_out = Told::CarriedOut { order: OrderId(1), node: NodeId(2), closed: 3 };
        assert_eq!(
            carried_out.clone().into_json(),
            br#"{"carried_out":{"order":"0000000000000001","node":"0000000000000002","closed":3}}"#
        );
        let held = SessionHeld { key: SessionKey(5 << 100 | 7), claim: 3 };
        let claimed = Told::Claimed { to: Writer { node: NodeId(2), shard: 1 }, held };
        assert_eq!(
            claimed.clone().into_json(),
            br#"{"claimed":{"node":"0000000000000002","shard":1,"session":["0000005000000000","0000000000000007"],"claim":3}}"#
        );
        let call = |node| Call {
            node: NodeId(node),
            shard: ShardId(1),
            request: RequestId { index: 2, generation: 3 },
        };
        let given = |reply| Told::Given(Box::new(Given { to: call(4), from: call(5), reply }));
        let error = RequestError { code: "NOT_FOUND".into(), message: "no".into() };
        let (data, failed) = (given(Ok(r#"{"a":"\""}"#.into())), given(Err(error)));
        let taken = Told::Taken { from: call(5), taken: false };
        for told in [alive, carried_out, claimed, data, failed, taken] {
            assert_eq!(Told::parse(&told.clone().into_json()), Some(told));
        }
        for json in [
            "",
            "{}",
            r#"{"later":{}}"#,
            r#"{"alive":{"node":"abc"}}"#,
            r#"{"alive":{"node":"+00000000000abc1"}}"#,
        ] {
            assert_eq!(Told::parse(json.as_bytes()), None, "{json}");
        }
    }
}
