//! Every way in which a connection, a request or a message is refused or ended: one closed list, one table.
//!
//! Each [`Reason`] has, in one place, its close code (RFC 6455 §7.4), its HTTP status (RFC 9110 §15), the error code of
//! the message protocol, the metric and label it is counted under, and what the client should do next.
//! The texts are sent to peers as they stand: they never contain input.

/// What a well-behaved client does after a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Reconnect at once, with jitter.
    Now,
    /// Reconnect, or ask again, after a back-off.
    Later,
    /// Do not repeat the same thing: it will fail again.
    Never,
    /// Nothing to retry: an orderly end.
    Done,
}

impl Retry {
    /// The word used in documents and answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Now => "now",
            Self::Later => "later",
            Self::Never => "never",
            Self::Done => "done",
        }
    }
}

/// Which error counter a reason belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// `websocket_connection_errors_total{error_type}`
    Connection(&'static str),
    /// `websocket_message_errors_total{error_type}`
    Message(&'static str),
    /// Not an error.
    No,
}

/// One row of the table of reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Close code that the peer is sent, if the reason ends an open WebSocket connection.
    pub close: Option<u16>,
    /// HTTP status, if the reason answers an HTTP request.
    pub status: Option<u16>,
    /// `error_code` of the message protocol, if an error message is sent.
    pub code: Option<&'static str>,
    /// The counter and its label.
    pub counted: Counted,
    /// Advice to the client.
    pub retry: Retry,
    /// Close reason, error message or HTTP explanation.
    pub text: &'static str,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident $word:literal: $close:expr, $status:expr, $code:expr, $counted:expr, $retry:ident, $text:expr;)*) => {
        /// Why a connection, request or message was refused or ended.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Reason { $($(#[$doc])* $name,)* }

        impl Reason {
            /// Every reason, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The reason's row.
            #[must_use]
            pub const fn row(self) -> Row {
                #[allow(unused_imports, clippy::allow_attributes, reason = "not every row needs every name")]
                use {Counted::{Connection, Message, No}};
                match self {
                    $(Self::$name => Row {
                        close: $close, status: $status, code: $code, counted: $counted, retry: Retry::$retry, text: $text,
                    },)*
                }
            }

            /// The reason's name in logs, metrics of our own and documents: `snake_case`, stable.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }
        }
    };
}

impl Reason {
    /// What a close frame says. The row's text, but for tokens that do not authenticate: an error message has told the
    /// details before, and clients of this protocol know the close by these words.
    #[must_use]
    pub const fn close_text(self) -> &'static str {
        if matches!(self, Self::AuthMissing | Self::AuthFailed) {
            "Authentication failed"
        } else {
            self.row().text
        }
    }
}

reasons! {
    // Orderly ends.
    /// The peer sent a close frame first.
    PeerClosed "peer_closed": Some(1000), None, None, No, Done, "";
    /// The application or an operator ended this connection.
    Disconnected "disconnected": Some(1008), None, None, No, Never, "Disconnected by the server";
    /// The server is going away: restart, upgrade or stop.
    Shutdown "shutdown": Some(1001), Some(503), None, No, Now, "Server shutting down";
    /// The session of this connection was resumed by another one.
    ResumedElsewhere "resumed_elsewhere": Some(1001), None, None, No, Done, "Resumed elsewhere";
    /// A client role ended its own connection.
    Finished "finished": Some(1000), None, None, No, Done, "";
    /// An HTTP exchange is over and its connection is not kept.
    HttpDone "http_done": None, None, None, No, Done, "";

    // The transport ended.
    /// End of stream without a close handshake (RFC 6455 §7.1.5, seen by the application as 1006).
    Eof "eof": None, None, None, Connection("eof"), Later, "";
    /// The socket failed.
    Io "io": None, None, None, Connection("io"), Later, "";
    /// A message was still queued when its connection's socket was gone.
    SendFailed "send_failed": None, None, None, Message("send_failed"), Later, "";
    /// The peer closed before a complete HTTP request had come.
    EofInHead "eof_in_head": None, None, None, No, Done, "";

    // Framing: RFC 6455 §5.
    /// A client frame without a mask (§5.1).
    Unmasked "unmasked": Some(1002), None, None, Connection("protocol_error"), Never, "Client frames must be masked";
    /// A server frame with a mask (§5.1).
    Masked "masked": Some(1002), None, None, Connection("protocol_error"), Never, "Server frames must not be masked";
    /// A reserved bit without an extension that defines it (§5.2).
    ReservedBits "reserved_bits": Some(1002), None, None, Connection("protocol_error"), Never, "Reserved bits set";
    /// An opcode that RFC 6455 reserves (§5.2).
    ReservedOpcode "reserved_opcode": Some(1002), None, None, Connection("protocol_error"), Never, "Reserved opcode";
    /// A payload length not in its shortest form, or with its top bit set (§5.2).
    BadLength "bad_length": Some(1002), None, None, Connection("protocol_error"), Never, "Malformed payload length";
    /// A control frame in fragments (§5.5).
    FragmentedControl "fragmented_control": Some(1002), None, None, Connection("protocol_error"), Never, "Fragmented control frame";
    /// A control frame of more than 125 bytes (§5.5).
    LongControl "long_control": Some(1002), None, None, Connection("protocol_error"), Never, "Control frame too long";
    /// A continuation frame without a message to continue (§5.4).
    UnexpectedContinuation "unexpected_continuation": Some(1002), None, None, Connection("protocol_error"), Never, "Unexpected continuation frame";
    /// A new data frame inside a fragmented message (§5.4).
    ExpectedContinuation "expected_continuation": Some(1002), None, None, Connection("protocol_error"), Never, "Expected continuation frame";
    /// A close frame with one byte, or a code that must not be sent (§7.4).
    BadClose "bad_close": Some(1002), None, None, Connection("protocol_error"), Never, "Malformed close frame";
    /// Text or a close reason that is not UTF-8 (§8.1).
    BadUtf8 "bad_utf8": Some(1007), None, None, Connection("invalid_utf8"), Never, "Invalid UTF-8";
    /// A message over `message_bytes_max`.
    MessageTooBig "message_too_big": Some(1009), None, None, Connection("message_too_big"), Never, "Message too big";
    /// A compressed message that inflates to more than `inflate_ratio_max` times its size.
    InflateRatio "inflate_ratio": Some(1009), None, None, Connection("inflate_ratio"), Never, "Message inflates too far";
    /// A compressed message that is not DEFLATE data, or breaks off (RFC 7692 §7.2.2).
    BadDeflate "bad_deflate": Some(1007), None, None, Connection("bad_deflate"), Never, "Invalid compressed data";
    /// A message in more than `fragments_max` frames.
    TooManyFragments "too_many_fragments": Some(1008), None, None, Connection("too_many_fragments"), Never, "Too many fragments";
    /// More than `control_frames_per_second_max` pings, pongs and empty fragments.
    ControlFlood "control_flood": Some(1008), None, None, Connection("control_flood"), Later, "Too many control frames";

    // Time.
    /// No pong within `pong_timeout`.
    PongTimeout "pong_timeout": Some(1011), None, None, Connection("ping_timeout"), Now, "Keepalive ping timeout";
    /// Nothing at all came within `connection_timeout`.
    IdleTimeout "idle_timeout": Some(1001), None, None, Connection("idle_timeout"), Now, "Connection timed out";
    /// The peer did not finish the close handshake within `close_timeout`.
    CloseTimeout "close_timeout": None, None, None, Connection("close_timeout"), Later, "";
    /// No complete request head or body within `head_timeout`.
    HeadTimeout "head_timeout": None, Some(408), None, Connection("head_timeout"), Later, "Request timed out";
    /// A kept HTTP connection without a further request.
    KeepAliveTimeout "keep_alive_timeout": None, None, None, No, Done, "";

    // HTTP.
    /// Not HTTP, or a malformed head.
    BadRequest "bad_request": None, Some(400), None, Connection("bad_request"), Never, "Bad request";
    /// A trusted proxy's connection does not begin with a header of the PROXY protocol.
    BadProxyHeader "bad_proxy_header": None, Some(400), None, Connection("bad_proxy_header"), Never, "A PROXY protocol header is expected here";
    /// A malformed WebSocket handshake (RFC 6455 §4.2.1).
    BadHandshake "bad_handshake": None, Some(400), None, Connection("bad_request"), Never, "Bad WebSocket handshake";
    /// Head or trailers over `head_bytes_max` or `headers_max`.
    HeadTooLarge "head_too_large": None, Some(431), None, Connection("head_too_large"), Never, "Request header fields too large";
    /// A request line over `head_bytes_max`.
    UriTooLong "uri_too_long": None, Some(414), None, Connection("head_too_large"), Never, "Request target too long";
    /// A transfer coding besides chunked (RFC 9112 §6.1).
    TransferCoding "transfer_coding": None, Some(501), None, Connection("bad_request"), Never, "Transfer coding not supported";
    /// No resource at this path.
    NotFound "not_found": None, Some(404), None, No, Never, "Not found";
    /// The path exists, the method does not.
    MethodNotAllowed "method_not_allowed": None, Some(405), None, No, Never, "Method not allowed";
    /// A plain GET where a WebSocket handshake is expected.
    UpgradeRequired "upgrade_required": None, Some(426), None, No, Never, "This is a WebSocket server: upgrade required";
    /// A WebSocket version other than 13 (RFC 6455 §4.4).
    BadVersion "bad_version": None, Some(426), None, Connection("bad_request"), Never, "Unsupported WebSocket version";
    /// Client role: the server answered the handshake with another status than 101.
    HandshakeRefused "handshake_refused": None, None, None, Connection("handshake_refused"), Later, "";
    /// An HTTP version other than 1.0 and 1.1.
    HttpVersion "http_version": None, Some(505), None, Connection("bad_request"), Never, "HTTP version not supported";
    /// A request that needs a body and declares none: neither Content-Length nor Transfer-Encoding.
    LengthRequired "length_required": None, Some(411), None, No, Never, "Content-Length required";
    /// A body over `body_bytes_max`, or chunks with extensions over `head_bytes_max`.
    BodyTooLarge "body_too_large": None, Some(413), None, No, Never, "Request body too large";
    /// A body that is not declared as JSON.
    NotJson "not_json": None, Some(415), None, No, Never, "Content-Type must be application/json";
    /// A publish request whose JSON does not fit.
    BadPublish "bad_publish": None, Some(400), Some("DECODE_ERROR"), Message("decode_error"), Never, "Invalid publish request";
    /// An idempotency key used again for other content.
    KeyReused "key_reused": None, Some(422), Some("DECODE_ERROR"), Message("decode_error"), Never, "Idempotency key was used for another request";
    /// The first use of this idempotency key is still being answered.
    KeyInUse "key_in_use": None, Some(409), Some("SERVER_ERROR"), Message("busy"), Later, "A request with this idempotency key is in progress";
    /// The channel's document is another one than the publish asks for.
    StateConflict "state_conflict": None, Some(409), Some("CONFLICT"), Message("state_conflict"), Never, "The channel's document is another one by now";
    /// A document over `state_bytes_max`.
    StateTooBig "state_too_big": None, Some(413), Some("DECODE_ERROR"), Message("state_too_big"), Never, "The channel's document is too large";
    /// No answer from the application or another shard in time.
    GatewayTimeout "gateway_timeout": None, Some(504), Some("SERVER_ERROR"), Message("timeout"), Later, "No answer in time";

    // TLS.
    /// The TLS handshake failed: no common version or suite, a certificate refused by either side, or not TLS after all.
    TlsHandshake "tls_handshake": None, None, None, Connection("tls_handshake"), Never, "";
    /// A TLS record that does not decrypt, or one that may not come.
    TlsRecord "tls_record": None, None, None, Connection("tls_record"), Now, "";
    /// More TLS handshakes under way than `tls_handshakes_max`: this one began first.
    TlsHandshakesMax "tls_handshakes_max": None, None, None, Connection("tls_handshakes_max"), Later, "";
    /// More TLS handshakes from this address than `tls_handshakes_per_connect` allows: closed before it has cost anything.
    TlsHandshakeRate "tls_handshake_rate": None, None, None, Connection("tls_handshake_rate"), Later, "";
    /// The client's certificate is on a revocation list that came with a reload.
    CertificateRevoked "certificate_revoked": Some(1008), None, None, Connection("certificate_revoked"), Never, "Certificate revoked";
    /// Without TLS on a port with TLS: anything but `/health`.
    TlsRequired "tls_required": None, Some(426), None, Connection("tls_required"), Never, "This port speaks TLS: use wss:// or https://";
    /// Without TLS on a port with TLS that is set to answer nothing then.
    TlsOnly "tls_only": None, None, None, Connection("tls_required"), Never, "";

    // Capacity.
    /// `connections_max` WebSocket connections are open.
    MaxConnections "max_connections": Some(1013), Some(503), None, Connection("max_connections"), Later, "Server at maximum capacity";
    /// More new connections from this address than `connects_per_minute`.
    ConnectRate "connect_rate": Some(1013), Some(429), None, Connection("connect_rate"), Later, "Too many new connections from this address";
    /// `connections_per_address_max` WebSocket connections of this address are open.
    AddressConnections "address_connections": Some(1013), Some(429), None, Connection("address_connections"), Later, "Too many connections from this address";
    /// `connections_per_user_max` WebSocket connections of this user are open.
    UserConnections "user_connections": Some(1013), Some(429), None, Connection("user_connections"), Later, "Too many connections of this user";
    /// More sockets than `sockets_max`: this one had no complete request, or none since its last answer, and went first.
    MadeRoom "made_room": None, None, None, Connection("made_room"), Later, "";
    /// More sockets than `sockets_max`, and none of them can be given up: dropped before a byte is read.
    MaxSockets "max_sockets": None, None, None, Connection("max_sockets"), Later, "";
    /// The outbox is full and the channel's policy is to disconnect.
    SlowReader "slow_reader": Some(1013), None, None, Connection("slow_reader"), Now, "Reading too slowly";
    /// Outboxes hold `queued_bytes_max` together, this one more than most, and its channel's policy is to disconnect.
    OutboxesFull "outboxes_full": Some(1013), None, None, Connection("outboxes_full"), Later, "Too much is waiting for slow readers";
    /// Messages, heads and bodies that came only in part hold `partial_bytes_max` together: this one began first.
    InputFull "input_full": Some(1013), Some(503), None, Connection("input_full"), Later, "Too many unfinished messages";
    /// A bug of ours: the connection ends, nothing else is harmed.
    Internal "internal": Some(1011), Some(500), Some("SERVER_ERROR"), Connection("internal"), Later, "Internal server error";

    // Authentication.
    /// The auth message has no usable token.
    AuthMissing "auth_missing": Some(1008), Some(401), Some("AUTH_FAILED"), Connection("auth_missing"), Never, "Missing or malformed auth token";
    /// The token does not verify.
    AuthFailed "auth_failed": Some(1008), Some(401), Some("AUTH_FAILED"), Connection("auth_failed"), Never, "Invalid or expired token";
    /// Something else came before authentication.
    AuthRequired "auth_required": Some(1008), Some(401), Some("AUTH_REQUIRED"), Connection("auth_required"), Never, "Authentication required";
    /// The first message could not be decoded.
    AuthError "auth_error": Some(1011), None, None, Connection("auth_error"), Never, "Authentication error";
    /// No authentication within `auth_timeout`.
    AuthTimeout "auth_timeout": Some(1008), None, Some("AUTH_REQUIRED"), Connection("auth_timeout"), Later, "Authentication timed out";
    /// The connection's token has expired, and the grace to refresh it is over.
    TokenExpired "token_expired": Some(1008), None, None, Connection("token_expired"), Never, "Token expired";
    /// The connection's token was revoked.
    TokenRevoked "token_revoked": Some(1008), None, None, Connection("token_revoked"), Never, "Token revoked";
    /// The key that the connection's token was signed with is no longer in force, and the server was told to end such connections.
    KeyRemoved "key_removed": Some(1008), None, None, Connection("key_removed"), Never, "Token key removed";
    /// The connection's token has expired: until it is refreshed nothing new is permitted.
    TokenStale "token_stale": None, None, Some("AUTH_FAILED"), Message("token_stale"), Never, "The token has expired: refresh it";
    /// A token that is to replace the connection's is another user's.
    OtherUser "other_user": None, None, Some("AUTH_FAILED"), Message("other_user"), Never, "The token is another user's";
    /// The application does not know whose the handshake or request is.
    Unauthorized "unauthorized": Some(1008), Some(401), Some("AUTH_FAILED"), Connection("auth_unauthorized"), Never, "Not authenticated";
    /// The application knows whose the handshake or request is, and does not let them in.
    AccessDenied "access_denied": Some(1008), Some(403), Some("FORBIDDEN"), Connection("auth_denied"), Never, "Access denied";
    /// The application has not said whose the handshake is: it took longer than `authenticate_timeout`, has failed, or cannot say at present.
    Undecided "undecided": Some(1013), Some(503), Some("SERVER_ERROR"), Connection("auth_undecided"), Later, "Authentication is not available at present";
    /// A browser's page of another origin than those allowed.
    OriginForbidden "origin_forbidden": None, Some(403), None, Connection("origin_forbidden"), Never, "Origin not allowed";
    /// A request by a name that is none of the server's: a web page may have pointed it here.
    HostForbidden "host_forbidden": None, Some(421), None, Connection("host_forbidden"), Never, "Host not allowed";
    /// A token was sent to a server that has no keys to verify it.
    AuthOff "auth_off": None, None, Some("AUTH_FAILED"), No, Never, "Authentication is not enabled on this server";

    // Messages.
    /// Not a message of the protocol.
    Decode "decode": None, Some(400), Some("DECODE_ERROR"), Message("decode_error"), Never, "Message could not be decoded";
    /// More messages than `messages_per_second` and its burst.
    MessageRate "message_rate": None, Some(429), Some("RATE_LIMIT_EXCEEDED"), Message("rate_limit"), Later, "Message rate limit exceeded";
    /// No permission to subscribe to this channel.
    SubscribeForbidden "subscribe_forbidden": None, Some(403), Some("FORBIDDEN"), Message("forbidden"), Never, "Not authorized to subscribe to this channel";
    /// No permission to publish to this channel.
    PublishForbidden "publish_forbidden": None, Some(403), Some("FORBIDDEN"), Message("forbidden"), Never, "Not authorized to publish to this channel";
    /// Nobody publishes here but the server's own application.
    PublishingOff "publishing_off": None, Some(403), Some("FORBIDDEN"), Message("forbidden"), Never, "Only the server's application publishes here";
    /// No permission to revoke tokens.
    RevokeForbidden "revoke_forbidden": None, Some(403), Some("FORBIDDEN"), Message("forbidden"), Never, "Not authorized to revoke tokens";
    /// A revocation whose JSON does not fit, or that names nothing.
    BadRevocation "bad_revocation": None, Some(400), Some("DECODE_ERROR"), Message("decode_error"), Never, "Invalid revocation";
    /// `revocations_max` are in force.
    RevocationsFull "revocations_full": None, Some(503), Some("SERVER_ERROR"), Message("revocations_full"), Later, "Too many revocations on this server";
    /// The bus is away, so that tokens are revoked on this node only; the other nodes are told as soon as it is back.
    RevokedHere "revoked_here": None, Some(503), Some("SERVER_ERROR"), Message("revoked_here"), Later, "Revoked on this node; the others follow when the bus is back";
    /// The bus is away, and too much waits for it already: a revocation, or the end of sessions, holds on this node only, and the other nodes are not told of it.
    NodesUntold "nodes_untold": None, Some(503), Some("SERVER_ERROR"), Message("nodes_untold"), Later, "Done on this node only, and the others are not told: ask again when the bus is back";
    /// To end connections, or to ask for others', takes full access.
    OperatorsOnly "operators_only": None, Some(403), Some("FORBIDDEN"), Message("forbidden"), Never, "For operators only";
    /// A request to end connections whose JSON does not fit.
    BadDisconnect "bad_disconnect": None, Some(400), Some("DECODE_ERROR"), Message("decode_error"), Never, "Invalid disconnect request";
    /// The bus is away, so that connections have ended on this node only.
    DisconnectedHere "disconnected_here": None, Some(503), Some("SERVER_ERROR"), Message("disconnected_here"), Later, "Disconnected on this node only: the others cannot be told";
    /// No such request.
    UnknownRequest "unknown_request": None, None, Some("UNKNOWN_REQUEST"), Message("unknown_request"), Never, "Unknown request event";
    /// What came after a position cannot be had: another epoch, or no longer kept, and the client insisted.
    NotRecovered "not_recovered": None, Some(410), Some("NOT_RECOVERED"), Message("not_recovered"), Never, "Not recovered";
    /// No channel, or a name that is empty, too long or not text.
    InvalidChannel "invalid_channel": None, Some(400), Some("INVALID_CHANNEL"), Message("invalid_channel"), Never, "Missing or invalid channel";
    /// No presence in this channel: neither to be a member, nor to hear or ask who is.
    PresenceOff "presence_off": None, None, Some("FORBIDDEN"), Message("forbidden"), Never, "There is no presence in this channel";
    /// A member's `info` over `presence_info_bytes_max`.
    PresenceInfo "presence_info": None, None, Some("DECODE_ERROR"), Message("decode_error"), Never, "Presence info too large";
    /// `presence_members_max` are in this channel, or members take `presence_bytes_max`.
    PresenceFull "presence_full": None, None, Some("RATE_LIMIT_EXCEEDED"), Message("presence_full"), Later, "Too many members";
    /// More than `channels_per_connection_max` subscriptions.
    TooManyChannels "too_many_channels": None, None, Some("RATE_LIMIT_EXCEEDED"), Message("too_many_channels"), Never, "Too many subscriptions on this connection";
    /// The server holds `channels_max` channels.
    ChannelsFull "channels_full": None, Some(503), Some("SERVER_ERROR"), Message("channels_full"), Later, "Too many channels on this server";
    /// All but `channels_reserved` channels are taken, and this user, or without one this address, has `channels_share_max`.
    ChannelsShare "channels_share": None, None, Some("RATE_LIMIT_EXCEEDED"), Message("channels_share"), Later, "Too many channels of this user or address";
    /// No session of this name, or it has ended, or it is another user's.
    SessionUnknown "session_unknown": None, None, Some("SESSION_UNKNOWN"), Message("session_unknown"), Never, "Unknown or expired session";
    /// The connection has a session already, or is about to resume one.
    SessionHeld "session_held": None, None, Some("CONFLICT"), Message("session_held"), Never, "This connection has a session";
    /// `sessions_max` sessions, or as many as fit into `sessions_bytes_max`.
    SessionsFull "sessions_full": None, None, Some("RATE_LIMIT_EXCEEDED"), Message("sessions_full"), Later, "Too many sessions on this server";
    /// More than `requests_in_flight_max` unanswered requests on this connection.
    RequestsInFlight "requests_in_flight": None, Some(429), Some("RATE_LIMIT_EXCEEDED"), Message("requests_in_flight"), Later, "Too many requests in flight";
    /// The application's answer was an error, or no JSON object.
    RequestFailed "request_failed": None, Some(500), Some("SERVER_ERROR"), Message("request_failed"), Later, "The request failed";
    /// A back-end answers what is not asked: its id is none of a request that waits, or that was answered or is over by now.
    NotAsked "not_asked": None, Some(409), Some("CONFLICT"), Message("not_asked"), Never, "No request of this id waits for an answer";
    /// A shard's queue is full: the publisher has to slow down.
    Busy "busy": Some(1013), Some(503), Some("SERVER_ERROR"), Message("busy"), Later, "Server busy";
    /// The store cannot keep the message, so it is not published: its disk is full, or fails.
    NotKept "not_kept": None, Some(503), Some("SERVER_ERROR"), Message("not_kept"), Later, "The message could not be kept";
    /// The bus between nodes is away, or takes nothing in: the message was certainly not published.
    BusAway "bus_away": None, Some(503), Some("SERVER_ERROR"), Message("bus_away"), Later, "The message bus is away";
    /// The bus between nodes went away meanwhile: the message was published, or not. Under an idempotency key it can be sent
    /// again.
    BusUnknown "bus_unknown": None, Some(504), Some("SERVER_ERROR"), Message("bus_unknown"), Later, "It is not known whether the message was published";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What clients act on, written down a second time: the table itself is no proof.
    #[test]
    fn close_codes_are_those_of_the_contract() {
        let expected = [
            (1000, "finished"),
            (1001, "shutdown resumed_elsewhere idle_timeout"),
            (1002, "unmasked masked reserved_bits reserved_opcode bad_length fragmented_control"),
            (1002, "long_control unexpected_continuation expected_continuation bad_close"),
            (1007, "bad_utf8"),
            (1008, "disconnected too_many_fragments control_flood"),
            (1008, "certificate_revoked token_expired token_revoked key_removed"),
            (1008, "auth_missing auth_failed auth_required auth_timeout"),
            (1009, "message_too_big"),
            (1011, "pong_timeout auth_error internal"),
            (1013, "max_connections connect_rate slow_reader outboxes_full input_full"),
        ];
        for (code, names) in expected {
            for name in names.split(' ') {
                let reason = Reason::ALL.iter().find(|reason| reason.name() == name);
                assert_eq!(reason.and_then(|reason| reason.row().close), Some(code), "{name}");
            }
        }
    }

    #[test]
    fn every_row_is_sound() {
        let mut names = BTreeSet::new();
        for reason in Reason::ALL {
            let row = reason.row();
            assert!(names.insert(reason.name()), "{reason:?} twice");
            assert!(
                row.text.len() <= 123,
                "{reason:?}: a close reason has at most 123 bytes (RFC 6455 §5.5)"
            );
            assert!(row.text.is_ascii(), "{reason:?}");
            assert!(
                reason.close_text().len() <= 123 && reason.close_text().is_ascii(),
                "{reason:?}"
            );
            if let Some(code) = row.close {
                assert!((1000..=1013).contains(&code), "{reason:?}");
                assert!(
                    ![1004, 1005, 1006].contains(&code),
                    "{reason:?}: reserved codes are never sent (§7.4.1)"
                );
            }
            if let Some(status) = row.status {
                assert!((400..=505).contains(&status), "{reason:?}");
                assert!(!row.text.is_empty(), "{reason:?}: an HTTP answer explains itself");
            }
            if row.code.is_some() {
                assert!(!row.text.is_empty(), "{reason:?}: an error message explains itself");
            }
            if let Counted::Connection(label) | Counted::Message(label) = row.counted {
                assert!(
                    label
                        .bytes()
                        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'),
                    "{reason:?}"
                );
            }
        }
    }
}
