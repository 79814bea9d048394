//! One queue.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use super::entry;
use crate::{
    config::IngressSource,
    hub::{
        bus::{
            BusCommand, BusError, CallId, IngressEntry, IngressOwner, NodeId, Take, Taken,
            TakenFrom,
        },
        env::Env,
        types::{Publication, PublicationOptions},
    },
    metrics::{BusTally, Ingested},
    reason::{Reason, Retry},
    time::Instant,
};

/// A queue, and what was taken from it.
#[derive(Debug)]
pub(super) struct Inlet {
    source: Arc<IngressSource>,
    /// Names this owner among all that it has been.
    term: u64,
    is_owner: bool,
    /// Behind which entry to go on.
    last: Option<Arc<str>>,
    asked: Option<Asked>,
    /// When to ask again.
    next: Instant,
    /// How long it is waited if nothing is there.
    pause: Duration,
    /// By channel, what was taken and is not done with. The first is under way, or rests.
    pieces: BTreeMap<Box<str>, VecDeque<Piece>>,
    /// Channels of which the first may be published.
    ready: VecDeque<Box<str>>,
    /// Channels of which the first is tried again at a time, in order.
    resting: VecDeque<(Instant, Box<str>)>,
    /// Which channel's first is under way.
    under_way: BTreeMap<u64, Box<str>>,
    /// Entries that were taken and are not done with, and their bytes.
    count: usize,
    bytes: usize,
    /// To be taken away with the next question.
    done: Vec<Arc<str>>,
    unfit: Vec<(Arc<str>, &'static str)>,
    waiting: u64,
    lag: Duration,
    ending: Ending,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    No,
    /// It is to be nobody's.
    Due,
    /// It is nobody's, or will be when its lease is over.
    Done,
}

/// An entry that is a message.
#[derive(Debug)]
struct Piece {
    entry: Arc<str>,
    publication: Publication,
    key: Option<Box<str>>,
}

impl Piece {
    fn weight(&self) -> usize {
        self.publication.weight()
    }
}

/// A question to the bus.
#[derive(Debug)]
struct Asked {
    id: CallId,
    /// So many of what is done with were told.
    done: usize,
    unfit: usize,
    takes: bool,
    gives_up: bool,
}

/// What bounds a question.
#[derive(Debug)]
pub(super) struct Terms {
    node: NodeId,
    lease: Duration,
    entry_bytes_max: usize,
    has_room: bool,
}

impl Terms {
    pub(super) fn of(env: &Env, node: NodeId, has_room: bool) -> Self {
        let config = &env.config;
        let limits = &config.limits;
        let entry = limits.wire.message_bytes_max + limits.history.state_bytes_max;
        Self {
            node,
            lease: config.bus.as_ref().map_or(Duration::ZERO, |bus| bus.lease),
            entry_bytes_max: (entry + HEAD_BYTES).min(ENTRY_BYTES_MAX),
            has_room,
        }
    }
}

/// A message that is to be published.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::hub) struct Submission {
    pub(in crate::hub) publication: Publication,
    pub(in crate::hub) key: Option<Box<str>>,
}

impl Inlet {
    pub(super) fn new(source: Arc<IngressSource>, now: Instant) -> Self {
        Self {
            source,
            term: 1,
            is_owner: false,
            last: None,
            asked: None,
            next: now,
            pause: PAUSE_MIN,
            pieces: BTreeMap::new(),
            ready: VecDeque::new(),
            resting: VecDeque::new(),
            under_way: BTreeMap::new(),
            count: 0,
            bytes: 0,
            done: Vec::new(),
            unfit: Vec::new(),
            waiting: 0,
            lag: Duration::ZERO,
            ending: Ending::No,
        }
    }

    /// The bus is there again: it may have lost what was taken away, so it is begun from the first entry on. What is under way
    /// here comes to nothing that is not seen then.
    pub(super) fn on_up(&mut self, now: Instant) {
        self.asked = None;
        self.start_over();
        self.next = now;
    }

    /// It is somebody else's: nothing comes of what is under way.
    fn lose(&mut self) {
        self.is_owner = false;
        self.term += 1;
        self.start_over();
    }

    fn start_over(&mut self) {
        self.last = None;
        self.pieces.clear();
        self.ready.clear();
        self.resting.clear();
        self.under_way.clear();
        (self.count, self.bytes) = (0, 0);
        self.done.clear();
        self.unfit.clear();
    }

    /// Others are to have it.
    pub(super) fn give_up(&mut self, now: Instant) {
        if self.ending == Ending::No {
            self.ending =
                if self.is_owner || self.asked.is_some() { Ending::Due } else { Ending::Done };
            self.next = now;
            self.ready.clear();
            self.resting.clear();
        }
    }

    /// Whether it is to be given up and is not yet.
    pub(super) fn owes(&self) -> bool {
        self.ending == Ending::Due
    }

    /// Whether so much is here that nothing more is taken for now.
    fn is_full(&self) -> bool {
        self.count * 2 >= ENTRIES_MAX || self.bytes * 2 >= BYTES_MAX
    }

    /// Whether nothing is here that may still be in the queue.
    fn is_done_with_all(&self) -> bool {
        self.count == 0 && self.done.is_empty() && self.unfit.is_empty()
    }

    /// When something is next to be done by itself.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let next = (self.asked.is_none() && self.ending != Ending::Done).then_some(self.next);
        next.into_iter().chain(self.resting.front().map(|(at, _)| *at)).min()
    }

    /// What is to be asked, if something is.
    pub(super) fn take(
        &mut self,
        now: Instant,
        terms: &Terms,
        name: impl FnOnce() -> CallId,
    ) -> Option<BusCommand> {
        let settled = self.done.len() + self.unfit.len();
        let due = self.next <= now || settled >= SETTLED_MAX;
        if self.asked.is_some() || self.ending == Ending::Done || !due {
            return None;
        }
        let gives_up = self.ending == Ending::Due;
        let takes = terms.has_room && !gives_up && !self.is_full();
        let asked = Asked {
            id: name(),
            done: self.done.len().min(SETTLED_AT_ONCE_MAX),
            unfit: self.unfit.len().min(SETTLED_AT_ONCE_MAX),
            takes,
            gives_up,
        };
        let take = Take {
            id: asked.id,
            source: self.source.clone(),
            owner: IngressOwner { node: terms.node, term: self.term },
            lease: terms.lease,
            after: self.last.clone(),
            entries_max: if takes {
                u32::try_from(ENTRIES_MAX - self.count).unwrap_or(0)
            } else {
                0
            },
            bytes_max: BYTES_MAX.saturating_sub(self.bytes),
            entry_bytes_max: terms.entry_bytes_max,
            done: self.done.iter().take(asked.done).cloned().collect(),
            unfit: self.unfit.iter().take(asked.unfit).cloned().collect(),
            gives_up,
        };
        self.asked = Some(asked);
        Some(BusCommand::Take(Box::new(take)))
    }

    pub(super) fn is_asked(&self, id: CallId) -> bool {
        self.asked.as_ref().is_some_and(|asked| asked.id == id)
    }

    /// The bus has answered.
    pub(super) fn on_taken(&mut self, env: &mut Env, result: Result<Taken, BusError>) {
        let Some(asked) = self.asked.take() else { return };
        let now = env.now.mono;
        match result {
            Ok(Taken::Owned { waiting, lag, entries }) => {
                self.is_owner = !asked.gives_up;
                self.done.drain(..asked.done.min(self.done.len()));
                self.unfit.drain(..asked.unfit.min(self.unfit.len()));
                (self.waiting, self.lag) = (waiting, lag);
                if asked.gives_up {
                    self.ending = Ending::Done;
                    return self.start_over();
                }
                if self.ending == Ending::Due {
                    self.next = now;
                    return;
                }
                let some = !entries.is_empty();
                // Where everything was deleted names begin anew, perhaps below those that were there.
                if asked.takes && !some && waiting > 0 && self.is_done_with_all() {
                    self.last = None;
                }
                entries.into_iter().for_each(|entry| self.put(env, entry));
                self.pause = if some { Duration::ZERO } else { self.longer_pause() };
                // What is full goes on when it is not, or to renew the lease.
                self.next = now + self.pause;
            }
            Ok(Taken::Elsewhere { left }) => {
                self.lose();
                (self.waiting, self.lag) = (0, Duration::ZERO);
                if self.ending == Ending::Due {
                    self.ending = Ending::Done;
                }
                // Not all of those that wait at once, and not longer than one that gives it up would have to be waited for.
                let spread = Duration::from_millis(env.entropy.below(100));
                self.next = now + left.clamp(PAUSE_MAX, ELSEWHERE_PAUSE) + spread;
            }
            Err(BusError::Away | BusError::Unknown) => self.next = now + PAUSE_MAX,
            Err(BusError::Full | BusError::Failed) => self.next = now + REST,
        }
    }

    fn longer_pause(&self) -> Duration {
        (self.pause * 2).clamp(PAUSE_MIN, PAUSE_MAX)
    }

    fn put(&mut self, env: &mut Env, entry: IngressEntry) {
        let IngressEntry { name, fields } = entry;
        self.last = Some(name.clone());
        match entry::read(&env.config, self.source.kind, fields.as_deref()) {
            Ok(found) => {
                let entry::Found { publication, key } = found;
                let piece = Piece { entry: name, publication, key };
                self.count += 1;
                self.bytes += piece.weight();
                let channel = piece.publication.channel.clone();
                let pieces = self.pieces.entry(channel.clone()).or_default();
                if pieces.is_empty() {
                    self.ready.push_back(channel);
                }
                pieces.push_back(piece);
            }
            Err(reason) => self.refuse(env, name, reason),
        }
    }

    fn refuse(&mut self, env: &mut Env, entry: Arc<str>, reason: Reason) {
        env.tally.bus.ingested(self.source.kind, Ingested::Dead);
        self.unfit.push((entry, reason.name()));
    }

    /// The next message, which is under way under this number from then on.
    pub(super) fn next(&mut self, env: &Env, node: NodeId, slot: u64) -> Option<Submission> {
        while let Some((at, _)) = self.resting.front()
            && *at <= env.now.mono
            && let Some((_, channel)) = self.resting.pop_front()
        {
            self.ready.push_back(channel);
        }
        let channel = self.ready.pop_front()?;
        let piece = self.pieces.get(&channel)?.front()?;
        let mut publication = piece.publication.clone();
        let options = publication.options.get_or_insert_with(Box::<PublicationOptions>::default);
        options.taken = Some(Box::new(TakenFrom {
            source: self.source.clone(),
            owner: IngressOwner { node, term: self.term },
            entry: piece.entry.clone(),
        }));
        let key = piece.key.clone();
        self.under_way.insert(slot, channel);
        Some(Submission { publication, key })
    }

    /// What became of it.
    pub(super) fn answered(&mut self, env: &mut Env, slot: u64, result: Result<(), Reason>) {
        // What was begun anew meanwhile is seen again.
        let Some(channel) = self.under_way.remove(&slot) else { return };
        let reason = match result {
            Ok(()) => None,
            Err(reason) if is_passing(reason) => {
                env.tally.bus.ingested(self.source.kind, Ingested::Retried);
                if self.ending == Ending::No {
                    self.resting.push_back((env.now.mono + RETRIED_AFTER, channel));
                }
                return;
            }
            Err(reason) => Some(reason),
        };
        let Some(pieces) = self.pieces.get_mut(&channel) else { return };
        let Some(piece) = pieces.pop_front() else { return };
        if pieces.is_empty() {
            self.pieces.remove(&channel);
        } else if self.ending == Ending::No {
            self.ready.push_back(channel);
        }
        self.count -= 1;
        self.bytes -= piece.weight();
        match reason {
            Some(reason) => self.refuse(env, piece.entry, reason),
            None => {
                env.tally.bus.ingested(self.source.kind, Ingested::Published);
                self.done.push(piece.entry);
            }
        }
        // What is done with is soon away, and more of it at once.
        self.next = self.next.min(env.now.mono + PAUSE_MIN);
    }

    /// How far it is.
    pub(super) fn tell(&self, tally: &mut BusTally) {
        tally.ingress(self.source.kind, self.is_owner, self.waiting, self.lag);
    }

    /// Every count equals what it counts.
    #[cfg(debug_assertions)]
    pub(super) fn check(&self) {
        let pieces = || self.pieces.values().flatten();
        assert_eq!(self.count, pieces().count(), "entries that were taken");
        assert_eq!(self.bytes, pieces().map(Piece::weight).sum::<usize>(), "their bytes");
        assert!(self.pieces.values().all(|pieces| !pieces.is_empty()), "a channel with nothing");
        assert!(self.under_way.values().all(|channel| self.pieces.contains_key(channel)));
    }
}

/// Whether it may be published later.
fn is_passing(reason: Reason) -> bool {
    // What could not be kept for a reason that does not pass would stop its channel for ever.
    reason.row().retry != Retry::Never && reason != Reason::NotKept
}

/// Entries that are taken and not done with, at most.
const ENTRIES_MAX: usize = 256;
/// The same in bytes, but one entry and what comes in the same step of reading.
const BYTES_MAX: usize = 1 << 20;
/// So many that are done with are told at once, though nothing else is to be asked yet.
const SETTLED_MAX: usize = 64;
/// So many are told with one question.
const SETTLED_AT_ONCE_MAX: usize = 256;
/// No entry is longer, whatever else is allowed: a few of them have to fit into an answer.
const ENTRY_BYTES_MAX: usize = 4 << 20;
/// What an entry has besides its data and its document: channel, event, id.
const HEAD_BYTES: usize = 4096;
/// Between two questions if there is nothing, growing.
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(50);
/// Between two questions while somebody else owns the queue, at most.
const ELSEWHERE_PAUSE: Duration = Duration::from_secs(1);
/// After the bus could not do it.
const REST: Duration = Duration::from_secs(1);
/// What could not be published is tried again after this.
const RETRIED_AFTER: Duration = Duration::from_millis(200);
