//! The clocks, read once per wake-up.

use std::{
    cell::Cell,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use mahavishnu_core::time::Now;

/// The clocks as a shard tells its hub. Time in which the shard did not run, because its process was stopped or its machine
/// was, does not pass there: no client could have been heard or answered in it.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    missed: Duration,
    /// What was told last: time that a hub has seen is not taken back.
    told: Cell<Option<Instant>>,
}

impl Clock {
    /// Both clocks now. A wall clock before 1970 counts as 1970.
    pub(crate) fn now(&self) -> Now {
        let mono = self.mono();
        self.told.set(Some(mono));
        Now { mono, unix: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() }
    }

    fn mono(&self) -> Instant {
        let real = Instant::now();
        // It was running for longer than it was not.
        real.checked_sub(self.missed).unwrap_or(real)
    }

    /// When a moment of the hub's comes.
    pub(crate) fn real(&self, at: Instant) -> Instant {
        at + self.missed
    }

    /// The shard runs again, and `deadline` was the next one. If that is long past, it did not run: the time since does not
    /// count, so that a ping that was due goes out before the deadline for its pong comes. How long that was. Only what the
    /// hub has not seen pass can be left out: a process may be stopped in the middle of a turn.
    pub(crate) fn excuse(&mut self, deadline: Option<Instant>) -> Option<Duration> {
        let since = deadline?.max(self.told.get().unwrap_or(deadline?));
        let late = self.mono().saturating_duration_since(since);
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

        // As if the deadline had passed long ago, and the hub had been told of no time since.
        let deadline = before.checked_sub(Duration::from_secs(5)).unwrap();
        clock.told.set(Some(deadline));
        let late = clock.excuse(Some(deadline)).unwrap();

        assert!(late >= Duration::from_secs(5), "{late:?}");
        let now = clock.now().mono;
        assert!(now.saturating_duration_since(deadline) < Duration::from_secs(1));
        assert!(clock.real(now) >= before);
        assert_eq!(clock.excuse(Some(deadline)), None, "only once");
    }
    #[test]
    fn what_the_hub_has_seen_pass_is_not_taken_back() {
        let mut clock = Clock::default();
        // The process was stopped in the middle of a turn: the hub was told the time after that.
        let told = clock.now().mono;
        let deadline = told.checked_sub(Duration::from_secs(5)).unwrap();
        assert_eq!(clock.excuse(Some(deadline)), None);
        assert!(clock.now().mono >= told);
    }
}
