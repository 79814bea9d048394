//! One channel at home.

use std::sync::Arc;

use super::{
    Broadcast,
    documents::Document,
    forms::{self, Form, Traces},
    lines::{Line, Links},
    log::{Bounds, Log, Page, nanos},
    pages::Pages,
};
use crate::{
    config::Keep,
    hub::{
        env::Env,
        peers::{Joiner, bit},
        types::ShardId,
    },
    protocol::{Envelope, Epoch, Stamp, TraceParent},
    time::Instant,
    ws::{self, Deflated, Segment},
};

/// A channel at home.
#[derive(Debug)]
pub(super) struct Home {
    pub(super) name: Arc<str>,
    pub(super) log: Log,
    /// What its last message with a document left.
    pub(super) document: Option<Box<Document>>,
    /// What the configuration says about it.
    pub(super) keep: Keep,
    /// Somebody was told a position: its numbers have to go on.
    pub(super) told: bool,
    pub(super) links: Links,
    /// A round of it is on its way into the store.
    pub(super) storing: bool,
    /// The store holds something of it.
    pub(super) stored: bool,
    /// It is followed on the bus.
    pub(super) followed: bool,
    /// Its numbers are those of the bus.
    pub(super) agreed: bool,
    /// Which putting back of the bus that agreement knows of, see [`Standing::mark`](crate::hub::bus::Standing::mark).
    pub(super) mark: u64,
    /// Since when it is in its line.
    pub(super) since: Instant,
    /// What recovering subscribers of this turn are sent.
    pub(super) pages: Option<Box<Pages>>,
    /// Bytes of the log that are there for those alone who are answered just now.
    pub(super) extension: usize,
    /// Subscribers on all hubs, by form.
    takers: [Takers; 2],
    /// Subscribers by hub.
    by_shard: Vec<u32>,
    /// The other hubs with subscribers: a bit for each.
    pub(super) remote: u64,
    /// Frames of the present turn.
    round: Gathering,
    /// The traces of its messages.
    traces: Option<Box<Traces>>,
    /// By how much the log has grown, and shrunk, since that was last added up.
    pub(super) grown: usize,
    pub(super) shrunk: usize,
}

/// Who takes messages in one form.
#[derive(Clone, Copy, Debug, Default)]
struct Takers {
    subscribers: u32,
    /// How many of them take compressed messages.
    deflates: u32,
}

#[derive(Debug, Default)]
struct Gathering {
    frames: Vec<u8>,
    messages: u32,
    /// Where the last frame begins.
    last: u32,
    /// Number of the first message.
    first_offset: u64,
    /// Bytes of the round before: what this one is expected to need, so that its buffer is allocated once.
    expected: usize,
    /// Messages have their offsets in them, whoever asked for it.
    numbered: bool,
}

/// A channel's round on its way to its subscribers.
#[derive(Debug)]
pub(in crate::hub) struct Sealed {
    pub(in crate::hub) channel: Arc<str>,
    pub(in crate::hub) plain: Shape,
    /// The same for those who asked for positions, if anybody did.
    pub(in crate::hub) positioned: Option<Box<Shape>>,
    pub(in crate::hub) first_offset: u64,
    /// The other hubs with subscribers: a bit for each. The frames were charged to them one by one.
    pub(in crate::hub) remote: u64,
    /// There are subscribers on this hub.
    pub(in crate::hub) here: bool,
}

/// Messages in one form.
#[derive(Clone, Debug)]
pub(in crate::hub) struct Shape {
    pub(in crate::hub) segment: Segment,
    /// The same compressed, if any subscriber on any hub can take that.
    pub(in crate::hub) deflated: Option<Box<Deflated>>,
    /// Those of its messages that belong to a trace, for whom that is to be told: beside the form with positions only.
    pub(in crate::hub) traces: Option<Arc<Traces>>,
}

impl Home {
    pub(super) fn new(env: &mut Env, name: Arc<str>, shards: u16) -> Self {
        Self {
            keep: env.config.history.of(&name),
            name,
            log: Log::new(Epoch::from_random(env.entropy.next_u64())),
            document: None,
            told: false,
            storing: false,
            stored: false,
            followed: false,
            agreed: false,
            mark: 0,
            links: Links::default(),
            since: env.now.mono,
            pages: None,
            extension: 0,
            takers: [Takers::default(); 2],
            by_shard: vec![0; usize::from(shards)],
            remote: 0,
            round: Gathering::default(),
            traces: None,
            grown: 0,
            shrunk: 0,
        }
    }

    pub(super) fn subscribers(&self) -> u32 {
        let [plain, positioned] = &self.takers;
        plain.subscribers + positioned.subscribers
    }

    /// What it counts for while nobody subscribes, besides its log.
    pub(super) fn unheard_bytes(&self) -> usize {
        HOME_BYTES + self.name.len()
    }

    /// Whether it is of any use to anybody.
    pub(super) fn is_of_use(&self) -> bool {
        self.subscribers() > 0
            || self.storing
            || self.followed
            || self.document.is_some()
            || (!self.keep.is_off() && (self.told || self.log.top > 0))
    }

    /// What its document counts for.
    #[cfg(debug_assertions)]
    pub(super) fn document_bytes(&self) -> usize {
        self.document.as_ref().map_or(0, |document| document.weight())
    }

    /// Nothing of it is on its way, to subscribers or into the store, nor expected from the bus.
    pub(super) fn is_quiet(&self) -> bool {
        self.round.messages == 0 && !self.storing && !self.followed
    }

    pub(super) fn bounds(&self, env: &Env) -> Bounds {
        Bounds {
            keep: self.keep,
            bytes_max: env.config.limits.history.history_channel_bytes_max + self.extension,
            now: nanos(env.now.mono.saturating_duration_since(env.started)),
        }
    }

    /// When its place in this line is over.
    pub(super) fn expires(&self, env: &Env, line: Line) -> Option<Instant> {
        let position_keep = env.config.limits.history.position_keep;
        match line {
            Line::Kept => self.log.expires(self.keep.time, env.started),
            Line::Idle => Some(self.since + position_keep),
            Line::Document => None,
        }
    }

    /// All messages from the one numbered `from` on, which is kept.
    pub(super) fn read(&mut self, env: &Env, form: Form, from: u64) -> Vec<Page> {
        let bytes = PAGE_BYTES.min(env.config.limits.delivery.outbox_bytes_max / 4);
        // Where everybody's messages carry their offset, those from before do as well.
        let form = if env.config.compat.offsets { Form::Positioned } else { form };
        let known = self.pages.take().filter(|pages| pages.is_of(&self.log));
        let mut pages = known.unwrap_or_else(|| Box::new(Pages::new(&self.log)));
        let read = pages.read(&self.log, form, from, bytes);
        self.pages = Some(pages);
        read
    }
}

/// Rounds.
impl Home {
    /// Writes the message of a broadcast to the scratch. Its number.
    pub(super) fn encode(
        &mut self,
        env: &mut Env,
        broadcast: Broadcast<'_>,
        stamp: Option<Stamp<'_>>,
    ) -> u64 {
        let number = self.log.next();
        let timestamp = env.timestamp();
        let stamp = match stamp {
            Some(stamp) => stamp,
            None => env.stamp(&timestamp),
        };
        let offset = env.config.compat.offsets.then_some(number);
        let Broadcast { channel, event, data } = broadcast;
        env.scratch.clear();
        Envelope::broadcast(stamp, channel, event, data, offset).write(&mut env.scratch);
        number
    }

    /// Whether a frame of that size fits into the present round.
    pub(super) fn has_room(&self, env: &Env, frame_max: usize) -> bool {
        self.round.messages == 0
            || self.round.frames.len() + frame_max <= env.config.limits.delivery.round_bytes_max
    }

    /// Begins a round, if none is under way.
    pub(super) fn begin(&mut self, offset: u64, frame_max: usize, numbered: bool) -> bool {
        let round = &mut self.round;
        let begins = round.messages == 0;
        if begins {
            round.first_offset = offset;
            round.numbered = numbered;
            round.frames.reserve_exact(round.expected.max(frame_max));
        }
        begins
    }

    /// Adds a message to the round. Bytes of its frame.
    pub(super) fn add(&mut self, text: &[u8]) -> usize {
        let round = &mut self.round;
        let last = round.frames.len();
        round.last = u32::try_from(last).unwrap_or(u32::MAX);
        round.messages += 1;
        ws::encode_text(&mut round.frames, text);
        round.frames.len() - last
    }

    /// The last message of the round belongs to a trace. Nobody is told who did not ask, and who asks takes positions.
    #[cold]
    pub(super) fn note_trace(&mut self, parent: TraceParent) {
        if self.takes(Form::Positioned)
            && let Some(place) = self.round.messages.checked_sub(1)
        {
            self.traces.get_or_insert_default().push((place, parent));
        }
    }

    /// Ends the round, which is in the log from now on. `None` if it is empty.
    pub(super) fn seal(&mut self, env: &mut Env) -> Option<Sealed> {
        if self.round.messages == 0 {
            return None;
        }
        let mut round = std::mem::take(&mut self.round);
        self.round.expected = round.frames.len();
        if !self.keep.is_off() && round.frames.capacity() / 2 > round.frames.len() {
            // It stays for long.
            round.frames.shrink_to_fit();
        }
        let segment = Segment::new(round.frames, round.messages, Segment::NO_TAG, round.last);
        let [plain, positioned] = self.takers;
        let mut shape = |segment: Segment, takers: Takers| {
            let deflated = match takers.deflates {
                0 => None,
                _ => env.codecs.deflate_round(&env.config.deflate, &self.name, &segment),
            };
            Shape { segment, deflated, traces: None }
        };
        let first = round.first_offset;
        let numbered = match positioned.subscribers {
            0 => None,
            _ => Some(forms::convert(&segment, first, round.numbered, Form::Positioned)),
        };
        let mut positioned = numbered.map(|segment| Box::new(shape(segment, positioned)));
        if let Some(traces) = self.traces.take()
            && let Some(positioned) = &mut positioned
        {
            positioned.traces = Some(Arc::new(*traces));
        }
        let plain = shape(segment, plain);
        let here = self.is_here(env);
        let before = self.log.bytes();
        let bounds = self.bounds(env);
        self.log.push(plain.segment.clone(), first, round.numbered, bounds);
        self.grown += self.log.bytes().saturating_sub(before);
        self.shrunk += before.saturating_sub(self.log.bytes());
        Some(Sealed {
            channel: self.name.clone(),
            plain,
            positioned,
            first_offset: first,
            remote: self.remote,
            here,
        })
    }
}

/// Subscribers.
impl Home {
    /// Whether it is the first.
    pub(super) fn join(&mut self, own: ShardId, from: ShardId, member: Joiner) -> bool {
        let first = self.subscribers() == 0;
        if let Some(takers) = self.takers.get_mut(member.form.index()) {
            takers.subscribers += 1;
            takers.deflates += u32::from(member.deflates);
        }
        if let Some(count) = self.by_shard.get_mut(usize::from(from.0)) {
            *count += 1;
        }
        if from != own {
            self.remote |= bit(from);
        }
        first
    }

    /// Whether anybody takes compressed messages, by form.
    pub(super) fn deflating(&self) -> [bool; 2] {
        self.takers.map(|takers| takers.deflates > 0)
    }

    /// Whether anybody takes messages in this form.
    pub(super) fn takes(&self, form: Form) -> bool {
        self.takers.get(form.index()).is_some_and(|takers| takers.subscribers > 0)
    }

    /// Whether there are subscribers on this hub.
    pub(super) fn is_here(&self, env: &Env) -> bool {
        let own = self.by_shard.get(usize::from(env.place.shard.0));
        own.is_some_and(|own| *own > 0)
    }

    /// If no other of its hub is left, the bytes of the present round.
    pub(super) fn leave(&mut self, from: ShardId, (form, deflates): (Form, bool)) -> Option<usize> {
        if let Some(takers) = self.takers.get_mut(form.index()) {
            takers.subscribers -= 1;
            takers.deflates -= u32::from(deflates);
        }
        let count = self.by_shard.get_mut(usize::from(from.0))?;
        *count -= 1;
        if *count == 0 && self.remote & bit(from) != 0 {
            self.remote &= !bit(from);
            return Some(self.round.frames.len());
        }
        None
    }

    #[cfg(debug_assertions)]
    pub(super) fn check(&self, own: ShardId) {
        let (name, by_shard) = (&self.name, &self.by_shard);
        assert_eq!(self.subscribers(), by_shard.iter().sum::<u32>(), "subscribers of {name}");
        let sound = |takers: &Takers| takers.deflates <= takers.subscribers;
        assert!(self.takers.iter().all(sound), "members of {name}");
        let others = by_shard.iter().zip(0..).filter(|(n, at)| **n > 0 && ShardId(*at) != own);
        let remote = others.fold(0, |mask, (_, at)| mask | bit(ShardId(at)));
        assert_eq!(self.remote, remote, "hubs with subscribers of {name}");
        assert!(self.is_of_use(), "{name} is of no use");
        assert_eq!((self.grown, self.shrunk), (0, 0), "bytes of {name} that are not added up");
        self.log.check(u64::from(self.round.messages));
    }
}

/// Memory of a home without subscribers, with its entries in tables: what it counts for besides its name.
const HOME_BYTES: usize = 512;

/// Bytes of a page, unless a single message is longer: a good write, and little to copy for who missed the rest of it.
const PAGE_BYTES: usize = 16 * 1024;
