//! What is kept over restarts: a thread that carries out what the hubs want kept, because it has to wait for a disk.

use std::{
    collections::{HashMap, HashSet},
    error::Error,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use mahavishnu_core::{
    hub::{AppendId, Placement, SessionId, ShardId, StoreCommand, StoreEvent},
    metrics::StoreMetrics,
};
use tracing::{error, info, warn};

use crate::{
    app::guard,
    mailbox::{Mail, Mailbox},
    recorder::with_installed,
};

/// Keeps channels, documents and sessions over restarts. `mahavishnu-store` has one that keeps them in a file.
pub trait Store: Send + 'static {
    /// Carries out a group: all of it, or nothing. When it returns, the group survives the end of the process, and
    /// subscribers and publishers are told.
    ///
    /// # Errors
    ///
    /// Nothing of the group is kept. Its publishers are refused; the next group is tried all the same.
    fn commit(&mut self, commands: &[StoreCommand]) -> Result<(), StoreFailed>;

    /// How often [`sync`](Self::sync) is to be called, if anything was committed. `None`: never.
    fn sync_every(&self) -> Option<Duration>;

    /// Makes what was committed survive the end of the machine.
    ///
    /// # Errors
    ///
    /// It may not survive that.
    fn sync(&mut self) -> Result<(), StoreFailed>;

    /// The server has stopped. Nothing comes after this.
    ///
    /// # Errors
    ///
    /// It could not be closed in order.
    fn close(self: Box<Self>) -> Result<(), StoreFailed>;
}

/// Why a store does not do what it should.
pub type StoreFailed = Box<dyn Error + Send + Sync>;

/// A store before the server is started, and what it has kept.
pub(crate) struct Kept {
    pub(crate) store: Box<dyn Store>,
    /// For the hubs, before their first client.
    pub(crate) contents: Vec<StoreEvent>,
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("contents", &self.contents.len()).finish_non_exhaustive()
    }
}

/// Deals out what was kept to the hubs at which it is at home.
pub(crate) fn deal(
    contents: Vec<StoreEvent>,
    placement: &Placement,
    shards: u16,
) -> Vec<Vec<StoreEvent>> {
    let mut dealt: Vec<_> = (0..shards).map(|_| Vec::new()).collect();
    for event in contents {
        let home = match &event {
            StoreEvent::Channel(stored) => placement.home(&stored.channel),
            StoreEvent::Session { session, .. } => placement.session_home(*session),
            // Nobody has asked for anything yet.
            StoreEvent::Appended { .. } => continue,
        };
        if let Some(part) = dealt.get_mut(usize::from(home.0)) {
            part.push(event);
        }
    }
    dealt
}

/// A shard's way to the store.
#[derive(Clone, Debug)]
pub(crate) struct ToStore {
    commands: Sender<(ShardId, StoreCommand)>,
    records: Arc<Records>,
}

/// What shards have sent to the store.
#[derive(Debug)]
pub(crate) struct FromShards {
    commands: Receiver<(ShardId, StoreCommand)>,
    records: Arc<Records>,
}

impl ToStore {
    pub(crate) fn new() -> (Self, FromShards) {
        let (sender, commands) = mpsc::channel();
        let records = Arc::<Records>::default();
        (Self { commands: sender, records: records.clone() }, FromShards { commands, records })
    }

    /// What is under way of messages is bounded by the hub, see
    /// [`store_queue_bytes_max`](mahavishnu_core::limits::History::store_queue_bytes_max), and of sessions by [`Records`].
    pub(crate) fn send(&self, from: ShardId, command: StoreCommand) {
        let command = match command {
            StoreCommand::KeepSession { session, record } => {
                if !self.records.put(session, record) {
                    return;
                }
                StoreCommand::KeepSession { session, record: Bytes::new() }
            }
            StoreCommand::ForgetSession { session } => {
                self.records.take(session);
                command
            }
            StoreCommand::Append { .. }
            | StoreCommand::Trim { .. }
            | StoreCommand::Forget { .. } => command,
        };
        // It ends after the shards.
        let _ = self.commands.send((from, command));
    }
}

/// Sessions of which the store has yet to take the record. Of each the last one counts, so that however long the disk takes
/// and however often they change, they are no more than the sessions themselves.
#[derive(Debug, Default)]
struct Records(Mutex<HashMap<SessionId, Bytes>>);

impl Records {
    /// Whether it is the first one.
    fn put(&self, session: SessionId, record: Bytes) -> bool {
        self.lock().insert(session, record).is_none()
    }

    fn take(&self, session: SessionId) -> Option<Bytes> {
        self.lock().remove(&session)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, Bytes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a store has to count.
enum Counted {
    /// A group was committed, or not, after so long.
    Group { kept: bool, took: Duration },
    /// What was committed could not be forced to the disk.
    SyncFailed,
}

/// Counts for the recorder that the application has installed, or will have.
#[derive(Debug)]
struct Counting {
    server: Arc<str>,
    metrics: Option<StoreMetrics>,
    /// Groups that were committed, or not, and what could not be forced to the disk, before there was a recorder.
    unheard: (u64, u64, u64),
    /// The recorder has panicked.
    failed: bool,
}

impl Counting {
    fn new(server: Arc<str>) -> Self {
        let mut this = Self { server, metrics: None, unheard: (0, 0, 0), failed: false };
        this.tell(None);
        this
    }

    fn count(&mut self, counted: &Counted) {
        self.tell(Some(counted));
        if self.metrics.is_none() {
            match counted {
                Counted::Group { kept: true, .. } => self.unheard.0 += 1,
                Counted::Group { kept: false, .. } => self.unheard.1 += 1,
                Counted::SyncFailed => self.unheard.2 += 1,
            }
        }
    }

    /// The recorder is the application's.
    fn tell(&mut self, counted: Option<&Counted>) {
        let Self { server, metrics, unheard, failed: false } = self else { return };
        let told = guard(|| {
            if metrics.is_none() {
                *metrics = with_installed(|recorder| {
                    let fresh = StoreMetrics::new(recorder, server.clone());
                    let (committed, failed, syncs_failed) = std::mem::take(unheard);
                    fresh.catch_up(committed, failed, syncs_failed);
                    fresh
                });
            }
            match (metrics, counted) {
                (Some(metrics), Some(Counted::Group { kept, took })) => {
                    metrics.committed(*kept, *took);
                }
                (Some(metrics), Some(Counted::SyncFailed)) => metrics.sync_failed(),
                (None, _) | (_, None) => {}
            }
        });
        if told.is_err() {
            error!("the recorder of metrics panicked: the store gives it nothing more");
            self.failed = true;
        }
    }
}

/// The store at work, on a thread of its own.
pub(crate) struct Keeper {
    store: Option<Box<dyn Store>>,
    mailboxes: Arc<[Mailbox]>,
    counting: Counting,
    /// What nobody waits for and could not be kept yet.
    put_off: Vec<StoreCommand>,
    /// Since when it has failed, and when that was last told.
    failing: Option<(Instant, Instant)>,
    /// When what was committed is to be forced to the disk.
    sync_at: Option<Instant>,
}

impl Keeper {
    pub(crate) fn new(store: Box<dyn Store>, mailboxes: Arc<[Mailbox]>, server: &Arc<str>) -> Self {
        Self {
            store: Some(store),
            mailboxes,
            counting: Counting::new(server.clone()),
            put_off: Vec::new(),
            failing: None,
            sync_at: None,
        }
    }

    /// Works until all shards have ended.
    pub(crate) fn run(mut self, from: &FromShards) {
        let commands = &from.commands;
        loop {
            let first = match self.sync_at {
                None => commands.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => commands.recv_timeout(at.saturating_duration_since(Instant::now())),
            };
            match first {
                Ok(first) => self.keep(first, from),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.sync_at.is_some_and(|at| at <= Instant::now()) {
                self.sync();
            }
        }
        if !self.put_off.is_empty() {
            self.commit(&[]);
        }
        let Some(store) = self.store.take() else { return };
        if let Err(error) = told(guard(|| store.close())) {
            error!(%error, "what was kept could not be closed in order");
        }
    }

    /// Everything that waits is one group: the longer the disk takes, the larger it is.
    fn keep(&mut self, first: (ShardId, StoreCommand), shards: &FromShards) {
        let mut group = Vec::new();
        let mut asked: Vec<(ShardId, AppendId)> = Vec::new();
        let mut bytes = 0;
        for (from, command) in std::iter::once(first).chain(shards.commands.try_iter()) {
            match command {
                StoreCommand::KeepSession { session, .. } => {
                    // One that was forgotten since is not kept first.
                    let Some(record) = shards.records.take(session) else { continue };
                    bytes += record.len();
                    group.push(StoreCommand::KeepSession { session, record });
                }
                StoreCommand::Append { id, ref round, .. } => {
                    asked.push((from, id));
                    bytes += round.records.len();
                    group.push(command);
                }
                StoreCommand::Trim { .. }
                | StoreCommand::Forget { .. }
                | StoreCommand::ForgetSession { .. } => group.push(command),
            }
            if group.len() >= GROUP_COMMANDS_MAX || bytes >= GROUP_BYTES_MAX {
                break;
            }
        }
        if group.is_empty() {
            return;
        }
        let kept = self.commit(&group);
        if !kept {
            group.retain(|command| !matches!(command, StoreCommand::Append { .. }));
            self.put_off(group);
        }
        self.answer(&asked, kept);
    }

    /// Whether it is kept, with what was put off.
    fn commit(&mut self, group: &[StoreCommand]) -> bool {
        let Self { store, put_off, .. } = self;
        let Some(store) = store else { return false };
        let began = Instant::now();
        let result = if put_off.is_empty() {
            told(guard(|| store.commit(group)))
        } else {
            let all: Vec<_> = put_off.iter().chain(group).cloned().collect();
            told(guard(|| store.commit(&all)))
        };
        let took = began.elapsed();
        match result {
            Ok(()) => {
                self.counting.count(&Counted::Group { kept: true, took });
                self.put_off.clear();
                if self.sync_at.is_none() {
                    let every = self.store.as_ref().and_then(|store| store.sync_every());
                    self.sync_at = every.map(|every| began + every);
                }
                if let Some((since, _)) = self.failing.take() {
                    let seconds = since.elapsed().as_secs_f64();
                    info!(seconds, "what is published is kept again");
                }
                true
            }
            Err(error) => {
                self.counting.count(&Counted::Group { kept: false, took });
                self.fail(&error);
                false
            }
        }
    }

    fn sync(&mut self) {
        self.sync_at = None;
        let Some(store) = &mut self.store else { return };
        if let Err(error) = told(guard(|| store.sync())) {
            self.counting.count(&Counted::SyncFailed);
            warn!(%error, "what is kept could not be forced to the disk: a power cut may take it");
        }
    }

    /// Told at once, and then once in a while: a full disk fails thousands of groups.
    fn fail(&mut self, error: &StoreFailed) {
        let now = Instant::now();
        let (since, last) = self.failing.unwrap_or((now, now));
        if self.failing.is_none() || now.duration_since(last) >= TOLD_EVERY {
            let seconds = since.elapsed().as_secs_f64();
            error!(%error, seconds, "nothing that is published can be kept: publishers are refused");
            self.failing = Some((since, now));
        }
    }

    /// For the next group. Of one session or channel only the last wish counts.
    fn put_off(&mut self, commands: Vec<StoreCommand>) {
        self.put_off.extend(commands);
        let mut known = HashSet::new();
        let mut last: Vec<_> =
            self.put_off.drain(..).rev().filter(|command| known.insert(about(command))).collect();
        last.reverse();
        bound(&mut last, PUT_OFF_MAX);
        self.put_off = last;
    }

    fn answer(&self, asked: &[(ShardId, AppendId)], kept: bool) {
        for (mailbox, shard) in self.mailboxes.iter().zip(0u16..) {
            let of_it = asked.iter().filter(|(from, _)| from.0 == shard);
            let events: Vec<_> =
                of_it.map(|(_, id)| StoreEvent::Appended { id: *id, kept }).collect();
            if !events.is_empty() {
                mailbox.pass(Mail::Store(events));
            }
        }
    }
}

/// What a command is about, where a later one takes the place of an earlier one.
#[derive(PartialEq, Eq, Hash)]
enum About {
    Trimmed(Arc<str>),
    Channel(Arc<str>),
    Session(u128),
}

fn about(command: &StoreCommand) -> About {
    match command {
        StoreCommand::Trim { channel, .. } => About::Trimmed(channel.clone()),
        StoreCommand::Append { channel, .. } | StoreCommand::Forget { channel } => {
            About::Channel(channel.clone())
        }
        StoreCommand::KeepSession { session, .. } | StoreCommand::ForgetSession { session } => {
            About::Session(session.0)
        }
    }
}

/// Leaves so many commands, or more if they are sessions to be kept, which are bounded by themselves. What goes first is what
/// was to be forgotten first: it stays in the file, where the next start finds it and the hubs have it forgotten when its time
/// is over.
fn bound(commands: &mut Vec<StoreCommand>, max: usize) {
    let mut over = commands.len().saturating_sub(max);
    commands.retain(|command| {
        let stays = over == 0 || matches!(command, StoreCommand::KeepSession { .. });
        over -= usize::from(!stays);
        stays
    });
}

/// A store that panics has failed.
fn told<P>(result: Result<Result<(), StoreFailed>, P>) -> Result<(), StoreFailed> {
    result.unwrap_or_else(|_| Err("it panicked".into()))
}

/// Commands of one group.
const GROUP_COMMANDS_MAX: usize = 4096;

/// Bytes of messages and sessions in one group, and one of them more.
const GROUP_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Commands that wait for a store that fails, about 20 MiB of them.
const PUT_OFF_MAX: usize = 1 << 17;

/// How often it is told that a store still fails.
const TOLD_EVERY: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_off_is_bounded_and_sessions_that_are_there_stay() {
        let forget = |number| StoreCommand::ForgetSession { session: SessionId(number) };
        let keep = |number| StoreCommand::KeepSession {
            session: SessionId(number),
            record: Bytes::from_static(b"r"),
        };
        let mut commands = vec![forget(1), keep(2), forget(3), forget(4)];
        bound(&mut commands, 4);
        assert_eq!(commands.len(), 4);
        bound(&mut commands, 2);
        assert_eq!(commands, [keep(2), forget(4)]);
        bound(&mut commands, 0);
        assert_eq!(commands, [keep(2)]);
    }
}
