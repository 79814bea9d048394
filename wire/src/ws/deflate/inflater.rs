//! Decompression of single messages, bounded before memory is taken.

use std::fmt;

use miniz_oxide::inflate::{
    TINFLStatus,
    core::{
        DecompressorOxide, decompress,
        inflate_flags::{TINFL_FLAG_HAS_MORE_INPUT, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF},
    },
};

use super::deflater::Work;
use crate::{limits::Limits, reason::Reason};

/// Decompresses messages, each by itself (RFC 7692 §7.2.2). One serves any number of connections; what it holds is some
/// tables, about 10 KiB, and the latest message, which is its own window.
pub struct Inflater {
    stream: Box<DecompressorOxide>,
    /// Room for the message; its length is not the message's.
    plain: Vec<u8>,
    work: Work,
}

impl Inflater {
    /// Nothing is held yet but the tables.
    #[must_use]
    pub fn new() -> Self {
        Self { stream: Box::default(), plain: Vec::new(), work: Work::default() }
    }

    /// The message behind a compressed payload.
    pub(in crate::ws) fn inflate(
        &mut self,
        limits: &Limits,
        payload: &[u8],
    ) -> Result<&[u8], Reason> {
        if self.plain.len() > KEPT_BYTES {
            self.plain = Vec::new();
        }
        // §7.2.3.6 spells an empty message as one byte; senders that leave out even that mean the same.
        let len = match payload {
            [] => 0,
            _ => self.run(Bound::of(limits, payload.len()), payload)?,
        };
        self.work.add(Work::of(len, payload.len()));
        Ok(self.plain.get(..len).unwrap_or_default())
    }

    /// What was done since the last call.
    #[must_use]
    pub fn take_work(&mut self) -> Work {
        std::mem::take(&mut self.work)
    }

    /// Returns the message's length.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the list is not closed, and all others are errors"
    )]
    fn run(&mut self, bound: Bound, payload: &[u8]) -> Result<usize, Reason> {
        self.stream.init();
        let (mut input, mut in_tail, mut len) = (payload, false, 0);
        loop {
            self.make_room(bound, len, payload.len());
            let (status, taken, written) =
                decompress(&mut self.stream, input, &mut self.plain, len, FLAGS);
            len += written;
            if len > bound.bytes {
                return Err(bound.reason);
            }
            input = input.get(taken..).unwrap_or_default();
            match status {
                TINFLStatus::Done if in_tail => {
                    return if input.is_empty() { Ok(len) } else { Err(Reason::BadDeflate) };
                }
                // §7.2.3.4: a sender may end in a final block. What follows, usually the empty block whose end is
                // implied, is a stream of its own.
                TINFLStatus::Done if input.is_empty() => return Ok(len),
                TINFLStatus::Done => self.stream.init(),
                TINFLStatus::HasMoreOutput if len == self.plain.len() => {}
                TINFLStatus::NeedsMoreInput if !in_tail => (input, in_tail) = (TAIL, true),
                // Between two blocks the tail would have ended the stream: the payload breaks off. Or it is no DEFLATE.
                _ => return Err(Reason::BadDeflate),
            }
        }
    }

    /// Makes sure that there is room, doubling, and never for more than a byte over the bound.
    fn make_room(&mut self, bound: Bound, len: usize, payload: usize) {
        if len == self.plain.len() {
            let ahead = len.max(payload.saturating_mul(4)).clamp(256, AHEAD_BYTES_MAX);
            let most = bound.bytes.saturating_add(1).saturating_sub(len);
            let ahead = ahead.min(most).max(1);
            self.plain.reserve_exact(ahead);
            self.plain.resize(len + ahead, 0);
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

/// The stream goes on in the next call; what it wrote before stands in front of what it writes.
const FLAGS: u32 = TINFL_FLAG_HAS_MORE_INPUT | TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;

/// RFC 7692 §7.2.2: the end that the sender left out; and behind it an empty final block, which ends the stream exactly
/// there unless the payload broke off inside a block.
const TAIL: &[u8] = &[0x00, 0x00, 0xFF, 0xFF, 0x01, 0x00, 0x00, 0xFF, 0xFF];

/// Up to here a message may inflate from any size: a few bytes that become some kilobytes do no harm.
const UNSUSPICIOUS_BYTES: usize = 64 * 1024;

/// Memory taken ahead of what has come out.
const AHEAD_BYTES_MAX: usize = 256 * 1024;

/// Capacity that outlives a message.
const KEPT_BYTES: usize = 64 * 1024;
