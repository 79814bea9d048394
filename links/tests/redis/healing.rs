//! Putting back what Redis has lost.

use bytes::Bytes;
use mahavishnu_core::{
    hub::{Append, AppendError, BusError, CallId, Heal, HealEntry, Live, Moved, Standing, Writer},
    protocol::{Epoch, Position},
};
use mahavishnu_links::{BusCommand, BusEvent, ChannelEvent};
use mahavishnu_test_redis::{Options, Redis};
use uuid::Uuid;

use crate::node::{Node, RETENTION, at, epoch, on_each};

fn healed(node: &mut Node, id: CallId) -> Result<Moved, BusError> {
    node.find("healed", |event| match event {
        BusEvent::Channel(ChannelEvent::Healed { id: of, result }) if *of == id => Some(*result),
        _ => None,
    })
}

/// First message, messages, the append that it was.
type Entry = (u64, u32, Option<(Writer, CallId)>);

fn heal(
    node: &mut Node,
    found: Option<Position>,
    to: Position,
    entries: &[Entry],
) -> Result<Moved, BusError> {
    let id = node.call();
    let entries = entries.iter().map(|&(first, count, made)| {
        let records = Bytes::from(format!("healed {first}"));
        HealEntry { first, count, records, made }
    });
    let entries = entries.collect();
    let document = Some((to.offset, Bytes::from_static(b"{}")));
    let heal = Heal {
        id,
        channel: "c".into(),
        found,
        to,
        newest: Some(Uuid::from_u128(7)),
        mark: 9,
        entries,
        document,
        retention: RETENTION,
    };
    node.command(BusCommand::Heal(Box::new(heal)));
    healed(node, id)
}

fn fork(node: &mut Node, found: Option<Position>, epoch: Epoch) -> Result<Moved, BusError> {
    let id = node.call();
    node.command(BusCommand::Fork { id, channel: "c".into(), found, epoch });
    healed(node, id)
}

/// A replica that lacks the last two appends becomes the primary.
#[test]
fn a_tail_that_a_failover_has_lost_is_put_back() {
    let mut primary = Redis::start();
    let replica = Redis::with(Options::default().replica_of(&primary));
    replica.wait_synced();
    let mut a = Node::start(&primary, 1);
    let founded = a.follow("c", epoch(1)).position.epoch;
    let append = a.new_append("c", "kept");
    a.append(append).unwrap();
    primary.ask(&["WAIT", "1", "5000"]);
    replica.cut_replication();
    let lost = [a.new_append("c", "lost 2"), a.new_append("c", "lost 3")];
    for append in lost.clone() {
        a.append(append).unwrap();
    }
    primary.kill();
    replica.promote();

    let (mut b, mut c) = (Node::start(&replica, 1), Node::start(&replica, 2));
    for _ in 0..9 {
        b.call();
    }
    assert_eq!(b.follow("c", epoch(2)).position, at(founded, 1));
    let append = Append { known: Some(at(founded, 3)), ..b.new_append("c", "next") };
    assert_eq!(b.append(append), Err(AppendError::Behind(Some(at(founded, 1)))));
    let writer = Writer { node: a.id, shard: 0 };
    let entries = [(2, 1, Some((writer, lost[0].id))), (3, 1, Some((writer, lost[1].id)))];
    let to = at(founded, 3);
    assert_eq!(heal(&mut b, Some(at(founded, 1)), to, &entries), Ok(Moved::Done));
    // The second one to heal finds it done.
    assert_eq!(heal(&mut c, Some(at(founded, 1)), to, &entries), Ok(Moved::Elsewhere(Some(to))));
    // What was lost is not appended again, and the numbers go on.
    let repeated = b.append(Append { writer, ..lost[1].clone() }).unwrap();
    assert_eq!((repeated.first, repeated.repeated), (to, true));
    let append = Append { known: Some(to), ..b.new_append("c", "next") };
    assert_eq!(b.append(append).unwrap().first, at(founded, 4));
    let page = b.read("c", 0, 1_000).unwrap();
    let texts: Vec<_> =
        page.entries.iter().map(|it| String::from_utf8_lossy(&it.records)).collect();
    assert_eq!(texts, ["kept", "healed 2", "healed 3", "next"]);
    assert_eq!(page.standing, Some(Standing { position: at(founded, 4), document: 3, mark: 9 }));
}

/// Redis has lost everything, and the channel was begun anew since: as long as nothing was published under that epoch, the
/// old one comes back.
#[test]
fn everything_is_put_back_under_its_epoch() {
    on_each(|redis| {
        let (mut a, mut b) = (Node::start(redis, 1), Node::start(redis, 2));
        let founded = a.follow("c", epoch(1)).position.epoch;
        b.follow("c", epoch(1));
        for _ in 0..3 {
            let append = a.new_append("c", "r");
            a.append(append).unwrap();
            let _round = b.live("c");
        }
        redis.ask(&["FLUSHALL"]);
        let to = at(founded, 3);
        assert_eq!(heal(&mut a, Some(at(founded, 2)), to, &[]), Ok(Moved::Elsewhere(None)));
        let anew = a.follow("c", epoch(2)).position;
        assert_ne!(anew.epoch, founded, "an epoch that was given out is not given out again");
        assert_eq!(anew.offset, 0);
        assert_eq!(heal(&mut a, None, to, &[]), Ok(Moved::Elsewhere(Some(anew))));
        assert_eq!(heal(&mut a, Some(anew), to, &[(2, 2, None)]), Ok(Moved::Done));
        let newest = Some(Uuid::from_u128(7));
        assert_eq!(
            b.live("c"),
            Live::Healed { position: to, mark: 9, newest },
            "it is told to all"
        );
        let page = a.read("c", 0, 100).unwrap();
        assert_eq!((page.entries.len(), page.entries[0].first, page.entries[0].count), (1, 2, 2));
        let append = Append { known: Some(to), ..a.new_append("c", "r") };
        assert_eq!(a.append(append).unwrap().first, at(founded, 4));
        // With no more than that it is lost, entries and all.
        redis.ask(&["FLUSHALL"]);
        assert_eq!(heal(&mut a, None, to, &[(3, 1, None)]), Ok(Moved::Done));
        assert_eq!(
            a.read("c", 0, 100).unwrap().standing,
            Some(Standing { position: to, document: 3, mark: 9 })
        );
    });
}

/// An entry that was evicted alone, and one that was left behind alone.
#[test]
fn a_log_without_numbers_counts_for_nothing() {
    on_each(|redis| {
        let mut a = Node::start(redis, 1);
        for _ in 0..3 {
            let append = a.new_append("c", "old");
            a.append(append).unwrap();
        }
        let mut client = redis.client();
        let key = |client: &mut mahavishnu_test_redis::Client, kind: &str| {
            client.ask(&["KEYS", &format!("*:{kind}:c")]).items()[0].text()
        };
        let (meta, log) = (key(&mut client, "m"), key(&mut client, "l"));
        client.ask(&["DEL", &meta]);
        let append = Append { epoch: epoch(5), ..a.new_append("c", "new") };
        assert_eq!(a.append(append).unwrap().first, at(epoch(5), 1));
        let page = a.read("c", 0, 100).unwrap();
        assert_eq!(page.entries.len(), 1);
        assert_eq!(&page.entries[0].records[..], b"new");
        // Numbers without a log go on, and the log gets a life of its own.
        client.ask(&["DEL", &log]);
        let append = a.new_append("c", "newer");
        assert_eq!(a.append(append).unwrap().first.offset, 2);
        assert!(client.ask(&["PTTL", &log]).integer() > 0);
        // A log that is ahead of its numbers: nobody was told of that.
        client.ask(&["XADD", &log, "9", "1", "never told"]);
        assert_eq!(a.read("c", 1, 100).unwrap().entries.len(), 1);
        let append = a.new_append("c", "newest");
        assert_eq!(a.append(append).unwrap().first.offset, 3);
        let page = a.read("c", 0, 100).unwrap();
        assert_eq!(&page.entries.last().unwrap().records[..], b"newest");
    });
}

#[test]
fn a_new_epoch_is_told_to_all() {
    on_each(|redis| {
        let (mut a, mut b) = (Node::start(redis, 1), Node::start(redis, 2));
        let old = a.follow("c", epoch(1)).position.epoch;
        b.follow("c", epoch(1));
        let append = a.new_append("c", "r");
        a.append(append).unwrap();
        let first = at(old, 1);
        assert_eq!(fork(&mut a, Some(at(old, 0)), epoch(7)), Ok(Moved::Elsewhere(Some(first))));
        assert_eq!(fork(&mut a, None, epoch(7)), Ok(Moved::Elsewhere(Some(first))));
        assert_eq!(fork(&mut a, Some(first), epoch(7)), Ok(Moved::Done));
        for node in [&mut a, &mut b] {
            let _round = node.live("c");
            assert_eq!(node.live("c"), Live::Forked { position: at(epoch(7), 1) });
        }
        assert_eq!(a.read("c", 0, 100).unwrap().entries, []);
        let append = Append { known: Some(first), ..b.new_append("c", "r") };
        assert_eq!(b.append(append), Err(AppendError::Behind(Some(at(epoch(7), 1)))));
        let append = Append { known: Some(at(epoch(7), 1)), ..b.new_append("c", "r") };
        assert_eq!(b.append(append).unwrap().first, at(epoch(7), 2));
        // Of nothing a new epoch begins at the beginning.
        redis.ask(&["FLUSHALL"]);
        assert_eq!(fork(&mut a, Some(first), epoch(8)), Ok(Moved::Elsewhere(None)));
        assert_eq!(fork(&mut a, None, epoch(8)), Ok(Moved::Done));
        assert_eq!(a.read("c", 0, 9).unwrap().standing.unwrap().position, at(epoch(8), 0));
    });
}
