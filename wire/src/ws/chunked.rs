//! Bodies in the chunked transfer coding (RFC 9112 §7.1), under bounds of bytes, fields and work.

use crate::{limits::Limits, reason::Reason};

/// A body that is on its way in chunks. Every byte is looked at once, and nothing is kept but the content: a body that
/// comes byte by byte costs no more than one that comes at once.
///
/// What two readers could understand differently is refused: a line end is CR LF, a size is hexadecimal digits and nothing
/// else. Extensions and trailers are read past. Together they may have `head_bytes_max`, and trailers `headers_max` fields.
#[derive(Debug, Default)]
pub(super) struct Chunked {
    at: At,
    /// Bytes of the chunk's content that have not come; while its size is being read, what was read of it.
    left: usize,
    /// Bytes of extensions, trailers, and zeros before a size.
    beside: usize,
    /// Fields of the trailer section.
    fields: usize,
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    /// The first digit of a chunk's size.
    #[default]
    Size,
    /// Another digit, or what ends the size.
    Digits,
    /// Blanks between a size and an extension (RFC 9112 §7.1.1).
    Blank,
    Extension,
    /// The line feed behind a size and its extensions.
    SizeEnd,
    Content,
    /// The carriage return behind a chunk's content.
    ContentReturn,
    ContentEnd,
    /// The first byte of a trailer field, or of the empty line that ends the body.
    Line,
    Name,
    Value,
    ValueEnd,
    /// The last line feed of the body.
    End,
}

impl Chunked {
    /// Takes what belongs to the body off `wire` and appends its content to `body`. Whether the body is complete.
    pub(super) fn receive(
        &mut self,
        limits: &Limits,
        wire: &mut &mut [u8],
        body: &mut Vec<u8>,
    ) -> Result<bool, Reason> {
        while let Some(byte) = wire.first().copied() {
            if self.at == At::Content {
                let taken = take(wire, self.left);
                self.left -= taken.len();
                body.extend_from_slice(taken);
                if self.left == 0 {
                    self.at = At::ContentReturn;
                }
                continue;
            }
            take(wire, 1);
            if self.at == At::End {
                return if byte == b'\n' { Ok(true) } else { Err(Reason::BadRequest) };
            }
            self.at = self.step(limits, byte, body.len())?;
        }
        Ok(false)
    }

    /// One byte that is not content.
    fn step(&mut self, limits: &Limits, byte: u8, length: usize) -> Result<At, Reason> {
        Ok(match (self.at, byte) {
            (At::Size, _) if byte.is_ascii_hexdigit() => self.digit(limits, byte, length)?,
            (At::Digits, _) if byte.is_ascii_hexdigit() => self.digit(limits, byte, length)?,
            (At::Digits, b'\r') => At::SizeEnd,
            (At::Digits | At::Blank, b' ' | b'\t') => self.beside(limits, At::Blank)?,
            (At::Digits | At::Blank, b';') => self.beside(limits, At::Extension)?,
            (At::Extension, b'\r') => At::SizeEnd,
            (At::Extension, _) if is_text(byte) => self.beside(limits, At::Extension)?,
            (At::SizeEnd, b'\n') if self.left == 0 => At::Line,
            (At::SizeEnd, b'\n') => At::Content,
            (At::ContentReturn, b'\r') => At::ContentEnd,
            (At::ContentEnd, b'\n') => At::Size,
            (At::Line, b'\r') => At::End,
            (At::Line, _) if is_token(byte) => {
                self.fields += 1;
                if self.fields > limits.headers_max {
                    return Err(Reason::HeadTooLarge);
                }
                self.trailer(limits, At::Name)?
            }
            (At::Name, b':') => self.trailer(limits, At::Value)?,
            (At::Name, _) if is_token(byte) => self.trailer(limits, At::Name)?,
            (At::Value, b'\r') => At::ValueEnd,
            (At::Value, _) if is_text(byte) => self.trailer(limits, At::Value)?,
            (At::ValueEnd, b'\n') => At::Line,
            _ => return Err(Reason::BadRequest),
        })
    }

    /// One digit of a size. What would make the body too long is refused at once, so the size never overflows.
    fn digit(&mut self, limits: &Limits, digit: u8, length: usize) -> Result<At, Reason> {
        if self.at == At::Size {
            self.left = 0;
        } else if self.left == 0 {
            // Behind a zero: any number of them may come.
            self.beside(limits, At::Digits)?;
        }
        let value = char::from(digit).to_digit(16).unwrap_or_default() as usize;
        self.left = self.left.saturating_mul(16).saturating_add(value);
        if self.left > limits.body_bytes_max.saturating_sub(length) {
            return Err(Reason::BodyTooLarge);
        }
        Ok(At::Digits)
    }

    fn beside(&mut self, limits: &Limits, next: At) -> Result<At, Reason> {
        self.beside += 1;
        if self.beside > limits.head_bytes_max { Err(Reason::BodyTooLarge) } else { Ok(next) }
    }

    fn trailer(&mut self, limits: &Limits, next: At) -> Result<At, Reason> {
        self.beside(limits, next).map_err(|_| Reason::HeadTooLarge)
    }
}

/// Takes up to `count` bytes off `wire`.
pub(super) fn take<'w>(wire: &mut &'w mut [u8], count: usize) -> &'w mut [u8] {
    let count = count.min(wire.len());
    let (taken, rest) = std::mem::take(wire).split_at_mut(count);
    *wire = rest;
    taken
}

/// RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// RFC 9110 §5.5: what may stand in a field's value.
fn is_text(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The content, and how many bytes were left over; `None` if the end did not come.
    fn read(
        limits: &Limits,
        bytes: &[u8],
        cuts: impl IntoIterator<Item = usize>,
    ) -> Result<Option<(Vec<u8>, usize)>, Reason> {
        let (mut chunked, mut body, mut at) = (Chunked::default(), Vec::new(), 0);
        for cut in cuts.into_iter().chain([bytes.len()]) {
            let end = bytes.len().min(at + cut);
            let mut chunk = bytes[at..end].to_vec();
            let mut wire = &mut chunk[..];
            if chunked.receive(limits, &mut wire, &mut body)? {
                return Ok(Some((body, bytes.len() - end + wire.len())));
            }
            assert!(wire.is_empty(), "everything is taken in");
            at = end;
        }
        Ok(None)
    }

    fn whole(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, Reason> {
        read(&Limits::default(), bytes, [])
    }

    #[test]
    fn chunks_of_every_allowed_form_are_joined() {
        for (bytes, content) in [
            (&b"0\r\n\r\n"[..], &b""[..]),
            (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
            (b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", b"hello"),
            (b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", b"01234567890123456789"),
            (b"0000000000000000000000005\r\nhello\r\n000\r\n\r\n", b"hello"),
            (b"5;a=b;c=\"d; \\\" e\"\r\nhello\r\n0;x\r\n\r\n", b"hello"),
            (b"5 \t;\ta\r\nhello\r\n0\r\n\r\n", b"hello"),
            (b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n"),
            (b"1\r\na\r\n0\r\nContent-Length: 7\r\nX:\r\nY: \xff\t\r\n\r\n", b"a"),
        ] {
            assert_eq!(whole(bytes), Ok(Some((content.to_vec(), 0))), "{bytes:?}");
            let behind = [bytes, b"GET /"].concat();
            for step in 1..behind.len() {
                let cuts = vec![step; behind.len() / step];
                let result = read(&Limits::default(), &behind, cuts);
                assert_eq!(result, Ok(Some((content.to_vec(), 5))), "{bytes:?} by {step}");
            }
            for end in 0..bytes.len() {
                assert_eq!(whole(&bytes[..end]), Ok(None), "{bytes:?} up to {end}");
            }
        }
    }

    #[test]
    fn what_two_readers_could_understand_differently_is_refused() {
        for bytes in [
            &b"\r\n"[..],
            b" 5\r\nhello",
            b"5\nhello",
            b"5\rhello",
            b"5\r\r\nhello",
            b"5 \r\nhello",
            b"0x5\r\nhello",
            b"+5\r\nhello",
            b"-5\r\nhello",
            b"5_0\r\n",
            b"5,5\r\n",
            b"g\r\n",
            b"5\0\r\nhello",
            b"\xff5\r\n",
            b";a\r\nhello",
            b"5;a\nhello",
            b"5;a\rb\r\nhello",
            b"5;\0\r\nhello",
            b"5;\x7f\r\nhello",
            b"5\r\nhello0\r\n\r\n",
            b"5\r\nhello\n0\r\n\r\n",
            b"5\r\nhello\r0\r\n\r\n",
            b"5\r\nhello\r\n\r\n",
            b"5\r\nhello6\r\n",
            b"0\n\n",
            b"0\r\n\n",
            b"0\r\n\rx",
            b"0\r\n x\r\n\r\n",
            b"0\r\nx\r\n\r\n",
            b"0\r\nx : y\r\n\r\n",
            b"0\r\n: y\r\n\r\n",
            b"0\r\nx: y\n\r\n",
            b"0\r\nx: y\r\n z\r\n\r\n",
            b"0\r\nx: \0\r\n\r\n",
            b"0\r\nx: a\rb\r\n\r\n",
            b"0\r\nGET / HTTP/1.1\r\n\r\n",
        ] {
            for step in 1..=bytes.len() {
                let result = read(&Limits::default(), bytes, vec![step; bytes.len() / step]);
                assert_eq!(result, Err(Reason::BadRequest), "{bytes:?} by {step}");
            }
        }
    }

    #[test]
    fn content_is_bounded_as_soon_as_its_size_is_known() {
        let limits = Limits { body_bytes_max: 10, ..Limits::default() };
        assert!(read(&limits, b"a\r\n0123456789\r\n0\r\n\r\n", []).unwrap().is_some());
        for bytes in [
            &b"b"[..],
            b"10",
            b"5\r\nhello\r\n6",
            b"ffffffffffffffff",
            b"fffffffffffffffffffffffffffffffffffffff",
            b"00000000000000000000000000b",
        ] {
            let (before, last) = bytes.split_at(bytes.len() - 1);
            assert_eq!(read(&limits, bytes, []), Err(Reason::BodyTooLarge), "{bytes:?}");
            if last != b"f" {
                assert_eq!(read(&limits, before, []), Ok(None), "{bytes:?}");
            }
        }
    }

    #[test]
    fn what_stands_beside_the_content_is_bounded() {
        let limits = Limits { head_bytes_max: 100, headers_max: 3, ..Limits::default() };
        let read = |bytes: &[u8]| read(&limits, bytes, []);
        let long = "x".repeat(99);
        let refusals = [
            (format!("1;{long}"), None),
            (format!("1;{long}x"), Some(Reason::BodyTooLarge)),
            (format!("0{}", "0".repeat(100)), None),
            (format!("0{}", "0".repeat(101)), Some(Reason::BodyTooLarge)),
            (format!("1{}", " ".repeat(101)), Some(Reason::BodyTooLarge)),
            // Of all chunks together: otherwise every byte could bring its own.
            ("1;xxxxxxxxx\r\na\r\n".repeat(10), None),
            ("1;xxxxxxxxx\r\na\r\n".repeat(11), Some(Reason::BodyTooLarge)),
            (format!("0\r\n{long}:"), None),
            (format!("0\r\n{long}::"), Some(Reason::HeadTooLarge)),
            (format!("0\r\nx:{long}"), Some(Reason::HeadTooLarge)),
            (format!("0\r\n{}", "x:\r\n".repeat(3)), None),
            (format!("0\r\n{}", "x:\r\n".repeat(4)), Some(Reason::HeadTooLarge)),
        ];
        for (bytes, refusal) in refusals {
            assert_eq!(read(bytes.as_bytes()), refusal.map_or(Ok(None), Err), "{bytes}");
        }
    }

    fn encoded(pieces: &[(Vec<u8>, String)], trailer: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (piece, extension) in pieces.iter().filter(|(piece, _)| !piece.is_empty()) {
            bytes.extend(format!("{:x}{extension}\r\n", piece.len()).bytes());
            bytes.extend(piece);
            bytes.extend(b"\r\n");
        }
        bytes.extend(format!("0\r\n{trailer}\r\n").bytes());
        bytes
    }

    proptest! {
        /// Whatever the content, the pieces and the cuts: the same comes out, and not a byte more is taken.
        #[test]
        fn any_content_comes_through_any_cut(
            pieces in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..300), "(;[a-z]{1,9}(=[a-z]{1,9})?){0,3}"), 0..8),
            trailer in "([a-z]{1,9}: [a-z ]{0,20}\r\n){0,3}",
            behind in prop::collection::vec(any::<u8>(), 0..20),
            cuts in prop::collection::vec(1usize..40, 0..200),
        ) {
            let content: Vec<u8> = pieces.iter().flat_map(|(piece, _)| piece.clone()).collect();
            let mut bytes = encoded(&pieces, &trailer);
            bytes.extend(&behind);
            prop_assert_eq!(read(&Limits::default(), &bytes, cuts), Ok(Some((content, behind.len()))));
        }

        /// Noise and damage: the answer does not depend on the cuts, and the content stays below its bound.
        #[test]
        fn damage_is_judged_alike_however_it_is_cut(
            pieces in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..40), "(;[a-z]{1,9})?"), 0..4),
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            cuts in prop::collection::vec(1usize..20, 0..60),
        ) {
            let limits = Limits { body_bytes_max: 100, head_bytes_max: 40, ..Limits::default() };
            let mut bytes = encoded(&pieces, "x: y\r\n");
            for (at, byte) in damage {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            let whole = read(&limits, &bytes, []);
            prop_assert_eq!(&whole, &read(&limits, &bytes, cuts));
            prop_assert_eq!(&whole, &read(&limits, &bytes, vec![1; bytes.len()]));
            if let Ok(Some((content, _))) = whole {
                prop_assert!(content.len() <= limits.body_bytes_max);
            }
        }
    }
}
