//! The counts of one turn: plain integers, and labels as numbers.

use std::{net::IpAddr, sync::Arc, time::Duration};

use metrics::Counter;

use super::{
    bus::BusTally,
    follow::{Epochs, Heals, Holes},
    handles::add,
    refusals::{Forbidden, Refusal, Refusals},
};
use crate::{
    config::Config,
    entropy::{KeyedMap, KeyedState},
    hub::Handler,
    protocol::{Kind, session_buddy::Word},
    reason::Reason,
    time::Instant,
    ws::Work,
};

/// What a hub has counted since its tally was last recorded. A driver passes it to
/// [`Metrics::record`](super::Metrics::record) after each turn; one that has no use for metrics leaves it alone.
#[derive(Debug)]
pub struct Tally {
    /// Whose names it is counted under.
    pub(super) config: Arc<Config>,
    /// How often the configuration was replaced.
    pub(super) generation: u64,
    pub(super) labels: Labels,
    /// What was counted under the configurations before, the latest first.
    pub(super) before: Option<Box<Self>>,
    /// Seconds until the first certificate expires, if somebody is about to ask.
    pub(super) certificate: Option<f64>,
    /// Whether new clients should be sent here, and whether the server is about to stop: the same.
    pub(super) readiness: Option<(bool, bool)>,
    pub(crate) connections: u64,
    pub(crate) secure_connections: u64,
    pub(super) handshakes: u64,
    pub(super) resumptions: u64,
    pub(crate) active: i64,
    pub(crate) channels: i64,
    pub(crate) subscriptions: i64,
    pub(crate) queued_bytes: i64,
    pub(crate) partial_bytes: i64,
    pub(crate) idempotency_bytes: i64,
    pub(crate) history_bytes: i64,
    pub(crate) history_evicted: u64,
    /// By how much there are more, or fewer, documents of channels than when this was last told.
    pub(crate) documents: i64,
    pub(crate) document_bytes: i64,
    pub(crate) recovered_messages: u64,
    pub(super) recoveries: Counts<{ OUTCOMES.len() }>,
    pub(crate) bus_followed: i64,
    pub(crate) bus_poison: u64,
    pub(crate) bus_forks: u64,
    pub(super) bus_holes: Counts<{ Holes::NAMES.len() }>,
    pub(super) bus_heals: Counts<{ Heals::NAMES.len() }>,
    pub(super) bus_epochs: Counts<{ Epochs::NAMES.len() }>,
    /// Messages that a bus has numbered, by label: their delivery is counted where it happens.
    pub(super) published: Vec<u64>,
    /// Messages that came from a bus since the last hand-over: when, under which label, how many.
    pub(super) heard: Vec<(Instant, u16, u32)>,
    /// Appends that were answered since the last hand-over: how long it took, and how many messages it was.
    pub(super) appends: Vec<(Duration, u32)>,
    pub(crate) under_way: i64,
    pub(crate) revocations: i64,
    pub(crate) sessions_held: i64,
    pub(crate) sessions_waiting: i64,
    pub(super) resumes: Counts<{ Resumed::NAMES.len() }>,
    pub(crate) warned: u64,
    pub(crate) refreshed: u64,
    pub(crate) withdrawn: u64,
    pub(crate) presence_members: i64,
    pub(crate) received_bytes: u64,
    pub(crate) sent_bytes: u64,
    pub(crate) deflated: Work,
    pub(crate) inflated: Work,
    pub(super) received: Counts<{ Kind::ALL.len() }>,
    pub(super) sent: Counts<{ Kind::ALL.len() }>,
    /// Of Session-Buddy's protocol.
    pub(super) told: Counts<{ Word::ALL.len() }>,
    pub(super) errors: Counts<{ Reason::ALL.len() }>,
    pub(super) dropped: Counts<{ Reason::ALL.len() }>,
    pub(super) closed: Counts<{ Reason::ALL.len() }>,
    refusals: Refusals,
    pub(super) handlers_failed: Counts<{ Handler::NAMES.len() }>,
    pub(super) statuses: Counts<{ STATUSES.len() }>,
    pub(super) presence: Counts<{ PRESENCE_EVENTS.len() }>,
    pub(crate) bus: BusTally,
    /// Broadcasts begun since the last hand-over: when, under which label, how many.
    pub(super) broadcasts: Vec<(Instant, u16, u32)>,
    /// Messages received since the last hand-over: when, of which kind, how many.
    pub(super) latencies: Vec<(Instant, Kind, u32)>,
    /// How many of the two lists were there at the end of the turn before.
    unrecorded: (usize, usize),
    unrecorded_of_bus: (usize, usize),
}

/// One count for each of a closed list, with a flag so that the usual empty case costs one comparison.
#[derive(Debug)]
pub(super) struct Counts<const N: usize> {
    any: bool,
    each: [u64; N],
}

impl<const N: usize> Default for Counts<N> {
    fn default() -> Self {
        Self { any: false, each: [0; N] }
    }
}

impl<const N: usize> Counts<N> {
    fn add(&mut self, index: usize, count: u64) {
        if let Some(slot) = self.each.get_mut(index) {
            *slot += count;
            self.any |= count > 0;
        }
    }

    /// Tells a recorder.
    #[inline]
    pub(super) fn publish(&mut self, handles: &[Counter]) {
        if self.any {
            self.publish_all(handles);
        }
    }

    fn publish_all(&mut self, handles: &[Counter]) {
        self.take().iter_mut().zip(handles).for_each(|(count, handle)| add(count, handle));
    }

    /// The counts in the list's order, to be taken out; nothing if all are zero.
    pub(super) fn take(&mut self) -> &mut [u64] {
        if std::mem::take(&mut self.any) { &mut self.each } else { &mut [] }
    }
}

impl Tally {
    pub(crate) fn new(config: Arc<Config>, keys: KeyedState, shard: u16) -> Self {
        Self {
            labels: Labels::new(&config, keys),
            config,
            generation: 0,
            before: None,
            certificate: None,
            readiness: None,
            connections: 0,
            secure_connections: 0,
            handshakes: 0,
            resumptions: 0,
            active: 0,
            channels: 0,
            subscriptions: 0,
            queued_bytes: 0,
            partial_bytes: 0,
            idempotency_bytes: 0,
            history_bytes: 0,
            history_evicted: 0,
            documents: 0,
            document_bytes: 0,
            recovered_messages: 0,
            recoveries: Counts::default(),
            bus_followed: 0,
            bus_poison: 0,
            bus_forks: 0,
            bus_holes: Counts::default(),
            bus_heals: Counts::default(),
            bus_epochs: Counts::default(),
            published: Vec::new(),
            heard: Vec::new(),
            appends: Vec::new(),
            under_way: 0,
            revocations: 0,
            sessions_held: 0,
            sessions_waiting: 0,
            resumes: Counts::default(),
            warned: 0,
            refreshed: 0,
            withdrawn: 0,
            presence_members: 0,
            received_bytes: 0,
            sent_bytes: 0,
            deflated: Work::default(),
            inflated: Work::default(),
            received: Counts::default(),
            sent: Counts::default(),
            told: Counts::default(),
            errors: Counts::default(),
            dropped: Counts::default(),
            closed: Counts::default(),
            refusals: Refusals::default(),
            handlers_failed: Counts::default(),
            statuses: Counts::default(),
            presence: Counts::default(),
            bus: BusTally::new(shard),
            broadcasts: Vec::new(),
            latencies: Vec::new(),
            unrecorded: (0, 0),
            unrecorded_of_bus: (0, 0),
        }
    }

    /// A new configuration is in force. What was counted so far belongs under the names of the old one.
    pub(crate) fn reload(&mut self, config: Arc<Config>, keys: KeyedState) {
        let (generation, shard) = (self.generation + 1, self.bus.shard);
        let fresh = Self { generation, ..Self::new(config, keys, shard) };
        let mut before = std::mem::replace(self, fresh);
        before.forget_beyond(GENERATIONS_MAX);
        self.before = Some(Box::new(before));
    }

    fn forget_beyond(&mut self, generations: usize) {
        let mut last = self;
        for _ in 1..generations {
            let Some(before) = &mut last.before else { return };
            last = before;
        }
        last.before = None;
    }

    /// A turn is over. Times of one that nobody has recorded are dropped, so that they do not pile up; counts add up.
    pub(crate) fn end_turn(&mut self) {
        let (heard, appends) = self.unrecorded_of_bus;
        if self.heard.len() + self.appends.len() > 0 {
            self.heard.drain(..heard.min(self.heard.len()));
            self.appends.drain(..appends.min(self.appends.len()));
            self.unrecorded_of_bus = (self.heard.len(), self.appends.len());
        }
        let (broadcasts, latencies) = self.unrecorded;
        if self.broadcasts.len() + self.latencies.len() == 0 {
            return;
        }
        self.broadcasts.drain(..broadcasts.min(self.broadcasts.len()));
        self.latencies.drain(..latencies.min(self.latencies.len()));
        self.unrecorded = (self.broadcasts.len(), self.latencies.len());
    }

    /// Everything was recorded.
    pub(super) fn recorded(&mut self) {
        self.unrecorded = (0, 0);
        self.unrecorded_of_bus = (0, 0);
    }

    /// The label under which `channel` is counted.
    pub(crate) fn label(&mut self, config: &Config, channel: &str) -> u16 {
        self.labels.of(config, channel)
    }

    /// Somebody wanted what it missed: so many messages, or why there are none.
    pub(crate) fn recovered(&mut self, outcome: Result<u64, usize>) {
        self.recoveries.add(outcome.map_or_else(|lost| lost + 1, |_| 0), 1);
        self.recovered_messages += outcome.unwrap_or_default();
    }

    /// Somebody asks for the metrics: how long the server's certificates are still valid.
    pub(crate) fn certificate(&mut self, expires: Duration, now: Duration) {
        self.certificate = Some(expires.as_secs_f64() - now.as_secs_f64());
    }

    /// Somebody asks for the metrics: what `/ready` would say.
    pub(crate) fn readiness(&mut self, ready: bool, draining: bool) {
        self.readiness = Some((ready, draining));
    }

    pub(crate) fn received(&mut self, at: Instant, kind: Kind) {
        self.received.add(kind.index(), 1);
        match self.latencies.last_mut() {
            Some((when, last, count)) if *when == at && *last == kind => *count += 1,
            _ => self.latencies.push((at, kind, 1)),
        }
    }

    pub(crate) fn sent(&mut self, kind: Kind, count: u64) {
        self.sent.add(kind.index(), count);
    }

    /// Messages of Session-Buddy's protocol were sent.
    pub(crate) fn told(&mut self, word: Word, count: u64) {
        self.told.add(word.index(), count);
    }

    pub(crate) fn error(&mut self, reason: Reason) {
        self.error_of(reason, None, None);
    }

    /// The same, with whose it was and, if a permission was missing, which rule asked for it.
    pub(crate) fn error_of(
        &mut self,
        reason: Reason,
        client: Option<IpAddr>,
        rule: Option<Forbidden>,
    ) {
        self.errors.add(reason as usize, 1);
        self.refusals.note(reason, client, rule);
    }

    /// Whether anything was refused since that was last [taken](Self::take_refusals).
    #[must_use]
    pub fn has_refusals(&self) -> bool {
        let before = || self.before.as_ref().is_some_and(|before| before.has_refusals());
        !self.refusals.is_empty() || before()
    }

    /// What was refused since this was last asked, for a log. Nothing else changes: the counts are there for metrics as
    /// before.
    pub fn take_refusals(&mut self) -> Vec<Refusal> {
        let mut taken: Vec<_> = self.refusals.take(&self.config).collect();
        if let Some(before) = &mut self.before {
            taken.extend(before.take_refusals());
        }
        taken
    }

    /// Messages that were queued for a connection whose socket is gone.
    pub(crate) fn undelivered(&mut self, reason: Reason, count: u64) {
        self.errors.add(Reason::SendFailed as usize, count);
        self.dropped.add(reason as usize, count);
    }

    pub(crate) fn dropped(&mut self, reason: Reason, count: u64) {
        self.dropped.add(reason as usize, count);
    }

    pub(crate) fn closed(&mut self, reason: Reason) {
        self.closed.add(reason as usize, 1);
    }

    pub(crate) fn handler_failed(&mut self, handler: Handler) {
        self.handlers_failed.add(handler.index(), 1);
    }

    /// Somebody has asked for a session.
    pub(crate) fn resumed(&mut self, result: Resumed) {
        self.resumes.add(result as usize, 1);
    }

    /// By the order of the names. The test that asks needs tokens.
    #[cfg(all(test, feature = "jwt"))]
    pub(crate) fn resumes(&mut self) -> &[u64] {
        self.resumes.take()
    }

    #[cfg(test)]
    pub(crate) fn errors_of(&self, reason: Reason) -> u64 {
        self.errors.each[reason as usize]
    }

    #[cfg(test)]
    pub(crate) fn dropped_of(&self, reason: Reason) -> u64 {
        self.dropped.each[reason as usize]
    }

    #[cfg(test)]
    pub(crate) fn handlers_failed(&mut self) -> &[u64] {
        self.handlers_failed.take()
    }

    pub(crate) fn handshake(&mut self, resumed: bool) {
        let count = if resumed { &mut self.resumptions } else { &mut self.handshakes };
        *count += 1;
    }

    pub(crate) fn answered(&mut self, status: u16) {
        let index =
            STATUSES.iter().position(|known| *known == status).unwrap_or(STATUSES.len() - 1);
        self.statuses.add(index, 1);
    }

    pub(crate) fn presence(&mut self, event: PresenceEvent) {
        self.presence.add(event as usize, 1);
    }

    pub(crate) fn broadcast(&mut self, at: Instant, label: u16) {
        match self.broadcasts.last_mut() {
            Some((when, last, count)) if *when == at && *last == label => *count += 1,
            _ => self.broadcasts.push((at, label, 1)),
        }
    }

    /// A bus has numbered messages of this hub.
    pub(crate) fn published(&mut self, label: u16, messages: usize) {
        let at = usize::from(label);
        if self.published.len() <= at {
            self.published.resize(at + 1, 0);
        }
        if let Some(count) = self.published.get_mut(at) {
            *count += messages as u64;
        }
    }

    /// Messages of a bus are handed to subscribers here.
    pub(crate) fn heard(&mut self, at: Instant, label: u16, messages: usize) {
        self.heard.push((at, label, u32::try_from(messages).unwrap_or(u32::MAX)));
    }

    /// A bus has answered an append of so many messages.
    pub(crate) fn appended(&mut self, took: Duration, messages: u32) {
        self.appends.push((took, messages));
    }

    pub(crate) fn bus_hole(&mut self, hole: Holes) {
        self.bus_holes.add(hole as usize, 1);
    }

    pub(crate) fn bus_healed(&mut self, heal: Heals) {
        self.bus_heals.add(heal as usize, 1);
    }

    pub(crate) fn bus_epoch(&mut self, epoch: Epochs) {
        self.bus_epochs.add(epoch as usize, 1);
    }
}

/// What came of asking for a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resumed {
    /// It was resumed.
    Yes,
    /// There is none, or not any more.
    Unknown,
    /// It is another user's, which whoever asked is not told.
    OtherUser,
}

impl Resumed {
    /// As they are counted.
    pub(super) const NAMES: &[&str] = &["resumed", "unknown", "other_user"];
}

/// Labels of channels: one for each pattern of the policy, or one for each name up to a cap.
#[derive(Debug)]
pub(super) struct Labels {
    /// By number: the patterns, the last of which is `other`, then full names.
    pub(super) all: Vec<Box<str>>,
    /// Full names that have a label; empty unless they are switched on.
    names: KeyedMap<Box<str>, u16>,
    /// Where full names begin.
    patterns: u16,
}

impl Labels {
    fn new(config: &Config, keys: KeyedState) -> Self {
        let all: Vec<Box<str>> = config.policy.labels().map(|label| label.into()).collect();
        let patterns = u16::try_from(all.len()).unwrap_or(u16::MAX);
        Self { all, names: KeyedMap::with_hasher(keys), patterns }
    }

    fn of(&mut self, config: &Config, channel: &str) -> u16 {
        if !config.metrics.channel_names {
            return u16::try_from(config.policy.label(channel)).unwrap_or(u16::MAX);
        }
        if let Some(label) = self.names.get(channel) {
            return *label;
        }
        let cap = config.metrics.channel_names_max.min(usize::from(u16::MAX - self.patterns) - 1);
        if self.names.len() >= cap {
            return self.patterns.saturating_sub(1);
        }
        let label = u16::try_from(self.all.len()).unwrap_or(u16::MAX);
        self.all.push(channel.into());
        self.names.insert(channel.into(), label);
        label
    }
}

/// What happens to the members of channels, as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum PresenceEvent {
    Joined,
    Left,
    /// Many at once.
    Changed,
}

/// Their words, in their order.
pub(super) const PRESENCE_EVENTS: &[&str] = &["joined", "left", "changed"];

/// Configurations whose counts wait to be recorded; older ones are dropped.
const GENERATIONS_MAX: usize = 16;

/// What may come of asking for what was missed.
pub(super) const OUTCOMES: &[&str] =
    &["recovered", "epoch", "trimmed", "ahead", "diverged", "too_many", "off", "unavailable"];

/// Statuses that plain HTTP requests are answered with; others are counted as the last.
pub(super) const STATUSES: &[u16] = &[
    200, 400, 401, 403, 404, 405, 408, 409, 410, 411, 413, 414, 415, 422, 426, 429, 431, 500, 501,
    503, 504, 505, 0,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::{Entropy, Seed};

    fn tally() -> Tally {
        Tally::new(Arc::default(), Entropy::new(Seed::from(1)).hash_keys(), 0)
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
    fn what_nobody_records_does_not_pile_up() {
        let (mut tally, start) = (tally(), Instant::now());
        for turn in 0..100 {
            tally.received(start + Duration::from_millis(turn), Kind::Request);
            tally.broadcast(start + Duration::from_millis(turn), 0);
            tally.end_turn();
        }
        assert_eq!((tally.latencies.len(), tally.broadcasts.len()), (1, 1));
        assert_eq!(tally.received.take().iter().sum::<u64>(), 100);
    }

    #[test]
    fn so_many_reloads_are_remembered() {
        let mut tally = tally();
        for _ in 0..100 {
            tally.reload(Arc::default(), Entropy::new(Seed::from(1)).hash_keys());
        }
        let (mut before, mut count) = (tally.before.as_ref(), 0);
        while let Some(one) = before {
            (before, count) = (one.before.as_ref(), count + 1);
        }
        assert_eq!((tally.generation, count), (100, GENERATIONS_MAX));
    }
}
