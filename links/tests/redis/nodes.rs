//! Leases, what all nodes are told, and users' connections.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use mahavishnu_core::hub::{Alive, BusError, Visit, VisitChange, VisitName, Visited};
use mahavishnu_links::{BusCommand, BusEvent, LinkEvent, NodeEvent, NodeId, VisitEvent};
use mahavishnu_test_redis::{Options, Redis};

use crate::node::{Node, config, on_each};

const LEASE: Duration = Duration::from_millis(400);

fn beat(node: &Node, first: bool, lease: Duration) {
    let info = Bytes::from(format!("{{\"name\":\"{}\"}}", node.id.0));
    node.command(BusCommand::Beat { node: node.id, info, lease, first });
}

/// Who is there, and who has gone; `None`: the lease is lost.
fn beaten(node: &mut Node) -> Option<(Vec<u64>, Vec<u64>)> {
    node.find("the answer to a beat", |event| match event {
        BusEvent::Node(NodeEvent::Beat { nodes, gone }) => {
            let name =
                |node: &mahavishnu_core::hub::Node| format!("{{\"name\":\"{}\"}}", node.id.0);
            assert!(nodes.iter().all(|node| *node.info == *name(node).as_bytes()));
            let mut nodes: Vec<_> = nodes.iter().map(|node| node.id.0).collect();
            nodes.sort_unstable();
            Some(Some((nodes, gone.iter().map(|node| node.0).collect())))
        }
        BusEvent::Node(NodeEvent::LeaseLost) => Some(None),
        _ => None,
    })
}

#[test]
fn leases_are_renewed_or_lost() {
    on_each(|redis| {
        let (mut a, mut b) = (Node::start(redis, 1), Node::start(redis, u64::MAX));
        beat(&a, false, LEASE);
        assert_eq!(beaten(&mut a), None, "it never had one");
        beat(&a, true, Duration::from_secs(60));
        assert_eq!(beaten(&mut a), Some((vec![1], vec![])));
        beat(&b, true, LEASE);
        assert_eq!(beaten(&mut b), Some((vec![1, u64::MAX], vec![])));
        std::thread::sleep(LEASE + Duration::from_millis(100));
        beat(&a, false, Duration::from_secs(60));
        assert_eq!(beaten(&mut a), Some((vec![1], vec![u64::MAX])), "told to whoever comes first");
        beat(&b, false, LEASE);
        assert_eq!(beaten(&mut b), None);
        beat(&a, false, Duration::from_secs(60));
        assert_eq!(beaten(&mut a), Some((vec![1], vec![])), "and to nobody else");
        a.command(BusCommand::Quit { node: a.id });
        // Which is done when what comes behind it is.
        a.read("c", 0, 1).expect("a page");
        beat(&b, true, LEASE);
        let (nodes, _) = beaten(&mut b).unwrap();
        assert!(nodes.contains(&u64::MAX), "{nodes:?}");
        assert_eq!(redis.ask(&["HLEN", "mahavishnu:{n}:nodes"]).integer(), 1);
    });
}

fn control(node: &mut Node, command: &str, keep: Duration) -> Result<u32, BusError> {
    let id = node.call();
    node.command(BusCommand::Control { id, command: Bytes::from(command.to_owned()), keep });
    node.find("an answer", |event| match event {
        BusEvent::Node(NodeEvent::Controlled { id: of, result }) if *of == id => Some(*result),
        _ => None,
    })
}

fn told(events: &[BusEvent]) -> Vec<String> {
    let texts = events.iter().filter_map(|event| match event {
        BusEvent::Node(NodeEvent::Control { command, .. }) => {
            Some(String::from_utf8_lossy(command).into_owned())
        }
        _ => None,
    });
    texts.collect()
}

/// Everything that is kept comes before the link is reconciled, and each of it once, whatever happens to the connection.
#[test]
fn nodes_are_told_everything_once_and_in_order() {
    on_each(|redis| {
        let (mut a, mut b) = (Node::start(redis, 1), Node::start(redis, 2));
        let hour = Duration::from_secs(3_600);
        for number in 0..150 {
            assert_eq!(control(&mut a, &format!("{number}"), hour), Ok(2));
        }
        assert_eq!(control(&mut a, "soon over", Duration::from_millis(1)), Ok(2));
        let numbers =
            |range: std::ops::Range<u32>| range.map(|it| it.to_string()).collect::<Vec<_>>();
        let mut expected = numbers(0..150);
        expected.push("soon over".into());
        assert_eq!(told(&b.gather(Duration::from_millis(200))), expected);

        let mut late = Node::begin(config(redis), 3, 0);
        let mut before = Vec::new();
        late.wait("reconciled", |event| {
            before.push(event.clone());
            matches!(event, BusEvent::Link(LinkEvent::Reconciled)).then_some(())
        });
        assert_eq!(told(&before), numbers(0..150));
        // A hub that is not the first is told nothing.
        let mut second = Node::begin(config(redis), 3, 1);
        second.up();

        redis.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        for node in [&mut a, &mut b, &mut late] {
            node.down();
            node.up();
        }
        assert_eq!(control(&mut b, "150", hour), Ok(3));
        for node in [&mut b, &mut late] {
            assert_eq!(told(&node.gather(Duration::from_millis(200))), ["150"]);
        }
        assert_eq!(told(&second.gather(Duration::from_millis(1))), Vec::<String>::new());
        assert_eq!(control(&mut a, &"x".repeat((64 << 10) + 1), hour), Err(BusError::Failed));
    });
}

/// A failover has lost what was told last, and what comes then has a lower name than that.
#[test]
fn what_is_told_after_a_loss_is_told() {
    on_each(|redis| {
        let mut config = config(redis);
        config.limits.standing_interval = Duration::from_millis(100);
        let mut a = Node::begin(config, 1, 0);
        a.up();
        let stream = "mahavishnu:{n}:control";
        let far = "99999999999999";
        let mut client = redis.client();
        client.ask(&["XADD", stream, "1000-0", far, "first"]);
        client.ask(&["XADD", stream, "3000-0", far, "lost"]);
        let expect = |a: &mut Node, expected: &str| {
            let (at, text) = a.find("something told", |event| match event {
                BusEvent::Node(NodeEvent::Control { at, command }) => {
                    Some((at.clone(), command.clone()))
                }
                _ => None,
            });
            assert_eq!(&*text, expected.as_bytes(), "{at}");
        };
        expect(&mut a, "first");
        expect(&mut a, "lost");
        client.ask(&["DEL", stream]);
        client.ask(&["XADD", stream, "1000-0", far, "first"]);
        client.ask(&["XADD", stream, "2000-0", far, "instead"]);
        expect(&mut a, "instead");
        client.ask(&["XADD", stream, "2500-0", far, "next"]);
        expect(&mut a, "next");
        // And nothing of it twice.
        assert_eq!(told(&a.gather(Duration::from_millis(500))), Vec::<String>::new());
    });
}

#[test]
fn what_matters_now_only_is_told_to_who_is_there() {
    let redis = Redis::start();
    let (mut a, mut b) = (Node::start(&redis, 1), Node::start(&redis, 2));
    a.command(BusCommand::Tell { message: Bytes::from_static(b"now") });
    for node in [&mut a, &mut b] {
        let message = node.find("something told", |event| match event {
            BusEvent::Node(NodeEvent::Told { message }) => Some(message.clone()),
            _ => None,
        });
        assert_eq!(&*message, b"now");
    }
    let mut late = Node::start(&redis, 3);
    let events = late.gather(Duration::from_millis(100));
    assert!(!events.iter().any(|event| matches!(event, BusEvent::Node(NodeEvent::Told { .. }))));
}

fn visitor(node: u64, number: u128) -> VisitName {
    VisitName { node: NodeId(node), connection: format!("{number:032x}").parse().expect("a UUID") }
}

fn alive(nodes: &[u64], grace: Duration) -> Alive {
    Alive { nodes: nodes.iter().map(|node| NodeId(*node)).collect::<Arc<[_]>>(), grace }
}

fn change(
    node: &mut Node,
    gone: &[VisitName],
    come: &[VisitName],
    alive: Alive,
    max: Option<u32>,
) -> Visited {
    let id = node.call();
    let come = come
        .iter()
        .map(|name| Visit { name: *name, info: Bytes::from(format!("{{\"of\":\"{name}\"}}")) });
    let change = VisitChange {
        id,
        user: "ada".into(),
        gone: gone.to_vec(),
        come: come.collect(),
        max,
        sweep: false,
        alive,
        keep: Duration::from_secs(60),
    };
    node.command(BusCommand::Visit(Box::new(change)));
    node.find("an answer", |event| match event {
        BusEvent::Visit(VisitEvent::Visited { id: of, result }) if *of == id => {
            Some(result.unwrap())
        }
        _ => None,
    })
}

#[test]
fn connections_of_users_are_counted() {
    on_each(|redis| {
        let mut a = Node::start(redis, 1);
        let (minute, none) = (Duration::from_secs(60), Duration::ZERO);
        let both = || alive(&[1, 2], none);
        let visited = |entered, connections| Visited { entered, connections };
        let (one, two, three) = (visitor(1, 1), visitor(1, 2), visitor(2, 3));
        assert_eq!(change(&mut a, &[], &[one, two], both(), Some(2)), visited(true, 2));
        assert_eq!(
            change(&mut a, &[], &[two], both(), Some(2)),
            visited(true, 2),
            "one counts once"
        );
        assert_eq!(change(&mut a, &[], &[three], both(), Some(2)), visited(false, 2));
        assert_eq!(
            change(&mut a, &[one], &[three], both(), Some(2)),
            visited(true, 2),
            "first who has gone"
        );
        // Node 2 is gone, but perhaps it is only that it is not known yet.
        assert_eq!(change(&mut a, &[], &[one], alive(&[1], minute), Some(2)), visited(false, 2));
        // What was put in this very millisecond counts for all of it.
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(change(&mut a, &[], &[one], alive(&[1], none), Some(2)), visited(true, 2));

        let id = a.call();
        a.command(BusCommand::Visits { id, user: "ada".into(), alive: both(), max: 1 });
        let visits = a.find("an answer", |event| match event {
            BusEvent::Visit(VisitEvent::Visits { id: of, result }) if *of == id => {
                Some(result.clone().unwrap())
            }
            _ => None,
        });
        let info = Bytes::from(format!("{{\"of\":\"{one}\"}}"));
        assert_eq!((visits.connections, visits.visits), (2, vec![Visit { name: one, info }]));
        std::thread::sleep(Duration::from_millis(50));
        let id = a.call();
        a.command(BusCommand::Visits { id, user: "ada".into(), alive: alive(&[9], none), max: 9 });
        let visits = a.find("an answer", |event| match event {
            BusEvent::Visit(VisitEvent::Visits { id: of, result }) if *of == id => {
                Some(result.clone().unwrap())
            }
            _ => None,
        });
        assert_eq!((visits.connections, visits.visits.len()), (0, 0));
    });
}

/// The rights that the documentation gives are enough, and no more than that.
#[test]
fn few_rights_are_enough() {
    let documentation = include_str!("../../src/redis/mod.rs");
    let (_, rules) = documentation.split_once("```text\n").expect("rights");
    let (rules, _) = rules.split_once("//! ```").expect("an end of them");
    let rules = rules.replace("//! ", "").split_whitespace().collect::<Vec<_>>().join(" ");
    // What a link can do without, it does without.
    let optional = ["+client|", "+config|"];
    let few = rules.split(' ').filter(|rule| !optional.iter().any(|start| rule.starts_with(start)));
    let few: Vec<_> = few.collect();
    for rules in [rules.clone(), few.join(" ")] {
        these_rights_are_enough(&rules);
    }
}

fn these_rights_are_enough(rules: &str) {
    let rules = &format!("on >secret {rules}");
    let redis = Redis::with(Options::default().user("worker", rules));
    let mut config = config(&redis);
    config.username = Some("worker".into());
    config.password = Some(mahavishnu_links::Secret::new("secret"));
    let mut a = Node::begin(config, 1, 0);
    a.up();
    a.follow("c", crate::node::epoch(1));
    let append = a.new_append("c", "r");
    a.append(append).unwrap();
    a.read("c", 0, 9).unwrap();
    beat(&a, true, LEASE);
    assert!(beaten(&mut a).is_some());
    assert_eq!(control(&mut a, "x", LEASE), Ok(1));
    assert_eq!(change(&mut a, &[], &[visitor(1, 1)], alive(&[1], LEASE), Some(2)).connections, 1);
    crate::taking::do_all(&redis, &mut a);
    assert!(a.state("probes", |state| state.up).probe_age.is_some());
    assert_eq!(a.stats.outages.iter().sum::<u64>(), 0);
}
