//! Every bound of the core by name: default, unit and what happens when it is reached.
//!
//! They are grouped by who keeps them: one connection's protocol ([`wire`]), and the parts of a hub.

use std::time::Duration;

use mahavishnu_wire as wire;

/// Bounds on bytes, counts and time.
///
/// The defaults suit an untrusted network. A value of zero is never "unlimited": where a bound can be switched off,
/// its type is an `Option` and the field says so.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limits {
    /// One socket's protocol: heads, messages, signs of life, closing. Per connection.
    pub wire: wire::Limits,
    /// Connections and those who make them.
    pub connections: Connections,
    /// Authentication and tokens.
    pub auth: Auth,
    /// Revoking tokens.
    pub revocations: Revocations,
    /// Channels and subscriptions.
    pub channels: Channels,
    /// Messages on their way to subscribers.
    pub delivery: Delivery,
    /// What is kept of channels.
    pub history: History,
    /// Who is in channels.
    pub presence: Presence,
    /// Sessions that outlive their connection.
    pub sessions: Sessions,
    /// Requests to the application.
    pub requests: Requests,
    /// Publishing.
    pub publishing: Publishing,
    /// Between shards.
    pub shards: Shards,
    /// Between nodes.
    pub bus: Bus,
    /// TLS handshakes.
    pub tls: Tls,
}

impl Limits {
    /// TLS handshakes that one address may have in a minute; `None`: any number.
    #[must_use]
    pub fn tls_handshakes_per_minute(&self) -> Option<u32> {
        let connects = self.connections.connects_per_minute.filter(|rate| *rate > 0);
        let connects = connects.or(self.connections.connections_per_address_max)?;
        Some(connects.saturating_mul(self.tls.tls_handshakes_per_connect).max(1))
    }

    /// What holds for the protocol of connections that have not authenticated yet.
    pub(crate) fn before_auth(&self) -> wire::Limits {
        let before_auth = self.auth.message_bytes_before_auth_max;
        let message_bytes_max = self.wire.message_bytes_max.min(before_auth);
        wire::Limits { message_bytes_max, ..self.wire.clone() }
    }
}

/// What holds for connections and those who make them. Per hub unless they say otherwise.
#[derive(Clone, Debug, PartialEq)]
pub struct Connections {
    /// Open WebSocket connections, over all shards. Default 10,000. Over it: accepted, then closed 1013.
    pub connections_max: usize,
    /// Open sockets of any kind, over all shards as far as they know of each other, so that health checks are answered
    /// at `connections_max`. Default 12,000. Over it one of the same shard goes that waits for nothing but its client:
    /// the oldest without a complete request, then the kept HTTP connection that has been idle for longest. If there is
    /// none: dropped unread.
    pub sockets_max: usize,
    /// New WebSocket connections per minute and address. Default `None`: off. Over it: accepted, then closed 1013.
    pub connects_per_minute: Option<u32>,
    /// Open WebSocket connections of one address (IPv6: of one network of 64 bits), over all shards. Default `None`:
    /// off. Over it: accepted, then closed 1013. Connections that were open when it was switched on are not counted.
    pub connections_per_address_max: Option<u32>,
    /// Open WebSocket connections of one user (`sub` or `user_id` of the token), over all shards. Default `None`: off.
    /// Over it: closed 1013. Connections that were open when it was switched on are not counted.
    pub connections_per_user_max: Option<u32>,
    /// Whether `connects_per_minute` and `connections_per_address_max` also hold for loopback addresses. Default false.
    pub connects_limit_loopback: bool,
    /// Addresses whose rate is remembered. Default 65,536. Over it: the one longest unseen is forgotten.
    pub addresses_max: usize,
    /// Messages per second and connection. Default 100. Over it and the burst: `RATE_LIMIT_EXCEEDED`, message dropped.
    /// `None`: off.
    pub messages_per_second: Option<u32>,
    /// Messages of a connection that may come at once. Default 150.
    pub messages_burst: u32,
    /// Bytes of memory for heads, bodies and messages of which the end has not come, over all connections. Default
    /// 128 MiB. Over it: those that began first are ended, with 1013 or 503.
    pub partial_bytes_max: usize,
    /// Connections in one answer to `GET /connections`. Default 1,000. Over it: the others are only counted.
    pub connections_listed_max: u32,
    /// Open WebSocket connections on all nodes, as far as this one knows: what leases say is up to two seconds old, and so
    /// many as come in that time may lie beyond it. Default `None`: off. Over it: accepted, then closed 1013.
    pub connections_cluster_max: Option<u64>,
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            sockets_max: 12_000,
            connects_per_minute: None,
            connections_per_address_max: None,
            connections_per_user_max: None,
            connects_limit_loopback: false,
            addresses_max: 65_536,
            messages_per_second: Some(100),
            messages_burst: 150,
            partial_bytes_max: 128 * 1024 * 1024,
            connections_listed_max: 1_000,
            connections_cluster_max: None,
        }
    }
}

/// What holds until a connection has authenticated, and when its token expires. Per connection.
#[derive(Clone, Debug, PartialEq)]
pub struct Auth {
    /// Time from the handshake until authentication. Default 10 s. Over it: close 1008.
    pub auth_timeout: Duration,
    /// Pings of the message protocol answered before authentication. Default 16. Over it: close 1008.
    pub pings_before_auth_max: u8,
    /// `message_bytes_max` before authentication, where that is required: room for a token of 8 KiB. Default 16 KiB.
    /// Over it: close 1009.
    pub message_bytes_before_auth_max: usize,
    /// How long before its token expires a connection is warned, at most half of what the token had left when it came.
    /// Default 60 s. Zero: no warning.
    pub token_warning: Duration,
    /// Time after its token has expired in which a connection may still refresh it. Default 30 s. Over it: close 1008.
    pub token_grace: Duration,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            auth_timeout: Duration::from_secs(10),
            pings_before_auth_max: 16,
            message_bytes_before_auth_max: 16 * 1024,
            token_warning: Duration::from_secs(60),
            token_grace: Duration::from_secs(30),
        }
    }
}

/// What holds for revoking tokens. Per hub.
#[derive(Clone, Debug, PartialEq)]
pub struct Revocations {
    /// Revocations in force, per hub. Default 10,000. Over it: a further one is refused.
    pub revocations_max: usize,
    /// How long a revocation is kept that does not say when its tokens will have expired, and at most. Default 30 days.
    /// A token that lives longer than that is good again afterwards.
    pub revocation_keep: Duration,
    /// Refused revocations that are handed out for the log, per minute and hub, with a burst of as many. Default 60.
    /// Over it: counted, but not written down.
    pub audit_refusals_per_minute: u32,
}

impl Default for Revocations {
    fn default() -> Self {
        Self {
            revocations_max: 10_000,
            revocation_keep: Duration::from_secs(30 * 86_400),
            audit_refusals_per_minute: 60,
        }
    }
}

/// What holds for channels and subscriptions.
#[derive(Clone, Debug, PartialEq)]
pub struct Channels {
    /// Subscriptions of a connection, and as many again that wait for other shards. Default 1,000. Over it:
    /// `RATE_LIMIT_EXCEEDED`.
    pub channels_per_connection_max: usize,
    /// Channels with subscribers, over all shards as far as they know of each other. Default 100,000. Over it:
    /// `SERVER_ERROR`.
    pub channels_max: usize,
    /// Of these, so many, and at most a tenth of them, are only for users with fewer than `channels_share_max`, or without a
    /// user addresses (IPv6: networks of 64 bits). Default 10,000. Over it the others: `RATE_LIMIT_EXCEEDED`.
    pub channels_reserved: usize,
    /// Channels that one user, or one address, was the first to subscribe to and may still have another of the reserved
    /// ones: over all shards, each of which keeps to its part. Default 1,000.
    pub channels_share_max: usize,
    /// Bytes of a channel's name. Default 256. Over it: `INVALID_CHANNEL`.
    pub channel_bytes_max: usize,
    /// Bytes of an event's name. Default 256. Over it: `DECODE_ERROR`.
    pub event_bytes_max: usize,
}

impl Default for Channels {
    fn default() -> Self {
        Self {
            channels_per_connection_max: 1_000,
            channels_max: 100_000,
            channels_reserved: 10_000,
            channels_share_max: 1_000,
            channel_bytes_max: 256,
            event_bytes_max: 256,
        }
    }
}

/// What holds for messages on their way to subscribers.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// Bytes waiting to be written, per connection. Default 1 MiB, at least `message_bytes_max` is advisable. A
    /// broadcast that does not fit meets the channel's slow-reader policy.
    pub outbox_bytes_max: usize,
    /// Bytes of a channel's frames that are gathered into one shared segment within a turn. Default 64 KiB. Over it:
    /// the segment is handed out and a new one begun.
    pub round_bytes_max: usize,
    /// Bytes that wait in all outboxes of a hub whose sockets take no more, those that are shared counted once. Default
    /// 256 MiB. Over it: the connections that most waits for meet their channels' slow-reader policy (close 1013, or
    /// messages dropped), until an eighth is free.
    pub queued_bytes_max: usize,
}

impl Default for Delivery {
    fn default() -> Self {
        Self {
            outbox_bytes_max: 1024 * 1024,
            round_bytes_max: 64 * 1024,
            queued_bytes_max: 256 * 1024 * 1024,
        }
    }
}

/// What holds for the logs of channels. Per hub unless they say otherwise.
#[derive(Clone, Debug, PartialEq)]
pub struct History {
    /// Bytes of one channel's messages that are kept. Default 1 MiB. Over it the oldest go.
    pub history_channel_bytes_max: usize,
    /// Bytes that all channels' messages and documents take that are kept, and channels without subscribers. Default
    /// 64 MiB. Over it channels are forgotten, those first that were published to longest ago.
    pub history_bytes_max: usize,
    /// Messages that one subscription recovers or rewinds. Default 1,000. Over it: not recovered, reason `too_many`; a
    /// rewind is cut short.
    pub recover_messages_max: u32,
    /// Messages in one answer to `get_history`. Default 1,000. Over it: so many, and `more`. Bytes are bounded by a
    /// quarter of `outbox_bytes_max`.
    pub history_page_max: u32,
    /// How long after its last message a channel without subscribers keeps its numbers, if that is longer than its
    /// messages are kept. Default 24 h. Afterwards who comes back is not recovered, reason `epoch`.
    pub position_keep: Duration,
    /// Bytes of messages that wait until the store has kept them, per hub. Default 16 MiB. From it on publishes are refused:
    /// `SERVER_ERROR` "Server busy". Publishes of several messages that were let in before may lie beyond it. What is kept goes
    /// to other hubs whatever is under way to them: so much may lie beyond
    /// [`shard_queue_bytes_max`](Shards::shard_queue_bytes_max).
    pub store_queue_bytes_max: usize,
    /// Bytes of a channel's document. Default 64 KiB. Over it the publish is refused: `DECODE_ERROR` or 413.
    pub state_bytes_max: usize,
}

impl Default for History {
    fn default() -> Self {
        Self {
            history_channel_bytes_max: 1024 * 1024,
            history_bytes_max: 64 * 1024 * 1024,
            recover_messages_max: 1_000,
            history_page_max: 1_000,
            position_keep: Duration::from_secs(86_400),
            store_queue_bytes_max: 16 * 1024 * 1024,
            state_bytes_max: 64 * 1024,
        }
    }
}

/// What holds for who is in a channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Presence {
    /// Members of a channel. Default 10,000. Over it a subscription that wants to be one is refused:
    /// `RATE_LIMIT_EXCEEDED`.
    pub presence_members_max: u32,
    /// Bytes of what a member says of itself. Default 1 KiB. Over it: `DECODE_ERROR`.
    pub presence_info_bytes_max: usize,
    /// Bytes of memory for members of all channels that are at home in one hub. Default 64 MiB. Over it a subscription that
    /// wants to be one is refused: `RATE_LIMIT_EXCEEDED`.
    pub presence_bytes_max: usize,
    /// Members who come and go in one turn that are told one by one, as long as that fits into a quarter of
    /// `outbox_bytes_max`. Default 16. Over it: one event for all of them.
    pub presence_changes_max: u32,
}

impl Default for Presence {
    fn default() -> Self {
        Self {
            presence_members_max: 10_000,
            presence_info_bytes_max: 1024,
            presence_bytes_max: 64 * 1024 * 1024,
            presence_changes_max: 16,
        }
    }
}

/// What holds for sessions that outlive their connection. Per hub.
#[derive(Clone, Debug, PartialEq)]
pub struct Sessions {
    /// How long a session waits for its client after its connection has ended, at most, and at most ten years; a client
    /// may ask for less. Default 120 s. Zero: there are none.
    pub session_window: Duration,
    /// Sessions, with and without a connection. Default 10,000. Over it: `RATE_LIMIT_EXCEEDED`.
    pub sessions_max: usize,
    /// Of these, the last tenth is only for users, and addresses (IPv6: networks of 64 bits) of connections without one,
    /// that have fewer than this. Default 100. Over it the others: `RATE_LIMIT_EXCEEDED`.
    pub sessions_share_max: u32,
    /// Bytes of memory for sessions and the names of their channels. Default 16 MiB. Over it: `RATE_LIMIT_EXCEEDED`, and
    /// a session that grows is forgotten.
    pub sessions_bytes_max: usize,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            session_window: Duration::from_secs(120),
            sessions_max: 10_000,
            sessions_share_max: 100,
            sessions_bytes_max: 16 * 1024 * 1024,
        }
    }
}

/// What holds for requests to the application. Per connection.
#[derive(Clone, Debug, PartialEq)]
pub struct Requests {
    /// Requests that wait for the application, per connection. Default 32. Over it: `RATE_LIMIT_EXCEEDED`.
    pub requests_in_flight_max: u16,
    /// Time for the application to answer. Default 30 s. Over it: `SERVER_ERROR`.
    pub request_timeout: Duration,
    /// Bytes of what the application's handlers were given and are not done with, per hub: 1 KiB for each call, and its
    /// data. Default 64 MiB. Over it: `SERVER_ERROR` "Server busy" for requests, decisions and scrapes, and 1013 for
    /// newcomers if the application hears of them, until it is below again.
    pub handlers_bytes_max: usize,
    /// Time for the application to say whose a handshake or a request over HTTP is. Default 5 s: less than clients wait for
    /// a handshake. Over it: a handshake is accepted and closed with 1013, so that its client comes back; a request gets 503.
    pub authenticate_timeout: Duration,
    /// Bytes of a handshake's path and of those of its header fields that the application wants to know, names included.
    /// Default 4 KiB. Over it: 431.
    pub kept_request_bytes_max: usize,
}

impl Default for Requests {
    fn default() -> Self {
        Self {
            requests_in_flight_max: 32,
            request_timeout: Duration::from_secs(30),
            handlers_bytes_max: 64 * 1024 * 1024,
            authenticate_timeout: Duration::from_secs(5),
            kept_request_bytes_max: 4 * 1024,
        }
    }
}

/// What holds for publishing, over HTTP and between shards.
#[derive(Clone, Debug, PartialEq)]
pub struct Publishing {
    /// Messages in one `POST /publish`. Default 1,000. Over it: 400.
    pub publish_batch_max: usize,
    /// Publishes that wait for other shards, per hub. Default 10,000. Over it: `SERVER_ERROR` "Server busy".
    pub publishes_in_flight_max: usize,
    /// Idempotency keys remembered per hub. Default 10,000. Over it: the oldest is forgotten.
    pub idempotency_keys_max: usize,
    /// Bytes of memory for idempotency keys and what is kept of their answers, per hub. Default 16 MiB. Over it: the
    /// oldest is forgotten, and what it stood for is carried out once more if it is sent again.
    pub idempotency_bytes_max: usize,
    /// How long an idempotency key is remembered. Default 300 s.
    pub idempotency_ttl: Duration,
}

impl Default for Publishing {
    fn default() -> Self {
        Self {
            publish_batch_max: 1_000,
            publishes_in_flight_max: 10_000,
            idempotency_keys_max: 10_000,
            idempotency_bytes_max: 16 * 1024 * 1024,
            idempotency_ttl: Duration::from_secs(300),
        }
    }
}

/// What holds between shards, per pair of hubs.
#[derive(Clone, Debug, PartialEq)]
pub struct Shards {
    /// Bytes under way from one hub to another, until that one is done with them. Default 64 MiB. From it on publishes
    /// that would add to them are refused: `SERVER_ERROR` "Server busy"; new connections that the other would have to
    /// count are closed 1013. One message may lie beyond it, and publishes of several messages that were let in before.
    pub shard_queue_bytes_max: usize,
}

impl Default for Shards {
    fn default() -> Self {
        Self { shard_queue_bytes_max: 64 * 1024 * 1024 }
    }
}

/// What holds between nodes. Per hub.
#[derive(Clone, Debug, PartialEq)]
pub struct Bus {
    /// Bytes of messages that wait for the bus or are under way to it. Default 8 MiB. From it on publishes are refused:
    /// `SERVER_ERROR` "Server busy". Publishes of several messages that were let in before may lie beyond it.
    pub bus_queue_bytes_max: usize,
    /// Bytes of memory for subscriptions and questions that wait for what the bus keeps of their channel. Default 16 MiB. Over
    /// it: they wait no longer, and begin with what is known.
    pub bus_waiting_bytes_max: usize,
    /// Bytes of a channel's messages that came behind a hole and wait until it is filled. Default 1 MiB. Over it: they are
    /// dropped and read again.
    pub bus_hole_bytes_max: usize,
    /// The same of all channels. Default 16 MiB. So many more are read at a time from before what homes keep, for those who
    /// ask for it; over it: they are told that it is trimmed.
    pub bus_holes_bytes_max: usize,
    /// Bytes that are read of a channel at once. Default 256 KiB.
    pub bus_page_bytes_max: usize,
    /// Pages that are asked for, and channels that are put back, at a time. Default 16. Over it: channels wait for their turn.
    pub bus_reads_max: usize,
    /// How long a channel that nobody is interested in any more is still followed. Default 30 s.
    pub bus_follow_time: Duration,
    /// Nodes of the server that are known. Default 1,000. Over it: those with the lowest names are; connections of the others
    /// do not count, and nobody waits for their answers.
    pub nodes_max: usize,
    /// How long who revokes tokens or ends connections waits for the other nodes to have done the same. Default 2 s. Over it:
    /// the answer says how many have.
    pub confirm_time: Duration,
}

impl Default for Bus {
    fn default() -> Self {
        Self {
            bus_queue_bytes_max: 8 * 1024 * 1024,
            bus_waiting_bytes_max: 16 * 1024 * 1024,
            bus_hole_bytes_max: 1024 * 1024,
            bus_holes_bytes_max: 16 * 1024 * 1024,
            bus_page_bytes_max: 256 * 1024,
            bus_reads_max: 16,
            bus_follow_time: Duration::from_secs(30),
            nodes_max: 1_000,
            confirm_time: Duration::from_secs(2),
        }
    }
}

/// What holds for TLS handshakes. Per hub.
#[derive(Clone, Debug, PartialEq)]
pub struct Tls {
    /// Handshakes that one turn carries out. Default 16, a few milliseconds. Over it: they wait for the next turn, so
    /// that messages come in between.
    pub tls_handshakes_per_turn: u32,
    /// Handshakes that an address may have for each new connection that it may have: times `connects_per_minute`, or
    /// else times `connections_per_address_max`, in a minute. Without either limit there is none on handshakes. Default
    /// 4, for clients that come again and for health checks. Over it: closed before the handshake, unanswered. Clients
    /// behind a trusted proxy that is not to send a header of the PROXY protocol are not counted.
    pub tls_handshakes_per_connect: u32,
    /// Handshakes under way. Default 1,000. Over it: the one that began first is cut off.
    pub tls_handshakes_max: usize,
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            tls_handshakes_per_turn: 16,
            tls_handshakes_per_connect: 4,
            tls_handshakes_max: 1_000,
        }
    }
}
