//! How well the bus does: for each hub of the process, and together.

use std::{sync::Arc, time::Duration};

use crate::{
    hub::{
        bus::{BusState, LinkEvent},
        env::Env,
        types::ShardId,
    },
    time::Instant,
};

/// How one hub's bus does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::hub) struct Link {
    up: bool,
    /// It knows where all channels stand that its hub follows.
    reconciled: bool,
    /// Why it takes no writes, and since when.
    full: Option<(&'static str, Instant)>,
    /// Until then it is proven that it delivers: when the probe was sent that came back last, or the hub was made.
    proven: Instant,
    probed: bool,
    probe_time: Option<Duration>,
    cause: Option<Arc<str>>,
}

impl Link {
    fn new(now: Instant) -> Self {
        Self {
            up: false,
            reconciled: false,
            full: None,
            proven: now,
            probed: false,
            probe_time: None,
            cause: None,
        }
    }

    pub(in crate::hub) fn is_up(&self) -> bool {
        self.up
    }

    /// How long ago the last probe was sent that came back.
    pub(in crate::hub) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.proven)
    }

    /// How long a probe took that has come back since the last time.
    fn learn(&mut self, state: &BusState, now: Instant) -> Option<Duration> {
        self.up = state.up;
        self.cause.clone_from(&state.cause);
        let since = self.full.map_or(now, |(_, since)| since);
        self.full = state.full.map(|why| (why, since));
        let sent = state.probe_age.and_then(|age| now.checked_sub(age))?;
        // What was told before is known but for how its age was rounded.
        let is_new = !self.probed || sent > self.proven + ROUNDING;
        (self.proven, self.probed) = (self.proven.max(sent), true);
        self.probe_time = state.probe_time;
        self.probe_time.filter(|_| is_new)
    }

    /// For how long it has been of no use.
    fn troubled(&self, now: Instant) -> Duration {
        let full =
            self.full.map_or(Duration::ZERO, |(_, since)| now.saturating_duration_since(since));
        self.age(now).max(full)
    }
}

/// How the buses of all hubs of the process do, as one of them knows.
#[derive(Debug)]
pub(in crate::hub) struct Links {
    by_shard: Vec<Link>,
    /// Of this hub.
    own: ShardId,
    /// There was a moment at which all was well.
    passed: bool,
}

/// What a bus has told of itself.
#[derive(Debug)]
pub(in crate::hub) struct Heard {
    /// How it does.
    pub(in crate::hub) link: Box<Link>,
    /// How long a probe took that has just come back.
    pub(in crate::hub) probe: Option<Duration>,
}

/// How well the bus does, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::hub) enum Verdict {
    /// Delivery is proven.
    Passing,
    /// Delivery is late, or something is not known for certain.
    Degraded,
    /// Nothing is delivered, or nothing taken.
    Failing,
}

impl Verdict {
    /// The word in `/health` and `/ready`.
    pub(in crate::hub) fn as_str(self) -> &'static str {
        match self {
            Self::Passing => "passing",
            Self::Degraded => "degraded",
            Self::Failing => "failing",
        }
    }
}

/// How the buses of all hubs do together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::hub) struct Overall {
    pub(in crate::hub) verdict: Verdict,
    /// Whether clients are to be sent here as far as the bus is concerned.
    pub(in crate::hub) ready: bool,
    pub(in crate::hub) up: u16,
    pub(in crate::hub) total: u16,
    pub(in crate::hub) reconciled: bool,
    /// How long the last probe took that came back, where it took longest.
    pub(in crate::hub) probe_time: Option<Duration>,
    /// How long ago the last probe was sent that came back, where it was longest. `None`: none came back yet somewhere.
    pub(in crate::hub) probe_age: Option<Duration>,
    pub(in crate::hub) full: Option<&'static str>,
    pub(in crate::hub) cause: Option<Arc<str>>,
}

impl Links {
    pub(in crate::hub) fn new(shard: ShardId, shards: u16, now: Instant) -> Self {
        let by_shard = (0..shards.max(1)).map(|_| Link::new(now)).collect();
        Self { by_shard, own: shard, passed: false }
    }

    /// How this hub's bus does.
    pub(in crate::hub) fn hear(&mut self, event: &LinkEvent, now: Instant) -> Option<Heard> {
        let link = self.by_shard.get_mut(usize::from(self.own.0))?;
        let mut probe = None;
        match event {
            LinkEvent::Up { .. } => (link.up, link.reconciled) = (true, false),
            LinkEvent::Reconciled => link.reconciled = true,
            LinkEvent::Down => (link.up, link.reconciled) = (false, false),
            LinkEvent::State(state) => probe = link.learn(state, now),
        }
        Some(Heard { link: Box::new(link.clone()), probe })
    }

    /// Another hub's bus does so.
    pub(in crate::hub) fn learn(&mut self, of: ShardId, link: Link) {
        if let Some(slot) = self.by_shard.get_mut(usize::from(of.0)) {
            *slot = link;
        }
    }

    /// All is well now: who has waited for that need not wait any more.
    pub(in crate::hub) fn pass(&mut self) {
        self.passed = true;
    }

    pub(in crate::hub) fn up(&self) -> u16 {
        self.by_shard.iter().map(|link| u16::from(link.up)).sum()
    }

    /// How they do together. `known`: every node that has a lease is heard, this one among them.
    pub(in crate::hub) fn overall(&self, env: &Env, known: bool) -> Overall {
        let (now, links) = (env.now.mono, &self.by_shard);
        let age = links.iter().map(|link| link.age(now)).max();
        let age = age.unwrap_or_default();
        let (up, total) = (self.up(), u16::try_from(links.len()).unwrap_or(u16::MAX));
        let reconciled = links.iter().all(|link| link.reconciled);
        let full = links.iter().find_map(|link| link.full).map(|(why, _)| why);
        let probed = links.iter().all(|link| link.probed);
        let verdict = if age > FAILING_FROM || full.is_some() {
            Verdict::Failing
        } else if age > DEGRADED_FROM || !probed || up < total || !reconciled || !known {
            Verdict::Degraded
        } else {
            Verdict::Passing
        };
        let troubled = links.iter().map(|link| link.troubled(now)).max().unwrap_or_default();
        let grace = env.config.bus.as_ref().and_then(|bus| bus.ready_grace);
        let lasting = |grace| !self.passed || (verdict > Verdict::Passing && troubled >= grace);
        Overall {
            verdict,
            ready: verdict == Verdict::Passing || !grace.is_some_and(lasting),
            up,
            total,
            reconciled,
            probe_time: links.iter().filter_map(|link| link.probe_time).max(),
            probe_age: probed.then_some(age),
            full,
            cause: links.iter().find_map(|link| link.cause.clone()),
        }
    }
}

/// By so much two ages of one probe may differ.
const ROUNDING: Duration = Duration::from_millis(1);

/// A last probe that is older is late: they go out each second.
const DEGRADED_FROM: Duration = Duration::from_secs(3);

/// A last probe that is older says that nothing is delivered.
const FAILING_FROM: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{self, Config},
        hub::testing::{env, wait},
    };

    const SECOND: Duration = Duration::from_secs(1);

    /// The first of two hubs that have a bus.
    fn with_bus(ready_grace: Option<Duration>) -> (Env, Links) {
        let bus = config::Bus { ready_grace, ..config::Bus::default() };
        let env = env(Config { bus: Some(bus), ..Config::default() });
        let links = Links::new(env.place.shard, env.place.shards, env.now.mono);
        (env, links)
    }

    fn state() -> BusState {
        BusState {
            up: true,
            probe_age: Some(Duration::ZERO),
            probe_time: Some(Duration::from_millis(1)),
            ..BusState::default()
        }
    }

    /// Both are well, by what this one's own bus has told.
    fn prove(env: &Env, links: &mut Links) {
        let now = env.now.mono;
        links.hear(&LinkEvent::Up { session: 1 }, now).unwrap();
        links.hear(&LinkEvent::Reconciled, now).unwrap();
        let heard = links.hear(&LinkEvent::State(state()), now).unwrap();
        links.learn(ShardId(1), *heard.link);
        if links.overall(env, true).verdict == Verdict::Passing {
            links.pass();
        }
    }

    #[test]
    fn it_passes_when_every_hubs_bus_has_proven_that_it_delivers() {
        let (env, mut links) = with_bus(Some(10 * SECOND));
        assert_eq!((links.overall(&env, true).verdict, links.up()), (Verdict::Degraded, 0));
        assert!(!links.overall(&env, true).ready, "nothing is proven yet");
        let own = links.hear(&LinkEvent::State(state()), env.now.mono).unwrap();
        assert_eq!(own.probe, Some(Duration::from_millis(1)));
        assert_eq!(links.overall(&env, true).verdict, Verdict::Degraded);

        prove(&env, &mut links);

        let overall = links.overall(&env, true);
        assert_eq!((overall.verdict, overall.ready), (Verdict::Passing, true));
        assert_eq!((overall.up, overall.total, overall.reconciled), (2, 2, true));
        let unknown = links.overall(&env, false);
        assert_eq!((unknown.verdict, unknown.ready), (Verdict::Degraded, true), "known to deliver");
    }

    #[test]
    fn it_is_late_after_three_seconds_and_fails_after_ten() {
        let (mut env, mut links) = with_bus(Some(10 * SECOND));
        prove(&env, &mut links);
        let verdicts = [3, 1, 6, 1].map(|seconds| {
            wait(&mut env, seconds * SECOND);
            let overall = links.overall(&env, true);
            (overall.verdict, overall.ready)
        });
        let expected = [
            (Verdict::Passing, true),
            (Verdict::Degraded, true),
            (Verdict::Degraded, false),
            (Verdict::Failing, false),
        ];
        assert_eq!(verdicts, expected, "after 3, 4, 10 and 11 s");
        prove(&env, &mut links);
        assert!(links.overall(&env, true).ready);
    }

    #[test]
    fn a_grace_that_is_off_keeps_it_ready() {
        let (mut env, links) = with_bus(None);
        wait(&mut env, 60 * SECOND);
        let overall = links.overall(&env, true);
        assert_eq!((overall.verdict, overall.ready), (Verdict::Failing, true));
    }

    #[test]
    fn one_that_takes_nothing_fails_at_once_and_is_not_ready_after_the_grace() {
        let (mut env, mut links) = with_bus(Some(10 * SECOND));
        prove(&env, &mut links);
        for seconds in [0, 5, 5] {
            wait(&mut env, seconds * SECOND);
            let full = BusState { full: Some("OOM"), ..state() };
            links.hear(&LinkEvent::State(full.clone()), env.now.mono).unwrap();
        }
        let overall = links.overall(&env, true);
        assert_eq!((overall.verdict, overall.full), (Verdict::Failing, Some("OOM")));
        assert!(!overall.ready);
    }

    #[test]
    fn a_probe_is_counted_once() {
        let (mut env, mut links) = with_bus(None);
        let first = links.hear(&LinkEvent::State(state()), env.now.mono).unwrap();
        wait(&mut env, SECOND);
        let again = BusState { probe_age: Some(SECOND), ..state() };
        let again = links.hear(&LinkEvent::State(again), env.now.mono).unwrap();
        let next = links.hear(&LinkEvent::State(state()), env.now.mono).unwrap();
        assert_eq!([first, again, next].map(|heard| heard.probe.is_some()), [true, false, true]);
    }
}
