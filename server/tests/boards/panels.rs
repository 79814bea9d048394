//! Which panels there are. What a family's type and labels say is not repeated here.

/// A board of Grafana.
pub(super) struct Board {
    pub(super) file: &'static str,
    pub(super) uid: &'static str,
    pub(super) title: &'static str,
    pub(super) about: &'static str,
    /// Whether instances can be chosen among, and not only servers.
    pub(super) by_instance: bool,
    /// Panels in a line.
    pub(super) columns: usize,
    pub(super) rows: &'static [Row],
}

/// Panels under one heading.
pub(super) struct Row {
    pub(super) title: &'static str,
    /// What a server must have, so that there is anything to see.
    pub(super) needs: Option<&'static str>,
    pub(super) panels: &'static [Panel],
}

pub(super) struct Panel {
    pub(super) title: &'static str,
    /// Grafana's name of a unit.
    pub(super) unit: &'static str,
    pub(super) says: &'static str,
    pub(super) shows: &'static [Show],
}

/// One question, or three of a histogram.
pub(super) enum Show {
    /// A family by server, instance and all of its labels.
    All(&'static str),
    /// By these.
    By(&'static str, &'static [&'static str]),
    /// By these, and only what this matches.
    Of(&'static str, &'static [&'static str], &'static str),
    /// A gauge by these: the most that it was within the interval.
    Peak(&'static str, &'static [&'static str]),
    /// A histogram by these: p50, p95, p99.
    Quantiles(&'static str, &'static [&'static str]),
    /// An expression, with `{…}` or `{}` behind each family, and its legend.
    As(&'static str, &'static str),
}

use Show::{All, As, By, Of, Peak, Quantiles};

const fn panel(
    title: &'static str,
    unit: &'static str,
    says: &'static str,
    shows: &'static [Show],
) -> Panel {
    Panel { title, unit, says, shows }
}

const EACH: &[&str] = &["server", "instance"];

/// The board that all servers of this family share: eight panels of eight families.
pub(super) const WEBSOCKET: Board = Board {
    file: "WebSocket_Monitoring.json",
    uid: "mahavishnu-websocket",
    title: "WebSocket Monitoring",
    about: "Connections, messages, broadcasts, latency and errors of every server of the family.",
    by_instance: false,
    columns: 2,
    rows: &[Row {
        title: "",
        needs: None,
        panels: &[
            panel(
                "Active Connections",
                "short",
                "Connections at present, and the most within the interval.",
                &[
                    By("websocket_connections_active", EACH),
                    Peak("websocket_connections_active", EACH),
                ],
            ),
            panel(
                "Message Rate (Sent)",
                "mps",
                "Messages sent per second, each copy of a broadcast counted.",
                &[Of(
                    "websocket_messages_total",
                    &["server", "message_type"],
                    r#"direction="sent""#,
                )],
            ),
            panel(
                "Message Rate (Received)",
                "mps",
                "Messages received per second, the refused ones included.",
                &[Of(
                    "websocket_messages_total",
                    &["server", "message_type"],
                    r#"direction="received""#,
                )],
            ),
            panel(
                "Broadcast Rate",
                "ops",
                "Messages published per second, whether anybody subscribes or not.",
                &[By("websocket_broadcast_total", &["server", "channel"])],
            ),
            panel(
                "Broadcast Latency",
                "s",
                "From a publish until every subscriber that is due in the same turn was written to.",
                &[Quantiles("websocket_broadcast_duration_seconds", &["server"])],
            ),
            panel(
                "Message Latency",
                "s",
                "From reading a message until the turn that answers it was written.",
                &[Quantiles("websocket_latency_seconds", &["server", "message_type"])],
            ),
            panel(
                "Connection Error Rate",
                "cps",
                "Connections per second that ended in an error or did not begin.",
                &[By("websocket_connection_errors_total", &["server", "error_type"])],
            ),
            panel(
                "Message Error Rate",
                "cps",
                "Messages per second that were refused or did not arrive.",
                &[By("websocket_message_errors_total", &["server", "error_type"])],
            ),
        ],
    }],
};

/// All services of the family beside each other, in one process or in several.
pub(super) const FLEET: Board = Board {
    file: "Mahavishnu_Fleet.json",
    uid: "mahavishnu-fleet",
    title: "Mahavishnu Fleet",
    about: "All services of the family on one board, one line for each. What is of the process alone has the server \"fleet\" where one process has all of them.",
    by_instance: false,
    columns: 3,
    rows: &[
        Row { title: "Services", needs: None, panels: SERVICES },
        Row { title: "Traffic of each", needs: None, panels: SERVICES_TRAFFIC },
        Row { title: "The processes", needs: None, panels: PROCESSES },
    ],
};

const OF_SERVER: &[&str] = &["server"];

const SERVICES: &[Panel] = &[
    panel(
        "Services that are ready",
        "short",
        "Instances of each service to which balancers send clients.",
        &[By("mahavishnu_ready", OF_SERVER)],
    ),
    panel(
        "Connections of each service",
        "short",
        "Connections at present.",
        &[By("websocket_connections_active", OF_SERVER)],
    ),
    panel(
        "Channels and subscriptions of each service",
        "short",
        "Channels that have subscribers, and subscriptions of all connections.",
        &[By("mahavishnu_channels", OF_SERVER), By("mahavishnu_subscriptions", OF_SERVER)],
    ),
];

const SERVICES_TRAFFIC: &[Panel] = &[
    panel(
        "Received by each service",
        "mps",
        "Messages received per second, the refused ones included.",
        &[Of("websocket_messages_total", OF_SERVER, r#"direction="received""#)],
    ),
    panel(
        "Sent by each service",
        "mps",
        "Messages sent per second, each copy of a broadcast counted.",
        &[Of("websocket_messages_total", OF_SERVER, r#"direction="sent""#)],
    ),
    panel(
        "Published by each service",
        "ops",
        "Messages published per second, whether anybody subscribes or not.",
        &[By("websocket_broadcast_total", OF_SERVER)],
    ),
    panel(
        "Broadcast latency of each service",
        "s",
        "From a publish until every subscriber that is due in the same turn was written to.",
        &[Quantiles("websocket_broadcast_duration_seconds", OF_SERVER)],
    ),
    panel(
        "Refused by each service",
        "cps",
        "Messages per second that were refused or did not arrive, and connections that ended in an error.",
        &[
            By("websocket_message_errors_total", OF_SERVER),
            By("websocket_connection_errors_total", OF_SERVER),
        ],
    ),
    panel(
        "Kept and waiting in each service",
        "bytes",
        "Memory for what is kept of channels, and for what waits for slow readers.",
        &[By("mahavishnu_history_bytes", OF_SERVER), By("mahavishnu_queued_bytes", OF_SERVER)],
    ),
];

const PROCESSES: &[Panel] = &[
    panel(
        "Memory of the processes",
        "bytes",
        "What each process has in RAM.",
        &[By("process_resident_memory_bytes", EACH)],
    ),
    panel(
        "Processor time of the processes",
        "short",
        "Cores in use.",
        &[By("process_cpu_seconds_total", EACH)],
    ),
    panel(
        "Files of the processes",
        "short",
        "Open files and sockets.",
        &[By("process_open_fds", EACH)],
    ),
];

/// Everything that only this server has.
pub(super) const OPERATIONS: Board = Board {
    file: "Mahavishnu_Operations.json",
    uid: "mahavishnu-operations",
    title: "Mahavishnu Operations",
    about: "Readiness, memory, slow readers, refusals, history, TLS, Redis and nodes, one line for each instance.",
    by_instance: true,
    columns: 3,
    rows: &[
        Row { title: "Server", needs: None, panels: SERVER },
        Row { title: "Memory and slow readers", needs: None, panels: MEMORY },
        Row { title: "Traffic", needs: None, panels: TRAFFIC },
        Row { title: "Refusals and tokens", needs: None, panels: REFUSALS },
        Row { title: "History, sessions, presence", needs: None, panels: HISTORY },
        Row { title: "TLS", needs: Some("TLS"), panels: TLS },
        Row { title: "History file", needs: Some("a history file"), panels: STORE },
        Row { title: "Nodes", needs: Some("Redis"), panels: NODES },
        Row { title: "Messages between nodes", needs: Some("Redis"), panels: BUS },
        Row { title: "Redis", needs: Some("Redis"), panels: REDIS },
        Row { title: "Queues in Redis", needs: Some("Redis"), panels: INGRESS },
        Row { title: "OpenTelemetry", needs: Some("a collector"), panels: OTLP },
    ],
};

const SERVER: &[Panel] = &[
    panel(
        "Ready and draining",
        "short",
        "1 or 0: whether balancers send clients here, and whether it is about to stop.",
        &[All("mahavishnu_ready"), All("mahavishnu_draining")],
    ),
    panel(
        "Connections and their limit",
        "short",
        "Connections at present, and how many are let in. The limit's label says what sets it.",
        &[
            All("websocket_connections_active"),
            As(
                "sum by (server, instance, bound) (last_over_time(mahavishnu_connections_limit{}[$interval])) > 0",
                "{{server}} {{instance}} limit by {{bound}}",
            ),
        ],
    ),
    panel(
        "New connections",
        "cps",
        "Connections established per second, with TLS or without.",
        &[All("websocket_connections_total")],
    ),
    panel(
        "Resident memory and its limit",
        "bytes",
        "What the process has in RAM; what it is to make do with, where MAHAVISHNU_MEMORY_LIMIT is set.",
        &[
            All("process_resident_memory_bytes"),
            As(
                "sum by (server, instance) (last_over_time(mahavishnu_memory_limit_bytes{}[$interval])) > 0",
                "{{server}} {{instance}} limit",
            ),
        ],
    ),
    panel(
        "Processor time",
        "short",
        "Cores in use.",
        &[As(
            "sum by (server, instance) (rate(process_cpu_seconds_total{}[$interval]))",
            "{{server}} {{instance}}",
        )],
    ),
    panel(
        "Open files",
        "short",
        "Files and sockets, and how many there may be.",
        &[All("process_open_fds"), All("process_max_fds")],
    ),
    panel(
        "Running since",
        "s",
        "Time since the process began; a fall is a restart.",
        &[As(
            "time() - max by (server, instance) (last_over_time(process_start_time_seconds{}[$interval]))",
            "{{server}} {{instance}}",
        )],
    ),
    panel(
        "Reloads",
        "short",
        "How often the configuration was replaced since the start, and reloads refused within the interval.",
        &[
            All("mahavishnu_config_generation"),
            As(
                "sum by (server, instance) (increase(mahavishnu_config_reloads_refused_total{}[$interval]))",
                "{{server}} {{instance}} refused",
            ),
        ],
    ),
    panel(
        "Failures of the program",
        "cps",
        "Lost log lines, and failed calls of the application's handlers, per second.",
        &[All("mahavishnu_log_lines_dropped_total"), All("mahavishnu_handler_failures_total")],
    ),
];

const OTLP: &[Panel] = &[
    panel(
        "Exported",
        "cps",
        "Spans and metric points that a collector has taken, per second.",
        &[All("mahavishnu_otlp_exported_total")],
    ),
    panel(
        "Not exported",
        "cps",
        "Spans and metric points that no collector got, with the reason, per second.",
        &[All("mahavishnu_otlp_dropped_total")],
    ),
];

const MEMORY: &[Panel] = &[
    panel(
        "Memory in use by part",
        "bytes",
        "What waits for slow readers, what has come in part, idempotency keys, and what is kept of channels.",
        &[
            All("mahavishnu_queued_bytes"),
            All("mahavishnu_partial_bytes"),
            All("mahavishnu_idempotency_bytes"),
            All("mahavishnu_history_bytes"),
        ],
    ),
    panel(
        "Share of the budget in use",
        "percentunit",
        "The same as a share of what each part may take. At 1 somebody pays; history and keys may be full.",
        &[
            As(SHARE_QUEUED, "{{server}} {{instance}} queued"),
            As(SHARE_PARTIAL, "{{server}} {{instance}} partial"),
            As(SHARE_KEYS, "{{server}} {{instance}} idempotency"),
            As(SHARE_HISTORY, "{{server}} {{instance}} history"),
        ],
    ),
    panel(
        "Bytes between shards",
        "bytes",
        "Under way from one shard to another. It grows when a shard does not keep up.",
        &[All("mahavishnu_shard_queue_bytes")],
    ),
    panel(
        "Messages that did not arrive",
        "mps",
        "Messages per second that a subscriber did not get, by why.",
        &[All("mahavishnu_messages_dropped_total")],
    ),
    panel(
        "Ended connections",
        "cps",
        "Connections per second that ended, by why; slow readers among them.",
        &[All("mahavishnu_connections_closed_total")],
    ),
];

macro_rules! share {
    ($family:literal, $part:literal) => {
        concat!(
            "sum by (server, instance) (last_over_time(",
            $family,
            "{}[$interval])) / sum by (server, instance) (last_over_time(mahavishnu_memory_budget_bytes{part=\"",
            $part,
            "\"}[$interval]))"
        )
    };
}

const SHARE_QUEUED: &str = share!("mahavishnu_queued_bytes", "queued");
const SHARE_PARTIAL: &str = share!("mahavishnu_partial_bytes", "partial");
const SHARE_KEYS: &str = share!("mahavishnu_idempotency_bytes", "idempotency");
const SHARE_HISTORY: &str = share!("mahavishnu_history_bytes", "history");
const SHARE_BUS: &str = share!("mahavishnu_bus_queued_bytes", "bus_queued");

const TRAFFIC: &[Panel] = &[
    panel(
        "Bytes on the wire",
        "Bps",
        "Bytes written to sockets and read from them, per second.",
        &[All("mahavishnu_sent_bytes_total"), All("mahavishnu_received_bytes_total")],
    ),
    panel(
        "HTTP requests",
        "reqps",
        "Plain requests per second by status; health checks and scrapes are among them.",
        &[All("mahavishnu_http_requests_total")],
    ),
    panel(
        "Channels and subscriptions",
        "short",
        "Channels with subscribers, and the subscriptions of all connections.",
        &[All("mahavishnu_channels"), All("mahavishnu_subscriptions")],
    ),
    panel(
        "Compressed messages",
        "mps",
        "Messages per second that were compressed, each broadcast once, or came compressed.",
        &[All("mahavishnu_deflate_messages_total")],
    ),
    panel(
        "Bytes before and after compression",
        "Bps",
        "Bytes per second of these messages.",
        &[
            All("mahavishnu_deflate_plain_bytes_total"),
            All("mahavishnu_deflate_compressed_bytes_total"),
        ],
    ),
];

const REFUSALS: &[Panel] = &[
    panel(
        "Refused logins",
        "cps",
        "Connections per second whose token was no good or did not come.",
        &[Of(
            "websocket_connection_errors_total",
            &["server", "instance", "error_type"],
            r#"error_type=~"auth_.*|token_.*|certificate_revoked""#,
        )],
    ),
    panel(
        "Connections refused by limits",
        "cps",
        "Connections per second that were one too many, or came too fast.",
        &[Of(
            "websocket_connection_errors_total",
            &["server", "instance", "error_type"],
            r#"error_type=~"max_connections|max_sockets|made_room|connect_rate|address_connections|user_connections|tls_handshake_rate|tls_handshakes_max""#,
        )],
    ),
    panel(
        "Tokens of live connections",
        "cps",
        "Warned that they expire, and refreshed, per second.",
        &[All("mahavishnu_token_events_total")],
    ),
    panel(
        "Withdrawn subscriptions",
        "cps",
        "Subscriptions per second taken back because they are not permitted any more.",
        &[All("mahavishnu_subscriptions_withdrawn_total")],
    ),
    panel("Revocations", "short", "In force.", &[All("mahavishnu_revocations")]),
];

const HISTORY: &[Panel] = &[
    panel(
        "Recoveries",
        "cps",
        "Subscriptions per second that asked for what they missed, by what came of it.",
        &[All("mahavishnu_recoveries_total")],
    ),
    panel(
        "Recovered messages",
        "mps",
        "Messages per second that were sent because they had been missed.",
        &[All("mahavishnu_recovered_messages_total")],
    ),
    panel(
        "Channels forgotten early",
        "cps",
        "Per second, because all channels together took too much memory.",
        &[All("mahavishnu_history_evicted_total")],
    ),
    panel("Documents", "short", "Channels that have one.", &[All("mahavishnu_documents")]),
    panel("Memory of documents", "bytes", "In use.", &[All("mahavishnu_document_bytes")]),
    panel(
        "Sessions",
        "short",
        "Attached to a connection, and waiting for their client.",
        &[All("mahavishnu_sessions")],
    ),
    panel(
        "Sessions asked for",
        "cps",
        "Per second, by what came of it.",
        &[All("mahavishnu_session_resumes_total")],
    ),
    panel(
        "Members of channels",
        "short",
        "Of all channels with presence.",
        &[All("mahavishnu_presence_members")],
    ),
    panel(
        "Members who come and go",
        "cps",
        "Per second; `changed` tells of many at once.",
        &[All("mahavishnu_presence_events_total")],
    ),
];

const TLS: &[Panel] = &[
    panel(
        "Certificate expires in",
        "s",
        "Time until the first of the server's certificates expires.",
        &[As(
            "min by (server, instance) (last_over_time(mahavishnu_certificate_expiry_seconds{}[$interval]))",
            "{{server}} {{instance}}",
        )],
    ),
    panel(
        "TLS handshakes",
        "cps",
        "Completed per second: full, or resumed from a ticket.",
        &[All("mahavishnu_tls_handshakes_total")],
    ),
];

const STORE: &[Panel] = &[
    panel(
        "Groups written",
        "cps",
        "Groups of messages, documents and sessions per second.",
        &[All("mahavishnu_history_store_commits_total")],
    ),
    panel(
        "Errors of the file",
        "cps",
        "Groups per second that could not be written or forced to the disk. Should be 0.",
        &[All("mahavishnu_history_store_errors_total")],
    ),
    panel(
        "Time to write a group",
        "s",
        "With `MAHAVISHNU_HISTORY_FSYNC=always` that is the disk's.",
        &[Quantiles("mahavishnu_history_store_commit_duration_seconds", EACH)],
    ),
];

const NODES: &[Panel] = &[
    panel(
        "Nodes",
        "short",
        "With a lease, and those of them that are not heard.",
        &[All("mahavishnu_nodes"), All("mahavishnu_bus_peers_silent")],
    ),
    panel(
        "Connections of all nodes",
        "short",
        "As their leases say; each node tells what it knows.",
        &[All("mahavishnu_cluster_connections")],
    ),
    panel(
        "Nodes gone and leases lost",
        "cps",
        "Per second.",
        &[All("mahavishnu_nodes_gone_total"), All("mahavishnu_lease_lost_total")],
    ),
    panel(
        "Orders for all nodes",
        "short",
        "Revocations that Redis has not taken yet, and orders within the interval that were not understood.",
        &[
            All("mahavishnu_unsent_orders"),
            As(
                "sum by (server, instance) (increase(mahavishnu_unknown_orders_total{}[$interval]))",
                "{{server}} {{instance}} unknown",
            ),
        ],
    ),
];

const BUS: &[Panel] = &[
    panel(
        "Time to append",
        "s",
        "From sending messages to Redis until it has numbered and kept them.",
        &[Quantiles("mahavishnu_bus_append_duration_seconds", EACH)],
    ),
    panel(
        "Messages appended together",
        "short",
        "Of one channel, in one command.",
        &[Quantiles("mahavishnu_bus_append_messages", EACH)],
    ),
    panel(
        "Publishes that wait for Redis",
        "bytes",
        "Waiting, or under way to it.",
        &[All("mahavishnu_bus_queued_bytes")],
    ),
    panel(
        "Share of the queue in use",
        "percentunit",
        "The same as a share of what may wait. At 1 publishes are refused.",
        &[As(SHARE_BUS, "{{server}} {{instance}}")],
    ),
    panel(
        "Followed channels",
        "short",
        "Of which messages of other nodes are taken.",
        &[All("mahavishnu_bus_followed_channels")],
    ),
    panel(
        "Holes",
        "cps",
        "Per second, filled by reading or announced to subscribers as lost. The latter should be 0.",
        &[All("mahavishnu_bus_holes_total")],
    ),
    panel(
        "Heals, forks, new epochs",
        "cps",
        "Channels per second that Redis had lost or had otherwise.",
        &[
            All("mahavishnu_bus_heals_total"),
            All("mahavishnu_bus_forks_total"),
            All("mahavishnu_bus_epochs_total"),
        ],
    ),
    panel(
        "What is no message",
        "cps",
        "Entries and live messages per second that no known version would write. Should be 0.",
        &[All("mahavishnu_bus_poison_total"), All("mahavishnu_redis_poison_total")],
    ),
    panel(
        "Age of the last probe",
        "s",
        "Since the last proof that live messages arrive. Usual is about a second.",
        &[All("mahavishnu_bus_probe_age_seconds")],
    ),
    panel(
        "Time of probes",
        "s",
        "Until they come back as a live message.",
        &[Quantiles("mahavishnu_bus_probe_duration_seconds", EACH)],
    ),
    panel(
        "Lost on the way",
        "cps",
        "Probes that did not come back, and what nodes were not told, per second. Should be 0.",
        &[All("mahavishnu_bus_probe_lost_total"), All("mahavishnu_bus_tells_dropped_total")],
    ),
];

const REDIS: &[Panel] = &[
    panel("Connections to Redis", "short", "1 or 0 for each shard.", &[All("mahavishnu_redis_up")]),
    panel(
        "Connections lost",
        "cps",
        "Connections, and attempts to make one, that ended, per second.",
        &[All("mahavishnu_redis_reconnects_total")],
    ),
    panel(
        "Errors of Redis",
        "cps",
        "Per second, by what they mean.",
        &[All("mahavishnu_redis_errors_total")],
    ),
    panel(
        "Commands",
        "ops",
        "Sent per second; scripts by their name.",
        &[All("mahavishnu_redis_commands_total")],
    ),
    panel(
        "Bytes under way to Redis",
        "bytes",
        "Commands that wait to be sent or answered.",
        &[All("mahavishnu_redis_under_way_bytes")],
    ),
    panel(
        "Bytes to and from Redis",
        "Bps",
        "Per second.",
        &[All("mahavishnu_redis_sent_bytes_total"), All("mahavishnu_redis_received_bytes_total")],
    ),
    panel(
        "Live messages",
        "mps",
        "Of Redis' publish/subscribe, per second.",
        &[All("mahavishnu_redis_live_messages_total")],
    ),
];

const INGRESS: &[Panel] = &[
    panel(
        "Entries of queues",
        "cps",
        "Per second, by what became of them.",
        &[All("mahavishnu_ingress_entries_total")],
    ),
    panel(
        "How long the first waits",
        "s",
        "By the clock of Redis.",
        &[All("mahavishnu_ingress_lag_seconds")],
    ),
    panel(
        "Entries that wait",
        "short",
        "As the owner of the queue sees them.",
        &[All("mahavishnu_ingress_waiting")],
    ),
    panel(
        "Owner of a queue",
        "short",
        "1 on the node that takes its entries. Over all nodes the sum should be 1.",
        &[All("mahavishnu_ingress_owner")],
    ),
];
