//! Every bound of the core by name: default, unit and what happens when it is reached.

use std::time::Duration;

/// Bounds on bytes, counts and time. All are per connection unless they say otherwise.
///
/// The defaults suit an untrusted network. A value of zero is never "unlimited": where a bound can be switched off,
/// its type is an `Option` and the field says so.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    // ---- HTTP ----
    /// Bytes of a request head, line and headers together. Default 16 KiB. Over it: 431.
    pub head_bytes_max: usize,
    /// Header fields in a request head. Default 64. Over it: 431.
    pub headers_max: usize,
    /// From accept (or from a request's first byte) until its head and body are complete. Default 10 s.
    /// Over it: 408 if anything came, otherwise the socket is closed silently.
    pub head_timeout: Duration,
    /// Bytes of a request body (`POST /publish`). Default 4 MiB. Over it: 413.
    pub body_bytes_max: usize,
    /// Idle time of a kept HTTP connection between requests. Default 75 s (nginx keeps 60 s). Over it: closed.
    pub http_idle_timeout: Duration,

    // ---- WebSocket ----
    /// Bytes of one message, all fragments together. Default 1 MiB. Over it: close 1009.
    pub message_bytes_max: usize,
    /// The same before authentication, where that is required: room for a token of 8 KiB. Default 16 KiB. Over it: close
    /// 1009.
    pub message_bytes_before_auth_max: usize,
    /// Bytes that a compressed message may inflate to, per byte that came, once it is over 64 KiB; `message_bytes_max`
    /// bounds it as well. Default 200: text that repeats itself stays below 100. Over it: close 1009.
    pub inflate_ratio_max: u32,
    /// Frames of one message. Default 65,536 (Autobahn 9.* sends that many). Over it: close 1008.
    pub fragments_max: u32,
    /// Pings, pongs and empty fragments per second, with a burst of twice that. Default 200. Over it: close 1008.
    pub control_frames_per_second_max: u32,
    /// A ping is sent after this long without a byte from the peer. Default 20 s. `None`: no pings.
    pub ping_interval: Option<Duration>,
    /// Time for the pong after a ping. Default 20 s. Over it: close 1011.
    pub pong_timeout: Duration,
    /// Time without any byte from the peer, pongs included. Default 300 s. Over it: close 1001. `None`: no such limit.
    pub connection_timeout: Option<Duration>,
    /// From our close frame until the peer's, and from then until its end of stream. Default 5 s. Over it: dropped.
    pub close_timeout: Duration,

    // ---- Outbox ----
    /// Bytes waiting to be written. Default 1 MiB, at least `message_bytes_max` is advisable. A broadcast that does
    /// not fit meets the channel's slow-reader policy.
    pub outbox_bytes_max: usize,
    /// Bytes waiting above which the connection is not read any more: a client that does not read its answers cannot
    /// make more of them. Default 64 KiB.
    pub outbox_read_watermark: usize,
    /// Bytes of a channel's frames that are gathered into one shared segment within a turn. Default 64 KiB. Over it:
    /// the segment is handed out and a new one begun.
    pub round_bytes_max: usize,

    // ---- Memory (per hub) ----
    /// Bytes that wait in all outboxes whose sockets take no more, those that are shared counted once. Default 256 MiB.
    /// Over it: the connections that most waits for meet their channels' slow-reader policy (close 1013, or messages
    /// dropped), until an eighth is free.
    pub queued_bytes_max: usize,
    /// Bytes of memory for heads, bodies and messages of which the end has not come, over all connections. Default
    /// 128 MiB. Over it: those that began first are ended, with 1013 or 503.
    pub partial_bytes_max: usize,

    // ---- Connections and sessions (per hub) ----
    /// Open WebSocket connections, over all shards. Default 10,000. Over it: accepted, then closed 1013.
    pub connections_max: usize,
    /// Open sockets of any kind, over all shards as far as they know of each other, so that health checks are answered at
    /// `connections_max`. Default 12,000. Over it one of the same shard goes that waits for nothing but its client: the
    /// oldest without a complete request, then the kept HTTP connection that has been idle for longest. If there is none:
    /// dropped unread.
    pub sockets_max: usize,
    /// New WebSocket connections per minute and address. Default `None`: off. Over it: accepted, then closed 1013.
    pub connects_per_minute: Option<u32>,
    /// Open WebSocket connections of one address (IPv6: of one network of 64 bits), over all shards. Default `None`: off.
    /// Over it: accepted, then closed 1013. Connections that were open when it was switched on are not counted.
    pub connections_per_address_max: Option<u32>,
    /// Open WebSocket connections of one user (`sub` or `user_id` of the token), over all shards. Default `None`: off.
    /// Over it: closed 1013. Connections that were open when it was switched on are not counted.
    pub connections_per_user_max: Option<u32>,
    /// Whether `connects_per_minute` and `connections_per_address_max` also hold for loopback addresses. Default false.
    pub connects_limit_loopback: bool,
    /// Addresses whose rate is remembered. Default 65,536. Over it: the one longest unseen is forgotten.
    pub addresses_max: usize,
    /// Time from the handshake until authentication. Default 10 s. Over it: close 1008.
    pub auth_timeout: Duration,
    /// Pings of the message protocol answered before authentication. Default 16. Over it: close 1008.
    pub pings_before_auth_max: u8,
    /// How long before its token expires a connection is warned, at most half of what the token had left when it came.
    /// Default 60 s. Zero: no warning.
    pub token_warning: Duration,
    /// Time after its token has expired in which a connection may still refresh it. Default 30 s. Over it: close 1008.
    pub token_grace: Duration,
    /// Revocations in force, per hub. Default 10,000. Over it: a further one is refused.
    pub revocations_max: usize,
    /// Refused revocations that are handed out for the log, per minute and hub, with a burst of as many. Default 60. Over
    /// it: counted, but not written down.
    pub audit_refusals_per_minute: u32,
    /// How long a revocation is kept that does not say when its tokens will have expired, and at most. Default 30 days.
    /// A token that lives longer than that is good again afterwards.
    pub revocation_keep: Duration,
    /// Messages per second. Default 100. Over it and the burst: `RATE_LIMIT_EXCEEDED`, message dropped.
    /// `None`: off.
    pub messages_per_second: Option<u32>,
    /// Messages that may come at once. Default 150.
    pub messages_burst: u32,
    /// Subscriptions, and as many again that wait for other shards. Default 1,000. Over it: `RATE_LIMIT_EXCEEDED`.
    pub channels_per_connection_max: usize,
    /// Channels with subscribers, over all shards as far as they know of each other. Default 100,000. Over it:
    /// `SERVER_ERROR`.
    pub channels_max: usize,
    /// Bytes of a channel's name. Default 256. Over it: `INVALID_CHANNEL`.
    pub channel_bytes_max: usize,
    /// Bytes of an event's name. Default 256. Over it: `DECODE_ERROR`.
    pub event_bytes_max: usize,

    // ---- TLS (per hub) ----
    /// Handshakes that one turn carries out. Default 16, a few milliseconds. Over it: they wait for the next turn, so
    /// that messages come in between.
    pub tls_handshakes_per_turn: u32,
    /// Handshakes that an address may have for each new connection that it may have: times `connects_per_minute`, or else
    /// times `connections_per_address_max`, in a minute. Without either limit there is none on handshakes. Default 4, for
    /// clients that come again and for health checks. Over it: closed before the handshake, unanswered. Clients behind
    /// a trusted proxy that is not to send a header of the PROXY protocol are not counted.
    pub tls_handshakes_per_connect: u32,
    /// Handshakes under way. Default 1,000. Over it: the one that began first is cut off.
    pub tls_handshakes_max: usize,

    // ---- Requests and publishing ----
    /// Requests that wait for the application, per connection. Default 32. Over it: `RATE_LIMIT_EXCEEDED`.
    pub requests_in_flight_max: u16,
    /// Time for the application to answer. Default 30 s. Over it: `SERVER_ERROR`.
    pub request_timeout: Duration,
    /// Messages in one `POST /publish`. Default 1,000. Over it: 400.
    pub publish_batch_max: usize,
    /// Idempotency keys remembered per hub. Default 10,000. Over it: the oldest is forgotten.
    pub idempotency_keys_max: usize,
    /// How long an idempotency key is remembered. Default 300 s.
    pub idempotency_ttl: Duration,
    /// Publishes that wait for other shards, per hub. Default 10,000. Over it: `SERVER_ERROR` "Server busy".
    pub publishes_in_flight_max: usize,

    // ---- Between shards (per pair of hubs) ----
    /// Bytes under way from one hub to another, until that one is done with them. Default 64 MiB. From it on publishes
    /// that would add to them are refused: `SERVER_ERROR` "Server busy"; new connections that the other would have to
    /// count are closed 1013. One message may lie beyond it, and publishes of several messages that were let in before.
    pub shard_queue_bytes_max: usize,
}

impl Limits {
    /// TLS handshakes that one address may have in a minute; `None`: any number.
    #[must_use]
    pub fn tls_handshakes_per_minute(&self) -> Option<u32> {
        let connects = self.connects_per_minute.filter(|rate| *rate > 0);
        let connects = connects.or(self.connections_per_address_max)?;
        Some(connects.saturating_mul(self.tls_handshakes_per_connect).max(1))
    }

    /// What holds for connections that have not authenticated yet.
    #[must_use]
    pub fn before_auth(&self) -> Self {
        let message_bytes_max = self.message_bytes_max.min(self.message_bytes_before_auth_max);
        Self { message_bytes_max, ..self.clone() }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes_max: 16 * 1024,
            headers_max: 64,
            head_timeout: Duration::from_secs(10),
            body_bytes_max: 4 * 1024 * 1024,
            http_idle_timeout: Duration::from_secs(75),
            message_bytes_max: 1024 * 1024,
            message_bytes_before_auth_max: 16 * 1024,
            inflate_ratio_max: 200,
            fragments_max: 65_536,
            control_frames_per_second_max: 200,
            ping_interval: Some(Duration::from_secs(20)),
            pong_timeout: Duration::from_secs(20),
            connection_timeout: Some(Duration::from_secs(300)),
            close_timeout: Duration::from_secs(5),
            outbox_bytes_max: 1024 * 1024,
            outbox_read_watermark: 64 * 1024,
            round_bytes_max: 64 * 1024,
            queued_bytes_max: 256 * 1024 * 1024,
            partial_bytes_max: 128 * 1024 * 1024,
            connections_max: 10_000,
            sockets_max: 12_000,
            connects_per_minute: None,
            connections_per_address_max: None,
            connections_per_user_max: None,
            connects_limit_loopback: false,
            addresses_max: 65_536,
            auth_timeout: Duration::from_secs(10),
            pings_before_auth_max: 16,
            token_warning: Duration::from_secs(60),
            token_grace: Duration::from_secs(30),
            revocations_max: 10_000,
            audit_refusals_per_minute: 60,
            revocation_keep: Duration::from_secs(30 * 86_400),
            messages_per_second: Some(100),
            messages_burst: 150,
            channels_per_connection_max: 1_000,
            channels_max: 100_000,
            channel_bytes_max: 256,
            event_bytes_max: 256,
            tls_handshakes_per_turn: 16,
            tls_handshakes_per_connect: 4,
            tls_handshakes_max: 1_000,
            requests_in_flight_max: 32,
            request_timeout: Duration::from_secs(30),
            publish_batch_max: 1_000,
            idempotency_keys_max: 10_000,
            idempotency_ttl: Duration::from_secs(300),
            publishes_in_flight_max: 10_000,
            shard_queue_bytes_max: 64 * 1024 * 1024,
        }
    }
}
