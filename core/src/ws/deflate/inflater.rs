//! Decompression of single messages, bounded before memory is taken.

use std::fmt;

use flate2::{Decompress, FlushDecompress, Status};

use super::deflater::Work;
use crate::{limits::Limits, reason::Reason};

/// Decompresses messages, each by itself (RFC 7692 §7.2.2). One serves any number of connections; what it holds is one
/// window, about 40 KiB, and the latest message.
pub struct Inflater {
    stream: Decompress,
    plain: Vec<u8>,
    work: Work,
}

impl Inflater {
    /// Nothing is held yet but the window.
    #[must_use]
    pub fn new() -> Self {
        Self { stream: Decompress::new(false), plain: Vec::new(), work: Work::default() }
    }

    /// The message behind a compressed payload.
    pub(in crate::ws) fn inflate(
        &mut self,
        limits: &Limits,
        payload: &[u8],
    ) -> Result<&[u8], Reason> {
        if self.plain.capacity() > KEPT_BYTES {
            self.plain = Vec::new();
        }
        self.plain.clear();
        // §7.2.3.6 spells an empty message as one byte; senders that leave out even that mean the same.
        if !payload.is_empty() {
            self.run(Bound::of(limits, payload.len()), payload)?;
        }
        self.work.add(Work::of(self.plain.len(), payload.len()));
        Ok(&self.plain)
    }

    /// What was done since the last call.
    pub(crate) fn take_work(&mut self) -> Work {
        std::mem::take(&mut self.work)
    }

    fn run(&mut self, bound: Bound, payload: &[u8]) -> Result<(), Reason> {
        self.stream.reset(false);
        let (mut input, mut in_tail) = (payload, false);
        loop {
            self.make_room(bound, payload.len());
            let before = (self.stream.total_in(), self.plain.len());
            let status = self
                .stream
                .decompress_vec(input, &mut self.plain, FlushDecompress::None)
                .map_err(|_| Reason::BadDeflate)?;
            if self.plain.len() > bound.bytes {
                return Err(bound.reason);
            }
            let taken = usize::try_from(self.stream.total_in() - before.0).unwrap_or(usize::MAX);
            input = input.get(taken..).unwrap_or_default();
            match status {
                Status::StreamEnd if in_tail => {
                    return if input.is_empty() { Ok(()) } else { Err(Reason::BadDeflate) };
                }
                // §7.2.3.4: a sender may end in a final block. What follows, usually the empty block whose end is
                // implied, is a stream of its own.
                Status::StreamEnd if input.is_empty() => return Ok(()),
                Status::StreamEnd => self.stream.reset(false),
                // More output may wait. There was room, so something came.
                Status::Ok | Status::BufError if self.plain.len() == self.plain.capacity() => {}
                Status::Ok | Status::BufError if !input.is_empty() => {
                    if taken == 0 && self.plain.len() == before.1 {
                        return Err(Reason::BadDeflate);
                    }
                }
                Status::Ok | Status::BufError if !in_tail => (input, in_tail) = (TAIL, true),
                // Between two blocks the tail would have ended the stream: the payload breaks off.
                Status::Ok | Status::BufError => return Err(Reason::BadDeflate),
            }
        }
    }

    /// Makes sure that there is room, doubling, and never for more than a byte over the bound.
    fn make_room(&mut self, bound: Bound, payload: usize) {
        let len = self.plain.len();
        if len == self.plain.capacity() {
            let ahead = len.max(payload.saturating_mul(4)).clamp(256, AHEAD_BYTES_MAX);
            let most = bound.bytes.saturating_add(1).saturating_sub(len);
            self.plain.reserve_exact(ahead.min(most).max(1));
        }
    }
}

impl Default for Inflater {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Inflater {
    /// Only sizes: payloads do not belong into logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Inflater({} bytes kept)", self.plain.capacity())
    }
}

/// How long a message may become, and what it is called if it becomes longer.
#[derive(Clone, Copy)]
struct Bound {
    bytes: usize,
    reason: Reason,
}

impl Bound {
    fn of(limits: &Limits, payload: usize) -> Self {
        let by_ratio = payload
            .saturating_mul(usize::try_from(limits.inflate_ratio_max).unwrap_or(usize::MAX))
            .max(UNSUSPICIOUS_BYTES);
        if by_ratio < limits.message_bytes_max {
            Self { bytes: by_ratio, reason: Reason::InflateRatio }
        } else {
            Self { bytes: limits.message_bytes_max, reason: Reason::MessageTooBig }
        }
    }
}

/// RFC 7692 §7.2.2: the end that the sender left out; and behind it an empty final block, which ends the stream exactly
/// there unless the payload broke off inside a block.
const TAIL: &[u8] = &[0x00, 0x00, 0xFF, 0xFF, 0x01, 0x00, 0x00, 0xFF, 0xFF];

/// Up to here a message may inflate from any size: a few bytes that become some kilobytes do no harm.
const UNSUSPICIOUS_BYTES: usize = 64 * 1024;

/// Memory taken ahead of what has come out.
const AHEAD_BYTES_MAX: usize = 256 * 1024;

/// Capacity that outlives a message.
const KEPT_BYTES: usize = 64 * 1024;
