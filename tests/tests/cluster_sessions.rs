//! Sessions over three nodes and a real Redis: whatever node a client comes back to has its own.

use mahavishnu_test_redis::Options;
use mahavishnu_tests::{Client, Cluster, Server, http, wait};
use rustix::process::Signal;
use serde_json::{Value, json};

on_its_runtime! {
    a_killed_nodes_session_is_resumed_on_another,
    a_session_is_taken_from_a_connection_that_still_hangs,
    a_stopped_nodes_sessions_are_resumed_elsewhere,
    without_redis_a_client_is_told_to_try_again,
}

fn cluster(runtime: &str) -> Cluster {
    let settings = [
        ("RUNTIME", runtime),
        ("SHARDS", "2"),
        ("REDIS_TIMEOUT", "2"),
        ("REDIS_CONNECT_TIMEOUT", "1"),
        ("NODE_LEASE", "4"),
    ];
    Cluster::with(3, &settings, Options::default().aof())
}

fn publish(server: &Server, channel: &str, n: u64) {
    let body = json!({ "channel": channel, "event": "e", "data": { "n": n } });
    let answer = http::post(server.address(), "/publish", &[], &body.to_string());
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// A client of a node with a session and two channels, and what it needs to resume it elsewhere.
fn begin(cluster: &Cluster) -> (Client, Value) {
    let server = &cluster.nodes[0];
    let mut client = server.hello();
    let answer = client.request("keep_session", json!({ "ttl": 60 }));
    assert_eq!(answer["data"]["ttl"], 60, "{answer}");
    let session = answer["data"]["session"].clone();
    let wish = json!({ "channel": "workflow:1", "positions": true });
    let answer = client.request("subscribe", wish);
    let at = json!({ "epoch": answer["data"]["epoch"], "offset": answer["data"]["offset"] });
    client.subscribe("plain");
    wait_written(cluster, true);
    (client, json!({ "session": session, "positions": { "workflow:1": at } }))
}

/// Waits until Redis knows of the session's subscription to `plain`, or of its end: a subscription is answered before that.
fn wait_written(cluster: &Cluster, subscribed: bool) {
    wait::until("the session in Redis", || {
        let keys = cluster.redis.ask(&["KEYS", "mahavishnu:*:s:*"]);
        let key = keys.items().first()?.text();
        let known = format!("{:?}", cluster.redis.ask(&["HGET", &key, "r"]));
        (known.contains("plain") == subscribed).then_some(())
    });
}

fn assert_resumed(answer: &Value, missed: u64) {
    assert_eq!(answer["status"], "resumed", "{answer}");
    let list = answer["data"]["subscriptions"].as_array().unwrap();
    let names: Vec<_> = list.iter().map(|one| one["channel"].as_str().unwrap()).collect();
    assert_eq!(names, ["plain", "workflow:1"], "{answer}");
    assert_eq!((&list[1]["recovered"], &list[1]["missed"]), (&json!(true), &json!(missed)));
}

fn a_killed_nodes_session_is_resumed_on_another(runtime: &str) {
    let mut cluster = cluster(runtime);
    let (_client, resume) = begin(&cluster);
    cluster.nodes[0].kill();
    for n in 1..=10 {
        publish(&cluster.nodes[2], "workflow:1", n);
    }

    let mut again = cluster.nodes[1].hello();
    let answer = again.request("resume_session", &resume);

    assert_resumed(&answer, 10);
    assert_eq!(again.numbers(10), (1..=10).collect::<Vec<_>>());
    publish(&cluster.nodes[2], "plain", 11);
    assert_eq!(again.numbers(1), [11], "it goes on");
    let mut thief = cluster.nodes[2].hello();
    let mut other = resume.clone();
    other["session"] = json!("0".repeat(32));
    let answer = thief.request("resume_session", &other);
    assert_eq!(answer["error_code"], "SESSION_UNKNOWN", "{answer}");
}

fn a_session_is_taken_from_a_connection_that_still_hangs(runtime: &str) {
    let cluster = cluster(runtime);
    let (mut first, resume) = begin(&cluster);
    publish(&cluster.nodes[0], "workflow:1", 1);
    assert_eq!(first.numbers(1), [1]);

    let mut second = cluster.nodes[1].hello();
    assert_resumed(&second.request("resume_session", &resume), 1);
    assert_eq!(first.wait_close(1001), "Resumed elsewhere");
    assert_eq!(second.numbers(1), [1]);
    second.unsubscribe("plain");
    wait_written(&cluster, false);
    second.subscribe("plain");
    wait_written(&cluster, true);

    // And back to the node that it came from.
    let mut third = cluster.nodes[0].hello();
    assert_resumed(&third.request("resume_session", &resume), 1);
    assert_eq!(second.wait_close(1001), "Resumed elsewhere");
    assert_eq!(third.numbers(1), [1]);

    // Its name is not to be read from Redis.
    let session = resume["session"].as_str().unwrap();
    let keys = cluster.redis.ask(&["KEYS", "mahavishnu:*"]);
    assert!(!format!("{keys:?}").contains(session), "{keys:?}");
    for node in &cluster.nodes {
        assert!(!node.log().contains(session), "{}", node.log());
    }

    // A client that has done what it wanted has no session any more.
    third.close();
    wait::until("its end", || {
        let keys = cluster.redis.ask(&["KEYS", "mahavishnu:*:s:*"]);
        let key = keys.items().first().map(|key| key.text());
        let holder = key.map(|key| format!("{:?}", cluster.redis.ask(&["HGET", &key, "h"])));
        holder.is_none_or(|holder| !holder.contains('.')).then_some(())
    });
    let mut last = cluster.nodes[2].hello();
    let answer = last.request("resume_session", &resume);
    assert_eq!(answer["error_code"], "SESSION_UNKNOWN", "{answer}");
}

fn a_stopped_nodes_sessions_are_resumed_elsewhere(runtime: &str) {
    let mut cluster = cluster(runtime);
    let (mut first, resume) = begin(&cluster);
    cluster.nodes[0].signal(Signal::TERM);
    assert_eq!(first.wait_close(1001), "Server shutting down");
    drop(first);
    assert!(cluster.nodes[0].wait().success());
    publish(&cluster.nodes[2], "workflow:1", 1);
    let mut second = cluster.nodes[2].hello();
    assert_resumed(&second.request("resume_session", &resume), 1);
    assert_eq!(second.numbers(1), [1]);
}

fn without_redis_a_client_is_told_to_try_again(runtime: &str) {
    let mut cluster = cluster(runtime);
    let (first, resume) = begin(&cluster);
    drop(first);
    cluster.redis.kill();
    cluster.wait_bus(1, "degraded");
    let mut second = cluster.nodes[1].hello();
    for (event, data) in [("resume_session", resume.clone()), ("keep_session", json!({}))] {
        let answer = second.request(event, data);
        assert_eq!(answer["error_message"], "The message bus is away", "{answer}");
    }
    cluster.redis.restart();
    cluster.wait_whole();
    assert_resumed(&second.request("resume_session", &resume), 0);
}
