//! What nodes say of themselves meanwhile.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::Metrics;

/// Asks all nodes for `/ready` and `/health`, many times a second.
#[derive(Debug)]
pub(super) struct Watch {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Seen>>,
}

/// What one node said of itself.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// `checks.bus` was `degraded` for so long.
    pub degraded: Duration,
    /// It was `failing`.
    pub failing: Duration,
    /// `/ready` was 503.
    pub refused: Duration,
    /// There was no answer, or no connection.
    pub absent: Duration,
    /// The fewest and the most nodes that it counted.
    pub nodes: (u64, u64),
    /// It missed others that have a lease.
    pub silent: bool,
    /// Why Redis was away, or took no writes.
    pub causes: BTreeSet<String>,
    /// What `/health` was answered with other than 200.
    pub health: BTreeSet<u16>,
    /// What that said of Redis other than `passing`.
    pub redis: BTreeSet<String>,
}

impl Watch {
    pub(super) fn start(nodes: &[SocketAddr]) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let thread = |node: &SocketAddr| {
            let (node, over) = (*node, Arc::clone(&over));
            std::thread::spawn(move || watch(node, &over))
        };
        Self { threads: nodes.iter().map(thread).collect(), over }
    }

    pub(super) fn finish(self) -> Vec<Seen> {
        self.over.store(true, Ordering::SeqCst);
        self.threads.into_iter().map(|it| it.join().expect("a thread that asks")).collect()
    }
}

fn watch(node: SocketAddr, over: &AtomicBool) -> Seen {
    let mut seen = Seen { nodes: (u64::MAX, 0), ..Seen::default() };
    let mut last = Instant::now();
    while !over.load(Ordering::SeqCst) {
        let ready = ask(node, "/ready");
        let took = last.elapsed();
        last = Instant::now();
        match ready {
            None => seen.absent += took,
            Some((status, ready)) => seen.note(status, &ready, took),
        }
        if let Some((status, health)) = ask(node, "/health") {
            if status != 200 {
                seen.health.insert(status);
            }
            let redis = health["checks"]["redis"].as_str().unwrap_or_default();
            if redis != "passing" {
                seen.redis.insert(redis.to_owned());
            }
        }
        std::thread::sleep(PAUSE);
    }
    seen
}

impl Seen {
    fn note(&mut self, status: u16, ready: &Value, took: Duration) {
        if status == 503 {
            self.refused += took;
        }
        match ready["checks"]["bus"].as_str() {
            Some("degraded") => self.degraded += took,
            Some("failing") => self.failing += took,
            _ => {}
        }
        let bus = &ready["bus"];
        if let Some(nodes) = bus["nodes"].as_u64() {
            self.nodes = (self.nodes.0.min(nodes), self.nodes.1.max(nodes));
        }
        self.silent |= bus["silent"].is_array() || bus["silent"].as_u64() > Some(0);
        let words = ["cause", "full"].iter().filter_map(|name| bus[name].as_str());
        self.causes.extend(words.map(str::to_owned));
    }

    /// How long it was not well, whatever it said.
    pub(super) fn unwell(&self) -> Duration {
        self.degraded + self.failing + self.absent
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [
            ("degraded", self.degraded),
            ("failing", self.failing),
            ("503", self.refused),
            ("no answer", self.absent),
        ];
        let mut words: Vec<_> = all
            .iter()
            .filter(|(_, time)| *time >= Duration::from_millis(200))
            .map(|(word, time)| format!("{word} {:.1} s", time.as_secs_f64()))
            .collect();
        if words.is_empty() {
            words.push("passing".into());
        }
        if self.nodes.0 < self.nodes.1 {
            words.push(format!("nodes {}–{}", self.nodes.0, self.nodes.1));
        }
        if self.silent {
            words.push("others silent".into());
        }
        f.write_str(&words.join(", "))
    }
}

/// Status and content; `None` if there was no answer within a second.
fn ask(node: SocketAddr, path: &str) -> Option<(u16, Value)> {
    let mut stream = TcpStream::connect_timeout(&node, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {node}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    Some((head.get(9..12)?.parse().ok()?, serde_json::from_str(body).ok()?))
}

/// By how much counters of all nodes together have moved that say something of the bus, of recoveries, or of refusals.
pub(super) fn moved(before: &[Metrics], after: &[Metrics]) -> BTreeMap<String, u64> {
    let mut moved = BTreeMap::new();
    for (before, after) in before.iter().zip(after) {
        for sample in after.samples().filter(|sample| is_telling(&sample.name)) {
            let labels: Vec<_> =
                sample.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let (now, then) = (sample.value as u64, before.count(&sample.name, &labels));
            // It has begun anew with its process.
            let by = now.checked_sub(then).unwrap_or(now);
            if by > 0 {
                let label = labels.iter().filter(|(name, _)| *name != "server");
                let label: Vec<_> = label.map(|(_, value)| *value).collect();
                let name = sample.name.trim_start_matches("mahavishnu_").to_owned();
                let name =
                    if label.is_empty() { name } else { format!("{name}{{{}}}", label.join(",")) };
                *moved.entry(name).or_default() += by;
            }
        }
    }
    moved
}

fn is_telling(name: &str) -> bool {
    let counts = ["_bus_", "_redis_", "lease_lost", "nodes_gone", "recoveries", "message_errors"];
    let amounts = ["_bytes_", "_commands_", "_messages_total", "_seconds"];
    name.ends_with("_total")
        && counts.iter().any(|part| name.contains(part))
        && !amounts.iter().any(|part| name.contains(part))
}

const PAUSE: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(1);
