//! Encoding of frames, once and at their exact size.

use tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Control, Data, OpCode},
};

use super::mask;

/// What a frame is (RFC 6455 §5.2). Reserved opcodes do not get this far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// A further frame of a fragmented message.
    Continuation,
    /// A text message, or its first frame.
    Text,
    /// A binary message, or its first frame.
    Binary,
    /// The close handshake.
    Close,
    /// A keep-alive question.
    Ping,
    /// A keep-alive answer.
    Pong,
}

impl Opcode {
    /// Whether this is a control frame: at most 125 bytes, never fragmented (RFC 6455 §5.5).
    #[must_use]
    pub fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }

    pub(super) fn to_wire(self) -> OpCode {
        match self {
            Self::Continuation => OpCode::Data(Data::Continue),
            Self::Text => OpCode::Data(Data::Text),
            Self::Binary => OpCode::Data(Data::Binary),
            Self::Close => OpCode::Control(Control::Close),
            Self::Ping => OpCode::Control(Control::Ping),
            Self::Pong => OpCode::Control(Control::Pong),
        }
    }

    pub(super) fn from_wire(opcode: OpCode) -> Option<Self> {
        Some(match opcode {
            OpCode::Data(Data::Continue) => Self::Continuation,
            OpCode::Data(Data::Text) => Self::Text,
            OpCode::Data(Data::Binary) => Self::Binary,
            OpCode::Control(Control::Close) => Self::Close,
            OpCode::Control(Control::Ping) => Self::Ping,
            OpCode::Control(Control::Pong) => Self::Pong,
            OpCode::Data(Data::Reserved(_)) | OpCode::Control(Control::Reserved(_)) => return None,
        })
    }
}

/// Appends one final frame to `out`. Servers pass no mask (RFC 6455 §5.1), so their frames are the same for every
/// receiver and can be shared; clients pass a fresh unpredictable one for each frame (§5.3).
pub fn encode_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8], mask: Option<[u8; 4]>) {
    encode_fragment(out, opcode, true, payload, mask);
}

/// Appends one frame, final or not.
pub fn encode_fragment(
    out: &mut Vec<u8>,
    opcode: Opcode,
    is_final: bool,
    payload: &[u8],
    mask: Option<[u8; 4]>,
) {
    let header = FrameHeader { is_final, opcode: opcode.to_wire(), mask, ..FrameHeader::default() };
    encode(out, header, payload);
}

/// Appends a frame with this header, masked by its key.
#[inline]
pub(super) fn encode(out: &mut Vec<u8>, header: FrameHeader, payload: &[u8]) {
    let mask = header.mask;
    out.reserve(frame_len(payload.len(), mask.is_some()));
    let formatted = header.format(payload.len() as u64, out);
    debug_assert!(formatted.is_ok(), "writing into a Vec cannot fail");
    let start = out.len();
    out.extend_from_slice(payload);
    if let (Some(key), Some(body)) = (mask, out.get_mut(start..)) {
        let _ = mask::apply(key, body);
    }
}

/// Makes `bytes` one final frame, its payload being what stands behind the headroom. False, and nothing changed, if the
/// header does not take up the headroom exactly.
pub(super) fn encode_in_place(
    bytes: &mut [u8],
    headroom: usize,
    opcode: Opcode,
    mask: Option<[u8; 4]>,
) -> bool {
    let Some((head, payload)) = bytes.split_at_mut_checked(headroom) else { return false };
    if frame_len(payload.len(), mask.is_some()) != headroom + payload.len() {
        return false;
    }
    let header = FrameHeader { opcode: opcode.to_wire(), mask, ..FrameHeader::default() };
    let formatted = header.format(payload.len() as u64, &mut &mut *head);
    debug_assert!(formatted.is_ok(), "there is room for just this header");
    if let Some(key) = mask {
        let _ = mask::apply(key, payload);
    }
    true
}

/// Appends a server's text message, which must be UTF-8, in one frame.
#[inline]
pub fn encode_text(out: &mut Vec<u8>, text: &[u8]) {
    encode_frame(out, Opcode::Text, text, None);
}

/// The same, of a message in parts.
pub fn encode_text_parts(out: &mut Vec<u8>, parts: &[&[u8]]) {
    let len = parts.iter().map(|part| part.len()).sum();
    out.reserve(frame_len(len, false));
    let header = FrameHeader { opcode: Opcode::Text.to_wire(), ..FrameHeader::default() };
    let formatted = header.format(len as u64, out);
    debug_assert!(formatted.is_ok(), "writing into a Vec cannot fail");
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

/// Bytes of a frame with a payload of `payload_len` bytes.
#[must_use]
pub fn frame_len(payload_len: usize, masked: bool) -> usize {
    // RFC 6455 §5.2: the shortest form of the length is the only one allowed.
    let extended = match payload_len {
        0..=125 => 0,
        126..=0xFFFF => 2,
        _ => 8,
    };
    2 + extended + if masked { 4 } else { 0 } + payload_len
}

/// Bytes of the longest header: two, a 64-bit length and a mask (RFC 6455 §5.2).
pub const FRAME_HEADER_MAX: usize = 14;

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn buffers_have_the_exact_size() {
        for len in [0, 1, 125, 126, 65_535, 65_536, 100_000] {
            let payload = vec![7; len];
            let mut bytes = Vec::new();
            encode_frame(&mut bytes, Opcode::Binary, &payload, None);
            assert_eq!(bytes.len(), frame_len(len, false));
            assert_eq!(bytes.capacity(), bytes.len().max(8), "no second allocation");
            let mut cursor = Cursor::new(&bytes);
            let (header, length) = FrameHeader::parse(&mut cursor).unwrap().unwrap();
            assert_eq!(length, len as u64);
            assert_eq!(header.len(length), bytes.len() - len, "the shortest header");
            assert_eq!(&bytes[cursor.position() as usize..], &payload);
        }
    }

    #[test]
    fn a_message_in_parts_is_the_same_frame() {
        for len in [0, 5, 125, 126, 65_536] {
            let payload = vec![7; len];
            let (mut whole, mut parts) = (Vec::new(), Vec::new());
            encode_text(&mut whole, &payload);
            let (first, second) = payload.split_at(len / 3);
            encode_text_parts(&mut parts, &[first, b"", second]);
            assert_eq!(parts, whole);
        }
    }

    #[test]
    fn client_frames_are_masked() {
        let mut out = Vec::new();
        encode_frame(&mut out, Opcode::Text, b"Hello", Some([0x37, 0xfa, 0x21, 0x3d]));
        // The example of RFC 6455 §5.7.
        assert_eq!(out, [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
    }
}
