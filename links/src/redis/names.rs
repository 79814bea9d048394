//! Names of keys and of channels of pub/sub.

use std::fmt::Display;

use mahavishnu_core::hub::SessionKey;

/// What a channel's keys have in braces, so that all of them, and the channel of pub/sub, share a slot of a cluster. The
/// slots of these lie 128 apart.
#[rustfmt::skip]
pub const TAGS: [&str; 128] = [
    "emj", "464", "2dl", "65b", "113", "hcu", "32e", "7ck", "0cz", "42t", "ocd", "k2j", "15s", "hg5", "n5m", "jdc",
    "4k7", "e0i", "6ha", "29o", "5y6", "1l0", "b48", "3of", "4ow", "0zq", "cfq", "gsw", "qu6", "1hp", "b0x", "fav",
    "020", "ain", "21f", "cj8", "1d9", "557", "3go", "76a", "06p", "id6", "o6n", "cnx", "9ia", "51w", "wko", "b8q",
    "4z5", "0o3", "6yc", "2le", "5h4", "d3j", "7kb", "ft4", "i95", "0ks", "cws", "gbu", "5lt", "1yr", "ber", "fpt",
    "of4", "64r", "8o2", "i4l", "33u", "ja3", "l3k", "hbe", "gkl", "602", "0bj", "43d", "375", "blk", "14c", "5em",
    "6iq", "vt7", "iio", "821", "jx8", "3nv", "q4n", "9d8", "6m1", "2x7", "4ng", "86q", "b1h", "3j6", "58n", "dc0",
    "20v", "6ax", "e9p", "iaf", "ne7", "77q", "9l1", "h7o", "246", "6e8", "0sh", "4fn", "fho", "731", "1ai", "50g",
    "6xs", "2mu", "aqu", "eds", "7jr", "n84", "hjl", "912", "c2k", "2i5", "au5", "0jc", "7n2", "f5l", "5md", "1xb",
];

/// The tag of nodes, leases, probes and control.
pub const NODES_TAG: &str = "n";

/// Makes names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    prefix: Box<str>,
    db: u16,
    /// How the names of channels of pub/sub begin, up to the tag.
    live_head: Box<str>,
}

impl Names {
    /// Names with this prefix; those of pub/sub with this number of a database.
    #[must_use]
    pub fn new(prefix: &str, db: u16) -> Self {
        Self { prefix: prefix.into(), db, live_head: format!("{prefix}:{db}:{{").into() }
    }

    /// The tag of a channel: equal on all nodes, for ever.
    #[must_use]
    pub fn tag(channel: &str) -> &'static str {
        let index = usize::from(crc16(channel.as_bytes())) % TAGS.len();
        TAGS.get(index).copied().unwrap_or(NODES_TAG)
    }

    /// A channel's epoch, last number and writers.
    #[must_use]
    pub fn meta(&self, channel: &str) -> String {
        self.key(Self::tag(channel), "m", channel)
    }

    /// A channel's messages.
    #[must_use]
    pub fn log(&self, channel: &str) -> String {
        self.key(Self::tag(channel), "l", channel)
    }

    /// A channel's document.
    #[must_use]
    pub fn document(&self, channel: &str) -> String {
        self.key(Self::tag(channel), "d", channel)
    }

    /// An idempotency key of a publish to this channel.
    #[must_use]
    pub fn once(&self, channel: &str, key: &str) -> String {
        self.key(Self::tag(channel), "i", key)
    }

    /// A user's connections, in the slot of the user's name as if it were a channel's.
    #[must_use]
    pub fn user(&self, user: &str) -> String {
        self.key(Self::tag(user), "u", user)
    }

    /// Who is in a channel.
    #[must_use]
    pub fn presence(&self, channel: &str) -> String {
        self.key(Self::tag(channel), "p", channel)
    }

    /// A session, in a slot by its key.
    #[must_use]
    pub fn session(&self, key: SessionKey) -> String {
        let key = key.to_string();
        self.key(Self::tag(&key), "s", &key)
    }

    /// Leases of nodes.
    #[must_use]
    pub fn leases(&self) -> String {
        self.node_key("leases")
    }

    /// What nodes say of themselves.
    #[must_use]
    pub fn nodes(&self) -> String {
        self.node_key("nodes")
    }

    /// What all nodes were told.
    #[must_use]
    pub fn control(&self) -> String {
        self.node_key("control")
    }

    /// Who takes entries out of a queue.
    #[must_use]
    pub fn ingress(&self, queue: &str) -> String {
        self.node_key(format_args!("owner:{queue}"))
    }

    /// The last probe of a link.
    #[must_use]
    pub fn probe(&self, link: impl Display) -> String {
        self.node_key(format_args!("probe:{link}"))
    }

    /// The version of all this.
    #[must_use]
    pub fn layout(&self) -> String {
        format!("{}:layout", self.prefix)
    }

    /// A pattern that all keys fit; others may fit it too.
    #[must_use]
    pub fn pattern(&self) -> String {
        let mut pattern = String::new();
        for c in self.prefix.chars() {
            if "*?[]^-\\".contains(c) {
                pattern.push('\\');
            }
            pattern.push(c);
        }
        pattern + ":*"
    }

    /// What a key is for. `None`: it is none of these names, and of nobody who has this prefix.
    #[must_use]
    pub fn kind(&self, key: &[u8]) -> Option<KeyKind> {
        let rest = key.strip_prefix(self.prefix.as_bytes())?.strip_prefix(b":")?;
        if rest == b"layout" {
            return Some(KeyKind::Layout);
        }
        let rest = rest.strip_prefix(b"{")?;
        let end = rest.windows(2).position(|two| two == b"}:")?;
        let (tag, rest) = (rest.get(..end)?, rest.get(end + 2..)?);
        if tag == NODES_TAG.as_bytes() {
            return Some(match rest {
                b"leases" | b"nodes" => KeyKind::Nodes,
                b"control" => KeyKind::Control,
                _ if rest.starts_with(b"probe:") => KeyKind::Probe,
                _ if rest.starts_with(b"owner:") => KeyKind::Owner,
                _ => KeyKind::Other,
            });
        }
        if !TAGS.iter().any(|known| known.as_bytes() == tag) {
            return None;
        }
        Some(match rest.split_at_checked(2).unwrap_or_default().0 {
            b"m:" => KeyKind::Meta,
            b"l:" => KeyKind::Log,
            b"d:" => KeyKind::Document,
            b"i:" => KeyKind::Once,
            b"u:" => KeyKind::User,
            b"p:" => KeyKind::Presence,
            b"s:" => KeyKind::Session,
            _ => KeyKind::Other,
        })
    }

    /// The channel of pub/sub on which a channel's rounds come.
    #[must_use]
    pub fn live(&self, channel: &str) -> String {
        format!("{}{}}}:c:{channel}", self.live_head, Self::tag(channel))
    }

    /// The channel whose rounds come on this one of pub/sub, if it is one.
    #[must_use]
    pub fn channel<'n>(&self, live: &'n str) -> Option<&'n str> {
        let (_, channel) = live.strip_prefix(&*self.live_head)?.split_once("}:c:")?;
        Some(channel)
    }

    /// The channel of pub/sub for all nodes.
    #[must_use]
    pub fn live_control(&self) -> String {
        format!("{}{NODES_TAG}}}:control", self.live_head)
    }

    /// The channel of pub/sub for one link.
    #[must_use]
    pub fn live_link(&self, link: impl Display) -> String {
        format!("{}{NODES_TAG}}}:link:{link}", self.live_head)
    }

    fn node_key(&self, what: impl Display) -> String {
        format!("{}:{{{NODES_TAG}}}:{what}", self.prefix)
    }

    fn key(&self, tag: &str, kind: &str, name: &str) -> String {
        format!("{}:{{{tag}}}:{kind}:{name}", self.prefix)
    }
}

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyKind {
    /// The version of all this.
    Layout,
    /// Leases, and what nodes say of themselves.
    Nodes,
    /// What all nodes were told.
    Control,
    /// The last probe of a link.
    Probe,
    /// Who takes entries out of a queue.
    Owner,
    /// A channel's epoch, last number and writers.
    Meta,
    /// A channel's messages.
    Log,
    /// A channel's document.
    Document,
    /// An idempotency key.
    Once,
    /// A user's connections.
    User,
    /// Who is in a channel.
    Presence,
    /// A session.
    Session,
    /// Of another version of the program.
    Other,
}

/// As Redis Cluster computes slots: CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_spread_evenly_over_the_slots_of_a_cluster() {
        assert_eq!(
            crc16(b"123456789"),
            0x31c3,
            "the check value of the Redis Cluster specification"
        );
        for (index, tag) in TAGS.iter().enumerate() {
            assert_eq!(usize::from(crc16(tag.as_bytes())) % 16_384, 128 * index + 1, "{tag}");
        }
    }

    /// Other nodes, of other versions, look for the same names.
    #[test]
    fn the_names_are_these() {
        let names = Names::new("mahavishnu", 3);
        let tag = Names::tag("workflow:42");
        assert_eq!(tag, "fpt");
        assert_eq!(names.meta("workflow:42"), format!("mahavishnu:{{{tag}}}:m:workflow:42"));
        assert_eq!(names.log("workflow:42"), format!("mahavishnu:{{{tag}}}:l:workflow:42"));
        assert_eq!(names.document("workflow:42"), format!("mahavishnu:{{{tag}}}:d:workflow:42"));
        assert_eq!(names.once("workflow:42", "k#0"), format!("mahavishnu:{{{tag}}}:i:k#0"));
        assert_eq!(names.user("workflow:42"), format!("mahavishnu:{{{tag}}}:u:workflow:42"));
        assert_eq!(names.presence("workflow:42"), format!("mahavishnu:{{{tag}}}:p:workflow:42"));
        assert_eq!(names.live("workflow:42"), format!("mahavishnu:3:{{{tag}}}:c:workflow:42"));
        let key = SessionKey(0xab);
        let tag = Names::tag(&key.to_string());
        assert_eq!(names.session(key), format!("mahavishnu:{{{tag}}}:s:{key}"));
        assert_eq!(names.leases(), "mahavishnu:{n}:leases");
        assert_eq!(names.nodes(), "mahavishnu:{n}:nodes");
        assert_eq!(names.control(), "mahavishnu:{n}:control");
        assert_eq!(names.probe("0a.1"), "mahavishnu:{n}:probe:0a.1");
        assert_eq!(names.live_control(), "mahavishnu:3:{n}:control");
        assert_eq!(names.live_link("0a.1"), "mahavishnu:3:{n}:link:0a.1");
        assert_eq!(names.layout(), "mahavishnu:layout");
    }

    #[test]
    fn keys_are_told_from_those_of_others() {
        let names = Names::new("m", 0);
        let kind = |key: &str| names.kind(key.as_bytes());
        for (key, expected) in [
            (names.layout(), KeyKind::Layout),
            (names.leases(), KeyKind::Nodes),
            (names.nodes(), KeyKind::Nodes),
            (names.control(), KeyKind::Control),
            (names.probe("a.1"), KeyKind::Probe),
            (names.ingress("m:in"), KeyKind::Owner),
            (names.meta("a}:b"), KeyKind::Meta),
            (names.log(""), KeyKind::Log),
            (names.document("c"), KeyKind::Document),
            (names.once("c", "k#0"), KeyKind::Once),
            (names.user("ada"), KeyKind::User),
            (names.presence("room:1"), KeyKind::Presence),
            (names.session(SessionKey(7)), KeyKind::Session),
            ("m:{n}:later".into(), KeyKind::Other),
            ("m:{emj}:z:later".into(), KeyKind::Other),
            ("m:{emj}:".into(), KeyKind::Other),
        ] {
            assert_eq!(kind(&key), Some(expected), "{key}");
        }
        let others = ["m:b", "mm", "x", "m:layout"].map(|prefix| Names::new(prefix, 0).meta("c"));
        for key in
            others.iter().map(String::as_str).chain(["m:ingress", "m:{mine}:x", "m:", "", "m"])
        {
            assert_eq!(kind(key), None, "{key}");
        }
        assert_eq!(Names::new("a-b*", 0).pattern(), r"a\-b\*:*");
    }

    #[test]
    fn a_channel_is_read_from_its_name_in_pub_sub() {
        let names = Names::new("m", 0);
        for channel in ["workflow:42", "a}:c:b", "{x}", "é", ""] {
            assert_eq!(names.channel(&names.live(channel)), Some(channel), "{channel}");
        }
        for other in
            [Names::new("m", 1).live("a"), Names::new("mm", 0).live("a"), names.live_control()]
        {
            assert_eq!(names.channel(&other), None, "{other}");
        }
    }
}
