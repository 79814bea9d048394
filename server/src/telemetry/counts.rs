//! What was exported and what was not.

use std::sync::atomic::{AtomicU64, Ordering};

use mahavishnu_core::metrics::Otlp;

/// What is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    Traces,
    Metrics,
}

impl Signal {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Metrics => "metrics",
        }
    }
}

/// Why something is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// A turn brought more spans than it may.
    Turn,
    /// The queue was full.
    Queue,
    /// The collector took it and did not want it.
    Refused,
    /// The collector could not be reached, or did not answer.
    Unreachable,
}

impl Why {
    const ALL: [Self; 4] = [Self::Turn, Self::Queue, Self::Refused, Self::Unreachable];

    fn name(self) -> &'static str {
        match self {
            Self::Turn => "turn",
            Self::Queue => "queue",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
        }
    }
}

/// Spans, and data points of metrics.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    exported: [AtomicU64; 2],
    dropped: [[AtomicU64; Why::ALL.len()]; 2],
}

impl Counts {
    pub(super) fn exported(&self, signal: Signal, items: u64) {
        if let Some(count) = self.exported.get(signal as usize) {
            count.fetch_add(items, Ordering::Relaxed);
        }
    }

    pub(super) fn dropped(&self, signal: Signal, why: Why, items: u64) {
        let count = self.dropped.get(signal as usize).and_then(|by| by.get(why as usize));
        if let Some(count) = count.filter(|_| items > 0) {
            count.fetch_add(items, Ordering::Relaxed);
        }
    }

    /// Totals since the start, for the exposition.
    pub(crate) fn told(&self) -> Vec<(Otlp, u64)> {
        let mut all = Vec::new();
        for signal in [Signal::Traces, Signal::Metrics] {
            let name = signal.name();
            let exported = self.exported.get(signal as usize);
            all.extend(exported.map(|n| (Otlp::Exported { signal: name }, n)));
            let dropped = self.dropped.get(signal as usize).into_iter().flatten();
            let named = Why::ALL.iter().map(|why| why.name()).zip(dropped);
            all.extend(named.map(|(why, n)| (Otlp::Dropped { signal: name, reason: why }, n)));
        }
        all.into_iter().map(|(which, n)| (which, n.load(Ordering::Relaxed))).collect()
    }
}
