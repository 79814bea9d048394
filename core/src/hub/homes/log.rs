//! A channel's log: its numbers, and a ring of its last rounds. The rounds are the very segments that subscribers were
//! handed; nothing is copied to keep them.

use std::{collections::VecDeque, time::Duration};

use super::forms::Form;
use crate::{
    config::Keep,
    protocol::{Epoch, Position, Recover},
    time::Instant,
    ws::Segment,
};

/// What is kept of one channel.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) epoch: Epoch,
    /// Number of the last message, that of the present round included. 0: there was none.
    pub(super) top: u64,
    /// Number of the oldest message that may still be read; one more than `top` if there is none.
    oldest: u64,
    ring: VecDeque<Entry>,
    bytes: usize,
    /// What came before the oldest message was dropped for lack of room, and not for its age or number.
    short: bool,
}

/// A round in the ring.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) segment: Segment,
    pub(super) first: u64,
    /// When it was sealed, in nanoseconds since the hub's start.
    at: u64,
    /// Its messages have their offsets in them, whoever asked for it.
    pub(super) numbered: bool,
}

impl Entry {
    pub(super) fn last(&self) -> u64 {
        self.first + u64::from(self.segment.messages()) - 1
    }

    fn weight(&self) -> usize {
        self.segment.len() + ENTRY_BYTES
    }
}

/// What holds for a log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) keep: Keep,
    pub(super) bytes_max: usize,
    /// In nanoseconds since the hub's start.
    pub(super) now: u64,
}

/// Why nothing is recovered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::hub) enum Lost {
    /// The position is of another life of the channel's numbers.
    Epoch,
    /// What came after it is no longer kept, or not all of it.
    Trimmed,
    /// It is beyond the last message.
    Ahead,
    /// Its number belongs to another message.
    Diverged,
    /// More came after it than one subscription may recover.
    TooMany,
    /// Nothing of this channel is kept.
    Off,
    /// The bus is away, so that nobody knows: it can be tried again.
    Unavailable,
}

impl Lost {
    /// A number for tallies.
    pub(super) fn index(self) -> usize {
        self as usize
    }

    /// The word in answers and metrics.
    pub(in crate::hub) fn as_str(self) -> &'static str {
        match self {
            Self::Epoch => "epoch",
            Self::Trimmed => "trimmed",
            Self::Ahead => "ahead",
            Self::Diverged => "diverged",
            Self::TooMany => "too_many",
            Self::Off => "off",
            Self::Unavailable => "unavailable",
        }
    }

    /// While not all is known.
    pub(super) fn for_now(self) -> Self {
        if self == Self::Off { self } else { Self::Unavailable }
    }
}

/// Where a client left off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::hub) struct Since {
    /// `None`: none that any server gave.
    pub(in crate::hub) epoch: Option<Epoch>,
    pub(in crate::hub) offset: u64,
    pub(in crate::hub) id: Option<Box<str>>,
}

impl Since {
    pub(in crate::hub) fn of(recover: &Recover<'_>) -> Self {
        let Recover { epoch, offset, id } = recover;
        Self { epoch: *epoch, offset: *offset, id: id.as_deref().map(Into::into) }
    }
}

impl Log {
    pub(super) fn new(epoch: Epoch) -> Self {
        Self { epoch, top: 0, oldest: 1, ring: VecDeque::new(), bytes: 0, short: false }
    }

    /// The log of an earlier run: consecutive rounds that end with the message numbered `top`, or none.
    pub(super) fn restored(
        epoch: Epoch,
        top: u64,
        rounds: Vec<(Segment, u64)>,
        numbered: bool,
        bounds: Bounds,
    ) -> Self {
        let oldest = rounds.first().map_or(top + 1, |(_, first)| *first);
        let mut this = Self { top, oldest, ..Self::new(epoch) };
        for (segment, first) in rounds {
            this.push(segment, first, numbered, bounds);
        }
        this
    }

    /// Goes on behind another message, perhaps in another life of the numbers: nothing from before may be read any more.
    pub(super) fn restart(&mut self, position: Position) {
        *self =
            Self { top: position.offset, oldest: position.offset + 1, ..Self::new(position.epoch) };
    }

    /// Where the channel stands, once its round is sealed.
    pub(super) fn position(&self) -> Position {
        Position { epoch: self.epoch, offset: self.top }
    }

    /// The number of the next message.
    pub(super) fn next(&mut self) -> u64 {
        self.top += 1;
        self.top
    }

    pub(super) fn oldest(&self) -> u64 {
        self.oldest
    }

    /// Bytes that the ring counts for.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// Keeps a round, as long as `bounds` allow.
    pub(super) fn push(&mut self, segment: Segment, first: u64, numbered: bool, bounds: Bounds) {
        if bounds.keep.is_off() {
            self.clear();
            self.oldest = first + u64::from(segment.messages());
            return;
        }
        let entry = Entry { segment, first, at: bounds.now, numbered };
        self.bytes += entry.weight();
        self.ring.push_back(entry);
        self.trim(bounds);
    }

    /// Drops what is no longer kept.
    pub(super) fn trim(&mut self, bounds: Bounds) {
        let Bounds { keep, bytes_max, now } = bounds;
        let time = nanos(keep.time);
        let next = self.ring.back().map_or(self.oldest, |newest| newest.last() + 1);
        self.oldest = self.oldest.max(next.saturating_sub(u64::from(keep.messages)));
        while let Some(front) = self.ring.front() {
            let over = now.saturating_sub(front.at) >= time || front.last() < self.oldest;
            if !over && self.bytes <= bytes_max {
                break;
            }
            self.short = !over;
            self.oldest = self.oldest.max(front.last() + 1);
            self.bytes -= front.weight();
            self.ring.pop_front();
        }
        if self.ring.capacity() > 2 * RING_KEPT && self.ring.len() <= self.ring.capacity() / 4 {
            self.ring.shrink_to(RING_KEPT);
        }
    }

    /// Nothing that was published so far may be read any more.
    pub(super) fn clear(&mut self) {
        self.oldest = self.ring.back().map_or(self.oldest, |newest| newest.last() + 1);
        self.short |= !self.ring.is_empty();
        self.ring = VecDeque::new();
        self.bytes = 0;
    }

    /// The number of the first message in the ring, if what came before it was dropped for lack of room. The present round is
    /// sealed.
    pub(super) fn dropped_below(&self) -> Option<u64> {
        // What is beyond the number that is kept is of no use to anybody.
        let first = self.ring.front().map_or(self.top + 1, |front| front.first);
        Some(first).filter(|first| self.short && *first >= self.oldest)
    }

    /// What was dropped is here again: consecutive rounds that end where the ring begins, with the ages of their messages. Of
    /// others nothing is taken.
    pub(super) fn extend(
        &mut self,
        rounds: Vec<(Segment, u64, Duration)>,
        numbered: bool,
        bounds: Bounds,
    ) {
        let end =
            |(segment, first, _): &(Segment, u64, Duration)| first + u64::from(segment.messages());
        let joins = rounds.last().map(end);
        if joins.is_none() || joins != self.dropped_below() {
            return;
        }
        let next = self.ring.back().map_or(self.top, Entry::last) + 1;
        let first = rounds.first().map_or(self.oldest, |(_, first, _)| *first);
        for (segment, first, age) in rounds.into_iter().rev() {
            let at = bounds.now.saturating_sub(nanos(age));
            let entry = Entry { segment, first, at, numbered };
            self.bytes += entry.weight();
            self.ring.push_front(entry);
        }
        self.oldest = first.max(next.saturating_sub(u64::from(bounds.keep.messages)));
    }

    /// When the newest round is no longer kept.
    pub(super) fn expires(&self, keep: Duration, started: Instant) -> Option<Instant> {
        self.ring.back().map(|entry| started + Duration::from_nanos(entry.at) + keep)
    }

    /// The rounds from the one on that holds the message with number `from`.
    pub(super) fn from(&self, from: u64) -> impl DoubleEndedIterator<Item = &Entry> {
        self.ring.range(self.place(from)..)
    }

    /// The rounds up to the one that holds the message with number `last`, newest first.
    pub(super) fn back_from(&self, last: u64) -> impl Iterator<Item = &Entry> {
        let end = self.ring.partition_point(|entry| entry.first <= last);
        self.ring.range(..end).rev()
    }

    fn place(&self, number: u64) -> usize {
        self.ring.partition_point(|entry| entry.last() < number)
    }

    /// Whether a client that left off there can be given all that came after: the number of the first of it. The log is
    /// trimmed, and the present round sealed.
    pub(super) fn recover(&self, since: &Since, keep: Keep, most: u32) -> Result<u64, Lost> {
        if keep.is_off() {
            return Err(Lost::Off);
        }
        if since.epoch != Some(self.epoch) {
            return Err(Lost::Epoch);
        }
        if since.offset > self.top {
            return Err(Lost::Ahead);
        }
        let differs =
            |id: &str| self.id_of(since.offset).is_some_and(|known| known != id.as_bytes());
        if since.id.as_deref().is_some_and(differs) {
            return Err(Lost::Diverged);
        }
        let from = since.offset + 1;
        if from < self.oldest {
            return Err(Lost::Trimmed);
        }
        if self.top - since.offset > u64::from(most) {
            return Err(Lost::TooMany);
        }
        Ok(from)
    }

    /// The number from which on the last `count` messages are, as far as they are kept.
    pub(super) fn rewind(&self, count: u32, most: u32) -> u64 {
        let count = u64::from(count.min(most));
        (self.top + 1).saturating_sub(count).max(self.oldest)
    }

    /// The `id` of a message, if it is kept.
    pub(super) fn id_of(&self, number: u64) -> Option<&[u8]> {
        if number < self.oldest {
            return None;
        }
        let entry = self.ring.get(self.place(number))?;
        let at = usize::try_from(number.checked_sub(entry.first)?).ok()?;
        let frame = entry.segment.frames().nth(at)?;
        frame.payload().strip_prefix(ID)?.get(..uuid::fmt::Hyphenated::LENGTH)
    }

    /// Consecutive rounds that reach to the top, and what they count for.
    #[cfg(debug_assertions)]
    pub(super) fn check(&self, gathering: u64) {
        let mut next = None;
        for entry in &self.ring {
            assert!(next.is_none_or(|next| next == entry.first), "a hole in a log");
            next = Some(entry.last() + 1);
        }
        let front = self.ring.front();
        assert!(
            front.is_none_or(|front| front.last() >= self.oldest),
            "a round that nobody may read"
        );
        assert!(front.is_none_or(|front| front.first <= self.oldest), "a round that is missing");
        let top = self.top - gathering;
        assert!(next.is_none_or(|next| next == top + 1), "a log ends at its top");
        assert!(
            !self.ring.is_empty() || self.oldest == top + 1,
            "an empty log has nothing to read"
        );
        assert_eq!(
            self.bytes,
            self.ring.iter().map(Entry::weight).sum::<usize>(),
            "bytes of a log"
        );
    }
}

/// Five centuries at most.
pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// What each message begins with: see [`Envelope`](crate::protocol::Envelope).
const ID: &[u8] = b"{\"id\":\"";

/// Memory of a round besides its frames: its entry, the segment's own, and what the allocator adds.
const ENTRY_BYTES: usize = 128;

/// Entries for which a ring that has become short keeps its memory.
const RING_KEPT: usize = 16;

/// Some of a channel's messages, for everybody who missed them.
#[derive(Clone, Debug)]
pub(in crate::hub) struct Page {
    /// Number of the first message.
    pub(in crate::hub) first: u64,
    pub(in crate::hub) segment: Segment,
    pub(in crate::hub) form: Form,
}
