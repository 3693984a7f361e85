//! The percentiles of a run, as they stand in reports.

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::recorder::longest;

/// Latencies in nanoseconds; all are 0 if there was no operation.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Percentiles {
    /// How many operations there were.
    pub count: u64,
    /// The shortest.
    pub min: u64,
    /// The mean.
    pub mean: f64,
    /// Half of them took no longer.
    pub p50: u64,
    /// 90 of 100 took no longer.
    pub p90: u64,
    /// 99 of 100 took no longer.
    pub p99: u64,
    /// 999 of 1,000 took no longer.
    pub p99_9: u64,
    /// 9,999 of 10,000 took no longer.
    pub p99_99: u64,
    /// The longest.
    pub max: u64,
}

impl Percentiles {
    /// Those of a histogram.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile);
        Self {
            count: histogram.len(),
            min: if histogram.is_empty() { 0 } else { histogram.min() },
            mean: histogram.mean(),
            p50: at(0.50),
            p90: at(0.90),
            p99: at(0.99),
            p99_9: at(0.999),
            p99_99: at(0.9999),
            max: longest(histogram),
        }
    }

    /// From the median on, in columns of milliseconds.
    pub fn row(&self) -> String {
        let all = [self.p50, self.p90, self.p99, self.p99_9, self.p99_99, self.max];
        all.iter().fold(String::new(), |row, &nanos| format!("{row}{:>11}", millis(nanos)))
    }
}

/// Milliseconds with three digits behind the point.
pub fn millis(nanos: u64) -> String {
    format!("{:.3}", nanos as f64 / 1e6)
}
