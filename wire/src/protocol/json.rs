//! The little JSON that reading and writing share.

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
    if escapes {
        let written = serde_json::to_writer(&mut *out, text);
        debug_assert!(written.is_ok(), "writing into memory does not fail");
    } else {
        out.reserve(text.len() + 2);
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    }
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
