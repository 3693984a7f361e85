//! When each operation of an open-loop run is meant to start.
//!
//! The schedule does not depend on the server: a late reply moves no later start, and no start is
//! skipped. In a closed loop a stalled server is asked less often while it stalls, so the stall
//! hardly shows in the percentiles ("coordinated omission"). A schedule holds one start time, so a
//! backlog costs no memory.

use crate::chance::Chance;

/// The highest rate, in operations a second. Beyond it the drawing of arrivals alone would use a whole core.
pub const RATE_MAX: f64 = 1e7;

/// How the intervals between operations are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Arrivals {
    /// Independent arrivals: exponential intervals, as many unrelated users make them.
    Poisson,
    /// One operation every 1/rate seconds.
    Uniform,
}

/// The intended start times of a run, oldest first, in nanoseconds of the run's clock.
#[derive(Clone, Debug)]
pub struct Schedule {
    arrivals: Arrivals,
    start: u64,
    /// Nanoseconds between two operations on average.
    interval: f64,
    /// Nanoseconds from `start` to the next start of an operation.
    offset: f64,
    /// How many starts were taken.
    taken: u64,
    chance: Chance,
}

impl Schedule {
    /// `rate` operations a second from `start` on.
    pub fn new(arrivals: Arrivals, rate: f64, start: u64, chance: Chance) -> Self {
        assert!(rate.is_finite() && rate > 0.0, "a rate of {rate}");
        let mut schedule =
            Self { arrivals, start, interval: 1e9 / rate, offset: 0.0, taken: 0, chance };
        if arrivals == Arrivals::Poisson {
            schedule.offset = schedule.pause();
        }
        schedule
    }

    /// When the next operation is meant to start.
    pub fn next_at(&self) -> u64 {
        self.start + self.offset as u64
    }

    /// Takes the next start, and returns its time.
    pub fn take(&mut self) -> u64 {
        let at = self.next_at();
        self.taken += 1;
        self.offset = match self.arrivals {
            Arrivals::Poisson => self.offset + self.pause(),
            // Multiplication, and no repeated addition: so rounding errors do not add up over a
            // long run.
            Arrivals::Uniform => self.taken as f64 * self.interval,
        };
        at
    }

    /// Takes all starts up to and including `now`. Returns how many were ever taken.
    pub fn pass(&mut self, now: u64) -> u64 {
        while self.next_at() <= now {
            self.take();
        }
        self.taken
    }

    /// How many starts were taken so far.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    fn pause(&mut self) -> f64 {
        -(1.0 - self.chance.unit()).ln() * self.interval
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(arrivals: Arrivals, rate: f64) -> Schedule {
        Schedule::new(arrivals, rate, 5_000, Chance::new(9))
    }

    #[test]
    fn uniform_intentions_are_exact_after_a_million() {
        let mut schedule = schedule(Arrivals::Uniform, 3_000.0);
        assert_eq!(schedule.take(), 5_000);
        assert_eq!(schedule.take(), 5_000 + 333_333);
        for _ in 2..3_000_000 {
            schedule.take();
        }
        assert_eq!(schedule.next_at(), 5_000 + 1_000 * 1_000_000_000);
    }

    #[test]
    fn poisson_intentions_have_the_rate_and_the_spread_of_independent_arrivals() {
        let mut schedule = schedule(Arrivals::Poisson, 1_000.0);
        let times: Vec<u64> = (0..100_000).map(|_| schedule.take()).collect();
        let pauses: Vec<f64> = times.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
        let mean = pauses.iter().sum::<f64>() / pauses.len() as f64;
        let variance =
            pauses.iter().map(|pause| (pause - mean).powi(2)).sum::<f64>() / pauses.len() as f64;
        assert!((0.98e6..1.02e6).contains(&mean), "{mean}");
        // An exponential interval's deviation equals its mean.
        assert!((0.97..1.03).contains(&(variance.sqrt() / mean)), "{}", variance.sqrt() / mean);
    }

    #[test]
    fn a_late_taker_still_gets_every_intention() {
        let mut schedule = schedule(Arrivals::Uniform, 1_000.0);
        let mut arrived = schedule.clone();
        assert_eq!(arrived.pass(5_000 + 99_500_000), 100);
        let late: Vec<u64> = (0..100).map(|_| schedule.take()).collect();
        assert_eq!(late[99], 5_000 + 99_000_000);
        assert_eq!(schedule.next_at(), arrived.next_at());
    }
}
