//! The cost of the generator itself: the processor time that it used, and the time that it waited
//! for a core.
//!
//! A generator that waits for a core measures itself and not the server, so both figures stand
//! beside every result.

use std::fs;
use std::time::Instant;

use rustix::time::{ClockId, clock_gettime};

/// The use of the processor between two moments, in seconds.
#[derive(Clone, Copy, Debug)]
pub struct CpuMeter {
    started: Instant,
    /// Processor time of this process.
    pub used: f64,
    /// Time in which this process was ready to run and other processes had the cores.
    pub waited: f64,
    /// Time that has passed.
    pub elapsed: f64,
}

impl CpuMeter {
    /// Starts to measure. `None` if the kernel does not keep these times.
    pub fn start() -> Option<Self> {
        let waited = waited_seconds()?;
        Some(Self { started: Instant::now(), used: used_seconds(), waited, elapsed: 0.0 })
    }

    /// The use since the start.
    pub fn stop(self) -> Self {
        Self {
            started: self.started,
            used: used_seconds() - self.used,
            waited: waited_seconds().map_or(0.0, |waited| waited - self.waited),
            elapsed: self.started.elapsed().as_secs_f64(),
        }
    }

    /// The share of one core used, 0 to 1.
    pub fn share_used(&self) -> f64 {
        if self.elapsed > 0.0 { self.used / self.elapsed } else { 0.0 }
    }

    /// The share of the time spent waiting for a core, 0 to 1.
    pub fn share_waited(&self) -> f64 {
        if self.elapsed > 0.0 { self.waited / self.elapsed } else { 0.0 }
    }

    /// Whether the result may show the generator's limit and not the server's.
    pub fn is_bottleneck(&self) -> bool {
        self.share_used() + self.share_waited() > 0.9
    }
}

fn used_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// `/proc/self/schedstat`: nanoseconds run, nanoseconds waited for a core, turns on one.
fn waited_seconds() -> Option<f64> {
    let text = fs::read_to_string("/proc/self/schedstat").ok()?;
    let nanos: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(nanos as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter(used: f64, waited: f64) -> CpuMeter {
        CpuMeter { started: Instant::now(), used, waited, elapsed: 10.0 }
    }

    #[test]
    fn the_generator_is_the_bottleneck_when_it_runs_or_waits_for_a_core_all_the_time() {
        assert!(meter(9.5, 0.0).is_bottleneck());
        assert!(meter(5.0, 4.5).is_bottleneck());
        assert!(!meter(5.0, 1.0).is_bottleneck());
    }

    #[test]
    fn work_is_seen() {
        let Some(start) = CpuMeter::start() else { return };
        let sum = (0..2_000_000_u64).fold(1_u64, |sum, number| std::hint::black_box(sum ^ number));
        assert!(start.stop().used > 0.0, "{sum}");
    }
}
