//! Clients that speak Session-Buddy's protocol.

use super::*;
use crate::{
    config::{Dialect, Dialects},
    metrics::Tally,
    protocol::session_buddy::CHANNEL,
};

const SECOND: Duration = Duration::from_secs(1);
const GREETING: &str = "Connected to Session-Buddy real-time metrics";

fn spoken(config: Config) -> Config {
    let paths = vec![("/session-buddy".into(), Dialect::SessionBuddy)];
    Config { dialects: Dialects { default: Dialect::Family, paths }, ..config }
}

/// A client on the path, greeted.
fn connect(rig: &mut Rig, shard: usize) -> Client {
    let client = rig.connect_to(shard, "/session-buddy", "");
    let [greeting] = client.take().try_into().unwrap();
    assert_eq!(
        (&greeting["type"], &greeting["message"], &greeting["authenticated"]),
        (&json!("connected"), &json!(GREETING), &json!(false))
    );
    assert_eq!(greeting.as_object().unwrap().len(), 4);
    client
}

fn skill(name: &str, total: u64) -> Value {
    json!({"skill_name": name, "total_invocations": total, "completion_rate": 92.5, "avg_duration_seconds": 1.5})
}

fn anomaly(name: &str, at: &str) -> Value {
    json!({"skill_name": name, "detected_at": at, "anomaly_type": "drop", "deviation_score": 2.5})
}

/// A service publishes a document of its own.
fn publish(rig: &mut Rig, document: &Value) {
    let state = Some(document.to_string().into());
    let options = PublicationOptions { state, ..PublicationOptions::default() };
    let publication = Publication {
        options: Some(Box::new(options)),
        ..Publication::new(CHANNEL, "skill.snapshot", "{}")
    };
    rig.hubs[0].handle_command(rig.now, Command::Publish { id: None, publication });
    rig.run();
}

fn errors(rig: &mut Rig, shard: usize, reason: Reason) -> u64 {
    let tally: &mut Tally = rig.hubs[shard].tally();
    tally.errors_of(reason)
}

#[test]
fn a_path_speaks_it_and_the_others_do_not() {
    let mut rig = Rig::alone_with(spoken(Config::default()));
    let buddy = connect(&mut rig, 0);
    let family = rig.connect(0);
    assert_eq!(rig.request(&family, "subscribe", &json!({"channel": "c"}))["type"], "response");

    rig.send(&buddy, &json!({"type": "ping"}));
    assert_eq!(buddy.take(), [json!({"type": "pong"})]);
    rig.send(&family, &json!({"type": "ping", "id": "p"}));
    assert_eq!(family.take()[0]["correlation_id"], "p");

    let all = Dialects { default: Dialect::SessionBuddy, paths: Vec::new() };
    let mut rig = Rig::alone_with(Config { dialects: all, ..Config::default() });
    assert_eq!(rig.connect_to(0, "/", "").take()[0]["type"], "connected");
}

#[test]
fn subscriptions_are_confirmed_and_everything_else_is_answered_by_silence() {
    let mut rig = Rig::alone_with(spoken(Config::default()));
    let client = connect(&mut rig, 0);
    for (message, skill) in [
        (json!({"type": "subscribe", "skill": "a"}), json!("a")),
        (json!({"type": "subscribe", "skill_name": "b"}), json!("b")),
        (json!({"type": "subscribe", "skill": null}), Value::Null),
        (json!({"type": "subscribe"}), Value::Null),
        (json!({"type": "subscribe", "skill": ""}), json!("")),
    ] {
        rig.send(&client, &message);
        let [confirmed] = client.take().try_into().unwrap();
        assert_eq!(confirmed["type"], "subscription_confirmed");
        assert_eq!(confirmed["skill"], skill, "{message}");
        assert!(confirmed["timestamp"].is_string() && confirmed.as_object().unwrap().len() == 3);
    }
    for (message, reason) in [
        (json!({"type": "unsubscribe"}), None),
        (
            json!({"type": "request", "event": "subscribe", "data": {"channel": "c"}}),
            Some(Reason::UnknownRequest),
        ),
        (json!({"type": "get_metrics"}), Some(Reason::UnknownRequest)),
        (json!({}), Some(Reason::UnknownRequest)),
        (json!([]), Some(Reason::Decode)),
        (json!({"type": "subscribe", "skill": 5}), Some(Reason::Decode)),
        (json!({"token": "t"}), None),
    ] {
        let before = reason.map(|reason| errors(&mut rig, 0, reason));
        rig.send(&client, &message);
        assert_eq!(client.take_frames(), [], "{message}");
        let after = reason.map(|reason| errors(&mut rig, 0, reason));
        assert_eq!(after, before.map(|before| before + 1), "{message}");
    }
    let mut noise = Vec::new();
    ws::encode_frame(&mut noise, Opcode::Binary, b"\xff{", Some([1, 2, 3, 4]));
    rig.bytes(&client, &noise);
    assert_eq!(client.take_frames(), []);
    rig.send(&client, &json!({"type": "ping"}));
    assert_eq!(client.take().len(), 1, "it is still there");
}

#[test]
fn every_second_each_is_told_what_it_asked_for() {
    for shards in [1, 3] {
        let mut rig = Rig::new(shards, spoken(Config::default()));
        let last = usize::from(shards) - 1;
        let (all, one) = (connect(&mut rig, 0), connect(&mut rig, last));
        let (other, none) = (connect(&mut rig, 0), connect(&mut rig, last));
        for (client, name) in [(&one, "a"), (&other, "a"), (&none, "k10")] {
            rig.send(client, &json!({"type": "subscribe", "skill": name}));
            client.take();
        }
        rig.wait(SECOND);
        let [update] = all.take().try_into().unwrap();
        assert_eq!(update["type"], "metrics_update");
        assert_eq!(
            update["data"],
            json!({"top_skills": [], "anomalies": []}),
            "nothing is made up"
        );
        assert_eq!(one.take(), [] as [Value; 0]);

        // Twelve skills: `a`, then ten of which the last is the eleventh, and one more.
        let mut skills: Vec<Value> = (0..11).map(|n| skill(&format!("k{n}"), 50 - n)).collect();
        skills.push(skill("a", 100));
        let anomalies =
            [anomaly("a", "2026-02-02T02:00:00Z"), anomaly("b", "2026-02-02T00:00:00Z")];
        publish(&mut rig, &json!({"top_skills": skills, "anomalies": anomalies}));
        rig.wait(SECOND);
        let [update] = all.take().try_into().unwrap();
        let names: Vec<_> = update["data"]["top_skills"]
            .as_array()
            .unwrap()
            .iter()
            .map(|skill| skill["skill_name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["a", "k0", "k1", "k2", "k3", "k4", "k5", "k6", "k7", "k8"]);
        assert_eq!(update["data"]["anomalies"], json!([anomaly("a", "2026-02-02T02:00:00Z")]));
        for client in [&one, &other] {
            let [update] = client.take().try_into().unwrap();
            assert_eq!(update["data"], json!({"top_skills": [skill("a", 100)], "anomalies": []}));
        }
        assert_eq!(none.take(), [] as [Value; 0], "it is not among the first ten");

        rig.send(&one, &json!({"type": "unsubscribe"}));
        rig.wait(Duration::from_millis(999));
        assert!([&all, &one, &other].iter().all(|client| client.take().is_empty()));
        rig.wait(Duration::from_millis(1));
        assert_eq!(one.take()[0]["data"]["top_skills"].as_array().unwrap().len(), 10);
        for client in [&all, &one, &other, &none] {
            rig.hang_up(client);
        }
        rig.wait(SECOND);
        let feed = |hub: &Recorded| {
            hub.poll_timeout().is_some_and(|next| next.reason == TimeoutReason::Feed)
        };
        assert!(!rig.hubs.iter().any(feed), "nobody is left to be told");
    }
}

#[test]
fn what_is_published_of_skills_is_folded_whoever_publishes_it() {
    for shards in [1, 3] {
        let mut rig = Rig::new(shards, spoken(Config::default()));
        let client = connect(&mut rig, 0);
        let family = rig.connect(usize::from(shards) - 1);
        let publish = |rig: &mut Rig, event: &str, data: Value| {
            let answer = rig.request(
                &family,
                "publish",
                &json!({"channel": CHANNEL, "event": event, "data": data}),
            );
            assert_eq!(answer["type"], "response");
        };
        publish(&mut rig, "skill.metrics", skill("a", 1));
        publish(&mut rig, "skill.metrics", skill("b", 2));
        publish(&mut rig, "skill.metrics", skill("a", 3));
        publish(&mut rig, "skill.metrics", json!({"skill_name": "c"}));
        publish(&mut rig, "skill.anomaly", anomaly("a", "2026-02-02T02:00:00Z"));
        publish(&mut rig, "another.event", skill("d", 9));
        rig.wait(SECOND);
        let [update] = client.take().try_into().unwrap();
        let expected = json!({
            "top_skills": [skill("a", 3), skill("b", 2)],
            "anomalies": [anomaly("a", "2026-02-02T02:00:00Z")],
        });
        assert_eq!(update["data"], expected);
        let state = rig.request(&family, "get_state", &json!({"channel": CHANNEL}));
        assert_eq!((&state["data"]["state"], &state["data"]["offset"]), (&expected, &json!(5)));
    }
}

#[test]
fn without_the_protocol_the_channel_is_one_like_any_other() {
    let mut rig = Rig::alone();
    let client = rig.connect(0);
    rig.request(
        &client,
        "publish",
        &json!({"channel": CHANNEL, "event": "skill.metrics", "data": skill("a", 1)}),
    );
    let state = rig.request(&client, "get_state", &json!({"channel": CHANNEL}));
    assert_eq!(state["data"]["state"], Value::Null);
}

#[test]
fn who_is_sent_the_same_shares_its_bytes() {
    let mut rig = Rig::alone_with(spoken(Config::default()));
    let clients: Vec<Client> = (0..50).map(|_| connect(&mut rig, 0)).collect();
    clients.iter().for_each(|client| rig.set_room(client, Some(0)));
    publish(&mut rig, &json!({"top_skills": [skill("a", 1)]}));
    rig.wait(SECOND);
    let one = rig.hubs[0].hub().queued(clients[0].conn).unwrap().0;
    let all = rig.hubs[0].hub().connections.queued_bytes();
    assert!(one > 100 && all < 2 * one, "{all} bytes for all, {one} for each");
}

#[test]
fn who_reads_too_slowly_has_the_last_figures_only() {
    let mut config = spoken(Config::default());
    config.limits.wire.ping_interval = None;
    config.limits.wire.connection_timeout = None;
    let mut rig = Rig::alone_with(config);
    let client = connect(&mut rig, 0);
    rig.set_room(&client, Some(0));
    for total in 1..=20 {
        publish(&mut rig, &json!({"top_skills": [skill("a", total)]}));
        rig.wait(SECOND);
    }
    rig.set_room(&client, None);
    let totals: Vec<u64> = client
        .take()
        .iter()
        .map(|update| update["data"]["top_skills"][0]["total_invocations"].as_u64().unwrap())
        .collect();
    assert_eq!(totals, [20]);
    assert_eq!(rig.hubs[0].tally().dropped_of(Reason::SlowReader), 19);

    // Beside a confirmation nothing of what was sent before is taken back.
    rig.set_room(&client, Some(0));
    rig.wait(SECOND);
    rig.send(&client, &json!({"type": "subscribe", "skill": "a"}));
    rig.wait(SECOND);
    rig.set_room(&client, None);
    let types: Vec<_> =
        client.take().iter().map(|message| message["type"].as_str().unwrap().to_owned()).collect();
    assert_eq!(types, ["metrics_update", "subscription_confirmed", "metrics_update"]);
}

#[test]
fn over_the_rate_limit_it_is_silence_as_well() {
    let mut config = spoken(Config::default());
    config.limits.connections.messages_per_second = Some(1);
    config.limits.connections.messages_burst = 2;
    let mut rig = Rig::alone_with(config);
    let client = connect(&mut rig, 0);
    for _ in 0..5 {
        rig.send(&client, &json!({"type": "ping"}));
    }
    assert_eq!(client.take().len(), 2);
    assert_eq!(errors(&mut rig, 0, Reason::MessageRate), 3);
    rig.wait(SECOND);
    assert_eq!(client.take().len(), 1, "it is told of skills all the same");
}

#[cfg(feature = "jwt")]
mod tokens {
    use super::*;

    /// A client that has not authenticated. Nothing has come yet.
    fn stranger(rig: &mut Rig) -> Client {
        let client = rig.connect_to(0, "/session-buddy", "");
        assert_eq!(client.take_frames(), []);
        client
    }

    #[test]
    fn the_first_message_is_a_token_and_then_comes_the_greeting() {
        let mut rig = Rig::alone_with(spoken(with_auth()));
        let client = stranger(&mut rig);
        rig.wait(SECOND);
        assert_eq!(client.take_frames(), []);
        rig.send(&client, &json!({"token": token("u", &["session-buddy:read"])}));
        let [greeting] = client.take().try_into().unwrap();
        assert_eq!(
            (&greeting["type"], &greeting["authenticated"]),
            (&json!("connected"), &json!(true))
        );
        rig.wait(SECOND);
        assert_eq!(client.take()[0]["type"], "metrics_update");

        let bearer = format!("Authorization: Bearer {}\r\n", token("u", &[]));
        let client = rig.connect_to(0, "/session-buddy", &bearer);
        assert_eq!(client.take()[0]["authenticated"], true);
    }

    #[test]
    fn without_one_it_is_closed_by_a_code_of_its_own() {
        let mut rig = Rig::alone_with(spoken(with_auth()));
        for (message, reason) in [
            (json!({"token": "no"}), Reason::AuthFailed),
            (json!({"token": 5}), Reason::AuthMissing),
            (json!({"type": "ping"}), Reason::AuthMissing),
            (json!([]), Reason::AuthError),
        ] {
            let client = stranger(&mut rig);
            let before = errors(&mut rig, 0, reason);
            rig.send(&client, &message);
            let frames = client.take_frames();
            let [(8, payload)] = &frames[..] else { panic!("{message}: {frames:?}") };
            assert_eq!(payload, b"\x0f\xa1Authentication failed", "{message}");
            assert_eq!(errors(&mut rig, 0, reason), before + 1, "{message}");
        }
        let family = rig.connect_with(0, "");
        rig.send(&family, &json!({"type": "ping"}));
        assert_eq!(family.take()[0]["type"], "pong", "the family's clients are asked as ever");
    }

    #[test]
    fn it_has_five_seconds_for_it_at_most() {
        for (limit, waits) in [(Duration::from_secs(30), 5), (Duration::from_secs(2), 2)] {
            let mut config = spoken(with_auth());
            config.limits.auth.auth_timeout = limit;
            let mut rig = Rig::alone_with(config);
            let client = stranger(&mut rig);
            rig.wait(Duration::from_secs(waits) - Duration::from_millis(1));
            assert_eq!(client.take_close(), None);
            rig.wait(Duration::from_millis(1));
            assert_eq!(client.take_close(), Some((4001, "Authentication failed".to_owned())));
        }
    }

    #[test]
    fn a_new_token_is_taken_in_silence() {
        let mut config = spoken(with_auth());
        config.limits.wire.ping_interval = None;
        config.limits.wire.connection_timeout = None;
        let mut rig = Rig::alone_with(config);
        let clients: [Client; 2] = std::array::from_fn(|_| {
            let client = stranger(&mut rig);
            rig.send(&client, &json!({"token": token("u", &[])}));
            assert_eq!(client.take().len(), 1);
            client
        });
        let spec = TokenSpec {
            user: Some("u"),
            issued_at: START_UNIX,
            expires_in: Some(Duration::from_secs(7200)),
            ..TokenSpec::default()
        };
        rig.send(&clients[0], &json!({"token": auth::issue(SECRET, &spec).unwrap()}));
        rig.send(&clients[0], &json!({"token": token("other", &[])}));
        assert_eq!(clients[0].take_frames(), []);
        rig.wait(Duration::from_secs(3600) + Duration::from_secs(31));
        let close = clients.each_ref().map(Client::take_close);
        assert_eq!(close, [None, Some((1008, "Token expired".to_owned()))]);
    }
}

#[test]
fn a_server_that_stops_says_so_by_its_close_frame_alone() {
    let mut rig =
        Rig::alone_with(spoken(Config { drain_return: 10 * SECOND, ..Config::default() }));
    let client = connect(&mut rig, 0);
    rig.hubs[0].handle_command(rig.now, Command::Drain(DrainPlan::default()));
    rig.run();
    let frames = client.take_frames();
    assert!(
        matches!(&frames[..], [(8, payload)] if payload.starts_with(&[0x03, 0xe9])),
        "{frames:?}"
    );
}
