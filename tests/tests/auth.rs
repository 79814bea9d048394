//! The auth exchange, row by row (the table of the reference's first section), and what follows from it.

use mahavishnu_tests::{
    Heard, Server,
    raw::op,
    token::{self, SECRET},
};
use serde_json::{Value, json};

/// Sends `first` as first message and returns what comes until the end: messages, then the close.
fn exchange(server: &Server, first: &str) -> (Vec<Value>, u16, String) {
    let mut client = server.client();
    client.send_text(first);
    let mut messages = Vec::new();
    loop {
        match client.hear() {
            Heard::Message(message) => messages.push(message),
            Heard::Close(code, reason) => return (messages, code, reason),
            Heard::End => panic!("no close frame after {messages:?}"),
        }
    }
}

fn auth_message(token: &Value) -> String {
    json!({ "type": "request", "id": "a1", "event": "auth", "data": { "token": token } })
        .to_string()
}

#[test]
fn a_valid_token_is_answered_and_then_welcomed() {
    let server = Server::with_auth(&[]);
    let mut client = server.client();
    client.send_text(&auth_message(&json!(token::of("ada", &["read"]))));
    let answer = client.message();
    assert_eq!((&answer["type"], &answer["event"]), (&json!("response"), &json!("auth")));
    assert_eq!(answer["correlation_id"], "a1");
    assert_eq!(answer["data"], json!({ "status": "authenticated", "user_id": "ada" }));
    let welcome = client.expect_welcome();
    assert_eq!(welcome["data"]["authenticated"], true);
    client.expect_silence();
}

#[test]
fn nothing_comes_before_the_auth_answer() {
    let server = Server::with_auth(&[]);
    let mut client = server.client();
    let mut other = server.login(&token::of("bob", &["admin"]));
    other.publish("global", "e", json!({}));
    client.send_text(&auth_message(&json!(token::of("ada", &[]))));
    assert_eq!(client.message()["event"], "auth");
}

#[test]
fn a_token_without_user_has_a_null_user_id() {
    let server = Server::with_auth(&[]);
    let mut client = server.client();
    client.send_text(&auth_message(&json!(token::sign(
        &json!({ "permissions": [], "exp": token::now() + 60 })
    ))));
    assert_eq!(client.message()["data"], json!({ "status": "authenticated", "user_id": null }));
}

#[test]
fn a_missing_or_malformed_token_is_refused() {
    let server = Server::with_auth(&[]);
    let messages = [
        auth_message(&Value::Null),
        auth_message(&json!(5)),
        auth_message(&json!(["x"])),
        r#"{"type":"request","id":"a1","event":"auth","data":{}}"#.to_owned(),
        r#"{"type":"request","id":"a1","event":"auth"}"#.to_owned(),
    ];
    for first in &messages {
        let (said, code, reason) = exchange(&server, first);
        assert_eq!(said.len(), 1, "{said:?}");
        assert_eq!(
            (&said[0]["type"], &said[0]["error_code"]),
            (&json!("error"), &json!("AUTH_FAILED"))
        );
        assert_eq!(said[0]["error_message"], "Missing or malformed auth token");
        assert_eq!(said[0]["correlation_id"], "a1");
        assert_eq!((code, reason.as_str()), (1008, "Authentication failed"), "{first}");
    }
    let count = messages.len() as u64;
    let metrics = server
        .metrics_when("the errors", |metrics| metrics.connection_errors("auth_missing") == count);
    assert_eq!(
        metrics.count("websocket_connections_total", &[]),
        0,
        "not a connection until past auth"
    );
}

#[test]
fn a_token_that_does_not_verify_is_refused() {
    let server = Server::with_auth(&[]);
    for bad in [
        token::sign_with(token::OTHER_SECRET, None, &token::claims("ada", &[])),
        "x.y.z".into(),
        "not a token".into(),
        String::new(),
    ] {
        let (said, code, reason) = exchange(&server, &auth_message(&json!(bad)));
        assert_eq!(said.len(), 1, "{said:?}");
        assert_eq!(said[0]["error_code"], "AUTH_FAILED");
        assert_eq!(said[0]["error_message"], "Invalid or expired token");
        assert_eq!(said[0]["correlation_id"], "a1");
        assert_eq!((code, reason.as_str()), (1008, "Authentication failed"));
    }
    server.metrics_when("the errors", |metrics| {
        metrics.connection_errors("auth_failed") + metrics.connection_errors("auth_missing") == 4
    });
}

#[test]
fn any_other_message_first_is_refused() {
    let server = Server::with_auth(&[]);
    let messages = [
        json!({ "type": "request", "id": "r", "event": "subscribe", "data": { "channel": "global" } }),
        json!({ "type": "request", "id": "r", "event": "refresh_token", "data": { "token": token::of("ada", &[]) } }),
        json!({ "type": "event", "id": "r", "event": "auth", "data": { "token": token::of("ada", &[]) } }),
        json!({ "type": "subscribe", "id": "r", "data": { "channel": "global" } }),
        json!({ "type": "ack", "id": "r" }),
    ];
    for first in &messages {
        let (said, code, reason) = exchange(&server, &first.to_string());
        assert_eq!(said.len(), 1, "{said:?}");
        assert_eq!(said[0]["error_code"], "AUTH_REQUIRED");
        assert_eq!(said[0]["error_message"], "Authentication required");
        assert_eq!(said[0]["correlation_id"], Value::Null, "not correlated");
        assert_eq!((code, reason.as_str()), (1008, "Authentication required"));
    }
    let count = messages.len() as u64;
    server
        .metrics_when("the errors", |metrics| metrics.connection_errors("auth_required") == count);
}

#[test]
fn what_cannot_be_decoded_first_ends_without_a_message() {
    let server = Server::with_auth(&[]);
    for first in ["garbage", r#"{"type":"nonsense"}"#, "[]"] {
        let (said, code, reason) = exchange(&server, first);
        assert_eq!(said, Vec::<Value>::new());
        assert_eq!((code, reason.as_str()), (1011, "Authentication error"));
    }
    server.metrics_when("the errors", |metrics| metrics.connection_errors("auth_error") == 3);
}

#[test]
fn pings_before_authentication_are_answered_and_bounded() {
    let server = Server::with_auth(&[]);
    let mut client = server.client();
    let mut pongs = 0;
    let code = loop {
        client.send(&json!({ "type": "ping", "id": format!("p{pongs}") }));
        match client.hear() {
            Heard::Message(message) if message["type"] == "pong" => {
                assert_eq!(message["correlation_id"], format!("p{pongs}"));
                pongs += 1;
            }
            Heard::Message(message) => {
                assert_eq!(message["error_code"], "AUTH_REQUIRED", "{message}")
            }
            Heard::Close(code, _) => break code,
            Heard::End => panic!("no close"),
        }
        assert!(pongs < 1_000, "no bound");
    };
    assert_eq!(code, 1008);
    assert!(pongs >= 5, "only {pongs} pongs");
}

#[test]
fn a_ping_does_not_leave_the_auth_state() {
    let server = Server::with_auth(&[]);
    let mut client = server.client();
    client.send(&json!({ "type": "ping", "id": "p" }));
    assert_eq!(client.message()["type"], "pong");
    let answer = client.request("auth", json!({ "token": token::of("ada", &[]) }));
    assert_eq!(answer["data"]["status"], "authenticated");
}

#[test]
fn pings_do_not_prolong_the_timeout() {
    let server = Server::with_auth(&[("AUTH_TIMEOUT", "1")]);
    let mut client = server.client();
    client.send(&json!({ "type": "ping" }));
    assert_eq!(client.message()["type"], "pong");
    client.expect_error("AUTH_REQUIRED");
    client.expect_close(1008);
}

#[test]
fn an_authenticated_connection_outlives_the_timeout() {
    let server = Server::with_auth(&[("AUTH_TIMEOUT", "0.2")]);
    let mut client = server.login(&token::of("ada", &["admin"]));
    let mut silent = server.client();
    silent.wait_close(1008);
    client.expect_silence();
}

#[test]
fn permissions_open_their_channels_only() {
    let server = Server::with_auth(&[]);
    for (permission, open, closed) in [
        ("workflow:read", "workflow:1", "pool:1"),
        ("pool:read", "pool:1", "worker:1"),
        ("worker:read", "worker:1", "workflow:1"),
        ("team:read", "goal-teamsX", "global"),
        ("read", "", "workflow:1"),
        ("workflow:readX", "", "workflow:1"),
        ("xadminx", "", "global"),
        ("admin", "global", ""),
        ("admin", "symbiotic:ecosystem", ""),
    ] {
        let mut client = server.login(&token::of("ada", &[permission]));
        if !open.is_empty() {
            client.subscribe(open);
        }
        if !closed.is_empty() {
            let answer = client.request("subscribe", json!({ "channel": closed }));
            assert_eq!(answer["error_code"], "FORBIDDEN", "{permission} {closed}: {answer}");
            assert!(
                answer["error_message"]
                    .as_str()
                    .unwrap()
                    .starts_with("Not authorized to subscribe to "),
                "{answer}"
            );
        }
    }
}

#[test]
fn permissions_may_be_called_scopes_and_the_user_sub() {
    let server = Server::with_auth(&[]);
    let token = token::sign(
        &json!({ "sub": "ada", "scopes": ["workflow:read"], "exp": token::now() + 60 }),
    );
    let mut client = server.client();
    let answer = client.request("auth", json!({ "token": token }));
    assert_eq!(answer["data"]["user_id"], "ada");
    client.expect_welcome();
    client.subscribe("workflow:1");
}

#[test]
fn permissions_as_text_are_not_tested_by_substring() {
    let server = Server::with_auth(&[]);
    let claims =
        json!({ "user_id": "ada", "permissions": "not-an-admin", "exp": token::now() + 60 });
    let mut client = server.client();
    client.send_text(&auth_message(&json!(token::sign(&claims))));
    if client.message()["type"] == "response" {
        client.expect_welcome();
        let answer = client.request("subscribe", json!({ "channel": "global" }));
        assert_eq!(answer["error_code"], "FORBIDDEN", "{answer}");
    }
}

#[test]
fn publishing_needs_a_permission_of_its_own() {
    let server = Server::with_auth(&[]);
    let mut reader = server.login(&token::of("ada", &["workflow:read"]));
    reader.subscribe("workflow:1");
    let answer =
        reader.request("publish", json!({ "channel": "workflow:1", "event": "e", "data": {} }));
    assert_eq!(answer["error_code"], "FORBIDDEN", "{answer}");
    reader.expect_silence();
    for permissions in [&["workflow:write"][..], &["write"], &["admin"]] {
        let mut writer = server.login(&token::of("bob", permissions));
        assert_eq!(writer.publish("workflow:1", "e", json!({ "n": 1 })), 1);
        assert_eq!(reader.message()["data"]["n"], 1);
    }
}

#[test]
fn tokens_in_the_url_and_subprotocol_are_off_unless_asked_for() {
    let server = Server::with_auth(&[]);
    let token = token::of("ada", &["admin"]);
    let path = format!("/?token={token}");
    let mut client = server.open(&path, &[]).unwrap();
    client
        .send(&json!({ "type": "request", "event": "subscribe", "data": { "channel": "global" } }));
    client.expect_error("AUTH_REQUIRED");
    assert!(!server.log().contains(&token), "{}", server.log());
}

#[test]
fn other_keys_can_be_used_while_keys_are_rotated() {
    let keys = format!("new:{SECRET},old:{}", token::OTHER_SECRET);
    let server = Server::with(&[("AUTH_ENABLED", "true"), ("JWT_KEYS", &keys)]);
    let claims = token::claims("ada", &["admin"]);
    server.login(&token::sign_with(SECRET, Some("new"), &claims));
    server.login(&token::sign_with(token::OTHER_SECRET, Some("old"), &claims));
    for bad in [
        token::sign_with(token::OTHER_SECRET, Some("new"), &claims),
        token::sign_with(SECRET, Some("unknown"), &claims),
    ] {
        let (said, code, _) = exchange(&server, &auth_message(&json!(bad)));
        assert_eq!((&said[0]["error_code"], code), (&json!("AUTH_FAILED"), 1008));
    }
}

#[test]
fn an_answer_without_close_handshake_does_not_hold_the_server() {
    let server = Server::with_auth(&[]);
    let mut raw = server.raw_upgraded();
    raw.send(op::TEXT, b"garbage");
    assert_eq!(raw.close_frame().unwrap().0, 1011);
    assert_eq!(server.metrics().active(), 0);
}
