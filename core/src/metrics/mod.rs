//! Every metric by name, the counts of one turn, and where they meet the `metrics` facade.
//!
//! The hot path only adds to plain integers in a [`Tally`]; once per turn [`Metrics::record`] hands them to a recorder
//! through handles that were looked up before. Labels are the server's name, closed lists, and channel *patterns*:
//! never user input, unless full channel names are switched on, and then capped.

mod bus;
mod follow;
mod handles;
mod link;
mod process;
mod refusals;
mod store;
mod tally;

pub(crate) use self::{
    bus::{BusTally, Ingested},
    follow::{Epochs, Heals, Holes},
    refusals::Forbidden,
    tally::{PresenceEvent, Resumed},
};
pub use self::{
    handles::{
        Metrics, Otlp, count_dropped_log_lines, count_otlp, count_refused_reloads, describe,
    },
    link::{LinkCounts, LinkLabels, LinkMetrics},
    process::{Process, tell_memory_limit, tell_process},
    refusals::{Needed, Refusal},
    store::StoreMetrics,
    tally::Tally,
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
    /// Upper bounds of a histogram's buckets, in seconds unless the name says otherwise.
    pub buckets: &'static [f64],
}

/// Buckets of `websocket_broadcast_duration_seconds`: those that dashboards rely on, from a millisecond up, and below them
/// those in which a server that is well has nearly all.
const BROADCAST_BUCKETS: &[f64] = &[
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.005, 0.01, 0.025, 0.05,
    0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
];
/// Buckets of `websocket_latency_seconds`: the same and 10.
const LATENCY_BUCKETS: &[f64] = &[
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.005, 0.01, 0.025, 0.05,
    0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Buckets of `mahavishnu_bus_append_duration_seconds`: from a round trip within a machine to a bus that does not answer.
const APPEND_BUCKETS: &[f64] =
    &[0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];
/// Buckets of `mahavishnu_bus_append_messages`.
const APPEND_MESSAGES_BUCKETS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// Buckets of `mahavishnu_history_store_commit_duration_seconds`: from what an operating system takes at once to a disk that
/// does not answer.
const STORE_BUCKETS: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// Buckets of `mahavishnu_bus_probe_duration_seconds`: from a bus on the same machine to one that is about to be given up.
const PROBE_BUCKETS: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 3.0, 10.0];

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
    IDEMPOTENCY "mahavishnu_idempotency_bytes" Gauge ["server"] &[],
        "Bytes of memory for idempotency keys and what is kept of their answers";
    RECOVERIES "mahavishnu_recoveries_total" Counter ["server", "result"] &[],
        "Subscriptions that asked for what they missed: recovered, or why not";
    RECOVERED "mahavishnu_recovered_messages_total" Counter ["server"] &[],
        "Messages that subscribers were sent because they had missed them";
    HISTORY "mahavishnu_history_bytes" Gauge ["server"] &[],
        "Bytes of memory for what is kept of channels";
    HISTORY_EVICTED "mahavishnu_history_evicted_total" Counter ["server"] &[],
        "Channels whose log was given up early because all of them took too much memory";
    DOCUMENTS "mahavishnu_documents" Gauge ["server"] &[],
        "Channels that have a document";
    DOCUMENT_BYTES "mahavishnu_document_bytes" Gauge ["server"] &[],
        "Bytes of memory for channels' documents, which mahavishnu_history_bytes counts too";
    STORE_COMMITS "mahavishnu_history_store_commits_total" Counter ["server"] &[],
        "Groups of messages, documents and sessions that were written to the file";
    STORE_ERRORS "mahavishnu_history_store_errors_total" Counter ["server", "operation"] &[],
        "Groups that could not be written, whose publishers were refused: commit; what could not be forced to the disk: sync";
    STORE_DURATION "mahavishnu_history_store_commit_duration_seconds" Histogram ["server"] STORE_BUCKETS,
        "Time taken to write a group to the file";
    BUS_FOLLOWED "mahavishnu_bus_followed_channels" Gauge ["server"] &[],
        "Channels that are followed on the bus; absent without one, as are all bus families";
    BUS_APPEND_DURATION "mahavishnu_bus_append_duration_seconds" Histogram ["server"] APPEND_BUCKETS,
        "Time from sending messages of a channel to the bus until it has numbered and kept them";
    BUS_APPEND_MESSAGES "mahavishnu_bus_append_messages" Histogram ["server"] APPEND_MESSAGES_BUCKETS,
        "Messages of a channel that were sent to the bus together";
    BUS_HOLES "mahavishnu_bus_holes_total" Counter ["server", "result"] &[],
        "Holes in what came from the bus: filled by reading, or announced to subscribers as lost";
    BUS_HEALS "mahavishnu_bus_heals_total" Counter ["server", "cause"] &[],
        "Channels of which the bus had lost something that this node has put back: their tail, or all";
    BUS_FORKS "mahavishnu_bus_forks_total" Counter ["server"] &[],
        "Channels of which this node has begun a new epoch because the bus had other messages under the same numbers";
    BUS_EPOCHS "mahavishnu_bus_epochs_total" Counter ["server", "cause"] &[],
        "Channels whose subscribers were told of a new epoch: founded anew on the bus, or forked";
    BUS_POISON "mahavishnu_bus_poison_total" Counter ["server"] &[],
        "Entries of the bus that are no messages of any known version";
    CONNECTIONS_LIMIT "mahavishnu_connections_limit" Gauge ["server", "bound"] &[],
        "WebSocket connections that are let in at once, with what bounds them: setting, memory or files";
    READY "mahavishnu_ready" Gauge ["server"] &[],
        "Whether new clients should be sent here, as /ready says: 1, or 0";
    DRAINING "mahavishnu_draining" Gauge ["server"] &[],
        "Whether the server is about to stop: 1, or 0";
    BUDGET "mahavishnu_memory_budget_bytes" Gauge ["server", "part"] &[],
        "Bytes that may be in use of what the gauge of the same name counts, on all shards: queued, partial, idempotency, history, bus_queued";
    MEMORY_LIMIT "mahavishnu_memory_limit_bytes" Gauge ["server"] &[],
        "What MAHAVISHNU_MEMORY_LIMIT came to; 0 if it is off";
    UNDER_WAY "mahavishnu_shard_queue_bytes" Gauge ["server"] &[],
        "Bytes under way between shards: sent by one, and not done with by the other";
    HANDSHAKES "mahavishnu_tls_handshakes_total" Counter ["server", "kind"] &[],
        "Completed TLS handshakes: full, or resumed from a ticket";
    CERTIFICATE "mahavishnu_certificate_expiry_seconds" Gauge ["server"] &[],
        "Seconds until the first of the server's certificates expires; negative after that; absent without TLS";
    HANDLERS_FAILED "mahavishnu_handler_failures_total" Counter ["server", "handler"] &[],
        "Calls of the application's handlers that panicked, or were dropped before they had answered";
    RELOADS_REFUSED "mahavishnu_config_reloads_refused_total" Counter ["server"] &[],
        "Reloads that changed nothing because something was wrong with the new configuration";
    LOG_LINES_DROPPED "mahavishnu_log_lines_dropped_total" Counter ["server"] &[],
        "Log lines lost because nobody read them, or because they could not be written";
    OTLP_EXPORTED "mahavishnu_otlp_exported_total" Counter ["server", "signal"] &[],
        "Spans, and data points of metrics, that the OpenTelemetry collector took; absent unless they are exported";
    OTLP_DROPPED "mahavishnu_otlp_dropped_total" Counter ["server", "signal", "reason"] &[],
        "Spans, and data points of metrics, that were not exported: too many in a turn, the queue full, refused, or the collector unreachable";
    TOKEN_EVENTS "mahavishnu_token_events_total" Counter ["server", "event"] &[],
        "Tokens of live connections: warned that they expire, refreshed";
    WITHDRAWN "mahavishnu_subscriptions_withdrawn_total" Counter ["server"] &[],
        "Subscriptions taken back because a token or the policy no longer permits them";
    SESSIONS "mahavishnu_sessions" Gauge ["server", "state"] &[],
        "Sessions that outlive their connection: attached to one, or detached and waiting for their client";
    RESUMES "mahavishnu_session_resumes_total" Counter ["server", "result"] &[],
        "Sessions that were asked for: resumed, unknown or expired, or another user's";
    PRESENCE_MEMBERS "mahavishnu_presence_members" Gauge ["server"] &[],
        "Members of all channels with presence";
    PRESENCE_EVENTS "mahavishnu_presence_events_total" Counter ["server", "event"] &[],
        "Members who joined and left, and events that told of many of them at once";
    REDIS_UP "mahavishnu_redis_up" Gauge ["server", "shard"] &[],
        "Whether a shard's connection to Redis is up: 1, or 0";
    REDIS_RECONNECTS "mahavishnu_redis_reconnects_total" Counter ["server", "cause"] &[],
        "Connections to Redis, and attempts to make one, that ended; each is followed by another attempt";
    REDIS_ERRORS "mahavishnu_redis_errors_total" Counter ["server", "class"] &[],
        "Errors that Redis answered with, by what they mean: script, wait, elsewhere, full, refused, poison";
    REDIS_COMMANDS "mahavishnu_redis_commands_total" Counter ["server", "command"] &[],
        "Commands sent to Redis: scripts by their name, and what keeps a connection";
    REDIS_UNDER_WAY "mahavishnu_redis_under_way_bytes" Gauge ["server"] &[],
        "Bytes of commands that wait to be sent to Redis or answered by it";
    REDIS_SENT "mahavishnu_redis_sent_bytes_total" Counter ["server"] &[],
        "Bytes written to connections to Redis";
    REDIS_RECEIVED "mahavishnu_redis_received_bytes_total" Counter ["server"] &[],
        "Bytes read from connections to Redis";
    REDIS_LIVE "mahavishnu_redis_live_messages_total" Counter ["server"] &[],
        "Messages of Redis' publish/subscribe that came, probes among them; a round of several messages is one";
    REDIS_POISON "mahavishnu_redis_poison_total" Counter ["server"] &[],
        "Live messages and replies of Redis that no known version would write";
    BUS_QUEUED "mahavishnu_bus_queued_bytes" Gauge ["server"] &[],
        "Bytes of publishes that wait for the bus or are under way to it";
    PROBES_LOST "mahavishnu_bus_probe_lost_total" Counter ["server"] &[],
        "Probes that the bus took and that were not back in time";
    TELLS_DROPPED "mahavishnu_bus_tells_dropped_total" Counter ["server"] &[],
        "What was to be told to the nodes that are there, and was not because too much was under way";
    PROBE_AGE "mahavishnu_bus_probe_age_seconds" Gauge ["server", "shard"] &[],
        "Seconds since the last probe was sent that came back as a live message";
    PROBE_DURATION "mahavishnu_bus_probe_duration_seconds" Histogram ["server"] PROBE_BUCKETS,
        "Time that probes took to come back as a live message";
    NODES "mahavishnu_nodes" Gauge ["server"] &[],
        "Nodes that have a lease, this one among them";
    NODES_SILENT "mahavishnu_bus_peers_silent" Gauge ["server"] &[],
        "Nodes that have a lease and were not heard of for as long as one lasts";
    NODES_GONE "mahavishnu_nodes_gone_total" Counter ["server"] &[],
        "Nodes that have gone, or whose lease was over";
    LEASE_LOST "mahavishnu_lease_lost_total" Counter ["server"] &[],
        "How often this node's lease was over before it was renewed";
    UNKNOWN_ORDERS "mahavishnu_unknown_orders_total" Counter ["server"] &[],
        "Orders for all nodes that this one does not know how to carry out";
    UNSENT_ORDERS "mahavishnu_unsent_orders" Gauge ["server"] &[],
        "Revocations that other nodes are told as soon as the bus takes them";
    CLUSTER_CONNECTIONS "mahavishnu_cluster_connections" Gauge ["server"] &[],
        "Active WebSocket connections of all nodes, as their leases say";
    INGRESS_ENTRIES "mahavishnu_ingress_entries_total" Counter ["server", "queue", "result"] &[],
        "Entries of queues in Redis: published, or found to be before; tried again later; dead, put among the unfit ones";
    INGRESS_LAG "mahavishnu_ingress_lag_seconds" Gauge ["server", "queue"] &[],
        "Seconds that the first entry of a queue has waited, by the clock of Redis; only this node's while it owns the queue";
    INGRESS_WAITING "mahavishnu_ingress_waiting" Gauge ["server", "queue"] &[],
        "Entries that wait in a queue; only this node's while it owns the queue";
    INGRESS_OWNER "mahavishnu_ingress_owner" Gauge ["server", "queue"] &[],
        "Whether this node takes the entries of a queue: 1, or 0";
    REVOCATIONS "mahavishnu_revocations" Gauge ["server"] &[],
        "Revocations in force, those of the file not counted";
    RELOADS "mahavishnu_config_generation" Gauge ["server"] &[],
        "How often the configuration was replaced since start";
    PROCESS_CPU "process_cpu_seconds_total" Counter ["server"] &[],
        "Time on processors, of user and system, in whole seconds";
    PROCESS_MEMORY "process_resident_memory_bytes" Gauge ["server"] &[],
        "Memory of the process that is in RAM";
    PROCESS_FILES "process_open_fds" Gauge ["server"] &[],
        "Files and sockets that the process has open";
    PROCESS_FILES_MAX "process_max_fds" Gauge ["server"] &[],
        "Files and sockets that the process may have open";
    PROCESS_START "process_start_time_seconds" Gauge ["server"] &[],
        "When the process began, in seconds since 1970";
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
