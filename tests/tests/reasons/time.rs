//! What has taken too long.

use mahavishnu_core::reason::Reason;
use mahavishnu_tests::{Server, raw::op};

use super::{answered, counted, ended, is_error};

pub(super) fn pong_timeout(reason: Reason) {
    let server = Server::with(&[("PING_INTERVAL", "0.1"), ("PONG_TIMEOUT", "0.1")]);
    let mut raw = server.raw_hello();
    assert_eq!(raw.close_frame().map(|(code, _)| code), reason.row().close);
    ended(&server, reason);
}

pub(super) fn idle_timeout(reason: Reason) {
    let server = Server::with(&[("PING_INTERVAL", "0"), ("CONNECTION_TIMEOUT", "1")]);
    let mut raw = server.raw_hello();
    assert_eq!(raw.close_frame().map(|(code, _)| code), reason.row().close);
    ended(&server, reason);
}

/// Five seconds after its close frame the server has waited long enough for ours.
pub(super) fn close_timeout(_: Reason) {
    let server = Server::with_auth(&[]);
    let mut raw = server.raw_upgraded();
    raw.send(op::TEXT, b"{\"type\":\"ack\"}");
    assert_eq!(raw.close_frame().map(|(code, _)| code), Some(1008));
    assert_eq!(raw.read_to_end(), b"", "the end of the stream, although nothing was answered");
}

/// Ten seconds after its first byte a head must be complete.
pub(super) fn head_timeout(reason: Reason) {
    let server = Server::start();
    let mut connection = server.raw();
    connection.write(b"GET /health HTT");
    answered(&connection.response(), reason);
    connection.expect_end();
    counted(&server, reason);
}

pub(super) fn auth_timeout(reason: Reason) {
    let server = Server::with_auth(&[("AUTH_TIMEOUT", "0.2")]);
    let mut client = server.client();
    is_error(&client.message(), reason);
    assert_eq!(client.expect_close(1008), reason.row().text);
    ended(&server, reason);
}
