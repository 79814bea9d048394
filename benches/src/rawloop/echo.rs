//! Echo with as few copies as there can be: a client's frames are turned into a server's where they lie.
//!
//! A server's header is four bytes shorter than a client's, so every reply fits where its message was. The first
//! payload of a read stays in place, the others close up to it, and all replies go out in one `send`. A message that a
//! read cuts is gathered behind its reply's header, unmasked on the way, from a read buffer that stays in the cache.

use std::{
    io::{self, Read},
    net::TcpStream,
    ops::Range,
};

use super::{PAYLOAD_BYTES_MAX, write_all};
use crate::{
    Error, Result,
    frame::{self, Decoded, OP_CLOSE, OP_PING, OP_PONG},
    socket::ReadBuffer,
};

/// What an echoing connection keeps between two reads.
#[derive(Debug, Default)]
pub(super) struct Echo {
    /// The reply to a message whose end has not come, or the beginning of a message whose header has not come.
    kept: Vec<u8>,
    /// What is missing of the message.
    cut: Option<Cut>,
}

#[derive(Debug)]
struct Cut {
    missing: usize,
    /// The key, turned to where the next byte is.
    key: [u8; 4],
    /// A pong is read and not answered.
    answered: bool,
}

impl Echo {
    /// Reads once and answers. `buffer` is shared by all connections; nothing stays in it.
    pub(super) fn read(&mut self, mut stream: &TcpStream, buffer: &mut ReadBuffer) -> Result<()> {
        let bytes = match stream.read(buffer.space()) {
            Ok(0) => return Err("ended".into()),
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if self.cut.is_some() || self.kept.is_empty() {
            return self.take(stream, buffer.filled(bytes));
        }
        // A header is short: what there was of it fits before what was read.
        let kept = std::mem::take(&mut self.kept);
        let joined = buffer.filled_after(&kept, bytes).ok_or("a header cannot be so long")?;
        self.take(stream, joined)
    }

    /// Takes the next bytes of the stream, which it turns into replies.
    pub(super) fn take(&mut self, stream: &TcpStream, mut wire: &mut [u8]) -> Result<()> {
        if let Some(cut) = &mut self.cut {
            let (payload, rest) = wire.split_at_mut(cut.missing.min(wire.len()));
            cut.gather(&mut self.kept, payload);
            wire = rest;
            if cut.missing > 0 {
                return Ok(());
            }
            if cut.answered {
                write_all(stream, &self.kept)?;
            }
            self.kept.clear();
            self.cut = None;
        }
        let Reframed { replies, consumed } = reframe(wire)?;
        write_all(stream, wire.get(replies).unwrap_or_default())?;
        self.keep(wire.get(consumed..).unwrap_or_default())
    }

    /// Keeps the beginning of a message.
    fn keep(&mut self, wire: &[u8]) -> Result<()> {
        let Ok(header) = frame::decode_header(wire, PAYLOAD_BYTES_MAX)? else {
            self.kept.extend_from_slice(wire);
            return Ok(());
        };
        let opcode = reply_to(header.opcode)?;
        self.kept.reserve(HEADER_BYTES_MAX + header.payload_bytes);
        frame::server_header(&mut self.kept, opcode.unwrap_or_default(), header.payload_bytes);
        let mut cut = Cut {
            missing: header.payload_bytes,
            key: header.mask.unwrap_or_default(),
            answered: opcode.is_some(),
        };
        cut.gather(&mut self.kept, wire.get(header.bytes..).unwrap_or_default());
        self.cut = Some(cut);
        Ok(())
    }
}

impl Cut {
    fn gather(&mut self, reply: &mut Vec<u8>, payload: &[u8]) {
        frame::append_masked(reply, self.key, payload);
        self.key.rotate_left(payload.len() % 4);
        self.missing -= payload.len();
    }
}

/// The opcode of the reply to a frame, if there is one.
fn reply_to(opcode: u8) -> Result<Option<u8>> {
    match opcode {
        OP_CLOSE => Err(Error::from("closed")),
        OP_PONG => Ok(None),
        OP_PING => Ok(Some(OP_PONG)),
        other => Ok(Some(other)),
    }
}

/// What became of a buffer.
#[derive(Debug, PartialEq, Eq)]
struct Reframed {
    /// Where the replies are.
    replies: Range<usize>,
    /// Up to here the buffer was whole frames.
    consumed: usize,
}

/// Turns the client's frames at the start of `buffer` into the replies to them.
fn reframe(buffer: &mut [u8]) -> Result<Reframed> {
    let mut header = Vec::with_capacity(HEADER_BYTES_MAX);
    let (mut replies, mut consumed) = (0..0, 0);
    loop {
        let decoded = frame::decode(buffer.get(consumed..).unwrap_or_default(), PAYLOAD_BYTES_MAX)?;
        let received = match decoded {
            Decoded::Need(_) => return Ok(Reframed { replies, consumed }),
            Decoded::Frame(frame) => frame,
        };
        let (mask, payload_bytes) = (received.mask.unwrap_or_default(), received.payload.len());
        consumed += received.wire_bytes;
        let Some(opcode) = reply_to(received.opcode)? else { continue };
        header.clear();
        frame::server_header(&mut header, opcode, payload_bytes);
        let payload_at = consumed - payload_bytes;
        let at = if replies.is_empty() { payload_at - header.len() } else { replies.end };
        let body_at = at + header.len();
        if body_at != payload_at {
            buffer.copy_within(payload_at..consumed, body_at);
        }
        if let Some(place) = buffer.get_mut(at..body_at) {
            place.copy_from_slice(&header);
        }
        if let Some(body) = buffer.get_mut(body_at..body_at + payload_bytes) {
            frame::apply_mask(mask, body);
        }
        let start = if replies.is_empty() { at } else { replies.start };
        replies = start..body_at + payload_bytes;
    }
}

/// Of a server's header.
const HEADER_BYTES_MAX: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{OP_BINARY, OP_TEXT, encode_client, encode_server};

    const KEY: [u8; 4] = [1, 2, 3, 4];

    #[test]
    fn the_replies_to_one_read_lie_side_by_side() {
        let (mut wire, mut expected) = (Vec::new(), Vec::new());
        let long = vec![b'x'; 70_000];
        for (opcode, payload) in
            [(OP_TEXT, &b"one"[..]), (OP_BINARY, &[7; 200]), (OP_BINARY, &long), (OP_TEXT, b"")]
        {
            encode_client(&mut wire, opcode, KEY, payload);
            encode_server(&mut expected, opcode, payload);
        }
        let whole = wire.len();
        wire.extend_from_slice(&[0x82]);

        let reframed = reframe(&mut wire).unwrap();

        assert_eq!(reframed.consumed, whole);
        assert_eq!(wire[reframed.replies], expected);
    }

    #[test]
    fn the_payload_of_the_first_frame_does_not_move() {
        let mut wire = Vec::new();
        encode_client(&mut wire, OP_BINARY, KEY, &[9; 100_000]);

        let reframed = reframe(&mut wire).unwrap();

        assert_eq!(reframed.replies, 4..wire.len());
    }

    #[test]
    fn pings_are_answered_and_pongs_are_not() {
        let (mut wire, mut expected) = (Vec::new(), Vec::new());
        encode_client(&mut wire, OP_PONG, KEY, b"?");
        encode_client(&mut wire, OP_PING, KEY, b"!");
        encode_server(&mut expected, OP_PONG, b"!");

        let reframed = reframe(&mut wire).unwrap();

        assert_eq!(wire[reframed.replies], expected);
    }

    #[test]
    fn a_close_ends_the_connection() {
        let mut wire = Vec::new();
        encode_client(&mut wire, OP_CLOSE, KEY, &[]);

        assert!(reframe(&mut wire).is_err());
    }
}
