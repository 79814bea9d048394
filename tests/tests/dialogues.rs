//! The message protocol without authentication: what is said to whom, in which words and order.

use mahavishnu_tests::{
    Server, json,
    raw::{HANDSHAKE, op},
};
use serde_json::{Value, json};

#[test]
fn the_welcome_has_the_nine_fields_in_order_and_no_spaces() {
    let server = Server::start();
    let mut raw = server.raw_upgraded();
    let text = String::from_utf8(raw.frame().expect("a welcome").payload).unwrap();
    let welcome = json::message(&text);
    assert_eq!(json::keys(&text).len(), 9, "{text}");
    assert_eq!(welcome["type"], "event");
    assert_eq!(welcome["event"], "session.created");
    for name in ["correlation_id", "room", "error_code", "error_message"] {
        assert_eq!(welcome[name], Value::Null, "{name}");
    }
}

#[test]
fn the_welcome_says_where_one_is() {
    let server = Server::start();
    let data = server.client().expect_welcome()["data"].take();
    assert!(!data["connection_id"].as_str().unwrap().is_empty());
    assert_eq!(data["server"], "mahavishnu");
    assert_eq!(data["message"], "Connected to Mahavishnu orchestration");
    assert_eq!(data["authenticated"], false);
    assert_eq!(data["secure"], false);
    assert_eq!(data["rate_limit"], 100);
}

#[test]
fn no_subprotocol_or_extension_is_agreed_on_unasked() {
    let server = Server::start();
    let client = server.client();
    assert!(!client.response.headers().contains_key("sec-websocket-protocol"));
    assert!(!client.response.headers().contains_key("sec-websocket-extensions"));
}

#[test]
fn a_compression_offer_does_not_stop_a_client() {
    let server = Server::start();
    let headers = [("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits")];
    let mut raw = server.raw();
    raw.write(
        HANDSHAKE
            .replace("\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n")
            .as_bytes(),
    );
    assert!(raw.read_head().starts_with("HTTP/1.1 101 "));
    if let Ok(mut client) = server.open("/", &headers) {
        client.expect_welcome();
    }
}

#[test]
fn answers_have_the_nine_fields_first() {
    let server = Server::start();
    let mut raw = server.raw_hello();
    for message in [
        json!({ "type": "request", "id": "1", "event": "subscribe", "data": { "channel": "global" } }),
        json!({ "type": "request", "id": "2", "event": "publish", "data": { "channel": "pool:1", "event": "e", "data": {} } }),
        json!({ "type": "request", "id": "3", "event": "nothing" }),
        json!({ "type": "ping", "id": "4" }),
        json!({ "type": "event", "id": "5", "event": "subscribe", "data": { "room": "global" } }),
        json!({ "type": "nonsense" }),
    ] {
        raw.send(op::TEXT, message.to_string().as_bytes());
        let text = String::from_utf8(raw.frame().expect("an answer").payload).unwrap();
        json::message(&text);
    }
}

#[test]
fn a_response_repeats_event_and_correlation_id() {
    let server = Server::start();
    let mut client = server.hello();
    client.send(&json!({
        "type": "request", "correlation_id": "c-1", "event": "subscribe", "data": { "channel": "workflow:1" },
    }));
    let answer = client.message();
    assert_eq!(answer["type"], "response");
    assert_eq!(answer["event"], "subscribe");
    assert_eq!(answer["correlation_id"], "c-1");
    assert_eq!(answer["data"], json!({ "status": "subscribed", "channel": "workflow:1" }));
    assert_eq!(answer["error_code"], Value::Null);
}

#[test]
fn a_request_without_ids_is_answered_without_correlation() {
    let server = Server::start();
    let mut client = server.hello();
    client.send(
        &json!({ "type": "request", "event": "subscribe", "data": { "channel": "workflow:1" } }),
    );
    assert_eq!(client.message()["correlation_id"], Value::Null);
}

#[test]
fn an_unknown_request_is_refused_and_not_echoed() {
    let server = Server::start();
    let mut client = server.hello();
    for event in [json!("get_pool_status<script>"), json!("Subscribe"), json!(""), Value::Null] {
        client.send(
            &json!({ "type": "request", "id": "q", "event": event, "data": { "pool_id": "p" } }),
        );
        let error = client.expect_error("UNKNOWN_REQUEST");
        assert_eq!(error["correlation_id"], "q");
        assert_eq!((&error["event"], &error["data"]), (&Value::Null, &json!({})));
        let text = error["error_message"].as_str().unwrap();
        assert!(text.contains("Unknown request") && !text.contains("script"), "{text}");
    }
}

#[test]
fn a_channel_must_be_a_short_text() {
    let server = Server::start();
    let mut client = server.hello();
    let long = "x".repeat(257);
    for channel in [
        json!(null),
        json!(5),
        json!(["a"]),
        json!({}),
        json!(""),
        json!("a\nb"),
        json!("\u{0}"),
        json!(long),
    ] {
        for event in ["subscribe", "unsubscribe", "publish"] {
            let data = json!({ "channel": channel, "event": "e", "data": {} });
            client.send(&json!({ "type": "request", "id": "q", "event": event, "data": data }));
            let error = client.expect_error("INVALID_CHANNEL");
            assert_eq!(error["correlation_id"], "q", "{event} {channel}");
        }
    }
    client.send(&json!({ "type": "request", "id": "q", "event": "subscribe" }));
    client.expect_error("INVALID_CHANNEL");
}

#[test]
fn the_longest_channel_name_is_256_bytes() {
    let server = Server::start();
    let mut client = server.hello();
    client.subscribe(&"x".repeat(256));
}

#[test]
fn what_is_not_a_message_is_refused_and_the_connection_stays() {
    let server = Server::start();
    let mut client = server.hello();
    for text in [
        "",
        "x",
        "{",
        "[]",
        "5",
        "null",
        "\"ping\"",
        "{}",
        "{\"type\":\"ping\"} x",
        "{\"type\":\"ping\"}{\"type\":\"ping\"}",
        r#"{"type":"secret-word"}"#,
        r#"{"type":"PING"}"#,
        r#"{"type":5}"#,
        r#"{"type":null}"#,
        r#"{"type":"ping","id":null}"#,
        r#"{"type":"ping","id":5}"#,
        r#"{"type":"ping","correlation_id":5}"#,
        r#"{"type":"request","event":5}"#,
        r#"{"type":"request","event":"x","data":null}"#,
        r#"{"type":"request","event":"x","data":[]}"#,
        r#"{"type":"request","event":"x","data":"secret-word"}"#,
        r#"{"type":"ping","timestamp":1770000000}"#,
        r#"{"type":"ping","timestamp":null}"#,
        r#"{"type":"ping","room":5}"#,
        r#"{"type":"ping","error_code":5}"#,
        r#"{"type":"ping","error_message":5}"#,
    ] {
        client.send_text(text);
        let error = client.expect_error("DECODE_ERROR");
        assert_eq!(error["correlation_id"], Value::Null, "{text}");
        assert!(!error.to_string().contains("secret-word"), "{error}");
    }
    client.expect_silence();
}

#[test]
fn nesting_is_bounded() {
    let server = Server::start();
    let mut client = server.hello();
    let deep = format!(
        r#"{{"type":"ping","data":{}1{}}}"#,
        r#"{"a":"#.repeat(100_000),
        "}".repeat(100_000)
    );
    client.send_text(&deep);
    client.expect_error("DECODE_ERROR");
}

#[test]
fn unknown_fields_are_ignored() {
    let server = Server::start();
    let mut client = server.hello();
    client.send_text(r#"{"v":2,"type":"ping","id":"x","extra":{"a":[1]},"payload":null}"#);
    assert_eq!(client.message()["correlation_id"], "x");
}

#[test]
fn a_close_is_answered_with_the_same_code() {
    let server = Server::start();
    for code in [1000_u16, 1001, 3000, 4999] {
        let mut raw = server.raw_hello();
        raw.send(op::CLOSE, &code.to_be_bytes());
        assert_eq!(raw.close_frame().expect("an answer").0, code);
        assert_eq!(raw.read_to_end(), b"");
    }
}

#[test]
fn a_close_without_code_is_answered() {
    let server = Server::start();
    let mut raw = server.raw_hello();
    raw.send(op::CLOSE, b"");
    assert!(raw.close_frame().is_some());
    assert_eq!(raw.read_to_end(), b"");
}
