//! The bus goes away and comes back.

use super::*;
use crate::config::WhileAway;

const QUEUE_TIME: Duration = Duration::from_secs(5);

fn refused(result: Result<Published, Reason>) -> Option<Reason> {
    result.err()
}

#[test]
fn what_is_published_meanwhile_waits_and_is_published_once() {
    let mut nodes = Nodes::new(2, 2);
    let (client, _) = nodes.subscriber(1, 0, "a");
    nodes.down(0);
    for n in 0..3 {
        nodes.post(0, "a", n);
        nodes.post(0, "b", 10 + n);
    }
    nodes.wait(QUEUE_TIME / 2);
    assert_eq!(nodes.done(), []);
    nodes.up(0);
    let done = nodes.done();
    assert_eq!(done.len(), 6);
    assert!(done.iter().all(|(_, result)| result.is_ok()), "{done:?}");
    assert_eq!(heard(&client), events(0..3, 1));
}

#[test]
fn what_has_waited_for_too_long_is_refused_and_reaches_nobody() {
    let mut nodes = Nodes::new(2, 1);
    let (client, _) = nodes.subscriber(1, 0, "a");
    nodes.down(0);
    nodes.post(0, "a", 1);
    nodes.wait(QUEUE_TIME - Duration::from_millis(1));
    assert_eq!(nodes.done(), []);
    nodes.wait(Duration::from_millis(1));
    let done: Vec<_> = nodes.done().into_iter().map(|(n, result)| (n, refused(result))).collect();
    assert_eq!(done, [(1, Some(Reason::BusAway))]);
    nodes.up(0);
    nodes.post(0, "a", 2);
    nodes.settle();
    assert_eq!(heard(&client), events([2], 1));
}

#[test]
fn an_append_that_was_carried_out_before_the_break_is_not_made_again() {
    for follows in [false, true] {
        let mut nodes = Nodes::new(2, 1);
        let (client, _) = nodes.subscriber(1, 0, "a");
        let own = follows.then(|| nodes.subscriber(0, 0, "a").0);
        nodes.post(0, "a", 1);
        assert!(nodes.execute(0, 0), "it is carried out, and the answer is lost");
        nodes.down(0);
        assert_eq!(nodes.done(), []);
        nodes.up(0);
        let done = nodes.done();
        let [(1, Ok(published))] = done[..] else { panic!("{done:?}") };
        assert_eq!(published.offset, 1);
        assert_eq!(nodes.server.appends.len(), 1);
        nodes.post(0, "a", 2);
        nodes.settle();
        assert_eq!(heard(&client), events([1, 2], 1));
        if let Some(own) = own {
            assert_eq!(heard(&own), events([1, 2], 1));
        }
    }
}

#[test]
fn an_append_that_was_not_carried_out_is_made_after_the_break() {
    let mut nodes = Nodes::new(2, 1);
    let (client, _) = nodes.subscriber(1, 0, "a");
    nodes.post(0, "a", 1);
    nodes.down(0);
    nodes.up(0);
    assert!(nodes.done()[0].1.is_ok());
    assert_eq!(heard(&client), events([1], 1));
}

#[test]
fn an_append_that_another_node_has_put_back_is_not_made_again() {
    let mut nodes = Nodes::new(2, 1);
    let (client, _) = nodes.subscriber(1, 0, "a");
    let (own, _) = nodes.subscriber(0, 0, "a");
    let replica = nodes.server.clone();
    nodes.post(0, "a", 1);
    nodes.execute(0, 0);
    nodes.down(0);
    // The other node has heard of it before the primary was lost.
    while nodes.tell(1, 0) {}
    nodes.down(1);
    nodes.server = replica;
    nodes.up(1);
    nodes.up(0);
    assert!(nodes.done()[0].1.is_ok_and(|published| published.offset == 1));
    for client in [&client, &own] {
        assert_eq!(heard(client), events([1], 1));
    }
    assert_eq!(nodes.server.channel("a").top, 1);
}

#[test]
fn what_was_under_way_for_too_long_is_unknown_and_what_waits_behind_it_is_refused() {
    let mut nodes = Nodes::new(1, 1);
    let http = nodes.rigs[0].socket(0);
    let body = r#"{"channel":"a","event":"e","data":{"n":1}}"#;
    nodes.rigs[0].bytes(&http, &shards::post(body));
    nodes.post(0, "a", 2);
    nodes.collect();
    assert_eq!(nodes.link(0, 0).pending.len(), 1, "it is sent, and nothing comes");
    nodes.wait(QUEUE_TIME);
    assert!(http.take_head().starts_with("HTTP/1.1 504 "));
    assert!(http.take_text().contains("It is not known whether the message was published"));
    let done = nodes.done();
    assert_eq!(done.len(), 1);
    assert_eq!(refused(done[0].1), Some(Reason::BusAway));
    // The answer that comes after all is nobody's, and the next append goes.
    nodes.settle();
    nodes.post(0, "a", 3);
    nodes.settle();
    assert!(nodes.done()[0].1.is_ok_and(|published| published.offset == 2));
}

#[test]
fn a_bus_that_takes_nothing_in_refuses_after_a_while_and_readers_notice_nothing() {
    let mut nodes = Nodes::new(2, 1);
    let (client, _) = nodes.subscriber(0, 0, "a");
    nodes.server.full = true;
    nodes.post(0, "a", 1);
    nodes.settle();
    assert_eq!(nodes.done(), []);
    nodes.wait(Duration::from_secs(2));
    nodes.settle();
    nodes.post(0, "a", 2);
    for _ in 0..3 {
        nodes.wait(Duration::from_secs(1));
        nodes.settle();
    }
    let done = nodes.done();
    assert_eq!(done.len(), 1);
    assert_eq!(refused(done[0].1), Some(Reason::BusAway));
    nodes.server.full = false;
    nodes.wait(Duration::from_secs(1));
    nodes.settle();
    assert!(nodes.done()[0].1.is_ok());
    assert_eq!(heard(&client), events([2], 1));
}

#[test]
fn the_rule_of_a_channel_says_what_happens_while_the_bus_is_away() {
    let mut config = config();
    let rule = |pattern, away| (Pattern::parse(pattern).unwrap(), away);
    config.bus.as_mut().unwrap().while_away.rules =
        vec![rule("job:*", WhileAway::Refuse), rule("cursor:*", WhileAway::Local)];
    let mut nodes = Nodes::with(2, 2, config);
    let (here, _) = nodes.subscriber(0, 0, "cursor:1");
    let (beside, _) = nodes.subscriber(0, 1, "cursor:1");
    let (there, _) = nodes.subscriber(1, 0, "cursor:1");
    nodes.down(0);
    nodes.post(0, "job:1", 1);
    nodes.post(0, "cursor:1", 2);
    let done = nodes.done();
    assert_eq!(refused(done[0].1), Some(Reason::BusAway), "{done:?}");
    let local = done[1].1.unwrap();
    assert_eq!((local.subscribers, local.offset, local.epoch), (2, 0, None));
    for client in [&here, &beside] {
        assert_eq!(heard(client), [Heard::Event(2, 0)]);
    }
    nodes.up(0);
    assert_eq!(heard(&there), [], "it is not sent on later");
    nodes.post(0, "cursor:1", 3);
    nodes.settle();
    for client in [&here, &beside, &there] {
        assert_eq!(heard(client), events([3], 1));
    }
}

#[test]
fn what_waits_is_bounded() {
    let mut config = config();
    config.limits.bus.bus_queue_bytes_max = 10_000;
    let mut nodes = Nodes::with(1, 1, config);
    nodes.down(0);
    for n in 0..200 {
        nodes.post(0, "a", n);
    }
    let done = nodes.done();
    assert!((20..190).contains(&done.len()), "{}", done.len());
    assert!(done.iter().all(|(_, result)| refused(*result) == Some(Reason::Busy)));
    nodes.up(0);
    let later = nodes.done();
    assert_eq!(done.len() + later.len(), 200);
    assert!(later.iter().all(|(_, result)| result.is_ok()));
}

#[test]
fn a_request_of_several_messages_is_unknown_if_some_of_it_was_published() {
    let mut nodes = Nodes::new(2, 2);
    let [a, b] = [0, 1].map(|shard| nodes.rigs[0].channel_of(shard));
    let body = json!({"messages": [
        {"channel": a, "event": "e", "data": {"n": 1}},
        {"channel": b, "event": "e", "data": {"n": 2}},
    ]});
    let post = |nodes: &mut Nodes| {
        let http = nodes.rigs[0].socket(0);
        nodes.rigs[0].bytes(&http, &shards::post(&body.to_string()));
        nodes.settle();
        http
    };
    nodes.hub_down(0, 1);
    let http = post(&mut nodes);
    nodes.wait(QUEUE_TIME);
    let head = http.take_head();
    assert!(head.starts_with("HTTP/1.1 504 "), "{head}");
    nodes.hub_down(0, 0);
    let http = post(&mut nodes);
    nodes.wait(QUEUE_TIME);
    let head = http.take_head();
    assert!(head.starts_with("HTTP/1.1 503 "), "none of it was: {head}");
    assert_eq!(nodes.server.appends.len(), 1);
}

#[test]
fn repeated_under_its_key_a_request_publishes_what_is_missing() {
    let mut nodes = Nodes::new(2, 2);
    let [a, b] = [0, 1].map(|shard| nodes.rigs[0].channel_of(shard));
    let body = json!({"idempotency_key": "k", "messages": [
        {"channel": a, "event": "e", "data": {"n": 1}},
        {"channel": b, "event": "e", "data": {"n": 2}},
        {"channel": a, "event": "e", "data": {"n": 3}},
    ]});
    let (client, _) = nodes.subscriber(1, 0, &a);
    let http = nodes.rigs[0].socket(0);
    nodes.hub_down(0, 1);
    nodes.rigs[0].bytes(&http, &shards::post(&body.to_string()));
    nodes.settle();
    nodes.wait(QUEUE_TIME);
    assert!(http.take_head().starts_with("HTTP/1.1 504 "));
    // Another node, which knows nothing of the first time.
    let http = nodes.rigs[1].socket(1);
    nodes.rigs[1].bytes(&http, &shards::post(&body.to_string()));
    nodes.settle();
    assert!(http.take_head().starts_with("HTTP/1.1 200 "), "{}", http.take_text());
    assert_eq!(heard(&client), events([1, 3], 1));
    assert_eq!(nodes.server.channel(&b).top, 1);
}

/// The node that published does not follow the channel, or not yet: it finds what became of its message in what another one
/// has put back.
#[test]
fn an_append_that_another_node_has_put_back_is_not_made_again_by_who_does_not_follow() {
    for subscribes in [false, true] {
        let mut nodes = Nodes::new(2, 1);
        let (client, _) = nodes.subscriber(0, 0, "a");
        nodes.post(1, "a", 1);
        assert!(nodes.execute(1, 0), "it is carried out, and the answer is lost");
        while nodes.tell(0, 0) {}
        assert_eq!(heard(&client), events([1], 1));
        nodes.down(1);
        nodes.down(0);
        nodes.server.channels.clear();
        nodes.up(0);
        nodes.settle();
        assert_eq!(nodes.server.channel("a").top, 1, "it is put back");
        if subscribes {
            let other = nodes.connect(1, 0);
            nodes.ask(1, &other, "subscribe", &json!({"channel": "a", "positions": true}));
        }
        nodes.up(1);
        nodes.wait(Duration::from_secs(1));
        let done = nodes.done();
        let [(1, Ok(published))] = done[..] else { panic!("{done:?}") };
        assert_eq!(published.offset, 1);
        nodes.post(1, "a", 2);
        nodes.settle();
        assert_eq!(heard(&client), events([2], 2), "once");
    }
}

/// A node has sent an append of which it does not know what became, `told` says whether another one has heard of it; then the
/// bus has lost all. The other one stays away.
fn an_append_is_unsure(told: bool) -> (Nodes, [Client; 2]) {
    let mut nodes = Nodes::new(2, 1);
    let (client, _) = nodes.subscriber(1, 0, "a");
    let (own, _) = nodes.subscriber(0, 0, "a");
    let replica = nodes.server.clone();
    nodes.post(0, "a", 1);
    assert!(nodes.execute(0, 0), "it is carried out, and the answer is lost");
    nodes.down(0);
    while told && nodes.tell(1, 0) {}
    nodes.down(1);
    nodes.server = replica;
    (nodes, [client, own])
}

#[test]
fn an_append_that_is_put_back_while_it_is_repeated_is_not_made_again() {
    let (mut nodes, clients) = an_append_is_unsure(true);
    nodes.hub_up(0, 0);
    let repeated = |command: &BusCommand| matches!(command, BusCommand::Append(_));
    loop {
        nodes.collect();
        if nodes.link(0, 0).pending.iter().any(repeated) {
            break;
        }
        assert!(nodes.tell(0, 0) || nodes.execute(0, 0), "it looks, and goes on");
    }
    let pending = std::mem::take(&mut nodes.link(0, 0).pending);
    nodes.up(1);
    assert_eq!(nodes.server.channel("a").top, 1, "it is put back");
    nodes.link(0, 0).pending = pending;
    nodes.settle();
    nodes.wait(Duration::from_secs(1));
    nodes.settle();
    let done = nodes.done();
    assert!(done[0].1.is_ok_and(|published| published.offset == 1), "{done:?}");
    assert_eq!(nodes.server.channel("a").top, 1, "once");
    for client in &clients {
        assert_eq!(heard(client), events([1], 1));
    }
}

#[test]
fn an_append_that_was_put_back_and_is_not_kept_any_more_is_unknown() {
    let (mut nodes, [client, own]) = an_append_is_unsure(true);
    nodes.up(1);
    nodes.post(1, "a", 2);
    nodes.settle();
    assert_eq!(heard(&client), events([1, 2], 1));
    nodes.server.channel("a").trim(2);
    nodes.up(0);
    nodes.wait(Duration::from_secs(1));
    nodes.settle();
    let done = nodes.done();
    assert_eq!(
        done.iter().find(|(n, _)| *n == 1).map(|(_, result)| refused(*result)),
        Some(Some(Reason::BusUnknown))
    );
    assert_eq!(nodes.server.channel("a").top, 2);
    assert_eq!(heard(&own), [Heard::Gap(Some(1), "trimmed".into(), 1), Heard::Event(2, 2)]);
}

#[test]
fn an_append_that_nobody_has_heard_of_is_made_again_whatever_is_put_back_and_missed() {
    let (mut nodes, [client, own]) = an_append_is_unsure(false);
    nodes.up(1);
    for n in 2..5 {
        nodes.post(1, "a", n);
        nodes.settle();
    }
    nodes.server.channel("a").trim(3);
    nodes.up(0);
    nodes.wait(Duration::from_secs(1));
    nodes.settle();
    assert!(
        nodes.done().iter().any(|(n, result)| *n == 1 && result.is_ok_and(|at| at.offset == 4))
    );
    assert_eq!(heard(&client), events([2, 3, 4, 1], 1));
    assert_eq!(heard(&own).last(), Some(&Heard::Event(1, 4)));
}

/// Its message came before the answer, which did not.
#[test]
fn an_append_that_was_heard_needs_no_answer() {
    let mut nodes = Nodes::new(2, 1);
    let (client, _) = nodes.subscriber(1, 0, "a");
    let (own, _) = nodes.subscriber(0, 0, "a");
    nodes.link(0, 0).push_first = true;
    nodes.post(0, "a", 1);
    assert!(nodes.execute(0, 0) && nodes.tell(0, 0), "the message, and no answer yet");
    nodes.down(0);
    assert!(nodes.done()[0].1.is_ok_and(|published| published.offset == 1));
    nodes.settle();
    nodes.down(1);
    nodes.server.channels.clear();
    nodes.up(1);
    nodes.up(0);
    nodes.wait(Duration::from_secs(1));
    nodes.settle();
    for client in [&client, &own] {
        assert_eq!(heard(client), events([1], 1));
    }
    assert_eq!(nodes.server.channel("a").top, 1);
}
