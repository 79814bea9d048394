//! TLS 1.2 and 1.3 (RFC 5246, RFC 8446) between the socket's bytes and the connection's.
//!
//! This is the only place that knows rustls. What comes in as ciphertext goes to the connection as plaintext, and what
//! the connection writes is gathered into records; the socket's driver sees bytes either way. Nothing is read from files
//! here: certificates and keys come as the bytes of PEM documents (RFC 7468).
//!
//! Time is the hub's `now`. Randomness is the one thing that the cryptographic library draws for itself: keys that a
//! seed could bring back would protect nothing. So TLS is not part of what a record of a hub repeats; a record is made of
//! the plaintext.

mod certificate;
mod identity;
mod pem;
mod server;
mod session;
mod suites;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub(crate) use self::session::{Progress, Session};
pub use self::{
    certificate::{Facts, Key, Unreadable},
    identity::{Field, Grant, Identity, Name, PatternError},
    pem::{Chain, PemError, PrivateKey},
    server::{Certified, CertifiedError, ClientAuth, Server, ServerError},
};
