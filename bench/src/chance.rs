//! The seeded generator behind keys, values, the mix and the arrivals of a run.
//!
//! Equal seeds give equal sequences of operations. The generator is no source of secrets. The
//! algorithm is xoshiro256++ (Blackman and Vigna). SplitMix64 fills its state, so that a seed of 0
//! or 1 is as good as any other.

/// A seeded source of numbers.
#[derive(Clone, Debug)]
pub struct Chance {
    /// Invariant: not all zero, which SplitMix64 guarantees for every seed.
    state: [u64; 4],
}

impl Chance {
    /// A generator. Its whole sequence follows from `seed`.
    pub fn new(seed: u64) -> Self {
        let mut mixer = seed;
        Self { state: std::array::from_fn(|_| split_mix(&mut mixer)) }
    }

    /// The next 64 bits.
    pub fn draw(&mut self) -> u64 {
        let [a, b, c, d] = self.state;
        let result = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
        let (c, d) = (c ^ a, d ^ b);
        self.state = [a ^ d, b ^ c, c ^ (b << 17), d.rotate_left(45)];
        result
    }

    /// A number in `0..bound`. All are equally likely, up to 2^-64 × bound.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "a choice among nothing");
        ((u128::from(self.draw()) * u128::from(bound)) >> 64) as u64
    }

    /// A number in `0.0..1.0`, from 53 bits.
    pub fn unit(&mut self) -> f64 {
        (self.draw() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_sequence_and_another_seed_another() {
        let take = |seed| {
            let mut chance = Chance::new(seed);
            (0..8).map(|_| chance.draw()).collect::<Vec<_>>()
        };
        assert_eq!(take(7), take(7));
        assert_ne!(take(7), take(8));
    }

    /// The published first output of SplitMix64 for seed 0 pins the mixer down.
    #[test]
    fn the_mixer_gives_the_published_value() {
        assert_eq!(split_mix(&mut 0), 0xe220_a839_7b1d_cdaf);
    }

    #[test]
    fn below_fills_its_range_evenly() {
        let mut chance = Chance::new(1);
        let mut seen = [0_u32; 10];
        for _ in 0..100_000 {
            seen[chance.below(10) as usize] += 1;
        }
        assert!(seen.iter().all(|&n| (9_500..10_500).contains(&n)), "{seen:?}");
    }

    #[test]
    fn unit_stays_below_one_and_has_its_mean_in_the_middle() {
        let mut chance = Chance::new(2);
        let drawn: Vec<f64> = (0..100_000).map(|_| chance.unit()).collect();
        assert!(drawn.iter().all(|u| (0.0..1.0).contains(u)));
        let mean = drawn.iter().sum::<f64>() / drawn.len() as f64;
        assert!((0.49..0.51).contains(&mean), "{mean}");
    }
}
