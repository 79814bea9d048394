//! What a node tells of its links to Redis: series with closed labels, and counts that are those of Redis.

use mahavishnu_tests::{
    Cluster, Metrics,
    prometheus::{Prometheus, promtool},
    wait,
};
use serde_json::json;

const RECONNECTS: &str = "mahavishnu_redis_reconnects_total";
const ERRORS: &str = "mahavishnu_redis_errors_total";
const COMMANDS: &str = "mahavishnu_redis_commands_total";

fn metrics_when(cluster: &Cluster, what: &str, is: impl Fn(&Metrics) -> bool) -> Metrics {
    cluster.nodes[0].metrics_when(what, is)
}

#[test]
fn a_node_counts_what_it_does_with_redis() {
    let cluster = Cluster::start(2, &[("SHARDS", "2"), ("REDIS_CONNECT_TIMEOUT", "1")]);
    let mut client = cluster.nodes[1].hello();
    client.subscribe("workflow:1");
    for n in 0..20 {
        cluster.nodes[0].post("workflow:1", "e", &json!({ "n": n }));
    }
    assert_eq!(client.numbers(20), (0..20).collect::<Vec<_>>());

    let count = |metrics: &Metrics, name: &str, label: (&str, &str)| metrics.count(name, &[label]);
    let before =
        metrics_when(&cluster, "appends", |it| count(it, COMMANDS, ("command", "append")) == 20);
    // Each appends to one shard's link, and both prove that they are there.
    for command in ["connect", "probe", "subscribe", "beat"] {
        assert!(count(&before, COMMANDS, ("command", command)) > 0, "{command}");
    }
    for name in ["sent_bytes", "received_bytes", "live_messages"] {
        assert!(before.count(&format!("mahavishnu_redis_{name}_total"), &[]) > 0, "{name}");
    }
    for name in ["mahavishnu_redis_poison_total", "mahavishnu_bus_probe_lost_total"] {
        assert_eq!(before.count(name, &[]), 0, "{name}");
    }
    assert_eq!(promtool(before.text()), "");

    // Redis forgets the scripts: each link is told so once for each that it runs, and gives them again.
    let mut redis = cluster.redis.client();
    redis.ask(&["SCRIPT", "FLUSH"]);
    let scripts =
        metrics_when(&cluster, "scripts", |it| count(it, ERRORS, ("class", "script")) > 0);
    assert!(count(&scripts, COMMANDS, ("command", "load")) > 0);
    assert_eq!(count(&scripts, RECONNECTS, ("cause", "eof")), 0, "the connections last");

    cluster.kill_connections();
    metrics_when(&cluster, "both links", |it| count(it, RECONNECTS, ("cause", "eof")) == 2);
    cluster.wait_whole();

    redis.ask(&["CONFIG", "SET", "maxmemory", "1"]);
    metrics_when(&cluster, "a full Redis", |it| count(it, ERRORS, ("class", "full")) > 0);
    redis.ask(&["CONFIG", "SET", "maxmemory", "0"]);
}

#[test]
fn what_waits_for_redis_is_a_level() {
    let cluster = Cluster::start(1, &[("SHARDS", "1"), ("REDIS_QUEUE_SECONDS", "300")]);
    let queued = |metrics: &Metrics| metrics.sum("mahavishnu_bus_queued_bytes", &[]);
    assert_eq!(queued(&cluster.nodes[0].metrics()), 0.0);
    let mut client = cluster.nodes[0].hello();
    client.subscribe("global");
    // Nothing is taken any more.
    cluster.redis.client().ask(&["CONFIG", "SET", "maxmemory", "1"]);
    cluster.wait_bus(0, "failing");
    let data =
        json!({ "channel": "global", "event": "e", "data": { "text": "x".repeat(100_000) } });
    let id = client.ask("publish", &data);
    let full = metrics_when(&cluster, "a queue", |it| queued(it) > 100_000.0);
    assert!(queued(&full) < 300_000.0, "{}", queued(&full));
    cluster.redis.client().ask(&["CONFIG", "SET", "maxmemory", "0"]);
    let answer = client.answer_to(&id);
    assert_eq!(answer["data"]["status"], "published", "{answer}");
    metrics_when(&cluster, "an empty queue", |it| queued(it) == 0.0);
}

#[test]
fn a_prometheus_reads_every_family_of_a_bus() {
    let cluster = Cluster::start(1, &[]);
    let prometheus = Prometheus::start(&cluster.nodes[0]);
    let labels = |name: &str, label: &str| {
        let series = prometheus.series(name);
        let mut values: Vec<_> = series
            .iter()
            .map(|(labels, _)| labels[label].as_str().unwrap_or_default().to_owned())
            .collect();
        values.sort_unstable();
        values.join(" ")
    };
    assert_eq!(
        labels(RECONNECTS, "cause"),
        "broken connect elsewhere eof io poison probe refused reload resolve timeout tls"
    );
    assert_eq!(labels(ERRORS, "class"), "elsewhere full poison refused script wait");
    // Names of scripts, of which there may come more.
    let commands = labels(COMMANDS, "command");
    let known = commands.split(' ').collect::<Vec<_>>();
    for command in ["append", "beat", "connect", "load", "probe", "read", "subscribe", "visit"] {
        assert!(known.contains(&command), "{command}: {commands}");
    }
    for name in [
        "mahavishnu_redis_under_way_bytes",
        "mahavishnu_redis_sent_bytes_total",
        "mahavishnu_redis_received_bytes_total",
        "mahavishnu_redis_live_messages_total",
        "mahavishnu_redis_poison_total",
        "mahavishnu_bus_queued_bytes",
        "mahavishnu_bus_probe_lost_total",
        "mahavishnu_bus_tells_dropped_total",
    ] {
        assert_eq!(labels(name, "server"), "mahavishnu", "{name}");
    }
    let up = || prometheus.series("sum(mahavishnu_redis_up)").iter().all(|(_, links)| *links > 0.0);
    wait::until("links that are up", || up().then_some(()));
}
