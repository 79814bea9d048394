//! Randomness as an input: everything unpredictable in the core comes from one 32-byte seed.

use std::hash::BuildHasher;

use chacha20::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};
use siphasher::sip::SipHasher13;

/// Where all randomness of one core comes from. In production 32 bytes of the operating system's randomness; in
/// simulation a number that replays the run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Seed(pub [u8; 32]);

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seed(..)")
    }
}

impl From<u64> for Seed {
    fn from(number: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        Self(bytes)
    }
}

/// A seeded ChaCha stream: ids, masking keys, jitter and hash keys.
///
/// ChaCha because masking keys must be unpredictable to the application (RFC 6455 §5.3) and connection ids to peers.
pub struct Entropy(ChaCha12Rng);

impl Entropy {
    /// The stream that `seed` stands for.
    #[must_use]
    pub fn new(seed: Seed) -> Self {
        Self(ChaCha12Rng::from_seed(seed.0))
    }

    /// A stream of its own for a part, so that what one part draws does not shift another's draws.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        let mut seed = [0; 32];
        self.0.fill_bytes(&mut seed);
        Self::new(Seed(seed))
    }

    /// Uniform over all of `u64`.
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A masking key (RFC 6455 §5.3).
    pub fn mask(&mut self) -> [u8; 4] {
        self.0.next_u32().to_ne_bytes()
    }

    /// Uniform in `0..bound`; 0 for a bound of 0. Multiply-shift: the bias is below 2⁻³² for the bounds used here.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.0.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// A random (version 4) UUID, RFC 9562 §5.4.
    pub fn uuid(&mut self) -> uuid::Uuid {
        let mut bytes = [0; 16];
        self.0.fill_bytes(&mut bytes);
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }

    /// Keys for hash tables whose keys come from the network.
    pub fn hash_keys(&mut self) -> KeyedState {
        KeyedState { k0: self.0.next_u64(), k1: self.0.next_u64() }
    }

    /// `len` random bytes.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }
}

impl std::fmt::Debug for Entropy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Entropy(..)")
    }
}

/// SipHash-1-3 under keys from the seed: attackers cannot aim for collisions, and two runs hash alike.
#[derive(Clone, Copy)]
pub struct KeyedState {
    k0: u64,
    k1: u64,
}

impl BuildHasher for KeyedState {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.k0, self.k1)
    }
}

impl std::fmt::Debug for KeyedState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyedState(..)")
    }
}

/// A hash map under [`KeyedState`]. It is looked up in, never walked.
pub type KeyedMap<K, V> = std::collections::HashMap<K, V, KeyedState>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_same_stream() {
        let (mut a, mut b) = (Entropy::new(Seed::from(7)), Entropy::new(Seed::from(7)));
        assert_eq!(a.uuid(), b.uuid());
        assert_eq!(a.hash_keys().hash_one("x"), b.hash_keys().hash_one("x"));
        assert_ne!(a.fork().next_u64(), a.next_u64());
    }

    /// Recordings and seeds of earlier runs are replayed with it.
    #[test]
    fn the_stream_is_that_of_rand_chacha() {
        let mut ours = Entropy::new(Seed::from(11));
        let mut theirs = rand_chacha::ChaCha12Rng::from_seed(Seed::from(11).0);
        for round in 0..1_000 {
            let (mut a, mut b) = ([0; 37], [0; 37]);
            let len = round % a.len();
            ours.fill(&mut a[..len]);
            theirs.fill_bytes(&mut b[..len]);
            assert_eq!(a, b);
            assert_eq!(ours.mask(), theirs.next_u32().to_ne_bytes());
            assert_eq!(ours.next_u64(), theirs.next_u64());
        }
    }

    #[test]
    fn uuids_are_version_4() {
        let text = Entropy::new(Seed::from(1)).uuid().to_string();
        assert_eq!(text.as_bytes()[14], b'4');
        assert_eq!(text.len(), 36);
    }

    #[test]
    fn below_stays_below() {
        let mut entropy = Entropy::new(Seed::from(3));
        assert_eq!(entropy.below(0), 0);
        assert!((0..1000).all(|_| entropy.below(7) < 7));
    }
}
