//! Several nodes and the Redis that makes them one server, with a network between that can fail.

use std::{net::SocketAddr, time::Duration};

use mahavishnu_test_redis::{Options, Redis};
use serde_json::Value;

use crate::{Server, faults::Faults, http, wait};

/// Nodes, their Redis, and each node's way there.
#[derive(Debug)]
pub struct Cluster {
    /// The nodes, in order. Ended first.
    pub nodes: Vec<Server>,
    /// Each node's way to Redis.
    pub ways: Vec<Faults>,
    /// What is between them.
    pub redis: Redis,
}

impl Cluster {
    /// So many nodes with these settings, named without `MAHAVISHNU_`, and a Redis that keeps nothing on disk. All of them
    /// are ready.
    pub fn start(size: usize, settings: &[(&str, &str)]) -> Self {
        Self::with(size, settings, Options::default())
    }

    /// The same with another Redis.
    pub fn with(size: usize, settings: &[(&str, &str)], options: Options) -> Self {
        let redis = Redis::with(options);
        let ways: Vec<_> = (0..size).map(|_| Faults::before(redis.address())).collect();
        let nodes = ways.iter().zip(1..).map(|(way, number)| node(way, number, settings)).collect();
        let this = Self { nodes, ways, redis };
        this.wait_whole();
        this
    }

    /// What a node says of itself; nothing if it does not answer.
    pub fn ready(&self, node: usize) -> Option<(u16, Value)> {
        let answer = http::try_get(self.nodes[node].address(), "/ready").ok()?;
        Some((answer.status, answer.json()))
    }

    /// Waits until all nodes deliver, and hear each other.
    pub fn wait_whole(&self) {
        let size = self.nodes.len();
        for node in 0..size {
            self.wait_ready(node, |ready| {
                ready["checks"]["bus"] == "passing" && ready["bus"]["nodes"] == size
            });
        }
    }

    /// Waits until a node says of its bus what is wanted: `passing`, `degraded`, `failing`.
    pub fn wait_bus(&self, node: usize, verdict: &str) {
        self.wait_ready(node, |ready| ready["checks"]["bus"] == verdict);
    }

    fn wait_ready(&self, node: usize, is: impl Fn(&Value) -> bool) {
        let mut last = None;
        let found = wait::within(PATIENCE, || {
            last = self.ready(node);
            last.as_ref().is_some_and(|(_, ready)| is(ready)).then_some(())
        });
        let log = self.nodes[node].log();
        assert!(found.is_some(), "node {node} in vain: {last:?}\nnode's log:\n{log}");
    }

    /// Where the nodes listen.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(Server::address).collect()
    }

    /// All connections of nodes to Redis, ended by it.
    pub fn kill_connections(&self) {
        let mut client = self.redis.client();
        client.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    }
}

fn node(way: &Faults, number: usize, settings: &[(&str, &str)]) -> Server {
    let (port, name) = (way.address().port().to_string(), format!("n{number}"));
    let base = [("REDIS_HOST", "127.0.0.1"), ("REDIS_PORT", &port), ("NODE_NAME", &name)];
    Server::with(&[&base[..], settings].concat())
}

/// Leases of dead nodes have to run out, and links to try again: longer than anything else takes.
const PATIENCE: Duration = Duration::from_secs(45);
