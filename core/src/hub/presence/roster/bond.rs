//! What the bus is to be told of one channel's members, and how far those of other nodes are known here.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::{
    hub::{
        bus::{CallId, PresenceAbsence},
        follow::Parked,
        presence::Card,
    },
    protocol::{self, Position},
    time::Instant,
};

/// The bus, as one channel's members see it. Without one nothing of it is used.
#[derive(Debug, Default)]
pub(in crate::hub::presence) struct Bond {
    /// Whatever becomes of the members is heard.
    pub(in crate::hub::presence) followed: bool,
    pub(in crate::hub::presence) phase: Phase,
    /// Up to which change those of other nodes are known.
    pub(in crate::hub::presence) known: Option<Position>,
    /// The bus has more of them than it takes, or told.
    pub(in crate::hub::presence) cut: bool,
    /// There was no room here for all.
    pub(in crate::hub::presence) over: bool,
    /// The bus has lost them: until then who is not named by it may only not have been put again.
    pub(in crate::hub::presence) doubt: Option<Instant>,
    /// What is being read may not have everything in it: it is to be read again.
    pub(in crate::hub::presence) again: bool,
    /// Those who wait until all of it is known.
    pub(in crate::hub::presence) waiting: VecDeque<Parked>,
    /// In the line of those of which the bus is to be told.
    pub(in crate::hub::presence) queued: bool,
    /// The bus is to be told although nothing has changed, so that it does not forget.
    pub(in crate::hub::presence) renew: bool,
    /// Members of this node to be put.
    pub(super) due: BTreeSet<Uuid>,
    /// Members that the bus may have and that are there no more.
    pub(super) gone: BTreeMap<Uuid, PresenceAbsence>,
    /// Members of this node for which the bus has no room.
    pub(super) refused: BTreeSet<Uuid>,
    /// What the bus was told and has not answered.
    pub(super) under_way: Option<UnderWay>,
}

/// How far the members of other nodes are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::hub::presence) enum Phase {
    /// What is known is of before, or nothing.
    #[default]
    Unknown,
    /// They are to be read.
    Queued,
    /// They are being read.
    Reading(CallId),
    /// All of them are, and what is new comes by itself.
    Known,
}

#[derive(Debug)]
pub(super) struct UnderWay {
    pub(super) id: CallId,
    pub(super) come: Vec<Uuid>,
    pub(super) gone: Vec<PresenceAbsence>,
}

impl Bond {
    /// Nothing is to be told, and nobody waits.
    pub(super) fn is_idle(&self) -> bool {
        !self.followed && !self.has_news() && self.under_way.is_none() && self.waiting.is_empty()
    }

    fn has_news(&self) -> bool {
        !self.due.is_empty() || !self.gone.is_empty()
    }

    /// Whether the bus can be told something now.
    pub(in crate::hub::presence) fn wants_turn(&self) -> bool {
        !self.queued && self.under_way.is_none() && (self.has_news() || self.renew)
    }

    /// Whether all members on all nodes are known.
    pub(in crate::hub::presence) fn is_whole(&self) -> bool {
        self.phase == Phase::Known && !self.cut && !self.over && self.doubt.is_none()
    }

    /// A member of this node is to be put, now or again.
    pub(super) fn put(&mut self, id: Uuid) {
        self.refused.remove(&id);
        self.due.insert(id);
    }

    /// Whether the bus is being told that it is there.
    pub(super) fn is_coming(&self, id: Uuid) -> bool {
        self.due.contains(&id)
            || self.under_way.as_ref().is_some_and(|under_way| under_way.come.contains(&id))
    }

    /// Whether the bus is told that it is gone.
    pub(super) fn is_going(&self, id: Uuid) -> bool {
        let going = |under_way: &UnderWay| under_way.gone.iter().any(|gone| gone.member == id);
        self.gone.contains_key(&id) || self.under_way.as_ref().is_some_and(going)
    }

    /// There is room for more: those who were refused are put again.
    pub(super) fn retry(&mut self) {
        self.due.append(&mut self.refused);
    }
}

/// A member as it is written.
#[derive(Deserialize)]
struct Written<'a> {
    user: Option<Box<str>>,
    #[serde(borrow)]
    info: Option<&'a RawValue>,
    /// Microseconds since the Unix epoch.
    since: u64,
    /// The same of the time until which it is held, if it is.
    held: Option<u64>,
}

/// What is read of a member.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Read {
    pub(super) card: Card,
    pub(super) since: Duration,
    /// Its connection is gone, and its session waits until then, by the wall clock.
    pub(super) held: Option<Duration>,
}

/// What other nodes are told of a member. `held`: until then.
pub(super) fn write(card: &Card, since: Duration, held: Option<Duration>) -> Bytes {
    let mut out = Vec::from(*b"{\"user\":");
    match &card.user {
        Some(user) => protocol::write_string(&mut out, user),
        None => out.extend_from_slice(b"null"),
    }
    let (info, since) = (card.info.as_deref().unwrap_or("null"), since.as_micros());
    out.extend_from_slice(format!(",\"info\":{info},\"since\":{since}").as_bytes());
    if let Some(held) = held {
        out.extend_from_slice(format!(",\"held\":{}", held.as_micros()).as_bytes());
    }
    out.push(b'}');
    out.into()
}

/// Reads what another node wrote. `None`: it is none of this version's.
pub(super) fn read(info: &[u8]) -> Option<Read> {
    let Written { user, info, since, held } = serde_json::from_slice(info).ok()?;
    let info = info.map(RawValue::get).filter(|info| *info != "null");
    if info.is_some_and(|info| !info.starts_with('{')) {
        return None;
    }
    let card = Card { user: user.map(Arc::from), info: info.map(Arc::from) };
    let held = held.map(Duration::from_micros);
    Some(Read { card, since: Duration::from_micros(since), held })
}

#[cfg(test)]
mod tests {
    use Duration;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let since = Duration::from_micros(1_770_000_000_123_456);
        for (user, info) in [(None, None), (Some("a\"\u{e9}\n"), Some(r#"{"a": [1, "}"]}"#))] {
            let card = Card { user: user.map(Arc::from), info: info.map(Arc::from) };
            for held in [None, Some(since * 2)] {
                let text = write(&card, since, held);
                assert_eq!(read(&text), Some(Read { card: card.clone(), since, held }));
            }
        }
        for text in ["", "{}", r#"{"user":1,"since":1}"#, r#"{"info":[],"since":1}"#, "\u{fffd}"] {
            assert_eq!(read(text.as_bytes()), None, "{text}");
        }
    }
}
