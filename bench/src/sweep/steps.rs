//! One run of a sweep: what it achieved, and whether it passed.

use std::time::Duration;

use serde::Serialize;

use super::options::Criteria;
use crate::driver::{Driver, Extent, Pace, RunError, Summary};
use crate::options::Plan;
use crate::percentiles::{Percentiles, millis};
use crate::recorder::OnSecond;
use crate::servers::{Sample, ServerFigures};
use crate::workload::Workload;

/// A run at one rate.
pub struct Run {
    /// Operations a second that were asked for.
    pub rate: f64,
    /// Its plan: that of the sweep, with the rate.
    pub plan: Plan,
    /// What it found.
    pub summary: Summary,
    /// What it cost the servers.
    pub servers: Option<ServerFigures>,
}

impl Run {
    /// Runs the load of `plan` at `rate`, for its duration, or for `wanted` if that is longer.
    ///
    /// # Errors
    /// See [`RunError`].
    pub fn at(
        plan: &Plan,
        workload: &Workload,
        rate: f64,
        wanted: Option<Duration>,
        on_second: &mut OnSecond<'_>,
    ) -> Result<Self, RunError> {
        let mut plan = plan.clone();
        let arrivals = plan.arrivals;
        plan.driver.pace = Pace::Open { rate, arrivals };
        if let (Extent::Duration(duration), Some(wanted)) = (plan.driver.extent, wanted) {
            plan.driver.extent = Extent::Duration(duration.max(wanted));
        }
        let before = Sample::take(&plan.driver.targets);
        let mut on_second = |second: &_, latency: &_| on_second(second, latency);
        let summary = Driver::new(plan.driver.clone(), workload.clone(), &mut on_second)?.run()?;
        let after = Sample::take_settled(&plan.driver.targets);
        let servers = before.until(&after, summary.recorder.succeeded_ever());
        Ok(Self { rate, plan, summary, servers })
    }
}

/// A row of the table.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// Operations a second that were asked for.
    pub rate: f64,
    /// Operations a second that were done within the measured time.
    pub achieved_rate: f64,
    /// These by the operations that were due then, in percent. Random arrivals give not quite the rate that was asked for.
    pub achieved_percent: f64,
    /// From the intended time.
    pub latency: Percentiles,
    /// Operations that were refused, lost or not answered in time.
    pub errors: u64,
    /// What a million operations have cost, among others.
    pub servers: Option<ServerFigures>,
    /// Whether the generator itself may have been too slow.
    pub is_generator_bottleneck: bool,
    /// Why the run has failed; null if it passed.
    pub failed_by: Option<String>,
}

/// The heading of the rows.
pub const HEADING: &str =
    "      asked   achieved       %     p50 ms     p99 ms   p99.9 ms     max ms     errors";

impl Step {
    /// The row of a run.
    pub fn of(run: &Run, criteria: &Criteria) -> Self {
        let (recorder, rate) = (&run.summary.recorder, run.rate);
        let totals = recorder.totals();
        let seconds = recorder.measured_nanos() as f64 / 1e9;
        let done = recorder.succeeded_within() as f64;
        let achieved_rate = if seconds > 0.0 { done / seconds } else { 0.0 };
        let achieved_percent = 100.0 * done / totals.due().max(1) as f64;
        let latency = Percentiles::of(recorder.latency());
        Self {
            rate,
            achieved_rate,
            achieved_percent,
            latency,
            errors: totals.refused + totals.lost + totals.timed_out,
            servers: run.servers.clone(),
            is_generator_bottleneck: run
                .summary
                .cpu
                .as_ref()
                .is_some_and(|cpu| cpu.is_bottleneck()),
            failed_by: failed_by(achieved_percent, latency.p99, criteria),
        }
    }

    /// Whether the servers kept up.
    pub fn has_passed(&self) -> bool {
        self.failed_by.is_none()
    }

    /// As text, below [`HEADING`].
    pub fn row(&self) -> String {
        let Self { rate, achieved_rate, achieved_percent, latency, errors, .. } = self;
        let times = [latency.p50, latency.p99, latency.p99_9, latency.max].map(millis);
        let times = times.iter().fold(String::new(), |row, time| format!("{row}{time:>11}"));
        let end = self.failed_by.as_deref().unwrap_or("passed");
        let note =
            if self.is_generator_bottleneck { "; the generator had no core to itself" } else { "" };
        format!(
            "{rate:>11} {achieved_rate:>10.0} {achieved_percent:>7.1}{times}{errors:>11}  {end}{note}"
        )
    }
}

fn failed_by(achieved_percent: f64, p99: u64, criteria: &Criteria) -> Option<String> {
    let Criteria { share_percent, p99_nanos, .. } = *criteria;
    if achieved_percent < share_percent {
        Some(format!("failed: less than {share_percent} % achieved"))
    } else if p99 > p99_nanos {
        Some(format!("failed: p99 above {} ms", p99_nanos as f64 / 1e6))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_fails_by_what_it_achieves_or_by_its_tail() {
        let (start, samples) = (1.0, 1);
        let criteria = Criteria { start, share_percent: 95.0, p99_nanos: 10_000_000, samples };
        let failed = |achieved, p99| failed_by(achieved, p99, &criteria);
        assert_eq!(failed(95.0, 10_000_000), None);
        assert!(failed(94.9, 0).unwrap().contains("95 %"));
        assert!(failed(100.0, 10_000_001).unwrap().contains("10 ms"));
    }
}
