//! Clients that read too slowly, or not at all, beside one that reads.

use std::sync::atomic::{AtomicBool, Ordering};

use mahavishnu_tests::{
    Raw, Server,
    raw::{masked, op},
};
use serde_json::{Value, json};

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

/// Reads text messages until one has this number.
fn read_until(raw: &mut Raw, last: u64) -> Vec<Value> {
    let mut messages = Vec::new();
    loop {
        let frame = raw.frame().expect("a message");
        if frame.first != op::TEXT {
            continue;
        }
        let message = frame.json();
        let done = message["data"]["n"] == last;
        messages.push(message);
        if done {
            return messages;
        }
    }
}

fn numbers(messages: &[Value]) -> Vec<u64> {
    messages.iter().filter_map(|message| message["data"]["n"].as_u64()).collect()
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
fn with_gap_a_slow_reader_is_told_what_it_missed_and_stays() {
    let server = server("gap");
    let mut sleeper = sleeper(&server, "pool:1");
    flood(&server, "pool:1", 0..300);
    let over = AtomicBool::new(false);
    let heard = std::thread::scope(|scope| {
        // Until there is room again these are lost too; then one shows that the connection goes on.
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                flood(&server, "pool:1", 300..301);
            }
        });
        let heard = read_until(&mut sleeper, 300);
        over.store(true, Ordering::Relaxed);
        heard
    });
    assert_eq!(server.metrics().active(), 1);
    let got = numbers(&heard);
    let gap: Vec<&Value> =
        heard.iter().filter(|message| message["event"] == "channel.gap").collect();
    assert!(!gap.is_empty(), "no gap was announced in {got:?}");
    assert_eq!(gap[0]["room"], "pool:1");
    let lost: u64 = gap.iter().map(|gap| gap["data"]["lost"].as_u64().expect("a number")).sum();
    let before: Vec<u64> = got.iter().copied().filter(|n| *n < 300).collect();
    assert!(before.windows(2).all(|pair| pair[0] < pair[1]), "in order, once each: {before:?}");
    assert!(lost >= 300 - before.len() as u64, "{lost} lost, {} received", before.len());
    assert!(lost > 0 && before.len() < 300);
}

#[test]
fn with_latest_a_slow_reader_gets_the_newest_message() {
    let server = server("latest");
    let mut sleeper = sleeper(&server, "pool:1");
    flood(&server, "pool:1", 0..300);
    let got = numbers(&read_until(&mut sleeper, 299));
    assert!(got.windows(2).all(|pair| pair[0] < pair[1]), "in order: {got:?}");
    assert!(got.len() < 300, "older ones were replaced");
    assert_eq!(server.metrics().active(), 1);
    flood(&server, "pool:1", 300..301);
    read_until(&mut sleeper, 300);
}

#[test]
fn the_policy_is_chosen_by_channel() {
    let server = Server::with(&[
        ("MESSAGE_RATE_LIMIT", "0"),
        ("OUTBOX_BYTES", "131072"),
        ("MAX_MESSAGE_BYTES", "131072"),
        ("SLOW_READER_RULES", "pool:*=latest"),
        // Sleepers answer no pings, and a busy machine may take longer than that.
        ("PING_INTERVAL", "0"),
    ]);
    let mut latest = sleeper(&server, "pool:1");
    let mut closed = sleeper(&server, "global");
    flood(&server, "pool:1", 0..300);
    flood(&server, "global", 0..300);
    server.metrics_when("one disconnect", |metrics| {
        metrics.connection_errors("slow_reader") == 1 && metrics.active() == 1
    });
    read_until(&mut latest, 299);
    assert_eq!(closed.close_frame().map(|(code, _)| code), Some(1013));
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
