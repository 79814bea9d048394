//! Readers that do not keep up.

use super::*;
use crate::{auth::Pattern, config::SlowPolicy};

/// A subscriber of `a` under `policy`, with room for a few messages, that has stopped reading.
fn stalled(policy: SlowPolicy) -> (Rig, Client) {
    let mut config = unlimited();
    config.limits.delivery.outbox_bytes_max = 2000;
    config.slow_readers.default = policy;
    let mut rig = Rig::new(1, config);
    let client = rig.connect(0);
    rig.subscribe(&client, "a");
    rig.set_room(&client, Some(0));
    (rig, client)
}

fn publish_each(rig: &mut Rig, numbers: std::ops::Range<u64>) {
    for n in numbers {
        rig.publish(0, "a", n);
        rig.run();
    }
}

#[test]
fn disconnect_closes_with_a_retryable_code() {
    let (mut rig, client) = stalled(SlowPolicy::Disconnect);
    publish_each(&mut rig, 0..50);
    assert!(rig.hubs[0].hub().connections.get(client.conn).unwrap().ws.outbox().bytes() <= 2000);

    rig.set_room(&client, None);

    assert_eq!(client.take_close(), Some((1013, "Reading too slowly".into())));
    rig.wait(Duration::from_secs(5));
    assert!(client.is_closed(), "the peer's close frame is not waited for without end");
}

#[test]
fn gap_announces_exactly_what_was_lost() {
    let (mut rig, client) = stalled(SlowPolicy::Gap);
    publish_each(&mut rig, 0..50);
    rig.set_room(&client, None);
    publish_each(&mut rig, 50..53);

    let messages = client.take();
    let numbers: Vec<_> =
        messages.iter().filter_map(|message| message["data"]["n"].as_u64()).collect();
    let gap = messages.iter().position(|message| message["event"] == "channel.gap").unwrap();
    let data = &messages[gap]["data"];
    let (first, last) =
        (data["first_offset"].as_u64().unwrap(), data["last_offset"].as_u64().unwrap());
    assert_eq!(data["lost"].as_u64().unwrap(), last - first + 1);
    // Offsets begin at 1, what is counted here at 0.
    let expected: Vec<_> = (0..first - 1).chain(last..53).collect();
    assert_eq!(numbers, expected);
    assert_eq!(gap as u64, first - 1, "the gap stands where the messages are missing");
    assert_eq!(messages[gap]["room"], "a");
}

#[test]
fn latest_keeps_the_newest() {
    let (mut rig, client) = stalled(SlowPolicy::Latest);
    publish_each(&mut rig, 0..50);

    rig.set_room(&client, None);

    assert_eq!(client.take_numbers(), [49]);
}

#[test]
fn one_who_joins_while_the_last_reader_is_closed_as_slow_is_a_member() {
    let (mut rig, slow) = stalled(SlowPolicy::Disconnect);
    publish_each(&mut rig, 0..5);
    let late = rig.connect(0);
    let data = json!({"n": 5, "x": "x".repeat(1000)}).to_string();
    let publication = Publication::new("a", "e", data);
    rig.hubs[0].handle_command(rig.now, Command::Publish { id: None, publication });

    rig.subscribe(&late, "a");
    publish_each(&mut rig, 6..7);

    assert_eq!(late.take_numbers(), [6]);
    rig.set_room(&slow, None);
    assert_eq!(slow.take_close().map(|(code, _)| code), Some(1013));
}

/// A message that keeps only the newest must not stand where it overtakes an answer.
#[test]
fn latest_does_not_reach_behind_the_end_of_a_subscription() {
    for next in ["a", "b"] {
        let (mut rig, client) = stalled(SlowPolicy::Latest);
        // With another subscriber the channel lives on; without, its place goes to the next one.
        let other = (next == "a").then(|| rig.connect(0));
        other.iter().for_each(|other| rig.subscribe(other, "a"));
        publish_each(&mut rig, 1..2);
        let message = |event, channel| json!({"type": "request", "event": event, "data": {"channel": channel}});
        rig.send(&client, &message("unsubscribe", "a"));
        rig.send(&client, &message("subscribe", next));
        rig.publish(0, next, 2);
        rig.run();

        rig.set_room(&client, None);

        let came: Vec<_> = client
            .take()
            .iter()
            .map(|message| {
                message["status"]
                    .as_str()
                    .map_or_else(|| message["data"]["n"].to_string(), Into::into)
            })
            .collect();
        assert_eq!(came, ["1", "unsubscribed", "subscribed", "2"], "{next}");
    }
}

#[test]
fn latest_does_not_reach_behind_a_gap() {
    let (mut rig, client) = stalled(SlowPolicy::Latest);
    publish_each(&mut rig, 0..1);
    // Larger than any outbox here: lost at once.
    let data = json!({"n": 1, "x": "x".repeat(2000)}).to_string();
    let publication = Publication::new("a", "e", data);
    rig.hubs[0].handle_command(rig.now, Command::Publish { id: None, publication });
    rig.run();
    // The announcement follows while the first message still waits.
    rig.set_room(&client, Some(0));
    publish_each(&mut rig, 2..3);

    rig.set_room(&client, None);

    let messages = client.take();
    let came: Vec<_> = messages
        .iter()
        .map(|message| match message["event"] == "channel.gap" {
            true => format!("gap {}", message["data"]["first_offset"]),
            false => message["data"]["n"].to_string(),
        })
        .collect();
    assert_eq!(came, ["0", "gap 2", "2"]);
}

#[test]
fn a_gap_is_announced_at_once_to_one_who_has_read_everything() {
    for policy in [SlowPolicy::Gap, SlowPolicy::Latest] {
        let (mut rig, client) = stalled(policy);
        rig.set_room(&client, None);
        // Larger than any outbox here.
        let data = json!({"n": 0, "x": "x".repeat(2000)}).to_string();
        let publication = Publication::new("a", "e", data);
        rig.hubs[0].handle_command(rig.now, Command::Publish { id: None, publication });

        rig.run();

        let messages = client.take();
        assert_eq!(messages.len(), 1, "{policy:?}");
        assert_eq!(messages[0]["event"], "channel.gap");
        publish_each(&mut rig, 1..2);
        assert_eq!(client.take_numbers(), [1]);
    }
}

#[test]
fn latest_does_not_touch_those_who_keep_up() {
    let mut config = unlimited();
    config.slow_readers.default = SlowPolicy::Latest;
    let mut rig = Rig::new(1, config);
    let client = rig.connect(0);
    rig.subscribe(&client, "a");
    for n in 0..10 {
        rig.publish(0, "a", n);
    }
    rig.run();
    assert_eq!(client.take_numbers(), (0..10).collect::<Vec<_>>());
}

#[test]
fn a_stalled_reader_does_not_hold_up_the_others() {
    let (mut rig, stalled) = stalled(SlowPolicy::Gap);
    let other = rig.connect(0);
    rig.subscribe(&other, "a");
    publish_each(&mut rig, 0..50);
    assert_eq!(other.take_numbers(), (0..50).collect::<Vec<_>>());
    assert_eq!(stalled.take_numbers(), Vec::<u64>::new());
}

#[test]
fn a_pong_does_not_wait_behind_data() {
    let (mut rig, client) = stalled(SlowPolicy::Gap);
    publish_each(&mut rig, 0..3);
    // Half of the first message goes out, then a ping comes in.
    rig.set_room(&client, Some(100));
    rig.bytes(&client, &[0x89, 0x80, 0, 0, 0, 0]);
    rig.set_room(&client, None);
    let opcodes: Vec<_> = client.take_frames().into_iter().map(|(opcode, _)| opcode).collect();
    assert_eq!(opcodes, [1, 10, 1, 1]);
}

#[test]
fn a_client_that_does_not_read_its_answers_is_not_read() {
    let mut rig = Rig::new(1, unlimited());
    let client = rig.connect(0);
    rig.set_room(&client, Some(0));
    let ping = frame(&json!({"type": "ping"}));
    let mut sent = 0;
    while rig.hubs[0].hub().wants_read(client.conn) {
        rig.bytes(&client, &ping);
        sent += 1;
        assert!(sent < 10_000);
    }
    rig.set_room(&client, None);
    assert!(rig.hubs[0].hub().wants_read(client.conn));
    assert_eq!(client.take().len(), sent);
}

#[test]
fn a_large_batch_does_not_make_slow_readers_of_those_who_keep_up() {
    for policy in [SlowPolicy::Disconnect, SlowPolicy::Gap, SlowPolicy::Latest] {
        let mut config = unlimited();
        config.limits.delivery.outbox_bytes_max = 20_000;
        config.limits.delivery.round_bytes_max = 1_000;
        config.slow_readers.default = policy;
        let mut rig = Rig::new(2, config);
        let clients = [rig.connect(0), rig.connect(1)];
        clients.iter().for_each(|client| rig.subscribe(client, "a"));
        for n in 0..500 {
            rig.publish(0, "a", n);
        }

        rig.run();

        for client in &clients {
            assert_eq!(client.take_numbers(), (0..500).collect::<Vec<_>>(), "{policy:?}");
        }
    }
}

#[test]
fn latest_keeps_the_newest_in_an_outbox_that_is_full() {
    let (mut rig, client) = stalled(SlowPolicy::Latest);
    rig.set_room(&client, None);
    rig.subscribe(&client, "b");
    rig.set_room(&client, Some(0));
    let mut config = Config::clone(rig.hubs[0].hub().config());
    config.slow_readers.rules = vec![(Pattern::parse("b").unwrap(), SlowPolicy::Gap)];
    rig.hubs[0].handle_command(rig.now, Command::Reload(Arc::new(config)));
    publish_each(&mut rig, 0..1);
    for n in 100..110 {
        rig.publish(0, "b", n);
        rig.run();
    }
    publish_each(&mut rig, 1..50);
    rig.set_room(&client, None);
    let numbers = client.take_numbers();
    assert!(numbers.contains(&49) && !numbers.contains(&48), "{numbers:?}");
}
