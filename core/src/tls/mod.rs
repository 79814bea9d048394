//! TLS 1.2 and 1.3 (RFC 5246, RFC 8446) between the socket's bytes and the connection's.
//!
//! This is the only place that knows rustls. What comes in as ciphertext goes to the connection as plaintext, and what
//! the connection writes is gathered into records; the socket's driver sees bytes either way. Nothing is read from files
//! here: certificates and keys come as the bytes of PEM documents (RFC 7468).
//!
//! The time that certificates and tickets are compared with is the hub's `now`. Randomness the cryptographic library draws
//! for itself, because keys that a seed could bring back would protect nothing, and it changes the keys of tickets by the
//! system's clock. So TLS cannot be repeated byte by byte; what can be is everything above it.
//!
//! ```no_run
//! use mahavishnu_core::{config::Config, tls::{Certified, Chain, ClientAuth, PrivateKey, Server}};
//!
//! let chain = Chain::from_pem(&std::fs::read("server.pem")?)?;
//! let key = PrivateKey::from_pem(&std::fs::read("server-key.pem")?)?;
//! let tls = Server::new(vec![Certified::new(chain, &key)?], &ClientAuth::Off)?;
//! let config = Config { tls: Some(tls), ..Config::default() };
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A hub sees to all of it. Whoever drives a [`ws::Connection`](crate::ws::Connection) alone gives it a [`Session`]: what
//! [`Session::receive`] makes of the wire goes to the connection, and the connection is flushed into [`Session::writer`],
//! then [`Session::finish`] says what that means for the socket.

mod certificate;
mod identity;
mod pem;
mod revocation;
mod server;
mod session;
mod suites;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use self::{
    certificate::{Facts, Key, Unreadable},
    identity::{Field, Grant, Identity, Name, PatternError},
    pem::{Chain, PemError, PrivateKey},
    revocation::{ListFacts, RevocationListError, RevocationLists},
    server::{Certified, CertifiedError, ClientAuth, Server, ServerError},
    session::{Encrypting, Progress, Session},
};
pub(crate) use session::BATCH_BYTES;
