//! Echo without a copy: a client's frames are turned into a server's where they lie.
//!
//! A server's header is four bytes shorter than a client's, so every reply fits where its message was. The first
//! payload of a read stays in place, the others close up to it, and all replies go out in one `send`. A message that is
//! longer than the shared read buffer is read straight into its connection's own.

use std::{
    io::{self, Read},
    net::TcpStream,
    ops::Range,
};

use rustix::buffer::spare_capacity;

use super::{PAYLOAD_BYTES_MAX, write_all};
use crate::{
    Result,
    frame::{self, Decoded, OP_CLOSE, OP_PING, OP_PONG},
};

/// What an echoing connection keeps between two reads.
#[derive(Debug, Default)]
pub(super) struct Echo {
    /// The beginning of a frame whose end has not come.
    kept: Vec<u8>,
    /// Bytes that `kept` must reach before looking at it again makes sense.
    need: usize,
}

impl Echo {
    /// Takes bytes that came with the upgrade.
    pub(super) fn feed(&mut self, stream: &TcpStream, chunk: &[u8]) -> Result<()> {
        self.kept.extend_from_slice(chunk);
        self.answer_kept(stream)
    }

    /// Reads once and answers. `scratch` is shared by all connections; nothing stays in it.
    pub(super) fn read(&mut self, mut stream: &TcpStream, scratch: &mut [u8]) -> Result<()> {
        if self.need.max(self.kept.capacity()) > scratch.len() {
            return self.read_long(stream);
        }
        let kept_bytes = self.kept.len();
        let (front, free) = scratch.split_at_mut(kept_bytes);
        front.copy_from_slice(&self.kept);
        let Some(bytes) = some_bytes(stream.read(free))? else { return Ok(()) };
        let filled = scratch.get_mut(..kept_bytes + bytes).unwrap_or_default();
        let Reframed { replies, consumed, need } = reframe(filled)?;
        write_all(stream, filled.get(replies).unwrap_or_default())?;
        self.kept.clear();
        self.kept.extend_from_slice(filled.get(consumed..).unwrap_or_default());
        self.need = need;
        Ok(())
    }

    /// Reads into the connection's own buffer, which from then on it keeps.
    fn read_long(&mut self, stream: &TcpStream) -> Result<()> {
        let missing = self.need.saturating_sub(self.kept.len());
        self.kept.reserve(missing.max(1));
        let read = rustix::io::read(stream, spare_capacity(&mut self.kept));
        if some_bytes(read.map_err(io::Error::from))?.is_none() || self.kept.len() < self.need {
            return Ok(());
        }
        self.answer_kept(stream)
    }

    fn answer_kept(&mut self, stream: &TcpStream) -> Result<()> {
        let Reframed { replies, consumed, need } = reframe(&mut self.kept)?;
        write_all(stream, self.kept.get(replies).unwrap_or_default())?;
        self.kept.drain(..consumed);
        self.need = need;
        Ok(())
    }
}

/// What became of a buffer.
#[derive(Debug, PartialEq, Eq)]
struct Reframed {
    /// Where the replies are.
    replies: Range<usize>,
    /// Up to here the buffer was whole frames.
    consumed: usize,
    /// Bytes that what follows must reach.
    need: usize,
}

/// Turns the client's frames at the start of `buffer` into the replies to them.
fn reframe(buffer: &mut [u8]) -> Result<Reframed> {
    let mut header = Vec::with_capacity(SERVER_HEADER_BYTES_MAX);
    let (mut replies, mut consumed) = (0..0, 0);
    loop {
        let decoded = frame::decode(buffer.get(consumed..).unwrap_or_default(), PAYLOAD_BYTES_MAX)?;
        let received = match decoded {
            Decoded::Need(need) => return Ok(Reframed { replies, consumed, need }),
            Decoded::Frame(frame) => frame,
        };
        let (mask, payload_bytes) = (received.mask.unwrap_or_default(), received.payload.len());
        consumed += received.wire_bytes;
        let opcode = match received.opcode {
            OP_CLOSE => return Err("closed".into()),
            OP_PONG => continue,
            OP_PING => OP_PONG,
            other => other,
        };
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

/// How many bytes a read brought; none if there was nothing to read.
fn some_bytes(read: io::Result<usize>) -> Result<Option<usize>> {
    match read {
        Ok(0) => Err("ended".into()),
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error.into()),
    }
}

const SERVER_HEADER_BYTES_MAX: usize = 10;

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

        assert_eq!((reframed.consumed, reframed.need), (whole, 2));
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
