//! What tests of a single department need: an environment, and connections in it. No hub.
#![expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]

use std::{sync::Arc, time::Duration};

use super::{
    connections::{Connections, Phase},
    env::Env,
    types::{ConnId, Listener, Peer, Place, ShardId},
};
use crate::{
    config::Config,
    entropy::{Entropy, KeyedState, Seed},
    time::{Instant, Now},
    ws::{Accept, CloseWhen},
};

pub(super) const OTHER: ShardId = ShardId(1);

/// The environment of the first of two hubs.
pub(super) fn env(config: Config) -> Env {
    let place = Place { shard: ShardId(0), shards: 2, seed: Seed::from(7) };
    let now = Now { mono: Instant::now(), unix: Duration::from_secs(1_770_000_000) };
    Env::new(Arc::new(config), place, Entropy::new(place.seed), now)
}

pub(super) fn keys() -> KeyedState {
    Entropy::new(Seed::from(1)).hash_keys()
}

pub(super) fn connections(env: &Env) -> Connections {
    Connections::new(
        &env.config,
        env.place.shard,
        env.now,
        Entropy::new(env.place.seed).hash_keys(),
    )
}

/// A socket that has sent nothing.
pub(super) fn socket(env: &Env, connections: &mut Connections) -> ConnId {
    let peer = Peer { address: ([192, 0, 2, 1], 50_000).into(), listener: Listener::Main };
    let id = connections.insert(env, peer).unwrap();
    connections.settle(env);
    id
}

/// A connection through its handshake, welcomed, with nothing queued.
pub(super) fn active(env: &mut Env, connections: &mut Connections) -> ConnId {
    let id = socket(env, connections);
    let mut request =
        *b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let mut wire = &mut request[..];
    assert!(connections.receive(env, id, &mut wire).is_some());
    let conn = connections.edit(id).unwrap();
    conn.ws.accept(env.now, &Accept { subprotocol: None, deflate: None });
    conn.phase = Phase::Active;
    env.tally.active += 1;
    drain(env, connections, id);
    id
}

/// Everything queued is written. How many bytes.
pub(super) fn drain(env: &mut Env, connections: &mut Connections, id: ConnId) -> usize {
    let mut written = Vec::new();
    connections.settle(env);
    while connections.pop_dirty().is_some() {}
    connections.write(env, id, &mut written);
    written.len()
}

/// The socket takes nothing.
pub(super) struct Full;

impl std::io::Write for Full {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::WouldBlock.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The name of a connection that nobody has made.
pub(super) fn conn(index: u32) -> ConnId {
    ConnId { index, generation: 0, shard: ShardId(0) }
}

/// Time passes.
pub(super) fn wait(env: &mut Env, step: Duration) {
    env.now = env.now.plus(step);
}

pub(super) fn end(env: &mut Env, connections: &mut Connections, id: ConnId) {
    let reason = crate::reason::Reason::Disconnected;
    connections.close(env, id, reason, CloseWhen::AtOnce);
    connections.retire(env, id, reason);
    connections.remove(env, id);
    connections.settle(env);
}
