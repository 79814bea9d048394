//! Redis that refuses.

use std::{sync::Arc, time::Duration};

use mahavishnu_core::hub::{AppendError, BusError};
use mahavishnu_links::{BusCommand, BusEvent, LinkEvent, Outage};
use mahavishnu_test_redis::{Options, Redis};

use crate::node::{Input, Node, config, epoch, on_each, with_password};

fn refusal(node: &mut Node, part: &str) -> String {
    let state = node
        .state("a refusal", |state| state.cause.as_ref().is_some_and(|cause| cause.contains(part)));
    assert!(!state.up);
    state.cause.unwrap().to_string()
}

#[test]
fn a_wrong_password_is_named_and_a_right_one_helps() {
    let redis = Redis::with(Options::default().password("sesame"));
    let mut a = Node::begin(with_password(&redis, "swordfish"), 1, 0);
    let cause = refusal(&mut a, "WRONGPASS");
    assert!(!cause.contains("swordfish"), "{cause}");
    let events = a.gather(Duration::from_millis(1_200));
    assert!(!format!("{events:?}").contains("swordfish"));
    assert_eq!(a.stats.outages[Outage::Refused as usize], 1, "it is not tried again at once");
    a.tell(Input::Reload(Arc::new(with_password(&redis, "sesame"))));
    a.up();

    let mut b = Node::begin(config(&redis), 2, 0);
    refusal(&mut b, "NOAUTH");
}

#[test]
fn a_right_that_is_missing_is_named() {
    let rules = "on >secret ~mahavishnu:* &mahavishnu:* +@all -xadd";
    let redis = Redis::with(Options::default().user("worker", rules));
    let mut config = with_password(&redis, "secret");
    config.username = Some("worker".into());
    let mut a = Node::begin(config, 1, 0);
    a.up();
    let append = a.new_append("c", "r");
    assert_eq!(a.append(append), Err(AppendError::Bus(BusError::Away)));
    let cause = refusal(&mut a, "can't run this command");
    assert_eq!(a.stats.outages[Outage::Refused as usize], 1, "{cause}");
}

/// A primary that became a replica takes nothing and delivers nothing: the link looks for another.
#[test]
fn a_replica_is_not_what_is_looked_for() {
    let primary = Redis::start();
    let redis = Redis::start();
    let mut a = Node::start(&redis, 1);
    a.follow("c", epoch(1));
    redis.replicate(&primary);
    let append = a.new_append("c", "r");
    let id = append.id;
    a.command(BusCommand::Append(Box::new(append)));
    assert_eq!(a.appended(id), Err(AppendError::Bus(BusError::Away)));
    refusal(&mut a, "it is a replica");
    redis.promote();
    a.up();
    let append = a.new_append("c", "r");
    a.append(append).unwrap();
}

/// Without room nothing is written, and what is there can be read; with room again everything goes on.
#[test]
fn redis_is_full() {
    on_each(|redis| {
        let mut a = Node::start(redis, 1);
        let founded = a.follow("c", epoch(1)).position.epoch;
        let append = a.new_append("c", "r");
        a.append(append).unwrap();
        redis.ask(&["CONFIG", "SET", "maxmemory", "1"]);
        let append = a.new_append("c", "r");
        assert_eq!(a.append(append.clone()), Err(AppendError::Bus(BusError::Full)));
        a.state("full", |state| state.full == Some("OOM"));
        assert_eq!(a.read("c", 0, 9).unwrap().entries.len(), 1);
        // Of a channel that is there it is told where it stands, and nothing is begun.
        a.command(BusCommand::Follow {
            channel: "new".into(),
            epoch: epoch(2),
            retention: crate::node::RETENTION,
        });
        assert_eq!(a.follow("c", epoch(1)).position.epoch, founded);
        redis.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        a.down();
        a.wait("up", |event| matches!(event, BusEvent::Link(LinkEvent::Up { .. })).then_some(()));
        assert_eq!(a.standing("c").position.epoch, founded);
        redis.ask(&["CONFIG", "SET", "maxmemory", "0"]);
        a.wait("reconciled", |event| {
            matches!(event, BusEvent::Link(LinkEvent::Reconciled)).then_some(())
        });
        a.state("not full", |state| state.full.is_none() && state.up);
        let made = a.append(append).unwrap();
        assert_eq!((made.first.offset, made.repeated), (2, false));
        assert_eq!(a.stats.sessions, 2);
    });
}

#[test]
fn too_few_replicas_are_told() {
    let redis = Redis::with(Options::default().line("min-replicas-to-write 1"));
    let mut a = Node::begin(config(&redis), 1, 0);
    a.up();
    let append = a.new_append("c", "r");
    assert_eq!(a.append(append), Err(AppendError::Bus(BusError::Full)));
    a.state("full", |state| state.full == Some("NOREPLICAS"));
    redis.ask(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    a.state("not full", |state| state.full.is_none());
    // Only now the layout can be begun; that is for whoever connects next.
    let append = a.new_append("c", "r");
    a.append(append).unwrap();
}

#[test]
fn data_of_another_layout_are_not_touched() {
    let redis = Redis::start();
    let mut a = Node::start(&redis, 1);
    assert_eq!(redis.ask(&["HGET", "mahavishnu:layout", "version"]).text(), "1");
    assert!(redis.ask(&["HGET", "mahavishnu:layout", "by"]).text().starts_with("mahavishnu "));
    redis.ask(&["HSET", "mahavishnu:layout", "version", "2"]);
    redis.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    a.down();
    refusal(&mut a, "layout 2");
}

#[test]
fn a_cluster_and_a_sentinel_are_not_redis() {
    let cluster = Redis::with(Options::default().line("cluster-enabled yes"));
    let mut a = Node::begin(config(&cluster), 1, 0);
    refusal(&mut a, "Cluster is not supported");
    let redis = Redis::start();
    let sentinel = mahavishnu_test_redis::Sentinel::start("main", &redis, 1, 1_000);
    let mut config = config(&redis);
    let address = sentinel.address();
    config.servers = mahavishnu_links::Servers::Single {
        host: address.ip().to_string().into(),
        port: address.port(),
    };
    let mut a = Node::begin(config, 1, 0);
    refusal(&mut a, "Sentinel");
}

#[test]
fn one_client_too_many_is_told() {
    let redis = Redis::with(Options::default().line("maxclients 1"));
    let keep = redis.client();
    let mut a = Node::begin(config(&redis), 1, 0);
    refusal(&mut a, "max number of clients");
    drop(keep);
    a.up();
}
