//! Sessions that outlive their connection, on whole hubs.

use super::*;
use crate::auth::Pattern;

/// A session of `client`, which waits for a minute.
pub(super) fn keep(rig: &mut Rig, client: &Client) -> Value {
    let answer = rig.request(client, "keep_session", &json!({"ttl": 60}));
    assert_eq!(answer["data"]["ttl"], 60, "{answer}");
    answer["data"]["session"].clone()
}

/// The answer to `resume_session`, and what came after it.
pub(super) fn resume(
    rig: &mut Rig,
    client: &Client,
    session: &Value,
    positions: &Value,
) -> (Value, Vec<Value>) {
    let data = json!({"session": session, "positions": positions});
    rig.send(
        client,
        &json!({"type": "request", "event": "resume_session", "id": "r", "data": data}),
    );
    let mut came = client.take().into_iter();
    let answer = came.next().expect("an answer");
    assert_eq!(answer["correlation_id"], "r", "something comes before it: {answer}");
    (answer, came.collect())
}

/// Subscribes with positions, and says where the channel stands.
pub(super) fn follow(rig: &mut Rig, client: &Client, channel: &str) -> Value {
    let data = json!({"channel": channel, "positions": true});
    let answer = rig.request(client, "subscribe", &data);
    position(&answer["data"])
}

fn position(of: &Value) -> Value {
    json!({"epoch": of["epoch"], "offset": of["offset"]})
}

fn publish(rig: &mut Rig, channel: &str, numbers: std::ops::RangeInclusive<u64>) {
    for n in numbers {
        rig.publish(0, channel, n);
        rig.run();
    }
}

fn numbers(messages: &[Value]) -> Vec<u64> {
    messages.iter().filter_map(|message| message["data"]["n"].as_u64()).collect()
}

fn subscriptions(answer: &Value) -> Vec<(&str, Value)> {
    let list = answer["data"]["subscriptions"].as_array().expect("a list");
    let entry = |entry: &'_ Value| {
        let mut rest = entry.clone();
        rest.as_object_mut().unwrap().remove("channel");
        rest
    };
    list.iter().map(|one| (one["channel"].as_str().unwrap(), entry(one))).collect()
}

pub(super) fn is_unknown(answer: &Value) -> bool {
    answer["error_code"] == "SESSION_UNKNOWN"
}

/// Sessions at home anywhere.
pub(super) fn sessions(rig: &Rig) -> usize {
    rig.hubs.iter().map(|hub| hub.hub().holdings().sessions).sum()
}

#[test]
fn what_was_missed_follows_the_answer() {
    for shards in [1, 3] {
        let mut rig = Rig::new(shards, unlimited());
        let first = rig.connect(0);
        let session = keep(&mut rig, &first);
        let a = follow(&mut rig, &first, "a");
        let b = follow(&mut rig, &first, "b");
        rig.subscribe(&first, "plain");
        publish(&mut rig, "a", 1..=2);
        rig.hang_up(&first);
        publish(&mut rig, "a", 3..=5);
        publish(&mut rig, "b", 6..=7);
        publish(&mut rig, "plain", 8..=8);

        let second = rig.connect(usize::from(shards) - 1);
        let mut seen = a.clone();
        seen["offset"] = json!(2);
        let positions = json!({"a": seen, "b": b, "never": b});
        let (answer, came) = resume(&mut rig, &second, &session, &positions);

        assert_eq!(answer["status"], "resumed", "{answer}");
        let at = |epoch: &Value, offset, missed| {
            json!({"epoch": epoch["epoch"], "offset": offset, "recoverable": true,
                "recovered": true, "missed": missed})
        };
        assert_eq!(
            subscriptions(&answer),
            [("a", at(&a, 5, 3)), ("b", at(&b, 2, 2)), ("plain", json!({"recovered": false}))]
        );
        let of = |channel: &str| -> Vec<(u64, u64)> {
            let mine = came.iter().filter(|event| event["room"] == *channel);
            let pair = |event: &Value| (event["data"]["n"].as_u64(), event["offset"].as_u64());
            mine.map(pair).map(|(n, offset)| (n.unwrap(), offset.unwrap())).collect()
        };
        assert_eq!(of("a"), [(3, 3), (4, 4), (5, 5)], "{shards} shards");
        assert_eq!(of("b"), [(6, 1), (7, 2)]);
        assert_eq!(came.len(), 5, "{came:?}");
        publish(&mut rig, "a", 9..=9);
        publish(&mut rig, "plain", 10..=10);
        assert_eq!(second.take_numbers(), [9, 10], "it goes on");
    }
}

#[test]
fn it_is_known_to_others_by_the_same_name() {
    let mut rig = Rig::alone();
    let first = rig.connect_with(0, "");
    let name = first.take()[0]["data"]["connection_id"].clone();
    let session = keep(&mut rig, &first);
    rig.hang_up(&first);
    for _ in 0..2 {
        let next = rig.connect(0);
        let (answer, _) = resume(&mut rig, &next, &session, &json!({}));
        assert_eq!(answer["data"]["connection_id"], name);
        rig.hang_up(&next);
    }
}

#[test]
fn what_it_subscribed_to_before_and_after_is_in_it() {
    let mut rig = Rig::new(2, unlimited());
    let first = rig.connect(0);
    rig.subscribe(&first, "before");
    follow(&mut rig, &first, "followed");
    rig.subscribe(&first, "left before");
    rig.request(&first, "unsubscribe", &json!({"channel": "left before"}));
    let session = keep(&mut rig, &first);
    rig.subscribe(&first, "after");
    rig.subscribe(&first, "left");
    rig.request(&first, "unsubscribe", &json!({"channel": "left"}));
    // What was confirmed counts, whether or not the client has heard of it.
    let last = (0..).map(|n| format!("last{n}"));
    let last =
        last.into_iter().find(|name| rig.hubs[0].hub().homes.of(name) == ShardId(0)).unwrap();
    let request = json!({"type": "request", "event": "subscribe", "data": {"channel": last}});
    rig.hubs[0].handle_bytes(rig.now, first.conn, &mut frame(&request));
    rig.hang_up(&first);

    for shard in [1, 0, 1] {
        let next = rig.connect(shard);
        let (answer, came) = resume(&mut rig, &next, &session, &json!({}));
        let found = subscriptions(&answer);
        let names: Vec<_> = found.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["after", "before", "followed", &last]);
        assert_eq!(found[2].1["recovered"], false, "without a position");
        assert!(found[2].1["epoch"].is_string() && found[0].1["epoch"].is_null());
        assert!(came.is_empty());
        rig.hang_up(&next);
    }
}

#[test]
fn the_window_is_exact() {
    let nanosecond = Duration::from_nanos(1);
    for (early, found) in [(nanosecond, true), (Duration::ZERO, false)] {
        for shards in [1, 2] {
            let mut rig = Rig::new(shards, unlimited());
            let first = rig.connect(0);
            let session = keep(&mut rig, &first);
            rig.subscribe(&first, "a");
            rig.hang_up(&first);
            let second = rig.connect(0);

            rig.wait(Duration::from_secs(60) - early);
            assert_eq!(sessions(&rig), usize::from(found));
            let (answer, _) = resume(&mut rig, &second, &session, &json!({}));
            assert_eq!(is_unknown(&answer), !found, "{answer}");
        }
    }
}

#[test]
fn whoever_asks_for_another_session_learns_nothing() {
    let mut rig = Rig::new(2, unlimited());
    let first = rig.connect(0);
    let ended = keep(&mut rig, &first);
    rig.hang_up(&first);
    rig.wait(Duration::from_secs(60));
    let mut texts = Vec::new();
    for session in [ended, json!("0".repeat(32)), json!("F".repeat(32)), json!(""), json!("x")] {
        let client = rig.connect(1);
        let (mut answer, _) = resume(&mut rig, &client, &session, &json!({}));
        assert!(is_unknown(&answer), "{answer}");
        answer["id"] = Value::Null;
        texts.push(answer);
        rig.subscribe(&client, "a");
    }
    texts.dedup();
    assert_eq!(texts.len(), 1, "{texts:?}");
}

#[test]
fn the_old_connection_is_closed_and_nothing_is_lost_or_doubled() {
    for shards in [1, 2, 3] {
        let mut rig = Rig::new(shards, unlimited());
        let old = rig.connect(0);
        let session = keep(&mut rig, &old);
        let start = follow(&mut rig, &old, "a");
        // It hangs: its socket takes nothing more.
        rig.set_room(&old, Some(0));
        publish(&mut rig, "a", 1..=3);

        let new = rig.connect(usize::from(shards) - 1);
        let (answer, came) = resume(&mut rig, &new, &session, &json!({"a": start}));
        assert_eq!(numbers(&came), [1, 2, 3], "{answer}");
        publish(&mut rig, "a", 4..=4);
        assert_eq!(new.take_numbers(), [4]);

        assert_eq!(rig.hubs[0].hub().subscriptions(old.conn), 0);
        rig.set_room(&old, None);
        assert_eq!(old.take_close(), Some((1001, "Resumed elsewhere".into())));
        rig.hang_up(&old);
        assert_eq!(sessions(&rig), 1);
    }
}

#[test]
fn of_those_who_come_at_once_the_last_has_it() {
    for shards in [1, 3] {
        let mut rig = Rig::new(shards, unlimited());
        let first = rig.connect(0);
        let session = keep(&mut rig, &first);
        rig.subscribe(&first, "a");
        let many: Vec<_> = (0..10).map(|n| rig.connect(n % usize::from(shards))).collect();
        let request = json!({"type": "request", "event": "resume_session", "id": "r",
            "data": {"session": session}});
        for client in &many {
            rig.hubs[client.shard].handle_bytes(rig.now, client.conn, &mut frame(&request));
        }
        rig.run();

        let frames = |client: &Client| client.take_frames();
        let ended = |frames: &[(u8, Vec<u8>)]| {
            frames
                .iter()
                .any(|(opcode, payload)| *opcode == 8 && payload[2..] == *b"Resumed elsewhere")
        };
        assert!(ended(&frames(&first)));
        let came: Vec<_> = many.iter().map(frames).collect();
        let left: Vec<_> = came.iter().filter(|frames| !ended(frames)).collect();
        assert_eq!(left.len(), 1, "{shards} shards");
        let answer: Value = serde_json::from_slice(&left[0][0].1).unwrap();
        assert_eq!(answer["data"]["status"], "resumed", "{answer}");
        assert_eq!(sessions(&rig), 1);
        publish(&mut rig, "a", 1..=1);
        let heard: Vec<_> = many.iter().flat_map(Client::take_numbers).collect();
        assert_eq!(heard, [1]);
    }
}

#[test]
fn ten_sessions_are_resumed_at_once() {
    let mut rig = Rig::new(3, unlimited());
    let mut known = Vec::new();
    for n in 0..10 {
        let client = rig.connect(n % 3);
        let session = keep(&mut rig, &client);
        let at: serde_json::Map<_, _> = ["a", "b", "c"]
            .into_iter()
            .map(|channel| (channel.to_owned(), follow(&mut rig, &client, channel)))
            .collect();
        known.push((client, session, at));
    }
    known.iter().for_each(|(client, ..)| rig.hang_up(client));
    for channel in ["a", "b", "c"] {
        publish(&mut rig, channel, 1..=20);
    }
    let clients: Vec<_> = (0..10).map(|n| rig.connect((n + 1) % 3)).collect();
    for (client, (_, session, at)) in clients.iter().zip(&known) {
        let request = json!({"type": "request", "event": "resume_session", "id": "r",
            "data": {"session": session, "positions": at}});
        rig.hubs[client.shard].handle_bytes(rig.now, client.conn, &mut frame(&request));
    }
    rig.run();
    for client in clients {
        let came = client.take();
        assert_eq!(came[0]["data"]["status"], "resumed", "{}", came[0]);
        for channel in ["a", "b", "c"] {
            let mine: Vec<_> =
                came.iter().filter(|event| event["room"] == channel).cloned().collect();
            assert_eq!(numbers(&mine), (1..=20).collect::<Vec<_>>());
        }
    }
}

#[test]
fn events_of_the_meantime_wait_for_the_answer() {
    let mut rig = Rig::new(2, unlimited());
    let (near, far) = (rig.channel_of(0), rig.channel_of(1));
    // One that is at home where it is answered.
    let (first, session) = (0..50)
        .find_map(|_| {
            let client = rig.connect(0);
            let session = keep(&mut rig, &client);
            let id = SessionId::parse(session.as_str().unwrap()).unwrap();
            let home = rig.hubs[0].hub().homes.placement().session_home(id);
            (home == ShardId(0)).then_some((client, session))
        })
        .expect("one of fifty");
    let at = [&near, &far].map(|channel| (channel.clone(), follow(&mut rig, &first, channel)));
    rig.hang_up(&first);
    publish(&mut rig, &near, 1..=2);

    let second = rig.connect(0);
    rig.stalled = Some(1);
    let request = json!({"type": "request", "event": "resume_session", "id": "r",
        "data": {"session": session, "positions": serde_json::Map::from_iter(at)}});
    rig.send(&second, &request);
    publish(&mut rig, &near, 3..=4);
    assert!(second.take().is_empty(), "one channel has not answered");
    rig.stalled = None;
    rig.run();
    let came = second.take();
    assert_eq!(came[0]["correlation_id"], "r");
    assert_eq!(numbers(&came), [1, 2, 3, 4]);
}

#[test]
fn a_connection_has_one_session() {
    let mut rig = Rig::alone();
    let first = rig.connect(0);
    let session = keep(&mut rig, &first);
    let again = rig.request(&first, "keep_session", &json!({"ttl": 5}));
    assert_eq!(again["data"], json!({"session": session, "ttl": 5}), "the same for another time");
    let longest = rig.request(&first, "keep_session", &json!({}));
    assert_eq!(longest["data"]["ttl"], 120);
    let resumed = rig.request(&first, "resume_session", &json!({"session": session}));
    assert_eq!(resumed["error_code"], "CONFLICT");
    assert_eq!(sessions(&rig), 1);
}

#[test]
fn some_ends_are_for_good() {
    let mut rig = Rig::new(2, unlimited());
    let close = |code: Option<u16>| {
        let payload = code.map(u16::to_be_bytes).unwrap_or_default();
        let mut bytes = Vec::new();
        let len = if code.is_some() { 2 } else { 0 };
        ws::encode_frame(&mut bytes, Opcode::Close, &payload[..len], Some([1, 2, 3, 4]));
        bytes
    };
    for (code, kept) in [(None, 0), (Some(1000), 0), (Some(1001), 1), (Some(4000), 1)] {
        let client = rig.connect(0);
        keep(&mut rig, &client);
        rig.bytes(&client, &close(code));
        assert_eq!(sessions(&rig), kept, "{code:?}");
        rig.wait(Duration::from_secs(60));
        assert_eq!(sessions(&rig), 0);
    }
    let client = rig.connect(1);
    keep(&mut rig, &client);
    rig.hubs[1].handle_command(rig.now, Command::Disconnect { conn: client.conn });
    rig.run();
    assert_eq!(sessions(&rig), 0, "somebody wanted it gone");
}

#[test]
fn a_drain_leaves_sessions_to_the_next_run() {
    let mut config = unlimited();
    config.store = true;
    let mut rig = Rig::new(2, config);
    let client = rig.connect(0);
    keep(&mut rig, &client);
    rig.subscribe(&client, "a");
    rig.outputs.clear();
    for hub in &mut rig.hubs {
        hub.handle_command(rig.now, Command::Drain(DrainPlan::default()));
    }
    rig.run();
    let told: Vec<_> =
        rig.outputs.iter().filter(|output| matches!(output, Output::Store(_))).collect();
    assert!(
        matches!(told[..], [Output::Store(StoreCommand::KeepSession { .. })]),
        "{:?}",
        rig.outputs
    );
}

/// What a store has of sessions after all that the hubs told it.
fn stored(rig: &mut Rig) -> BTreeMap<u128, bytes::Bytes> {
    let mut store = BTreeMap::new();
    for output in rig.outputs.drain(..) {
        let Output::Store(command) = output else { continue };
        if let StoreCommand::KeepSession { session, record } = command {
            store.insert(session.0, record);
        } else if let StoreCommand::ForgetSession { session } = command {
            assert!(store.remove(&session.0).is_some(), "it was told of it");
        }
    }
    store
}

/// Another run, so much later, with so many hubs, which is told what the store has.
fn restarted(
    store: &BTreeMap<u128, bytes::Bytes>,
    away: Duration,
    shards: u16,
    config: &Config,
) -> Rig {
    let mut rig = Rig::new(shards, config.clone());
    rig.now.unix += away;
    let placement = rig.hubs[0].hub().homes.placement();
    for (session, record) in store {
        let session = SessionId(*session);
        let home = placement.session_home(session);
        let event = StoreEvent::Session { session, record: record.clone() };
        rig.hubs[usize::from(home.0)].handle_store(rig.now, event);
    }
    rig
}

#[test]
fn a_session_outlives_the_process() {
    let mut config = unlimited();
    config.store = true;
    let mut rig = Rig::new(2, config.clone());
    let (detached, attached, gone) = (rig.connect(0), rig.connect(1), rig.connect(0));
    let sessions_of = [&detached, &attached, &gone].map(|client| keep(&mut rig, client));
    for client in [&detached, &attached, &gone] {
        rig.subscribe(client, "plain");
        follow(&mut rig, client, "followed");
    }
    rig.hang_up(&detached);
    rig.hubs[0].handle_command(rig.now, Command::Disconnect { conn: gone.conn });
    rig.run();
    let store = stored(&mut rig);
    assert_eq!(store.len(), 2);

    for (away, alive) in [(59, [true, true, false]), (60, [false, true, false])] {
        let mut rig = restarted(&store, Duration::from_secs(away), 3, &config);
        for (session, alive) in sessions_of.iter().zip(alive) {
            let client = rig.connect(0);
            let (answer, _) = resume(&mut rig, &client, session, &json!({}));
            assert_eq!(is_unknown(&answer), !alive, "{away} s: {answer}");
            if alive {
                let found = subscriptions(&answer);
                assert_eq!((found[0].0, found[1].0), ("followed", "plain"));
                assert!(found[0].1["epoch"].is_string(), "it followed that one");
            }
        }
        let forgets =
            |output: &&Output| matches!(output, Output::Store(StoreCommand::ForgetSession { .. }));
        let forgotten = rig.outputs.iter().filter(forgets).count();
        assert_eq!(forgotten, usize::from(!alive[0]), "what was too old is forgotten");
    }
}

#[test]
fn limits_are_told() {
    let mut config = unlimited();
    config.limits.sessions.sessions_max = 1;
    let mut rig = Rig::alone_with(config);
    let (first, second) = (rig.connect(0), rig.connect(0));
    let session = keep(&mut rig, &first);
    let refused = rig.request(&second, "keep_session", &json!({}));
    assert_eq!(refused["error_code"], "RATE_LIMIT_EXCEEDED");
    rig.hang_up(&first);
    let (answer, _) = resume(&mut rig, &second, &session, &json!({}));
    assert_eq!(answer["data"]["status"], "resumed", "who was refused may resume");
    for data in [json!({"ttl": 0}), json!({"ttl": "x"})] {
        assert_eq!(rig.request(&second, "keep_session", &data)["error_code"], "DECODE_ERROR");
    }
    let third = rig.connect(0);
    assert_eq!(rig.request(&third, "resume_session", &json!({}))["error_code"], "DECODE_ERROR");
}

#[test]
fn without_a_window_there_are_none() {
    let mut config = unlimited();
    config.limits.sessions.session_window = Duration::ZERO;
    let mut rig = Rig::alone_with(config);
    let client = rig.connect(0);
    for event in ["keep_session", "resume_session"] {
        assert_eq!(rig.request(&client, event, &json!({}))["error_code"], "UNKNOWN_REQUEST");
    }
}

#[test]
fn a_request_of_the_applications_is_the_applications() {
    let mut config = unlimited();
    config.hooks.requests = ["keep_session".into()].into();
    let mut rig = Rig::alone_with(config);
    let client = rig.connect(0);
    rig.send(&client, &json!({"type": "request", "event": "keep_session", "id": "q"}));
    assert!(client.take().is_empty());
    assert!(matches!(rig.outputs.last(), Some(Output::Request { .. })));
}

#[test]
fn the_application_is_asked_again() {
    let mut config = unlimited();
    config.limits.requests.requests_in_flight_max = 2;
    let mut rig = Rig::new(2, config.clone());
    let first = rig.connect(0);
    let session = keep(&mut rig, &first);
    for n in 0..5 {
        rig.subscribe(&first, &format!("c{n}"));
    }
    rig.hang_up(&first);
    config.hooks.authorize_subscribe = true;
    for hub in &mut rig.hubs {
        hub.handle_command(rig.now, Command::Reload(Arc::new(config.clone())));
    }
    let second = rig.connect(0);
    rig.send(
        &second,
        &json!({"type": "request", "event": "resume_session", "id": "r",
        "data": {"session": session}}),
    );

    let mut asked = Vec::new();
    while let Some(output) = rig.outputs.pop() {
        let Output::Authorize { id, channel, .. } = output else { continue };
        assert!(second.take().is_empty(), "it waits for all");
        let allow = *channel != *"c3";
        asked.push(channel);
        rig.hubs[0].handle_command(rig.now, Command::Decide { id, allow });
        rig.run();
    }
    asked.sort();
    assert_eq!(asked, ["c0", "c1", "c2", "c3", "c4"].map(Into::into));
    let answer = &second.take()[0];
    let refused: Vec<_> = subscriptions(answer)
        .into_iter()
        .filter(|(_, entry)| *entry != json!({"recovered": false}))
        .collect();
    assert_eq!(refused, [("c3", json!({"error": "FORBIDDEN"}))]);

    // What was refused is no longer part of it.
    rig.hang_up(&second);
    config.hooks.authorize_subscribe = false;
    for hub in &mut rig.hubs {
        hub.handle_command(rig.now, Command::Reload(Arc::new(config.clone())));
    }
    let third = rig.connect(1);
    let (answer, _) = resume(&mut rig, &third, &session, &json!({}));
    let names: Vec<_> = subscriptions(&answer).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["c0", "c1", "c2", "c4"]);
}

#[test]
fn who_does_not_want_a_channel_any_more_need_not_wait_for_it() {
    let mut config = unlimited();
    let mut rig = Rig::new(2, config.clone());
    let first = rig.connect(0);
    let session = keep(&mut rig, &first);
    rig.subscribe(&first, "a");
    rig.subscribe(&first, "b");
    rig.hang_up(&first);
    config.hooks.authorize_subscribe = true;
    for hub in &mut rig.hubs {
        hub.handle_command(rig.now, Command::Reload(Arc::new(config.clone())));
    }
    let second = rig.connect(0);
    rig.send(
        &second,
        &json!({"type": "request", "event": "resume_session", "id": "r",
        "data": {"session": session}}),
    );
    let gone = rig.request(&second, "unsubscribe", &json!({"channel": "a"}));
    assert_eq!(gone["data"]["status"], "unsubscribed");
    while let Some(output) = rig.outputs.pop() {
        let Output::Authorize { id, .. } = output else { continue };
        rig.hubs[0].handle_command(rig.now, Command::Decide { id, allow: true });
        rig.run();
    }
    let answer = &second.take()[0];
    assert_eq!(subscriptions(answer), [("b", json!({"recovered": false}))]);
    publish(&mut rig, "a", 1..=1);
    publish(&mut rig, "b", 2..=2);
    assert_eq!(second.take_numbers(), [2]);
}

#[test]
fn who_goes_while_it_is_resumed_can_come_back() {
    for shards in [1, 2] {
        let mut rig = Rig::new(shards, unlimited());
        let first = rig.connect(0);
        let session = keep(&mut rig, &first);
        rig.subscribe(&first, "a");
        rig.hang_up(&first);
        let second = rig.connect(0);
        let request = json!({"type": "request", "event": "resume_session", "id": "r",
            "data": {"session": session}});
        rig.hubs[0].handle_bytes(rig.now, second.conn, &mut frame(&request));
        rig.hubs[0].handle_io_error(rig.now, second.conn, io::ErrorKind::ConnectionReset);
        rig.run();
        let third = rig.connect(usize::from(shards) - 1);
        let (answer, _) = resume(&mut rig, &third, &session, &json!({}));
        assert_eq!(subscriptions(&answer), [("a", json!({"recovered": false}))]);
        publish(&mut rig, "a", 1..=1);
        assert_eq!(third.take_numbers(), [1]);
    }
}

#[test]
fn what_a_connection_had_before_is_added() {
    let mut rig = Rig::new(2, unlimited());
    let first = rig.connect(0);
    let session = keep(&mut rig, &first);
    let at = follow(&mut rig, &first, "both");
    rig.subscribe(&first, "old");
    rig.hang_up(&first);
    publish(&mut rig, "both", 1..=2);
    let second = rig.connect(1);
    rig.subscribe(&second, "both");
    rig.subscribe(&second, "own");
    publish(&mut rig, "both", 3..=3);
    assert_eq!(second.take_numbers(), [3]);
    let (answer, came) = resume(&mut rig, &second, &session, &json!({"both": at}));
    let names: Vec<_> = subscriptions(&answer).into_iter().map(|(name, _)| name).collect();
    assert_eq!((names, numbers(&came)), (vec!["both", "old"], vec![1, 2, 3]), "{answer}");
    rig.hang_up(&second);
    let third = rig.connect(0);
    let (answer, _) = resume(&mut rig, &third, &session, &json!({}));
    let names: Vec<_> = subscriptions(&answer).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["both", "old", "own"]);
}

#[test]
fn a_thousand_channels_need_no_deep_stack() {
    let mut rig = Rig::alone_with(unlimited());
    let first = rig.connect(0);
    let session = keep(&mut rig, &first);
    for n in 0..1000 {
        rig.subscribe(&first, &format!("channel:{n}"));
    }
    rig.hang_up(&first);
    let second = rig.connect(0);
    let (answer, _) = resume(&mut rig, &second, &session, &json!({}));
    assert_eq!(subscriptions(&answer).len(), 1000);
}

#[test]
fn nothing_is_left_behind() {
    let mut rig = Rig::new(2, unlimited());
    for n in 0..10 {
        let client = rig.connect(n % 2);
        keep(&mut rig, &client);
        rig.subscribe(&client, "a");
        rig.hang_up(&client);
    }
    assert_eq!(sessions(&rig), 10);
    rig.wait(Duration::from_secs(61));
    rig.assert_empty();
    assert_eq!(sessions(&rig), 0);
    assert_eq!(rig.hubs[0].poll_timeout().filter(|due| due.reason == TimeoutReason::Resume), None);
}

#[cfg(feature = "jwt")]
mod with_users {
    use super::*;

    fn login(rig: &mut Rig, shard: usize, user: &str, permissions: &[&str]) -> Client {
        let header = format!("Authorization: Bearer {}\r\n", token(user, permissions));
        let client = rig.connect_with(shard, &header);
        assert_eq!(client.take()[0]["event"], "session.created");
        client
    }

    #[test]
    fn a_session_is_its_users() {
        let mut rig = Rig::new(2, with_auth());
        let ada = login(&mut rig, 0, "ada", &["workflow:read"]);
        let session = keep(&mut rig, &ada);
        rig.subscribe(&ada, "workflow:1");
        rig.hang_up(&ada);
        let eve = login(&mut rig, 0, "eve", &["admin"]);
        let (answer, _) = resume(&mut rig, &eve, &session, &json!({}));
        assert!(is_unknown(&answer), "{answer}");
        let again = login(&mut rig, 1, "ada", &["workflow:read"]);
        let (answer, _) = resume(&mut rig, &again, &session, &json!({}));
        assert_eq!(subscriptions(&answer), [("workflow:1", json!({"recovered": false}))]);
    }

    #[test]
    fn permissions_are_judged_anew() {
        let mut rig = Rig::new(2, with_auth());
        let ada = login(&mut rig, 0, "ada", &["workflow:read", "pool:read"]);
        let session = keep(&mut rig, &ada);
        rig.subscribe(&ada, "workflow:1");
        rig.subscribe(&ada, "pool:1");
        rig.hang_up(&ada);
        let less = login(&mut rig, 1, "ada", &["workflow:read"]);
        let (answer, _) = resume(&mut rig, &less, &session, &json!({}));
        assert_eq!(
            subscriptions(&answer),
            [
                ("pool:1", json!({"error": "FORBIDDEN"})),
                ("workflow:1", json!({"recovered": false}))
            ]
        );
        publish(&mut rig, "pool:1", 1..=1);
        publish(&mut rig, "workflow:1", 2..=2);
        assert_eq!(less.take_numbers(), [2]);
    }

    #[test]
    fn a_revoked_token_ends_it() {
        let mut rig = Rig::new(2, with_auth());
        let ada = login(&mut rig, 0, "ada", &["workflow:read"]);
        keep(&mut rig, &ada);
        let revocation = auth::Revocation {
            id: None,
            user: Some("ada".into()),
            until: None,
            issued_before: None,
        };
        let command = Command::Revoke { id: None, revocation };
        rig.hubs[0].handle_command(rig.now, command);
        rig.run();
        assert_eq!(sessions(&rig), 0);
    }

    #[test]
    fn an_expired_token_does_not() {
        let mut rig = Rig::alone_with(with_auth());
        let ada = login(&mut rig, 0, "ada", &["workflow:read"]);
        keep(&mut rig, &ada);
        rig.wait(Duration::from_secs(3600 + 31));
        assert_eq!(ada.take_close().map(|(code, _)| code), Some(1008));
        assert_eq!(sessions(&rig), 1);
    }

    #[test]
    fn it_goes_with_a_connection_that_becomes_a_users() {
        let mut config = with_auth();
        config.auth.required = false;
        let mut rig = Rig::new(2, config);
        let client = rig.connect(0);
        let session = keep(&mut rig, &client);
        let answer = rig.request(&client, "auth", &json!({"token": token("ada", &["admin"])}));
        assert_eq!(answer["data"]["status"], "authenticated");
        rig.hang_up(&client);
        let nobody = rig.connect(0);
        let (answer, _) = resume(&mut rig, &nobody, &session, &json!({}));
        assert!(is_unknown(&answer));
        let ada = login(&mut rig, 1, "ada", &["admin"]);
        let (answer, _) = resume(&mut rig, &ada, &session, &json!({}));
        assert_eq!(answer["data"]["status"], "resumed");
    }
}

/// An embedding application may say that sessions wait for ever.
#[test]
fn a_window_without_an_end_is_a_long_one() {
    let mut config = unlimited();
    config.limits.sessions.session_window = Duration::MAX;
    config.presence.push((Pattern::parse("room:*").unwrap(), true));
    let mut rig = Rig::alone_with(config);
    let first = rig.connect(0);
    let session = rig.request(&first, "keep_session", &json!({}))["data"]["session"].clone();
    let room = json!({"channel": "room:1", "presence": true});
    assert_eq!(rig.request(&first, "subscribe", &room)["data"]["status"], "subscribed");
    rig.hang_up(&first);
    rig.wait(Duration::from_secs(365 * 86_400));
    let next = rig.connect(0);
    let (answer, _) = resume(&mut rig, &next, &session, &json!({}));
    assert_eq!(subscriptions(&answer)[0].0, "room:1");
}
