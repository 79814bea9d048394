//! UTF-8 validation over chunks and fragments, failing at the first bad byte (RFC 6455 §8.1).

use std::str;

/// The state between two chunks: the bytes of a character that has begun but not ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Utf8 {
    tail: [u8; 3],
    len: u8,
}

/// The text contains a byte that no continuation can make valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Invalid;

impl Utf8 {
    /// Takes in the next chunk. Fails as soon as the text so far is not the beginning of any valid text: a wrong byte
    /// in the middle of a fragment is reported without waiting for the rest.
    pub(super) fn push(&mut self, mut chunk: &[u8]) -> Result<(), Invalid> {
        while self.len > 0 {
            let Some((&next, rest)) = chunk.split_first() else { return Ok(()) };
            chunk = rest;
            self.complete(next)?;
        }
        match str::from_utf8(chunk) {
            Ok(_) => Ok(()),
            // `None` means: valid so far, more bytes needed. At most three bytes remain then.
            Err(error) if error.error_len().is_none() => {
                let tail = chunk.get(error.valid_up_to()..).unwrap_or_default();
                for (slot, byte) in self.tail.iter_mut().zip(tail) {
                    *slot = *byte;
                    self.len += 1;
                }
                Ok(())
            }
            Err(_) => Err(Invalid),
        }
    }

    /// Whether the text may end here: no character is half-way.
    pub(super) fn is_complete(self) -> bool {
        self.len == 0
    }

    /// Adds one byte to the character that has begun.
    fn complete(&mut self, next: u8) -> Result<(), Invalid> {
        let mut character = [0; 4];
        let mut len = 0;
        for (slot, byte) in
            character.iter_mut().zip(self.tail.iter().take(self.len.into()).chain([&next]))
        {
            *slot = *byte;
            len += 1;
        }
        match str::from_utf8(character.get(..len).unwrap_or_default()) {
            Ok(_) => self.len = 0,
            Err(error) if error.error_len().is_none() => {
                if let Some(slot) = self.tail.get_mut(usize::from(self.len)) {
                    *slot = next;
                    self.len += 1;
                }
            }
            Err(_) => return Err(Invalid),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Text with some damage: mostly valid, so that errors sit in the middle of real characters.
    fn damaged_text() -> impl Strategy<Value = Vec<u8>> {
        (any::<String>(), prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..2))
            .prop_map(|(text, damage)| {
                let mut bytes = text.into_bytes();
                for (at, byte) in damage {
                    if !bytes.is_empty() {
                        let at = at.index(bytes.len());
                        bytes[at] = byte;
                    }
                }
                bytes
            })
    }

    /// How many bytes std accepts as the beginning of some valid text.
    fn viable(bytes: &[u8]) -> usize {
        let begins_text = |len: &usize| match str::from_utf8(&bytes[..*len]) {
            Ok(_) => true,
            Err(error) => error.error_len().is_none(),
        };
        (1..=bytes.len()).take_while(begins_text).count()
    }

    proptest! {
        #[test]
        fn any_chunking_agrees_with_std(
            bytes in prop_oneof![damaged_text(), prop::collection::vec(any::<u8>(), 0..12)],
            sizes in prop::collection::vec(1usize..7, 1..64),
        ) {
            let mut utf8 = Utf8::default();
            let mut rest = &bytes[..];
            let mut result = Ok(());
            for size in sizes.into_iter().cycle() {
                if rest.is_empty() || result.is_err() {
                    break;
                }
                let (chunk, after) = rest.split_at(size.min(rest.len()));
                result = utf8.push(chunk);
                rest = after;
            }

            prop_assert_eq!(result.is_ok() && utf8.is_complete(), str::from_utf8(&bytes).is_ok());
        }

        #[test]
        fn fails_at_the_first_bad_byte(bytes in damaged_text()) {
            let mut utf8 = Utf8::default();

            let accepted = bytes.iter().take_while(|byte| utf8.push(&[**byte]).is_ok()).count();

            prop_assert_eq!(accepted, viable(&bytes));
        }
    }

    #[test]
    fn surrogates_and_overlong_forms_fail_at_their_second_byte() {
        for bytes in [[0xED, 0xA0], [0xF4, 0x90], [0xE0, 0x80], [0xF0, 0x80]] {
            let mut utf8 = Utf8::default();
            assert_eq!(utf8.push(&bytes[..1]), Ok(()));
            assert_eq!(utf8.push(&bytes[1..]), Err(Invalid), "{bytes:x?}");
        }
    }
}
