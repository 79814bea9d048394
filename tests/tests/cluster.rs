//! Several nodes and a real Redis: one server.

use mahavishnu_test_redis::Redis;
use mahavishnu_tests::{Cluster, http, wait};

/// Two shards a node, and links that notice soon what has happened.
const QUICK: [(&str, &str); 4] =
    [("SHARDS", "2"), ("REDIS_TIMEOUT", "2"), ("REDIS_CONNECT_TIMEOUT", "1"), ("NODE_LEASE", "4")];

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
