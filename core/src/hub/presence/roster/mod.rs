//! One channel's members, those who watch, and what they are not told yet.

mod bond;
mod elsewhere;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use uuid::Uuid;

use self::bond::Bond;
pub(super) use self::{
    bond::Phase,
    elsewhere::{KEPT, Own},
};
use super::{Card, Page, Told, Why, other};
use crate::{
    hub::{
        bus::{NodeId, PresenceAbsence},
        env::Env,
        peers::bit,
        types::{ConnId, ShardId},
    },
    limits::Limits,
    metrics::PresenceEvent,
    protocol::{self, Departed, Envelope, PresenceChanges, Stamp, Timestamp},
    time::Instant,
    ws::{self, Segment},
};

/// Exists while anybody is a member or watches.
#[derive(Debug)]
pub(super) struct Roster {
    pub(super) name: Arc<str>,
    /// By the connections' public names: an order that a list can be continued in.
    members: BTreeMap<Uuid, Member>,
    /// Bytes that they take.
    bytes: usize,
    /// How many of them are held.
    held: usize,
    /// How many are this node's.
    here: usize,
    /// How many each of the other nodes has.
    there: BTreeMap<NodeId, u32>,
    /// The bus, if there is one.
    pub(super) bond: Bond,
    /// Connections that watch, with the number of the subscription by which they do and their public names. Every member
    /// with a connection is among them.
    watchers: BTreeMap<ConnId, (u64, Uuid)>,
    /// How many there are on each hub.
    by_shard: Vec<u32>,
    /// The other hubs with any: a bit for each.
    remote: u64,
    changes: Changes,
}

/// A member of this node or of another one; of both while one of them takes it over.
#[derive(Debug)]
struct Member {
    here: Option<Here>,
    /// The other node whose it is.
    there: Option<NodeId>,
    /// Until then, by the wall clock, it is held there: should that node be gone, it stays.
    held_there: Option<Duration>,
    card: Card,
    /// What it says of itself there, if that is something else than here.
    other: Option<Box<Card>>,
    /// Since when, counted from the Unix epoch.
    since: Duration,
}

/// A member of this node.
#[derive(Clone, Copy, Debug)]
struct Here {
    /// The connection whose it is, or was.
    conn: ConnId,
    /// Its wish's place among those that have come.
    order: u64,
    /// Its connection is gone: so long another one may take its place.
    held: Option<Instant>,
    /// Under which name of this process the bus may have it.
    put: Option<NodeId>,
    /// The bus may have it as one that is held.
    put_held: bool,
}

/// What those who watch are not told yet: each change as a frame, or when there are too many of them only how many.
#[derive(Debug, Default)]
struct Changes {
    frames: Vec<u8>,
    messages: u32,
    /// Where the last frame begins.
    last: u32,
    joined: u32,
    left: u32,
    /// They are only counted.
    many: bool,
    /// The department's list has the channel.
    listed: bool,
}

impl Roster {
    pub(super) fn new(name: Arc<str>, shards: u16) -> Self {
        Self {
            name,
            members: BTreeMap::new(),
            bytes: 0,
            held: 0,
            here: 0,
            there: BTreeMap::new(),
            bond: Bond::default(),
            watchers: BTreeMap::new(),
            by_shard: vec![0; usize::from(shards.max(1))],
            remote: 0,
            changes: Changes::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// How many of them are this node's.
    pub(super) fn here(&self) -> usize {
        self.here
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of one member, if it is there.
    pub(super) fn bytes_of(&self, id: Uuid) -> Option<usize> {
        self.members.get(&id).map(|member| bytes(&member.card))
    }

    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Until when a member is held whose connection is gone.
    fn held_until(&self, id: Uuid) -> Option<Instant> {
        self.members.get(&id)?.here?.held
    }

    /// Whether a member is there whose connection is gone.
    pub(super) fn is_held(&self, id: Uuid) -> bool {
        self.held_until(id).is_some()
    }

    /// Whether a member was held long enough at `at`.
    pub(super) fn is_due(&self, id: Uuid, at: Instant) -> bool {
        self.held_until(id).is_some_and(|until| until <= at)
    }

    pub(super) fn remote(&self) -> u64 {
        self.remote
    }

    pub(super) fn is_unused(&self) -> bool {
        self.members.is_empty() && self.watchers.is_empty() && self.bond.is_idle()
    }

    /// Whether there is anything to tell.
    pub(super) fn has_changed(&self) -> bool {
        self.changes.messages > 0 || self.changes.many
    }

    /// Whether it is to be put on the list of those with changes: once.
    pub(super) fn lists_itself(&mut self) -> bool {
        self.has_changed() && !std::mem::replace(&mut self.changes.listed, true)
    }

    /// A connection is told who comes and goes from now on, by a subscription of this number.
    pub(super) fn watch(&mut self, own: ShardId, conn: ConnId, by: (u64, Uuid)) {
        if self.watchers.insert(conn, by).is_none()
            && let Some(count) = self.by_shard.get_mut(usize::from(conn.shard.0))
        {
            *count += 1;
            self.remote |= other(own, conn.shard);
        }
    }

    /// A connection is told no more, if that was by the subscription of this number. Its public name, if so.
    pub(super) fn unwatch(&mut self, conn: ConnId, number: u64) -> Option<Uuid> {
        let (_, id) = self.watchers.get(&conn).copied().filter(|(by, _)| *by == number)?;
        self.watchers.remove(&conn);
        if let Some(count) = self.by_shard.get_mut(usize::from(conn.shard.0)) {
            *count -= 1;
            if *count == 0 {
                self.remote &= !bit(conn.shard);
            }
        }
        Some(id)
    }

    #[cfg(test)]
    pub(super) fn watches(&self, conn: ConnId) -> bool {
        self.watchers.contains_key(&conn)
    }

    /// Whether a member of this name has a connection here whose wish came after the one of this place.
    pub(super) fn is_outrun(&self, id: Uuid, order: u64) -> bool {
        let here = self.members.get(&id).and_then(|member| member.here);
        here.is_some_and(|here| here.order > order)
    }

    /// A connection is a member from now on. If there is one of that name, it is this one, with another connection, perhaps
    /// from another node, or with something else to say.
    pub(super) fn join(
        &mut self,
        env: &mut Env,
        conn: ConnId,
        (id, order): (Uuid, u64),
        card: Card,
    ) {
        let shared = env.config.bus.is_some();
        // The bus may still have what it was before.
        let before = self.bond.gone.remove(&id).map(|absence| absence.node);
        let mut member = match self.members.remove(&id) {
            Some(known) => {
                let was = known.here;
                self.held -= usize::from(was.is_some_and(|here| here.held.is_some()));
                self.here += usize::from(was.is_none());
                let put = was.and_then(|here| here.put).or(before);
                let here = Some(Here { conn, order, held: None, put, put_held: false });
                let same = known.card == card;
                if shared && (!same || was.is_none_or(|here| here.put_held)) {
                    self.bond.put(id);
                }
                let mut member = Member { here, ..known };
                if was.is_none() && !same {
                    member.other = Some(Box::new(member.card.clone()));
                }
                if same {
                    self.members.insert(id, member);
                    return;
                }
                self.bytes -= bytes(&member.card);
                member
            }
            None => {
                env.tally.presence(PresenceEvent::Joined);
                self.here += 1;
                if shared {
                    self.bond.put(id);
                }
                let here = Some(Here { conn, order, held: None, put: before, put_held: false });
                let (card, since) = (card.clone(), env.now.unix);
                Member { here, there: None, held_there: None, card, other: None, since }
            }
        };
        member.card = card;
        self.bytes += bytes(&member.card);
        self.tell_joined(env, id, &member.card, member.since);
        self.members.insert(id, member);
    }

    fn tell_joined(&mut self, env: &mut Env, id: Uuid, card: &Card, since: Duration) {
        self.note(env, true, |stamp, name, out| {
            let since = Timestamp::from_unix(since);
            Envelope::presence_joined(stamp, name, card.told(id, &since)).write(out);
        });
    }

    fn tell_left(&mut self, env: &mut Env, id: Uuid, card: &Card, why: Why) {
        self.note(env, false, |stamp, name, out| {
            let (user_id, reason) = (card.user.as_deref(), why.as_str());
            let departed = Departed { connection_id: id, user_id, reason };
            Envelope::presence_left(stamp, name, departed).write(out);
        });
    }

    /// The member of this node of that name, if the connection is its.
    fn of(&mut self, conn: ConnId, id: Uuid) -> Option<&mut Here> {
        let here = self.members.get_mut(&id)?.here.as_mut()?;
        Some(here).filter(|here| here.conn == conn)
    }

    /// A connection is gone, and the member that it was stays for that time, if it was one. Until when.
    pub(super) fn hold(
        &mut self,
        env: &Env,
        conn: ConnId,
        id: Uuid,
        time: Duration,
    ) -> Option<Instant> {
        let until = env.now.mono + time;
        let before = self.of(conn, id)?.held.replace(until);
        self.held += usize::from(before.is_none());
        self.tell_held(env, id, time);
        Some(until)
    }

    /// A member that is held stays for that time. Until when.
    pub(super) fn hold_on(&mut self, env: &Env, id: Uuid, time: Duration) -> Option<Instant> {
        let until = env.now.mono + time;
        *self.members.get_mut(&id)?.here.as_mut()?.held.as_mut()? = until;
        self.tell_held(env, id, time);
        Some(until)
    }

    /// The other nodes are to hold it, too, if this one goes.
    fn tell_held(&mut self, env: &Env, id: Uuid, time: Duration) {
        if env.config.bus.is_some() && time > HOLD_TOLD {
            self.bond.put(id);
        }
    }

    /// A connection is no member any more, if it was one and no other has taken its place.
    pub(super) fn part(&mut self, env: &mut Env, conn: ConnId, id: Uuid, why: Why) {
        if self.of(conn, id).is_some() {
            self.remove(env, id, why);
        }
    }

    /// This node has no member of that name any more, whose ever it was. If another node has taken it over, it still is one.
    pub(super) fn remove(&mut self, env: &mut Env, id: Uuid, why: Why) {
        let Some(member) = self.members.get_mut(&id) else { return };
        let Some(here) = member.here.take() else { return };
        let is_there = member.there.is_some();
        self.here -= 1;
        self.held -= usize::from(here.held.is_some());
        self.bond.due.remove(&id);
        self.bond.refused.remove(&id);
        if let Some(node) = here.put {
            let absence = PresenceAbsence { member: id, node, why: why.into() };
            self.bond.gone.insert(id, absence);
        }
        if is_there {
            return self.become_other(env, id);
        }
        if let Some(member) = self.members.remove(&id) {
            env.tally.presence(PresenceEvent::Left);
            self.bytes -= bytes(&member.card);
            self.tell_left(env, id, &member.card, why);
        }
    }

    /// There are no members any more.
    pub(super) fn clear(&mut self, env: &mut Env) {
        while let Some(id) = self.members.keys().next().copied() {
            self.remove(env, id, Why::Left);
            self.remove_there(env, id, Why::Left);
        }
    }

    /// Notes a change for those who watch; `write` writes the event.
    fn note(
        &mut self,
        env: &mut Env,
        joined: bool,
        write: impl FnOnce(Stamp<'_>, &str, &mut Vec<u8>),
    ) {
        if self.watchers.is_empty() {
            return;
        }
        let changes = &mut self.changes;
        *(if joined { &mut changes.joined } else { &mut changes.left }) += 1;
        if changes.many {
            return;
        }
        let timestamp = env.timestamp();
        let stamp = env.stamp(&timestamp);
        env.scratch.clear();
        write(stamp, &self.name, &mut env.scratch);
        changes.add(&env.config.limits, &env.scratch);
    }

    /// What those who watch are told, if there is anything.
    pub(super) fn tell(&mut self, env: &mut Env) -> Option<Told> {
        let Changes { mut frames, mut messages, mut last, joined, left, many, listed: _ } =
            std::mem::take(&mut self.changes);
        if messages == 0 && !many {
            return None;
        }
        if many {
            let count = Some(self.members.len() as u64);
            let changes =
                PresenceChanges { count, joined: Some(joined.into()), left: Some(left.into()) };
            let timestamp = env.timestamp();
            let stamp = env.stamp(&timestamp);
            env.scratch.clear();
            Envelope::presence_changed(stamp, &self.name, changes).write(&mut env.scratch);
            frames = Vec::with_capacity(ws::frame_len(env.scratch.len(), false));
            ws::encode_text(&mut frames, &env.scratch);
            (messages, last) = (1, 0);
            env.tally.presence(PresenceEvent::Changed);
        }
        let own = usize::from(env.place.shard.0);
        Some(Told {
            channel: self.name.clone(),
            segment: Segment::new(frames, messages, Segment::NO_TAG, last),
            remote: self.remote,
            here: self.by_shard.get(own).is_some_and(|own| *own > 0),
        })
    }

    /// Every count equals what it counts.
    #[cfg(debug_assertions)]
    pub(super) fn check(&self, own: ShardId) {
        let name = &self.name;
        assert!(!self.is_unused(), "{name} has neither members nor anybody who watches");
        let bytes = self.members.values().map(|member| bytes(&member.card));
        assert_eq!(self.bytes, bytes.sum::<usize>(), "bytes of members of {name}");
        let here = || self.members.values().filter_map(|member| member.here.as_ref());
        assert_eq!(self.here, here().count(), "members of {name} on this node");
        let held = here().filter(|here| here.held.is_some());
        assert_eq!(self.held, held.count(), "members of {name} that are held");
        let mut there = BTreeMap::new();
        for node in self.members.values().filter_map(|member| member.there) {
            *there.entry(node).or_insert(0) += 1;
        }
        assert_eq!(self.there, there, "members of {name} on other nodes");
        let somewhere = |member: &Member| member.here.is_some() || member.there.is_some();
        assert!(self.members.values().all(somewhere), "members of {name} that are nowhere");
        let mut by_shard = vec![0; self.by_shard.len()];
        for conn in self.watchers.keys() {
            if let Some(count) = by_shard.get_mut(usize::from(conn.shard.0)) {
                *count += 1;
            }
        }
        assert_eq!(self.by_shard, by_shard, "who watches {name}");
        let shards = by_shard.iter().zip(0..).filter(|(count, _)| **count > 0);
        let remote = shards.fold(0, |mask, (_, at)| mask | other(own, ShardId(at)));
        assert_eq!(self.remote, remote, "hubs where {name} is watched");
        assert!(!self.has_changed() || self.changes.listed, "changes of {name} are listed");
    }
}

impl Card {
    fn told<'a>(&'a self, id: Uuid, since: &'a Timestamp) -> protocol::Member<'a> {
        protocol::Member {
            connection_id: id,
            user_id: self.user.as_deref(),
            info: self.info.as_deref(),
            since,
        }
    }
}

impl Changes {
    /// Adds an event, or gives up telling them one by one.
    fn add(&mut self, limits: &Limits, event: &[u8]) {
        let bytes = self.frames.len() + ws::frame_len(event.len(), false);
        if self.messages >= limits.presence.presence_changes_max
            || bytes > limits.delivery.outbox_bytes_max / 4
        {
            self.many = true;
            self.frames = Vec::new();
            return;
        }
        self.last = u32::try_from(self.frames.len()).unwrap_or(u32::MAX);
        self.messages += 1;
        ws::encode_text(&mut self.frames, event);
    }
}

/// Of a member that is held for so short a time the bus is not told: its connection is about to be there again.
const HOLD_TOLD: Duration = Duration::from_secs(2);

/// Bytes that a member takes.
pub(super) fn bytes(card: &Card) -> usize {
    MEMBER_BYTES + card.weight()
}

/// A member and its connection, in tables that are not full.
const MEMBER_BYTES: usize = 2 * size_of::<(Uuid, Member, ConnId, u64, Uuid)>();

/// The JSON of who is in a channel: in one answer only so many bytes of it, but at least one member. `whole`: all there are
/// are known here.
pub(super) fn list(
    roster: Option<&Roster>,
    channel: &str,
    page: Page,
    bytes_max: usize,
    whole: bool,
) -> Box<str> {
    let mut out = Vec::new();
    out.extend_from_slice(b"{\"channel\":");
    protocol::write_string(&mut out, channel);
    out.extend_from_slice(format!(",\"count\":{}", roster.map_or(0, Roster::len)).as_bytes());
    if page.members {
        out.extend_from_slice(b",\"members\":[");
        let begins = out.len();
        let behind = |id: &Uuid| page.after.is_none_or(|after| *id > after);
        let from = page.after.unwrap_or(Uuid::nil());
        let rest = roster.into_iter().flat_map(|roster| roster.members.range(from..));
        let mut complete = true;
        for (id, member) in rest.filter(|(id, _)| behind(id)) {
            let before = out.len();
            if before > begins {
                out.push(b',');
            }
            member.card.told(*id, &Timestamp::from_unix(member.since)).write(&mut out);
            if out.len() > bytes_max && before > begins {
                out.truncate(before);
                complete = false;
                break;
            }
        }
        // Who asks for the rest until there is none comes to an end.
        complete &= whole || page.after.is_some() && out.len() == begins;
        out.extend_from_slice(b"],\"complete\":");
        out.extend_from_slice(if complete { b"true" } else { b"false" });
    } else if !whole {
        out.extend_from_slice(b",\"complete\":false");
    }
    out.push(b'}');
    String::from_utf8(out).unwrap_or_default().into()
}
