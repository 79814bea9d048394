//! The message protocol without authentication: what is said to whom, in which words and order.

use mahavishnu_tests::{
    Server, json,
    raw::{HANDSHAKE, masked, op},
};
use serde_json::{Value, json};
use tungstenite::Message;

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
fn every_connection_has_an_id_of_its_own() {
    let server = Server::start();
    let id = || server.client().expect_welcome()["data"]["connection_id"].take();
    assert_ne!(id(), id());
}

#[test]
fn any_path_and_query_is_a_websocket() {
    let server = Server::start();
    for path in ["/", "/ws", "/ws/events?x=1&y=%20", "/health", "/publish", "/no/such/path"] {
        let mut client = server.open(path, &[]).expect(path);
        client.expect_welcome();
    }
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
fn a_binary_frame_with_json_is_a_message() {
    let server = Server::start();
    let mut client = server.hello();
    client.try_send(Message::binary(&br#"{"type":"ping","id":"b"}"#[..])).unwrap();
    let pong = client.message();
    assert_eq!((&pong["type"], &pong["correlation_id"]), (&json!("pong"), &json!("b")));
}

#[test]
fn a_binary_frame_without_json_is_a_decode_error() {
    let server = Server::start();
    let mut client = server.hello();
    client.try_send(Message::binary(&b"\xff\xfe\x00"[..])).unwrap();
    client.expect_error("DECODE_ERROR");
    client.expect_silence();
}

#[test]
fn unknown_fields_are_ignored() {
    let server = Server::start();
    let mut client = server.hello();
    client.send_text(r#"{"v":2,"type":"ping","id":"x","extra":{"a":[1]},"payload":null}"#);
    assert_eq!(client.message()["correlation_id"], "x");
}

#[test]
fn types_that_only_servers_send_have_no_effect() {
    let server = Server::start();
    let mut client = server.hello();
    for kind in ["response", "error", "ack", "pong"] {
        client.send(&json!({ "type": kind, "id": "x", "event": "subscribe", "data": { "channel": "global" } }));
    }
    client.send(&json!({ "type": "event", "id": "x", "event": "session.created", "data": {} }));
    client.expect_silence();
    assert_eq!(client.publish("global", "e", json!({})), 0);
}

#[test]
fn a_message_may_come_in_fragments_with_pings_between() {
    let server = Server::start();
    let mut raw = server.raw_hello();
    raw.send(op::TEXT & op::MORE, br#"{"type":"pi"#);
    raw.send(op::PING, b"now");
    raw.send(op::CONTINUATION & op::MORE, br#"ng","id":"#);
    raw.send(op::CONTINUATION, br#""frag"}"#);
    let pong = raw.frame().unwrap();
    assert_eq!((pong.first, &pong.payload[..]), (op::PONG, &b"now"[..]));
    assert_eq!(raw.frame().unwrap().json()["correlation_id"], "frag");
}

#[test]
fn a_message_may_come_with_the_handshake_in_one_segment() {
    let server = Server::start();
    let mut raw = server.raw();
    let ping = masked(op::TEXT, br#"{"type":"ping","id":"early"}"#);
    raw.write(&[HANDSHAKE.as_bytes(), &ping].concat());
    let head = raw.read_head();
    assert!(
        head.to_ascii_lowercase().contains(
            &format!("sec-websocket-accept: {}", mahavishnu_tests::raw::ACCEPT)
                .to_ascii_lowercase()
        ),
        "{head}"
    );
    assert_eq!(raw.frame().unwrap().json()["event"], "session.created");
    assert_eq!(raw.frame().unwrap().json()["correlation_id"], "early");
}

#[test]
fn a_message_may_come_byte_by_byte() {
    let server = Server::start();
    let mut raw = server.raw();
    let ping = masked(op::TEXT, br#"{"type":"ping","id":"slow"}"#);
    for byte in [HANDSHAKE.as_bytes(), &ping].concat() {
        raw.write(&[byte]);
    }
    raw.read_head();
    assert_eq!(raw.frame().unwrap().json()["event"], "session.created");
    assert_eq!(raw.frame().unwrap().json()["correlation_id"], "slow");
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
