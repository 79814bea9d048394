//! One connection's TLS: ciphertext in, plaintext out, and the other way round.

use std::{
    fmt,
    io::{BufRead, Read, Write},
    sync::Arc,
};

use mahavishnu_core::time::Now;
use rustls::{ClientConnection, Error};

use super::Client;

/// One connection's TLS.
pub(crate) struct Session(Box<ClientConnection>);

impl Session {
    /// A connection that is about to begin with a host. Fails with why not.
    pub(crate) fn new(client: &Client, host: &str, now: Now) -> Result<Self, Arc<str>> {
        client.set_time(now.unix);
        let name =
            client.name(host).map_err(|_| Arc::from("TLS: the host has no name to verify"))?;
        let tls = ClientConnection::new(client.config(), name).map_err(|error| cause(&error))?;
        let mut this = Self(Box::new(tls));
        // Plaintext waits in the link's own buffer.
        this.0.set_buffer_limit(Some(BATCH_BYTES));
        Ok(this)
    }

    /// Takes in `wire` and appends what it says to `plain`; whether that is all there will be. Fails with why it is over.
    pub(crate) fn receive(
        &mut self,
        mut wire: &[u8],
        plain: &mut Vec<u8>,
    ) -> Result<bool, Arc<str>> {
        while !wire.is_empty() {
            let taken = self
                .0
                .read_tls(&mut wire as &mut dyn Read)
                .map_err(|_| Arc::from("TLS: broken"))?;
            let state = self.0.process_new_packets().map_err(|error| cause(&error))?;
            let mut reader = self.0.reader();
            while let Ok(chunk) = reader.fill_buf() {
                if chunk.is_empty() {
                    break;
                }
                plain.extend_from_slice(chunk);
                let count = chunk.len();
                reader.consume(count);
            }
            if taken == 0 || state.peer_has_closed() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Appends to `wire` what is to be sent, and encrypts as much of `plain` as there is room for: how much that was.
    pub(crate) fn send(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> usize {
        let taken = self.0.writer().write(plain).unwrap_or(0);
        // Writing to memory cannot fail.
        while self.0.wants_write() && self.0.write_tls(wire).is_ok_and(|count| count > 0) {}
        taken
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("handshaking", &self.0.is_handshaking())
            .finish_non_exhaustive()
    }
}

/// For people, and without bytes of the peer, which rustls' own words may have.
fn cause(error: &Error) -> Arc<str> {
    if let Error::InvalidCertificate(fault) = error {
        format!("TLS: the certificate is refused: {fault}").into()
    } else if let Error::AlertReceived(alert) = error {
        format!("TLS: Redis refuses: {alert:?}").into()
    } else if let Error::PeerIncompatible(_) = error {
        "TLS: nothing in common".into()
    } else if let Error::InvalidMessage(_) = error {
        "TLS: these are no bytes of TLS".into()
    } else {
        "TLS: broken".into()
    }
}

/// Plaintext that may be encrypted and wait.
const BATCH_BYTES: usize = 256 << 10;
