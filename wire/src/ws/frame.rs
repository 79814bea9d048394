//! Frames in: header policy (RFC 6455 §5) and reassembly of what does not come in one piece.

use std::io::Cursor;

use tungstenite::protocol::frame::FrameHeader;

use super::{
    encode::{FRAME_HEADER_MAX, Opcode},
    event::Headroom,
    mask,
    utf8::Utf8,
};
use crate::{limits::Limits, reason::Reason};

/// A frame header that passed the rules that need no context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) opcode: Opcode,
    pub(super) is_final: bool,
    /// The first frame of a compressed message (RFC 7692 §6).
    pub(super) is_compressed: bool,
    /// All zero for an unmasked frame.
    pub(super) key: [u8; 4],
    /// Payload bytes.
    pub(super) length: u64,
    /// Bytes of the header itself.
    pub(super) size: usize,
}

/// What is expected of every frame of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// Which role the peer has: clients must mask, servers must not (RFC 6455 §5.1).
    pub(super) masked: bool,
    /// Whether permessage-deflate was agreed on.
    pub(super) deflate: bool,
}

/// Reads the header at the start of `bytes`; `None` if it is incomplete.
pub(super) fn parse(bytes: &[u8], rules: Rules) -> Result<Option<Header>, Reason> {
    let mut cursor = Cursor::new(bytes);
    // The only error without I/O is a reserved opcode (§5.2).
    let Some((header, length)) =
        FrameHeader::parse(&mut cursor).map_err(|_| Reason::ReservedOpcode)?
    else {
        return Ok(None);
    };
    let size = header.len(length);
    // §5.2: bits that no negotiated extension defines must be 0.
    if (header.rsv1 && !rules.deflate) || header.rsv2 || header.rsv3 {
        return Err(Reason::ReservedBits);
    }
    let opcode = Opcode::from_wire(header.opcode).ok_or(Reason::ReservedOpcode)?;
    // §5.2: the shortest form, and the most significant bit of a 64-bit length is 0.
    if cursor.position() != size as u64 || length > i64::MAX as u64 {
        return Err(Reason::BadLength);
    }
    // RFC 7692 §6.1: RSV1 stands on the first frame of a data message only.
    if header.rsv1 && !matches!(opcode, Opcode::Text | Opcode::Binary) {
        return Err(Reason::ReservedBits);
    }
    match (header.mask.is_some(), rules.masked) {
        (false, true) => return Err(Reason::Unmasked),
        (true, false) => return Err(Reason::Masked),
        (true, true) | (false, false) => {}
    }
    if opcode.is_control() {
        // §5.5
        if !header.is_final {
            return Err(Reason::FragmentedControl);
        }
        if length > CONTROL_BYTES_MAX {
            return Err(Reason::LongControl);
        }
    }
    let key = header.mask.unwrap_or_default();
    let (is_final, is_compressed) = (header.is_final, header.rsv1);
    Ok(Some(Header { opcode, is_final, is_compressed, key, length, size }))
}

/// The kinds of message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Binary,
}

/// What [`Assembly::receive`] came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Everything is taken in; more bytes are needed.
    More,
    /// A complete control frame. A message in progress goes on.
    Control(Opcode, Vec<u8>),
    /// An empty fragment, which costs its sender next to nothing and is therefore counted.
    Empty,
    /// A complete message, behind its headroom.
    Message(Kind, Vec<u8>, Headroom),
    /// A complete message as it came, compressed.
    Compressed(Kind, Vec<u8>),
}

/// A frame or message of which a part has come. Exists only while there is such a part.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    /// An incomplete header.
    head: [u8; FRAME_HEADER_MAX],
    head_len: usize,
    /// The frame whose payload is being received.
    frame: Option<Frame>,
    /// Payload of a control frame in progress.
    control: Vec<u8>,
    /// Whether, and of which kind, a message is in progress.
    message: Option<Kind>,
    /// Whether that message is compressed.
    compressed: bool,
    /// Headroom, then its payload so far, unmasked. Empty until the first byte of payload.
    payload: Vec<u8>,
    headroom: Headroom,
    utf8: Utf8,
    /// Its frames so far.
    fragments: u32,
    /// Only close frames are of interest: payloads of messages are neither kept nor checked.
    discarding: bool,
}

#[derive(Debug)]
struct Frame {
    opcode: Opcode,
    is_final: bool,
    key: [u8; 4],
    remaining: u64,
}

impl Assembly {
    /// An assembly for after our close frame, see [`discard`](Self::discard).
    pub(super) fn discarding() -> Box<Self> {
        Box::new(Self { discarding: true, ..Self::default() })
    }

    /// From now on messages are thrown away as they come: our close frame is queued.
    pub(super) fn discard(&mut self) {
        self.discarding = true;
        self.payload = Vec::new();
    }

    /// Whether nothing is in progress, so that the assembly can be dropped.
    pub(super) fn is_idle(&self) -> bool {
        self.head_len == 0 && self.frame.is_none() && self.message.is_none()
    }

    /// Takes bytes off `wire` until something is complete.
    pub(super) fn receive(
        &mut self,
        limits: &Limits,
        rules: Rules,
        wire: &mut &mut [u8],
    ) -> Result<Step, Reason> {
        loop {
            if self.frame.is_none() {
                match self.header(rules, wire)? {
                    Some(header) => self.begin(limits, rules, &header)?,
                    None => return Ok(Step::More),
                }
            }
            let Some(frame) = &mut self.frame else { return Ok(Step::More) };
            let take = usize::try_from(frame.remaining).unwrap_or(usize::MAX).min(wire.len());
            let (chunk, rest) = std::mem::take(wire).split_at_mut(take);
            *wire = rest;
            if rules.masked {
                frame.key = mask::apply(frame.key, chunk);
            }
            frame.remaining -= take as u64;
            let (opcode, is_final, remaining) = (frame.opcode, frame.is_final, frame.remaining);
            if opcode.is_control() {
                self.control.extend_from_slice(chunk);
            } else if !self.discarding {
                self.take_in(chunk, remaining)?;
            }
            if remaining > 0 {
                return Ok(Step::More);
            }
            self.frame = None;
            if opcode.is_control() {
                return Ok(Step::Control(opcode, std::mem::take(&mut self.control)));
            }
            if is_final {
                return self.complete();
            }
            if take == 0 {
                return Ok(Step::Empty);
            }
        }
    }

    /// Bytes of memory for the message in progress.
    pub(super) fn capacity(&self) -> usize {
        self.payload.capacity()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.payload.len()
    }

    fn payload_len(&self) -> usize {
        self.payload.len().saturating_sub(self.headroom)
    }

    /// A header, from `wire` alone or from kept bytes and `wire`. An incomplete one is kept.
    fn header(&mut self, rules: Rules, wire: &mut &mut [u8]) -> Result<Option<Header>, Reason> {
        if self.head_len == 0 && wire.is_empty() {
            return Ok(None);
        }
        let before = self.head_len;
        let mut len = before;
        for (slot, byte) in self.head.iter_mut().skip(before).zip(wire.iter()) {
            *slot = *byte;
            len += 1;
        }
        let header = parse(self.head.get(..len).unwrap_or_default(), rules)?;
        // Of what was copied only the header's own bytes are used up.
        let used = header.map_or(len, |header| header.size) - before;
        if let Some((_, rest)) = std::mem::take(wire).split_at_mut_checked(used) {
            *wire = rest;
        }
        self.head_len = if header.is_some() { 0 } else { len };
        Ok(header)
    }

    /// Checks a header against the message in progress and the limits, before a byte of payload is taken.
    fn begin(&mut self, limits: &Limits, rules: Rules, header: &Header) -> Result<(), Reason> {
        match header.opcode {
            Opcode::Text | Opcode::Binary => {
                if self.message.is_some() {
                    return Err(Reason::ExpectedContinuation);
                }
                self.message =
                    Some(if header.opcode == Opcode::Text { Kind::Text } else { Kind::Binary });
                self.compressed = header.is_compressed;
                self.headroom = headroom(rules, header);
                self.fragments = 0;
                self.utf8 = Utf8::default();
            }
            Opcode::Continuation if self.message.is_none() => {
                return Err(Reason::UnexpectedContinuation);
            }
            Opcode::Continuation | Opcode::Close | Opcode::Ping | Opcode::Pong => {}
        }
        if !header.opcode.is_control() && !self.discarding {
            self.fragments += 1;
            if self.fragments > limits.fragments_max {
                return Err(Reason::TooManyFragments);
            }
            check_size(limits, self.compressed, self.payload_len(), header.length)?;
        }
        let Header { opcode, is_final, key, length, is_compressed: _, size: _ } = *header;
        self.frame = Some(Frame { opcode, is_final, key, remaining: length });
        Ok(())
    }

    /// Adds unmasked payload to the message; `remaining` bytes of the frame are still to come.
    fn take_in(&mut self, chunk: &[u8], remaining: u64) -> Result<(), Reason> {
        if self.message == Some(Kind::Text) && !self.compressed {
            // §8.1: fail as soon as the text cannot become valid any more.
            self.utf8.push(chunk).map_err(|_| Reason::BadUtf8)?;
        }
        let headroom = if self.payload.is_empty() { self.headroom } else { 0 };
        let len = self.payload.len() + headroom + chunk.len();
        if len > self.payload.capacity() {
            // An announced length is only a claim: memory follows the bytes that came, doubling while small, then a
            // fixed step ahead, and never beyond a final frame's end.
            let is_final = self.frame.as_ref().is_some_and(|frame| frame.is_final);
            let ahead = len.clamp(256, AHEAD_BYTES_MAX);
            let ahead = if is_final {
                ahead.min(usize::try_from(remaining).unwrap_or(ahead))
            } else {
                ahead
            };
            self.payload.reserve_exact(headroom + chunk.len() + ahead);
        }
        self.payload.resize(self.payload.len() + headroom, 0);
        self.payload.extend_from_slice(chunk);
        Ok(())
    }

    fn complete(&mut self) -> Result<Step, Reason> {
        let Some(kind) = self.message.take() else { return Ok(Step::More) };
        if self.compressed {
            return Ok(Step::Compressed(kind, std::mem::take(&mut self.payload)));
        }
        if kind == Kind::Text && !self.discarding && !self.utf8.is_complete() {
            return Err(Reason::BadUtf8);
        }
        let headroom = self.headroom.min(self.payload.len());
        Ok(Step::Message(kind, std::mem::take(&mut self.payload), headroom))
    }
}

/// Room for the header of the frame in which we would send a message on that came in one large frame. Small ones are
/// rather copied; and larger ones all have headers of the same size.
fn headroom(rules: Rules, header: &Header) -> Headroom {
    let large = header.is_final && !header.is_compressed && header.length > u64::from(u16::MAX);
    // Whoever gets masked frames sends unmasked ones, and the other way round.
    if large { LARGE_HEADER + if rules.masked { 0 } else { 4 } } else { 0 }
}

/// Bytes of an unmasked header with a 64-bit length (RFC 6455 §5.2).
const LARGE_HEADER: usize = 10;

/// RFC 6455 §10.4: a message's size is known to be too big before its bytes are taken.
/// One that is compressed may be a little larger than it will be: what cannot be compressed grows by being tried.
pub(super) fn check_size(
    limits: &Limits,
    compressed: bool,
    so_far: usize,
    length: u64,
) -> Result<(), Reason> {
    let max = limits.message_bytes_max;
    let max = if compressed { max.saturating_add(max / 8).saturating_add(64) } else { max };
    let fits = usize::try_from(length).is_ok_and(|length| length <= max.saturating_sub(so_far));
    if fits { Ok(()) } else { Err(Reason::MessageTooBig) }
}

/// RFC 6455 §5.5.
const CONTROL_BYTES_MAX: u64 = 125;

/// Memory reserved ahead of bytes received.
const AHEAD_BYTES_MAX: usize = 64 * 1024;
