//! Masking of payloads (RFC 6455 §5.3).

/// XORs `data` with the repeated `key` and returns the key as it continues after `data`, so that a payload can be
/// unmasked in pieces of any length. Masking and unmasking are the same operation.
#[must_use = "the next piece of the same payload needs the rotated key"]
pub(super) fn apply(mut key: [u8; 4], data: &mut [u8]) -> [u8; 4] {
    // Whole words in a branch-free loop without bounds checks: the compiler turns it into vector instructions.
    let (words, tail) = data.as_chunks_mut::<WORD>();
    let [a, b, c, d] = key;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in tail.iter_mut().zip(key.into_iter().cycle()) {
        *byte ^= mask;
    }
    // Words are a multiple of the key, so only the tail turns it.
    key.rotate_left(tail.len() % 4);
    key
}

/// Bytes that are masked at once: a multiple of the key's length.
const WORD: usize = 8;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn naive(key: [u8; 4], data: &[u8]) -> Vec<u8> {
        data.iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]).collect()
    }

    proptest! {
        /// However a payload is cut, the result is that of the definition in RFC 6455 §5.3.
        #[test]
        fn pieces_mask_like_the_definition(
            key: [u8; 4],
            data in prop::collection::vec(any::<u8>(), 0..200),
            cuts in prop::collection::vec(0usize..40, 0..20),
        ) {
            let mut masked = data.clone();
            let (mut rest, mut turning) = (&mut masked[..], key);
            for cut in cuts {
                let (piece, after) = rest.split_at_mut(cut.min(rest.len()));
                turning = apply(turning, piece);
                rest = after;
            }
            let _ = apply(turning, rest);

            prop_assert_eq!(masked, naive(key, &data));
        }
    }
}
