//! Members on all nodes: which channels the bus is asked and told about, and when.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use super::{
    Presence,
    roster::{KEPT, Own, Phase, Roster},
};
use crate::{
    hub::{
        bus::{
            Alive, BusCommand, BusError, CallId, Calls, NodeId, PresenceChanged, PresenceMembers,
            PresenceNews,
        },
        env::Env,
        follow::Parked,
    },
    time::Instant,
};

/// What all channels have to do with the bus.
#[derive(Debug)]
pub(super) struct Shared {
    /// The bus is there.
    up: bool,
    /// About which channel a call is that is not answered.
    calls: BTreeMap<CallId, At>,
    /// Channels whose members are to be read.
    to_read: VecDeque<At>,
    /// How many are being read.
    reads: usize,
    /// Channels of which the bus is to be told.
    to_tell: VecDeque<At>,
    /// Of how many it is being told.
    tells: usize,
    /// Channels of which the bus could take nothing; it is tried again when it takes something.
    refused: Vec<At>,
    /// Channels whose members the bus has lost, by when they are not waited for any more.
    doubts: VecDeque<(Instant, At)>,
    /// Channels with somebody who waits, by when that is long enough.
    waiting: VecDeque<(Instant, At)>,
    waiting_bytes: usize,
    /// Those who need not wait any more.
    ready: VecDeque<Parked>,
    /// When the bus is told of all channels with members here, so that it does not forget them.
    renew_at: Instant,
    /// The present life of this process.
    own: Option<NodeId>,
    /// The other nodes with members here.
    nodes: BTreeMap<NodeId, Met>,
    /// Nodes that are gone, the latest last.
    past: VecDeque<NodeId>,
    /// Until then nobody counts as gone: the bus may have lost the leases.
    patient_until: Option<Instant>,
}

/// A channel by its place and generation.
type At = (u32, u32);

/// Another node with members here.
#[derive(Clone, Copy, Debug)]
struct Met {
    /// It was known to have a lease.
    leased: bool,
    since: Instant,
}

impl Shared {
    pub(super) fn new(start: Instant) -> Self {
        Self {
            up: false,
            calls: BTreeMap::new(),
            to_read: VecDeque::new(),
            reads: 0,
            to_tell: VecDeque::new(),
            tells: 0,
            refused: Vec::new(),
            doubts: VecDeque::new(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            ready: VecDeque::new(),
            renew_at: start + KEPT / 2,
            own: None,
            nodes: BTreeMap::new(),
            past: VecDeque::new(),
            patient_until: None,
        }
    }

    fn note_past(&mut self, node: NodeId) {
        if !self.past.contains(&node) {
            if self.past.len() >= PAST_MAX {
                self.past.pop_front();
            }
            self.past.push_back(node);
        }
    }
}

/// Interest.
impl Presence {
    /// Somebody is interested in the members of a channel that is followed: they are read, if they are not known.
    pub(in crate::hub) fn prepare(&mut self, env: &Env, channel: &Arc<str>) {
        let Some(index) = self.find_or_found(env, channel) else { return };
        if let Some(roster) = self.rosters.get_mut(index) {
            roster.bond.followed = true;
        }
        self.wish_to_read(index, false);
    }

    /// It is not followed any more.
    pub(in crate::hub) fn unfollow(&mut self, env: &mut Env, channel: &str) {
        if let Some(index) = self.names.get(channel).copied() {
            self.change(env, index, |env, roster| roster.unfollow(env));
        }
    }

    /// Lets somebody wait until the members of a channel are known, if they are about to be. Given back if not.
    pub(in crate::hub) fn park(&mut self, env: &Env, parked: Parked) -> Option<Parked> {
        let index = self.names.get(parked.channel()).copied();
        let found = index.zip(index.and_then(|index| self.rosters.generation(index)));
        let max = env.config.limits.bus.bus_waiting_bytes_max;
        let bytes = parked.weight();
        let roster = found.and_then(|(index, _)| self.rosters.get_mut(index));
        let Some((roster, at)) = roster.zip(found) else { return Some(parked) };
        let comes = self.shared.up && roster.bond.followed && roster.bond.phase != Phase::Known;
        if !comes || self.shared.waiting_bytes + bytes > max {
            return Some(parked);
        }
        self.shared.waiting_bytes += bytes;
        let time = env.config.bus.as_ref().map(|bus| bus.queue_time).unwrap_or_default();
        if roster.bond.waiting.is_empty() {
            self.shared.waiting.push_back((env.now.mono + time, at));
        }
        roster.bond.waiting.push_back(parked);
        None
    }

    /// The next who need not wait any more.
    pub(in crate::hub) fn next_ready(&mut self) -> Option<Parked> {
        self.shared.ready.pop_front()
    }

    fn release(&mut self, index: u32) {
        let Some(roster) = self.rosters.get_mut(index) else { return };
        for parked in std::mem::take(&mut roster.bond.waiting) {
            self.shared.waiting_bytes -= parked.weight();
            self.shared.ready.push_back(parked);
        }
    }

    /// Whether all members of a channel on all nodes are known.
    pub(super) fn is_whole(&self, env: &Env, roster: Option<&Roster>) -> bool {
        env.config.bus.is_none()
            || self.shared.up && roster.is_some_and(|roster| roster.bond.is_whole())
    }
}

/// The bus.
impl Presence {
    pub(in crate::hub) fn on_up(&mut self) {
        self.shared.up = true;
        let indices: Vec<u32> = self.rosters.indices().collect();
        indices.into_iter().for_each(|index| self.queue(index));
    }

    /// The bus is away; what was under way was answered before.
    pub(in crate::hub) fn on_down(&mut self) {
        let shared = &mut self.shared;
        shared.up = false;
        shared.to_read.clear();
        shared.to_tell.clear();
        shared.refused.clear();
        shared.waiting.clear();
        let indices: Vec<u32> = self.rosters.indices().collect();
        for index in indices {
            if let Some(roster) = self.rosters.get_mut(index) {
                roster.bond.phase = Phase::Unknown;
                roster.bond.queued = false;
            }
            self.release(index);
        }
    }

    /// The bus takes something in.
    pub(in crate::hub) fn retry(&mut self) {
        for (index, generation) in std::mem::take(&mut self.shared.refused) {
            if self.rosters.get_at(index, generation).is_some() {
                self.queue(index);
            }
        }
    }

    /// Everything that comes of a channel from now on is heard. From time to time that is said again: something may have been
    /// missed.
    pub(in crate::hub) fn on_standing(&mut self, channel: &str) {
        if let Some(index) = self.names.get(channel).copied() {
            self.wish_to_read(index, true);
        }
    }

    /// A channel's members have changed.
    pub(in crate::hub) fn on_news(&mut self, env: &mut Env, channel: &str, news: PresenceNews) {
        let Some(index) = self.names.get(channel).copied() else { return };
        let known = |roster: &Roster| roster.bond.phase == Phase::Known;
        if self.rosters.get(index).is_some_and(known)
            && self.take(env, index, |env, own, roster| roster.take_news(env, own, news))
                == Some(false)
        {
            self.wish_to_read(index, true);
        }
    }

    /// What the bus was told, or was asked, is answered.
    pub(in crate::hub) fn on_attended(
        &mut self,
        env: &mut Env,
        id: CallId,
        result: Result<PresenceChanged, BusError>,
    ) {
        let Some((index, generation)) = self.shared.calls.remove(&id) else { return };
        self.shared.tells -= 1;
        if self.rosters.get_at(index, generation).is_none() {
            return;
        }
        match result {
            Ok(_) => drop(self.change(env, index, |_, roster| roster.on_changed(id, result))),
            Err(error) => {
                if let Some(roster) = self.rosters.get_mut(index) {
                    roster.on_changed(id, result);
                }
                // What failed is not tried again at once, but with the next change, or when the bus is told of all.
                if error != BusError::Failed {
                    self.shared.refused.push((index, generation));
                }
            }
        }
    }

    /// A channel's members have come.
    pub(in crate::hub) fn on_members(
        &mut self,
        env: &mut Env,
        id: CallId,
        result: Result<PresenceMembers, BusError>,
    ) {
        let Some((index, generation)) = self.shared.calls.remove(&id) else { return };
        self.shared.reads -= 1;
        let Some(roster) = self.rosters.get_at_mut(index, generation) else { return };
        if roster.bond.phase != Phase::Reading(id) {
            return;
        }
        // If nothing comes of it, it is read the next time that it is told where the channel stands.
        roster.bond.phase = Phase::Unknown;
        let Ok(page) = result else { return };
        let doubted = roster.bond.doubt.is_some();
        let lasting = env.now.mono + lease(env);
        self.take(env, index, |env, own, roster| roster.take_members(env, own, page, lasting));
        let Some(roster) = self.rosters.get_at_mut(index, generation) else { return };
        if !doubted && roster.bond.doubt.is_some() {
            self.shared.doubts.push_back((lasting, (index, generation)));
        }
        if std::mem::take(&mut roster.bond.again) {
            self.wish_to_read(index, false);
        }
        self.release(index);
    }

    /// Changes what is known of a channel's members on other nodes.
    fn take<T>(
        &mut self,
        env: &mut Env,
        index: u32,
        edit: impl FnOnce(&mut Env, &Own<'_>, &mut Roster) -> T,
    ) -> Option<T> {
        let node = self.shared.own?;
        let roster = self.rosters.get(index)?;
        if !env.config.has_presence(&roster.name) {
            // It was switched off here, and not everywhere yet.
            return None;
        }
        let others = self.bytes - roster.bytes();
        let room = env.config.limits.presence.presence_bytes_max.saturating_sub(others);
        let past = std::mem::take(&mut self.shared.past);
        let own = Own { node, past: &past, room };
        let result = self.change(env, index, |env, roster| edit(env, &own, roster));
        self.shared.past = past;
        result
    }
}

/// Lines.
impl Presence {
    /// A channel's members are to be read as soon as it is its turn. `anew`: also if they are known.
    fn wish_to_read(&mut self, index: u32, anew: bool) {
        let Some(generation) = self.rosters.generation(index) else { return };
        let Some(roster) = self.rosters.get_mut(index) else { return };
        let bond = &mut roster.bond;
        match bond.phase {
            _ if !self.shared.up || !bond.followed => {}
            Phase::Known if !anew => {}
            Phase::Unknown | Phase::Known => {
                bond.phase = Phase::Queued;
                self.shared.to_read.push_back((index, generation));
            }
            Phase::Reading(_) => bond.again |= anew,
            Phase::Queued => {}
        }
    }

    /// Has the bus told of a channel, if there is something to tell.
    pub(super) fn queue(&mut self, index: u32) {
        let Some(generation) = self.rosters.generation(index) else { return };
        let Some(roster) = self.rosters.get_mut(index) else { return };
        if self.shared.up && roster.bond.wants_turn() {
            roster.bond.queued = true;
            self.shared.to_tell.push_back((index, generation));
        }
    }

    /// Whether the bus is to be asked or told something.
    #[inline]
    pub(in crate::hub) fn is_bus_ready(&self) -> bool {
        let Shared { to_read, reads, to_tell, tells, .. } = &self.shared;
        !to_tell.is_empty() && *tells < TELLS_MAX || !to_read.is_empty() && *reads < READS_MAX
    }

    /// Tells the bus what has changed, and asks it for what is to be known.
    pub(in crate::hub) fn tell_bus(
        &mut self,
        env: &mut Env,
        calls: &mut Calls,
        own: NodeId,
        alive: &Alive,
    ) {
        let node = *self.shared.own.get_or_insert(own);
        while self.shared.tells < TELLS_MAX
            && let Some(at) = self.shared.to_tell.pop_front()
        {
            let Some(roster) = self.rosters.get_at_mut(at.0, at.1) else { continue };
            let id = calls.name();
            if let Some(change) = roster.change(env, id, node, alive) {
                self.shared.calls.insert(id, at);
                self.shared.tells += 1;
                calls.send(BusCommand::Attend(Box::new(change)));
            }
        }
        while self.shared.reads < READS_MAX
            && let Some(at) = self.shared.to_read.pop_front()
        {
            let Some(roster) = self.rosters.get_at_mut(at.0, at.1) else { continue };
            if roster.bond.phase != Phase::Queued {
                continue;
            }
            let id = calls.name();
            roster.bond.phase = Phase::Reading(id);
            let (channel, known) = (roster.name.clone(), roster.bond.known);
            self.shared.calls.insert(id, at);
            self.shared.reads += 1;
            let (alive, bytes_max) = (alive.clone(), READ_BYTES_MAX);
            calls.send(BusCommand::Members { id, channel, known, alive, bytes_max });
        }
    }

    /// Whether something is on its way to the bus, or is to be.
    pub(in crate::hub) fn owes_the_bus(&self) -> bool {
        self.shared.up && (self.shared.tells > 0 || !self.shared.to_tell.is_empty())
    }

    pub(in crate::hub) fn next_bus_deadline(&self) -> Option<Instant> {
        let Shared { doubts, waiting, renew_at, .. } = &self.shared;
        let first = |line: &VecDeque<(Instant, At)>| line.front().map(|(at, _)| *at);
        let renewal = Some(*renew_at).filter(|_| self.rosters.len() > 0);
        [first(doubts), first(waiting), renewal].into_iter().flatten().min()
    }

    /// What is due about the bus.
    pub(in crate::hub) fn on_bus_time(&mut self, now: Instant) {
        while let Some((_, at)) = self.shared.waiting.pop_front_if(|(at, _)| *at <= now) {
            if self.rosters.get_at(at.0, at.1).is_some() {
                self.release(at.0);
            }
        }
        while let Some((_, at)) = self.shared.doubts.pop_front_if(|(at, _)| *at <= now) {
            if let Some(roster) = self.rosters.get_at_mut(at.0, at.1) {
                // Whoever is not named by now is gone.
                (roster.bond.doubt, roster.bond.known) = (None, None);
                self.wish_to_read(at.0, true);
            }
        }
        if self.shared.renew_at <= now {
            self.shared.renew_at = now + KEPT / 2;
            let indices: Vec<u32> = self.rosters.indices().collect();
            for index in indices {
                if let Some(roster) = self.rosters.get_mut(index) {
                    roster.bond.renew |= roster.has_own();
                    self.queue(index);
                }
            }
        }
    }
}

/// Nodes.
impl Presence {
    /// Who is there, and who has gone: `own` is this process.
    pub(in crate::hub) fn take_roll(
        &mut self,
        env: &mut Env,
        own: NodeId,
        ids: &[NodeId],
        gone: &[NodeId],
    ) {
        let now = env.now.mono;
        if let Some(before) = self.shared.own.replace(own).filter(|before| *before != own) {
            // The bus may have lost all leases, and not only this one.
            self.shared.patient_until = Some(now + lease(env));
            self.shared.note_past(before);
            let indices: Vec<u32> = self.rosters.indices().collect();
            for index in indices {
                self.change(env, index, |_, roster| roster.put_all());
            }
        }
        if self.shared.patient_until.is_some_and(|until| now < until) {
            return;
        }
        self.shared.patient_until = None;
        gone.iter().for_each(|node| self.shared.note_past(*node));
        let clean = ids.first() == Some(&own);
        for node in self.review_nodes(env, ids, gone) {
            self.shared.note_past(node);
            let indices: Vec<u32> = self.rosters.indices().collect();
            for index in indices {
                self.change(env, index, |env, roster| roster.purge(env, node, clean));
            }
        }
    }

    /// Which of the other nodes with members here are gone.
    fn review_nodes(&mut self, env: &Env, ids: &[NodeId], gone: &[NodeId]) -> Vec<NodeId> {
        let now = env.now.mono;
        let rosters = self.rosters.indices().filter_map(|index| self.rosters.get(index));
        let mut nodes = BTreeMap::new();
        for node in rosters.flat_map(Roster::nodes) {
            let met = self.shared.nodes.get(&node).copied();
            let met = met.unwrap_or(Met { leased: false, since: now });
            let leased = met.leased || ids.contains(&node) || gone.contains(&node);
            nodes.insert(node, Met { leased, ..met });
        }
        let grace = lease(env) * 2;
        // One of which nobody has heard may be new.
        let is_over = |met: &Met| met.leased || met.since + grace <= now;
        let over = nodes.iter().filter(|(node, met)| !ids.contains(node) && is_over(met));
        let over = over.map(|(node, _)| *node).collect();
        self.shared.nodes = nodes;
        over
    }
}

fn lease(env: &Env) -> Duration {
    env.config.bus.as_ref().map(|bus| bus.lease).unwrap_or_default()
}

/// Channels of which the bus is told at a time; others wait for their turn.
const TELLS_MAX: usize = 64;
/// Channels whose members are read at a time; others wait for their turn.
const READS_MAX: usize = 8;
/// So many bytes of members of a channel are read. Those behind them are not known here, and the list is not complete.
const READ_BYTES_MAX: usize = 4 << 20;
/// So many nodes that are gone are remembered, the latest.
const PAST_MAX: usize = 64;
