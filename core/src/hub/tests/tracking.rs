//! Users' connections on all nodes: what limits say of them, and what operators are told.

use super::{
    cluster::{Cluster, client, header, parsed, with_tokens},
    *,
};

fn cluster(nodes: usize, shards: u16, config: &Config) -> Cluster {
    let mut cluster = Cluster::new(nodes, shards, config);
    cluster.wait(2);
    cluster
}

fn hang_up(cluster: &mut Cluster, client: &Client, node: usize) {
    cluster.nodes[node].hang_up(client);
    cluster.run();
}

/// What an operator is told of a user's connections.
fn asked(cluster: &mut Cluster, node: usize, user: &str) -> Value {
    let target = format!("/connections?user={user}");
    let (status, body) = cluster.get_with(node, 1, &target, &header("root", "admin"));
    assert_eq!(status, 200, "{body}");
    body
}

fn names(answer: &Value) -> Vec<&str> {
    let listed = answer["connections"].as_array().unwrap().iter();
    let mut names: Vec<_> = listed.map(|one| one["connection_id"].as_str().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn operators_are_told_of_a_users_connections_on_all_nodes() {
    let mut cluster = cluster(3, 2, &with_tokens());
    let (_, here) = client(&mut cluster, 0, 1, "ada");
    let (gone, there) = client(&mut cluster, 2, 0, "ada");
    client(&mut cluster, 1, 0, "eve");

    let answer = asked(&mut cluster, 1, "ada");
    let mut both = [&*here, &*there];
    both.sort();
    assert_eq!(names(&answer), both);
    assert_eq!((&answer["total"], &answer["complete"]), (&json!(2), &json!(true)));
    let first = answer["connections"].as_array().unwrap().iter();
    let first = first.into_iter().find(|one| one["connection_id"] == *here).unwrap();
    assert_eq!(first["node"], "n0");
    assert_eq!(first["address"], "127.0.0.1:50000");
    assert_eq!(first["since"], "2026-02-02T02:40:02Z");

    hang_up(&mut cluster, &gone, 2);
    assert_eq!(names(&asked(&mut cluster, 1, "ada")), [&*here]);
    assert_eq!(asked(&mut cluster, 1, "nobody")["total"], 0);
}

#[test]
fn a_users_limit_holds_over_all_nodes() {
    let mut config = with_tokens();
    config.limits.connections.connections_per_user_max = Some(2);
    let mut cluster = cluster(2, 2, &config);
    let (first, _) = client(&mut cluster, 0, 0, "ada");
    let (second, _) = client(&mut cluster, 1, 1, "ada");
    let (third, _) = client(&mut cluster, 1, 0, "ada");
    let expected = Some((1013, "Too many connections of this user".to_owned()));
    assert_eq!(third.take_close(), expected);
    assert_eq!((first.take_close(), second.take_close()), (None, None));

    hang_up(&mut cluster, &third, 1);
    hang_up(&mut cluster, &first, 0);
    let (fourth, _) = client(&mut cluster, 1, 0, "ada");
    assert_eq!(fourth.take_close(), None);
}

#[test]
fn connections_of_a_node_that_died_do_not_count_for_long() {
    let mut config = with_tokens();
    config.limits.connections.connections_per_user_max = Some(1);
    let mut cluster = cluster(2, 2, &config);
    client(&mut cluster, 1, 0, "ada");
    cluster.cut(1);
    cluster.wait(12);
    let (early, _) = client(&mut cluster, 0, 0, "ada");
    assert!(early.take_close().is_some(), "a node might be so new that nobody knows it");
    assert_eq!(asked(&mut cluster, 0, "ada")["total"], 1);

    cluster.wait(10);

    assert_eq!(asked(&mut cluster, 0, "ada")["total"], 0);
    let (late, name) = client(&mut cluster, 0, 0, "ada");
    assert_eq!(late.take_close(), None);
    assert_eq!(names(&asked(&mut cluster, 0, "ada")), [&*name]);
    assert_eq!(cluster.bus.users["ada"].len(), 1, "what was left behind is swept");
}

#[test]
fn under_another_name_a_node_puts_its_connections_anew() {
    let mut cluster = cluster(1, 2, &with_tokens());
    let (_, name) = client(&mut cluster, 0, 1, "ada");
    let before = cluster.id(0);
    cluster.bus.leases.clear();
    cluster.wait(3);
    assert_ne!(cluster.id(0), before);
    let nodes: Vec<_> = cluster.bus.users["ada"].keys().map(|name| name.node).collect();
    assert_eq!(nodes, [cluster.id(0)]);
    assert_eq!(names(&asked(&mut cluster, 0, "ada")), [&*name]);
}

#[test]
fn while_the_bus_is_away_this_nodes_connections_are_told_and_the_others_are_not() {
    let mut cluster = cluster(2, 2, &with_tokens());
    client(&mut cluster, 1, 0, "ada");
    cluster.cut(0);
    let (_, here) = client(&mut cluster, 0, 0, "ada");
    let answer = asked(&mut cluster, 0, "ada");
    assert_eq!((names(&answer), &answer["complete"]), (vec![&*here], &json!(false)));

    cluster.connect(0);

    let answer = asked(&mut cluster, 0, "ada");
    assert_eq!((&answer["total"], &answer["complete"]), (&json!(2), &json!(true)));
}

#[test]
fn switched_off_nobody_else_is_told() {
    let mut config = with_tokens();
    config.bus.as_mut().unwrap().track_connections = false;
    let mut cluster = cluster(2, 2, &config);
    client(&mut cluster, 0, 0, "ada");
    assert!(cluster.bus.users.is_empty());
    let answer = asked(&mut cluster, 0, "ada");
    assert_eq!((&answer["total"], &answer["complete"]), (&json!(1), &json!(false)));
}

#[test]
fn all_nodes_together_have_so_many_connections() {
    let mut config = with_tokens();
    config.limits.connections.connections_cluster_max = Some(2);
    let mut cluster = cluster(2, 1, &config);
    client(&mut cluster, 0, 0, "ada");
    client(&mut cluster, 1, 0, "eve");
    cluster.wait(4);
    let late = cluster.nodes[1].connect_with(0, &header("kim", "workflow:read"));
    let expected = Some((1013, "Server at maximum capacity".to_owned()));
    assert_eq!(late.take_close(), expected);
    let (status, body) = cluster.get(0, 0, "/ready");
    assert_eq!((status, &body["checks"]["capacity"]), (503, &json!("failing")));
}

#[test]
fn without_a_bus_all_hubs_of_the_process_are_asked() {
    let mut rig = Rig::new(3, with_auth());
    let mut welcomed = Vec::new();
    for (shard, user) in [(0, "ada"), (2, "ada"), (1, "eve")] {
        let client = rig.connect_with(shard, &header(user, "workflow:read"));
        let welcome = client.take().remove(0);
        welcomed.push((user, welcome["data"]["connection_id"].as_str().unwrap().to_owned()));
    }
    let get = |rig: &mut Rig, target: &str, headers: &str| {
        let client = rig.socket(1);
        let head = format!("GET {target} HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
        rig.bytes(&client, head.as_bytes());
        parsed(&client.take_text())
    };
    let root = header("root", "admin");
    let (status, answer) = get(&mut rig, "/connections?user=ada", &root);
    let mut expected: Vec<_> =
        welcomed.iter().filter(|(user, _)| *user == "ada").map(|(_, name)| &**name).collect();
    expected.sort();
    assert_eq!((status, names(&answer)), (200, expected));
    assert_eq!((&answer["total"], &answer["complete"]), (&json!(2), &json!(true)));
    assert_eq!(answer["connections"][0].get("node"), None);
    assert!(rig.commands.is_empty());

    let eve = header("eve", "workflow:read");
    for (target, headers, status) in [
        ("/connections?user=ada", "", 401),
        ("/connections?user=ada", &*eve, 403),
        ("/connections", &*root, 400),
        ("/connections?user=", &*root, 400),
    ] {
        assert_eq!(get(&mut rig, target, headers).0, status, "{target}");
    }
}
