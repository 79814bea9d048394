//! TLS to Redis: what is verified and shown.

mod no_client;

pub use no_client::Client;
