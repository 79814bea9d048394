//! Subscribers that do not keep up: what each policy does about them, and telling them what they lost.

use super::{Conn, Gap, Hub, Round, Subscription};
use crate::{config::SlowPolicy, hub::types::ConnId, protocol::Kind, reason::Reason, time::Now};

impl Hub {
    /// The round for those who have no room, or have lost something already.
    pub(super) fn deliver_slowly(&mut self, now: Now, policy: SlowPolicy, round: &Round) {
        let mut slow = std::mem::take(&mut self.channels.slow);
        for index in slow.drain(..) {
            let Some(generation) = self.conns.generation(index) else { continue };
            let id = self.id(index, generation);
            if policy == SlowPolicy::Latest && self.conflate(id, round) {
                continue;
            }
            let max = self.config.limits.delivery.outbox_bytes_max;
            let Some(conn) = self.conns.get_mut(index) else { continue };
            let segment = round.of(conn);
            let lossy = conn.has_gap_in(round.channel);
            if !lossy && conn.ws.outbox().bytes() + segment.len() <= max {
                conn.ws.outbox_mut().push(segment);
                self.tally.sent(Kind::Event, u64::from(segment.messages()));
                self.mark_dirty(index);
            } else if policy == SlowPolicy::Disconnect {
                self.tally.dropped(Reason::SlowReader, u64::from(segment.messages()));
                self.close(now, id, Reason::SlowReader);
            } else {
                self.tally.dropped(Reason::SlowReader, u64::from(segment.messages()));
                note_gap(conn, round);
                // With nothing to write no flush would come to tell it.
                if conn.ws.outbox().is_empty() {
                    self.mark_dirty(index);
                }
            }
        }
        self.channels.slow = slow;
    }

    /// Keeps only the newest message of the channel waiting. False if nothing of the channel waits and there is no room.
    fn conflate(&mut self, id: ConnId, round: &Round) -> bool {
        let max = self.config.limits.delivery.outbox_bytes_max;
        let Some(conn) = self.conns.get_mut(id.index) else { return true };
        let segment = round.of(conn);
        if conn.has_gap_in(round.channel) {
            return false;
        }
        let newest = segment.len().saturating_sub(segment.last() as usize);
        let outbox = conn.ws.outbox();
        if outbox.bytes() + newest > max + outbox.replaceable(segment.tag()) {
            return false;
        }
        let Some(replaced) = conn.ws.outbox_mut().replace(segment) else { return false };
        self.tally.dropped(
            Reason::SlowReader,
            u64::from(replaced + segment.messages().saturating_sub(1)),
        );
        self.tally.sent(Kind::Event, 1);
        self.mark_dirty(id.index);
        true
    }

    /// Channels of which a connection may have something queued, with their policies.
    pub(crate) fn queued_channels(&self, conn: &Conn) -> Vec<(u32, SlowPolicy)> {
        let policy = |subscription: &Subscription| {
            let channel = self.channels.slots.get(subscription.channel)?;
            let queued = conn.ws.outbox().replaceable(channel.tag) > 0;
            queued.then_some((subscription.channel, channel.policy))
        };
        conn.subscriptions.iter().filter_map(policy).collect()
    }

    /// Drops what a connection has queued of a channel, or all but the newest message where that is its policy. Returns
    /// the messages dropped.
    pub(crate) fn drop_queued(&mut self, id: ConnId, index: u32, policy: SlowPolicy) -> u32 {
        let Some(channel) = self.channels.slots.get(index) else { return 0 };
        let (tag, next_offset) = (channel.tag, channel.next_offset);
        let Some(conn) = self.conns.get_mut(id.index) else { return 0 };
        if policy == SlowPolicy::Latest {
            return conn.ws.outbox_mut().drop_older(tag);
        }
        let dropped = conn.ws.outbox_mut().drop_tag(tag);
        let lost = u64::from(dropped);
        if dropped == 0 {
            return 0;
        }
        conn.lossy = true;
        let gaps = &mut conn.aside.put().gaps;
        match gaps.iter_mut().find(|gap| gap.channel == index) {
            // What is queued came before what was lost already.
            Some(gap) => {
                gap.lost += lost;
                gap.first_offset = gap.first_offset.saturating_sub(lost);
            }
            None => gaps.push(Gap {
                channel: index,
                lost,
                first_offset: next_offset.saturating_sub(lost),
                last_offset: next_offset.saturating_sub(1),
            }),
        }
        dropped
    }

    /// Tells a connection what it lost, as soon as half of its outbox is free.
    pub(crate) fn announce_gaps(&mut self, now: Now, id: ConnId) {
        let max = self.config.limits.delivery.outbox_bytes_max;
        let Some(conn) = self.conns.get_mut(id.index) else { return };
        if conn.ws.outbox().bytes() > max / 2 || !conn.ws.is_open() {
            return;
        }
        let gaps = conn.aside.get_mut().map(|aside| std::mem::take(&mut aside.gaps));
        conn.aside.tidy();
        conn.lossy = false;
        for gap in gaps.into_iter().flatten() {
            let channel = self.channels.slots.get(gap.channel);
            let Some((name, tag)) = channel.map(|channel| (channel.name.clone(), channel.tag))
            else {
                continue;
            };
            self.keep_queued(id, tag);
            self.send_gap(now, id, &name, gap);
        }
        self.mark_dirty(id.index);
    }
}

/// Adds a lost round to what the connection will be told.
fn note_gap(conn: &mut Conn, round: &Round) {
    let Round { channel, segment, first_offset, .. } = round;
    let lost = u64::from(segment.messages());
    let last_offset = first_offset + lost.saturating_sub(1);
    conn.lossy = true;
    let gaps = &mut conn.aside.put().gaps;
    match gaps.iter_mut().find(|gap| gap.channel == *channel) {
        Some(gap) => {
            gap.lost += lost;
            gap.last_offset = last_offset;
        }
        None => {
            gaps.push(Gap { channel: *channel, lost, first_offset: *first_offset, last_offset })
        }
    }
}
