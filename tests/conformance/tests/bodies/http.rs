//! Plain HTTP beside WebSocket.

use mahavishnu_conformance::{Backend, post, token};
use serde_json::json;

pub(crate) fn health_tells_of_connections(backend: Backend) {
    let rig = backend.start(|_| {});
    let _clients = [rig.hello(), rig.hello()];
    let answer = rig.raw().get("/health");
    let health = answer.json();
    assert_eq!((answer.status, &health["status"]), (200, &json!("healthy")));
    assert_eq!(health["metrics"]["active_connections"], 2);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
}

pub(crate) fn ready_tells_whether_there_is_room(backend: Backend) {
    let rig = backend.start(|config| config.limits.connections.connections_max = 1);
    assert_eq!(rig.raw().get("/ready").status, 200);
    let client = rig.hello();
    let answer = rig.raw().get("/ready");
    assert_eq!((answer.status, &answer.json()["checks"]["capacity"]), (503, &json!("failing")));
    client.close();
    rig.until("room", || (rig.raw().get("/ready").status == 200).then_some(()));
}

pub(crate) fn metrics_are_on_their_own_port(backend: Backend) {
    let rig = backend.start(|_| {});
    let answer = rig.raw_metrics().get("/metrics");
    let text = if backend == Backend::Program {
        "# TYPE websocket_connections_active gauge\n"
    } else {
        "# nothing\n"
    };
    assert!(answer.status == 200 && answer.text().contains(text), "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert_eq!(rig.raw().get("/metrics").status, 404, "not on the main port");
    let handshake = mahavishnu_conformance::HANDSHAKE.as_bytes();
    assert_eq!(rig.raw_metrics().exchange(handshake).status, 404, "and no WebSocket there");
}

pub(crate) fn a_publish_by_http_reaches_subscribers(backend: Backend) {
    let rig = backend.start(|_| {});
    let mut client = rig.subscriber("a");
    let body = json!({ "channel": "a", "event": "done", "data": { "n": 1 } });
    let answer = rig.raw().exchange(&post(&[], &body));
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    assert_eq!(
        answer.json(),
        json!({ "status": "published", "published": 1, "subscribers": 1,
            "messages": [{ "channel": "a", "subscribers": 1 }] })
    );
    let event = client.message();
    assert_eq!((&event["event"], &event["room"]), (&json!("done"), &json!("a")));
}

pub(crate) fn a_batch_is_published_all_or_nothing(backend: Backend) {
    let rig = backend.start(|_| {});
    let mut client = rig.subscriber("a");
    let message =
        |channel: &str, n| json!({ "channel": channel, "event": "e", "data": { "n": n } });
    let batch = json!([message("a", 1), message("b", 2), message("a", 3)]);
    let answer = rig.raw().exchange(&post(&[], &batch)).json();
    assert_eq!((&answer["published"], &answer["subscribers"]), (&json!(3), &json!(2)));
    assert_eq!(client.numbers(2), [1, 3]);
    let batch = json!([message("a", 4), message("", 5)]);
    assert_eq!(rig.raw().exchange(&post(&[], &batch)).status, 400);
    client.expect_silence();
}

pub(crate) fn an_idempotency_key_publishes_once(backend: Backend) {
    let rig = backend.start(|_| {});
    let mut client = rig.subscriber("a");
    let body = json!({ "channel": "a", "event": "e", "data": { "n": 1 } });
    let request = post(&[("Idempotency-Key", "k")], &body);
    let answers = [rig.raw().exchange(&request), rig.raw().exchange(&request)];
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0].status, 200);
    assert_eq!(client.numbers(1), [1]);
    client.expect_silence();
}

pub(crate) fn publishing_by_http_needs_a_token_where_tokens_are_demanded(backend: Backend) {
    let rig = backend.start(token::demand);
    let body = json!({ "channel": "workflow:1", "event": "e" });
    let with = |token: &str| {
        let bearer = format!("Bearer {token}");
        rig.raw().exchange(&post(&[("Authorization", bearer.as_str())], &body)).status
    };
    let now = rig.unix();
    assert_eq!(rig.raw().exchange(&post(&[], &body)).status, 401);
    assert_eq!(with(&token::expired(now)), 401);
    assert_eq!(with(&token::good(now, "ada", &["workflow:read"])), 403);
    assert_eq!(with(&token::good(now, "ada", &["admin"])), 200);
}

pub(crate) fn requests_in_a_row_are_answered_in_a_row(backend: Backend) {
    let rig = backend.start(|_| {});
    let mut raw = rig.raw();
    let publish = |n: u32| post(&[], &json!({ "channel": format!("c:{n}"), "event": "e" }));
    raw.write(&(0..20).flat_map(publish).collect::<Vec<u8>>());
    for n in 0..20 {
        let answer = raw.response();
        assert_eq!(answer.json()["messages"][0]["channel"], format!("c:{n}"));
    }
    assert_eq!(raw.get("/health").status, 200);
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").into_bytes();
    raw.write(&[get("/health"), get("/none"), publish(0), get("/ready"), get("/ws")].concat());
    assert_eq!([(); 5].map(|()| raw.response().status), [200, 404, 200, 200, 426]);
}

pub(crate) fn head_is_answered_without_a_body(backend: Backend) {
    let rig = backend.start(|_| {});
    let mut raw = rig.raw();
    raw.write(b"HEAD /health HTTP/1.1\r\nHost: x\r\n\r\n");
    let answer = raw.response_head();
    assert_eq!(answer.status, 200);
    assert_ne!(answer.header("content-length"), Some("0"));
    assert_eq!(raw.get("/ready").status, 200, "the next answer follows at once");
}

/// RFC 9110 §10.1.1.
pub(crate) fn a_body_may_be_announced(backend: Backend) {
    let rig = backend.start(|_| {});
    let mut raw = rig.raw();
    let request = post(&[("Expect", "100-continue")], &json!({ "channel": "c", "event": "e" }));
    let body = request.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    raw.write(&request[..body]);
    assert!(raw.read_head().starts_with("HTTP/1.1 100 "));
    assert_eq!(raw.exchange(&request[body..]).status, 200);
}

/// RFC 9112 §7.1.
pub(crate) fn a_body_may_come_in_chunks(backend: Backend) {
    let rig = backend.start(|_| {});
    let body = json!({ "channel": "c", "event": "e" }).to_string();
    let (one, two) = body.split_at(7);
    let request = format!(
        "POST /publish HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
         Transfer-Encoding: chunked\r\n\r\n\
         7;a=b\r\n{one}\r\n{:X}\r\n{two}\r\n0\r\nX-Digest: 1\r\n\r\n",
        two.len()
    );
    let mut raw = rig.raw();
    assert_eq!(raw.exchange(request.as_bytes()).status, 200);
    for byte in request.as_bytes() {
        raw.write(&[*byte]);
    }
    assert_eq!(raw.response().status, 200, "byte by byte");
    assert_eq!(raw.get("/health").status, 200, "not a byte too many was taken");
}

/// Their answers are more than the server keeps for one that does not read.
pub(crate) fn requests_sent_ahead_wait_until_answers_are_read(backend: Backend) {
    let rig = backend.start(|_| {});
    let mut raw = rig.raw();
    raw.write(&b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n".repeat(2000));
    for _ in 0..2000 {
        assert_eq!(raw.response().status, 200);
    }
    assert_eq!(raw.get("/none").status, 404);
}
