//! One connection's TLS: ciphertext in, plaintext out, and the other way round.

use std::{
    io::{self, BufRead, IoSlice, Read, Write},
    sync::Arc,
};

use rustls::{HandshakeKind, ServerConnection};

use super::{
    identity::Identity,
    progress::{BATCH_BYTES, Progress},
    server::Server,
};
use crate::ws::Flush;

/// One connection's TLS state. Boxed where it is kept: it is larger than the rest of a connection.
pub struct Session {
    tls: Box<ServerConnection>,
    stage: Stage,
    established: bool,
    /// Ciphertext that waits until the hub has time for another handshake.
    held: Vec<u8>,
    /// Our close_notify is made, and the end of our side is still to be reported.
    fin_due: bool,
    close_made: bool,
    /// Something of ours was sent or is about to be.
    answered: bool,
    /// An alert that the library did not make.
    alert: &'static [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Handshaking,
    Open,
    /// Nothing is taken in any more.
    Over,
}

impl Session {
    /// A connection whose first byte has come. `None` only if the library has no randomness.
    #[must_use]
    pub fn new(server: &Server) -> Option<Self> {
        let mut tls = Box::new(server.connect()?);
        // What the socket does not take waits, shared, in the outbox: this much at most waits encrypted.
        tls.set_buffer_limit(Some(BATCH_BYTES));
        Some(Self {
            tls,
            stage: Stage::Handshaking,
            established: false,
            held: Vec::new(),
            fin_due: false,
            close_made: false,
            answered: false,
            alert: &[],
        })
    }

    /// Takes in `wire`, behind what was held back, and appends what it says to `plain`.
    pub fn receive(&mut self, wire: &[u8], plain: &mut Vec<u8>) -> Progress {
        if self.held.is_empty() {
            return self.take_in(wire, plain);
        }
        let mut held = std::mem::take(&mut self.held);
        held.extend_from_slice(wire);
        self.take_in(&held, plain)
    }

    fn take_in(&mut self, mut wire: &[u8], plain: &mut Vec<u8>) -> Progress {
        while !wire.is_empty() && self.stage != Stage::Over {
            let ended = match self.step(&mut wire, plain) {
                Ok(ended) => ended,
                Err(Broken) => {
                    self.fail();
                    return Progress::Failed;
                }
            };
            self.answered |= self.tls.wants_write();
            if self.stage == Stage::Handshaking && !self.tls.is_handshaking() {
                self.establish();
            }
            if ended {
                self.stage = Stage::Over;
                return Progress::Ended;
            }
        }
        Progress::More
    }

    /// Takes nothing in any more.
    pub(crate) fn give_up(&mut self) {
        self.stage = Stage::Over;
        self.held = Vec::new();
    }

    fn fail(&mut self) {
        self.stage = Stage::Over;
        // For bytes that are no handshake at all the library makes no alert. Without keys it is a plain record.
        if !self.answered && !self.tls.wants_write() {
            self.alert = DECODE_ERROR;
            self.close_made = true;
        }
    }

    /// A part of `wire`; whether it was the last one.
    fn step(&mut self, wire: &mut &[u8], plain: &mut Vec<u8>) -> Result<bool, Broken> {
        // A buffer of its own bounds what a step takes in; nothing is only read when nothing may follow.
        let taken = self.tls.read_tls(wire as &mut dyn Read).map_err(|_| Broken)?;
        let state = self.tls.process_new_packets().map_err(|_| Broken)?;
        let mut reader = self.tls.reader();
        while let Ok(chunk) = reader.fill_buf() {
            if chunk.is_empty() {
                break;
            }
            plain.extend_from_slice(chunk);
            let count = chunk.len();
            reader.consume(count);
        }
        Ok(taken == 0 || state.peer_has_closed())
    }

    fn establish(&mut self) {
        self.stage = Stage::Open;
        self.established = true;
    }

    /// Keeps ciphertext for [`receive`](Self::receive) to take in later.
    pub(crate) fn hold(&mut self, wire: &[u8]) {
        self.held.extend_from_slice(wire);
    }

    /// Whether ciphertext is kept.
    pub(crate) fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// Bytes of memory for ciphertext that is kept.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held.capacity()
    }

    /// Whether the handshake is under way.
    pub(crate) fn is_handshaking(&self) -> bool {
        self.stage == Stage::Handshaking
    }

    /// Whether the handshake was completed.
    #[must_use]
    pub fn is_established(&self) -> bool {
        self.established
    }

    /// Whether the handshake was resumed from a ticket (RFC 8446 §2.2, RFC 5077).
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.tls.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Whether ciphertext waits to be written.
    #[must_use]
    pub fn wants_write(&self) -> bool {
        self.tls.wants_write() || !self.alert.is_empty()
    }

    /// Who the client is, if its certificate was asked for and verified.
    #[must_use]
    pub fn identity(&self) -> Option<Arc<Identity>> {
        let leaf = self.tls.peer_certificates()?.first()?;
        Identity::of(leaf).map(Arc::new)
    }

    /// A sink for plaintext, on `sink` for ciphertext.
    #[must_use]
    pub fn writer<'w>(&'w mut self, sink: &'w mut dyn Write) -> Encrypting<'w> {
        Encrypting { session: self, sink }
    }

    /// After the connection has written its plaintext, which came to `flush`: what that means for the socket.
    pub fn finish(&mut self, flush: Flush, sink: &mut dyn Write) -> Flush {
        match flush {
            Flush::Blocked => return Flush::Blocked,
            Flush::Drained => {}
            Flush::Fin => {
                self.make_close();
                self.fin_due = true;
            }
            Flush::Closed => {
                self.make_close();
                // Last words: whether they arrive is not waited for.
                let _ = self.push(sink);
                return Flush::Closed;
            }
        }
        match self.push(sink) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Flush::Blocked,
            // Whoever reads from the socket will see what is wrong with it.
            Ok(()) | Err(_) if std::mem::take(&mut self.fin_due) => Flush::Fin,
            Ok(()) | Err(_) => Flush::Drained,
        }
    }

    /// close_notify (RFC 8446 §6.1), once. After a fatal alert none is due, and the library makes none.
    fn make_close(&mut self) {
        if !std::mem::replace(&mut self.close_made, true) {
            self.tls.send_close_notify();
        }
    }

    /// Writes all ciphertext that waits.
    fn push(&mut self, sink: &mut dyn Write) -> io::Result<()> {
        while self.tls.wants_write() {
            match self.tls.write_tls(sink) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        while !self.alert.is_empty() {
            let written = sink.write(self.alert)?.clamp(1, self.alert.len());
            self.alert = self.alert.get(written..).unwrap_or_default();
        }
        Ok(())
    }

    /// Fills records as long as they fit into one write to the socket; [`push`](Self::push) makes it.
    fn encrypt(&mut self, slices: &[IoSlice<'_>], sink: &mut dyn Write) -> io::Result<usize> {
        if self.tls.is_handshaking() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let taken = self.take(slices)?;
        if taken > 0 {
            return Ok(taken);
        }
        self.push(sink)?;
        self.take(slices)
    }

    /// As much as still fits.
    fn take(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match slices {
            [one] => self.tls.writer().write(one),
            many => self.tls.writer().write_vectored(many),
        }
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("stage", &self.stage).finish_non_exhaustive()
    }
}

/// What does not say more: rustls' errors may hold bytes of the peer.
struct Broken;

/// A sink for plaintext that fills records and hands them to the sink below.
pub struct Encrypting<'w> {
    session: &'w mut Session,
    sink: &'w mut dyn Write,
}

impl std::fmt::Debug for Encrypting<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Encrypting").field(&self.session).finish()
    }
}

impl Write for Encrypting<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.session.encrypt(&[IoSlice::new(bytes)], self.sink)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.session.encrypt(slices, self.sink)
    }

    /// What was taken has to reach the sink below before the connection counts it as sent.
    fn flush(&mut self) -> io::Result<()> {
        self.session.push(self.sink)
    }
}

/// A fatal alert (RFC 8446 §6): content type, version, length, level, description.
const DECODE_ERROR: &[u8] = &[21, 3, 3, 0, 2, 2, 50];
