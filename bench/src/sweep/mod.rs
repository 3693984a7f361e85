//! `--sweep`: open-loop runs at growing rates, up to the knee.
//!
//! ```text
//! options   where to begin, and when a rate has failed
//! search    which rate is next: doubled until one fails, then between the best that passed and the worst that failed
//! steps     one run: what it achieved, and whether it passed
//! report    the table, the knee, and the run at 70 % of it
//! ```
//!
//! The knee is the highest rate that passed, to 5 %. Each rate is run for the same time behind its own warm-up, on new
//! connections. A rate that fails is run once more, since one pause of the machine fails a run too; it has failed when both
//! runs have. Latencies run from the intended time, so a server that falls behind cannot hide it.

pub mod options;

pub mod search;
pub mod steps;

pub mod report;

use std::time::Duration;

use self::options::{Criteria, TAIL_SHARE, TAIL_TIME_MAX};
use self::report::{SweepReport, Tail};
use self::search::Search;
use self::steps::{Run, Step};
use crate::driver::RunError;
use crate::host::HostFacts;
use crate::options::Plan;
use crate::recorder::OnSecond;
use crate::signals::Signals;
use crate::workload::Workload;

/// The runs of one rate before it has failed.
const RUNS_OF_A_RATE: usize = 2;

/// Who is told of a sweep while it goes on.
pub struct Listener<'a> {
    /// Gets the row of each run.
    pub on_step: &'a mut dyn FnMut(&Step),
    /// Gets each second of each run.
    pub on_second: &'a mut OnSecond<'a>,
}

/// Searches the knee, and measures once more below it.
///
/// # Errors
/// Those of the first run, when it does not begin. A signal, or a later run that does not begin, ends the sweep with what
/// there is.
pub fn run(
    plan: &Plan,
    criteria: Criteria,
    workload: &Workload,
    listener: Listener<'_>,
) -> Result<SweepReport, RunError> {
    let (host, keys_used) = (HostFacts::read(), workload.key_count());
    // It also hears a signal between two runs.
    let signals = Signals::new()?;
    let Listener { on_step, on_second } = listener;
    let mut search = Search::new(criteria.start);
    let (mut steps, mut lost) = (Vec::new(), None);
    'rates: while let Some(rate) = search.next() {
        let mut has_passed = false;
        for _ in 0..RUNS_OF_A_RATE {
            let run = match Run::at(plan, workload, rate, None, &mut *on_second) {
                Err(error) if !steps.is_empty() => {
                    lost = why(error);
                    break 'rates;
                }
                run => run?,
            };
            // A run that a signal cut short says nothing.
            if signals.seen().is_some() {
                break 'rates;
            }
            let step = Step::of(&run, &criteria);
            on_step(&step);
            has_passed = step.has_passed();
            steps.push(step);
            if has_passed {
                break;
            }
        }
        search.note(rate, has_passed);
    }
    let knee = search.knee().filter(|_| signals.seen().is_none() && lost.is_none());
    let mut report = SweepReport::new(plan, criteria, host.clone(), keys_used, steps, &search);
    if let Some(knee) = knee {
        let rate = search::rounded(knee * TAIL_SHARE);
        let wanted = (criteria.samples as f64 / rate).min(TAIL_TIME_MAX.as_secs_f64());
        let wanted = Some(Duration::from_secs_f64(wanted));
        match Run::at(plan, workload, rate, wanted, on_second) {
            Ok(run) => report.set_tail(Tail::of(run, &criteria, host, keys_used)),
            Err(error) => lost = why(error),
        }
    }
    report.set_end(signals.seen(), lost);
    Ok(report)
}

/// Why a later run did not begin; `None` if a signal came.
fn why(error: RunError) -> Option<String> {
    match error {
        RunError::Interrupted(_) => None,
        RunError::Unreachable(why) | RunError::NoSlots(why) => Some(why),
        RunError::Io(error) => Some(error.to_string()),
    }
}
