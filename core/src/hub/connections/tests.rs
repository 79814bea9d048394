//! Connections, without a hub.

use std::time::Duration;

use super::*;
use crate::{
    config::Config,
    hub::testing::{Full, active, connections, drain, end, env, socket, wait},
    reason::Reason,
};

#[test]
fn the_door_is_shut_to_those_who_are_gone() {
    let mut env = env(Config::default());
    let mut connections = connections(&env);
    let id = socket(&env, &mut connections);
    end(&mut env, &mut connections, id);
    let next = socket(&env, &mut connections);

    assert_eq!(id.index, next.index, "the place is taken again");
    assert!(connections.edit(id).is_none() && connections.edit(next).is_some());
    assert!(!connections.remove(&mut env, id));
}

#[test]
fn what_was_edited_is_settled_once() {
    let mut env = env(Config::default());
    let mut connections = connections(&env);
    let id = active(&mut env, &mut connections);

    connections.answer_pong(&mut env, id, None);
    connections.answer_pong(&mut env, id, None);
    assert_eq!(connections.touched, [id.index]);
    connections.settle(&env);

    assert!(connections.touched.is_empty());
    assert_eq!((connections.pop_dirty(), connections.pop_dirty()), (Some(id), None));
    connections.check(&env);
}

#[test]
fn an_end_is_told_once() {
    let mut env = env(Config::default());
    let mut connections = connections(&env);
    let id = active(&mut env, &mut connections);
    connections.edit(id).unwrap().entered.add(crate::hub::visitors::Who::Everyone.bit());

    let ended = connections.retire(&mut env, id, Reason::Io).unwrap();

    assert!(ended.open && ended.active);
    assert_eq!(ended.left.iter().flatten().count(), 1);
    assert!(connections.retire(&mut env, id, Reason::Io).is_none());
    assert_eq!(env.tally.active, 0);
}

#[test]
fn the_socket_that_has_said_nothing_for_longest_is_evicted() {
    let mut env = env(Config::default());
    let mut connections = connections(&env);
    let _open = active(&mut env, &mut connections);
    let first = socket(&env, &mut connections);
    let second = socket(&env, &mut connections);
    assert_eq!(connections.admit(3, 4), Admission::Room);
    assert_eq!(connections.admit(3, 3), Admission::Evict(first.index));

    connections.abandon(&env, first, Reason::MadeRoom);
    connections.retire(&mut env, first, Reason::MadeRoom);
    connections.settle(&env);

    assert_eq!(connections.admit(3, 3), Admission::Room, "one is on its way out");
    assert_eq!(connections.admit(4, 3), Admission::Evict(second.index));
    connections.check(&env);
}

#[test]
fn without_anybody_to_evict_it_is_full() {
    let mut env = env(Config::default());
    let mut connections = connections(&env);
    active(&mut env, &mut connections);
    assert_eq!(connections.admit(1, 1), Admission::Full);
}

#[test]
fn the_nearest_deadline_rings() {
    let mut env = env(Config::default());
    let mut connections = connections(&env);
    let id = active(&mut env, &mut connections);
    let at = env.now.mono + Duration::from_secs(1);
    connections.edit(id).unwrap().rare_mut().deadline = Some(at);
    connections.settle(&env);
    assert_eq!(connections.next_deadline(), Some(at));
    assert!(connections.is_next_deadline_own(&env));

    assert!(connections.take_due(&env, env.now.mono).is_none());
    wait(&mut env, Duration::from_secs(1));
    let due = connections.take_due(&env, env.now.mono).unwrap();

    assert!(due.id == id && due.own && !due.protocol);
    connections.settle(&env);
    assert!(!connections.is_next_deadline_own(&env), "its protocol's remain");
}

#[test]
fn the_heaviest_backlog_comes_first() {
    let mut env = env(Config::default());
    let mut connections = connections(&env);
    let ids = [1, 3, 2].map(|pongs| {
        let id = active(&mut env, &mut connections);
        for _ in 0..pongs {
            connections.answer_pong(&mut env, id, None);
        }
        connections.settle(&env);
        let written = connections.write(&mut env, id, &mut Full).unwrap();
        connections.after_write(&env, id, written);
        id
    });

    assert_eq!(connections.heaviest(), [ids[1], ids[2], ids[0]]);
    assert!(connections.take_stock(10) && connections.queued_bytes() > 10);
    connections.check(&env);

    for id in ids {
        drain(&mut env, &mut connections, id);
        connections.measure_queued(id);
    }
    assert_eq!((connections.queued_bytes(), connections.heaviest().len()), (0, 0));
    connections.check(&env);
}

#[test]
fn a_part_of_a_request_is_counted_until_it_is_whole() {
    let env = env(Config::default());
    let mut connections = connections(&env);
    let id = socket(&env, &mut connections);
    let mut part = *b"GET /health HTTP/1.1\r\nHost: ";
    let mut wire = &mut part[..];
    connections.edit(id);
    assert!(connections.receive(&env, id, &mut wire).is_none());
    connections.settle(&env);

    assert!(connections.partial_bytes() > 0);
    assert_eq!(connections.partial_over(usize::MAX), None);
    assert_eq!(connections.partial_over(1), Some(id));
    connections.check(&env);
}

#[test]
fn who_has_hung_up_makes_room_before_the_turn_is_over() {
    let mut env = env(Config::default());
    let mut connections = connections(&env);
    let id = socket(&env, &mut connections);
    let mut request = *b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut wire = &mut request[..];
    assert!(connections.receive(&env, id, &mut wire).is_some());
    connections.respond(&mut env, id, Response::new(Bytes::from_static(b"well")));
    connections.settle(&env);
    assert_eq!(connections.admit(1, 1), Admission::Full, "its answer is still to be written");
    drain(&mut env, &mut connections, id);
    assert_eq!(connections.admit(1, 1), Admission::Evict(id.index));

    if let Some(Event::Closed(reason)) = connections.end_of_input(&env, id) {
        connections.retire(&mut env, id, reason);
    }
    connections.mark_dirty(id.index);
    connections.settle(&env);

    assert_eq!(connections.admit(1, 1), Admission::Evict(id.index), "nothing is to be written");
}
