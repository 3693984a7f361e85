//! How often something took how long: a histogram of fixed size, cheap to record into and to copy.
//!
//! Times are counted in microseconds, in buckets whose width is an eighth of their power of two: a
//! quantile is at most 12.5 % above the truth. All buckets are 1.5 KiB, so a shard can publish a copy at
//! each beat. An `hdrhistogram` of the same range takes 20 KiB for 1 % and allocates when it is copied.

use std::time::Duration;

/// Buckets per power of two.
const STEPS: usize = 8;
/// Powers of two above the first `STEPS` microseconds: the last bucket begins at about 16 minutes and
/// holds everything above.
const POWERS: usize = 27;
const BUCKETS: usize = STEPS * (POWERS + 1);

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Histogram {
    /// Their sum is `count`.
    buckets: [u64; BUCKETS],
    count: u64,
    sum: Duration,
    max: Duration,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: [0; BUCKETS], count: 0, sum: Duration::ZERO, max: Duration::ZERO }
    }
}

impl Histogram {
    /// Counts one time.
    pub fn record(&mut self, time: Duration) {
        self.buckets[bucket(time)] += 1;
        self.count += 1;
        self.sum = self.sum.saturating_add(time);
        self.max = self.max.max(time);
    }

    /// Counts all times of another one too.
    pub fn add(&mut self, other: &Self) {
        self.buckets.iter_mut().zip(&other.buckets).for_each(|(count, more)| *count += more);
        self.count += other.count;
        self.sum = self.sum.saturating_add(other.sum);
        self.max = self.max.max(other.max);
    }

    /// How many times were counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// All times together.
    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// The longest time, exactly.
    pub fn max(&self) -> Duration {
        self.max
    }

    /// The time that the share `quantile` (0 to 1) of all times did not exceed, at most 12.5 % too high.
    /// `None` when nothing was counted.
    pub fn quantile(&self, quantile: f64) -> Option<Duration> {
        let rank = (quantile.clamp(0.0, 1.0) * self.count as f64).ceil().max(1.0) as u64;
        let mut passed = 0;
        let reached = |(_, count): &(Duration, u64)| {
            passed += count;
            passed >= rank
        };
        self.buckets().find(reached).map(|(upper, _)| upper.min(self.max))
    }

    /// The buckets that are not empty, ascending: the time below which the bucket ends, and how many times
    /// are in it. The last bucket has no end; the longest time stands in its place.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> {
        let full = self.buckets.iter().enumerate().filter(|(_, count)| **count > 0);
        full.map(|(bucket, count)| {
            let end = if bucket == BUCKETS - 1 { self.max } else { start(bucket + 1) };
            (end, *count)
        })
    }
}

/// The bucket of a time.
fn bucket(time: Duration) -> usize {
    let micros = time.as_micros().min(u128::from(u64::MAX)) as u64;
    if micros < STEPS as u64 {
        return micros as usize;
    }
    let power = micros.ilog2() as usize - STEPS.ilog2() as usize;
    let step = (micros >> power) as usize - STEPS;
    (STEPS * (power + 1) + step).min(BUCKETS - 1)
}

/// The shortest time of a bucket.
fn start(bucket: usize) -> Duration {
    if bucket < STEPS {
        return Duration::from_micros(bucket as u64);
    }
    let (power, step) = (bucket / STEPS - 1, bucket % STEPS);
    Duration::from_micros(((STEPS + step) as u64) << power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_meet_without_gap_and_each_time_is_in_its_own() {
        for index in 0..BUCKETS {
            assert_eq!(bucket(start(index)), index);
            if index > 0 {
                let before = start(index) - Duration::from_nanos(1);
                assert_eq!(bucket(before), index - 1, "{before:?}");
            }
        }
        assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
    }

    #[test]
    fn a_sum_has_the_times_of_both() {
        let of = |times: &[u64]| {
            let mut histogram = Histogram::default();
            times.iter().for_each(|time| histogram.record(Duration::from_micros(*time)));
            histogram
        };
        let mut sum = of(&[3, 900, 7]);
        sum.add(&of(&[40, 3, 70_000]));
        assert_eq!(sum, of(&[3, 900, 7, 40, 3, 70_000]));
    }

    #[test]
    fn a_quantile_is_never_below_the_truth_and_at_most_an_eighth_above() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        let times: Vec<_> = (1..=10_000).map(|n| Duration::from_micros(n * n / 7)).collect();
        times.iter().for_each(|time| histogram.record(*time));
        for percent in [1, 50, 90, 99, 100] {
            let truth = times[times.len() * percent / 100 - 1];
            let found = histogram.quantile(percent as f64 / 100.0).expect("times were counted");
            let limit = truth + truth / 8 + Duration::from_micros(1);
            assert!((truth..=limit).contains(&found), "{percent} %: {found:?} for {truth:?}");
        }
        let last = *times.last().expect("times were counted");
        assert_eq!((histogram.count(), histogram.max()), (10_000, last));
        assert_eq!(histogram.sum(), times.iter().sum());
        assert_eq!(histogram.buckets().map(|(_, count)| count).sum::<u64>(), 10_000);
    }
}
