//! Handing rounds out to the outboxes of their subscribers.

use super::{Channel, Channels, Round};
use crate::{
    config::SlowPolicy,
    hub::{
        connections::{Conn, Connections},
        env::Env,
        homes::{Form, Sealed, Shape, traced},
        peers::round_weight,
        types::{ConnId, ShardId},
    },
    protocol::Kind,
    ws::Segment,
};

impl Channels {
    /// A round of a channel has come from its home for the subscribers here. If there are none any more, the credit that
    /// the home is given back at once.
    pub(in crate::hub) fn deliver(
        &mut self,
        env: &Env,
        connections: &mut Connections,
        home: ShardId,
        sealed: Sealed,
    ) -> Option<usize> {
        let Sealed { channel: name, mut plain, mut positioned, first_offset, .. } = sealed;
        let weight = match home == env.place.shard {
            true => 0,
            false => round_weight(&name, &plain, positioned.as_deref()),
        };
        let found = self.find(&name);
        let Some(channel) = found else { return Some(weight) };
        let Some(Channel { tag, traced: told, .. }) = self.slots.get(channel) else {
            return Some(weight);
        };
        let tag = *tag;
        let mut traced = match (&positioned, told) {
            (Some(positioned), Some(_)) => {
                positioned.traces.as_ref().map(|traces| traced(&positioned.segment, traces))
            }
            _ => None,
        };
        // This hub's own handle, where other hubs have the frames as well: when the last outbox *here* has let go must not
        // depend on how far other threads are.
        for shape in [&mut plain].into_iter().chain(positioned.as_deref_mut()) {
            let deflated = shape.deflated.as_mut().map(|form| &mut form.segment);
            for segment in [&mut shape.segment].into_iter().chain(deflated) {
                segment.set_tag(tag);
                connections.note_segment(segment);
            }
        }
        if let Some(segment) = &mut traced {
            segment.set_tag(tag);
            connections.note_segment(segment);
        }
        let credit = u32::try_from(weight).unwrap_or(u32::MAX);
        let round = Round { channel, plain, positioned, traced, first_offset, home, credit };
        let large = round.bytes() > env.config.limits.delivery.round_bytes_max
            || self.large.iter().any(|before| before.channel == channel);
        let rounds = if large { &mut self.large } else { &mut self.rounds };
        rounds.push_back(round);
        None
    }

    /// Hands one round out. Slow readers that are to be closed for it are told by [`next_slow`](Self::next_slow).
    pub(in crate::hub) fn hand_out(
        &mut self,
        env: &mut Env,
        connections: &mut Connections,
        round: &Round,
    ) {
        let Some(channel) = self.slots.get_mut(round.channel) else { return };
        if round.first_offset > 0 {
            channel.next_offset = round.first_offset + u64::from(round.messages());
        }
        let (policy, catching) = (channel.policy, !channel.catching.is_empty());
        self.hand_out_in(env, connections, round, Form::Plain);
        match (&round.positioned, &round.traced) {
            (Some(positioned), Some(traced)) => {
                self.hand_out_traced(env, connections, round, (positioned, traced));
            }
            (Some(_), None) => self.hand_out_in(env, connections, round, Form::Positioned),
            (None, _) => {}
        }
        if !self.slow.is_empty() {
            self.deliver_slowly(env, connections, policy, round);
        }
        if catching {
            self.queue_behind(env, connections, policy, round);
        }
    }

    /// The next connection that is to be closed, because it did not take a round.
    pub(in crate::hub) fn next_slow(&mut self) -> Option<ConnId> {
        self.closing.pop_front()
    }

    fn hand_out_in(
        &mut self,
        env: &mut Env,
        connections: &mut Connections,
        round: &Round,
        form: Form,
    ) {
        let shape = round.shape(form);
        match shape.deflated {
            None => self.hand_out_as(env, connections, round, form, |_| &shape.segment),
            Some(_) => self.hand_out_as(env, connections, round, form, |conn| shape.of(conn)),
        }
    }

    /// To those who take positions: with traces, to those of them who asked for that.
    #[cold]
    fn hand_out_traced(
        &mut self,
        env: &mut Env,
        connections: &mut Connections,
        round: &Round,
        (positioned, traced): (&Shape, &Segment),
    ) {
        let Some(channel) = self.slots.get(round.channel) else { return };
        let max = env.config.limits.delivery.outbox_bytes_max;
        let only_newest = channel.policy == SlowPolicy::Latest;
        let mut taken = 0u64;
        let members = channel.members.get(Form::Positioned.index());
        for member in members.map_or(&[][..], Vec::as_slice) {
            let asked = channel.traced.as_ref().is_some_and(|told| told.contains(&member.conn));
            let segment = |conn: &Conn| if asked { traced } else { positioned.of(conn) };
            match connections.give(member.conn, segment, max, only_newest) {
                Some(true) => taken += 1,
                Some(false) => self.slow.push((member.conn, Form::Positioned)),
                None => {}
            }
        }
        env.tally.sent(Kind::Event, taken * u64::from(round.messages()));
    }

    /// Compiled twice: without a compressed form, nobody is asked which one they take.
    fn hand_out_as<'r>(
        &mut self,
        env: &mut Env,
        connections: &mut Connections,
        round: &'r Round,
        form: Form,
        segment: impl Fn(&Conn) -> &'r Segment,
    ) {
        let Some(channel) = self.slots.get(round.channel) else { return };
        let max = env.config.limits.delivery.outbox_bytes_max;
        let only_newest = channel.policy == SlowPolicy::Latest;
        let mut taken = 0u64;
        let members = channel.members.get(form.index()).map_or(&[][..], Vec::as_slice);
        for member in members {
            match connections.give(member.conn, &segment, max, only_newest) {
                Some(true) => taken += 1,
                Some(false) => self.slow.push((member.conn, form)),
                None => {}
            }
        }
        env.tally.sent(Kind::Event, taken * u64::from(round.messages()));
    }
}
