//! Tokens and messages that are refused.

use mahavishnu_core::reason::Reason;
use mahavishnu_tests::{
    Raw, Server,
    raw::{masked, op},
    token,
};
use serde_json::{Value, json};

use super::{counted, ended, is_error};

pub(super) fn auth_missing(reason: Reason) {
    refused_first(&json!({ "type": "request", "event": "auth", "data": {} }), reason);
}

pub(super) fn auth_failed(reason: Reason) {
    refused_first(
        &json!({ "type": "request", "event": "auth", "data": { "token": "x.y.z" } }),
        reason,
    );
}

pub(super) fn auth_required(reason: Reason) {
    refused_first(&json!({ "type": "subscribe", "data": { "channel": "global" } }), reason);
}

pub(super) fn auth_error(reason: Reason) {
    let server = Server::with_auth(&[]);
    let mut client = server.client();
    client.send_text("garbage");
    assert_eq!(client.expect_close(1011), reason.row().text);
    ended(&server, reason);
}

pub(super) fn auth_off(reason: Reason) {
    let server = Server::start();
    let mut client = server.hello();
    is_error(&client.request("auth", json!({ "token": "x.y.z" })), reason);
}

pub(super) fn decode(reason: Reason) {
    refused(&json!({ "type": "nonsense" }), reason);
}

pub(super) fn unknown_request(reason: Reason) {
    refused(&json!({ "type": "request", "event": "nonsense" }), reason);
}

pub(super) fn invalid_channel(reason: Reason) {
    refused(&json!({ "type": "request", "event": "subscribe", "data": { "channel": "" } }), reason);
}

pub(super) fn message_rate(reason: Reason) {
    let server = Server::with(&[("MESSAGE_RATE_LIMIT", "1"), ("MESSAGE_BURST", "1")]);
    let mut raw = server.raw_hello();
    raw.write(&masked(op::TEXT, b"{\"type\":\"ping\"}").repeat(2));
    raw.frame();
    is_error(&raw.frame().expect("an answer").json(), reason);
    counted(&server, reason);
}

pub(super) fn subscribe_forbidden(reason: Reason) {
    let server = Server::with_auth(&[]);
    let mut client = server.login(&token::of("ada", &[]));
    is_error(&client.request("subscribe", json!({ "channel": "global" })), reason);
    counted(&server, reason);
}

pub(super) fn publish_forbidden(reason: Reason) {
    let server = Server::with_auth(&[]);
    let mut client = server.login(&token::of("ada", &["workflow:read"]));
    is_error(&client.request("publish", json!({ "channel": "workflow:1", "event": "e" })), reason);
    counted(&server, reason);
}

pub(super) fn too_many_channels(reason: Reason) {
    let server = Server::with(&[("SHARDS", "1"), ("MESSAGE_RATE_LIMIT", "0")]);
    let mut raw = server.raw_hello();
    subscribe_many(&mut raw, 0, 1_000);
    raw.send(op::TEXT, br#"{"type":"subscribe","data":{"channel":"one:more"}}"#);
    is_error(&raw.frame().expect("an answer").json(), reason);
    counted(&server, reason);
}

/// The server holds 100,000 channels: a hundred connections with a thousand each.
pub(super) fn channels_full(reason: Reason) {
    let server = Server::with(&[("SHARDS", "1"), ("MESSAGE_RATE_LIMIT", "0")]);
    let _holders: Vec<Raw> = (0..100)
        .map(|holder| {
            let mut raw = server.raw_hello();
            subscribe_many(&mut raw, holder, 1_000);
            raw
        })
        .collect();
    let mut client = server.hello();
    is_error(&client.request("subscribe", json!({ "channel": "one:more" })), reason);
    client.subscribe("c:0:0");
    counted(&server, reason);
}

fn subscribe_many(raw: &mut Raw, holder: usize, count: usize) {
    let subscribe =
        |n: usize| format!(r#"{{"type":"subscribe","data":{{"channel":"c:{holder}:{n}"}}}}"#);
    raw.write(
        &(0..count).flat_map(|n| masked(op::TEXT, subscribe(n).as_bytes())).collect::<Vec<_>>(),
    );
    for _ in 0..count {
        assert_eq!(raw.frame().expect("an answer").json()["data"]["status"], "subscribed");
    }
}

fn refused(message: &Value, reason: Reason) {
    let server = Server::start();
    let mut client = server.hello();
    client.send(message);
    is_error(&client.message(), reason);
    counted(&server, reason);
}

fn refused_first(message: &Value, reason: Reason) {
    let server = Server::with_auth(&[]);
    let mut client = server.client();
    client.send(message);
    is_error(&client.message(), reason);
    assert_eq!(client.expect_close(1008), reason.close_text());
    ended(&server, reason);
}
