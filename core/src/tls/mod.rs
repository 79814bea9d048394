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
//! All of this but the names of clients is the feature `tls`. Without it a [`Server`] cannot be made, so a hub has none and
//! nothing else changes.
//!
#![cfg_attr(feature = "tls", doc = "```no_run")]
#![cfg_attr(not(feature = "tls"), doc = "```text")]
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

#[cfg(feature = "tls")]
mod blocks;
#[cfg(feature = "tls")]
mod certificate;
#[cfg(test)]
#[cfg(feature = "tls")]
mod documents;
mod identity;
#[cfg(not(feature = "tls"))]
mod no_server;
#[cfg(feature = "tls")]
mod pem;
mod progress;
#[cfg(feature = "tls")]
mod revocation;
#[cfg(feature = "tls")]
mod server;
#[cfg(feature = "tls")]
mod session;
#[cfg(feature = "tls")]
mod suites;
#[cfg(test)]
#[cfg(feature = "tls")]
pub(crate) mod testing;
#[cfg(test)]
#[cfg(feature = "tls")]
mod tests;

/// The library whose configuration [`Server::from_config`] takes.
#[cfg(feature = "tls")]
pub use rustls;

#[cfg(feature = "tls")]
pub use self::{
    certificate::{Facts, Key, Unreadable},
    pem::{Chain, PemError, PemFault, PrivateKey},
    revocation::{ListFacts, RevocationListError, RevocationLists},
    server::{Certified, CertifiedError, ClientAuth, Server, ServerError},
    session::{Encrypting, Session},
};
pub use self::{
    identity::{Field, Grant, Identity, Name, PatternError},
    progress::Progress,
};
#[cfg(not(feature = "tls"))]
pub use no_server::{Server, Session};
pub(crate) use progress::BATCH_BYTES;
