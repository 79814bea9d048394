//! What waits to be written to one socket: shared broadcast segments, own replies, and control frames in between.

use std::io::IoSlice;

use bytes::Bytes;

use super::{
    queue::{OWN_CHUNK, Queue, count_frames},
    segment::Segment,
};

/// Bytes that wait for one socket, in the order in which they go out.
///
/// Made for thousands of instances that each get one shared segment per turn: that costs one reference count and no
/// allocation. Control frames overtake waiting data at the next frame boundary (RFC 6455 §5.4 forbids to break into a
/// frame), so that a pong is never late because of a backlog.
///
/// Three words. What does not fit there is on the heap until it is written.
#[derive(Debug)]
pub struct Outbox {
    form: Form,
}

/// What there is to know about what waits. The simple forms are those of every turn; whatever makes one of them
/// insufficient turns it into a [`Queue`].
#[derive(Debug)]
enum Form {
    /// Nothing. Sealed: data is refused, as the connection does not speak WebSocket yet, or its close frame is queued.
    Empty { sealed: bool },
    /// One segment, of which so many bytes are written.
    One { segment: Segment, sent: u32, sealed: bool },
    /// Two of which nothing is written, and no seal: a turn of a subscriber to two channels.
    Two(Segment, Segment),
    /// Frames for this connection alone of which nothing is written, at least one, and no seal.
    Own(Vec<u8>),
    /// Anything.
    Queue(Box<Queue>),
}

impl Outbox {
    /// Nothing waits.
    #[must_use]
    pub fn new() -> Self {
        Self { form: Form::Empty { sealed: false } }
    }

    /// Queues a shared segment: one reference count, no copy. Ignored unless the connection is open.
    #[inline]
    pub fn push(&mut self, segment: &Segment) {
        if segment.is_empty() {
            return;
        }
        if let Form::Empty { sealed: false } = self.form {
            self.form = Form::One { segment: segment.clone(), sent: 0, sealed: false };
        } else {
            self.push_behind(segment);
        }
    }

    /// Queues one frame for this connection alone, which `write` appends to the buffer it is given. Frames that follow
    /// each other share one buffer, so that all replies to one read go out in one piece. Ignored unless the connection
    /// is open.
    pub fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        match &mut self.form {
            Form::Empty { sealed: true } | Form::One { sealed: true, .. } => {}
            Form::Empty { sealed: false } => {
                let mut frames = Vec::new();
                write(&mut frames);
                if !frames.is_empty() {
                    self.form = Form::Own(frames);
                }
            }
            Form::Own(frames) if frames.len() < OWN_CHUNK => write(frames),
            Form::Queue(queue) if queue.sealed => {}
            Form::Queue(queue) => queue.append(write),
            Form::One { .. } | Form::Two(..) | Form::Own(_) => {
                self.with_queue(true, |queue| queue.append(write));
            }
        }
    }

    /// Queues one frame for this connection alone that is encoded already. Ignored unless the connection is open.
    pub fn append_frame(&mut self, frame: Vec<u8>) {
        if self.is_sealed() || frame.is_empty() {
            return;
        }
        if let Form::Empty { .. } = self.form {
            self.form = Form::Own(frame);
        } else {
            self.with_queue(true, |queue| queue.push_own(frame, 1));
        }
    }

    /// For receivers who want only the newest: replaces every queued segment of the same tag of which no byte is
    /// written by the *last* frame of `segment`, at the place of the last of them. Returns the messages that nobody
    /// will see, or `None` if there was nothing to replace and nothing is queued.
    pub fn replace(&mut self, segment: &Segment) -> Option<u32> {
        if self.replaceable(segment.tag()) == 0 {
            return None;
        }
        self.with_queue(false, |queue| queue.replace(segment))
    }

    /// From now on nothing replaces what is queued of `tag`: something follows it that it must not overtake.
    pub fn keep(&mut self, tag: u32) {
        if self.replaceable(tag) > 0 {
            self.with_queue(false, |queue| queue.keep(tag));
        }
    }

    /// Bytes that [`replace`](Self::replace) would free.
    #[must_use]
    pub fn replaceable(&self, tag: u32) -> usize {
        let of_tag = |segment: &Segment| if segment.tag() == tag { segment.len() } else { 0 };
        match &self.form {
            _ if tag == Segment::NO_TAG => 0,
            Form::One { segment, sent: 0, .. } => of_tag(segment),
            Form::Two(first, second) => of_tag(first) + of_tag(second),
            Form::Queue(queue) => queue.replaceable(tag),
            Form::Empty { .. } | Form::One { .. } | Form::Own(_) => 0,
        }
    }

    /// Queues a control frame: it goes out at the next frame boundary, ahead of data, in order with others like it.
    pub fn urgent(&mut self, frame: Vec<u8>) {
        self.with_queue(false, |queue| queue.urgent(frame));
    }

    /// Drops queued data, except the rest of a frame that is partly written and what is not data (the answer to an
    /// upgrade request). Returns the messages dropped.
    pub fn clear_data(&mut self) -> u32 {
        if self.is_empty() { 0 } else { self.with_queue(false, Queue::clear_data) }
    }

    /// Drops every queued segment of `tag` of which no byte is written. Returns the messages dropped.
    pub fn drop_tag(&mut self, tag: u32) -> u32 {
        if self.replaceable(tag) > 0 {
            self.with_queue(false, |queue| queue.drop_tag(tag))
        } else {
            0
        }
    }

    /// Drops what is queued of `tag` but for its newest message, and what is partly written. Returns the messages
    /// dropped.
    pub fn drop_older(&mut self, tag: u32) -> u32 {
        if self.replaceable(tag) > 0 {
            self.with_queue(false, |queue| queue.drop_older(tag))
        } else {
            0
        }
    }

    /// Marks `bytes` of what [`chunks`](Self::chunks) gave as written.
    #[inline]
    pub fn consume(&mut self, bytes: usize) {
        if let Form::One { segment, sent, sealed } = &mut self.form
            && bytes == segment.len() - *sent as usize
        {
            self.form = Form::Empty { sealed: *sealed };
        } else if bytes > 0 {
            self.consume_part(bytes);
        }
    }

    /// Takes what goes out next in one piece, which then counts as written: for whoever writes it without borrowing. What others
    /// get too is shared with them; of the rest little is copied. `None` if nothing waits.
    pub fn take(&mut self) -> Option<Bytes> {
        let piece = match &mut self.form {
            Form::Empty { .. } => return None,
            Form::One { segment, sent, .. } => segment.shared().slice(*sent as usize..),
            Form::Two(first, _) => first.shared(),
            Form::Own(frames) => {
                let frames = std::mem::take(frames);
                *self = Self::new();
                return Some(frames.into());
            }
            // One whose memory is kept for the next turn may be empty.
            Form::Queue(queue) if queue.is_empty() => return None,
            Form::Queue(queue) => queue.piece(),
        };
        self.consume(piece.len());
        Some(piece)
    }

    /// Fills `iov` with what goes out next, in order, and returns the number of slices.
    pub fn chunks<'a>(&'a self, iov: &mut [IoSlice<'a>]) -> usize {
        let pieces = match &self.form {
            Form::Queue(queue) => return queue.chunks(iov),
            Form::Two(first, second) => [first.bytes(), second.bytes()],
            Form::Empty { .. } | Form::One { .. } | Form::Own(_) => [self.head(), &[]],
        };
        let pieces = pieces.into_iter().filter(|piece| !piece.is_empty());
        iov.iter_mut().zip(pieces).map(|(slot, piece)| *slot = IoSlice::new(piece)).count()
    }

    /// What goes out next in one piece; empty if nothing waits.
    #[must_use]
    pub fn head(&self) -> &[u8] {
        match &self.form {
            Form::Empty { .. } => &[],
            Form::One { segment, sent, .. } => {
                segment.bytes().get(*sent as usize..).unwrap_or_default()
            }
            Form::Two(first, _) => first.bytes(),
            Form::Own(frames) => frames,
            Form::Queue(queue) => queue.head(),
        }
    }
}

impl Outbox {
    /// Whether a single piece is all that waits: then a plain write does, without gathering.
    #[must_use]
    pub fn is_single(&self) -> bool {
        self.single().is_some()
    }

    /// The single piece, if it is one.
    #[inline]
    pub(super) fn single(&self) -> Option<&[u8]> {
        match &self.form {
            Form::One { segment, sent, .. } => segment.bytes().get(*sent as usize..),
            Form::Own(frames) => Some(frames),
            Form::Empty { .. } => Some(&[]),
            Form::Two(..) => None,
            Form::Queue(queue) => queue.is_single().then(|| queue.head()),
        }
    }

    /// Bytes of data that wait. Control frames are not counted: their number is bounded by their rate.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> usize {
        match &self.form {
            Form::Empty { .. } => 0,
            Form::One { segment, sent, .. } => segment.len() - *sent as usize,
            Form::Two(first, second) => first.len() + second.len(),
            Form::Own(frames) => frames.len(),
            Form::Queue(queue) => queue.bytes(),
        }
    }

    /// Bytes that wait because this peer asked for them: replies, HTTP answers, pongs. Broadcasts are not counted.
    #[must_use]
    pub fn own_bytes(&self) -> usize {
        match &self.form {
            Form::Empty { .. } => 0,
            Form::One { segment, .. } if segment.messages() == 0 => self.bytes(),
            Form::One { .. } => 0,
            Form::Two(first, second) => {
                let raw = [first, second].into_iter().filter(|segment| segment.messages() == 0);
                raw.map(Segment::len).sum()
            }
            Form::Own(frames) => frames.len(),
            Form::Queue(queue) => queue.own_bytes(),
        }
    }

    /// Messages that wait; those of a partly written segment all count.
    #[must_use]
    pub fn messages(&self) -> u32 {
        match &self.form {
            Form::Empty { .. } => 0,
            Form::One { segment, .. } => segment.messages(),
            Form::Two(first, second) => first.messages() + second.messages(),
            Form::Own(frames) => count_frames(frames, frames.len()),
            Form::Queue(queue) => queue.messages(),
        }
    }

    /// Bytes of memory that no other connection shares: what was made for this one alone, and the queue itself.
    #[must_use]
    pub fn private_bytes(&self) -> usize {
        let overhead = if let Form::Queue(queue) = &self.form { queue.overhead() } else { 0 };
        self.own_bytes() + overhead
    }

    /// Whether nothing waits, control frames included.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match &self.form {
            Form::Empty { .. } => true,
            Form::One { .. } | Form::Two(..) | Form::Own(_) => false,
            Form::Queue(queue) => queue.is_empty(),
        }
    }

    /// Refuses data from now on (`true`), or accepts it.
    pub(super) fn seal(&mut self, to: bool) {
        match &mut self.form {
            Form::Empty { sealed } | Form::One { sealed, .. } => *sealed = to,
            Form::Queue(queue) => queue.sealed = to,
            Form::Two(..) | Form::Own(_) if to => {
                self.with_queue(false, |queue| queue.sealed = true)
            }
            Form::Two(..) | Form::Own(_) => {}
        }
    }

    /// Queues bytes that are not data messages and that nothing may overtake, replace or drop: HTTP heads and bodies,
    /// and a close frame that waits for its turn. Not refused by a seal.
    pub(super) fn raw(&mut self, bytes: Vec<u8>) {
        self.push_raw(Segment::raw(bytes));
    }

    /// The same with bytes that are shared already.
    pub(super) fn raw_shared(&mut self, mut bytes: Bytes) {
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(Segment::RAW_BYTES_MAX));
            self.push_raw(Segment::raw_shared(piece));
        }
    }

    fn push_raw(&mut self, segment: Segment) {
        match self.form {
            _ if segment.is_empty() => {}
            Form::Empty { sealed } => self.form = Form::One { segment, sent: 0, sealed },
            Form::One { .. } | Form::Two(..) | Form::Own(_) | Form::Queue(_) => {
                self.with_queue(false, |queue| queue.push(segment, 0));
            }
        }
    }

    /// A further segment, or one that is refused.
    fn push_behind(&mut self, segment: &Segment) {
        if self.is_sealed() {
            return;
        }
        let segment = segment.clone();
        let form = std::mem::take(self).form;
        if let Form::One { segment: first, sent: 0, .. } = form {
            self.form = Form::Two(first, segment);
        } else {
            self.form = form;
            self.with_queue(true, |queue| queue.push(segment, 0));
        }
    }

    /// Some of what waits is written, or all of it in one of the less common forms.
    fn consume_part(&mut self, bytes: usize) {
        match &mut self.form {
            Form::One { segment, sent, .. } if bytes < segment.len() - *sent as usize => {
                *sent += bytes as u32;
            }
            Form::Own(frames) if bytes == frames.len() => *self = Self::new(),
            Form::Two(first, second) if bytes == first.len() + second.len() => *self = Self::new(),
            Form::Empty { .. }
            | Form::One { .. }
            | Form::Two(..)
            | Form::Own(_)
            | Form::Queue(_) => {
                self.with_queue(false, |queue| queue.consume(bytes));
            }
        }
    }

    fn is_sealed(&self) -> bool {
        match &self.form {
            Form::Empty { sealed } | Form::One { sealed, .. } => *sealed,
            Form::Two(..) | Form::Own(_) => false,
            Form::Queue(queue) => queue.sealed,
        }
    }

    /// Does something to what waits as a queue, which is gone if nothing is left then. Whether it `recurs` is said by
    /// what makes it necessary.
    fn with_queue<T>(&mut self, recurs: bool, act: impl FnOnce(&mut Queue) -> T) -> T {
        let mut queue = std::mem::take(self).form.into_queue(recurs);
        let result = act(&mut queue);
        self.form = match queue.is_done() {
            true => Form::Empty { sealed: queue.sealed },
            false => Form::Queue(queue),
        };
        result
    }

    /// Whether it has no memory either.
    #[cfg(test)]
    pub(super) fn holds_nothing(&self) -> bool {
        matches!(self.form, Form::Empty { .. })
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        if let Form::Queue(queue) = &self.form { queue.capacity() } else { 0 }
    }
}

impl Form {
    fn into_queue(self, recurs: bool) -> Box<Queue> {
        let boxed = |sealed| Box::new(Queue::new(sealed, recurs));
        match self {
            Self::Queue(queue) => queue,
            Self::Empty { sealed } => boxed(sealed),
            Self::One { segment, sent, sealed } => {
                let mut queue = boxed(sealed);
                queue.push(segment, sent);
                queue
            }
            Self::Two(first, second) => {
                let mut queue = boxed(false);
                queue.push(first, 0);
                queue.push(second, 0);
                queue
            }
            Self::Own(frames) => {
                let mut queue = boxed(false);
                let messages = count_frames(&frames, frames.len());
                queue.push_own(frames, messages);
                queue
            }
        }
    }
}

impl Default for Outbox {
    fn default() -> Self {
        Self::new()
    }
}
