//! What is published, and what it carries besides its message: whether it may be, and on which condition. Whatever a
//! message with nothing besides does not need is kept out of its way.

use http::Request;

use super::{
    Hub,
    bus::Once,
    errands::{self, ClaimDone, KeyUse, Outcome, Owner, PublishDone, Publisher, Verdict, Via},
    homes::{Broadcast, Broadcasted},
    http::{Refused, check_publish},
    output::Output,
    peers::{Inner, PublishOnce, Ticket, publish_weight},
    questions::{channels_of, is_object},
    spans,
    types::{CommandId, ConnId, Publication, PublicationOptions, Published},
};
use crate::{
    auth::Verb,
    protocol::{self, DecodeError, Incoming, PublishOptions, publish},
    reason::Reason,
    spans::Entrance,
    ws::Payload,
};

/// What a client wants to be published, as it came.
#[derive(Clone, Copy)]
pub(super) struct Message<'a> {
    pub(super) channel: Option<&'a str>,
    pub(super) event: Option<&'a str>,
    pub(super) data: Option<&'a str>,
}

/// What a message needs besides a channel.
const MESSAGE_RULE: &str =
    "event must be a string that is not empty and not too long, and data an object";

impl Hub {
    /// Whether the message is one, and this client may publish it.
    #[inline]
    fn check_message<'m>(
        &self,
        id: ConnId,
        message: Message<'m>,
    ) -> Result<Broadcast<'m>, Refused> {
        let config = &self.env.config;
        let limits = &config.limits.channels;
        let channel = message
            .channel
            .filter(|name| protocol::channel_is_valid(name, limits.channel_bytes_max))
            .ok_or(Reason::InvalidChannel)?;
        if self.env.owns
            && let Some(reason) = config.publishing_off(channel)
        {
            return Err(reason.into());
        }
        let event = message
            .event
            .filter(|event| !event.is_empty() && event.len() <= limits.event_bytes_max);
        let (Some(event), Some(data)) = (event, message.data) else {
            return Err(Refused::undecoded(DecodeError::Member(MESSAGE_RULE)));
        };
        let conn = self.connections.get(id);
        if !conn.is_some_and(|conn| conn.may(config, Verb::Publish, channel)) {
            return Err(Refused::forbidden(config, Verb::Publish, channel));
        }
        Ok(Broadcast { channel, event, data })
    }

    /// The request `publish` of a WebSocket client, with members of `data` that may be more than a message.
    #[cold]
    pub(super) fn on_publish_with(
        &mut self,
        id: ConnId,
        incoming: &Incoming<'_>,
        correlation: Option<&str>,
        message: Message<'_>,
    ) {
        let options = match incoming.publish_options() {
            Ok(options) => options,
            Err(error) => {
                return self.refuse_because(id, &Refused::undecoded(error), correlation);
            }
        };
        if options == PublishOptions::default() {
            return self.on_publish(id, correlation, message);
        }
        let parent = options.message.traceparent;
        let broadcast = match self.check_message(id, message) {
            Ok(broadcast) => broadcast,
            Err(refused) => {
                self.trace_refused_at_once((id, Entrance::Message), parent, refused.reason);
                return self.refuse_because(id, &refused, correlation);
            }
        };
        if !self.has_room_for(options.message.state.map_or(0, str::len)) {
            self.trace_refused_at_once((id, Entrance::Message), parent, Reason::StateTooBig);
            return self.refuse(id, Reason::StateTooBig, correlation);
        }
        let options_of = PublicationOptions::of(options.message);
        let mut publications = vec![Publication { options: options_of, ..broadcast.to_owned() }];
        let via = Via::Message { conn: id, correlation: correlation.map(Into::into) };
        let Some(conn) = self.connections.get(id) else { return };
        let user = conn.user();
        let owner = Owner::Client(user.as_deref(), conn.ip);
        let key = options.idempotency_key.map(|key| self.key_use(owner, &key, &publications));
        let mut publisher = Publisher { key, ..via.plainly() };
        if self.env.spans.is_some() {
            self.trace_publish(&mut publisher, None, &mut publications);
        }
        if self.env.config.hooks.authorize_publish {
            let left = channels_of(&publications);
            self.ask_publish(id, publisher, publications, left);
        } else {
            self.publish(publisher, publications);
        }
    }

    /// Whether a document may be so large.
    fn has_room_for(&self, state_bytes: usize) -> bool {
        state_bytes <= self.env.config.limits.history.state_bytes_max
    }

    pub(super) fn key_use(
        &self,
        owner: Owner<'_>,
        key: &str,
        publications: &[Publication],
    ) -> Box<KeyUse> {
        let nodes = self.env.config.bus.is_some();
        let digest = self.homes.placement().digest(publications, nodes);
        Box::new(KeyUse { key: errands::owned(owner, key), digest })
    }

    /// The application publishes.
    pub(super) fn on_publish_command(&mut self, id: Option<CommandId>, publication: Publication) {
        let mut publisher = Via::Command(id).plainly();
        let mut publication = publication;
        if self.env.spans.is_some() {
            self.trace_publish(&mut publisher, None, std::slice::from_mut(&mut publication));
        }
        if let Err(reason) = self.check_command(&publication) {
            self.fail_publish(publisher, reason);
        } else if publication.options.is_some() {
            self.on_publish_command_with(publisher, publication);
        } else if self.homes.of(&publication.channel) == self.env.place.shard
            && self.is_plain(&publication.channel)
        {
            match self.broadcast(Broadcast::of(&publication)) {
                Ok(published) => {
                    let done = |id| Output::Done { id, result: Ok(published) };
                    self.outputs.extend(id.map(done));
                }
                Err(reason) => self.fail_publish(publisher, reason),
            }
        } else {
            self.publish(publisher, vec![publication]);
        }
    }

    fn check_command(&self, publication: &Publication) -> Result<(), Reason> {
        let limits = &self.env.config.limits;
        let Publication { channel, event, data, options } = publication;
        if !protocol::channel_is_valid(channel, limits.channels.channel_bytes_max) {
            Err(Reason::InvalidChannel)
        } else if event.is_empty() || event.len() > limits.channels.event_bytes_max {
            Err(Reason::BadPublish)
        } else if data.len() > limits.wire.message_bytes_max {
            Err(Reason::MessageTooBig)
        } else {
            options.as_ref().map_or(Ok(()), |options| self.check_options(options))
        }
    }

    #[cold]
    fn check_options(&self, options: &PublicationOptions) -> Result<(), Reason> {
        let PublicationOptions { idempotency_key, state, .. } = options;
        let key = idempotency_key.as_ref().map(|key| key.len());
        let state = state.as_deref().unwrap_or(b"{}");
        if key.is_some_and(|len| !(1..=publish::KEY_BYTES_MAX).contains(&len)) {
            Err(Reason::BadPublish)
        } else if !self.has_room_for(state.len()) {
            Err(Reason::StateTooBig)
        } else if !std::str::from_utf8(state).is_ok_and(is_object) {
            Err(Reason::BadPublish)
        } else {
            Ok(())
        }
    }

    #[cold]
    fn on_publish_command_with(&mut self, publisher: Publisher, publication: Publication) {
        let options = publication.options.as_ref();
        let key = options.and_then(|options| options.idempotency_key.clone());
        let publications = vec![publication];
        let key = key.map(|key| self.key_use(Owner::Application, &key, &publications));
        self.publish(Publisher { key, ..publisher }, publications);
    }
}

/// By message and by `POST /publish`.
impl Hub {
    /// The request `publish` of a WebSocket client, with nothing besides the message.
    pub(super) fn on_publish(
        &mut self,
        id: ConnId,
        correlation: Option<&str>,
        message: Message<'_>,
    ) {
        let broadcast = match self.check_message(id, message) {
            Ok(broadcast) => broadcast,
            Err(refused) => {
                self.trace_refused_at_once((id, Entrance::Message), None, refused.reason);
                return self.refuse_because(id, &refused, correlation);
            }
        };
        let asks = self.env.config.hooks.authorize_publish;
        let traced = self.env.spans.is_some();
        if !asks
            && !traced
            && self.homes.of(broadcast.channel) == self.env.place.shard
            && self.is_plain(broadcast.channel)
        {
            // The usual case: nothing is copied but into the channel's round.
            match self.broadcast(broadcast) {
                Ok(published) => {
                    self.answer_published(id, broadcast.channel, published, correlation);
                }
                Err(reason) => self.refuse(id, reason, correlation),
            }
            return;
        }
        let via = Via::Message { conn: id, correlation: correlation.map(Into::into) };
        let mut publisher = via.plainly();
        let mut publications = vec![broadcast.to_owned()];
        if traced {
            self.trace_publish(&mut publisher, None, &mut publications);
        }
        if asks {
            let left = channels_of(&publications);
            self.ask_publish(id, publisher, publications, left);
        } else {
            self.publish(publisher, publications);
        }
    }

    fn answer_published(
        &mut self,
        id: ConnId,
        channel: &str,
        published: Published,
        correlation: Option<&str>,
    ) {
        self.connections.answer_published(&mut self.env, id, channel, published, correlation);
    }

    pub(super) fn on_http_publish(&mut self, id: ConnId, request: &Request<Payload<'_>>) {
        let Some(conn) = self.connections.get(id) else { return };
        let placement = self.homes.placement();
        let sender = (id, conn, self.vouched_at_hand(id));
        let checked = check_publish(&self.env, &self.tokens, &placement, sender, request);
        let (mut publisher, mut publications) = match checked {
            Ok(checked) => checked,
            Err(refused) => {
                let parent = spans::traceparent(request.headers());
                self.trace_refused_at_once((id, Entrance::Http), parent, refused.reason);
                return self.refuse_http(id, &refused);
            }
        };
        if self.env.spans.is_some() {
            self.trace_publish(&mut publisher, None, &mut publications);
        }
        if self.env.config.hooks.authorize_publish {
            let left = channels_of(&publications);
            self.ask_publish(id, publisher, publications, left);
        } else {
            self.publish(publisher, publications);
        }
    }
}

/// Carrying out.
impl Hub {
    /// Publishes what has been authorised, after its idempotency key, if it has one, was claimed.
    pub(super) fn publish(&mut self, publisher: Publisher, publications: Vec<Publication>) {
        let Some(used) = &publisher.key else {
            return self.carry_out(publisher, publications);
        };
        let KeyUse { key, digest } = (**used).clone();
        let home = self.homes.of(&key);
        if self.errands.is_crowded(&self.env) || self.peers.is_full(home) {
            return self.fail_publish(publisher, Reason::Busy);
        }
        // They wait here, but on the credit of the hub that is asked: it is for that hub that they wait.
        let bytes = publications.iter().map(Publication::weight).sum::<usize>();
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        if let Some(ticket) = self.errands.claim(&self.env, publisher, publications) {
            self.tell(home, Inner::Claim { ticket, key, digest, bytes });
        }
    }

    pub(super) fn on_claimed(&mut self, ticket: Ticket, verdict: Verdict) {
        let Some(ClaimDone { publisher, publications }) = self.errands.claimed(ticket) else {
            return;
        };
        match verdict {
            Verdict::Fresh => self.carry_out(publisher, publications),
            Verdict::Answered(kept) => {
                let results = errands::results_again(&publications, &kept);
                if let Some(open) = publisher.span {
                    self.trace_published(*open, &results);
                }
                self.answer_publish(publisher.via, &results);
            }
            Verdict::Conflict => self.fail_publish(publisher, Reason::KeyReused),
            Verdict::InProgress => self.fail_publish(publisher, Reason::KeyInUse),
        }
    }

    fn carry_out(&mut self, mut publisher: Publisher, mut publications: Vec<Publication>) {
        if self.env.config.profile.is_some() {
            publisher.copies = self.add_copies(&mut publications);
        }
        // What is refused reaches nobody: first the question, then the broadcasts.
        let crowded = self.waiting(&publications) > 0 && self.errands.is_crowded(&self.env);
        if crowded || self.is_busy_for(&publications) {
            self.give_up(publisher, Reason::Busy);
        } else if publications.first().is_some_and(Publication::is_conditional) {
            self.carry_out_if(publisher, publications);
        } else {
            self.carry_out_firmly(publisher, Vec::new(), publications);
        }
    }

    /// How many messages are at home in other hubs, or have to be kept first.
    fn waiting(&self, publications: &[Publication]) -> usize {
        let own = self.env.place.shard;
        let waits = |publication: &&Publication| {
            self.homes.of(&publication.channel) != own || self.is_publication_stored(publication)
        };
        publications.iter().filter(waits).count()
    }

    /// Publishes what cannot be refused here any more, behind those that are done.
    fn carry_out_firmly(
        &mut self,
        publisher: Publisher,
        mut results: Vec<Outcome>,
        publications: Vec<Publication>,
    ) {
        let waiting = self.waiting(&publications);
        if waiting == 0 {
            let broadcast = |publication: Publication| Outcome {
                published: self.broadcast_whole(&publication),
                ..Outcome::open(&publication)
            };
            results.extend(publications.into_iter().map(broadcast));
            return self.finish_publish(publisher, &results);
        }
        let waiting = u32::try_from(waiting).unwrap_or(u32::MAX);
        let key = self.key_everywhere(&publisher);
        let Some(ticket) = self.errands.publish(&self.env, publisher, waiting) else { return };
        let firm = results.len() + publications.len() > 1;
        // More than were counted: behind a channel's first document its other messages have to be kept as well.
        let mut waiting = 0;
        results.reserve_exact(publications.len());
        for publication in publications {
            let home = self.homes.of(&publication.channel);
            let mut outcome = Outcome::open(&publication);
            let item = u32::try_from(results.len()).unwrap_or(u32::MAX);
            let ticket = Ticket { item, ..ticket };
            if home != self.env.place.shard {
                let once = self.once(key.as_ref(), item);
                self.tell(home, publish(ticket, (firm, 0), publication, once));
                waiting += 1;
            } else if self.is_publication_stored(&publication) {
                let once = self.once(key.as_ref(), item);
                self.store(ticket, None, publication, once);
                waiting += 1;
            } else {
                outcome.published = self.broadcast_whole(&publication);
            }
            results.push(outcome);
        }
        // Answers of other hubs and of the store come in later turns, so none can have come yet.
        self.errands.set_results(ticket, results, waiting);
    }

    /// Whether a hub that one of the messages has to pass takes nothing in at present, as far as this one knows. The
    /// homes of the others may know of more.
    fn is_busy_for(&self, publications: &[Publication]) -> bool {
        let full = self.peers.full();
        let store_is_full = self.is_store_full();
        (full != 0 || store_is_full)
            && publications.iter().any(|publication| {
                let home = self.homes.of(&publication.channel);
                self.peers.is_full(home)
                    || self.homes.remote(&publication.channel) & full != 0
                    || (store_is_full
                        && home == self.env.place.shard
                        && self.is_publication_stored(publication))
            })
    }

    pub(super) fn on_published(&mut self, ticket: Ticket, published: Published) {
        let Some(done) = self.errands.published(ticket, published) else { return };
        let PublishDone { publisher, results, rest, refused } = done;
        match refused {
            Some(reason) => self.give_up(publisher, reason),
            None if rest.is_empty() => self.finish_publish(publisher, &results),
            None => self.carry_out_firmly(publisher, results, rest),
        }
    }

    /// Broadcasts here, where the channel is at home, unless a hub with subscribers takes nothing in at present.
    fn broadcast(&mut self, broadcast: Broadcast<'_>) -> Result<Published, Reason> {
        let full = self.peers.full();
        if full != 0 && self.homes.remote(broadcast.channel) & full != 0 {
            return Err(Reason::Busy);
        }
        Ok(self.broadcast_firmly(broadcast))
    }

    /// Broadcasts whatever is under way: for messages that it is too late to refuse.
    fn broadcast_firmly(&mut self, broadcast: Broadcast<'_>) -> Published {
        let done = self.homes.broadcast(&mut self.env, broadcast);
        self.on_broadcast(done)
    }

    pub(super) fn on_broadcast(&mut self, done: Broadcasted) -> Published {
        if let Some(sealed) = done.sealed {
            self.send_out(sealed);
        }
        self.peers.charge_all(&self.env, done.remote, done.bytes);
        done.published
    }

    /// Another hub asks to broadcast.
    pub(super) fn on_home_publish(
        &mut self,
        ticket: Ticket,
        firm: bool,
        publication: Publication,
        once: Option<Box<Once>>,
    ) {
        if self.is_publication_stored(&publication) {
            return self.store_for(ticket, firm, publication, once);
        }
        let publication = &publication;
        if !firm {
            let answer = match self.broadcast_if(publication) {
                Ok(published) => Inner::Published { ticket, published },
                Err(reason) => Inner::Refused { ticket, reason },
            };
            return self.tell(ticket.shard, answer);
        }
        let published = self.broadcast_whole(publication);
        let full = self.peers.clogged(&self.env) & self.homes.remote(&publication.channel);
        let bytes = publish_weight(publication);
        if full != 0 {
            self.peers.withhold(full, ticket, published, bytes);
        } else {
            self.peers.owe_firm(ticket.shard, bytes);
            self.tell(ticket.shard, Inner::Published { ticket, published });
        }
    }

    /// The same, where it has to be kept first.
    #[cold]
    fn store_for(
        &mut self,
        ticket: Ticket,
        firm: bool,
        publication: Publication,
        once: Option<Box<Once>>,
    ) {
        let remote = self.homes.remote(&publication.channel);
        if firm {
            let credit = Some(publish_weight(&publication));
            self.store(ticket, credit, publication, once);
        } else if self.is_store_full() || self.peers.full() & remote != 0 {
            self.tell(ticket.shard, Inner::Refused { ticket, reason: Reason::Busy });
        } else {
            self.store(ticket, None, publication, once);
        }
    }

    /// The idempotency key of a publish, if it is to hold on all nodes.
    fn key_everywhere(&self, publisher: &Publisher) -> Option<KeyUse> {
        let key = publisher.key.as_ref().filter(|_| self.env.config.bus.is_some())?;
        Some((**key).clone())
    }

    /// The same for one message of it.
    fn once(&self, key: Option<&KeyUse>, item: u32) -> Option<Box<Once>> {
        let KeyUse { key, digest } = key?;
        let keep = self.env.config.limits.publishing.idempotency_ttl;
        Some(Box::new(Once { key: format!("{key}#{item}").into(), digest: *digest, keep }))
    }

    /// All messages are broadcast: tells the publisher.
    fn finish_publish(&mut self, publisher: Publisher, results: &[Outcome]) {
        let Publisher { via, key, span, copies } = publisher;
        let told = results.len().saturating_sub(copies);
        let results = results.get(..told).unwrap_or_default();
        if let Some(open) = span {
            self.trace_published(*open, results);
        }
        if let Some(used) = key {
            let KeyUse { key, digest } = *used;
            let answer = Some(errands::kept(&self.env, &via, results));
            self.tell(self.homes.of(&key), Inner::Resolve { key, digest, answer });
        }
        self.answer_publish(via, results);
    }

    fn answer_publish(&mut self, via: Via, results: &[Outcome]) {
        match via {
            Via::Message { conn, correlation } => {
                let Some(outcome) = results.first().filter(|_| self.connections.is_active(conn))
                else {
                    return;
                };
                let Outcome { channel, published, told } = outcome;
                let (env, correlation) = (&mut self.env, correlation.as_deref());
                let connections = &mut self.connections;
                match told {
                    false => {
                        connections.answer_published(env, conn, channel, *published, correlation)
                    }
                    true => {
                        connections.answer_published_at(env, conn, channel, *published, correlation)
                    }
                }
            }
            Via::Http(conn) => self.answer_json(conn, errands::http_answer(results)),
            Via::Command(id) => {
                if let (Some(id), Some(first)) = (id, results.first()) {
                    self.outputs.push_back(Output::Done { id, result: Ok(first.published) });
                }
            }
            Via::Queue(slot) => self.ingress.answered(&mut self.env, slot, Ok(())),
            Via::Backend(request) => self.on_backend_told(request, results),
        }
    }

    /// A publish that was under way comes to nothing: its key can be used again.
    pub(super) fn give_up(&mut self, publisher: Publisher, reason: Reason) {
        if let Some(used) = &publisher.key {
            let KeyUse { key, digest } = (**used).clone();
            self.tell(self.homes.of(&key), Inner::Resolve { key, digest, answer: None });
        }
        self.fail_publish(publisher, reason);
    }

    pub(super) fn fail_publish(&mut self, publisher: Publisher, reason: Reason) {
        if let Some(open) = publisher.span {
            self.trace_refused(*open, reason);
        }
        match publisher.via {
            Via::Message { conn, correlation } => {
                self.refuse_active(conn, reason, correlation.as_deref());
            }
            Via::Http(conn) => self.refuse_http(conn, &reason.into()),
            Via::Command(id) => self.fail_command(id, reason),
            Via::Queue(slot) => self.ingress.answered(&mut self.env, slot, Err(reason)),
            Via::Backend(request) => self.on_backend_untold(request, reason),
        }
    }

    pub(super) fn fail_command(&mut self, id: Option<CommandId>, reason: Reason) {
        self.env.tally.error(reason);
        self.outputs.extend(id.map(|id| Output::Done { id, result: Err(reason) }));
    }

    /// Publishes the first message if its condition holds, and only then the rest.
    #[cold]
    fn carry_out_if(&mut self, publisher: Publisher, mut publications: Vec<Publication>) {
        let rest = publications.split_off(publications.len().min(1));
        let Some(first) = publications.pop() else { return };
        let (home, outcome) = (self.homes.of(&first.channel), Outcome::open(&first));
        let once = self.once(self.key_everywhere(&publisher).as_ref(), 0);
        if home != self.env.place.shard {
            // They wait here, but on the credit of the hub that is asked.
            let held = rest.iter().map(Publication::weight).sum::<usize>();
            let held = u32::try_from(held).unwrap_or(u32::MAX);
            let Some(ticket) = self.errands.first(&self.env, publisher, outcome, rest) else {
                return;
            };
            return self.tell(home, publish(ticket, (false, held), first, once));
        }
        if self.is_publication_stored(&first) {
            let ticket = self.errands.first(&self.env, publisher, outcome, rest);
            if let Some(ticket) = ticket {
                self.store(ticket, None, first, once);
            }
            return;
        }
        match self.broadcast_if(&first) {
            Ok(published) => {
                let results = vec![Outcome { published, ..outcome }];
                self.carry_out_firmly(publisher, results, rest);
            }
            Err(reason) => self.give_up(publisher, reason),
        }
    }

    /// Broadcasts a message with what it carries, here, where its channel is at home, unless its condition does not hold
    /// or a hub with subscribers takes nothing in at present.
    fn broadcast_if(&mut self, publication: &Publication) -> Result<Published, Reason> {
        let full = self.peers.full();
        if full != 0 && self.homes.remote(&publication.channel) & full != 0 {
            return Err(Reason::Busy);
        }
        let condition = publication.options.as_ref().and_then(|options| options.condition);
        if condition.is_some_and(|condition| !self.homes.holds(&publication.channel, &condition)) {
            return Err(Reason::StateConflict);
        }
        Ok(self.broadcast_whole(publication))
    }

    /// Broadcasts a message with what it carries, whatever is under way.
    fn broadcast_whole(&mut self, publication: &Publication) -> Published {
        if self.env.minds && self.is_folded(publication) {
            return self.broadcast_folded(publication);
        }
        let broadcast = Broadcast::of(publication);
        let done = match &publication.options {
            None => self.homes.broadcast(&mut self.env, broadcast),
            Some(options) => self.homes.broadcast_with(&mut self.env, broadcast, options, None),
        };
        self.on_broadcast(done)
    }
}

/// For the home of a message's channel. `held`: bytes of further messages that wait for this one.
fn publish(
    ticket: Ticket,
    (firm, held): (bool, u32),
    publication: Publication,
    once: Option<Box<Once>>,
) -> Inner {
    match once {
        None => Inner::Publish { ticket, firm, held, publication },
        Some(once) => {
            Inner::PublishOnce(Box::new(PublishOnce { ticket, firm, held, publication, once }))
        }
    }
}
