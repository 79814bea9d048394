//! What a store has, and what that means for what anybody may be told. A message is told of once it is kept, and what is kept
//! comes back under the same epoch and number; of a process without a store nothing comes back.

use std::{collections::BTreeMap, sync::Arc};

use mahavishnu_core::{hub::StoredChannel, record::Message};

use super::{Fate, Oracle, logs::ENTRY_BYTES_MAX};
use crate::{
    clock::{MILLI, Nanos},
    message::{self, ID_BYTES, Number},
    swarm::Keep,
};

/// All that was ever kept, and all ends of the process.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Messages by channel, epoch and offset.
    messages: BTreeMap<(u64, Arc<str>, u64), Number>,
    restarts: Vec<Restart>,
}

#[derive(Debug)]
struct Restart {
    at: Nanos,
    /// The epochs that the store had then, by channel's name.
    epochs: BTreeMap<String, String>,
}

/// A message as it comes into the store.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StoredMessage<'a> {
    pub(crate) channel: &'a str,
    pub(crate) epoch: &'a str,
    pub(crate) offset: u64,
    /// The channel's last number in the store so far.
    pub(crate) top: u64,
    pub(crate) message: Message<'a>,
}

impl Ledger {
    /// In which life of the process this is.
    pub(super) fn life(&self) -> usize {
        self.restarts.len()
    }

    pub(super) fn last_restart(&self) -> Nanos {
        self.restarts.last().map_or(0, |restart| restart.at)
    }

    /// Whether an epoch of a channel was in the store at each end of the process between two lives.
    pub(super) fn outlives(&self, channel: &str, epoch: &str, lives: (usize, usize)) -> bool {
        let (first, last) = lives;
        let ends = self.restarts.get(first..last);
        let has = |end: &Restart| end.epochs.get(channel).is_some_and(|kept| kept == epoch);
        ends.is_some_and(|ends| ends.iter().all(has))
    }
}

impl Oracle {
    /// The process has ended, and another one has begun with what the store had.
    pub(crate) fn restarted(&mut self, epochs: &BTreeMap<String, String>) {
        self.ledger.restarts.push(Restart { at: self.now, epochs: epochs.clone() });
        // Revocations are kept in memory.
        self.revoked_at = None;
    }

    /// Whether each message of a channel has to be kept before anybody is told of it.
    pub(super) fn is_stored(&self, channel: u64) -> bool {
        self.options.store == 1 && !self.generations(channel).any(Keep::is_off)
    }

    /// Somebody was told of a message: `how`.
    pub(super) fn check_stored(&mut self, number: Number, how: &str) {
        let Some(found) = self.publications.get(number as usize) else { return };
        let channel = u64::from(found.channel);
        if found.kept.is_none() && self.is_stored(channel) {
            self.fail("stored", || format!("{number} of channel {channel} was {how} and not kept"));
        }
    }

    /// A message was refused.
    pub(super) fn check_not_stored(&mut self, number: Number) {
        if self.publications[number as usize].kept.is_some() {
            self.fail("refused", || format!("{number} was refused and is kept"));
        }
    }

    fn channel_of(&self, name: &str) -> u64 {
        self.names.iter().position(|known| known == name).expect("a channel of this world") as u64
    }

    /// A message has come into the store.
    pub(crate) fn stored(&mut self, stored: &StoredMessage<'_>) {
        let StoredMessage { epoch, offset, top, message, .. } = *stored;
        let channel = self.channel_of(stored.channel);
        let data = serde_json::from_str(message.data).unwrap_or_default();
        let read = message::read_data(&data).filter(|(of, ..)| *of == channel);
        let found = read.and_then(|(_, number, padding)| {
            let found = self.publications.get(number as usize)?;
            let same = u64::from(found.channel) == channel
                && found.padding as usize == padding
                && message.event == "e";
            same.then_some((number, found))
        });
        let Some((number, found)) = found else {
            return self.fail("content", || format!("{stored:?} was never published"));
        };
        if found.fate == Fate::Refused {
            return self.fail("refused", || format!("{number} was refused and is kept"));
        }
        if found.kept.is_some() {
            return self.fail("duplicate", || format!("{number} is kept twice: {stored:?}"));
        }
        if found.seen_at.is_some() || matches!(found.fate, Fate::Published(_)) {
            return self.fail("stored", || format!("{number} is kept, and was told of before"));
        }
        if offset != top + 1 && !self.generations(channel).any(Keep::is_off) {
            return self.fail("stored", || format!("{number} is kept as {offset} behind {top}"));
        }
        let epoch: Arc<str> = epoch.into();
        let there = *self.ledger.messages.entry((channel, epoch.clone(), offset)).or_insert(number);
        if there != number {
            return self.fail("agreement", || {
                format!("{number} is kept as {offset} of {channel} in {epoch}, which is {there}")
            });
        }
        let mut id = [0; ID_BYTES];
        message.id.hyphenated().encode_lower(&mut id);
        let found = &mut self.publications[number as usize];
        (found.id, found.kept) = (Some(id), Some((epoch, offset)));
    }

    /// The store drops a message, and all before it, of a channel whose last one is `top`.
    pub(crate) fn trimmed(&mut self, name: &str, epoch: &str, last: u64, top: u64) {
        let channel = self.channel_of(name);
        let epoch: Arc<str> = epoch.into();
        let number = |offset| self.ledger.messages.get(&(channel, epoch.clone(), offset)).copied();
        let Some(number_of_last) = number(last) else { return };
        let found = &self.publications[number_of_last as usize];
        let over = |keep: Keep| {
            keep.is_off()
                || (top + 1).saturating_sub(last) > keep.messages
                || found.sent_at + keep.ms * MILLI <= self.now
        };
        let bytes = |offset| {
            let found = &self.publications[number(offset)? as usize];
            let numbered = Some(offset).filter(|_| self.offsets);
            Some(message::frame_bytes(name, channel, 0, found.padding.into(), numbered))
        };
        // A message's number has ten digits at most.
        let bytes: u64 =
            (last..=top).filter_map(bytes).map(|bytes| bytes + 10 + ENTRY_BYTES_MAX).sum();
        let may = self.generations(channel).any(over)
            || self.may_evict()
            || self.may_have_aged(found.sent_at)
            || bytes + self.options.round_bytes > self.options.keep_channel_bytes;
        if !may {
            self.fail("stored", || {
                format!("{last} of {name}, which stands at {top}, leaves the store")
            });
        }
    }

    /// The store drops a channel, or its numbers.
    pub(crate) fn left_store(&mut self, kept: &StoredChannel) {
        let channel = self.channel_of(&kept.channel);
        let last = (channel, kept.epoch.as_str().into(), kept.top);
        let last = self.ledger.messages.get(&last).copied();
        let sent_at = last.map_or(0, |number| self.publications[number as usize].sent_at);
        if !self.may_be_over(channel, sent_at) {
            self.fail("stored", || format!("{kept:?} is forgotten"));
        }
    }

    /// Whether numbers of a channel may be given out twice: its messages were not to be kept for a while, and the process ended
    /// before the store had forgotten the channel.
    pub(super) fn may_number_again(&self, channel: u64) -> bool {
        self.options.store == 1
            && self.ledger.life() > 0
            && self.generations(channel).any(Keep::is_off)
    }

    /// Whether the age of what was sent then may be another by now: after a restart it is counted by the wall clock.
    pub(super) fn may_have_aged(&self, sent_at: Nanos) -> bool {
        self.jumped_at > 0 && self.ledger.last_restart() > sent_at
    }

    /// Of a request for several messages that is refused because one could not be kept, others may be out, or may come out
    /// yet: nobody can say which. All of them are not.
    pub(crate) fn refused_in_part(&mut self, numbers: &[(u64, Number)]) {
        let kept = |number: &Number| self.publications[*number as usize].kept.is_some();
        if numbers.iter().all(|(_, number)| kept(number)) {
            self.fail("answers", || format!("all of {numbers:?} are kept, and were refused"));
        }
    }
}
