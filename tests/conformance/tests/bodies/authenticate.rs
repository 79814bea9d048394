//! The application says whose a handshake, or a request over HTTP, is.

use std::time::Duration;

use mahavishnu_conformance::{
    Answer, App, Backend, Client, HANDSHAKE, Rig, Said, Setup, masked, op, post, token,
};
use mahavishnu_core::{
    config::Config,
    http::Request,
    hub::{Denial, RefusedBy},
    reason::Reason,
};
use serde_json::json;

const SHORT: Duration = Duration::from_millis(100);

/// Keys are in a header field. One is good for a channel, one for nothing, and a token may come instead of one.
fn by_key(request: &Request<()>) -> Answer<Said> {
    let key = request.headers().get("x-key").and_then(|key| key.to_str().ok());
    let said = match key {
        Some("good") => Said::Is("ada", "open"),
        Some("barred") => Said::No(Denial::Forbidden, RefusedBy::Status),
        Some("scripted") => Said::No(Denial::Forbidden, RefusedBy::Close),
        Some("later") => Said::No(Denial::Later, RefusedBy::Status),
        Some("panics") => Said::Panics,
        Some("never") => return None,
        Some("slow") => return Some((Duration::from_secs(1), Said::Is("ada", "open"))),
        Some(_) => Said::No(Denial::Unauthorized, RefusedBy::Status),
        None => Said::Pass,
    };
    Some((Duration::from_millis(10), said))
}

fn start(backend: Backend, change: impl FnOnce(&mut Config)) -> Rig {
    let app = App { authenticate: Some(by_key), ..App::default() };
    backend.start_with(Setup { app, ..Setup::new(change) })
}

fn with_key(rig: &Rig, key: &str) -> Client {
    Client::open(rig.connect(), "/", &[("X-Key", key)]).expect("a handshake")
}

pub(crate) fn the_application_says_whose_a_handshake_is(backend: Backend) {
    let rig = start(backend, |config| config.auth.required = true);
    let mut client = with_key(&rig, "good");
    assert_eq!(client.expect_welcome()["data"]["authenticated"], true);
    client.subscribe("open");
    let refused = client.request("subscribe", json!({ "channel": "secret" }));
    assert_eq!(refused["error_code"], "FORBIDDEN");
    assert_eq!(client.publish("open", "e", json!({ "n": 1 })), 1);
    assert_eq!(client.numbers(1), [1]);
}

pub(crate) fn an_application_that_says_nothing_leaves_it_to_tokens(backend: Backend) {
    let rig = start(backend, token::demand);
    let good = token::good(rig.unix(), "ada", &["admin"]);
    rig.login(&good).subscribe("global");
    let bearer = format!("Bearer {good}");
    let mut client = Client::open(rig.connect(), "/", &[("Authorization", &bearer)]).unwrap();
    assert_eq!(client.expect_welcome()["data"]["authenticated"], true);
    let bad = Client::open(rig.connect(), "/", &[("Authorization", "Bearer x.y.z")]);
    assert_eq!(bad.unwrap_err().status().as_u16(), 401);
    // What is said counts, and not the token that came along.
    let both = [("Authorization", "Bearer x.y.z"), ("X-Key", "good")];
    let mut client = Client::open(rig.connect(), "/", &both).unwrap();
    client.expect_welcome();
    client.subscribe("open");
    // And its user stays, whoever's token comes later.
    let other = token::good(rig.unix(), "eve", &["admin"]);
    let answer = client.request("refresh_token", json!({ "token": other }));
    assert_eq!(answer["error_code"], "AUTH_FAILED");
}

pub(crate) fn what_is_sent_before_it_is_known_whose_it_is_waits(backend: Backend) {
    let rig = start(backend, |_| {});
    let subscribe = json!({
        "type": "request", "event": "subscribe", "id": "1", "data": { "channel": "open" }
    });
    let frame = masked(op::TEXT, subscribe.to_string().as_bytes());
    let handshake = HANDSHAKE.replace("Host: test", "Host: test\r\nX-Key: good");
    let mut raw = rig.raw();
    raw.write(&[handshake.as_bytes(), &frame].concat());
    assert!(raw.read_head().starts_with("HTTP/1.1 101 "));
    assert_eq!(raw.json()["event"], "session.created");
    assert_eq!(raw.json()["data"], json!({ "status": "subscribed", "channel": "open" }));
}

pub(crate) fn an_application_that_cannot_say_is_asked_again_later(backend: Backend) {
    let rig = start(backend, |config| config.limits.requests.authenticate_timeout = SHORT);
    for key in ["never", "panics", "later"] {
        let mut client = with_key(&rig, key);
        assert_eq!(client.expect_close(1013), Reason::Undecided.row().text, "{key}");
    }
    let label = [("reason", Reason::Undecided.name())];
    rig.expect_count("mahavishnu_connections_closed_total", &label, 3);
    // Nobody has harmed anything.
    assert_eq!(rig.raw().get("/health").status, 200);
}

pub(crate) fn a_refusal_is_a_status_or_a_close(backend: Backend) {
    let rig = start(backend, |_| {});
    for (key, status, code) in [("nobody's", 401, "AUTH_FAILED"), ("barred", 403, "FORBIDDEN")] {
        let handshake = HANDSHAKE.replace("Host: test", &format!("Host: test\r\nX-Key: {key}"));
        let refused = rig.raw().exchange(handshake.as_bytes());
        assert_eq!((refused.status, &refused.json()["error_code"]), (status, &json!(code)));
    }
    let mut client = with_key(&rig, "scripted");
    client.expect_error("FORBIDDEN");
    assert_eq!(client.expect_close(1008), Reason::AccessDenied.row().text);
    drop(client);
    rig.expect_sockets(0);
}

pub(crate) fn the_application_says_whose_a_request_over_http_is(backend: Backend) {
    let rig = start(backend, |config| config.auth.required = true);
    let mut reader = with_key(&rig, "good");
    reader.expect_welcome();
    reader.subscribe("open");
    let body = |channel| json!({ "channel": channel, "event": "e", "data": { "n": 7 } });
    let publish =
        |key: &str, channel| rig.raw().exchange(&post(&[("X-Key", key)], &body(channel))).status;
    assert_eq!(publish("good", "open"), 200);
    assert_eq!(reader.numbers(1), [7]);
    assert_eq!(publish("good", "secret"), 403);
    assert_eq!(publish("nobody's", "open"), 401);
    assert_eq!(publish("scripted", "open"), 403);
    assert_eq!(publish("panics", "open"), 503);
    let read = |key: &str, channel: &str| {
        let head = format!(
            "GET /history?channel={channel} HTTP/1.1\r\nHost: test\r\nX-Key: {key}\r\n\r\n"
        );
        rig.raw().exchange(head.as_bytes()).status
    };
    assert_eq!((read("good", "open"), read("good", "secret")), (200, 403));
    assert_eq!((read("nobody's", "open"), read("later", "open")), (401, 503));
    // Nobody says anything, and then a token is required.
    assert_eq!(rig.raw().exchange(&post(&[], &body("open"))).status, 401);
    // What no permission decides on is not asked about.
    assert_eq!(rig.raw().get("/health").status, 200);
}

pub(crate) fn who_leaves_before_it_is_known_whose_it_is_leaves_nothing(backend: Backend) {
    let rig = start(backend, |config| config.limits.requests.authenticate_timeout = SHORT);
    for key in ["good", "never", "panics"] {
        let handshake = HANDSHAKE.replace("Host: test", &format!("Host: test\r\nX-Key: {key}"));
        let mut raw = rig.raw();
        raw.write(handshake.as_bytes());
        drop(raw);
    }
    rig.expect_sockets(0);
    rig.expect_count("websocket_connections_active", &[], 0);
}

pub(crate) fn a_server_that_stops_lets_nobody_in_who_was_asked_about(backend: Backend) {
    let rig = start(backend, |_| {});
    let handshake = HANDSHAKE.replace("Host: test", "Host: test\r\nX-Key: slow");
    let mut raw = rig.raw();
    raw.write(handshake.as_bytes());
    // It is asked about by then, and the answer is still to come.
    rig.pass(Duration::from_millis(300));
    rig.drain(mahavishnu_core::hub::DrainPlan::default());
    assert!(raw.read_head().starts_with("HTTP/1.1 101 "));
    let (code, _) = raw.close_frame().expect("a close frame");
    assert_eq!(code, 1001);
    drop(raw);
    rig.expect_drained();
}
