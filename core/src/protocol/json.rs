//! The little JSON that reading and writing share.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

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

/// The members of an object that are asked for by name, each as the bytes that came in. Of duplicates the last one
/// counts; members that are not asked for are skipped.
pub(super) struct Members<'a, const N: usize>(pub(super) [Option<&'a RawValue>; N]);

impl<'a, const N: usize> Members<'a, N> {
    /// Reads one object, and nothing after it but white space.
    pub(super) fn read(text: &'a str, names: &[&str; N]) -> Result<Self, serde_json::Error> {
        let mut json = serde_json::Deserializer::from_str(text);
        let members = serde::Deserializer::deserialize_map(&mut json, Names(names))?;
        json.end()?;
        Ok(Self(members))
    }
}

/// The text of a JSON string; `None` if it is no string, or one that is not Unicode (`"\ud800"`).
pub(super) fn text(value: &RawValue) -> Option<Cow<'_, str>> {
    let inner = value.get().strip_prefix('"')?.strip_suffix('"')?;
    if inner.as_bytes().contains(&b'\\') {
        serde_json::from_str(value.get()).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inner))
    }
}

pub(super) fn is_null(value: &RawValue) -> bool {
    value.get() == "null"
}

pub(super) fn is_object(value: &RawValue) -> bool {
    value.get().starts_with('{')
}

/// Whether valid JSON nests deeper than [`NESTING_MAX`].
pub(super) fn is_too_deep(text: &str) -> bool {
    // Depth costs two brackets each, and cannot exceed the number of opening ones, which is found much faster.
    text.len() > 2 * NESTING_MAX
        && opening_brackets(text) > NESTING_MAX
        && depth(text) > NESTING_MAX
}

/// How many `[` and `{` there are, in strings too. They differ by one bit, and counting up to 255 in a byte is what
/// vector instructions are good at.
fn opening_brackets(text: &str) -> usize {
    let count =
        |chunk: &[u8]| chunk.iter().fold(0_u8, |count, byte| count + u8::from(byte | 0x20 == b'{'));
    text.as_bytes().chunks(255).map(|chunk| usize::from(count(chunk))).sum()
}

/// The greatest nesting of valid JSON.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest, mut string, mut escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if string => escaped = true,
            b'"' => string = !string,
            _ if string => {}
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

struct Names<'n, const N: usize>(&'n [&'n str; N]);

impl<'de, const N: usize> Visitor<'de> for Names<'_, N> {
    type Value = [Option<&'de RawValue>; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = [None; N];
        while let Some(index) = map.next_key_seed(Position(self.0))? {
            let value = map.next_value::<Borrowed<'de>>()?;
            if let Some(member) = index.and_then(|index| members.get_mut(index)) {
                *member = Some(value.0);
            }
        }
        Ok(members)
    }
}

/// `&RawValue` by its own name: the reference is what serde can borrow.
#[derive(Deserialize)]
struct Borrowed<'a>(#[serde(borrow)] &'a RawValue);

/// Where a key stands among the names; no allocation, even for keys with escapes.
struct Position<'n, const N: usize>(&'n [&'n str; N]);

impl<'de, const N: usize> serde::de::DeserializeSeed<'de> for Position<'_, N> {
    type Value = Option<usize>;

    fn deserialize<D: serde::Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<const N: usize> Visitor<'_> for Position<'_, N> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|name| *name == key))
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

        #[test]
        fn brackets_are_counted(text in "[\\[\\]{}a;{\u{1f}ü]{0,900}") {
            prop_assert_eq!(opening_brackets(&text), text.matches(['[', '{']).count());
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
