//! What streams do: end in halves, break, and cut what they carry anywhere.

use mahavishnu_conformance::{App, Backend, HANDSHAKE, Raw, Setup, masked, op, post};
use serde_json::json;

use super::messages::burst;

pub(crate) fn a_half_close_after_a_close_frame_is_in_order(backend: Backend) {
    let rig = backend.start(|_| {});
    let mut raw = rig.raw_hello();
    raw.send(op::CLOSE, b"\x0F\xA0bye");
    raw.finish();
    assert_eq!(raw.close_frame().map(|(code, _)| code), Some(4000), "the code is answered");
    assert_eq!(raw.read_to_end(), b"");
    rig.expect_end(mahavishnu_core::reason::Reason::PeerClosed);
    rig.expect_sockets(0);
}

pub(crate) fn a_half_close_without_a_close_frame_ends_the_connection(backend: Backend) {
    let rig = backend.start(|_| {});
    let mut raw = rig.raw_hello();
    raw.subscribe("a");
    raw.finish();
    assert_eq!(raw.read_to_end(), b"");
    rig.expect_sockets(0);
    assert_eq!(rig.broadcast("a", &json!({})), 0);
}

pub(crate) fn a_half_close_behind_a_request_still_gets_its_answer(backend: Backend) {
    let rig = backend.start(|_| {});
    let mut raw = rig.raw();
    raw.write(&post(&[], &json!({ "channel": "c", "event": "e" })));
    raw.finish();
    assert_eq!(raw.response().status, 200);
    assert_eq!(raw.read_to_end(), b"");
    rig.expect_sockets(0);
}

pub(crate) fn a_reset_frees_everything(backend: Backend) {
    let app = App { requests: vec![("wait", |_| None)], ..App::default() };
    let rig = backend.start_with(Setup { app, ..Setup::new(|_| {}) });
    let raws: Vec<Raw> = (0..5)
        .map(|_| {
            let mut raw = rig.raw_hello();
            raw.subscribe("a");
            raw.send_json(&json!({ "type": "request", "event": "wait" }));
            raw
        })
        .collect();
    rig.expect_count("mahavishnu_subscriptions", &[], 5);
    raws.into_iter().for_each(Raw::reset);
    rig.expect_sockets(0);
    for gauge in ["websocket_connections_active", "mahavishnu_subscriptions", "mahavishnu_channels"]
    {
        rig.expect_count(gauge, &[], 0);
    }
    assert_eq!(rig.broadcast("a", &json!({})), 0);
}

pub(crate) fn a_reset_before_the_handshake_frees_the_socket(backend: Backend) {
    let rig = backend.start(|_| {});
    for bytes in [&b""[..], b"GET / HT", &HANDSHAKE.as_bytes()[..60]] {
        let mut raw = rig.raw();
        raw.write(bytes);
        rig.expect_sockets(1);
        raw.reset();
        rig.expect_sockets(0);
    }
}

pub(crate) fn bytes_may_come_one_at_a_time(backend: Backend) {
    let rig = backend.start(|_| {});
    let mut raw = rig.raw();
    raw.dribble(HANDSHAKE.as_bytes());
    assert!(raw.read_head().starts_with("HTTP/1.1 101 "));
    assert_eq!(raw.json()["event"], "session.created");
    let subscribe = json!({ "type": "subscribe", "id": "1", "data": { "channel": "a" } });
    raw.dribble(&masked(op::TEXT, subscribe.to_string().as_bytes()));
    assert_eq!(raw.json()["data"]["status"], "subscribed");
    raw.dribble(&masked(op::PING, b"x"));
    assert_eq!(raw.frame().expect("a pong").first, op::PONG);
    raw.dribble(&masked(op::CLOSE, &1000_u16.to_be_bytes()));
    assert_eq!(raw.close_frame().map(|(code, _)| code), Some(1000));
}

pub(crate) fn http_may_come_one_byte_at_a_time(backend: Backend) {
    let rig = backend.start(|_| {});
    let mut client = rig.subscriber("a");
    let mut raw = rig.raw();
    for n in 0..2 {
        raw.dribble(&post(&[], &json!({ "channel": "a", "event": "e", "data": { "n": n } })));
        assert_eq!(raw.response().status, 200);
    }
    assert_eq!(client.numbers(2), [0, 1]);
}

pub(crate) fn many_messages_may_come_at_once(backend: Backend) {
    let rig = backend.start(|_| {});
    let mut raw = rig.raw_hello();
    raw.write(&burst(2_000, |n| json!({ "type": "ping", "id": n.to_string() })));
    for n in 0..2_000 {
        assert_eq!(raw.json()["correlation_id"], n.to_string());
    }
}

pub(crate) fn large_messages_arrive_whole_through_a_narrow_socket(backend: Backend) {
    let rig = backend.start_with(Setup {
        app: App {
            requests: vec![("echo", |data| Some((std::time::Duration::ZERO, Ok(data.clone()))))],
            ..App::default()
        },
        ..Setup::new(|_| {})
    });
    let mut raw = Raw::hello(rig.connect_narrow(2_048));
    raw.subscribe("a");
    let data = json!({ "text": "äöü".repeat(50_000) });
    assert_eq!(rig.broadcast("a", &data), 1);
    assert_eq!(raw.json()["data"], data);
    raw.send_json(&json!({ "type": "request", "event": "echo", "data": data }));
    assert_eq!(raw.json()["data"], data);
}

pub(crate) fn nothing_comes_after_a_close_frame(backend: Backend) {
    let rig = backend.start(|_| {});
    let mut raw = rig.raw_hello();
    raw.subscribe("a");
    let ping = masked(op::TEXT, b"{\"type\":\"ping\"}");
    raw.write(&[masked(op::CLOSE, &1000_u16.to_be_bytes()), ping.clone(), ping].concat());
    assert_eq!(raw.close_frame().map(|(code, _)| code), Some(1000));
    rig.broadcast("a", &json!({}));
    assert_eq!(raw.read_to_end(), b"");
}
