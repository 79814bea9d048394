//! Deadlines: what is late ends, and only that.

use std::time::Duration;

use mahavishnu_conformance::{Backend, Raw, Rig, masked, op, post, token};
use mahavishnu_core::config::Config;
use serde_json::json;

const SHORT: Duration = Duration::from_millis(100);
/// The least that a setting allows.
const SECOND: Duration = Duration::from_secs(1);
/// Never within a test.
const LONG: Duration = Duration::from_secs(3_600);

/// Pings after `interval`, and nothing else that ends a connection but `pong`.
fn pinging(
    backend: Backend,
    interval: Duration,
    pong: Duration,
    change: impl FnOnce(&mut Config),
) -> Rig {
    backend.start(|config: &mut Config| {
        config.limits.wire.ping_interval = Some(interval);
        config.limits.wire.pong_timeout = pong;
        change(config);
    })
}

pub(crate) fn a_silent_client_is_pinged(backend: Backend) {
    let rig = pinging(backend, SHORT, LONG, |_| {});
    let mut raw = rig.raw_hello();
    let (took, ping) = rig.time(|| raw.frame().expect("a ping"));
    assert_eq!(ping.first, op::PING);
    rig.expect_early(took, SHORT);
    assert!(raw.is_quiet_for(SHORT * 3), "one ping waits for one pong");
}

pub(crate) fn an_answered_ping_keeps_the_connection(backend: Backend) {
    let rig = backend.start(|config| {
        config.limits.wire.ping_interval = Some(SHORT);
        config.limits.wire.pong_timeout = Duration::from_secs(10);
        config.limits.wire.connection_timeout = Some(Duration::from_secs(1));
    });
    let mut raw = rig.raw_hello();
    // Longer than the connection may be silent.
    for _ in 0..12 {
        let ping = raw.frame().expect("a ping");
        assert_eq!(ping.first, op::PING);
        raw.send(op::PONG, &ping.payload);
    }
    raw.send_json(&json!({ "type": "ping" }));
    while raw.frame().expect("a message").first != op::TEXT {}
}

pub(crate) fn a_pong_timeout_ends_the_connection(backend: Backend) {
    let rig = pinging(backend, SHORT, SHORT, |config| config.limits.wire.close_timeout = SHORT);
    let mut raw = rig.raw_hello();
    let (took, ()) = rig.time(|| {
        assert_eq!(raw.frame().expect("a ping").first, op::PING);
        let close = raw.close_frame();
        assert_eq!(close, Some((1011, "Keepalive ping timeout".into())));
        assert_eq!(raw.read_to_end(), b"");
        rig.expect_sockets(0);
    });
    // Ping, pong, close frame, end of stream: each has its time.
    assert!(took >= SHORT * 2 - EARLY, "{took:?}");
    rig.expect_early(took, SHORT * 4);
}

/// The client is told to go, and neither answers nor hangs up.
pub(crate) fn a_close_that_is_not_answered_ends_the_connection(backend: Backend) {
    let rig = backend.start(|config| {
        token::demand(config);
        config.limits.wire.close_timeout = SHORT;
    });
    let mut raw = Raw::upgrade(rig.connect());
    raw.send(op::TEXT, b"{\"type\":\"ack\"}");
    let (took, ()) = rig.time(|| {
        assert_eq!(raw.close_frame().map(|(code, _)| code), Some(1008));
        assert_eq!(raw.read_to_end(), b"");
        rig.expect_sockets(0);
    });
    rig.expect_early(took, SHORT * 2);
}

/// The close handshake is complete, but the client keeps its half of the stream open.
pub(crate) fn a_client_that_does_not_end_its_stream_is_dropped(backend: Backend) {
    let rig = backend.start(|config| config.limits.wire.close_timeout = SHORT);
    let mut raw = rig.raw_hello();
    raw.send(op::CLOSE, &1000_u16.to_be_bytes());
    assert_eq!(raw.close_frame().map(|(code, _)| code), Some(1000));
    assert_eq!(raw.read_to_end(), b"", "the server ends its half");
    let (took, ()) = rig.time(|| rig.expect_sockets(0));
    rig.expect_early(took, SHORT);
}

pub(crate) fn an_idle_connection_is_closed(backend: Backend) {
    let rig = backend.start(|config| {
        config.limits.wire.ping_interval = None;
        config.limits.wire.connection_timeout = Some(SECOND);
    });
    let mut raw = rig.raw_hello();
    let (took, close) = rig.time(|| {
        rig.pass(SHORT);
        raw.send_json(&json!({ "type": "ping" }));
        raw.close_frame()
    });
    assert_eq!(close, Some((1001, "Connection timed out".into())));
    assert!(took >= SECOND + SHORT, "from the last byte on: {took:?}");
}

pub(crate) fn a_head_that_does_not_end_is_refused(backend: Backend) {
    let rig = backend.start(|config| config.limits.wire.head_timeout = SHORT);
    let mut raw = rig.raw();
    raw.write(b"GET / HTTP/1.1\r\nHost: te");
    let (took, answer) = rig.time(|| raw.response());
    assert_eq!((answer.status, answer.header("connection")), (408, Some("close")));
    assert_eq!(raw.read_to_end(), b"");
    rig.expect_early(took, SHORT);
}

pub(crate) fn a_socket_that_says_nothing_is_closed_silently(backend: Backend) {
    let rig = backend.start(|config| config.limits.wire.head_timeout = SHORT);
    let mut raw = rig.raw();
    assert_eq!(raw.read_to_end(), b"");
    rig.expect_sockets(0);
}

pub(crate) fn a_kept_connection_is_closed_when_it_is_idle(backend: Backend) {
    let rig = backend.start(|config| config.limits.wire.http_idle_timeout = SHORT);
    let mut raw = rig.raw();
    assert_eq!(raw.get("/health").status, 200);
    assert_eq!(raw.read_to_end(), b"");
    drop(raw);
    rig.expect_sockets(0);
}

pub(crate) fn a_body_that_does_not_come_is_refused(backend: Backend) {
    let rig = backend.start(|config| config.limits.wire.head_timeout = SHORT);
    let mut raw = rig.raw();
    let request = post(&[], &json!({ "channel": "c", "event": "e" }));
    let answer = raw.exchange(&request[..request.len() - 1]);
    assert_eq!(answer.status, 408);
    assert_eq!(raw.read_to_end(), b"");
}

/// Connections in every state that has a deadline, all left alone. Each ends, and handling a deadline is a few steps: a
/// server that finds one due again at once would take a million in no time, or never come back.
pub(crate) fn deadlines_do_not_make_the_server_spin(backend: Backend) {
    let rig = backend.start(|config| {
        token::demand(config);
        let limits = &mut config.limits;
        for time in [
            &mut limits.wire.head_timeout,
            &mut limits.wire.http_idle_timeout,
            &mut limits.auth.auth_timeout,
            &mut limits.wire.pong_timeout,
            &mut limits.wire.close_timeout,
        ] {
            *time = SHORT;
        }
        limits.wire.ping_interval = Some(SHORT);
        limits.wire.connection_timeout = Some(SHORT * 3);
    });
    let token = token::good(rig.unix(), "ada", &["admin"]);
    let before = rig.steps();
    let mut left = Vec::new();
    for _ in 0..10 {
        let states: [&[u8]; 3] = [b"", b"GET / HT", b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"];
        for bytes in states {
            let mut raw = rig.raw();
            raw.write(bytes);
            left.push(raw);
        }
        // One waits for authentication, one is open, one is closing.
        left.push(Raw::upgrade(rig.connect()));
        for close in [false, true] {
            let mut raw = Raw::upgrade(rig.connect());
            raw.send_json(
                &json!({ "type": "request", "event": "auth", "data": { "token": token } }),
            );
            if close {
                raw.write(&masked(op::CLOSE, &1000_u16.to_be_bytes()));
            }
            left.push(raw);
        }
    }
    rig.expect_sockets(0);
    left.iter_mut().for_each(|raw| drop(raw.read_to_end()));
    let steps = rig.steps() - before;
    assert!(steps < 20_000, "{steps} steps for 60 connections");
    // Nothing is left to do.
    let before = rig.steps();
    rig.pass(SHORT * 5);
    assert!(rig.steps() - before < 100, "{} steps in an empty server", rig.steps() - before);
}

/// What a measurement may have begun late.
const EARLY: Duration = Duration::from_millis(50);
