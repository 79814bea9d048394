//! Channels at home: one hub is each channel's authority. It numbers the channel's messages, so their order is total,
//! and gathers those of a turn into one shared segment.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    env::Env,
    peers::bit,
    slab::Slab,
    types::{Place, Placement, Publication, Published, ShardId},
};
use crate::{
    entropy::{KeyedMap, KeyedState},
    protocol::Envelope,
    ws::{self, Deflated, Segment},
};

/// The channels that are at home in this hub.
#[derive(Debug)]
pub(super) struct Homes {
    placement: Placement,
    shards: u16,
    names: KeyedMap<Arc<str>, u32>,
    slots: Slab<Home>,
    /// Channels whose round has messages, each at most once.
    dirty: Vec<u32>,
    /// How many of them were sealed since the turn's end began.
    sealed: usize,
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
    round: Gathering,
}

#[derive(Debug, Default)]
struct Gathering {
    frames: Vec<u8>,
    messages: u32,
    /// Where the last frame begins.
    last: u32,
    /// Number of the first message.
    first_offset: u64,
    /// Bytes of the round before: what this one is expected to need, so that its buffer is allocated once.
    expected: usize,
}

/// A channel's round on its way to its subscribers.
#[derive(Debug)]
pub(super) struct Sealed {
    pub(super) channel: Arc<str>,
    pub(super) segment: Segment,
    /// The same compressed, if any subscriber on any hub can take that.
    pub(super) deflated: Option<Box<Deflated>>,
    pub(super) first_offset: u64,
    /// The other hubs with subscribers: a bit for each. The frames were charged to them one by one.
    pub(super) remote: u64,
    /// There are subscribers on this hub.
    pub(super) here: bool,
}

/// What came of a broadcast.
#[derive(Debug, Default)]
pub(super) struct Broadcasted {
    pub(super) published: Published,
    /// The round before it, which had no room for it.
    pub(super) sealed: Option<Sealed>,
    /// The other hubs that it goes to, and its bytes.
    pub(super) remote: u64,
    pub(super) bytes: usize,
}

/// A broadcast before it is encoded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Broadcast<'a> {
    pub(super) channel: &'a str,
    pub(super) event: &'a str,
    /// A JSON object.
    pub(super) data: &'a str,
}

impl<'a> Broadcast<'a> {
    /// Data is checked to be UTF-8 where it enters; should it not be, an empty object is sent rather than a broken one.
    pub(super) fn of(publication: &'a Publication) -> Self {
        let data = std::str::from_utf8(&publication.data).unwrap_or("{}");
        Self { channel: &publication.channel, event: &publication.event, data }
    }

    pub(super) fn to_owned(self) -> Publication {
        Publication {
            channel: self.channel.into(),
            event: self.event.into(),
            data: Bytes::copy_from_slice(self.data.as_bytes()),
            options: None,
        }
    }
}

impl Homes {
    pub(super) fn new(keys: KeyedState, place: Place) -> Self {
        Self {
            placement: Placement::new(place),
            shards: place.shards.max(1),
            names: KeyedMap::with_hasher(keys),
            slots: Slab::new(),
            dirty: Vec::new(),
            sealed: 0,
            awaited: 0,
        }
    }

    /// The hub at which `name`, a channel or an idempotency key, is at home.
    pub(super) fn of(&self, name: &str) -> ShardId {
        self.placement.home(name)
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether the turn's rounds have so many subscribers that it pays to look for further input first.
    pub(super) fn gathers(&self) -> bool {
        self.awaited >= GATHERED_FOR
    }

    pub(super) fn placement(&self) -> Placement {
        self.placement
    }

    /// The other hubs with subscribers of a channel: a bit for each.
    pub(super) fn remote(&self, channel: &str) -> u64 {
        let index = self.names.get(channel);
        let home = index.and_then(|index| self.slots.get(*index));
        home.map_or(0, |home| home.remote)
    }

    /// Adds a broadcast to its channel's round. Nobody gets it if nobody subscribes.
    pub(super) fn broadcast(&mut self, env: &mut Env, broadcast: Broadcast<'_>) -> Broadcasted {
        let label = env.tally.label(&env.config, broadcast.channel);
        env.tally.broadcast(env.now.mono, label);
        let found = self.names.get(broadcast.channel).copied();
        let Some((index, home)) = found.and_then(|at| Some((at, self.slots.get_mut(at)?))) else {
            return Broadcasted::default();
        };
        home.encode(env, broadcast);
        let frame_max = ws::frame_len(env.scratch.len(), false);
        let round = &home.round;
        let full = round.messages > 0
            && round.frames.len() + frame_max > env.config.limits.delivery.round_bytes_max;
        let sealed = if full { home.seal(env) } else { None };
        let round = &mut home.round;
        if round.messages == 0 {
            round.first_offset = home.offset;
            round.frames.reserve_exact(round.expected.max(frame_max));
            self.dirty.push(index);
            self.awaited += home.subscribers as usize;
        }
        let last = round.frames.len();
        round.last = u32::try_from(last).unwrap_or(u32::MAX);
        round.messages += 1;
        let offset = home.offset;
        home.offset += 1;
        ws::encode_text(&mut round.frames, &env.scratch);
        let bytes = round.frames.len() - last;
        let published = Published { subscribers: home.subscribers, offset };
        Broadcasted { published, sealed, remote: home.remote, bytes }
    }

    /// The next channel's round of the turn; `None`: there are no more.
    pub(super) fn seal_next(&mut self, env: &mut Env) -> Option<Option<Sealed>> {
        let Some(index) = self.dirty.get(self.sealed).copied() else {
            self.dirty.clear();
            (self.sealed, self.awaited) = (0, 0);
            return None;
        };
        self.sealed += 1;
        Some(self.slots.get_mut(index).and_then(|home| home.seal(env)))
    }

    /// The channel's round, if it is at home here: membership is about to change.
    pub(super) fn seal_channel(&mut self, env: &mut Env, name: &str) -> Option<Sealed> {
        let index = *self.names.get(name)?;
        self.slots.get_mut(index)?.seal(env)
    }

    /// A connection subscribes. It gets what is published from now on, so the present round has to be sealed before.
    pub(super) fn join(
        &mut self,
        env: &mut Env,
        from: ShardId,
        channel: &Arc<str>,
        deflates: bool,
    ) {
        let index = match self.names.get(channel) {
            Some(&index) => Some(index),
            None => self.found(env, channel),
        };
        if let Some(home) = index.and_then(|index| self.slots.get_mut(index)) {
            home.subscribers += 1;
            home.deflates += u32::from(deflates);
            if let Some(count) = home.by_shard.get_mut(usize::from(from.0)) {
                *count += 1;
            }
            if from != env.place.shard {
                home.remote |= bit(from);
            }
        }
    }

    fn found(&mut self, env: &mut Env, channel: &Arc<str>) -> Option<u32> {
        let home = Home {
            name: channel.clone(),
            offset: 0,
            subscribers: 0,
            deflates: 0,
            by_shard: vec![0; usize::from(self.shards)],
            remote: 0,
            round: Gathering::default(),
        };
        let (index, _) = self.slots.insert(home)?;
        self.names.insert(channel.clone(), index);
        env.tally.channels += 1;
        Some(index)
    }

    /// A connection left. The last one takes the channel with it. If no other of its hub is left, the bytes of the present
    /// round, which are not sent there after all.
    pub(super) fn leave(
        &mut self,
        env: &mut Env,
        from: ShardId,
        channel: &str,
        deflates: bool,
    ) -> Option<usize> {
        let index = *self.names.get(channel)?;
        let home = self.slots.get_mut(index)?;
        home.subscribers -= 1;
        home.deflates -= u32::from(deflates);
        let mut refund = None;
        if let Some(count) = home.by_shard.get_mut(usize::from(from.0)) {
            *count -= 1;
            if *count == 0 && home.remote & bit(from) != 0 {
                home.remote &= !bit(from);
                refund = Some(home.round.frames.len());
            }
        }
        if home.subscribers == 0 {
            self.names.remove(channel);
            self.slots.remove(index);
            env.tally.channels -= 1;
        }
        refund
    }

    /// Every count equals what it counts.
    #[cfg(debug_assertions)]
    pub(super) fn check(&self, own: ShardId) {
        assert_eq!(self.names.len(), self.slots.len(), "names of channels at home");
        for home in self.slots.indices().filter_map(|index| self.slots.get(index)) {
            let (name, by_shard) = (&home.name, &home.by_shard);
            assert_eq!(home.subscribers, by_shard.iter().sum::<u32>(), "subscribers of {name}");
            assert!(home.subscribers > 0 && home.deflates <= home.subscribers, "members of {name}");
            let others = by_shard.iter().zip(0..).filter(|(n, at)| **n > 0 && ShardId(*at) != own);
            let remote = others.fold(0, |mask, (_, at)| mask | bit(ShardId(at)));
            assert_eq!(home.remote, remote, "hubs with subscribers of {name}");
        }
    }
}

impl Home {
    /// Writes the message of a broadcast to the scratch.
    fn encode(&self, env: &mut Env, broadcast: Broadcast<'_>) {
        let timestamp = env.timestamp();
        let stamp = env.stamp(&timestamp);
        let offset = env.config.compat.offsets.then_some(self.offset);
        let Broadcast { channel, event, data } = broadcast;
        env.scratch.clear();
        Envelope::broadcast(stamp, channel, event, data, offset).write(&mut env.scratch);
    }

    /// Ends the round. `None` if it is empty.
    fn seal(&mut self, env: &mut Env) -> Option<Sealed> {
        if self.round.messages == 0 {
            return None;
        }
        let round = std::mem::take(&mut self.round);
        self.round.expected = round.frames.len();
        let segment = Segment::new(round.frames, round.messages, Segment::NO_TAG, round.last);
        let deflated = match self.deflates {
            0 => None,
            _ => env.codecs.deflate_round(&env.config.deflate, &self.name, &segment),
        };
        let own = usize::from(env.place.shard.0);
        Some(Sealed {
            channel: self.name.clone(),
            segment,
            deflated,
            first_offset: round.first_offset,
            remote: self.remote,
            here: self.by_shard.get(own).is_some_and(|own| *own > 0),
        })
    }
}

/// Subscribers of a turn's rounds from which on it pays to look for further input first.
const GATHERED_FOR: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Config,
        hub::testing::{OTHER, env, keys},
    };

    const OWN: ShardId = ShardId(0);

    fn homes(env: &Env) -> Homes {
        Homes::new(keys(), env.place)
    }

    fn say<'a>(channel: &'a str, data: &'a str) -> Broadcast<'a> {
        Broadcast { channel, event: "e", data }
    }

    #[test]
    fn a_turn_is_one_round_with_numbers_in_order() {
        let mut env = env(Config::default());
        let mut homes = homes(&env);
        let name: Arc<str> = "c".into();
        homes.join(&mut env, OWN, &name, false);
        homes.join(&mut env, OWN, &name, false);

        let sent: Vec<_> =
            (0..3).map(|_| homes.broadcast(&mut env, say("c", "{}")).published).collect();
        let sealed = homes.seal_next(&mut env).unwrap().unwrap();

        let expected = [0, 1, 2].map(|offset| Published { subscribers: 2, offset });
        assert_eq!(sent, expected);
        assert_eq!((sealed.segment.messages(), sealed.first_offset), (3, 0));
        assert!(sealed.here && sealed.remote == 0);
        assert!(homes.seal_next(&mut env).is_none());
        homes.check(OWN);
    }

    #[test]
    fn nobody_subscribes_to_what_has_no_home() {
        let mut env = env(Config::default());
        let mut homes = homes(&env);

        let done = homes.broadcast(&mut env, say("c", "{}"));

        assert_eq!(done.published, Published::default());
        assert!(done.sealed.is_none() && homes.seal_next(&mut env).is_none());
    }

    #[test]
    fn a_round_without_room_is_sealed_first() {
        let mut config = Config::default();
        config.limits.delivery.round_bytes_max = 400;
        let mut env = env(config);
        let mut homes = homes(&env);
        homes.join(&mut env, OWN, &"c".into(), false);
        let data = format!(r#"{{"x":"{}"}}"#, "y".repeat(100));

        assert!(homes.broadcast(&mut env, say("c", &data)).sealed.is_none());
        let second = homes.broadcast(&mut env, say("c", &data)).sealed.unwrap();
        let third = homes.seal_channel(&mut env, "c").unwrap();

        assert_eq!((second.first_offset, third.first_offset), (0, 1));
    }

    #[test]
    fn a_hub_that_left_is_given_its_round_back() {
        let mut env = env(Config::default());
        let mut homes = homes(&env);
        let name: Arc<str> = "c".into();
        homes.join(&mut env, OWN, &name, false);
        homes.join(&mut env, OTHER, &name, false);

        let done = homes.broadcast(&mut env, say("c", "{}"));
        assert_eq!(done.remote, bit(OTHER));
        assert_eq!(homes.leave(&mut env, OTHER, "c", false), Some(done.bytes));
        assert_eq!(homes.remote("c"), 0);
        assert_eq!(homes.leave(&mut env, OWN, "c", false), None);

        assert_eq!((homes.len(), env.tally.channels), (0, 0));
        homes.check(OWN);
    }
}
