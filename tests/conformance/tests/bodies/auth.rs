//! Tokens: where they may come, and what they open.

use std::time::Duration;

use mahavishnu_conformance::{Backend, Client, HANDSHAKE, Rig, token};
use serde_json::{Value, json};

const SHORT: Duration = Duration::from_millis(100);

fn ada(rig: &Rig) -> String {
    token::good(rig.unix(), "ada", &["workflow:read"])
}

fn auth_message(token: &Value) -> Value {
    json!({ "type": "request", "event": "auth", "id": "1", "data": { "token": token } })
}

pub(crate) fn a_token_in_the_first_message_is_answered_then_welcomed(backend: Backend) {
    let rig = backend.start(token::demand);
    let mut client = rig.client();
    client.send(&auth_message(&json!(ada(&rig))));
    let answer = client.message();
    assert_eq!(answer["data"], json!({ "status": "authenticated", "user_id": "ada" }));
    assert_eq!(answer["correlation_id"], "1");
    assert_eq!(client.expect_welcome()["data"]["authenticated"], true);
    client.subscribe("workflow:1");
}

pub(crate) fn a_token_in_the_header_is_welcomed_at_once(backend: Backend) {
    let rig = backend.start(token::demand);
    let bearer = format!("Bearer {}", ada(&rig));
    let mut client = Client::open(rig.connect(), "/", &[("Authorization", &bearer)]).unwrap();
    assert_eq!(client.expect_welcome()["data"]["authenticated"], true);
    client.subscribe("workflow:1");
}

pub(crate) fn a_token_in_the_query_is_welcomed_at_once(backend: Backend) {
    let rig = backend.start(|config| {
        token::demand(config);
        config.auth.query_parameter = Some("token".into());
    });
    let path = format!("/ws?a=b&token={}", ada(&rig));
    let mut client = Client::open(rig.connect(), &path, &[]).unwrap();
    assert_eq!(client.expect_welcome()["data"]["authenticated"], true);
}

pub(crate) fn a_token_as_a_subprotocol_is_welcomed_and_agreed_on(backend: Backend) {
    let rig = backend.start(|config| {
        token::demand(config);
        config.auth.subprotocol = true;
    });
    let token = ada(&rig);
    for (offer, agreed) in [
        (format!("bearer, {token}"), "bearer"),
        (format!("mahavishnu, bearer.{token}"), "mahavishnu"),
    ] {
        let headers = [("Sec-WebSocket-Protocol", offer.as_str())];
        let mut client = Client::open(rig.connect(), "/", &headers).unwrap();
        assert_eq!(client.response.headers()["sec-websocket-protocol"], agreed);
        assert_eq!(client.expect_welcome()["data"]["authenticated"], true);
    }
}

pub(crate) fn bad_tokens_in_the_header_are_refused_with_401(backend: Backend) {
    let rig = backend.start(token::demand);
    for token in [token::expired(rig.unix()), token::forged(rig.unix()), "x.y.z".to_owned()] {
        let field = format!("Version: 13\r\nAuthorization: Bearer {token}");
        let answer = rig.raw().exchange(HANDSHAKE.replace("Version: 13", &field).as_bytes());
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("Bearer")));
        assert_eq!(answer.json()["error_code"], "AUTH_FAILED");
    }
    rig.expect_count("websocket_connection_errors_total", &[("error_type", "auth_failed")], 3);
}

pub(crate) fn bad_tokens_in_the_first_message_are_told_why_and_closed(backend: Backend) {
    let rig = backend.start(token::demand);
    let (expired, forged) = (token::expired(rig.unix()), token::forged(rig.unix()));
    for (token, text) in [
        (json!(expired), "Invalid or expired token"),
        (json!(forged), "Invalid or expired token"),
        (Value::Null, "Missing or malformed auth token"),
        (json!(5), "Missing or malformed auth token"),
    ] {
        let mut client = rig.client();
        client.send(&auth_message(&token));
        let error = client.expect_error("AUTH_FAILED");
        assert_eq!(
            (&error["error_message"], &error["correlation_id"]),
            (&json!(text), &json!("1"))
        );
        assert_eq!(client.expect_close(1008), "Authentication failed");
    }
}

pub(crate) fn silence_is_closed_after_the_auth_timeout(backend: Backend) {
    let rig = backend.start(|config| {
        token::demand(config);
        config.limits.auth.auth_timeout = SHORT;
    });
    let (took, ()) = rig.time(|| {
        let mut client = rig.client();
        client.expect_error("AUTH_REQUIRED");
        client.expect_close(1008);
    });
    assert!(took >= SHORT, "{took:?}");
    assert_eq!(rig.count("websocket_connections_total", &[("tls_mode", "ws")]), 0);
}

pub(crate) fn pings_are_answered_before_authentication_up_to_a_limit(backend: Backend) {
    let rig = backend.start(|config| {
        token::demand(config);
        config.limits.auth.pings_before_auth_max = 3;
    });
    let mut client = rig.client();
    for n in 0..3 {
        client.send(&json!({ "type": "ping", "id": n.to_string() }));
        let pong = client.message();
        assert_eq!(
            (&pong["type"], &pong["correlation_id"]),
            (&json!("pong"), &json!(n.to_string()))
        );
    }
    client.send(&json!({ "type": "ping" }));
    client.expect_error("AUTH_REQUIRED");
    client.expect_close(1008);
}

pub(crate) fn permissions_decide_who_may_subscribe_and_publish(backend: Backend) {
    let rig = backend.start(token::demand);
    let mut reader = rig.login(&ada(&rig));
    reader.subscribe("workflow:1");
    let refused = reader.request("subscribe", json!({ "channel": "global" }));
    assert_eq!(refused["error_code"], "FORBIDDEN");
    let publish = json!({ "channel": "workflow:1", "event": "e", "data": { "n": 1 } });
    assert_eq!(reader.request("publish", &publish)["error_code"], "FORBIDDEN");
    let mut admin = rig.login(&token::good(rig.unix(), "eve", &["admin"]));
    assert_eq!(admin.request("publish", &publish)["data"]["subscribers"], 1);
    assert_eq!(reader.numbers(1), [1]);
}

pub(crate) fn a_token_is_refreshed_for_the_same_user_only(backend: Backend) {
    let rig = backend.start(token::demand);
    let mut client = rig.login(&ada(&rig));
    let more = token::good(rig.unix(), "ada", &["admin"]);
    let answer = client.request("refresh_token", json!({ "token": more }));
    assert_eq!(answer["data"], json!({ "status": "refreshed", "user_id": "ada" }));
    client.subscribe("global");
    let other = token::good(rig.unix(), "eve", &["admin"]);
    let answer = client.request("refresh_token", json!({ "token": other }));
    assert_eq!(answer["error_code"], "AUTH_FAILED", "a connection keeps its user");
    client.expect_silence();
}

/// One that let a connection in before is no better.
pub(crate) fn a_token_that_has_expired_lets_nobody_in(backend: Backend) {
    let rig = backend.start(token::demand);
    // A second or two are left.
    let token = token::good(rig.unix() - Duration::from_secs(3_598), "ada", &["admin"]);
    rig.login(&token).close();
    rig.pass(Duration::from_millis(2_100));
    let mut late = rig.client();
    late.send(&auth_message(&json!(token)));
    late.expect_error("AUTH_FAILED");
}
