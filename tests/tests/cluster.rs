//! Three nodes and a real Redis: one server, whatever happens to one of them or to Redis.

use std::time::Duration;

use mahavishnu_test_redis::{Options, Redis};
use mahavishnu_tests::{
    Client, Cluster, Server, http,
    load::{Load, Plan},
    wait,
};
use serde_json::{Value, json};

on_its_runtime! {
    a_publish_on_one_node_reaches_subscribers_of_all,
    a_client_recovers_on_another_node,
    a_client_without_positions_hears_all_nodes,
    redis_killed_and_started_again_loses_nothing,
    redis_that_has_lost_everything_is_healed,
    a_channel_is_the_same_after_redis_has_lost_it,
    a_redis_that_stands_still_loses_nothing,
    connections_that_redis_ends_lose_nothing,
    a_node_that_is_killed_loses_nothing,
}

/// Two shards a node, and links that notice soon what has happened.
const QUICK: [(&str, &str); 5] = [
    ("SHARDS", "2"),
    ("REDIS_TIMEOUT", "2"),
    ("REDIS_CONNECT_TIMEOUT", "1"),
    ("NODE_LEASE", "4"),
    // All of a test.
    ("HISTORY", "100000/300"),
];

fn cluster(runtime: &str, settings: &[(&str, &str)], options: Options) -> Cluster {
    let base =
        [&QUICK[..], &[("RUNTIME", runtime), ("HISTORY_CHANNEL_BYTES", "16777216")]].concat();
    Cluster::with(3, &[&base[..], settings].concat(), options)
}

fn load(cluster: &Cluster) -> Load {
    Load::start(cluster.addresses(), &Plan::default())
}

/// Subscribes with positions and returns the position.
fn follow(client: &mut Client, data: Value) -> (String, u64) {
    let answer = client.request("subscribe", data);
    let data = &answer["data"];
    assert_eq!(data["status"], "subscribed", "{answer}");
    (data["epoch"].as_str().unwrap().to_owned(), data["offset"].as_u64().unwrap())
}

fn publish(server: &Server, channel: &str, n: u64) -> Value {
    let body = json!({ "channel": channel, "event": "e", "data": { "n": n }, "positions": true });
    let answer = http::post(server.address(), "/publish", &[], &body.to_string());
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

fn a_publish_on_one_node_reaches_subscribers_of_all(runtime: &str) {
    let cluster = cluster(runtime, &[], Options::default());
    let mut clients: Vec<_> = cluster.nodes.iter().map(Server::hello).collect();
    let wish = json!({ "channel": "workflow:1", "positions": true });
    let positions: Vec<_> = clients.iter_mut().map(|it| follow(it, wish.clone())).collect();
    assert_eq!(positions[0], positions[1]);
    assert_eq!(positions[0], positions[2]);

    // From all sides, one after the other: their order is that of the answers.
    for n in 1..=30 {
        let answer = publish(&cluster.nodes[usize::try_from(n % 3).unwrap()], "workflow:1", n);
        let published = &answer["messages"][0];
        assert_eq!(published["epoch"], positions[0].0, "{answer}");
        assert_eq!(published["offset"], positions[0].1 + n, "{answer}");
    }

    let heard =
        clients.iter_mut().map(|client| -> Vec<_> { (0..30).map(|_| client.message()).collect() });
    let heard: Vec<Vec<Value>> = heard.collect();
    // Ids and timestamps too.
    assert_eq!(heard[0], heard[1]);
    assert_eq!(heard[0], heard[2]);
    for (event, n) in heard[0].iter().zip(1..) {
        let (epoch, first) = &positions[0];
        assert_eq!(
            (&event["data"]["n"], &event["offset"]),
            (&json!(n), &json!(first + n)),
            "{epoch}"
        );
    }
}

fn a_client_recovers_on_another_node(runtime: &str) {
    let cluster = cluster(runtime, &[], Options::default());
    let mut client = cluster.nodes[0].hello();
    follow(&mut client, json!({ "channel": "workflow:1", "positions": true }));
    publish(&cluster.nodes[1], "workflow:1", 1);
    let last = client.message();
    client.close();
    for n in 2..=11 {
        publish(&cluster.nodes[1], "workflow:1", n);
    }

    // A node at which nobody has asked for the channel before.
    let mut client = cluster.nodes[2].hello();
    let epoch = http::get(cluster.nodes[2].address(), "/history?channel=workflow:1&limit=0").json();
    let recover = json!({ "epoch": epoch["epoch"], "offset": last["offset"], "id": last["id"] });
    let answer =
        client.request("subscribe", json!({ "channel": "workflow:1", "recover": recover }));

    assert_eq!(
        (&answer["data"]["recovered"], &answer["data"]["missed"]),
        (&json!(true), &json!(10)),
        "{answer}"
    );
    assert_eq!(client.numbers(10), (2..=11).collect::<Vec<_>>());
    publish(&cluster.nodes[0], "workflow:1", 12);
    assert_eq!(client.numbers(1), [12]);
}

fn a_client_without_positions_hears_all_nodes(runtime: &str) {
    let cluster = cluster(runtime, &[("HISTORY_RULES", "cursor:*=off")], Options::default());
    let mut client = cluster.nodes[0].hello();
    for channel in ["workflow:1", "cursor:1"] {
        client.subscribe(channel);
    }
    for (channel, n) in [("workflow:1", 1), ("cursor:1", 2), ("workflow:1", 3), ("cursor:1", 4)] {
        cluster.nodes[2].post(channel, "e", &json!({ "n": n }));
        let event = client.message();
        assert_eq!((&event["room"], &event["data"]["n"]), (&json!(channel), &json!(n)), "{event}");
        // As ever: nine fields.
        assert_eq!(event.as_object().unwrap().len(), 9, "{event}");
    }
}

fn redis_killed_and_started_again_loses_nothing(runtime: &str) {
    let mut cluster = cluster(runtime, &[], Options::default().aof());
    let load = load(&cluster);
    load.wait_for(100);
    cluster.redis.kill();
    load.run(Duration::from_secs(1));
    cluster.redis.restart();
    cluster.wait_whole();
    load.wait_for(100);
    load.finish().assert_perfect();
}

fn redis_that_has_lost_everything_is_healed(runtime: &str) {
    let mut cluster = cluster(runtime, &[], Options::default());
    let load = load(&cluster);
    load.wait_for(100);
    cluster.redis.restart_empty();
    cluster.wait_whole();
    load.wait_for(100);
    // An event may have reached one node and not the others: two of them may put different things back.
    load.finish().assert_honest();
}

fn a_channel_is_the_same_after_redis_has_lost_it(runtime: &str) {
    let mut cluster = cluster(runtime, &[], Options::default());
    let mut clients: Vec<_> = cluster.nodes.iter().map(Server::hello).collect();
    let wish = json!({ "channel": "workflow:1", "positions": true });
    let positions: Vec<_> = clients.iter_mut().map(|it| follow(it, wish.clone())).collect();
    let epoch = &positions[0].0;
    for n in 1..=5 {
        publish(&cluster.nodes[0], "workflow:1", n);
    }
    clients.iter_mut().for_each(|it| assert_eq!(it.numbers(5), [1, 2, 3, 4, 5]));

    cluster.redis.restart_empty();
    cluster.wait_whole();

    let answer = publish(&cluster.nodes[1], "workflow:1", 6);
    let published = &answer["messages"][0];
    assert_eq!((&published["epoch"], &published["offset"]), (&json!(epoch), &json!(6)), "{answer}");
    for client in &mut clients {
        let event = client.message();
        assert_eq!((&event["data"]["n"], &event["offset"]), (&json!(6), &json!(6)), "{event}");
    }
    let recover = json!({ "epoch": epoch, "offset": 0 });
    let wish = json!({ "channel": "workflow:1", "recover": recover });
    let mut late = cluster.nodes[2].hello();
    let answer = late.request("subscribe", wish);
    assert_eq!(answer["data"]["missed"], 6, "{answer}");
    assert_eq!(late.numbers(6), [1, 2, 3, 4, 5, 6]);
}

fn a_redis_that_stands_still_loses_nothing(runtime: &str) {
    let cluster = cluster(runtime, &[], Options::default());
    let load = load(&cluster);
    for seconds in [1, 6] {
        load.wait_for(50);
        cluster.redis.pause();
        load.run(Duration::from_secs(seconds));
        cluster.redis.resume();
    }
    cluster.wait_whole();
    load.wait_for(50);
    load.finish().assert_perfect();
}

fn connections_that_redis_ends_lose_nothing(runtime: &str) {
    let cluster = cluster(runtime, &[], Options::default());
    let load = load(&cluster);
    for _ in 0..5 {
        load.wait_for(20);
        cluster.kill_connections();
    }
    cluster.wait_whole();
    load.wait_for(50);
    load.finish().assert_perfect();
}

fn a_node_that_is_killed_loses_nothing(runtime: &str) {
    let mut cluster = cluster(runtime, &[], Options::default());
    let load = load(&cluster);
    for node in 0..3 {
        load.wait_for(50);
        cluster.nodes[node].kill();
        load.wait_for(50);
        cluster.nodes[node].start_again();
        cluster.wait_whole();
    }
    load.wait_for(50);
    load.finish().assert_perfect();
}

/// What Redis says about who is connected, by name.
fn links(redis: &Redis) -> Vec<String> {
    let list = redis.ask(&["CLIENT", "LIST"]).text();
    let name =
        |line: &str| line.split(' ').find_map(|it| it.strip_prefix("name=")).map(str::to_owned);
    let mut names: Vec<_> = list.lines().filter_map(name).filter(|it| !it.is_empty()).collect();
    names.sort();
    names
}

#[test]
fn operators_see_who_is_connected_to_redis() {
    let cluster = Cluster::start(2, &QUICK);
    let expected = ["mahavishnu:n1:0", "mahavishnu:n1:1", "mahavishnu:n2:0", "mahavishnu:n2:1"];
    assert_eq!(links(&cluster.redis), expected);
    let health = http::get(cluster.nodes[0].address(), "/health").json();
    assert_eq!(health["checks"]["redis"], "passing", "{health}");
    drop(cluster.nodes);
    wait::until("the end of all links", || links(&cluster.redis).is_empty().then_some(()));
}
