//! Errands: what waits for other hubs. A publish whose messages have other homes, a claim of an idempotency key, an order
//! that all carry out. Whoever wanted it is answered when all have answered.

mod keys;
pub(super) mod orders;

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use crate::{protocol::Epoch, reason::Reason};

pub(super) use self::keys::{Kept, Keys, Owner, Verdict, owned};
use super::{
    env::Env,
    nodes::{Contact, OrderId, OrderKind, Spread},
    output::Audit,
    peers::Ticket,
    slab::Slab,
    spans::Open,
    types::{CommandId, ConnId, Publication, Published, RequestId},
};

/// The errands of a hub.
#[derive(Debug, Default)]
pub(super) struct Errands {
    slots: Slab<Errand>,
    /// How many of them are orders.
    ordered: usize,
}

#[derive(Debug)]
enum Errand {
    /// Not all homes have answered.
    Publish {
        publisher: Publisher,
        results: Vec<Outcome>,
        waiting: u32,
        /// A message was published.
        some: bool,
        /// A message was not, because the bus is away: the others may have been.
        away: bool,
    },
    /// Its first message is conditional, and its home has not answered: without it the rest is not published.
    First { publisher: Publisher, first: Outcome, rest: Vec<Publication> },
    /// Not carried out yet: its idempotency key is being asked for.
    Claim { publisher: Publisher, publications: Vec<Publication> },
    /// Not all hubs have carried it out, or not all nodes.
    Order { order: Box<OrderDone>, waiting: u32 },
    /// Not all hubs have said where a user is connected.
    Survey { survey: Box<Survey>, waiting: u32 },
}

/// Who published, and under which key.
#[derive(Debug)]
pub(super) struct Publisher {
    pub(super) via: Via,
    pub(super) key: Option<Box<KeyUse>>,
    /// What is told of it, if that is traced.
    pub(super) span: Option<Box<Open>>,
    /// So many of its last messages are copies for channels of the server's own, of which it is told nothing.
    pub(super) copies: usize,
}

/// How a publish came, and so how it is answered.
#[derive(Debug)]
pub(super) enum Via {
    Message {
        conn: ConnId,
        correlation: Option<Box<str>>,
    },
    Http(ConnId),
    Command(Option<CommandId>),
    /// Out of a queue of the bus, under this number.
    Queue(u64),
    /// The server itself, of a request that a back-end is to answer.
    Backend(RequestId),
}

/// An idempotency key, named together with its owner, and a digest of what is to be published under it.
#[derive(Clone, Debug)]
pub(super) struct KeyUse {
    pub(super) key: Box<str>,
    pub(super) digest: u64,
}

impl Via {
    /// Without a key.
    pub(super) fn plainly(self) -> Publisher {
        Publisher { via: self, key: None, span: None, copies: 0 }
    }
}

/// Who waits for an order.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asker {
    Http(ConnId),
    Command(Option<CommandId>),
    /// Another node, whose order has this name, if it is to be confirmed.
    Node {
        id: OrderId,
        confirms: bool,
    },
}

/// What became of a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) channel: Box<str>,
    pub(super) published: Published,
    /// Its publisher is told where it stands.
    pub(super) told: bool,
}

impl Outcome {
    /// Of a message that is yet to be published.
    pub(super) fn open(publication: &Publication) -> Self {
        let (channel, told) = (publication.channel.clone(), publication.is_told());
        Self { channel, published: Published::default(), told }
    }
}

/// A publish that all homes have answered that were asked.
#[derive(Debug)]
pub(super) struct PublishDone {
    pub(super) publisher: Publisher,
    /// By message: what became of it.
    pub(super) results: Vec<Outcome>,
    /// What can be published now.
    pub(super) rest: Vec<Publication>,
    /// Why it is not known to be published as a whole, if it is not.
    pub(super) refused: Option<Reason>,
}

/// A publish whose key's home has answered.
#[derive(Debug)]
pub(super) struct ClaimDone {
    pub(super) publisher: Publisher,
    pub(super) publications: Vec<Publication>,
}

/// An order that all hubs have carried out.
#[derive(Debug)]
pub(super) struct OrderDone {
    pub(super) asker: Asker,
    pub(super) kind: OrderKind,
    /// What is to be written down of it.
    pub(super) audit: Option<Box<Audit>>,
    /// Connections that ended.
    pub(super) closed: u32,
    /// How far it has come among the nodes, if there may be others.
    pub(super) spread: Option<Spread>,
}

/// Where a user is connected, for an operator.
#[derive(Debug)]
pub(super) struct Survey {
    /// Who asked.
    pub(super) conn: ConnId,
    pub(super) user: Arc<str>,
    pub(super) found: Vec<Contact>,
    pub(super) total: u32,
    /// There is nobody else to be asked.
    pub(super) complete: bool,
}

impl Errands {
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Orders under way.
    pub(super) fn ordered(&self) -> usize {
        self.ordered
    }

    /// As many publishes wait for other hubs as may.
    pub(super) fn is_crowded(&self, env: &Env) -> bool {
        self.slots.len() - self.ordered >= env.config.limits.publishing.publishes_in_flight_max
    }

    fn hold(&mut self, env: &Env, errand: Errand) -> Option<Ticket> {
        let (index, generation) = self.slots.insert(errand)?;
        Some(Ticket { shard: env.place.shard, index, generation, item: 0 })
    }

    /// Keeps a publish until the homes of `waiting` messages have answered.
    pub(super) fn publish(
        &mut self,
        env: &Env,
        publisher: Publisher,
        waiting: u32,
    ) -> Option<Ticket> {
        self.hold(
            env,
            Errand::Publish { publisher, results: Vec::new(), waiting, some: false, away: false },
        )
    }

    /// What became of the messages so far; those that are waited for are filled in by [`published`](Self::published).
    pub(super) fn set_results(&mut self, ticket: Ticket, so_far: Vec<Outcome>, left: u32) {
        if let Some(Errand::Publish { results, waiting, .. }) =
            self.slots.get_at_mut(ticket.index, ticket.generation)
        {
            (*results, *waiting) = (so_far, left);
        }
    }

    /// Keeps a publish until the home of its first message has answered.
    pub(super) fn first(
        &mut self,
        env: &Env,
        publisher: Publisher,
        first: Outcome,
        rest: Vec<Publication>,
    ) -> Option<Ticket> {
        self.hold(env, Errand::First { publisher, first, rest })
    }

    /// A home has broadcast one message of a publish. What is done with that, if it was the last, or the first.
    pub(super) fn published(
        &mut self,
        ticket: Ticket,
        published: Published,
    ) -> Option<PublishDone> {
        let errand = self.slots.get_at_mut(ticket.index, ticket.generation)?;
        if let Errand::Publish { results, waiting, some, .. } = errand {
            *some = true;
            if let Some(outcome) = results.get_mut(ticket.item as usize) {
                outcome.published = published;
            }
            *waiting -= 1;
            if *waiting > 0 {
                return None;
            }
        } else if !matches!(errand, Errand::First { .. }) {
            return None;
        }
        match self.slots.remove(ticket.index)? {
            Errand::Publish { publisher, results, away, .. } => {
                let refused = away.then_some(Reason::BusUnknown);
                Some(PublishDone { publisher, results, rest: Vec::new(), refused })
            }
            Errand::First { publisher, first, rest } => {
                let results = vec![Outcome { published, ..first }];
                Some(PublishDone { publisher, results, rest, refused: None })
            }
            Errand::Claim { .. } | Errand::Order { .. } | Errand::Survey { .. } => None,
        }
    }

    /// A home has not broadcast the one message of a publish, or the first, and so it has come to nothing. Or the bus is away,
    /// and then only when all are answered it is known whether it has come to nothing.
    pub(super) fn refused(
        &mut self,
        ticket: Ticket,
        reason: Reason,
    ) -> Option<(Publisher, Reason)> {
        match self.slots.get_at_mut(ticket.index, ticket.generation)? {
            Errand::Publish { waiting, away, .. } if reason == Reason::BusAway && *waiting > 1 => {
                (*waiting, *away) = (*waiting - 1, true);
                return None;
            }
            Errand::Publish { .. } | Errand::First { .. } => {}
            Errand::Claim { .. } | Errand::Order { .. } | Errand::Survey { .. } => return None,
        }
        match self.slots.remove(ticket.index)? {
            Errand::Publish { publisher, results, some, .. } => {
                // Some of the results may be there from the start.
                let before = results.iter().any(|outcome| outcome.published.offset > 0);
                let unknown = reason == Reason::BusAway && (some || before);
                Some((publisher, if unknown { Reason::BusUnknown } else { reason }))
            }
            Errand::First { publisher, .. } => Some((publisher, reason)),
            Errand::Claim { .. } | Errand::Order { .. } | Errand::Survey { .. } => None,
        }
    }

    /// Keeps a publish until the home of its idempotency key has answered.
    pub(super) fn claim(
        &mut self,
        env: &Env,
        publisher: Publisher,
        publications: Vec<Publication>,
    ) -> Option<Ticket> {
        self.hold(env, Errand::Claim { publisher, publications })
    }

    /// It has.
    pub(super) fn claimed(&mut self, ticket: Ticket) -> Option<ClaimDone> {
        let errand = self.slots.get_at(ticket.index, ticket.generation)?;
        if !matches!(errand, Errand::Claim { .. }) {
            return None;
        }
        match self.slots.remove(ticket.index)? {
            Errand::Claim { publisher, publications } => {
                Some(ClaimDone { publisher, publications })
            }
            Errand::Publish { .. }
            | Errand::First { .. }
            | Errand::Order { .. }
            | Errand::Survey { .. } => None,
        }
    }

    /// Keeps an order until `waiting` hubs have carried it out; with a bus the other nodes are one more. It is not asked
    /// whether it is crowded: however busy publishers keep this hub, a token that has leaked is revoked at once.
    pub(super) fn order(
        &mut self,
        env: &Env,
        asker: Asker,
        kind: OrderKind,
        audit: Option<Box<Audit>>,
        waiting: u32,
    ) -> Option<Ticket> {
        let order = Box::new(OrderDone { asker, kind, audit, closed: 0, spread: None });
        let ticket = self.hold(env, Errand::Order { order, waiting })?;
        self.ordered += 1;
        Some(ticket)
    }

    /// A hub has ended `count` connections. What is done with that, if it was the last.
    pub(super) fn carried_out(&mut self, ticket: Ticket, count: u32) -> Option<OrderDone> {
        self.note(ticket, |order| order.closed = order.closed.saturating_add(count))
    }

    /// The other nodes have carried an order out, or nobody waits for them any longer.
    pub(super) fn spread(&mut self, ticket: Ticket, spread: Spread) -> Option<OrderDone> {
        self.note(ticket, |order| {
            order.closed = order.closed.saturating_add(spread.closed);
            order.spread = Some(spread);
        })
    }

    fn note(&mut self, ticket: Ticket, note: impl FnOnce(&mut OrderDone)) -> Option<OrderDone> {
        let errand = self.slots.get_at_mut(ticket.index, ticket.generation)?;
        let Errand::Order { order, waiting } = errand else { return None };
        note(order);
        *waiting -= 1;
        if *waiting > 0 {
            return None;
        }
        match self.slots.remove(ticket.index)? {
            Errand::Order { order, .. } => {
                self.ordered -= 1;
                Some(*order)
            }
            Errand::Publish { .. }
            | Errand::First { .. }
            | Errand::Claim { .. }
            | Errand::Survey { .. } => None,
        }
    }

    /// Keeps a question until `waiting` hubs have answered it.
    pub(super) fn survey(&mut self, env: &Env, survey: Survey, waiting: u32) -> Option<Ticket> {
        self.hold(env, Errand::Survey { survey: Box::new(survey), waiting })
    }

    /// A hub has said where the user is connected there. All of it, if it was the last.
    pub(super) fn surveyed(
        &mut self,
        ticket: Ticket,
        found: Vec<Contact>,
        total: u32,
    ) -> Option<Survey> {
        let errand = self.slots.get_at_mut(ticket.index, ticket.generation)?;
        let Errand::Survey { survey, waiting } = errand else { return None };
        survey.found.extend(found);
        survey.total = survey.total.saturating_add(total);
        *waiting -= 1;
        if *waiting > 0 {
            return None;
        }
        match self.slots.remove(ticket.index)? {
            Errand::Survey { survey, .. } => Some(*survey),
            Errand::Publish { .. }
            | Errand::First { .. }
            | Errand::Claim { .. }
            | Errand::Order { .. } => None,
        }
    }

    /// Every count equals what it counts.
    #[cfg(debug_assertions)]
    pub(super) fn check(&self) {
        let errands = || self.slots.indices().filter_map(|index| self.slots.get(index));
        let ordered = errands().filter(|errand| matches!(errand, Errand::Order { .. })).count();
        assert_eq!(self.ordered, ordered, "orders under way");
        let waits = |errand: &Errand| match errand {
            Errand::Publish { waiting, .. }
            | Errand::Order { waiting, .. }
            | Errand::Survey { waiting, .. } => *waiting > 0,
            Errand::Claim { .. } | Errand::First { .. } => true,
        };
        assert!(errands().all(waits), "what waits for nobody is done");
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
    #[serde(flatten)]
    place: Option<HttpAnswerPlace<'a>>,
}

#[derive(Serialize)]
struct HttpAnswerPlace<'a> {
    epoch: Option<&'a str>,
    offset: u64,
}

/// What has to be kept of an answer to give it again to whoever sends the same request.
pub(super) fn kept(env: &Env, via: &Via, results: &[Outcome]) -> Kept {
    let placed = matches!(via, Via::Command(_)) || env.config.compat.offsets;
    if placed || results.iter().any(|outcome| outcome.told) {
        return Kept::Places(results.iter().map(|outcome| outcome.published).collect());
    }
    Kept::Counts(results.iter().map(|outcome| outcome.published.subscribers).collect())
}

/// What became of the messages of a request of whose answer this was kept.
pub(super) fn results_again(publications: &[Publication], kept: &Kept) -> Vec<Outcome> {
    let again = |publication, published| Outcome { published, ..Outcome::open(publication) };
    match kept {
        Kept::Counts(counts) => {
            let published = counts
                .iter()
                .map(|subscribers| Published { subscribers: *subscribers, ..Published::default() });
            publications.iter().zip(published).map(|(p, published)| again(p, published)).collect()
        }
        Kept::Places(places) => {
            publications.iter().zip(&**places).map(|(p, place)| again(p, *place)).collect()
        }
    }
}

/// The body of the answer to `POST /publish`, for what became of each message.
pub(super) fn http_answer(results: &[Outcome]) -> Bytes {
    let subscribers = results.iter().map(|outcome| u64::from(outcome.published.subscribers));
    let messages = results.iter().map(|Outcome { channel, published, told }| HttpAnswerMessage {
        channel,
        subscribers: published.subscribers,
        place: told.then(|| HttpAnswerPlace {
            epoch: published.epoch.as_ref().map(Epoch::as_str),
            offset: published.offset,
        }),
    });
    let answer = HttpAnswer {
        status: "published",
        published: results.len(),
        subscribers: subscribers.sum(),
        messages: messages.collect(),
    };
    // Serialising strings and numbers into memory cannot fail.
    serde_json::to_vec(&answer).map(Bytes::from).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Config,
        hub::{
            testing::env,
            types::{PublicationOptions, ShardId},
        },
    };

    const NOBODY: Published = Published { subscribers: 0, offset: 0, epoch: None };

    fn outcome(channel: &str, published: Published) -> Outcome {
        Outcome { channel: channel.into(), published, told: false }
    }

    fn command() -> Publisher {
        Via::Command(None).plainly()
    }

    #[test]
    fn a_publish_is_done_when_the_last_home_has_answered() {
        let env = env(Config::default());
        let mut errands = Errands::default();
        let ticket = errands.publish(&env, command(), 2).unwrap();
        errands.set_results(ticket, vec![outcome("a", NOBODY), outcome("b", NOBODY)], 2);

        let second = Published { subscribers: 3, offset: 7, epoch: None };
        assert!(errands.published(Ticket { item: 1, ..ticket }, second).is_none());
        let done = errands.published(ticket, NOBODY).unwrap();

        assert_eq!(done.results, [outcome("a", NOBODY), outcome("b", second)]);
        assert!(errands.published(ticket, NOBODY).is_none(), "nobody waits any more");
        assert_eq!(errands.len(), 0);
        errands.check();
    }

    #[test]
    fn an_answer_of_another_kind_is_none() {
        let env = env(Config::default());
        let mut errands = Errands::default();
        let claim = errands.claim(&env, command(), Vec::new()).unwrap();

        assert!(errands.published(claim, NOBODY).is_none());
        assert!(
            errands.refused(claim, Reason::Busy).is_none()
                && errands.carried_out(claim, 1).is_none()
        );
        assert!(errands.claimed(claim).is_some() && errands.claimed(claim).is_none());
    }

    #[test]
    fn orders_add_up_and_crowd_nobody_out() {
        let mut config = Config::default();
        config.limits.publishing.publishes_in_flight_max = 1;
        let env = env(config);
        let mut errands = Errands::default();
        let (asker, kind) = (Asker::Command(None), OrderKind::Revoke);
        let ticket = errands.order(&env, asker, kind, None, 3).unwrap();

        assert!(!errands.is_crowded(&env));
        errands.publish(&env, command(), 1).unwrap();
        assert!(errands.is_crowded(&env));
        assert!(errands.carried_out(ticket, 2).is_none());
        let spread = Spread { told: true, nodes: 2, confirmed: 2, closed: 4, kept: false };
        assert!(errands.spread(ticket, spread).is_none());
        let done = errands.carried_out(ticket, 3).unwrap();

        assert_eq!((done.closed, done.spread), (9, Some(spread)));
        assert_eq!((errands.len(), errands.ordered()), (1, 0));
        errands.check();
    }

    #[test]
    fn the_first_message_sets_the_rest_free_or_takes_it_along() {
        let env = env(Config::default());
        let mut errands = Errands::default();
        let rest = || vec![Publication::new("b", "e", "{}")];
        let mut hold = || errands.first(&env, command(), outcome("a", NOBODY), rest()).unwrap();
        let (kept, given_up) = (hold(), hold());

        let first = Published { subscribers: 1, offset: 5, epoch: None };
        let done = errands.published(kept, first).unwrap();

        assert_eq!((done.results, done.rest), (vec![outcome("a", first)], rest()));
        assert!(
            errands.refused(given_up, Reason::Busy).is_some()
                && errands.refused(kept, Reason::Busy).is_none()
        );
        assert_eq!(errands.len(), 0);
        errands.check();
    }

    #[test]
    fn the_answer_over_http_names_each_channel_and_where_who_asked_stands() {
        let two = Published { subscribers: 2, offset: 7, epoch: Epoch::parse("0123456789") };
        let told = |channel, published| Outcome { told: true, ..outcome(channel, published) };
        assert_eq!(
            http_answer(&[outcome("a", two), outcome("b", NOBODY)]),
            r#"{"status":"published","published":2,"subscribers":2,"messages":[{"channel":"a","subscribers":2},{"channel":"b","subscribers":0}]}"#
        );
        assert_eq!(
            http_answer(&[told("a", two), told("b", NOBODY)]),
            r#"{"status":"published","published":2,"subscribers":2,"messages":[{"channel":"a","subscribers":2,"epoch":"0123456789","offset":7},{"channel":"b","subscribers":0,"epoch":null,"offset":0}]}"#
        );
    }

    #[test]
    fn of_an_answer_is_kept_what_the_request_does_not_say() {
        let env = env(Config::default());
        let place = Published { subscribers: 2, offset: 7, epoch: Epoch::parse("0123456789") };
        let plain = Publication::new("a", "e", "{}");
        let options = PublicationOptions { positions: true, ..<_>::default() };
        let asked = Publication { options: Some(Box::new(options)), ..plain.clone() };
        for (publication, via) in [
            (
                &plain,
                Via::Message {
                    conn: ConnId { index: 0, generation: 0, shard: ShardId(0) },
                    correlation: None,
                },
            ),
            (
                &asked,
                Via::Message {
                    conn: ConnId { index: 0, generation: 0, shard: ShardId(0) },
                    correlation: None,
                },
            ),
            (&plain, Via::Command(None)),
        ] {
            let outcome = Outcome { published: place, ..Outcome::open(publication) };
            let kept = kept(&env, &via, std::slice::from_ref(&outcome));
            let again = results_again(std::slice::from_ref(publication), &kept);
            assert_eq!(http_answer(&again), http_answer(&[outcome]));
            let whole = matches!(kept, Kept::Places(_));
            assert_eq!(whole, publication.is_told() || matches!(via, Via::Command(_)));
        }
    }
}
