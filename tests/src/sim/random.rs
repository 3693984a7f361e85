//! Random numbers, in one stream for each concern: drawing more numbers in one stream does not
//! shift the others.
//!
//! A stream is a SplitMix64 generator.

use purlin_rsm::random::{SplitMix, mix};
use std::{cell::RefCell, ops::Range, time::Duration};

/// One stream of random numbers. It is drawn from through a shared reference.
pub struct Random {
    numbers: RefCell<SplitMix>,
}

impl Random {
    /// The stream that `seed` and `concern` name.
    pub fn new(seed: u64, concern: &str) -> Self {
        let named = concern.bytes().fold(mix(seed), |state, byte| mix(state ^ u64::from(byte)));
        Self { numbers: RefCell::new(SplitMix::new(named)) }
    }

    /// 64 random bits.
    pub fn bits(&self) -> u64 {
        self.numbers.borrow_mut().draw()
    }

    /// A number from 0 to `bound`, exclusive. `bound` must not be 0.
    pub fn below(&self, bound: u64) -> u64 {
        assert!(bound > 0, "no number lies below 0");
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u64
    }

    /// A number of `range`, which must not be empty.
    pub fn within(&self, range: Range<u64>) -> u64 {
        range.start + self.below(range.end - range.start)
    }

    /// True with the given probability.
    pub fn chance(&self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// A duration of `range`; its start when it is empty.
    pub fn duration(&self, range: Range<Duration>) -> Duration {
        let nanos = range.end.saturating_sub(range.start).as_nanos() as u64;
        range.start + Duration::from_nanos(if nanos == 0 { 0 } else { self.below(nanos) })
    }

    /// An exponentially distributed duration, cut off at 16 times the mean.
    pub fn exponential(&self, mean: Duration) -> Duration {
        mean.mul_f64((-(1.0 - self.unit()).ln()).min(16.0))
    }

    /// A probability between `least` and `most`, uniform in its magnitude, so that rare and frequent
    /// both occur.
    pub fn magnitude(&self, least: f64, most: f64) -> f64 {
        (least.ln() + self.unit() * (most.ln() - least.ln())).exp()
    }

    /// One of `items`, which must not be empty.
    pub fn pick<'a, T>(&self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }

    /// Puts `items` in a random order.
    pub fn shuffle<T>(&self, items: &mut [T]) {
        for end in (1..items.len()).rev() {
            items.swap(end, self.below(end as u64 + 1) as usize);
        }
    }

    /// Fills `bytes` at random.
    pub fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.bits().to_le_bytes()[..chunk.len()]);
        }
    }

    fn unit(&self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// How long something takes: an exponential time over a least one, and now and then a spike.
#[derive(Clone, Copy, Debug)]
pub struct Latency {
    /// It never takes less.
    pub least: Duration,
    /// The mean of what comes on top.
    pub mean: Duration,
    /// How often a spike comes instead, as a probability.
    pub spike_chance: f64,
    /// A spike takes up to this time.
    pub spike_max: Duration,
}

impl Latency {
    /// Latency without spikes.
    pub fn steady(least: Duration, mean: Duration) -> Self {
        Self { least, mean, spike_chance: 0.0, spike_max: Duration::ZERO }
    }

    /// The same with spikes.
    pub fn with_spikes(self, spike_chance: f64, spike_max: Duration) -> Self {
        Self { spike_chance, spike_max, ..self }
    }

    pub(crate) fn draw(&self, random: &Random) -> Duration {
        if random.chance(self.spike_chance) {
            return self.least + random.duration(Duration::ZERO..self.spike_max);
        }
        self.least + random.exponential(self.mean)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_one_seed_differ_and_repeat() {
        let draw = |seed, concern| {
            let random = Random::new(seed, concern);
            [random.bits(), random.bits(), random.bits()]
        };
        assert_eq!(draw(1, "disk"), draw(1, "disk"));
        assert_ne!(draw(1, "disk"), draw(1, "net"));
        assert_ne!(draw(1, "disk"), draw(2, "disk"));
    }

    #[test]
    fn below_reaches_every_number_evenly() {
        let random = Random::new(7, "test");
        let mut hits = [0_u32; 10];
        for _ in 0..10_000 {
            hits[random.below(10) as usize] += 1;
        }
        assert!(hits.iter().all(|&count| (850..1150).contains(&count)), "{hits:?}");
    }

    #[test]
    fn exponential_has_its_mean() {
        let random = Random::new(3, "test");
        let mean = Duration::from_micros(100);
        let sum: Duration = (0..20_000).map(|_| random.exponential(mean)).sum();
        let measured = sum / 20_000;
        assert!((95..105).contains(&measured.as_micros()), "{measured:?}");
    }
}
