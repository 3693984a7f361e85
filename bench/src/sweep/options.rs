//! The options of a sweep.

use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::times::duration;

/// The part of the knee at which the tail is measured.
pub const TAIL_SHARE: f64 = 0.7;
/// The run at 70 % of the knee takes no longer than this, unless `--duration` is longer.
pub const TAIL_TIME_MAX: Duration = Duration::from_secs(300);

/// How the knee is searched.
#[derive(Clone, Debug, Args)]
pub struct SweepOptions {
    /// Run the load at growing rates (open loop), and name the knee: the highest rate, to 5 %, that the servers keep up with.
    /// Then run it at 70 % of the knee, and print p99.9 / p50. Each run takes --warmup and --duration
    #[arg(long, conflicts_with_all = ["rate", "requests", "check", "hdr_log"])]
    pub sweep: bool,

    /// The first rate of a sweep, in operations a second, at least 1
    #[arg(long, value_name = "OPS", default_value_t = 1_000.0, requires = "sweep")]
    pub sweep_start: f64,

    /// A rate of a sweep has failed if less than this part of it is achieved, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 95.0, requires = "sweep")]
    pub sweep_share: f64,

    /// A rate of a sweep has failed if its 99th percentile is longer than this
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "100ms", requires = "sweep")]
    pub sweep_p99: Duration,

    /// The run at 70 % of the knee takes longer than --duration if this many operations need it, but 300 s at most
    #[arg(long, value_name = "N", default_value_t = 100_000, requires = "sweep", value_parser = clap::value_parser!(u64).range(1..))]
    pub sweep_samples: u64,
}

/// Where a sweep begins, and when a rate has failed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Criteria {
    /// The first rate, in operations a second.
    pub start: f64,
    /// The part of the rate that must be achieved, in percent.
    pub share_percent: f64,
    /// The longest 99th percentile, in nanoseconds.
    pub p99_nanos: u64,
    /// So many operations the run below the knee wants. Of 100,000 a hundred are beyond the 99.9th percentile.
    pub samples: u64,
}

impl SweepOptions {
    /// The criteria, if there is to be a sweep. `rate_max` is the highest rate of any run.
    ///
    /// # Errors
    /// The text says what is wrong and what is right.
    pub fn criteria(&self, rate_max: f64) -> Result<Option<Criteria>, String> {
        let Self { sweep_start: start, sweep_share: share_percent, sweep_p99, .. } = *self;
        let samples = self.sweep_samples;
        if !(1.0..=rate_max).contains(&start) {
            return Err(format!("--sweep-start must be at least 1 and at most {rate_max}"));
        }
        if !(1.0..=100.0).contains(&share_percent) {
            return Err("--sweep-share must be within 1 and 100 percent".to_owned());
        }
        if sweep_p99.is_zero() {
            return Err("--sweep-p99 must be above 0".to_owned());
        }
        let p99_nanos = sweep_p99.as_nanos().try_into().unwrap_or(u64::MAX);
        Ok(self.sweep.then_some(Criteria { start, share_percent, p99_nanos, samples }))
    }
}
