//! Publishing where there is a store: a message is kept first, and then it is published. And what an earlier run has kept.

use std::sync::Arc;

use super::{
    Hub,
    bus::Once,
    output::Output,
    peers::{Inner, Ticket},
    store::{AppendId, StoreCommand, StoreEvent, StoredRound, StoredState},
    storing::Waiting,
    types::{Publication, Published},
};
use crate::{
    protocol::{Stamp, Timestamp},
    reason::Reason,
    record,
};

impl Hub {
    /// Whether a message of a channel that is at home here has to be kept before it is published. A document is kept
    /// whether messages are or not, and then the channel's numbers have to be, too. With a bus that is so with all of them.
    pub(super) fn is_stored(&self, channel: &str, with_document: bool) -> bool {
        self.env.keeps && self.has_to_be_kept(channel, with_document)
    }

    #[cold]
    fn has_to_be_kept(&self, channel: &str, with_document: bool) -> bool {
        with_document
            || self.env.config.bus.is_some()
            || !self.env.config.history.of(channel).is_off()
            || self.homes.has_document(channel)
            || self.storing.has(channel)
            || self.folds(channel)
    }

    pub(super) fn is_publication_stored(&self, publication: &Publication) -> bool {
        let options = publication.options.as_ref();
        let with_document = options.is_some_and(|options| options.state.is_some());
        self.is_stored(&publication.channel, with_document)
    }

    /// A message waits for the store, or for the bus; who has this ticket is told what becomes of it.
    pub(super) fn store(
        &mut self,
        ticket: Ticket,
        credit: Option<usize>,
        publication: Publication,
        once: Option<Box<Once>>,
    ) {
        match self.env.config.bus {
            Some(_) => self.append(ticket, credit, publication, once),
            None => self.storing.add(&mut self.env, ticket, credit, publication),
        }
    }

    /// Whether as much waits for either as may.
    pub(super) fn is_store_full(&self) -> bool {
        self.env.keeps
            && match self.env.config.bus {
                Some(_) => self.appending.is_full(&self.env),
                None => self.storing.is_full(&self.env),
            }
    }

    /// Sends the store what waits, a round of each channel that has none under way.
    pub(super) fn store_ready(&mut self) {
        while let Some(channel) = self.storing.next_ready() {
            let max = self.env.config.limits.delivery.round_bytes_max;
            let waiting = self.storing.take(&channel, max);
            self.store_round(&channel, waiting);
            // Some may have been refused.
            self.settle();
        }
    }

    fn store_round(&mut self, channel: &Arc<str>, waiting: Vec<Waiting>) {
        let Some(log) = self.homes.begin_storing(&mut self.env, channel) else {
            for one in waiting {
                self.storing.drop_out(&one);
                self.answer_stored(one, Err(Reason::Busy));
            }
            return self.end_storing(channel);
        };
        let (mut records, mut round, mut state) = (Vec::new(), Vec::new(), None::<StoredState>);
        let mut document = log.document;
        let mut next = log.position.offset + 1;
        let folds = self.folds(channel);
        let mut before = folds.then(|| self.homes.document_of(channel)).flatten();
        for mut one in waiting {
            let options = one.publication.options.as_deref();
            let condition = options.and_then(|options| options.condition);
            let holds = condition.is_none_or(|condition| {
                condition.offset == document
                    && condition.epoch.is_none_or(|epoch| epoch == log.position.epoch)
            });
            if !holds {
                self.storing.drop_out(&one);
                self.answer_stored(one, Err(Reason::StateConflict));
                continue;
            }
            if folds {
                self.fold_waiting(&mut one, before.as_deref());
            }
            let options = one.publication.options.as_deref();
            if let Some(json) = options.and_then(|options| options.state.clone()) {
                before = folds.then(|| json.clone());
                document = next;
                state = Some(StoredState { offset: next, document: json });
            }
            record::push(&mut records, one.message());
            round.push(one);
            next += 1;
        }
        let Ok(count @ 1..) = u32::try_from(round.len()) else {
            return self.end_storing(channel);
        };
        let (first, epoch) = (log.position.offset + 1, log.position.epoch);
        let oldest = if log.is_kept { log.oldest } else { next };
        let id = self.storing.send(channel, round);
        self.storing.command(StoreCommand::Append {
            id,
            channel: channel.clone(),
            round: StoredRound { first, count, records: records.into() },
            epoch,
            oldest,
            state,
        });
    }

    /// The store has kept a round, or has not.
    fn on_appended(&mut self, id: AppendId, kept: bool) {
        let Some((channel, round)) = self.storing.answered(id) else { return };
        for waiting in round {
            let result = match kept {
                true => Ok(self.publish_stored(&waiting)),
                false => Err(Reason::NotKept),
            };
            self.answer_stored(waiting, result);
        }
        if kept {
            self.homes.is_in_store(&channel);
        }
        self.end_storing(&channel);
    }

    fn publish_stored(&mut self, waiting: &Waiting) -> Published {
        let time = Timestamp::from_unix(std::time::Duration::from_micros(waiting.unix_micros));
        let stamp = Stamp { id: waiting.id, timestamp: &time };
        let done = self.homes.broadcast_stored(&mut self.env, &waiting.publication, stamp);
        self.on_broadcast(done)
    }

    pub(super) fn answer_stored(&mut self, waiting: Waiting, result: Result<Published, Reason>) {
        let Waiting { publication, ticket, credit, .. } = waiting;
        let answer = match result {
            Ok(published) => Inner::Published { ticket, published },
            Err(reason) => Inner::Refused { ticket, reason },
        };
        if let (Some(bytes), Ok(published)) = (credit, result) {
            let full = self.peers.clogged(&self.env) & self.homes.remote(&publication.channel);
            if full != 0 {
                return self.peers.withhold(full, ticket, published, bytes);
            }
        }
        if let Some(bytes) = credit {
            self.peers.owe_firm(ticket.shard, bytes);
        }
        self.tell(ticket.shard, answer);
    }

    fn end_storing(&mut self, channel: &Arc<str>) {
        let over = self.storing.go_on(channel);
        self.homes.end_storing(&self.env, channel, over);
    }

    /// Something the store tells.
    pub(super) fn on_store(&mut self, event: StoreEvent) {
        match event {
            StoreEvent::Appended { id, kept } => self.on_appended(id, kept),
            StoreEvent::Channel(stored) => self.homes.restore(&mut self.env, stored),
            StoreEvent::Session { session, record } => {
                self.sessions.restore(&mut self.env, session, &record);
            }
        }
    }

    /// The next thing for the store.
    pub(super) fn next_store_command(&mut self) -> Option<Output> {
        let command = self.homes.next_command().or_else(|| self.storing.next_command());
        let command = command.or_else(|| self.sessions.next_command());
        command.map(Output::Store)
    }
}
