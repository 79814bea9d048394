//! Bounds on what one connection, one address and all of them together may do.

use std::time::Duration;

use mahavishnu_conformance::{Backend, masked, op, post, token};
use mahavishnu_core::config::SlowPolicy;
use serde_json::json;
use tungstenite::Message;

use super::messages::burst;

/// A ping of so many bytes.
fn padded(length: usize) -> String {
    let text = json!({ "type": "ping", "id": "x" }).to_string();
    text.clone() + &" ".repeat(length - text.len())
}

pub(crate) fn a_message_may_be_as_long_as_the_limit(backend: Backend) {
    let rig = backend.start(|config| config.limits.wire.message_bytes_max = 1_000);
    let mut client = rig.hello();
    client.send_frame(Message::text(padded(1_000)));
    assert_eq!(client.message()["type"], "pong");
    client.send_frame(Message::text(padded(1_001)));
    assert_eq!(client.expect_close(1009), "Message too big");
}

pub(crate) fn a_message_over_the_limit_is_refused_at_its_header(backend: Backend) {
    let rig = backend.start(|config| config.limits.wire.message_bytes_max = 1_000);
    // 1001 bytes, and far too many: a length, a mask, and nothing else.
    let lengths: [&[u8]; 3] = [
        &[0x80 | 126, 0x03, 0xE9],
        &[0xFF, 0, 0, 1, 0, 0, 0, 0, 0],
        &[0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF],
    ];
    for length in lengths {
        let mut raw = rig.raw_hello();
        raw.write(&[&[op::TEXT], length, &[1, 2, 3, 4]].concat());
        assert_eq!(raw.close_frame().map(|(code, _)| code), Some(1009), "{length:?}");
    }
}

pub(crate) fn fragments_are_counted_together(backend: Backend) {
    let rig = backend.start(|config| config.limits.wire.message_bytes_max = 1_000);
    let mut raw = rig.raw_hello();
    let text = padded(1_000);
    raw.send(op::TEXT & op::MORE, &text.as_bytes()[..600]);
    raw.send(op::CONTINUATION, &text.as_bytes()[600..]);
    assert_eq!(raw.json()["type"], "pong");
    raw.send(op::TEXT & op::MORE, &text.as_bytes()[..600]);
    raw.send(op::CONTINUATION, &[b' '; 401]);
    assert_eq!(raw.close_frame().map(|(code, _)| code), Some(1009));
}

pub(crate) fn channels_per_connection_are_limited(backend: Backend) {
    let rig = backend.start(|config| config.limits.channels.channels_per_connection_max = 2);
    let mut client = rig.hello();
    client.subscribe("a");
    client.subscribe("b");
    client.subscribe("b");
    let refused = client.request("subscribe", json!({ "channel": "c" }));
    assert_eq!(refused["error_code"], "RATE_LIMIT_EXCEEDED");
    client.unsubscribe("a");
    client.subscribe("c");
    rig.hello().subscribe("a");
}

pub(crate) fn channels_of_the_server_are_limited(backend: Backend) {
    let rig = backend.start(|config| config.limits.channels.channels_max = 2);
    let (mut first, mut second) = (rig.hello(), rig.hello());
    first.subscribe("a");
    first.subscribe("b");
    second.subscribe("a");
    let refused = second.request("subscribe", json!({ "channel": "c" }));
    assert_eq!(refused["error_code"], "SERVER_ERROR");
    first.unsubscribe("b");
    second.subscribe("c");
}

pub(crate) fn a_name_may_be_as_long_as_the_limit(backend: Backend) {
    let rig = backend.start(|config| {
        config.limits.channels.channel_bytes_max = 20;
        config.limits.channels.event_bytes_max = 10;
    });
    let mut client = rig.hello();
    client.subscribe(&"c".repeat(20));
    let long = json!({ "channel": "c".repeat(21) });
    assert_eq!(client.request("subscribe", &long)["error_code"], "INVALID_CHANNEL");
    assert_eq!(client.request("unsubscribe", &long)["error_code"], "INVALID_CHANNEL");
    let publish = |length| json!({ "channel": "c", "event": "e".repeat(length), "data": {} });
    assert_eq!(client.request("publish", publish(10))["data"]["status"], "published");
    assert_eq!(client.request("publish", publish(11))["error_code"], "DECODE_ERROR");
    assert_eq!(rig.raw().exchange(&post(&[], &publish(11))).status, 400);
}

pub(crate) fn the_message_rate_is_limited_and_says_when_to_try_again(backend: Backend) {
    let rig = backend.start(|config| {
        config.limits.connections.messages_per_second = Some(1);
        config.limits.connections.messages_burst = 3;
    });
    let mut raw = rig.raw_hello();
    raw.write(&burst(5, |n| json!({ "type": "ping", "id": n.to_string() })));
    for n in 0..5 {
        let answer = raw.json();
        assert_eq!(answer["correlation_id"], n.to_string(), "refusals are correlated");
        assert_eq!(answer["type"], if n < 3 { "pong" } else { "error" });
        if n == 4 {
            let text = answer["error_message"].as_str().expect("a text");
            let seconds = text.strip_prefix("Message rate limit exceeded. Retry after ");
            let seconds = seconds.and_then(|rest| rest.strip_suffix(" seconds."));
            rig.pass(Duration::from_secs_f64(seconds.expect("a time").parse().expect("a number")));
        }
    }
    raw.send_json(&json!({ "type": "ping" }));
    assert_eq!(raw.json()["type"], "pong", "who waits as long as told is accepted");
}

pub(crate) fn connections_are_limited_and_room_is_given_back(backend: Backend) {
    let rig = backend.start(|config| config.limits.connections.connections_max = 2);
    let (first, mut second) = (rig.hello(), rig.hello());
    assert_eq!(rig.client().expect_close(1013), "Server at maximum capacity");
    assert_eq!(rig.raw().get("/health").status, 200, "health checks are answered all the same");
    first.close();
    rig.expect_count("websocket_connections_active", &[], 1);
    rig.hello().expect_silence();
    second.expect_silence();
}

pub(crate) fn connections_that_wait_for_authentication_take_room(backend: Backend) {
    let rig = backend.start(|config| {
        token::demand(config);
        config.limits.connections.connections_max = 2;
    });
    let _waiting = [rig.client(), rig.client()];
    rig.client().expect_close(1013);
}

pub(crate) fn new_connections_per_minute_are_limited(backend: Backend) {
    let rig = backend.start(|config| {
        config.limits.connections.connects_per_minute = Some(2);
        config.limits.connections.connects_limit_loopback = true;
    });
    (0..2).for_each(|_| rig.hello().close());
    assert_eq!(rig.client().expect_close(1013), "Too many new connections from this address");
    assert_eq!(rig.raw().get("/health").status, 200, "plain HTTP is not limited");
}

pub(crate) fn sockets_are_limited(backend: Backend) {
    let rig = backend.start(|config| config.limits.connections.sockets_max = 2);
    let (first, _second) = (rig.hello(), rig.hello());
    assert_eq!(rig.raw().read_to_end(), b"");
    first.close();
    rig.expect_sockets(1);
    rig.hello().expect_silence();
}

pub(crate) fn the_batch_of_a_publish_is_limited(backend: Backend) {
    let rig = backend.start(|config| config.limits.publishing.publish_batch_max = 2);
    let message = json!({ "channel": "c", "event": "e" });
    let publish =
        |count: usize| rig.raw().exchange(&post(&[], &json!(vec![message.clone(); count]))).status;
    assert_eq!([publish(1), publish(2), publish(3)], [200, 200, 400]);
}

pub(crate) fn a_broadcast_larger_than_the_outbox_is_not_delivered(backend: Backend) {
    let rig = backend.start(|config| {
        config.limits.delivery.outbox_bytes_max = 10_000;
        config.slow_readers.default = SlowPolicy::Gap;
    });
    let mut raw = rig.raw_hello();
    raw.subscribe("a");
    rig.broadcast("a", &json!({ "filler": "x".repeat(20_000) }));
    let gap = raw.json();
    assert_eq!((&gap["event"], &gap["data"]["lost"]), (&json!("channel.gap"), &json!(1)));
    rig.broadcast("a", &json!({ "n": 1 }));
    assert_eq!(raw.json()["data"]["n"], 1);
    raw.write(&masked(op::CLOSE, &1000_u16.to_be_bytes()));
    assert_eq!(raw.close_frame().map(|(code, _)| code), Some(1000));
}
