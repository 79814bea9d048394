//! Plain HTTP: how it ends and how it is refused.

use mahavishnu_conformance::{Backend, HANDSHAKE, Raw, Setup, base, post};
use mahavishnu_core::reason::Reason;
use serde_json::json;

use super::{answered, is_error, refuses};

pub(crate) fn http_done(backend: Backend, _: Reason) {
    let rig = backend.start(|_| {});
    let mut raw = rig.raw();
    let answer = raw.exchange(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert_eq!(raw.read_to_end(), b"");
    drop(raw);
    rig.expect_sockets(0);
}

pub(crate) fn eof_in_head(backend: Backend, _: Reason) {
    let rig = backend.start(|_| {});
    let mut raw = rig.raw();
    raw.write(b"GET /heal");
    raw.finish();
    assert_eq!(raw.read_to_end(), b"");
    rig.expect_sockets(0);
    assert_eq!(rig.count("websocket_connection_errors_total", &[("error_type", "eof")]), 0);
}

pub(crate) fn bad_request(backend: Backend, reason: Reason) {
    counted_refusal(backend, b"GET /health\r\n\r\n", reason);
}

pub(crate) fn bad_handshake(backend: Backend, reason: Reason) {
    counted_refusal(backend, HANDSHAKE.replace("dGhl", "").as_bytes(), reason);
}

pub(crate) fn head_too_large(backend: Backend, reason: Reason) {
    let head = format!("GET /health HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n", "a".repeat(20_000));
    counted_refusal(backend, head.as_bytes(), reason);
    let fields = "A: b\r\n".repeat(65);
    let head = format!("GET /health HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
    counted_refusal(backend, head.as_bytes(), reason);
}

pub(crate) fn not_found(backend: Backend, reason: Reason) {
    let rig = backend.start(|_| {});
    refuses(&rig, b"GET /none HTTP/1.1\r\nHost: x\r\n\r\n", reason);
    // Who writes is told where to.
    let answer = rig.raw().exchange(b"POST /publsh HTTP/1.1\r\nHost: x\r\n\r\n");
    answered(&answer, reason);
    let text = &answer.json()["error_message"];
    assert_eq!(text, "Not found: POST goes to /publish, /revoke or /disconnect");
}

pub(crate) fn method_not_allowed(backend: Backend, reason: Reason) {
    let rig = backend.start(|_| {});
    refuses(&rig, b"DELETE /health HTTP/1.1\r\nHost: x\r\n\r\n", reason);
    let answer = rig.raw().get("/publish");
    answered(&answer, reason);
    assert_eq!(answer.header("allow"), Some("POST"));
}

pub(crate) fn upgrade_required(backend: Backend, reason: Reason) {
    refuses(&backend.start(|_| {}), b"GET /ws HTTP/1.1\r\nHost: x\r\n\r\n", reason);
    let stripped = HANDSHAKE.replace("Upgrade: websocket\r\nConnection: Upgrade\r\n", "");
    assert_ne!(stripped, HANDSHAKE);
    let answer = backend.start(|_| {}).raw().exchange(stripped.as_bytes());
    answered(&answer, reason);
    let text = answer.json()["error_message"].to_string();
    assert!(text.contains("a proxy on the way has to pass both on"), "it says why: {text}");
}

pub(crate) fn bad_version(backend: Backend, reason: Reason) {
    counted_refusal(backend, HANDSHAKE.replace("Version: 13", "Version: 8").as_bytes(), reason);
}

pub(crate) fn http_version(backend: Backend, reason: Reason) {
    counted_refusal(backend, b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", reason);
}

pub(crate) fn length_required(backend: Backend, reason: Reason) {
    let request = b"POST /publish HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\r\n";
    let rig = backend.start(|_| {});
    let mut raw = rig.raw();
    let answer = raw.exchange(request);
    answered(&answer, reason);
    assert_eq!(answer.header("connection"), Some("close"), "what follows may be the body");
    assert_eq!(raw.read_to_end(), b"");
    refuses(&rig, b"POST /revoke HTTP/1.1\r\nHost: x\r\n\r\n", reason);
}

pub(crate) fn uri_too_long(backend: Backend, reason: Reason) {
    let head = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(20_000));
    counted_refusal(backend, head.as_bytes(), reason);
}

pub(crate) fn transfer_coding(backend: Backend, reason: Reason) {
    let request = b"POST /publish HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n";
    counted_refusal(backend, request, reason);
}

pub(crate) fn body_too_large(backend: Backend, reason: Reason) {
    let request = b"POST /publish HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99999999\r\n\r\n";
    refuses(&backend.start(|_| {}), request, reason);
}

pub(crate) fn not_json(backend: Backend, reason: Reason) {
    let request = post(&[("Content-Type", "text/plain")], &json!({}));
    refuses(&backend.start(|_| {}), &request, reason);
}

pub(crate) fn bad_publish(backend: Backend, reason: Reason) {
    let rig = backend.start(|_| {});
    answered(&rig.raw().exchange(&post(&[], &json!({}))), reason);
    rig.expect_error_counted(reason);
}

pub(crate) fn bad_proxy_header(backend: Backend, reason: Reason) {
    let rig = backend.start(|config| {
        config.trusted_proxies.push("127.0.0.0/8".parse().expect("a network"));
        config.proxy_protocol = true;
    });
    refuses(&rig, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", reason);
    rig.expect_error_counted(reason);
    let header = b"PROXY TCP4 192.0.2.1 192.0.2.2 50000 80\r\n";
    let request = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n";
    assert_eq!(rig.raw().exchange(&[&header[..], request].concat()).status, 200);
}

pub(crate) fn key_reused(backend: Backend, reason: Reason) {
    let rig = backend.start(|_| {});
    let send = |event: &str| {
        let body = json!({ "channel": "c", "event": event });
        rig.raw().exchange(&post(&[("Idempotency-Key", "k")], &body))
    };
    assert_eq!(send("a").status, 200);
    answered(&send("b"), reason);
    rig.expect_error_counted(reason);
}

/// The first use waits for another shard's answer while the second one comes: two requests at one moment, tried until
/// they meet.
pub(crate) fn key_in_use(backend: Backend, reason: Reason) {
    let rig = backend.start_with(Setup { shards: 2, ..Setup::new(|_| {}) });
    let mut sockets = [rig.raw(), rig.raw()];
    let met = (0..10_000).find_map(|n: u32| {
        let body = json!({ "channel": format!("c:{n}"), "event": "e" });
        let request = post(&[("Idempotency-Key", &format!("k{n}"))], &body);
        sockets.iter_mut().for_each(|socket| socket.write(&request));
        let answers = sockets.each_mut().map(Raw::response);
        answers.into_iter().find(|answer| answer.status != 200)
    });
    answered(&met.expect("two requests that meet"), reason);
    rig.expect_error_counted(reason);
}

pub(crate) fn state_conflict(backend: Backend, reason: Reason) {
    let rig = backend.start(|_| {});
    let data = json!({ "channel": "c", "event": "e", "state": {}, "if_offset": 1 });
    answered(&rig.raw().exchange(&post(&[], &data)), reason);
    rig.expect_error_counted(reason);
    is_error(&rig.hello().request("publish", &data), reason);
}

pub(crate) fn state_too_big(backend: Backend, reason: Reason) {
    let rig = backend.start(|_| {});
    let max = base().limits.history.state_bytes_max;
    let state = json!({ "x": "x".repeat(max) });
    let data = json!({ "channel": "c", "event": "e", "state": state });
    answered(&rig.raw().exchange(&post(&[], &data)), reason);
    rig.expect_error_counted(reason);
    is_error(&rig.hello().request("publish", &data), reason);
}

fn counted_refusal(backend: Backend, request: &[u8], reason: Reason) {
    let rig = backend.start(|_| {});
    refuses(&rig, request, reason);
    rig.expect_error_counted(reason);
}
