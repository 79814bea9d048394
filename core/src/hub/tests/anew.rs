//! Subscribers that subscribe again, with another wish.

use super::*;
use crate::config::SlowPolicy;

/// Sends several subscriptions in one breath. The answers' and events' messages, in order.
fn subscribe_at_once(rig: &mut Rig, client: &Client, wishes: &[Value]) -> Vec<Value> {
    let mut bytes = Vec::new();
    for (n, data) in wishes.iter().enumerate() {
        let request =
            json!({"type": "request", "event": "subscribe", "id": n.to_string(), "data": data});
        bytes.extend(frame(&request));
    }
    rig.bytes(client, &bytes);
    client.take()
}

fn offsets(messages: &[Value]) -> Vec<u64> {
    let events = messages.iter().filter(|message| message["event"] == "e");
    events.filter_map(|event| event["offset"].as_u64()).collect()
}

fn publish_each(rig: &mut Rig, channel: &str, count: u64) {
    for n in 0..count {
        rig.publish(0, channel, n);
        rig.run();
    }
}

#[test]
fn the_last_of_several_subscriptions_in_flight_is_the_one_that_holds() {
    for shards in [1, 2] {
        let mut rig = Rig::new(shards, Config::default());
        let channel = rig.channel_of(shards - 1);
        publish_each(&mut rig, &channel, 3);
        let client = rig.connect(0);
        let plain = json!({"channel": channel});
        let all = json!({"channel": channel, "positions": true, "rewind": 3});
        let messages = subscribe_at_once(&mut rig, &client, &[plain, all.clone(), all]);
        let rewound: Vec<_> =
            messages.iter().filter_map(|message| message["data"]["rewound"].as_u64()).collect();
        assert_eq!(rewound, [3, 3], "{shards} shards");
        assert_eq!(offsets(&messages), [1, 2, 3, 1, 2, 3], "each promise is kept");
        assert_eq!(rig.hubs[0].hub().subscriptions(client.conn), 1);
        publish_each(&mut rig, &channel, 1);
        assert_eq!(offsets(&client.take()), [4]);
        rig.hang_up(&client);
        rig.assert_empty();
    }
}

#[test]
fn who_insists_in_vain_is_no_subscriber_any_more() {
    for shards in [1, 2] {
        let mut rig = Rig::new(shards, Config::default());
        let channel = rig.channel_of(shards - 1);
        let client = rig.connect(0);
        let nothing = json!({"epoch": "0123456789", "offset": 5});
        let strict = json!({"channel": channel, "recover": nothing, "strict": true});
        let positions = json!({"channel": channel, "positions": true});
        let messages = subscribe_at_once(&mut rig, &client, &[positions, strict]);
        assert_eq!(messages[1]["error_code"], "NOT_RECOVERED", "{shards} shards");
        assert_eq!(rig.hubs[0].hub().subscriptions(client.conn), 0);
        publish_each(&mut rig, &channel, 1);
        assert!(client.take().is_empty());
    }
}

#[test]
fn who_cannot_be_told_of_a_gap_yet_is_not_flushed_without_end() {
    let mut config = unlimited();
    config.limits.delivery.outbox_bytes_max = 4_000;
    config.slow_readers.default = SlowPolicy::Gap;
    let mut rig = Rig::new(1, config);
    publish_each(&mut rig, "a", 60);
    let client = rig.connect(0);
    rig.set_room(&client, Some(0));
    let wish = json!({"channel": "a", "rewind": 60, "positions": true});
    subscribe_at_once(&mut rig, &client, &[wish]);
    // Its backlog is full: what is new is a gap, of which it is told behind what it missed.
    publish_each(&mut rig, "a", 60);
    let mut came = Vec::new();
    for _ in 0..400 {
        // The turn in which its socket takes a little ends.
        rig.set_room(&client, Some(100));
        came.extend(client.take());
    }
    rig.set_room(&client, None);
    came.extend(client.take());
    assert!(came.iter().any(|message| message["event"] == "channel.gap"), "{came:?}");
}

#[test]
fn where_all_messages_have_offsets_those_from_before_have_them_too() {
    let mut config = Config::default();
    config.compat.offsets = true;
    let mut rig = Rig::new(1, config);
    publish_each(&mut rig, "a", 3);
    let client = rig.connect(0);
    let messages = subscribe_at_once(&mut rig, &client, &[json!({"channel": "a", "rewind": 2})]);
    assert_eq!(offsets(&messages), [2, 3]);
}
