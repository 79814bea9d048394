//! What can break between nodes and their Redis, done for seconds to three nodes under load: nothing is lost, doubled or out
//! of order without a word, and in the end all is well again. `scripts/outages` does all of it, and for longer.

use mahavishnu_test_redis::{Kind, Redis};
use mahavishnu_tests::{
    Cluster, Server,
    foreign::python_command,
    http,
    outages::{Balancer, Drain, Outage, Scale, roll},
    wait,
};
use serde_json::json;

/// Seconds of an outage, on the runtime of this run.
macro_rules! outages {
    ($($test:ident $name:literal)*) => {
        $(#[test] fn $test() { Outage::named($name).run(Scale::Small, &[]).assert_fine(); })*
    };
}

outages! {
    a_node_that_is_cut_off_loses_nothing "cut"
    a_node_that_stands_still_longer_than_its_lease_loses_nothing "node-paused"
    a_redis_that_takes_no_writes_loses_nothing "oom"
    a_failover_of_sentinels_loses_nothing_without_a_word "failover"
    two_primaries_lose_nothing_without_a_word "two-primaries"
    nodes_of_two_databases_hear_nothing_of_each_other "databases"
}

#[test]
fn a_rolling_restart_behind_nginx_loses_nothing() {
    roll(Balancer::Nginx, Drain::AtOnce, Scale::Small, &[]).assert_fine();
}

#[test]
fn a_rolling_restart_behind_haproxy_loses_nothing() {
    roll(Balancer::Haproxy, Drain::AtOnce, Scale::Small, &[]).assert_fine();
}

#[test]
fn a_redis_that_is_too_old_is_not_used() {
    let redis = Redis::with(mahavishnu_test_redis::Options::of(&Kind::too_old()));
    let port = redis.port().to_string();
    let node = Server::with(&[("REDIS_HOST", "127.0.0.1"), ("REDIS_PORT", &port), ("SHARDS", "1")]);
    wait::until("the reason", || {
        let answer = http::get(node.address(), "/ready");
        let cause = answer.json()["bus"]["cause"].as_str().map(str::to_owned);
        let is_told = cause.is_some_and(|cause| cause.contains("is too old: 7.0 or later"));
        (is_told && answer.status == 503).then_some(())
    });
    assert_eq!(redis.ask(&["DBSIZE"]).integer(), 0, "nothing is written there");
}

/// The services' own Python client knows nothing of nodes: it stays subscribed on one that is not started again, and on one
/// that is it connects anew as it ever did.
#[test]
fn the_services_python_client_goes_through_a_restart_of_its_node() {
    let mut cluster = Cluster::start(3, &[("SHARDS", "2")]);
    let urls: Vec<_> = cluster.nodes.iter().map(Server::ws_url).collect();
    let urls: Vec<_> = urls.iter().map(String::as_str).collect();
    let mut client = python_command("services_client_restart.py", &urls);
    let child = client.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let child = child.spawn().unwrap();
    let subscribed = |nodes: &[Server]| {
        let count = |node: &Server| node.metrics().count("mahavishnu_subscriptions", &[]);
        nodes.iter().map(count).sum::<u64>()
    };
    wait::until("three subscriptions", || (subscribed(&cluster.nodes) == 3).then_some(()));
    let sent = |node: &Server| {
        let labels = [("direction", "sent"), ("message_type", "event")];
        node.metrics().count("websocket_messages_total", &labels)
    };
    let before = sent(&cluster.nodes[0]);
    cluster.nodes[1].post("pool:1", "pool.scaled", &json!({ "n": 1 }));
    wait::until("the first at its node", || (sent(&cluster.nodes[0]) > before).then_some(()));

    cluster.nodes[0].terminate();
    cluster.nodes[1].post("pool:1", "pool.scaled", &json!({ "n": 2 }));
    cluster.nodes[0].start_again();
    wait::until("three subscriptions", || (subscribed(&cluster.nodes) == 3).then_some(()));
    cluster.nodes[2].post("pool:1", "pool.scaled", &json!({ "n": 3 }));

    let output = child.wait_with_output().unwrap();
    let (said, error) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}{error}");
    // The one whose node was away missed what came meanwhile, as ever; the others nothing.
    assert_eq!(said.lines().collect::<Vec<_>>(), ["1 3", "1 2 3", "1 2 3", "ok"]);
}
