//! Queues of the bus from which a node takes what others have written there to be published.
//!
//! An entry stays in its queue until the append of its message takes it away, in one step, and only for the owner of the
//! queue: so it is published once, whoever dies when. Of each channel one entry is under way at most, so that an order is kept
//! whatever becomes of it. A node that begins to own a queue begins with its first entry; nothing of what is known here
//! has to outlive the process.

mod entry;
mod inlet;

use std::collections::BTreeMap;

pub(super) use self::inlet::Submission;
use self::inlet::{Inlet, Terms};
use super::{
    bus::{BusError, CallId, Calls, NodeId, Taken},
    env::Env,
    types::{Place, ShardId},
};
use crate::{config::Config, reason::Reason, time::Instant};

/// The queues of a process, at its first hub.
#[derive(Debug)]
pub(super) struct Ingress {
    /// This life of the process. It has another name among the nodes after it has lost its lease; here that does not matter.
    node: NodeId,
    inlets: Vec<Inlet>,
    /// Of which queue what is under way was taken.
    submitted: BTreeMap<u64, usize>,
    last: u64,
    is_up: bool,
    /// The process ends: nothing is taken any more.
    ends: bool,
}

impl Ingress {
    /// The queues that the configuration has, at the first hub.
    pub(super) fn new(config: &Config, place: Place, now: Instant) -> Self {
        let sources = config.bus.as_ref().filter(|_| place.shard == ShardId(0));
        let sources = sources.map_or(&[][..], |bus| &bus.ingress);
        Self {
            node: place.node(),
            inlets: sources.iter().map(|source| Inlet::new(source.clone(), now)).collect(),
            submitted: BTreeMap::new(),
            last: 0,
            is_up: false,
            ends: false,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.inlets.is_empty()
    }

    pub(super) fn on_up(&mut self, now: Instant) {
        self.is_up = true;
        self.inlets.iter_mut().for_each(|inlet| inlet.on_up(now));
    }

    pub(super) fn on_down(&mut self) {
        self.is_up = false;
    }

    /// The process ends: others may take what is left.
    pub(super) fn end(&mut self, now: Instant) {
        self.ends = true;
        self.inlets.iter_mut().for_each(|inlet| inlet.give_up(now));
    }

    /// Whether a queue is still to be given up.
    pub(super) fn owes(&self) -> bool {
        self.ends && self.is_up && self.inlets.iter().any(Inlet::owes)
    }

    /// Asks for what is due. `has_room`: further messages may wait for the bus.
    pub(super) fn take(&mut self, env: &Env, calls: &mut Calls, has_room: bool) {
        if !self.is_up {
            return;
        }
        let terms = Terms::of(env, self.node, has_room);
        for inlet in &mut self.inlets {
            if let Some(command) = inlet.take(env.now.mono, &terms, || calls.name()) {
                calls.send(command);
            }
        }
    }

    /// The bus has answered.
    pub(super) fn on_taken(&mut self, env: &mut Env, id: CallId, result: Result<Taken, BusError>) {
        let Some(inlet) = self.inlets.iter_mut().find(|inlet| inlet.is_asked(id)) else { return };
        inlet.on_taken(env, result);
        inlet.tell(&mut env.tally.bus);
    }

    /// The next message to be published.
    pub(super) fn next(&mut self, env: &Env) -> Option<(u64, Submission)> {
        if !self.is_up {
            return None;
        }
        let slot = self.last + 1;
        for (index, inlet) in self.inlets.iter_mut().enumerate() {
            if let Some(submission) = inlet.next(env, self.node, slot) {
                self.last = slot;
                self.submitted.insert(slot, index);
                return Some((slot, submission));
            }
        }
        None
    }

    /// What became of a message.
    pub(super) fn answered(&mut self, env: &mut Env, slot: u64, result: Result<(), Reason>) {
        let Some(index) = self.submitted.remove(&slot) else { return };
        if let Some(inlet) = self.inlets.get_mut(index) {
            inlet.answered(env, slot, result);
        }
    }

    /// When something is next to be done by itself.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        if !self.is_up {
            return None;
        }
        self.inlets.iter().filter_map(Inlet::next_deadline).min()
    }

    /// Every count equals what it counts.
    #[cfg(debug_assertions)]
    pub(super) fn check(&self) {
        self.inlets.iter().for_each(Inlet::check);
    }
}
