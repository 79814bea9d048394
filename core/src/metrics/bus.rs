//! What is counted of a hub's bus, and of the nodes behind it.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram};

use super::{
    BUS_QUEUED, CLUSTER_CONNECTIONS, INGRESS_ENTRIES, INGRESS_LAG, INGRESS_OWNER, INGRESS_WAITING,
    LEASE_LOST, NODES, NODES_GONE, NODES_SILENT, PROBE_AGE, PROBE_DURATION, REDIS_UP,
    UNKNOWN_ORDERS, UNSENT_ORDERS, handles::Registry,
};
use crate::config::IngressKind;

/// What a hub has counted of its bus since its tally was last recorded.
#[derive(Debug, Default)]
pub(crate) struct BusTally {
    /// Whose bus it is.
    pub(super) shard: u16,
    /// Whether the bus is there, and how old the last proof of that is.
    link: Option<(bool, Duration)>,
    probes: Vec<Duration>,
    /// Nodes, those of them that are not heard, connections of all.
    nodes: Option<(usize, u32, u64)>,
    /// Orders that the bus has not taken: now, and when this was last told.
    unsent: (usize, usize),
    /// Queues of the bus, by their kind.
    queues: [QueueTally; 2],
    /// Bytes of publishes that wait for the bus: the same.
    queued: (usize, usize),
    pub(crate) lease_lost: u64,
    pub(crate) nodes_gone: u64,
    /// Of later versions, or of nobody who belongs here.
    pub(crate) unknown_orders: u64,
}

impl BusTally {
    pub(crate) fn new(shard: u16) -> Self {
        Self { shard, ..Self::default() }
    }

    /// So the bus does at present; `probe` has just come back.
    pub(crate) fn link(&mut self, up: bool, age: Duration, probe: Option<Duration>) {
        self.link = Some((up, age));
        // Nobody may ever record them.
        if self.probes.len() < PROBES_MAX {
            self.probes.extend(probe);
        }
    }

    /// Something became of an entry of a queue.
    pub(crate) fn ingested(&mut self, kind: IngressKind, what: Ingested) {
        if let Some(count) = self.queue(kind).and_then(|it| it.entries.get_mut(what as usize)) {
            *count += 1;
        }
    }

    /// So a queue does at present.
    pub(crate) fn ingress(
        &mut self,
        kind: IngressKind,
        is_owner: bool,
        waiting: u64,
        lag: Duration,
    ) {
        if let Some(queue) = self.queue(kind) {
            queue.state = Some((is_owner, waiting, lag));
        }
    }

    fn queue(&mut self, kind: IngressKind) -> Option<&mut QueueTally> {
        self.queues.get_mut(kind as usize)
    }

    /// So many orders wait until the bus takes them.
    pub(crate) fn unsent(&mut self, orders: usize) {
        self.unsent.0 = orders;
    }

    /// So many bytes of publishes wait for the bus.
    pub(crate) fn queued(&mut self, bytes: usize) {
        self.queued.0 = bytes;
    }

    /// So many nodes are there, so many of them silent, with so many connections.
    pub(crate) fn nodes(&mut self, count: usize, silent: u32, connections: u64) {
        self.nodes = Some((count, silent, connections));
    }
}

/// What has become of an entry of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ingested {
    /// It is published, or was before.
    Published,
    /// It could not be at the moment.
    Retried,
    /// It cannot be.
    Dead,
}

impl Ingested {
    const NAMES: [&'static str; 3] = ["published", "retried", "dead"];
}

#[derive(Debug, Default)]
struct QueueTally {
    entries: [u64; Ingested::NAMES.len()],
    /// Whether it is this node's, entries that wait, how long the first has.
    state: Option<(bool, u64, Duration)>,
}

/// A tally that is recorded each turn has one at most.
const PROBES_MAX: usize = 64;

/// Handles for one hub's bus.
pub(super) struct BusHandles {
    up: Gauge,
    probe_age: Gauge,
    probe_duration: Histogram,
    nodes: Gauge,
    silent: Gauge,
    connections: Gauge,
    lease_lost: Counter,
    nodes_gone: Counter,
    unknown_orders: Counter,
    unsent_orders: Gauge,
    queues: [QueueHandles; 2],
    queued: Gauge,
}

/// Handles for one kind of queue.
struct QueueHandles {
    owner: Gauge,
    waiting: Gauge,
    lag: Gauge,
    entries: [Counter; Ingested::NAMES.len()],
}

impl QueueHandles {
    fn new(source: &Registry<'_>, kind: IngressKind) -> Self {
        let queue = [("queue", kind.name())];
        let entries =
            |result| source.counter(INGRESS_ENTRIES, &[("queue", kind.name()), ("result", result)]);
        Self {
            owner: source.gauge(INGRESS_OWNER, &queue),
            waiting: source.gauge(INGRESS_WAITING, &queue),
            lag: source.gauge(INGRESS_LAG, &queue),
            entries: Ingested::NAMES.map(entries),
        }
    }

    fn record(&self, tally: &mut QueueTally) {
        if let Some((is_owner, waiting, lag)) = tally.state.take() {
            self.owner.set(f64::from(u8::from(is_owner)));
            self.waiting.set(waiting as f64);
            self.lag.set(lag.as_secs_f64());
        }
        for (count, handle) in tally.entries.iter_mut().zip(&self.entries) {
            if *count > 0 {
                handle.increment(std::mem::take(count));
            }
        }
    }
}

impl BusHandles {
    pub(super) fn new(source: &Registry<'_>, shard: u16) -> Self {
        let shard = shard.to_string();
        let by_shard = [("shard", &*shard)];
        Self {
            up: source.gauge(REDIS_UP, &by_shard),
            probe_age: source.gauge(PROBE_AGE, &by_shard),
            probe_duration: source.histogram(PROBE_DURATION, &[]),
            nodes: source.gauge(NODES, &[]),
            silent: source.gauge(NODES_SILENT, &[]),
            connections: source.gauge(CLUSTER_CONNECTIONS, &[]),
            lease_lost: source.counter(LEASE_LOST, &[]),
            nodes_gone: source.counter(NODES_GONE, &[]),
            unknown_orders: source.counter(UNKNOWN_ORDERS, &[]),
            unsent_orders: source.gauge(UNSENT_ORDERS, &[]),
            queues: [IngressKind::Stream, IngressKind::List]
                .map(|kind| QueueHandles::new(source, kind)),
            queued: source.gauge(BUS_QUEUED, &[]),
        }
    }

    pub(super) fn record(&self, tally: &mut BusTally) {
        if let Some((up, age)) = tally.link.take() {
            self.up.set(f64::from(u8::from(up)));
            self.probe_age.set(age.as_secs_f64());
        }
        for probe in tally.probes.drain(..) {
            self.probe_duration.record(probe.as_secs_f64());
        }
        if let Some((count, silent, connections)) = tally.nodes.take() {
            self.nodes.set(count as f64);
            self.silent.set(f64::from(silent));
            self.connections.set(connections as f64);
        }
        for (queue, handles) in tally.queues.iter_mut().zip(&self.queues) {
            handles.record(queue);
        }
        let (unsent, told) = tally.unsent;
        if unsent != told {
            tally.unsent = (unsent, unsent);
            self.unsent_orders.set(unsent as f64);
        }
        let (queued, told) = tally.queued;
        if queued != told {
            tally.queued = (queued, queued);
            // That of all hubs is one.
            self.queued.increment(queued as f64 - told as f64);
        }
        for (count, handle) in [
            (&mut tally.lease_lost, &self.lease_lost),
            (&mut tally.nodes_gone, &self.nodes_gone),
            (&mut tally.unknown_orders, &self.unknown_orders),
        ] {
            if *count > 0 {
                handle.increment(std::mem::take(count));
            }
        }
    }
}
