//! A segment once more, compressed, for all its receivers that have the extension.

use crate::ws::{
    Segment,
    deflate::{
        Deflater, WINDOW_BITS_MAX, WINDOW_BITS_MIN, messages::encode_compressed, window_bits_for,
    },
    encode::Opcode,
    queue,
};

/// The same messages as a plain [`Segment`], those compressed that gain by it.
#[derive(Clone, Debug)]
pub struct Deflated {
    /// The frames.
    pub segment: Segment,
    /// Bits of the smallest window that is large enough for all of them.
    pub window_bits: u8,
}

impl Deflated {
    /// Compresses `plain`, which holds whole text frames without a mask. `None` if no message gains.
    #[must_use]
    pub fn of(deflater: &mut Deflater, plain: &Segment) -> Option<Box<Self>> {
        let mut bytes = Vec::new();
        let (mut rest, mut last, mut window_bits) = (plain.bytes(), 0, 0);
        while let Some((header, len)) = queue::frame_parts(rest) {
            let (frame, after) = rest.split_at_checked(header + len)?;
            rest = after;
            last = bytes.len();
            let payload = frame.get(header..)?;
            match deflater.deflate(payload, WINDOW_BITS_MAX) {
                Some(deflated) => {
                    encode_compressed(&mut bytes, Opcode::Text, deflated, None);
                    window_bits = window_bits.max(window_bits_for(payload.len()));
                }
                None => bytes.extend_from_slice(frame),
            }
        }
        let last = u32::try_from(last).unwrap_or(u32::MAX);
        let segment = Segment::new(bytes, plain.messages(), plain.tag(), last);
        (window_bits >= WINDOW_BITS_MIN).then(|| Box::new(Self { segment, window_bits }))
    }
}
