//! The result of a sweep, as text and as JSON.
//!
//! The JSON (version 1) is one object:
//!
//! ```text
//! { "version": 1, "parameters": {…}, "host": {…}, "criteria": {…}, "steps": [ {…}, … ],
//!   "knee": { "rate", "failed_rate" }, "interrupted_by", "lost",
//!   "tail": { "rate", "p99_9_by_p50", "has_samples", "run": {…} } }
//! ```
//!
//! `knee` is null if no rate passed, and its `failed_rate` if none failed. `lost` says why a run could not begin, which ended
//! the sweep. `run` is a report like that of a single run.
//! `parameters` have the first rate. Latencies are nanoseconds.

use std::fmt::Write;

use serde::Serialize;

use super::options::{Criteria, TAIL_SHARE};
use super::search::Search;
use super::steps::{Run, Step};
use crate::host::HostFacts;
use crate::options::Plan;
use crate::report::{Parameters, Report};

/// The version of the JSON.
const VERSION: u32 = 1;

/// All that a sweep says.
#[derive(Debug, Serialize)]
pub struct SweepReport {
    version: u32,
    parameters: Parameters,
    host: HostFacts,
    criteria: Criteria,
    steps: Vec<Step>,
    knee: Option<Knee>,
    interrupted_by: Option<i32>,
    lost: Option<String>,
    tail: Option<Tail>,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Knee {
    rate: f64,
    failed_rate: Option<f64>,
}

/// The run below the knee.
#[derive(Debug, Serialize)]
pub struct Tail {
    rate: f64,
    /// The 99.9th percentile by the median; null if nothing was done.
    p99_9_by_p50: Option<f64>,
    /// Whether there were as many operations as this ratio wants.
    has_samples: bool,
    run: Report,
    #[serde(skip)]
    samples: u64,
}

impl Tail {
    /// The result of that run.
    pub fn of(run: Run, criteria: &Criteria, host: HostFacts, keys_used: u64) -> Self {
        let Run { rate, plan, summary, servers } = run;
        let latency = summary.recorder.latency();
        let (samples, at) = (latency.len(), |quantile| latency.value_at_quantile(quantile) as f64);
        Self {
            rate,
            p99_9_by_p50: (at(0.5) > 0.0).then(|| at(0.999) / at(0.5)),
            // The draws of a schedule may give some fewer than the rate promises.
            has_samples: samples as f64 >= 0.98 * criteria.samples as f64,
            samples,
            run: Report::new(&plan, keys_used, host, &summary, servers),
        }
    }
}

impl SweepReport {
    /// The report of a sweep without its tail.
    pub fn new(
        plan: &Plan,
        criteria: Criteria,
        host: HostFacts,
        keys_used: u64,
        steps: Vec<Step>,
        search: &Search,
    ) -> Self {
        let knee = search.knee().map(|rate| Knee { rate, failed_rate: search.failed() });
        Self {
            version: VERSION,
            parameters: Parameters::of(plan, keys_used),
            host,
            criteria,
            steps,
            knee,
            interrupted_by: None,
            lost: None,
            tail: None,
        }
    }

    /// Adds the run below the knee.
    pub fn set_tail(&mut self, tail: Tail) {
        self.tail = Some(tail);
    }

    /// Says which signal ended the sweep, or why a run could not begin.
    pub fn set_end(&mut self, signal: Option<i32>, lost: Option<String>) {
        (self.interrupted_by, self.lost) = (signal, lost);
    }

    /// The signal that ended the sweep.
    pub fn signal(&self) -> Option<i32> {
        self.interrupted_by
    }

    /// Whether a rate passed, and each run began.
    pub fn is_whole(&self) -> bool {
        self.knee.is_some() && self.lost.is_none()
    }

    /// What is looked for, as text.
    pub fn preamble(criteria: &Criteria) -> String {
        let Criteria { start, share_percent, p99_nanos, .. } = criteria;
        format!(
            "sweep     from {start} a second; a rate has failed when two runs achieve less than {share_percent} % of it, \
             or have a p99 above {} ms\n",
            *p99_nanos as f64 / 1e6
        )
    }

    /// The knee and the run below it, as text. The rows of the table were told one by one.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if let Some(why) = &self.lost {
            let _ = writeln!(
                text,
                "warning   the sweep ended early, since a run could not begin: {why}"
            );
        }
        let has_ended_early = self.interrupted_by.is_some() || self.lost.is_some();
        let _ = match (self.knee, has_ended_early) {
            (Some(Knee { rate, failed_rate: Some(failed) }), false) => {
                writeln!(
                    text,
                    "knee      {rate} a second: the highest rate that passed; {failed} failed"
                )
            }
            (Some(Knee { rate, .. }), false) => writeln!(
                text,
                "knee      at or above {rate} a second, the highest rate that was tried: it passed"
            ),
            (Some(Knee { rate, .. }), true) => {
                writeln!(text, "knee      at or above {rate} a second (partial results)")
            }
            (None, true) => writeln!(text, "knee      not found (partial results)"),
            (None, false) => writeln!(text, "knee      not found: no rate passed"),
        };
        if let Some(tail) = &self.tail {
            let _ = writeln!(
                text,
                "\nat {:.0} % of the knee: {} a second",
                100.0 * TAIL_SHARE,
                tail.rate
            );
            text.push_str(&tail.run.text());
            let ratio = tail.p99_9_by_p50;
            let ratio = ratio.map_or_else(|| "unknown".to_owned(), |ratio| format!("{ratio:.1}"));
            let few = if tail.has_samples { "" } else { ": too few to know this percentile well" };
            let _ = writeln!(
                text,
                "tail      p99.9 / p50 = {ratio}, of {} operations{few}",
                tail.samples
            );
        }
        text
    }

    /// Everything, as JSON.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("numbers and strings only")
    }
}
