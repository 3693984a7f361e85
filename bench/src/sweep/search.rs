//! Which rate a sweep tries next. It runs nothing itself.

use crate::schedule::RATE_MAX;

/// The knee lies between a rate that passed and one that failed, which are no further apart than this.
pub const WIDTH: f64 = 1.05;
/// The least rate that is tried.
const RATE_MIN: f64 = 1.0;
/// The most rates that are tried: 24 doublings lead from the least rate to the highest, and five steps halve a doubling to
/// 5 %.
pub const RATES_MAX: usize = 32;

/// See the module.
#[derive(Clone, Debug)]
pub struct Search {
    start: f64,
    tried: usize,
    /// The highest rate that passed.
    passed: Option<f64>,
    /// The lowest rate that failed. Invariant: above `passed`.
    failed: Option<f64>,
}

impl Search {
    /// A search that begins with this rate.
    pub fn new(start: f64) -> Self {
        Self { start: rounded(start), tried: 0, passed: None, failed: None }
    }

    /// The rate to try next; `None` when the knee is known well enough.
    pub fn next(&self) -> Option<f64> {
        let rate = match (self.passed, self.failed) {
            (None, None) => self.start,
            (Some(passed), None) => (2.0 * passed).min(RATE_MAX),
            (None, Some(failed)) => (failed / 2.0).max(RATE_MIN),
            (Some(passed), Some(failed)) => rounded((passed * failed).sqrt()),
        };
        let is_new = self.passed.is_none_or(|passed| rate > passed)
            && self.failed.is_none_or(|failed| rate < failed);
        let is_wide =
            self.passed.zip(self.failed).is_none_or(|(passed, failed)| failed > passed * WIDTH);
        (is_new && is_wide && self.tried < RATES_MAX).then_some(rate)
    }

    /// The rate that [`Self::next`] gave has passed, or has failed.
    pub fn note(&mut self, rate: f64, has_passed: bool) {
        self.tried += 1;
        if has_passed {
            self.passed = Some(rate)
        } else {
            self.failed = Some(rate)
        }
        let is_ordered =
            self.passed.zip(self.failed).is_none_or(|(passed, failed)| passed < failed);
        assert!(is_ordered, "{rate} lies outside of {:?} to {:?}", self.passed, self.failed);
    }

    /// The highest rate that passed.
    pub fn knee(&self) -> Option<f64> {
        self.passed
    }

    /// The lowest rate that failed; without it the knee may lie higher.
    pub fn failed(&self) -> Option<f64> {
        self.failed
    }
}

/// A rate with three digits that count, as people type it.
pub fn rounded(rate: f64) -> f64 {
    let unit = 10_f64.powf(rate.log10().floor() - 2.0);
    // Divided, where the unit is below 1: so no digits of the binary fraction are left.
    if unit >= 1.0 {
        (rate / unit).round() * unit
    } else {
        (rate / unit).round() / (1.0 / unit).round()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rates that are tried on servers that keep up with `capacity`, and the knee.
    fn searched(start: f64, capacity: f64) -> (Vec<f64>, Option<f64>) {
        let (mut search, mut tried) = (Search::new(start), Vec::new());
        while let Some(rate) = search.next() {
            tried.push(rate);
            search.note(rate, rate <= capacity);
        }
        (tried, search.knee())
    }

    #[test]
    fn the_knee_is_found_from_below_and_from_above_to_5_percent() {
        for capacity in [1.2, 17.0, 999.0, 1_000.0, 43_210.0, 9e6] {
            for start in [1.0, 1_000.0, 1e7] {
                let (tried, knee) = searched(start, capacity);
                let knee = knee.unwrap();
                assert!(
                    knee <= capacity && capacity < knee * 1.06,
                    "{capacity} from {start}: {knee}"
                );
                assert!(tried.len() <= RATES_MAX, "{}", tried.len());
                let mut seen = tried.clone();
                seen.sort_by(f64::total_cmp);
                seen.dedup();
                assert_eq!(seen.len(), tried.len(), "{tried:?}");
            }
        }
    }

    #[test]
    fn rates_are_doubled_first_and_have_three_digits() {
        let (tried, _) = searched(1_000.0, 5_000.0);
        assert_eq!(tried[..5], [1_000.0, 2_000.0, 4_000.0, 8_000.0, 5_660.0]);
        assert_eq!([12_345.0, 1.2345, 999.9, 31.62].map(rounded), [12_300.0, 1.23, 1_000.0, 31.6]);
    }

    #[test]
    fn a_search_ends_at_the_highest_rate_and_at_the_least() {
        let (tried, knee) = searched(1_000.0, f64::MAX);
        assert_eq!((tried.last(), knee), (Some(&RATE_MAX), Some(RATE_MAX)));
        let (tried, knee) = searched(100.0, 0.0);
        assert_eq!((tried.last(), knee), (Some(&RATE_MIN), None));
    }
}
