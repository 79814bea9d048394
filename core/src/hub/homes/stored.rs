//! Channels whose logs a store keeps, too.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{Broadcast, Broadcasted, Homes, home::Home, log::Log};
use crate::{
    hub::{
        env::Env,
        store::{StoreCommand, StoredChannel, StoredRound},
        types::Publication,
    },
    protocol::{Envelope, Position, Stamp, Timestamp},
    record,
    ws::{self, Segment},
};

/// Where a channel's log stands, for its next round.
#[derive(Clone, Copy, Debug)]
pub(in crate::hub) struct Standing {
    pub(in crate::hub) position: Position,
    /// Number of the oldest message that is kept.
    pub(in crate::hub) oldest: u64,
    /// Number of the message that its document came with; 0: it has none.
    pub(in crate::hub) document: u64,
    /// Messages are kept, and not the document alone.
    pub(in crate::hub) is_kept: bool,
}

impl Homes {
    pub(in crate::hub) fn has_document(&self, channel: &str) -> bool {
        let home = self.names.get(channel).and_then(|index| self.slots.get(*index));
        home.is_some_and(|home| home.document.is_some())
    }

    /// The document of a channel that is at home here.
    pub(in crate::hub) fn document_of(&self, channel: &str) -> Option<Bytes> {
        let home = self.names.get(channel).and_then(|index| self.slots.get(*index))?;
        home.document.as_ref().map(|document| document.json().clone())
    }

    /// A round of the channel is about to be stored: until that is over it is not forgotten. What was published before has
    /// its numbers.
    pub(in crate::hub) fn begin_storing(
        &mut self,
        env: &mut Env,
        channel: &Arc<str>,
    ) -> Option<Standing> {
        let index = match self.names.get(channel) {
            Some(&index) => index,
            None => self.found(env, channel)?,
        };
        let home = self.slots.get_mut(index)?;
        home.storing = true;
        Some(Standing {
            position: home.log.position(),
            oldest: home.log.oldest(),
            document: home.document.as_ref().map_or(0, |document| document.offset()),
            is_kept: !home.keep.is_off(),
        })
    }

    /// The store holds something of the channel.
    pub(in crate::hub) fn is_in_store(&mut self, channel: &str) {
        let index = self.names.get(channel).copied();
        if let Some(home) = index.and_then(|index| self.slots.get_mut(index)) {
            home.stored = true;
        }
    }

    /// A round was stored, or was not; `over`: there is no other.
    pub(in crate::hub) fn end_storing(&mut self, env: &Env, channel: &str, over: bool) {
        let Some(&index) = self.names.get(channel) else { return };
        if let Some(home) = self.slots.get_mut(index).filter(|_| over) {
            home.storing = false;
            let quiet = home.is_quiet();
            self.leave_store(index);
            if quiet {
                self.let_be(env, index);
            }
        }
    }

    /// Sees that the store does not remember numbers of a channel whose messages are no longer kept: they go on without it.
    /// Not while a round is on its way: it may carry a document, and would be forgotten behind it.
    pub(super) fn leave_store(&mut self, index: u32) {
        let Some(home) = self.slots.get_mut(index) else { return };
        if home.storing {
            return self.tell_trimmed(index);
        }
        if home.keep.is_off() && home.document.is_none() && std::mem::take(&mut home.stored) {
            let channel = home.name.clone();
            self.commands.push_back(StoreCommand::Forget { channel });
        }
    }

    /// Publishes what was stored.
    pub(in crate::hub) fn broadcast_stored(
        &mut self,
        env: &mut Env,
        publication: &Publication,
        stamp: Stamp<'_>,
    ) -> Broadcasted {
        let broadcast = Broadcast::of(publication);
        match &publication.options {
            None => self.broadcast_at(env, broadcast, Some(stamp)),
            Some(options) => self.broadcast_with(env, broadcast, options, Some(stamp)),
        }
    }

    /// Something of a channel is not kept any more.
    pub(super) fn tell_trimmed(&mut self, index: u32) {
        let Some(home) = self.slots.get(index).filter(|home| home.stored) else { return };
        let (channel, oldest) = (home.name.clone(), home.log.oldest());
        self.commands.push_back(StoreCommand::Trim { channel, oldest });
    }

    pub(super) fn tell_forgotten(&mut self, home: &Home) {
        if home.stored {
            self.commands.push_back(StoreCommand::Forget { channel: home.name.clone() });
        }
    }

    pub(in crate::hub) fn next_command(&mut self) -> Option<StoreCommand> {
        self.commands.pop_front()
    }

    /// A channel of an earlier run. What is too old by now, or more than is to be kept, is not taken.
    #[cold]
    pub(in crate::hub) fn restore(&mut self, env: &mut Env, stored: StoredChannel) {
        let StoredChannel { channel, epoch, top, rounds, state } = stored;
        let keep = env.config.history.of(&channel);
        let known = self.names.contains_key(&channel);
        if known || (keep.is_off() && state.is_none()) {
            if !known {
                self.commands.push_back(StoreCommand::Forget { channel });
            }
            return;
        }
        let Some(index) = self.found(env, &channel) else { return };
        let mut segments: Vec<(Segment, u64)> = Vec::new();
        for round in rounds.iter().filter(|_| !keep.is_off()) {
            match read(env, &channel, round, keep.time) {
                Some(read) => segments.extend(read),
                // Nobody can read over what is missing.
                None => segments.clear(),
            }
        }
        let Some(home) = self.slots.get_mut(index) else { return };
        let (bounds, numbered) = (home.bounds(env), env.config.compat.offsets);
        home.log = Log::restored(epoch, top, segments, numbered, bounds);
        (home.told, home.stored) = (true, true);
        self.kept_bytes += home.log.bytes();
        if let Some(state) = state {
            self.restore_document(env, &channel, state);
        }
        self.review(env, index);
        self.make_room(env);
    }
}

/// A round as subscribers get it, each part with the number of its first message. `None` if it is none, or too old.
///
/// What is stored as one round went out in as many as [`round_bytes_max`](crate::limits::Delivery::round_bytes_max) makes of
/// it, and so it comes back: a log drops whole rounds.
fn read(
    env: &Env,
    channel: &str,
    round: &StoredRound,
    time: Duration,
) -> Option<Vec<(Segment, u64)>> {
    let messages: Result<Vec<_>, _> = record::decode(&round.records).ok()?.collect();
    let messages =
        messages.ok().filter(|messages| messages.len() as u64 == u64::from(round.count))?;
    let newest = Duration::from_micros(messages.last()?.unix_micros);
    if newest + time <= env.now.unix {
        return None;
    }
    let max = env.config.limits.delivery.round_bytes_max;
    Some(encode(channel, &messages, (round.first, env.config.compat.offsets), max))
}

/// Messages as subscribers get them, the first of which has this number; whether they carry it. In parts of so many bytes at
/// most, but one message.
pub(super) fn encode(
    channel: &str,
    messages: &[record::Message<'_>],
    (first, numbered): (u64, bool),
    bytes_max: usize,
) -> Vec<(Segment, u64)> {
    let (mut parts, mut part, mut text) = (Vec::new(), Part::new(first), Vec::new());
    for (message, number) in messages.iter().zip(first..) {
        let timestamp = Timestamp::from_unix(Duration::from_micros(message.unix_micros));
        let stamp = Stamp { id: message.id, timestamp: &timestamp };
        let offset = numbered.then_some(number);
        text.clear();
        Envelope::broadcast(stamp, channel, message.event, message.data, offset).write(&mut text);
        let frame_len = ws::frame_len(text.len(), false);
        if part.count > 0 && part.frames.len() + frame_len > bytes_max {
            parts.push(std::mem::replace(&mut part, Part::new(number)).seal());
        }
        part.add(&text);
    }
    parts.push(part.seal());
    parts
}

/// Frames of a part of a round.
struct Part {
    first: u64,
    frames: Vec<u8>,
    count: u32,
    /// Where the last frame begins.
    last: usize,
}

impl Part {
    fn new(first: u64) -> Self {
        Self { first, frames: Vec::new(), count: 0, last: 0 }
    }

    fn add(&mut self, text: &[u8]) {
        self.last = self.frames.len();
        self.count += 1;
        ws::encode_text(&mut self.frames, text);
    }

    fn seal(mut self) -> (Segment, u64) {
        self.frames.shrink_to_fit();
        let last = u32::try_from(self.last).unwrap_or(u32::MAX);
        (Segment::new(self.frames, self.count, Segment::NO_TAG, last), self.first)
    }
}
