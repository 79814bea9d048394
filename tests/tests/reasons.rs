//! Every reason of the table is produced once, end to end, or is listed with why it cannot be.
//!
//! [`every_reason_is_produced_or_excused`] walks the table: a reason that nobody thought of here fails it.

mod capacity;
mod frames;
mod messages;
mod requests;
mod time;
mod tls;
mod tokens;

use std::collections::BTreeSet;

use mahavishnu_core::reason::{Counted, Reason};
use mahavishnu_tests::{Metrics, Server, http, http::Response};
use serde_json::Value;

macro_rules! produced {
    ($($reason:ident: $module:ident::$test:ident;)*) => {
        /// Reasons with a test.
        const PRODUCED: &[Reason] = &[$(Reason::$reason,)*];

        mod produced {
            use mahavishnu_core::reason::Reason;
            $(#[test] fn $test() { super::$module::$test(Reason::$reason); })*
        }
    };
}

produced! {
    PeerClosed: frames::peer_closed;
    Shutdown: capacity::shutdown;
    HttpDone: requests::http_done;
    Eof: frames::eof;
    Io: frames::io;
    EofInHead: requests::eof_in_head;
    Unmasked: frames::unmasked;
    ReservedBits: frames::reserved_bits;
    ReservedOpcode: frames::reserved_opcode;
    BadLength: frames::bad_length;
    FragmentedControl: frames::fragmented_control;
    LongControl: frames::long_control;
    UnexpectedContinuation: frames::unexpected_continuation;
    ExpectedContinuation: frames::expected_continuation;
    BadClose: frames::bad_close;
    BadUtf8: frames::bad_utf8;
    MessageTooBig: frames::message_too_big;
    InflateRatio: frames::inflate_ratio;
    BadDeflate: frames::bad_deflate;
    TooManyFragments: frames::too_many_fragments;
    ControlFlood: frames::control_flood;
    PongTimeout: time::pong_timeout;
    IdleTimeout: time::idle_timeout;
    CloseTimeout: time::close_timeout;
    HeadTimeout: time::head_timeout;
    BadRequest: requests::bad_request;
    BadProxyHeader: requests::bad_proxy_header;
    BadHandshake: requests::bad_handshake;
    HeadTooLarge: requests::head_too_large;
    NotFound: requests::not_found;
    MethodNotAllowed: requests::method_not_allowed;
    UpgradeRequired: requests::upgrade_required;
    BadVersion: requests::bad_version;
    HttpVersion: requests::http_version;
    LengthRequired: requests::length_required;
    BodyTooLarge: requests::body_too_large;
    NotJson: requests::not_json;
    BadPublish: requests::bad_publish;
    KeyReused: requests::key_reused;
    TlsHandshake: tls::tls_handshake;
    TlsHandshakesMax: tls::tls_handshakes_max;
    TlsHandshakeRate: tls::tls_handshake_rate;
    TlsRequired: tls::tls_required;
    TlsOnly: tls::tls_only;
    MaxConnections: capacity::max_connections;
    ConnectRate: capacity::connect_rate;
    AddressConnections: capacity::address_connections;
    UserConnections: capacity::user_connections;
    MadeRoom: capacity::made_room;
    MaxSockets: capacity::max_sockets;
    SlowReader: capacity::slow_reader;
    OutboxesFull: capacity::outboxes_full;
    InputFull: capacity::input_full;
    SendFailed: capacity::send_failed;
    AuthMissing: messages::auth_missing;
    AuthFailed: messages::auth_failed;
    AuthRequired: messages::auth_required;
    AuthError: messages::auth_error;
    AuthTimeout: time::auth_timeout;
    AuthOff: messages::auth_off;
    TokenExpired: tokens::token_expired;
    TokenRevoked: tokens::token_revoked;
    KeyRemoved: tokens::key_removed;
    TokenStale: tokens::token_stale;
    OtherUser: tokens::other_user;
    OriginForbidden: tokens::origin_forbidden;
    RevokeForbidden: tokens::revoke_forbidden;
    BadRevocation: tokens::bad_revocation;
    Decode: messages::decode;
    MessageRate: messages::message_rate;
    SubscribeForbidden: messages::subscribe_forbidden;
    PublishForbidden: messages::publish_forbidden;
    UnknownRequest: messages::unknown_request;
    InvalidChannel: messages::invalid_channel;
    TooManyChannels: messages::too_many_channels;
    ChannelsFull: messages::channels_full;
}

/// Reasons without one, and why.
const EXCUSED: &[(Reason, &str)] = &[
    (Reason::Disconnected, "an embedding application asks for it; the server program never does"),
    (Reason::Finished, "the client role ends its own connection"),
    (Reason::Masked, "the client role refuses a masked frame of a server"),
    (Reason::HandshakeRefused, "the client role was refused"),
    (
        Reason::KeepAliveTimeout,
        "no setting shortens the 75 s; covered in the core with a clock of its own",
    ),
    (
        Reason::TlsRecord,
        "needs a forged record on an open connection; covered in the core with a real TLS client",
    ),
    (
        Reason::CertificateRevoked,
        "in `tls.rs`: `a_revocation_list_keeps_its_certificates_out_from_the_next_reload_on`",
    ),
    (Reason::KeyInUse, "needs a publish that waits for an application's decision or another shard"),
    (Reason::GatewayTimeout, "an embedding application does not answer"),
    (Reason::Internal, "a bug"),
    (Reason::RequestsInFlight, "needs requests that wait for an embedding application"),
    (Reason::RequestFailed, "an embedding application fails"),
    (Reason::RevocationsFull, "needs 10,000 revocations; covered in the core with a limit of two"),
    (Reason::Busy, "needs 10,000 publishes that wait for another shard at one moment"),
];

#[test]
fn every_reason_is_produced_or_excused() {
    let excused = EXCUSED.iter().map(|(reason, why)| {
        assert!(!why.is_empty());
        reason
    });
    let mut known = BTreeSet::new();
    for reason in PRODUCED.iter().chain(excused) {
        assert!(known.insert(*reason), "{reason:?} is listed twice");
    }
    for reason in Reason::ALL {
        assert!(
            known.contains(reason),
            "{reason:?} is new: produce it here, or say why it cannot be"
        );
    }
}

/// Waits until one WebSocket connection has ended for this reason, and its error, if it is one, is counted.
fn ended(server: &Server, reason: Reason) -> Metrics {
    server.metrics_when(&format!("an end by {}", reason.name()), |metrics| {
        let closed =
            metrics.count("mahavishnu_connections_closed_total", &[("reason", reason.name())]);
        closed == 1 && errors(metrics, reason).is_none_or(|count| count == 1)
    })
}

/// Waits until the reason's error is counted once.
fn counted(server: &Server, reason: Reason) {
    server.metrics_when(&format!("one error by {}", reason.name()), |metrics| {
        errors(metrics, reason) == Some(1)
    });
}

fn errors(metrics: &Metrics, reason: Reason) -> Option<u64> {
    match reason.row().counted {
        Counted::Connection(label) => Some(metrics.connection_errors(label)),
        Counted::Message(label) => Some(metrics.message_errors(label)),
        Counted::No => None,
    }
}

/// Panics unless this is the answer that the reason stands for.
fn answered(answer: &Response, reason: Reason) {
    let row = reason.row();
    assert_eq!(Some(answer.status), row.status, "{}", answer.text());
    assert_eq!(answer.json()["error_code"], row.code.unwrap_or_else(|| reason.name()));
    assert_eq!(answer.json()["retry"], row.retry.as_str());
}

/// Sends bytes and expects the reason's answer, word for word.
fn refuses(server: &Server, request: &[u8], reason: Reason) {
    let answer = http::exchange(server.address(), request);
    answered(&answer, reason);
    assert_eq!(answer.json()["error_message"], reason.row().text);
}

/// Panics unless this is the error message that the reason stands for.
fn is_error(message: &Value, reason: Reason) {
    let row = reason.row();
    assert_eq!(
        (message["type"].as_str(), message["error_code"].as_str()),
        (Some("error"), row.code),
        "{message}"
    );
    assert!(
        message["error_message"].as_str().unwrap_or_default().starts_with(row.text),
        "{message}"
    );
}
