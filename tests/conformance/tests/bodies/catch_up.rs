//! Being sent what was missed while more is published, and what may happen in the middle of it.

use mahavishnu_conformance::{Backend, Frame, Raw, Rig, Setup, op, token};
use mahavishnu_core::{
    config::{Config, Keep, SlowPolicy},
    hub::DrainPlan,
};
use serde_json::json;

use super::{
    positions::{expect_events, publish, subscribe},
    recovery::{epoch_of, keeping, recover, recovered},
};

/// More than an outbox holds, to one who reads slowly, while more is published: all of it comes, in order, and whoever
/// recovers is no slow reader by it.
pub(crate) fn much_is_recovered_in_pages_while_more_is_published(backend: Backend) {
    for shards in [1, 2] {
        let keep = keeping(10_000);
        let setup = Setup::new(|config| {
            keep(config);
            config.limits.delivery.outbox_bytes_max = 128 * 1024;
            config.limits.history.recover_messages_max = 10_000;
        });
        let rig = backend.start_with(Setup { shards, ..setup });
        let large = |n: u64| json!({ "n": n, "filler": "x".repeat(4 * 1024) });
        (1..=300).for_each(|n| _ = rig.broadcast("a", &large(n)));
        let epoch = epoch_of(&rig);

        let mut client = Raw::hello(rig.connect_narrow(8 * 1024));
        client.send_json(&json!({
            "type": "subscribe",
            "data": { "channel": "a", "recover": { "epoch": epoch, "offset": 0 } },
        }));
        assert_eq!(client.json()["data"]["missed"], 300);
        // Less than an outbox, all of it published before the client has read any of what it missed.
        (301..=320).for_each(|n| assert_eq!(rig.broadcast("a", &large(n)), 1));
        for n in 1..=320 {
            let event = client.json();
            assert_eq!((&event["offset"], &event["data"]["n"]), (&json!(n), &json!(n)));
        }
        // It is a subscriber like others from then on.
        rig.broadcast("a", &large(321));
        assert_eq!(client.json()["offset"], 321);
    }
}

pub(crate) fn leaving_in_the_middle_ends_it(backend: Backend) {
    let keep = keeping(10_000);
    let rig = backend.start(|config| {
        keep(config);
        config.limits.delivery.outbox_bytes_max = 64 * 1024;
    });
    (1..=200).for_each(|n| {
        rig.broadcast("a", &json!({ "n": n, "filler": "x".repeat(4 * 1024) }));
    });
    let epoch = epoch_of(&rig);
    let mut client = rig.hello();
    let wish = json!({ "channel": "a", "recover": { "epoch": epoch, "offset": 0 } });
    client.ask("subscribe", wish);
    let left = client.ask("unsubscribe", json!({ "channel": "a" }));
    client.answer_to(&left);
    // What was promised has come before, in order.
    let events = client.drain();
    let offsets = events.iter().filter(|event| event["type"] == "event");
    let offsets: Vec<_> = offsets.map(|event| event["offset"].as_u64().unwrap()).collect();
    assert!(offsets.iter().copied().eq(1..=offsets.len() as u64), "{offsets:?}");
    assert_eq!(rig.broadcast("a", &json!({ "n": 201 })), 0);
    client.expect_silence();
}

/// Each of several channels is complete and in order, whatever they have to share.
pub(crate) fn several_channels_recover_at_once(backend: Backend) {
    let rig = backend.start(tight);
    let names = ["a", "b", "c"];
    let large = |n: u64| json!({ "n": n, "filler": "x".repeat(4 * 1024) });
    let each = |n: u64, reached: u32| {
        names.iter().for_each(|name| assert_eq!(rig.broadcast(name, &large(n)), reached));
    };
    (1..=100).for_each(|n| each(n, 0));
    let mut looker = rig.hello();
    let mut client = Raw::hello(rig.connect_narrow(8 * 1024));
    for name in names {
        let epoch =
            subscribe(&mut looker, json!({ "channel": name, "positions": true }))["epoch"].take();
        let recover = json!({ "epoch": epoch, "offset": 10 });
        client.send_json(
            &json!({ "type": "subscribe", "id": name, "data": { "channel": name, "recover": recover } }),
        );
    }
    looker.close();
    rig.expect_count("mahavishnu_subscriptions", &[], 3);
    (101..=110).for_each(|n| each(n, 1));
    let mut next = std::collections::BTreeMap::from(names.map(|name| (name, 11)));
    while next.values().any(|next| *next <= 110) {
        let message = client.json();
        if message["type"] == "response" {
            assert_eq!(message["data"]["missed"], 90, "{message}");
            continue;
        }
        let next = next.get_mut(message["room"].as_str().unwrap()).unwrap();
        assert_eq!((&message["offset"], &message["data"]["n"]), (&json!(*next), &json!(*next)));
        *next += 1;
    }
}

/// A small outbox, and everything is kept.
fn tight(config: &mut Config) {
    keeping(10_000)(config);
    config.limits.delivery.outbox_bytes_max = 128 * 1024;
    config.limits.history.recover_messages_max = 10_000;
}

/// Who is in the middle of 200 events of `channel`, and has read the first of them.
fn in_the_middle(rig: &Rig, channel: &str, token: Option<&str>) -> Raw {
    (1..=200).for_each(|n| {
        rig.broadcast(channel, &json!({ "n": n, "filler": "x".repeat(4 * 1024) }));
    });
    let mut client = Raw::upgrade(rig.connect_narrow(8 * 1024));
    if let Some(token) = token {
        let data = json!({ "token": token });
        client.send_json(&json!({ "type": "request", "event": "auth", "data": data }));
        client.json();
    }
    client.json();
    client.send_json(&json!({
        "type": "subscribe", "data": { "channel": channel, "positions": true, "rewind": 200 },
    }));
    assert_eq!(client.json()["data"]["rewound"], 200);
    assert_eq!(client.json()["offset"], 1);
    client
}

/// The events that come are the next ones, in order. What comes behind them.
fn behind_the_next_events(client: &mut Raw) -> (u64, Frame) {
    let mut last = 1;
    loop {
        let frame = client.frame().expect("something comes behind them");
        if frame.first == op::TEXT && frame.json()["offset"] == last + 1 {
            last += 1;
        } else {
            return (last, frame);
        }
    }
}

/// A subscription that is taken back in the middle: what comes is without a hole, then one is told, then nothing comes.
pub(crate) fn what_is_withdrawn_in_the_middle_ends_without_a_hole(backend: Backend) {
    let rig = backend.start(|config: &mut Config| {
        tight(config);
        token::demand(config);
    });
    let token = |permissions: &[&str]| token::good(rig.unix(), "ada", permissions);
    let mut client = in_the_middle(&rig, "pool:1", Some(&token(&["pool:read"])));
    let data = json!({ "token": token(&["workflow:read"]) });
    client.send_json(&json!({ "type": "request", "event": "refresh_token", "data": data }));
    let (last, mut frame) = behind_the_next_events(&mut client);
    let mut events = vec![last];
    while frame.json()["event"] != "channel.withdrawn" {
        // The answer to the refresh stands somewhere between.
        let message = frame.json();
        if message["type"] == "event" {
            events.push(message["offset"].as_u64().unwrap());
        } else {
            assert_eq!(message["event"], "refresh_token");
        }
        frame = client.frame().expect("it is told");
    }
    assert!(events.windows(2).all(|pair| pair[1] == pair[0] + 1), "{events:?}");
    assert_eq!(rig.broadcast("pool:1", &json!({ "n": 201 })), 0);
    client.send_json(&json!({ "type": "ping" }));
    assert_eq!(client.json()["type"], "pong", "nothing comes behind it");
}

/// A server that stops in the middle: what comes is without a hole, so that its last offset is one to go on from.
pub(crate) fn a_drain_in_the_middle_leaves_no_hole(backend: Backend) {
    let rig = backend.start(tight);
    let mut client = in_the_middle(&rig, "a", None);
    rig.drain(DrainPlan::default());
    let (last, frame) = behind_the_next_events(&mut client);
    assert_eq!(frame.first, op::CLOSE, "behind {last} events");
    assert_eq!(frame.close().0, 1001);
}

/// What was promised is kept, although nothing will be any more.
pub(crate) fn a_reload_in_the_middle_takes_nothing_back(backend: Backend) {
    let rig = backend.start(tight);
    let mut client = in_the_middle(&rig, "a", None);
    let mut config = mahavishnu_conformance::base();
    tight(&mut config);
    config.history.default = Keep::OFF;
    rig.reload(config);
    rig.broadcast("a", &json!({ "n": 201 }));
    for offset in 2..=201 {
        assert_eq!(client.json()["offset"], offset);
    }
    let mut late = rig.hello();
    let answer = subscribe(&mut late, json!({ "channel": "a", "positions": true }));
    assert_eq!((&answer["offset"], &answer["recoverable"]), (&json!(201), &json!(false)));
}

pub(crate) fn who_is_gone_in_the_middle_leaves_nothing(backend: Backend) {
    let keep = keeping(10_000);
    let rig = backend.start(|config| {
        keep(config);
        config.limits.delivery.outbox_bytes_max = 128 * 1024;
    });
    (1..=200).for_each(|n| {
        rig.broadcast("a", &json!({ "n": n, "filler": "x".repeat(4 * 1024) }));
    });
    let epoch = epoch_of(&rig);
    let mut client = Raw::hello(rig.connect_narrow(8 * 1024));
    client.send_json(&json!({
        "type": "subscribe",
        "data": { "channel": "a", "recover": { "epoch": epoch, "offset": 0 } },
    }));
    assert_eq!(client.json()["data"]["missed"], 200);
    assert_eq!(client.json()["offset"], 1);
    client.reset();
    rig.expect_sockets(0);
    rig.expect_count("mahavishnu_subscriptions", &[], 0);
    assert_eq!(rig.broadcast("a", &json!({ "n": 201 })), 0);
}

/// Many who come back at once each get what they missed, whatever shard they are on.
pub(crate) fn many_come_back_at_once(backend: Backend) {
    for shards in [1, 2] {
        let rig = backend.start_with(Setup { shards, ..Setup::new(|_| {}) });
        publish(&rig, 1..=20);
        let epoch = epoch_of(&rig);
        let mut clients: Vec<_> = (0..40).map(|_| rig.hello()).collect();
        let asked = clients.iter_mut().zip((0..=20).cycle()).map(|(client, offset)| {
            let recover = json!({ "epoch": epoch, "offset": offset });
            client.ask("subscribe", json!({ "channel": "a", "recover": recover }))
        });
        let asked: Vec<_> = asked.collect();
        for ((client, id), offset) in clients.iter_mut().zip(asked).zip((0..=20).cycle()) {
            assert_eq!(client.answer_to(&id)["data"], recovered(&epoch, 20, 20 - offset));
            expect_events(client, offset + 1..=20);
        }
        assert_eq!(rig.broadcast("a", &json!({ "n": 21 })), 40);
        clients.iter_mut().for_each(|client| expect_events(client, [21]));
    }
}

/// A slow reader is closed, as ever, and misses nothing: it comes back and says where it was.
pub(crate) fn a_slow_reader_comes_back_and_has_missed_nothing(backend: Backend) {
    let keep = keeping(10_000);
    let rig = backend.start(|config| {
        keep(config);
        config.limits.delivery.outbox_bytes_max = 128 * 1024;
        config.limits.history.recover_messages_max = 10_000;
        config.slow_readers.default = SlowPolicy::Disconnect;
    });
    let mut sleeper = Raw::hello(rig.connect_narrow(8 * 1024));
    sleeper
        .send_json(&json!({ "type": "subscribe", "data": { "channel": "a", "positions": true } }));
    let epoch = sleeper.json()["data"]["epoch"].take();
    let large = |n: u64| json!({ "n": n, "filler": "x".repeat(32 * 1024) });
    let mut last = 1;
    while rig.broadcast("a", &large(last)) == 1 {
        last += 1;
        assert!(last < 4_000, "a socket without end");
    }
    let mut had = 0;
    while let Some(frame) = sleeper.frame().filter(|frame| frame.first == op::TEXT) {
        had += 1;
        assert_eq!(frame.json()["offset"], had);
    }
    assert!(had < last, "something is missing");
    let mut client = rig.hello();
    assert_eq!(recover(&mut client, &epoch, had), recovered(&epoch, last, last - had));
    expect_events(&mut client, had + 1..=last);
}
