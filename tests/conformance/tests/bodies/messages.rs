//! Every message of the protocol.

use std::time::Duration;

use mahavishnu_conformance::{App, Backend, Rig, Setup, masked, op};
use mahavishnu_core::config::SlowPolicy;
use serde_json::{Value, json};
use tungstenite::Message;

const FIELDS: [&str; 9] = [
    "id",
    "correlation_id",
    "type",
    "event",
    "data",
    "timestamp",
    "room",
    "error_code",
    "error_message",
];

/// Whether the nine fields stand first, in their order.
fn is_in_order(text: &str) -> bool {
    let mut at = 0;
    FIELDS.iter().all(|name| {
        let found = text[at..].find(&format!("\"{name}\":"));
        at += found.unwrap_or_default();
        found.is_some()
    })
}

pub(crate) fn every_message_has_the_nine_fields_in_their_order(backend: Backend) {
    let rig = backend.start(|_| {});
    let mut raw = mahavishnu_conformance::Raw::upgrade(rig.connect());
    raw.send_json(&json!({ "type": "request", "event": "subscribe", "data": { "channel": "a" } }));
    raw.send_json(&json!({ "type": "event", "event": "subscribe", "data": { "channel": "b" } }));
    raw.send_json(&json!({ "type": "ping" }));
    raw.send_json(&json!({ "type": "request", "event": "nonsense" }));
    let mut types = Vec::new();
    for _ in 0..5 {
        let frame = raw.frame().expect("a message");
        let text = std::str::from_utf8(&frame.payload).unwrap();
        assert!(is_in_order(text), "{text}");
        types.push(frame.json()["type"].as_str().unwrap().to_owned());
    }
    assert_eq!(types, ["event", "response", "ack", "pong", "error"]);
}

pub(crate) fn a_subscription_is_confirmed_and_delivers_until_it_ends(backend: Backend) {
    let rig = backend.start(|_| {});
    let mut client = rig.subscriber("a");
    assert_eq!(rig.broadcast("a", &json!({ "n": 1 })), 1);
    let event = client.message();
    assert_eq!(
        (&event["type"], &event["event"], &event["room"]),
        (&json!("event"), &json!("e"), &json!("a"))
    );
    assert_eq!(event["data"], json!({ "n": 1 }));
    assert_eq!(rig.broadcast("b", &json!({ "n": 2 })), 0, "another channel");
    client.unsubscribe("a");
    assert_eq!(rig.broadcast("a", &json!({ "n": 3 })), 0);
    client.expect_silence();
    client.unsubscribe("never:joined");
}

pub(crate) fn subscribe_is_also_a_type_of_its_own(backend: Backend) {
    let rig = backend.start(|_| {});
    let mut client = rig.hello();
    for (data, channel) in [
        (json!({ "channel": "ui:1" }), "ui:1"),
        (json!({ "component_id": "c1" }), "component:c1"),
        (json!({ "page_id": "p1" }), "page:p1"),
    ] {
        client.send(&json!({ "type": "subscribe", "id": "1", "data": data }));
        assert_eq!(client.answer_to("1")["data"]["channel"], channel);
        assert_eq!(rig.broadcast(channel, &json!({ "n": 1 })), 1);
        assert_eq!(client.numbers(1), [1]);
        client.send(&json!({ "type": "unsubscribe", "id": "2", "data": data }));
        assert_eq!(client.answer_to("2")["data"]["status"], "unsubscribed");
        assert_eq!(rig.broadcast(channel, &json!({ "n": 2 })), 0);
    }
}

pub(crate) fn an_event_can_subscribe_and_is_confirmed_by_an_ack(backend: Backend) {
    let rig = backend.start(|_| {});
    let mut client = rig.hello();
    let message =
        |event| json!({ "type": "event", "event": event, "id": "1", "data": { "room": "pool:7" } });
    client.send(&message("subscribe"));
    let ack = client.answer_to("1");
    assert_eq!((&ack["type"], &ack["data"]["status"]), (&json!("ack"), &json!("subscribed")));
    client.send(&message("unsubscribe"));
    let ack = client.answer_to("1");
    assert_eq!((&ack["type"], &ack["data"]["status"]), (&json!("ack"), &json!("unsubscribed")));
}

pub(crate) fn a_ping_is_answered_and_correlated(backend: Backend) {
    let rig = backend.start(|_| {});
    let mut client = rig.hello();
    client.send(&json!({ "type": "ping", "id": "health_check_1" }));
    let pong = client.message();
    assert_eq!(
        (&pong["type"], &pong["correlation_id"]),
        (&json!("pong"), &json!("health_check_1"))
    );
}

pub(crate) fn a_publish_reaches_subscribers_and_says_how_many(backend: Backend) {
    let rig = backend.start(|_| {});
    let mut subscribers = [rig.subscriber("a"), rig.subscriber("a")];
    let mut publisher = rig.hello();
    let data = json!({ "channel": "a", "event": "e", "data": { "n": 1 } });
    let answer = publisher.request("publish", &data);
    assert_eq!(
        (&answer["data"]["status"], &answer["data"]["subscribers"]),
        (&json!("published"), &json!(2))
    );
    subscribers.iter_mut().for_each(|client| assert_eq!(client.numbers(1), [1]));
    publisher.expect_silence();
}

pub(crate) fn types_that_only_servers_send_are_ignored(backend: Backend) {
    let rig = backend.start(|_| {});
    let mut client = rig.hello();
    for kind in ["response", "error", "pong", "ack"] {
        let data = json!({ "channel": "a" });
        client.send(&json!({ "type": kind, "id": "1", "event": "subscribe", "data": data }));
    }
    client.send(&json!({ "type": "event", "id": "1", "event": "session.created", "data": {} }));
    client.expect_silence();
    assert_eq!(rig.broadcast("a", &json!({})), 0);
}

pub(crate) fn what_is_no_message_is_refused_and_the_connection_stays(backend: Backend) {
    let rig = backend.start(|_| {});
    let mut client = rig.hello();
    for (text, rule) in [
        ("", "not a JSON value"),
        ("garbage", "not a JSON value"),
        ("[]", "not a JSON object"),
        ("{}", "type is missing"),
        (r#"{"type":5}"#, "type must be request, "),
        (r#"{"type":"garbage"}"#, "type must be request, "),
        (r#"{"type":"ping","data":[]}"#, "data must be an object"),
        (r#"{"type":"ping","timestamp":5}"#, "timestamp must be a string"),
    ] {
        client.send_frame(Message::text(text));
        let error = client.expect_error("DECODE_ERROR");
        let told = error["error_message"].as_str().unwrap_or_default();
        assert!(
            told.starts_with(&format!("Message could not be decoded: {rule}")),
            "{text}: {told}"
        );
        assert!(!told.contains("garbage"), "{told}");
    }
    for (event, data, rule) in [
        ("publish", json!({ "channel": "a", "event": "e", "data": 5 }), "event must be a string"),
        (
            "publish",
            json!({ "channel": "a", "event": "e", "data": {}, "state": 5 }),
            "state must be an object",
        ),
        ("subscribe", json!({ "channel": "a", "rewind": -1 }), "rewind must be a whole number"),
        ("get_history", json!({ "channel": "a", "limit": "5" }), "limit must be a whole number"),
    ] {
        let error = client.request(event, data);
        let told = error["error_message"].as_str().unwrap_or_default();
        assert!(
            told.starts_with(&format!("Message could not be decoded: {rule}")),
            "{event}: {told}"
        );
    }
    client.expect_silence();
}

pub(crate) fn binary_frames_are_messages_too(backend: Backend) {
    let rig = backend.start(|_| {});
    let mut client = rig.hello();
    let ping = json!({ "type": "ping", "id": "1" }).to_string();
    client.send_frame(Message::binary(ping.into_bytes()));
    assert_eq!(client.message()["correlation_id"], "1");
    client.send_frame(Message::binary(&b"\xff\xfe\x00"[..]));
    client.expect_error("DECODE_ERROR");
    client.expect_silence();
}

pub(crate) fn a_message_in_fragments_is_one_message(backend: Backend) {
    let rig = backend.start(|_| {});
    let mut raw = rig.raw_hello();
    raw.send(op::TEXT & op::MORE, b"{\"type\":");
    raw.send(op::PING, b"between");
    raw.send(op::CONTINUATION & op::MORE, b"\"ping\",\"id\"");
    raw.send(op::CONTINUATION, b":\"1\"}");
    let pong = raw.frame().expect("a pong");
    assert_eq!((pong.first, pong.payload.as_slice()), (op::PONG, &b"between"[..]));
    assert_eq!(raw.json()["correlation_id"], "1");
}

pub(crate) fn a_ping_frame_is_answered_with_its_payload(backend: Backend) {
    let rig = backend.start(|_| {});
    let mut raw = rig.raw_hello();
    for payload in [&b""[..], b"x", &[0xFF; 125]] {
        raw.send(op::PING, payload);
        let pong = raw.frame().expect("a pong");
        assert_eq!((pong.first, pong.payload.as_slice()), (op::PONG, payload));
    }
    // Nobody asked for it (RFC 6455 §5.5.3).
    raw.send(op::PONG, b"unasked");
    raw.send_json(&json!({ "type": "ping" }));
    assert_eq!(raw.json()["type"], "pong");
}

pub(crate) fn broadcasts_come_in_order_to_everyone(backend: Backend) {
    let rig = backend.start(|_| {});
    let mut clients: Vec<_> = (0..5).map(|_| rig.subscriber("a")).collect();
    let mut publisher = rig.hello();
    for n in 0..100 {
        if n % 3 == 0 {
            let data = json!({ "channel": "a", "event": "e", "data": { "n": n } });
            assert_eq!(publisher.request("publish", &data)["data"]["subscribers"], 5);
        } else {
            assert_eq!(rig.broadcast("a", &json!({ "n": n })), 5);
        }
    }
    let expected: Vec<u64> = (0..100).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.numbers(100), expected));
}

pub(crate) fn answers_are_correlated_by_either_id(backend: Backend) {
    let rig = backend.start(|_| {});
    let mut client = rig.hello();
    for (fields, expected) in [
        (json!({ "type": "ping", "id": "i" }), json!("i")),
        (json!({ "type": "ping", "correlation_id": "c" }), json!("c")),
        (json!({ "type": "ping", "id": "i", "correlation_id": "c" }), json!("c")),
        (json!({ "type": "ping" }), Value::Null),
    ] {
        client.send(&fields);
        assert_eq!(client.message()["correlation_id"], expected, "{fields}");
    }
}

/// From 1 on, and on while nobody subscribes; once in each event, also to those who ask for positions.
pub(crate) fn offsets_number_the_messages_of_a_channel(backend: Backend) {
    let rig = backend.start(|config| config.compat.offsets = true);
    let mut client = rig.subscriber("a");
    (0..3).for_each(|n| assert_eq!(rig.broadcast("a", &json!({ "n": n })), 1));
    let offsets: Vec<_> = (0..3).map(|_| client.message()["offset"].take()).collect();
    assert_eq!(offsets, [1, 2, 3]);
    client.unsubscribe("a");
    rig.broadcast("a", &json!({ "n": 3 }));
    let wish = json!({ "type": "subscribe", "data": { "channel": "a", "positions": true } });
    let (mut plain, mut asked) = (rig.raw_hello(), rig.raw_hello());
    plain.subscribe("a");
    asked.send_json(&wish);
    assert_eq!(asked.json()["data"]["offset"], 4);
    rig.broadcast("a", &json!({ "n": 4 }));
    let text = |raw: &mut mahavishnu_conformance::Raw| {
        String::from_utf8(raw.frame().expect("an event").payload).unwrap()
    };
    let (plain, asked) = (text(&mut plain), text(&mut asked));
    assert_eq!(plain, asked);
    assert!(plain.ends_with(",\"offset\":5}") && plain.matches("offset").count() == 1, "{plain}");
}

fn with_app(backend: Backend, app: App) -> Rig {
    backend.start_with(Setup { app, ..Setup::new(|_| {}) })
}

pub(crate) fn the_application_answers_requests(backend: Backend) {
    let app = App {
        requests: vec![
            ("double", |data| {
                let n = data["n"].as_u64().unwrap_or_default();
                Some((Duration::ZERO, Ok(json!({ "n": 2 * n }))))
            }),
            ("later", |_| Some((Duration::from_millis(50), Ok(json!({ "late": true }))))),
        ],
        ..App::default()
    };
    let rig = with_app(backend, app);
    let mut client = rig.hello();
    let late = client.ask("later", json!({}));
    let answer = client.request("double", json!({ "n": 21 }));
    assert_eq!((&answer["event"], &answer["data"]), (&json!("double"), &json!({ "n": 42 })));
    assert_eq!(client.answer_to(&late)["data"], json!({ "late": true }));
}

pub(crate) fn the_application_decides_on_subscriptions(backend: Backend) {
    let subscribe: fn(&str) -> Option<(Duration, bool)> =
        |channel| Some((Duration::from_millis(10), channel == "open"));
    let rig = with_app(backend, App { subscribe: Some(subscribe), ..App::default() });
    let mut client = rig.hello();
    client.subscribe("open");
    let refused = client.request("subscribe", json!({ "channel": "secret" }));
    assert_eq!(refused["error_code"], "FORBIDDEN");
    assert_eq!(rig.broadcast("secret", &json!({})), 0);
    // Whoever leaves before the decision has left.
    client.unsubscribe("open");
    let asked = client.ask("subscribe", json!({ "channel": "open" }));
    client.unsubscribe("open");
    client.answer_to(&asked);
    assert_eq!(rig.broadcast("open", &json!({ "n": 1 })), 0);
}

pub(crate) fn the_application_decides_on_publishes(backend: Backend) {
    let publish: fn(&str) -> Option<(Duration, bool)> =
        |channel| Some((Duration::ZERO, channel == "open"));
    let rig = with_app(backend, App { publish: Some(publish), ..App::default() });
    let mut client = rig.hello();
    let publish = |channel| json!({ "channel": channel, "event": "e", "data": { "n": 1 } });
    assert_eq!(client.request("publish", publish("open"))["data"]["status"], "published");
    assert_eq!(client.request("publish", publish("secret"))["error_code"], "FORBIDDEN");
    assert_eq!(rig.broadcast("secret", &json!({})), 0, "it does not ask itself");
}

pub(crate) fn a_reload_changes_what_holds(backend: Backend) {
    let rig = backend.start(|_| {});
    let mut client = rig.hello();
    client.subscribe("a");
    let mut config = mahavishnu_conformance::base();
    config.limits.channels.channels_per_connection_max = 1;
    config.slow_readers.default = SlowPolicy::Gap;
    rig.reload(config);
    rig.expect_count("mahavishnu_config_generation", &[], 1);
    let refused = client.request("subscribe", json!({ "channel": "b" }));
    assert_eq!(refused["error_code"], "RATE_LIMIT_EXCEEDED");
    assert_eq!(rig.broadcast("a", &json!({ "n": 1 })), 1, "what was there stays");
    assert_eq!(client.numbers(1), [1]);
}

/// `count` messages as one piece of bytes.
pub(crate) fn burst(count: usize, message: impl Fn(usize) -> Value) -> Vec<u8> {
    (0..count).flat_map(|n| masked(op::TEXT, message(n).to_string().as_bytes())).collect()
}
