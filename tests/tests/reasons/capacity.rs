//! What is full, too fast or over.

use mahavishnu_core::reason::Reason;
use mahavishnu_tests::{
    Client, Raw, Server, http,
    raw::{masked, op},
    token, wait,
};
use rustix::process::Signal;
use serde_json::json;

use super::{counted, ended};

pub(super) fn shutdown(reason: Reason) {
    let mut server = Server::start();
    let mut client = server.hello();
    server.signal(Signal::TERM);
    assert_eq!(client.expect_close(1001), reason.row().text);
    drop(client);
    server.wait();
}

pub(super) fn max_connections(reason: Reason) {
    let server = Server::with(&[("SHARDS", "1"), ("MAX_CONNECTIONS", "1")]);
    let _first = server.hello();
    assert_eq!(server.client().expect_close(1013), reason.row().text);
    counted(&server, reason);
}

pub(super) fn connect_rate(reason: Reason) {
    let server =
        Server::with(&[("SHARDS", "1"), ("RATE_LIMIT", "1"), ("RATE_LIMIT_LOOPBACK", "true")]);
    let _first = server.hello();
    assert_eq!(server.client().expect_close(1013), reason.row().text);
    counted(&server, reason);
}

pub(super) fn address_connections(reason: Reason) {
    let limits = [("MAX_CONNECTIONS_PER_ADDRESS", "1"), ("RATE_LIMIT_LOOPBACK", "true")];
    let server = Server::with(&[&[("SHARDS", "1")], &limits[..]].concat());
    let _first = server.hello();
    assert_eq!(server.client().expect_close(1013), reason.row().text);
    counted(&server, reason);
    // With several shards the second may be known first: one of them goes.
    let server = Server::with(&[&[("SHARDS", "3")], &limits[..]].concat());
    let _clients = [server.client(), server.client()];
    counted(&server, reason);
}

pub(super) fn user_connections(reason: Reason) {
    let token = token::of("ada", &["admin"]);
    let auth = json!({ "type": "request", "event": "auth", "data": { "token": token } });
    let limit = ("MAX_CONNECTIONS_PER_USER", "1");
    let server = Server::with_auth(&[("SHARDS", "1"), limit]);
    let _first = server.login(&token);
    let mut second = server.client();
    second.send(&auth);
    assert_eq!(second.wait_close(1013), reason.row().text);
    counted(&server, reason);
    let server = Server::with_auth(&[("SHARDS", "3"), limit]);
    let mut clients = [server.client(), server.client()];
    clients.iter_mut().for_each(|client| client.send(&auth));
    counted(&server, reason);
}

/// All sockets are clients' own: nobody can be given up. Fewer connections after a reload than there are bring that about.
pub(super) fn max_sockets(_: Reason) {
    let server = Server::with(&[("SHARDS", "1")]);
    let clients: Vec<Client> = (0..210).map(|_| server.hello()).collect();
    server.write_env_file("MAHAVISHNU_MAX_CONNECTIONS=1\n");
    assert_eq!(server.run(&["websocket", "reload"]).code, Some(0));
    let mut last = server.raw();
    assert_eq!(last.read_to_end(), b"");
    drop(clients);
    // Metrics cannot be asked while no socket is free, and asking too early is refused and counted as well.
    wait::until("a free socket", || http::try_get(server.address(), "/health").ok());
    server.metrics_when("the errors", |metrics| metrics.connection_errors("max_sockets") >= 1);
}

/// More sockets than there are places, none of which says a word, and then a client.
pub(super) fn made_room(_: Reason) {
    let server = Server::with(&[("SHARDS", "1"), ("MAX_CONNECTIONS", "1")]);
    let mut sockets: Vec<Raw> = (0..300).map(|_| server.raw()).collect();
    let _client = server.hello();
    assert_eq!(sockets[0].read_to_end(), b"", "the first one had to go");
    server.metrics_when("the errors", |metrics| metrics.connection_errors("made_room") >= 100);
}

/// What is queued for a client that does not read, and then is gone, was not sent.
pub(super) fn send_failed(_: Reason) {
    let server = Server::with(&[("OUTBOX_BYTES", "67108864")]);
    let raw = sleeper(&server);
    let data = json!({ "filler": "x".repeat(900_000) });
    for _ in 0..16 {
        assert_eq!(server.post("c", "e", &data), 1);
    }
    raw.reset();
    server.metrics_when("the errors", |metrics| metrics.message_errors("send_failed") > 0);
}

pub(super) fn slow_reader(reason: Reason) {
    let server = Server::with(&[("OUTBOX_BYTES", "65536"), ("MAX_MESSAGE_BYTES", "65536")]);
    let mut raw = sleeper(&server);
    let data = json!({ "filler": "x".repeat(32 * 1024) });
    while server.post("c", "e", &data) == 1 {}
    ended(&server, reason);
    assert_eq!(raw.close_frame().map(|(code, _)| code), reason.row().close);
}

/// Of 64 MiB about 16 MiB are for slow readers, and 5 MiB for what is not complete.
const SMALL: [(&str, &str); 2] = [("MEMORY_LIMIT", "64M"), ("SHARDS", "1")];

pub(super) fn outboxes_full(reason: Reason) {
    let server = Server::with(&[&SMALL[..], &[("OUTBOX_BYTES", "67108864")]].concat());
    let mut raw = sleeper(&server);
    let data = json!({ "filler": "x".repeat(900_000) });
    while server.post("c", "e", &data) == 1 {}
    ended(&server, reason);
    assert_eq!(raw.close_frame().map(|(code, _)| code), reason.row().close);
}

pub(super) fn input_full(reason: Reason) {
    let server = Server::with(&[&SMALL[..], &[("MAX_MESSAGE_BYTES", "16777216")]].concat());
    let mut raw = server.raw_hello();
    raw.write(&masked(op::TEXT, &vec![b'x'; 10 << 20])[..8 << 20]);
    ended(&server, reason);
    assert_eq!(raw.close_frame().map(|(code, _)| code), reason.row().close);
}

/// A subscriber that does not read by itself.
fn sleeper(server: &Server) -> Raw {
    let mut raw = server.raw_narrow(4_096);
    raw.frame();
    raw.send(op::TEXT, br#"{"type":"subscribe","data":{"channel":"c"}}"#);
    raw.frame();
    raw
}
