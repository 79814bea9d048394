//! Several hubs as one server.

use mahavishnu_conformance::{Backend, Heard, Setup};
use serde_json::json;

pub(crate) fn a_broadcast_reaches_subscribers_of_every_shard(backend: Backend) {
    let rig = backend.start_with(Setup { shards: 3, ..Setup::new(|_| {}) });
    let mut clients: Vec<_> = (0..6).map(|_| rig.hello()).collect();
    let mut publisher = rig.hello();
    for channel in ["a", "b", "c", "d"] {
        clients.iter_mut().for_each(|client| client.subscribe(channel));
        assert_eq!(rig.broadcast(channel, &json!({ "n": 1 })), 6, "{channel}");
        let data = json!({ "channel": channel, "event": "e", "data": { "n": 2 } });
        assert_eq!(publisher.request("publish", &data)["data"]["subscribers"], 6, "{channel}");
        clients.iter_mut().for_each(|client| assert_eq!(client.numbers(2), [1, 2], "{channel}"));
    }
}

pub(crate) fn connections_are_counted_over_all_shards(backend: Backend) {
    let setup =
        Setup { shards: 2, ..Setup::new(|config| config.limits.connections.connections_max = 4) };
    let rig = backend.start_with(setup);
    let clients: Vec<_> = (0..4).map(|_| rig.hello()).collect();
    // Shards tell each other in their own time.
    rig.until("a refusal on every shard", || {
        let refused = (0..2).all(|_| {
            let first = rig.client().hear();
            matches!(first, Heard::Close(1013, _))
        });
        refused.then_some(())
    });
    rig.expect_sockets(4);
    drop(clients);
    rig.until("room again", || matches!(rig.client().hear(), Heard::Message(_)).then_some(()));
}

/// Which of them are too many is decided by who comes first to the shard that counts.
pub(crate) fn connections_of_an_address_are_counted_over_all_shards(backend: Backend) {
    let rig = backend.start_with(Setup {
        shards: 3,
        ..Setup::new(|config| {
            config.limits.connections.connections_per_address_max = Some(2);
            config.limits.connections.connects_limit_loopback = true;
        })
    });
    let clients: Vec<_> = (0..6).map(|_| rig.client()).collect();
    let refused = [("error_type", "address_connections")];
    rig.expect_count("websocket_connection_errors_total", &refused, 4);
    rig.expect_count("websocket_connections_active", &[], 2);
    drop(clients);
    rig.until("room again", || matches!(rig.client().hear(), Heard::Message(_)).then_some(()));
}
