//! Tokens of live connections, who may revoke them, and pages that may not come.

use std::time::Duration;

use mahavishnu_conformance::{
    App, Backend, HANDSHAKE, OnAuthenticate, Response, Rig, Said, Setup, base, post, token,
};
use mahavishnu_core::{
    config::{Config, Hosts, Origin, Origins},
    hub::{Denial, RefusedBy},
    reason::Reason,
};
use serde_json::{Value, json};

use super::{answered, is_error};

/// A token with a second or two to live.
fn short(rig: &Rig) -> String {
    token::good(rig.unix() - Duration::from_secs(3_598), "ada", &["admin"])
}

fn revoke(rig: &Rig, permissions: &[&str], body: &Value) -> Response {
    order(rig, "/revoke", permissions, body)
}

fn disconnect(rig: &Rig, permissions: &[&str], body: &Value) -> Response {
    order(rig, "/disconnect", permissions, body)
}

fn order(rig: &Rig, path: &str, permissions: &[&str], body: &Value) -> Response {
    let bearer = format!("Bearer {}", token::good(rig.unix(), "root", permissions));
    let request = post(&[("Authorization", bearer.as_str())], body);
    let request = String::from_utf8(request).expect("text").replace("/publish", path);
    rig.raw().exchange(request.as_bytes())
}

pub(crate) fn token_expired(backend: Backend, reason: Reason) {
    let rig = backend.start(|config| {
        token::demand(config);
        config.limits.auth.token_grace = Duration::ZERO;
    });
    let mut client = rig.login(&short(&rig));
    assert_eq!(client.message()["event"], "session.token_expiring");
    assert_eq!(client.expect_close(1008), reason.row().text);
    rig.expect_told_end(reason);
}

pub(crate) fn token_stale(backend: Backend, reason: Reason) {
    let rig = backend.start(|config| {
        token::demand(config);
        config.limits.auth.token_warning = Duration::ZERO;
        config.limits.auth.token_grace = Duration::from_secs(60);
    });
    let mut client = rig.login(&short(&rig));
    rig.pass(Duration::from_millis(2_100));
    is_error(&client.request("subscribe", json!({ "channel": "global" })), reason);
    rig.expect_error_counted(reason);
    let fresh = token::good(rig.unix(), "ada", &["admin"]);
    let answer = client.request("refresh_token", json!({ "token": fresh }));
    assert_eq!(answer["data"]["status"], "refreshed");
    client.subscribe("global");
}

pub(crate) fn other_user(backend: Backend, reason: Reason) {
    let rig = backend.start(token::demand);
    let mut client = rig.login(&token::good(rig.unix(), "ada", &[]));
    let eve = token::good(rig.unix(), "eve", &["admin"]);
    is_error(&client.request("refresh_token", json!({ "token": eve })), reason);
    rig.expect_error_counted(reason);
    let refused = client.request("subscribe", json!({ "channel": "global" }));
    assert_eq!(refused["error_code"], "FORBIDDEN", "its old token counts");
}

pub(crate) fn token_revoked(backend: Backend, reason: Reason) {
    let rig = backend.start(token::demand);
    let ada = token::good(rig.unix(), "ada", &["workflow:read"]);
    let mut client = rig.login(&ada);
    let answer = revoke(&rig, &["admin"], &json!({ "user": "ada" }));
    assert_eq!(answer.json(), json!({ "status": "revoked", "closed": 1 }));
    assert_eq!(client.expect_close(1008), reason.row().text);
    rig.expect_told_end(reason);
    let refused = rig.client().request("auth", json!({ "token": ada }));
    assert_eq!(refused["error_code"], "AUTH_FAILED", "{refused}");
}

pub(crate) fn revoke_forbidden(backend: Backend, reason: Reason) {
    let rig = backend.start(token::demand);
    answered(&revoke(&rig, &["write", "workflow:read"], &json!({ "user": "ada" })), reason);
    rig.expect_error_counted(reason);
}

pub(crate) fn bad_revocation(backend: Backend, reason: Reason) {
    let rig = backend.start(token::demand);
    answered(&revoke(&rig, &["admin"], &json!({})), reason);
    rig.expect_error_counted(reason);
    answered(&revoke(&rig, &["admin"], &json!({ "usr": "ada" })), reason);
}

pub(crate) fn revocations_full(backend: Backend, reason: Reason) {
    let rig = backend.start(|config| {
        token::demand(config);
        config.limits.revocations.revocations_max = 1;
    });
    assert_eq!(revoke(&rig, &["admin"], &json!({ "user": "ada" })).status, 200);
    answered(&revoke(&rig, &["admin"], &json!({ "user": "eve" })), reason);
    rig.expect_error_counted(reason);
}

pub(crate) fn operators_only(backend: Backend, reason: Reason) {
    let rig = backend.start(token::demand);
    let mut client = rig.login(&token::good(rig.unix(), "ada", &[]));
    let user = json!({ "user": "ada" });
    answered(&disconnect(&rig, &["write", "workflow:read"], &user), reason);
    rig.expect_error_counted(reason);

    let root = token::good(rig.unix(), "root", &["admin"]);
    let head = format!("HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {root}\r\n\r\n");
    let listed = rig.raw().exchange(format!("GET /connections?user=ada {head}").as_bytes());
    assert_eq!((listed.status, &listed.json()["total"]), (200, &json!(1)));
    assert_eq!(listed.json()["complete"], true);

    let answer = disconnect(&rig, &["admin"], &user);
    assert_eq!(answer.json(), json!({ "status": "disconnected", "closed": 1 }));
    assert_eq!(client.expect_close(1008), Reason::Disconnected.row().text);
    drop(rig.login(&token::good(rig.unix(), "ada", &[])));
}

pub(crate) fn bad_disconnect(backend: Backend, reason: Reason) {
    let rig = backend.start(token::demand);
    answered(&disconnect(&rig, &["admin"], &json!({})), reason);
    rig.expect_error_counted(reason);
    answered(&disconnect(&rig, &["admin"], &json!({ "connection_id": "ada" })), reason);
}

/// A reload takes the key away that the connection's token was signed with.
pub(crate) fn key_removed(backend: Backend, reason: Reason) {
    let rig = backend.start(token::demand);
    let mut client = rig.login(&token::good(rig.unix(), "ada", &[]));
    let mut config: Config = base();
    config.auth.required = true;
    let other = b"aW3xK9vB5nM1qP7tR2yU8iO4eL6hJ0gS";
    config.auth.keys.add_secret(None, other).expect("a good secret");
    config.auth.end_removed_keys = true;
    rig.reload(config);
    assert_eq!(client.expect_close(1008), reason.row().text);
    rig.expect_told_end(reason);
}

/// By a name that a web page has pointed here.
pub(crate) fn host_forbidden(backend: Backend, reason: Reason) {
    let rig = backend.start_with(Setup {
        settings: vec![("ALLOWED_HOSTS", "ws.example")],
        ..Setup::new(|config| config.hosts = Hosts::Only(vec!["ws.example".into()]))
    });
    let by = |host: &str| {
        let (before, field) = HANDSHAKE.split_once("Host: ").expect("it has a host");
        let (_, rest) = field.split_once("\r\n").expect("the line ends");
        format!("{before}Host: {host}\r\n{rest}")
    };
    answered(&rig.raw().exchange(by("evil.example").as_bytes()), reason);
    rig.expect_error_counted(reason);
    for evil in ["ws.example.evil.example", "localhost.evil.example"] {
        answered(&rig.raw().exchange(by(evil).as_bytes()), reason);
        let read = format!("GET /health HTTP/1.1\r\nHost: {evil}\r\n\r\n");
        answered(&rig.raw().exchange(read.as_bytes()), reason);
    }
    for own in ["ws.example", "WS.example:443", "localhost:8686", "127.0.0.1", "[::1]:1"] {
        let mut raw = rig.raw();
        raw.write(by(own).as_bytes());
        assert!(raw.read_head().starts_with("HTTP/1.1 101 "), "{own}");
    }
}

pub(crate) fn origin_forbidden(backend: Backend, reason: Reason) {
    let rig = backend.start_with(Setup {
        settings: vec![("ALLOWED_ORIGINS", "https://app.example")],
        ..Setup::new(|config| {
            let origin = Origin::parse("https://app.example").expect("an origin");
            config.origins = Origins::Only(vec![origin]);
        })
    });
    let from = |origin: &str| {
        let field = format!("Version: 13\r\nOrigin: {origin}");
        HANDSHAKE.replace("Version: 13", &field)
    };
    answered(&rig.raw().exchange(from("https://evil.example").as_bytes()), reason);
    rig.expect_error_counted(reason);
    let mut raw = rig.raw();
    raw.write(from("https://app.example").as_bytes());
    assert!(raw.read_head().starts_with("HTTP/1.1 101 "));
    rig.hello().expect_silence();
}

/// A server whose application says this of everybody.
fn saying(backend: Backend, says: OnAuthenticate) -> Rig {
    let app = App { authenticate: Some(says), ..App::default() };
    backend.start_with(Setup { app, ..Setup::new(|_| {}) })
}

fn refused_by_the_application(rig: &Rig, reason: Reason) {
    answered(&rig.raw().exchange(HANDSHAKE.as_bytes()), reason);
    rig.expect_error_counted(reason);
    let publish = post(&[], &json!({ "channel": "c", "event": "e" }));
    answered(&rig.raw().exchange(&publish), reason);
}

pub(crate) fn unauthorized(backend: Backend, reason: Reason) {
    let says: OnAuthenticate =
        |_| Some((Duration::ZERO, Said::No(Denial::Unauthorized, RefusedBy::Status)));
    refused_by_the_application(&saying(backend, says), reason);
}

pub(crate) fn access_denied(backend: Backend, reason: Reason) {
    let says: OnAuthenticate =
        |_| Some((Duration::ZERO, Said::No(Denial::Forbidden, RefusedBy::Status)));
    refused_by_the_application(&saying(backend, says), reason);
}

pub(crate) fn undecided(backend: Backend, reason: Reason) {
    let rig = saying(backend, |_| Some((Duration::ZERO, Said::Panics)));
    assert_eq!(rig.client().expect_close(1013), reason.row().text);
    rig.expect_end(reason);
    let publish = post(&[], &json!({ "channel": "c", "event": "e" }));
    answered(&rig.raw().exchange(&publish), reason);
}
