//! The same within TLS.

use mahavishnu_conformance::{Backend, Client, HANDSHAKE, Heard, Raw, Rig, op, post, secure};
use mahavishnu_core::hub::DrainPlan;
use serde_json::json;

fn start(backend: Backend) -> Rig {
    backend.start(secure::demand)
}

fn hello(rig: &Rig) -> Client {
    let mut client = Client::open(rig.connect().secure(), "/", &[]).expect("a handshake");
    assert_eq!(client.expect_welcome()["data"]["secure"], true);
    client
}

pub(crate) fn messages_come_and_go_within_tls(backend: Backend) {
    let rig = start(backend);
    let mut clients = [hello(&rig), hello(&rig)];
    clients.iter_mut().for_each(|client| client.subscribe("a"));
    (0..20).for_each(|n| assert_eq!(rig.broadcast("a", &json!({ "n": n })), 2));
    for client in &mut clients {
        assert_eq!(client.numbers(20), (0..20).collect::<Vec<_>>());
    }
    let [first, mut second] = clients;
    first.close();
    rig.expect_count("websocket_connections_active", &[], 1);
    rig.drain(DrainPlan::default());
    second.expect_close(1001);
    assert_eq!(second.hear(), Heard::End);
    drop(second);
    rig.expect_drained();
}

/// The client's side takes little at a time, so records are cut anywhere.
pub(crate) fn large_messages_arrive_whole_within_tls(backend: Backend) {
    let rig = start(backend);
    let mut raw = Raw::hello(rig.connect_narrow(2_048).secure());
    raw.subscribe("a");
    let data = json!({ "text": "äöü".repeat(50_000) });
    assert_eq!(rig.broadcast("a", &data), 1);
    assert_eq!(raw.json()["data"], data);
    let ping = json!({ "type": "ping", "id": "x".repeat(100_000) });
    raw.send_json(&ping);
    assert_eq!(raw.json()["correlation_id"], ping["id"]);
    raw.send(op::CLOSE, &1000_u16.to_be_bytes());
    assert_eq!(raw.close_frame().map(|(code, _)| code), Some(1000));
    raw.finish();
    assert_eq!(raw.read_to_end(), b"");
    rig.expect_sockets(0);
}

pub(crate) fn http_is_answered_within_tls(backend: Backend) {
    let rig = start(backend);
    let mut raw = Raw::new(rig.connect().secure());
    assert_eq!(raw.get("/health").status, 200);
    raw.dribble(&post(&[], &json!({ "channel": "c", "event": "e" })));
    assert_eq!(raw.response().status, 200);
    assert_eq!(rig.raw().get("/health").status, 200, "health is answered without TLS, too");
    assert_eq!(rig.raw().exchange(HANDSHAKE.as_bytes()).status, 426);
}
