//! permessage-deflate (RFC 7692) without memory per connection. Negotiating it is always there; compressing and
//! decompressing is the feature `deflate`.
//!
//! Neither side keeps its window between messages: a server always answers `server_no_context_takeover;
//! client_no_context_takeover`, a client asks for both and takes nothing less. So every message is a stream of its own,
//! one [`Deflater`] and one [`Inflater`] serve any number of connections, and a broadcast is compressed once and shared.
//!
//! A window smaller than 32 KiB is honoured without a compressor of its own: a stream never refers back beyond its own
//! beginning, so a message that is no longer than the window fits it. Longer ones go out as they are, which RFC 7692
//! §6 allows for any message.

#[cfg(feature = "deflate")]
mod deflater;
#[cfg(feature = "deflate")]
mod inflater;
#[cfg(feature = "deflate")]
mod messages;
mod offer;
#[cfg(feature = "deflate")]
mod shared;

pub use offer::Deflate;
pub(super) use offer::OFFER;
#[cfg(feature = "deflate")]
pub use {
    deflater::{Deflater, Work},
    inflater::Inflater,
    shared::Deflated,
};

/// Bits of the largest window of DEFLATE, 32 KiB (RFC 1951 §2); what is meant where none are named.
pub(super) const WINDOW_BITS_MAX: u8 = 15;

/// Bits of the smallest window that can be agreed on (RFC 7692 §7.1.2).
pub(super) const WINDOW_BITS_MIN: u8 = 8;

/// Bits of the window that holds all of a message of `len` bytes.
#[cfg(feature = "deflate")]
fn window_bits_for(len: usize) -> u8 {
    (WINDOW_BITS_MIN..WINDOW_BITS_MAX).find(|bits| len <= 1 << bits).unwrap_or(WINDOW_BITS_MAX)
}
