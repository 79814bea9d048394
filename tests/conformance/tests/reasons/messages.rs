//! Tokens and messages that are refused.

use std::time::Duration;

use mahavishnu_conformance::{App, Backend, Setup, post, token};
use mahavishnu_core::{
    config::{self, Publishing},
    hub::RequestError,
    reason::Reason,
};
use serde_json::{Value, json};

use super::{answered, is_error};

pub(crate) fn auth_missing(backend: Backend, reason: Reason) {
    refused_first(backend, &json!({ "type": "request", "event": "auth", "data": {} }), reason);
}

pub(crate) fn auth_failed(backend: Backend, reason: Reason) {
    let message = json!({ "type": "request", "event": "auth", "data": { "token": "x.y.z" } });
    refused_first(backend, &message, reason);
}

pub(crate) fn auth_required(backend: Backend, reason: Reason) {
    let message = json!({ "type": "subscribe", "data": { "channel": "global" } });
    refused_first(backend, &message, reason);
}

pub(crate) fn auth_error(backend: Backend, reason: Reason) {
    let rig = backend.start(token::demand);
    let mut client = rig.client();
    client.send_text("garbage");
    assert_eq!(client.expect_close(1011), reason.row().text);
    rig.expect_end(reason);
}

pub(crate) fn auth_off(backend: Backend, reason: Reason) {
    let rig = backend.start(|_| {});
    is_error(&rig.hello().request("auth", json!({ "token": "x.y.z" })), reason);
}

pub(crate) fn decode(backend: Backend, reason: Reason) {
    refused(backend, &json!({ "type": "nonsense" }), reason);
}

pub(crate) fn session_unknown(backend: Backend, reason: Reason) {
    let rig = backend.start(|_| {});
    let session = json!({ "session": "0".repeat(32) });
    is_error(&rig.hello().request("resume_session", session), reason);
    rig.expect_error_counted(reason);
}

pub(crate) fn session_held(backend: Backend, reason: Reason) {
    let rig = backend.start(|_| {});
    let mut client = rig.hello();
    let kept = client.request("keep_session", json!({}));
    let session = json!({ "session": kept["data"]["session"] });
    is_error(&client.request("resume_session", session), reason);
    rig.expect_error_counted(reason);
}

pub(crate) fn not_asked(backend: Backend, reason: Reason) {
    let rig = backend.start(|config| config.backend = Some(config::Backend::default()));
    let answer = json!({ "request_id": "0000000000000001.0.0.0", "data": {} });
    is_error(&rig.hello().request("answer", answer), reason);
    rig.expect_error_counted(reason);
}

pub(crate) fn unknown_request(backend: Backend, reason: Reason) {
    refused(backend, &json!({ "type": "request", "event": "nonsense" }), reason);
}

pub(crate) fn invalid_channel(backend: Backend, reason: Reason) {
    let message = json!({ "type": "request", "event": "subscribe", "data": { "channel": "" } });
    refused(backend, &message, reason);
}

pub(crate) fn not_recovered(backend: Backend, reason: Reason) {
    let rig = backend.start(|_| {});
    let after = json!({ "epoch": "0123456789", "offset": 0 });
    let wish = json!({ "channel": "a", "recover": after, "strict": true });
    let error = rig.hello().request("subscribe", wish);
    is_error(&error, reason);
    assert_eq!(error["error_message"], format!("{}: epoch", reason.row().text));
    rig.expect_error_counted(reason);
    let answer = rig.raw().get("/history?channel=a&epoch=0123456789&after=0");
    answered(&answer, reason);
}

pub(crate) fn subscribe_forbidden(backend: Backend, reason: Reason) {
    let rig = backend.start(token::demand);
    let mut client = rig.login(&token::good(rig.unix(), "ada", &[]));
    is_error(&client.request("subscribe", json!({ "channel": "global" })), reason);
    rig.expect_error_counted(reason);
}

pub(crate) fn publish_forbidden(backend: Backend, reason: Reason) {
    let rig = backend.start(token::demand);
    let mut client = rig.login(&token::good(rig.unix(), "ada", &["workflow:read"]));
    let data = json!({ "channel": "workflow:1", "event": "e" });
    is_error(&client.request("publish", &data), reason);
    rig.expect_error_counted(reason);
}

/// Whatever a token says, and wherever it comes in; the application still may.
pub(crate) fn publishing_off(backend: Backend, reason: Reason) {
    let rig = backend.start(|config| {
        token::demand(config);
        config.publishing = Publishing::ApplicationOnly;
    });
    let admin = token::good(rig.unix(), "root", &["admin"]);
    let mut client = rig.login(&admin);
    client.subscribe("global");
    let data = json!({ "channel": "global", "event": "e" });
    is_error(&client.request("publish", &data), reason);
    rig.expect_error_counted(reason);
    let bearer = format!("Bearer {admin}");
    answered(&rig.raw().exchange(&post(&[("Authorization", &bearer)], &data)), reason);
    answered(&rig.raw().exchange(&post(&[], &data)), reason);
    if backend != Backend::Program {
        assert_eq!(rig.broadcast("global", &json!({ "n": 1 })), 1);
        assert_eq!(client.numbers(1), [1]);
    }
}

/// The application's own error is passed on; what is no answer is a failure of its own.
pub(crate) fn request_failed(backend: Backend, reason: Reason) {
    let app = App {
        requests: vec![
            ("wrong", |_| Some((Duration::ZERO, Ok(json!("no object"))))),
            ("fail", |_| {
                let error = RequestError { code: "NOT_FOUND".into(), message: "none".into() };
                Some((Duration::ZERO, Err(error)))
            }),
        ],
        ..App::default()
    };
    let rig = backend.start_with(Setup { app, ..Setup::new(|_| {}) });
    let mut client = rig.hello();
    is_error(&client.request("wrong", json!({})), reason);
    rig.expect_error_counted(reason);
    let answer = client.request("fail", json!({}));
    assert_eq!((&answer["type"], &answer["error_code"]), (&json!("error"), &json!("NOT_FOUND")));
    assert_eq!(answer["error_message"], "none");
}

fn refused(backend: Backend, message: &Value, reason: Reason) {
    let rig = backend.start(|_| {});
    let mut client = rig.hello();
    client.send(message);
    is_error(&client.message(), reason);
    rig.expect_error_counted(reason);
    client.expect_silence();
}

fn refused_first(backend: Backend, message: &Value, reason: Reason) {
    let rig = backend.start(token::demand);
    let mut client = rig.client();
    client.send(message);
    is_error(&client.message(), reason);
    assert_eq!(client.expect_close(1008), reason.close_text());
    rig.expect_end(reason);
}
