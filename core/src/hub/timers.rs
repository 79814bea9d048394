//! Deadlines: of connections, of questions to the application, of a drain.

use super::{
    Hub,
    types::{ConnId, RequestId},
};
use crate::time::{Instant, Now, Tick};

/// What waits besides connections, whose timers are many and so have a heap of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    Question(RequestId),
    Drain,
}

impl Hub {
    pub(crate) fn on_timeout(&mut self, now: Now) {
        self.watch_clock(now);
        self.go_on_shaking(now);
        if self.poll_timeout().is_none_or(|next| next > now.mono) {
            return;
        }
        // Handling a deadline may bring another that is due as well, but only so often. Should one come back for ever, the
        // driver gets its turn all the same, and sees that `poll_timeout` does not advance.
        for _ in 0..self.armed_timers().saturating_mul(TIMEOUTS_PER_TIMER) {
            // In the order of time, connections first.
            let others = self.timers.next();
            let due = others.map_or(now.mono, |other| other.min(now.mono));
            if let Some((at, index)) = self.conn_timers.pop_due(due) {
                self.on_conn_timer(now, index, at);
                continue;
            }
            match self.timers.pop_due(now.mono) {
                Some((_, Timer::Question(id))) => self.on_question_timer(now, id),
                Some((_, Timer::Drain)) => self.on_drain_timer(now),
                None => break,
            }
        }
    }

    pub(crate) fn armed_timers(&self) -> usize {
        self.conn_timers.len() + self.timers.len()
    }

    pub(crate) fn arm(&mut self, id: ConnId) {
        let start = self.started;
        let Some((conn, limits)) = self.conn_mut(id) else { return };
        let own = conn.aside.get().deadline;
        let Some(at) = own.into_iter().chain(conn.ws.poll_timeout(limits)).min() else { return };
        let tick = Tick::new(start, at);
        if conn.armed.is_none_or(|armed| tick < armed) {
            conn.armed = Some(tick);
            self.conn_timers.arm(at, id.index);
        }
    }

    fn on_conn_timer(&mut self, now: Now, index: u32, at: Instant) {
        let armed = Tick::new(self.started, at);
        let Some(generation) = self.conns.generation(index) else { return };
        let id = self.id(index, generation);
        let Some((conn, limits)) = self.conn_mut(id) else { return };
        if conn.armed != Some(armed) {
            return;
        }
        conn.armed = None;
        let own = conn.aside.get_mut().is_some_and(|aside| {
            aside.deadline.take_if(|deadline| *deadline <= now.mono).is_some()
        });
        let due = conn.ws.poll_timeout(limits).is_some_and(|deadline| deadline <= now.mono);
        let event = if due { conn.ws.handle_timeout(now, limits) } else { None };
        if let Some(event) = event {
            self.on_event(now, id, event);
        }
        if own {
            self.on_session_deadline(now, id);
        }
        self.settle(id);
        if due {
            self.mark_dirty(id.index);
        }
    }

    /// Timers that were armed again or whose owner is gone stay in the heap; too many of them are cleared out.
    pub(crate) fn compact_timers(&mut self) {
        if self.armed_timers() > 1024
            && self.armed_timers() > 4 * (self.conns.len() + self.questions.len())
        {
            let (conns, questions, start) = (&self.conns, &self.questions, self.started);
            self.conn_timers.compact(|at, index| {
                conns.get(index).is_some_and(|conn| conn.armed == Some(Tick::new(start, at)))
            });
            self.timers.compact(|_, timer| match timer {
                Timer::Question(id) => questions.get_at(id.index, id.generation).is_some(),
                Timer::Drain => true,
            });
        }
    }
}

/// Deadlines of one connection that can follow each other at one instant, if their limits are zero: ping, pong, close,
/// linger. Twice that is more than enough.
const TIMEOUTS_PER_TIMER: usize = 8;
