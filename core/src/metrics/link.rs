//! What a driver tells of its link to the bus.

use std::sync::Arc;

use metrics::{Counter, Gauge, Recorder};

use super::{
    PROBES_LOST, REDIS_COMMANDS, REDIS_ERRORS, REDIS_LIVE, REDIS_POISON, REDIS_RECEIVED,
    REDIS_RECONNECTS, REDIS_SENT, REDIS_UNDER_WAY, TELLS_DROPPED, handles::Registry,
};

/// The closed lists by which a link counts, in the order in which it does.
#[derive(Clone, Debug, Default)]
pub struct LinkLabels {
    /// Why connections, and attempts to make one, ended.
    pub causes: Vec<&'static str>,
    /// What errors meant.
    pub classes: Vec<&'static str>,
    /// What was asked for.
    pub commands: Vec<&'static str>,
}

/// What a link has counted since it was made: all of it only grows, but for the level.
#[derive(Clone, Copy, Debug)]
pub struct LinkCounts<'a> {
    /// Connections and attempts that ended, by cause.
    pub reconnects: &'a [u64],
    /// Errors, by class.
    pub errors: &'a [u64],
    /// Commands, by name.
    pub commands: &'a [u64],
    /// Bytes that went to the socket.
    pub sent_bytes: u64,
    /// Bytes that came from it.
    pub received_bytes: u64,
    /// Live messages.
    pub live: u64,
    /// Probes that were not back in time.
    pub probes_lost: u64,
    /// What was to be told to all nodes and was not.
    pub dropped: u64,
    /// What was not understood.
    pub poison: u64,
    /// Level: bytes of commands that wait to be sent or answered.
    pub under_way_bytes: usize,
}

/// Where a link's counts meet the `metrics` facade. One for each link.
pub struct LinkMetrics {
    reconnects: Vec<Rising>,
    errors: Vec<Rising>,
    commands: Vec<Rising>,
    sent_bytes: Rising,
    received_bytes: Rising,
    live: Rising,
    probes_lost: Rising,
    dropped: Rising,
    poison: Rising,
    under_way: Gauge,
    under_way_bytes: usize,
}

impl std::fmt::Debug for LinkMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LinkMetrics(..)")
    }
}

impl LinkMetrics {
    /// Registers every series with `recorder`, for the server of this name. Links of one server share them.
    #[must_use]
    pub fn new(recorder: &dyn Recorder, server: Arc<str>, labels: &LinkLabels) -> Self {
        let source = Registry { recorder, server };
        let each = |name: &'static str, label: &'static str, values: &[&'static str]| {
            let one = |value: &&str| Rising::new(source.counter(name, &[(label, value)]));
            values.iter().map(one).collect()
        };
        let one = |name: &'static str| Rising::new(source.counter(name, &[]));
        let under_way = source.gauge(REDIS_UNDER_WAY, &[]);
        // Makes it visible.
        under_way.increment(0.0);
        Self {
            reconnects: each(REDIS_RECONNECTS, "cause", &labels.causes),
            errors: each(REDIS_ERRORS, "class", &labels.classes),
            commands: each(REDIS_COMMANDS, "command", &labels.commands),
            sent_bytes: one(REDIS_SENT),
            received_bytes: one(REDIS_RECEIVED),
            live: one(REDIS_LIVE),
            probes_lost: one(PROBES_LOST),
            dropped: one(TELLS_DROPPED),
            poison: one(REDIS_POISON),
            under_way,
            under_way_bytes: 0,
        }
    }

    /// Hands over what has come since the last time.
    pub fn record(&mut self, counts: &LinkCounts<'_>) {
        for (handles, counts) in [
            (&mut self.reconnects, counts.reconnects),
            (&mut self.errors, counts.errors),
            (&mut self.commands, counts.commands),
        ] {
            handles.iter_mut().zip(counts).for_each(|(handle, count)| handle.rise(*count));
        }
        self.sent_bytes.rise(counts.sent_bytes);
        self.received_bytes.rise(counts.received_bytes);
        self.live.rise(counts.live);
        self.probes_lost.rise(counts.probes_lost);
        self.dropped.rise(counts.dropped);
        self.poison.rise(counts.poison);
        let (before, now) = (self.under_way_bytes, counts.under_way_bytes);
        if before != now {
            self.under_way_bytes = now;
            self.under_way.increment(now as f64 - before as f64);
        }
    }

    /// The link is no more: nothing of it is under way.
    pub fn end(self) {
        self.under_way.decrement(self.under_way_bytes as f64);
    }
}

/// A counter that is told totals.
struct Rising {
    counter: Counter,
    told: u64,
}

impl Rising {
    fn new(counter: Counter) -> Self {
        Self { counter, told: 0 }
    }

    fn rise(&mut self, total: u64) {
        if total > self.told {
            self.counter.increment(total - self.told);
            self.told = total;
        }
    }
}
