//! Randomness of the simulated world: one stream for each actor, so that taking one actor away leaves the others alone.

/// SplitMix64: small, quick, and the same everywhere.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// The stream number `stream` of `seed`.
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        let mut this = Self(seed ^ stream.wrapping_mul(0xd6e8_feb8_6659_fd93));
        this.next();
        this
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `0..bound`; 0 for a bound of 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// Uniform in `low..=high`.
    pub(crate) fn range(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// True in `per_mille` of 1000 cases.
    pub(crate) fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

/// A digest of everything that went into the hubs and came out: equal for two runs that were the same.
///
/// Not for adversaries. Four lanes, because a run hashes hundreds of megabytes.
#[derive(Clone, Debug)]
pub(crate) struct Digest {
    lanes: [u64; 4],
}

impl Digest {
    pub(crate) fn new() -> Self {
        Self { lanes: [1, 2, 3, 4] }
    }

    pub(crate) fn number(&mut self, number: u64) {
        self.lanes[0] = mix(self.lanes[0], number);
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        let mut blocks = bytes.chunks_exact(32);
        for block in &mut blocks {
            for (lane, word) in self.lanes.iter_mut().zip(block.chunks_exact(8)) {
                *lane = mix(*lane, word_of(word));
            }
        }
        for (word, at) in blocks.remainder().chunks(8).zip(0..) {
            self.lanes[at & 3] = mix(self.lanes[at & 3], word_of(word));
        }
    }

    pub(crate) fn value(&self) -> u64 {
        self.lanes.iter().fold(0, |all, lane| mix(all, *lane))
    }
}

impl std::hash::Hasher for Digest {
    fn finish(&self) -> u64 {
        self.value()
    }

    fn write(&mut self, bytes: &[u8]) {
        self.bytes(bytes);
    }
}

fn mix(lane: u64, word: u64) -> u64 {
    (lane ^ word).wrapping_mul(0x9fb2_1c65_1e98_df25).rotate_left(29)
}

fn word_of(bytes: &[u8]) -> u64 {
    match bytes.try_into() {
        Ok(whole) => u64::from_le_bytes(whole),
        Err(_) => bytes.iter().fold(1, |word, byte| (word << 8) | u64::from(*byte)),
    }
}
