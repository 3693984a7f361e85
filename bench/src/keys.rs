//! Chooses the key of an operation.
//!
//! A key is a prefix and twelve decimal digits, as in `key:000000012345`, so that runs can be
//! compared with those of redis-benchmark. A [`KeyChooser`] gives the numbers, by a
//! [`Distribution`] over the key space, or over the part of the key space that lies in given hash
//! slots. It does not know what the operation does.

use std::str::FromStr;

use crate::chance::Chance;
use crate::slots::{SlotRanges, slot_of};

/// The largest key space: twelve digits hold these numbers.
pub const KEYS_MAX: u64 = 1_000_000_000_000;

/// The largest key space when only some slots are wanted. The numbers of the keys in those slots
/// are listed then, at four bytes each.
pub const LISTED_KEYS_MAX: u64 = 16_000_000;

/// How operations spread over the keys.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Distribution {
    /// Each key as likely as any other.
    Uniform,
    /// The key of rank r is drawn in proportion to 1 / r^exponent.
    Zipf {
        /// The exponent. YCSB uses 0.99.
        exponent: f64,
    },
    /// One after the other, and from the start again.
    Sequential,
    /// Nine of ten operations go to one key in a hundred.
    Hot,
}

impl FromStr for Distribution {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "uniform" => Ok(Self::Uniform),
            "zipf" => Ok(Self::Zipf { exponent: 0.99 }),
            "sequential" => Ok(Self::Sequential),
            "hot" => Ok(Self::Hot),
            _ => steepness(text).map(|exponent| Self::Zipf { exponent }),
        }
    }
}

fn steepness(text: &str) -> Result<f64, String> {
    let exponent = text.strip_prefix("zipf:").and_then(|number| number.parse::<f64>().ok());
    exponent.filter(|exponent| (0.01..=10.0).contains(exponent)).ok_or_else(|| {
        format!("`{text}` is none of uniform, zipf, zipf:0.01 to zipf:10, sequential, hot")
    })
}

impl std::fmt::Display for Distribution {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Uniform => f.write_str("uniform"),
            Self::Zipf { exponent } => write!(f, "zipf:{exponent}"),
            Self::Sequential => f.write_str("sequential"),
            Self::Hot => f.write_str("hot"),
        }
    }
}

/// Draws key numbers.
#[derive(Clone, Debug)]
pub struct KeyChooser {
    shape: Shape,
    /// How many keys can be drawn, at least one.
    count: u64,
    /// The numbers of these keys when only some slots are wanted. Otherwise the numbers are
    /// `0..count`.
    listed: Option<Vec<u32>>,
}

#[derive(Clone, Debug)]
enum Shape {
    Uniform,
    Zipf(Zipf),
    Sequential { next: u64 },
    Hot { hot: u64 },
}

impl KeyChooser {
    /// Draws from `keys` keys, or from those of them that lie in `slots`.
    ///
    /// # Errors
    /// When no key lies in `slots`, or the space is too large to be listed.
    pub fn new(
        distribution: Distribution,
        prefix: &str,
        keys: u64,
        slots: Option<&SlotRanges>,
    ) -> Result<Self, String> {
        let listed = slots.map(|slots| in_slots(prefix, keys, slots)).transpose()?;
        let count = listed.as_ref().map_or(keys, |listed| listed.len() as u64);
        assert!((1..=KEYS_MAX).contains(&count), "a key space of {count}");
        let shape = match distribution {
            Distribution::Uniform => Shape::Uniform,
            Distribution::Zipf { exponent } => Shape::Zipf(Zipf::new(count, exponent)),
            Distribution::Sequential => Shape::Sequential { next: 0 },
            Distribution::Hot => Shape::Hot { hot: count.div_ceil(100) },
        };
        Ok(Self { shape, count, listed })
    }

    /// How many different keys it can draw.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The rank of the next key, and its number. With zipf and hot the lowest ranks are the most frequent.
    pub fn next(&mut self, chance: &mut Chance) -> (u64, u64) {
        let rank = self.rank(chance);
        match &self.listed {
            Some(listed) => (rank, u64::from(listed[rank as usize])),
            None => (rank, rank),
        }
    }

    fn rank(&mut self, chance: &mut Chance) -> u64 {
        match &mut self.shape {
            Shape::Uniform => chance.below(self.count),
            Shape::Zipf(zipf) => zipf.draw(chance),
            Shape::Sequential { next } => {
                let rank = *next;
                *next = (rank + 1) % self.count;
                rank
            }
            Shape::Hot { hot } if chance.below(10) < 9 => chance.below(*hot),
            Shape::Hot { .. } => chance.below(self.count),
        }
    }
}

/// Appends the key `number` of the space `prefix`.
pub fn append_key(out: &mut Vec<u8>, prefix: &str, number: u64) {
    out.extend_from_slice(prefix.as_bytes());
    out.extend_from_slice(&digits(number));
}

/// The slot of the key `number` of the space `prefix`. A prefix has at most 20 bytes.
pub fn slot_of_key(prefix: &str, number: u64) -> u16 {
    let mut key = [0; 32];
    let length = prefix.len() + 12;
    key[..prefix.len()].copy_from_slice(prefix.as_bytes());
    key[prefix.len()..length].copy_from_slice(&digits(number));
    slot_of(&key[..length])
}

/// The digits of a number below [`KEYS_MAX`].
pub fn digits(number: u64) -> [u8; 12] {
    debug_assert!(number < KEYS_MAX, "key {number} has more than twelve digits");
    let mut digits = [b'0'; 12];
    let mut rest = number;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    digits
}

fn in_slots(prefix: &str, keys: u64, slots: &SlotRanges) -> Result<Vec<u32>, String> {
    if keys > LISTED_KEYS_MAX {
        return Err(format!("--slots lists the keys, so --keys may be {LISTED_KEYS_MAX} at most"));
    }
    let is_inside = |number: &u32| slots.contains(slot_of_key(prefix, u64::from(*number)));
    let listed: Vec<u32> = (0..keys as u32).filter(is_inside).collect();
    if listed.is_empty() {
        return Err(format!("none of the {keys} keys lies in the slots {slots}: give more --keys"));
    }
    Ok(listed)
}

/// Zipf ranks without a table: rejection-inversion (Hörmann and Derflinger 1996).
///
/// The method inverts the integral of `x^-exponent`, which lies above the bars of the distribution,
/// and rejects the few points that lie above a bar's edge. So memory and set-up do not grow with
/// the key space.
#[derive(Clone, Debug)]
struct Zipf {
    count: f64,
    exponent: f64,
    /// The integral at the left edge of the first bar, and at the right edge of the last bar.
    area_first: f64,
    area_last: f64,
    /// Points this close to their bar's centre need no further check.
    sure: f64,
}

impl Zipf {
    fn new(count: u64, exponent: f64) -> Self {
        let mut zipf =
            Self { count: count as f64, exponent, area_first: 0.0, area_last: 0.0, sure: 0.0 };
        zipf.area_first = zipf.area(1.5) - 1.0;
        zipf.area_last = zipf.area(zipf.count + 0.5);
        zipf.sure = 2.0 - zipf.area_inverse(zipf.area(2.5) - zipf.height(2.0));
        zipf
    }

    /// A rank in `0..count`. Rank 0 is the most frequent.
    fn draw(&self, chance: &mut Chance) -> u64 {
        loop {
            let area = self.area_last + chance.unit() * (self.area_first - self.area_last);
            let x = self.area_inverse(area);
            let rank = x.round().clamp(1.0, self.count);
            if rank - x <= self.sure || area >= self.area(rank + 0.5) - self.height(rank) {
                return rank as u64 - 1;
            }
        }
    }

    fn height(&self, x: f64) -> f64 {
        x.powf(-self.exponent)
    }

    fn area(&self, x: f64) -> f64 {
        let power = 1.0 - self.exponent;
        if power.abs() < 1e-9 { x.ln() } else { (x.powf(power) - 1.0) / power }
    }

    fn area_inverse(&self, area: f64) -> f64 {
        let power = 1.0 - self.exponent;
        if power.abs() < 1e-9 {
            area.exp()
        } else {
            (1.0 + area * power).max(0.0).powf(1.0 / power)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(distribution: Distribution, keys: u64, times: usize) -> Vec<u64> {
        let mut chooser = KeyChooser::new(distribution, "key:", keys, None).unwrap();
        let mut chance = Chance::new(3);
        (0..times).map(|_| chooser.next(&mut chance).1).collect()
    }

    fn counts(distribution: Distribution, keys: u64, times: usize) -> Vec<usize> {
        let mut counts = vec![0; keys as usize];
        drawn(distribution, keys, times).into_iter().for_each(|key| counts[key as usize] += 1);
        counts
    }

    /// Each frequency is compared with the definition: 1/r^s, divided by the sum over all ranks.
    #[test]
    fn zipf_frequencies_follow_the_definition() {
        for exponent in [0.5, 0.99, 1.0, 2.0] {
            let counts = counts(Distribution::Zipf { exponent }, 50, 400_000);
            let total: f64 = (1..=50).map(|rank| f64::from(rank).powf(-exponent)).sum();
            for (rank, &count) in counts.iter().enumerate() {
                let expected = 400_000.0 * (rank as f64 + 1.0).powf(-exponent) / total;
                let off = (count as f64 - expected).abs();
                assert!(
                    off < 6.0 * expected.sqrt() + 1.0,
                    "{exponent}: rank {rank}: {count} for {expected}"
                );
            }
        }
    }

    #[test]
    fn zipf_over_a_large_space_stays_inside_and_reaches_the_tail() {
        let keys = drawn(Distribution::Zipf { exponent: 0.99 }, 1_000_000_000, 100_000);
        assert!(keys.iter().all(|&key| key < 1_000_000_000));
        assert!(keys.iter().any(|&key| key > 500_000_000));
        assert!(keys.iter().filter(|&&key| key == 0).count() > 3_000);
    }

    #[test]
    fn sequential_visits_every_key_and_starts_again() {
        assert_eq!(drawn(Distribution::Sequential, 3, 7), [0, 1, 2, 0, 1, 2, 0]);
    }

    #[test]
    fn hot_gives_nine_tenths_to_one_hundredth() {
        let counts = counts(Distribution::Hot, 1_000, 100_000);
        let hot: usize = counts[..10].iter().sum();
        assert!((89_000..91_500).contains(&hot), "{hot}");
        assert!(counts[10..].iter().any(|&count| count > 0));
    }

    #[test]
    fn uniform_reaches_every_key_of_one_or_many() {
        assert_eq!(drawn(Distribution::Uniform, 1, 3), [0, 0, 0]);
        assert!(counts(Distribution::Uniform, 100, 10_000).iter().all(|&count| count > 50));
    }

    #[test]
    fn only_keys_of_the_wanted_slots_are_drawn() {
        let slots: SlotRanges = "0-5460".parse().unwrap();
        let mut chooser =
            KeyChooser::new(Distribution::Uniform, "key:", 3_000, Some(&slots)).unwrap();
        assert!((800..1_200).contains(&chooser.count()), "{}", chooser.count());
        let mut chance = Chance::new(4);
        for _ in 0..1_000 {
            let mut key = Vec::new();
            append_key(&mut key, "key:", chooser.next(&mut chance).1);
            assert!(slot_of(&key) <= 5_460);
        }
    }

    #[test]
    fn slots_without_a_key_are_an_error() {
        let slots: SlotRanges = "7".parse().unwrap();
        assert!(KeyChooser::new(Distribution::Uniform, "key:", 10, Some(&slots)).is_err());
    }

    #[test]
    fn keys_have_twelve_digits() {
        let mut key = Vec::new();
        append_key(&mut key, "key:", 12_345);
        assert_eq!(key, b"key:000000012345");
        assert_eq!(slot_of_key("key:", 12_345), slot_of(&key));
    }

    #[test]
    fn distributions_are_read_back_as_written() {
        for text in ["uniform", "zipf:1.2", "sequential", "hot"] {
            assert_eq!(text.parse::<Distribution>().unwrap().to_string(), text);
        }
        assert!("zipf:99".parse::<Distribution>().is_err());
        assert!("normal".parse::<Distribution>().is_err());
    }
}
