//! Appends: numbers, repetitions, conditions, keys.

use std::time::Duration;

use bytes::Bytes;
use mahavishnu_core::{
    hub::{
        Append, AppendError, Appended, Basis, BusError, BusPage, CallId, ChannelEvent, Live, Once,
        PageEntry, Retention, Standing,
    },
    protocol::{Condition, Position},
};
use mahavishnu_test_redis::{Kind, Options, Redis};

use crate::node::{Node, RETENTION, at, epoch, on_each};

fn entry(first: u64, count: u32, records: &'static str) -> PageEntry {
    PageEntry { first, count, records: Bytes::from(records) }
}

fn round(epoch: mahavishnu_core::protocol::Epoch, first: u64, records: &'static str) -> Live {
    Live::Round { epoch, first, count: 1, records: Some(Bytes::from(records)), state: None }
}

/// Two nodes follow a channel: what either appends both hear, in one order, on every server that is installed.
#[test]
fn what_is_appended_is_heard_by_all_who_follow() {
    for kind in Kind::all() {
        let redis = Redis::with(Options::of(kind));
        let (mut a, mut b) = (Node::start(&redis, 1), Node::start(&redis, 2));
        let first = epoch(1);
        let standing = a.follow("c", first);
        assert_eq!(standing, Standing { position: at(first, 0), document: 0, mark: 0 }, "{kind}");
        // The second finds the numbers that the first has begun.
        assert_eq!(b.follow("c", epoch(2)), standing);

        let append = Append { known: Some(at(first, 0)), ..a.new_append("c", "one") };
        let made = a.append(append);
        assert_eq!(made, Ok(Appended { first: at(first, 1), nodes: 2, repeated: false }), "{kind}");
        // One that does not know how far the channel is.
        let append = Append { count: 3, ..b.new_append("c", "three") };
        assert_eq!(b.append(append).unwrap().first, at(first, 2));
        for node in [&mut a, &mut b] {
            assert_eq!(node.live("c"), round(first, 1, "one"), "{kind}");
            let Live::Round { first, count, .. } = node.live("c") else { panic!() };
            assert_eq!((first, count), (2, 3));
        }
        let page = a.read("c", 0, 1_000).unwrap();
        let standing = Standing { position: at(first, 4), document: 0, mark: 0 };
        let entries = vec![entry(1, 1, "one"), entry(2, 3, "three")];
        assert_eq!(
            page,
            BusPage { standing: Some(standing), entries, more: false, document: None }
        );
    }
}

#[test]
fn a_repeated_append_is_made_once() {
    let redis = Redis::start();
    let mut a = Node::start(&redis, 1);
    let append = a.new_append("c", "one");
    let first = a.append(append.clone()).unwrap();
    let second = a.append(append).unwrap();
    assert_eq!(second, Appended { nodes: 0, repeated: true, ..first });
    // Another writer has numbers of its own.
    let mut b = Node::start(&redis, 2);
    let append = b.new_append("c", "two");
    assert_eq!(b.append(append).unwrap().first.offset, 2);
    assert_eq!(a.read("c", 0, 1_000).unwrap().entries, [entry(1, 1, "one"), entry(2, 1, "two")]);
}

#[test]
fn who_knows_more_than_redis_appends_nothing() {
    let redis = Redis::start();
    let mut a = Node::start(&redis, 1);
    let behind = |known, a: &mut Node| {
        let append = Append { known: Some(known), ..a.new_append("c", "r") };
        a.append(append)
    };
    assert_eq!(behind(at(epoch(1), 0), &mut a), Err(AppendError::Behind(None)));
    assert_eq!(a.read("c", 0, 9).unwrap().standing, None);
    let append = a.new_append("c", "one");
    let there = a.append(append).unwrap().first;
    assert_eq!(behind(at(there.epoch, 2), &mut a), Err(AppendError::Behind(Some(there))));
    assert_eq!(behind(at(epoch(1), 1), &mut a), Err(AppendError::Behind(Some(there))));
    assert!(behind(at(there.epoch, 1), &mut a).is_ok());
    assert!(behind(at(there.epoch, 1), &mut a).is_ok(), "who knows less may");
}

#[test]
fn documents_change_under_conditions() {
    on_each(|redis| {
        let mut a = Node::start(redis, 1);
        let follow = a.follow("c", epoch(1)).position.epoch;
        let mut set = |state: &'static str, offset, epoch| {
            let condition = Some(Condition { offset, epoch });
            let append =
                Append { state: Some(Bytes::from(state)), condition, ..a.new_append("c", "r") };
            let result = a.append(append);
            result.map(|made| made.first.offset)
        };
        assert_eq!(set("{\"n\":0}", 1, None), Err(AppendError::StateConflict));
        assert_eq!(set("{\"n\":1}", 0, None), Ok(1));
        assert_eq!(set("{\"n\":2}", 0, None), Err(AppendError::StateConflict));
        assert_eq!(set("{\"n\":2}", 1, Some(epoch(7))), Err(AppendError::StateConflict));
        assert_eq!(set("{\"n\":2}", 1, Some(follow)), Ok(2));
        let Live::Round { state, .. } = a.live("c") else { panic!() };
        assert_eq!(state.as_deref(), Some(&b"{\"n\":1}"[..]));
        let page = a.read("c", 2, 0).unwrap();
        assert_eq!(page.document.as_deref(), Some(&b"{\"n\":2}"[..]));
        assert_eq!(page.standing, Some(Standing { position: at(follow, 2), document: 2, mark: 0 }));
        // Messages without one leave it.
        let append = a.new_append("c", "r");
        assert_eq!(a.append(append).unwrap().first.offset, 3);
        assert_eq!(
            a.follow("c", epoch(1)),
            Standing { position: at(follow, 3), document: 2, mark: 0 }
        );
    });
}

#[test]
fn a_document_is_made_of_the_one_that_is_there_or_not_at_all() {
    on_each(|redis| {
        let (mut a, mut b) = (Node::start(redis, 1), Node::start(redis, 2));
        let made_of = |node: &mut Node, basis, state: Option<&'static str>| {
            let state = state.map(Bytes::from);
            let append = Append { basis: Some(basis), state, ..node.new_append("c", "r") };
            node.append(append).map(|made| made.first)
        };
        let there = |at: Position, json: &'static str| {
            Err(AppendError::OtherBasis(Some((at, Bytes::from(json)))))
        };
        let other = Basis::Document(at(epoch(7), 1));
        let none = Err(AppendError::OtherBasis(None));
        assert_eq!(made_of(&mut a, other, Some("{\"n\":0}")), none, "there are not even numbers");
        let first = made_of(&mut a, Basis::Nothing, Some("{\"n\":1}")).unwrap();
        assert_eq!(first.offset, 1);
        let of_a = there(first, "{\"n\":1}");
        assert_eq!(made_of(&mut b, Basis::Nothing, Some("{\"n\":2}")), of_a, "it was faster");
        assert_eq!(made_of(&mut b, Basis::Nothing, None), of_a, "also if it were to stay");
        assert_eq!(made_of(&mut b, other, Some("{\"n\":2}")), of_a, "of another life");
        let second = made_of(&mut b, Basis::Document(first), Some("{\"n\":2}")).unwrap();
        assert_eq!(second, Position { offset: 2, ..first });
        // What leaves the document says so by its basis all the same.
        assert_eq!(made_of(&mut a, Basis::Document(second), None).unwrap().offset, 3);
        assert_eq!(made_of(&mut a, Basis::Document(first), None), there(second, "{\"n\":2}"));
        // A repeated one was made, whatever the document is by now.
        let append = Append {
            basis: Some(Basis::Document(second)),
            state: Some(Bytes::from("{\"n\":4}")),
            ..a.new_append("c", "r")
        };
        let made = a.append(append.clone()).unwrap();
        assert_eq!(a.append(append), Ok(Appended { nodes: 0, repeated: true, ..made }));
        assert_eq!(a.read("c", 0, 0).unwrap().document.as_deref(), Some(&b"{\"n\":4}"[..]));
    });
}

#[test]
fn a_key_is_good_for_one_message() {
    on_each(|redis| {
        let (mut a, mut b) = (Node::start(redis, 1), Node::start(redis, 2));
        let once =
            |digest| Some(Once { key: "k#0".into(), digest, keep: Duration::from_secs(300) });
        let append = Append { once: once(7), ..a.new_append("c", "one") };
        let made = a.append(append).unwrap();
        // Whoever asks for the same elsewhere is told of that.
        let append = Append { once: once(7), ..b.new_append("c", "one") };
        assert_eq!(b.append(append), Ok(Appended { nodes: 0, repeated: true, ..made }));
        let append = Append { once: once(8), ..b.new_append("c", "other") };
        assert_eq!(b.append(append), Err(AppendError::KeyConflict));
        assert_eq!(a.read("c", 0, 1_000).unwrap().entries.len(), 1);
    });
}

#[test]
fn pages_are_as_long_as_asked_for_and_go_on() {
    on_each(|redis| {
        let mut a = Node::start(redis, 1);
        for _ in 0..40 {
            let append = Append { count: 2, ..a.new_append("c", "0123456789") };
            a.append(append).unwrap();
        }
        let (mut after, mut pages) = (0, Vec::new());
        loop {
            let page = a.read("c", after, 95).unwrap();
            pages.push(page.entries.len());
            after = page.entries.last().map_or(0, |last| last.first + u64::from(last.count) - 1);
            if !page.more {
                break;
            }
        }
        assert_eq!((after, pages), (80, vec![9, 9, 9, 9, 4]));
        // One entry comes whatever its size; whoever begins within a round has it whole.
        assert_eq!(a.read("c", 78, 1).unwrap().entries, [entry(79, 2, "0123456789")]);
        assert_eq!(a.read("c", 77, 1).unwrap().entries, [entry(77, 2, "0123456789")]);
    });
}

#[test]
fn history_is_as_long_as_it_is_to_be() {
    on_each(|redis| {
        let mut a = Node::start(redis, 1);
        for count in [3, 3, 3, 1] {
            let retention = Retention { messages: 5, ..RETENTION };
            let append = Append { count, retention, ..a.new_append("c", "r") };
            a.append(append).unwrap();
        }
        let firsts: Vec<_> =
            a.read("c", 0, 100).unwrap().entries.iter().map(|it| it.first).collect();
        // A round of which the five last messages have a part stays whole.
        assert_eq!(firsts, [4, 7, 10]);
        let off = Retention { messages: 0, ..RETENTION };
        let append = Append { retention: off, ..a.new_append("off", "r") };
        assert_eq!(a.append(append).unwrap().first.offset, 1);
        let page = a.read("off", 0, 100).unwrap();
        assert_eq!((page.standing.unwrap().position.offset, page.entries.len()), (1, 0));
        // Everything in Redis has an end.
        let mut client = redis.client();
        for key in client.ask(&["KEYS", "*"]).items() {
            let life = client.ask(&["PTTL", &key.text()]).integer();
            assert!(life > 0 || key.text().ends_with(":layout"), "{} lives for {life}", key.text());
        }
    });
}

/// Of what is too large for pub/sub only a notice comes; unless it is not kept.
#[test]
fn a_large_message_is_read() {
    on_each(|redis| {
        let (mut a, mut b) = (Node::start(redis, 1), Node::start(redis, 2));
        let founded = b.follow("c", epoch(1)).position.epoch;
        let large: &'static str = "x".repeat(1 << 20).leak();
        let append = a.new_append("c", large);
        a.append(append).unwrap();
        let notice = Live::Round { epoch: founded, first: 1, count: 1, records: None, state: None };
        assert_eq!(b.live("c"), notice);
        assert_eq!(b.read("c", 0, 1_000).unwrap().entries, [entry(1, 1, large)]);

        let off = Retention { messages: 0, ..RETENTION };
        let append = Append { retention: off, ..a.new_append("c", large) };
        a.append(append).unwrap();
        assert_eq!(b.live("c"), round(founded, 2, large));
    });
}

/// Whatever is wrong about a key, it is said, and nothing else suffers.
#[test]
fn what_is_not_of_this_version_fails_alone() {
    on_each(|redis| {
        let mut a = Node::start(redis, 1);
        a.follow("bad", epoch(1));
        a.follow("good", epoch(1));
        let mut client = redis.client();
        for key in client.ask(&["KEYS", "*:m:bad"]).items() {
            client.ask(&["SET", &key.text(), "x"]);
        }
        let append = a.new_append("bad", "r");
        assert_eq!(a.append(append), Err(AppendError::Bus(BusError::Failed)));
        assert_eq!(a.read("bad", 0, 9), Err(BusError::Failed));
        redis.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        a.down();
        a.find("poison", |event| match event {
            mahavishnu_links::BusEvent::Channel(ChannelEvent::Live {
                channel,
                live: Live::Poison,
            }) if &**channel == "bad" => Some(()),
            _ => None,
        });
        assert_eq!(a.standing("good").position.offset, 0);
        let append = Append { id: CallId(1 << 53), ..a.new_append("good", "r") };
        assert_eq!(a.append(append), Err(AppendError::Bus(BusError::Failed)));
        let append = a.new_append("good", "r");
        assert!(a.append(append).is_ok());
    });
}

/// What cannot be kept uses up no number: who reads would wait for it in vain.
#[test]
fn what_cannot_be_kept_has_no_number() {
    on_each(|redis| {
        let mut a = Node::start(redis, 1);
        let append = a.new_append("c", "r");
        a.append(append).unwrap();
        let mut client = redis.client();
        let log = client.ask(&["KEYS", "*:l:c"]).items()[0].text();
        client.ask(&["RENAME", &log, "aside"]);
        client.ask(&["SET", &log, "no log"]);
        let append = a.new_append("c", "r");
        assert_eq!(a.append(append), Err(AppendError::Bus(BusError::Failed)));
        client.ask(&["RENAME", "aside", &log]);
        let append = a.new_append("c", "r");
        assert_eq!(a.append(append).unwrap().first.offset, 2);
    });
}

/// Whoever writes to a channel for the first time takes the place of whoever has not for longest.
#[test]
fn writers_are_remembered_within_bounds() {
    let redis = Redis::start();
    let mut a = Node::start(&redis, 1);
    let original = a.new_append("c", "r");
    a.append(original.clone()).unwrap();
    for node in 0..400 {
        let writer =
            mahavishnu_core::hub::Writer { node: mahavishnu_links::NodeId(1_000 + node), shard: 0 };
        let append = Append { writer, ..a.new_append("c", "r") };
        a.append(append.clone()).unwrap();
        assert!(a.append(append).unwrap().repeated);
    }
    let mut client = redis.client();
    let meta = client.ask(&["KEYS", "*:m:c"]).items()[0].text();
    let fields = client.ask(&["HLEN", &meta]).integer();
    assert!((194..=258).contains(&fields), "{fields}");
    assert!(!a.append(original).unwrap().repeated, "it was forgotten");
}
