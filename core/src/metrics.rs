//! Every metric by name, and the counts of one turn.
//!
//! The hot path only adds to plain integers in a tally; once per turn they are handed to the `metrics` facade
//! through handles that were looked up at start. Labels are the server's name, closed lists, and channel *patterns*:
//! never user input, unless full channel names are switched on, and then capped.

use std::{sync::Arc, time::Duration};

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use crate::{
    config::{Config, ConnectionsBound},
    entropy::{KeyedMap, KeyedState},
    protocol::Kind,
    reason::{Counted, Reason},
    time::Instant,
    ws::Work,
};

/// What a family measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Only grows.
    Counter,
    /// Goes both ways.
    Gauge,
    /// Counts by bucket.
    Histogram,
}

/// One metric family: the contract with dashboards and alerts.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// Name in the exposition.
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: Type,
    /// Label names, in order.
    pub labels: &'static [&'static str],
    /// HELP text.
    pub help: &'static str,
    /// Upper bounds of a histogram's buckets, in seconds.
    pub buckets: &'static [f64],
}

/// Buckets of `websocket_broadcast_duration_seconds`.
const BROADCAST_BUCKETS: &[f64] = &[0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];
/// Buckets of `websocket_latency_seconds`: the same and 10.
const LATENCY_BUCKETS: &[f64] =
    &[0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

macro_rules! families {
    ($($konst:ident $name:literal $kind:ident [$($label:literal),*] $buckets:expr, $help:literal;)*) => {
        $(const $konst: &str = $name;)*
        /// Every family, the eight that dashboards rely on first.
        pub const FAMILIES: &[Family] = &[$(Family {
            name: $name, kind: Type::$kind, labels: &[$($label),*], help: $help, buckets: $buckets,
        },)*];
    };
}

families! {
    CONNECTIONS "websocket_connections_total" Counter ["server", "tls_mode"] &[],
        "Total number of WebSocket connections established";
    ACTIVE "websocket_connections_active" Gauge ["server"] &[],
        "Current number of active WebSocket connections";
    MESSAGES "websocket_messages_total" Counter ["server", "message_type", "direction"] &[],
        "Total number of messages processed";
    BROADCASTS "websocket_broadcast_total" Counter ["server", "channel"] &[],
        "Total number of broadcast operations";
    BROADCAST_DURATION "websocket_broadcast_duration_seconds" Histogram ["server", "channel"] BROADCAST_BUCKETS,
        "Time taken to broadcast messages to rooms";
    CONNECTION_ERRORS "websocket_connection_errors_total" Counter ["server", "error_type"] &[],
        "Total number of WebSocket connection errors";
    MESSAGE_ERRORS "websocket_message_errors_total" Counter ["server", "error_type"] &[],
        "Total number of message processing errors";
    LATENCY "websocket_latency_seconds" Histogram ["server", "message_type"] LATENCY_BUCKETS,
        "WebSocket message processing latency";
    DROPPED "mahavishnu_messages_dropped_total" Counter ["server", "reason"] &[],
        "Messages that were queued for or due to a connection and did not reach it";
    CLOSED "mahavishnu_connections_closed_total" Counter ["server", "reason"] &[],
        "Ended WebSocket connections by reason";
    HTTP "mahavishnu_http_requests_total" Counter ["server", "status"] &[],
        "Plain HTTP requests answered on the WebSocket port, by status";
    SENT_BYTES "mahavishnu_sent_bytes_total" Counter ["server"] &[],
        "Bytes written to sockets";
    RECEIVED_BYTES "mahavishnu_received_bytes_total" Counter ["server"] &[],
        "Bytes read from sockets";
    DEFLATE_MESSAGES "mahavishnu_deflate_messages_total" Counter ["server", "direction"] &[],
        "Messages compressed, each broadcast once, and compressed messages received";
    DEFLATE_PLAIN "mahavishnu_deflate_plain_bytes_total" Counter ["server", "direction"] &[],
        "Bytes of these messages uncompressed";
    DEFLATE_DEFLATED "mahavishnu_deflate_compressed_bytes_total" Counter ["server", "direction"] &[],
        "Bytes of these messages compressed";
    CHANNELS "mahavishnu_channels" Gauge ["server"] &[],
        "Channels that have subscribers";
    SUBSCRIPTIONS "mahavishnu_subscriptions" Gauge ["server"] &[],
        "Subscriptions of all connections";
    QUEUED "mahavishnu_queued_bytes" Gauge ["server"] &[],
        "Bytes that wait in outboxes whose sockets take no more, those that are shared counted once";
    PARTIAL "mahavishnu_partial_bytes" Gauge ["server"] &[],
        "Bytes of memory for heads, bodies and messages of which the end has not come";
    CONNECTIONS_LIMIT "mahavishnu_connections_limit" Gauge ["server", "bound"] &[],
        "WebSocket connections that are let in at once, with what bounds them: setting or memory";
    UNDER_WAY "mahavishnu_shard_queue_bytes" Gauge ["server"] &[],
        "Bytes under way between shards: sent by one, and not done with by the other";
    HANDSHAKES "mahavishnu_tls_handshakes_total" Counter ["server", "kind"] &[],
        "Completed TLS handshakes: full, or resumed from a ticket";
    CERTIFICATE "mahavishnu_certificate_expiry_seconds" Gauge ["server"] &[],
        "Seconds until the first of the server's certificates expires; negative after that; absent without TLS";
    RELOADS_REFUSED "mahavishnu_config_reloads_refused_total" Counter ["server"] &[],
        "Reloads that changed nothing because something was wrong with the new configuration";
    TOKEN_EVENTS "mahavishnu_token_events_total" Counter ["server", "event"] &[],
        "Tokens of live connections: warned that they expire, refreshed";
    WITHDRAWN "mahavishnu_subscriptions_withdrawn_total" Counter ["server"] &[],
        "Subscriptions taken back because a token or the policy no longer permits them";
    REVOCATIONS "mahavishnu_revocations" Gauge ["server"] &[],
        "Revocations in force, those of the file not counted";
    RELOADS "mahavishnu_config_generation" Gauge ["server"] &[],
        "How often the configuration was replaced since start";
}

/// Registers name, HELP and unit of every family with the recorder in force. Call once, after installing it.
pub fn describe() {
    for family in FAMILIES {
        match family.kind {
            Type::Counter => metrics::describe_counter!(family.name, family.help),
            Type::Gauge => metrics::describe_gauge!(family.name, family.help),
            Type::Histogram => {
                metrics::describe_histogram!(family.name, metrics::Unit::Seconds, family.help)
            }
        }
    }
}

/// Counts a reload that was refused before it reached a hub; zero makes the series visible.
pub fn count_refused_reloads(config: &Config, count: u64) {
    counter!(RELOADS_REFUSED, "server" => config.service.label.to_string()).increment(count);
}

/// Statuses that plain HTTP requests are answered with; others are counted as the last.
const STATUSES: &[u16] = &[
    200, 400, 401, 403, 404, 405, 408, 409, 411, 413, 415, 422, 426, 429, 431, 500, 503, 504, 505,
    0,
];

/// The kinds of message that a server sends.
const SENT_KINDS: &[Kind] = &[Kind::Response, Kind::Event, Kind::Error, Kind::Ack, Kind::Pong];

/// Counts since the last hand-over.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) connections: u64,
    pub(crate) secure_connections: u64,
    handshakes: u64,
    resumptions: u64,
    pub(crate) active: i64,
    pub(crate) channels: i64,
    pub(crate) subscriptions: i64,
    pub(crate) queued_bytes: i64,
    pub(crate) partial_bytes: i64,
    pub(crate) under_way: i64,
    pub(crate) revocations: i64,
    pub(crate) warned: u64,
    pub(crate) refreshed: u64,
    pub(crate) withdrawn: u64,
    pub(crate) received_bytes: u64,
    pub(crate) sent_bytes: u64,
    pub(crate) deflated: Work,
    pub(crate) inflated: Work,
    received: [u64; Kind::ALL.len()],
    sent: [u64; Kind::ALL.len()],
    errors: Counts,
    dropped: Counts,
    closed: Counts,
    statuses: [u64; STATUSES.len()],
    /// Broadcasts begun since the last hand-over: when, under which label, how many.
    broadcasts: Vec<(Instant, u16, u32)>,
    /// Messages received since the last hand-over: when, of which kind, how many.
    latencies: Vec<(Instant, Kind, u32)>,
}

/// One count for each reason, with a flag so that the usual empty case costs one comparison.
#[derive(Debug)]
struct Counts {
    any: bool,
    by_reason: [u64; Reason::ALL.len()],
}

impl Default for Counts {
    fn default() -> Self {
        Self { any: false, by_reason: [0; Reason::ALL.len()] }
    }
}

impl Counts {
    fn add(&mut self, reason: Reason, count: u64) {
        if let Some(slot) = self.by_reason.get_mut(reason as usize) {
            *slot += count;
            self.any |= count > 0;
        }
    }

    fn publish(&mut self, handles: &[Counter]) {
        if !std::mem::take(&mut self.any) {
            return;
        }
        for (count, handle) in self.by_reason.iter_mut().zip(handles) {
            if *count > 0 {
                handle.increment(std::mem::take(count));
            }
        }
    }
}

impl Tally {
    pub(crate) fn received(&mut self, at: Instant, kind: Kind) {
        if let Some(slot) = self.received.get_mut(kind.index()) {
            *slot += 1;
        }
        match self.latencies.last_mut() {
            Some((when, last, count)) if *when == at && *last == kind => *count += 1,
            _ => self.latencies.push((at, kind, 1)),
        }
    }

    pub(crate) fn sent(&mut self, kind: Kind, count: u64) {
        if let Some(slot) = self.sent.get_mut(kind.index()) {
            *slot += count;
        }
    }

    pub(crate) fn error(&mut self, reason: Reason) {
        self.errors.add(reason, 1);
    }

    /// Messages that were queued for a connection whose socket is gone.
    pub(crate) fn undelivered(&mut self, reason: Reason, count: u64) {
        self.errors.add(Reason::SendFailed, count);
        self.dropped.add(reason, count);
    }

    pub(crate) fn dropped(&mut self, reason: Reason, count: u64) {
        self.dropped.add(reason, count);
    }

    pub(crate) fn closed(&mut self, reason: Reason) {
        self.closed.add(reason, 1);
    }

    pub(crate) fn handshake(&mut self, resumed: bool) {
        let count = if resumed { &mut self.resumptions } else { &mut self.handshakes };
        *count += 1;
    }

    pub(crate) fn answered(&mut self, status: u16) {
        let index =
            STATUSES.iter().position(|known| *known == status).unwrap_or(STATUSES.len() - 1);
        if let Some(slot) = self.statuses.get_mut(index) {
            *slot += 1;
        }
    }

    pub(crate) fn broadcast(&mut self, at: Instant, label: u16) {
        match self.broadcasts.last_mut() {
            Some((when, last, count)) if *when == at && *last == label => *count += 1,
            _ => self.broadcasts.push((at, label, 1)),
        }
    }
}

/// Handles into the recorder, looked up once.
pub(crate) struct Metrics {
    connections: Counter,
    secure_connections: Counter,
    handshakes: Counter,
    resumptions: Counter,
    certificate: Gauge,
    active: Gauge,
    channels: Gauge,
    subscriptions: Gauge,
    queued_bytes: Gauge,
    partial_bytes: Gauge,
    under_way: Gauge,
    revocations: Gauge,
    warned: Counter,
    refreshed: Counter,
    withdrawn: Counter,
    received_bytes: Counter,
    sent_bytes: Counter,
    generation: Gauge,
    deflated: WorkHandles,
    inflated: WorkHandles,
    received: Vec<Counter>,
    sent: Vec<Counter>,
    latency: Vec<Histogram>,
    errors: Vec<Counter>,
    dropped: Vec<Counter>,
    closed: Vec<Counter>,
    statuses: Vec<Counter>,
    labels: Labels,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics(..)")
    }
}

impl Metrics {
    /// Looks every handle up, which also makes every series visible at zero.
    pub(crate) fn new(config: &Config, keys: KeyedState) -> Self {
        let server = config.service.label.to_string();
        let by_reason = |name: &'static str| -> Vec<Counter> {
            let handle = |reason: &Reason| match ends_connections(*reason) {
                true => counter!(name, "server" => server.clone(), "reason" => reason.name()),
                false => Counter::noop(),
            };
            Reason::ALL.iter().map(handle).collect()
        };
        let error = |reason: &Reason| match reason.row().counted {
            Counted::Connection(label) => {
                counter!(CONNECTION_ERRORS, "server" => server.clone(), "error_type" => label)
            }
            Counted::Message(label) => {
                counter!(MESSAGE_ERRORS, "server" => server.clone(), "error_type" => label)
            }
            Counted::No => Counter::noop(),
        };
        let messages = |kind: &Kind, direction: &'static str| counter!(MESSAGES, "server" => server.clone(), "message_type" => kind.as_str(), "direction" => direction);
        let sent = |kind: &Kind| match SENT_KINDS.contains(kind) {
            true => messages(kind, "sent"),
            false => Counter::noop(),
        };
        let status = |status: &u16| {
            let text = if *status == 0 { "other".to_owned() } else { status.to_string() };
            counter!(HTTP, "server" => server.clone(), "status" => text)
        };
        let tls = config.tls.is_some();
        let when =
            |on: bool, counter: &dyn Fn() -> Counter| if on { counter() } else { Counter::noop() };
        let this = Self {
            connections: counter!(CONNECTIONS, "server" => server.clone(), "tls_mode" => "ws"),
            secure_connections: when(tls, &|| counter!(CONNECTIONS, "server" => server.clone(), "tls_mode" => "wss")),
            handshakes: when(tls, &|| counter!(HANDSHAKES, "server" => server.clone(), "kind" => "full")),
            resumptions: when(tls, &|| counter!(HANDSHAKES, "server" => server.clone(), "kind" => "resumed")),
            certificate: if tls { gauge!(CERTIFICATE, "server" => server.clone()) } else { Gauge::noop() },
            active: gauge!(ACTIVE, "server" => server.clone()),
            channels: gauge!(CHANNELS, "server" => server.clone()),
            subscriptions: gauge!(SUBSCRIPTIONS, "server" => server.clone()),
            queued_bytes: gauge!(QUEUED, "server" => server.clone()),
            partial_bytes: gauge!(PARTIAL, "server" => server.clone()),
            under_way: gauge!(UNDER_WAY, "server" => server.clone()),
            revocations: gauge!(REVOCATIONS, "server" => server.clone()),
            warned: counter!(TOKEN_EVENTS, "server" => server.clone(), "event" => "warned"),
            refreshed: counter!(TOKEN_EVENTS, "server" => server.clone(), "event" => "refreshed"),
            withdrawn: counter!(WITHDRAWN, "server" => server.clone()),
            received_bytes: counter!(RECEIVED_BYTES, "server" => server.clone()),
            sent_bytes: counter!(SENT_BYTES, "server" => server.clone()),
            generation: gauge!(RELOADS, "server" => server.clone()),
            deflated: WorkHandles::new(&server, "sent"),
            inflated: WorkHandles::new(&server, "received"),
            received: Kind::ALL.iter().map(|kind| messages(kind, "received")).collect(),
            sent: Kind::ALL.iter().map(sent).collect(),
            latency: Kind::ALL
                .iter()
                .map(|kind| histogram!(LATENCY, "server" => server.clone(), "message_type" => kind.as_str()))
                .collect(),
            errors: Reason::ALL.iter().map(error).collect(),
            dropped: by_reason(DROPPED),
            closed: by_reason(CLOSED),
            statuses: STATUSES.iter().map(status).collect(),
            labels: Labels::new(config, keys),
        };
        this.active.increment(0.0);
        // A reload may change what bounds them: the other series is then zero.
        for bound in [ConnectionsBound::Setting, ConnectionsBound::Memory] {
            let in_force = bound == config.connections_bound;
            let limit = if in_force { config.limits.connections.connections_max } else { 0 };
            gauge!(CONNECTIONS_LIMIT, "server" => config.service.label.to_string(), "bound" => bound.as_str())
                .set(limit as f64);
        }
        this
    }

    /// Hands the counts of a turn over. `now` is read after the turn's writes, so durations include them.
    pub(crate) fn publish(&self, now: Instant, tally: &mut Tally) {
        fn add(count: &mut u64, handle: &Counter) {
            if *count > 0 {
                handle.increment(std::mem::take(count));
            }
        }
        fn shift(change: &mut i64, handle: &Gauge) {
            if *change != 0 {
                handle.increment(std::mem::take(change) as f64);
            }
        }
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
        shift(&mut tally.under_way, &self.under_way);
        shift(&mut tally.revocations, &self.revocations);
        add(&mut tally.warned, &self.warned);
        add(&mut tally.refreshed, &self.refreshed);
        add(&mut tally.withdrawn, &self.withdrawn);
        tally
            .received
            .iter_mut()
            .zip(&self.received)
            .for_each(|(count, handle)| add(count, handle));
        tally.sent.iter_mut().zip(&self.sent).for_each(|(count, handle)| add(count, handle));
        tally
            .statuses
            .iter_mut()
            .zip(&self.statuses)
            .for_each(|(count, handle)| add(count, handle));
        tally.errors.publish(&self.errors);
        tally.dropped.publish(&self.dropped);
        tally.closed.publish(&self.closed);
        for (at, label, count) in tally.broadcasts.drain(..) {
            let Some((total, duration)) = self.labels.handles.get(usize::from(label)) else {
                continue;
            };
            total.increment(u64::from(count));
            duration.record_many(now.saturating_duration_since(at).as_secs_f64(), count as usize);
        }
        for (at, kind, count) in tally.latencies.drain(..) {
            let Some(handle) = self.latency.get(kind.index()) else { continue };
            handle.record_many(now.saturating_duration_since(at).as_secs_f64(), count as usize);
        }
    }

    /// Sets the configuration's generation.
    pub(crate) fn generation(&self, generation: u64) {
        self.generation.set(generation as f64);
    }

    /// Sets how long the server's certificates are still valid.
    pub(crate) fn certificate(&self, expires: Duration, now: Duration) {
        self.certificate.set(expires.as_secs_f64() - now.as_secs_f64());
    }

    /// The label under which `channel` is counted.
    pub(crate) fn label(&mut self, config: &Config, channel: &str) -> u16 {
        self.labels.of(config, channel)
    }
}

/// Handles for compression, one way.
struct WorkHandles {
    messages: Counter,
    plain: Counter,
    deflated: Counter,
}

impl WorkHandles {
    fn new(server: &str, direction: &'static str) -> Self {
        let handle = |name: &'static str| counter!(name, "server" => server.to_owned(), "direction" => direction);
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

/// Labels of channels: one for each pattern of the policy, or one for each name up to a cap.
struct Labels {
    server: Arc<str>,
    handles: Vec<(Counter, Histogram)>,
    /// Full names that have a label; empty unless they are switched on.
    names: KeyedMap<Box<str>, u16>,
    /// Where full names begin in `handles`; below are the patterns, the last of which is `other`.
    patterns: u16,
}

impl Labels {
    fn new(config: &Config, keys: KeyedState) -> Self {
        let mut this = Self {
            server: config.service.label.clone(),
            handles: Vec::new(),
            names: KeyedMap::with_hasher(keys),
            patterns: 0,
        };
        for label in config.policy.labels() {
            this.push(label.to_string());
        }
        this.patterns = u16::try_from(this.handles.len()).unwrap_or(u16::MAX);
        this
    }

    fn push(&mut self, label: String) -> u16 {
        let server = self.server.to_string();
        let total = counter!(BROADCASTS, "server" => server.clone(), "channel" => label.clone());
        let duration = histogram!(BROADCAST_DURATION, "server" => server, "channel" => label);
        self.handles.push((total, duration));
        u16::try_from(self.handles.len() - 1).unwrap_or(u16::MAX)
    }

    fn of(&mut self, config: &Config, channel: &str) -> u16 {
        if !config.metrics.channel_names {
            return u16::try_from(config.policy.label(channel)).unwrap_or(u16::MAX);
        }
        if let Some(label) = self.names.get(channel) {
            return *label;
        }
        let cap = config.metrics.channel_names_max.min(usize::from(u16::MAX - self.patterns) - 1);
        if self.names.len() >= cap {
            return self.patterns.saturating_sub(1);
        }
        let label = self.push(channel.to_owned());
        self.names.insert(channel.into(), label);
        label
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_eight_promised_families_come_first() {
        let promised = [
            ("websocket_connections_total", "server tls_mode"),
            ("websocket_connections_active", "server"),
            ("websocket_messages_total", "server message_type direction"),
            ("websocket_broadcast_total", "server channel"),
            ("websocket_broadcast_duration_seconds", "server channel"),
            ("websocket_connection_errors_total", "server error_type"),
            ("websocket_message_errors_total", "server error_type"),
            ("websocket_latency_seconds", "server message_type"),
        ];
        for (family, (name, labels)) in FAMILIES.iter().zip(promised) {
            assert_eq!(family.name, name);
            assert_eq!(family.labels.join(" "), labels);
        }
    }

    #[test]
    fn names_follow_prometheus_conventions() {
        for family in FAMILIES {
            assert_eq!(
                family.kind == Type::Counter,
                family.name.ends_with("_total"),
                "{}",
                family.name
            );
            assert_eq!(
                family.kind == Type::Histogram,
                !family.buckets.is_empty(),
                "{}",
                family.name
            );
        }
    }
}
