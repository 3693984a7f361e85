//! How long a cell of the table is measured, and what is kept of its samples.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};

/// The longest sample that is told from longer ones, in nanoseconds: one minute.
const SAMPLE_NANOS_MAX: u64 = 60_000_000_000;

/// The bounds of one cell: its time, and the end of the whole run.
#[derive(Clone, Copy)]
pub struct Bounds<'a> {
    /// How long a cell is measured.
    pub time: Duration,
    /// Whether the whole run shall end.
    pub has_ended: &'a (dyn Fn() -> bool + Sync),
}

impl<'a> Bounds<'a> {
    /// The window of a cell that begins now.
    pub fn open(self) -> Window<'a> {
        Window { started: Instant::now(), bounds: self }
    }
}

/// The time of one cell.
pub struct Window<'a> {
    started: Instant,
    bounds: Bounds<'a>,
}

impl Window<'_> {
    /// Whether there is time left.
    pub fn is_open(&self) -> bool {
        self.started.elapsed() < self.bounds.time && !(self.bounds.has_ended)()
    }

    /// Seconds since the window was opened.
    pub fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }
}

/// Times of single operations, in nanoseconds to three digits.
pub fn times() -> Histogram<u64> {
    Histogram::new_with_bounds(1, SAMPLE_NANOS_MAX, 3).expect("the bounds are constants")
}

/// Runs the operation once, and records how long it took.
///
/// # Errors
/// Those of the operation. Its time is not recorded then.
pub fn timed<T, E>(
    times: &mut Histogram<u64>,
    operation: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    let started = Instant::now();
    let done = operation()?;
    times.saturating_record(started.elapsed().as_nanos() as u64);
    Ok(done)
}

/// A percentile in microseconds.
pub fn micros(times: &Histogram<u64>, quantile: f64) -> f64 {
    times.value_at_quantile(quantile) as f64 / 1e3
}

/// The processor time that the calling thread has used, in microseconds.
pub fn thread_cpu_micros() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
}

/// Nanoseconds that one call takes: the median over rounds of `calls` calls, at least one round.
pub fn nanos_a_call(bounds: Bounds<'_>, calls: u32, mut call: impl FnMut()) -> f64 {
    let mut rounds = Vec::new();
    let window = bounds.open();
    while rounds.is_empty() || window.is_open() {
        let started = Instant::now();
        (0..calls).for_each(|_| call());
        rounds.push(started.elapsed().as_nanos() as f64 / f64::from(calls));
    }
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_closes_when_its_time_is_over_or_the_run_ends() {
        let goes_on = Bounds { time: Duration::from_secs(3600), has_ended: &|| false };
        assert!(goes_on.open().is_open());
        assert!(!Bounds { time: Duration::ZERO, ..goes_on }.open().is_open());
        assert!(!Bounds { has_ended: &|| true, ..goes_on }.open().is_open());
    }

    #[test]
    fn a_call_is_measured_even_when_there_is_no_time() {
        let mut calls = 0;
        let none = Bounds { time: Duration::ZERO, has_ended: &|| true };
        assert!(nanos_a_call(none, 10, || calls += 1) >= 0.0);
        assert_eq!(calls, 10);
    }
}
