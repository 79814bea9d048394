//! Virtual time: the world's two clocks, and the heap of what happens when.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    time::{Duration, Instant},
};

use mahavishnu_core::time::Now;

/// Nanoseconds since the world began.
pub(crate) type Nanos = u64;

pub(crate) const MICRO: Nanos = 1_000;
pub(crate) const MILLI: Nanos = 1_000_000;
pub(crate) const SECOND: Nanos = 1_000_000_000;

/// The clocks. The monotonic one only goes forward; the other jumps when it is told to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
    pub(crate) nanos: Nanos,
    unix_at_origin: Duration,
}

impl Clock {
    pub(crate) fn new() -> Self {
        // Only differences of instants matter, so any origin gives the same run.
        Self { origin: Instant::now(), nanos: 0, unix_at_origin: START_UNIX }
    }

    pub(crate) fn now(&self) -> Now {
        let since = Duration::from_nanos(self.nanos);
        Now { mono: self.origin + since, unix: self.unix_at_origin + since }
    }

    /// `at` as virtual time.
    pub(crate) fn nanos_of(&self, at: Instant) -> Nanos {
        at.saturating_duration_since(self.origin).as_nanos() as Nanos
    }

    /// The wall clock is set forward or back.
    pub(crate) fn jump(&mut self, seconds: i64) {
        let step = Duration::from_secs(seconds.unsigned_abs());
        self.unix_at_origin = match seconds < 0 {
            true => self.unix_at_origin.saturating_sub(step).max(EARLIEST_UNIX),
            false => (self.unix_at_origin + step).min(LATEST_UNIX),
        };
    }
}

/// What happens when. Events of one instant happen in the order in which they were planned.
#[derive(Debug)]
pub(crate) struct Agenda<E> {
    heap: BinaryHeap<Reverse<Entry<E>>>,
    sequence: u64,
}

#[derive(Debug)]
struct Entry<E> {
    at: Nanos,
    sequence: u64,
    event: E,
}

impl<E> Agenda<E> {
    pub(crate) fn new() -> Self {
        Self { heap: BinaryHeap::new(), sequence: 0 }
    }

    pub(crate) fn plan(&mut self, at: Nanos, event: E) {
        self.sequence += 1;
        self.heap.push(Reverse(Entry { at, sequence: self.sequence, event }));
    }

    /// The next event, if it is due by `until`.
    pub(crate) fn pop(&mut self, until: Nanos) -> Option<(Nanos, E)> {
        if self.heap.peek()?.0.at > until {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| (entry.at, entry.event))
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.sequence == other.sequence
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

/// 2026-02-02.
pub(crate) const START_UNIX: Duration = Duration::from_secs(1_770_000_000);
/// The wall clock stays within a year of its start, so that tokens can be made that are good, or bad, whatever it does.
const EARLIEST_UNIX: Duration = Duration::from_secs(1_770_000_000 - YEAR);
const LATEST_UNIX: Duration = Duration::from_secs(1_770_000_000 + YEAR);
const YEAR: u64 = 365 * 86_400;
