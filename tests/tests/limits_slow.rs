//! Clients that read too slowly, or not at all, beside one that reads.

use mahavishnu_tests::{
    Raw, Server,
    raw::{masked, op},
};
use serde_json::json;

/// A small receive buffer, so that little of a flood is hidden in the kernel.
const RECEIVE_BUFFER: usize = 8 * 1024;

fn server(policy: &str) -> Server {
    Server::with(&[
        ("MESSAGE_RATE_LIMIT", "0"),
        ("SLOW_READER", policy),
        ("OUTBOX_BYTES", "131072"),
        ("MAX_MESSAGE_BYTES", "131072"),
        ("DRAIN_TIMEOUT", "1"),
    ])
}

/// A subscriber of `channel` that does not read by itself.
fn sleeper(server: &Server, channel: &str) -> Raw {
    let mut raw = server.raw_narrow(RECEIVE_BUFFER);
    raw.frame().expect("a welcome");
    let subscribe = json!({ "type": "request", "id": "s", "event": "subscribe", "data": { "channel": channel } });
    raw.send(op::TEXT, subscribe.to_string().as_bytes());
    assert_eq!(raw.frame().expect("an answer").json()["data"]["status"], "subscribed");
    raw
}

/// Publishes 32 KiB messages with numbers from `from` on.
fn flood(server: &Server, channel: &str, numbers: std::ops::Range<u64>) {
    let filler = "x".repeat(32 * 1024);
    for n in numbers {
        server.post(channel, "flood", &json!({ "n": n, "filler": filler }));
    }
}

#[test]
fn a_reader_that_stops_reading_is_disconnected_and_the_others_notice_nothing() {
    let server = server("disconnect");
    let mut sleeper = sleeper(&server, "pool:1");
    let mut reader = server.hello();
    reader.subscribe("pool:1");
    std::thread::scope(|scope| {
        scope.spawn(|| flood(&server, "pool:1", 0..300));
        for n in 0..300 {
            assert_eq!(reader.message()["data"]["n"], n);
        }
    });
    let metrics =
        server.metrics_when("the error", |metrics| metrics.connection_errors("slow_reader") == 1);
    assert_eq!(metrics.active(), 1);
    assert_eq!(
        sleeper.close_frame(),
        Some((1013, "Reading too slowly".into())),
        "a code that says: come back"
    );
    reader.expect_silence();
}

#[test]
fn one_message_larger_than_the_outbox_harms_nobody() {
    let server = Server::with(&[("OUTBOX_BYTES", "65536")]);
    let mut reader = server.hello();
    reader.subscribe("pool:1");
    let big = json!({ "x": "x".repeat(500_000) });
    server.post("pool:1", "e", &big);
    let mut other = server.hello();
    other.subscribe("pool:2");
    assert_eq!(server.post("pool:2", "e", &json!({})), 1);
    assert_eq!(other.message()["room"], "pool:2");
}

#[test]
fn a_client_that_never_reads_its_answers_cannot_make_more_of_them() {
    let server = Server::with(&[("MESSAGE_RATE_LIMIT", "0")]);
    let mut raw = server.raw_narrow(RECEIVE_BUFFER);
    let before = server.rss();
    let message = masked(
        op::TEXT,
        &json!({ "type": "ping", "id": "x".repeat(200) }).to_string().into_bytes(),
    );
    let written = raw.write_until_stuck(&message.repeat(100));
    assert!(written < 64 << 20, "{written} bytes were taken from a client that reads none");
    let grown = server.rss().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes more");
    server.hello().expect_silence();
    assert_eq!(raw.frame().unwrap().json()["event"], "session.created");
    for _ in 0..1_000 {
        assert_eq!(raw.frame().unwrap().json()["type"], "pong", "reading sets it going again");
    }
}

#[test]
fn a_slow_reader_does_not_hold_up_a_stop() {
    let mut server = server("gap");
    let _sleeper = sleeper(&server, "pool:1");
    flood(&server, "pool:1", 0..100);
    assert_eq!(server.terminate().code(), Some(0));
}
