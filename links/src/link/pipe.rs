//! One connection's bytes: commands out, frames in, TLS between if there is some.

use std::{fmt, sync::Arc};

use zeroize::Zeroize;

use crate::{
    limits::LinkLimits,
    resp::{Broken, Decoder, Frame},
    tls::Session,
};

/// What goes through one connection.
pub(super) struct Pipe {
    tls: Option<Box<Session>>,
    decoder: Decoder,
    /// Commands; with TLS, those that are not encrypted yet.
    plain: Outbox,
    /// Ciphertext.
    cipher: Outbox,
    scratch: Vec<u8>,
    /// Bytes of commands that were ever written.
    written: u64,
    /// Of those, how many may have reached Redis.
    sent: u64,
}

/// Why nothing more can come of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Tls(Arc<str>),
    /// Redis has ended TLS, as it should.
    Closed,
    Resp(Broken),
}

impl Pipe {
    pub(super) fn new(limits: &LinkLimits, tls: Option<Session>) -> Self {
        Self {
            tls: tls.map(Box::new),
            decoder: Decoder::new(limits.reply_bytes_max, limits.reply_depth_max),
            plain: Outbox::default(),
            cipher: Outbox::default(),
            scratch: Vec::new(),
            written: 0,
            sent: 0,
        }
    }

    /// Writes commands: where in all that was ever written they begin.
    pub(super) fn write(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> u64 {
        let begin = self.written;
        let before = self.plain.bytes.len();
        write(&mut self.plain.bytes);
        self.written += (self.plain.bytes.len() - before) as u64;
        begin
    }

    /// Whether a command that begins there may have reached Redis.
    pub(super) fn may_have_sent(&self, begin: u64) -> bool {
        begin < self.sent
    }

    /// Encrypts what waits, some of it if it is much.
    pub(super) fn encrypt(&mut self) {
        let Some(tls) = &mut self.tls else { return };
        while self.cipher.rest().len() < CIPHER_BYTES {
            let taken = tls.send(self.plain.rest(), &mut self.cipher.bytes);
            self.plain.take(taken);
            self.sent += taken as u64;
            if taken == 0 {
                break;
            }
        }
    }

    pub(super) fn transmit(&self) -> &[u8] {
        if self.tls.is_some() { self.cipher.rest() } else { self.plain.rest() }
    }

    /// Whether the socket has taken everything.
    pub(super) fn is_written(&self) -> bool {
        self.plain.rest().is_empty() && self.cipher.rest().is_empty()
    }

    pub(super) fn transmitted(&mut self, count: usize) {
        if self.tls.is_some() {
            self.cipher.take(count);
            self.encrypt();
        } else {
            self.sent += self.plain.take(count) as u64;
        }
    }

    /// Takes bytes of the socket in.
    pub(super) fn receive(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let Some(tls) = &mut self.tls else {
            self.decoder.feed(bytes);
            return Ok(());
        };
        let result = tls.receive(bytes, &mut self.scratch);
        self.decoder.feed(&self.scratch);
        self.scratch.clear();
        self.encrypt();
        if result.map_err(Fault::Tls)? { Err(Fault::Closed) } else { Ok(()) }
    }

    /// The next reply or push.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, Fault> {
        self.decoder.next().map_err(Fault::Resp)
    }

    /// Overwrites what is left in memory of commands that were sent: there was a password among them.
    pub(super) fn scrub(&mut self) {
        if self.plain.rest().is_empty() {
            self.plain.bytes.zeroize();
            self.plain.start = 0;
        }
    }
}

impl fmt::Debug for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (written, sent) = (self.written, self.sent);
        f.debug_struct("Pipe")
            .field("written", &written)
            .field("sent", &sent)
            .finish_non_exhaustive()
    }
}

/// Bytes that wait.
#[derive(Default)]
struct Outbox {
    bytes: Vec<u8>,
    /// Those before are gone.
    start: usize,
}

impl Outbox {
    fn rest(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    /// The first ones are gone: how many.
    fn take(&mut self, count: usize) -> usize {
        let count = count.min(self.rest().len());
        self.start += count;
        if self.start == self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
            self.bytes.shrink_to(IDLE_BYTES);
        } else if self.start > IDLE_BYTES && self.start > self.bytes.len() / 2 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        count
    }
}

/// Ciphertext that may wait.
const CIPHER_BYTES: usize = 256 << 10;
/// Memory that is kept without a use for it.
const IDLE_BYTES: usize = 64 << 10;
