//! Stopping: no new connections, a close with 1001 for each that is there, and an end after a deadline.

use std::time::Duration;

use crate::time::Instant;

use super::{
    connections::{Conn, Connections, Phase},
    env::Env,
    types::{ConnId, DrainPlan},
};

/// Where the hub is in its life.
#[derive(Debug, Default)]
pub(super) struct Drain {
    stage: Stage,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Running,
    /// Closing connections; those left at the instant are dropped.
    Draining(Instant),
    /// No connection is left, or the deadline is over.
    Drained,
}

/// What a drain does to a connection at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It is closed.
    Close(ConnId),
    /// It speaks HTTP, and ends as soon as no answer is due.
    EndHttp(ConnId),
}

impl Drain {
    /// Whether no new connections are taken.
    pub(super) fn has_begun(&self) -> bool {
        self.stage != Stage::Running
    }

    /// Begins. A second call changes nothing. The connections that are closed at once; each of the others gets its turn
    /// within the plan's window as its deadline.
    pub(super) fn begin(
        &mut self,
        env: &Env,
        connections: &mut Connections,
        plan: DrainPlan,
    ) -> Vec<Step> {
        if self.has_begun() {
            return Vec::new();
        }
        let now = env.now.mono;
        // What no clock can count to is as good as this.
        let plan =
            DrainPlan { window: plan.window.min(CENTURY), deadline: plan.deadline.min(CENTURY) };
        self.stage = Stage::Draining(now + plan.deadline);
        let ids = connections.ids();
        let step = plan.window / u32::try_from(ids.len()).unwrap_or(u32::MAX).max(1);
        let (mut after, mut steps) = (Duration::ZERO, Vec::new());
        for id in ids {
            match connections.get(id).map(|conn| conn.phase) {
                Some(Phase::Active | Phase::Unauthenticated { .. }) if !plan.window.is_zero() => {
                    if let Some(rare) = connections.edit(id).map(Conn::rare_mut) {
                        rare.deadline = Some(now + after);
                    }
                    after += step;
                }
                Some(Phase::Active | Phase::Unauthenticated { .. }) => steps.push(Step::Close(id)),
                Some(Phase::Http) => steps.push(Step::EndHttp(id)),
                Some(Phase::Gone) | None => {}
            }
        }
        steps
    }

    /// When what is left is dropped.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.stage {
            Stage::Draining(deadline) => Some(deadline),
            Stage::Running | Stage::Drained => None,
        }
    }

    /// Whether it goes on although no connection is left, `now`: something else may have to be awaited.
    pub(super) fn may_wait(&self, now: Instant) -> bool {
        matches!(self.stage, Stage::Draining(deadline) if now < deadline)
    }

    /// Whether a drain is complete by now, which is said once.
    #[must_use]
    pub(super) fn complete(&mut self, connections: &Connections) -> bool {
        let complete = matches!(self.stage, Stage::Draining(_)) && connections.len() == 0;
        if complete {
            self.stage = Stage::Drained;
        }
        complete
    }
}

const CENTURY: Duration = Duration::from_secs(100 * 365 * 86_400);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Config,
        hub::testing::{active, connections, end, env, socket},
    };

    #[test]
    fn without_a_window_all_end_at_once() {
        let mut env = env(Config::default());
        let mut connections = connections(&env);
        let http = socket(&env, &mut connections);
        let id = active(&mut env, &mut connections);
        let mut drain = Drain::default();

        let steps = drain.begin(&env, &mut connections, DrainPlan::default());

        assert_eq!(steps, [Step::EndHttp(http), Step::Close(id)]);
        assert!(drain.has_begun());
        assert!(drain.begin(&env, &mut connections, DrainPlan::default()).is_empty(), "once");
    }

    #[test]
    fn a_window_spreads_the_closes() {
        let mut env = env(Config::default());
        let mut connections = connections(&env);
        let ids = [0, 1].map(|_| active(&mut env, &mut connections));
        let mut drain = Drain::default();
        let window = Duration::from_secs(10);

        let plan = DrainPlan { window, ..DrainPlan::default() };
        assert!(drain.begin(&env, &mut connections, plan).is_empty());

        let due = ids.map(|id| connections.get(id).unwrap().rare().deadline.unwrap());
        assert_eq!(due, [env.now.mono, env.now.mono + window / 2]);
    }

    #[test]
    fn it_is_complete_once_when_the_last_is_gone() {
        let mut env = env(Config::default());
        let mut connections = connections(&env);
        let id = active(&mut env, &mut connections);
        let mut drain = Drain::default();
        drain.begin(&env, &mut connections, DrainPlan::default());
        assert!(!drain.complete(&connections) && drain.deadline().is_some());

        end(&mut env, &mut connections, id);

        assert!(drain.complete(&connections) && !drain.complete(&connections));
        assert_eq!(drain.deadline(), None);
        assert!(drain.has_begun());
    }
}
