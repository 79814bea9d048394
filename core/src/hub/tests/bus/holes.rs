//! Rounds that do not come, and what fills their place before anything behind them is delivered.

use super::*;

#[test]
fn what_did_not_come_is_read_before_what_is_behind_it() {
    let mut nodes = Nodes::new(2, 2);
    let clients: Vec<_> = (0..2).map(|shard| nodes.subscriber(1, shard, "a").0).collect();
    let home = nodes.home(1, "a");
    nodes.post(0, "a", 0);
    nodes.settle();
    nodes.link(1, home).deaf = 2;
    for n in 1..5 {
        nodes.post(0, "a", n);
        nodes.settle();
    }
    for client in &clients {
        assert_eq!(heard(client), events(0..5, 1));
    }
}

#[test]
fn the_last_round_that_does_not_come_is_missed_when_the_bus_says_where_it_stands() {
    let mut nodes = Nodes::new(2, 1);
    let (client, _) = nodes.subscriber(1, 0, "a");
    nodes.link(1, 0).deaf = 1;
    nodes.post(0, "a", 1);
    nodes.settle();
    assert_eq!(heard(&client), []);
    nodes.check();
    assert_eq!(heard(&client), events([1], 1));
}

#[test]
fn a_nodes_own_round_that_does_not_come_is_delivered_by_the_answer() {
    let mut nodes = Nodes::new(1, 1);
    let (client, _) = nodes.subscriber(0, 0, "a");
    nodes.link(0, 0).deaf = 1;
    nodes.post(0, "a", 1);
    nodes.settle();
    assert_eq!(heard(&client), events([1], 1));
}

#[test]
fn what_is_no_longer_kept_is_told_exactly() {
    let mut nodes = Nodes::new(2, 2);
    let (client, start) = nodes.subscriber(1, 0, "a");
    let plain = nodes.connect(1, 1);
    nodes.request(1, &plain, "subscribe", &json!({"channel": "a"}));
    let home = nodes.home(1, "a");
    nodes.post(0, "a", 0);
    nodes.settle();
    nodes.link(1, home).deaf = 5;
    for n in 1..6 {
        nodes.post(0, "a", n);
        nodes.settle();
    }
    nodes.server.channel("a").trim(5);
    nodes.post(0, "a", 6);
    nodes.settle();

    let messages = client.take();
    let gap = messages.iter().find(|message| message["event"] == "channel.gap").unwrap();
    assert_eq!(
        gap["data"],
        json!({
            "channel": "a", "lost": 3, "first_offset": 2, "last_offset": 4,
            "reason": "trimmed", "epoch": start["epoch"], "offset": 4,
        })
    );
    let all: Vec<_> = messages.iter().filter_map(hear).collect();
    let mut expected = events([0], 1);
    expected.push(Heard::Gap(Some(3), "trimmed".into(), 4));
    expected.extend(events([4, 5, 6], 5));
    assert_eq!(all, expected);
    let plain = plain.take();
    let gap = plain.iter().find(|message| message["event"] == "channel.gap").unwrap();
    assert_eq!(
        gap["data"],
        json!({"channel": "a", "lost": 3, "first_offset": 2, "last_offset": 4}),
        "who has not asked for positions is told as ever"
    );
}

#[test]
fn a_hole_in_what_is_kept_is_told_where_it_is() {
    let mut nodes = Nodes::new(2, 1);
    let (client, _) = nodes.subscriber(1, 0, "a");
    nodes.link(1, 0).deaf = 4;
    for n in 1..5 {
        nodes.post(0, "a", n);
        nodes.settle();
    }
    nodes.server.channel("a").entries.remove(1);
    nodes.post(0, "a", 5);
    nodes.settle();
    let mut expected = events([1], 1);
    expected.push(Heard::Gap(Some(1), "failover".into(), 2));
    expected.extend(events([3, 4, 5], 3));
    assert_eq!(heard(&client), expected);
}

#[test]
fn what_is_no_message_is_told_and_stops_nothing() {
    let mut nodes = Nodes::new(2, 1);
    let (client, _) = nodes.subscriber(1, 0, "a");
    nodes.post(0, "a", 1);
    nodes.settle();
    let home = nodes.home(1, "a");
    let channel = nodes.server.channel("a");
    let (epoch, records) = (channel.epoch, Bytes::from_static(b"\x63nonsense"));
    channel.entries.push(PageEntry { first: 2, count: 3, records: records.clone() });
    channel.top = 4;
    let live = Live::Round { epoch, first: 2, count: 3, records: Some(records), state: None };
    nodes
        .link(1, home)
        .told
        .push_back(BusEvent::Channel(ChannelEvent::Live { channel: "a".into(), live }));
    nodes.link(1, home).told.push_back(BusEvent::Channel(ChannelEvent::Live {
        channel: "a".into(),
        live: Live::Poison,
    }));
    nodes.settle();
    nodes.post(0, "a", 5);
    nodes.settle();
    let mut expected = events([1], 1);
    expected.push(Heard::Gap(Some(3), "poison".into(), 4));
    expected.extend(events([5], 5));
    assert_eq!(heard(&client), expected);
}

#[test]
fn numbers_that_there_cannot_be_do_no_harm() {
    let mut nodes = Nodes::new(1, 1);
    let (client, _) = nodes.subscriber(0, 0, "a");
    nodes.post(0, "a", 1);
    nodes.settle();
    let epoch = nodes.server.channel("a").epoch;
    let other = Epoch::from_random(9);
    for (epoch, first, count) in [
        (epoch, u64::MAX, 1),
        (epoch, u64::MAX, u32::MAX),
        (epoch, 0, 1),
        (epoch, 0, 0),
        (epoch, 2, 0),
        (epoch, 1, u32::MAX),
        (other, 1, 1),
    ] {
        let live = Live::Round { epoch, first, count, records: Some(Bytes::new()), state: None };
        nodes
            .link(0, 0)
            .told
            .push_back(BusEvent::Channel(ChannelEvent::Live { channel: "a".into(), live }));
        let position = Position { epoch: Epoch::from_random(first ^ 5), offset: first };
        let live = Live::Forked { position };
        nodes.link(0, 0).told.push_back(BusEvent::Channel(ChannelEvent::Live {
            channel: "b".into(),
            live: live.clone(),
        }));
        if first > 1 {
            nodes
                .link(0, 0)
                .told
                .push_back(BusEvent::Channel(ChannelEvent::Live { channel: "a".into(), live }));
        }
        nodes.settle();
    }
    nodes.post(0, "a", 2);
    nodes.settle();
    assert_eq!(heard(&client), events([1, 2], 1));
}

#[test]
fn a_round_that_is_too_large_to_come_by_itself_is_read() {
    let mut nodes = Nodes::new(2, 1);
    nodes.server.notice = Some(200);
    let (client, _) = nodes.subscriber(1, 0, "a");
    nodes.post(0, "a", 1);
    let large = Publication::new("a", "e", json!({"n": 2, "x": "y".repeat(300)}).to_string());
    let now = nodes.rigs[0].now;
    nodes.rigs[0].hubs[0].handle_command(now, Command::Publish { id: None, publication: large });
    nodes.rigs[0].run();
    nodes.settle();
    nodes.post(0, "a", 3);
    nodes.settle();
    assert_eq!(heard(&client), events([1, 2, 3], 1));
}

#[test]
fn what_comes_behind_a_hole_is_bounded_and_not_lost() {
    let mut config = config();
    config.limits.bus.bus_hole_bytes_max = 2_000;
    let mut nodes = Nodes::with(2, 1, config);
    let (client, _) = nodes.subscriber(1, 0, "a");
    nodes.link(1, 0).deaf = 1;
    for n in 0..2 {
        nodes.post(0, "a", n);
        nodes.execute(0, 0);
        while nodes.tell(0, 0) {}
        nodes.collect();
    }
    // The hole is seen, and the page is under way.
    while nodes.tell(1, 0) {}
    nodes.collect();
    assert_eq!(nodes.link(1, 0).pending.len(), 1);
    for n in 2..60 {
        nodes.post(0, "a", n);
        nodes.execute(0, 0);
        while nodes.tell(0, 0) {}
        nodes.collect();
        while nodes.tell(1, 0) {}
    }
    let following = &nodes.rigs[1].hubs[0].hub().following;
    assert!(following.held_bytes() <= 2_000, "{}", following.held_bytes());
    nodes.settle();
    assert_eq!(heard(&client), events(0..60, 1));
}

#[test]
fn who_lost_messages_for_being_slow_is_told_both_together() {
    let mut config = config();
    config.slow_readers.default = config::SlowPolicy::Gap;
    config.limits.delivery.outbox_bytes_max = 2_000;
    let mut nodes = Nodes::with(2, 1, config);
    let (client, _) = nodes.subscriber(1, 0, "a");
    nodes.rigs[1].set_room(&client, Some(0));
    for n in 0..20 {
        nodes.post(0, "a", n);
        nodes.settle();
    }
    nodes.link(1, 0).deaf = 3;
    for n in 20..23 {
        nodes.post(0, "a", n);
        nodes.settle();
    }
    nodes.server.channel("a").trim(100);
    nodes.post(0, "a", 23);
    nodes.settle();
    nodes.rigs[1].set_room(&client, None);
    nodes.post(0, "a", 24);
    nodes.settle();

    let all = heard(&client);
    let Some(Heard::Gap(Some(lost), _, offset)) =
        all.iter().find(|heard| matches!(heard, Heard::Gap(..)))
    else {
        panic!("{all:?}")
    };
    let before = all.iter().take_while(|heard| matches!(heard, Heard::Event(..))).count() as u64;
    assert_eq!((before + lost, *offset), (24, 24), "{all:?}");
    assert_eq!(all.last(), Some(&Heard::Event(24, 25)));
    assert_eq!(all.len() as u64, before + 2);
}
