//! Messages of the application, on their way into the outbox.

use super::{
    connection::Connection,
    encode::{self, Opcode},
    event::{Headroom, Payload, Text},
};

impl Connection {
    /// Queues a text message for this connection alone. Ignored unless open.
    pub fn send_text(&mut self, text: &str) {
        self.send(Opcode::Text, text.as_bytes());
    }

    /// The same of bytes that are UTF-8, which nobody checks: what [`Envelope::write`](crate::protocol::Envelope::write) makes.
    pub fn send_encoded(&mut self, text: &[u8]) {
        self.send(Opcode::Text, text);
    }

    /// Queues a binary message for this connection alone. Ignored unless open.
    pub fn send_binary(&mut self, payload: &[u8]) {
        self.send(Opcode::Binary, payload);
    }

    /// Queues a text message that came from a peer. A large one, which has memory of its own, is not copied. Ignored unless
    /// open.
    pub fn forward_text(&mut self, text: Text<'_>) {
        match text.into_frame_room() {
            Ok((bytes, headroom)) => self.forward(Opcode::Text, bytes, headroom),
            Err(text) => self.send_text(&text),
        }
    }

    /// The same with a binary message.
    pub fn forward_binary(&mut self, payload: Payload<'_>) {
        match payload.into_frame_room() {
            Ok((bytes, headroom)) => self.forward(Opcode::Binary, bytes, headroom),
            Err(payload) => self.send_binary(&payload),
        }
    }

    pub(super) fn send(&mut self, opcode: Opcode, payload: &[u8]) {
        if self.is_open() {
            let mask = self.mask();
            self.outbox.append(|out| encode::encode_frame(out, opcode, payload, mask));
        }
    }

    fn forward(&mut self, opcode: Opcode, mut bytes: Vec<u8>, headroom: Headroom) {
        if !self.is_open() {
            return;
        }
        let mask = self.mask();
        if encode::encode_in_place(&mut bytes, headroom, opcode, mask) {
            self.outbox.append_frame(bytes);
        } else {
            let payload = bytes.get(headroom..).unwrap_or_default();
            self.outbox.append(|out| encode::encode_frame(out, opcode, payload, mask));
        }
    }
}
