//! A client's own framing (RFC 6455 §5), written apart from the core's: what the two disagree on is a finding.

use crate::random::Random;

/// A masked client frame in its shortest form.
pub(crate) fn write(out: &mut Vec<u8>, opcode: u8, payload: &[u8], mask: [u8; 4]) {
    write_part(out, 0x80 | opcode, payload, mask);
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
        write_part(out, fin | opcode, piece, (random.next() as u32).to_be_bytes());
        if fin == 0 && random.chance(200) {
            // Control frames may stand between fragments.
            write(out, 0xa, b"unasked", [0; 4]);
        }
    }
}

fn write_part(out: &mut Vec<u8>, first: u8, payload: &[u8], mask: [u8; 4]) {
    out.push(first);
    match payload.len() {
        len @ 0..=125 => out.push(0x80 | len as u8),
        len @ 126..=65_535 => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
}

/// Opcode, payload, and the bytes of all of it.
pub(crate) type Frame<'a> = (u8, &'a [u8], usize);

/// What a server may send: whole frames, unmasked, no reserved bits, lengths in their shortest form.
pub(crate) fn read(bytes: &[u8]) -> Result<Option<Frame<'_>>, &'static str> {
    let &[first, second, ..] = bytes else { return Ok(None) };
    if first & 0x80 == 0 {
        return Err("a fragment");
    }
    if first & 0x70 != 0 {
        return Err("reserved bits");
    }
    if second & 0x80 != 0 {
        return Err("a masked frame");
    }
    let (head, len): (usize, usize) = match second {
        126 => match bytes.get(2..4) {
            Some(len) => (4, usize::from(u16::from_be_bytes([len[0], len[1]]))),
            None => return Ok(None),
        },
        127 => match bytes.get(2..10) {
            Some(len) => (10, u64::from_be_bytes(len.try_into().unwrap_or_default()) as usize),
            None => return Ok(None),
        },
        short => (2, usize::from(short)),
    };
    if (head == 4 && len < 126) || (head == 10 && len < 65_536) {
        return Err("a length not in its shortest form");
    }
    let opcode = first & 0x0f;
    if opcode >= 8 && len > 125 {
        return Err("a long control frame");
    }
    if !matches!(opcode, 1 | 8 | 9 | 10) {
        return Err("an unexpected opcode");
    }
    match bytes.get(head..head.saturating_add(len)) {
        Some(payload) => Ok(Some((opcode, payload, head + len))),
        None => Ok(None),
    }
}
