//! A buffer that the kernel copies into at full speed.

use std::{
    fmt,
    ops::{Deref, DerefMut},
};

/// Memory for what a socket brings: one for all sockets of a thread, since nothing stays in it.
///
/// It begins at a cache line. Allocators put large blocks sixteen bytes behind the start of a page, and some processors
/// (Zen 3) copy there from the start of another page at a fifth of their speed.
pub struct ReadBuffer {
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

impl ReadBuffer {
    /// A buffer of `len` zeros.
    #[must_use]
    pub fn new(len: usize) -> Self {
        let memory = vec![0; len + CACHE_LINE];
        // Where alignment cannot be told, any place will do.
        let start = memory.as_ptr().align_offset(CACHE_LINE).min(CACHE_LINE);
        Self { memory, start, len }
    }
}

impl Deref for ReadBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.memory.get(self.start..self.start + self.len).unwrap_or_default()
    }
}

impl DerefMut for ReadBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.memory.get_mut(self.start..self.start + self.len).unwrap_or_default()
    }
}

impl fmt::Debug for ReadBuffer {
    /// Only the size: what came does not belong into logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReadBuffer({} bytes)", self.len)
    }
}

/// Bytes of a cache line, on all processors that matter here.
const CACHE_LINE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_at_a_cache_line_and_has_the_size_asked_for() {
        for len in [0, 1, 63, 64, 4096, 256 * 1024, 1 << 20] {
            let mut buffer = ReadBuffer::new(len);
            assert_eq!(buffer.len(), len);
            assert_eq!(buffer.as_ptr() as usize % CACHE_LINE, 0);
            buffer.fill(7);
            assert!(buffer.iter().all(|byte| *byte == 7));
        }
    }
}
