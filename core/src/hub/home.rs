//! Channels at home: one hub is each channel's authority. It numbers the channel's messages, so their order is total,
//! and gathers those of a turn into one shared segment.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    Hub,
    credit::bit,
    slab::Slab,
    types::{
        Inner, Joiner, Place, Placement, Publication, Published, ShardId, Ticket, publish_weight,
        round_weight,
    },
};
use crate::{
    entropy::{KeyedMap, KeyedState},
    protocol::Envelope,
    reason::Reason,
    time::Now,
    ws,
};

/// The channels that are at home in this hub.
#[derive(Debug)]
pub(crate) struct Homes {
    placement: Placement,
    shards: u16,
    names: KeyedMap<Arc<str>, u32>,
    slots: Slab<Home>,
    /// Channels whose round has messages, each at most once.
    dirty: Vec<u32>,
    /// Subscribers of those, on all hubs.
    awaited: usize,
}

/// A channel at home. Exists while it has subscribers.
#[derive(Debug)]
struct Home {
    name: Arc<str>,
    /// Messages so far.
    offset: u64,
    /// Subscribers on all hubs.
    subscribers: u32,
    /// How many of them take compressed messages.
    deflates: u32,
    /// Subscribers by hub.
    by_shard: Vec<u32>,
    /// The other hubs with subscribers: a bit for each.
    remote: u64,
    /// Frames of the present turn.
    round: Round,
}

#[derive(Debug, Default)]
struct Round {
    frames: Vec<u8>,
    messages: u32,
    /// Where the last frame begins.
    last: u32,
    /// Number of the first message.
    first_offset: u64,
    /// Bytes of the round before: what this one is expected to need, so that its buffer is allocated once.
    expected: usize,
}

/// A broadcast before it is encoded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Broadcast<'a> {
    pub(crate) channel: &'a str,
    pub(crate) event: &'a str,
    /// A JSON object.
    pub(crate) data: &'a str,
}

impl<'a> Broadcast<'a> {
    /// Data is checked to be UTF-8 where it enters; should it not be, an empty object is sent rather than a broken one.
    pub(crate) fn of(publication: &'a Publication) -> Self {
        let data = std::str::from_utf8(&publication.data).unwrap_or("{}");
        Self { channel: &publication.channel, event: &publication.event, data }
    }

    pub(crate) fn to_owned(self) -> Publication {
        Publication {
            channel: self.channel.into(),
            event: self.event.into(),
            data: Bytes::copy_from_slice(self.data.as_bytes()),
        }
    }
}

impl Homes {
    pub(crate) fn new(keys: KeyedState, place: Place) -> Self {
        Self {
            placement: Placement::new(place),
            shards: place.shards.max(1),
            names: KeyedMap::with_hasher(keys),
            slots: Slab::new(),
            dirty: Vec::new(),
            awaited: 0,
        }
    }

    /// The hub at which `name`, a channel or an idempotency key, is at home.
    pub(crate) fn of(&self, name: &str) -> ShardId {
        self.placement.home(name)
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn gathers(&self) -> bool {
        self.awaited >= GATHERED_FOR
    }

    pub(crate) fn placement(&self) -> Placement {
        self.placement
    }
}

impl Hub {
    /// Broadcasts here, where the channel is at home, unless a hub with subscribers takes nothing in at present.
    pub(crate) fn broadcast(
        &mut self,
        now: Now,
        broadcast: Broadcast<'_>,
    ) -> Result<Published, Reason> {
        if self.full_for(broadcast.channel) != 0 {
            return Err(Reason::Busy);
        }
        Ok(self.broadcast_firmly(now, broadcast))
    }

    /// The hubs with subscribers of a channel to which as much is under way as may be.
    pub(crate) fn full_for(&self, channel: &str) -> u64 {
        if self.credits.full() == 0 {
            return 0;
        }
        let index = self.homes.names.get(channel);
        let home = index.and_then(|index| self.homes.slots.get(*index));
        home.map_or(0, |home| home.remote & self.credits.full())
    }

    /// Broadcasts whatever is under way: for messages that it is too late to refuse.
    pub(crate) fn broadcast_firmly(&mut self, now: Now, broadcast: Broadcast<'_>) -> Published {
        let label = self.metrics.label(&self.config, broadcast.channel);
        self.tally.broadcast(now.mono, label);
        let Some(&index) = self.homes.names.get(broadcast.channel) else {
            return Published { subscribers: 0, offset: 0 };
        };
        self.encode_broadcast(now, index, broadcast);
        let round_max = self.config.limits.delivery.round_bytes_max;
        let frame_max = ws::frame_len(self.scratch.len(), false);
        let full = self.homes.slots.get(index).is_some_and(|home| {
            home.round.messages > 0 && home.round.frames.len() + frame_max > round_max
        });
        if full {
            self.seal(index);
        }
        let Some(home) = self.homes.slots.get_mut(index) else {
            return Published { subscribers: 0, offset: 0 };
        };
        let round = &mut home.round;
        if round.messages == 0 {
            round.first_offset = home.offset;
            round.frames.reserve_exact(round.expected.max(frame_max));
            self.homes.dirty.push(index);
            self.homes.awaited += home.subscribers as usize;
        }
        round.last = u32::try_from(round.frames.len()).unwrap_or(u32::MAX);
        round.messages += 1;
        let offset = home.offset;
        home.offset += 1;
        ws::encode_text(&mut round.frames, &self.scratch);
        if home.remote != 0 {
            let bytes = round.frames.len().saturating_sub(round.last as usize);
            let max = self.config.limits.shards.shard_queue_bytes_max;
            self.credits.charge_all(home.remote, bytes, max);
        }
        Published { subscribers: home.subscribers, offset }
    }

    /// Writes the message of a broadcast to `self.scratch`.
    fn encode_broadcast(&mut self, now: Now, index: u32, broadcast: Broadcast<'_>) {
        let timestamp = self.timestamp(now);
        let stamp = self.stamp(&timestamp);
        let offset = match self.config.compat.offsets {
            true => self.homes.slots.get(index).map(|home| home.offset),
            false => None,
        };
        let Broadcast { channel, event, data } = broadcast;
        self.scratch.clear();
        Envelope::broadcast(stamp, channel, event, data, offset).write(&mut self.scratch);
    }

    /// Hands a channel's round to every hub with subscribers.
    fn seal(&mut self, index: u32) {
        let Some(home) = self.homes.slots.get_mut(index) else { return };
        if home.round.messages == 0 {
            return;
        }
        let round = std::mem::take(&mut home.round);
        home.round.expected = round.frames.len();
        let tag = ws::Segment::NO_TAG;
        let segment = ws::Segment::new(round.frames, round.messages, tag, round.last);
        let (name, own) = (home.name.clone(), usize::from(self.place.shard.0));
        let deflated = match home.deflates {
            0 => None,
            _ => self.deflate_round(&name, &segment),
        };
        let Some(home) = self.homes.slots.get(index) else { return };
        let (mut remote, here) = (home.remote, home.by_shard.get(own).is_some_and(|own| *own > 0));
        if remote != 0 {
            // The frames were charged one by one.
            let rest = round_weight(&name, &segment, deflated.as_deref()) - segment.len();
            self.credits.charge_all(remote, rest, self.config.limits.shards.shard_queue_bytes_max);
        }
        while remote != 0 {
            let shard = remote.trailing_zeros() as usize;
            remote &= remote - 1;
            if let Some(batch) = self.batches.get_mut(shard) {
                let message = Inner::Deliver {
                    channel: name.clone(),
                    segment: segment.clone(),
                    deflated: deflated.clone(),
                    first_offset: round.first_offset,
                };
                batch.push(super::ShardMessage(message));
            }
        }
        if here {
            self.deliver(self.place.shard, &name, segment, deflated, round.first_offset);
        }
    }

    /// Hands out what the turn's publishes gathered.
    pub(crate) fn seal_all(&mut self) {
        let mut dirty = std::mem::take(&mut self.homes.dirty);
        for index in dirty.drain(..) {
            self.seal(index);
        }
        // Sealing publishes nothing, so the list stayed empty and its memory can be used again.
        self.homes.dirty = dirty;
        self.homes.awaited = 0;
    }

    /// Hands out the channel's round if it is at home here: membership is about to change.
    pub(crate) fn seal_channel(&mut self, name: &str) {
        if let Some(&index) = self.homes.names.get(name) {
            self.seal(index);
        }
    }

    /// Another hub asks to broadcast.
    pub(crate) fn on_home_publish(
        &mut self,
        now: Now,
        ticket: Ticket,
        firm: bool,
        publication: &Publication,
    ) {
        let broadcast = Broadcast::of(publication);
        if !firm {
            let answer = match self.broadcast(now, broadcast) {
                Ok(published) => Inner::Published { ticket, published },
                Err(_) => Inner::Refused { ticket },
            };
            self.tell(now, ticket.shard, answer);
            return;
        }
        let published = self.broadcast_firmly(now, broadcast);
        let (full, bytes) = (self.full_for(&publication.channel), publish_weight(publication));
        if full != 0 {
            self.withhold(full, ticket, published, bytes);
        } else {
            self.credits.owe(ticket.shard, bytes);
            self.tell(now, ticket.shard, Inner::Published { ticket, published });
        }
    }

    /// A connection subscribes. It gets what is published from now on, so the present round goes out first.
    pub(crate) fn on_join(&mut self, now: Now, from: ShardId, channel: Arc<str>, member: Joiner) {
        self.seal_channel(&channel);
        let index = match self.homes.names.get(&channel) {
            Some(&index) => Some(index),
            None => self.found_home(&channel),
        };
        let home = index.and_then(|index| self.homes.slots.get_mut(index));
        if let Some(home) = home {
            home.subscribers += 1;
            home.deflates += u32::from(member.deflates);
            if let Some(count) = home.by_shard.get_mut(usize::from(from.0)) {
                *count += 1;
            }
            if from != self.place.shard {
                home.remote |= bit(from);
            }
        }
        self.tell(now, from, Inner::Joined { channel, member });
    }

    fn found_home(&mut self, channel: &Arc<str>) -> Option<u32> {
        let home = Home {
            name: channel.clone(),
            offset: 0,
            subscribers: 0,
            deflates: 0,
            by_shard: vec![0; usize::from(self.homes.shards)],
            remote: 0,
            round: Round::default(),
        };
        let (index, _) = self.homes.slots.insert(home)?;
        self.homes.names.insert(channel.clone(), index);
        self.tally.channels += 1;
        Some(index)
    }

    /// A connection left. The last one takes the channel with it.
    pub(crate) fn on_leave(&mut self, now: Now, from: ShardId, channel: &str, deflates: bool) {
        let Some(&index) = self.homes.names.get(channel) else { return };
        let Some(home) = self.homes.slots.get_mut(index) else { return };
        home.subscribers = home.subscribers.saturating_sub(1);
        home.deflates = home.deflates.saturating_sub(u32::from(deflates));
        let mut refund = None;
        if let Some(count) = home.by_shard.get_mut(usize::from(from.0)) {
            *count = count.saturating_sub(1);
            if *count == 0 && home.remote & bit(from) != 0 {
                home.remote &= !bit(from);
                // What the present round holds is not sent there.
                refund = Some(home.round.frames.len());
            }
        }
        if home.subscribers == 0 {
            self.homes.names.remove(channel);
            self.homes.slots.remove(index);
            self.tally.channels -= 1;
        }
        if let Some(bytes) = refund {
            self.on_done(now, from, bytes);
        }
    }
}

/// Subscribers of a turn's rounds from which on it pays to look for further input first.
const GATHERED_FOR: usize = 128;
