//! Stopping: no new connections, a close with 1001 for each that is there, and an end after a deadline.

use std::time::Duration;

use super::{
    Hub,
    conn::Session,
    timers::Timer,
    types::{DrainPlan, Output},
};
use crate::{
    reason::Reason,
    time::{Instant, Now},
};

/// Where the hub is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Running,
    /// Closing connections; those left at the instant are dropped.
    Draining(Instant),
    /// No connection is left, or the deadline is over.
    Drained,
}

impl Hub {
    pub(crate) fn is_draining(&self) -> bool {
        self.stage != Stage::Running
    }

    /// Begins to drain. A second call changes nothing.
    pub(crate) fn on_drain(&mut self, now: Now, plan: DrainPlan) {
        if self.is_draining() {
            return;
        }
        let deadline = now.mono + plan.deadline;
        self.stage = Stage::Draining(deadline);
        self.timers.arm(deadline, Timer::Drain);
        let indices: Vec<u32> = self.conns.indices().collect();
        let step = plan.window / u32::try_from(indices.len()).unwrap_or(u32::MAX).max(1);
        let mut after = Duration::ZERO;
        for index in indices {
            let Some(generation) = self.conns.generation(index) else { continue };
            let id = self.id(index, generation);
            match self.conn(id).map(|conn| conn.session) {
                Some(Session::Active | Session::Unauthenticated { .. })
                    if !plan.window.is_zero() =>
                {
                    if let Some((conn, _)) = self.conn_mut(id) {
                        conn.aside.put().deadline = Some(now.mono + after);
                    }
                    after += step;
                    self.arm(id);
                }
                Some(Session::Active | Session::Unauthenticated { .. }) => {
                    self.close(now, id, Reason::Shutdown)
                }
                Some(Session::Http) => self.end_http(now, id),
                Some(Session::Gone) | None => {}
            }
        }
        self.check_drained();
    }

    pub(crate) fn on_drain_timer(&mut self, now: Now) {
        let Stage::Draining(deadline) = self.stage else { return };
        if deadline > now.mono {
            return;
        }
        let indices: Vec<u32> = self.conns.indices().collect();
        for index in indices {
            let Some(generation) = self.conns.generation(index) else { continue };
            let id = self.id(index, generation);
            self.retire(now, id, Reason::CloseTimeout);
            self.remove(id);
        }
        self.check_drained();
    }

    /// Says so once the last connection is gone.
    pub(crate) fn check_drained(&mut self) {
        if matches!(self.stage, Stage::Draining(_)) && self.conns.len() == 0 {
            self.stage = Stage::Drained;
            self.outputs.push_back(Output::Drained);
        }
    }
}
