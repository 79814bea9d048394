//! The opening handshake (RFC 6455 §4).

use mahavishnu_conformance::{Backend, Client, HANDSHAKE, Raw, masked, op};
use serde_json::json;

pub(crate) fn a_good_handshake_is_accepted_and_welcomed(backend: Backend) {
    let rig = backend.start(|_| {});
    let mut client = rig.client();
    let welcome = client.expect_welcome();
    assert_eq!(welcome["data"]["authenticated"], false, "{welcome}");
    assert_eq!(client.response.status(), 101);
    client.expect_silence();
}

pub(crate) fn the_example_of_the_rfc_is_answered_as_there(backend: Backend) {
    let rig = backend.start(|_| {});
    let mut raw = rig.raw();
    raw.write(HANDSHAKE.as_bytes());
    // RFC 6455 §1.3 has this very pair of key and answer.
    assert!(raw.read_head().contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
}

pub(crate) fn any_path_is_a_way_in(backend: Backend) {
    let rig = backend.start(|_| {});
    for path in ["/", "/ws", "/ws/events?x=1&y=%20", "/health", "/publish", "/no/such/path"] {
        Client::open(rig.connect(), path, &[]).expect("a handshake").expect_welcome();
    }
}

pub(crate) fn a_subprotocol_that_carries_no_token_is_not_agreed_on(backend: Backend) {
    let rig = backend.start(|config| config.auth.subprotocol = true);
    let mut raw = rig.raw();
    let offer = "Version: 13\r\nSec-WebSocket-Protocol: chat, superchat";
    raw.write(HANDSHAKE.replace("Version: 13", offer).as_bytes());
    let head = raw.read_head().to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    assert!(!head.contains("sec-websocket-protocol"), "{head}");
}

pub(crate) fn handshakes_that_break_a_rule_are_refused(backend: Backend) {
    let rig = backend.start(|_| {});
    for (from, to, status) in [
        ("Version: 13", "Version: 12", 426),
        ("Version: 13", "Version: nonsense", 426),
        ("Sec-WebSocket-Version: 13\r\n", "", 426),
        ("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ=", 400),
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "", 400),
        ("Host: test\r\n", "", 400),
        ("GET / HTTP/1.1", "GET / HTTP/2.0", 505),
        ("GET /", "GET\t/", 400),
    ] {
        let request = HANDSHAKE.replace(from, to);
        let answer = rig.raw().exchange(request.as_bytes());
        assert_eq!(answer.status, status, "{request}");
        if status == 426 {
            assert_eq!(answer.header("sec-websocket-version"), Some("13"), "{answer:?}");
        }
    }
    rig.hello().expect_silence();
}

pub(crate) fn a_plain_get_is_told_to_upgrade(backend: Backend) {
    let rig = backend.start(|_| {});
    let answer = rig.raw().get("/ws");
    assert_eq!((answer.status, answer.header("upgrade")), (426, Some("websocket")));
}

/// A client that does not wait for the answer (RFC 6455 §4.1 allows no such thing, but nothing is lost).
pub(crate) fn bytes_behind_the_handshake_are_read(backend: Backend) {
    let rig = backend.start(|_| {});
    let mut raw = rig.raw();
    let ping = masked(op::TEXT, json!({ "type": "ping", "id": "1" }).to_string().as_bytes());
    raw.write(&[HANDSHAKE.as_bytes(), &ping].concat());
    assert!(raw.read_head().starts_with("HTTP/1.1 101 "));
    assert_eq!(raw.json()["event"], "session.created");
    assert_eq!(raw.json()["correlation_id"], "1");
}

pub(crate) fn two_handshakes_do_not_share_an_id(backend: Backend) {
    let rig = backend.start(|_| {});
    let id = || {
        let mut raw = Raw::upgrade(rig.connect());
        raw.json()["data"]["connection_id"].as_str().expect("an id").to_owned()
    };
    assert_ne!(id(), id());
}
