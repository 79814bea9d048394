//! Making a trace's calls again.

use std::{collections::VecDeque, fmt, sync::Arc, time::Duration};

use super::{
    Call, Wanted, config_digest,
    file::{Records, Trace},
    lane::Lane,
};
use crate::{
    config::Config,
    entropy::Seed,
    hub::{Place, ShardId, ShardMessage},
    time::Instant,
};

/// What a replay that agreed has run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Hubs that ran.
    pub shards: u16,
    /// Calls made.
    pub calls: u64,
    /// Connections accepted.
    pub connections: u64,
    /// Bytes of clients.
    pub received_bytes: u64,
    /// Bytes to clients, all equal to the recorded ones.
    pub sent_bytes: u64,
    /// Time between the first and the last call.
    pub duration: Duration,
    /// The trace breaks off within a record, or one hub's part before another's. What is there agreed.
    pub cut_short: bool,
}

/// Why a replay stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// Not a trace, or one of another version.
    NotATrace,
    /// What should be a record is none.
    Damaged {
        /// Which hub's.
        shard: ShardId,
        /// Its calls until then.
        calls: u64,
    },
    /// It was recorded under a configuration that is not among those given.
    Configuration {
        /// Calls made until then.
        calls: u64,
    },
    /// A hub did something else than it did when it was recorded.
    Differs {
        /// Which hub.
        shard: ShardId,
        /// Which call it was.
        calls: u64,
        /// What the call was.
        call: String,
        /// What came out now.
        got: String,
    },
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotATrace => f.write_str("not a trace, or one of another version"),
            Self::Damaged { shard, calls } => {
                write!(f, "the trace is damaged after call {calls} of shard {}", shard.0)
            }
            Self::Configuration { calls } => {
                write!(f, "recorded under another configuration (after call {calls})")
            }
            Self::Differs { shard, calls, call, got } => {
                let shard = shard.0;
                write!(f, "call {calls}, of shard {shard}, came out differently: {call}; now {got}")
            }
        }
    }
}

impl std::error::Error for Mismatch {}

/// Runs a trace on new hubs and demands that the same comes out. `configs` are those in force while it was recorded, in any
/// order; `start` is any instant: the trace's times are counted from it.
///
/// # Errors
///
/// The first thing that differs.
pub fn replay(trace: &[u8], configs: &[Arc<Config>], start: Instant) -> Result<Report, Mismatch> {
    let trace = Trace::new(trace)?;
    let cut = trace.cut;
    let configs = Configs::new(configs);
    let mut lanes = Vec::new();
    for records in trace.into_records() {
        lanes.push(first(records, &configs, start)?);
    }
    // A hub that recorded nothing leaves the others waiting for it: that is found out below.
    let shards = lanes.first().map_or(0, Lane::shards);
    let mut replay = Replay { mail: Mail::new(usize::from(shards)), lanes };
    let ended = replay.run()?;
    Ok(Report { cut_short: cut || !ended, ..replay.report(shards) })
}

/// Makes a hub by the first record of its part.
fn first<'t>(
    mut records: Records<'t>,
    configs: &Configs,
    start: Instant,
) -> Result<Lane<'t>, Mismatch> {
    let Some(Ok(record)) = records.next() else { return Err(Mismatch::NotATrace) };
    let Call::New { seed, shard, shards, config, hooks } = record.call else {
        return Err(Mismatch::NotATrace);
    };
    if !(1..=SHARDS_MAX).contains(&shards) || shard >= shards {
        return Err(Mismatch::NotATrace);
    }
    let config = configs.find(config, &hooks).ok_or(Mismatch::Configuration { calls: 0 })?;
    let place = Place { shard: ShardId(shard), shards, seed: Seed(seed) };
    Ok(Lane::new(place, config, configs.clone(), (start, record.unix), records))
}

/// The configurations that may be in force, by their digest.
#[derive(Clone)]
pub(super) struct Configs(Vec<(u64, Arc<Config>)>);

impl Configs {
    fn new(configs: &[Arc<Config>]) -> Self {
        Self(configs.iter().map(|config| (config_digest(config), config.clone())).collect())
    }

    pub(super) fn find(&self, digest: u64, hooks: &Wanted<'_>) -> Option<Arc<Config>> {
        let (_, config) = self.0.iter().find(|(known, _)| *known == digest)?;
        Some(Arc::new(Config { hooks: hooks.to_hooks(), ..Config::clone(config) }))
    }
}

/// All hubs of a trace.
struct Replay<'t> {
    lanes: Vec<Lane<'t>>,
    mail: Mail,
}

impl Replay<'_> {
    /// Steps the hub whose next call is the earliest and has what it needs, until nothing is left. False if hubs wait for
    /// batches that never come.
    fn run(&mut self) -> Result<bool, Mismatch> {
        loop {
            let ready =
                self.lanes.iter_mut().filter_map(|lane| Some((lane.next_at(&self.mail)?, lane)));
            let Some((_, lane)) = ready.min_by_key(|(at, _)| *at) else { break };
            lane.step(&mut self.mail)?;
        }
        Ok(self.lanes.iter_mut().all(|lane| lane.is_done()))
    }

    fn report(&self, shards: u16) -> Report {
        let mut all = Report { shards, ..Report::default() };
        for one in self.lanes.iter().map(|lane| lane.report) {
            all.calls += one.calls;
            all.connections += one.connections;
            all.received_bytes += one.received_bytes;
            all.sent_bytes += one.sent_bytes;
            all.duration = all.duration.max(one.duration);
        }
        all
    }
}

/// Batches that one hub has sent and another has not taken yet: by sender, then by receiver.
pub(super) struct Mail(Vec<Vec<VecDeque<Vec<ShardMessage>>>>);

impl Mail {
    fn new(shards: usize) -> Self {
        let row = || (0..shards).map(|_| VecDeque::new()).collect();
        Self((0..shards).map(|_| row()).collect())
    }

    pub(super) fn send(&mut self, from: ShardId, to: ShardId, batch: Vec<ShardMessage>) {
        if let Some(queue) = self.queue(from, to) {
            queue.push_back(batch);
        }
    }

    pub(super) fn has(&self, from: u16, to: ShardId) -> bool {
        let row = self.0.get(usize::from(from));
        row.and_then(|row| row.get(usize::from(to.0))).is_some_and(|queue| !queue.is_empty())
    }

    pub(super) fn take(&mut self, from: ShardId, to: ShardId) -> Option<Vec<ShardMessage>> {
        self.queue(from, to)?.pop_front()
    }

    fn queue(&mut self, from: ShardId, to: ShardId) -> Option<&mut VecDeque<Vec<ShardMessage>>> {
        self.0.get_mut(usize::from(from.0))?.get_mut(usize::from(to.0))
    }
}

/// More hubs than any adapter starts: a trace that names more is damaged.
pub(super) const SHARDS_MAX: u16 = 1024;
