//! What Redis owes, in order, and what it could not do at the moment.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use mahavishnu_core::{hub::BusCommand, time::Instant};

use super::{follows::Ask, prepare::Step};
use crate::redis::scripts::Script;

/// Something that was asked for.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) what: What,
    /// Where it begins in what was written.
    pub(super) begin: u64,
    /// When it was written, or could first be answered.
    since: Option<Instant>,
    /// What it counts for.
    pub(super) weight: usize,
    /// How often it was sent before.
    pub(super) repeats: u8,
    order: u64,
}

#[derive(Debug)]
pub(super) enum What {
    /// For the hub.
    Bus(BusCommand),
    /// Where channels stand.
    Ask(Ask),
    /// A `PING` behind a command that is not answered but by an error.
    Marker,
    /// A probe with this token.
    Probe(u64),
    /// What was told to all nodes.
    Commands,
    /// A script that was forgotten.
    Load(Script),
    Hello,
    /// Where is the primary?
    Primary,
    Prepare(Step),
}

/// What is owed.
#[derive(Debug, Default)]
pub(super) struct Calls {
    owed: VecDeque<Call>,
    /// What Redis could not do at the moment, and what has come since, in order.
    parked: BTreeMap<u64, Call>,
    /// When it is tried again.
    again: Option<Instant>,
    pause: Duration,
    weight: usize,
    last_order: u64,
    /// Scripts that are being given to Redis again.
    loading: BTreeSet<Script>,
}

impl Calls {
    /// A call, named by its place among all of them.
    pub(super) fn make(&mut self, what: What, weight: usize) -> Call {
        self.last_order += 1;
        self.weight += weight;
        Call { what, begin: 0, since: None, weight, repeats: 0, order: self.last_order }
    }

    /// It was written.
    pub(super) fn owe(&mut self, now: Instant, mut call: Call) {
        call.since = Some(now);
        if let What::Load(script) = call.what {
            self.loading.insert(script);
        }
        self.owed.push_back(call);
    }

    /// Since when the next reply could have come, if one is owed.
    pub(super) fn owed_since(&self) -> Option<Instant> {
        self.owed.front()?.since
    }

    /// Nothing could come meanwhile.
    pub(super) fn excuse(&mut self, now: Instant) {
        self.owed.iter_mut().for_each(|call| call.since = Some(now));
    }

    /// What the next reply is about.
    pub(super) fn front(&self) -> Option<&Call> {
        self.owed.front()
    }

    /// It was answered. Whoever keeps it for later says so by [`park`](Self::park).
    pub(super) fn take(&mut self) -> Option<Call> {
        let call = self.owed.pop_front()?;
        if let What::Load(script) = &call.what {
            self.loading.remove(script);
        }
        Some(call)
    }

    /// It will not be asked for again.
    pub(super) fn settle(&mut self, call: &Call) {
        self.weight -= call.weight;
    }

    /// It was refused for the moment, or comes behind what was.
    pub(super) fn park(&mut self, now: Instant, call: Call) {
        if self.again.is_none() {
            self.pause = (self.pause * 2).clamp(PAUSE_MIN, PAUSE_MAX);
            self.again = Some(now + self.pause);
        }
        self.parked.insert(call.order, call);
    }

    /// Whether what comes has to wait behind something.
    pub(super) fn is_parked(&self) -> bool {
        !self.parked.is_empty()
    }

    /// When what is parked is tried again.
    pub(super) fn again(&self) -> Option<Instant> {
        self.again
    }

    /// What is parked, if it is due.
    pub(super) fn unpark(&mut self, now: Instant) -> Vec<Call> {
        if self.again.is_none_or(|again| again > now) {
            return Vec::new();
        }
        self.again = None;
        std::mem::take(&mut self.parked).into_values().collect()
    }

    /// Something was done: whatever was the matter is over.
    pub(super) fn relieve(&mut self) {
        self.pause = Duration::ZERO;
    }

    /// Whether a script is being given to Redis again.
    pub(super) fn is_loading(&self, script: Script) -> bool {
        self.loading.contains(&script)
    }

    pub(super) fn is_owed(&self) -> bool {
        !self.owed.is_empty()
    }

    /// Whether nothing is asked for, but for what the link asks for by itself from time to time.
    pub(super) fn is_idle(&self) -> bool {
        let own = |call: &Call| !matches!(call.what, What::Bus(_));
        self.owed.iter().all(own) && self.parked.values().all(own)
    }

    pub(super) fn len(&self) -> usize {
        self.owed.len() + self.parked.len()
    }

    pub(super) fn weight(&self) -> usize {
        self.weight
    }

    /// Everything: what was owed, and what was not even tried.
    pub(super) fn clear(&mut self) -> (VecDeque<Call>, Vec<Call>) {
        (self.weight, self.again, self.pause) = (0, None, Duration::ZERO);
        self.loading.clear();
        let parked = std::mem::take(&mut self.parked);
        (std::mem::take(&mut self.owed), parked.into_values().collect())
    }
}

/// Between two attempts to have something done that Redis could not do at the moment.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
