//! What waits to be written to one socket: shared broadcast segments, own replies, and control frames in between.

use std::io::IoSlice;

use bytes::Bytes;

use super::overflow::Overflow;

/// Frames that were encoded once for many connections, usually all of one channel in one turn.
#[derive(Clone, Debug)]
pub struct Segment {
    /// One or more complete unmasked frames, one message each.
    pub bytes: Bytes,
    /// Messages in `bytes`, at least one.
    pub messages: u32,
    /// The channel's index, for [`Outbox::replace`]; [`NO_TAG`](Self::NO_TAG) if the segment belongs to none.
    pub tag: u32,
    /// Where in `bytes` the last frame starts.
    pub last: u32,
}

impl Segment {
    /// The tag of what belongs to no channel.
    pub const NO_TAG: u32 = u32::MAX;
}

/// Bytes that wait for one socket, in the order in which they go out.
///
/// Made for thousands of instances that each get one shared segment per turn: that costs one reference count and no
/// allocation. Control frames overtake waiting data at the next frame boundary (RFC 6455 §5.4 forbids to break into a
/// frame), so that a pong is never late because of a backlog.
#[derive(Debug)]
pub struct Outbox {
    /// The front of the queue, inline because most queues have one entry or none.
    first: Option<Chunk>,
    rest: Overflow<Chunk>,
    /// Bytes of `first` that are written.
    sent: usize,
    /// A frame boundary in `first`, at or before `sent`: where a search for the next one starts.
    boundary: usize,
    /// Control frames, if any wait.
    urgent: Option<Box<Urgent>>,
    /// Bytes of data that wait.
    bytes: usize,
    /// How many of `bytes` were made for this connection alone.
    own_bytes: usize,
    messages: u32,
    /// Data is refused: the connection does not speak WebSocket yet, or its close frame is queued.
    sealed: bool,
}

impl Outbox {
    /// Nothing waits.
    #[must_use]
    pub fn new() -> Self {
        Self {
            first: None,
            rest: Overflow::new(),
            sent: 0,
            boundary: 0,
            urgent: None,
            bytes: 0,
            own_bytes: 0,
            messages: 0,
            sealed: false,
        }
    }

    /// Queues a shared segment: one reference count, no copy. Ignored unless the connection is open.
    pub fn push(&mut self, segment: &Segment) {
        if self.sealed || segment.bytes.is_empty() {
            return;
        }
        self.messages += segment.messages.max(1);
        self.bytes += segment.bytes.len();
        self.push_back(Chunk {
            store: Store::Shared(segment.bytes.clone()),
            messages: segment.messages.max(1),
            tag: segment.tag,
        });
    }

    /// Queues one frame for this connection alone, which `write` appends to the buffer it is given. Frames that follow
    /// each other share one buffer, so that all replies to one read go out in one piece. Ignored unless the connection
    /// is open.
    pub fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if self.sealed {
            return;
        }
        if !matches!(self.back(), Some(Chunk { store: Store::Own(buffer), messages: 1.., .. }) if buffer.len() < OWN_CHUNK)
        {
            self.push_back(Chunk {
                store: Store::Own(Vec::new()),
                messages: 0,
                tag: Segment::NO_TAG,
            });
        }
        let Some(Chunk { store: Store::Own(buffer), messages, .. }) = self.back_mut() else {
            return;
        };
        let before = buffer.len();
        write(buffer);
        let grown = buffer.len() - before;
        if grown > 0 {
            *messages += 1;
            self.messages += 1;
            self.bytes += grown;
            self.own_bytes += grown;
        } else if before == 0 {
            self.pop_back();
        }
    }

    /// Queues one frame for this connection alone that is encoded already. Ignored unless the connection is open.
    pub(crate) fn append_frame(&mut self, frame: Vec<u8>) {
        if self.sealed || frame.is_empty() {
            return;
        }
        self.messages += 1;
        self.bytes += frame.len();
        self.own_bytes += frame.len();
        self.push_back(Chunk { store: Store::Own(frame), messages: 1, tag: Segment::NO_TAG });
    }

    /// For receivers who want only the newest: replaces every queued segment of the same tag of which no byte is
    /// written by the *last* frame of `segment`, at the place of the last of them. Returns the messages that nobody
    /// will see, or `None` if there was nothing to replace and nothing is queued.
    pub fn replace(&mut self, segment: &Segment) -> Option<u32> {
        if segment.tag == Segment::NO_TAG {
            return None;
        }
        let begun = usize::from(self.sent > 0);
        let matches = |chunk: &Chunk| chunk.messages > 0 && chunk.tag == segment.tag;
        let place = (begun..self.len()).rev().find(|at| self.get(*at).is_some_and(matches))?;
        let last = segment.bytes.get(segment.last as usize..).filter(|frame| !frame.is_empty())?;
        let (frame, len) = (segment.bytes.slice_ref(last), last.len());

        let old = self.get_mut(place)?;
        let (mut dropped, mut freed) = (old.messages, old.store.len());
        old.messages = 1;
        old.store = Store::Shared(frame);
        // Older segments of the same tag, if the backlog began before conflation.
        for at in (begun..place).rev() {
            if self.get(at).is_some_and(matches)
                && let Some(chunk) = self.remove(at)
            {
                dropped += chunk.messages;
                freed += chunk.store.len();
            }
        }
        self.messages = self.messages - dropped + 1;
        self.bytes = self.bytes - freed + len;
        Some(dropped + segment.messages.max(1) - 1)
    }

    /// From now on nothing replaces what is queued of `tag`: something follows it that it must not overtake.
    pub fn keep(&mut self, tag: u32) {
        for chunk in self.first.iter_mut().chain(self.rest.iter_mut()) {
            if chunk.tag == tag {
                chunk.tag = Segment::NO_TAG;
            }
        }
    }

    /// Bytes that [`replace`](Self::replace) would free.
    #[must_use]
    pub fn replaceable(&self, tag: u32) -> usize {
        let begun = usize::from(self.sent > 0);
        let matches =
            |chunk: &&Chunk| chunk.messages > 0 && chunk.tag == tag && tag != Segment::NO_TAG;
        let queued = (begun..self.len()).filter_map(|at| self.get(at));
        queued.filter(matches).map(|chunk| chunk.store.len()).sum()
    }

    /// Queues a control frame: it goes out at the next frame boundary, ahead of data, in order with others like it.
    pub fn urgent(&mut self, frame: Vec<u8>) {
        match &mut self.urgent {
            Some(urgent) => urgent.frames.extend_from_slice(&frame),
            None => {
                let gap = self.until_boundary();
                self.urgent = Some(Box::new(Urgent { frames: frame, sent: 0, gap }));
            }
        }
    }

    /// Drops queued data, except the rest of a frame that is partly written and what is not data (the answer to an
    /// upgrade request). Returns the messages dropped.
    pub fn clear_data(&mut self) -> u32 {
        let mut dropped = if self.sent > 0 { self.cut_front() } else { 0 };
        let kept = usize::from(self.sent > 0);
        for at in (kept..self.len()).rev() {
            if self.get(at).is_some_and(|chunk| chunk.messages > 0)
                && let Some(chunk) = self.remove(at)
            {
                self.bytes -= chunk.store.len();
                self.own_bytes -= if chunk.is_own() { chunk.store.len() } else { 0 };
                self.messages -= chunk.messages;
                dropped += chunk.messages;
            }
        }
        self.give_back();
        dropped
    }

    /// Drops every queued segment of `tag` of which no byte is written. Returns the messages dropped.
    pub(crate) fn drop_tag(&mut self, tag: u32) -> u32 {
        let mut dropped = 0;
        for at in (usize::from(self.sent > 0)..self.len()).rev() {
            if self.get(at).is_some_and(|chunk| chunk.is_of(tag))
                && let Some(chunk) = self.remove(at)
            {
                self.bytes -= chunk.store.len();
                self.messages -= chunk.messages;
                dropped += chunk.messages;
            }
        }
        self.give_back();
        dropped
    }

    /// Drops what is queued of `tag` but for its newest message, and what is partly written. Returns the messages
    /// dropped.
    pub(crate) fn drop_older(&mut self, tag: u32) -> u32 {
        let begun = usize::from(self.sent > 0);
        let of_tag = |at: &usize| self.get(*at).is_some_and(|chunk| chunk.is_of(tag));
        let Some(newest) = (begun..self.len()).rev().find(of_tag) else { return 0 };
        let (before, mut dropped) = (self.bytes, 0);
        if let Some(chunk) = self.get_mut(newest) {
            dropped += std::mem::replace(&mut chunk.messages, 1) - 1;
            let freed = chunk.store.keep_last();
            self.bytes -= freed;
        }
        for at in (begun..newest).rev() {
            if self.get(at).is_some_and(|chunk| chunk.is_of(tag))
                && let Some(chunk) = self.remove(at)
            {
                self.bytes -= chunk.store.len();
                dropped += chunk.messages;
            }
        }
        debug_assert!(self.bytes <= before);
        self.messages -= dropped;
        self.give_back();
        dropped
    }

    /// Marks `bytes` of what [`chunks`](Self::chunks) gave as written.
    pub fn consume(&mut self, mut bytes: usize) {
        while bytes > 0 {
            let mut take = bytes;
            if let Some(urgent) = &mut self.urgent {
                if urgent.gap == 0 {
                    take = take.min(urgent.frames.len() - urgent.sent);
                    urgent.sent += take;
                    bytes -= take;
                    if urgent.sent == urgent.frames.len() {
                        self.urgent = None;
                    }
                    continue;
                }
                take = take.min(urgent.gap);
            }
            let Some(front) = &self.first else {
                debug_assert!(false, "more consumed than there was");
                return;
            };
            let len = front.store.len();
            take = take.min(len - self.sent);
            self.sent += take;
            bytes -= take;
            self.bytes -= take;
            if front.is_own() {
                self.own_bytes -= take;
            }
            if let Some(urgent) = &mut self.urgent {
                urgent.gap -= take;
            }
            if self.sent == len {
                self.pop_front();
            }
        }
    }

    /// Fills `iov` with what goes out next, in order, and returns the number of slices.
    pub fn chunks<'a>(&'a self, iov: &mut [IoSlice<'a>]) -> usize {
        let mut slots = iov.iter_mut();
        let mut filled = 0;
        let mut put = |bytes: &'a [u8]| {
            if bytes.is_empty() {
                return true;
            }
            let Some(slot) = slots.next() else { return false };
            *slot = IoSlice::new(bytes);
            filled += 1;
            true
        };
        let mut skip = self.sent;
        let mut lane = self.urgent.as_deref();
        let mut gap = lane.map_or(0, |urgent| urgent.gap);
        for chunk in self.first.iter().chain(self.rest.iter()) {
            let mut waiting =
                chunk.store.as_slice().get(std::mem::take(&mut skip)..).unwrap_or_default();
            if let Some(urgent) = lane {
                match waiting.split_at_checked(gap) {
                    Some((ahead, after)) => {
                        if !(put(ahead) && put(urgent.waiting())) {
                            return filled;
                        }
                        lane = None;
                        waiting = after;
                    }
                    None => gap -= waiting.len(),
                }
            }
            if !put(waiting) {
                return filled;
            }
        }
        if let Some(urgent) = lane {
            put(urgent.waiting());
        }
        filled
    }

    /// What goes out next in one piece; empty if nothing waits.
    #[must_use]
    pub fn head(&self) -> &[u8] {
        let data = self
            .first
            .as_ref()
            .and_then(|front| front.store.as_slice().get(self.sent..))
            .unwrap_or_default();
        match &self.urgent {
            Some(urgent) if urgent.gap == 0 => urgent.waiting(),
            Some(urgent) => data.get(..urgent.gap).unwrap_or(data),
            None => data,
        }
    }
}

impl Outbox {
    /// Whether a single piece is all that waits: then a plain write does, without gathering.
    #[must_use]
    pub fn is_single(&self) -> bool {
        match &self.urgent {
            None => self.rest.is_empty(),
            Some(_) => self.first.is_none(),
        }
    }

    /// Bytes of data that wait. Control frames are not counted: their number is bounded by their rate.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes that wait because this peer asked for them: replies, HTTP answers, pongs. Broadcasts are not counted.
    #[must_use]
    pub fn own_bytes(&self) -> usize {
        self.own_bytes + self.urgent.as_ref().map_or(0, |urgent| urgent.waiting().len())
    }

    /// Messages that wait; those of a partly written segment all count.
    #[must_use]
    pub fn messages(&self) -> u32 {
        self.messages
    }

    /// Bytes of memory that no other connection shares: what was made for this one alone, and the queue itself.
    pub(crate) fn private_bytes(&self) -> usize {
        self.own_bytes() + self.rest.capacity() * size_of::<Chunk>()
    }

    /// Whether nothing waits, control frames included.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.first.is_none() && self.urgent.is_none()
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.rest.capacity()
    }

    /// Refuses data from now on (`true`), or accepts it.
    pub(super) fn seal(&mut self, sealed: bool) {
        self.sealed = sealed;
    }

    /// Queues bytes that are not data messages and that nothing may overtake, replace or drop: HTTP heads and bodies,
    /// and a close frame that waits for its turn. Not refused by a seal.
    pub(super) fn raw(&mut self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        self.bytes += bytes.len();
        self.own_bytes += bytes.len();
        self.push_back(Chunk { store: Store::Shared(bytes), messages: 0, tag: Segment::NO_TAG });
    }

    /// Bytes until a control frame may go out: the rest of the frame in progress, or of the HTTP head before the first
    /// frame.
    fn until_boundary(&mut self) -> usize {
        let Some(front) = &self.first else { return 0 };
        if front.messages == 0 {
            let leading =
                self.first.iter().chain(self.rest.iter()).take_while(|chunk| chunk.messages == 0);
            return leading.map(|chunk| chunk.store.len()).sum::<usize>() - self.sent;
        }
        while self.boundary < self.sent {
            let frame = front.store.as_slice().get(self.boundary..).and_then(frame_len);
            debug_assert!(frame.is_some(), "chunks hold whole frames");
            self.boundary =
                frame.map_or(front.store.len(), |len| (self.boundary + len).min(front.store.len()));
        }
        self.boundary - self.sent
    }

    /// Cuts a partly written front chunk after the frame in progress. Returns the messages dropped.
    fn cut_front(&mut self) -> u32 {
        let cut = self.sent + self.until_boundary();
        let Some(front) = self.first.as_mut().filter(|front| front.messages > 0) else { return 0 };
        let begun = front.store.frames_within(cut).clamp(1, front.messages);
        let freed = front.store.len() - cut;
        front.store.cut(cut);
        let dropped = front.messages - begun;
        self.messages -= dropped;
        front.messages = begun;
        self.bytes -= freed;
        self.own_bytes -= if front.is_own() { freed } else { 0 };
        // The frame ended exactly where writing stopped: nothing of this chunk is left.
        if self.sent == cut {
            self.pop_front();
        }
        dropped
    }

    fn push_back(&mut self, chunk: Chunk) {
        match self.first {
            None => self.first = Some(chunk),
            Some(_) => self.rest.push_back(chunk),
        }
    }

    /// The front chunk is written or dropped.
    fn pop_front(&mut self) {
        let messages = self.first.as_ref().map_or(0, |front| front.messages);
        self.messages -= messages;
        self.first = self.rest.pop_front();
        self.sent = 0;
        self.boundary = 0;
        if self.rest.is_empty() {
            // Behind the answer to the upgrade there is a welcome, once: what that took is not needed again.
            self.rest.give_back(KEPT_CHUNKS, messages == 0);
        }
    }

    /// The queue's memory follows what is in it: a burst leaves nothing behind.
    fn give_back(&mut self) {
        self.rest.give_back(KEPT_CHUNKS, false);
    }

    fn pop_back(&mut self) {
        if self.rest.pop_back().is_none() {
            self.first = None;
        }
    }

    fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.len()
    }

    fn get(&self, at: usize) -> Option<&Chunk> {
        if at == 0 { self.first.as_ref() } else { self.rest.get(at - 1) }
    }

    fn get_mut(&mut self, at: usize) -> Option<&mut Chunk> {
        if at == 0 { self.first.as_mut() } else { self.rest.get_mut(at - 1) }
    }

    /// Takes out a chunk of which nothing is written. Counters are the caller's.
    fn remove(&mut self, at: usize) -> Option<Chunk> {
        if at == 0 {
            std::mem::replace(&mut self.first, self.rest.pop_front())
        } else {
            self.rest.remove(at - 1)
        }
    }

    fn back(&self) -> Option<&Chunk> {
        self.rest.back().or(self.first.as_ref())
    }

    fn back_mut(&mut self) -> Option<&mut Chunk> {
        self.rest.back_mut().or(self.first.as_mut())
    }
}

impl Default for Outbox {
    fn default() -> Self {
        Self::new()
    }
}

#[derive(Debug)]
struct Chunk {
    store: Store,
    /// Messages in the chunk; 0 for bytes that are not data (see [`Outbox::raw`]).
    messages: u32,
    tag: u32,
}

impl Chunk {
    /// Messages of the channel that `tag` stands for.
    fn is_of(&self, tag: u32) -> bool {
        self.messages > 0 && self.tag == tag && tag != Segment::NO_TAG
    }

    fn is_own(&self) -> bool {
        self.messages == 0 || matches!(self.store, Store::Own(_))
    }
}

#[derive(Debug)]
enum Store {
    Shared(Bytes),
    Own(Vec<u8>),
}

impl Store {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Shared(bytes) => bytes,
            Self::Own(bytes) => bytes,
        }
    }

    fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// Keeps the first `len` bytes.
    fn cut(&mut self, len: usize) {
        match self {
            Self::Shared(bytes) => {
                let whole = bytes.len();
                bytes.truncate(len);
                *self = Self::Shared(unpinned(bytes, whole));
            }
            Self::Own(bytes) => {
                bytes.truncate(len);
                bytes.shrink_to_fit();
            }
        }
    }

    /// Keeps the last frame. Returns the bytes dropped.
    fn keep_last(&mut self) -> usize {
        let (mut at, mut last) = (0, 0);
        while let Some(len) = self.as_slice().get(at..).and_then(frame_len) {
            last = at;
            at += len;
        }
        if let Self::Shared(bytes) = self
            && last > 0
        {
            let whole = bytes.len();
            *self = Self::Shared(unpinned(&bytes.slice(last..), whole));
        }
        last
    }

    /// Frames that start before `end`.
    fn frames_within(&self, end: usize) -> u32 {
        let (mut at, mut frames) = (0, 0);
        while at < end
            && let Some(len) = self.as_slice().get(at..).and_then(frame_len)
        {
            at += len;
            frames += 1;
        }
        frames
    }
}

/// A part of `whole` bytes. A slice would keep all of them alive: a small one is copied.
fn unpinned(part: &Bytes, whole: usize) -> Bytes {
    if part.len() <= whole / 4 { Bytes::copy_from_slice(part) } else { part.clone() }
}

#[derive(Debug)]
struct Urgent {
    frames: Vec<u8>,
    /// Bytes of `frames` that are written.
    sent: usize,
    /// Bytes of data that go out first.
    gap: usize,
}

impl Urgent {
    fn waiting(&self) -> &[u8] {
        self.frames.get(self.sent..).unwrap_or_default()
    }
}

/// The length of the frame at the start of `bytes`, which we encoded ourselves (RFC 6455 §5.2).
fn frame_len(bytes: &[u8]) -> Option<usize> {
    frame_parts(bytes).map(|(header, payload)| header + payload)
}

/// The lengths of that frame's header and payload.
pub(super) fn frame_parts(bytes: &[u8]) -> Option<(usize, usize)> {
    let second = *bytes.get(1)?;
    let (extended, payload) = match second & 0x7F {
        126 => (2, usize::from(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?))),
        127 => (8, usize::try_from(u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?)).ok()?),
        short => (0, usize::from(short)),
    };
    let mask = if second & 0x80 == 0 { 0 } else { 4 };
    Some((2 + extended + mask, payload))
}

/// Bytes in one buffer of own replies before a new one is begun: bounds what is copied when it grows, and what stays
/// allocated while its end is being written.
const OWN_CHUNK: usize = 16 * 1024;

/// Capacity of the overflow queue that survives a drain: what two channels and a reply per turn need, but not a burst.
const KEPT_CHUNKS: usize = 8;
