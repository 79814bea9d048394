//! Frames that many connections are sent, in memory that they share.

use std::sync::{Arc, Weak};

use bytes::Bytes;

use super::queue;

/// Frames that were encoded once for many connections, usually all of one channel in one turn. One word: a clone costs
/// a reference count.
#[derive(Clone, Debug)]
pub struct Segment(Arc<Frames>);

#[derive(Debug)]
struct Frames {
    data: Bytes,
    messages: u32,
    tag: u32,
    last: u32,
}

impl Segment {
    /// The tag of what belongs to no channel.
    pub const NO_TAG: u32 = u32::MAX;

    /// One or more complete unmasked frames, one message each. `tag` is for [`Outbox::replace`](super::Outbox::replace):
    /// the channel's, or [`NO_TAG`](Self::NO_TAG). `last` is where the last frame starts. Frames of 4 GiB and more are
    /// left out: such a segment is empty, and outboxes take no empty ones.
    #[must_use]
    pub fn new(frames: Vec<u8>, messages: u32, tag: u32, last: u32) -> Self {
        Self::of(frames.into(), messages.max(1), tag, last)
    }

    /// Bytes that are not messages: HTTP, or a close frame.
    pub(super) fn raw(bytes: Vec<u8>) -> Self {
        Self::of(bytes.into(), 0, Self::NO_TAG, 0)
    }

    /// The same with bytes that are shared already. At most [`RAW_BYTES_MAX`](Self::RAW_BYTES_MAX).
    pub(super) fn raw_shared(bytes: Bytes) -> Self {
        Self::of(bytes, 0, Self::NO_TAG, 0)
    }

    /// What one segment takes. Places in it are kept in four bytes.
    pub(super) const RAW_BYTES_MAX: usize = u32::MAX as usize;

    fn of(data: Bytes, messages: u32, tag: u32, last: u32) -> Self {
        let fits = data.len() <= Self::RAW_BYTES_MAX;
        debug_assert!(fits, "a segment is smaller than 4 GiB");
        let data = if fits { data } else { Bytes::new() };
        Self(Arc::new(Frames { data, messages, tag, last }))
    }

    /// Gives it a tag. If anybody else has it, that makes it another segment with the same frames: each is
    /// [watched](Self::watch) for itself.
    pub fn set_tag(&mut self, tag: u32) {
        if let Some(frames) = Arc::get_mut(&mut self.0) {
            frames.tag = tag;
        } else {
            *self = Self::of(self.0.data.clone(), self.messages(), tag, self.last());
        }
    }

    /// Tells later whether anybody still has the segment.
    #[must_use]
    pub fn watch(&self) -> Watch {
        Watch { frames: Arc::downgrade(&self.0), len: self.len() }
    }

    /// The frames.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.0.data
    }

    /// The frames, without a copy.
    pub(super) fn shared(&self) -> Bytes {
        self.0.data.clone()
    }

    /// Bytes of the frames.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.bytes().len()
    }

    /// Whether there are no frames.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.bytes().is_empty()
    }

    /// How many messages it is.
    #[must_use]
    #[inline]
    pub fn messages(&self) -> u32 {
        self.0.messages
    }

    /// The messages, in order, one frame each.
    pub fn frames(&self) -> impl Iterator<Item = Frame<'_>> {
        let mut rest = self.bytes();
        std::iter::from_fn(move || {
            let (header, payload) = queue::frame_parts(rest)?;
            let (frame, after) = rest.split_at_checked(header + payload)?;
            rest = after;
            Some(Frame { bytes: frame, header })
        })
    }

    /// The channel's tag, or [`NO_TAG`](Self::NO_TAG).
    #[must_use]
    #[inline]
    pub fn tag(&self) -> u32 {
        self.0.tag
    }

    /// Where in [`bytes`](Self::bytes) the last frame starts.
    #[must_use]
    #[inline]
    pub fn last(&self) -> u32 {
        self.0.last
    }
}

/// One frame of a segment.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'s> {
    bytes: &'s [u8],
    header: usize,
}

impl<'s> Frame<'s> {
    /// Header and payload.
    #[must_use]
    pub fn bytes(&self) -> &'s [u8] {
        self.bytes
    }

    /// The payload.
    #[must_use]
    pub fn payload(&self) -> &'s [u8] {
        self.bytes.get(self.header..).unwrap_or_default()
    }
}

impl AsRef<[u8]> for Segment {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}

/// An eye on a segment that does not hold it.
#[derive(Debug)]
pub struct Watch {
    frames: Weak<Frames>,
    len: usize,
}

impl Watch {
    /// Whether anybody has the segment.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.frames.strong_count() > 0
    }

    /// Bytes of its frames.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it had no frames.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ws::encode_text;

    #[test]
    fn a_segment_is_one_word() {
        assert_eq!(size_of::<Option<Segment>>(), size_of::<usize>());
    }

    #[test]
    fn its_frames_are_the_messages() {
        let payloads = [vec![b'a'; 5], vec![b'b'; 200], Vec::new(), vec![b'c'; 70_000]];
        let mut frames = Vec::new();
        payloads.iter().for_each(|payload| encode_text(&mut frames, payload));
        let segment = Segment::new(frames, 4, Segment::NO_TAG, 0);
        let read: Vec<_> = segment.frames().map(|frame| frame.payload().to_vec()).collect();
        assert_eq!(read, payloads);
        let whole: Vec<u8> = segment.frames().flat_map(|frame| frame.bytes().to_vec()).collect();
        assert_eq!(whole, segment.bytes());
    }

    #[test]
    fn who_has_a_segment_alone_changes_its_tag_in_place() {
        let mut segment = Segment::new(b"frames".to_vec(), 2, Segment::NO_TAG, 3);
        let place = segment.bytes().as_ptr();
        segment.set_tag(7);
        assert_eq!((segment.tag(), segment.messages(), segment.last()), (7, 2, 3));
        assert_eq!(segment.bytes().as_ptr(), place);
    }

    #[test]
    fn each_tag_of_shared_frames_is_watched_for_itself() {
        let elsewhere = Segment::new(b"frames".to_vec(), 2, Segment::NO_TAG, 3);
        let mut here = elsewhere.clone();
        here.set_tag(7);
        let watch = here.watch();
        assert_eq!((here.tag(), elsewhere.tag()), (7, Segment::NO_TAG));
        assert_eq!(here.bytes().as_ptr(), elsewhere.bytes().as_ptr(), "not copied");
        assert!(watch.is_held());
        drop(here);
        assert!(!watch.is_held());
        assert_eq!((elsewhere.bytes(), watch.len()), (&b"frames"[..], 6));
    }
}
