//! Sessions that outlive their connection, as the bus keeps them: so that a client finds its own on any node.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use sha1_smol::Sha1;

use super::command::{CallId, NodeId, Writer};
use crate::hub::store::SessionId;

/// Under what the bus keeps a session. It is derived from the session's name, which it does not give away: whoever can read
/// the bus' keys cannot resume anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionKey(pub u128);

impl SessionKey {
    /// That of this session, on all nodes and for ever.
    #[must_use]
    pub fn of(session: SessionId) -> Self {
        let mut digest = Sha1::new();
        // What is asked of it is that nobody finds the 128 random bits again, which SHA-1 still does.
        digest.update(b"mahavishnu session ");
        digest.update(&session.0.to_be_bytes());
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..] = digest.digest().bytes();
        Self(u128::from_be_bytes([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]))
    }
}

impl fmt::Display for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Something about sessions. Answered by [`BusEvent::Session`](super::BusEvent::Session).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionCall {
    /// Names the answer.
    pub id: CallId,
    /// The hub that has the sessions, or wants one: by a name of its process that stays the same as long as that lives, also
    /// if its lease is lost.
    pub holder: Writer,
    /// What.
    pub what: SessionWish,
}

/// What is to become of sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionWish {
    /// Keep one as it is now, in the place of what was known of it, unless somebody has claimed it since.
    Keep(Box<SessionState>),
    /// Have one from now on, whoever had it before, if it is this user's.
    Claim {
        /// Which.
        key: SessionKey,
        /// Whose it has to be; `None`: nobody's.
        user: Option<Arc<str>>,
        /// For how much longer than it waits for its client it is kept.
        grace: Duration,
    },
    /// Keep these for so much longer from now on, unless somebody has claimed them since.
    Renew(Vec<(SessionHeld, Duration)>),
    /// End one, unless somebody has claimed it since. For so long nobody can keep it anew who had it before.
    End(SessionHeld, Duration),
}

/// A session, and by which of all claims to it its holder has it. Each claim has a higher number than the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionHeld {
    /// Which.
    pub key: SessionKey,
    /// The number of the claim; 1: it began there.
    pub claim: u64,
}

/// A session as the bus keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionState {
    /// Which.
    pub held: SessionHeld,
    /// Whose; `None`: nobody's.
    pub user: Option<Arc<str>>,
    /// When it began, since the Unix epoch.
    pub begun: Duration,
    /// For how long it waits for its client.
    pub ttl: Duration,
    /// For how long it is kept from now on.
    pub life: Duration,
    /// Whether a connection has it.
    pub attached: bool,
    /// What the next one to have it wants to know.
    pub record: Bytes,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionAnswer {
    /// It was kept, or has ended. False: somebody has claimed it since.
    Done(bool),
    /// To a claim: it is the hub's. `None`: there is no such session, or not any more.
    Claimed(Option<Box<SessionClaimed>>),
    /// To a claim: it is another user's.
    OtherUser,
    /// What is there of each that was to be renewed.
    Renewed(Vec<SessionRenewed>),
}

/// A session that was claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionClaimed {
    /// The number of the claim.
    pub claim: u64,
    /// Who had it before.
    pub before: Option<Writer>,
    /// When it began, since the Unix epoch.
    pub begun: Duration,
    /// What who had it before has said.
    pub record: Bytes,
}

/// What became of a session that was to be renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionRenewed {
    /// It is kept for longer.
    Done,
    /// Somebody has claimed it since, or it has ended.
    Lost,
    /// The bus knows nothing of it.
    Unknown,
}

impl Writer {
    /// Reads what is shown of one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (node, shard) = text.split_once('.')?;
        let digits = node.len() == 16 && node.bytes().all(|byte| byte.is_ascii_hexdigit());
        let node = digits.then(|| u64::from_str_radix(node, 16).ok()).flatten()?;
        Some(Self { node: NodeId(node), shard: shard.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_says_nothing_of_the_name_and_stays_the_same() {
        let key = SessionKey::of(SessionId(7));
        assert_eq!(key, SessionKey::of(SessionId(7)));
        assert_ne!(key, SessionKey::of(SessionId(8)));
        assert_ne!(key.0, 7);
        // As `sha1sum` has it: other versions have to find it.
        assert_eq!(key.to_string(), "8e5199ceb880c3ba16303254b25ad676");
    }

    #[test]
    fn a_writer_reads_back() {
        let writer = Writer { node: NodeId(0xab), shard: 3 };
        assert_eq!(Writer::parse(&writer.to_string()), Some(writer));
        for text in [
            "",
            "ab.3",
            "00000000000000ab",
            "00000000000000ab.",
            "+0000000000000ab.1",
            "00000000000000ab.70000",
        ] {
            assert_eq!(Writer::parse(text), None, "{text}");
        }
    }
}
