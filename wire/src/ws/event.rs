//! What a connection reports.

use std::{fmt, ops::Deref, time::Duration};

use http::{Request, Response};

use super::frame::Kind;
use crate::reason::Reason;

/// Something that came from the peer, or the end.
///
/// Lifetimes tie events to the bytes that were passed in, never to the connection: it can be used while an event is
/// being looked at.
#[derive(Debug)]
pub enum Event<'w> {
    /// A WebSocket upgrade request that passed the checks of RFC 6455 §4.2.1. Nothing more is parsed until
    /// [`accept`](super::Connection::accept), [`refuse`](super::Connection::refuse) or
    /// [`respond`](super::Connection::respond).
    Upgrade(Box<Request<()>>),
    /// Any other complete HTTP request. Nothing more is parsed until [`respond`](super::Connection::respond) or
    /// [`refuse`](super::Connection::refuse).
    Http(Box<Request<Payload<'w>>>),
    /// A text message.
    Text(Text<'w>),
    /// A binary message.
    Binary(Payload<'w>),
    /// A compressed message, only if the connection agreed on permessage-deflate: pass it to
    /// [`inflate`](super::Connection::inflate).
    Compressed(Compressed<'w>),
    /// Client role: the server accepted the handshake; its answer's head.
    Accepted(Box<Response<()>>),
    /// The answer to our latest ping.
    Pong {
        /// Time between ping and pong.
        rtt: Duration,
    },
    /// Nothing more will come. Emitted exactly once, whatever the cause: the peer's close, a violation, end of stream, a
    /// timeout, our own close. Output may still have to be flushed.
    Closed(Reason),
}

impl Event<'_> {
    /// The same event, independent of the wire buffer.
    #[must_use]
    pub fn into_owned(self) -> Event<'static> {
        match self {
            Self::Upgrade(request) => Event::Upgrade(request),
            Self::Http(request) => Event::Http(Box::new(request.map(Payload::into_owned))),
            Self::Text(text) => Event::Text(text.into_owned()),
            Self::Binary(payload) => Event::Binary(payload.into_owned()),
            Self::Compressed(Compressed { kind, payload }) => {
                Event::Compressed(Compressed { kind, payload: payload.into_owned() })
            }
            Self::Accepted(response) => Event::Accepted(response),
            Self::Pong { rtt } => Event::Pong { rtt },
            Self::Closed(reason) => Event::Closed(reason),
        }
    }
}

/// Bytes from the peer: in the wire buffer if they came in one piece, otherwise on their own.
#[derive(Clone)]
pub struct Payload<'w>(Bytes<'w>);

impl Payload<'_> {
    /// The bytes as a vector, copied only if they are borrowed.
    #[must_use]
    pub fn into_vec(self) -> Vec<u8> {
        match self.0 {
            Bytes::Wire(bytes) => bytes.to_vec(),
            Bytes::Own(mut bytes, headroom) => {
                drop(bytes.drain(..headroom.min(bytes.len())));
                bytes
            }
        }
    }

    /// Whether the bytes lie in the wire buffer.
    #[must_use]
    pub fn is_borrowed(&self) -> bool {
        matches!(self.0, Bytes::Wire(_))
    }

    fn into_owned(self) -> Payload<'static> {
        match self.into_frame_room() {
            Ok((bytes, headroom)) => Payload::with_headroom(bytes, headroom),
            Err(payload) => Payload::from(payload.into_vec()),
        }
    }

    pub(super) fn with_headroom(bytes: Vec<u8>, headroom: Headroom) -> Self {
        Self(Bytes::Own(bytes, headroom))
    }

    /// The memory as it is, if the payload has its own.
    pub(super) fn into_frame_room(self) -> Result<(Vec<u8>, Headroom), Self> {
        match self.0 {
            Bytes::Own(bytes, headroom) => Ok((bytes, headroom)),
            Bytes::Wire(_) => Err(self),
        }
    }
}

impl<'w> From<&'w [u8]> for Payload<'w> {
    fn from(bytes: &'w [u8]) -> Self {
        Self(Bytes::Wire(bytes))
    }
}

impl From<Vec<u8>> for Payload<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Bytes::Own(bytes, 0))
    }
}

impl Deref for Payload<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Bytes::Wire(bytes) => bytes,
            Bytes::Own(bytes, headroom) => bytes.get(*headroom..).unwrap_or_default(),
        }
    }
}

impl PartialEq for Payload<'_> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Payload<'_> {}

impl fmt::Debug for Payload<'_> {
    /// Only the size: payloads do not belong into logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.len())
    }
}

/// Text from the peer, checked to be UTF-8.
#[derive(Clone)]
pub struct Text<'w>(Chars<'w>);

impl Text<'_> {
    /// The text as a string, copied only if it is borrowed.
    #[must_use]
    pub fn into_string(self) -> String {
        match self.0 {
            Chars::Wire(text) => text.to_owned(),
            Chars::Own(mut text, headroom) => {
                text.drain(..headroom.min(text.len()));
                text
            }
        }
    }

    fn into_owned(self) -> Text<'static> {
        match self.0 {
            Chars::Wire(text) => Text::from(text.to_owned()),
            Chars::Own(text, headroom) => Text::with_headroom(text, headroom),
        }
    }

    pub(super) fn with_headroom(text: String, headroom: Headroom) -> Self {
        Self(Chars::Own(text, headroom))
    }

    /// The memory as it is, if the text has its own.
    pub(super) fn into_frame_room(self) -> Result<(Vec<u8>, Headroom), Self> {
        match self.0 {
            Chars::Own(text, headroom) => Ok((text.into_bytes(), headroom)),
            Chars::Wire(_) => Err(self),
        }
    }

    /// Whether the text lies in the wire buffer.
    #[must_use]
    pub fn is_borrowed(&self) -> bool {
        matches!(self.0, Chars::Wire(_))
    }
}

impl<'w> From<&'w str> for Text<'w> {
    fn from(text: &'w str) -> Self {
        Self(Chars::Wire(text))
    }
}

impl From<String> for Text<'_> {
    fn from(text: String) -> Self {
        Self(Chars::Own(text, 0))
    }
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match &self.0 {
            Chars::Wire(text) => text,
            Chars::Own(text, headroom) => text.get(*headroom..).unwrap_or_default(),
        }
    }
}

impl PartialEq for Text<'_> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Text<'_> {}

impl fmt::Debug for Text<'_> {
    /// Only the size: payloads do not belong into logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Text({} bytes)", self.len())
    }
}

/// A message as it came, compressed and not looked into.
#[derive(Clone, Debug)]
pub struct Compressed<'w> {
    pub(super) kind: Kind,
    pub(super) payload: Payload<'w>,
}

impl<'w> Compressed<'w> {
    pub(super) fn new(kind: Kind, payload: Payload<'w>) -> Self {
        Self { kind, payload }
    }

    /// Whether it inflates to text, which has to be UTF-8, or else to a binary message.
    #[must_use]
    pub fn is_text(&self) -> bool {
        self.kind == Kind::Text
    }

    /// The stream of RFC 7692 §7.2.1, without its last four bytes.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }
}

#[derive(Clone)]
enum Bytes<'w> {
    Wire(&'w [u8]),
    Own(Vec<u8>, Headroom),
}

#[derive(Clone)]
enum Chars<'w> {
    Wire(&'w str),
    /// The headroom is zeros, which are UTF-8.
    Own(String, Headroom),
}

/// Bytes in front of a payload that came in parts: room for the header of a frame, so that the message can be sent on
/// without being copied.
pub(super) type Headroom = usize;
