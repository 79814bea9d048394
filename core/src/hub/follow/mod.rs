//! Channels that this hub follows on its bus: how far each has come in learning what the bus has, who waits for that, and
//! what came behind a hole. What is kept of a channel is its home's.

mod parked;
mod reach;
mod verdict;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use uuid::Uuid;

pub(super) use self::{
    parked::{Parked, Waits},
    reach::{Part, Reach},
    verdict::{Round, Verdict, has_begun_anew, judge, last, messages},
};
use super::{
    bus::{CallId, Live, Standing},
    env::Env,
    slab::Slab,
};
use crate::{
    entropy::{KeyedMap, KeyedState},
    protocol::{Epoch, Position},
    time::Instant,
};

/// All channels that are followed.
#[derive(Debug)]
pub(super) struct Following {
    names: KeyedMap<Arc<str>, u32>,
    slots: Slab<Followed>,
    /// The bus is there.
    up: bool,
    /// Whose answer it will be: pages, and what puts the bus right.
    calls: BTreeMap<CallId, Place>,
    /// Channels that wait for their turn to be read.
    to_read: VecDeque<Place>,
    /// Channels whose turn comes again at a time, in order.
    resting: VecDeque<(Instant, Place)>,
    /// Channels with somebody who waits, by when the first of them has waited long enough.
    waiting: VecDeque<(Instant, Place)>,
    /// Channels that nobody was interested in at some time, by when they are to be looked at again.
    idle: VecDeque<(Instant, Place)>,
    /// Bytes of those who wait, and of what came behind holes.
    parked_bytes: usize,
    held_bytes: usize,
    /// Bytes that were read from before the homes' logs.
    reached_bytes: usize,
}

/// Names a followed channel, and no other that has its place later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) index: u32,
    generation: u32,
}

/// One channel.
#[derive(Debug)]
pub(super) struct Followed {
    pub(super) name: Arc<str>,
    /// Its home's index.
    pub(super) home: u32,
    pub(super) phase: Phase,
    /// The next page goes on with a reading, behind this number: what comes before it has been looked at.
    pub(super) goes_on: Option<u64>,
    /// Number and id of the last message that has come.
    pub(super) newest: Option<(u64, Uuid)>,
    /// The bus has something else in this epoch than is here. That stays so, whatever it still keeps, until another begins.
    pub(super) diverged: bool,
    /// Number of the first message of the last round that this hub has appended.
    pub(super) own: u64,
    /// The next page is to hold the message of this number, if there is a lower one on the bus than here.
    pub(super) lowest: Option<u64>,
    /// When it is its turn there is nothing to be read: the bus has lost everything, and stands here.
    emptied: Option<Standing>,
    /// Lives of the channel's numbers that are over, the latest last.
    past: VecDeque<Position>,
    /// Up to here its messages are those of the bus: their ids were compared.
    pub(super) verified: Option<Position>,
    /// The document here may be of another history than the bus's.
    pub(super) doubted: bool,
    /// A hole was found that is not filled or told of yet.
    pub(super) holed: bool,
    /// What is read for those who want more than the home keeps.
    pub(super) reach: Option<Reach>,
    /// Of lower numbers the bus keeps nothing that could be read.
    pub(super) floor: u64,
    waits: Waits,
    /// What came while it could not be delivered, in order.
    held: VecDeque<Held>,
    held_bytes: usize,
    /// Something of that had no room.
    spilled: bool,
    /// Since when nobody is interested in it.
    idle_since: Option<Instant>,
    /// It is in the line of the idle.
    in_idle: bool,
}

/// How far a channel has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Where it stands on the bus will be told.
    Adrift,
    /// It is to be read.
    Queued,
    /// What the bus has of it is being read.
    Reading(CallId),
    /// The bus is being put right.
    Mending(CallId, Mend),
    /// It is to be read again in a while.
    Resting,
    /// Everything is here; what is new comes by itself.
    Live,
}

/// How the bus is put right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mend {
    /// What it has lost is put back. `all`: it had nothing at all.
    Heal { all: bool, mark: u64 },
    /// A new epoch begins behind `position`.
    Fork { position: Position },
}

/// A round that waits, and what it counts for.
#[derive(Debug)]
struct Held {
    live: Live,
    bytes: usize,
}

impl Following {
    pub(super) fn new(keys: KeyedState) -> Self {
        Self {
            names: KeyedMap::with_hasher(keys),
            slots: Slab::new(),
            up: false,
            calls: BTreeMap::new(),
            to_read: VecDeque::new(),
            resting: VecDeque::new(),
            waiting: VecDeque::new(),
            idle: VecDeque::new(),
            parked_bytes: 0,
            held_bytes: 0,
            reached_bytes: 0,
        }
    }

    /// Whether the bus is there.
    pub(super) fn is_up(&self) -> bool {
        self.up
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn find(&self, channel: &str) -> Option<Place> {
        let index = *self.names.get(channel)?;
        Some(Place { index, generation: self.slots.generation(index)? })
    }

    pub(super) fn get(&self, place: Place) -> Option<&Followed> {
        self.slots.get_at(place.index, place.generation)
    }

    pub(super) fn get_mut(&mut self, place: Place) -> Option<&mut Followed> {
        self.slots.get_at_mut(place.index, place.generation)
    }

    /// Follows one more channel, of which nothing is known yet.
    pub(super) fn add(&mut self, env: &mut Env, name: Arc<str>, home: u32) -> Option<Place> {
        let followed = Followed {
            name: name.clone(),
            home,
            phase: Phase::Adrift,
            goes_on: None,
            newest: None,
            diverged: false,
            own: 0,
            lowest: None,
            emptied: None,
            past: VecDeque::new(),
            verified: None,
            doubted: false,
            holed: false,
            reach: None,
            floor: 0,
            waits: Waits::default(),
            held: VecDeque::new(),
            held_bytes: 0,
            spilled: false,
            idle_since: None,
            in_idle: false,
        };
        let (index, generation) = self.slots.insert(followed)?;
        self.names.insert(name, index);
        env.tally.bus_followed += 1;
        Some(Place { index, generation })
    }

    /// Follows a channel no more. Nobody waits for it.
    pub(super) fn remove(&mut self, env: &mut Env, place: Place) -> Option<Followed> {
        self.forget_held(place);
        self.take_reach(place);
        let followed = self.slots.remove_at(place.index, place.generation)?;
        self.names.remove(&followed.name);
        env.tally.bus_followed -= 1;
        Some(followed)
    }

    /// The bus is there. What is followed is told of one by one.
    pub(super) fn on_up(&mut self) {
        self.up = true;
    }

    /// The bus is away: what was asked has been answered.
    pub(super) fn on_down(&mut self) {
        self.up = false;
        self.to_read.clear();
        self.resting.clear();
        let indices: Vec<u32> = self.slots.indices().collect();
        for index in indices {
            let Some(generation) = self.slots.generation(index) else { continue };
            let place = Place { index, generation };
            self.forget_held(place);
            self.take_reach(place);
            self.set_phase(place, Phase::Adrift);
        }
    }

    pub(super) fn is_live(&self, place: Place) -> bool {
        self.get(place).is_some_and(|followed| followed.phase == Phase::Live)
    }

    pub(super) fn set_phase(&mut self, place: Place, phase: Phase) {
        if let Some(followed) = self.get_mut(place) {
            followed.phase = phase;
        }
    }
}

/// Calls.
impl Following {
    /// The channel is to be read from before its last message on, or further on in the same reading, as soon as it is its turn.
    pub(super) fn wish_to_read(&mut self, place: Place, goes_on: Option<u64>) {
        let Some(followed) = self.get_mut(place) else { return };
        followed.goes_on = goes_on;
        followed.emptied = None;
        if std::mem::replace(&mut followed.phase, Phase::Queued) == Phase::Queued {
            return;
        }
        // A page that goes on with another comes at once: until it is there, others wait for this one.
        match goes_on {
            Some(_) => self.to_read.push_front(place),
            None => self.to_read.push_back(place),
        }
    }

    /// The next channel to be read.
    pub(super) fn next_to_read(&mut self, env: &Env) -> Option<Place> {
        if self.calls.len() >= env.config.limits.bus.bus_reads_max || !self.up {
            return None;
        }
        loop {
            let place = self.to_read.pop_front()?;
            if self.get(place).is_some_and(|followed| followed.phase == Phase::Queued) {
                return Some(place);
            }
        }
    }

    /// The bus has lost all of a channel that waits for its turn.
    pub(super) fn note_emptied(&mut self, place: Place, standing: Standing) {
        if let Some(followed) = self.get_mut(place) {
            followed.emptied = Some(standing);
        }
    }

    pub(super) fn take_emptied(&mut self, place: Place) -> Option<Standing> {
        self.get_mut(place)?.emptied.take()
    }

    /// It is being read. What was held back is part of that.
    pub(super) fn reading(&mut self, place: Place, id: CallId) {
        self.forget_held(place);
        self.set_phase(place, Phase::Reading(id));
        self.calls.insert(id, place);
    }

    pub(super) fn mending(&mut self, place: Place, id: CallId, mend: Mend) {
        self.set_phase(place, Phase::Mending(id, mend));
        self.calls.insert(id, place);
    }

    /// A page has come, or none. Whose, if it is still wanted.
    pub(super) fn read(&mut self, id: CallId) -> Option<Place> {
        let place = self.calls.remove(&id)?;
        let wanted = self.get(place)?.phase == Phase::Reading(id);
        wanted.then_some(place)
    }

    /// The bus was put right, or was not.
    pub(super) fn mended(&mut self, id: CallId) -> Option<(Place, Mend)> {
        let place = self.calls.remove(&id)?;
        match self.get(place)?.phase {
            Phase::Mending(of, mend) if of == id => Some((place, mend)),
            Phase::Mending(..)
            | Phase::Adrift
            | Phase::Queued
            | Phase::Reading(_)
            | Phase::Resting
            | Phase::Live => None,
        }
    }

    /// The bus takes nothing in, or has failed at it: it is tried again in a while.
    pub(super) fn rest(&mut self, env: &Env, place: Place) {
        self.set_phase(place, Phase::Resting);
        self.resting.push_back((env.now.mono + RESTED_AFTER, place));
    }

    /// Those who have rested are to be read.
    pub(super) fn wake(&mut self, now: Instant) {
        while let Some((_, place)) = self.resting.front().copied().filter(|(at, _)| *at <= now) {
            self.resting.pop_front();
            if self.get(place).is_some_and(|followed| followed.phase == Phase::Resting) {
                self.wish_to_read(place, None);
            }
        }
    }
}

/// What comes behind a hole.
impl Following {
    /// Keeps a round until what comes before it is here.
    pub(super) fn hold(&mut self, env: &Env, place: Place, live: Live) {
        let limits = &env.config.limits.bus;
        let bytes = size_of::<Held>()
            + match &live {
                Live::Round { records, state, .. } => {
                    let len =
                        |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or(0, |all| all.len());
                    len(records) + len(state)
                }
                Live::Announced { records, .. } => records.len(),
                Live::Forked { .. } | Live::Healed { .. } | Live::Presence(_) | Live::Poison => 0,
            };
        let full = self.held_bytes + bytes > limits.bus_holes_bytes_max;
        let Some(followed) = self.get_mut(place) else { return };
        if full || followed.spilled || followed.held_bytes + bytes > limits.bus_hole_bytes_max {
            // Whatever comes behind it is behind a hole as well.
            followed.spilled = true;
            return;
        }
        followed.held.push_back(Held { live, bytes });
        followed.held_bytes += bytes;
        self.held_bytes += bytes;
    }

    /// The next that was held back, as long as it may be delivered.
    pub(super) fn next_held(&mut self, place: Place) -> Option<Live> {
        let followed = self.get_mut(place).filter(|followed| followed.phase == Phase::Live)?;
        let held = followed.held.pop_front()?;
        followed.held_bytes -= held.bytes;
        self.held_bytes -= held.bytes;
        Some(held.live)
    }

    /// Whether something had no room, which is to be read instead.
    pub(super) fn has_spilled(&mut self, place: Place) -> bool {
        self.get_mut(place).is_some_and(|followed| std::mem::take(&mut followed.spilled))
    }

    /// Bytes of all that is held back.
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    fn forget_held(&mut self, place: Place) {
        let Some(followed) = self.get_mut(place) else { return };
        followed.held = VecDeque::new();
        followed.spilled = false;
        let bytes = std::mem::take(&mut followed.held_bytes);
        self.held_bytes -= bytes;
    }
}

/// Interest.
impl Following {
    /// Nobody is interested in the channel at present, or somebody is.
    pub(super) fn set_idle(&mut self, env: &Env, place: Place, idle: bool) {
        let now = env.now.mono;
        let Some(followed) = self.get_mut(place) else { return };
        if !idle {
            followed.idle_since = None;
        } else if followed.idle_since.is_none() {
            followed.idle_since = Some(now);
            if !std::mem::replace(&mut followed.in_idle, true) {
                self.idle.push_back((now + env.config.limits.bus.bus_follow_time, place));
            }
        }
    }

    /// The next channel that nobody has been interested in for long.
    pub(super) fn next_idle(&mut self, env: &Env) -> Option<Place> {
        let (now, time) = (env.now.mono, env.config.limits.bus.bus_follow_time);
        while let Some((_, place)) = self.idle.front().copied().filter(|(at, _)| *at <= now) {
            self.idle.pop_front();
            let Some(followed) = self.get_mut(place) else { continue };
            match followed.idle_since.map(|since| since + time) {
                Some(at) if at <= now => return Some(place),
                // It has been of interest meanwhile.
                Some(at) => self.idle.push_back((at, place)),
                None => followed.in_idle = false,
            }
        }
        None
    }

    /// When something is next to be done by itself.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let lines = [&self.resting, &self.waiting, &self.idle];
        lines.into_iter().filter_map(|line| line.front()).map(|(at, _)| *at).min()
    }
}

impl Followed {
    /// What is known of an id, besides what the log has.
    pub(super) fn known_id(&self, number: u64) -> Option<Uuid> {
        self.newest.filter(|(known, _)| *known == number).map(|(_, id)| id)
    }

    /// Nothing of what was known of the channel's messages holds, and if `before` was of this epoch, that does not come back.
    pub(super) fn begin(&mut self, before: Option<Position>) {
        (self.newest, self.verified, self.floor) = (None, None, 0);
        self.diverged = false;
        let Some(before) = before else { return };
        if let Some(known) = self.past.iter_mut().find(|known| known.epoch == before.epoch) {
            known.offset = known.offset.max(before.offset);
            return;
        }
        if self.past.len() == PAST_EPOCHS_MAX {
            self.past.pop_front();
        }
        self.past.push_back(before);
    }

    /// The last number of an epoch that was known when it was over; `None`: it is not known to be over.
    pub(super) fn past(&self, epoch: Epoch) -> Option<u64> {
        self.past.iter().find(|known| known.epoch == epoch).map(|known| known.offset)
    }
}

/// Epochs of a channel that are remembered to be over.
const PAST_EPOCHS_MAX: usize = 8;

/// What is tried again is tried again after this.
const RESTED_AFTER: std::time::Duration = std::time::Duration::from_secs(1);

#[cfg(debug_assertions)]
impl Following {
    /// Every count equals what it counts.
    pub(super) fn check(&self) {
        assert_eq!(self.names.len(), self.slots.len(), "names of followed channels");
        let all = || self.slots.indices().filter_map(|index| self.slots.get(index));
        let held = all().map(|one| one.held.iter().map(|held| held.bytes).sum::<usize>());
        assert_eq!(self.held_bytes, held.sum::<usize>(), "bytes behind holes");
        let reached = all().filter_map(|one| Some(one.reach.as_ref()?.bytes()));
        assert_eq!(self.reached_bytes, reached.sum::<usize>(), "bytes from before the logs");
        assert_eq!(
            self.parked_bytes,
            all().map(|one| one.waits.bytes()).sum::<usize>(),
            "bytes that wait"
        );
        let calls = all().filter(|one| matches!(one.phase, Phase::Reading(_) | Phase::Mending(..)));
        assert!(calls.count() <= self.calls.len(), "calls under way");
        let waiting = all().filter(|one| !one.waits.is_empty()).count();
        assert!(waiting <= self.waiting.len(), "channels with somebody who waits");
        if !self.up {
            assert!(all().all(|one| one.phase == Phase::Adrift), "the bus is away");
        }
    }
}
