//! Three nodes and a real Redis: who is in a channel is told everywhere, and of each once, whatever happens.

use std::time::Duration;

use mahavishnu_test_redis::Options;
use mahavishnu_tests::{Client, Cluster, wait};
use serde_json::{Value, json};

on_its_runtime! {
    members_of_all_nodes_are_told_and_listed_on_each,
    members_of_a_node_that_is_killed_leave_once,
    a_redis_that_starts_again_empty_changes_nothing,
    what_happened_while_redis_was_away_is_told_when_it_is_back,
}

const ROOM: &str = "room:1";

fn cluster(runtime: &str, options: Options) -> Cluster {
    let settings = [
        ("RUNTIME", runtime),
        ("SHARDS", "2"),
        ("REDIS_TIMEOUT", "2"),
        ("REDIS_CONNECT_TIMEOUT", "1"),
        ("NODE_LEASE", "4"),
        ("PRESENCE_RULES", "room:*=on"),
    ];
    Cluster::with(3, &settings, options)
}

/// A client and its name.
fn hello(cluster: &Cluster, node: usize) -> (Client, String) {
    let mut client = cluster.nodes[node].client();
    let welcome = client.expect_welcome();
    (client, welcome["data"]["connection_id"].as_str().expect("a name").to_owned())
}

/// Subscribes with a wish. How many members there are then.
fn attend(client: &mut Client, wish: &Value) -> u64 {
    let answer = client.request("subscribe", json!({ "channel": ROOM, "presence": wish }));
    answer["data"]["presence"]["count"].as_u64().unwrap_or_else(|| panic!("{answer}"))
}

fn watchers(cluster: &Cluster) -> Vec<Client> {
    let watcher = |node| {
        let (mut client, _) = hello(cluster, node);
        assert_eq!(attend(&mut client, &json!("watch")), 0);
        client
    };
    (0..3).map(watcher).collect()
}

fn member(cluster: &Cluster, node: usize) -> (Client, String) {
    let (mut client, name) = hello(cluster, node);
    attend(&mut client, &json!({ "info": { "node": node } }));
    (client, name)
}

/// Members as a node knows them, and whether these are all.
fn listed(cluster: &Cluster, node: usize) -> (Vec<String>, bool) {
    let (mut client, _) = hello(cluster, node);
    let answer = client.request("get_presence", json!({ "channel": ROOM }));
    let data = &answer["data"];
    let members = data["members"].as_array().unwrap_or_else(|| panic!("{answer}"));
    assert_eq!(data["count"], members.len(), "{answer}");
    let names = members.iter().map(|one| one["connection_id"].as_str().expect("a name").to_owned());
    (names.collect(), data["complete"] == true)
}

/// Waits until all nodes say that these and no others are there.
fn wait_listed(cluster: &Cluster, nodes: &[usize], names: &[&String]) {
    let mut expected: Vec<String> = names.iter().map(|name| (*name).clone()).collect();
    expected.sort();
    for node in nodes {
        let mut last = None;
        let found = wait::within(Duration::from_secs(30), || {
            last = Some(listed(cluster, *node));
            (last == Some((expected.clone(), true))).then_some(())
        });
        assert!(found.is_some(), "node {node}: {last:?}, and not {expected:?}");
    }
}

/// What a client is told next: which event, of whom, why.
fn told(client: &mut Client) -> (String, String, Option<String>) {
    let mut message = client.message();
    while message["event"] == "channel.gap" {
        message = client.message();
    }
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let name = text(&message["data"]["connection_id"]).unwrap_or_else(|| panic!("{message}"));
    (text(&message["event"]).expect("an event"), name, text(&message["data"]["reason"]))
}

/// Nothing of presence has come. That the channel has lost its numbers may have been told.
fn expect_nothing(client: &mut Client) {
    let heard = client.drain();
    assert!(heard.iter().all(|message| message["event"] == "channel.gap"), "{heard:?}");
}

fn joined(name: &str) -> (String, String, Option<String>) {
    ("presence.joined".into(), name.into(), None)
}

fn left(name: &str, why: &str) -> (String, String, Option<String>) {
    ("presence.left".into(), name.into(), Some(why.into()))
}

fn members_of_all_nodes_are_told_and_listed_on_each(runtime: &str) {
    let cluster = cluster(runtime, Options::default());
    let mut watchers = watchers(&cluster);
    let mut members: Vec<_> = (0..3).map(|node| member(&cluster, node)).collect();
    for watcher in &mut watchers {
        let mut heard: Vec<_> = (0..3).map(|_| told(watcher)).collect();
        heard.sort();
        let mut expected: Vec<_> = members.iter().map(|(_, name)| joined(name)).collect();
        expected.sort();
        assert_eq!(heard, expected);
    }
    let names: Vec<_> = members.iter().map(|(_, name)| name).collect();
    wait_listed(&cluster, &[0, 1, 2], &names);
    // Who comes late is told how many there are, and of none of them.
    let (mut late, _) = hello(&cluster, 1);
    assert_eq!(attend(&mut late, &json!("watch")), 3);

    let (client, second) = members.remove(1);
    client.close();
    let (mut client, first) = members.remove(0);
    client.request("unsubscribe", json!({ "channel": ROOM }));
    for watcher in watchers.iter_mut().chain([&mut late]) {
        let mut heard = [told(watcher), told(watcher)];
        heard.sort();
        let mut expected = [left(&first, "left"), left(&second, "left")];
        expected.sort();
        assert_eq!(heard, expected);
    }
    wait_listed(&cluster, &[0, 1, 2], &[&members[0].1]);
    watchers.iter_mut().chain([&mut late]).for_each(expect_nothing);
}

fn members_of_a_node_that_is_killed_leave_once(runtime: &str) {
    let mut cluster = cluster(runtime, Options::default());
    let mut watchers = watchers(&cluster);
    let (_client, stays) = member(&cluster, 0);
    let (_lost, goes) = member(&cluster, 2);
    for watcher in &mut watchers {
        let mut heard = [told(watcher), told(watcher)];
        heard.sort();
        let mut expected = [joined(&stays), joined(&goes)];
        expected.sort();
        assert_eq!(heard, expected);
    }
    cluster.nodes[2].kill();
    watchers.truncate(2);
    for watcher in &mut watchers {
        assert_eq!(told(watcher), left(&goes, "node"));
    }
    wait_listed(&cluster, &[0, 1], &[&stays]);
    cluster.nodes[2].start_again();
    cluster.wait_whole();
    wait_listed(&cluster, &[0, 1, 2], &[&stays]);
    watchers.iter_mut().for_each(expect_nothing);
}

fn a_redis_that_starts_again_empty_changes_nothing(runtime: &str) {
    let mut cluster = cluster(runtime, Options::default());
    let mut watchers = watchers(&cluster);
    let members: Vec<_> = (0..3).map(|node| member(&cluster, node)).collect();
    for watcher in &mut watchers {
        (0..3).for_each(|_| assert_eq!(told(watcher).0, "presence.joined"));
    }
    cluster.redis.restart_empty();
    cluster.wait_whole();
    let names: Vec<_> = members.iter().map(|(_, name)| name).collect();
    wait_listed(&cluster, &[0, 1, 2], &names);
    watchers.iter_mut().for_each(expect_nothing);
    // It is as it was: what happens is told.
    let (_client, name) = member(&cluster, 1);
    watchers.iter_mut().for_each(|watcher| assert_eq!(told(watcher), joined(&name)));
}

fn what_happened_while_redis_was_away_is_told_when_it_is_back(runtime: &str) {
    let mut cluster = cluster(runtime, Options::default().aof());
    let mut watchers = watchers(&cluster);
    let (gone, first) = member(&cluster, 0);
    watchers.iter_mut().for_each(|watcher| assert_eq!(told(watcher), joined(&first)));
    cluster.redis.kill();
    wait::until("a node that knows that Redis is away", || {
        (listed(&cluster, 1) == (vec![first.clone()], false)).then_some(())
    });
    gone.close();
    assert_eq!(told(&mut watchers[0]), left(&first, "left"));
    cluster.redis.restart();
    for watcher in &mut watchers[1..] {
        // Who learns it by reading is not told why.
        let (event, name, why) = told(watcher);
        assert_eq!((&*event, &name), ("presence.left", &first), "{why:?}");
    }
    cluster.wait_whole();
    wait_listed(&cluster, &[0, 1, 2], &[]);
    watchers.iter_mut().for_each(expect_nothing);
}
