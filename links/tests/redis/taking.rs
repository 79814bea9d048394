//! Entries of queues: who takes them, and what becomes of them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use mahavishnu_core::{
    config::{IngressKind, IngressSource},
    hub::{AppendError, IngressEntry, IngressOwner, NodeId, Once, Take, Taken, TakenFrom},
};
use mahavishnu_links::{BusCommand, BusEvent};
use mahavishnu_test_redis::Redis;

use crate::node::{AppendResult, Node, on_each};

const LEASE: Duration = Duration::from_secs(60);

fn queue(kind: IngressKind) -> Arc<IngressSource> {
    Arc::new(IngressSource { kind, name: "mahavishnu:in".into() })
}

fn owner(node: u64) -> IngressOwner {
    IngressOwner { node: NodeId(node), term: 1 }
}

/// To be changed as a test wants it.
fn take(node: &mut Node, kind: IngressKind) -> Take {
    Take {
        id: node.call(),
        source: queue(kind),
        owner: owner(node.id.0),
        lease: LEASE,
        after: None,
        entries_max: 100,
        bytes_max: 1 << 20,
        entry_bytes_max: 1000,
        done: Vec::new(),
        unfit: Vec::new(),
        gives_up: false,
    }
}

fn ask(node: &mut Node, take: Take) -> Taken {
    let id = take.id;
    node.command(BusCommand::Take(Box::new(take)));
    node.find("the answer to a take", |event| match event {
        BusEvent::Taken { id: of, result } if *of == id => Some(result.clone().unwrap()),
        _ => None,
    })
}

/// How many wait, and the entries.
fn owned(taken: Taken) -> (u64, Vec<IngressEntry>) {
    match taken {
        Taken::Owned { waiting, entries, .. } => (waiting, entries),
        Taken::Elsewhere { .. } => panic!("it is somebody else's"),
    }
}

fn names(entries: &[IngressEntry]) -> Vec<&str> {
    entries.iter().map(|entry| &*entry.name).collect()
}

fn write(redis: &Redis, id: &str, data: &str) -> String {
    let words = ["XADD", "mahavishnu:in", id, "channel", "c", "event", "e", "data", data];
    redis.ask(&words).text()
}

fn append(node: &mut Node, owner: IngressOwner, entry: &str, once: Option<Once>) -> AppendResult {
    let mut append = node.new_append("c", "r");
    let source = queue(IngressKind::Stream);
    append.once = once;
    append.taken = Some(Box::new(TakenFrom { source, owner, entry: entry.into() }));
    node.append(append)
}

/// Everything that is done with queues, whose names begin with the prefix.
pub(crate) fn do_all(redis: &Redis, node: &mut Node) {
    redis.ask(&["LPUSH", "mahavishnu:in", "1", "2"]);
    let all = take(node, IngressKind::List);
    let (waiting, entries) = owned(ask(node, all));
    let [unfit, done] = [0, 1].map(|at: usize| entries[at].name.clone());
    let rest = Take {
        unfit: vec![(unfit, "bad_publish")],
        done: vec![done],
        gives_up: true,
        ..take(node, IngressKind::List)
    };
    assert_eq!((waiting, owned(ask(node, rest))), (2, (0, vec![])));
}

#[test]
fn entries_come_in_order_and_stay_until_they_are_done_with() {
    on_each(|redis| {
        let mut a = Node::start(redis, 1);
        let first = take(&mut a, IngressKind::Stream);
        assert_eq!(owned(ask(&mut a, first)), (0, vec![]), "there is nothing");
        for (id, data) in [("1-0", "{}"), ("1-1", "{\"n\":1}"), ("2-0", "{}")] {
            write(redis, id, data);
        }
        let all = take(&mut a, IngressKind::Stream);
        let (waiting, entries) = owned(ask(&mut a, all));
        assert_eq!((waiting, names(&entries)), (3, vec!["1-0", "1-1", "2-0"]));
        let fields: BTreeMap<_, _> = entries[1].fields.clone().unwrap().into_iter().collect();
        assert_eq!(
            (&fields[&b"channel"[..]][..], &fields[&b"data"[..]][..]),
            (&b"c"[..], &b"{\"n\":1}"[..])
        );
        let some =
            Take { after: Some("1-0".into()), entries_max: 1, ..take(&mut a, IngressKind::Stream) };
        assert_eq!(names(&owned(ask(&mut a, some)).1), ["1-1"]);
        let none = Take { entries_max: 0, ..take(&mut a, IngressKind::Stream) };
        assert_eq!(owned(ask(&mut a, none)), (3, vec![]));
        let done = vec!["1-0".into(), "2-0".into(), "7-0".into()];
        let done = Take { done, ..take(&mut a, IngressKind::Stream) };
        let (waiting, entries) = owned(ask(&mut a, done));
        assert_eq!((waiting, names(&entries)), (1, vec!["1-1"]));
    });
}

#[test]
fn long_entries_are_named_and_answers_stay_short() {
    on_each(|redis| {
        let mut a = Node::start(redis, 1);
        let long = format!("{{\"x\":\"{}\"}}", "x".repeat(2000));
        write(redis, "1-0", &long);
        for n in 2..50 {
            write(redis, &format!("{n}-0"), &format!("{{\"x\":\"{}\"}}", "x".repeat(500)));
        }
        let few = Take { bytes_max: 3000, ..take(&mut a, IngressKind::Stream) };
        let (waiting, entries) = owned(ask(&mut a, few));
        assert_eq!(waiting, 49);
        assert!(entries[0].fields.is_none() && entries[1].fields.is_some());
        assert!((6..=16).contains(&entries.len()), "{}", entries.len());
    });
}

#[test]
fn what_is_unfit_is_put_aside_with_its_cause() {
    on_each(|redis| {
        let mut a = Node::start(redis, 1);
        write(redis, "1-0", "[]");
        write(redis, "2-0", &"x".repeat(100_000));
        let unfit = vec![("1-0".into(), "bad_publish"), ("2-0".into(), "message_too_big")];
        for waiting in [0, 0] {
            // Told twice, as after a lost answer, it is put aside once.
            let unfit = Take { unfit: unfit.clone(), ..take(&mut a, IngressKind::Stream) };
            assert_eq!(owned(ask(&mut a, unfit)), (waiting, vec![]));
        }
        let dead = redis.ask(&["XRANGE", "mahavishnu:in:dead", "-", "+"]);
        let fields: Vec<Vec<String>> = dead
            .items()
            .iter()
            .map(|entry| entry.items()[1].items().iter().map(|word| word.text()).collect())
            .collect();
        let head = ["reason", "bad_publish", "entry", "1-0", "channel", "c", "event", "e"];
        assert_eq!(fields[0][..8], head);
        assert_eq!(
            (fields.len(), &*fields[1][1], fields[1][9].len()),
            (2, "message_too_big", 1024)
        );

        for n in 10..1210 {
            write(redis, &format!("{n}-0"), "[]");
        }
        for chunk in (10..1210).collect::<Vec<_>>().chunks(200) {
            let unfit = chunk.iter().map(|n| (format!("{n}-0").into(), "bad_publish")).collect();
            let unfit = Take { unfit, entries_max: 0, ..take(&mut a, IngressKind::Stream) };
            owned(ask(&mut a, unfit));
        }
        assert_eq!(redis.ask(&["XLEN", "mahavishnu:in:dead"]).integer(), 1000);
        assert_eq!(redis.ask(&["XLEN", "mahavishnu:in"]).integer(), 0);
    });
}

#[test]
fn one_owner_at_a_time_publishes() {
    on_each(|redis| {
        let (mut a, mut b) = (Node::start(redis, 1), Node::start(redis, 2));
        for id in ["1-0", "2-0", "3-0"] {
            write(redis, id, "{}");
        }
        let short = Take { lease: Duration::from_millis(400), ..take(&mut a, IngressKind::Stream) };
        assert_eq!(owned(ask(&mut a, short)).0, 3);
        let other = Take { done: vec!["1-0".into()], ..take(&mut b, IngressKind::Stream) };
        let Taken::Elsewhere { left } = ask(&mut b, other) else { panic!("it is a's") };
        assert!(left <= Duration::from_millis(400));
        assert!(append(&mut a, owner(1), "1-0", None).is_ok());
        assert_eq!(append(&mut b, owner(2), "2-0", None), Err(AppendError::NotOwner));
        // It has slept, and its lease is over.
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(append(&mut a, owner(1), "2-0", None), Err(AppendError::NotOwner));
        let now = take(&mut b, IngressKind::Stream);
        assert_eq!(names(&owned(ask(&mut b, now)).1), ["2-0", "3-0"], "the first is published");
        assert_eq!(append(&mut a, owner(1), "2-0", None), Err(AppendError::NotOwner));
        let late = Take { done: vec!["2-0".into()], ..take(&mut a, IngressKind::Stream) };
        assert!(matches!(ask(&mut a, late), Taken::Elsewhere { .. }));
        let made = append(&mut b, owner(2), "2-0", None).unwrap();
        assert_eq!(made.first.offset, 2);
        assert_eq!(append(&mut b, owner(2), "2-0", None), Err(AppendError::Gone), "once");
        let given = Take { gives_up: true, ..take(&mut b, IngressKind::Stream) };
        assert_eq!(owned(ask(&mut b, given)), (1, vec![]));
        assert_eq!(append(&mut b, owner(2), "3-0", None), Err(AppendError::NotOwner));
        let back = take(&mut a, IngressKind::Stream);
        assert_eq!(names(&owned(ask(&mut a, back)).1), ["3-0"]);
    });
}

#[test]
fn an_append_that_is_repeated_was_made() {
    on_each(|redis| {
        let mut a = Node::start(redis, 1);
        write(redis, "1-0", "{}");
        write(redis, "2-0", "{}");
        let all = take(&mut a, IngressKind::Stream);
        owned(ask(&mut a, all));
        let mut first = a.new_append("c", "r");
        let source = queue(IngressKind::Stream);
        let taken = TakenFrom { source, owner: owner(1), entry: "1-0".into() };
        first.taken = Some(Box::new(taken));
        let made = a.append(first.clone()).unwrap();
        let again = a.append(first).unwrap();
        assert_eq!((made.first, made.repeated, again.repeated), (again.first, false, true));
        // Under the same key something was published before: it is left to whoever took it to be done with it.
        let once = Once { key: "k#0".into(), digest: 7, keep: LEASE };
        assert!(!append(&mut a, owner(1), "2-0", Some(once.clone())).unwrap().repeated);
        write(redis, "3-0", "{}");
        assert!(append(&mut a, owner(1), "3-0", Some(once.clone())).unwrap().repeated);
        let other = Once { digest: 8, ..once };
        assert_eq!(append(&mut a, owner(1), "3-0", Some(other)), Err(AppendError::KeyConflict));
        assert_eq!(redis.ask(&["XLEN", "mahavishnu:in"]).integer(), 1);
    });
}

#[test]
fn elements_of_a_list_get_names_and_keep_their_order() {
    on_each(|redis| {
        let mut a = Node::start(redis, 1);
        for n in 0..700 {
            redis.ask(&["LPUSH", "mahavishnu:in", &n.to_string()]);
        }
        let mut seen = Vec::new();
        let mut done = Vec::new();
        while seen.len() < 700 {
            let next = Take { done: std::mem::take(&mut done), ..take(&mut a, IngressKind::List) };
            let (waiting, entries) = owned(ask(&mut a, next));
            assert_eq!(usize::try_from(waiting).unwrap(), 700 - seen.len());
            for entry in entries {
                let fields = entry.fields.unwrap();
                assert_eq!((fields.len(), &fields[0].0[..]), (1, &b"v"[..]));
                seen.push(std::str::from_utf8(&fields[0].1).unwrap().parse::<usize>().unwrap());
                done.push(entry.name);
            }
            assert!(redis.ask(&["XLEN", "mahavishnu:in:taken"]).integer() <= 264);
        }
        assert_eq!(seen, (0..700).collect::<Vec<_>>());
        assert_eq!(redis.ask(&["LLEN", "mahavishnu:in"]).integer(), 0);
        let last = Take { done, ..take(&mut a, IngressKind::List) };
        assert_eq!(owned(ask(&mut a, last)), (0, vec![]));
    });
}

#[test]
fn a_queue_that_is_something_else_is_nobodys() {
    on_each(|redis| {
        let mut a = Node::start(redis, 1);
        redis.ask(&["SET", "mahavishnu:in", "text"]);
        for kind in [IngressKind::Stream, IngressKind::List] {
            let take = take(&mut a, kind);
            let id = take.id;
            a.command(BusCommand::Take(Box::new(take)));
            let failed = a.find("an answer", |event| match event {
                BusEvent::Taken { id: of, result } if *of == id => Some(result.is_err()),
                _ => None,
            });
            assert!(failed);
        }
        assert_eq!(redis.ask(&["EXISTS", "mahavishnu:{n}:owner:mahavishnu:in"]).integer(), 0);
    });
}
