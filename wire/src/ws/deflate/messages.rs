//! Compressed messages of a connection, in and out.

use tungstenite::protocol::frame::FrameHeader;

use super::{Deflater, Inflater};
use crate::{
    limits::Limits,
    reason::Reason,
    time::Now,
    ws::{
        Compressed, Connection, Event, Payload, Text,
        encode::{self, Opcode},
        frame::Kind,
    },
};

impl Connection {
    /// The message behind [`Event::Compressed`]: a text or binary message, which lies in `inflater` until that is used
    /// again. `None` if it is unsound or too large: then the connection has failed, and [`receive`](Self::receive) goes
    /// on to report so.
    pub fn inflate<'i>(
        &mut self,
        now: Now,
        limits: &Limits,
        inflater: &'i mut Inflater,
        message: Compressed<'_>,
    ) -> Option<Event<'i>> {
        let plain = inflater.inflate(limits, &message.payload);
        let event = plain.and_then(|plain| match message.kind {
            Kind::Binary => Ok(Event::Binary(Payload::from(plain))),
            // RFC 6455 §8.1 holds for what the text inflates to.
            Kind::Text => match std::str::from_utf8(plain) {
                Ok(text) => Ok(Event::Text(Text::from(text))),
                Err(_) => Err(Reason::BadUtf8),
            },
        });
        event.map_err(|reason| self.fail(now, reason)).ok()
    }

    /// Queues a text message for this connection alone, compressed if permessage-deflate was agreed on and the message
    /// gains by it. `payload` must be UTF-8. Ignored unless open.
    pub fn send_text_deflated(&mut self, deflater: &mut Deflater, payload: &[u8]) {
        self.send_deflated(deflater, Opcode::Text, payload);
    }

    /// Queues a binary message for this connection alone, compressed if permessage-deflate was agreed on and the message
    /// gains by it. Ignored unless open.
    pub fn send_binary_deflated(&mut self, deflater: &mut Deflater, payload: &[u8]) {
        self.send_deflated(deflater, Opcode::Binary, payload);
    }

    fn send_deflated(&mut self, deflater: &mut Deflater, opcode: Opcode, payload: &[u8]) {
        if !self.is_open() {
            return;
        }
        match deflater.deflate(payload, self.window_bits) {
            Some(deflated) => {
                let mask = self.mask();
                self.outbox.append(|out| encode_compressed(out, opcode, deflated, mask));
            }
            None => self.send(opcode, payload),
        }
    }
}

/// Appends one final frame with a compressed message: RSV1 says so (RFC 7692 §6).
pub(super) fn encode_compressed(
    out: &mut Vec<u8>,
    opcode: Opcode,
    payload: &[u8],
    mask: Option<[u8; 4]>,
) {
    let opcode = opcode.to_wire();
    encode::encode(
        out,
        FrameHeader { opcode, mask, rsv1: true, ..FrameHeader::default() },
        payload,
    );
}
