//! Plain HTTP: how it ends and how it is refused.

use mahavishnu_core::reason::Reason;
use mahavishnu_tests::{Raw, Server, http, http::post_bytes, raw::HANDSHAKE};

use super::{answered, counted, refuses};

pub(super) fn http_done(_: Reason) {
    let server = Server::start();
    let mut connection = server.raw();
    connection.write(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_eq!(connection.response().status, 200);
    connection.expect_end();
}

pub(super) fn eof_in_head(_: Reason) {
    let server = Server::start();
    let mut raw = server.raw();
    raw.write(b"GET /heal");
    raw.finish();
    assert_eq!(raw.read_to_end(), b"");
    assert_eq!(server.metrics().count("websocket_connection_errors_total", &[]), 0);
}

pub(super) fn bad_request(reason: Reason) {
    let server = Server::start();
    refuses(&server, b"GET /health\r\n\r\n", reason);
    counted(&server, reason);
}

pub(super) fn bad_proxy_header(reason: Reason) {
    let server = Server::with(&[("TRUSTED_PROXIES", "127.0.0.2"), ("PROXY_PROTOCOL", "true")]);
    let mut raw = Raw::connect_from("127.0.0.2", server.address());
    raw.write(HANDSHAKE.as_bytes());
    let answer = String::from_utf8(raw.read_to_end()).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains(reason.row().text), "{answer}");
    counted(&server, reason);
}

pub(super) fn bad_handshake(reason: Reason) {
    let server = Server::start();
    refuses(&server, HANDSHAKE.replace("dGhl", "").as_bytes(), reason);
    counted(&server, reason);
}

pub(super) fn head_too_large(reason: Reason) {
    let server = Server::start();
    let head = format!("GET /health HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n", "a".repeat(20_000));
    refuses(&server, head.as_bytes(), reason);
    counted(&server, reason);
}

pub(super) fn not_found(reason: Reason) {
    refuses(&Server::start(), b"GET /none HTTP/1.1\r\nHost: x\r\n\r\n", reason);
}

pub(super) fn method_not_allowed(reason: Reason) {
    refuses(&Server::start(), b"DELETE /health HTTP/1.1\r\nHost: x\r\n\r\n", reason);
}

pub(super) fn upgrade_required(reason: Reason) {
    refuses(&Server::start(), b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", reason);
}

pub(super) fn bad_version(reason: Reason) {
    let server = Server::start();
    refuses(&server, HANDSHAKE.replace("Version: 13", "Version: 8").as_bytes(), reason);
    counted(&server, reason);
}

pub(super) fn http_version(reason: Reason) {
    let server = Server::start();
    refuses(&server, b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", reason);
    counted(&server, reason);
}

pub(super) fn length_required(reason: Reason) {
    let request = b"POST /publish HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    refuses(&Server::start(), request, reason);
}

pub(super) fn body_too_large(reason: Reason) {
    let request = b"POST /publish HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99999999\r\n\r\n";
    refuses(&Server::start(), request, reason);
}

pub(super) fn not_json(reason: Reason) {
    refuses(
        &Server::start(),
        &post_bytes("/publish", &[("Content-Type", "text/plain")], "{}"),
        reason,
    );
}

pub(super) fn bad_publish(reason: Reason) {
    let server = Server::start();
    answered(&http::post(server.address(), "/publish", &[], "{}"), reason);
    counted(&server, reason);
}

pub(super) fn key_reused(reason: Reason) {
    let server = Server::start();
    let send = |event: &str| {
        let body = format!(r#"{{"channel":"c","event":"{event}"}}"#);
        http::post(server.address(), "/publish", &[("Idempotency-Key", "k")], &body)
    };
    assert_eq!(send("a").status, 200);
    answered(&send("b"), reason);
    counted(&server, reason);
}
