//! What is full, or too fast.

use mahavishnu_conformance::{App, Backend, Raw, Setup, masked, op, token};
use mahavishnu_core::{config::Config, reason::Reason};
use serde_json::json;

use super::{is_close, is_error};

pub(crate) fn max_connections(backend: Backend, reason: Reason) {
    let rig = backend.start(|config| config.limits.connections.connections_max = 1);
    let _first = rig.hello();
    is_close(Raw::upgrade(rig.connect()).close_frame(), reason);
    rig.expect_error_counted(reason);
}

pub(crate) fn connect_rate(backend: Backend, reason: Reason) {
    let rig = backend.start(|config| {
        config.limits.connections.connects_per_minute = Some(1);
        config.limits.connections.connects_limit_loopback = true;
    });
    let _first = rig.hello();
    is_close(Raw::upgrade(rig.connect()).close_frame(), reason);
    rig.expect_error_counted(reason);
}

pub(crate) fn max_sockets(backend: Backend, reason: Reason) {
    let rig = backend.start(|config| config.limits.connections.sockets_max = 2);
    let _held = [rig.hello(), rig.hello()];
    assert_eq!(rig.raw().read_to_end(), b"", "dropped before a byte is read");
    rig.expect_error_counted(reason);
}

pub(crate) fn made_room(backend: Backend, reason: Reason) {
    let rig = backend.start(|config| config.limits.connections.sockets_max = 2);
    let (mut silent, _other) = (rig.raw(), rig.hello());
    rig.expect_sockets(2);
    let _newcomer = rig.hello();
    assert_eq!(silent.read_to_end(), b"");
    rig.expect_error_counted(reason);
}

pub(crate) fn address_connections(backend: Backend, reason: Reason) {
    let rig = backend.start(|config| {
        config.limits.connections.connections_per_address_max = Some(2);
        config.limits.connections.connects_limit_loopback = true;
    });
    let (first, _second) = (rig.hello(), rig.hello());
    is_close(Raw::upgrade(rig.connect()).close_frame(), reason);
    rig.expect_error_counted(reason);
    first.close();
    rig.expect_sockets(1);
    rig.hello().expect_silence();
}

pub(crate) fn user_connections(backend: Backend, reason: Reason) {
    let rig = backend.start(|config| {
        token::demand(config);
        config.limits.connections.connections_per_user_max = Some(1);
    });
    let [ada, eve] = ["ada", "eve"].map(|user| token::good(rig.unix(), user, &[]));
    let _first = rig.login(&ada);
    let mut second = rig.client();
    second.ask("auth", json!({ "token": ada }));
    second.wait_close(1013);
    rig.expect_error_counted(reason);
    rig.login(&eve).expect_silence();
    // On several shards the second may be known first: one of them goes.
    let rig = backend.start_with(Setup {
        shards: 3,
        ..Setup::new(|config| {
            token::demand(config);
            config.limits.connections.connections_per_user_max = Some(1);
        })
    });
    let mut rivals = [rig.client(), rig.client()];
    rivals.iter_mut().for_each(|client| _ = client.ask("auth", json!({ "token": ada })));
    rig.expect_error_counted(reason);
}

pub(crate) fn slow_reader(backend: Backend, reason: Reason) {
    stop_reading(backend, reason, |config| config.limits.delivery.outbox_bytes_max = 65_536);
}

pub(crate) fn outboxes_full(backend: Backend, reason: Reason) {
    stop_reading(backend, reason, |config| config.limits.delivery.queued_bytes_max = 65_536);
}

/// Broadcasts to a subscriber that does not read, until it is closed for that.
fn stop_reading(backend: Backend, reason: Reason, limit: impl FnOnce(&mut Config)) {
    let rig = backend.start(limit);
    let mut raw = Raw::hello(rig.connect_narrow(4_096));
    raw.subscribe("c");
    let data = json!({ "filler": "x".repeat(32 * 1024) });
    while rig.broadcast("c", &data) == 1 {}
    is_close(raw.close_frame(), reason);
    rig.expect_told_end(reason);
}

pub(crate) fn input_full(backend: Backend, reason: Reason) {
    let rig = backend.start(|config| config.limits.connections.partial_bytes_max = 100_000);
    let whole = masked(op::TEXT, &[b'x'; 200_000]);
    let mut raw = rig.raw_hello();
    raw.write(&whole[..150_000]);
    is_close(raw.close_frame(), reason);
    rig.expect_told_end(reason);
    // A request that is not complete has no connection to close.
    let mut raw = rig.raw();
    raw.write(b"POST /publish HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n");
    raw.write(&[b' '; 150_000]);
    assert_eq!(Some(raw.response().status), reason.row().status);
}

pub(crate) fn channels_full(backend: Backend, reason: Reason) {
    let rig = backend.start(|config| config.limits.channels.channels_max = 2);
    let mut client = rig.hello();
    client.subscribe("a");
    client.subscribe("b");
    is_error(&client.request("subscribe", json!({ "channel": "c" })), reason);
    rig.expect_error_counted(reason);
}

pub(crate) fn channels_share(backend: Backend, reason: Reason) {
    let rig = backend.start(|config| {
        config.limits.channels.channels_max = 10;
        config.limits.channels.channels_share_max = 1;
    });
    let mut client = rig.hello();
    for n in 0..9 {
        client.subscribe(&format!("c{n}"));
    }
    is_error(&client.request("subscribe", json!({ "channel": "c" })), reason);
    rig.expect_error_counted(reason);
}

pub(crate) fn too_many_channels(backend: Backend, reason: Reason) {
    let rig = backend.start(|config| config.limits.channels.channels_per_connection_max = 2);
    let mut client = rig.hello();
    client.subscribe("a");
    client.subscribe("b");
    is_error(&client.request("subscribe", json!({ "channel": "c" })), reason);
    rig.expect_error_counted(reason);
}

pub(crate) fn sessions_full(backend: Backend, reason: Reason) {
    let rig = backend.start(|config| config.limits.sessions.sessions_max = 1);
    let (mut first, mut second) = (rig.hello(), rig.hello());
    assert_eq!(first.request("keep_session", json!({}))["data"]["ttl"], 120);
    is_error(&second.request("keep_session", json!({})), reason);
    rig.expect_error_counted(reason);
}

pub(crate) fn requests_in_flight(backend: Backend, reason: Reason) {
    let app = App { requests: vec![("wait", |_| None)], ..App::default() };
    let setup =
        Setup { app, ..Setup::new(|config| config.limits.requests.requests_in_flight_max = 2) };
    let rig = backend.start_with(setup);
    let mut client = rig.hello();
    client.ask("wait", json!({}));
    client.ask("wait", json!({}));
    is_error(&client.request("wait", json!({})), reason);
    rig.expect_error_counted(reason);
}

/// A publish at home elsewhere needs a place to wait in, and there is none.
pub(crate) fn busy(backend: Backend, reason: Reason) {
    let setup = Setup {
        shards: 2,
        ..Setup::new(|config| config.limits.publishing.publishes_in_flight_max = 0)
    };
    let rig = backend.start_with(setup);
    let mut client = rig.hello();
    let refused = (0..64).map(|n| {
        let data = json!({ "channel": format!("c:{n}"), "event": "e" });
        client.request("publish", &data)
    });
    let error = refused.into_iter().find(|answer| answer["type"] == "error");
    is_error(&error.expect("a channel that is at home elsewhere"), reason);
    rig.expect_error_counted(reason);
}

pub(crate) fn message_rate(backend: Backend, reason: Reason) {
    let rig = backend.start(|config| {
        config.limits.connections.messages_per_second = Some(1);
        config.limits.connections.messages_burst = 1;
    });
    let mut raw = rig.raw_hello();
    raw.write(&masked(op::TEXT, b"{\"type\":\"ping\"}").repeat(2));
    assert_eq!(raw.json()["type"], "pong");
    is_error(&raw.json(), reason);
    rig.expect_error_counted(reason);
}
