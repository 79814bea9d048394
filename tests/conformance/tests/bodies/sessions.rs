//! Sessions that outlive their connection.

use std::{collections::BTreeSet, sync::Mutex, time::Duration};

use mahavishnu_conformance::{App, Backend, Client, Rig, Setup, token};
use mahavishnu_core::{auth::Pattern, config::Config};
use serde_json::{Value, json};

/// A session of `client`: its name.
fn keep(client: &mut Client) -> Value {
    let answer = client.request("keep_session", json!({ "ttl": 60 }));
    assert_eq!(answer["data"]["ttl"], 60, "{answer}");
    answer["data"]["session"].clone()
}

/// Subscribes with positions, and says where the channel stands.
fn follow(client: &mut Client, channel: &str) -> Value {
    let answer = client.request("subscribe", json!({ "channel": channel, "positions": true }));
    json!({ "epoch": answer["data"]["epoch"], "offset": answer["data"]["offset"] })
}

/// Resumes a session. Nothing comes before the answer.
fn resume(client: &mut Client, session: &Value, positions: Value) -> Value {
    let id = client.ask("resume_session", json!({ "session": session, "positions": positions }));
    let answer = client.message();
    assert_eq!(answer["correlation_id"], id, "{answer}");
    answer
}

/// What is said of one channel.
fn entry<'a>(answer: &'a Value, channel: &str) -> &'a Value {
    let list = answer["data"]["subscriptions"].as_array().expect("a list");
    list.iter().find(|entry| entry["channel"] == channel).expect("the channel")
}

/// Waits until so many sessions have a connection, and so many wait for one.
fn expect_sessions(rig: &Rig, attached: u64, detached: u64) {
    rig.expect_count("mahavishnu_sessions", &[("state", "attached")], attached);
    rig.expect_count("mahavishnu_sessions", &[("state", "detached")], detached);
}

fn publish(rig: &Rig, channel: &str, numbers: std::ops::RangeInclusive<u64>) {
    for n in numbers {
        rig.broadcast(channel, &json!({ "n": n }));
    }
}

pub(crate) fn a_session_outlives_its_connection(backend: Backend) {
    let rig = backend.start_with(Setup { shards: 3, ..Setup::new(|_| {}) });
    let mut first = rig.hello();
    let name = first.request("keep_session", json!({}))["data"]["session"].clone();
    let start = follow(&mut first, "a");
    first.subscribe("plain");
    publish(&rig, "a", 1..=2);
    assert_eq!(first.numbers(2), [1, 2]);
    drop(first);
    expect_sessions(&rig, 0, 1);
    publish(&rig, "a", 3..=5);
    publish(&rig, "plain", 6..=6);

    // Connections are spread over the shards.
    for _ in 0..3 {
        let mut next = rig.hello();
        let seen = json!({ "epoch": start["epoch"], "offset": 2 });
        let answer = resume(&mut next, &name, json!({ "a": seen }));
        assert_eq!(answer["data"]["status"], "resumed", "{answer}");
        let expected = json!({ "channel": "a", "epoch": start["epoch"], "offset": 5,
            "recoverable": true, "recovered": true, "missed": 3 });
        assert_eq!(*entry(&answer, "a"), expected);
        let plain = json!({ "channel": "plain", "recovered": false });
        assert_eq!(*entry(&answer, "plain"), plain);
        assert_eq!(next.numbers(3), [3, 4, 5]);
        publish(&rig, "plain", 7..=7);
        assert_eq!(next.numbers(1), [7]);
        drop(next);
        expect_sessions(&rig, 0, 1);
    }
}

pub(crate) fn the_connection_that_had_the_session_is_closed(backend: Backend) {
    let rig = backend.start_with(Setup { shards: 2, ..Setup::new(|_| {}) });
    let mut connections = vec![rig.hello()];
    let session = keep(&mut connections[0]);
    let start = follow(&mut connections[0], "a");
    for n in 1..=4 {
        let mut next = rig.hello();
        publish(&rig, "a", n..=n);
        let answer = resume(&mut next, &session, json!({ "a": start }));
        assert_eq!(entry(&answer, "a")["recovered"], true, "{answer}");
        assert_eq!(next.numbers(n as usize), (1..=n).collect::<Vec<_>>());
        let mut old = connections.pop().expect("one");
        assert_eq!(old.wait_close(1001), "Resumed elsewhere");
        connections.push(next);
    }
    expect_sessions(&rig, 1, 0);
}

pub(crate) fn many_sessions_are_resumed_at_once(backend: Backend) {
    let rig = backend.start_with(Setup { shards: 2, ..Setup::new(|_| {}) });
    let channels = ["a", "b", "c"];
    let mut known = Vec::new();
    for _ in 0..10 {
        let mut client = rig.hello();
        let session = keep(&mut client);
        let at = channels.map(|channel| (channel.to_owned(), follow(&mut client, channel)));
        known.push((session, at));
    }
    expect_sessions(&rig, 0, 10);
    for channel in channels {
        publish(&rig, channel, 1..=20);
    }
    let mut clients: Vec<_> = known.iter().map(|_| rig.hello()).collect();
    let asked: Vec<_> = clients
        .iter_mut()
        .zip(known)
        .map(|(client, (session, at))| {
            let positions = serde_json::Map::from_iter(at);
            client.ask("resume_session", json!({ "session": session, "positions": positions }))
        })
        .collect();
    for (client, id) in clients.iter_mut().zip(asked) {
        let answer = client.message();
        assert_eq!(answer["correlation_id"], id, "{answer}");
        let mut came: Vec<_> = (0..60).map(|_| client.message()).collect();
        for channel in channels {
            let offsets = came.extract_if(.., |event| event["room"] == channel);
            let offsets: Vec<_> = offsets.map(|event| event["offset"].as_u64()).collect();
            assert_eq!(offsets, (1..=20).map(Some).collect::<Vec<_>>());
        }
        client.expect_silence();
    }
}

pub(crate) fn a_session_waits_no_longer_than_its_window(backend: Backend) {
    let second = Duration::from_secs(1);
    let rig = backend.start(|config| config.limits.sessions.session_window = second);
    let mut first = rig.hello();
    let answer = first.request("keep_session", json!({ "ttl": 60 }));
    assert_eq!(answer["data"]["ttl"], 1, "no longer than the server lets it");
    drop(first);
    expect_sessions(&rig, 0, 1);
    rig.pass(second);
    expect_sessions(&rig, 0, 0);
    let mut late = rig.hello();
    let answer = resume(&mut late, &answer["data"]["session"], json!({}));
    assert_eq!(answer["error_code"], "SESSION_UNKNOWN");
    rig.expect_count("mahavishnu_session_resumes_total", &[("result", "unknown")], 1);
}

pub(crate) fn a_session_ends_with_a_client_that_says_goodbye(backend: Backend) {
    let rig = backend.start(|_| {});
    let mut first = rig.hello();
    let session = keep(&mut first);
    first.close();
    expect_sessions(&rig, 0, 0);
    let answer = resume(&mut rig.hello(), &session, json!({}));
    assert_eq!(answer["error_code"], "SESSION_UNKNOWN");
}

pub(crate) fn a_session_is_its_users_and_permissions_are_judged_anew(backend: Backend) {
    let rig = backend.start_with(Setup { shards: 2, ..Setup::new(token::demand) });
    let login = |user, permissions| rig.login(&token::good(rig.unix(), user, permissions));
    let mut ada = login("ada", &["workflow:read", "pool:read"]);
    let session = keep(&mut ada);
    ada.subscribe("workflow:1");
    ada.subscribe("pool:1");
    drop(ada);
    expect_sessions(&rig, 0, 1);
    let answer = resume(&mut login("eve", &["admin"]), &session, json!({}));
    assert_eq!(answer["error_code"], "SESSION_UNKNOWN");
    let mut less = login("ada", &["workflow:read"]);
    let answer = resume(&mut less, &session, json!({}));
    assert_eq!(*entry(&answer, "pool:1"), json!({ "channel": "pool:1", "error": "FORBIDDEN" }));
    assert_eq!(entry(&answer, "workflow:1")["recovered"], false);
    let all = [("result", "resumed")];
    rig.expect_count("mahavishnu_session_resumes_total", &all, 1);
    rig.expect_count("mahavishnu_session_resumes_total", &[("result", "other_user")], 1);
}

pub(crate) fn the_application_decides_again_on_a_session(backend: Backend) {
    let app = App { subscribe: Some(once), ..App::default() };
    let rig = backend.start_with(Setup { shards: 2, app, ..Setup::new(|_| {}) });
    let mut first = rig.hello();
    let session = keep(&mut first);
    let single = format!("once:{backend:?}");
    first.subscribe(&single);
    first.subscribe("always");
    drop(first);
    expect_sessions(&rig, 0, 1);
    let answer = resume(&mut rig.hello(), &session, json!({}));
    assert_eq!(*entry(&answer, &single), json!({ "channel": single, "error": "FORBIDDEN" }));
    assert_eq!(entry(&answer, "always")["recovered"], false, "{answer}");
}

/// Lets each channel of `once` be subscribed to once in this process.
fn once(channel: &str) -> Option<(Duration, bool)> {
    static ASKED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let first = ASKED.lock().expect("no panic").insert(channel.to_owned());
    Some((Duration::ZERO, first || !channel.starts_with("once:")))
}

pub(crate) fn the_application_ends_the_sessions_of_a_user(backend: Backend) {
    let change = |config: &mut Config| {
        token::demand(config);
        config.presence.push((Pattern::parse("workflow:*").expect("a pattern"), true));
    };
    let rig = backend.start_with(Setup { shards: 2, ..Setup::new(change) });
    let login = |user| rig.login(&token::good(rig.unix(), user, &["workflow:read"]));
    let member = json!({ "channel": "workflow:1", "presence": true });
    let mut watcher = login("eve");
    let others = keep(&mut watcher);
    watcher.request("subscribe", json!({ "channel": "workflow:1", "presence": "watch" }));
    let (mut stays, mut goes) = (login("ada"), login("ada"));
    let session = keep(&mut stays);
    keep(&mut goes);
    goes.request("subscribe", member);
    let name = watcher.message()["data"]["connection_id"].clone();
    drop(goes);
    expect_sessions(&rig, 2, 1);

    let known = rig.sessions_of("ada");
    let waiting: Vec<_> =
        known.iter().filter(|(_, waits)| *waits).map(|(name, _)| name.as_str()).collect();
    assert_eq!((known.len(), waiting), (2, vec![name.as_str().expect("a name")]));
    assert_eq!(rig.end_sessions_of("ada"), 2);

    assert_eq!(stays.wait_close(1008), "Disconnected by the server");
    let left = watcher.message();
    assert_eq!(
        (&left["event"], &left["data"]["reason"]),
        (&json!("presence.left"), &json!("left"))
    );
    assert_eq!(left["data"]["connection_id"], name);
    expect_sessions(&rig, 1, 0);
    assert_eq!((rig.sessions_of("ada"), rig.end_sessions_of("ada")), (vec![], 0));
    let answer = resume(&mut login("ada"), &session, json!({}));
    assert_eq!(answer["error_code"], "SESSION_UNKNOWN");
    drop(watcher);
    expect_sessions(&rig, 0, 1);
    assert_eq!(resume(&mut login("eve"), &others, json!({}))["data"]["status"], "resumed");
}
