//! Ends of connections that broke no rule.

use mahavishnu_conformance::{Backend, Raw};
use mahavishnu_core::{hub::DrainPlan, reason::Reason};
use serde_json::json;

use super::is_close;

pub(crate) fn peer_closed(backend: Backend, reason: Reason) {
    let rig = backend.start(|_| {});
    rig.hello().close();
    rig.expect_told_end(reason);
}

pub(crate) fn disconnected(backend: Backend, reason: Reason) {
    let rig = backend.start(|_| {});
    let mut raw = rig.raw_hello();
    let conn = rig.connected(1)[0];
    rig.disconnect(conn);
    is_close(raw.close_frame(), reason);
    rig.expect_told_end(reason);
}

pub(crate) fn resumed_elsewhere(backend: Backend, reason: Reason) {
    let rig = backend.start(|_| {});
    let mut old = rig.hello();
    let kept = old.request("keep_session", json!({}));
    let mut new = rig.hello();
    let session = json!({ "session": kept["data"]["session"] });
    assert_eq!(new.request("resume_session", session)["data"]["status"], "resumed");
    assert_eq!(old.expect_close(1001), reason.close_text());
    rig.expect_told_end(reason);
}

pub(crate) fn shutdown(backend: Backend, reason: Reason) {
    let rig = backend.start(|_| {});
    let mut raw = rig.raw_hello();
    rig.drain(DrainPlan::default());
    is_close(raw.close_frame(), reason);
    drop(raw);
    rig.expect_told_end(reason);
    rig.expect_drained();
}

pub(crate) fn eof(backend: Backend, reason: Reason) {
    let rig = backend.start(|_| {});
    let mut raw = rig.raw_hello();
    raw.finish();
    assert_eq!(raw.read_to_end(), b"");
    rig.expect_told_end(reason);
}

pub(crate) fn io(backend: Backend, reason: Reason) {
    let rig = backend.start(|_| {});
    rig.raw_hello().reset();
    rig.expect_told_end(reason);
}

/// What is queued for a client that does not read, and then is gone, was not sent.
pub(crate) fn send_failed(backend: Backend, reason: Reason) {
    let rig = backend.start(|config| config.limits.delivery.outbox_bytes_max = 64 << 20);
    let mut raw = Raw::hello(rig.connect_narrow(4_096));
    raw.subscribe("c");
    let data = json!({ "filler": "x".repeat(900_000) });
    (0..16).for_each(|_| assert_eq!(rig.broadcast("c", &data), 1));
    raw.reset();
    rig.expect_sockets(0);
    let label = ("error_type", "send_failed");
    rig.until("the errors", || {
        (rig.count("websocket_message_errors_total", &[label]) > 0).then_some(())
    });
    assert_eq!(reason.row().close, None);
}
