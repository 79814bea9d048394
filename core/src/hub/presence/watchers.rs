//! Who of this hub's connections watches whom, and how they are told.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::{
    super::{connections::Connections, env::Env, types::ConnId},
    Wanted,
};
use crate::{config::SlowPolicy, protocol::Kind, reason::Reason, ws::Segment};

/// How a subscription watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::hub) struct Watch {
    pub(in crate::hub) number: u64,
    /// The name by which others know the connection there.
    pub(in crate::hub) id: Uuid,
    /// What it asked for.
    pub(in crate::hub) wanted: Wanted,
}

/// Connections of this hub that are told who comes into channels and goes. A list beside the channels' own: rounds of
/// messages know nothing of it.
#[derive(Debug, Default)]
pub(in crate::hub) struct Watchers {
    /// By the channel's index here.
    watching: BTreeMap<(u32, ConnId), Watch>,
    /// The last one that was given.
    number: u64,
    /// Who had no room for an event, and is to be told so.
    missed: BTreeSet<(ConnId, u32)>,
    /// Of these, those who were not written to since.
    unwritten: Vec<ConnId>,
    /// Who watches again by a session that its client was not told is resumed: until then nothing of the channel comes.
    held: BTreeSet<(ConnId, u32)>,
}

impl Watchers {
    /// The number of another subscription.
    pub(in crate::hub) fn number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    /// A subscriber watches from now on.
    pub(in crate::hub) fn add(&mut self, channel: u32, conn: ConnId, watch: Watch) {
        self.held.remove(&(conn, channel));
        self.watching.insert((channel, conn), watch);
    }

    /// A subscriber watches from now on, and is told from [`let_go`](Self::let_go) on.
    pub(in crate::hub) fn add_held(&mut self, channel: u32, conn: ConnId, watch: Watch) {
        self.add(channel, conn, watch);
        self.held.insert((conn, channel));
    }

    /// A session is resumed: its client was told, and hears of what happens from now on.
    pub(in crate::hub) fn let_go(&mut self, conn: ConnId) {
        if !self.held.is_empty() {
            self.held.retain(|(held, _)| *held != conn);
        }
    }

    /// How a connection watches a channel, if it does.
    pub(in crate::hub) fn get(&self, channel: u32, conn: ConnId) -> Option<&Watch> {
        self.watching.get(&(channel, conn))
    }

    /// It does not subscribe any more. How it did watch, if so.
    pub(in crate::hub) fn remove(&mut self, channel: u32, conn: ConnId) -> Option<Watch> {
        let watch = self.watching.remove(&(channel, conn))?;
        self.missed.remove(&(conn, channel));
        self.held.remove(&(conn, channel));
        Some(watch)
    }

    pub(in crate::hub) fn len(&self) -> usize {
        self.watching.len()
    }

    /// Gives what has changed in a channel to all who watch it. Who has no room is told later that it has missed
    /// something, or is one of the slow readers that are returned: they are to be closed.
    pub(in crate::hub) fn deliver(
        &mut self,
        env: &mut Env,
        connections: &mut Connections,
        channel: u32,
        policy: SlowPolicy,
        segment: &Segment,
    ) -> Vec<ConnId> {
        connections.note_segment(segment);
        let (max, messages) =
            (env.config.limits.delivery.outbox_bytes_max, u64::from(segment.messages()));
        let (mut taken, mut slow) = (0, Vec::new());
        let first = ConnId { index: 0, generation: 0, shard: env.place.shard };
        let all = self.watching.range((channel, first)..);
        for ((_, conn), _) in all.take_while(|((watched, _), _)| *watched == channel) {
            if self.held.contains(&(*conn, channel)) {
                continue;
            }
            if connections.give_aside(*conn, segment, max) {
                taken += messages;
            } else if policy == SlowPolicy::Disconnect {
                slow.push(*conn);
            } else {
                env.tally.dropped(Reason::SlowReader, messages);
                if self.missed.insert((*conn, channel)) {
                    self.unwritten.push(*conn);
                }
            }
        }
        env.tally.sent(Kind::Event, taken);
        slow
    }

    /// Whether anybody is to be told that it has missed something.
    pub(in crate::hub) fn has_missed(&self) -> bool {
        !self.missed.is_empty()
    }

    /// Whether any of them was not written to since.
    #[inline]
    pub(in crate::hub) fn has_unwritten(&self) -> bool {
        !self.unwritten.is_empty()
    }

    /// Those of them who were not written to since. What they had no room for may have left in the same turn.
    pub(in crate::hub) fn take_unwritten(&mut self) -> Vec<ConnId> {
        std::mem::take(&mut self.unwritten)
    }

    /// The channels of which a connection is to be told that it has missed something: as soon as half of its outbox is
    /// free.
    pub(in crate::hub) fn take_missed(
        &mut self,
        env: &Env,
        connections: &Connections,
        conn: ConnId,
    ) -> Vec<u32> {
        let max = env.config.limits.delivery.outbox_bytes_max;
        let found = connections.get(conn);
        if !found.is_some_and(|conn| conn.ws.is_open() && conn.ws.outbox().bytes() <= max / 2) {
            return Vec::new();
        }
        let missed = self.missed.range((conn, 0)..=(conn, u32::MAX));
        let channels: Vec<u32> = missed.map(|(_, channel)| *channel).collect();
        for channel in &channels {
            self.missed.remove(&(conn, *channel));
        }
        channels
    }

    /// Nobody is told of what it does not watch.
    #[cfg(debug_assertions)]
    pub(in crate::hub) fn check(&self, subscribes: impl Fn(u32, ConnId) -> bool) {
        for (channel, conn) in self.watching.keys() {
            assert!(subscribes(*channel, *conn), "who watches a channel subscribes to it");
        }
        for (conn, channel) in &self.missed {
            assert!(self.watching.contains_key(&(*channel, *conn)), "what was missed is watched");
        }
        for (conn, channel) in &self.held {
            assert!(self.watching.contains_key(&(*channel, *conn)), "what is held is watched");
        }
    }
}
