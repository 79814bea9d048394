//! Where a channel stands: epochs and offsets, in answers, in events and behind gaps.

use mahavishnu_conformance::{Backend, Client, Raw, Rig, op};
use mahavishnu_core::config::{Config, Keep, SlowPolicy};
use serde_json::{Value, json};

/// Subscribes with a wish, and returns `data` of the answer.
pub(crate) fn subscribe(client: &mut Client, data: Value) -> Value {
    let mut answer = client.request("subscribe", data);
    assert_eq!(answer["type"], "response", "{answer}");
    assert_eq!(answer["data"]["status"], "subscribed", "{answer}");
    answer["data"].take()
}

/// A subscriber of `a` that asked for positions, and the epoch.
pub(crate) fn positioned(rig: &Rig) -> (Client, Value) {
    let mut client = rig.hello();
    let mut answer = subscribe(&mut client, json!({ "channel": "a", "positions": true }));
    (client, answer["epoch"].take())
}

/// Publishes `{"n": n}` to `a` for each number.
pub(crate) fn publish(rig: &Rig, numbers: impl IntoIterator<Item = u64>) {
    numbers.into_iter().for_each(|n| _ = rig.broadcast("a", &json!({ "n": n })));
}

/// The next events are those, each with its offset, which is its number.
#[track_caller]
pub(crate) fn expect_events(client: &mut Client, numbers: impl IntoIterator<Item = u64>) {
    for n in numbers {
        let event = client.message();
        assert_eq!((&event["data"]["n"], &event["offset"]), (&json!(n), &json!(n)), "{event}");
    }
}

pub(crate) fn who_asks_is_told_where_the_channel_stands(backend: Backend) {
    let rig = backend.start(|_| {});
    let mut first = rig.hello();
    let answer = subscribe(&mut first, json!({ "channel": "a", "positions": true }));
    let epoch = answer["epoch"].as_str().unwrap().to_owned();
    assert!(epoch.len() == 10 && epoch.bytes().all(|b| b.is_ascii_alphanumeric()), "{epoch}");
    let expected = |offset: u64| {
        json!({
            "status": "subscribed", "channel": "a", "epoch": epoch, "offset": offset, "recoverable": true,
        })
    };
    assert_eq!(answer, expected(0), "0 is before the first");
    publish(&rig, 1..=3);
    let mut second = rig.hello();
    let answer = subscribe(&mut second, json!({ "channel": "a", "positions": true }));
    assert_eq!(answer, expected(3));
    publish(&rig, [4]);
    expect_events(&mut first, 1..=4);
    expect_events(&mut second, [4]);
}

/// The other two ways to subscribe tell it too.
pub(crate) fn every_way_to_subscribe_takes_a_wish(backend: Backend) {
    let rig = backend.start(|_| {});
    publish(&rig, [1]);
    for (id, message, kind) in [
        (
            "1",
            json!({ "type": "subscribe", "data": { "channel": "a", "positions": true } }),
            "response",
        ),
        (
            "2",
            json!({ "type": "event", "event": "subscribe", "data": { "room": "a", "positions": true } }),
            "ack",
        ),
    ] {
        let mut client = rig.hello();
        let mut message = message;
        message["id"] = json!(id);
        client.send(&message);
        let answer = client.answer_to(id);
        assert_eq!((&answer["type"], &answer["data"]["offset"]), (&json!(kind), &json!(1)));
    }
}

/// Byte for byte: nine fields for everybody, the tenth for who asked.
pub(crate) fn events_carry_their_offset_to_those_who_asked(backend: Backend) {
    let rig = backend.start(|_| {});
    let mut plain = rig.raw_hello();
    plain.subscribe("a");
    let mut asked = rig.raw_hello();
    let wish = json!({ "type": "subscribe", "data": { "channel": "a", "positions": true } });
    asked.send(op::TEXT, wish.to_string().as_bytes());
    asked.frame().expect("an answer");
    for n in 1..=12 {
        assert_eq!(rig.broadcast("a", &json!({ "n": n, "text": "größer" })), 2);
        let text = |raw: &mut Raw| String::from_utf8(raw.frame().unwrap().payload).unwrap();
        let (plain, asked) = (text(&mut plain), text(&mut asked));
        let with_offset = format!("{},\"offset\":{n}}}", plain.strip_suffix('}').unwrap());
        assert_eq!(asked, with_offset);
        assert!(!plain.contains("offset"), "{plain}");
    }
}

pub(crate) fn numbers_go_on_while_nobody_subscribes(backend: Backend) {
    let rig = backend.start(|_| {});
    let (mut client, epoch) = positioned(&rig);
    publish(&rig, 1..=2);
    expect_events(&mut client, 1..=2);
    client.unsubscribe("a");
    client.close();
    publish(&rig, 3..=4);
    let (mut client, again) = positioned(&rig);
    assert_eq!(again, epoch);
    publish(&rig, [5]);
    expect_events(&mut client, [5]);
}

/// Whether anybody ever subscribed or not.
pub(crate) fn numbers_begin_with_the_first_publish(backend: Backend) {
    let rig = backend.start(|_| {});
    publish(&rig, 1..=3);
    let mut client = rig.hello();
    let answer = subscribe(&mut client, json!({ "channel": "a", "positions": true }));
    assert_eq!(answer["offset"], 3);
    publish(&rig, [4]);
    expect_events(&mut client, [4]);
}

pub(crate) fn channels_are_numbered_apart(backend: Backend) {
    let rig = backend.start(|_| {});
    let (mut client, epoch) = positioned(&rig);
    let other = subscribe(&mut client, json!({ "channel": "b", "positions": true }));
    assert_ne!(other["epoch"], epoch);
    publish(&rig, 1..=3);
    rig.broadcast("b", &json!({ "n": 1 }));
    expect_events(&mut client, 1..=3);
    expect_events(&mut client, [1]);
}

/// Where nothing is kept, one is told so; numbers there are all the same.
pub(crate) fn where_nothing_is_kept_one_is_told_so(backend: Backend) {
    let rig = backend.start(|config: &mut Config| config.history.default = Keep::OFF);
    let mut client = rig.hello();
    let answer = subscribe(&mut client, json!({ "channel": "a", "positions": true }));
    assert_eq!((&answer["offset"], &answer["recoverable"]), (&json!(0), &json!(false)));
    publish(&rig, 1..=2);
    expect_events(&mut client, 1..=2);
    let mut late = rig.hello();
    let answer = subscribe(&mut late, json!({ "channel": "a", "positions": true }));
    assert_eq!((&answer["offset"], &answer["recoverable"]), (&json!(2), &json!(false)));
}

/// A subscriber may ask later, and stays one subscriber.
pub(crate) fn a_subscriber_may_ask_for_positions_later(backend: Backend) {
    let rig = backend.start(|_| {});
    let mut client = rig.subscriber("a");
    publish(&rig, [1]);
    let answer = subscribe(&mut client, json!({ "channel": "a", "positions": true }));
    assert_eq!(answer["offset"], 1);
    assert_eq!(rig.broadcast("a", &json!({ "n": 2 })), 1, "it is one subscriber still");
    let events: Vec<_> = client.drain().iter().map(|event| event["offset"].clone()).collect();
    assert_eq!(events, [Value::Null, json!(2)]);
}

/// A wish that cannot be read is no subscription.
pub(crate) fn a_wish_that_cannot_be_read_is_refused(backend: Backend) {
    let rig = backend.start(|_| {});
    let mut client = rig.hello();
    for wish in [
        json!({ "channel": "a", "positions": "yes" }),
        json!({ "channel": "a", "recover": true }),
        json!({ "channel": "a", "recover": { "epoch": "abcdefghij" } }),
        json!({ "channel": "a", "recover": { "epoch": "abcdefghij", "offset": -1 } }),
        json!({ "channel": "a", "rewind": "5" }),
    ] {
        let answer = client.request("subscribe", wish.clone());
        assert_eq!(answer["error_code"], "DECODE_ERROR", "{wish}");
    }
    assert_eq!(rig.broadcast("a", &json!({ "n": 1 })), 0);
}

/// A channel's numbers are forgotten in the end, and those that come then belong to another epoch.
pub(crate) fn numbers_end_with_their_epoch(backend: Backend) {
    let rig = backend.start(|config: &mut Config| {
        config.history.default.time = std::time::Duration::from_millis(20);
        config.limits.history.position_keep = std::time::Duration::from_millis(20);
    });
    let (mut client, epoch) = positioned(&rig);
    publish(&rig, 1..=2);
    expect_events(&mut client, 1..=2);
    client.close();
    let forgotten = || {
        rig.pass(std::time::Duration::from_millis(1_500));
        let (client, now) = positioned(&rig);
        client.close();
        (now != epoch).then_some(())
    };
    rig.until("another epoch", forgotten);
    // Whoever was there at last was a subscriber of the new one.
    let mut client = rig.hello();
    let wish = json!({ "channel": "a", "recover": { "epoch": epoch, "offset": 2 } });
    let answer = subscribe(&mut client, wish);
    assert_eq!((&answer["recovered"], &answer["reason"]), (&json!(false), &json!("epoch")));
}

/// Who reads too slowly is told what is missing, and where it stands behind that: it can read the missing ones.
pub(crate) fn a_gap_says_where_to_go_on(backend: Backend) {
    const ROOM: usize = 8 * 1024;
    let rig = backend.start(|config: &mut Config| {
        config.limits.delivery.outbox_bytes_max = 128 * 1024;
        config.limits.history.history_channel_bytes_max = 1 << 30;
        config.limits.history.history_bytes_max = 1 << 30;
        config.history.default = Keep { messages: 10_000, ..Keep::default() };
        config.slow_readers.default = SlowPolicy::Gap;
    });
    let mut sleeper = Raw::hello(rig.connect_narrow(ROOM));
    let wish = json!({ "type": "subscribe", "data": { "channel": "a", "positions": true } });
    sleeper.send_json(&wish);
    let epoch = sleeper.json()["data"]["epoch"].take();
    let dropped = || rig.count("mahavishnu_messages_dropped_total", &[("reason", "slow_reader")]);
    let mut last = 0;
    while dropped() < 10 {
        last += 1;
        rig.broadcast("a", &json!({ "n": last, "filler": "x".repeat(32 * 1024) }));
        assert!(last < 4_000, "a socket without end");
    }
    let (mut next, mut gap) = (1, None);
    while next <= last {
        let mut message = sleeper.json();
        if message["event"] == "channel.gap" {
            let data = message["data"].take();
            assert_eq!((&data["reason"], &data["epoch"]), (&json!("slow"), &epoch), "{data}");
            assert_eq!(data["first_offset"], next);
            assert_eq!(data["offset"], data["last_offset"], "where to go on from");
            next = data["offset"].as_u64().unwrap() + 1;
            gap = gap.or(Some(data));
        } else {
            assert_eq!((&message["offset"], &message["data"]["n"]), (&json!(next), &json!(next)));
            next += 1;
        }
    }
    let gap = gap.expect("a gap");
    let first = gap["first_offset"].as_u64().unwrap();
    let mut reader = rig.hello();
    let after = json!({ "epoch": epoch, "offset": first - 1 });
    let answer =
        reader.request("get_history", json!({ "channel": "a", "limit": 1, "after": after }));
    assert_eq!(answer["data"]["events"][0]["offset"], first, "{answer}");
}
