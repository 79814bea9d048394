//! The clocks, read once per wake-up.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mahavishnu_core::time::Now;

/// The clocks as a shard tells its hub. Time in which the shard did not run, because its process was stopped or its machine
/// was, does not pass there: no client could have been heard or answered in it.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    missed: Duration,
}

impl Clock {
    /// Both clocks now. A wall clock before 1970 counts as 1970.
    pub(crate) fn now(&self) -> Now {
        let real = Instant::now();
        Now {
            // It was running for longer than it was not.
            mono: real.checked_sub(self.missed).unwrap_or(real),
            unix: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
        }
    }

    /// When a moment of the hub's comes.
    pub(crate) fn real(&self, at: Instant) -> Instant {
        at + self.missed
    }

    /// The shard runs again, and `deadline` was the next one. If that is long past, it did not run: the time since does not
    /// count, so that a ping that was due goes out before the deadline for its pong comes. How long that was.
    pub(crate) fn excuse(&mut self, deadline: Option<Instant>) -> Option<Duration> {
        let late = self.now().mono.saturating_duration_since(deadline?);
        if late < EXCUSED_FROM {
            return None;
        }
        self.missed = self.missed.saturating_add(late);
        Some(late)
    }
}

/// Being late by less is being busy.
const EXCUSED_FROM: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_in_which_it_did_not_run_does_not_pass() {
        let mut clock = Clock::default();
        let before = clock.now().mono;
        assert_eq!(clock.excuse(None), None);
        assert_eq!(clock.excuse(Some(before)), None, "busy");

        // As if the deadline had passed long ago.
        let deadline = before.checked_sub(Duration::from_secs(5)).unwrap();
        let late = clock.excuse(Some(deadline)).unwrap();

        assert!(late >= Duration::from_secs(5), "{late:?}");
        let now = clock.now().mono;
        assert!(now.saturating_duration_since(deadline) < Duration::from_secs(1));
        assert!(clock.real(now) >= before);
        assert_eq!(clock.excuse(Some(deadline)), None, "only once");
    }
}
