//! Who is in channels: changed by one node, told to all that follow, read by any.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use mahavishnu_core::{
    hub::{
        Alive, BusError, Live, PresenceAbsence, PresenceChange, PresenceChanged, PresenceEnd,
        PresenceEntry, PresenceMember, PresenceMembers, PresenceMove, PresenceNews,
    },
    protocol::Position,
};
use mahavishnu_links::{AttendanceEvent, BusCommand, BusEvent, ChannelEvent, NodeId};

use crate::node::{Node, epoch, on_each};

const MINUTE: Duration = Duration::from_secs(60);

/// Named so that it need not be a dependency.
macro_rules! id {
    ($number:expr) => {
        format!("{:032x}", $number).parse().expect("a UUID")
    };
}

/// One that is not held.
macro_rules! entry {
    ($number:expr, $info:expr) => {
        PresenceEntry { id: id!($number), info: $info, hold: Duration::ZERO }
    };
}

fn alive(nodes: &[u64], grace: Duration) -> Alive {
    Alive { nodes: nodes.iter().map(|node| NodeId(*node)).collect::<Arc<[_]>>(), grace }
}

/// A change by this node, to be filled.
fn change(node: &mut Node) -> PresenceChange {
    PresenceChange {
        id: node.call(),
        channel: "room:1".into(),
        node: node.id,
        gone: Vec::new(),
        come: Vec::new(),
        max: 10_000,
        sweep: false,
        alive: alive(&[1, 2], MINUTE),
        epoch: epoch(node.id.0),
        keep: MINUTE,
    }
}

fn card(text: &str) -> Bytes {
    Bytes::from(format!("{{\"info\":\"{text};:\"}}"))
}

fn attend(node: &mut Node, change: PresenceChange) -> Result<PresenceChanged, BusError> {
    let id = change.id;
    node.command(BusCommand::Attend(Box::new(change)));
    node.find("an answer", |event| match event {
        BusEvent::Attendance(AttendanceEvent::Attended { id: of, result }) if *of == id => {
            Some(result.clone())
        }
        _ => None,
    })
}

fn come(node: &mut Node, numbers: &[u128], text: &str) -> PresenceChanged {
    let come = numbers.iter().map(|number| entry!(*number, card(text))).collect();
    let change = PresenceChange { come, ..change(node) };
    attend(node, change).expect("it is taken")
}

fn go(node: &mut Node, number: u128, of: u64, why: PresenceEnd) -> PresenceChanged {
    let gone = vec![PresenceAbsence { member: id!(number), node: NodeId(of), why }];
    let change = PresenceChange { gone, ..change(node) };
    attend(node, change).expect("it is taken")
}

fn members(
    node: &mut Node,
    known: Option<Position>,
    alive: Alive,
    bytes_max: usize,
) -> PresenceMembers {
    let id = node.call();
    node.command(BusCommand::Members { id, channel: "room:1".into(), known, alive, bytes_max });
    node.find("members", |event| match event {
        BusEvent::Attendance(AttendanceEvent::Members { id: of, result }) if *of == id => {
            Some(result.clone().expect("they"))
        }
        _ => None,
    })
}

/// Who was refused, by number.
fn refused(changed: &PresenceChanged) -> Vec<u128> {
    changed.refused.iter().map(|id| id.as_u128()).collect()
}

fn news(node: &mut Node) -> PresenceNews {
    node.find("news", |event| match event {
        BusEvent::Channel(ChannelEvent::Live { live: Live::Presence(news), .. }) => {
            Some(news.clone())
        }
        _ => None,
    })
}

fn joined(number: u128, node: u64, text: &str) -> PresenceMove {
    PresenceMove::Joined(PresenceMember { id: id!(number), node: NodeId(node), info: card(text) })
}

fn left(number: u128, why: PresenceEnd) -> PresenceMove {
    PresenceMove::Left { member: id!(number), why }
}

#[test]
fn who_comes_and_goes_is_told_in_order_and_read_by_all() {
    on_each(|redis| {
        let (mut a, mut b) = (Node::start(redis, 1), Node::start(redis, 2));
        b.follow("room:1", epoch(9));
        let both = || alive(&[1, 2], MINUTE);
        let nothing = members(&mut b, None, both(), 1 << 20);
        assert_eq!((nothing.position, nothing.members), (None, Some(vec![])));

        let first = come(&mut a, &[1, 2], "a");
        let mut at = vec![Position { epoch: epoch(1), offset: 0 }, first.position];
        assert_eq!((first.position.epoch, first.members, refused(&first)), (epoch(1), 2, vec![]));
        assert_eq!(come(&mut a, &[1, 2], "a").position, at[1], "nothing has changed");
        assert_eq!(go(&mut a, 3, 1, PresenceEnd::Left).position, at[1], "nor by this");
        assert_eq!(go(&mut b, 1, 2, PresenceEnd::Left).position, at[1], "it is the other's");
        at.push(come(&mut a, &[1], "b").position);
        // Another node takes over what is the same.
        at.push(come(&mut b, &[2], "a").position);
        assert_eq!(go(&mut a, 2, 1, PresenceEnd::Lost).position, at[3], "it is not its own now");
        let last = go(&mut a, 1, 1, PresenceEnd::Lost);
        at.push(last.position);
        assert_eq!(last.members, 1);
        assert!(at.is_sorted_by(|one, next| one.offset < next.offset), "{at:?}");

        for (number, moves) in [
            (1, vec![joined(1, 1, "a"), joined(2, 1, "a")]),
            (2, vec![joined(1, 1, "b")]),
            (3, vec![joined(2, 2, "a")]),
            (4, vec![left(1, PresenceEnd::Lost)]),
        ] {
            let (before, position) = (at[number - 1].offset, at[number]);
            let moves = Some(moves);
            assert_eq!(news(&mut b), PresenceNews { before, position, refused: false, moves });
        }
        let all = members(&mut b, None, both(), 1 << 20);
        let PresenceMove::Joined(second) = joined(2, 2, "a") else { unreachable!() };
        assert_eq!((all.position, all.members), (Some(at[4]), Some(vec![second])));
        assert_eq!(members(&mut b, Some(at[4]), both(), 1 << 20).members, None, "all is known");
        assert!(members(&mut b, Some(at[3]), both(), 1 << 20).members.is_some());
        let ttl = redis.ask(&["PTTL", &key()]).integer();
        assert!((1..=60_000).contains(&ttl), "{ttl}");
    });
}

fn key() -> String {
    mahavishnu_links::redis::names::Names::new("mahavishnu", 0).presence("room:1")
}

#[test]
fn a_channel_has_so_many_members_and_whoever_is_refused_is_told() {
    on_each(|redis| {
        let mut a = Node::start(redis, 1);
        a.follow("room:1", epoch(9));
        let full = |a: &mut Node, numbers: &[u128]| {
            let come = numbers.iter().map(|number| entry!(*number, card("a"))).collect();
            let change = PresenceChange { come, max: 2, ..change(a) };
            attend(a, change).expect("it is taken")
        };
        let changed = full(&mut a, &[1, 2, 3]);
        assert_eq!((changed.members, refused(&changed)), (2, vec![3]));
        assert!(news(&mut a).refused, "all are told that not all are there");
        // Who is there is there.
        assert_eq!(refused(&full(&mut a, &[1, 2])), Vec::<u128>::new());
        assert!(members(&mut a, None, alive(&[1], MINUTE), 1 << 20).refused);
        go(&mut a, 1, 1, PresenceEnd::Left);
        assert!(!news(&mut a).refused);
        assert_eq!(refused(&full(&mut a, &[3])), Vec::<u128>::new());
        assert!(!news(&mut a).refused);

        // Those of a node that is gone make room; those of one that nobody need have heard of do not.
        let two = |a: &mut Node, grace| {
            let come = vec![entry!(4, card("b"))];
            let change = PresenceChange {
                come,
                max: 2,
                node: NodeId(2),
                alive: alive(&[2], grace),
                ..change(a)
            };
            attend(a, change).expect("it is taken")
        };
        assert_eq!(refused(&two(&mut a, MINUTE)), [4]);
        std::thread::sleep(Duration::from_millis(50));
        let changed = two(&mut a, Duration::from_millis(1));
        assert_eq!((changed.members, refused(&changed)), (1, vec![]));
        let gone: Vec<_> = [2, 3].map(|number| left(number, PresenceEnd::Node)).into();
        assert_eq!(news(&mut a).moves, Some(vec![]), "only that one was refused");
        let moves = [&gone[..], &[joined(4, 2, "b")]].concat();
        assert_eq!(news(&mut a).moves, Some(moves));
    });
}

#[test]
fn what_is_too_much_is_noticed_and_what_is_long_is_read_as_far_as_it_goes() {
    on_each(|redis| {
        let mut a = Node::start(redis, 1);
        a.follow("room:1", epoch(9));
        let long = "x".repeat(2_000);
        let numbers: Vec<u128> = (0..200).collect();
        come(&mut a, &numbers, &long);
        assert_eq!(news(&mut a).moves, None, "it is to be read");
        let some = members(&mut a, None, alive(&[1], MINUTE), 100_000);
        let listed = some.members.expect("some of them");
        assert!(some.more && (40..60).contains(&listed.len()), "{}", listed.len());
        assert!(listed.is_sorted_by_key(|member| member.id));
        let all = members(&mut a, None, alive(&[1], MINUTE), 1 << 20);
        assert_eq!((all.more, all.members.map(|all| all.len())), (false, Some(200)));
        // One that is held counts although its node is gone.
        let held = PresenceEntry { hold: MINUTE, ..entry!(7, card("held")) };
        let change = PresenceChange { come: vec![held], ..change(&mut a) };
        attend(&mut a, change).expect("it is taken");
        std::thread::sleep(Duration::from_millis(50));
        let none = members(&mut a, None, alive(&[7], Duration::from_millis(1)), 1 << 20);
        assert_eq!((none.stale, none.members.map(|all| all.len())), (true, Some(1)));
    });
}

#[test]
fn what_was_lost_begins_anew_and_what_is_none_fails() {
    on_each(|redis| {
        let mut a = Node::start(redis, 1);
        a.follow("room:1", epoch(9));
        come(&mut a, &[1], "a");
        news(&mut a);
        redis.ask(&["DEL", &key()]);
        // To renew is enough.
        let renewal = change(&mut a);
        let renewal = PresenceChange { epoch: epoch(5), sweep: true, ..renewal };
        let changed = attend(&mut a, renewal).expect("it is taken");
        assert_eq!((changed.position.epoch, changed.members), (epoch(5), 0));
        let news = news(&mut a);
        assert_eq!((news.before, news.position), (0, changed.position));
        redis.ask(&["SET", &key(), "x"]);
        let change = change(&mut a);
        assert_eq!(attend(&mut a, change), Err(BusError::Failed));
    });
}
