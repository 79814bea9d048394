//! Where in a channel a message stands.

use std::fmt;

/// One life of a channel's numbers: ten letters, drawn when the channel is founded. Offsets of one epoch say nothing about
/// another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch([u8; Self::BYTES]);

impl Epoch {
    /// Letters of an epoch.
    pub const BYTES: usize = 10;

    /// The epoch that 64 random bits stand for: no vowels, so that it spells nothing.
    #[must_use]
    pub fn from_random(mut bits: u64) -> Self {
        let mut letters = [0; Self::BYTES];
        for letter in &mut letters {
            *letter = LETTERS.get((bits % 32) as usize).copied().unwrap_or(b'0');
            bits /= 32;
        }
        Self(letters)
    }

    /// Reads what [`as_str`](Self::as_str) wrote; anything else is no epoch.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let letters: [u8; Self::BYTES] = text.as_bytes().try_into().ok()?;
        letters.iter().all(|letter| LETTERS.contains(letter)).then_some(Self(letters))
    }

    /// As clients are told it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A place in a channel: behind the message with this number. Numbers begin at 1 and have no holes, so 0 is before the
/// first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// Which life of the channel's numbers.
    pub epoch: Epoch,
    /// The number of the last message.
    pub offset: u64,
}

/// Digits and consonants, 32 of them.
const LETTERS: &[u8; 32] = b"0123456789bcdfghjklmnpqrstvwxyzB";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_epoch_is_not_read() {
        for text in ["", "short", "abcdefghij", "0123456789b", "012345678\u{e9}", "012345678-"] {
            assert_eq!(Epoch::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn it_reads_back(bits: u64, other: u64) {
            let epoch = Epoch::from_random(bits);
            prop_assert_eq!(Epoch::parse(epoch.as_str()), Some(epoch));
            let same = bits & ((1 << 50) - 1) == other & ((1 << 50) - 1);
            prop_assert_eq!(Epoch::from_random(other) == epoch, same);
        }
    }
}
