//! Several nodes and the Redis that makes them one server, with a network between that can fail.

use std::{net::SocketAddr, time::Duration};

use mahavishnu_test_redis::{Options, Redis, Sentinel};
use serde_json::Value;

use crate::{Server, faults::Faults, http, wait};

/// Nodes, their Redis, and each node's way there.
#[derive(Debug)]
pub struct Cluster {
    /// The nodes, in order. Ended first.
    pub nodes: Vec<Server>,
    /// Each node's way to Redis; none if Sentinels say where it is.
    pub ways: Vec<Faults>,
    /// What is between them.
    pub redis: Redis,
    /// Its replica, if there is one.
    pub replica: Option<Redis>,
    /// Who watches them, if anybody does.
    pub sentinels: Vec<Sentinel>,
}

/// What a [`Cluster`] is to be like.
#[derive(Clone, Debug, Default)]
pub struct Setup<'a> {
    /// Nodes.
    pub size: usize,
    /// Their settings, named without `MAHAVISHNU_`.
    pub settings: Vec<(&'a str, &'a str)>,
    /// Further variables in their environment, named in full.
    pub variables: Vec<(&'a str, &'a str)>,
    /// Their Redis.
    pub options: Options,
    /// Whether that has a replica.
    pub replica: bool,
    /// Sentinels that watch both and say where the primary is. More than half of them decide.
    pub sentinels: u32,
}

impl Cluster {
    /// So many nodes with these settings, named without `MAHAVISHNU_`, and a Redis that keeps nothing on disk. All of them
    /// are ready.
    pub fn start(size: usize, settings: &[(&str, &str)]) -> Self {
        Self::with(size, settings, Options::default())
    }

    /// The same with another Redis.
    pub fn with(size: usize, settings: &[(&str, &str)], options: Options) -> Self {
        Self::of(&Setup { size, settings: settings.to_vec(), options, ..Setup::default() })
    }

    /// Nodes like these. All of them are ready.
    pub fn of(setup: &Setup<'_>) -> Self {
        let redis = Redis::with(setup.options.clone());
        let replica = setup.replica.then(|| {
            let replica = Redis::with(setup.options.clone().replica_of(&redis));
            replica.wait_synced();
            replica
        });
        let quorum = setup.sentinels / 2 + 1;
        let sentinels: Vec<_> = (0..setup.sentinels)
            .map(|_| Sentinel::start(MASTER, &redis, quorum, DOWN_AFTER_MS))
            .collect();
        for sentinel in &sentinels {
            sentinel.wait_for_others(MASTER, usize::from(setup.replica), sentinels.len() - 1);
        }
        let ways = if sentinels.is_empty() { setup.size } else { 0 };
        let ways: Vec<_> = (0..ways).map(|_| Faults::before(redis.address())).collect();
        let mut this = Self { nodes: Vec::new(), ways, redis, replica, sentinels };
        this.nodes = (0..setup.size).map(|node| this.node(node, setup)).collect();
        this.wait_whole();
        this
    }

    /// Further nodes by the same Redis, without anything between. All of them are ready.
    pub fn beside(&self, size: usize, settings: &[(&str, &str)]) -> Vec<Server> {
        let port = self.redis.port().to_string();
        let base = [("REDIS_HOST", "127.0.0.1"), ("REDIS_PORT", port.as_str())];
        let node = |_| Server::with(&[&base[..], settings].concat());
        let nodes: Vec<_> = (0..size).map(node).collect();
        for node in &nodes {
            wait_ready(node, |ready| is_whole(ready, size));
        }
        nodes
    }

    fn node(&self, number: usize, setup: &Setup<'_>) -> Server {
        let name = format!("n{}", number + 1);
        let mut settings = vec![("NODE_NAME", name.as_str())];
        let port = self.ways.get(number).map(|way| way.address().port().to_string());
        let sentinels: Vec<_> = self.sentinels.iter().map(|it| it.address().to_string()).collect();
        let sentinels = sentinels.join(",");
        match &port {
            Some(port) => settings.extend([("REDIS_HOST", "127.0.0.1"), ("REDIS_PORT", port)]),
            None => settings.extend([
                ("REDIS_SENTINELS", sentinels.as_str()),
                ("REDIS_SENTINEL_MASTER", MASTER),
            ]),
        }
        settings.extend(&setup.settings);
        Server::with_variables(&settings, &setup.variables)
    }

    /// What a node says of itself; nothing if it does not answer.
    pub fn ready(&self, node: usize) -> Option<(u16, Value)> {
        let answer = http::try_get(self.nodes[node].address(), "/ready").ok()?;
        Some((answer.status, answer.json()))
    }

    /// Waits until all nodes deliver, and hear each other.
    pub fn wait_whole(&self) {
        for node in &self.nodes {
            wait_ready(node, |ready| is_whole(ready, self.nodes.len()));
        }
    }

    /// Waits until a node says of its bus what is wanted: `passing`, `degraded`, `failing`.
    pub fn wait_bus(&self, node: usize, verdict: &str) {
        wait_ready(&self.nodes[node], |ready| ready["checks"]["bus"] == verdict);
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

fn is_whole(ready: &Value, size: usize) -> bool {
    ready["checks"]["bus"] == "passing" && ready["bus"]["nodes"] == size
}

fn wait_ready(node: &Server, is: impl Fn(&Value) -> bool) {
    let mut last = None;
    let found = wait::within(PATIENCE, || {
        let answer = http::try_get(node.address(), "/ready").ok()?;
        let ready = answer.json();
        let found = is(&ready).then_some(());
        last = Some((answer.status, ready));
        found
    });
    let name = node.name();
    assert!(found.is_some(), "{name} in vain: {last:?}\nits log:\n{}", node.log());
}

/// What Sentinels call the primary.
pub const MASTER: &str = "main";

/// After so much silence Sentinels take Redis for dead.
const DOWN_AFTER_MS: u32 = 1000;

/// Leases of dead nodes have to run out, and links to try again: longer than anything else takes.
const PATIENCE: Duration = Duration::from_secs(45);
