//! What nodes say of themselves, in their leases.

use serde::{Deserialize, Serialize};

/// What a node says of itself. What it does not say is what a node of an older version would mean.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeInfo {
    /// What it calls itself.
    pub name: Box<str>,
    /// Of its program.
    pub version: Box<str>,
    /// Open WebSocket connections.
    pub connections: u64,
    /// Its connections to the bus.
    pub links: LinkCounts,
    /// It is about to go.
    pub draining: bool,
    /// The version of [records](crate::record) that it writes; it reads those before as well.
    pub record: u8,
}

/// How many of a node's connections to the bus are up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LinkCounts {
    /// Those that are up.
    pub up: u16,
    /// All, one for each hub.
    pub total: u16,
}

impl NodeInfo {
    /// Reads what another node says: a JSON object of at most 4,096 bytes. What cannot be read says nothing.
    #[must_use]
    pub fn parse(json: &[u8]) -> Self {
        let Some(json) = json.get(..json.len().min(INFO_BYTES_MAX)) else { return Self::default() };
        let mut this: Self = serde_json::from_slice(json).unwrap_or_default();
        for text in [&mut this.name, &mut this.version] {
            if text.len() > NAME_BYTES_MAX {
                *text = Box::default();
            }
        }
        this
    }

    pub(in crate::hub) fn to_json(&self) -> Vec<u8> {
        // Writing plain data into memory cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// What another node says that is longer cannot be read.
const INFO_BYTES_MAX: usize = 4096;

/// A longer name of another node is none.
const NAME_BYTES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read_and_what_is_not_there_is_zero() {
        let info = NodeInfo {
            name: "a1".into(),
            version: "0.1.0".into(),
            connections: 7,
            links: LinkCounts { up: 1, total: 2 },
            draining: true,
            record: 1,
        };
        assert_eq!(NodeInfo::parse(&info.to_json()), info);
        let older = NodeInfo::parse(br#"{"name":"a1","colour":"red"}"#);
        assert_eq!(older, NodeInfo { name: "a1".into(), ..NodeInfo::default() });
    }

    #[test]
    fn what_cannot_be_read_says_nothing() {
        let long = format!(r#"{{"name":"{}","connections":3}}"#, "x".repeat(300));
        assert_eq!(NodeInfo::parse(long.as_bytes()).connections, 3);
        assert_eq!(NodeInfo::parse(long.as_bytes()).name, "".into());
        let longer = format!(r#"{{"name":"{}"}}"#, "x".repeat(5000));
        for json in [&b""[..], b"[]", b"{\"connections\":-1}", longer.as_bytes()] {
            assert_eq!(NodeInfo::parse(json), NodeInfo::default());
        }
    }
}
