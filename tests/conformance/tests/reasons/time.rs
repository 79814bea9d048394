//! What has taken too long.

use std::time::Duration;

use mahavishnu_conformance::{App, Backend, Setup, post, token};
use mahavishnu_core::{hub::DrainPlan, reason::Reason};
use serde_json::json;

use super::{answered, is_close, is_error};

const SHORT: Duration = Duration::from_millis(100);

pub(crate) fn pong_timeout(backend: Backend, reason: Reason) {
    let rig = backend.start(|config| {
        config.limits.wire.ping_interval = Some(SHORT);
        config.limits.wire.pong_timeout = SHORT;
    });
    let mut raw = rig.raw_hello();
    is_close(raw.close_frame(), reason);
    rig.expect_told_end(reason);
}

pub(crate) fn idle_timeout(backend: Backend, reason: Reason) {
    let rig = backend.start(|config| {
        config.limits.wire.ping_interval = None;
        config.limits.wire.connection_timeout = Some(Duration::from_secs(1));
    });
    let mut raw = rig.raw_hello();
    is_close(raw.close_frame(), reason);
    rig.expect_told_end(reason);
}

/// Whoever is still connected at the deadline of a drain is dropped.
pub(crate) fn close_timeout(backend: Backend, reason: Reason) {
    let rig = backend.start(|_| {});
    let (mut first, mut second) = (rig.raw_hello(), rig.raw_hello());
    // The second one's turn would come after ten seconds.
    rig.drain(DrainPlan {
        window: Duration::from_secs(20),
        deadline: SHORT,
        ..DrainPlan::default()
    });
    assert_eq!(first.close_frame().map(|(code, _)| code), Some(1001));
    assert_eq!(second.close_frame(), None, "dropped without a word");
    rig.expect_told_end(reason);
    rig.expect_drained();
}

pub(crate) fn head_timeout(backend: Backend, reason: Reason) {
    let rig = backend.start(|config| config.limits.wire.head_timeout = SHORT);
    let mut raw = rig.raw();
    let answer = raw.exchange(b"GET /health HTT");
    answered(&answer, reason);
    assert_eq!(raw.read_to_end(), b"");
    rig.expect_error_counted(reason);
}

pub(crate) fn keep_alive_timeout(backend: Backend, _: Reason) {
    let rig = backend.start(|config| config.limits.wire.http_idle_timeout = SHORT);
    let mut raw = rig.raw();
    assert_eq!(raw.get("/health").status, 200);
    assert_eq!(raw.read_to_end(), b"", "closed without a word");
    drop(raw);
    rig.expect_sockets(0);
    assert_eq!(rig.count("websocket_connection_errors_total", &[("error_type", "timeout")]), 0);
}

pub(crate) fn auth_timeout(backend: Backend, reason: Reason) {
    let rig = backend.start(|config| {
        token::demand(config);
        config.limits.auth.auth_timeout = SHORT;
    });
    let mut client = rig.client();
    is_error(&client.message(), reason);
    assert_eq!(client.expect_close(1008), reason.row().text);
    rig.expect_end(reason);
}

/// The application never answers: a request over WebSocket and a publish over HTTP are told so.
pub(crate) fn gateway_timeout(backend: Backend, reason: Reason) {
    let app = App { requests: vec![("wait", |_| None)], publish: Some(|_| None), ..App::default() };
    let setup =
        Setup { app, ..Setup::new(|config| config.limits.requests.request_timeout = SHORT) };
    let rig = backend.start_with(setup);
    is_error(&rig.hello().request("wait", json!({})), reason);
    rig.expect_error_counted(reason);
    let answer = rig.raw().exchange(&post(&[], &json!({ "channel": "c", "event": "e" })));
    answered(&answer, reason);
    assert_eq!(rig.raw().get("/health").json()["checks"]["pools"], "failing");
}
