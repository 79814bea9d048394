//! From publish to subscriber.

use super::*;

#[test]
fn what_one_publishes_the_others_get() {
    let mut rig = Rig::alone();
    let (publisher, a, b) = (rig.connect(0), rig.connect(0), rig.connect(0));
    rig.subscribe(&a, "workflow:1");
    rig.subscribe(&b, "workflow:1");
    let data = json!({"channel": "workflow:1", "event": "workflow.started", "data": {"n": 5}});

    let answer = rig.request(&publisher, "publish", &data);

    assert_eq!(
        answer["data"],
        json!({"status": "published", "channel": "workflow:1", "subscribers": 2})
    );
    for client in [a, b] {
        let [event] = client.take().try_into().unwrap();
        assert_eq!(event["type"], "event");
        assert_eq!(event["event"], "workflow.started");
        assert_eq!(event["room"], "workflow:1");
        assert_eq!(event["data"], json!({"n": 5}));
    }
}

/// Who is written to in the turn after a publish, in order: the publisher is `None`.
fn order_of_writes(subscribers: usize) -> Vec<Option<usize>> {
    let mut rig = Rig::alone();
    let publisher = rig.connect(0);
    let clients: Vec<Client> = (0..subscribers).map(|_| rig.connect(0)).collect();
    clients.iter().for_each(|client| rig.subscribe(client, "a"));
    let data = json!({"channel": "a", "event": "e", "data": {}});
    let publish = json!({"type": "request", "event": "publish", "id": "q", "data": data});
    let (hub, now) = (&mut rig.hubs[0], rig.now);
    hub.handle_bytes(now, publisher.conn, &mut frame(&publish));
    while hub.poll_output(now).is_some() {}
    std::iter::from_fn(|| hub.poll_dirty())
        .map(|conn| clients.iter().position(|client| client.conn == conn))
        .collect()
}

#[test]
fn a_driver_is_told_when_many_are_to_be_written_to() {
    let mut rig = Rig::alone();
    let clients: Vec<Client> = (0..128).map(|_| rig.connect(0)).collect();
    clients.iter().for_each(|client| rig.subscribe(client, "many"));
    rig.subscribe(&clients[0], "few");

    rig.publish(0, "few", 1);
    assert!(!rig.hubs[0].hub().gathers());
    rig.publish(0, "many", 1);
    assert!(rig.hubs[0].hub().gathers());
    rig.run();

    assert!(!rig.hubs[0].hub().gathers());
}

#[test]
fn a_few_subscribers_come_before_the_publishers_answer() {
    assert_eq!(order_of_writes(1), [Some(0), None]);
    assert_eq!(order_of_writes(3), [Some(0), Some(1), Some(2), None]);
}

#[test]
fn many_subscribers_do_not_keep_the_publisher_waiting() {
    let order = order_of_writes(100);
    assert_eq!((order.len(), order[0]), (101, None));
}

#[test]
fn a_turn_is_one_write_for_each_subscriber() {
    let mut rig = Rig::alone();
    let client = rig.connect(0);
    rig.subscribe(&client, "a");
    rig.subscribe(&client, "b");
    let before = client.writes();
    for n in 0..50 {
        rig.publish(0, if n % 2 == 0 { "a" } else { "b" }, n);
    }

    rig.run();

    let mut numbers = client.take_numbers();
    // Order holds within a channel.
    assert!(numbers.iter().filter(|n| **n % 2 == 0).is_sorted());
    numbers.sort_unstable();
    assert_eq!(numbers, (0..50).collect::<Vec<_>>());
    // `Sink` takes the first slice of each vectored write: one for each channel's segment.
    assert_eq!(client.writes() - before, 2);
}

/// Broadcasts one message of `bytes` bytes.
fn publish_large(rig: &mut Rig, channel: &str, n: u64, bytes: usize) {
    let data = json!({"n": n, "padding": "x".repeat(bytes)}).to_string();
    let publication = Publication::new(channel, "e", data);
    rig.hubs[0].handle_command(rig.now, Command::Publish { id: None, publication });
}

#[test]
fn a_small_message_is_not_held_behind_large_ones_of_another_channel() {
    let mut rig = Rig::alone();
    let large: Vec<_> = (0..5).map(|_| rig.connect(0)).collect();
    large.iter().for_each(|client| rig.subscribe(client, "large"));
    let small = rig.connect(0);
    rig.subscribe(&small, "small");
    (0..3).for_each(|n| publish_large(&mut rig, "large", n, 200_000));
    rig.publish(0, "small", 7);

    while rig.hubs[0].poll_output(rig.now).is_some() {}
    let first = rig.hubs[0].poll_dirty();

    assert_eq!(first, Some(small.conn), "written before anybody gets the large ones");
}

#[test]
fn small_messages_keep_their_place_behind_large_ones_of_their_channel() {
    let mut rig = Rig::alone();
    let client = rig.connect(0);
    rig.subscribe(&client, "a");
    rig.subscribe(&client, "b");
    for n in 0..12 {
        let bytes = if n % 3 == 1 { 100_000 } else { 10 };
        publish_large(&mut rig, "a", n, bytes);
        rig.publish(0, "b", 100 + n);
    }

    rig.run();

    let (a, b): (Vec<u64>, Vec<u64>) = client.take_numbers().iter().partition(|n| **n < 100);
    assert_eq!(a, (0..12).collect::<Vec<_>>());
    assert_eq!(b, (100..112).collect::<Vec<_>>());
}

#[test]
fn what_one_turn_hands_out_between_two_flushes_is_bounded() {
    let mut rig = Rig::alone();
    let client = rig.connect(0);
    rig.subscribe(&client, "a");
    let limits = rig.hubs[0].hub().config().limits.clone();
    // Twice what an outbox holds: nobody who reads is a slow reader because of that.
    let count = 2 * limits.delivery.outbox_bytes_max as u64 / 10_000;
    (0..count).for_each(|n| publish_large(&mut rig, "a", n, 10_000));

    let mut most = 0;
    while rig.hubs[0].poll_output(rig.now).is_some() {}
    while let Some(conn) = rig.hubs[0].poll_dirty() {
        most = most.max(rig.hubs[0].hub().queued(conn).unwrap().0);
        let _ = rig.hubs[0].flush(rig.now, conn, &mut Sink(client.wire.clone()));
    }

    assert!(
        most <= limits.delivery.outbox_bytes_max / 4 + limits.delivery.round_bytes_max,
        "{most}"
    );
    assert_eq!(client.take_numbers().len() as u64, count);
}

#[test]
fn a_round_is_handed_out_when_it_is_full() {
    let mut config = Config::default();
    config.limits.delivery.round_bytes_max = 1000;
    let mut rig = Rig::new(1, config);
    let client = rig.connect(0);
    rig.subscribe(&client, "a");
    for n in 0..20 {
        rig.publish(0, "a", n);
    }

    rig.run();

    assert_eq!(client.take_numbers(), (0..20).collect::<Vec<_>>());
}

#[test]
fn membership_begins_and_ends_in_the_middle_of_a_turn() {
    let mut rig = Rig::alone();
    let (early, late) = (rig.connect(0), rig.connect(0));
    rig.subscribe(&early, "a");
    let subscribe =
        |event| frame(&json!({"type": "request", "event": event, "data": {"channel": "a"}}));

    rig.publish(0, "a", 1);
    rig.hubs[0].handle_bytes(rig.now, late.conn, &mut subscribe("subscribe"));
    rig.publish(0, "a", 2);
    rig.hubs[0].handle_bytes(rig.now, early.conn, &mut subscribe("unsubscribe"));
    rig.publish(0, "a", 3);
    rig.run();

    assert_eq!(early.take_numbers(), [1, 2]);
    assert_eq!(late.take_numbers(), [2, 3]);
}

#[test]
fn leaving_a_channel_never_joined_is_confirmed() {
    let mut rig = Rig::alone();
    let client = rig.connect(0);
    let answer = rig.request(&client, "unsubscribe", &json!({"channel": "a"}));
    assert_eq!(answer["data"], json!({"status": "unsubscribed", "channel": "a"}));
}

#[test]
fn subscribing_twice_is_one_subscription() {
    let mut rig = Rig::alone();
    let client = rig.connect(0);
    rig.subscribe(&client, "a");
    rig.subscribe(&client, "a");
    rig.publish(0, "a", 1);
    rig.run();
    assert_eq!(client.take_numbers(), [1]);
}

#[test]
fn the_same_inputs_give_the_same_bytes() {
    let story = || {
        let mut rig = Rig::alone();
        let now = rig.now;
        let (a, b) = (rig.connect(0), rig.connect(0));
        for client in [&a, &b] {
            rig.subscribe(client, "a");
        }
        for n in 0..10 {
            rig.publish(0, "a", n);
            rig.send(&b, &json!({"type": "ping", "id": n.to_string()}));
        }
        assert_eq!(rig.now, now);
        [a.peek(), b.peek()]
    };
    assert_eq!(story(), story());
}

#[test]
fn offsets_are_told_when_switched_on() {
    let mut config = Config::default();
    config.compat.offsets = true;
    let mut rig = Rig::new(1, config);
    let client = rig.connect(0);
    rig.subscribe(&client, "a");
    rig.publish(0, "a", 10);
    rig.publish(0, "a", 11);
    rig.run();
    let offsets: Vec<_> =
        client.take().iter().map(|message| message["offset"].as_u64().unwrap()).collect();
    assert_eq!(offsets, [1, 2]);
}

#[test]
fn every_byte_written_is_counted() {
    let mut rig = Rig::alone();
    let client = rig.connect(0);
    let hub = &mut rig.hubs[0];
    let before = hub.tally().sent_bytes;
    // A pong is no data, and bytes all the same.
    hub.handle_bytes(rig.now, client.conn, &mut [0x89, 0x80, 0, 0, 0, 0]);
    assert!(hub.poll_output(rig.now).is_none());
    let conn = hub.poll_dirty().unwrap();
    let mut written = Vec::new();
    assert_eq!(hub.flush(rig.now, conn, &mut written), Flush::Drained);
    assert_eq!((written.len(), hub.tally().sent_bytes - before), (2, 2));
}
