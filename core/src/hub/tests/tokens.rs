//! Tokens while their connections live: warning, refresh, expiry, revocation, and what a reload takes away.

use super::*;
use crate::auth::{Revocation, Revocations};

const SECOND: Duration = Duration::from_secs(1);

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// A token issued at `issued` seconds after the start, good for `life` seconds.
fn token_at(user: &str, permissions: &[&str], issued: u64, life: u64) -> String {
    let spec = TokenSpec {
        user: Some(user),
        permissions,
        issued_at: START_UNIX + seconds(issued),
        expires_in: Some(seconds(life)),
        id: Some("t1"),
        ..TokenSpec::default()
    };
    auth::issue(SECRET, &spec).unwrap()
}

/// A client with this token in its handshake, welcomed.
fn bearer(rig: &mut Rig, shard: usize, token: &str) -> Client {
    let client = rig.connect_with(shard, &format!("Authorization: Bearer {token}\r\n"));
    assert_eq!(client.take()[0]["event"], "session.created");
    client
}

/// Keep-alive off, so that time can pass in one go.
fn quiet() -> Config {
    let mut config = with_auth();
    config.limits.wire.ping_interval = None;
    config.limits.wire.connection_timeout = None;
    config
}

fn refresh(rig: &mut Rig, client: &Client, token: &str) -> (Value, Vec<Value>) {
    let message =
        json!({"type": "request", "event": "refresh_token", "id": "q", "data": {"token": token}});
    rig.send(client, &message);
    let mut messages = client.take();
    (messages.remove(0), messages)
}

fn post(rig: &mut Rig, path: &str, headers: &str, body: &str) -> String {
    let client = rig.socket(0);
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    rig.bytes(&client, head.as_bytes());
    client.take_text()
}

#[test]
fn a_token_is_warned_about_then_expires_then_ends_its_connection() {
    let mut rig = Rig::new(1, quiet());
    let client = bearer(&mut rig, 0, &token_at("ada", &["admin"], 0, 3600));
    rig.subscribe(&client, "a");

    rig.wait(seconds(3539));
    assert_eq!(client.take(), Vec::<Value>::new());
    rig.wait(SECOND);
    let warning = client.take().remove(0);
    assert_eq!(
        (&warning["type"], &warning["event"]),
        (&json!("event"), &json!("session.token_expiring"))
    );
    let expires_at = START_UNIX.as_secs() + 3600;
    assert_eq!(warning["data"], json!({"expires_at": expires_at, "expires_in": 60, "grace": 30}));
    rig.wait(seconds(89));
    rig.publish(0, "a", 1);
    rig.run();
    assert_eq!(client.take_numbers(), [1], "the grace keeps what there was");
    rig.wait(SECOND);
    assert_eq!(client.take_close(), Some((1008, "Token expired".into())));
    rig.publish(0, "a", 2);
    rig.run();
    assert_eq!(client.take_frames(), []);
}

#[test]
fn in_the_grace_nothing_new_is_permitted() {
    let mut rig = Rig::new(1, quiet());
    let client = bearer(&mut rig, 0, &token_at("ada", &["admin"], 0, 100));
    rig.subscribe(&client, "a");
    rig.wait(seconds(100));
    client.take();
    for (event, data) in [
        ("subscribe", json!({"channel": "b"})),
        ("publish", json!({"channel": "a", "event": "e", "data": {}})),
        ("get_pool_status", json!({})),
    ] {
        let refused = rig.request(&client, event, &data);
        assert_eq!(refused["error_code"], "AUTH_FAILED", "{event}");
        assert_eq!(refused["error_message"], "The token has expired: refresh it");
    }
    let left = rig.request(&client, "unsubscribe", &json!({"channel": "a"}));
    assert_eq!(left["data"]["status"], "unsubscribed");
    let (answer, _) = refresh(&mut rig, &client, &token_at("ada", &["admin"], 100, 100));
    assert_eq!(answer["data"]["status"], "refreshed");
    rig.subscribe(&client, "b");
}

#[test]
fn a_refreshed_token_has_a_life_of_its_own() {
    let mut rig = Rig::new(1, quiet());
    let client = bearer(&mut rig, 0, &token_at("ada", &["admin"], 0, 100));
    rig.wait(seconds(60));
    assert_eq!(client.take()[0]["event"], "session.token_expiring");

    let (answer, others) = refresh(&mut rig, &client, &token_at("ada", &["admin"], 60, 1000));

    assert_eq!(answer["data"], json!({"status": "refreshed", "user_id": "ada"}));
    assert_eq!(others, Vec::<Value>::new());
    rig.wait(seconds(939));
    assert_eq!(client.take(), Vec::<Value>::new());
    rig.wait(SECOND);
    assert_eq!(client.take()[0]["event"], "session.token_expiring", "warned anew");
    rig.wait(seconds(90));
    assert_eq!(client.take_close(), Some((1008, "Token expired".into())));
}

#[test]
fn a_short_token_is_warned_about_at_half_of_its_life() {
    let mut rig = Rig::new(1, quiet());
    let client = bearer(&mut rig, 0, &token_at("ada", &["admin"], 0, 20));
    rig.wait(seconds(9));
    assert_eq!(client.take(), Vec::<Value>::new());
    rig.wait(SECOND);
    assert_eq!(client.take()[0]["data"]["expires_in"], 10);
}

#[test]
fn a_token_without_expiry_has_no_deadline() {
    let mut rig = Rig::new(1, quiet());
    let token = auth::issue(SECRET, &TokenSpec { user: Some("ada"), ..TokenSpec::default() });
    let client = bearer(&mut rig, 0, &token.unwrap());
    rig.wait(seconds(10 * 365 * 86_400));
    assert_eq!(client.take_frames(), []);
}

#[test]
fn warnings_can_be_switched_off() {
    let mut config = quiet();
    config.limits.auth.token_warning = Duration::ZERO;
    config.limits.auth.token_grace = Duration::ZERO;
    let mut rig = Rig::new(1, config);
    let client = bearer(&mut rig, 0, &token_at("ada", &["admin"], 0, 100));
    rig.wait(seconds(99));
    assert_eq!(client.take_frames(), []);
    rig.wait(SECOND);
    assert_eq!(client.take_close(), Some((1008, "Token expired".into())));
}

#[test]
fn a_refresh_with_fewer_permissions_takes_subscriptions_back() {
    let mut rig = Rig::new(1, quiet());
    let client = bearer(&mut rig, 0, &token_at("ada", &["workflow:read", "pool:read"], 0, 100));
    for channel in ["workflow:1", "pool:1", "workflow:2"] {
        rig.subscribe(&client, channel);
    }
    rig.publish(0, "workflow:1", 1);

    let (answer, mut others) = refresh(&mut rig, &client, &token_at("ada", &["pool:read"], 0, 100));

    assert_eq!(answer["data"]["status"], "refreshed");
    others.retain(|message| message["event"] == "channel.withdrawn");
    let mut rooms: Vec<_> = others.iter().map(|notice| notice["room"].clone()).collect();
    rooms.sort_by_key(ToString::to_string);
    assert_eq!(rooms, ["workflow:1", "workflow:2"]);
    assert_eq!(others[0]["data"]["reason"], "token");
    for channel in ["workflow:1", "workflow:2", "pool:1"] {
        rig.publish(0, channel, 7);
    }
    rig.run();
    let rooms: Vec<_> = client.take().iter().map(|event| event["room"].clone()).collect();
    assert_eq!(rooms, ["pool:1"]);
}

#[test]
fn what_was_published_before_a_withdrawal_still_arrives_before_its_notice() {
    let mut rig = Rig::new(1, quiet());
    let client = bearer(&mut rig, 0, &token_at("ada", &["pool:read"], 0, 100));
    rig.subscribe(&client, "pool:1");
    rig.publish(0, "pool:1", 1);
    let (_, others) = refresh(&mut rig, &client, &token_at("ada", &[], 0, 100));
    assert_eq!(others[0]["data"]["n"], 1);
    assert_eq!(others[1]["event"], "channel.withdrawn");
    assert_eq!(others.len(), 2);
}

#[test]
fn a_subscription_that_waits_for_its_home_is_judged_by_the_new_token() {
    let mut rig = Rig::new(2, quiet());
    let channel = (0..)
        .map(|n| format!("pool:{n}"))
        .find(|name| rig.hubs[0].hub().homes.of(name) == ShardId(1))
        .unwrap();
    let client = bearer(&mut rig, 0, &token_at("ada", &["pool:read"], 0, 100));
    let mut bytes = frame(
        &json!({"type": "request", "event": "subscribe", "id": "1", "data": {"channel": channel}}),
    );
    bytes.extend(frame(&json!({
        "type": "request", "event": "refresh_token", "id": "2",
        "data": {"token": token_at("ada", &[], 0, 100)},
    })));
    rig.bytes(&client, &bytes);
    let answers = client.take();
    assert_eq!(answers[0]["data"]["status"], "refreshed");
    assert_eq!(
        (&answers[1]["correlation_id"], &answers[1]["error_code"]),
        (&json!("1"), &json!("FORBIDDEN"))
    );
    rig.publish(1, &channel, 1);
    rig.run();
    assert_eq!(client.take(), Vec::<Value>::new());
    assert_eq!(rig.hubs[1].hub().homes.len(), 0, "the home has forgotten it too");
}

#[test]
fn a_refresh_keeps_the_user() {
    let mut rig = Rig::new(1, quiet());
    let client = bearer(&mut rig, 0, &token_at("ada", &["pool:read"], 0, 100));
    let (answer, _) = refresh(&mut rig, &client, &token_at("eve", &["admin"], 0, 100));
    assert_eq!(answer["error_code"], "AUTH_FAILED");
    assert_eq!(answer["error_message"], "The token is another user's");
    let refused = rig.request(&client, "subscribe", &json!({"channel": "global"}));
    assert_eq!(refused["error_code"], "FORBIDDEN");
}

#[test]
fn a_clock_that_is_set_forward_ends_what_has_expired() {
    let mut rig = Rig::new(1, quiet());
    let client = bearer(&mut rig, 0, &token_at("ada", &["admin"], 0, 3600));
    rig.subscribe(&client, "a");
    rig.now.unix += seconds(4000);
    rig.publish(0, "a", 1);
    rig.run();
    assert_eq!(client.take_numbers(), Vec::<u64>::new(), "published after its end");
    assert!(client.is_ended() || rig.hubs[0].hub().connections() == 0);
}

#[test]
fn a_clock_that_is_set_back_lets_tokens_live_longer() {
    let mut rig = Rig::new(1, quiet());
    let client = bearer(&mut rig, 0, &token_at("ada", &["admin"], 0, 100));
    rig.now.unix -= seconds(1000);
    rig.wait(seconds(1000));
    assert_eq!(client.take_frames(), []);
    rig.wait(seconds(60));
    assert_eq!(client.take()[0]["event"], "session.token_expiring");
}

/// Forty days ahead for a moment, in which one revocation is made.
#[test]
fn what_was_revoked_stays_revoked_when_a_clock_that_leapt_comes_back() {
    for shards in [1, 3] {
        let mut rig = Rig::new(shards, quiet());
        let claims = json!({"user_id": "ada", "jti": "t1"});
        let key = jsonwebtoken::EncodingKey::from_secret(SECRET);
        let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap();
        let revoke = |rig: &mut Rig, text: &str| {
            let revocation = revocation(text);
            rig.hubs[0].handle_command(rig.now, Command::Revoke { id: None, revocation });
            rig.run();
        };
        revoke(&mut rig, r#"{"jti":"t1"}"#);
        for leap in [40, -40, 4000].map(|days: i64| days * 86_400) {
            let before = rig.now.unix;
            rig.now.unix = Duration::from_secs(before.as_secs().saturating_add_signed(leap));
            revoke(&mut rig, r#"{"jti":"t2"}"#);
            assert!(is_refused(&mut rig, &token), "{leap}: meanwhile");
            rig.now.unix = before;
            rig.wait(SECOND);
            assert!(is_refused(&mut rig, &token), "{leap}: afterwards");
        }
        let told = |output: &&Output| matches!(output, Output::ClockSet { .. });
        assert!(rig.outputs.iter().filter(told).count() >= 2, "it is told");
    }
}

/// Whether a handshake with this token is.
fn is_refused(rig: &mut Rig, token: &str) -> bool {
    let client = rig.socket(0);
    let head = format!(
        "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
         Authorization: Bearer {token}\r\n\r\n"
    );
    rig.bytes(&client, head.as_bytes());
    client.take_text().starts_with("HTTP/1.1 401 ")
}

#[test]
fn a_revocation_counts_as_long_as_leeway_lets_its_token_in() {
    let mut config = quiet();
    config.auth.rules.leeway = seconds(10);
    let mut rig = Rig::new(1, config);
    let token = token_at("ada", &["admin"], 0, 100);
    let until = START_UNIX.as_secs() + 100;
    let revocation = revocation(&format!(r#"{{"user":"ada","until":{until}}}"#));
    rig.hubs[0].handle_command(rig.now, Command::Revoke { id: None, revocation });
    rig.run();
    for _ in 0..3 {
        rig.wait(seconds(35));
        assert!(is_refused(&mut rig, &token));
    }
}

#[test]
fn a_drain_ends_connections_as_a_drain_does() {
    let mut rig = Rig::new(1, quiet());
    let client = bearer(&mut rig, 0, &token_at("ada", &["admin"], 0, 100));
    let plan = DrainPlan { window: seconds(1), deadline: seconds(20), ..DrainPlan::default() };
    rig.hubs[0].handle_command(rig.now, Command::Drain(plan));
    rig.wait(SECOND);
    assert_eq!(client.take_close(), Some((1001, "Server shutting down".into())));
}

#[test]
fn a_tokens_own_patterns_open_channels() {
    let mut rig = Rig::new(1, quiet());
    let claims = json!({
        "user_id": "ada", "exp": START_UNIX.as_secs() + 100,
        "channels": {"subscribe": ["workflow:42"], "publish": ["pool:*"]},
    });
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET);
    let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap();
    let client = bearer(&mut rig, 0, &token);
    rig.subscribe(&client, "workflow:42");
    for channel in ["workflow:4", "pool:1"] {
        let refused = rig.request(&client, "subscribe", &json!({"channel": channel}));
        assert_eq!(refused["error_code"], "FORBIDDEN", "{channel}");
    }
    let publish = |channel| json!({"channel": channel, "event": "e", "data": {}});
    assert_eq!(rig.request(&client, "publish", &publish("pool:1"))["data"]["status"], "published");
    assert_eq!(rig.request(&client, "publish", &publish("workflow:42"))["error_code"], "FORBIDDEN");
    let header = format!("Authorization: Bearer {token}\r\n");
    let answer = post(&mut rig, "/publish", &header, r#"{"channel":"pool:1","event":"e"}"#);
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

fn revocation(json: &str) -> Revocation {
    Revocation::parse(json).unwrap()
}

#[test]
fn a_revocation_ends_connections_on_all_hubs_and_refuses_later_tokens() {
    let mut rig = Rig::new(3, quiet());
    let ada = token_at("ada", &["admin"], 0, 100);
    let clients: Vec<_> = (0..3).map(|shard| bearer(&mut rig, shard, &ada)).collect();
    let eve = bearer(&mut rig, 1, &token_at("eve", &["admin"], 0, 100));
    for client in clients.iter().chain([&eve]) {
        rig.subscribe(client, "a");
    }
    rig.publish(0, "a", 1);
    let command =
        Command::Revoke { id: Some(CommandId(5)), revocation: revocation(r#"{"user":"ada"}"#) };
    rig.hubs[2].handle_command(rig.now, command);
    rig.run();

    let done = rig.outputs.iter().find_map(|output| {
        if let Output::Done { id, result } = output { Some((*id, *result)) } else { None }
    });
    assert_eq!(
        done,
        Some((CommandId(5), Ok(Published { subscribers: 3, offset: 0, epoch: None })))
    );
    for client in &clients {
        assert_eq!(client.take_close(), Some((1008, "Token revoked".into())));
    }
    rig.publish(0, "a", 2);
    rig.run();
    assert_eq!(eve.take_numbers(), [1, 2]);
    for shard in 0..3 {
        let late = rig.connect_with(shard, "");
        rig.send(&late, &json!({"type": "request", "event": "auth", "data": {"token": ada}}));
        assert_eq!(late.take()[0]["error_message"], "Invalid or expired token");
    }
}

#[test]
fn however_busy_a_hub_is_it_revokes() {
    let mut config = with_auth();
    config.limits.publishing.publishes_in_flight_max = 0;
    let mut rig = Rig::new(3, config);
    let header = format!("Authorization: Bearer {}\r\n", token("ada", &["admin"]));
    let clients: Vec<_> = (0..3).map(|shard| rig.connect_with(shard, &header)).collect();
    clients.iter().for_each(|client| assert_eq!(client.take().len(), 1));

    let command = Command::Revoke { id: None, revocation: revocation(r#"{"user":"ada"}"#) };
    rig.hubs[1].handle_command(rig.now, command);
    rig.run();

    for client in &clients {
        assert_eq!(client.take_close(), Some((1008, "Token revoked".into())));
        rig.hang_up(client);
    }
    rig.assert_empty();
}

#[test]
fn what_a_revoked_token_has_asked_for_is_not_carried_out() {
    let mut config = quiet();
    config.hooks.authorize_publish = true;
    let mut rig = Rig::new(1, config);
    let client = bearer(&mut rig, 0, &token_at("ada", &["admin"], 0, 100));
    let reader = bearer(&mut rig, 0, &token_at("eve", &["admin"], 0, 100));
    rig.subscribe(&reader, "a");
    let publish = json!({"channel": "a", "event": "e", "data": {"n": 1}});
    rig.send(&client, &json!({"type": "request", "event": "publish", "id": "1", "data": publish}));
    let Some(Output::Authorize { id, .. }) = rig.outputs.pop() else { panic!("no question") };
    let by_user = revocation(r#"{"user":"ada"}"#);
    rig.hubs[0].handle_command(rig.now, Command::Revoke { id: None, revocation: by_user });
    rig.hubs[0].handle_command(rig.now, Command::Decide { id, allow: true });
    rig.run();
    assert_eq!(reader.take_numbers(), Vec::<u64>::new());
}

#[test]
fn a_revocation_by_age_spares_newer_tokens() {
    let mut rig = Rig::new(1, quiet());
    let old = bearer(&mut rig, 0, &token_at("ada", &[], 0, 100));
    rig.wait(seconds(10));
    let new = bearer(&mut rig, 0, &token_at("ada", &[], 10, 100));
    let before = START_UNIX.as_secs() + 5;
    let by_age = revocation(&format!(r#"{{"user":"ada","issued_before":{before}}}"#));
    rig.hubs[0].handle_command(rig.now, Command::Revoke { id: None, revocation: by_age });
    rig.run();
    assert_eq!(old.take_close(), Some((1008, "Token revoked".into())));
    assert_eq!(new.take_frames(), []);
}

#[test]
fn a_revoked_token_cannot_be_refreshed_into() {
    let mut rig = Rig::new(1, quiet());
    let token = auth::issue(SECRET, &TokenSpec { user: Some("ada"), ..TokenSpec::default() });
    let client = bearer(&mut rig, 0, &token.unwrap());
    let by_name = revocation(r#"{"jti":"t1"}"#);
    rig.hubs[0].handle_command(rig.now, Command::Revoke { id: None, revocation: by_name });
    let (answer, _) = refresh(&mut rig, &client, &token_at("ada", &["admin"], 0, 100));
    assert_eq!(answer["error_code"], "AUTH_FAILED");
}

#[test]
fn revoking_by_http_needs_full_access() {
    let mut rig = Rig::new(1, quiet());
    let victim = bearer(&mut rig, 0, &token_at("eve", &["workflow:read"], 0, 100));
    let header = |permission: &str| {
        format!("Authorization: Bearer {}\r\n", token_at("ada", &[permission], 0, 100))
    };
    let body = r#"{"user":"eve"}"#;
    for (headers, body, status, code) in [
        (String::new(), body, 401, "AUTH_REQUIRED"),
        (header("workflow:read"), body, 403, "FORBIDDEN"),
        (header("write"), body, 403, "FORBIDDEN"),
        (header("admin"), "{}", 400, "DECODE_ERROR"),
        (header("admin"), r#"{"usr":"eve"}"#, 400, "DECODE_ERROR"),
    ] {
        let answer = post(&mut rig, "/revoke", &headers, body);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.contains(code), "{answer}");
    }
    assert_eq!(victim.take_frames(), []);
    let answer = post(&mut rig, "/revoke", &header("admin"), body);
    assert!(answer.ends_with(r#"{"status":"revoked","closed":1}"#), "{answer}");
    assert_eq!(victim.take_close(), Some((1008, "Token revoked".into())));
}

#[test]
fn without_authentication_nobody_may_revoke() {
    let mut rig = Rig::alone();
    let answer = post(&mut rig, "/revoke", "", r#"{"user":"eve"}"#);
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
}

#[test]
fn revocations_are_bounded() {
    let mut config = quiet();
    config.limits.revocations.revocations_max = 2;
    let mut rig = Rig::new(1, config);
    let header = format!("Authorization: Bearer {}\r\n", token_at("ada", &["admin"], 0, 100));
    let statuses: Vec<_> = (0..3)
        .map(|n| {
            post(&mut rig, "/revoke", &header, &format!(r#"{{"jti":"x{n}"}}"#))[9..12].to_owned()
        })
        .collect();
    assert_eq!(statuses, ["200", "200", "503"]);
}

#[test]
fn a_reload_takes_subscriptions_back_that_it_forbids() {
    let mut rig = Rig::new(1, quiet());
    let ada = bearer(&mut rig, 0, &token_at("ada", &["workflow:read"], 0, 100));
    let eve = bearer(&mut rig, 0, &token_at("eve", &["admin"], 0, 100));
    for client in [&ada, &eve] {
        rig.subscribe(client, "workflow:1");
    }
    let policy = auth::Policy::new(vec!["admin".into()], vec![], vec![]).unwrap();
    rig.hubs[0].handle_command(rig.now, Command::Reload(Arc::new(Config { policy, ..quiet() })));
    rig.publish(0, "workflow:1", 1);
    rig.run();
    let notice = ada.take();
    assert_eq!(notice.len(), 1);
    assert_eq!(notice[0]["event"], "channel.withdrawn");
    assert_eq!(notice[0]["data"], json!({"channel": "workflow:1", "reason": "policy"}));
    assert_eq!(eve.take_numbers(), [1]);
}

#[test]
fn a_reload_that_demands_tokens_takes_subscriptions_of_those_without() {
    let mut open = quiet();
    open.auth.required = false;
    let mut rig = Rig::new(1, open);
    let client = rig.connect(0);
    rig.subscribe(&client, "workflow:1");
    rig.hubs[0].handle_command(rig.now, Command::Reload(Arc::new(quiet())));
    rig.run();
    assert_eq!(client.take()[0]["event"], "channel.withdrawn");
    let token = token_at("ada", &["admin"], 0, 100);
    let answer = rig.request(&client, "auth", &json!({"token": token}));
    assert_eq!(answer["data"]["status"], "authenticated");
    rig.subscribe(&client, "workflow:1");
}

#[test]
fn a_key_that_is_taken_away_ends_its_connections_only_if_asked_to() {
    let mut rotated = quiet();
    rotated.auth.keys = auth::KeySet::new();
    rotated.auth.keys.add_secret(None, b"another secret of at least thirty-two bytes").unwrap();
    let mut strict = rotated.clone();
    strict.auth.end_removed_keys = true;
    let mut kept = quiet();
    kept.auth.end_removed_keys = true;
    kept.auth.keys.add_secret(Some("new"), b"another secret of at least thirty-two bytes").unwrap();
    for (config, ended) in [(rotated, false), (kept, false), (strict, true)] {
        let mut rig = Rig::new(1, quiet());
        let client = bearer(&mut rig, 0, &token_at("ada", &["admin"], 0, 100));
        rig.hubs[0].handle_command(rig.now, Command::Reload(Arc::new(config)));
        rig.run();
        let close = client.take_close();
        assert_eq!(close, ended.then(|| (1008, "Token key removed".to_owned())));
    }
}

#[test]
fn revocations_of_the_configuration_come_and_go_with_it() {
    let mut config = quiet();
    let mut revoked = Revocations::new();
    revoked.add(auth::Moment::default(), &revocation(r#"{"jti":"t1"}"#), seconds(1000));
    config.auth.revoked = Arc::new(revoked);
    let mut rig = Rig::new(1, quiet());
    let token = token_at("ada", &["admin"], 0, 100);
    let client = bearer(&mut rig, 0, &token);
    rig.hubs[0].handle_command(rig.now, Command::Reload(Arc::new(config)));
    rig.run();
    assert_eq!(client.take_close(), Some((1008, "Token revoked".into())));
    let verifies = |rig: &Rig| {
        let hub = rig.hubs[0].hub();
        hub.tokens.verify(&hub.env, &token).is_ok()
    };
    assert!(!verifies(&rig));
    rig.hubs[0].handle_command(rig.now, Command::Reload(Arc::new(quiet())));
    assert!(verifies(&rig));
}

#[test]
fn pages_of_other_origins_are_turned_away() {
    use crate::config::{Origin, Origins};
    let origins = Origins::Only(vec![Origin::parse("https://app.example").unwrap()]);
    let mut rig = Rig::new(1, Config { origins, ..Config::default() });
    rig.connect_with(0, "");
    rig.connect_with(0, "Origin: https://app.example\r\n");
    let client = rig.socket(0);
    let head = "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
        Origin: https://evil.example\r\n\r\n";
    rig.bytes(&client, head.as_bytes());
    assert!(client.take_head().starts_with("HTTP/1.1 403 "));
    let body = r#"{"channel":"a","event":"e"}"#;
    let answer = post(&mut rig, "/publish", "Origin: https://evil.example\r\n", body);
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("origin_forbidden"), "{answer}");
}
