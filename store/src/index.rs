//! Where in the file everything is, so that what is no longer kept is found without looking for it.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use mahavishnu_core::protocol::Epoch;

/// What is known of a channel.
#[derive(Debug)]
pub(crate) struct Kept {
    /// Its row.
    pub(crate) row: i64,
    pub(crate) epoch: Epoch,
    pub(crate) top: u64,
    /// Its rounds, oldest first.
    pub(crate) rounds: VecDeque<Place>,
}

/// A round in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) row: i64,
    /// Number of its last message.
    pub(crate) last: u64,
}

/// All channels, and which rows come next. What a group changes can be taken back until it is kept.
#[derive(Debug, Default)]
pub(crate) struct Index {
    channels: HashMap<Arc<str>, Kept>,
    next: Next,
    /// What the present group has changed, in order.
    undo: Vec<(Arc<str>, Undo)>,
    next_before: Next,
}

/// Rows are numbered upwards, so that a round is written behind the others and read in order.
#[derive(Clone, Copy, Debug, Default)]
struct Next {
    channel: i64,
    round: i64,
}

/// How a channel was before.
#[derive(Debug)]
enum Undo {
    /// As it is here; not there.
    Was(Option<Kept>),
    /// With this top, and without its last round.
    Shorter { top: u64 },
    /// With these rounds at its front.
    Longer(Vec<Place>),
}

impl Index {
    /// What was found in a file.
    pub(crate) fn found(channels: HashMap<Arc<str>, Kept>) -> Self {
        let mut next = Next { channel: 1, round: 1 };
        for kept in channels.values() {
            next.channel = next.channel.max(kept.row + 1);
            let last = kept.rounds.back().map_or(0, |round| round.row + 1);
            next.round = next.round.max(last);
        }
        Self { channels, next, undo: Vec::new(), next_before: next }
    }

    pub(crate) fn get(&self, channel: &str) -> Option<&Kept> {
        self.channels.get(channel)
    }

    /// Gives a channel another epoch before anything is committed. The number of its row.
    pub(crate) fn renumber(&mut self, channel: &str, epoch: Epoch) -> Option<i64> {
        let kept = self.channels.get_mut(channel)?;
        kept.epoch = epoch;
        Some(kept.row)
    }

    /// A channel without rounds, in the place of what was known of it. The number of its row.
    pub(crate) fn found_channel(&mut self, channel: &Arc<str>, epoch: Epoch) -> i64 {
        let row = self.next.channel;
        self.next.channel += 1;
        let kept = Kept { row, epoch, top: 0, rounds: VecDeque::new() };
        let was = self.channels.insert(channel.clone(), kept);
        self.undo.push((channel.clone(), Undo::Was(was)));
        row
    }

    pub(crate) fn remove(&mut self, channel: &Arc<str>) {
        if let Some(was) = self.channels.remove(channel) {
            self.undo.push((channel.clone(), Undo::Was(Some(was))));
        }
    }

    /// Adds a round to a channel that there is. The number of its row.
    pub(crate) fn append(&mut self, channel: &Arc<str>, last: u64) -> i64 {
        let row = self.next.round;
        self.next.round += 1;
        if let Some(kept) = self.channels.get_mut(channel) {
            self.undo.push((channel.clone(), Undo::Shorter { top: kept.top }));
            kept.top = last;
            kept.rounds.push_back(Place { row, last });
        }
        row
    }

    /// Takes out the rounds that hold nothing from `oldest` on.
    pub(crate) fn trim(&mut self, channel: &Arc<str>, oldest: u64) -> &[Place] {
        let Some(kept) = self.channels.get_mut(channel) else { return &[] };
        let over = kept.rounds.iter().take_while(|round| round.last < oldest).count();
        if over == 0 {
            return &[];
        }
        let places = kept.rounds.drain(..over).collect();
        self.undo.push((channel.clone(), Undo::Longer(places)));
        match self.undo.last() {
            Some((_, Undo::Longer(places))) => places,
            Some((_, Undo::Was(_) | Undo::Shorter { .. })) | None => &[],
        }
    }

    /// The group is kept.
    pub(crate) fn keep(&mut self) {
        self.undo.clear();
        self.next_before = self.next;
    }

    /// The group is not kept: everything is as it was before.
    pub(crate) fn take_back(&mut self) {
        while let Some((channel, undo)) = self.undo.pop() {
            match (undo, self.channels.get_mut(&channel)) {
                (Undo::Was(Some(kept)), _) => {
                    self.channels.insert(channel, kept);
                }
                (Undo::Was(None), _) => {
                    self.channels.remove(&channel);
                }
                (Undo::Shorter { top }, Some(kept)) => {
                    kept.top = top;
                    kept.rounds.pop_back();
                }
                (Undo::Longer(places), Some(kept)) => {
                    places.into_iter().rev().for_each(|place| kept.rounds.push_front(place));
                }
                (Undo::Shorter { .. } | Undo::Longer(_), None) => {}
            }
        }
        self.next = self.next_before;
    }
}
