//! Time as an input, and the timers that wait for it.
//!
//! The core never reads a clock. The driver reads both clocks once per wake-up and passes them as [`Now`].

use std::{cmp::Reverse, collections::BinaryHeap, num::NonZeroU64, time::Duration};

/// A moment of the driver's monotonic clock.
///
/// It is named here and nowhere else in this crate and in the core, so that there is one place to put another in for
/// platforms where the standard library's cannot be made, such as a browser.
pub use std::time::Instant;

/// The current time, read once per wake-up by whoever drives the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Monotonic time: every deadline is measured against it. Must not decrease between calls.
    pub mono: Instant,
    /// Wall-clock time since the Unix epoch: token claims and timestamps. May jump either way.
    pub unix: Duration,
}

impl Now {
    /// The same wall-clock offset, `step` later on both clocks.
    #[must_use]
    pub fn plus(self, step: Duration) -> Self {
        Self { mono: self.mono + step, unix: self.unix + step }
    }
}

/// A moment in half of the memory of an [`Instant`], which an `Option` does not enlarge: what every connection has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tick(NonZeroU64);

impl Tick {
    /// `at` in nanoseconds since `start`. What was before that is taken for `start`, and what is five centuries later for
    /// then.
    #[must_use]
    pub fn new(start: Instant, at: Instant) -> Self {
        let nanos = u64::try_from(at.saturating_duration_since(start).as_nanos());
        Self(NonZeroU64::MIN.saturating_add(nanos.unwrap_or(u64::MAX)))
    }

    /// The moment, given the same `start`.
    #[must_use]
    pub fn instant(self, start: Instant) -> Instant {
        start + Duration::from_nanos(self.0.get() - 1)
    }
}

/// Deadlines of many owners, soonest first.
///
/// An owner has at most one effective deadline: arming again replaces it. Replaced and cancelled entries stay in the
/// heap until they come up and are then skipped, because the owner's own record (`current`) no longer names them.
/// A deadline that only moves *later* costs nothing: the old entry comes up, is compared and re-armed.
#[derive(Debug)]
pub struct Timers<K> {
    start: Instant,
    heap: BinaryHeap<Reverse<(Tick, K)>>,
    /// The first of the heap, at hand: it is asked for in every turn, and mostly nothing is due.
    next: Option<Instant>,
}

impl<K: Ord + Copy> Timers<K> {
    /// No deadlines. None may be for a moment before `start`: it would be due then.
    #[must_use]
    pub fn new(start: Instant) -> Self {
        Self { start, heap: BinaryHeap::new(), next: None }
    }

    /// Wakes `key` at `at`. The caller remembers `at` as the entry it believes in and ignores others.
    pub fn arm(&mut self, at: Instant, key: K) {
        let tick = Tick::new(self.start, at);
        self.heap.push(Reverse((tick, key)));
        if self.next.is_none_or(|next| at < next) {
            self.next = Some(tick.instant(self.start));
        }
    }

    /// The next entry that is due, with the instant it was armed for.
    pub fn pop_due(&mut self, now: Instant) -> Option<(Instant, K)> {
        let at = self.next.filter(|at| *at <= now)?;
        let Reverse((_, key)) = self.heap.pop()?;
        self.look();
        Some((at, key))
    }

    /// When the soonest entry comes up; it may turn out to have been replaced.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.next
    }

    /// The soonest entry, with whose it is.
    #[must_use]
    pub fn peek(&self) -> Option<(Instant, K)> {
        self.heap.peek().map(|Reverse((at, key))| (at.instant(self.start), *key))
    }

    fn look(&mut self) {
        self.next = self.heap.peek().map(|Reverse((at, _))| at.instant(self.start));
    }

    /// Entries in the heap, replaced ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether no entry is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// Drops every entry that `keep` no longer believes in, if those of the `live` owners are far outnumbered by them.
    #[inline]
    pub fn compact(&mut self, live: usize, keep: impl FnMut(Instant, K) -> bool) {
        if self.len() > KEPT.max(4 * live) {
            self.retain(keep);
        }
    }

    fn retain(&mut self, mut keep: impl FnMut(Instant, K) -> bool) {
        let start = self.start;
        self.heap.retain(|Reverse((at, key))| keep(at.instant(start), *key));
        self.look();
    }
}

/// A heap of so few entries is left alone.
const KEPT: usize = 1024;

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_tick_is_the_moment_it_was_made_of() {
        let start = Instant::now();
        let later = start + Duration::new(40_000_000, 123_456_789);
        assert_eq!(Tick::new(start, later).instant(start), later);
        assert_eq!(Tick::new(start, start).instant(start), start);
        assert_eq!(Tick::new(later, start).instant(later), later, "not before the start");
        assert!(Tick::new(start, start) < Tick::new(start, later));
        assert_eq!(size_of::<Option<Tick>>(), 8);
    }

    proptest! {
        /// Against an ordered map: with the caller's rule (believe only the latest `arm`), both fire the same owners
        /// in the same order.
        #[test]
        fn timers_fire_like_an_ordered_map(steps in prop::collection::vec((0u8..3, 0u32..8, 0u64..50), 1..200)) {
            let start = Instant::now();
            let mut timers = Timers::new(start);
            let mut believed: BTreeMap<u32, Instant> = BTreeMap::new();
            let mut model: BTreeMap<(Instant, u32), ()> = BTreeMap::new();
            let mut now = start;
            for (what, key, ms) in steps {
                match what {
                    0 => {
                        let at = now + Duration::from_millis(ms);
                        if let Some(old) = believed.insert(key, at) {
                            model.remove(&(old, key));
                        }
                        model.insert((at, key), ());
                        timers.arm(at, key);
                    }
                    1 => {
                        if let Some(old) = believed.remove(&key) {
                            model.remove(&(old, key));
                        }
                    }
                    _ => {
                        now += Duration::from_millis(ms);
                        let mut fired = Vec::new();
                        while let Some((at, key)) = timers.pop_due(now) {
                            if believed.get(&key) == Some(&at) {
                                believed.remove(&key);
                                fired.push((at, key));
                            }
                        }
                        let mut expected = Vec::new();
                        while let Some((&(at, key), ())) = model.first_key_value() {
                            if at > now {
                                break;
                            }
                            model.remove(&(at, key));
                            expected.push((at, key));
                        }
                        prop_assert_eq!(fired, expected);
                    }
                }
            }
        }
    }
}
