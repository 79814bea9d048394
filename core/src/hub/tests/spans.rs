//! Spans: where each begins and ends, what it is a part of, and that there are none unless they are wanted.

use super::*;
use crate::{
    config::Origins,
    protocol::TraceParent,
    spans::{Entrance, Operation, Sampler, Span, Spans, Tracing},
};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn parent() -> TraceParent {
    TraceParent::parse(PARENT).unwrap()
}

fn traced() -> Config {
    Config { tracing: Some(Tracing::default()), ..Config::default() }
}

fn spans(rig: &mut Rig) -> Vec<Span> {
    let taken: Vec<_> = rig.hubs.iter_mut().map(Recorded::take_spans).collect();
    assert!(taken.iter().all(|spans| spans.dropped == 0));
    taken.into_iter().flat_map(|spans| spans.ended).collect()
}

/// The only one.
fn span(rig: &mut Rig) -> Span {
    let mut spans = spans(rig);
    assert_eq!(spans.len(), 1, "{spans:?}");
    spans.remove(0)
}

fn post(rig: &mut Rig, headers: &str, body: &Value) -> String {
    let body = body.to_string();
    let client = rig.socket(0);
    let head = format!(
        "POST /publish HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    rig.bytes(&client, head.as_bytes());
    client.take_text()
}

#[test]
fn there_are_none_unless_they_are_wanted() {
    let mut rig = Rig::alone();
    let client = rig.connect_with(0, &format!("traceparent: {PARENT}\r\n"));
    client.take();
    rig.request(&client, "publish", &json!({"channel": "a", "event": "e", "data": {}}));
    assert_eq!(rig.hubs[0].take_spans(), Spans::default());
}

#[test]
fn what_clients_are_sent_is_the_same_with_spans_and_without() {
    let said = |config: Config| {
        let mut rig = Rig::seeded(2, config, 7, Now { mono: Instant::now(), unix: START_UNIX });
        let (client, other) = (rig.connect(0), rig.connect(1));
        rig.subscribe(&other, "a");
        let data = json!({"channel": "a", "event": "e", "data": {"n": 1}, "traceparent": PARENT});
        let answer = rig.request(&client, "publish", &data);
        let posted = post(&mut rig, "", &json!({"channel": "a", "event": "e", "data": {"n": 2}}));
        (answer, posted, other.take())
    };
    assert_eq!(said(traced()), said(Config::default()));
}

#[test]
fn a_handshake_is_a_part_of_the_trace_that_it_names() {
    let mut rig = Rig::alone_with(traced());
    rig.connect_with(0, &format!("traceparent: {PARENT}\r\n"));
    let span = span(&mut rig);
    assert_eq!(span.operation, Operation::Handshake { secure: false, accepted: true });
    assert_eq!((span.context.trace, span.parent), (parent().trace, Some(parent().span)));
    assert_eq!((span.outcome, span.start), (Ok(()), START_UNIX));
    assert_eq!(span.client.unwrap().port(), 50_000);
}

#[test]
fn one_that_is_refused_says_why() {
    let mut rig = Rig::alone_with(Config { origins: Origins::Only(vec![]), ..traced() });
    let client = rig.socket(0);
    let head = "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nOrigin: http://x\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    rig.bytes(&client, head.as_bytes());
    let span = span(&mut rig);
    assert_eq!(span.operation, Operation::Handshake { secure: false, accepted: false });
    assert_eq!((span.outcome, span.parent), (Err(Reason::OriginForbidden), None));
}

#[cfg(feature = "jwt")]
#[test]
fn authentication_lasts_from_the_handshake_to_the_token() {
    let with_auth = |users| {
        let tracing = Some(Tracing { users, ..Tracing::default() });
        Config { tracing, ..with_auth() }
    };
    let spec = TokenSpec {
        user: Some("ada"),
        permissions: &["admin"],
        issued_at: START_UNIX,
        expires_in: Some(Duration::from_secs(60)),
        ..TokenSpec::default()
    };
    let token = auth::issue(SECRET, &spec).unwrap();
    for users in [false, true] {
        let mut rig = Rig::alone_with(with_auth(users));
        let client = rig.connect_with(0, "");
        let handshake = span(&mut rig);
        rig.wait(Duration::from_millis(250));
        rig.request(&client, "auth", &json!({"token": token}));
        let auth = span(&mut rig);
        assert_eq!((&auth.operation, auth.outcome), (&Operation::Auth, Ok(())));
        assert_eq!(auth.context.trace, handshake.context.trace);
        assert_eq!(auth.parent, Some(handshake.context.span));
        assert_eq!(auth.start, handshake.start);
        assert_eq!(auth.end - auth.start, Duration::from_millis(250));
        assert_eq!(auth.user.as_deref(), users.then_some("ada"));
    }

    let mut rig = Rig::alone_with(with_auth(false));
    let client = rig.connect_with(0, "");
    span(&mut rig);
    rig.wait(Duration::from_secs(11));
    assert_eq!(client.take_close().unwrap().0, 1008);
    assert_eq!(span(&mut rig).outcome, Err(Reason::AuthTimeout));

    // With the handshake it is judged at once.
    rig.connect_with(0, &format!("Authorization: Bearer {token}\r\n"));
    let both = spans(&mut rig);
    let [auth, handshake] = &both[..] else { panic!() };
    assert_eq!((auth.parent, auth.outcome), (Some(handshake.context.span), Ok(())));
}

#[test]
fn a_publish_ends_with_its_answer() {
    let mut rig = Rig::alone_with(traced());
    let (client, other) = (rig.connect(0), rig.connect(0));
    rig.subscribe(&other, "a");
    spans(&mut rig);
    let data = json!({"channel": "a", "event": "e", "data": {"n": 1}, "traceparent": PARENT});
    rig.request(&client, "publish", &data);
    let publish = span(&mut rig);
    let operation = Operation::Publish {
        via: Entrance::Message,
        channel: "a".into(),
        messages: 1,
        bytes: 7,
        subscribers: 1,
    };
    assert_eq!((publish.operation, publish.outcome), (operation, Ok(())));
    assert_eq!((publish.context.trace, publish.parent), (parent().trace, Some(parent().span)));

    rig.request(&client, "publish", &json!({"channel": "a", "event": "e", "data": {}}));
    let root = span(&mut rig);
    assert!(root.parent.is_none() && root.context.trace != parent().trace);

    rig.request(&client, "publish", &json!({"channel": "", "event": "e", "data": {}}));
    assert_eq!(span(&mut rig).outcome, Err(Reason::InvalidChannel));
}

#[test]
fn a_post_is_a_part_of_the_trace_of_its_header() {
    let mut rig = Rig::alone_with(traced());
    let header = format!("traceparent: {PARENT}\r\n");
    let two = json!([{"channel": "a", "event": "e"}, {"channel": "b", "event": "e"}]);
    assert!(post(&mut rig, &header, &two).starts_with("HTTP/1.1 200 "));
    let publish = span(&mut rig);
    assert_eq!(publish.parent, Some(parent().span));
    let Operation::Publish { via, messages, .. } = publish.operation else { panic!() };
    assert_eq!((via, messages), (Entrance::Http, 2));

    assert!(
        post(&mut rig, &header, &json!({"channel": "", "event": "e"})).starts_with("HTTP/1.1 400 ")
    );
    let refused = span(&mut rig);
    assert_eq!(
        (refused.outcome, refused.parent),
        (Err(Reason::InvalidChannel), Some(parent().span))
    );
}

#[test]
fn a_publish_lasts_while_other_hubs_have_not_answered() {
    let mut rig = Rig::new(2, traced());
    let client = rig.connect(0);
    let remote = (0..).map(|n| format!("c{n}"));
    let placement = Placement::new(rig.hubs[0].hub().place());
    let channel = remote.into_iter().find(|name| placement.home(name) == ShardId(1)).unwrap();
    spans(&mut rig);
    rig.stalled = Some(1);
    let data = json!({"channel": channel, "event": "e", "data": {}});
    rig.send(&client, &json!({"type": "request", "event": "publish", "id": "q", "data": data}));
    rig.wait(Duration::from_millis(40));
    assert!(spans(&mut rig).is_empty());
    rig.stalled = None;
    rig.run();
    let span = span(&mut rig);
    assert_eq!(span.end - span.start, Duration::from_millis(40));
}

#[test]
fn the_sampler_decides_which_traces_are_kept() {
    let none = Sampler { ratio: 0.0, parent_based: true };
    let tracing = Some(Tracing { sampler: none, users: false });
    let mut rig = Rig::alone_with(Config { tracing, ..Config::default() });
    let client = rig.connect(0);
    rig.request(&client, "publish", &json!({"channel": "a", "event": "e", "data": {}}));
    assert!(spans(&mut rig).is_empty());
    let data = json!({"channel": "a", "event": "e", "data": {}, "traceparent": PARENT});
    rig.request(&client, "publish", &data);
    assert_eq!(span(&mut rig).parent, Some(parent().span));
}

#[test]
fn a_turn_keeps_so_many_and_counts_the_rest() {
    let mut rig = Rig::alone_with(traced());
    let publish = |rig: &mut Rig| rig.publish(0, "a", 1);
    for _ in 0..Spans::PER_TURN_MAX + 3 {
        publish(&mut rig);
    }
    rig.run();
    let taken = rig.hubs[0].take_spans();
    assert_eq!((taken.ended.len(), taken.dropped), (Spans::PER_TURN_MAX, 3));
}

#[test]
fn a_reload_begins_and_ends_spans() {
    let mut rig = Rig::alone();
    let mut reload = |config: Config| {
        rig.hubs[0].handle_command(rig.now, Command::Reload(Arc::new(config)));
        rig.run();
        rig.connect(0);
        rig.hubs[0].take_spans().ended.len()
    };
    assert_eq!([reload(traced()), reload(Config::default()), reload(traced())], [1, 0, 1]);
}

/// A subscriber that is told of traces.
fn follower(rig: &mut Rig, shard: usize, channel: &str) -> Client {
    let client = rig.connect(shard);
    let answer = rig.request(&client, "subscribe", &json!({"channel": channel, "trace": true}));
    assert_eq!(answer["data"]["offset"], 0, "positions come with it: {answer}");
    client
}

#[test]
fn who_asks_is_told_which_trace_an_event_belongs_to() {
    for (shards, config) in [(1, Config::default()), (2, Config::default()), (2, traced())] {
        let kept = config.tracing.is_some();
        let mut rig = Rig::new(shards, config);
        let last = usize::from(shards) - 1;
        let (told, publisher) = (follower(&mut rig, last, "a"), rig.connect(0));
        let (plain, positioned) = (rig.connect(last), rig.connect(last));
        rig.subscribe(&plain, "a");
        rig.request(&positioned, "subscribe", &json!({"channel": "a", "positions": true}));
        for client in [&told, &plain, &positioned] {
            client.take();
        }
        spans(&mut rig);
        let data = json!({"channel": "a", "event": "e", "data": {"n": 1}, "traceparent": PARENT});
        rig.request(&publisher, "publish", &data);
        let events = told.take();
        let [event] = &events[..] else { panic!() };
        // Without spans of its own the server passes on what it was told; otherwise it stands between.
        let expected = match kept {
            true => span(&mut rig).context.to_string(),
            false => PARENT.to_owned(),
        };
        assert_eq!((&event["traceparent"], &event["offset"]), (&json!(expected), &json!(1)));
        for (client, members) in [(&plain, 9), (&positioned, 10)] {
            let events = client.take();
            let [event] = &events[..] else { panic!() };
            assert_eq!(event.as_object().unwrap().len(), members, "{event}");
        }

        rig.request(
            &publisher,
            "publish",
            &json!({"channel": "a", "event": "e", "data": {"n": 2}}),
        );
        let events = told.take();
        let [event] = &events[..] else { panic!() };
        assert_eq!(event.get("traceparent").is_some(), kept, "{event}");
    }
}

#[test]
fn of_a_round_only_what_belongs_to_a_trace_says_so() {
    let mut rig = Rig::alone();
    let told = follower(&mut rig, 0, "a");
    let publisher = rig.connect(0);
    let message = |n: u64| json!({"channel": "a", "event": "e", "data": {"n": n}});
    let mut traced = message(2);
    traced["traceparent"] = json!(PARENT);
    let body = json!([message(1), traced, message(3)]);
    assert!(post(&mut rig, "", &body).starts_with("HTTP/1.1 200 "));
    let events = told.take();
    let said: Vec<_> = events.iter().map(|event| event.get("traceparent").is_some()).collect();
    assert_eq!(said, [false, true, false]);

    // What is none is ignored, as is what is not even text.
    for none in [json!("00-nonsense"), json!(7), Value::Null] {
        let mut message = message(4);
        message["traceparent"] = none;
        let answer = rig.request(&publisher, "publish", &message);
        assert_eq!(answer["type"], "response", "{answer}");
        assert!(told.take()[0].get("traceparent").is_none());
    }
}

#[test]
fn who_subscribes_again_without_it_or_leaves_is_told_no_more() {
    let mut rig = Rig::alone();
    let (told, other) = (follower(&mut rig, 0, "a"), follower(&mut rig, 0, "a"));
    let publisher = rig.connect(0);
    let publish = |rig: &mut Rig| {
        let data = json!({"channel": "a", "event": "e", "data": {}, "traceparent": PARENT});
        rig.request(&publisher, "publish", &data);
        [&told, &other].map(|client| {
            let events = client.take();
            events.first().map(|event| event.get("traceparent").is_some())
        })
    };
    assert_eq!(publish(&mut rig), [Some(true), Some(true)]);
    rig.request(&told, "subscribe", &json!({"channel": "a", "positions": true}));
    assert_eq!(publish(&mut rig), [Some(false), Some(true)]);
    rig.request(&other, "unsubscribe", &json!({"channel": "a"}));
    assert_eq!(publish(&mut rig), [Some(false), None]);
}
