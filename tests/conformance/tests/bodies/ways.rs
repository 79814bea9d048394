//! Ways to a server that lead past its port: Unix sockets, and sockets that somebody else has accepted.

use mahavishnu_conformance::{Backend, Client, Raw, Rig, Setup, Way};
use mahavishnu_core::hub::DrainPlan;
use serde_json::json;

/// Clients past the welcome, each of which hears of `a`.
fn subscribers(rig: &Rig, way: Way, count: usize) -> Vec<Client> {
    let subscriber = |_| {
        let stream = rig.connect_by(way).expect("a server that takes it");
        let mut client = Client::open(stream, "/", &[]).expect("a handshake");
        client.expect_welcome();
        client.subscribe("a");
        client
    };
    (0..count).map(subscriber).collect()
}

/// They hear the same as those at the port, and their server's end.
fn are_served_to_the_end(rig: &Rig, mut clients: Vec<Client>) {
    let mut other = rig.subscriber("a");
    assert_eq!(rig.broadcast("a", &json!({ "n": 1 })) as usize, clients.len() + 1);
    for client in clients.iter_mut().chain([&mut other]) {
        assert_eq!(client.numbers(1), [1]);
    }
    rig.drain(DrainPlan::default());
    for client in clients.iter_mut().chain([&mut other]) {
        assert_eq!(client.expect_close(1001), "Server shutting down");
    }
    drop((clients, other));
    rig.expect_drained();
}

pub(crate) fn clients_come_by_a_unix_socket(backend: Backend) {
    let setup = Setup::new(|config| {
        config.limits.connections.connects_per_minute = Some(1);
        config.limits.connections.connects_limit_loopback = true;
    });
    let rig = backend.start_with(Setup { unix: true, ..setup });
    // Who has no address meets no limit by address.
    let mut clients = subscribers(&rig, Way::Unix, 4);
    let answer = Raw::new(rig.connect_by(Way::Unix).expect("a socket")).get("/health");
    assert_eq!((answer.status, &answer.json()["status"]), (200, &json!("healthy")));
    // Nor is it of this machine, from which anybody may publish.
    let publish = json!({ "channel": "a", "event": "e", "data": { "n": 0 } });
    let refused = clients[0].request("publish", &publish);
    assert_eq!(refused["error_code"], "FORBIDDEN", "{refused}");
    are_served_to_the_end(&rig, clients);
    assert!(rig.connect_by(Way::Unix).is_err(), "somebody still listens");
}

pub(crate) fn sockets_are_handed_over_to_the_server(backend: Backend) {
    let rig = backend.start_with(Setup { shards: 2, ..Setup::new(|_| {}) });
    let mut clients = subscribers(&rig, Way::HandedOver, 4);
    assert_eq!(clients[0].publish("b", "e", json!({})), 0, "as from its address at the port");
    // What is no handshake is the business of who has accepted the socket.
    let answer = Raw::new(rig.connect_by(Way::HandedOver).expect("a socket")).get("/health");
    assert_eq!(answer.status, 426);
    are_served_to_the_end(&rig, clients);
    assert!(rig.connect_by(Way::HandedOver).is_err(), "the server has stopped");
}
