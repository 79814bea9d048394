//! What a session says of its progress, and how much it encrypts ahead.

/// What came of some ciphertext. Plaintext may have come in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// More is needed.
    More,
    /// The peer ended its side in order (RFC 8446 §6.1).
    Ended,
    /// The peer broke the protocol, or there is no common ground. An alert waits to be sent.
    Failed,
}

/// Plaintext that is encrypted ahead: two full records (RFC 8446 §5.1). With one the system calls show, more brings little.
pub(crate) const BATCH_BYTES: usize = 32 * 1024;
