//! Who is in a channel. A channel's home keeps its members and tells those who watch when one comes or goes; what a turn
//! brings is told at its end, together. Who watches gets these events aside from the channel's rounds: they are not
//! numbered and not kept.

mod roster;
mod shared;
#[cfg(test)]
mod tests;
mod watchers;

use std::{collections::VecDeque, ops::RangeInclusive, sync::Arc, time::Duration};

use uuid::Uuid;

pub(super) use self::watchers::{Watch, Watchers};
use self::{roster::Roster, shared::Shared};
use super::{
    env::Env,
    looks::Looker,
    peers::bit,
    slab::Slab,
    types::{ConnId, ShardId},
};
use crate::{
    config::Config,
    entropy::{KeyedMap, KeyedState},
    protocol::{DecodeError, PresenceWish},
    reason::Reason,
    time::{Instant, Timers},
    ws::Segment,
};

/// What a client asks for by `presence`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// To hear who comes and goes.
    Watch,
    /// That, and to be a member that says this of itself: the JSON of an object.
    Join(Option<Arc<str>>),
}

impl Wanted {
    /// Reads the member of a subscription's `data`.
    pub(super) fn parse(text: &str) -> Result<Option<Self>, DecodeError> {
        let wish = PresenceWish::parse(text)?;
        Ok(wish.map(|wish| match wish {
            PresenceWish::Watch => Self::Watch,
            PresenceWish::Join { info } => Self::Join(info.map(Into::into)),
        }))
    }

    /// As a client would ask for it.
    pub(super) fn to_text(&self) -> Box<str> {
        match self {
            Self::Watch => "\"watch\"".into(),
            Self::Join(None) => "true".into(),
            Self::Join(Some(info)) => format!("{{\"info\":{info}}}").into(),
        }
    }

    /// Why a subscription may not ask for it, if so.
    pub(super) fn refusal(&self, config: &Config, channel: &str) -> Option<Reason> {
        let info_bytes = match self {
            Self::Join(Some(info)) => info.len(),
            Self::Watch | Self::Join(None) => 0,
        };
        if !config.has_presence(channel) {
            Some(Reason::PresenceOff)
        } else if info_bytes > config.limits.presence.presence_info_bytes_max {
            Some(Reason::PresenceInfo)
        } else {
            None
        }
    }
}

/// A subscription with presence: it watches, and perhaps it is a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attendance {
    /// Which of its hub's subscriptions with presence it is. One that comes to an end when the next of the same connection
    /// has begun ends nothing else.
    pub(super) number: u64,
    /// The name by which others know the connection.
    pub(super) id: Uuid,
    /// What they are told of it. `None`: it only watches.
    pub(super) card: Option<Card>,
    /// Its place among those that have come to the channel's home, where they may wait; 0 where none waits.
    pub(super) order: u64,
}

/// The end of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Departure {
    pub(super) conn: ConnId,
    pub(super) number: u64,
    pub(super) why: Why,
}

/// What others are told of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Card {
    pub(super) user: Option<Arc<str>>,
    /// The JSON of an object.
    pub(super) info: Option<Arc<str>>,
}

/// What became of it at the channel's home.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Attended {
    pub(super) watch: Watch,
    /// Members that the channel has now.
    pub(super) members: u32,
}

impl Attendance {
    /// As the hub of its connection remembers it.
    fn watch(&self) -> Watch {
        let wanted =
            self.card.as_ref().map_or(Wanted::Watch, |card| Wanted::Join(card.info.clone()));
        Watch { number: self.number, id: self.id, wanted }
    }

    /// Bytes that it takes.
    pub(super) fn weight(&self) -> usize {
        size_of::<Self>() + self.card.as_ref().map_or(0, Card::weight)
    }
}

impl Card {
    fn weight(&self) -> usize {
        let lengths =
            [self.user.as_deref(), self.info.as_deref()].map(|text| text.map_or(0, str::len));
        lengths.into_iter().sum()
    }
}

/// What becomes of a member whose connection leaves the channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// It is gone: it unsubscribed, said goodbye, or may not stay.
    Left,
    /// It is gone, but nobody wanted that: it may come back.
    Lost,
    /// It stays for so long, for its connection has a session: then it is lost, unless another connection has taken its
    /// place.
    Held(Duration),
    /// It is gone with its node.
    Node,
}

impl Why {
    /// What becomes of the members of a connection that ended for `reason`, if by the peer's close frame with that code.
    pub(super) fn of(reason: Reason, code: Option<u16>) -> Self {
        let goodbye =
            reason == Reason::PeerClosed && !code.is_some_and(|code| FAULTS.contains(&code));
        let may_not_stay = matches!(
            reason,
            Reason::Disconnected
                | Reason::TokenExpired
                | Reason::TokenRevoked
                | Reason::KeyRemoved
                | Reason::CertificateRevoked
        );
        if goodbye || may_not_stay { Self::Left } else { Self::Lost }
    }

    /// The word for clients.
    fn as_str(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Lost | Self::Held(_) => "lost",
            Self::Node => "node",
        }
    }
}

/// Close codes by which a peer says that something went wrong (RFC 6455 §7.4.1): it may well come back.
const FAULTS: RangeInclusive<u16> = 1002..=1014;

/// The members of channels that are at home in this hub.
#[derive(Debug)]
pub(super) struct Presence {
    names: KeyedMap<Arc<str>, u32>,
    rosters: Slab<Roster>,
    /// Those with changes that are not told yet, each once.
    changed: Vec<u32>,
    /// Bytes that members take.
    bytes: usize,
    /// How many are held, and until when: by their channel and name.
    held: usize,
    timers: Timers<(u32, Uuid)>,
    /// Who wants to know who is in a channel, and is told when those who watch it were.
    asked: VecDeque<Asked>,
    /// Wishes that have come here.
    arrivals: u64,
    /// The bus, if there is one.
    shared: Shared,
}

/// Somebody who wants to know who is in a channel.
#[derive(Debug)]
pub(super) struct Asked {
    /// On which hub.
    pub(super) from: ShardId,
    pub(super) looker: Looker,
    pub(super) channel: Box<str>,
    pub(super) page: Page,
}

/// The changes of a channel in one turn, on their way to those who watch.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) channel: Arc<str>,
    pub(super) segment: Segment,
    /// The other hubs where somebody watches: a bit for each.
    pub(super) remote: u64,
    /// Somebody watches on this hub.
    pub(super) here: bool,
}

/// Who is to be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Page {
    /// All are counted; none is listed if this is false.
    pub(super) members: bool,
    /// Only those behind this one.
    pub(super) after: Option<Uuid>,
}

impl Presence {
    pub(super) fn new(keys: KeyedState, start: Instant) -> Self {
        Self {
            names: KeyedMap::with_hasher(keys),
            rosters: Slab::new(),
            changed: Vec::new(),
            bytes: 0,
            held: 0,
            timers: Timers::new(start),
            asked: VecDeque::new(),
            arrivals: 0,
            shared: Shared::new(start),
        }
    }

    /// Channels that anybody is in or watches.
    pub(super) fn len(&self) -> usize {
        self.rosters.len()
    }

    /// Whether there is anything to tell, or anybody asks.
    #[inline]
    pub(super) fn has_news(&self) -> bool {
        !self.changed.is_empty() || !self.asked.is_empty()
    }

    /// Whether anybody asks.
    #[inline]
    pub(super) fn is_asked(&self) -> bool {
        !self.asked.is_empty()
    }

    fn find(&self, channel: &str) -> Option<&Roster> {
        self.rosters.get(*self.names.get(channel)?)
    }

    /// Whether the channel has room for what a subscription asks for.
    pub(super) fn admit(&self, env: &Env, channel: &str, wish: &Attendance) -> Result<(), Reason> {
        if !env.config.has_presence(channel) {
            return Err(Reason::PresenceOff);
        }
        let Some(card) = &wish.card else { return Ok(()) };
        let limits = &env.config.limits.presence;
        let roster = self.find(channel);
        let known = roster.and_then(|roster| roster.bytes_of(wish.id));
        let many = roster.map_or(0, Roster::len) >= limits.presence_members_max as usize;
        let bytes = self.bytes - known.unwrap_or(0) + roster::bytes(card);
        if (many && known.is_none()) || bytes > limits.presence_bytes_max {
            return Err(Reason::PresenceFull);
        }
        Ok(())
    }

    /// A wish has come to where it may wait.
    pub(super) fn note_arrival(&mut self, wish: Option<&mut Attendance>) {
        if let Some(wish) = wish {
            self.arrivals += 1;
            wish.order = self.arrivals;
        }
    }

    /// A subscriber, which was admitted, watches from now on, and is a member or not as it wishes. Who has
    /// the name of one that is there takes its place.
    pub(super) fn enter(
        &mut self,
        env: &mut Env,
        channel: &Arc<str>,
        conn: ConnId,
        wish: Attendance,
    ) -> Attended {
        let watch = wish.watch();
        let index = self.find_or_found(env, channel);
        let members = index.and_then(|index| {
            self.change(env, index, |env, roster| {
                roster.watch(env.place.shard, conn, (wish.number, wish.id));
                match wish.card {
                    // It has waited, and who has come since counts: its connection may be gone.
                    _ if roster.is_outrun(wish.id, wish.order) => {}
                    Some(card) => roster.join(env, conn, (wish.id, wish.order), card),
                    None => roster.remove(env, wish.id, Why::Left),
                }
                u32::try_from(roster.len()).unwrap_or(u32::MAX)
            })
        });
        Attended { watch, members: members.unwrap_or_default() }
    }

    /// A subscription has ended.
    pub(super) fn leave(&mut self, env: &mut Env, channel: &str, departure: Departure) {
        let Departure { conn, number, why } = departure;
        let Some(index) = self.names.get(channel).copied() else { return };
        let held = self.change(env, index, |env, roster| {
            let id = roster.unwatch(conn, number)?;
            match why {
                Why::Held(time) => roster.hold(env, conn, id, time).map(|until| (until, id)),
                Why::Left | Why::Lost | Why::Node => {
                    roster.part(env, conn, id, why);
                    None
                }
            }
        });
        if let Some((until, id)) = held.flatten() {
            self.timers.arm(until, (index, id));
        }
    }

    /// Members that were held for as long as they are.
    pub(super) fn expire(&mut self, env: &mut Env) {
        while let Some((at, (index, id))) = self.timers.pop_due(env.now.mono) {
            if self.rosters.get(index).is_some_and(|roster| roster.is_due(id, at)) {
                self.change(env, index, |env, roster| roster.remove(env, id, Why::Lost));
            }
        }
    }

    /// When the next one was; it may have another connection by then.
    #[inline]
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Entries of members that are not held any more stay in the heap; too many of them are cleared out.
    pub(super) fn compact_timers(&mut self) {
        let rosters = &self.rosters;
        self.timers.compact(self.held, |at, (index, id)| {
            rosters.get(index).is_some_and(|roster| roster.is_due(id, at))
        });
    }

    /// A connection that was a member, and is about to be another one, is not let in: it is no member any more.
    pub(super) fn end(&mut self, env: &mut Env, channel: &str, conn: ConnId, id: Uuid) {
        let Some(index) = self.names.get(channel).copied() else { return };
        self.change(env, index, |env, roster| roster.part(env, conn, id, Why::Lost));
    }

    /// What becomes of the member of this name if it has no connection any more: nobody comes back, or that may take so long
    /// from now on.
    pub(super) fn settle_held(&mut self, env: &mut Env, channel: &str, id: Uuid, why: Why) {
        let Some(index) = self.names.get(channel).copied() else { return };
        let until = self.change(env, index, |env, roster| match why {
            _ if !roster.is_held(id) => None,
            Why::Held(time) => roster.hold_on(env, id, time),
            Why::Left | Why::Lost | Why::Node => {
                roster.remove(env, id, why);
                None
            }
        });
        if let Some(until) = until.flatten() {
            self.timers.arm(until, (index, id));
        }
    }

    /// A new configuration is in force: where there is no presence any more, there are no members.
    pub(super) fn review(&mut self, env: &mut Env) {
        let indices: Vec<u32> = self.rosters.indices().collect();
        for index in indices {
            let name = self.rosters.get(index).map(|roster| roster.name.clone());
            if name.is_some_and(|name| !env.config.has_presence(&name)) {
                self.change(env, index, |env, roster| roster.clear(env));
            }
        }
    }

    fn find_or_found(&mut self, env: &Env, channel: &Arc<str>) -> Option<u32> {
        if let Some(index) = self.names.get(channel) {
            return Some(*index);
        }
        let (index, _) = self.rosters.insert(Roster::new(channel.clone(), env.place.shards))?;
        self.names.insert(channel.clone(), index);
        Some(index)
    }

    /// Changes a roster, and keeps account of it.
    fn change<T>(
        &mut self,
        env: &mut Env,
        index: u32,
        edit: impl FnOnce(&mut Env, &mut Roster) -> T,
    ) -> Option<T> {
        let roster = self.rosters.get_mut(index)?;
        let (here, bytes, held) = (roster.here(), roster.bytes(), roster.held());
        let result = edit(env, roster);
        env.tally.presence_members += roster.here() as i64 - here as i64;
        self.bytes = self.bytes + roster.bytes() - bytes;
        self.held = self.held + roster.held() - held;
        if roster.is_unused() {
            self.names.remove(&roster.name);
            self.rosters.remove(index);
            return Some(result);
        }
        if roster.lists_itself() {
            self.changed.push(index);
        }
        if env.config.bus.is_some() {
            self.queue(index);
        }
        Some(result)
    }

    /// What has changed since the last time, for those who watch. Channels that are watched on one of the hubs of the mask
    /// `full` wait.
    pub(super) fn tell(&mut self, env: &mut Env, full: u64) -> Vec<Told> {
        let mut told = Vec::new();
        for index in std::mem::take(&mut self.changed) {
            let Some(roster) = self.rosters.get_mut(index) else { continue };
            if roster.remote() & full != 0 {
                self.changed.push(index);
            } else {
                told.extend(roster.tell(env));
            }
        }
        told
    }

    /// Somebody wants to know who is in a channel.
    pub(super) fn ask(&mut self, asked: Asked) {
        self.asked.push_back(asked);
    }

    /// The next one to be told. What has changed was [told](Self::tell) before.
    pub(super) fn next_asked(&mut self) -> Option<Asked> {
        self.asked.pop_front()
    }

    /// Whether the members of a channel are not what those who watch it were told, because a hub takes nothing in.
    pub(super) fn is_held_back(&self, channel: &str) -> bool {
        self.find(channel).is_some_and(Roster::has_changed)
    }

    /// Who is in a channel, as the JSON that answers `get_presence`.
    pub(super) fn list(&self, env: &Env, channel: &str, page: Page) -> Box<str> {
        let bytes_max = env.config.limits.delivery.outbox_bytes_max / 4;
        let roster = self.find(channel);
        roster::list(roster, channel, page, bytes_max, self.is_whole(env, roster))
    }

    /// Every count equals what it counts.
    #[cfg(debug_assertions)]
    pub(super) fn check(&self, own: ShardId) {
        assert_eq!(self.names.len(), self.rosters.len(), "names of channels with presence");
        let all = || self.rosters.indices().filter_map(|index| self.rosters.get(index));
        assert_eq!(self.held, all().map(Roster::held).sum::<usize>(), "members that are held");
        assert_eq!(self.bytes, all().map(Roster::bytes).sum::<usize>(), "bytes of members");
        all().for_each(|roster| roster.check(own));
    }
}

/// The bit of a hub in a mask of other hubs.
fn other(own: ShardId, shard: ShardId) -> u64 {
    if shard == own { 0 } else { bit(shard) }
}
