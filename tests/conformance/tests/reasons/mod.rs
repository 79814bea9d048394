//! Every reason of the table is provoked once on every driver, or is listed with why it cannot be.

pub(crate) mod capacity;
pub(crate) mod ends;
pub(crate) mod frames;
pub(crate) mod messages;
pub(crate) mod presence;
pub(crate) mod requests;
pub(crate) mod time;
pub(crate) mod tls;
pub(crate) mod tokens;

use mahavishnu_conformance::{Response, Rig};
use mahavishnu_core::reason::Reason;
use serde_json::Value;

/// Reasons that no peer of a server can provoke, and why.
pub(crate) const EXCUSED: &[(Reason, &str)] = &[
    (Reason::Finished, "the client role ends its own connection"),
    (Reason::Masked, "the client role refuses a masked frame of a server"),
    (Reason::HandshakeRefused, "the client role was refused"),
    (
        Reason::CertificateRevoked,
        "needs client certificates; in the core with real TLS clients, and end to end",
    ),
    (
        Reason::NotKept,
        "needs a store that fails; in the core, and under the driver on each runtime",
    ),
    (Reason::RevokedHere, "needs a bus that is away; in the core"),
    (Reason::NodesUntold, "needs a bus that is away; in the core"),
    (Reason::DisconnectedHere, "needs a bus that is away; in the core"),
    (Reason::BusAway, "needs a bus that goes away; in the core"),
    (Reason::BusUnknown, "needs a bus that goes away; in the core"),
    (Reason::Internal, "a bug"),
];

/// Panics unless this is the answer that the reason stands for.
fn answered(answer: &Response, reason: Reason) {
    let row = reason.row();
    assert_eq!(Some(answer.status), row.status, "{answer:?}");
    assert_eq!(answer.json()["error_code"], row.code.unwrap_or_else(|| reason.name()));
    assert_eq!(answer.json()["retry"], row.retry.as_str());
}

/// Sends bytes and expects the reason's answer, word for word.
fn refuses(rig: &Rig, request: &[u8], reason: Reason) {
    let answer = rig.raw().exchange(request);
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
    let text = message["error_message"].as_str().unwrap_or_default();
    assert!(text.starts_with(row.text), "{message}");
}

/// Panics unless this is the close frame that the reason stands for.
fn is_close(close: Option<(u16, String)>, reason: Reason) {
    let (code, text) = close.expect("a close frame");
    assert_eq!((Some(code), text.as_str()), (reason.row().close, reason.close_text()));
}
