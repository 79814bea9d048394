//! RESP3, Redis' protocol: commands out, replies and pushes in.
//!
//! What comes in is measured before it is read: where a frame ends, how deep it is, how long. So nothing is read twice however
//! it comes in pieces, and nothing that is too large is waited for.

use bytes::{Bytes, BytesMut};
use resp_rs::resp3;

pub(crate) use resp_rs::resp3::Frame;

/// Appends a command: an array of strings, the only thing that clients send.
pub(crate) fn command(out: &mut Vec<u8>, args: &[Arg<'_>]) {
    let mut digits = itoa::Buffer::new();
    out.push(b'*');
    out.extend_from_slice(digits.format(args.len()).as_bytes());
    out.extend_from_slice(b"\r\n");
    for arg in args {
        let mut number = itoa::Buffer::new();
        let bytes = match arg {
            Arg::Bytes(bytes) => bytes,
            Arg::Number(value) => number.format(*value).as_bytes(),
        };
        out.push(b'$');
        out.extend_from_slice(digits.format(bytes.len()).as_bytes());
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(bytes);
        out.extend_from_slice(b"\r\n");
    }
}

/// A part of a command.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Arg<'a> {
    Bytes(&'a [u8]),
    Number(u64),
}

impl<'a> From<&'a str> for Arg<'a> {
    fn from(text: &'a str) -> Self {
        Self::Bytes(text.as_bytes())
    }
}

impl<'a> From<&'a String> for Arg<'a> {
    fn from(text: &'a String) -> Self {
        Self::Bytes(text.as_bytes())
    }
}

impl<'a> From<&'a Bytes> for Arg<'a> {
    fn from(bytes: &'a Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<u64> for Arg<'_> {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<u32> for Arg<'_> {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

/// What makes bytes no Redis'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// They are not RESP3, or of a part of it that Redis does not send: attributes, strings and aggregates of unknown length.
    Format,
    /// A frame is too long.
    Long,
    /// A frame is too deep.
    Deep,
}

/// Takes frames out of bytes.
#[derive(Debug)]
pub(crate) struct Decoder {
    buffer: BytesMut,
    extent: Extent,
    bytes_max: usize,
    depth_max: usize,
}

impl Decoder {
    /// For frames of so many bytes and levels at most.
    pub(crate) fn new(bytes_max: usize, depth_max: usize) -> Self {
        Self { buffer: BytesMut::new(), extent: Extent::default(), bytes_max, depth_max }
    }

    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame. After an error there are no more.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>, Broken> {
        if !self.extent.measure(&self.buffer, self.bytes_max, self.depth_max)? {
            return Ok(None);
        }
        let extent = std::mem::take(&mut self.extent);
        let bytes = self.buffer.split_to(extent.end).freeze();
        if bytes.len() > KEPT_BYTES {
            // What is behind it is little, and would keep all of its memory.
            self.buffer = BytesMut::from(&*self.buffer);
        }
        match resp3::parse_frame(bytes) {
            Ok((frame, rest)) if rest.is_empty() => Ok(Some(frame)),
            Ok(_) | Err(_) => Err(Broken::Format),
        }
    }
}

/// How far the frame at the beginning of a buffer goes: as much of it as has come is measured.
#[derive(Debug, Default)]
struct Extent {
    /// Behind what was measured. May be beyond what has come.
    end: usize,
    /// Up to where the end of the line at `end` was looked for.
    searched: usize,
    /// How many elements are missing, for each level.
    missing: Vec<u64>,
    /// Something was measured.
    begun: bool,
}

impl Extent {
    /// Whether all of a frame is there.
    fn measure(
        &mut self,
        buffer: &[u8],
        bytes_max: usize,
        depth_max: usize,
    ) -> Result<bool, Broken> {
        while !self.begun || !self.missing.is_empty() {
            let Some(rest) = buffer.get(self.end..) else { return Ok(false) };
            let Some((&kind, line)) = rest.split_first() else { return Ok(false) };
            let Some(line) = self.line(line)? else { return Ok(false) };
            let elements = self.element(kind, line)?;
            if self.end > bytes_max {
                return Err(Broken::Long);
            }
            self.begun = true;
            if elements > 0 {
                if self.missing.len() >= depth_max {
                    return Err(Broken::Deep);
                }
                self.missing.push(elements);
            } else {
                self.close();
            }
        }
        Ok(self.end <= buffer.len())
    }

    /// The line at `end` without what ends it, once all of it is there.
    fn line<'b>(&mut self, line: &'b [u8]) -> Result<Option<&'b [u8]>, Broken> {
        let from = self.searched;
        let found =
            line.get(from..).and_then(|rest| rest.windows(2).position(|two| two == b"\r\n"));
        let Some(found) = found else {
            self.searched = line.len().saturating_sub(1);
            return if line.len() > LINE_BYTES_MAX { Err(Broken::Long) } else { Ok(None) };
        };
        self.searched = 0;
        Ok(line.get(..from + found))
    }

    /// Goes behind an element, or behind the head of an aggregate: how many elements that one has.
    fn element(&mut self, kind: u8, line: &[u8]) -> Result<u64, Broken> {
        self.end += 1 + line.len() + 2;
        match kind {
            b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(' => Ok(0),
            b'$' | b'!' | b'=' => {
                if let Some(length) = length(line)? {
                    let length = usize::try_from(length).map_err(|_| Broken::Long)?;
                    let end = self.end.checked_add(length).and_then(|end| end.checked_add(2));
                    self.end = end.ok_or(Broken::Long)?;
                }
                Ok(0)
            }
            b'*' | b'~' | b'>' => Ok(length(line)?.unwrap_or(0)),
            b'%' => length(line)?.unwrap_or(0).checked_mul(2).ok_or(Broken::Long),
            _ => Err(Broken::Format),
        }
    }

    /// An element is complete, and with it those that it was the last one of.
    fn close(&mut self) {
        while let Some(missing) = self.missing.last_mut() {
            *missing -= 1;
            if *missing > 0 {
                return;
            }
            self.missing.pop();
        }
    }
}

/// A length; `None` for -1, which stands for nothing.
fn length(line: &[u8]) -> Result<Option<u64>, Broken> {
    if line == b"-1" {
        return Ok(None);
    }
    let digits = line.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(line).ok().filter(|_| digits && line.len() <= 20);
    text.and_then(|text| text.parse().ok()).map(Some).ok_or(Broken::Format)
}

/// Memory of a frame that is used again for the next ones.
const KEPT_BYTES: usize = 256 << 10;
/// As the decoder has it: errors, numbers and states, all of them short.
const LINE_BYTES_MAX: usize = resp3::MAX_LINE_LENGTH;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(chunks: &[&[u8]]) -> Result<Vec<Frame>, Broken> {
        let mut decoder = Decoder::new(1_000, 8);
        let mut frames = Vec::new();
        for chunk in chunks {
            decoder.feed(chunk);
            while let Some(frame) = decoder.next()? {
                frames.push(frame);
            }
        }
        Ok(frames)
    }

    #[test]
    fn a_command_is_an_array_of_strings() {
        let mut out = Vec::new();
        command(&mut out, &["PING".into(), 17_u32.into(), (&Bytes::from_static(b"\r\n")).into()]);
        assert_eq!(out, b"*3\r\n$4\r\nPING\r\n$2\r\n17\r\n$2\r\n\r\n\r\n");
        let parts = [&b"PING"[..], b"17", b"\r\n"];
        let parts = parts.map(|part| Frame::BulkString(Some(Bytes::from_static(part))));
        let theirs = resp3::frame_to_bytes(&Frame::Array(Some(parts.to_vec())));
        assert_eq!(out, theirs, "as the crate writes it");
    }

    #[test]
    fn frames_come_out_whole() {
        let bytes = b"+OK\r\n>3\r\n$8\r\nsmessage\r\n$1\r\nc\r\n$2\r\n\r\n\r\n*-1\r\n$-1\r\n%1\r\n+a\r\n*2\r\n:1\r\n_\r\n*0\r\n";
        let whole = decode(&[bytes]).unwrap();
        assert_eq!(whole.len(), 6);
        assert_eq!(whole[0], Frame::SimpleString(Bytes::from_static(b"OK")));
        assert!(matches!(&whole[1], Frame::Push(items) if items.len() == 3));
        let single: Vec<_> = bytes.chunks(1).collect();
        assert_eq!(decode(&single).unwrap(), whole);
    }

    #[test]
    fn what_redis_does_not_send_is_refused() {
        for bytes in [
            "HTTP/1.1 400\r\n",
            "*?\r\n",
            "$?\r\n",
            "|1\r\n+a\r\n+b\r\n:1\r\n",
            "$-2\r\n",
            "*x\r\n",
            ";4\r\n",
        ] {
            assert_eq!(decode(&[bytes.as_bytes()]), Err(Broken::Format), "{bytes}");
        }
        assert_eq!(decode(&[b"$3\r\nabcd\r\n"]), Err(Broken::Format));
        assert_eq!(decode(&[b":1x\r\n"]), Err(Broken::Format));
    }

    #[test]
    fn what_is_too_long_is_refused_before_it_has_come() {
        assert_eq!(decode(&[b"$1001\r\n"]), Err(Broken::Long));
        assert_eq!(decode(&[b"$18446744073709551615\r\n"]), Err(Broken::Long));
        assert_eq!(decode(&[b"%18446744073709551615\r\n"]), Err(Broken::Long));
        assert_eq!(decode(&[b"*2\r\n$500\r\n", &[b'x'; 500], b"\r\n$500\r\n"]), Err(Broken::Long));
        assert_eq!(decode(&[b"+", &[b'x'; LINE_BYTES_MAX + 1]]), Err(Broken::Long));
        assert_eq!(
            decode(&[&[b'*', b'1', b'\r', b'\n'].repeat(8), b"+\r\n"]).map(|it| it.len()),
            Ok(1)
        );
        assert_eq!(decode(&[&[b'*', b'1', b'\r', b'\n'].repeat(9)]), Err(Broken::Deep));
    }

    /// Nothing is kept for what has not come, however much is announced.
    #[test]
    fn an_announced_multitude_costs_nothing() {
        let mut decoder = Decoder::new(64 << 20, 8);
        decoder.feed(b"*9999999999\r\n");
        assert_eq!(decoder.next(), Ok(None));
        assert!(decoder.buffer.capacity() < 1_000);
    }

    #[test]
    fn the_memory_of_a_large_frame_is_given_back() {
        let mut decoder = Decoder::new(64 << 20, 8);
        let body = vec![b'x'; 4 << 20];
        let mut bytes =
            [format!("${}\r\n", body.len()).as_bytes(), &body, b"\r\n+OK\r\n:1"].concat();
        for chunk in bytes.chunks_mut(64 << 10) {
            decoder.feed(chunk);
        }
        assert!(matches!(decoder.next(), Ok(Some(Frame::BulkString(Some(text)))) if text == body));
        assert!(matches!(decoder.next(), Ok(Some(Frame::SimpleString(_)))));
        assert_eq!(decoder.next(), Ok(None));
        assert!(decoder.buffer.capacity() < 1_000);
        decoder.feed(b"7\r\n");
        assert_eq!(decoder.next(), Ok(Some(Frame::Integer(17))));
    }

    fn frames() -> impl Strategy<Value = Vec<u8>> {
        let leaf = prop_oneof![
            "[a-z ]{0,9}".prop_map(|text| format!("+{text}\r\n").into_bytes()),
            any::<i64>().prop_map(|number| format!(":{number}\r\n").into_bytes()),
            prop::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| [
                format!("${}\r\n", bytes.len()).as_bytes(),
                &bytes,
                b"\r\n"
            ]
            .concat()),
            Just(b"_\r\n".to_vec()),
            Just(b"#t\r\n".to_vec()),
            Just(b",1.5\r\n".to_vec()),
            Just(b"-ERR no\r\n".to_vec()),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            (prop::sample::select(&b"*~>%"[..]), prop::collection::vec(inner, 0..6)).prop_map(
                |(kind, mut inner)| {
                    if kind == b'%' && inner.len() % 2 == 1 {
                        inner.pop();
                    }
                    let count = if kind == b'%' { inner.len() / 2 } else { inner.len() };
                    [&[kind], count.to_string().as_bytes(), b"\r\n", &inner.concat()].concat()
                },
            )
        })
    }

    fn in_pieces(bytes: &[u8], cuts: &[prop::sample::Index]) -> Result<Vec<Frame>, Broken> {
        let mut at: Vec<_> =
            cuts.iter().map(|cut| cut.index(bytes.len() + 1)).chain([0, bytes.len()]).collect();
        at.sort_unstable();
        let pieces: Vec<_> = at.windows(2).map(|two| &bytes[two[0]..two[1]]).collect();
        decode(&pieces)
    }

    proptest! {
        #[test]
        fn frames_in_any_pieces_are_the_same(frames in prop::collection::vec(frames(), 0..5), cuts: [prop::sample::Index; 5]) {
            prop_assume!(frames.iter().all(|frame| frame.len() <= 1_000));
            let mut theirs = Vec::new();
            for frame in &frames {
                theirs.push(resp3::parse_frame(Bytes::copy_from_slice(frame)).unwrap().0);
            }
            prop_assert_eq!(in_pieces(&frames.concat(), &cuts), Ok(theirs));
        }

        /// And a verdict is the same however the bytes come.
        #[test]
        fn anything_is_decoded_or_refused(bytes in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(&b"+-:$*>%_#(,!=\r\n0123"[..])], 0..200), cuts: [prop::sample::Index; 5]) {
            let whole = decode(&[&bytes]);
            prop_assert_eq!(in_pieces(&bytes, &cuts), whole);
        }
    }
}
