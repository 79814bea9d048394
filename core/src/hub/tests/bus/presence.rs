//! Who is in a channel, on all nodes.

use super::*;
use crate::hub::tests::presence::{joined, left, told};

const ROOM: &str = "room:1";

fn rooms() -> Config {
    let presence = vec![(Pattern::parse("room:*").unwrap(), true)];
    let mut config = Config { presence, ..config() };
    config.limits.wire.ping_interval = None;
    config.limits.wire.connection_timeout = None;
    config
}

/// Nodes with leases.
fn nodes(count: usize, shards: u16) -> Nodes {
    with(count, shards, rooms())
}

fn with(count: usize, shards: u16, config: Config) -> Nodes {
    let mut nodes = Nodes::away(count, shards, config);
    nodes.server.leases = Some(BTreeMap::new());
    let mut nodes = Nodes::all(nodes);
    // Everybody has heard of everybody.
    pass(&mut nodes, 3);
    nodes
}

/// So many seconds pass, in which nodes beat.
fn pass(nodes: &mut Nodes, seconds: u64) {
    for _ in 0..seconds {
        nodes.wait(Duration::from_secs(1));
        nodes.settle();
    }
}

/// A welcomed client, and its name.
fn hello(nodes: &mut Nodes, node: usize, shard: usize) -> (Client, String) {
    let client = nodes.rigs[node].connect_with(shard, "");
    let welcome = client.take().remove(0);
    (client, welcome["data"]["connection_id"].as_str().unwrap().to_owned())
}

/// Subscribes with a wish. How many members there are then; what else came is left out.
fn attend(nodes: &mut Nodes, node: usize, client: &Client, wish: &Value) -> u64 {
    let data = json!({"channel": ROOM, "presence": wish});
    let (answer, _) = nodes.request(node, client, "subscribe", &data);
    answer["data"]["presence"]["count"].as_u64().unwrap_or_else(|| panic!("{answer}"))
}

fn watcher(nodes: &mut Nodes, node: usize) -> Client {
    let (client, _) = hello(nodes, node, 0);
    attend(nodes, node, &client, &json!("watch"));
    client
}

fn member(nodes: &mut Nodes, node: usize) -> (Client, String) {
    let (client, name) = hello(nodes, node, 0);
    attend(nodes, node, &client, &json!({"info": {"node": node}}));
    client.take();
    (client, name)
}

/// The names of all who are there by a node, and whether it knows all of them.
fn listed(nodes: &mut Nodes, node: usize) -> (Vec<String>, bool) {
    let (client, _) = hello(nodes, node, 0);
    let (answer, _) = nodes.request(node, &client, "get_presence", &json!({"channel": ROOM}));
    nodes.rigs[node].hang_up(&client);
    let data = &answer["data"];
    let members = data["members"].as_array().unwrap_or_else(|| panic!("{answer}"));
    assert_eq!(data["count"], members.len(), "{answer}");
    let names = members.iter().map(|one| one["connection_id"].as_str().unwrap().to_owned());
    (names.collect(), data["complete"] == true)
}

fn sorted(names: &[&String]) -> Vec<String> {
    let mut names: Vec<_> = names.iter().map(|name| (*name).clone()).collect();
    names.sort();
    names
}

/// Nodes whose members the bus has.
fn owners(nodes: &Nodes) -> Vec<NodeId> {
    nodes.server.rooms[ROOM].members.values().map(|(node, ..)| *node).collect()
}

#[test]
fn members_are_those_of_all_nodes_and_who_watches_hears_of_each_once() {
    let mut nodes = nodes(3, 2);
    let watchers: Vec<_> = (0..3).map(|node| watcher(&mut nodes, node)).collect();
    let mut members = Vec::new();
    for node in 0..3 {
        let (client, name) = member(&mut nodes, node);
        for watcher in &watchers {
            assert_eq!(told(watcher), [joined(&name)]);
        }
        members.push((client, name));
    }
    let names = sorted(&members.iter().map(|(_, name)| name).collect::<Vec<_>>());
    for node in 0..3 {
        assert_eq!(listed(&mut nodes, node), (names.clone(), true));
    }
    // Who comes to a node is told how many there are, and nothing of those who were there.
    let (late, _) = hello(&mut nodes, 1, 1);
    assert_eq!(attend(&mut nodes, 1, &late, &json!("watch")), 3);
    assert_eq!(late.take(), Vec::<Value>::new());

    let (client, name) = &members[2];
    nodes.rigs[2].hang_up(client);
    nodes.settle();
    for watcher in watchers.iter().chain([&late]) {
        assert_eq!(told(watcher), [left(name, "lost")]);
    }
    let (client, name) = &members[0];
    nodes.request(0, client, "unsubscribe", &json!({"channel": ROOM}));
    for watcher in watchers.iter().chain([&late]) {
        assert_eq!(told(watcher), [left(name, "left")]);
    }
    assert_eq!(listed(&mut nodes, 2), (vec![members[1].1.clone()], true));
    assert_eq!(nodes.rigs.iter_mut().map(tallied).sum::<i64>(), 1, "each node counts its own");
}

/// What a node counts as its members.
fn tallied(rig: &mut Rig) -> i64 {
    rig.hubs.iter_mut().map(|hub| hub.tally().presence_members).sum()
}

#[test]
fn who_is_only_asked_need_not_be_subscribed_to() {
    let mut nodes = nodes(2, 2);
    let (_, name) = member(&mut nodes, 0);
    assert_eq!(listed(&mut nodes, 1), (vec![name], true));
    let (client, _) = hello(&mut nodes, 1, 0);
    let data = json!({"channel": ROOM, "members": false});
    let (answer, _) = nodes.request(1, &client, "get_presence", &data);
    assert_eq!(answer["data"], json!({"channel": ROOM, "count": 1}));
}

#[test]
fn what_comes_and_goes_in_a_turn_is_one_command() {
    let mut nodes = nodes(2, 1);
    let other = watcher(&mut nodes, 1);
    let clients: Vec<_> = (0..100).map(|_| hello(&mut nodes, 0, 0).0).collect();
    let data = json!({"channel": ROOM, "presence": true});
    let message = json!({"type": "request", "event": "subscribe", "id": "q", "data": data});
    // The first makes the node follow the channel.
    attend(&mut nodes, 0, &clients[0], &json!(true));
    assert_eq!(told(&other).len(), 1);
    nodes.server.attends = 0;
    let now = nodes.rigs[0].now;
    for client in &clients[1..] {
        nodes.rigs[0].hubs[0].handle_bytes(now, client.conn, &mut frame(&message));
    }
    nodes.rigs[0].run();
    nodes.settle();

    assert_eq!(nodes.server.attends, 1);
    let came = other.take();
    assert_eq!(came.len(), 1, "many at once are one event on every node");
    assert_eq!(came[0]["data"], json!({"count": 100, "joined": 99, "left": 0}));
}

#[test]
fn news_that_are_lost_are_noticed_by_the_next_ones_or_after_a_while() {
    for by_next in [true, false] {
        let mut nodes = nodes(2, 1);
        let watcher = watcher(&mut nodes, 1);
        nodes.link(1, 0).deaf = 1;
        let (_, first) = member(&mut nodes, 0);
        assert_eq!(told(&watcher), []);
        let mut expected = vec![joined(&first)];
        if by_next {
            let (_, second) = member(&mut nodes, 0);
            expected.push(joined(&second));
        } else {
            nodes.check();
        }
        let mut heard = told(&watcher);
        heard.sort();
        expected.sort();
        assert_eq!(heard, expected, "{by_next}");
        nodes.check();
        assert_eq!(told(&watcher), []);
    }
}

#[test]
fn what_is_too_much_for_the_way_is_read() {
    let mut nodes = nodes(2, 1);
    nodes.server.notice = Some(0);
    let watcher = watcher(&mut nodes, 1);
    let (client, name) = member(&mut nodes, 0);
    assert_eq!(told(&watcher), [joined(&name)]);
    nodes.rigs[0].hang_up(&client);
    nodes.settle();
    // Nobody says why.
    assert_eq!(told(&watcher), [left(&name, "lost")]);
}

#[test]
fn members_of_a_node_that_dies_leave_once_its_lease_is_over() {
    let mut nodes = nodes(3, 2);
    let watchers: Vec<_> = (0..2).map(|node| watcher(&mut nodes, node)).collect();
    let (_dead, name) = member(&mut nodes, 2);
    let (_alive, other) = member(&mut nodes, 1);
    watchers.iter().for_each(|watcher| drop(watcher.take()));
    nodes.kill(2);
    // Its clock stands still, and nobody is there to look at it.
    let dead = nodes.rigs.pop().unwrap();
    nodes.links.retain(|(node, _), _| *node < 2);
    pass(&mut nodes, 7);
    assert!(watchers.iter().all(|watcher| told(watcher).is_empty()), "it has its lease");
    pass(&mut nodes, 8);
    for (node, watcher) in watchers.iter().enumerate() {
        assert_eq!(told(watcher), [left(&name, "node")], "node {node}");
        assert_eq!(listed(&mut nodes, node), (vec![other.clone()], true));
    }
    assert_eq!(nodes.server.rooms[ROOM].members.len(), 1, "and the bus keeps it no longer");
    pass(&mut nodes, 30);
    nodes.check();
    assert!(watchers.iter().all(|watcher| told(watcher).is_empty()));
    drop(dead);
}

#[test]
fn a_node_that_was_away_for_longer_than_its_lease_enters_its_members_again() {
    let mut nodes = nodes(2, 2);
    let (own, other) = (watcher(&mut nodes, 0), watcher(&mut nodes, 1));
    let (_client, name) = member(&mut nodes, 0);
    let (_else, elsewhere) = member(&mut nodes, 1);
    told(&own);
    told(&other);
    let before = owners(&nodes);
    nodes.down(0);
    pass(&mut nodes, 15);
    assert_eq!(told(&other), [left(&name, "node")]);
    assert_eq!(told(&own), [], "it knows of nothing else");
    assert!(!listed(&mut nodes, 0).1, "and says so");

    nodes.up(0);
    pass(&mut nodes, 15);

    assert_eq!(told(&other), [joined(&name)]);
    assert_eq!(told(&own), []);
    for node in 0..2 {
        assert_eq!(listed(&mut nodes, node), (sorted(&[&name, &elsewhere]), true));
    }
    let after = owners(&nodes);
    assert_eq!(
        after.iter().filter(|node| before.contains(node)).count(),
        1,
        "{before:?} {after:?}"
    );
}

#[test]
fn what_happened_while_the_bus_was_away_is_told_when_it_is_there() {
    let mut nodes = nodes(2, 1);
    let watchers = [0, 1].map(|node| watcher(&mut nodes, node));
    let (gone, first) = member(&mut nodes, 1);
    let (own, second) = member(&mut nodes, 0);
    watchers.iter().for_each(|watcher| drop(watcher.take()));
    nodes.down(0);
    nodes.rigs[1].hang_up(&gone);
    nodes.rigs[0].hang_up(&own);
    let (_client, third) = member(&mut nodes, 1);
    assert_eq!(listed(&mut nodes, 0), (vec![first.clone()], false));
    assert_eq!(told(&watchers[0]), [left(&second, "lost")], "its own are told at once");
    assert_eq!(told(&watchers[1]), [left(&first, "lost"), joined(&third)]);

    nodes.up(0);

    let mut heard = told(&watchers[0]);
    heard.sort();
    assert_eq!(heard, [joined(&third), left(&first, "lost")]);
    assert_eq!(told(&watchers[1]), [left(&second, "lost")]);
    for node in 0..2 {
        assert_eq!(listed(&mut nodes, node), (vec![third.clone()], true));
    }
}

/// Redis goes back to what it was, and somebody who comes then is the next change: it is not taken for the one that was lost.
#[test]
fn what_comes_when_something_was_lost_is_not_taken_for_that() {
    let mut nodes = nodes(3, 1);
    let watcher = watcher(&mut nodes, 0);
    let (_first, first) = member(&mut nodes, 1);
    let before = nodes.server.clone();
    let (_lost, lost) = member(&mut nodes, 1);
    watcher.take();
    (0..3).for_each(|node| nodes.down(node));
    nodes.server = before;
    nodes.server.clock = 1_000;
    nodes.up(2);
    let (_new, new) = member(&mut nodes, 2);
    nodes.up(0);
    nodes.up(1);
    pass(&mut nodes, 2);
    assert_eq!(listed(&mut nodes, 0), (sorted(&[&first, &lost, &new]), true));
    // Until its node has put it again, the one whose coming was lost is not there.
    assert_eq!(told(&watcher), [joined(&new), left(&lost, "lost"), joined(&lost)]);
}

/// The same with what a member says of itself.
#[test]
fn what_a_member_said_last_is_put_again_when_that_was_lost() {
    let mut nodes = nodes(2, 1);
    let watcher = watcher(&mut nodes, 0);
    let (client, name) = hello(&mut nodes, 1, 0);
    attend(&mut nodes, 1, &client, &json!({"info": {"n": 1}}));
    let before = nodes.server.clone();
    attend(&mut nodes, 1, &client, &json!({"info": {"n": 2}}));
    watcher.take();
    (0..2).for_each(|node| nodes.down(node));
    nodes.server = before;
    nodes.server.clock = 1_000;
    (0..2).for_each(|node| nodes.up(node));
    pass(&mut nodes, 2);
    let (_, _, info) = &nodes.server.rooms[ROOM].members[&name.parse().unwrap()];
    assert!(String::from_utf8_lossy(info).contains("\"n\":2"), "{info:?}");
    let told = watcher.take();
    assert_eq!(told.last().unwrap()["data"]["info"], json!({"n": 2}), "{told:?}");
}

/// The bus is told that a node has a member, and tells all of it.
fn put(nodes: &mut Nodes, node: NodeId, id: Uuid, info: Bytes) {
    let change = BusCommand::Attend(Box::new(PresenceChange {
        id: CallId(u64::MAX),
        channel: ROOM.into(),
        node,
        gone: Vec::new(),
        come: vec![PresenceEntry { id, info, hold: Duration::ZERO }],
        max: 10,
        sweep: false,
        alive: Alive { nodes: vec![node].into(), grace: Duration::from_secs(60) },
        epoch: Epoch::from_random(1),
        keep: Duration::from_secs(60),
    }));
    let (_, pushed) = nodes.server.execute(&change);
    for (channel, live) in pushed {
        for node in 0..nodes.rigs.len() {
            let live = BusEvent::Channel(ChannelEvent::Live {
                channel: channel.clone(),
                live: live.clone(),
            });
            nodes.link(node, 0).told.push_back(live);
        }
    }
    nodes.settle();
}

/// The same under a name that the process had when its lease was over.
#[test]
fn a_member_that_is_put_late_under_a_former_name_is_put_again() {
    let mut nodes = nodes(2, 1);
    let watcher = watcher(&mut nodes, 0);
    let (_client, name) = member(&mut nodes, 1);
    let former = nodes.rigs[1].hubs[0].hub().nodes.node();
    nodes.link(1, 0).told.push_back(BusEvent::Node(NodeEvent::LeaseLost));
    pass(&mut nodes, 3);
    let now = nodes.rigs[1].hubs[0].hub().nodes.node();
    assert_ne!(former, now);
    watcher.take();
    let info = nodes.server.rooms[ROOM].members[&name.parse().unwrap()].2.clone();
    put(&mut nodes, former, name.parse().unwrap(), info);
    pass(&mut nodes, 3);
    assert_eq!(nodes.server.rooms[ROOM].members[&name.parse().unwrap()].0, now);
    assert_eq!(listed(&mut nodes, 0), (vec![name], true));
}

/// Its client has resumed its session on another node and says something else there, while its old connection still hangs.
#[test]
fn what_a_member_says_on_the_node_that_it_went_to_counts() {
    let mut nodes = nodes(2, 1);
    let watcher = watcher(&mut nodes, 0);
    let (hanging, name) = member(&mut nodes, 0);
    let other = nodes.rigs[1].hubs[0].hub().nodes.node();
    let info = Bytes::from_static(br#"{"user":null,"info":{"n":2},"since":1770000000000000}"#);
    put(&mut nodes, other, name.parse().unwrap(), info);
    assert_eq!(told(&watcher), [joined(&name)], "here it says what it said");
    nodes.rigs[0].hang_up(&hanging);
    nodes.settle();
    let told = watcher.take();
    assert_eq!((told.len(), &told[0]["event"]), (1, &json!("presence.joined")), "{told:?}");
    assert_eq!(told[0]["data"]["info"], json!({"n": 2}));
    assert_eq!(listed(&mut nodes, 0).0, [name]);
}

/// A command of a connection that is over may be carried out late: whoever hears of a member of its own that is none ends it.
#[test]
fn a_member_that_comes_late_and_is_gone_is_taken_out() {
    let mut nodes = nodes(2, 1);
    let watcher = watcher(&mut nodes, 0);
    let (client, name) = member(&mut nodes, 1);
    let room = nodes.server.rooms[ROOM].clone();
    nodes.rigs[1].hang_up(&client);
    nodes.settle();
    watcher.take();
    let late = room.members.iter().next().map(|(id, (_, _, info))| (*id, info.clone()));
    let (id, info) = late.unwrap();
    assert_eq!(id.to_string(), name);
    let node = nodes.rigs[1].hubs[0].hub().nodes.node();
    put(&mut nodes, node, id, info);
    pass(&mut nodes, 1);
    assert!(nodes.server.rooms[ROOM].members.is_empty());
    assert_eq!(listed(&mut nodes, 0), (vec![], true));
}

#[test]
fn much_that_happened_meanwhile_is_one_event() {
    let mut nodes = nodes(2, 1);
    let watcher = watcher(&mut nodes, 0);
    nodes.down(0);
    for _ in 0..40 {
        member(&mut nodes, 1);
    }
    nodes.up(0);
    let came = watcher.take();
    assert_eq!(came.len(), 1, "{came:?}");
    assert_eq!(came[0]["data"], json!({"count": 40, "joined": 40, "left": 0}));
}

#[test]
fn a_bus_that_has_lost_everything_is_told_anew_and_nobody_hears_of_it() {
    for with_leases in [false, true] {
        let mut nodes = nodes(3, 2);
        let watchers: Vec<_> = (0..3).map(|node| watcher(&mut nodes, node)).collect();
        let members: Vec<_> = (0..3).map(|node| member(&mut nodes, node)).collect();
        watchers.iter().for_each(|watcher| drop(watcher.take()));
        nodes.server.rooms.clear();
        if with_leases {
            nodes.server.leases = Some(BTreeMap::new());
        }
        // One of the nodes finds out.
        let home = nodes.home(0, ROOM);
        let epoch = nodes.link(0, home).follows[ROOM].0;
        let standing = nodes.server.standing_or_found(&ROOM.into(), epoch);
        let event = BusEvent::Channel(ChannelEvent::Standing {
            channel: ROOM.into(),
            standing,
            newest: None,
        });
        nodes.link(0, home).told.push_back(event);
        nodes.settle();
        pass(&mut nodes, 40);
        let names = sorted(&members.iter().map(|(_, name)| name).collect::<Vec<_>>());
        for (node, watcher) in watchers.iter().enumerate() {
            assert_eq!(told(watcher), [], "node {node}, leases too: {with_leases}");
            assert_eq!(listed(&mut nodes, node), (names.clone(), true));
        }
        assert_eq!(nodes.server.rooms[ROOM].members.len(), 3);
    }
}

#[test]
fn of_a_node_that_died_with_the_bus_nothing_stays() {
    let mut nodes = nodes(2, 1);
    let watcher = watcher(&mut nodes, 0);
    let (_client, name) = member(&mut nodes, 1);
    told(&watcher);
    nodes.kill(1);
    nodes.rigs.pop();
    nodes.links.remove(&(1, 0));
    nodes.down(0);
    nodes.server.rooms.clear();
    nodes.server.leases = Some(BTreeMap::new());
    nodes.up(0);
    assert_eq!(told(&watcher), [], "it may only not have come back yet");
    assert!(!listed(&mut nodes, 0).1);
    pass(&mut nodes, 30);
    let heard = told(&watcher);
    assert!(
        [[left(&name, "node")], [left(&name, "lost")]].contains(&[heard[0].clone()]),
        "{heard:?}"
    );
    assert_eq!(heard.len(), 1);
    assert_eq!(listed(&mut nodes, 0), (vec![], true));
}

#[test]
fn what_became_of_a_change_may_be_unknown_and_it_is_made_once() {
    for carried_out in [false, true] {
        let mut nodes = nodes(2, 1);
        let watchers = [0, 1].map(|node| watcher(&mut nodes, node));
        let (going, first) = member(&mut nodes, 0);
        watchers.iter().for_each(|watcher| drop(watcher.take()));
        let (coming, second) = hello(&mut nodes, 0, 0);
        nodes.ask(0, &coming, "subscribe", &json!({"channel": ROOM, "presence": true}));
        nodes.rigs[0].hang_up(&going);
        nodes.collect();
        while carried_out && nodes.execute(0, 0) {}
        nodes.down(0);
        nodes.up(0);
        nodes.settle();
        for watcher in &watchers {
            let mut heard = told(watcher);
            heard.sort();
            assert_eq!(heard, [joined(&second), left(&first, "lost")], "{carried_out}");
        }
        assert_eq!(nodes.server.rooms[ROOM].members.len(), 1);
    }
}

#[test]
fn a_bus_that_is_full_is_told_when_it_takes_something() {
    let mut nodes = nodes(2, 1);
    let watcher = watcher(&mut nodes, 1);
    nodes.server.full = true;
    let (_client, name) = member(&mut nodes, 0);
    assert_eq!(told(&watcher), []);
    nodes.server.full = false;
    let state = BusState { up: true, ..BusState::default() };
    nodes.link(0, 0).told.push_back(BusEvent::Link(LinkEvent::State(state)));
    nodes.settle();
    assert_eq!(told(&watcher), [joined(&name)]);
}

/// What another node would do that has taken a member's session over.
fn take_over(nodes: &mut Nodes, name: &str, by: NodeId) {
    let id: Uuid = name.parse().unwrap();
    let (_, _, info) = nodes.server.rooms[ROOM].members[&id].clone();
    let mut info: Value = serde_json::from_slice(&info).unwrap();
    assert!(info["held"].is_u64(), "all know for how long: {info}");
    info.as_object_mut().unwrap().remove("held");
    let info = info.to_string().into();
    let change = PresenceChange {
        id: CallId(1_000_000),
        channel: ROOM.into(),
        node: by,
        gone: Vec::new(),
        come: vec![PresenceEntry { id, info, hold: Duration::ZERO }],
        max: 10,
        sweep: false,
        alive: Alive { nodes: Arc::new([]), grace: Duration::from_secs(60) },
        epoch: Epoch::from_random(1),
        keep: Duration::from_secs(60),
    };
    let (_, pushed) = nodes.server.execute(&BusCommand::Attend(Box::new(change)));
    for (channel, live) in pushed {
        for link in nodes.links.values_mut().filter(|link| link.follows.contains_key(&channel)) {
            link.told.push_back(BusEvent::Channel(ChannelEvent::Live {
                channel: channel.clone(),
                live: live.clone(),
            }));
        }
    }
    nodes.settle();
}

#[test]
fn a_member_that_another_node_takes_over_within_its_window_does_not_flap() {
    let mut nodes = nodes(2, 1);
    let watchers = [0, 1].map(|node| watcher(&mut nodes, node));
    let (client, name) = hello(&mut nodes, 0, 0);
    nodes.request(0, &client, "keep_session", &json!({"ttl": 30}));
    attend(&mut nodes, 0, &client, &json!(true));
    watchers.iter().for_each(|watcher| drop(watcher.take()));
    nodes.rigs[0].hang_up(&client);
    nodes.settle();
    pass(&mut nodes, 10);
    assert!(watchers.iter().all(|watcher| told(watcher).is_empty()), "it is held");
    let by = nodes.rigs[1].hubs[0].hub().nodes.node();
    let other = NodeId(by.0 ^ 1);
    take_over(&mut nodes, &name, other);
    // Of a node that nobody has heard of members count for two leases.
    pass(&mut nodes, 15);
    assert!(watchers.iter().all(|watcher| told(watcher).is_empty()), "and then the other's");
    assert_eq!(listed(&mut nodes, 0), (vec![name.clone()], true));
    pass(&mut nodes, 20);
    for watcher in &watchers {
        assert_eq!(told(watcher), [left(&name, "node")]);
    }
    assert_eq!(listed(&mut nodes, 1), (vec![], true));
}

#[test]
fn a_member_that_is_held_outlives_its_node_for_its_window() {
    for resumed in [false, true] {
        let mut nodes = nodes(3, 1);
        let watchers = [0, 1].map(|node| watcher(&mut nodes, node));
        let (client, name) = hello(&mut nodes, 2, 0);
        nodes.request(2, &client, "keep_session", &json!({"ttl": 60}));
        attend(&mut nodes, 2, &client, &json!(true));
        let (_open, other) = member(&mut nodes, 2);
        nodes.rigs[2].hang_up(&client);
        nodes.settle();
        watchers.iter().for_each(|watcher| drop(watcher.take()));
        nodes.kill(2);
        nodes.rigs.pop();
        nodes.links.retain(|(node, _), _| *node < 2);
        pass(&mut nodes, 20);
        for (node, watcher) in watchers.iter().enumerate() {
            assert_eq!(told(watcher), [left(&other, "node")], "it had no session");
            assert_eq!(listed(&mut nodes, node), (vec![name.clone()], true));
        }
        if resumed {
            // By a node that is gone itself before anybody has heard of it.
            let by = nodes.rigs[1].hubs[0].hub().nodes.node();
            take_over(&mut nodes, &name, NodeId(by.0 ^ 1));
            pass(&mut nodes, 15);
            assert!(watchers.iter().all(|watcher| told(watcher).is_empty()));
        }
        pass(&mut nodes, 50);
        for (node, watcher) in watchers.iter().enumerate() {
            assert_eq!(told(watcher), [left(&name, "node")], "{resumed}: {node}");
            assert_eq!(listed(&mut nodes, node), (vec![], true));
        }
    }
}

#[test]
fn who_resumes_in_time_is_put_as_one_that_is_not_held() {
    let mut nodes = nodes(2, 1);
    let watcher = watcher(&mut nodes, 1);
    let (client, name) = hello(&mut nodes, 0, 0);
    let (answer, _) = nodes.request(0, &client, "keep_session", &json!({"ttl": 60}));
    attend(&mut nodes, 0, &client, &json!(true));
    nodes.rigs[0].hang_up(&client);
    nodes.settle();
    let held = |nodes: &Nodes| -> bool {
        let id: Uuid = name.parse().unwrap();
        let (_, _, info) = &nodes.server.rooms[ROOM].members[&id];
        String::from_utf8_lossy(info).contains("\"held\"")
    };
    assert!(held(&nodes));
    let again = nodes.connect(0, 0);
    let session = json!({"session": answer["data"]["session"]});
    let (answer, _) = nodes.request(0, &again, "resume_session", &session);
    assert_eq!(answer["data"]["status"], "resumed", "{answer}");
    assert!(!held(&nodes));
    assert_eq!(told(&watcher), [joined(&name)]);
}

#[test]
fn the_limit_holds_over_all_nodes() {
    let mut config = rooms();
    config.limits.presence.presence_members_max = 3;
    let mut nodes = with(2, 1, config);
    let watcher = watcher(&mut nodes, 1);
    let members: Vec<_> = [0, 0, 1].map(|node| member(&mut nodes, node)).into();
    for node in 0..2 {
        let (client, _) = hello(&mut nodes, node, 0);
        let data = json!({"channel": ROOM, "presence": true});
        let (answer, _) = nodes.request(node, &client, "subscribe", &data);
        assert_eq!(answer["error_code"], "RATE_LIMIT_EXCEEDED", "{answer}");
    }
    nodes.rigs[0].hang_up(&members[0].0);
    nodes.settle();
    told(&watcher);
    // Two who come at the same moment to different nodes: one of them is one too many.
    let clients = [0, 1].map(|node| hello(&mut nodes, node, 0));
    for (node, (client, _)) in clients.iter().enumerate() {
        nodes.ask(node, client, "subscribe", &json!({"channel": ROOM, "presence": true}));
    }
    nodes.settle();
    assert_eq!(nodes.server.rooms[ROOM].members.len(), 3);
    assert!((0..2).all(|node| !listed(&mut nodes, node).1), "not all are known everywhere");
    nodes.rigs[1].hang_up(&members[2].0);
    nodes.settle();
    let names = sorted(&[&members[1].1, &clients[0].1, &clients[1].1]);
    for node in 0..2 {
        assert_eq!(listed(&mut nodes, node), (names.clone(), true), "there is room again");
    }
}

#[test]
fn the_bus_does_not_forget_members_that_stay() {
    let mut nodes = nodes(2, 1);
    let (_client, _) = member(&mut nodes, 0);
    let before = nodes.server.attends;
    pass(&mut nodes, 301);
    assert_eq!(nodes.server.attends - before, 1, "once in five minutes");
    assert_eq!(nodes.server.rooms[ROOM].members.len(), 1);
}

#[test]
fn nothing_stays_of_a_channel_that_nobody_is_interested_in() {
    let mut nodes = nodes(2, 2);
    let (client, _) = member(&mut nodes, 0);
    listed(&mut nodes, 1);
    let held = |nodes: &Nodes| -> Vec<usize> {
        nodes
            .rigs
            .iter()
            .map(|rig| rig.hubs.iter().map(|hub| hub.hub().holdings().presence).sum())
            .collect()
    };
    assert_eq!(held(&nodes), [2, 1]);
    nodes.rigs[0].hang_up(&client);
    nodes.settle();
    pass(&mut nodes, 32);
    assert_eq!(held(&nodes), [0, 0]);
    for rig in &mut nodes.rigs {
        rig.assert_empty();
    }
    assert_eq!(nodes.server.rooms[ROOM].members.len(), 0);
}
