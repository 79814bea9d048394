//! Subscribers that do not keep up: what each policy does about them, and telling them what they lost.

use super::{Channels, Round};
use crate::{
    config::SlowPolicy,
    hub::{
        connections::{Cause, Conn, Connections, Gap, List, Subscription},
        env::Env,
        homes::Form,
        types::ConnId,
    },
    protocol::{Kind, Position},
    reason::Reason,
};

impl Channels {
    /// The round for those who have no room, or have lost something already.
    pub(super) fn deliver_slowly(
        &mut self,
        env: &mut Env,
        connections: &mut Connections,
        policy: SlowPolicy,
        round: &Round,
    ) {
        let mut slow = std::mem::take(&mut self.slow);
        let max = env.config.limits.delivery.outbox_bytes_max;
        for (index, form) in slow.drain(..) {
            let Some(id) = connections.id_at(index) else { continue };
            let Some(conn) = connections.member(index) else { continue };
            if policy == SlowPolicy::Latest && conflate(env, conn, round, form) {
                connections.mark_dirty(index);
                continue;
            }
            let segment = round.of(form, conn);
            let messages = u64::from(segment.messages());
            let lossy = conn.has_gap_in(round.channel);
            if !lossy && conn.ws.outbox().bytes() + segment.len() <= max {
                conn.ws.outbox_mut().push(segment);
                env.tally.sent(Kind::Event, messages);
                connections.mark_dirty(index);
            } else if policy == SlowPolicy::Disconnect {
                env.tally.dropped(Reason::SlowReader, messages);
                self.closing.push_back(id);
            } else {
                env.tally.dropped(Reason::SlowReader, messages);
                note_gap(conn, round);
                // With nothing to write no flush would come to tell it.
                if conn.ws.outbox().is_empty() {
                    connections.mark_dirty(index);
                }
            }
        }
        self.slow = slow;
    }

    /// Does to one connection what its channels' policies say about slow readers. How many messages were dropped: none if
    /// it is to be closed.
    pub(in crate::hub) fn relieve(
        &mut self,
        env: &mut Env,
        connections: &mut Connections,
        id: ConnId,
    ) -> u32 {
        let Some(conn) = connections.get(id) else { return 0 };
        let queued = self.queued(conn);
        if queued.iter().any(|(_, policy)| *policy == SlowPolicy::Disconnect) {
            return 0;
        }
        let mut dropped = 0;
        for (channel, policy) in queued {
            let rest = self.drop_rest(connections, id, channel);
            let Some(conn) = connections.edit(id) else { break };
            dropped += self.drop_queued(conn, channel, policy, rest);
        }
        // With nothing to write no flush would come to tell of the gap.
        let written = connections.get(id).is_none_or(|conn| conn.ws.outbox().is_empty());
        let silent = dropped > 0 && written;
        env.tally.dropped(Reason::OutboxesFull, u64::from(dropped));
        if silent {
            connections.mark_dirty(id.index);
        }
        dropped
    }

    /// Channels of which a connection may have something queued, with their policies.
    fn queued(&self, conn: &Conn) -> Vec<(u32, SlowPolicy)> {
        let policy = |subscription: &Subscription| {
            let channel = self.slots.get(subscription.channel)?;
            let queued = conn.ws.outbox().replaceable(channel.tag) > 0
                || subscription.member.list() == List::Catching;
            queued.then_some((subscription.channel, channel.policy))
        };
        conn.subscriptions.iter().filter_map(policy).collect()
    }

    /// Drops what a connection has queued of a channel, or all but the newest message where that is its policy. `rest` were
    /// dropped already that would have come behind, or that and word of more that nobody had got (`unknown`). Returns the
    /// messages dropped.
    fn drop_queued(
        &self,
        conn: &mut Conn,
        index: u32,
        policy: SlowPolicy,
        (rest, unknown): (u64, bool),
    ) -> u32 {
        let Some(channel) = self.slots.get(index) else { return 0 };
        let (tag, next_offset) = (channel.tag, channel.next_offset);
        if policy == SlowPolicy::Latest && rest == 0 && !unknown {
            return conn.ws.outbox_mut().drop_older(tag);
        }
        let dropped = u64::from(conn.ws.outbox_mut().drop_tag(tag)) + rest;
        if dropped > 0 || unknown {
            // Messages that have no numbers may be among them.
            let offsets = next_offset.checked_sub(dropped).filter(|first| *first > 0);
            let offsets = offsets.map(|first| (first, next_offset - 1));
            let lost = Some(dropped).filter(|_| !unknown);
            let offsets = offsets.filter(|_| !unknown);
            let gap = Gap { channel: index, lost, offsets, cause: Cause::Slow };
            // What is queued came before what was lost already.
            conn.add_gap(gap, |known| {
                known.lost = known.lost.zip(gap.lost).map(|(behind, more)| behind + more);
                let ends = known.offsets.filter(|_| known.lost.is_some());
                let from = |first: u64| first.checked_sub(dropped).filter(|first| *first > 0);
                known.offsets = ends.and_then(|(first, last)| Some((from(first)?, last)));
            });
        }
        u32::try_from(dropped).unwrap_or(u32::MAX)
    }

    /// Tells a connection what it lost, as soon as half of its outbox is free and nothing from before is still to come.
    pub(in crate::hub) fn announce_gaps(
        &self,
        env: &mut Env,
        connections: &mut Connections,
        id: ConnId,
    ) {
        let max = env.config.limits.delivery.outbox_bytes_max;
        let list_of = |conn: &Conn, gap: &Gap| {
            let mut held = conn.subscriptions.iter();
            held.find(|held| held.channel == gap.channel).map(|held| held.member.list())
        };
        let is_due = |conn: &Conn, gap: &Gap| list_of(conn, gap) != Some(List::Catching);
        // Looked at first: a connection that is edited is flushed again, and this one may be as full as before, or have
        // nothing to be told before more has come.
        let room = |conn: &Conn| {
            conn.has_gaps()
                && conn.ws.is_open()
                && conn.ws.outbox().bytes() <= max / 2
                && conn.rare().gaps().iter().any(|gap| is_due(conn, gap))
        };
        let Some(conn) = connections.edit_if(id, room) else { return };
        let gaps = conn.take_gaps().into_iter();
        let (due, later): (Vec<Gap>, Vec<Gap>) = gaps.partition(|gap| is_due(conn, gap));
        let lists: Vec<_> = due.iter().map(|gap| list_of(conn, gap)).collect();
        for gap in later {
            conn.add_gap(gap, |_| {});
        }
        for (gap, list) in due.into_iter().zip(lists) {
            let Some(channel) = self.slots.get(gap.channel) else { continue };
            keep_queued(connections, id, channel.tag);
            let positioned = list == Some(List::Members(Form::Positioned));
            let offset =
                gap.offsets.map_or_else(|| channel.next_offset.saturating_sub(1), |(_, last)| last);
            let position = channel.epoch.map(|epoch| Position { epoch, offset });
            let position = position.filter(|_| positioned);
            connections.send_gap(env, id, &channel.name, gap, position);
        }
        connections.mark_dirty(id.index);
    }
}

/// What a connection is told next must not be overtaken by newer messages that take the place of queued ones.
pub(super) fn keep_queued(connections: &mut Connections, id: ConnId, tag: u32) {
    if let Some(conn) = connections.edit(id) {
        conn.ws.outbox_mut().keep(tag);
    }
}

/// Keeps only the newest message of the channel waiting. False if nothing of the channel waits and there is no room.
fn conflate(env: &mut Env, conn: &mut Conn, round: &Round, form: Form) -> bool {
    let max = env.config.limits.delivery.outbox_bytes_max;
    let segment = round.of(form, conn);
    if conn.has_gap_in(round.channel) {
        return false;
    }
    let newest = segment.len() - segment.last() as usize;
    let outbox = conn.ws.outbox();
    if outbox.bytes() + newest > max + outbox.replaceable(segment.tag()) {
        return false;
    }
    let Some(replaced) = conn.ws.outbox_mut().replace(segment) else { return false };
    let dropped = replaced + segment.messages() - 1;
    env.tally.dropped(Reason::SlowReader, u64::from(dropped));
    env.tally.sent(Kind::Event, 1);
    true
}

/// Adds a lost round to what the connection will be told.
pub(super) fn note_gap(conn: &mut Conn, round: &Round) {
    let lost = u64::from(round.messages());
    // A round without numbers has none that it begins with.
    let first = Some(round.first_offset).filter(|first| *first > 0);
    let offsets = first.map(|first| (first, first + lost - 1));
    let gap = Gap { channel: round.channel, lost: Some(lost), offsets, cause: Cause::Slow };
    conn.add_gap(gap, |known| known.extend(gap.lost, gap.offsets));
}
