//! The trap table of the reference's third section: what real clients stumble over, one test per row. Row 19 is about
//! client code that does not exist.

use std::time::Duration;

use mahavishnu_tests::{
    Client, Heard, Server, http, json,
    raw::op,
    token::{self, SECRET},
};
use rustix::process::Signal;
use serde_json::{Value, json};

fn subscribe(channel: &str) -> Value {
    json!({ "type": "request", "event": "subscribe", "data": { "channel": channel } })
}

fn and(mut message: Value, fields: &[(&str, Value)]) -> Value {
    for (name, value) in fields {
        message[*name] = value.clone();
    }
    message
}

#[test]
fn trap_01_answers_are_correlated_as_each_client_expects() {
    let server = Server::start();
    let mut client = server.hello();
    let (id, correlation) = (("id", json!("i")), ("correlation_id", json!("c")));
    for (fields, expected) in [
        (vec![id.clone()], json!("i")),
        (vec![correlation.clone()], json!("c")),
        (vec![id.clone(), ("correlation_id", Value::Null)], json!("i")),
        (vec![id.clone(), correlation.clone()], json!("c")),
        (vec![id.clone(), correlation.clone(), ("error_code", Value::Null)], json!("i")),
        (vec![id.clone(), ("error_code", Value::Null)], json!("i")),
        (vec![], Value::Null),
    ] {
        client.send(&and(subscribe("global"), &fields));
        assert_eq!(client.message()["correlation_id"], expected, "{fields:?}");
    }
}

#[test]
fn trap_01_the_rule_is_an_option() {
    let both = [("id", json!("i")), ("correlation_id", json!("c")), ("error_code", Value::Null)];
    for (rule, expected) in [("id", "i"), ("correlation_id", "c"), ("auto", "i")] {
        let server = Server::with(&[("CORRELATION", rule)]);
        let mut client = server.hello();
        client.send(&and(subscribe("global"), &both));
        assert_eq!(client.message()["correlation_id"], expected, "{rule}");
    }
}

#[test]
fn trap_02_an_event_subscribe_with_a_room_is_a_subscription() {
    let server = Server::alone();
    let (mut client, mut writer) = (server.hello(), server.hello());
    for key in ["room", "channel"] {
        let channel = format!("pool:{key}");
        client.send(&json!({ "type": "event", "event": "subscribe", "data": { key: channel } }));
        let answer = client.message();
        assert_eq!(answer["type"], "ack", "something that the client drops: {answer}");
        assert_eq!(answer["data"], json!({ "status": "subscribed", "channel": channel }));
        assert_eq!(writer.publish(&channel, "e", json!({})), 1);
        assert_eq!(client.message()["room"], channel.as_str());
        client.send(&json!({ "type": "event", "event": "unsubscribe", "data": { key: channel } }));
        assert_eq!(client.message()["type"], "ack");
        assert_eq!(writer.publish(&channel, "e", json!({})), 0);
    }
}

#[test]
fn trap_02_an_event_subscribe_that_is_not_allowed_is_forbidden() {
    let server = Server::with_auth(&[]);
    let mut client = server.login(&token::of("ada", &["pool:read"]));
    client.send(&json!({ "type": "event", "event": "subscribe", "data": { "room": "global" } }));
    client.expect_error("FORBIDDEN");
}

#[test]
fn trap_03_the_type_subscribe_needs_no_event() {
    let server = Server::alone();
    let (mut client, mut writer) = (server.hello(), server.hello());
    for (data, channel) in [
        (json!({ "channel": "ui:1" }), "ui:1"),
        (json!({ "room": "ui:2" }), "ui:2"),
        (json!({ "component_id": "7" }), "component:7"),
        (json!({ "page_id": "home" }), "page:home"),
    ] {
        client.send(&json!({ "type": "subscribe", "id": "s", "data": data }));
        let answer = client.answer_to("s");
        assert_eq!(
            answer["data"],
            json!({ "status": "subscribed", "channel": channel }),
            "{answer}"
        );
        assert_eq!(writer.publish(channel, "e", json!({})), 1);
        assert_eq!(client.message()["room"], channel);
        client.send(&json!({ "type": "unsubscribe", "id": "u", "data": data }));
        assert_eq!(client.answer_to("u")["data"]["status"], "unsubscribed");
        assert_eq!(writer.publish(channel, "e", json!({})), 0);
    }
}

#[test]
fn trap_04_a_ping_is_answered_with_a_correlated_pong() {
    let server = Server::start();
    let mut client = server.hello();
    client.send(&json!({ "type": "ping", "id": "health_check_1770000000" }));
    let pong = client.message();
    assert_eq!(
        (&pong["type"], &pong["correlation_id"]),
        (&json!("pong"), &json!("health_check_1770000000"))
    );
}

#[test]
fn trap_04_a_ping_is_answered_before_authentication_too() {
    let server = Server::with_auth(&[]);
    let mut client = server.client();
    client.send(&json!({ "type": "ping", "id": "health_check_1770000000" }));
    let pong = client.message();
    assert_eq!(
        (&pong["type"], &pong["correlation_id"]),
        (&json!("pong"), &json!("health_check_1770000000"))
    );
}

#[test]
fn trap_05_a_late_auth_on_a_server_without_auth_is_answered_and_does_not_close() {
    let server = Server::start();
    let mut client = server.hello();
    let answer = client.request("auth", json!({ "token": token::of("ada", &["admin"]) }));
    assert_eq!(answer["error_code"], "AUTH_FAILED", "there is no key to verify it with: {answer}");
    client.subscribe("global");
}

#[test]
fn trap_05_a_late_auth_sets_the_user_if_there_are_keys() {
    let server = Server::with(&[("JWT_SECRET", SECRET)]);
    let mut client = server.client();
    assert_eq!(client.expect_welcome()["data"]["authenticated"], false);
    let answer = client.request("auth", json!({ "token": token::of("ada", &["admin"]) }));
    assert_eq!(answer["data"], json!({ "status": "authenticated", "user_id": "ada" }));
    let answer = client.request("auth", json!({ "token": "wrong" }));
    assert_eq!(answer["error_code"], "AUTH_FAILED");
    client.expect_silence();
}

#[test]
fn trap_06_without_a_token_there_is_silence_and_then_an_error_before_1008() {
    let server = Server::with_auth(&[]);
    let mut raw = server.raw_upgraded();
    // verify_deployment.py sits silent for two seconds.
    assert!(raw.is_quiet_for(Duration::from_secs(2)));
    raw.send(op::TEXT, subscribe("global").to_string().as_bytes());
    assert_eq!(raw.frame().unwrap().json()["error_code"], "AUTH_REQUIRED");
    assert_eq!(raw.close_frame().unwrap(), (1008, "Authentication required".into()));
}

#[test]
fn trap_07_failures_of_authentication_stay_cheap() {
    let server = Server::with_auth(&[]);
    let wrong = token::sign_with(token::OTHER_SECRET, None, &token::claims("ada", &["admin"]));
    for _ in 0..100 {
        let mut client = server.client();
        let answer = client.request("auth", json!({ "token": wrong }));
        assert_eq!(answer["error_code"], "AUTH_FAILED");
        client.expect_close(1008);
    }
    let metrics = server
        .metrics_when("the errors", |metrics| metrics.connection_errors("auth_failed") == 100);
    assert_eq!(metrics.active(), 0);
    assert_eq!(metrics.count("websocket_connections_total", &[]), 0);
}

#[test]
fn trap_08_a_stop_closes_with_1001_and_finishes_the_handshake() {
    let mut server = Server::start();
    let clients: Vec<Client> = (0..10).map(|_| server.hello()).collect();
    server.signal(Signal::TERM);
    for mut client in clients {
        client.expect_close(1001);
        assert_eq!(client.hear(), Heard::End);
    }
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn trap_09_over_capacity_the_handshake_is_accepted_and_closed_with_1013() {
    let server = Server::with(&[("SHARDS", "1"), ("MAX_CONNECTIONS", "1")]);
    let _first = server.hello();
    let mut second = server.client();
    assert_eq!(second.expect_close(1013), "Server at maximum capacity");
}

#[test]
fn trap_09_a_stopped_server_refuses_connections() {
    let mut server = Server::start();
    let address = server.address();
    server.terminate();
    assert!(http::try_get(address, "/health").is_err());
}

#[test]
fn trap_10_every_message_has_what_the_client_demands() {
    let server = Server::with_auth(&[]);
    let mut raw = server.raw_upgraded();
    let messages = [
        json!({ "type": "request", "event": "auth", "data": { "token": token::of("ada", &["admin"]) } }),
        subscribe("global"),
        json!({ "type": "event", "event": "subscribe", "data": { "room": "pool:1" } }),
        json!({ "type": "request", "event": "publish", "data": { "channel": "global", "event": "e", "data": {} } }),
        json!({ "type": "request", "event": "refresh_token", "data": { "token": "x" } }),
        json!({ "type": "ping" }),
        json!({ "type": "x" }),
    ];
    // The auth message is answered and welcomed, the publish is answered and received.
    for (message, count) in messages.iter().zip([2, 1, 1, 2, 1, 1, 1]) {
        raw.send(op::TEXT, message.to_string().as_bytes());
        for _ in 0..count {
            let frame = raw.frame().expect("a message");
            assert_eq!(frame.first, op::TEXT);
            let value = json::message(std::str::from_utf8(&frame.payload).unwrap());
            let known = ["response", "event", "error", "pong", "ack"];
            assert!(known.contains(&value["type"].as_str().unwrap()), "{value}");
        }
    }
}

#[test]
fn trap_11_the_status_is_found_at_the_top_too() {
    let server = Server::with_auth(&[]);
    let mut client = server.client();
    assert_eq!(
        client.request("auth", json!({ "token": token::of("ada", &["admin"]) }))["status"],
        "authenticated"
    );
    client.expect_welcome();
    assert_eq!(client.request("subscribe", json!({ "channel": "global" }))["status"], "subscribed");
    assert_eq!(
        client.request("unsubscribe", json!({ "channel": "global" }))["status"],
        "unsubscribed"
    );
}

#[test]
fn trap_11_the_copy_can_be_switched_off() {
    let server = Server::with(&[("MIRROR_STATUS", "false")]);
    let mut client = server.hello();
    let answer = client.request("subscribe", json!({ "channel": "global" }));
    assert_eq!(answer.as_object().unwrap().len(), 9, "{answer}");
    assert_eq!(answer["data"]["status"], "subscribed");
}

#[test]
fn trap_12_requests_that_lack_something_are_answered_at_once() {
    let server = Server::start();
    let mut client = server.hello();
    for (event, code) in [
        ("subscribe", "INVALID_CHANNEL"),
        ("unsubscribe", "INVALID_CHANNEL"),
        ("get_pool_status", "UNKNOWN_REQUEST"),
    ] {
        let answer = client.request(event, json!({}));
        assert_eq!(answer["error_code"], code, "{answer}");
    }
}

#[test]
fn trap_13_data_is_passed_on_whole_so_that_ids_can_be_in_it() {
    let server = Server::start();
    let mut client = server.hello();
    client.subscribe("workflow:1");
    let data = json!({ "workflow_id": "1", "channel": "other", "room": "other", "timestamp": "2026-02-11T10:30:00+00:00" });
    client.publish("workflow:1", "workflow.started", data.clone());
    assert_eq!(client.message()["data"], data);
}

#[test]
fn trap_14_nothing_precedes_the_auth_response() {
    let server = Server::with_auth(&[]);
    for _ in 0..20 {
        let mut client = server.client();
        client.send(&json!({ "type": "request", "event": "auth", "data": { "token": token::of("ada", &["admin"]) } }));
        client.send(&subscribe("global"));
        assert_eq!(client.message()["event"], "auth");
        assert_eq!(client.message()["event"], "session.created");
        assert_eq!(client.message()["event"], "subscribe");
    }
}

#[test]
fn trap_15_a_bearer_header_is_welcomed_at_once_and_a_later_auth_answered() {
    let server = Server::with_auth(&[]);
    let token = token::of("ada", &["admin"]);
    let value = format!("Bearer {token}");
    let headers = [("Authorization", value.as_str())];
    let mut client = server.open("/", &headers).unwrap();
    client.expect_welcome();
    let answer = client.request("auth", json!({ "token": token }));
    assert_eq!(answer["data"], json!({ "status": "authenticated", "user_id": "ada" }));
    client.subscribe("global");
}

#[test]
fn trap_16_refresh_token_is_implemented() {
    let server = Server::with_auth(&[]);
    let mut client = server.login(&token::of("ada", &[]));
    let answer = client.request("refresh_token", json!({ "token": token::of("ada", &["admin"]) }));
    assert_eq!(answer["data"], json!({ "status": "refreshed", "user_id": "ada" }));
    let answer = client.request("refresh_token", json!({ "token": "expired" }));
    assert_eq!(answer["error_code"], "AUTH_FAILED");
    client.subscribe("global");
}

#[test]
fn trap_17_a_hundred_bad_messages_at_full_speed_are_a_hundred_errors() {
    let server = Server::start();
    let mut client = server.hello();
    for n in 0..100 {
        match n % 2 {
            0 => client.send(&json!({ "type": "test", "data": { "n": n } })),
            _ => {
                client.send(&json!({ "type": "event", "event": "e", "timestamp": 1_770_000_000.5 }))
            }
        }
    }
    for _ in 0..100 {
        client.expect_error("DECODE_ERROR");
    }
    client.expect_silence();
}

#[test]
fn trap_18_errors_do_not_repeat_the_input() {
    let server = Server::start();
    let mut client = server.hello();
    for text in
        ["<script>x</script>", r#"{"type":"<script>"}"#, r#"{"type":"ping","id":{"<script>":1}}"#]
    {
        client.send_text(text);
        let error = client.expect_error("DECODE_ERROR");
        assert!(!error.to_string().contains("script"), "{error}");
    }
    let answer = client.request("<script>", json!({}));
    assert!(!answer.to_string().contains("script"), "{answer}");
    let answer = client.request("subscribe", json!({ "channel": "<script>\n" }));
    assert!(!answer.to_string().contains("script"), "{answer}");
}
