//! Time, which is given.

use std::time::Duration;

/// The clock of a server: what the world says, and by how much this one is wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// Since the world began.
    now: Duration,
    /// Unix time when the world began, as this clock would have it, in microseconds.
    start: i64,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { now: Duration::ZERO, start: BEGINNING }
    }

    /// The world's time. Panics where it goes backwards.
    pub(crate) fn set(&mut self, now: Duration) {
        assert!(now >= self.now, "time goes backwards: from {:?} to {now:?}", self.now);
        self.now = now;
    }

    pub(crate) fn now(&self) -> Duration {
        self.now
    }

    /// The clock is set by hand.
    pub(crate) fn jump(&mut self, by: i64) {
        self.start += by;
    }

    /// Unix time in microseconds.
    pub(crate) fn unix_micros(&self) -> u64 {
        let now = i64::try_from(self.now.as_micros()).expect("less than 292,000 years");
        u64::try_from(self.start.saturating_add(now)).unwrap_or_default()
    }

    /// Unix time in milliseconds.
    pub(crate) fn unix_ms(&self) -> u64 {
        self.unix_micros() / 1000
    }
}

/// A Sunday in 2026.
const BEGINNING: i64 = 1_790_000_000_000_000;
