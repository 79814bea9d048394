//! The little JSON that reading and writing share.

use std::str::Chars;

/// How deep a message may nest, itself included. It is what `serde_json` reads, so whoever parses `data` again (the
/// application here, clients elsewhere) has no deeper stack to fear.
pub const NESTING_MAX: usize = 127;

/// What `data` is when nothing else is.
pub(super) const EMPTY_OBJECT: &str = "{}";

/// Appends `text` as a JSON string.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    // Without early exit, so that it is compiled to vector instructions.
    let escapes = text
        .bytes()
        .fold(false, |found, byte| found | (byte < 0x20) | (byte == b'"') | (byte == b'\\'));
    out.reserve(text.len() + 2);
    out.push(b'"');
    if escapes {
        text.bytes().for_each(|byte| write_escaped(out, byte));
    } else {
        out.extend_from_slice(text.as_bytes());
    }
    out.push(b'"');
}

/// One byte of a string (RFC 8259 §7): the short escapes where there are any, the rest of the control characters by number.
fn write_escaped(out: &mut Vec<u8>, byte: u8) {
    let short = match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        0x09 => b't',
        0x0A => b'n',
        0x0C => b'f',
        0x0D => b'r',
        0..0x20 => {
            let digit = |value: u8| if value < 10 { b'0' + value } else { b'a' + value - 10 };
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 15)]);
            return;
        }
        _ => {
            out.push(byte);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

/// The text that `inner` stands for, which is what lies between the quotes of a sound JSON string. `None`: not Unicode.
#[cold]
pub(super) fn unescape(inner: &str) -> Option<String> {
    let mut text = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some((plain, escape)) = rest.split_once('\\') {
        text.push_str(plain);
        let mut chars = escape.chars();
        let char = match chars.next()? {
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => numbered(&mut chars)?,
            itself => itself,
        };
        text.push(char);
        rest = chars.as_str();
    }
    text.push_str(rest);
    Some(text)
}

/// A character by its number, or by two if it is beyond the first 65,536 (RFC 8259 §7).
fn numbered(chars: &mut Chars<'_>) -> Option<char> {
    let first = unit(chars)?;
    let second = match first {
        0xD800..0xDC00 => {
            chars.next().filter(|char| *char == '\\')?;
            chars.next().filter(|char| *char == 'u')?;
            Some(unit(chars)?)
        }
        _ => None,
    };
    char::decode_utf16([first].into_iter().chain(second)).next()?.ok()
}

fn unit(chars: &mut Chars<'_>) -> Option<u16> {
    let (digits, rest) = chars.as_str().split_at_checked(4)?;
    *chars = rest.chars();
    u16::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn strings_are_written_as_serde_json_writes_them(text: String) {
            let mut out = Vec::new();
            write_string(&mut out, &text);
            prop_assert_eq!(String::from_utf8(out).unwrap(), serde_json::to_string(&text).unwrap());
        }
    }

    #[test]
    fn every_ascii_character_is_escaped_if_it_must_be() {
        for byte in 0..128_u8 {
            let text = char::from(byte).to_string();
            let mut out = Vec::new();
            write_string(&mut out, &text);
            assert_eq!(out, serde_json::to_vec(&text).unwrap());
        }
    }
}
