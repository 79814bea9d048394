//! Where a connection is in its life, and what it remembers there.

use http::{Request, Response, Version};

use super::{
    chunked::Chunked, close::PeerClose, frame::Assembly, head::HeadReader, http1::Manner,
    keepalive::Asked,
};
use crate::{entropy::Entropy, reason::Reason};

/// The states; transitions are drawn in the module's documentation.
#[derive(Debug)]
pub(super) enum State {
    /// Server: a request head is awaited, or a part of it has come.
    Head(Option<Box<HeadReader>>),
    /// Server: the rest of a request's body is awaited.
    Body(Box<Body>),
    /// Server: a request waits for its answer.
    Exchange(Box<Exchange>),
    /// Client: the server's answer to the handshake is awaited.
    Shake(Box<Shake>),
    /// Messages flow. The assembly exists while a frame or message is incomplete.
    Open(Option<Box<Assembly>>),
    /// Our close frame is queued, the peer's is awaited.
    Closing(Reason, Option<Box<Assembly>>),
    /// No more input.
    Ended(Ended),
}

#[derive(Debug)]
pub(super) struct Ended {
    pub(super) reason: Reason,
    pub(super) finish: Finish,
    /// Whether `Event::Closed` was given out.
    pub(super) is_reported: bool,
    /// It never got beyond HTTP.
    pub(super) http: bool,
}

/// How a connection that has ended leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finish {
    /// What is queued goes out first.
    Drain,
    /// Our side of the stream has ended; the peer's end is awaited.
    Linger,
    /// The socket is to be dropped.
    Drop,
}

#[derive(Debug)]
pub(super) struct Body {
    pub(super) request: Request<()>,
    pub(super) manner: Manner,
    pub(super) rest: Rest,
    pub(super) bytes: Vec<u8>,
}

/// What of a body has not come.
#[derive(Debug)]
pub(super) enum Rest {
    /// So many bytes.
    Bytes(usize),
    Chunks(Chunked),
}

#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) manner: Manner,
    /// For an upgrade request: what proves that we understood it.
    pub(super) accept_key: Option<String>,
}

#[derive(Debug)]
pub(super) struct Shake {
    pub(super) reader: HeadReader,
    pub(super) accept_key: String,
    /// Subprotocols of which the server may choose one.
    pub(super) offered: Vec<String>,
    /// Whether permessage-deflate was offered.
    pub(super) deflate: bool,
}

#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) bytes: Vec<u8>,
    /// Bytes that were looked at.
    pub(super) at: usize,
}

#[derive(Debug)]
pub(super) enum LastWords {
    Close(PeerClose),
    Refusal(Response<()>),
}

/// What a connection has only now and then. Gone when there is nothing in it; a client's stays, for the masks.
#[derive(Debug, Default)]
pub(super) struct Rare {
    /// A ping that is not answered yet.
    pub(super) asked: Option<Asked>,
    /// Input that came behind a request that is not answered yet.
    pub(super) kept: Option<Kept>,
    /// What the peer said at the end.
    pub(super) last_words: Option<Box<LastWords>>,
    /// Messages that were queued and will not be sent, because a close frame took their place.
    pub(super) messages_dropped: u32,
    /// Client: the stream that masks are drawn from.
    pub(super) masks: Option<Box<Entropy>>,
}

impl Rare {
    pub(super) fn is_empty(&self) -> bool {
        let Self { asked, kept, last_words, messages_dropped, masks } = self;
        asked.is_none()
            && kept.is_none()
            && last_words.is_none()
            && *messages_dropped == 0
            && masks.is_none()
    }
}

/// How a request is answered of which we know nothing.
pub(super) const LAST: Manner =
    Manner { keep_alive: false, head_only: false, version: Version::HTTP_11 };
