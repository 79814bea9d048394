//! Behaviour of whole connections. Helpers for the suites below.

mod chunking;
mod client;
mod close;
#[cfg(feature = "deflate")]
mod deflate;
mod exchange;
mod forward;
mod outbox;
mod peer;
mod server;

use std::{io, time::Duration};

use super::*;
use crate::{
    limits::Limits,
    time::{Instant, Now},
};

/// A sink with room for so many bytes; then it would block.
#[derive(Debug, Default)]
struct Sink {
    written: Vec<u8>,
    room: usize,
    broken: bool,
}

impl Sink {
    fn endless() -> Self {
        Self { room: usize::MAX, ..Self::default() }
    }
}

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.broken {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let take = bytes.len().min(self.room);
        if take == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.written.extend_from_slice(&bytes[..take]);
        self.room -= if self.room == usize::MAX { 0 } else { take };
        Ok(take)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A connection with its limits, its clock and its socket.
struct Harness {
    connection: Connection,
    limits: Limits,
    now: Now,
    sink: Sink,
}

impl Harness {
    fn server(limits: Limits) -> Self {
        let now = start();
        Self { connection: Connection::server(now), limits, now, sink: Sink::endless() }
    }

    /// An open server connection; the handshake is written and forgotten.
    fn open(limits: Limits) -> Self {
        let mut harness = Self::server(limits);
        assert!(matches!(&harness.receive(HANDSHAKE)[..], [Event::Upgrade(_)]));
        harness.connection.accept(harness.now, &Accept::default());
        assert!(harness.receive(b"").is_empty());
        assert_eq!(harness.flush(), Flush::Drained);
        harness.sink.written.clear();
        harness
    }

    /// All events of these bytes.
    fn receive(&mut self, bytes: &[u8]) -> Vec<Event<'static>> {
        let mut bytes = bytes.to_vec();
        let mut wire = &mut bytes[..];
        let mut events = Vec::new();
        while let Some(event) = self.connection.receive(self.now, &self.limits, &mut wire) {
            events.push(event.into_owned());
        }
        assert!(wire.is_empty(), "everything is taken in");
        events
    }

    fn eof(&mut self) -> Option<Event<'static>> {
        self.connection.handle_eof(self.now, &self.limits)
    }

    /// Lets time pass up to and including every deadline on the way.
    fn wait(&mut self, step: Duration) -> Vec<Event<'static>> {
        let end = self.now.plus(step);
        let mut events = Vec::new();
        while let Some(at) = self.connection.poll_timeout(&self.limits).filter(|at| *at <= end.mono)
        {
            self.now = self.now.plus(at.saturating_duration_since(self.now.mono));
            events.extend(self.connection.handle_timeout(self.now, &self.limits));
            let next = self.connection.poll_timeout(&self.limits);
            assert!(next.is_none_or(|at| at > self.now.mono), "what was due is still due");
            let _ = self.flush();
        }
        self.now = end;
        events
    }

    fn flush(&mut self) -> Flush {
        self.connection.flush(self.now, &mut self.sink)
    }

    /// What was written since the last call.
    fn written(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.sink.written)
    }

    fn written_text(&mut self) -> String {
        String::from_utf8(self.written()).unwrap()
    }

    /// Flushes and checks which frames went out, as (first byte, payload).
    fn expect_frames(&mut self, expected: &[(u8, &[u8])]) {
        let _ = self.flush();
        let bytes = self.written();
        assert_eq!(
            frames(&bytes),
            expected.iter().map(|(b, p)| (*b, p.to_vec())).collect::<Vec<_>>()
        );
    }
}

#[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
fn start() -> Now {
    Now { mono: Instant::now(), unix: Duration::from_secs(1_700_000_000) }
}

/// Splits unmasked frames with a parser of its own.
fn frames(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        assert!(bytes[1] & 0x80 == 0, "servers do not mask");
        let (start, len) = match bytes[1] {
            126 => (4, u16::from_be_bytes(bytes[2..4].try_into().unwrap()) as usize),
            127 => (10, u64::from_be_bytes(bytes[2..10].try_into().unwrap()) as usize),
            short => (2, short as usize),
        };
        frames.push((bytes[0], bytes[start..start + len].to_vec()));
        bytes = &bytes[start + len..];
    }
    frames
}

/// A client's frame with `first` as its first byte, masked.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let key = [0x12, 0x34, 0x56, 0x78];
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..=125 => frame.push(0x80 | len as u8),
        len @ 126..=0xFFFF => {
            frame.push(0x80 | 126);
            frame.extend((len as u16).to_be_bytes());
        }
        len => {
            frame.push(0x80 | 127);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    frame.extend(key);
    frame.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ key[at % 4]));
    frame
}

const HANDSHAKE: &[u8] =
    b"GET /x HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8A;

impl Connection {
    /// Whether nothing is on the heap but what the role needs.
    fn holds_no_buffer(&self) -> bool {
        let idle = matches!(&self.state, state::State::Open(None) | state::State::Ended(_));
        idle && self.kept().is_none() && self.outbox.holds_nothing()
    }

    /// Whether nothing at all is on the heap.
    fn owns_nothing(&self) -> bool {
        self.holds_no_buffer() && self.rare.is_none()
    }

    fn assembly_capacity(&self) -> usize {
        self.assembly().map_or(0, frame::Assembly::capacity)
    }

    fn assembly_len(&self) -> usize {
        self.assembly().map_or(0, frame::Assembly::len)
    }

    fn assembly(&self) -> Option<&frame::Assembly> {
        use state::State::{Closing, Open};
        if let Open(assembly) | Closing(_, assembly) = &self.state {
            assembly.as_deref()
        } else {
            None
        }
    }
}
