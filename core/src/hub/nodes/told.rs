//! What nodes tell each other at once, and what nothing is kept of.

use serde::{Deserialize, Serialize};

use super::order::OrderId;
use crate::hub::bus::{NodeId, SessionHeld, SessionKey, Writer};

/// One message of [`BusCommand::Tell`](crate::hub::BusCommand::Tell).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::hub) enum Told {
    /// This node is there.
    Alive(NodeId),
    /// A node has carried an order out, by which so many connections have ended there.
    CarriedOut { order: OrderId, node: NodeId, closed: u32 },
    /// A session was claimed that this hub had.
    Claimed { to: Writer, held: SessionHeld },
}

/// The same as JSON. A node of a later version may say something else, which is passed over.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Written {
    Alive { node: Hex },
    CarriedOut { order: Hex, node: Hex, closed: u32 },
    Claimed { node: Hex, shard: u16, session: [Hex; 2], claim: u64 },
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
        })
    }

    pub(in crate::hub) fn to_json(self) -> Vec<u8> {
        let written = match self {
            Self::Alive(node) => Written::Alive { node: Hex(node.0) },
            Self::CarriedOut { order, node, closed } => {
                Written::CarriedOut { order: Hex(order.0), node: Hex(node.0), closed }
            }
            Self::Claimed { to: Writer { node, shard }, held: SessionHeld { key, claim } } => {
                let session = [Hex((key.0 >> 64) as u64), Hex(key.0 as u64)];
                Written::Claimed { node: Hex(node.0), shard, session, claim }
            }
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
        assert_eq!(alive.to_json(), br#"{"alive":{"node":"0000000000000abc"}}"#);
        let carried_out = Told::CarriedOut { order: OrderId(1), node: NodeId(2), closed: 3 };
        assert_eq!(
            carried_out.to_json(),
            br#"{"carried_out":{"order":"0000000000000001","node":"0000000000000002","closed":3}}"#
        );
        let held = SessionHeld { key: SessionKey(5 << 100 | 7), claim: 3 };
        let claimed = Told::Claimed { to: Writer { node: NodeId(2), shard: 1 }, held };
        assert_eq!(
            claimed.to_json(),
            br#"{"claimed":{"node":"0000000000000002","shard":1,"session":["0000005000000000","0000000000000007"],"claim":3}}"#
        );
        for told in [alive, carried_out, claimed] {
            assert_eq!(Told::parse(&told.to_json()), Some(told));
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
