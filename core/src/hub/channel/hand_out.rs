//! Handing rounds out to the outboxes of their subscribers.

use super::{Conn, Hub, Round};
use crate::{
    config::SlowPolicy,
    hub::types::{ShardId, round_weight},
    protocol::Kind,
    time::Now,
    ws::{Deflated, Segment},
};

impl Hub {
    /// A round of a channel has come for the subscribers here.
    pub(crate) fn deliver(
        &mut self,
        home: ShardId,
        name: &str,
        mut segment: Segment,
        mut deflated: Option<Box<Deflated>>,
        first_offset: u64,
    ) {
        let weight = match home == self.place.shard {
            true => 0,
            false => round_weight(name, &segment, deflated.as_deref()),
        };
        let found = self.channels.find(name);
        let found = found.and_then(|index| Some((index, self.channels.slots.get(index)?.tag)));
        let Some((channel, tag)) = found else {
            self.credits.owe(home, weight);
            return;
        };
        // This hub's own handle, where other hubs have the frames as well: when the last outbox *here* has let go must not
        // depend on how far other threads are.
        for form in
            [&mut segment].into_iter().chain(deflated.as_mut().map(|form| &mut form.segment))
        {
            form.set_tag(tag);
            self.backlog.note(form);
        }
        let credit = u32::try_from(weight).unwrap_or(u32::MAX);
        let round = Round { channel, segment, deflated, first_offset, home, credit };
        let large = round.segment.len() > self.config.limits.delivery.round_bytes_max
            || self.channels.large.iter().any(|before| before.channel == channel);
        let rounds = if large { &mut self.channels.large } else { &mut self.channels.rounds };
        rounds.push_back(round);
    }

    /// Hands out as much as every outbox that keeps up takes between two flushes. The rest waits for the next flush, so
    /// that a publisher who sends a lot at once does not make slow readers of those who are not.
    pub(crate) fn hand_out(&mut self, now: Now) {
        let budget = self.config.limits.delivery.outbox_bytes_max / 4;
        let (alone, waiting) = (self.channels.rounds() == 1, self.dirty.len());
        let mut handed = 0;
        while handed < budget
            && let Some(round) = self.channels.next_round()
        {
            handed += round.segment.len();
            self.hand_out_round(now, &round);
        }
        let added = self.dirty.len().saturating_sub(waiting);
        if alone && added <= FEW {
            self.dirty.rotate_right(added);
        }
    }

    /// Hands out everything: somebody who is owed it is about to be closed.
    pub(crate) fn hand_out_all(&mut self, now: Now) {
        while let Some(round) = self.channels.next_round() {
            self.hand_out_round(now, &round);
        }
    }

    /// Hands out the rounds of one channel: its membership is about to change.
    pub(super) fn hand_out_channel(&mut self, now: Now, index: u32) {
        // Taken out first: handing out may close connections, and that may take away rounds of other channels.
        for round in self.channels.rounds_of(index) {
            self.hand_out_round(now, &round);
        }
    }

    fn hand_out_round(&mut self, now: Now, round: &Round) {
        if let Some(channel) = self.channels.slots.get_mut(round.channel) {
            channel.next_offset = round.first_offset + u64::from(round.segment.messages());
        }
        if round.credit > 0 {
            self.credits.owe(round.home, round.credit as usize);
        }
        match round.deflated {
            None => self.hand_out_as(now, round, |_| &round.segment),
            Some(_) => self.hand_out_as(now, round, |conn| round.of(conn)),
        }
    }

    /// Compiled twice: without a compressed form, nobody is asked which one they take.
    fn hand_out_as<'r>(&mut self, now: Now, round: &'r Round, form: impl Fn(&Conn) -> &'r Segment) {
        let Some(channel) = self.channels.slots.get(round.channel) else { return };
        let policy = channel.policy;
        let max = self.config.limits.delivery.outbox_bytes_max;
        let mut taken = 0u64;
        for member in &channel.members {
            let Some(conn) = self.conns.get_mut(member.conn) else { continue };
            let segment = form(conn);
            let full = conn.ws.outbox().bytes() + segment.len() > max;
            if full || conn.lossy || (conn.blocked && policy == SlowPolicy::Latest) {
                self.channels.slow.push(member.conn);
                continue;
            }
            conn.ws.outbox_mut().push(segment);
            taken += 1;
            if !conn.dirty {
                conn.dirty = true;
                self.dirty.push_back(member.conn);
            }
        }
        self.tally.sent(Kind::Event, taken * u64::from(round.segment.messages()));
        if !self.channels.slow.is_empty() {
            self.deliver_slowly(now, policy, round);
        }
    }
}

/// So few subscribers are written to before the publisher, whose answer would cost them the time of a system call. Many
/// would keep the publisher waiting.
const FEW: usize = 8;
