//! RFC 6455 frames: an incremental reader that copies only what a read cut in two, and encoders for both sides.
//!
//! It shares no code with the product, so what the two disagree on is a finding. It allocates nothing per frame, because
//! the load generator must not be what limits a measurement.

#![forbid(unsafe_code)]

use std::fmt;

/// Splits a byte stream into frames.
///
/// Whole frames are handed out as slices of the caller's read buffer. Only the piece of a frame that a read ends with
/// is kept, so thousands of readers can share one large read buffer.
#[derive(Debug)]
pub struct FrameReader {
    partial: Vec<u8>,
    /// Bytes `partial` must reach before looking at it again makes sense.
    need: usize,
    payload_bytes_max: usize,
}

impl FrameReader {
    /// A reader at a frame boundary. Frames over `payload_bytes_max` are an error.
    #[must_use]
    pub fn new(payload_bytes_max: usize) -> Self {
        Self { partial: Vec::new(), need: 0, payload_bytes_max }
    }

    /// Takes the next bytes of the stream and calls `on_frame` for each frame that they complete, in order.
    ///
    /// # Errors
    /// What `on_frame` returns, or a malformed header. The reader is not usable afterwards.
    pub fn feed<E: From<FrameError>>(
        &mut self,
        chunk: &[u8],
        mut on_frame: impl FnMut(Frame<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut rest = chunk;
        while !self.partial.is_empty() {
            let missing = self.need.saturating_sub(self.partial.len());
            let Some((head, tail)) = rest.split_at_checked(missing) else {
                self.partial.extend_from_slice(rest);
                return Ok(());
            };
            self.partial.extend_from_slice(head);
            rest = tail;
            match decode(&self.partial, self.payload_bytes_max)? {
                Decoded::Frame(frame) => {
                    on_frame(frame)?;
                    self.partial.clear();
                }
                Decoded::Need(bytes) => self.need = bytes,
            }
        }
        while !rest.is_empty() {
            match decode(rest, self.payload_bytes_max)? {
                Decoded::Frame(frame) => {
                    let wire_bytes = frame.wire_bytes;
                    on_frame(frame)?;
                    rest = rest.get(wire_bytes..).unwrap_or_default();
                }
                Decoded::Need(bytes) => {
                    self.partial.extend_from_slice(rest);
                    self.need = bytes;
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// One frame, its payload still masked if it came from a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Whether this is a message's last frame.
    pub fin: bool,
    /// One of the `OP_*` values, or a reserved one.
    pub opcode: u8,
    /// The masking key of a client's frame.
    pub mask: Option<[u8; 4]>,
    /// The payload as it was on the wire.
    pub payload: &'a [u8],
    /// Header and payload together.
    pub wire_bytes: usize,
}

impl Frame<'_> {
    /// What a server does wrong if it sends this frame: servers do not mask, and the shortest form of a length is the
    /// only one (RFC 6455 §5.1, §5.2, §5.5).
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn check_of_server(&self) -> Result<(), &'static str> {
        let payload_bytes = self.payload.len();
        if self.mask.is_some() {
            return Err("a masked frame");
        }
        if self.wire_bytes != header_bytes(payload_bytes) + payload_bytes {
            return Err("a length not in its shortest form");
        }
        match self.opcode {
            OP_CONTINUATION | OP_TEXT | OP_BINARY => Ok(()),
            OP_CLOSE | OP_PING | OP_PONG if !self.fin => Err("a control frame in parts"),
            OP_CLOSE | OP_PING | OP_PONG if payload_bytes > 125 => Err("a long control frame"),
            OP_CLOSE | OP_PING | OP_PONG => Ok(()),
            _ => Err("a reserved opcode"),
        }
    }
}

/// A header that cannot be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// A reserved bit is set though no extension was negotiated.
    ReservedBits,
    /// The announced payload is longer than the reader allows; its length in bytes.
    TooLong(u64),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReservedBits => f.write_str("frame with a reserved bit set"),
            Self::TooLong(bytes) => write!(f, "frame of {bytes} bytes"),
        }
    }
}

impl std::error::Error for FrameError {}

/// What a decoder found at the start of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// A whole frame.
    Frame(Frame<'a>),
    /// At least this many bytes are needed to say more. Never beyond the end of the frame.
    Need(usize),
}

/// Appends any frame: its first byte as it is, masked if there is a `key`.
pub fn encode(out: &mut Vec<u8>, first: u8, key: Option<[u8; 4]>, payload: &[u8]) {
    header(out, first, payload.len(), if key.is_some() { 0x80 } else { 0 });
    match key {
        Some(key) => {
            out.extend_from_slice(&key);
            append_masked(out, key, payload);
        }
        None => out.extend_from_slice(payload),
    }
}

/// Appends a client's frame: masked with `key`, final.
pub fn encode_client(out: &mut Vec<u8>, opcode: u8, key: [u8; 4], payload: &[u8]) {
    encode(out, 0x80 | opcode, Some(key), payload);
}

/// Appends a server's frame: unmasked, final.
pub fn encode_server(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    server_header(out, opcode, payload.len());
    out.extend_from_slice(payload);
}

/// Appends the header of a server's frame: unmasked, final.
pub fn server_header(out: &mut Vec<u8>, opcode: u8, payload_bytes: usize) {
    header(out, 0x80 | opcode, payload_bytes, 0);
}

/// Appends a server's frame that carries what a client's `frame` carried.
pub fn relay(out: &mut Vec<u8>, frame: Frame<'_>) {
    server_header(out, frame.opcode, frame.payload.len());
    match frame.mask {
        Some(key) => append_masked(out, key, frame.payload),
        None => out.extend_from_slice(frame.payload),
    }
}

/// XORs `data` with the repeated `key`: masks and unmasks alike (RFC 6455 §5.3).
pub fn apply_mask(key: [u8; 4], data: &mut [u8]) {
    let [a, b, c, d] = key;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (chunks, tail) = data.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    for (byte, key) in tail.iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

/// The payload of an unmasked frame that has `wire_bytes` with its header, if there is one.
#[must_use]
pub fn payload_bytes_for(wire_bytes: usize) -> Option<usize> {
    [2, 4, 10].into_iter().find_map(|header| {
        let payload = wire_bytes.checked_sub(header)?;
        (header_bytes(payload) == header).then_some(payload)
    })
}

/// Header length of an unmasked frame.
#[must_use]
pub fn header_bytes(payload_bytes: usize) -> usize {
    match payload_bytes {
        0..=125 => 2,
        126..=0xffff => 4,
        _ => 10,
    }
}

fn header(out: &mut Vec<u8>, first: u8, payload_bytes: usize, mask_bit: u8) {
    out.push(first);
    if let Ok(short @ 0..=125) = u8::try_from(payload_bytes) {
        out.push(mask_bit | short);
    } else if let Ok(medium) = u16::try_from(payload_bytes) {
        out.push(mask_bit | 126);
        out.extend_from_slice(&medium.to_be_bytes());
    } else {
        out.push(mask_bit | 127);
        out.extend_from_slice(&(payload_bytes as u64).to_be_bytes());
    }
}

/// Appends `payload`, masked or unmasked.
pub fn append_masked(out: &mut Vec<u8>, key: [u8; 4], payload: &[u8]) {
    let start = out.len();
    out.extend_from_slice(payload);
    if let Some(body) = out.get_mut(start..) {
        apply_mask(key, body);
    }
}

/// Looks at the frame at the start of `buffer`.
///
/// # Errors
/// A reserved bit is set, or the payload is longer than `payload_bytes_max`.
#[inline]
pub fn decode(buffer: &[u8], payload_bytes_max: usize) -> Result<Decoded<'_>, FrameError> {
    let header = match decode_header(buffer, payload_bytes_max)? {
        Ok(header) => header,
        Err(need) => return Ok(Decoded::Need(need)),
    };
    let wire_bytes = header.bytes + header.payload_bytes;
    let Some(payload) = buffer.get(header.bytes..wire_bytes) else {
        return Ok(Decoded::Need(wire_bytes));
    };
    let Header { fin, opcode, mask, .. } = header;
    Ok(Decoded::Frame(Frame { fin, opcode, mask, payload, wire_bytes }))
}

/// What a frame's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Whether this is a message's last frame.
    pub fin: bool,
    /// One of the `OP_*` values, or a reserved one.
    pub opcode: u8,
    /// The masking key of a client's frame.
    pub mask: Option<[u8; 4]>,
    /// Length of the header itself.
    pub bytes: usize,
    /// Length of the payload.
    pub payload_bytes: usize,
}

/// Looks at the header at the start of `buffer`, or says how many bytes are needed to say more.
///
/// # Errors
/// A reserved bit is set, or the payload is longer than `payload_bytes_max`.
#[inline]
pub fn decode_header(
    buffer: &[u8],
    payload_bytes_max: usize,
) -> Result<Result<Header, usize>, FrameError> {
    let Some((&[first, second], after)) = buffer.split_first_chunk::<2>() else {
        return Ok(Err(2));
    };
    if first & 0x70 != 0 {
        return Err(FrameError::ReservedBits);
    }
    let (announced, length_bytes) = match second & 0x7f {
        126 => match after.first_chunk::<2>() {
            Some(bytes) => (u64::from(u16::from_be_bytes(*bytes)), 2),
            None => return Ok(Err(4)),
        },
        127 => match after.first_chunk::<8>() {
            Some(bytes) => (u64::from_be_bytes(*bytes), 8),
            None => return Ok(Err(10)),
        },
        short => (u64::from(short), 0),
    };
    let payload_bytes = match usize::try_from(announced) {
        Ok(bytes) if bytes <= payload_bytes_max => bytes,
        _ => return Err(FrameError::TooLong(announced)),
    };
    let masked = second & 0x80 != 0;
    let bytes = 2 + length_bytes + if masked { 4 } else { 0 };
    let mask = if masked {
        let Some(key) = buffer.get(bytes - 4..bytes).and_then(|key| key.try_into().ok()) else {
            // As far as is known, up to the end of the frame.
            return Ok(Err(bytes + payload_bytes));
        };
        Some(key)
    } else {
        None
    };
    Ok(Ok(Header { fin: first & 0x80 != 0, opcode: first & 0x0f, mask, bytes, payload_bytes }))
}

/// A further piece of a fragmented message.
pub const OP_CONTINUATION: u8 = 0;
/// A UTF-8 message.
pub const OP_TEXT: u8 = 1;
/// A message of arbitrary bytes.
pub const OP_BINARY: u8 = 2;
/// The closing handshake: code and reason.
pub const OP_CLOSE: u8 = 8;
/// Asks for a pong.
pub const OP_PING: u8 = 9;
/// Answers a ping.
pub const OP_PONG: u8 = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Seen = Vec<(bool, u8, Vec<u8>)>;

    fn read(chunks: &[&[u8]], payload_bytes_max: usize) -> Result<Seen, FrameError> {
        let mut reader = FrameReader::new(payload_bytes_max);
        let mut seen = Seen::new();
        for chunk in chunks {
            reader.feed(chunk, |frame| {
                let mut payload = frame.payload.to_vec();
                if let Some(key) = frame.mask {
                    apply_mask(key, &mut payload);
                }
                seen.push((frame.fin, frame.opcode, payload));
                Ok::<(), FrameError>(())
            })?;
        }
        Ok(seen)
    }

    #[test]
    fn the_examples_of_the_rfc_are_read() {
        // RFC 6455 §5.7: "Hello" unmasked, then masked.
        let wire = b"\x81\x05Hello\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";

        let seen = read(&[wire], 100).unwrap();

        assert_eq!(
            seen,
            vec![(true, OP_TEXT, b"Hello".to_vec()), (true, OP_TEXT, b"Hello".to_vec())]
        );
    }

    #[test]
    fn a_reserved_bit_is_an_error() {
        assert_eq!(read(&[b"\xc1\x00"], 100), Err(FrameError::ReservedBits));
    }

    #[test]
    fn a_frame_over_the_limit_is_an_error_before_its_payload() {
        assert_eq!(
            read(&[b"\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff"], 100),
            Err(FrameError::TooLong(u64::MAX))
        );
        assert_eq!(read(&[b"\x82\x65"], 100), Err(FrameError::TooLong(101)));
    }

    #[test]
    fn what_a_server_may_not_send_is_noticed() {
        let check = |wire: &[u8]| match decode(wire, 1 << 20) {
            Ok(Decoded::Frame(frame)) => frame.check_of_server(),
            other => panic!("{other:?}"),
        };
        let long = [&[0x89, 126, 0, 126][..], &[0; 126]].concat();
        assert_eq!(check(b"\x81\x01x"), Ok(()));
        assert_eq!(check(b"\x81\x81\x01\x02\x03\x04x"), Err("a masked frame"));
        assert_eq!(check(b"\x81\x7e\x00\x01x"), Err("a length not in its shortest form"));
        assert_eq!(check(b"\x09\x00"), Err("a control frame in parts"));
        assert_eq!(check(&long), Err("a long control frame"));
        assert_eq!(check(b"\x83\x00"), Err("a reserved opcode"));
    }

    #[test]
    fn an_unfinished_frame_is_not_handed_out() {
        assert_eq!(read(&[b"\x82\x03ab"], 100), Ok(vec![]));
    }

    #[test]
    fn lengths_around_the_header_sizes_have_a_frame_or_none() {
        for payload in [0, 1, 125, 126, 127, 65_535, 65_536] {
            let mut wire = Vec::new();
            encode_server(&mut wire, OP_BINARY, &vec![b'x'; payload]);
            assert_eq!(wire.len(), payload + header_bytes(payload));
            assert_eq!(payload_bytes_for(wire.len()), Some(payload));
        }
        // 125 bytes of payload make 127 on the wire, 126 make 130: nothing lies between.
        assert_eq!(payload_bytes_for(128), None);
        assert_eq!(payload_bytes_for(1), None);
    }

    #[test]
    fn a_relayed_frame_is_what_the_client_meant() {
        let (mut from_client, mut expected, mut relayed) = (Vec::new(), Vec::new(), Vec::new());
        encode_client(&mut from_client, OP_BINARY, [1, 2, 3, 4], b"payload of odd length");
        encode_server(&mut expected, OP_BINARY, b"payload of odd length");

        let mut reader = FrameReader::new(100);
        reader
            .feed(&from_client, |frame| {
                relay(&mut relayed, frame);
                Ok::<(), FrameError>(())
            })
            .unwrap();

        assert_eq!(relayed, expected);
    }

    fn payload() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            (65_500usize..65_600).prop_map(|bytes| vec![7; bytes]),
            prop_oneof![Just(125usize), Just(126), Just(127), Just(65_535), Just(65_536)]
                .prop_map(|n| vec![9; n]),
        ]
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_frames(
            messages in prop::collection::vec((0u8..11, any::<Option<[u8; 4]>>(), payload()), 1..8),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        ) {
            let mut wire = Vec::new();
            for (opcode, key, payload) in &messages {
                match key {
                    Some(key) => encode_client(&mut wire, *opcode, *key, payload),
                    None => encode_server(&mut wire, *opcode, payload),
                }
            }
            let mut bounds: Vec<usize> = cuts.iter().map(|cut| cut.index(wire.len() + 1)).collect();
            bounds.extend([0, wire.len()]);
            bounds.sort_unstable();
            let chunks: Vec<&[u8]> = bounds.windows(2).map(|pair| &wire[pair[0]..pair[1]]).collect();

            let seen = read(&chunks, 1 << 20).unwrap();

            let expected: Seen = messages.into_iter().map(|(opcode, _, payload)| (true, opcode, payload)).collect();
            prop_assert_eq!(seen, expected);
        }

        #[test]
        fn one_byte_at_a_time_gives_the_same_frames(key: [u8; 4], payload in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut wire = Vec::new();
            encode_client(&mut wire, OP_TEXT, key, &payload);
            encode_server(&mut wire, OP_BINARY, &payload);
            let chunks: Vec<&[u8]> = wire.chunks(1).collect();

            let seen = read(&chunks, 1 << 20).unwrap();

            prop_assert_eq!(seen, vec![(true, OP_TEXT, payload.clone()), (true, OP_BINARY, payload)]);
        }

        #[test]
        fn any_bytes_are_read_or_refused(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8)) {
            let chunks: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
            let whole = chunks.concat();

            prop_assert_eq!(read(&chunks, 64).is_ok(), read(&[&whole], 64).is_ok());
        }
    }
}
