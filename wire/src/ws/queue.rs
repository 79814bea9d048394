//! An outbox in which more waits than one word can name.

use std::{collections::VecDeque, io::IoSlice};

use bytes::Bytes;

use super::segment::Segment;

/// What waits for one socket, with everything there is to know about it. Exists while it is needed: see
/// [`Outbox`](super::Outbox), which says what the methods are for.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// From the front to the back. None of them is empty.
    chunks: VecDeque<Chunk>,
    /// Bytes of the front that are written.
    sent: usize,
    /// A frame boundary in the front, at or before `sent`: where a search for the next one starts.
    boundary: usize,
    /// Control frames, if any wait.
    urgent: Option<Urgent>,
    /// Bytes of data that wait.
    bytes: usize,
    /// How many of `bytes` were made for this connection alone.
    own_bytes: usize,
    messages: u32,
    pub(super) sealed: bool,
    /// Several pieces of data in one turn made it: that comes again with the next, and so its memory stays. A control
    /// frame ends this, and a connection on which nothing happens is sent a ping.
    recurs: bool,
}

impl Queue {
    pub(super) fn new(sealed: bool, recurs: bool) -> Self {
        Self { sealed, recurs, ..Self::default() }
    }

    /// A segment, or bytes that are not messages, of which so much is written already.
    pub(super) fn push(&mut self, segment: Segment, sent: u32) {
        let waiting = segment.len() - sent as usize;
        if sent > 0 {
            debug_assert!(self.chunks.is_empty(), "only the front is begun");
            self.sent = sent as usize;
            self.recurs = false;
        }
        self.messages += segment.messages();
        self.bytes += waiting;
        if segment.messages() == 0 {
            self.own_bytes += waiting;
            self.recurs = false;
        }
        self.chunks.push_back(Chunk::from(segment));
    }

    /// Frames for this connection alone.
    pub(super) fn push_own(&mut self, frames: Vec<u8>, messages: u32) {
        self.messages += messages;
        self.bytes += frames.len();
        self.own_bytes += frames.len();
        let store = Store::Own(frames);
        self.chunks.push_back(Chunk { store, messages, tag: Segment::NO_TAG });
    }

    pub(super) fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if let Some(Chunk { store: Store::Own(buffer), messages, .. }) = self.chunks.back_mut()
            && buffer.len() < OWN_CHUNK
        {
            let before = buffer.len();
            write(buffer);
            let grown = buffer.len() - before;
            if grown > 0 {
                *messages += 1;
                self.messages += 1;
                self.bytes += grown;
                self.own_bytes += grown;
            }
            return;
        }
        let mut frame = Vec::new();
        write(&mut frame);
        if !frame.is_empty() {
            self.push_own(frame, 1);
        }
    }

    pub(super) fn replace(&mut self, segment: &Segment) -> Option<u32> {
        let tag = segment.tag();
        let begun = self.begun();
        let matches = |chunk: &Chunk| chunk.is_of(tag);
        let place = (begun..self.chunks.len())
            .rev()
            .find(|at| self.chunks.get(*at).is_some_and(matches))?;
        let len = segment.len().checked_sub(segment.last() as usize).filter(|len| *len > 0)?;

        let old = self.chunks.get_mut(place)?;
        let (mut dropped, mut freed) = (old.messages, old.store.len());
        old.messages = 1;
        old.store = Store::part(segment.clone(), segment.last(), segment.len());
        // Older segments of the same tag, if the backlog began before conflation.
        for at in (begun..place).rev() {
            if self.chunks.get(at).is_some_and(matches)
                && let Some(chunk) = self.chunks.remove(at)
            {
                dropped += chunk.messages;
                freed += chunk.store.len();
            }
        }
        self.messages = self.messages - dropped + 1;
        self.bytes = self.bytes - freed + len;
        Some(dropped + segment.messages() - 1)
    }

    pub(super) fn keep(&mut self, tag: u32) {
        for chunk in self.chunks.iter_mut().filter(|chunk| chunk.tag == tag) {
            chunk.tag = Segment::NO_TAG;
        }
    }

    pub(super) fn replaceable(&self, tag: u32) -> usize {
        let waiting = self.chunks.iter().skip(self.begun());
        waiting.filter(|chunk| chunk.is_of(tag)).map(|chunk| chunk.store.len()).sum()
    }

    pub(super) fn urgent(&mut self, frame: Vec<u8>) {
        self.recurs = false;
        match &mut self.urgent {
            Some(urgent) => urgent.frames.extend_from_slice(&frame),
            None => {
                let gap = self.until_boundary();
                self.urgent = Some(Urgent { frames: frame, sent: 0, gap });
            }
        }
    }

    pub(super) fn clear_data(&mut self) -> u32 {
        let mut dropped = if self.sent > 0 { self.cut_front() } else { 0 };
        for at in (self.begun()..self.chunks.len()).rev() {
            if self.chunks.get(at).is_some_and(|chunk| chunk.messages > 0)
                && let Some(chunk) = self.chunks.remove(at)
            {
                self.own_bytes -= if chunk.is_own() { chunk.store.len() } else { 0 };
                dropped += self.discount(&chunk);
            }
        }
        self.give_back();
        dropped
    }

    pub(super) fn drop_tag(&mut self, tag: u32) -> u32 {
        let mut dropped = 0;
        for at in (self.begun()..self.chunks.len()).rev() {
            if self.chunks.get(at).is_some_and(|chunk| chunk.is_of(tag))
                && let Some(chunk) = self.chunks.remove(at)
            {
                dropped += self.discount(&chunk);
            }
        }
        self.give_back();
        dropped
    }

    pub(super) fn drop_older(&mut self, tag: u32) -> u32 {
        let begun = self.begun();
        let of_tag = |at: &usize| self.chunks.get(*at).is_some_and(|chunk| chunk.is_of(tag));
        let Some(newest) = (begun..self.chunks.len()).rev().find(of_tag) else { return 0 };
        let mut dropped = 0;
        if let Some(chunk) = self.chunks.get_mut(newest) {
            dropped += std::mem::replace(&mut chunk.messages, 1) - 1;
            self.messages -= dropped;
            self.bytes -= chunk.store.keep_last();
        }
        for at in (begun..newest).rev() {
            if self.chunks.get(at).is_some_and(|chunk| chunk.is_of(tag))
                && let Some(chunk) = self.chunks.remove(at)
            {
                dropped += self.discount(&chunk);
            }
        }
        self.give_back();
        dropped
    }

    pub(super) fn consume(&mut self, mut bytes: usize) {
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
            let Some(front) = self.chunks.front() else {
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
        // A socket that takes only a part is behind: a queue that comes of that does not recur.
        self.recurs &= self.sent == 0;
    }

    pub(super) fn chunks<'a>(&'a self, iov: &mut [IoSlice<'a>]) -> usize {
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
        let mut lane = self.urgent.as_ref();
        let mut gap = lane.map_or(0, |urgent| urgent.gap);
        for chunk in &self.chunks {
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
}

impl Queue {
    /// What [`head`](Self::head) is, as bytes of their own: shared where they are others' too, and copied where they are not.
    pub(super) fn piece(&self) -> Bytes {
        let head = self.head();
        match self.chunks.front().map(|front| &front.store) {
            Some(Store::Shared { segment, .. }) if !self.is_urgent_next() => {
                segment.shared().slice_ref(head)
            }
            _ => Bytes::copy_from_slice(head),
        }
    }

    fn is_urgent_next(&self) -> bool {
        self.urgent.as_ref().is_some_and(|urgent| urgent.gap == 0)
    }

    pub(super) fn head(&self) -> &[u8] {
        let front = self.chunks.front();
        let data =
            front.and_then(|front| front.store.as_slice().get(self.sent..)).unwrap_or_default();
        match &self.urgent {
            Some(urgent) if urgent.gap == 0 => urgent.waiting(),
            Some(urgent) => data.get(..urgent.gap).unwrap_or(data),
            None => data,
        }
    }

    pub(super) fn is_single(&self) -> bool {
        match &self.urgent {
            None => self.chunks.len() <= 1,
            Some(_) => self.chunks.is_empty(),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn own_bytes(&self) -> usize {
        self.own_bytes + self.urgent.as_ref().map_or(0, |urgent| urgent.waiting().len())
    }

    pub(super) fn messages(&self) -> u32 {
        self.messages
    }

    /// Bytes of memory of the queue itself.
    pub(super) fn overhead(&self) -> usize {
        size_of::<Self>() + self.chunks.capacity() * size_of::<Chunk>()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.urgent.is_none()
    }

    /// Whether nothing is left and its memory is not kept for the next turn: a burst leaves nothing behind.
    pub(super) fn is_done(&self) -> bool {
        self.is_empty() && !(self.recurs && self.chunks.capacity() <= KEPT_CHUNKS)
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.chunks.capacity()
    }

    /// Chunks of which no byte can be taken back: the front, if some of it is written.
    fn begun(&self) -> usize {
        usize::from(self.sent > 0)
    }

    /// Bytes until a control frame may go out: the rest of the frame in progress, or of the HTTP head before the first
    /// frame.
    fn until_boundary(&mut self) -> usize {
        let Some(front) = self.chunks.front() else { return 0 };
        if front.messages == 0 {
            let leading = self.chunks.iter().take_while(|chunk| chunk.messages == 0);
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
        let Some(front) = self.chunks.front_mut().filter(|front| front.messages > 0) else {
            return 0;
        };
        let begun = count_frames(front.store.as_slice(), cut).clamp(1, front.messages);
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

    /// The front chunk is written or dropped.
    fn pop_front(&mut self) {
        self.messages -= self.chunks.pop_front().map_or(0, |front| front.messages);
        self.sent = 0;
        self.boundary = 0;
    }

    /// A chunk was taken out of which nothing is written. Returns its messages.
    fn discount(&mut self, chunk: &Chunk) -> u32 {
        self.bytes -= chunk.store.len();
        self.messages -= chunk.messages;
        chunk.messages
    }

    /// The queue's memory follows what is in it.
    fn give_back(&mut self) {
        let (len, capacity) = (self.chunks.len(), self.chunks.capacity());
        if capacity > KEPT_CHUNKS && len <= capacity / 4 {
            self.chunks.shrink_to(len);
        }
    }
}

#[derive(Debug)]
struct Chunk {
    store: Store,
    /// Messages in the chunk; 0 for bytes that are not data.
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

impl From<Segment> for Chunk {
    fn from(segment: Segment) -> Self {
        let (messages, tag, len) = (segment.messages(), segment.tag(), segment.len());
        Self { store: Store::part(segment, 0, len), messages, tag }
    }
}

#[derive(Debug)]
enum Store {
    /// What lies between two places of a segment.
    Shared {
        segment: Segment,
        start: u32,
        end: u32,
    },
    Own(Vec<u8>),
}

impl Store {
    fn part(segment: Segment, start: u32, end: usize) -> Self {
        // Segments are smaller than that.
        Self::Shared { segment, start, end: u32::try_from(end).unwrap_or(u32::MAX) }
    }

    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Shared { segment, start, end } => {
                segment.bytes().get(*start as usize..*end as usize).unwrap_or_default()
            }
            Self::Own(bytes) => bytes,
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Shared { start, end, .. } => (end - start) as usize,
            Self::Own(bytes) => bytes.len(),
        }
    }

    /// Keeps the first `len` bytes.
    fn cut(&mut self, len: usize) {
        match self {
            Self::Shared { start, end, .. } => {
                *end = (*end).min(start.saturating_add(u32::try_from(len).unwrap_or(u32::MAX)));
            }
            Self::Own(bytes) => {
                bytes.truncate(len);
                bytes.shrink_to_fit();
            }
        }
        self.unpin();
    }

    /// Keeps the last frame of a segment. Returns the bytes dropped.
    fn keep_last(&mut self) -> usize {
        let (mut at, mut last) = (0, 0);
        while let Some(len) = self.as_slice().get(at..).and_then(frame_len) {
            last = at;
            at += len;
        }
        let Self::Shared { start, .. } = self else { return 0 };
        *start += last as u32;
        self.unpin();
        last
    }

    /// A part keeps all of its segment alive: a small one is copied.
    fn unpin(&mut self) {
        let Self::Shared { segment, .. } = self else { return };
        let (whole, messages, tag) = (segment.len(), segment.messages(), segment.tag());
        if self.len() <= whole / 4 {
            let copy = Segment::new(self.as_slice().to_vec(), messages, tag, 0);
            let len = copy.len();
            *self = Self::part(copy, 0, len);
        }
    }
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

/// Frames in `bytes` that start before `end`.
pub(super) fn count_frames(bytes: &[u8], end: usize) -> u32 {
    let (mut at, mut frames) = (0, 0);
    while at < end
        && let Some(len) = bytes.get(at..).and_then(frame_len)
    {
        at += len;
        frames += 1;
    }
    frames
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
pub(super) const OWN_CHUNK: usize = 16 * 1024;

/// Capacity that survives a drain: what some channels and a reply per turn need, but not a burst.
const KEPT_CHUNKS: usize = 8;
