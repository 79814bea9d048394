//! Reasons that take the program itself: its own limits, which no setting makes small, and reloads. All others are
//! provoked on it by the conformance suite, which lists these as not applicable.

use mahavishnu_core::reason::{Counted, Reason};
use mahavishnu_tests::{
    Client, Raw, Server,
    certs::Authority,
    http,
    raw::{masked, op},
    token,
    token::OTHER_SECRET,
    wait::until,
};
use serde_json::{Value, json};

/// All sockets are clients' own: nobody can be given up. Fewer connections after a reload than there are bring that about.
#[test]
fn max_sockets() {
    let server = Server::with(&[("SHARDS", "1")]);
    let clients: Vec<Client> = (0..210).map(|_| server.hello()).collect();
    // Metrics cannot be asked while no socket is free: it says itself what became of the reload.
    server.write_env_file("MAHAVISHNU_MAX_CONNECTIONS=1\n");
    assert_eq!(server.run(&["websocket", "reload"]).code, Some(0));
    let mut last = server.raw();
    assert_eq!(last.read_to_end(), b"");
    drop(clients);
    // Asking too early is refused and counted as well.
    until("a free socket", || http::try_get(server.address(), "/health").ok());
    server.metrics_when("the errors", |metrics| metrics.connection_errors("max_sockets") >= 1);
}

/// More sockets than there are places, none of which says a word, and then a client.
#[test]
fn made_room() {
    let server = Server::with(&[("SHARDS", "1"), ("MAX_CONNECTIONS", "1")]);
    let mut sockets: Vec<Raw> = (0..300).map(|_| server.raw()).collect();
    let _client = server.hello();
    assert_eq!(sockets[0].read_to_end(), b"", "the first one had to go");
    server.metrics_when("the errors", |metrics| metrics.connection_errors("made_room") >= 100);
}

#[test]
fn outboxes_full() {
    let reason = Reason::OutboxesFull;
    let server = Server::with(&[&SMALL[..], &[("OUTBOX_BYTES", "67108864")]].concat());
    let mut raw = sleeper(&server);
    let data = json!({ "filler": "x".repeat(900_000) });
    while server.post("c", "e", &data) == 1 {}
    ended(&server, reason);
    assert_eq!(raw.close_frame().map(|(code, _)| code), reason.row().close);
}

#[test]
fn input_full() {
    let reason = Reason::InputFull;
    let server = Server::with(&[&SMALL[..], &[("MAX_MESSAGE_BYTES", "16777216")]].concat());
    let mut raw = server.raw_hello();
    raw.write(&masked(op::TEXT, &vec![b'x'; 10 << 20])[..8 << 20]);
    ended(&server, reason);
    assert_eq!(raw.close_frame().map(|(code, _)| code), reason.row().close);
}

#[test]
fn too_many_channels() {
    let reason = Reason::TooManyChannels;
    let server = Server::with(&[("SHARDS", "1"), ("MESSAGE_RATE_LIMIT", "0")]);
    let mut raw = server.raw_hello();
    subscribe_many(&mut raw, 0, 1_000);
    raw.send(op::TEXT, br#"{"type":"subscribe","data":{"channel":"one:more"}}"#);
    is_error(&raw.frame().expect("an answer").json(), reason);
    counted(&server, reason);
}

/// As many connections from `source`, with a thousand channels each, named from `first` on.
fn holders(server: &Server, source: &str, first: usize, count: usize) -> Vec<Raw> {
    let hold = |holder| {
        let mut raw = Raw::hello_from(source, server.address());
        subscribe_many(&mut raw, holder, 1_000);
        raw
    };
    (first..first + count).map(hold).collect()
}

/// One address has all channels but those for who has few; the operator is told which.
#[test]
fn channels_share() {
    let reason = Reason::ChannelsShare;
    let server = Server::with(&[("SHARDS", "1"), ("MESSAGE_RATE_LIMIT", "0")]);
    let _holders = holders(&server, "127.0.0.1", 0, 90);
    // A connection of its own does no better: it is the address that has them.
    let mut raw = server.raw_hello();
    for n in 0..3 {
        let subscribe = format!(r#"{{"type":"subscribe","data":{{"channel":"one:more:{n}"}}}}"#);
        raw.send(op::TEXT, subscribe.as_bytes());
        is_error(&raw.frame().expect("an answer").json(), reason);
    }
    server.metrics_when("the errors", |metrics| metrics.message_errors("channels_share") == 3);
    let mut other = Raw::hello_from("127.0.0.2", server.address());
    other.subscribe("one:more");
    until("a word to the operator", || server.log().contains("to who has many").then_some(()));
    assert_eq!(server.log().matches("to who has many").count(), 1, "{}", server.log());
    server.expect_log("127.0.0.1");
}

/// The server holds 100,000 channels: a hundred connections with a thousand each, of several addresses.
#[test]
fn channels_full() {
    let reason = Reason::ChannelsFull;
    let server = Server::with(&[("SHARDS", "1"), ("MESSAGE_RATE_LIMIT", "0")]);
    let mut all = holders(&server, "127.0.0.1", 0, 90);
    for n in 0..10 {
        all.extend(holders(&server, &format!("127.0.1.{}", n + 1), 90 + n, 1));
    }
    let mut client = server.hello();
    is_error(&client.request("subscribe", json!({ "channel": "one:more" })), reason);
    client.subscribe("c:0:0");
    counted(&server, reason);
}

/// As many as the default allows begin a handshake, and one more.
#[test]
fn tls_handshakes_max() {
    let reason = Reason::TlsHandshakesMax;
    let dir = tempfile::tempdir().unwrap();
    let files = Authority::new(dir.path(), "root").server("server");
    let server = Server::with(&[&files.settings()[..], &[("SHARDS", "1")]].concat());
    let begin = || {
        let mut raw = server.raw();
        raw.write(&[22]);
        raw
    };
    let mut begun: Vec<Raw> = (0..1_001).map(|_| begin()).collect();
    // The one that began first makes room: with an alert, if anything.
    assert!([0, 7].contains(&begun[0].read_to_end().len()));
    counted(&server, reason);
}

/// Ten seconds after its first byte a head must be complete.
#[test]
fn head_timeout() {
    let reason = Reason::HeadTimeout;
    let server = Server::start();
    let mut connection = server.raw();
    connection.write(b"GET /health HTT");
    let answer = connection.response();
    assert_eq!(
        (Some(answer.status), &answer.json()["error_code"]),
        (reason.row().status, &json!(reason.name()))
    );
    connection.expect_end();
    counted(&server, reason);
}

/// Five seconds after its close frame the server has waited long enough for ours.
#[test]
fn close_timeout() {
    let server = Server::with_auth(&[]);
    let mut raw = server.raw_upgraded();
    raw.send(op::TEXT, b"{\"type\":\"ack\"}");
    assert_eq!(raw.close_frame().map(|(code, _)| code), Some(1008));
    assert_eq!(raw.read_to_end(), b"", "the end of the stream, although nothing was answered");
}

#[test]
fn key_removed() {
    let reason = Reason::KeyRemoved;
    let server = Server::with_auth(&[("JWT_END_REMOVED_KEYS", "true")]);
    server.reload(&format!("MAHAVISHNU_JWT_KEYS=a:{OTHER_SECRET}\n"));
    let claims = token::claims("ada", &[]);
    let mut old = server.login(&token::sign_with(OTHER_SECRET, Some("a"), &claims));
    let mut other = server.login(&token::of("eve", &[]));
    server.reload("");
    assert_eq!(old.expect_close(1008), reason.row().text);
    other.expect_silence();
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

/// A subscriber that does not read by itself.
fn sleeper(server: &Server) -> Raw {
    let mut raw = server.raw_narrow(4_096);
    raw.frame();
    raw.send(op::TEXT, br#"{"type":"subscribe","data":{"channel":"c"}}"#);
    raw.frame();
    raw
}

/// Waits until one WebSocket connection has ended for this reason, and is counted.
fn ended(server: &Server, reason: Reason) {
    let label = [("reason", reason.name())];
    server.metrics_when(&format!("an end by {}", reason.name()), |metrics| {
        metrics.count("mahavishnu_connections_closed_total", &label) == 1
    });
    counted(server, reason);
}

/// Waits until the reason's error is counted once.
fn counted(server: &Server, reason: Reason) {
    server.metrics_when(&format!("one error by {}", reason.name()), |metrics| {
        1 == match reason.row().counted {
            Counted::Connection(label) => metrics.connection_errors(label),
            Counted::Message(label) => metrics.message_errors(label),
            Counted::No => 1,
        }
    });
}

/// Panics unless this is the error message that the reason stands for.
fn is_error(message: &Value, reason: Reason) {
    assert_eq!(message["error_code"].as_str(), reason.row().code, "{message}");
    let text = message["error_message"].as_str().unwrap_or_default();
    assert!(text.starts_with(reason.row().text), "{message}");
}

/// Of 64 MiB about 10 MiB are for slow readers, and 4 MiB for what is not complete.
const SMALL: [(&str, &str); 2] = [("MEMORY_LIMIT", "64M"), ("SHARDS", "1")];
