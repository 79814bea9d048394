//! Publishing where there is a bus: it gives each message its number, and everybody is told of it by the bus, this node too.

use std::sync::Arc;

use super::{
    Hub,
    append::{Kind, Known, Outcome, Pending, Round, UnderWay},
    bus::{Append, AppendError, Appended, BusCommand, BusError, CallId, Live, Once},
    follow::Phase,
    peers::Ticket,
    storing::Waiting,
    types::{Publication, Published},
};
use crate::{
    config::WhileAway,
    protocol::{Epoch, Position},
    reason::Reason,
    record,
};

impl Hub {
    /// A message waits for the bus; who has this ticket is told what becomes of it.
    pub(super) fn append(
        &mut self,
        ticket: Ticket,
        credit: Option<usize>,
        publication: Publication,
        once: Option<Box<Once>>,
    ) {
        let folds = self.is_folded(&publication);
        let waiting = Waiting::new(&mut self.env, ticket, credit, publication);
        let pending = Pending { waiting, since: self.env.now.mono, once, folds };
        let config = self.env.config.bus.as_ref();
        let rule = config.map(|bus| bus.while_away.of(&pending.waiting.publication.channel));
        match rule.filter(|_| !self.following.is_up()) {
            Some(WhileAway::Refuse) => {
                let outcome = Outcome::Answered(pending.waiting, Err(Reason::BusAway));
                self.appending.decide(outcome);
            }
            Some(WhileAway::Local) if !pending.is_alone() => {
                self.appending.decide(Outcome::Local(pending.waiting));
            }
            _ => self.appending.add(&self.env, pending),
        }
    }

    /// Sends the bus what waits, a round of each channel that has none under way.
    pub(super) fn append_ready(&mut self) {
        if self.appending.is_empty() {
            return;
        }
        while let Some(outcome) = self.appending.next_outcome() {
            match outcome {
                Outcome::Answered(waiting, result) => self.answer_stored(waiting, result),
                Outcome::Local(waiting) => self.publish_here(waiting),
            }
        }
        while let Some(channel) = self.appending.next_ready() {
            self.append_next(&channel);
        }
        self.settle();
    }

    /// For the subscribers of this node alone, as the bus is away.
    fn publish_here(&mut self, waiting: Waiting) {
        let channel: Arc<str> = (&*waiting.publication.channel).into();
        self.deliver_unnumbered(&channel, &[waiting.message()]);
        let subscribers = self.homes.subscribers(&channel);
        self.note_published(&channel, 1);
        self.answer_stored(waiting, Ok(Published { subscribers, ..Published::default() }));
    }

    fn append_next(&mut self, channel: &Arc<str>) {
        let Some(known) = self.reconciled(channel) else { return };
        if self.appending.under_way(channel).is_some() {
            if let Some(first) = self.appending.heard(channel) {
                return self.conclude(channel, first);
            }
            self.appending.resend(channel);
        } else {
            let max = self.env.config.limits.delivery.round_bytes_max;
            let round = self.appending.take(channel, max);
            match self.under_way(channel, round) {
                Some(under_way) => self.appending.begin(channel, under_way),
                None => return,
            }
        }
        if let Some(under_way) = self.appending.under_way(channel) {
            let command = self.command(channel, under_way, known);
            self.calls.send(command);
        }
    }

    /// What of a channel is here, which the bus is to have, too; the outer `None`: that is not known at present.
    fn reconciled(&mut self, channel: &Arc<str>) -> Option<Option<Position>> {
        let place = self.following.find(channel);
        let followed = place.and_then(|place| self.following.get(place));
        let home = followed.map(|followed| (followed.home, followed.phase == Phase::Live));
        match home {
            Some((home, true)) => Some(self.homes.anchor(home).map(|anchor| anchor.position)),
            // It goes on when that is known.
            Some((_, false)) => {
                self.appending.wait(channel, false);
                None
            }
            // What the bus has is looked at before anything is sent again: it may have been put back by another node.
            None if self.following.is_up() && self.appending.is_unsure(channel) => {
                self.appending.wait(channel, false);
                let place = self.follow(channel)?;
                self.following.set_idle(&self.env, place, true);
                None
            }
            // It may have been followed before.
            None if self.following.is_up() => Some(self.homes.last_known(channel)),
            None => {
                self.appending.wait(channel, true);
                None
            }
        }
    }

    fn under_way(&mut self, channel: &Arc<str>, round: Vec<Pending>) -> Option<UnderWay> {
        let first = round.first()?;
        let (first_id, alone) = (first.waiting.id, first.is_alone() || first.folds);
        let mut records = Vec::new();
        round.iter().for_each(|pending| record::push(&mut records, pending.waiting.message()));
        let count = u32::try_from(round.len()).unwrap_or(u32::MAX);
        let off = self.env.config.history.of(channel).is_off();
        let kind = match off && !alone {
            true => Kind::Announce,
            false => {
                let options = first.waiting.publication.options.as_deref();
                let once = first.once.as_deref().cloned();
                let (state, condition) = options
                    .map_or((None, None), |options| (options.state.clone(), options.condition));
                let taken = options.and_then(|options| options.taken.clone());
                let (state, basis) = match first.folds {
                    true => self.fold_next(channel, &round),
                    false => (state, None),
                };
                let (kept, bytes) = self.homes.kept_of(channel);
                let kept = (kept + u64::from(count), bytes + records.len());
                let retention = self.retention(channel, kept);
                let epoch = Epoch::from_random(self.env.entropy.next_u64());
                Kind::Append(Box::new(Round {
                    epoch,
                    retention,
                    state,
                    condition,
                    basis,
                    refolds: 0,
                    once,
                    taken,
                }))
            }
        };
        Some(UnderWay {
            id: self.calls.name(),
            round,
            count,
            records: records.into(),
            kind,
            first_id,
            tried: false,
            missed: None,
            heard: None,
            sent: self.env.now.mono,
        })
    }

    fn command(
        &self,
        channel: &Arc<str>,
        under_way: &UnderWay,
        known: Option<Position>,
    ) -> BusCommand {
        let UnderWay { id, count, records, .. } = under_way;
        let (id, channel, count, records) = (*id, channel.clone(), *count, records.clone());
        match &under_way.kind {
            Kind::Announce => BusCommand::Announce { id, channel, count, records },
            Kind::Append(round) => BusCommand::Append(Box::new(Append {
                id,
                writer: self.appending.writer,
                channel,
                count,
                records,
                known,
                again: under_way.again(known.map_or(0, |known| known.offset)),
                epoch: round.epoch,
                retention: round.retention,
                state: round.state.clone(),
                condition: round.condition,
                basis: round.basis,
                once: round.once.clone(),
                taken: round.taken.clone(),
            })),
        }
    }
}

/// Answers.
impl Hub {
    pub(super) fn on_bus_appended(&mut self, id: CallId, result: Result<Appended, AppendError>) {
        let Some(channel) = self.appending.answered(id) else { return };
        // What has come as a message was appended before, whatever becomes of it when it is sent again.
        if result.is_err()
            && let Some(first) = self.appending.heard(&channel)
        {
            return self.conclude(&channel, first);
        }
        match result {
            Ok(appended) => self.on_made(&channel, appended),
            Err(AppendError::Behind(_)) => self.on_behind(&channel),
            Err(AppendError::Healed) => self.on_healed_before(&channel),
            Err(AppendError::OtherBasis(document)) => self.on_other_basis(&channel, document),
            Err(AppendError::StateConflict) => self.fail_append(&channel, Reason::StateConflict),
            Err(AppendError::KeyConflict) => self.fail_append(&channel, Reason::KeyReused),
            // Whoever took it finds out, and takes it no further.
            Err(AppendError::NotOwner) => self.fail_append(&channel, Reason::BusAway),
            Err(AppendError::Gone) => self.on_gone_entry(&channel),
            Err(AppendError::Bus(error)) => self.on_not_made(&channel, error),
        }
    }

    /// Messages of which nothing is kept were told to everybody, or were not.
    pub(super) fn on_bus_announced(&mut self, id: CallId, result: Result<u32, BusError>) {
        let Some(channel) = self.appending.answered(id) else { return };
        match result {
            Ok(nodes) => {
                let others = self.others(&channel, nodes);
                let Some(done) = self.appending.done(&self.env, &channel) else { return };
                let subscribers = self.homes.subscribers(&channel) + others;
                self.note_published(&channel, done.round.len());
                for pending in done.round {
                    let published = Published { subscribers, ..Published::default() };
                    self.answer_stored(pending.waiting, Ok(published));
                }
            }
            // Nobody tells them twice.
            Err(BusError::Unknown) => self.fail_append(&channel, Reason::BusUnknown),
            Err(error) => self.on_not_made(&channel, error),
        }
    }

    fn on_made(&mut self, channel: &Arc<str>, appended: Appended) {
        let Appended { first: Position { epoch, offset: first }, repeated, .. } = appended;
        if let Some(under_way) = self.appending.under_way(channel)
            && let Kind::Append(round) = &under_way.kind
        {
            let UnderWay { count, records, sent, .. } = under_way;
            let took = self.env.now.mono.saturating_duration_since(*sent);
            self.env.tally.appended(took, *count);
            // Which messages it was is not known if it was made before: under its key it may have been another's.
            let records = Some(records.clone()).filter(|_| !repeated);
            let (count, state) = (*count, round.state.clone());
            if round.basis.is_some()
                && !repeated
                && let Some(json) = &state
            {
                let last = Position { epoch, offset: first + u64::from(count) - 1 };
                let known = Known(Some((last, json.clone())));
                self.appending.learn(channel, known);
            }
            if !repeated || self.homes.last_known(channel).is_some_and(|at| at.epoch == epoch) {
                self.on_live(channel, Live::Round { epoch, first, count, records, state });
            }
            if let Some(place) = self.following.find(channel)
                && let Some(followed) = self.following.get_mut(place)
            {
                followed.own = first;
            }
        }
        let others = self.others(channel, appended.nodes);
        self.conclude_heard(channel, appended.first, others);
    }

    /// Of so many nodes that were told of a round how many are others, if that matters: to a back-end's channel somebody may
    /// subscribe there.
    fn others(&self, channel: &str, nodes: u32) -> u32 {
        let own = u32::from(self.following.find(channel).is_some());
        if self.env.config.is_for_backend(channel) { nodes.saturating_sub(own) } else { 0 }
    }

    /// What is under way was appended there.
    pub(super) fn conclude(&mut self, channel: &Arc<str>, first: Position) {
        self.conclude_heard(channel, first, 0);
    }

    /// The same, where `others` are other nodes that may have somebody who is told.
    fn conclude_heard(&mut self, channel: &Arc<str>, first: Position, others: u32) {
        let Some(done) = self.appending.done(&self.env, channel) else { return };
        if self.env.spans.is_some() {
            self.trace_append(channel, &done, Ok(()));
        }
        let subscribers = self.homes.subscribers(channel) + others;
        self.note_published(channel, done.round.len());
        for (pending, offset) in done.round.into_iter().zip(first.offset..) {
            let published = Published { subscribers, offset, epoch: Some(first.epoch) };
            self.answer_stored(pending.waiting, Ok(published));
        }
    }

    /// The bus has less than is here, or something else: it is tried again when that is agreed.
    fn on_behind(&mut self, channel: &Arc<str>) {
        self.appending.retry(&self.env, channel, false);
        let Some(place) = self.follow(channel) else { return };
        if self.following.is_live(place) {
            self.following.wish_to_read(place, None);
        }
        self.review_interest(channel);
    }

    /// An entry of a queue is there no more: it was published before, wherever.
    fn on_gone_entry(&mut self, channel: &Arc<str>) {
        let Some(done) = self.appending.done(&self.env, channel) else { return };
        for pending in done.round {
            self.answer_stored(pending.waiting, Ok(Published::default()));
        }
    }

    /// It may be among messages that were put back. Those that are kept are heard before it is tried again; if there are others
    /// nobody will know.
    fn on_healed_before(&mut self, channel: &Arc<str>) {
        match self.appending.under_way(channel).is_some_and(|sent| sent.missed.is_some()) {
            true => self.fail_append(channel, Reason::BusUnknown),
            false => self.on_behind(channel),
        }
    }

    fn on_not_made(&mut self, channel: &Arc<str>, error: BusError) {
        match error {
            BusError::Away | BusError::Full => self.appending.retry(&self.env, channel, false),
            BusError::Unknown => self.appending.retry(&self.env, channel, true),
            BusError::Failed => self.fail_append(channel, Reason::NotKept),
        }
    }

    pub(super) fn fail_append(&mut self, channel: &Arc<str>, reason: Reason) {
        let Some(done) = self.appending.done(&self.env, channel) else { return };
        // What became of it when it was first sent nobody knows.
        let unsure = done.tried && reason == Reason::NotKept;
        let reason = if unsure { Reason::BusUnknown } else { reason };
        if self.env.spans.is_some() {
            self.trace_append(channel, &done, Err(reason));
        }
        for pending in done.round {
            self.answer_stored(pending.waiting, Err(reason));
        }
    }

    fn note_published(&mut self, channel: &str, messages: usize) {
        let label = self.env.tally.label(&self.env.config, channel);
        self.env.tally.published(label, messages);
    }
}
