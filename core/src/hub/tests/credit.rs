//! Hubs of which one gets no turn for a while.

use super::{shards::post, *};
use crate::hub::visitors::Who;

/// Hubs that may have a thousand bytes under way to each other.
fn tight() -> Config {
    let mut config = unlimited();
    config.limits.shards.shard_queue_bytes_max = 1_000;
    config
}

/// Publishes to `channel` over `publisher` until it is refused; how many it took.
fn publish_until_busy(rig: &mut Rig, publisher: &Client, channel: &str) -> u64 {
    for n in 0..1_000 {
        let data = json!({"channel": channel, "event": "e", "data": {"n": n}});
        let answer = rig.request(publisher, "publish", &data);
        if answer["type"] == "error" {
            assert_eq!(answer["error_code"], "SERVER_ERROR");
            assert_eq!(answer["error_message"], "Server busy");
            return n;
        }
    }
    panic!("never busy");
}

#[test]
fn publishers_see_a_hub_that_takes_nothing_in() {
    let mut rig = Rig::new(2, tight());
    let channel = rig.channel_of(0);
    let (publisher, subscriber) = (rig.connect(0), rig.connect(1));
    rig.subscribe(&subscriber, &channel);
    rig.stalled = Some(1);

    let taken = publish_until_busy(&mut rig, &publisher, &channel);

    assert!(taken > 1 && rig.held_bytes() < 1_000 + 500, "{taken}, {}", rig.held_bytes());
    assert!(rig.hubs[0].hub().credit(ShardId(1)).0 >= 1_000);
    rig.stalled = None;
    rig.run();
    assert_eq!(subscriber.take_numbers(), (0..taken).collect::<Vec<_>>());
    assert!(takes(&mut rig, &publisher, &channel, 100), "busy for ever");
    assert_eq!(subscriber.take_numbers().len(), 100);
}

/// Whether `count` publishes are taken.
fn takes(rig: &mut Rig, publisher: &Client, channel: &str, count: u64) -> bool {
    (0..count).all(|n| {
        let data = json!({"channel": channel, "event": "e", "data": {"n": n}});
        rig.request(publisher, "publish", &data)["type"] != "error"
    })
}

#[test]
fn a_home_refuses_for_hubs_that_only_it_knows_of() {
    let mut rig = Rig::new(3, tight());
    let channel = rig.channel_of(0);
    let (publisher, subscriber) = (rig.connect(2), rig.connect(1));
    rig.subscribe(&subscriber, &channel);
    rig.stalled = Some(1);

    let taken = publish_until_busy(&mut rig, &publisher, &channel);

    assert!(taken > 1);
    assert!(!rig.hubs[2].hub().peers.is_full(ShardId(0)), "the home itself has room");
    assert_eq!(rig.hubs[2].hub().holdings().publishes, 0, "a refused publish waits no more");
    rig.stalled = None;
    rig.run();
    assert_eq!(subscriber.take_numbers(), (0..taken).collect::<Vec<_>>());
}

#[test]
fn other_channels_do_not_suffer_from_a_stalled_hub() {
    let mut rig = Rig::new(3, tight());
    let (slow, quick) = (rig.channel_of(0), "c".to_owned() + &rig.channel_of(0));
    let (publisher, far, near) = (rig.connect(0), rig.connect(1), rig.connect(2));
    rig.subscribe(&far, &slow);
    rig.subscribe(&near, &quick);
    rig.stalled = Some(1);
    publish_until_busy(&mut rig, &publisher, &slow);

    assert!(takes(&mut rig, &publisher, &quick, 3));

    assert_eq!(near.take_numbers(), [0, 1, 2]);
}

#[test]
fn a_home_that_takes_nothing_in_makes_publishers_busy() {
    let mut rig = Rig::new(2, tight());
    let channel = rig.channel_of(1);
    rig.stalled = Some(1);

    // Commands without an id hold credit like all others.
    (0..1_000).for_each(|n| rig.publish(0, &channel, n));
    rig.run();

    assert!(rig.held_bytes() < 1_000 + 500, "{}", rig.held_bytes());
    assert!(rig.hubs[0].hub().holdings().publishes < 20);
    rig.stalled = None;
    rig.run();
    assert_eq!(rig.hubs[0].hub().holdings().publishes, 0);
}

#[test]
fn several_messages_reach_somebody_all_or_none_and_are_answered_when_there_is_room() {
    let mut rig = Rig::new(3, tight());
    let (a, b) = (rig.channel_of(0), rig.channel_of(2));
    let subscriber = rig.connect(1);
    rig.subscribe(&subscriber, &a);
    rig.subscribe(&subscriber, &b);
    let publisher = rig.connect(0);
    rig.stalled = Some(1);
    let taken = publish_until_busy(&mut rig, &publisher, &a);
    let client = rig.socket(2);
    let message = |channel| json!({"channel": channel, "event": "e", "data": {"n": 77}});

    // At home in the hub that is asked, the one is let in; the other's home would refuse it if it could.
    rig.bytes(&client, &post(&json!([message(&a), message(&b)]).to_string()));

    assert_eq!(client.take_text(), "", "not answered while the third hub takes nothing in");
    assert_eq!(rig.hubs[0].hub().holdings().withheld, 1);
    rig.stalled = None;
    rig.run();
    assert!(client.take_text().contains("\"published\":2"));
    let numbers = subscriber.take_numbers();
    assert_eq!(numbers.iter().filter(|n| **n == 77).count(), 2);
    assert_eq!(numbers.len() as u64, taken + 2);
    assert_eq!(rig.hubs[0].hub().holdings().withheld, 0);
}

#[test]
fn an_idempotency_key_is_free_after_busy() {
    let mut rig = Rig::new(2, tight());
    let channel = rig.channel_of(0);
    let (publisher, subscriber) = (rig.connect(0), rig.connect(1));
    rig.subscribe(&subscriber, &channel);
    let key =
        (0..).map(|n| format!("k{n}")).find(|key| rig.hubs[0].hub().homes.of(key) == ShardId(0));
    let body = json!({"channel": channel, "event": "e", "data": {"n": 7}, "idempotency_key": key});
    rig.stalled = Some(1);
    publish_until_busy(&mut rig, &publisher, &channel);
    let client = rig.socket(0);
    rig.bytes(&client, &post(&body.to_string()));
    assert!(client.take_head().starts_with("HTTP/1.1 503 "));
    client.take_text();
    rig.stalled = None;
    rig.run();

    rig.bytes(&client, &post(&body.to_string()));

    assert!(client.take_head().starts_with("HTTP/1.1 200 "));
    assert_eq!(subscriber.take_numbers().last(), Some(&7));
}

#[test]
fn credit_comes_back_even_if_nobody_is_left_to_be_flushed() {
    let mut rig = Rig::new(2, tight());
    let channel = rig.channel_of(0);
    let (publisher, subscriber) = (rig.connect(0), rig.connect(1));
    rig.subscribe(&subscriber, &channel);
    rig.stalled = Some(1);
    publish_until_busy(&mut rig, &publisher, &channel);
    // The rounds come to a hub that has no subscriber any more.
    rig.hubs[1].handle_io_error(rig.now, subscriber.conn, io::ErrorKind::ConnectionReset);

    rig.stalled = None;
    rig.run();

    let (under_way, _) = rig.hubs[0].hub().credit(ShardId(1));
    let (_, owed) = rig.hubs[1].hub().credit(ShardId(0));
    assert_eq!(under_way, owed, "all that was sent is done with");
    assert!(under_way < 250, "{under_way}");
}

#[test]
fn subscriptions_that_a_stalled_hub_does_not_confirm_are_limited() {
    let mut config = tight();
    config.limits.channels.channels_per_connection_max = 5;
    let mut rig = Rig::new(2, config);
    let channel = rig.channel_of(1);
    let client = rig.connect(0);
    rig.stalled = Some(1);
    let message =
        |event| frame(&json!({"type": "request", "event": event, "data": {"channel": channel}}));
    let flood: Vec<u8> =
        (0..50).flat_map(|_| [message("subscribe"), message("unsubscribe")].concat()).collect();

    rig.bytes(&client, &flood);

    let answers = client.take();
    let refused =
        answers.iter().filter(|answer| answer["error_code"] == "RATE_LIMIT_EXCEEDED").count();
    assert_eq!((answers.len(), refused), (100, 45));
    assert!(rig.held_bytes() < 2_000, "{}", rig.held_bytes());
    rig.stalled = None;
    rig.run();
    rig.subscribe(&client, &channel);
}

#[test]
fn connections_that_come_and_go_do_not_pile_up_before_a_stalled_hub() {
    let mut config = tight();
    config.limits.connections.connections_per_address_max = Some(1_000_000);
    config.limits.connections.connects_limit_loopback = true;
    let mut rig = Rig::new(2, config);
    let home = rig.hubs[0].hub().homes.placement().home_of(Who::Everyone);
    let (stalled, other) = (usize::from(home.0), 1 - usize::from(home.0));
    rig.stalled = Some(stalled);

    let closes: Vec<_> = (0..100)
        .map(|_| {
            let client = rig.connect_with(other, "");
            rig.hang_up(&client);
            client.take_close()
        })
        .collect();

    assert!(rig.held_bytes() < 2_000, "{}", rig.held_bytes());
    assert_eq!(closes.last(), Some(&Some((1013, "Server busy".into()))));
    rig.stalled = None;
    rig.run();
    rig.connect(other);
}
