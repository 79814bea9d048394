//! Redis goes away, forgets, stands still.

use std::{sync::Arc, time::Duration};

use mahavishnu_core::hub::{Append, AppendError, BusError, Live};
use mahavishnu_links::{
    BusCommand, BusEvent, ChannelEvent, ErrorClass, LinkConfig, LinkEvent, Outage,
};
use mahavishnu_test_redis::{Options, Redis};

use crate::node::{Input, Node, RETENTION, at, config, epoch, on_each};

#[test]
fn a_connection_that_is_cut_comes_back() {
    on_each(|redis| {
        let (mut a, mut b) = (Node::start(redis, 1), Node::start(redis, 2));
        let founded = a.follow("c", epoch(1)).position.epoch;
        for session in 2..5 {
            redis.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]);
            a.down();
            let append = a.new_append("c", "r");
            let id = append.id;
            a.command(BusCommand::Append(Box::new(append)));
            let early = a.appended(id);
            b.down();
            b.up();
            assert_eq!(a.up(), session);
            let append = b.new_append("c", "r");
            b.append(append).unwrap();
            a.find("the round", |event| match event {
                BusEvent::Channel(ChannelEvent::Live {
                    live: Live::Round { epoch, .. }, ..
                }) if *epoch == founded => Some(()),
                _ => None,
            });
            assert!(matches!(early, Ok(_) | Err(AppendError::Bus(BusError::Away))), "{early:?}");
        }
        assert_eq!(a.stats.outages[Outage::Eof as usize], 3);
    });
}

#[test]
fn scripts_that_redis_has_forgotten_are_given_to_it_again() {
    on_each(|redis| {
        let mut a = Node::start(redis, 1);
        a.follow("c", epoch(1));
        redis.ask(&["SCRIPT", "FLUSH"]);
        let appends: Vec<_> = (0..50).map(|_| a.new_append("c", "r")).collect();
        for append in &appends {
            a.command(BusCommand::Append(Box::new(append.clone())));
        }
        let firsts: Vec<_> =
            appends.iter().map(|append| a.appended(append.id).unwrap().first.offset).collect();
        let mut sorted = firsts.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (1..=50).collect::<Vec<_>>(), "{firsts:?}");
        a.read("c", 0, 9).unwrap();
        a.wait("a second", |event| {
            matches!(event, BusEvent::Link(LinkEvent::State(_))).then_some(())
        });
        assert!(a.stats.errors[ErrorClass::Script as usize] > 0);
        assert_eq!(a.stats.sessions, 1);
    });
}

/// Redis stands still for longer than a link waits. What was sent before is carried out when it goes on, though nobody waits
/// for it any more: the repetition finds it made.
#[test]
fn redis_stands_still() {
    on_each(|redis| {
        let mut config = config(redis);
        config.timeout = Duration::from_millis(700);
        config.connect_timeout = Duration::from_millis(300);
        let mut a = Node::begin(config, 1, 0);
        a.up();
        a.follow("c", epoch(1));
        let append = a.new_append("c", "before");
        a.append(append).unwrap();
        redis.pause();
        let append = a.new_append("c", "while it stands still");
        a.command(BusCommand::Append(Box::new(append.clone())));
        assert_eq!(a.appended(append.id), Err(AppendError::Bus(BusError::Unknown)));
        a.down();
        let state = a.state("why it is away", |state| state.cause.is_some());
        assert!(!state.up && state.cause.as_ref().unwrap().contains("no answer"), "{state:?}");
        redis.resume();
        a.up();
        let made = a.append(append).unwrap();
        assert_eq!((made.first.offset, made.repeated), (2, true));
        assert_eq!(a.read("c", 0, 100).unwrap().entries.len(), 2);
        // The connection before is gone from Redis, too.
        let clients = redis.ask(&["CLIENT", "LIST"]).text();
        assert_eq!(
            clients.lines().filter(|line| line.contains("name=mahavishnu:test:0")).count(),
            1,
            "{clients}"
        );
    });
}

#[test]
fn redis_restarts_with_and_without_its_data() {
    let mut redis = Redis::with(Options::default().aof());
    let mut a = Node::start(&redis, 1);
    let founded = a.follow("c", epoch(1)).position.epoch;
    let append = a.new_append("c", "r");
    a.append(append).unwrap();
    redis.kill();
    a.down();
    let away = a.new_append("c", "r");
    assert_eq!(a.append(away), Err(AppendError::Bus(BusError::Away)));
    assert_eq!(a.read("c", 0, 9), Err(BusError::Away));
    a.state("why it is away", |state| {
        state.cause.as_ref().is_some_and(|cause| cause.contains("refused"))
    });
    redis.restart();
    a.up();
    let append = Append { known: Some(at(founded, 1)), ..a.new_append("c", "r") };
    assert_eq!(a.append(append).unwrap().first, at(founded, 2));

    redis.restart_empty();
    a.down();
    a.wait("up", |event| matches!(event, BusEvent::Link(LinkEvent::Up { .. })).then_some(()));
    let anew = a.standing("c").position;
    assert_eq!(anew.offset, 0);
    assert_ne!(anew.epoch, founded);
    let append = Append { known: Some(at(founded, 2)), ..a.new_append("c", "r") };
    assert_eq!(a.append(append), Err(AppendError::Behind(Some(anew))));
}

/// A script of somebody else holds everything up: what is asked for waits, and is done.
#[test]
fn redis_is_busy() {
    let redis = Redis::with(Options::default().line("busy-reply-threshold 50"));
    let mut a = Node::start(&redis, 1);
    let mut other = redis.client();
    other.send(&[
        "EVAL",
        "local t = redis.call('TIME') repeat local n = redis.call('TIME') until n[1] - t[1] >= 2",
        "0",
    ]);
    std::thread::sleep(Duration::from_millis(300));
    let append = a.new_append("c", "r");
    assert_eq!(a.append(append).unwrap().first.offset, 1);
    assert!(a.stats.errors[ErrorClass::Wait as usize] > 0);
    assert_eq!(a.stats.sessions, 1);
}

/// A link that is stopped is over at once if there is nothing to wait for, and after what there is otherwise.
#[test]
fn a_link_that_is_stopped_answers_first() {
    let redis = Redis::start();
    let mut a = Node::start(&redis, 1);
    let appends: Vec<_> = (0..100).map(|_| a.new_append("c", "r")).collect();
    for append in &appends {
        a.command(BusCommand::Append(Box::new(append.clone())));
    }
    a.tell(Input::Stop);
    for append in &appends {
        assert!(a.appended(append.id).is_ok());
    }
    a.down();
}

/// Too much at a time is refused at once, and nothing of it is lost without a word.
#[test]
fn no_more_is_under_way_than_may_be() {
    let redis = Redis::start();
    let mut config = config(&redis);
    config.limits.command_bytes_max = 20_000;
    let mut a = Node::begin(config, 1, 0);
    a.up();
    redis.pause();
    let records: &'static str = "x".repeat(5_000).leak();
    let appends: Vec<_> = (0..8).map(|_| a.new_append("c", records)).collect();
    for append in &appends {
        a.command(BusCommand::Append(Box::new(append.clone())));
    }
    let refused: Vec<_> =
        appends.iter().rev().take(5).map(|append| a.appended(append.id)).collect();
    assert_eq!(refused, vec![Err(AppendError::Bus(BusError::Full)); 5]);
    redis.resume();
    for append in &appends[..3] {
        assert!(a.appended(append.id).is_ok());
    }
    // One that is larger than all of it goes through alone.
    let append = a.new_append("c", "x".repeat(50_000).leak());
    assert!(a.append(append).is_ok());
}

/// What a hub has asked for before it has a link is there when it has one.
#[test]
fn what_is_followed_before_there_is_a_link_is_followed() {
    let mut redis = Redis::start();
    redis.kill();
    let mut a = Node::begin(LinkConfig { timeout: Duration::from_secs(1), ..config(&redis) }, 1, 0);
    a.command(BusCommand::Follow { channel: "c".into(), epoch: epoch(4), retention: RETENTION });
    a.command(BusCommand::Follow { channel: "d".into(), epoch: epoch(4), retention: RETENTION });
    a.command(BusCommand::Unfollow { channel: "d".into() });
    a.state("why it is away", |state| state.cause.is_some());
    redis.restart();
    a.tell(Input::Reload(Arc::new(config(&redis))));
    a.wait("up", |event| matches!(event, BusEvent::Link(LinkEvent::Up { .. })).then_some(()));
    assert_eq!(a.standing("c").position, at(epoch(4), 0));
    a.find("reconciled", |event| {
        matches!(event, BusEvent::Link(LinkEvent::Reconciled)).then_some(())
    });
}
