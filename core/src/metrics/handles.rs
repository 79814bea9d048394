//! Where counts meet the `metrics` facade: the one place that is given a recorder.

use std::sync::Arc;

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder, Unit};

use super::{
    bus::BusHandles,
    follow::FollowHandles,
    tally::{OUTCOMES, PRESENCE_EVENTS as PRESENCE_WORDS, Resumed, STATUSES, Tally},
    *,
};
use crate::{
    config::{Config, ConnectionsBound, Dialect},
    hub::Handler,
    protocol::{Kind, session_buddy::Word},
    reason::{Counted, Reason},
    time::Instant,
    ws::Work,
};

/// Where a hub's counts meet the `metrics` facade. One for each hub.
#[derive(Debug, Default)]
pub struct Metrics {
    handles: Option<Handles>,
    /// What this hub has told of its budgets: those of all hubs are one.
    budgets: [usize; BUDGETS.len()],
}

impl Metrics {
    /// Nothing is looked up before the first [`record`](Self::record).
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Hands over what a hub has counted, which is zero afterwards. `now` is best read after the turn's writes, so that
    /// durations include them. The first call, and one after a reload, registers every series with `recorder`, so that
    /// those that are zero are visible; all calls have to name the same recorder.
    ///
    /// ```
    /// # use std::{sync::Arc, time::{Duration, Instant}};
    /// # use mahavishnu_core::{config::Config, entropy::Seed, hub::{Hub, Place}, time::Now};
    /// use mahavishnu_core::metrics::Metrics;
    ///
    /// # let now = Now { mono: Instant::now(), unix: Duration::from_secs(1_770_000_000) };
    /// let mut hub = Hub::new(Arc::new(Config::default()), Place::alone(Seed::from(1)), now);
    /// let mut metrics = Metrics::new();
    /// // At the end of each turn, with the recorder that the application has installed:
    /// hub.end_turn(now);
    /// metrics::with_recorder(|recorder| metrics.record(recorder, now.mono, hub.tally()));
    /// ```
    pub fn record(&mut self, recorder: &dyn Recorder, now: Instant, tally: &mut Tally) {
        if let Some(mut before) = tally.before.take() {
            // Not deeper than a tally remembers.
            self.record(recorder, now, &mut before);
            self.handles = None;
        }
        let shard = tally.bus.shard;
        let handles = self.handles.get_or_insert_with(|| {
            tell_budgets(recorder, &tally.config, &mut self.budgets);
            Handles::new(recorder, &tally.config, shard)
        });
        handles.record(recorder, now, tally);
    }
}

/// Parts of memory that are bounded, as they are counted: each has a gauge of what is in use.
const BUDGETS: [&str; 5] = ["queued", "partial", "idempotency", "history", "bus_queued"];

/// Tells by how much the budgets of a hub are other than `told`.
fn tell_budgets(recorder: &dyn Recorder, config: &Config, told: &mut [usize; BUDGETS.len()]) {
    let source = Registry { recorder, server: config.service.label.clone() };
    let limits = &config.limits;
    let bounds = [
        limits.delivery.queued_bytes_max,
        limits.connections.partial_bytes_max,
        limits.publishing.idempotency_bytes_max,
        limits.history.history_bytes_max,
        if config.bus.is_some() { limits.bus.bus_queue_bytes_max } else { 0 },
    ];
    for ((part, told), bound) in BUDGETS.iter().zip(told).zip(bounds) {
        source.gauge(BUDGET, &[("part", part)]).increment(bound as f64 - *told as f64);
        *told = bound;
    }
}

/// A recorder, for the series of one server: its name is the first label of each.
pub(super) struct Registry<'r> {
    pub(super) recorder: &'r dyn Recorder,
    pub(super) server: Arc<str>,
}

impl Registry<'_> {
    fn key(&self, name: &'static str, labels: &[(&'static str, &str)]) -> Key {
        let server = Label::new("server", self.server.to_string());
        let others = labels.iter().map(|(name, value)| Label::new(*name, (*value).to_owned()));
        Key::from_parts(name, std::iter::once(server).chain(others).collect::<Vec<_>>())
    }

    pub(super) fn counter(&self, name: &'static str, labels: &[(&'static str, &str)]) -> Counter {
        self.recorder.register_counter(&self.key(name, labels), &METADATA)
    }

    pub(super) fn gauge(&self, name: &'static str, labels: &[(&'static str, &str)]) -> Gauge {
        self.recorder.register_gauge(&self.key(name, labels), &METADATA)
    }

    pub(super) fn histogram(
        &self,
        name: &'static str,
        labels: &[(&'static str, &str)],
    ) -> Histogram {
        self.recorder.register_histogram(&self.key(name, labels), &METADATA)
    }
}

const METADATA: Metadata<'static> =
    Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

/// Handles into the recorder, looked up once for each configuration.
struct Handles {
    server: Arc<str>,
    connections: Counter,
    secure_connections: Counter,
    handshakes: Counter,
    resumptions: Counter,
    certificate: Gauge,
    ready: Gauge,
    draining: Gauge,
    active: Gauge,
    channels: Gauge,
    subscriptions: Gauge,
    queued_bytes: Gauge,
    partial_bytes: Gauge,
    idempotency_bytes: Gauge,
    history_bytes: Gauge,
    history_evicted: Counter,
    documents: Gauge,
    document_bytes: Gauge,
    recovered_messages: Counter,
    recoveries: Vec<Counter>,
    under_way: Gauge,
    revocations: Gauge,
    sessions_held: Gauge,
    sessions_waiting: Gauge,
    resumes: Vec<Counter>,
    warned: Counter,
    refreshed: Counter,
    withdrawn: Counter,
    presence_members: Gauge,
    received_bytes: Counter,
    sent_bytes: Counter,
    generation: Gauge,
    /// Its present value.
    generation_in_force: u64,
    deflated: WorkHandles,
    inflated: WorkHandles,
    received: Vec<Counter>,
    sent: Vec<Counter>,
    /// None unless Session-Buddy's protocol is spoken.
    told: Vec<Counter>,
    latency: Vec<Histogram>,
    errors: Vec<Counter>,
    dropped: Vec<Counter>,
    closed: Vec<Counter>,
    handlers_failed: Vec<Counter>,
    statuses: Vec<Counter>,
    presence_events: Vec<Counter>,
    /// Only with a bus.
    bus: Option<BusHandles>,
    /// By the number of their label.
    channels_by_label: Vec<(Counter, Histogram)>,
    /// The same.
    followed: Option<FollowHandles>,
}

impl std::fmt::Debug for Handles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Handles(..)")
    }
}

impl Handles {
    /// Looks every handle up, which also makes every series visible at zero.
    fn new(recorder: &dyn Recorder, config: &Config, shard: u16) -> Self {
        let source = Registry { recorder, server: config.service.label.clone() };
        let by_reason = |name: &'static str| -> Vec<Counter> {
            let handle = |reason: &Reason| match ends_connections(*reason) {
                true => source.counter(name, &[("reason", reason.name())]),
                false => Counter::noop(),
            };
            Reason::ALL.iter().map(handle).collect()
        };
        let error = |reason: &Reason| match reason.row().counted {
            Counted::Connection(label) => {
                source.counter(CONNECTION_ERRORS, &[("error_type", label)])
            }
            Counted::Message(label) => source.counter(MESSAGE_ERRORS, &[("error_type", label)]),
            Counted::No => Counter::noop(),
        };
        let messages = |kind: &Kind, direction: &'static str| {
            source.counter(MESSAGES, &[("message_type", kind.as_str()), ("direction", direction)])
        };
        let told = |word: &Word| {
            let labels = [("message_type", word.as_str()), ("direction", "sent")];
            source.counter(MESSAGES, &labels)
        };
        let sent = |kind: &Kind| match SENT_KINDS.contains(kind) {
            true => messages(kind, "sent"),
            false => Counter::noop(),
        };
        let status = |status: &u16| {
            let text = if *status == 0 { "other".to_owned() } else { status.to_string() };
            source.counter(HTTP, &[("status", &text)])
        };
        let tls = config.tls.is_some();
        let when =
            |on: bool, counter: &dyn Fn() -> Counter| if on { counter() } else { Counter::noop() };
        let this = Self {
            connections: source.counter(CONNECTIONS, &[("tls_mode", "ws")]),
            secure_connections: when(tls, &|| source.counter(CONNECTIONS, &[("tls_mode", "wss")])),
            handshakes: when(tls, &|| source.counter(HANDSHAKES, &[("kind", "full")])),
            resumptions: when(tls, &|| source.counter(HANDSHAKES, &[("kind", "resumed")])),
            certificate: if tls { source.gauge(CERTIFICATE, &[]) } else { Gauge::noop() },
            ready: source.gauge(READY, &[]),
            draining: source.gauge(DRAINING, &[]),
            active: source.gauge(ACTIVE, &[]),
            channels: source.gauge(CHANNELS, &[]),
            subscriptions: source.gauge(SUBSCRIPTIONS, &[]),
            queued_bytes: source.gauge(QUEUED, &[]),
            partial_bytes: source.gauge(PARTIAL, &[]),
            idempotency_bytes: source.gauge(IDEMPOTENCY, &[]),
            history_bytes: source.gauge(HISTORY, &[]),
            history_evicted: source.counter(HISTORY_EVICTED, &[]),
            documents: source.gauge(DOCUMENTS, &[]),
            document_bytes: source.gauge(DOCUMENT_BYTES, &[]),
            recovered_messages: source.counter(RECOVERED, &[]),
            recoveries: OUTCOMES
                .iter()
                .map(|result| source.counter(RECOVERIES, &[("result", result)]))
                .collect(),
            under_way: source.gauge(UNDER_WAY, &[]),
            revocations: source.gauge(REVOCATIONS, &[]),
            sessions_held: source.gauge(SESSIONS, &[("state", "attached")]),
            sessions_waiting: source.gauge(SESSIONS, &[("state", "detached")]),
            resumes: Resumed::NAMES
                .iter()
                .map(|result| source.counter(RESUMES, &[("result", result)]))
                .collect(),
            warned: source.counter(TOKEN_EVENTS, &[("event", "warned")]),
            refreshed: source.counter(TOKEN_EVENTS, &[("event", "refreshed")]),
            withdrawn: source.counter(WITHDRAWN, &[]),
            presence_members: source.gauge(PRESENCE_MEMBERS, &[]),
            received_bytes: source.counter(RECEIVED_BYTES, &[]),
            sent_bytes: source.counter(SENT_BYTES, &[]),
            generation: source.gauge(RELOADS, &[]),
            deflated: WorkHandles::new(&source, "sent"),
            inflated: WorkHandles::new(&source, "received"),
            received: Kind::ALL.iter().map(|kind| messages(kind, "received")).collect(),
            sent: Kind::ALL.iter().map(sent).collect(),
            told: if config.dialects.include(Dialect::SessionBuddy) {
                Word::ALL.iter().map(told).collect()
            } else {
                Vec::new()
            },
            latency: Kind::ALL
                .iter()
                .map(|kind| source.histogram(LATENCY, &[("message_type", kind.as_str())]))
                .collect(),
            errors: Reason::ALL.iter().map(error).collect(),
            dropped: by_reason(DROPPED),
            closed: by_reason(CLOSED),
            handlers_failed: Handler::NAMES
                .iter()
                .map(|name| source.counter(HANDLERS_FAILED, &[("handler", name)]))
                .collect(),
            statuses: STATUSES.iter().map(status).collect(),
            presence_events: PRESENCE_WORDS
                .iter()
                .map(|event| source.counter(PRESENCE_EVENTS, &[("event", event)]))
                .collect(),
            bus: config.bus.as_ref().map(|_| BusHandles::new(&source, shard)),
            channels_by_label: Vec::new(),
            followed: config.bus.as_ref().map(|_| FollowHandles::new(&source)),
            generation_in_force: 0,
            server: config.service.label.clone(),
        };
        this.active.increment(0.0);
        // A reload may change what bounds them: the other series is then zero.
        for bound in [ConnectionsBound::Setting, ConnectionsBound::Memory, ConnectionsBound::Files]
        {
            let in_force = bound == config.connections_bound;
            let limit = if in_force { config.limits.connections.connections_max } else { 0 };
            source.gauge(CONNECTIONS_LIMIT, &[("bound", bound.as_str())]).set(limit as f64);
        }
        this
    }

    /// Hands the counts of a turn over.
    fn record(&mut self, recorder: &dyn Recorder, now: Instant, tally: &mut Tally) {
        add(&mut tally.connections, &self.connections);
        add(&mut tally.secure_connections, &self.secure_connections);
        add(&mut tally.handshakes, &self.handshakes);
        add(&mut tally.resumptions, &self.resumptions);
        add(&mut tally.received_bytes, &self.received_bytes);
        add(&mut tally.sent_bytes, &self.sent_bytes);
        self.deflated.publish(&mut tally.deflated);
        self.inflated.publish(&mut tally.inflated);
        shift(&mut tally.active, &self.active);
        shift(&mut tally.channels, &self.channels);
        shift(&mut tally.subscriptions, &self.subscriptions);
        shift(&mut tally.queued_bytes, &self.queued_bytes);
        shift(&mut tally.partial_bytes, &self.partial_bytes);
        shift(&mut tally.idempotency_bytes, &self.idempotency_bytes);
        shift(&mut tally.history_bytes, &self.history_bytes);
        add(&mut tally.history_evicted, &self.history_evicted);
        shift(&mut tally.documents, &self.documents);
        shift(&mut tally.document_bytes, &self.document_bytes);
        add(&mut tally.recovered_messages, &self.recovered_messages);
        shift(&mut tally.under_way, &self.under_way);
        shift(&mut tally.revocations, &self.revocations);
        shift(&mut tally.sessions_held, &self.sessions_held);
        shift(&mut tally.sessions_waiting, &self.sessions_waiting);
        add(&mut tally.warned, &self.warned);
        add(&mut tally.refreshed, &self.refreshed);
        add(&mut tally.withdrawn, &self.withdrawn);
        shift(&mut tally.presence_members, &self.presence_members);
        tally.received.publish(&self.received);
        tally.sent.publish(&self.sent);
        tally.told.publish(&self.told);
        tally.statuses.publish(&self.statuses);
        tally.resumes.publish(&self.resumes);
        tally.presence.publish(&self.presence_events);
        tally.handlers_failed.publish(&self.handlers_failed);
        tally.recoveries.publish(&self.recoveries);
        tally.errors.publish(&self.errors);
        tally.dropped.publish(&self.dropped);
        tally.closed.publish(&self.closed);
        if let Some(bus) = &self.bus {
            bus.record(&mut tally.bus);
        }
        if self.generation_in_force != tally.generation {
            self.generation_in_force = tally.generation;
            self.generation.set(tally.generation as f64);
        }
        if let Some(seconds) = tally.certificate.take() {
            self.certificate.set(seconds);
        }
        if let Some((ready, draining)) = tally.readiness.take() {
            self.ready.set(f64::from(u8::from(ready)));
            self.draining.set(f64::from(u8::from(draining)));
        }
        for label in tally.labels.all.iter().skip(self.channels_by_label.len()) {
            let labels = &[("channel", &**label)];
            let source = Registry { recorder, server: self.server.clone() };
            let handles =
                (source.counter(BROADCASTS, labels), source.histogram(BROADCAST_DURATION, labels));
            self.channels_by_label.push(handles);
        }
        for (at, label, count) in tally.broadcasts.drain(..) {
            let Some((total, duration)) = self.channels_by_label.get(usize::from(label)) else {
                continue;
            };
            total.increment(u64::from(count));
            duration.record_many(now.saturating_duration_since(at).as_secs_f64(), count as usize);
        }
        if let Some(followed) = &self.followed {
            followed.record(tally);
            self.record_published(now, tally);
        }
        for (at, kind, count) in tally.latencies.drain(..) {
            let Some(handle) = self.latency.get(kind.index()) else { continue };
            handle.record_many(now.saturating_duration_since(at).as_secs_f64(), count as usize);
        }
        tally.recorded();
    }

    /// With a bus a broadcast is counted where it was published, and its duration where it was delivered.
    fn record_published(&self, now: Instant, tally: &mut Tally) {
        for (count, (total, _)) in tally.published.iter_mut().zip(&self.channels_by_label) {
            add(count, total);
        }
        for (at, label, count) in tally.heard.drain(..) {
            if let Some((_, duration)) = self.channels_by_label.get(usize::from(label)) {
                let took = now.saturating_duration_since(at).as_secs_f64();
                duration.record_many(took, count as usize);
            }
        }
    }
}

pub(super) fn add(count: &mut u64, handle: &Counter) {
    if *count > 0 {
        handle.increment(std::mem::take(count));
    }
}

pub(super) fn shift(change: &mut i64, handle: &Gauge) {
    if *change != 0 {
        handle.increment(std::mem::take(change) as f64);
    }
}

/// Handles for compression, one way.
struct WorkHandles {
    messages: Counter,
    plain: Counter,
    deflated: Counter,
}

impl WorkHandles {
    fn new(source: &Registry<'_>, direction: &'static str) -> Self {
        let handle = |name: &'static str| source.counter(name, &[("direction", direction)]);
        Self {
            messages: handle(DEFLATE_MESSAGES),
            plain: handle(DEFLATE_PLAIN),
            deflated: handle(DEFLATE_DEFLATED),
        }
    }

    fn publish(&self, work: &mut Work) {
        if work.messages > 0 {
            let Work { messages, plain_bytes, deflated_bytes } = std::mem::take(work);
            self.messages.increment(messages);
            self.plain.increment(plain_bytes);
            self.deflated.increment(deflated_bytes);
        }
    }
}

/// Whether a WebSocket connection may end for `reason`.
fn ends_connections(reason: Reason) -> bool {
    reason.row().close.is_some()
        || matches!(reason, Reason::Eof | Reason::Io | Reason::CloseTimeout)
}

/// Tells a recorder name, HELP text and unit of every family. Call once, before anything is recorded.
pub fn describe(recorder: &dyn Recorder) {
    for family in FAMILIES {
        match family.kind {
            Type::Counter => {
                recorder.describe_counter(family.name.into(), None, family.help.into())
            }
            Type::Gauge => recorder.describe_gauge(family.name.into(), None, family.help.into()),
            Type::Histogram => {
                let unit = family.name.ends_with("_seconds").then_some(Unit::Seconds);
                recorder.describe_histogram(family.name.into(), unit, family.help.into());
            }
        }
    }
}

/// Counts a reload that was refused before it reached a hub; zero makes the series visible.
pub fn count_refused_reloads(recorder: &dyn Recorder, config: &Config, count: u64) {
    let source = Registry { recorder, server: config.service.label.clone() };
    source.counter(RELOADS_REFUSED, &[]).increment(count);
}

/// Tells how many log lines a program has lost since its start. It alone has a log.
pub fn count_dropped_log_lines(recorder: &dyn Recorder, config: &Config, total: u64) {
    let source = Registry { recorder, server: config.service.label.clone() };
    source.counter(LOG_LINES_DROPPED, &[]).absolute(total);
}

/// A count of what a program exports over OTLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Otlp {
    /// Taken by the collector.
    Exported {
        /// `traces` or `metrics`.
        signal: &'static str,
    },
    /// Lost.
    Dropped {
        /// `traces` or `metrics`.
        signal: &'static str,
        /// Why.
        reason: &'static str,
    },
}

/// Tells how much a program has exported since its start.
pub fn count_otlp(recorder: &dyn Recorder, config: &Config, which: Otlp, total: u64) {
    let source = Registry { recorder, server: config.service.label.clone() };
    let counter = match which {
        Otlp::Exported { signal } => source.counter(OTLP_EXPORTED, &[("signal", signal)]),
        Otlp::Dropped { signal, reason } => {
            source.counter(OTLP_DROPPED, &[("signal", signal), ("reason", reason)])
        }
    };
    counter.absolute(total);
}

/// The kinds of message that a server sends.
const SENT_KINDS: &[Kind] = &[Kind::Response, Kind::Event, Kind::Error, Kind::Ack, Kind::Pong];
