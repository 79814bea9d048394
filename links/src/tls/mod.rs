//! TLS 1.2 and 1.3 to Redis: what is verified, and what is shown.
//!
//! Nothing is read from files here: certificates and keys come as the bytes of PEM documents (RFC 7468). Certificates are
//! compared with the time that the link is told. Randomness the cryptographic library draws for itself, because keys that a
//! seed could bring back would protect nothing: with TLS, bytes cannot be repeated, and all that is above them can.
//!
//! All of this is the feature `tls`.

#[cfg(feature = "tls")]
mod client;
#[cfg(not(feature = "tls"))]
mod no_client;
#[cfg(feature = "tls")]
mod session;

#[cfg(feature = "tls")]
pub use self::client::{Client, ClientError};
#[cfg(feature = "tls")]
pub(crate) use self::session::Session;
#[cfg(not(feature = "tls"))]
pub use no_client::Client;
#[cfg(not(feature = "tls"))]
pub(crate) use no_client::Session;
