//! Stopping: notice for load balancers, then no new connections, a close with 1001 for each that is there, and an end after
//! a deadline.

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
    /// Whoever asks is told that it is about to stop. At the instant it begins, by the plan.
    Noticed(Instant, DrainPlan),
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
        matches!(self.stage, Stage::Draining(_) | Stage::Drained)
    }

    /// Whether nobody is to be sent here any more.
    pub(super) fn is_told(&self) -> bool {
        self.stage != Stage::Running
    }

    /// Somebody wants an end at `now`. The plan if it begins at once, and not with a notice or not again.
    pub(super) fn notice(&mut self, now: Instant, plan: DrainPlan) -> Option<DrainPlan> {
        match self.stage {
            Stage::Running | Stage::Noticed(..) if plan.notice.is_zero() => Some(plan),
            Stage::Running => {
                self.stage = Stage::Noticed(now + plan.notice.min(CENTURY), plan);
                None
            }
            Stage::Noticed(..) | Stage::Draining(_) | Stage::Drained => None,
        }
    }

    /// What is to begin at the [deadline](Self::deadline), if it is that of a notice.
    pub(super) fn noticed(&self) -> Option<DrainPlan> {
        match self.stage {
            Stage::Noticed(_, plan) => Some(plan),
            Stage::Running | Stage::Draining(_) | Stage::Drained => None,
        }
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
        let (window, deadline) = (plan.window.min(CENTURY), plan.deadline.min(CENTURY));
        self.stage = Stage::Draining(now + deadline);
        let ids = connections.ids();
        let step = window / u32::try_from(ids.len()).unwrap_or(u32::MAX).max(1);
        let (mut after, mut steps) = (Duration::ZERO, Vec::new());
        for id in ids {
            match connections.get(id).map(|conn| conn.phase) {
                Some(Phase::Active | Phase::Unauthenticated { .. }) if !window.is_zero() => {
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

    /// When what is left is dropped, or the notice is over.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.stage {
            Stage::Noticed(deadline, _) | Stage::Draining(deadline) => Some(deadline),
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
    fn notice_is_given_once_and_ends_by_time_or_by_an_end_without() {
        let env = env(Config::default());
        let (now, second) = (env.now.mono, Duration::from_secs(1));
        let plan = DrainPlan { notice: second, ..DrainPlan::default() };
        let mut drain = Drain::default();
        assert!(!drain.is_told());

        assert_eq!(drain.notice(now, plan), None);

        assert!(drain.is_told() && !drain.has_begun() && !drain.may_wait(now));
        assert_eq!((drain.deadline(), drain.noticed()), (Some(now + second), Some(plan)));
        assert_eq!(drain.notice(now + second, plan), None, "a second one changes nothing");
        assert_eq!(drain.deadline(), Some(now + second));
        let at_once = DrainPlan::default();
        assert_eq!(drain.notice(now, at_once), Some(at_once));
        drain.begin(&env, &mut connections(&env), at_once);
        assert_eq!((drain.notice(now, at_once), drain.noticed()), (None, None));
        assert!(drain.has_begun() && drain.is_told());
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
