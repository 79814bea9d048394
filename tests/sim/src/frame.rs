//! A simulated client's frames (RFC 6455 §5).

use mahavishnu_framing::{Decoded, OP_TEXT, decode, encode};

use crate::random::Random;

/// A masked client frame in its shortest form.
pub(crate) fn write(out: &mut Vec<u8>, opcode: u8, payload: &[u8], mask: [u8; 4]) {
    encode(out, 0x80 | opcode, Some(mask), payload);
}

/// One text message in several fragments.
pub(crate) fn write_fragments(
    out: &mut Vec<u8>,
    payload: &[u8],
    pieces: usize,
    random: &mut Random,
) {
    let size = payload.len().div_ceil(pieces.max(1)).max(1);
    let count = payload.len().div_ceil(size).max(1);
    for (piece, at) in payload.chunks(size).zip(0..) {
        let opcode = if at == 0 { 1 } else { 0 };
        let fin = if at + 1 == count { 0x80 } else { 0 };
        encode(out, fin | opcode, Some((random.next() as u32).to_be_bytes()), piece);
        if fin == 0 && random.chance(200) {
            // Control frames may stand between fragments.
            write(out, 0xa, b"unasked", [0; 4]);
        }
    }
}

/// Opcode, payload, and the bytes of all of it.
pub(crate) type Frame<'a> = (u8, &'a [u8], usize);

/// The next frame, which must be one of those that the server sends: whole messages of text, and control frames.
pub(crate) fn read(bytes: &[u8]) -> Result<Option<Frame<'_>>, &'static str> {
    match decode(bytes, FRAME_BYTES_MAX) {
        Err(_) => Err("reserved bits or an absurd length"),
        Ok(Decoded::Need(_)) => Ok(None),
        Ok(Decoded::Frame(frame)) => {
            frame.check_of_server()?;
            if !frame.fin || frame.opcode < 8 && frame.opcode != OP_TEXT {
                return Err("an unexpected opcode");
            }
            Ok(Some((frame.opcode, frame.payload, frame.wire_bytes)))
        }
    }
}

/// Longer than any message of a world.
const FRAME_BYTES_MAX: usize = 1 << 30;
