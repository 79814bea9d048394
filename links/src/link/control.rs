//! What is told to all nodes: each of it once, in its order.

use std::collections::BTreeSet;

use bytes::Bytes;
use mahavishnu_core::hub::{BusEvent, NodeEvent};

use crate::redis::{live::EntryId, replies::Commands};

/// How far the link has read.
#[derive(Debug)]
pub(super) struct Control {
    /// Only one link of a process tells.
    is_told: bool,
    last: EntryId,
    /// The last of those that were told: Redis may lose the newest, and then it has others with lower names.
    told: BTreeSet<EntryId>,
    reading: Reading,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// To be read.
    Due,
    /// Asked for.
    UnderWay,
    /// Asked for, and there may be more by now.
    Again,
    /// What comes is the next one.
    Live,
}

impl Control {
    pub(super) fn new(is_told: bool) -> Self {
        let reading = if is_told { Reading::Due } else { Reading::Live };
        Self { is_told, last: EntryId::default(), told: BTreeSet::new(), reading }
    }

    pub(super) fn is_told(&self) -> bool {
        self.is_told
    }

    /// From time to time it is read, should a message have been lost.
    pub(super) fn check(&mut self) {
        if self.is_told && self.reading == Reading::Live {
            self.reading = Reading::Due;
        }
    }

    /// To be read again: a connection is new.
    pub(super) fn restart(&mut self) {
        if self.is_told {
            self.reading = Reading::Due;
        }
    }

    /// Whether it is to be asked for, which it is from then on.
    pub(super) fn is_due(&mut self) -> bool {
        let due = self.reading == Reading::Due;
        if due {
            self.reading = Reading::UnderWay;
        }
        due
    }

    /// From where on to read.
    pub(super) fn after(&self) -> EntryId {
        self.last
    }

    /// Whether all that was to be told is.
    pub(super) fn is_current(&self) -> bool {
        self.reading == Reading::Live
    }

    /// What is kept behind the last one.
    pub(super) fn read(&mut self, commands: Commands, events: &mut impl Extend<BusEvent>) {
        let again = self.reading == Reading::Again || commands.more;
        self.reading = if again { Reading::Due } else { Reading::Live };
        let last = self.last;
        for (id, command) in commands.entries {
            self.tell(id, command, events);
        }
        if !commands.more && commands.newest < last {
            self.go_back(commands.newest);
        } else if !commands.more {
            // What is kept no longer is not told, and yet it is what the next one is behind.
            self.last = commands.newest;
        }
    }

    /// Redis could not say.
    pub(super) fn failed(&mut self) {
        self.reading = Reading::Due;
    }

    /// Something comes, behind another one.
    pub(super) fn live(
        &mut self,
        before: EntryId,
        id: EntryId,
        command: Bytes,
        events: &mut impl Extend<BusEvent>,
    ) {
        match self.reading {
            Reading::Live if before == self.last => self.tell(id, command, events),
            Reading::Live => self.reading = Reading::Due,
            Reading::UnderWay => self.reading = Reading::Again,
            Reading::Due | Reading::Again => {}
        }
    }

    /// Redis has lost the newest of what was told. What it has been given instead may have lower names than that.
    fn go_back(&mut self, newest: EntryId) {
        let kept_all = self.told.len() < TOLD_MAX;
        let oldest = self.told.first().copied().filter(|_| !kept_all).unwrap_or_default();
        self.last = oldest.min(newest);
        if newest > EntryId::default() {
            self.reading = Reading::Due;
        }
    }

    fn tell(&mut self, id: EntryId, command: Bytes, events: &mut impl Extend<BusEvent>) {
        self.last = self.last.max(id);
        if self.told.insert(id) {
            let at = id.to_string().into();
            events.extend([BusEvent::Node(NodeEvent::Control { at, command })]);
        }
        if self.told.len() > TOLD_MAX {
            self.told.pop_first();
        }
    }
}

/// So many names are remembered of what was told.
const TOLD_MAX: usize = 4_096;
