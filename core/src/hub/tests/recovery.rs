//! Clients that come back for what they missed.

use super::*;
use crate::{auth::Pattern, config::SlowPolicy, hub::connections::List};

/// The `data` of the answer to a subscription, and the events that came with it.
fn subscribe_with(rig: &mut Rig, client: &Client, data: &Value) -> (Value, Vec<Value>) {
    rig.send(client, &json!({"type": "request", "event": "subscribe", "id": "q", "data": data}));
    let mut messages = client.take();
    assert_eq!(messages[0]["correlation_id"], "q", "the answer comes before what was missed");
    let answer = messages.remove(0);
    (answer, messages)
}

fn recover(rig: &mut Rig, client: &Client, channel: &str, from: &Value) -> (Value, Vec<u64>) {
    let data = json!({"channel": channel, "recover": from});
    let (answer, events) = subscribe_with(rig, client, &data);
    (answer["data"].clone(), offsets(&events))
}

fn offsets(events: &[Value]) -> Vec<u64> {
    let events = events.iter().filter(|event| event["event"] == "e");
    events.map(|event| event["offset"].as_u64().expect("an offset")).collect()
}

/// Publishes one message each, in turns of their own.
fn publish_each(rig: &mut Rig, channel: &str, numbers: std::ops::Range<u64>) {
    for n in numbers {
        rig.publish(0, channel, n);
        rig.run();
    }
}

/// The outbox holds so little; history keeps all.
fn tight(policy: SlowPolicy) -> Config {
    let mut config = unlimited();
    config.limits.delivery.outbox_bytes_max = 4_000;
    config.slow_readers.default = policy;
    config
}

fn is_catching(rig: &Rig, client: &Client) -> bool {
    let conn = rig.hubs[client.shard].hub().connections.get(client.conn).unwrap();
    conn.subscriptions.iter().any(|held| held.member.list() == List::Catching)
}

#[test]
fn who_blinks_gets_what_it_missed_and_then_what_is_new() {
    for shards in [1, 2] {
        for home in 0..shards {
            let mut rig = Rig::new(shards, Config::default());
            let channel = rig.channel_of(home);
            let first = rig.connect(0);
            let data = json!({"channel": channel, "positions": true});
            let (answer, _) = subscribe_with(&mut rig, &first, &data);
            assert_eq!(answer["data"]["offset"], 0);
            assert_eq!(answer["data"]["recoverable"], true);
            publish_each(&mut rig, &channel, 0..3);
            let events = first.take();
            assert_eq!(offsets(&events), [1, 2, 3]);
            rig.hang_up(&first);
            publish_each(&mut rig, &channel, 3..6);

            let second = rig.connect(usize::from(shards) - 1);
            let position =
                json!({"epoch": answer["data"]["epoch"], "offset": 3, "id": events[2]["id"]});
            let (data, missed) = recover(&mut rig, &second, &channel, &position);
            publish_each(&mut rig, &channel, 6..8);

            assert_eq!((&data["recovered"], &data["missed"]), (&json!(true), &json!(3)));
            assert_eq!((&data["offset"], missed), (&json!(6), vec![4, 5, 6]));
            assert_eq!(offsets(&second.take()), [7, 8]);
        }
    }
}

#[test]
fn each_takes_the_channel_in_its_own_form() {
    let mut rig = Rig::new(2, Config::default());
    let channel = rig.channel_of(0);
    let clients: Vec<_> = (0..4).map(|n| rig.connect(n % 2)).collect();
    rig.subscribe(&clients[0], &channel);
    rig.subscribe(&clients[1], &channel);
    for client in &clients[2..] {
        subscribe_with(&mut rig, client, &json!({"channel": channel, "positions": true}));
    }
    publish_each(&mut rig, &channel, 0..1);
    let texts: Vec<_> = clients
        .iter()
        .map(|client| String::from_utf8(client.take_frames().remove(0).1).unwrap())
        .collect();
    assert!(texts[0] == texts[1] && texts[2] == texts[3]);
    assert!(texts[0].ends_with(r#""error_code":null,"error_message":null}"#), "nine fields");
    assert_eq!(texts[2], format!(r#"{},"offset":1}}"#, texts[0].strip_suffix('}').unwrap()));
}

#[test]
fn what_cannot_be_recovered_is_said_and_nothing_is_sent() {
    let mut config = Config::default();
    config.history.default.messages = 2;
    let mut rig = Rig::new(1, config);
    let client = rig.connect(0);
    publish_each(&mut rig, "a", 0..5);
    let (answer, _) =
        subscribe_with(&mut rig, &client, &json!({"channel": "a", "positions": true}));
    let epoch = &answer["data"]["epoch"];
    for (position, reason) in [
        (json!({"epoch": epoch, "offset": 2}), "trimmed"),
        (json!({"epoch": epoch, "offset": 6}), "ahead"),
        (json!({"epoch": epoch, "offset": 4, "id": "another"}), "diverged"),
        (json!({"epoch": "0123456789", "offset": 4}), "epoch"),
        (json!({"epoch": "?", "offset": 4}), "epoch"),
    ] {
        let (data, missed) = recover(&mut rig, &client, "a", &position);
        assert_eq!((&data["recovered"], &data["reason"]), (&json!(false), &json!(reason)));
        assert_eq!((&data["offset"], missed), (&json!(5), vec![]));

        let strict = json!({"channel": "a", "recover": position, "strict": true});
        let (answer, _) = subscribe_with(&mut rig, &client, &strict);
        assert_eq!(answer["error_code"], "NOT_RECOVERED");
        assert_eq!(answer["error_message"], format!("Not recovered: {reason}"));
        assert_eq!(rig.hubs[0].hub().subscriptions(client.conn), 0);
    }
    let data = json!({"channel": "a", "recover": {"epoch": epoch, "offset": 3}, "strict": true});
    let (answer, events) = subscribe_with(&mut rig, &client, &data);
    assert_eq!((&answer["data"]["missed"], offsets(&events)), (&json!(2), vec![4, 5]));
}

#[test]
fn rewind_sends_the_last_ones_first() {
    let mut config = Config::default();
    config.history.rewind = vec![(Pattern::parse("b").unwrap(), 2)];
    let mut rig = Rig::new(1, config);
    publish_each(&mut rig, "a", 0..5);
    publish_each(&mut rig, "b", 0..5);
    let client = rig.connect(0);
    let data = json!({"channel": "a", "rewind": 3, "positions": true});
    let (answer, events) = subscribe_with(&mut rig, &client, &data);
    assert_eq!((&answer["data"]["rewound"], offsets(&events)), (&json!(3), vec![3, 4, 5]));
    let old = rig.connect(0);
    let (answer, events) = subscribe_with(&mut rig, &old, &json!({"channel": "b"}));
    assert_eq!(answer["data"], json!({"status": "subscribed", "channel": "b"}));
    let numbers: Vec<_> = events.iter().map(|event| event["data"]["n"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [3, 4]);
    assert!(events.iter().all(|event| event.get("offset").is_none()));
}

#[test]
fn who_missed_much_gets_it_in_pages_and_is_no_slow_reader() {
    let mut rig = Rig::new(1, tight(SlowPolicy::Disconnect));
    publish_each(&mut rig, "a", 0..50);
    let client = rig.connect(0);
    rig.set_room(&client, Some(600));
    let data = json!({"channel": "a", "rewind": 50, "positions": true});
    rig.send(&client, &json!({"type": "request", "event": "subscribe", "id": "q", "data": data}));
    let mut came = client.take();
    assert!(is_catching(&rig, &client));
    // What is new waits behind, and so little of it that nobody would be a slow reader.
    publish_each(&mut rig, "a", 50..55);
    for _ in 0..200 {
        let queued = rig.hubs[0].hub().queued(client.conn).unwrap().0;
        assert!(queued <= 4_000 / 4 + 16 * 1024, "{queued}");
        rig.set_room(&client, Some(300));
        came.extend(client.take());
    }
    assert!(!is_catching(&rig, &client));
    publish_each(&mut rig, "a", 55..57);
    rig.set_room(&client, None);
    came.extend(client.take());
    assert_eq!(offsets(&came), (1..58).collect::<Vec<_>>());
}

#[test]
fn who_falls_behind_while_catching_up_meets_the_policy_by_what_is_new() {
    for (policy, closes) in [(SlowPolicy::Disconnect, true), (SlowPolicy::Gap, false)] {
        let mut rig = Rig::new(1, tight(policy));
        publish_each(&mut rig, "a", 0..80);
        let client = rig.connect(0);
        rig.set_room(&client, Some(0));
        let data = json!({"channel": "a", "rewind": 80, "positions": true});
        rig.send(
            &client,
            &json!({"type": "request", "event": "subscribe", "id": "q", "data": data}),
        );
        publish_each(&mut rig, "a", 80..180);
        if closes {
            assert_eq!(rig.hubs[0].hub().subscriptions(client.conn), 0);
            rig.set_room(&client, None);
            assert_eq!(client.take_close().unwrap().0, 1013);
            continue;
        }
        rig.set_room(&client, None);
        publish_each(&mut rig, "a", 180..182);
        let messages = client.take();
        let gap = messages.iter().find(|message| message["event"] == "channel.gap").unwrap();
        let (first, last) = (&gap["data"]["first_offset"], &gap["data"]["last_offset"]);
        let (first, last) = (first.as_u64().unwrap(), last.as_u64().unwrap());
        assert!(first > 81, "what it missed was sent");
        assert_eq!(gap["data"]["lost"], last - first + 1);
        assert_eq!(
            (&gap["data"]["reason"], &gap["data"]["offset"]),
            (&json!("slow"), &json!(last))
        );
        let expected: Vec<u64> = (1..first).chain(last + 1..183).collect();
        assert_eq!(offsets(&messages), expected);
        let at = messages.iter().position(|message| message["event"] == "channel.gap").unwrap();
        assert_eq!(messages[at - 1]["offset"], first - 1, "it stands where they are missing");
        // And what was lost can be fetched, in pages, as far as it is kept.
        let (mut behind, mut fetched) = ((first - 1).max(182 - 100), Vec::new());
        while behind < last {
            let after = json!({"epoch": gap["data"]["epoch"], "offset": behind});
            let data = json!({"channel": "a", "after": after, "limit": last - behind});
            let page = rig.request(&client, "get_history", &data);
            let events = page["data"]["events"].as_array().unwrap().iter();
            fetched.extend(events.map(|event| event["offset"].as_u64().unwrap()));
            behind = *fetched.last().unwrap();
        }
        assert_eq!(fetched, (first.max(83)..last + 1).collect::<Vec<_>>());
    }
}

#[test]
fn who_leaves_while_catching_up_is_sent_what_its_outbox_holds() {
    for close in [false, true] {
        let config = tight(SlowPolicy::Disconnect);
        let max = config.limits.delivery.outbox_bytes_max;
        let mut rig = Rig::new(1, config);
        publish_each(&mut rig, "a", 0..60);
        let client = rig.connect(0);
        rig.set_room(&client, Some(0));
        let data = json!({"channel": "a", "rewind": 60, "positions": true});
        rig.send(
            &client,
            &json!({"type": "request", "event": "subscribe", "id": "q", "data": data}),
        );
        publish_each(&mut rig, "a", 60..62);
        if close {
            let plan = DrainPlan::default();
            rig.hubs[0].handle_command(rig.now, Command::Drain(plan));
            rig.run();
        } else {
            let leave = json!({"channel": "a"});
            rig.send(&client, &json!({"type": "request", "event": "unsubscribe", "data": leave}));
        }
        publish_each(&mut rig, "a", 62..64);
        let conn = rig.hubs[0].hub().connections.get(client.conn).unwrap();
        let held = conn.ws.outbox().bytes();
        // Answers are no broadcasts.
        assert!(held > max / 2 && held <= max + 512, "closed: {close}: {held} of {max} bytes");
        rig.set_room(&client, None);
        let offsets = offsets(&client.take());
        assert!(offsets.len() > 5, "closed: {close}: {offsets:?}");
        assert!(
            offsets.iter().copied().eq(1..=offsets.len() as u64),
            "closed: {close}: {offsets:?}"
        );
    }
}

#[test]
fn when_all_outboxes_are_full_what_was_missed_is_dropped_and_told() {
    let mut config = tight(SlowPolicy::Gap);
    config.limits.delivery.queued_bytes_max = 5_000;
    let mut rig = Rig::new(1, config);
    publish_each(&mut rig, "a", 0..90);
    let client = rig.connect(0);
    rig.set_room(&client, Some(0));
    let data = json!({"channel": "a", "rewind": 90, "positions": true});
    rig.send(&client, &json!({"type": "request", "event": "subscribe", "id": "q", "data": data}));
    publish_each(&mut rig, "a", 90..92);
    assert!(!is_catching(&rig, &client));
    rig.set_room(&client, None);
    publish_each(&mut rig, "a", 92..93);
    let messages = client.take();
    let gaps = messages.iter().filter(|message| message["event"] == "channel.gap");
    let lost = gaps.flat_map(|gap| {
        let [first, last] =
            ["first_offset", "last_offset"].map(|k| gap["data"][k].as_u64().unwrap());
        first..last + 1
    });
    let mut all: Vec<_> = lost.chain(offsets(&messages)).collect();
    assert!(all.len() > offsets(&messages).len(), "{messages:?}");
    all.sort_unstable();
    assert_eq!(all, (1..94).collect::<Vec<_>>());
}

#[test]
fn a_thousand_who_come_back_at_once_read_the_log_once() {
    let mut rig = Rig::new(2, unlimited());
    let channel = rig.channel_of(0);
    publish_each(&mut rig, &channel, 0..50);
    let first = rig.connect(0);
    let (answer, _) =
        subscribe_with(&mut rig, &first, &json!({"channel": channel, "positions": true}));
    let clients: Vec<_> = (0..1_000).map(|n| rig.connect(n % 2)).collect();
    let recover = json!({"epoch": answer["data"]["epoch"], "offset": 30});
    let data = json!({"channel": channel, "recover": recover});
    let ask = frame(&json!({"type": "request", "event": "subscribe", "id": "q", "data": data}));
    // All in one turn.
    for client in &clients {
        rig.hubs[client.shard].handle_bytes(rig.now, client.conn, &mut ask.clone());
    }
    rig.run();
    for client in &clients {
        let messages = client.take();
        assert_eq!(messages[0]["data"]["missed"], 20);
        assert_eq!(offsets(&messages), (31..51).collect::<Vec<_>>());
    }
}

#[test]
fn history_needs_the_permission_to_subscribe_and_a_channel() {
    let mut rig = Rig::alone();
    let client = rig.connect(0);
    for (data, code) in [
        (json!({}), "UNKNOWN_REQUEST"),
        (json!({"channel": ""}), "INVALID_CHANNEL"),
        (json!({"channel": "a", "limit": "x"}), "DECODE_ERROR"),
        (json!({"channel": "a", "after": {"epoch": "0123456789", "offset": 1}}), "NOT_RECOVERED"),
    ] {
        let answer = rig.request(&client, "get_history", &data);
        assert_eq!(answer["error_code"], code, "{data}");
    }
    let answer = rig.request(&client, "get_history", &json!({"channel": "quiet"}));
    assert_eq!(answer["data"]["events"], json!([]));
    assert_eq!((&answer["data"]["offset"], &answer["data"]["more"]), (&json!(0), &json!(false)));
    // That position is one to start from.
    publish_each(&mut rig, "quiet", 0..2);
    let from = json!({"epoch": answer["data"]["epoch"], "offset": 0});
    assert_eq!(recover(&mut rig, &client, "quiet", &from).1, [1, 2]);
}

#[test]
fn an_application_that_has_a_history_of_its_own_is_asked() {
    let mut config = Config::default();
    config.hooks.requests = ["get_history".into()].into();
    let mut rig = Rig::new(1, config);
    let client = rig.connect(0);
    rig.send(&client, &json!({"type": "request", "event": "get_history", "id": "q"}));
    assert!(rig.outputs.iter().any(|output| matches!(output, Output::Request { .. })));
}

#[test]
fn a_snapshot_and_a_stream_without_a_gap() {
    let mut rig = Rig::new(2, Config::default());
    let channel = rig.channel_of(1);
    let client = rig.connect(0);
    let page = rig.request(&client, "get_history", &json!({"channel": channel, "limit": 0}));
    publish_each(&mut rig, &channel, 0..3);
    let from = json!({"epoch": page["data"]["epoch"], "offset": page["data"]["offset"]});
    let (data, missed) = recover(&mut rig, &client, &channel, &from);
    assert_eq!((&data["missed"], missed), (&json!(3), vec![1, 2, 3]));
}
