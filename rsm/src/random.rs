//! A seeded sequence of numbers, for everything that must be the same again with the same seed: election timeouts,
//! epochs of segments, fingerprints, histories in tests. It is no source of secrets.
//!
//! SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014) is a counter that steps by
//! the golden ratio, and a mixer over it. Formats and recorded histories depend on its numbers, so they never
//! change.

/// A seeded generator of numbers.
#[derive(Clone, Debug)]
pub struct SplitMix {
    state: u64,
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

impl SplitMix {
    /// A generator. Its whole sequence follows from `seed`.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GOLDEN);
        mix(self.state)
    }
}

/// The mixer: a bijection in which each bit of the input turns half of the output. It leaves 0 as it is; see
/// [`hash`].
pub fn mix(mut number: u64) -> u64 {
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// The first number of the generator that `number` seeds: a bijection that mixes 0 too.
pub fn hash(number: u64) -> u64 {
    mix(number.wrapping_add(GOLDEN))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Published outputs for the seeds 0 and 1234567.
    #[test]
    fn the_generator_draws_the_published_numbers() {
        assert_eq!(SplitMix::new(0).draw(), 0xe220_a839_7b1d_cdaf);
        let mut random = SplitMix::new(1_234_567);
        let drawn = std::array::from_fn(|_| random.draw());
        let published: [u64; 5] = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
            4_593_380_528_125_082_431,
            16_408_922_859_458_223_821,
        ];
        assert_eq!(drawn, published);
    }

    #[test]
    fn a_hash_is_the_first_number_that_is_drawn() {
        for seed in [0, 1, 7, u64::MAX] {
            assert_eq!(hash(seed), SplitMix::new(seed).draw());
        }
    }
}
