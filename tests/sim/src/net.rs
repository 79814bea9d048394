//! Sockets: two byte pipes with latency, finite room, partial writes, half-close and reset.

use std::io;

use mahavishnu_core::hub::{ConnId, Listener};

use crate::{clock::Nanos, random::Digest};

/// One direction of a socket. What was written is in `buffer` until it is read; its first `arrived` bytes have come.
#[derive(Debug, Default)]
pub(crate) struct Pipe {
    buffer: Vec<u8>,
    head: usize,
    arrived: usize,
    room: usize,
    /// When the bytes written last arrive: later ones never overtake them.
    last_arrival: Nanos,
    /// The writer has ended; `fin_arrived` once the reader may know.
    pub(crate) fin: bool,
    pub(crate) fin_arrived: bool,
}

/// A socket: the client's number, the hub's connection, both directions.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) client: usize,
    pub(crate) hub: usize,
    pub(crate) listener: Listener,
    /// Whether its client has an address: none at a Unix socket.
    pub(crate) has_address: bool,
    /// `None` before it is accepted and after the hub is rid of it.
    pub(crate) conn: Option<ConnId>,
    pub(crate) up: Pipe,
    pub(crate) down: Pipe,
    /// The hub was told of the end of the client's bytes.
    pub(crate) eof_told: bool,
    /// The hub waits for room in `down`.
    pub(crate) blocked: bool,
    /// The hub does not read now, though something has come.
    pub(crate) unread: bool,
    /// The next write fails: the network has lost the socket.
    pub(crate) broken: bool,
    /// The client has dropped its end.
    pub(crate) client_gone: bool,
    /// When the hub last heard of this client.
    pub(crate) heard: Nanos,
    /// One-way delay.
    pub(crate) latency: Nanos,
    /// Bytes per read of the hub, and per write.
    pub(crate) chunk: usize,
    /// What the client has to say and the pipe did not take yet.
    pub(crate) backlog: Vec<u8>,
}

impl Pipe {
    pub(crate) fn new(room: usize) -> Self {
        Self { room, ..Self::default() }
    }

    /// Takes as much as fits.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.free());
        if self.head > 0 && (self.head == self.buffer.len() || self.head > 64 * 1024) {
            self.buffer.drain(..self.head);
            self.head = 0;
        }
        self.buffer.extend_from_slice(&bytes[..count]);
        count
    }

    pub(crate) fn free(&self) -> usize {
        self.room.saturating_sub(self.buffer.len() - self.head)
    }

    /// When what is written now arrives.
    pub(crate) fn arrival(&mut self, now: Nanos, latency: Nanos) -> Nanos {
        self.last_arrival = self.last_arrival.max(now + latency);
        self.last_arrival
    }

    pub(crate) fn arrive(&mut self, count: usize) {
        if self.room == 0 {
            return; // Nobody is there any more.
        }
        self.arrived += count;
        debug_assert!(self.arrived <= self.buffer.len() - self.head, "more came than was sent");
    }

    /// What has come and is not read, at most `max` bytes.
    pub(crate) fn readable(&mut self, max: usize) -> &mut [u8] {
        let count = self.arrived.min(max);
        &mut self.buffer[self.head..self.head + count]
    }

    pub(crate) fn has_arrived(&self) -> bool {
        self.arrived > 0
    }

    pub(crate) fn consume(&mut self, count: usize) {
        self.head += count;
        self.arrived -= count;
    }

    /// Whether the reader has come to the end.
    pub(crate) fn at_end(&self) -> bool {
        self.fin_arrived && self.head == self.buffer.len()
    }

    pub(crate) fn free_memory(&mut self) {
        self.buffer = Vec::new();
        (self.head, self.arrived, self.room) = (0, 0, 0);
    }
}

/// Where a hub writes.
#[derive(Debug)]
pub(crate) struct Sink<'a> {
    pub(crate) pipe: &'a mut Pipe,
    pub(crate) digest: &'a mut Digest,
    pub(crate) written: usize,
    /// Bytes per write.
    pub(crate) chunk: usize,
    pub(crate) broken: bool,
}

impl io::Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.broken {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let count = self.pipe.write(&bytes[..bytes.len().min(self.chunk)]);
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.digest.bytes(&bytes[..count]);
        self.written += count;
        Ok(count)
    }

    fn write_vectored(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        let mut total = 0;
        for slice in slices {
            let rest = self.chunk.saturating_sub(total);
            let part = &slice[..slice.len().min(rest)];
            if part.is_empty() {
                continue;
            }
            match self.write(part) {
                Ok(count) => total += count,
                Err(error) if total == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(total)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
