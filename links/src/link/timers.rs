//! What happens by itself.

use std::time::Duration;

use mahavishnu_core::{
    hub::{BusEvent, BusState, LinkEvent},
    time::{Instant, Now},
};

use super::{Link, Phase};
use crate::stats::Outage;

impl Link {
    /// A deadline has come. Nothing happens before [`poll_timeout`](Self::poll_timeout).
    pub fn handle_timeout(&mut self, now: Now) {
        self.excuse_if_stopped(now);
        self.time_out(now);
        for call in self.calls.unpark(now.mono) {
            self.send(now, call);
        }
        if self.is_up() && self.next_check <= now.mono {
            self.plan_check(now);
            self.follows.check(now.mono);
            self.control.check();
        }
        if self.next_tick <= now.mono {
            self.next_tick = now.mono + self.config.limits.probe_interval;
            self.tick(now);
        }
        self.settle(now);
    }

    /// When something happens next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Paused(at)
            | Phase::Resolving(at)
            | Phase::Connecting(at)
            | Phase::Greeting(at)
            | Phase::Waiting(_, at) => Some(at),
            Phase::Preparing(_) => None,
            Phase::Up(_) => Some(self.next_check),
            Phase::Over => return None,
        };
        let times =
            [phase, Some(self.next_tick), self.stuck_at(), self.calls.again(), self.stopping];
        times.into_iter().flatten().min()
    }

    /// When nothing will have come for too long, if something is owed; or no answer, though other things do: then what is
    /// asked gets lost on its way.
    fn stuck_at(&self) -> Option<Instant> {
        let owed = self.calls.owed_since().filter(|_| !self.hub_full)?;
        let timeout = self.config.timeout;
        Some((self.heard + timeout).min(owed + timeout + self.config.limits.probe_timeout))
    }

    /// Whoever was not called for so long could not hear anything either: what came meanwhile is still to be read.
    fn excuse_if_stopped(&mut self, now: Now) {
        let late =
            self.deadline().is_some_and(|due| now.mono.saturating_duration_since(due) > LATE);
        if late {
            self.excuse(now.mono);
        }
    }

    /// Nothing could come until now: that is nobody's fault.
    pub(super) fn excuse(&mut self, now: Instant) {
        self.heard = now;
        self.calls.excuse(now);
        self.probes.excuse(now);
    }

    fn time_out(&mut self, now: Now) {
        let stuck = self.stuck_at().is_some_and(|at| at <= now.mono);
        match &mut self.phase {
            Phase::Paused(at) if *at <= now.mono => self.attempt(now),
            Phase::Resolving(at) if *at <= now.mono => {
                self.miss(now, Outage::Resolve, "its name was not resolved in time");
            }
            Phase::Connecting(at) if *at <= now.mono => {
                self.miss(now, Outage::Connect, "no connection in time");
            }
            Phase::Greeting(at) if *at <= now.mono => {
                self.miss(now, Outage::Timeout, "it did not say who it is in time");
            }
            Phase::Waiting(findings, at) if *at <= now.mono => {
                let findings = std::mem::take(&mut **findings);
                self.heard = now.mono;
                self.prepare(now, findings);
            }
            Phase::Preparing(_) | Phase::Up(_) if stuck => {
                let cause = format!("no answer for {} s", self.config.timeout.as_secs_f32());
                self.miss(now, Outage::Timeout, &cause);
            }
            Phase::Paused(_)
            | Phase::Resolving(_)
            | Phase::Connecting(_)
            | Phase::Greeting(_)
            | Phase::Preparing(_)
            | Phase::Waiting(..)
            | Phase::Up(_)
            | Phase::Over => {}
        }
    }

    /// Each second.
    fn tick(&mut self, now: Now) {
        let Phase::Up(since) = self.phase else { return self.tell(now) };
        let limits = &self.config.limits;
        if now.mono.saturating_duration_since(since) >= limits.backoff_reset {
            self.finder.forgive();
        }
        let lost = self.probes.lost(now.mono, limits.probe_timeout);
        if lost > 0 && !self.hub_full {
            self.stats.probes_lost += lost as u64;
            self.miss(now, Outage::Probe, "it takes messages and delivers none");
        } else {
            self.follows.retry();
            self.probe(now);
        }
        self.tell(now);
    }

    /// Tells the hub how the bus does, if that has changed.
    pub(super) fn tell_state(&mut self, now: Now) {
        let state = self.state(now);
        let BusState { up, cause, full, .. } = &self.told;
        if (up, cause, full) != (&state.up, &state.cause, &state.full) {
            self.tell(now);
        }
    }

    fn tell(&mut self, now: Now) {
        let state = self.state(now);
        self.told = state.clone();
        self.events.push_back(BusEvent::Link(LinkEvent::State(state)));
    }

    fn state(&self, now: Now) -> BusState {
        let age = self.probes.age(now.mono);
        let lives = age.is_some_and(|age| age < self.config.limits.probe_timeout);
        BusState {
            up: self.is_up() && lives && self.probes.has_returned(),
            probe_age: age,
            probe_time: self.probes.time(),
            cause: self.cause.clone().filter(|_| !self.is_up()),
            full: self.full,
        }
    }
}

/// So much later than it was to be called, a link was not asleep but stopped.
const LATE: Duration = Duration::from_millis(500);
