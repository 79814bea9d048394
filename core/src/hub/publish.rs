//! Publishing: by message, by `POST /publish`, by command. Several messages may have several homes; the publisher is
//! answered when all have answered.

use bytes::Bytes;
use serde::Serialize;

use super::{
    Hub,
    conn::Session,
    home::Broadcast,
    idempotency::Verdict,
    types::{Audit, CommandId, ConnId, Inner, Output, Publication, Published, Ticket},
};
use crate::{auth::Verb, protocol, reason::Reason, time::Now};

/// Who published, and how to answer.
#[derive(Debug)]
pub(crate) enum Origin {
    Message {
        conn: ConnId,
        correlation: Option<Box<str>>,
    },
    Http {
        conn: ConnId,
        key: Option<Box<str>>,
        digest: u64,
    },
    Command {
        id: Option<CommandId>,
    },
    /// Not a publish: tokens are revoked, and the hubs' answers are waited for in the same way.
    Revoke {
        asker: Asker,
        audit: Box<Audit>,
    },
}

/// Who waits for a revocation.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asker {
    Http(ConnId),
    Command(Option<CommandId>),
}

impl Origin {
    pub(crate) fn correlation(&self) -> Option<&str> {
        match self {
            Self::Message { correlation, .. } => correlation.as_deref(),
            Self::Http { .. } | Self::Command { .. } | Self::Revoke { .. } => None,
        }
    }
}

/// A publish that waits for other hubs.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) origin: Origin,
    /// Not carried out yet: its idempotency key is being asked for.
    pub(crate) claimed: Option<Vec<Publication>>,
    pub(crate) results: Vec<(Box<str>, Published)>,
    pub(crate) waiting: u32,
    /// Not a publish: see [`Origin::Revoke`].
    pub(crate) revokes: bool,
}

impl Pending {
    pub(crate) fn of(origin: Origin) -> Self {
        Self { origin, claimed: None, results: Vec::new(), waiting: 0, revokes: false }
    }
}

/// The body of the answer to `POST /publish`.
#[derive(Serialize)]
struct HttpAnswer<'a> {
    status: &'a str,
    published: usize,
    subscribers: u64,
    messages: Vec<HttpAnswerMessage<'a>>,
}

#[derive(Serialize)]
struct HttpAnswerMessage<'a> {
    channel: &'a str,
    subscribers: u32,
}

impl Hub {
    /// The request `publish` of a WebSocket client.
    pub(crate) fn on_publish_message(
        &mut self,
        now: Now,
        id: ConnId,
        correlation: Option<&str>,
        channel: Option<&str>,
        event: Option<&str>,
        data: Option<&str>,
    ) {
        let limits = &self.config.limits;
        let Some(channel) = channel
            .filter(|name| protocol::channel_is_valid(name, limits.channels.channel_bytes_max))
        else {
            self.refuse(now, id, Reason::InvalidChannel, correlation);
            return;
        };
        let event = event
            .filter(|event| !event.is_empty() && event.len() <= limits.channels.event_bytes_max);
        let (Some(event), Some(data)) = (event, data) else {
            self.refuse(now, id, Reason::Decode, correlation);
            return;
        };
        if !self.allows(id, Verb::Publish, channel) {
            self.refuse(now, id, Reason::PublishForbidden, correlation);
            return;
        }
        let broadcast = Broadcast { channel, event, data };
        if !self.config.hooks.authorize_publish && self.homes.of(channel) == self.place.shard {
            // The usual case: nothing is copied but into the channel's round.
            match self.broadcast(now, broadcast) {
                Ok(published) => self.answer_published(now, id, channel, published, correlation),
                Err(reason) => self.refuse(now, id, reason, correlation),
            }
            return;
        }
        let origin = Origin::Message { conn: id, correlation: correlation.map(Into::into) };
        let publications = vec![broadcast.to_owned()];
        if self.config.hooks.authorize_publish {
            self.ask_publish(now, id, origin, publications);
        } else {
            self.publish(now, origin, publications);
        }
    }

    pub(crate) fn on_publish_command(
        &mut self,
        now: Now,
        id: Option<CommandId>,
        publication: Publication,
    ) {
        let limits = &self.config.limits;
        let channel =
            protocol::channel_is_valid(&publication.channel, limits.channels.channel_bytes_max);
        let event = !publication.event.is_empty()
            && publication.event.len() <= limits.channels.event_bytes_max;
        let size = publication.data.len() <= limits.wire.message_bytes_max;
        let origin = Origin::Command { id };
        match (channel, event, size) {
            (false, _, _) => self.fail_publish(now, &origin, Reason::InvalidChannel),
            (_, false, _) => self.fail_publish(now, &origin, Reason::BadPublish),
            (_, _, false) => self.fail_publish(now, &origin, Reason::MessageTooBig),
            (true, true, true) if self.homes.of(&publication.channel) == self.place.shard => {
                match self.broadcast(now, Broadcast::of(&publication)) {
                    Ok(published) => {
                        let done = |id| Output::Done { id, result: Ok(published) };
                        self.outputs.extend(id.map(done));
                    }
                    Err(reason) => self.fail_publish(now, &origin, reason),
                }
            }
            (true, true, true) => self.publish(now, origin, vec![publication]),
        }
    }

    /// Publishes what has been authorised, after its idempotency key, if it has one, was claimed.
    pub(crate) fn publish(&mut self, now: Now, origin: Origin, publications: Vec<Publication>) {
        let Origin::Http { key: Some(key), digest, .. } = &origin else {
            self.carry_out(now, origin, publications);
            return;
        };
        let (key, digest) = (key.clone(), *digest);
        let home = self.homes.of(&key);
        if self.is_crowded() || self.credits.is_full(home) {
            self.fail_publish(now, &origin, Reason::Busy);
            return;
        }
        // They wait here, but on the credit of the hub that is asked: it is for that hub that they wait.
        let bytes = publications.iter().map(Publication::weight).sum::<usize>();
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let pending = Pending { claimed: Some(publications), waiting: 1, ..Pending::of(origin) };
        if let Some(ticket) = self.hold(pending) {
            self.tell(now, home, Inner::Claim { ticket, key, digest, bytes });
        }
    }

    /// As many publishes wait for other hubs as may.
    fn is_crowded(&self) -> bool {
        self.publishes.len() - self.revoking
            >= self.config.limits.publishing.publishes_in_flight_max
    }

    /// Keeps a publish until other hubs have answered.
    pub(crate) fn hold(&mut self, pending: Pending) -> Option<Ticket> {
        let (index, generation) = self.publishes.insert(pending)?;
        Some(Ticket { shard: self.place.shard, index, generation, item: 0 })
    }

    fn carry_out(&mut self, now: Now, origin: Origin, publications: Vec<Publication>) {
        let own = self.place.shard;
        let is_remote =
            |this: &Self, publication: &Publication| this.homes.of(&publication.channel) != own;
        let remote = publications.iter().filter(|publication| is_remote(self, publication)).count();
        // What is refused reaches nobody: first the question, then the broadcasts.
        if (remote > 0 && self.is_crowded()) || self.is_busy_for(&publications) {
            self.give_up(now, &origin, Reason::Busy);
            return;
        }
        if remote == 0 {
            let broadcast = |publication: Publication| {
                let published = self.broadcast_firmly(now, Broadcast::of(&publication));
                (publication.channel, published)
            };
            let results: Vec<_> = publications.into_iter().map(broadcast).collect();
            self.finish_publish(now, origin, &results);
            return;
        }
        let waiting = u32::try_from(remote).unwrap_or(u32::MAX);
        let pending = Pending { waiting, ..Pending::of(origin) };
        let Some(ticket) = self.hold(pending) else { return };
        let firm = publications.len() > 1;
        let mut results: Vec<(Box<str>, Published)> = Vec::with_capacity(publications.len());
        for (publication, item) in publications.into_iter().zip(0u32..) {
            let channel = publication.channel.clone();
            let mut published = Published { subscribers: 0, offset: 0 };
            if is_remote(self, &publication) {
                let ticket = Ticket { item, ..ticket };
                let home = self.homes.of(&channel);
                self.tell(now, home, Inner::Publish { ticket, firm, publication });
            } else {
                published = self.broadcast_firmly(now, Broadcast::of(&publication));
            }
            results.push((channel, published));
        }
        // Answers of other hubs come in later turns, so none can have come yet.
        if let Some(pending) = self.pending(ticket) {
            pending.results = results;
        }
    }

    /// Whether a hub that one of the messages has to pass takes nothing in at present, as far as this one knows. The
    /// homes of the others may know of more.
    fn is_busy_for(&self, publications: &[Publication]) -> bool {
        self.credits.full() != 0
            && publications.iter().any(|publication| {
                let home = self.homes.of(&publication.channel);
                self.credits.is_full(home) || self.full_for(&publication.channel) != 0
            })
    }

    /// A home has not broadcast the one message of a waiting publish.
    pub(crate) fn on_publish_refused(&mut self, now: Now, ticket: Ticket) {
        if self.pending(ticket).is_some()
            && let Some(Pending { origin, .. }) = self.publishes.remove(ticket.index)
        {
            self.give_up(now, &origin, Reason::Busy);
        }
    }

    /// A publish that was under way comes to nothing: its key can be used again.
    fn give_up(&mut self, now: Now, origin: &Origin, reason: Reason) {
        if let Origin::Http { key: Some(key), .. } = origin {
            let settle = Inner::Settle { key: key.clone(), answer: None };
            self.tell(now, self.homes.of(key), settle);
        }
        self.fail_publish(now, origin, reason);
    }

    /// A home has broadcast one message of a waiting publish.
    pub(crate) fn on_published(&mut self, now: Now, ticket: Ticket, published: Published) {
        let Some(pending) = self.pending(ticket) else { return };
        if let Some((_, slot)) = pending.results.get_mut(ticket.item as usize) {
            *slot = published;
        }
        pending.waiting = pending.waiting.saturating_sub(1);
        if pending.waiting == 0
            && let Some(Pending { origin, results, revokes, .. }) =
                self.publishes.remove(ticket.index)
        {
            self.revoking -= usize::from(revokes);
            self.finish_publish(now, origin, &results);
        }
    }

    fn pending(&mut self, ticket: Ticket) -> Option<&mut Pending> {
        self.publishes.get_at(ticket.index, ticket.generation)?;
        self.publishes.get_mut(ticket.index)
    }

    /// This hub is the home of an idempotency key.
    pub(crate) fn on_claim(&mut self, now: Now, ticket: Ticket, key: Box<str>, digest: u64) {
        let (max, ttl) = (
            self.config.limits.publishing.idempotency_keys_max,
            self.config.limits.publishing.idempotency_ttl,
        );
        let verdict = self.keys.claim(now.mono, key, digest, max, ttl);
        self.tell(now, ticket.shard, Inner::Claimed { ticket, verdict });
    }

    pub(crate) fn on_claimed(&mut self, now: Now, ticket: Ticket, verdict: Verdict) {
        if self.pending(ticket).is_none() {
            return;
        }
        let Some(Pending { origin, claimed, .. }) = self.publishes.remove(ticket.index) else {
            return;
        };
        match (verdict, &origin) {
            (Verdict::Fresh, _) => self.carry_out(now, origin, claimed.unwrap_or_default()),
            (Verdict::Answered(answer), Origin::Http { conn, .. }) => {
                self.answer_json(now, *conn, 200, answer)
            }
            (Verdict::Conflict, _) => self.fail_publish(now, &origin, Reason::KeyReused),
            (Verdict::InProgress | Verdict::Answered(_), _) => {
                self.fail_publish(now, &origin, Reason::KeyInUse)
            }
        }
    }

    /// All messages are broadcast: tells the publisher.
    fn finish_publish(&mut self, now: Now, origin: Origin, results: &[(Box<str>, Published)]) {
        let first = results.first();
        match origin {
            Origin::Message { conn, correlation } => {
                let Some((channel, published)) = first else { return };
                if self.conn(conn).is_some_and(|found| found.session == Session::Active) {
                    self.answer_published(now, conn, channel, *published, correlation.as_deref());
                    self.settle(conn);
                }
            }
            Origin::Http { conn, key, .. } => {
                let answer = http_answer(results);
                if let Some(key) = key {
                    self.tell(
                        now,
                        self.homes.of(&key),
                        Inner::Settle { key, answer: Some(answer.clone()) },
                    );
                }
                self.answer_json(now, conn, 200, answer);
            }
            Origin::Command { id } => {
                if let (Some(id), Some((_, first))) = (id, first) {
                    self.outputs.push_back(Output::Done { id, result: Ok(*first) });
                }
            }
            Origin::Revoke { asker, audit } => {
                let closed = reached(results).try_into().unwrap_or(u32::MAX);
                self.finish_revoke(now, asker, audit, Published { subscribers: closed, offset: 0 });
            }
        }
    }

    pub(crate) fn fail_publish(&mut self, now: Now, origin: &Origin, reason: Reason) {
        match origin {
            Origin::Message { conn, correlation } => {
                if self.conn(*conn).is_some_and(|found| found.session == Session::Active) {
                    self.refuse(now, *conn, reason, correlation.as_deref());
                    self.settle(*conn);
                }
            }
            Origin::Http { conn, .. } => self.refuse_http(now, *conn, reason),
            Origin::Revoke { asker, audit } => {
                self.fail_revoke(now, *asker, audit.clone(), &reason.into());
            }
            Origin::Command { id } => {
                self.tally.error(reason);
                if let Some(id) = id {
                    self.outputs.push_back(Output::Done { id: *id, result: Err(reason) });
                }
            }
        }
    }
}

/// Connections that all hubs together counted.
fn reached(results: &[(Box<str>, Published)]) -> u64 {
    results.iter().map(|(_, published)| u64::from(published.subscribers)).sum()
}

fn http_answer(results: &[(Box<str>, Published)]) -> Bytes {
    let message =
        |(channel, published): &'_ (Box<str>, Published)| (channel.clone(), published.subscribers);
    let reached: Vec<(Box<str>, u32)> = results.iter().map(message).collect();
    let answer = HttpAnswer {
        status: "published",
        published: reached.len(),
        subscribers: reached.iter().map(|(_, subscribers)| u64::from(*subscribers)).sum(),
        messages: reached
            .iter()
            .map(|(channel, count)| HttpAnswerMessage { channel, subscribers: *count })
            .collect(),
    };
    // Serialising strings and numbers into memory cannot fail.
    serde_json::to_vec(&answer).map(Bytes::from).unwrap_or_default()
}
