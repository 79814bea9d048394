//! Channels at home: one hub is each channel's authority. It numbers the channel's messages, so their order is total,
//! gathers those of a turn into one shared segment, and keeps the last ones for those who missed them.

mod bus;
mod documents;
mod forms;
mod history;
mod home;
mod lines;
mod log;
mod pages;
mod stored;
#[cfg(test)]
mod tests;

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;

pub(super) use self::{
    bus::Anchor,
    forms::{Form, traced},
    home::{Sealed, Shape},
    log::{Lost, Page, Since},
};
use self::{
    documents::Documents,
    home::Home,
    lines::{Line, Lines},
};
use super::{
    env::Env,
    peers::Joiner,
    slab::Slab,
    store::StoreCommand,
    types::{Place, Placement, Publication, Published, ShardId},
};
use crate::{
    entropy::{KeyedMap, KeyedState},
    protocol::{self, Position, Stamp},
    time::Instant,
    ws,
};

/// The channels that are at home in this hub: those with subscribers, and those of which something is kept.
#[derive(Debug)]
pub(super) struct Homes {
    placement: Placement,
    shards: u16,
    names: KeyedMap<Arc<str>, u32>,
    slots: Slab<Home>,
    /// How many of them have subscribers.
    subscribed: usize,
    /// Channels whose round has messages, each at most once.
    dirty: Vec<u32>,
    /// How many of them were sealed since the turn's end began.
    sealed: usize,
    /// Subscribers of those, on all hubs.
    awaited: usize,
    lines: Lines,
    /// Bytes of all logs and documents, and of channels without subscribers.
    kept_bytes: usize,
    /// What metrics know of that.
    bytes_told: usize,
    documents: Documents,
    documents_told: Documents,
    /// Channels whose log was read in this turn.
    read: Vec<u32>,
    /// For the store.
    commands: VecDeque<StoreCommand>,
}

/// What came of a broadcast.
#[derive(Debug, Default)]
pub(super) struct Broadcasted {
    pub(super) published: Published,
    /// The round before it, which had no room for it.
    pub(super) sealed: Option<Sealed>,
    /// The other hubs that it goes to, and its bytes.
    pub(super) remote: u64,
    pub(super) bytes: usize,
}

/// A broadcast before it is encoded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Broadcast<'a> {
    pub(super) channel: &'a str,
    pub(super) event: &'a str,
    /// A JSON object.
    pub(super) data: &'a str,
}

impl<'a> Broadcast<'a> {
    /// Data is checked to be UTF-8 where it enters; should it not be, an empty object is sent rather than a broken one.
    pub(super) fn of(publication: &'a Publication) -> Self {
        let data = std::str::from_utf8(&publication.data).unwrap_or("{}");
        Self { channel: &publication.channel, event: &publication.event, data }
    }

    pub(super) fn to_owned(self) -> Publication {
        Publication {
            channel: self.channel.into(),
            event: self.event.into(),
            data: Bytes::copy_from_slice(self.data.as_bytes()),
            options: None,
        }
    }
}

/// What a subscriber asks for besides the channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wish {
    /// The answer is to say where the channel stands, and messages are to carry their offset.
    pub(super) positions: bool,
    /// They are to say which trace they belong to.
    pub(super) traces: bool,
    /// Where it left off.
    pub(super) since: Option<Since>,
    /// So many of the last messages are to come first.
    pub(super) rewind: Option<u32>,
    /// No subscription without what was asked for.
    pub(super) strict: bool,
}

impl Wish {
    pub(super) fn form(&self) -> Form {
        if self.positions { Form::Positioned } else { Form::Plain }
    }
}

/// Where a subscriber starts.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) position: Position,
    /// Something is kept of the channel.
    pub(super) recoverable: bool,
    /// What came of the wish to recover: so many messages come first, or why none do.
    pub(super) recovered: Option<Result<u64, Lost>>,
    /// So many of the last messages come first.
    pub(super) rewound: Option<u64>,
    /// Those that come first.
    pub(super) pages: Vec<Page>,
}

impl Start {
    /// As the client is told.
    pub(super) fn told(&self) -> protocol::Start<'static> {
        protocol::Start {
            position: self.position,
            recoverable: self.recoverable,
            recovered: self.recovered.map(|outcome| outcome.map_err(Lost::as_str)),
            rewound: self.rewound,
        }
    }
}

/// How much a home knows of what was published to its channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// All.
    All,
    /// All up to its last message. There may be more, which will come.
    SoFar,
    /// Nothing, not even the channel's numbers.
    Nothing,
}

impl Homes {
    pub(super) fn new(keys: KeyedState, place: Place) -> Self {
        Self {
            placement: Placement::new(place),
            shards: place.shards.max(1),
            names: KeyedMap::with_hasher(keys),
            slots: Slab::new(),
            subscribed: 0,
            dirty: Vec::new(),
            sealed: 0,
            awaited: 0,
            lines: Lines::default(),
            kept_bytes: 0,
            bytes_told: 0,
            documents: Documents::default(),
            documents_told: Documents::default(),
            read: Vec::new(),
            commands: VecDeque::new(),
        }
    }

    /// The hub at which `name`, a channel or an idempotency key, is at home.
    pub(super) fn of(&self, name: &str) -> ShardId {
        self.placement.home(name)
    }

    /// Channels with subscribers.
    pub(super) fn len(&self) -> usize {
        self.subscribed
    }

    /// Them, with their places and how many subscribers each has on all hubs.
    pub(super) fn heard(&self) -> impl Iterator<Item = (u32, &Arc<str>, u32)> {
        let home = |index| Some((index, self.slots.get(index)?));
        let homes = self.slots.indices().filter_map(home);
        homes
            .map(|(index, home)| (index, &home.name, home.subscribers()))
            .filter(|(.., subscribers)| *subscribers > 0)
    }

    /// Bytes of what is kept.
    #[cfg(test)]
    pub(super) fn kept_bytes(&self) -> usize {
        self.kept_bytes
    }

    /// Whether the turn's rounds have so many subscribers that it pays to look for further input first.
    pub(super) fn gathers(&self) -> bool {
        self.awaited >= GATHERED_FOR
    }

    pub(super) fn placement(&self) -> Placement {
        self.placement
    }

    /// The other hubs with subscribers of a channel: a bit for each.
    pub(super) fn remote(&self, channel: &str) -> u64 {
        let index = self.names.get(channel);
        let home = index.and_then(|index| self.slots.get(*index));
        home.map_or(0, |home| home.remote)
    }

    /// Adds a broadcast to its channel's round. Nobody gets it if nobody subscribes and nothing is kept.
    #[inline]
    pub(super) fn broadcast(&mut self, env: &mut Env, broadcast: Broadcast<'_>) -> Broadcasted {
        self.broadcast_at(env, broadcast, None)
    }

    /// The same, with an id and a time that it has already.
    pub(super) fn broadcast_at(
        &mut self,
        env: &mut Env,
        broadcast: Broadcast<'_>,
        stamp: Option<Stamp<'_>>,
    ) -> Broadcasted {
        let label = env.tally.label(&env.config, broadcast.channel);
        env.tally.broadcast(env.now.mono, label);
        let found = match self.names.get(broadcast.channel) {
            Some(&index) => Some(index),
            None => self.found_unheard(env, broadcast.channel),
        };
        match found {
            Some(index) => self.add(env, index, broadcast, stamp),
            None => Broadcasted::default(),
        }
    }

    /// Adds a broadcast to the round of the channel at `index`.
    #[inline]
    fn add(
        &mut self,
        env: &mut Env,
        index: u32,
        broadcast: Broadcast<'_>,
        stamp: Option<Stamp<'_>>,
    ) -> Broadcasted {
        let Some(home) = self.slots.get_mut(index) else { return Broadcasted::default() };
        let offset = home.encode(env, broadcast, stamp);
        let frame_max = ws::frame_len(env.scratch.len(), false);
        let sealed = if home.has_room(env, frame_max) { None } else { home.seal(env) };
        let subscribers = home.subscribers();
        if home.begin(offset, frame_max, env.config.compat.offsets) {
            self.dirty.push(index);
            self.awaited += subscribers as usize;
        }
        let bytes = home.add(&env.scratch);
        let published = Published { subscribers, offset, epoch: Some(home.log.epoch) };
        let done = Broadcasted { published, sealed, remote: home.remote, bytes };
        if done.sealed.is_some() {
            self.keep(env, index);
        }
        done
    }

    /// The next channel's round of the turn; `None`: there are no more.
    pub(super) fn seal_next(&mut self, env: &mut Env) -> Option<Option<Sealed>> {
        let Some(index) = self.dirty.get(self.sealed).copied() else {
            self.dirty.clear();
            (self.sealed, self.awaited) = (0, 0);
            return None;
        };
        self.sealed += 1;
        Some(self.seal(env, index))
    }

    /// The channel's round, if it is at home here: membership is about to change.
    pub(super) fn seal_channel(&mut self, env: &mut Env, name: &str) -> Option<Sealed> {
        let index = *self.names.get(name)?;
        self.seal(env, index)
    }

    fn seal(&mut self, env: &mut Env, index: u32) -> Option<Sealed> {
        let sealed = self.slots.get_mut(index)?.seal(env);
        if sealed.is_some() {
            self.keep(env, index);
        }
        sealed
    }

    /// A connection subscribes. It gets what is published from now on, so the present round has to be sealed before. Where
    /// it starts, if it asked.
    pub(super) fn join(
        &mut self,
        env: &mut Env,
        from: ShardId,
        channel: &Arc<str>,
        member: Joiner,
        (wish, known): (Option<&Wish>, Known),
    ) -> Result<Option<Box<Start>>, Lost> {
        let index = match self.names.get(channel) {
            Some(&index) => Some(index),
            None => self.found(env, channel),
        };
        let Some(index) = index else { return Ok(None) };
        let start = wish.and_then(|wish| self.start(env, index, wish, known)).map(Box::new);
        if wish.is_some_and(|wish| wish.strict)
            && let Some(Err(lost)) = start.as_ref().and_then(|start| start.recovered)
        {
            self.let_be(env, index);
            return Err(lost);
        }
        let own = env.place.shard;
        let Some(home) = self.slots.get_mut(index) else { return Ok(None) };
        if home.join(own, from, member) {
            let heard = home.unheard_bytes();
            self.subscribed += 1;
            self.kept_bytes -= heard;
            env.tally.channels += 1;
            self.review(env, index);
        }
        Ok(start)
    }

    /// A connection left. If no other of its hub is left, the bytes of the present round, which are not sent there after
    /// all.
    pub(super) fn leave(
        &mut self,
        env: &mut Env,
        from: ShardId,
        channel: &str,
        member: (Form, bool),
    ) -> Option<usize> {
        let index = *self.names.get(channel)?;
        let home = self.slots.get_mut(index)?;
        let refund = home.leave(from, member);
        if home.subscribers() == 0 {
            self.subscribed -= 1;
            self.kept_bytes += home.unheard_bytes();
            env.tally.channels -= 1;
            self.let_be(env, index);
            self.make_room(env);
        }
        refund
    }

    /// A new configuration: what is kept of each channel may have changed.
    pub(super) fn reload(&mut self, env: &mut Env) {
        let indices: Vec<u32> = self.slots.indices().collect();
        for index in indices {
            // What was over under the old one does not come back under the new one.
            self.trim(env, index);
            if let Some(home) = self.slots.get_mut(index) {
                home.keep = env.config.history.of(&home.name);
                if home.keep.is_off() {
                    self.kept_bytes -= home.log.bytes();
                    home.log.clear();
                    self.leave_store(index);
                }
            }
            self.trim(env, index);
            self.let_be(env, index);
        }
        self.make_room(env);
    }

    /// The end of a turn: pages that were made in it are good for no other.
    pub(super) fn end_turn(&mut self, env: &mut Env) {
        if !self.read.is_empty() {
            for index in self.read.drain(..) {
                if let Some(home) = self.slots.get_mut(index) {
                    home.pages = None;
                }
            }
        }
        let told = std::mem::replace(&mut self.bytes_told, self.kept_bytes);
        env.tally.history_bytes += self.kept_bytes as i64 - told as i64;
        self.tell_documents(env);
    }
}

/// What is kept, and for how long.
impl Homes {
    /// A channel is published to that has no subscribers: only if something is kept of it.
    #[cold]
    fn found_unheard(&mut self, env: &mut Env, channel: &str) -> Option<u32> {
        if env.config.history.of(channel).is_off() {
            return None;
        }
        self.found(env, &channel.into())
    }

    fn found(&mut self, env: &mut Env, channel: &Arc<str>) -> Option<u32> {
        let home = Home::new(env, channel.clone(), self.shards);
        let bytes = home.unheard_bytes();
        let (index, _) = self.slots.insert(home)?;
        self.names.insert(channel.clone(), index);
        self.kept_bytes += bytes;
        Some(index)
    }

    /// A round was sealed: it is in the log now, if anything is kept.
    fn keep(&mut self, env: &mut Env, index: u32) {
        let Some(home) = self.slots.get_mut(index) else { return };
        self.kept_bytes += std::mem::take(&mut home.grown);
        self.kept_bytes -= std::mem::take(&mut home.shrunk);
        if home.log.is_empty() {
            // Nothing is kept, or the round was too large for that.
            if home.document.is_some() {
                // Its place begins anew.
                self.lines.step(&mut self.slots, index, None);
            }
            return self.let_be(env, index);
        }
        self.lines.step(&mut self.slots, index, Some(Line::Kept));
        self.make_room(env);
    }

    /// Drops what is no longer kept of a channel.
    fn trim(&mut self, env: &Env, index: u32) {
        if let Some(home) = self.slots.get_mut(index) {
            let before = home.log.bytes();
            home.log.trim(home.bounds(env));
            let shrunk = before - home.log.bytes();
            self.kept_bytes -= shrunk;
            if shrunk > 0 {
                self.tell_trimmed(index);
            }
            self.review(env, index);
        }
    }

    /// Puts a home into the line where it belongs.
    fn review(&mut self, env: &Env, index: u32) {
        let Some(home) = self.slots.get_mut(index) else { return };
        let line = match (home.log.is_empty(), home.subscribers() == 0) {
            (false, _) => Some(Line::Kept),
            (true, true) => Some(Line::Idle),
            (true, false) => home.document.as_ref().map(|_| Line::Document),
        };
        if line != home.links.line() {
            home.since = env.now.mono;
            self.lines.step(&mut self.slots, index, line);
        }
    }

    /// Forgets a channel that nobody subscribes to and that has nothing to tell; otherwise sees that it is in its line.
    fn let_be(&mut self, env: &Env, index: u32) {
        let Some(home) = self.slots.get(index) else { return };
        if home.is_of_use() { self.review(env, index) } else { self.forget(index) }
    }

    fn forget(&mut self, index: u32) {
        self.drop_document(index);
        self.lines.step(&mut self.slots, index, None);
        if let Some(home) = self.slots.remove(index) {
            self.tell_forgotten(&home);
            self.names.remove(&home.name);
            self.kept_bytes -= home.unheard_bytes() + home.log.bytes();
        }
    }

    /// Forgets what was published to longest ago, until the rest fits.
    #[inline]
    fn make_room(&mut self, env: &mut Env) {
        if self.kept_bytes > env.config.limits.history.history_bytes_max {
            self.forget_oldest(env);
        }
    }

    #[cold]
    fn forget_oldest(&mut self, env: &mut Env) {
        let max = env.config.limits.history.history_bytes_max;
        while self.kept_bytes > max {
            let mut lines = [Line::Idle, Line::Kept, Line::Document].into_iter();
            let first = lines.find_map(|line| Some((line, self.lines.first(line)?)));
            let Some((line, index)) = first else { break };
            env.tally.history_evicted += 1;
            let Some(home) = self.slots.get_mut(index) else { break };
            self.kept_bytes -= home.log.bytes();
            home.log.clear();
            let (heard, quiet) = (home.subscribers() > 0, home.is_quiet());
            if line == Line::Document {
                self.drop_document(index);
                self.leave_store(index);
            }
            if !heard && quiet {
                self.forget(index);
            } else {
                self.lines.step(&mut self.slots, index, None);
            }
            if heard {
                self.tell_trimmed(index);
                self.review(env, index);
            }
        }
    }

    /// When something is next no longer kept.
    #[inline]
    pub(super) fn next_deadline(&self, env: &Env) -> Option<Instant> {
        if self.lines.are_empty() {
            return None;
        }
        let due = |line| {
            let home = self.slots.get(self.lines.first(line)?)?;
            Some(home.expires(env, line)? + SWEPT_AFTER)
        };
        due(Line::Kept).into_iter().chain(due(Line::Idle)).min()
    }

    /// Gives back the memory of what is no longer kept. One whose time is over but that stands behind others has to wait;
    /// nobody can read it all the same.
    #[inline]
    pub(super) fn sweep(&mut self, env: &Env) {
        if !self.lines.are_empty() {
            self.sweep_lines(env);
        }
    }

    fn sweep_lines(&mut self, env: &Env) {
        for line in [Line::Kept, Line::Idle] {
            while let Some(index) = self.lines.first(line)
                && let Some(home) = self.slots.get(index)
                && home.expires(env, line).is_some_and(|at| at <= env.now.mono)
            {
                match line {
                    Line::Kept => {
                        self.trim(env, index);
                        self.let_be(env, index);
                    }
                    Line::Idle if home.is_quiet() => self.forget(index),
                    Line::Idle => self.lines.step(&mut self.slots, index, None),
                    Line::Document => return,
                }
            }
        }
    }
}

/// Reading.
impl Homes {
    /// Where who subscribes starts, and what comes first.
    fn start(&mut self, env: &mut Env, index: u32, wish: &Wish, known: Known) -> Option<Start> {
        self.trim(env, index);
        let most = env.config.limits.history.recover_messages_max;
        let home = self.slots.get_mut(index)?;
        home.told |= wish.positions;
        let (position, keep) = (home.log.position(), home.keep);
        let recovered = wish.since.as_ref().map(|since| {
            let recovered = home.log.recover(since, keep, most);
            recovered.map_err(|lost| if known == Known::All { lost } else { lost.for_now() })
        });
        let (mut from, mut rewound) = (recovered.and_then(Result::ok), None);
        if from.is_none()
            && let Some(count) = wish.rewind
        {
            let first = home.log.rewind(count, most);
            (from, rewound) = (Some(first), Some(position.offset + 1 - first));
        }
        let pages = match from {
            Some(from) if from <= position.offset => {
                if home.pages.is_none() {
                    self.read.push(index);
                }
                home.read(env, wish.form(), from)
            }
            _ => Vec::new(),
        };
        let recovered = recovered.map(|from| from.map(|from| position.offset + 1 - from));
        if let Some(outcome) = recovered {
            env.tally.recovered(outcome.map_err(Lost::index));
        }
        let recoverable = !keep.is_off() && known != Known::Nothing;
        Some(Start { position, recoverable, recovered, rewound, pages })
    }
}

/// Subscribers of a turn's rounds from which on it pays to look for further input first.
const GATHERED_FOR: usize = 128;

/// What has expired may wait for more of its kind: a timer that rings for each would ring all the time.
const SWEPT_AFTER: std::time::Duration = std::time::Duration::from_secs(1);

#[cfg(debug_assertions)]
impl Homes {
    /// Every count equals what it counts.
    pub(super) fn check(&self, own: ShardId) {
        assert_eq!(self.names.len(), self.slots.len(), "names of channels at home");
        let homes = || self.slots.indices().filter_map(|index| self.slots.get(index));
        homes().for_each(|home| home.check(own));
        let unheard = |home: &Home| if home.subscribers() == 0 { home.unheard_bytes() } else { 0 };
        let bytes = |home: &Home| home.log.bytes() + home.document_bytes() + unheard(home);
        let kept = homes().map(bytes).sum::<usize>();
        assert_eq!(self.kept_bytes, kept, "bytes that are kept");
        let documents = homes().filter(|home| home.document.is_some());
        let documents = documents.fold(Documents::default(), |sum, home| Documents {
            count: sum.count + 1,
            bytes: sum.bytes + home.document_bytes(),
        });
        assert_eq!(self.documents, documents, "documents");
        let subscribed = homes().filter(|home| home.subscribers() > 0).count();
        assert_eq!(self.subscribed, subscribed, "channels with subscribers");
        let in_line = |line| homes().filter(|home| home.links.line() == Some(line)).count();
        for line in [Line::Kept, Line::Idle, Line::Document] {
            let stand = self.lines.of(&self.slots, line);
            assert_eq!(stand.len(), in_line(line), "homes in a line");
        }
        for home in homes() {
            let expected = match (home.log.is_empty(), home.subscribers() == 0) {
                (false, _) => Some(Line::Kept),
                (true, true) if home.is_quiet() => Some(Line::Idle),
                (true, true) => home.links.line(),
                (true, false) => home.document.as_ref().map(|_| Line::Document),
            };
            assert_eq!(home.links.line(), expected, "the line of {}", home.name);
        }
    }
}
