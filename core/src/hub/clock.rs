//! The wall clock: whether somebody has set it, and what is certain about it meanwhile.

use std::time::Duration;

use crate::{
    auth::Moment,
    time::{Instant, Now},
};

/// Watches the wall clock by the monotonic one.
#[derive(Debug)]
pub(super) struct WallClock {
    started: Instant,
    /// Both clocks, when they last were where they were expected.
    watched: Now,
    /// How far it was set forward of late: perhaps it comes back.
    doubted: Duration,
    /// When it was.
    doubted_since: Instant,
}

/// The wall clock was set, or the machine has slept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leap {
    Forward(Duration),
    Back(Duration),
}

impl WallClock {
    pub(super) fn new(now: Now) -> Self {
        Self { started: now.mono, watched: now, doubted: Duration::ZERO, doubted_since: now.mono }
    }

    /// Whether it was set, or has drifted, since the last look: what was planned by it is to be planned anew.
    #[inline]
    pub(super) fn look(&mut self, now: Now) -> Option<Leap> {
        let leap = self.leap(now)?;
        self.doubted = self.doubt(now);
        if matches!(leap, Leap::Forward(_)) {
            self.doubted_since = now.mono;
        }
        self.watched = now;
        Some(leap)
    }

    /// The moment that revocations go by. A wall clock that was set forward is not believed at once.
    pub(super) fn moment(&self, now: Now) -> Moment {
        Moment {
            wall: now.unix.saturating_sub(self.doubt(now)),
            steady: now.mono.saturating_duration_since(self.started),
        }
    }

    #[inline]
    fn leap(&self, now: Now) -> Option<Leap> {
        let passed = now.mono.saturating_duration_since(self.watched.mono);
        let expected = self.watched.unix.saturating_add(passed);
        let by = expected.abs_diff(now.unix);
        if by <= DRIFT_MAX {
            return None;
        }
        Some(if now.unix > expected { Leap::Forward(by) } else { Leap::Back(by) })
    }

    fn doubt(&self, now: Now) -> Duration {
        let doubted_for = now.mono.saturating_duration_since(self.doubted_since);
        let doubted = if doubted_for < BELIEVED_AFTER { self.doubted } else { Duration::ZERO };
        match self.leap(now) {
            Some(Leap::Forward(by)) => doubted.saturating_add(by),
            Some(Leap::Back(by)) => doubted.saturating_sub(by),
            None => doubted,
        }
    }
}

/// How far the wall clock may be from where it was expected before deadlines are worked out anew.
const DRIFT_MAX: Duration = Duration::from_secs(1);

/// A wall clock that was set forward and has stayed so for this long ends revocations by their `until` again.
const BELIEVED_AFTER: Duration = Duration::from_secs(3600);

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);
    const MINUTE: Duration = Duration::from_secs(60);

    fn noon() -> Now {
        Now { mono: Instant::now(), unix: Duration::from_secs(1_770_000_000) }
    }

    #[test]
    fn a_wall_clock_that_was_set_is_noticed_once() {
        let start = noon();
        let mut clock = WallClock::new(start);
        let later = start.plus(MINUTE);
        assert_eq!(clock.look(later), None);
        let set = Now { unix: later.unix + DAY, ..later };
        assert_eq!((clock.look(set), clock.look(set)), (Some(Leap::Forward(DAY)), None));
        assert_eq!(clock.look(later), Some(Leap::Back(DAY)));
    }

    #[test]
    fn a_leap_is_not_believed_at_once_whether_it_was_noticed_or_not() {
        let start = noon();
        let mut clock = WallClock::new(start);
        let set = Now { unix: start.unix + 40 * DAY, ..start };
        assert_eq!(clock.moment(set).wall, start.unix);
        clock.look(set);
        assert_eq!(clock.moment(set).wall, start.unix);
        assert_eq!(clock.moment(set.plus(MINUTE)).wall, start.unix + MINUTE);
        let again = Now { unix: set.unix + DAY, ..set };
        assert_eq!(clock.moment(again).wall, start.unix);
        let back = start.plus(MINUTE);
        assert_eq!(clock.moment(back).wall, back.unix);
        clock.look(back);
        assert_eq!(clock.moment(back).wall, back.unix);
    }

    #[test]
    fn a_clock_that_stays_set_is_believed_in_the_end() {
        let start = noon();
        let mut clock = WallClock::new(start);
        let set = Now { unix: start.unix + 40 * DAY, ..start };
        clock.look(set);
        let later = set.plus(BELIEVED_AFTER);
        assert_eq!(clock.moment(later).wall, later.unix);
        assert_eq!(clock.moment(later).steady, BELIEVED_AFTER);
    }

    #[test]
    fn a_clock_that_is_set_back_is_believed() {
        let start = noon();
        let clock = WallClock::new(start);
        let back = Now { unix: Duration::ZERO, ..start };
        assert_eq!(clock.moment(back).wall, Duration::ZERO);
    }
}
