//! A node among others: its lease, who else is there, how well the bus does, and what is told of that over HTTP.

use super::{cluster::Cluster, *};

fn with_bus() -> Config {
    Config { bus: Some(crate::config::Bus::default()), ..quiet() }
}

/// Keep-alive off, so that time can pass in one go.
fn quiet() -> Config {
    let mut config = Config::default();
    config.limits.wire.ping_interval = None;
    config.limits.wire.connection_timeout = None;
    config
}

/// How many nodes each hub of a process knows.
fn known(cluster: &Cluster, node: usize) -> Vec<usize> {
    cluster.nodes[node].hubs.iter().map(|hub| hub.hub().nodes.len()).collect()
}

fn beats(cluster: &Cluster, node: usize) -> usize {
    let of = |(from, command): &&(usize, BusCommand)| {
        *from == node && matches!(command, BusCommand::Beat { .. })
    };
    cluster.bus.log.iter().filter(of).count()
}

#[test]
fn a_lease_is_renewed_at_a_fifth_and_every_hub_knows_who_is_there() {
    let mut cluster = Cluster::new(3, 2, &with_bus());
    cluster.wait(2);
    assert_eq!([0, 1, 2].map(|node| known(&cluster, node)), [[3, 3]; 3].map(Vec::from));
    let before = beats(&cluster, 1);

    cluster.wait(10);

    assert_eq!(beats(&cluster, 1) - before, 5);
    let (info, _) = &cluster.bus.leases[&cluster.id(1)];
    let info: Value = serde_json::from_slice(info).unwrap();
    assert_eq!(
        info,
        json!({"name": "n1", "version": env!("CARGO_PKG_VERSION"), "connections": 0,
            "links": {"up": 2, "total": 2}, "draining": false, "record": 1})
    );
}

#[test]
fn a_process_without_a_bus_asks_nothing_of_one() {
    let mut rig = Rig::new(2, quiet());
    rig.connect(1);
    rig.wait(Duration::from_secs(60));
    assert!(rig.commands.is_empty());
    assert_eq!(rig.hubs[0].poll_timeout(), None);
}

#[test]
fn nobody_counts_on_a_node_before_it_has_heard_what_all_are_to_know() {
    let mut cluster = Cluster::apart(1, 1, &with_bus());
    let now = cluster.now();
    cluster.nodes[0].hubs[0].handle_bus(now, BusEvent::Link(LinkEvent::Up { session: 1 }));
    cluster.run();
    assert_eq!(beats(&cluster, 0), 0);

    cluster.connect(0);

    assert_eq!(beats(&cluster, 0), 1);
    assert!(matches!(cluster.bus.log[0].1, BusCommand::Beat { first: true, .. }));
}

#[test]
fn who_is_away_for_longer_than_its_lease_is_another_node_when_it_comes_back() {
    let mut cluster = Cluster::new(2, 2, &with_bus());
    cluster.wait(4);
    let (before, other) = (cluster.id(0), cluster.id(1));

    cluster.cut(0);
    cluster.wait(8);
    assert_eq!(cluster.id(0), before, "it still has its lease");
    assert_eq!(known(&cluster, 1), [2, 2]);
    cluster.wait(4);

    assert_ne!(cluster.id(0), before);
    assert_eq!(known(&cluster, 1), [1, 1], "for the other it has gone");
    cluster.connect(0);
    cluster.wait(2);
    let own = cluster.id(0);
    for hub in &cluster.nodes[0].hubs {
        assert_eq!(hub.hub().nodes.node(), own, "all hubs go by the same name");
    }
    let leases: Vec<_> = cluster.bus.leases.keys().copied().collect();
    let mut expected = vec![own, other];
    expected.sort();
    assert_eq!(leases, expected);
    assert_eq!(known(&cluster, 1), [2, 2]);
    assert_eq!(cluster.nodes[0].hubs[0].tally().bus.lease_lost, 1);
    assert_eq!(cluster.nodes[1].hubs[0].tally().bus.nodes_gone, 1);
}

#[test]
fn a_bus_that_took_no_writes_for_a_while_has_all_nodes_again() {
    let mut cluster = Cluster::new(2, 2, &with_bus());
    cluster.wait(4);
    let before = cluster.id(0);

    cluster.bus.full = true;
    cluster.wait(15);
    assert_ne!(cluster.id(0), before, "its lease is over");
    cluster.bus.full = false;
    cluster.wait(4);

    assert_eq!(known(&cluster, 0), [2, 2]);
    assert_eq!(known(&cluster, 1), [2, 2]);
    assert_eq!(cluster.bus.leases.len(), 2);
}

#[test]
fn a_bus_that_has_forgotten_the_lease_makes_another_node_of_it() {
    let mut cluster = Cluster::new(1, 2, &with_bus());
    cluster.wait(3);
    let before = cluster.id(0);

    cluster.bus.leases.clear();
    cluster.wait(2);

    assert_ne!(cluster.id(0), before);
    assert_eq!(cluster.bus.leases.keys().copied().collect::<Vec<_>>(), [cluster.id(0)]);
    assert_eq!(cluster.nodes[0].hubs[0].tally().bus.lease_lost, 1);
    cluster.wait(20);
    assert_eq!(cluster.nodes[0].hubs[0].tally().bus.lease_lost, 1, "once");
}

#[test]
fn a_hub_that_was_busy_learns_by_what_name_the_process_goes() {
    let mut cluster = Cluster::new(1, 2, &with_bus());
    cluster.wait(3);
    cluster.nodes[0].stalled = Some(1);
    cluster.bus.leases.clear();
    cluster.wait(2);
    let own = cluster.id(0);
    assert_ne!(cluster.nodes[0].hubs[1].hub().nodes.node(), own);

    cluster.nodes[0].stalled = None;
    cluster.wait(1);

    assert_eq!(cluster.nodes[0].hubs[1].hub().nodes.node(), own);
}

#[test]
fn readiness_says_how_the_bus_does_on_every_hub() {
    let mut cluster = Cluster::apart(2, 2, &with_bus());
    let (status, body) = cluster.get(0, 0, "/ready");
    assert_eq!((status, &body["checks"]["bus"]), (503, &json!("degraded")), "nothing is proven");
    assert_eq!(body["bus"]["links"], "0/2");

    cluster.connect(0);
    cluster.connect(1);
    cluster.wait(2);

    for shard in [0, 1] {
        let (status, body) = cluster.get(0, shard, "/ready");
        assert_eq!(status, 200);
        assert_eq!(body["node"], "n0");
        assert_eq!(body["checks"]["bus"], "passing");
        assert_eq!(
            body["bus"],
            json!({"probe_ms": 0.4, "probe_age_ms": 0, "links": "2/2", "nodes": 2, "reconciled": true})
        );
        assert_eq!(cluster.get(0, shard, "/health").1["checks"]["redis"], "passing");
    }
}

#[test]
fn one_link_that_is_away_makes_the_node_degraded_and_then_not_ready() {
    let mut cluster = Cluster::new(2, 2, &with_bus());
    cluster.wait(2);
    cluster.bus.cut(0, 1);
    cluster.run();
    let look = |cluster: &mut Cluster| {
        let (status, ready) = cluster.get(0, 0, "/ready");
        let (alive, health) = cluster.get(0, 1, "/health");
        assert_eq!((alive, &health["checks"]["redis"]), (200, &ready["checks"]["bus"]));
        (status, ready["checks"]["bus"].as_str().unwrap().to_owned())
    };

    assert_eq!(look(&mut cluster), (200, "degraded".into()));
    cluster.wait(9);
    assert_eq!(look(&mut cluster), (200, "degraded".into()));
    cluster.wait(2);
    assert_eq!(look(&mut cluster), (503, "failing".into()));
    let (status, other) = cluster.get(1, 0, "/ready");
    assert_eq!((status, &other["checks"]["bus"]), (200, &json!("passing")));
    cluster.bus.connect(0, 1);
    cluster.run();
    assert_eq!(look(&mut cluster), (200, "passing".into()));
}

#[test]
fn a_bus_that_takes_nothing_fails() {
    let mut cluster = Cluster::new(1, 1, &with_bus());
    cluster.bus.full = true;
    cluster.wait(1);
    let (status, body) = cluster.get(0, 0, "/ready");
    assert_eq!((status, &body["checks"]["bus"]), (200, &json!("failing")));
    assert_eq!(body["bus"]["full"], "OOM");

    cluster.wait(10);

    assert_eq!(cluster.get(0, 0, "/ready").0, 503);
}

#[test]
fn who_has_a_lease_and_is_not_heard_makes_it_degraded() {
    let mut cluster = Cluster::new(3, 2, &with_bus());
    cluster.wait(2);
    cluster.bus.deaf = true;
    cluster.wait(13);
    let (status, body) = cluster.get(0, 1, "/ready");
    assert_eq!((status, &body["checks"]["bus"]), (200, &json!("degraded")));
    assert_eq!(body["bus"]["silent"], 2);

    cluster.bus.deaf = false;
    cluster.wait(5);

    assert_eq!(cluster.get(0, 1, "/ready").1["checks"]["bus"], "passing");
}

#[test]
fn while_the_bus_is_away_nobody_is_silent_and_then_everybody_is_listened_to_anew() {
    let mut cluster = Cluster::new(3, 2, &with_bus());
    cluster.wait(2);
    cluster.bus.deaf = true;
    cluster.wait(13);
    let silent = |cluster: &mut Cluster| {
        [0, 1].map(|shard| cluster.get(0, shard, "/ready").1["bus"]["silent"].as_u64())
    };
    assert_eq!(silent(&mut cluster), [Some(2); 2]);

    cluster.cut(0);
    assert_eq!(silent(&mut cluster), [None; 2]);
    cluster.wait(13);
    assert_eq!(silent(&mut cluster), [None; 2], "without a lease neither");
    cluster.connect(0);
    cluster.wait(8);
    assert_eq!(silent(&mut cluster), [None; 2]);
    cluster.wait(5);
    assert_eq!(silent(&mut cluster), [Some(2); 2]);
}

#[test]
fn without_a_bus_nothing_is_said_of_one() {
    let mut rig = Rig::new(1, quiet());
    let client = rig.socket(0);
    rig.bytes(&client, b"GET /ready HTTP/1.1\r\nHost: x\r\n\r\n");
    let (_, body) = cluster::parsed(&client.take_text());
    assert_eq!(
        body,
        json!({"status": "ready", "server": "mahavishnu",
            "checks": {"accepting": "passing", "capacity": "passing"},
            "connections": {"open": 0, "max": 10_000, "bound": "setting"}})
    );
}

fn drain(cluster: &mut Cluster, node: usize) {
    let rig = &mut cluster.nodes[node];
    for hub in &mut rig.hubs {
        hub.handle_command(rig.now, Command::Drain(DrainPlan::default()));
    }
    cluster.run();
}

fn drained(cluster: &Cluster, node: usize) -> usize {
    let outputs = cluster.nodes[node].outputs.iter();
    outputs.filter(|output| matches!(output, Output::Drained)).count()
}

#[test]
fn a_node_that_stops_says_so_at_once_and_gives_its_lease_up_last() {
    let mut cluster = Cluster::new(2, 2, &with_bus());
    cluster.wait(2);
    let client = cluster.nodes[0].connect(1);
    cluster.wait(2);
    let own = cluster.id(0);

    drain(&mut cluster, 0);

    let (info, _) = &cluster.bus.leases[&own];
    let info: Value = serde_json::from_slice(info).unwrap();
    assert_eq!(info["draining"], true);
    assert_eq!(drained(&cluster, 0), 0, "a client is still there, at the other hub");
    cluster.nodes[0].hang_up(&client);
    cluster.run();
    assert_eq!(drained(&cluster, 0), 2);
    assert!(!cluster.bus.leases.contains_key(&own));
    cluster.wait(2);
    assert_eq!(known(&cluster, 1), [1, 1]);
    assert!(!cluster.bus.leases.contains_key(&own), "it gives no further sign");
}

#[test]
fn clients_are_told_when_to_come_back_only_if_that_is_wanted() {
    let spread = Config { drain_return: Duration::from_secs(5), ..quiet() };
    for (config, told) in [(quiet(), false), (spread, true)] {
        let mut rig = Rig::new(1, config);
        let clients: Vec<_> = (0..20).map(|_| rig.connect(0)).collect();
        rig.hubs[0].handle_command(rig.now, Command::Drain(DrainPlan::default()));
        rig.run();
        let mut times = Vec::new();
        for client in clients {
            let frames = client.take_frames();
            let (last, first) = frames.split_last().unwrap();
            assert_eq!((last.0, first.len()), (8, usize::from(told)), "the close comes last");
            for (_, payload) in first {
                let message: Value = serde_json::from_slice(payload).unwrap();
                assert_eq!(message["event"], "session.closing");
                assert_eq!(message["data"]["reason"], "restart");
                assert_eq!(message["data"]["deadline"], 10);
                times.push(message["data"]["return_after"].as_f64().unwrap());
            }
        }
        assert!(times.iter().all(|time| (0.0..=5.0).contains(time)), "{times:?}");
        let spread = times.iter().any(|time| *time < 2.0) && times.iter().any(|time| *time > 3.0);
        assert_eq!(spread, told, "{times:?}");
    }
}
