//! What every department of a hub may use: configuration, place, time, randomness, counts and work space.

use std::{hash::BuildHasher, sync::Arc, time::Duration};

use uuid::Uuid;

use super::{
    codecs::Codecs,
    spans::Collector,
    store::SessionId,
    types::{ConnId, Place},
};
use crate::{
    config::{Config, Dialect},
    entropy::{Entropy, KeyedState},
    metrics::Tally,
    protocol::{Stamp, Timestamp},
    time::{Instant, Now},
};

/// Handed to the methods of departments by the hub, which sets [`now`](Self::now) at each input.
#[derive(Debug)]
pub(super) struct Env {
    pub(super) config: Arc<Config>,
    pub(super) place: Place,
    /// The present input's time.
    pub(super) now: Now,
    /// When the hub was made: [`Tick`](crate::time::Tick)s are counted from it.
    pub(super) started: Instant,
    pub(super) entropy: Entropy,
    pub(super) tally: Tally,
    pub(super) codecs: Codecs,
    /// Messages may have to be kept elsewhere before they are published: there is a store, or a bus.
    pub(super) keeps: bool,
    /// Not every message is published as it is: it may have to be kept, or a document follows from it.
    pub(super) minds: bool,
    /// There are channels to which nobody else publishes.
    pub(super) owns: bool,
    /// Where messages are put together before they are copied behind their frame header.
    pub(super) scratch: Vec<u8>,
    /// Only if spans are wanted.
    pub(super) spans: Option<Box<Collector>>,
    /// What connections' public names are drawn with.
    names: [KeyedState; 2],
    /// The latest wall-clock time that was asked for, and its text, formatted once.
    formatted: (Duration, Timestamp),
}

impl Env {
    pub(super) fn new(config: Arc<Config>, place: Place, mut entropy: Entropy, now: Now) -> Self {
        let keys = entropy.hash_keys();
        Self {
            place,
            now,
            started: now.mono,
            names: [entropy.hash_keys(), entropy.hash_keys()],
            entropy,
            tally: Tally::new(config.clone(), keys, place.shard.0),
            codecs: Codecs::default(),
            keeps: config.store || config.bus.is_some(),
            minds: minds(&config),
            owns: config.has_own(),
            scratch: Vec::new(),
            spans: Collector::new(&config, place),
            formatted: (now.unix, Timestamp::from_unix(now.unix)),
            config,
        }
    }

    /// An id and the present time for one message.
    pub(super) fn stamp<'t>(&mut self, timestamp: &'t Timestamp) -> Stamp<'t> {
        Stamp { id: self.entropy.uuid(), timestamp }
    }

    /// The name by which clients know a connection. It follows from its id under keys that nobody knows, so that none has
    /// to be kept for connections that nobody asks about.
    pub(super) fn public_name(&self, conn: ConnId) -> Uuid {
        let [high, low] = self.names.map(|keys| keys.hash_one(conn).to_be_bytes());
        let mut bytes = [0; 16];
        bytes.iter_mut().zip(high.into_iter().chain(low)).for_each(|(to, from)| *to = from);
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }

    /// A name for a session.
    pub(super) fn session(&mut self) -> SessionId {
        let half = |entropy: &mut Entropy| u128::from(entropy.next_u64());
        SessionId(half(&mut self.entropy) << 64 | half(&mut self.entropy))
    }

    /// The present time as text.
    pub(super) fn timestamp(&mut self) -> Timestamp {
        if self.formatted.0 != self.now.unix {
            self.formatted = (self.now.unix, Timestamp::from_unix(self.now.unix));
        }
        self.formatted.1
    }

    /// A new configuration is in force from now on: also a new compressor, for its level may differ.
    pub(super) fn reload(&mut self, config: Arc<Config>) {
        self.tally_codecs();
        self.codecs.reset();
        let keys = self.entropy.hash_keys();
        self.tally.reload(config.clone(), keys);
        self.keeps = config.store || config.bus.is_some();
        self.minds = minds(&config);
        self.owns = config.has_own();
        self.spans = Collector::reload(self.spans.take(), &config, self.place);
        self.config = config;
    }

    /// Adds up what was compressed since the last turn.
    pub(super) fn tally_codecs(&mut self) {
        self.codecs.tally(&mut self.tally);
    }

    /// Gives back what a burst made large and the next turn will not need.
    pub(super) fn give_back(&mut self) {
        if self.scratch.capacity() > SCRATCH_KEPT_MAX {
            self.scratch = Vec::new();
        }
    }
}

fn minds(config: &Config) -> bool {
    config.store
        || config.bus.is_some()
        || config.profile.is_some()
        || config.dialects.include(Dialect::SessionBuddy)
}

/// A larger buffer is given back at the end of a turn.
const SCRATCH_KEPT_MAX: usize = 128 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::{testing::env, types::ShardId};

    #[test]
    fn every_use_of_a_place_has_a_name_of_its_own() {
        let env = env(Config::default());
        let conns = (0..3).flat_map(|index| {
            (0..3).flat_map(move |generation| {
                (0..2).map(move |shard| ConnId { index, generation, shard: ShardId(shard) })
            })
        });
        let names: Vec<_> = conns.map(|conn| env.public_name(conn)).collect();
        assert!(names.iter().all(|name| name.get_version_num() == 4), "{names:?}");
        let mut distinct = names.clone();
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), names.len());
        assert_eq!(
            env.public_name(ConnId { index: 0, generation: 0, shard: ShardId(0) }),
            names[0]
        );
    }
}
