//! The clocks, read once per wake-up.

use std::{
    cell::Cell,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use mahavishnu_core::time::Now;

use crate::stepped::Time;

/// The clocks as a shard tells its hub. Time in which the shard did not run, because its process was stopped or its machine
/// was, does not pass there: no client could have been heard or answered in it.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    missed: Cell<Duration>,
    /// What was told last: time that a hub has seen is not taken back.
    told: Cell<Option<Instant>>,
    /// What was left out in the middle of a turn, and not reported yet.
    unreported: Cell<Duration>,
    /// Whoever steps the shard says what time it is.
    stepped: Option<Time>,
}

impl Clock {
    /// The machine's clocks, or the one that is given.
    pub(crate) fn new(stepped: Option<Time>) -> Self {
        Self { stepped, ..Self::default() }
    }

    /// This moment, as alarms are set by. Time in which the shard did not run counts.
    pub(crate) fn instant(&self) -> Instant {
        self.stepped.as_ref().map_or_else(Instant::now, |time| time.now().mono)
    }

    /// Both clocks now. A wall clock before 1970 counts as 1970. Between two looks in one turn nothing takes so long that it
    /// would have to count.
    pub(crate) fn now(&self) -> Now {
        if let Some(time) = &self.stepped {
            return time.now();
        }
        let mut mono = self.mono();
        if let Some(told) = self.told.get() {
            let since = mono.saturating_duration_since(told);
            if since >= EXCUSED_FROM {
                self.leave_out(since);
                self.unreported.set(self.unreported.get().saturating_add(since));
                mono = told;
            }
        }
        self.told.set(Some(mono));
        Now { mono, unix: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() }
    }

    /// When a moment of the hub's comes.
    pub(crate) fn real(&self, at: Instant) -> Instant {
        at + self.missed.get()
    }

    /// The shard has waited, and `deadline` was the next one. If that is long past, it did not run: the time since does not
    /// count, so that a ping that was due goes out before the deadline for its pong comes. How long it did not run since this
    /// was last asked. To be called before anybody is told the time.
    pub(crate) fn excuse(&self, deadline: Option<Instant>) -> Option<Duration> {
        if self.stepped.is_some() {
            return None;
        }
        let late = deadline.map_or(Duration::ZERO, |deadline| {
            // A process may be stopped in the middle of a turn, too: what the hub has seen pass has passed.
            let since = self.told.get().map_or(deadline, |told| told.max(deadline));
            self.mono().saturating_duration_since(since)
        });
        let mut missed = self.unreported.take();
        if late >= EXCUSED_FROM {
            self.leave_out(late);
            missed = missed.saturating_add(late);
        }
        self.told.set(Some(self.mono()));
        (!missed.is_zero()).then_some(missed)
    }

    fn mono(&self) -> Instant {
        let real = Instant::now();
        // It was running for longer than it was not.
        real.checked_sub(self.missed.get()).unwrap_or(real)
    }

    fn leave_out(&self, time: Duration) {
        self.missed.set(self.missed.get().saturating_add(time));
    }
}

/// Being late by less is being busy.
const EXCUSED_FROM: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_in_which_it_did_not_run_does_not_pass() {
        let clock = Clock::default();
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
        let clock = Clock::default();
        let told = clock.now().mono;
        let deadline = told.checked_sub(Duration::from_secs(5)).unwrap();
        assert_eq!(clock.excuse(Some(deadline)), None);
        assert!(clock.now().mono >= told);
    }

    #[test]
    fn a_process_may_be_stopped_in_the_middle_of_a_turn() {
        let clock = Clock::default();
        // As if five seconds had gone by between two looks.
        let told = clock.now().mono.checked_sub(Duration::from_secs(5)).unwrap();
        clock.told.set(Some(told));
        assert_eq!(clock.now().mono, told);
        assert!(clock.excuse(None).unwrap() >= Duration::from_secs(5));
        assert_eq!(clock.excuse(None), None, "only once");
    }

    #[test]
    fn who_waits_for_long_has_not_been_stopped() {
        let clock = Clock::default();
        let told = clock.now().mono.checked_sub(Duration::from_secs(30)).unwrap();
        clock.told.set(Some(told));
        assert_eq!(clock.excuse(None), None);
        assert!(clock.now().mono.saturating_duration_since(told) >= Duration::from_secs(30));
    }
}
