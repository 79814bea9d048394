//! Which trace a message belongs to: the header `traceparent` of W3C Trace Context, and the member of the same name.

use std::fmt;

/// A place in a trace: the span that what follows is a part of.
///
/// ```
/// use mahavishnu_wire::protocol::TraceParent;
///
/// let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// let parent = TraceParent::parse(text).unwrap();
/// assert!(parent.sampled);
/// assert_eq!(parent.to_string(), text);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceParent {
    /// The trace. Not all zero.
    pub trace: [u8; 16],
    /// The span in it. Not all zero.
    pub span: [u8; 8],
    /// Whoever began the trace keeps it.
    pub sampled: bool,
}

impl TraceParent {
    /// Bytes of the text.
    pub const LEN: usize = 55;

    /// Reads the text of a header or a member. `None`: it is none, and is to be ignored like one that is not there (§4.3). Of a
    /// later version what is known of this one is read.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (head, rest) = text.as_bytes().split_at_checked(Self::LEN)?;
        let [v1, v2, b'-', trace @ .., _, _, _] = head else { return None };
        let (trace, tail) = trace.split_at_checked(32)?;
        let (dash, span) = tail.split_first()?;
        let [f1, f2] = [*head.get(Self::LEN - 2)?, *head.get(Self::LEN - 1)?];
        if *dash != b'-' || head.get(Self::LEN - 3) != Some(&b'-') {
            return None;
        }
        let version = byte(*v1, *v2)?;
        let longer = version > 0 && rest.first() == Some(&b'-');
        if version == u8::MAX || !(rest.is_empty() || longer) {
            return None;
        }
        let (trace, span) = (bytes::<16>(trace)?, bytes::<8>(span)?);
        Some(Self { trace, span, sampled: byte(f1, f2)? & SAMPLED != 0 })
    }

    /// Appends the text.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"00-");
        push(out, &self.trace);
        out.push(b'-');
        push(out, &self.span);
        out.extend_from_slice(if self.sampled { b"-01" } else { b"-00" });
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Vec::with_capacity(Self::LEN);
        self.write(&mut text);
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

fn push(out: &mut Vec<u8>, bytes: &[u8]) {
    let digit = |half: u8| HEX.get(usize::from(half)).copied().unwrap_or_default();
    out.extend(bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]));
}

/// So many bytes that are not all zero, of twice as many digits.
fn bytes<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let pairs = digits.chunks_exact(2);
    if pairs.len() != N {
        return None;
    }
    for (to, pair) in bytes.iter_mut().zip(pairs) {
        let [high, low] = pair else { return None };
        *to = byte(*high, *low)?;
    }
    bytes.iter().any(|byte| *byte != 0).then_some(bytes)
}

fn byte(high: u8, low: u8) -> Option<u8> {
    Some(digit(high)? << 4 | digit(low)?)
}

/// Only small letters (§3.2.2).
fn digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// The flag of §3.2.2.5.1.
const SAMPLED: u8 = 1;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn its_parts_are_where_the_standard_has_them() {
        let read = TraceParent::parse(TEXT).unwrap();
        assert_eq!((read.trace[0], read.trace[15]), (0x4b, 0x36));
        assert_eq!((read.span[0], read.span[7], read.sampled), (0x00, 0xb7, true));
        let other = TraceParent::parse(&TEXT.replace("-01", "-02")).unwrap();
        assert!(!other.sampled, "another flag");
    }

    #[test]
    fn a_later_version_may_be_longer_and_this_one_may_not() {
        let later = TEXT.replacen("00", "cc", 1);
        assert!(TraceParent::parse(&later).is_some());
        assert!(TraceParent::parse(&format!("{later}-what-the-future-will-be")).is_some());
        assert!(TraceParent::parse(&format!("{later}.what")).is_none());
        assert!(TraceParent::parse(&format!("{TEXT}-x")).is_none());
        assert!(TraceParent::parse(&TEXT.replacen("00", "ff", 1)).is_none());
    }

    #[test]
    fn what_is_none_is_ignored() {
        for text in [
            "",
            "00",
            &TEXT[..54],
            &TEXT.to_uppercase(),
            &TEXT.replace('-', "_"),
            &TEXT.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &TEXT.replace("00f067aa0ba902b7", &"0".repeat(16)),
            &TEXT.replace("-01", "-0g"),
            &TEXT.replace("4bf92f35", "4bf92f3é"),
        ] {
            assert_eq!(TraceParent::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(trace in any::<[u8; 16]>(), span in any::<[u8; 8]>(), sampled: bool) {
            prop_assume!(trace != [0; 16] && span != [0; 8]);
            let parent = TraceParent { trace, span, sampled };
            let text = parent.to_string();
            prop_assert_eq!(text.len(), TraceParent::LEN);
            prop_assert_eq!(TraceParent::parse(&text), Some(parent));
        }

        #[test]
        fn no_text_is_too_much(text in "\\PC{0,80}") {
            let _ = TraceParent::parse(&text);
        }
    }
}
