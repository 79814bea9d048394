//! Compression of single messages.

use std::fmt;

use miniz_oxide::{
    DataFormat,
    deflate::core::{CompressorOxide, TDEFLFlush, TDEFLStatus, compress},
};

use super::window_bits_for;

/// Compresses messages, each by itself (RFC 7692 §7.2.1). One serves any number of connections: it holds the only
/// window there is, about 300 KiB with its tables, and nothing of a message when that is done.
pub struct Deflater {
    stream: Box<CompressorOxide>,
    threshold_bytes: usize,
    buffer: Vec<u8>,
    work: Work,
}

/// Messages that a compressor or decompressor has dealt with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// How many.
    pub messages: u64,
    /// Their bytes uncompressed.
    pub plain_bytes: u64,
    /// Their bytes compressed.
    pub deflated_bytes: u64,
}

impl Work {
    pub(super) fn of(plain: usize, deflated: usize) -> Self {
        Self { messages: 1, plain_bytes: plain as u64, deflated_bytes: deflated as u64 }
    }

    /// Counts `more` as well.
    pub fn add(&mut self, more: Self) {
        self.messages += more.messages;
        self.plain_bytes += more.plain_bytes;
        self.deflated_bytes += more.deflated_bytes;
    }
}

impl Deflater {
    /// `level` is zlib's, 1 (fast) to 9 (small); other numbers count as the nearest. Messages below `threshold_bytes`
    /// are left as they are.
    #[must_use]
    pub fn new(level: u8, threshold_bytes: usize) -> Self {
        let mut stream = Box::<CompressorOxide>::default();
        // Raw DEFLATE: RFC 7692 has no use for zlib's header and checksum.
        stream.set_format_and_level(DataFormat::Raw, level.clamp(1, 9));
        Self { stream, threshold_bytes, buffer: Vec::new(), work: Work::default() }
    }

    /// The message's compressed payload for a receiver with a window of `window_bits`; `None` if it is to go out as it
    /// is: it is too short, too long for the window, or does not get smaller.
    pub(in crate::ws) fn deflate(&mut self, payload: &[u8], window_bits: u8) -> Option<&[u8]> {
        if payload.len() < self.threshold_bytes.max(1)
            || window_bits_for(payload.len()) > window_bits
        {
            return None;
        }
        self.stream.reset();
        // More is not needed: what does not get smaller is not wanted.
        let room = payload.len() + TAIL.len();
        if self.buffer.len() < room || self.buffer.len() > KEPT_BYTES {
            self.buffer = vec![0; room];
        }
        let out = self.buffer.get_mut(..room)?;
        let (status, taken, len) = compress(&mut self.stream, payload, out, TDEFLFlush::Sync);
        let is_complete = status == TDEFLStatus::Okay && taken == payload.len() && len < room;
        // §7.2.1: the empty block that a flush ends with is implied.
        let deflated = self.buffer.get(..len)?.strip_suffix(TAIL).filter(|_| is_complete)?;
        self.work.add(Work::of(payload.len(), deflated.len()));
        Some(deflated)
    }

    /// What was done since the last call.
    #[must_use]
    pub fn take_work(&mut self) -> Work {
        std::mem::take(&mut self.work)
    }
}

impl fmt::Debug for Deflater {
    /// Only the settings: payloads do not belong into logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Deflater(threshold {} bytes)", self.threshold_bytes)
    }
}

/// The end of every flushed stream (RFC 7692 §7.2.1).
const TAIL: &[u8] = &[0x00, 0x00, 0xFF, 0xFF];

/// Capacity that outlives a message.
const KEPT_BYTES: usize = 64 * 1024;
