//! What is counted of channels that are followed on a bus, and of what is appended to it.

use metrics::{Counter, Gauge, Histogram};

use super::{
    handles::{Registry, add, shift},
    tally::Tally,
    *,
};

/// What became of a hole in what came from a bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holes {
    /// What was missing was read.
    Filled,
    /// It is gone, and all subscribers were told.
    Announced,
}

impl Holes {
    /// As they are counted.
    pub(super) const NAMES: &[&str] = &["filled", "announced"];
}

/// What a bus had lost that was put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heals {
    /// A channel's last messages.
    Tail,
    /// All of a channel.
    All,
}

impl Heals {
    /// As they are counted.
    pub(super) const NAMES: &[&str] = &["tail", "all"];
}

/// Why a channel's numbers began anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Epochs {
    /// The bus had lost them, and somebody founded the channel again.
    Founded,
    /// Two histories had come apart.
    Forked,
}

impl Epochs {
    /// As they are counted.
    pub(super) const NAMES: &[&str] = &["founded", "forked"];
}

/// Handles for what is counted where there is a bus.
pub(super) struct FollowHandles {
    followed: Gauge,
    duration: Histogram,
    messages: Histogram,
    holes: Vec<Counter>,
    heals: Vec<Counter>,
    forks: Counter,
    epochs: Vec<Counter>,
    poison: Counter,
}

impl FollowHandles {
    pub(super) fn new(source: &Registry<'_>) -> Self {
        let each = |name: &'static str, label: &'static str, values: &[&str]| -> Vec<Counter> {
            values.iter().map(|value| source.counter(name, &[(label, value)])).collect()
        };
        Self {
            followed: source.gauge(BUS_FOLLOWED, &[]),
            duration: source.histogram(BUS_APPEND_DURATION, &[]),
            messages: source.histogram(BUS_APPEND_MESSAGES, &[]),
            holes: each(BUS_HOLES, "result", Holes::NAMES),
            heals: each(BUS_HEALS, "cause", Heals::NAMES),
            forks: source.counter(BUS_FORKS, &[]),
            epochs: each(BUS_EPOCHS, "cause", Epochs::NAMES),
            poison: source.counter(BUS_POISON, &[]),
        }
    }

    /// Hands the counts of a turn over.
    pub(super) fn record(&self, tally: &mut Tally) {
        shift(&mut tally.bus_followed, &self.followed);
        add(&mut tally.bus_forks, &self.forks);
        add(&mut tally.bus_poison, &self.poison);
        tally.bus_holes.publish(&self.holes);
        tally.bus_heals.publish(&self.heals);
        tally.bus_epochs.publish(&self.epochs);
        for (took, messages) in tally.appends.drain(..) {
            self.duration.record(took.as_secs_f64());
            self.messages.record(f64::from(messages));
        }
    }
}
