//! TLS of a build that serves none: a server that cannot be made, and so has no sessions. What a hub asks of either is here,
//! so that the hub need not know.

use std::{
    io::{Sink, Write},
    sync::Arc,
    time::Duration,
};

use super::{identity::Identity, progress::Progress};
use crate::ws::Flush;

/// Everything that a TLS handshake needs. Without the feature `tls` there is none.
#[derive(Clone, Debug)]
pub struct Server(Never);

/// One connection's TLS state. Without the feature `tls` there is none.
#[derive(Debug)]
pub struct Session(Never);

#[derive(Clone, Copy, Debug)]
enum Never {}

impl Server {
    /// When the first of the server's certificates expires, since the Unix epoch.
    #[must_use]
    pub fn expires(&self) -> Option<Duration> {
        match self.0 {}
    }

    /// Whether a client's certificate is on a revocation list.
    #[must_use]
    pub fn revokes(&self, _identity: &Identity) -> bool {
        match self.0 {}
    }

    /// What certificates and tickets are compared with from now on: time since the Unix epoch.
    pub fn set_time(&self, _unix: Duration) {
        match self.0 {}
    }
}

impl Session {
    /// A connection whose first byte has come.
    #[must_use]
    pub fn new(server: &Server) -> Option<Self> {
        match server.0 {}
    }

    /// Takes in `wire`, and appends what it says to `plain`.
    pub fn receive(&mut self, _wire: &[u8], _plain: &mut Vec<u8>) -> Progress {
        match self.0 {}
    }

    /// Whether the handshake was completed.
    #[must_use]
    pub fn is_established(&self) -> bool {
        match self.0 {}
    }

    /// Whether the handshake was resumed from a ticket.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        match self.0 {}
    }

    /// Whether ciphertext waits to be written.
    #[must_use]
    pub fn wants_write(&self) -> bool {
        match self.0 {}
    }

    /// Who the client is, if its certificate was asked for and verified.
    #[must_use]
    pub fn identity(&self) -> Option<Arc<Identity>> {
        match self.0 {}
    }

    /// A sink for plaintext.
    #[must_use]
    pub fn writer<'w>(&'w mut self, _sink: &'w mut dyn Write) -> Sink {
        match self.0 {}
    }

    /// After the connection has written its plaintext: what that means for the socket.
    pub fn finish(&mut self, _flush: Flush, _sink: &mut dyn Write) -> Flush {
        match self.0 {}
    }

    pub(crate) fn give_up(&self) {
        match self.0 {}
    }

    pub(crate) fn hold(&self, _wire: &[u8]) {
        match self.0 {}
    }

    pub(crate) fn is_holding(&self) -> bool {
        match self.0 {}
    }

    pub(crate) fn held_bytes(&self) -> usize {
        match self.0 {}
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        match self.0 {}
    }
}
