//! Where a hub's spans begin and end. All of it is out of the way of a hub that has none.

use std::{collections::BTreeMap, sync::Arc};

use http::HeaderMap;

use super::{
    Hub,
    append::UnderWay,
    connections::Phase,
    env::Env,
    errands::{Outcome, Publisher, Via},
    types::{ConnId, Place, Publication, PublicationOptions},
};
use crate::{
    config::Config,
    entropy::Entropy,
    protocol::TraceParent,
    reason::Reason,
    spans::{Entrance, Operation, Span, Spans, Tracing},
    time::Instant,
};

/// A span that has not ended.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Open {
    span: Span,
    /// When it began, by the clock that nobody sets.
    began: Instant,
}

/// The spans of a hub.
#[derive(Debug)]
pub(super) struct Collector {
    tracing: Tracing,
    /// Ids are drawn from it.
    entropy: Entropy,
    /// Those that end with the turn, with when they began.
    ending: Vec<(Instant, Span)>,
    spans: Spans,
    /// Connections whose token has not come, with the handshake and when that was.
    unauthenticated: BTreeMap<ConnId, Open>,
}

impl Collector {
    /// Nothing if the configuration wants no spans.
    pub(super) fn new(config: &Config, place: Place) -> Option<Box<Self>> {
        let tracing = config.tracing?;
        let mut seed = place.seed;
        seed.0.iter_mut().zip(SPAN_STREAM).for_each(|(byte, other)| *byte ^= other);
        let mut entropy = Entropy::new(seed);
        for _ in 0..place.shard.0 {
            entropy = entropy.fork();
        }
        Some(Box::new(Self {
            tracing,
            entropy,
            ending: Vec::new(),
            spans: Spans::default(),
            unauthenticated: BTreeMap::new(),
        }))
    }

    /// Under another configuration.
    pub(super) fn reload(
        before: Option<Box<Self>>,
        config: &Config,
        place: Place,
    ) -> Option<Box<Self>> {
        match (before, config.tracing) {
            (Some(mut collector), Some(tracing)) => {
                collector.tracing = tracing;
                Some(collector)
            }
            _ => Self::new(config, place),
        }
    }

    /// The place of a span that begins now, if its trace is kept.
    fn context(&mut self, parent: Option<TraceParent>) -> Option<TraceParent> {
        let trace = match parent {
            Some(parent) => parent.trace,
            None => self.draw(),
        };
        let kept = self.tracing.sampler.keeps(trace, parent);
        kept.then(|| TraceParent { trace, span: self.draw(), sampled: true })
    }

    /// Random bytes that are not all zero.
    fn draw<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.entropy.fill(&mut bytes);
        if let Some(last) = bytes.last_mut().filter(|last| **last == 0) {
            *last = 1;
        }
        bytes
    }

    fn end(&mut self, open: Open, outcome: Result<(), Reason>) {
        let Open { span, began } = open;
        if self.ending.len() + self.spans.ended.len() >= Spans::PER_TURN_MAX {
            self.spans.dropped += 1;
        } else {
            self.ending.push((began, Span { outcome, ..span }));
        }
    }

    fn end_turn(&mut self, now: Instant) {
        let ended = self.ending.drain(..).map(|(began, span)| {
            let took = now.saturating_duration_since(began);
            Span { end: span.start + took, ..span }
        });
        self.spans.ended.extend(ended);
    }
}

impl Env {
    /// A span that begins now, if there are any and its trace is kept.
    fn open(&mut self, parent: Option<TraceParent>, operation: Operation) -> Option<Open> {
        let context = self.spans.as_mut()?.context(parent)?;
        let span = Span {
            operation,
            context,
            parent: parent.map(|parent| parent.span),
            start: self.now.unix,
            end: self.now.unix,
            outcome: Ok(()),
            client: None,
            user: None,
        };
        Some(Open { span, began: self.now.mono })
    }

    fn end_span(&mut self, open: Open, outcome: Result<(), Reason>) {
        if let Some(spans) = &mut self.spans {
            spans.end(open, outcome);
        }
    }

    /// The turn is over.
    pub(super) fn end_spans(&mut self) {
        if let Some(spans) = &mut self.spans {
            spans.end_turn(self.now.mono);
        }
    }
}

/// The trace that a request says it belongs to.
pub(super) fn traceparent(headers: &HeaderMap) -> Option<TraceParent> {
    TraceParent::parse(headers.get("traceparent")?.to_str().ok()?)
}

impl Hub {
    /// The spans that have ended since this was last asked; none without [`Config::tracing`]. Best taken once per turn,
    /// behind [`end_turn`](Self::end_turn).
    pub fn take_spans(&mut self) -> Spans {
        self.env
            .spans
            .as_mut()
            .map(|collector| std::mem::take(&mut collector.spans))
            .unwrap_or_default()
    }

    /// Whose doing a span is.
    fn name_client(&self, open: &mut Open, id: ConnId) {
        let Some(conn) = self.connections.get(id) else { return };
        open.span.client = Some(conn.peer());
        let users = self.env.spans.as_ref().is_some_and(|spans| spans.tracing.users);
        open.span.user = if users { conn.user() } else { None };
    }
}

/// Handshake and authentication.
impl Hub {
    /// A handshake was answered.
    #[cold]
    pub(super) fn trace_handshake(
        &mut self,
        id: ConnId,
        headers: &HeaderMap,
        outcome: Result<(), Reason>,
    ) {
        let conn = self.connections.get(id);
        let secure = conn.is_some_and(|conn| conn.secure);
        let accepted = conn.is_some_and(|conn| conn.phase != Phase::Http);
        let operation = Operation::Handshake { secure, accepted };
        let Some(mut open) = self.env.open(traceparent(headers), operation) else { return };
        self.name_client(&mut open, id);
        let conn = self.connections.get(id);
        let waits = conn.is_some_and(|conn| matches!(conn.phase, Phase::Unauthenticated { .. }));
        let judged = conn.is_some_and(|conn| conn.rare().token.is_some());
        if waits {
            if let Some(spans) = &mut self.env.spans {
                spans.unauthenticated.insert(id, open.clone());
            }
        } else if judged || outcome == Err(Reason::AuthFailed) {
            self.trace_auth(id, Some(open.span.context), outcome);
        }
        self.env.end_span(open, outcome);
    }

    /// A connection that had not authenticated has, or has come to its end.
    #[cold]
    pub(super) fn trace_first_auth(&mut self, id: ConnId, outcome: Result<(), Reason>) {
        let spans = self.env.spans.as_mut();
        let Some(handshake) = spans.and_then(|spans| spans.unauthenticated.remove(&id)) else {
            return;
        };
        let parent = Some(handshake.span.context);
        if let Some(mut open) = self.env.open(parent, Operation::Auth) {
            (open.span.start, open.began) = (handshake.span.start, handshake.began);
            open.span.client = handshake.span.client;
            self.name_client(&mut open, id);
            self.env.end_span(open, outcome);
        }
    }

    /// A token was judged at once.
    #[cold]
    pub(super) fn trace_auth(
        &mut self,
        id: ConnId,
        parent: Option<TraceParent>,
        outcome: Result<(), Reason>,
    ) {
        if let Some(mut open) = self.env.open(parent, Operation::Auth) {
            self.name_client(&mut open, id);
            self.env.end_span(open, outcome);
        }
    }
}

/// Publishing.
impl Hub {
    /// A publish begins. Its messages go on as a part of it, or of what they were a part of before.
    #[cold]
    pub(super) fn trace_publish(
        &mut self,
        publisher: &mut Publisher,
        parent: Option<TraceParent>,
        publications: &mut [Publication],
    ) {
        let own = |publication: &Publication| publication.options.as_ref()?.traceparent;
        let parent = publications.first().and_then(own).or(parent);
        let (via, conn) = match &publisher.via {
            Via::Message { conn, .. } => (Entrance::Message, Some(*conn)),
            Via::Http(conn) => (Entrance::Http, Some(*conn)),
            Via::Command(_) | Via::Backend(_) => (Entrance::Application, None),
            Via::Queue(_) => (Entrance::Queue, None),
        };
        let operation = Operation::Publish {
            via,
            channel: publications.first().map(|first| first.channel.clone()).unwrap_or_default(),
            messages: u32::try_from(publications.len()).unwrap_or(u32::MAX),
            bytes: publications.iter().map(|publication| publication.data.len()).sum(),
            subscribers: 0,
        };
        let Some(mut open) = self.env.open(parent, operation) else { return };
        if let Some(conn) = conn {
            self.name_client(&mut open, conn);
        }
        let context = open.span.context;
        // A message of another trace stays in that one.
        for publication in publications {
            let options = publication.options.get_or_insert_with(<_>::default);
            if options.traceparent.is_none_or(|own| own.trace == context.trace) {
                options.traceparent = Some(context);
            }
        }
        publisher.span = Some(Box::new(open));
    }

    /// A publish has come to its end.
    #[cold]
    pub(super) fn trace_published(&mut self, open: Open, results: &[Outcome]) {
        let reached = results.iter().map(|outcome| u64::from(outcome.published.subscribers)).sum();
        let mut open = open;
        if let Operation::Publish { subscribers, .. } = &mut open.span.operation {
            *subscribers = reached;
        }
        self.env.end_span(open, Ok(()));
    }

    #[cold]
    pub(super) fn trace_refused(&mut self, open: Open, reason: Reason) {
        self.env.end_span(open, Err(reason));
    }

    /// A publish that was refused before anything else was done about it.
    #[cold]
    pub(super) fn trace_refused_at_once(
        &mut self,
        (id, via): (ConnId, Entrance),
        parent: Option<TraceParent>,
        reason: Reason,
    ) {
        let operation = Operation::Publish {
            via,
            channel: Box::default(),
            messages: 0,
            bytes: 0,
            subscribers: 0,
        };
        if let Some(mut open) = self.env.open(parent, operation) {
            self.name_client(&mut open, id);
            self.env.end_span(open, Err(reason));
        }
    }

    /// An append has been answered, or has come to nothing.
    #[cold]
    pub(super) fn trace_append(
        &mut self,
        channel: &Arc<str>,
        done: &UnderWay,
        outcome: Result<(), Reason>,
    ) {
        let (messages, sent) = (done.count, done.sent);
        let ago = self.env.now.mono.saturating_duration_since(sent);
        let options =
            |publication: &Publication| publication.options.as_deref().and_then(parent_of);
        for pending in &done.round {
            // What is not kept further up begins no trace here.
            let Some(parent) = options(&pending.waiting.publication) else { continue };
            let operation = Operation::Append { channel: channel.clone(), messages };
            if let Some(mut open) = self.env.open(Some(parent), operation) {
                open.span.start = self.env.now.unix.saturating_sub(ago);
                open.began = sent;
                self.env.end_span(open, outcome);
            }
        }
    }
}

fn parent_of(options: &PublicationOptions) -> Option<TraceParent> {
    options.traceparent.filter(|parent| parent.sampled)
}

/// Tells the seed of spans from the process's.
const SPAN_STREAM: &[u8; 32] = b"the ids of traces and of spans..";
