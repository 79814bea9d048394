//! What is followed, and what is told of it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use mahavishnu_core::{
    hub::{Append, CallId, Live, Standing},
    record::{Message, encode},
};
use mahavishnu_links::{BusCommand, BusEvent, ChannelEvent, LinkConfig, LinkEvent};
use mahavishnu_test_redis::Redis;
use uuid::Uuid;

use crate::node::{Input, Node, RETENTION, at, config, epoch, on_each};

fn announce(node: &mut Node, channel: &str) -> Result<u32, mahavishnu_core::hub::BusError> {
    let id = node.call();
    let records = Bytes::from_static(b"r");
    node.command(BusCommand::Announce { id, channel: channel.into(), count: 2, records });
    announced(node, id)
}

fn announced(node: &mut Node, id: CallId) -> Result<u32, mahavishnu_core::hub::BusError> {
    node.find("an announcement's answer", |event| match event {
        BusEvent::Channel(ChannelEvent::Announced { id: of, result }) if *of == id => Some(*result),
        _ => None,
    })
}

#[test]
fn what_is_announced_is_heard_and_not_kept() {
    let redis = Redis::start();
    let (mut a, mut b) = (Node::start(&redis, 1), Node::start(&redis, 2));
    assert_eq!(announce(&mut a, "c"), Ok(0));
    b.follow("c", epoch(1));
    assert_eq!(announce(&mut a, "c"), Ok(1));
    assert_eq!(b.live("c"), Live::Announced { count: 2, records: Bytes::from_static(b"r") });
    assert_eq!(a.read("c", 0, 9).unwrap().standing.unwrap().position.offset, 0);
}

#[test]
fn what_is_not_followed_any_more_is_not_heard() {
    on_each(|redis| {
        let (mut a, mut b) = (Node::start(redis, 1), Node::start(redis, 2));
        b.follow("c", epoch(1));
        b.follow("d", epoch(1));
        b.command(BusCommand::Unfollow { channel: "c".into() });
        let append = b.new_append("d", "r");
        b.append(append).unwrap();
        assert_eq!(announce(&mut a, "c"), Ok(0));
        // And heard again by whoever follows it again, at once.
        for _ in 0..20 {
            b.command(BusCommand::Unfollow { channel: "c".into() });
            b.command(BusCommand::Follow {
                channel: "c".into(),
                epoch: epoch(2),
                retention: RETENTION,
            });
        }
        let standing = b.standing("c");
        assert_eq!(standing.position, at(epoch(1), 0));
        let append = b.new_append("d", "r");
        b.append(append).unwrap();
        assert_eq!(announce(&mut a, "c"), Ok(1));
        b.live("c");
        assert_eq!(b.stats.sessions, 1, "no subscription has ended unasked");
    });
}

/// What was published while a link was away is seen by where the channel stands once it is back.
#[test]
fn ten_thousand_channels_are_followed_again() {
    let redis = Redis::start();
    let mut a = Node::start(&redis, 1);
    let mut b = Node::begin(config(&redis), 2, 0);
    b.up();
    for number in 0..10_000 {
        let channel = format!("workflow:{number}").into();
        b.command(BusCommand::Follow { channel, epoch: epoch(number), retention: RETENTION });
    }
    for _ in 0..10_000 {
        b.wait("a standing", |event| {
            matches!(event, BusEvent::Channel(ChannelEvent::Standing { .. })).then_some(())
        });
    }
    redis.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    b.down();
    a.up();
    let append = a.new_append("workflow:77", "r");
    a.append(append).unwrap();
    let mut told = std::collections::BTreeSet::new();
    let mut moved = false;
    b.wait("reconciled", |event| match event {
        BusEvent::Channel(ChannelEvent::Standing { channel, standing, .. }) => {
            assert_eq!(
                standing.position.epoch,
                epoch(channel.split_once(':').unwrap().1.parse().unwrap())
            );
            told.insert(channel.clone());
            moved |= standing.position.offset == 1;
            None
        }
        BusEvent::Channel(ChannelEvent::Live { live: Live::Round { first: 1, .. }, .. }) => {
            moved = true;
            None
        }
        BusEvent::Link(LinkEvent::Reconciled) => Some(()),
        _ => None,
    });
    assert_eq!(told.len(), 10_000);
    assert!(moved, "the append is heard or seen");
}

/// Of many channels that are followed again the last message is told along with where they stand, in a few scripts. One that
/// is too long is not, and nothing is told of it when it is asked again later.
#[test]
fn last_messages_are_told_in_a_few_scripts() {
    on_each(|redis| {
        let limits = mahavishnu_links::LinkLimits {
            batch_names_max: 100,
            newest_bytes_max: 300,
            ..Default::default()
        };
        let config = LinkConfig { limits, ..config(redis) };
        let (mut a, mut b) = (Node::start(redis, 1), Node::begin(config, 2, 0));
        b.up();
        for number in 0..500 {
            let channel = format!("c{number}");
            b.follow(&channel, epoch(number));
            let records = record(number, if number == 7 { 300 } else { 100 });
            let append = Append { records, ..a.new_append(&channel, "") };
            a.append(append).unwrap();
        }
        b.follow("empty", epoch(1));
        redis.ask(&["CONFIG", "RESETSTAT"]);
        redis.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        b.down();
        let mut told = BTreeMap::new();
        b.wait("reconciled", |event| match event {
            BusEvent::Channel(ChannelEvent::Standing { channel, standing, newest }) => {
                told.insert(channel.to_string(), (standing.position.offset, *newest));
                None
            }
            BusEvent::Link(LinkEvent::Reconciled) => Some(()),
            _ => None,
        });
        assert_eq!(told.len(), 501);
        assert_eq!(told["empty"], (0, None));
        assert_eq!(told["c7"], (1, None), "it is too long");
        let right = |number: &u64| told[&format!("c{number}")] == (1, Some(id(*number)));
        assert_eq!((0..500).filter(right).count(), 499);
        // Two nodes prepare, probe and ask what all nodes were told besides.
        let scripts = scripts(redis);
        assert!((6..30).contains(&scripts), "{scripts} scripts");
    });
}

/// How many were run.
fn scripts(redis: &Redis) -> u64 {
    let info = redis.ask(&["INFO", "commandstats"]);
    let text = info.text();
    let calls = text.split("cmdstat_evalsha:calls=").nth(1).and_then(|rest| rest.split(',').next());
    calls.map_or(0, |calls| calls.parse().unwrap())
}

fn id(number: u64) -> Uuid {
    Uuid::from_u128(u128::from(number) << 64 | 0x4000)
}

fn record(number: u64, bytes: usize) -> Bytes {
    let data = format!("{{\"t\":\"{}\"}}", "x".repeat(bytes));
    let message =
        Message { id: id(number), unix_micros: 7, event: "e", data: &data, traceparent: None };
    encode([message]).into()
}

/// From time to time it is told where everything stands, without being asked.
#[test]
fn standings_are_told_from_time_to_time() {
    let redis = Redis::start();
    let mut config = config(&redis);
    config.limits.standing_interval = Duration::from_millis(200);
    let mut a = Node::begin(config, 1, 0);
    a.up();
    a.follow("c", epoch(1));
    a.standing("c");
    // Redis loses all: the channel begins anew, under an epoch that nobody has seen.
    redis.ask(&["FLUSHALL"]);
    let anew = a.find("another epoch", |event| match event {
        BusEvent::Channel(ChannelEvent::Standing { standing, .. })
            if standing.position.epoch != epoch(1) =>
        {
            Some(*standing)
        }
        _ => None,
    });
    assert_eq!(anew, Standing { position: at(anew.position.epoch, 0), document: 0, mark: 0 });
    redis.ask(&["FLUSHALL"]);
    a.find("yet another epoch", |event| match event {
        BusEvent::Channel(ChannelEvent::Standing { standing, .. })
            if ![epoch(1), anew.position.epoch].contains(&standing.position.epoch) =>
        {
            Some(())
        }
        _ => None,
    });
}

/// Of two deployments in one Redis neither hears the other.
#[test]
fn databases_are_apart() {
    let redis = Redis::start();
    let mut a = Node::start(&redis, 1);
    let mut b = Node::begin(LinkConfig { db: 1, ..config(&redis) }, 2, 0);
    b.up();
    a.follow("c", epoch(1));
    assert_eq!(b.follow("c", epoch(2)).position.epoch, epoch(2));
    let append = b.new_append("c", "r");
    assert_eq!(b.append(append).unwrap().nodes, 1);
    assert_eq!(announce(&mut a, "c"), Ok(1));
    assert_eq!(a.live("c"), Live::Announced { count: 2, records: Bytes::from_static(b"r") });
}

/// While the hub is full nothing is read, and no link is given up for it.
#[test]
fn a_full_hub_lets_redis_wait() {
    let redis = Redis::start();
    let mut a = Node::start(&redis, 1);
    let mut config = config(&redis);
    config.timeout = Duration::from_secs(1);
    config.limits.probe_timeout = Duration::from_secs(1);
    let mut b = Node::begin(config, 2, 0);
    b.up();
    b.follow("c", epoch(1));
    b.tell(Input::Full(true));
    std::thread::sleep(Duration::from_millis(50));
    for _ in 0..10 {
        let append = a.new_append("c", "r");
        a.append(append).unwrap();
    }
    let events = b.gather(Duration::from_millis(2_500));
    assert!(
        !events.iter().any(|event| matches!(
            event,
            BusEvent::Channel(ChannelEvent::Live { .. }) | BusEvent::Link(LinkEvent::Down)
        )),
        "{events:?}"
    );
    b.tell(Input::Full(false));
    for first in 1..=10 {
        let Live::Round { first: number, .. } = b.live("c") else { panic!() };
        assert_eq!(number, first);
    }
    assert_eq!(b.stats.sessions, 1);
}

/// Lives of keys are renewed now and then, and by whoever follows.
#[test]
fn what_is_followed_is_kept() {
    let redis = Redis::start();
    let mut config = config(&redis);
    config.limits.standing_interval = Duration::from_millis(100);
    let mut a = Node::begin(config, 1, 0);
    a.up();
    let position = Duration::from_secs(4);
    let retention =
        mahavishnu_core::hub::Retention { time: Duration::from_secs(2), position, ..RETENTION };
    a.command(BusCommand::Follow { channel: "c".into(), epoch: epoch(1), retention });
    let append = Append { retention, ..a.new_append("c", "r") };
    a.append(append).unwrap();
    let deadline = Duration::from_secs(6);
    let events = a.gather(deadline);
    let epochs: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            BusEvent::Channel(ChannelEvent::Standing { standing, .. }) => {
                Some(standing.position.epoch)
            }
            _ => None,
        })
        .collect();
    assert!(epochs.len() > 20 && epochs.iter().all(|it| *it == epoch(1)), "{epochs:?}");
    let page = a.read("c", 0, 100).unwrap();
    assert_eq!(
        (page.standing.unwrap().position.offset, page.entries.len()),
        (1, 0),
        "messages are not"
    );
}

#[test]
fn another_configuration_is_another_connection() {
    let redis = Redis::start();
    let mut a = Node::start(&redis, 1);
    a.follow("c", epoch(1));
    let other = config(&redis);
    a.tell(Input::Reload(Arc::new(LinkConfig {
        timeout: Duration::from_secs(9),
        ..other.clone()
    })));
    a.tell(Input::Reload(Arc::new(LinkConfig { node_name: "né w".into(), ..other })));
    a.down();
    assert_eq!(a.up(), 2, "the first change is none of the connection");
    let list = redis.ask(&["CLIENT", "LIST", "TYPE", "pubsub"]).text();
    assert!(list.contains("name=mahavishnu:n--w:0"), "{list}");
    assert_eq!(list.lines().count(), 1, "{list}");
}
