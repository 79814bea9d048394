//! A client's message before it is known which protocol it is of.

use crate::protocol::{self, DecodeError, Incoming};

/// What came of reading a message.
pub(super) type Decoded<'a> = Result<Incoming<'a>, DecodeError>;

/// A message as it came.
#[derive(Clone, Copy)]
pub(super) enum Raw<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
}

impl<'a> Raw<'a> {
    pub(super) fn decode(self) -> Decoded<'a> {
        match self {
            Self::Text(text) => protocol::decode_text(text),
            Self::Binary(bytes) => protocol::decode(bytes),
        }
    }

    pub(super) fn bytes(self) -> &'a [u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }
}
