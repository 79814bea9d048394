//! What clients send, as bytes on the wire.

use mahavishnu_core::ws::{Opcode, encode_frame};

/// The request of a WebSocket handshake, with `headers` (each with its line end) beside the necessary ones.
#[must_use]
pub fn upgrade(headers: &str) -> Vec<u8> {
    format!(
        "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{headers}\r\n"
    )
    .into_bytes()
}

/// A text message in one masked frame.
///
/// The key is zero, so that unmasking, which happens in place and costs the same under any key, leaves the bytes as they
/// are: they can be fed again and again without a copy.
#[must_use]
pub fn text(message: &str) -> Vec<u8> {
    let mut wire = Vec::new();
    encode_frame(&mut wire, Opcode::Text, message.as_bytes(), Some([0; 4]));
    wire
}

/// A ping frame (RFC 6455 §5.5.2), masked in the same way.
#[must_use]
pub fn ping() -> Vec<u8> {
    let mut wire = Vec::new();
    encode_frame(&mut wire, Opcode::Ping, b"alive?", Some([0; 4]));
    wire
}

/// The request that subscribes to `channel`.
#[must_use]
pub fn subscribe(channel: &str) -> String {
    format!(r#"{{"type":"request","event":"subscribe","id":"s","data":{{"channel":"{channel}"}}}}"#)
}

/// The request that publishes `data` to `channel`, as the load generator writes it.
#[must_use]
pub fn publish(channel: &str, data: &str) -> String {
    format!(
        r#"{{"type":"request","event":"publish","data":{{"channel":"{channel}","event":"bench.tick","data":{data}}},"id":"p1000000000000001"}}"#
    )
}

/// The same as the Python client writes it: all nine fields, spaces between them.
#[must_use]
pub fn publish_full(channel: &str, data: &str) -> String {
    format!(
        r#"{{"id": "6f1c9a52-7f0e-4f27-9a53-0d9b7b0f5a11", "correlation_id": null, "type": "request", "event": "publish", "data": {{"channel": "{channel}", "event": "bench.tick", "data": {data}}}, "timestamp": "2026-02-02T02:40:00.000000+00:00", "room": null, "error_code": null, "error_message": null}}"#
    )
}

/// A ping of the message protocol.
pub const PING: &str = r#"{"type":"ping","id":"health_check_1739269800"}"#;

/// A JSON object of exactly `bytes` bytes (at least 64): two numbers, and text that fills it up.
#[must_use]
pub fn object(bytes: usize) -> String {
    let head = r#"{"n":1000000000000001,"t":1770000000000000000,"p":""#;
    let fill = bytes.saturating_sub(head.len() + 2);
    format!("{head}{}\"}}", "x".repeat(fill))
}

/// A JSON object of about `bytes` bytes as programs write them: short members, numbers, nesting, some escapes.
#[must_use]
pub fn structured(bytes: usize) -> String {
    let item =
        r#"{"id":17,"state":"running","load":0.25,"tags":["a","b\n"],"ok":true,"parent":null}"#;
    let items = (bytes / (item.len() + 1)).max(1);
    format!(r#"{{"workers":[{}]}}"#, vec![item; items].join(","))
}
