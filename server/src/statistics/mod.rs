//! Numbers for the page at `/`, told on the channel `system:stats`: what a scrape of the metrics says, made of the same
//! exposition, so that both agree; rates over the last second, times over the last ten.

mod histogram;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde::Serialize;

use self::histogram::Histogram;
use crate::exposition::{Sample, samples};

/// What makes the numbers, when somebody wants to see them.
#[derive(Clone)]
pub(crate) struct Statistics {
    /// `None`: nothing is counted.
    render: Option<Arc<dyn Fn() -> String + Send + Sync>>,
    patterns: Vec<String>,
    memory_limit: Option<u64>,
    /// What this node calls itself, if there are others.
    node: Option<Arc<str>>,
    window: Arc<Mutex<Window>>,
}

impl Statistics {
    /// `render` makes the exposition; `patterns` are the policy's labels of channels. Other labels are names, which are not told
    /// as they are: who sees numbers may know of no channel by them.
    pub(crate) fn new(
        render: Option<Arc<dyn Fn() -> String + Send + Sync>>,
        patterns: impl Iterator<Item = String>,
        memory_limit: Option<u64>,
        node: Option<Arc<str>>,
    ) -> Self {
        Self { render, patterns: patterns.collect(), memory_limit, node, window: Arc::default() }
    }

    /// A JSON object.
    pub(crate) fn tell(&self) -> Option<String> {
        let text = (self.render.as_ref()?)();
        let totals = Totals::read(&text, &self.patterns);
        let memory = Memory {
            resident_bytes: resident_bytes(),
            limit_bytes: self.memory_limit,
            queued_bytes: whole(totals.queued_bytes),
            history_bytes: whole(totals.history_bytes),
        };
        // A panic in between has left it as it was, or with one reading more.
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let told = window.add(Instant::now(), totals, memory);
        let nodes = told.nodes.map(|nodes| Nodes { name: self.node.as_deref(), ..nodes });
        let told = Told { nodes, ..told };
        serde_json::to_string(&told).ok()
    }
}

/// What the exposition says, over all shards.
#[derive(Clone, Debug, Default)]
struct Totals {
    open: f64,
    limits: f64,
    accepted: f64,
    received: f64,
    delivered: f64,
    published: BTreeMap<String, f64>,
    durations: Histogram,
    latencies: Histogram,
    received_bytes: f64,
    sent_bytes: f64,
    queued_bytes: f64,
    history_bytes: f64,
    channels: f64,
    subscriptions: f64,
    closed_slow: f64,
    dropped: f64,
    refusals: BTreeMap<String, f64>,
    nodes: Option<f64>,
    silent: f64,
    everywhere: Option<f64>,
}

impl Totals {
    fn read(text: &str, patterns: &[String]) -> Self {
        let mut this = Self::default();
        for sample in samples(text) {
            this.take(&sample, patterns);
        }
        this
    }

    fn take(&mut self, sample: &Sample<'_>, patterns: &[String]) {
        let (label, value) = (|name| sample.label(name), sample.value);
        let is = |name, wanted| label(name).is_some_and(|value| value == wanted);
        match sample.name {
            "websocket_connections_active" => self.open += value,
            "websocket_connections_total" => self.accepted += value,
            // Of the limits that there may be, one is in force and the others are zero.
            "mahavishnu_connections_limit" => self.limits += value,
            "websocket_messages_total" if is("direction", "received") => self.received += value,
            "websocket_messages_total" if is("message_type", "event") => self.delivered += value,
            "websocket_broadcast_total" => {
                let label = label("channel").unwrap_or_default();
                *self.published.entry(pattern_of(&label, patterns)).or_default() += value;
            }
            "websocket_broadcast_duration_seconds_bucket" => {
                self.durations.add(&label("le").unwrap_or_default(), value);
            }
            "websocket_latency_seconds_bucket" => {
                self.latencies.add(&label("le").unwrap_or_default(), value);
            }
            "mahavishnu_received_bytes_total" => self.received_bytes += value,
            "mahavishnu_sent_bytes_total" => self.sent_bytes += value,
            "mahavishnu_queued_bytes" => self.queued_bytes += value,
            "mahavishnu_history_bytes" => self.history_bytes += value,
            "mahavishnu_channels" => self.channels += value,
            "mahavishnu_subscriptions" => self.subscriptions += value,
            "mahavishnu_messages_dropped_total" => self.dropped += value,
            "websocket_connection_errors_total" if is("error_type", SLOW) => {
                self.closed_slow += value;
            }
            "websocket_connection_errors_total" | "websocket_message_errors_total" => {
                let reason = label("error_type").unwrap_or_default().into_owned();
                *self.refusals.entry(reason).or_default() += value;
            }
            "mahavishnu_nodes" => self.nodes = Some(value),
            "mahavishnu_bus_peers_silent" => self.silent = value,
            "mahavishnu_cluster_connections" => self.everywhere = Some(value),
            _ => {}
        }
    }
}

/// Under which pattern a label is told.
fn pattern_of(label: &str, patterns: &[String]) -> String {
    match label.split_once(':') {
        _ if patterns.iter().any(|pattern| pattern == label) => label.to_owned(),
        Some((kind, _)) => format!("{kind}:*"),
        None => "other".to_owned(),
    }
}

/// The last readings, one a second.
#[derive(Debug, Default)]
struct Window(VecDeque<(Instant, Totals)>);

impl Window {
    fn add<'n>(&mut self, now: Instant, totals: Totals, memory: Memory) -> Told<'n> {
        let age = |at: &Instant| now.saturating_duration_since(*at);
        // Who begins to look does not want to know what has happened since somebody else did.
        if self.0.back().is_some_and(|(at, _)| age(at) > STALE_AFTER) {
            self.0.clear();
        }
        while self.0.len() >= READINGS_MAX {
            self.0.pop_front();
        }
        let last = self.0.back().map(|(at, totals)| (age(at).as_secs_f64(), totals));
        let first = self.0.front().map(|(_, totals)| totals);
        let told = Told::new(&totals, memory, last.filter(|(seconds, _)| *seconds > 0.0), first);
        self.0.push_back((now, totals));
        told
    }
}

/// What is told. Rates are null until there is something to compare with.
#[derive(Debug, Serialize)]
struct Told<'n> {
    version: &'static str,
    connections: Connections,
    messages: Messages,
    delivery: Times,
    answers: Times,
    traffic: Traffic,
    channels: Channels,
    memory: Memory,
    slow_readers: SlowReaders,
    refusals: Vec<Refusal>,
    /// Null without other nodes.
    nodes: Option<Nodes<'n>>,
}

#[derive(Debug, Serialize)]
struct Connections {
    open: u64,
    limit: u64,
    opened_per_second: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Messages {
    received_per_second: Option<f64>,
    published_per_second: Option<f64>,
    delivered_per_second: Option<f64>,
    refused_per_second: Option<f64>,
}

/// Over the last seconds: from a publish until its copies are with the sockets, or from a message until its turn is over.
#[derive(Debug, Serialize)]
struct Times {
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
}

impl Times {
    fn of(histogram: Option<Histogram>) -> Self {
        let quantile = |share| {
            let seconds = histogram.as_ref()?.quantile(share)?;
            Some(thousandths(seconds * 1e3))
        };
        Self { p50_ms: quantile(0.5), p99_ms: quantile(0.99) }
    }
}

#[derive(Debug, Serialize)]
struct Traffic {
    received_bytes_per_second: Option<f64>,
    sent_bytes_per_second: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Channels {
    open: u64,
    subscriptions: u64,
    patterns: Vec<Pattern>,
}

#[derive(Debug, Serialize)]
struct Pattern {
    pattern: String,
    published: u64,
    published_per_second: Option<f64>,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Memory {
    resident_bytes: Option<u64>,
    limit_bytes: Option<u64>,
    queued_bytes: u64,
    history_bytes: u64,
}

#[derive(Debug, Serialize)]
struct SlowReaders {
    closed: u64,
    dropped: u64,
}

#[derive(Debug, Serialize)]
struct Refusal {
    reason: String,
    count: u64,
}

#[derive(Debug, Serialize)]
struct Nodes<'n> {
    /// This one.
    name: Option<&'n str>,
    count: u64,
    silent: u64,
    connections: Option<u64>,
}

impl Told<'_> {
    /// `last`: the reading before, and how many seconds ago it was; `first`: the oldest of the window.
    fn new(
        totals: &Totals,
        memory: Memory,
        last: Option<(f64, &Totals)>,
        first: Option<&Totals>,
    ) -> Self {
        let rate = |of: &dyn Fn(&Totals) -> f64| {
            last.map(|(seconds, last)| thousandths((of(totals) - of(last)).max(0.0) / seconds))
        };
        let mut patterns: Vec<_> = totals
            .published
            .iter()
            .filter(|(_, published)| **published > 0.0)
            .map(|(pattern, published)| Pattern {
                pattern: pattern.clone(),
                published: whole(*published),
                published_per_second: rate(&|totals| {
                    totals.published.get(pattern).copied().unwrap_or_default()
                }),
            })
            .collect();
        patterns.sort_by_key(|pattern| std::cmp::Reverse(pattern.published));
        patterns.truncate(PATTERNS_MAX);
        let mut refusals: Vec<_> = totals
            .refusals
            .iter()
            .map(|(reason, count)| Refusal { reason: reason.clone(), count: whole(*count) })
            .filter(|refusal| refusal.count > 0)
            .collect();
        refusals.sort_by_key(|refusal| std::cmp::Reverse(refusal.count));
        Self {
            version: env!("CARGO_PKG_VERSION"),
            connections: Connections {
                open: whole(totals.open),
                limit: whole(totals.limits),
                opened_per_second: rate(&|totals| totals.accepted),
            },
            messages: Messages {
                received_per_second: rate(&|totals| totals.received),
                published_per_second: rate(&|totals| totals.published.values().sum()),
                delivered_per_second: rate(&|totals| totals.delivered),
                refused_per_second: rate(&|totals| {
                    totals.refusals.values().sum::<f64>() + totals.closed_slow
                }),
            },
            delivery: Times::of(first.map(|first| totals.durations.since(&first.durations))),
            answers: Times::of(first.map(|first| totals.latencies.since(&first.latencies))),
            traffic: Traffic {
                received_bytes_per_second: rate(&|totals| totals.received_bytes),
                sent_bytes_per_second: rate(&|totals| totals.sent_bytes),
            },
            channels: Channels {
                open: whole(totals.channels),
                subscriptions: whole(totals.subscriptions),
                patterns,
            },
            memory,
            slow_readers: SlowReaders {
                closed: whole(totals.closed_slow),
                dropped: whole(totals.dropped),
            },
            refusals,
            nodes: totals.nodes.map(|nodes| Nodes {
                name: None,
                count: whole(nodes),
                silent: whole(totals.silent),
                connections: totals.everywhere.map(whole),
            }),
        }
    }
}

/// Metrics are floating point; counts in them are whole and not negative.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped before")]
fn whole(value: f64) -> u64 {
    value.clamp(0.0, 9e15).round() as u64
}

fn thousandths(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// Memory of this process, as the kernel counts it.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// How a slow reader that was closed is counted.
const SLOW: &str = "slow_reader";

/// Readings that times are computed over, one a second.
const READINGS_MAX: usize = 10;

/// A reading that is older is compared with nothing.
const STALE_AFTER: Duration = Duration::from_secs(5);

/// Patterns that are told: those that most was published to.
const PATTERNS_MAX: usize = 12;
