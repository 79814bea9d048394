//! Without TLS.

/// TLS to Redis. There is none without the feature `tls`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {}
