//! The load: a number of tasks, each with one command under way, at the node that leads the group.

use crate::{cluster::Cluster, options::Options, types::Replica};
use openraft::error::RaftError;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

/// A command that takes longer is given up.
const TIMEOUT: Duration = Duration::from_secs(10);
/// After a group has had no leader.
const BACK_OFF: Duration = Duration::from_millis(10);

const WARM_UP: u8 = 0;
const MEASURED: u8 = 1;
const ENDING: u8 = 2;

/// The result of a run; the names end with their unit.
#[derive(Default, Serialize)]
pub(crate) struct Outcome {
    /// The measured time.
    pub(crate) seconds: f64,
    /// Commands acknowledged in the measured time.
    pub(crate) acknowledged: usize,
    /// Of these, a second.
    pub(crate) ops_per_second: f64,
    /// Half of them took no longer.
    pub(crate) p50_micros: f64,
    /// 99 of 100 took no longer.
    pub(crate) p99_micros: f64,
    /// The longest.
    pub(crate) max_micros: f64,
    /// Processor time of this process, for each of them.
    pub(crate) cpu_micros_per_op: f64,
    /// Commands that ended otherwise, at any time.
    pub(crate) not_acknowledged: u64,
    /// The same by cause.
    pub(crate) errors: BTreeMap<String, u64>,
    /// A group has got another leader.
    pub(crate) leaders_moved: bool,
    /// Commands acknowledged at any time.
    #[serde(skip)]
    pub(crate) acknowledged_ever: u64,
    /// Commands of which nobody knows whether they are applied.
    #[serde(skip)]
    pub(crate) unknown: u64,
}

/// What came of the commands of one task.
#[derive(Default)]
struct Counted {
    acknowledged_ever: u64,
    unknown: u64,
    errors: BTreeMap<String, u64>,
    /// In the measured time, in microseconds.
    latencies: Vec<u32>,
}

/// Runs the load: the warm-up, the measured time, and the end of what is under way.
pub(crate) async fn run(options: &Options, cluster: &Cluster) -> Outcome {
    let phase = Arc::new(AtomicU8::new(WARM_UP));
    let mut tasks = JoinSet::new();
    for number in 0..options.in_flight {
        let leader = cluster.leader(number % options.groups).clone();
        tasks.spawn(write(leader, vec![b'v'; options.value_size as usize], phase.clone()));
    }
    sleep(options.warmup).await;
    let (began, used) = (Instant::now(), cpu_seconds());
    phase.store(MEASURED, Ordering::Relaxed);
    sleep(options.duration).await;
    phase.store(ENDING, Ordering::Relaxed);
    let (seconds, cpu) = (began.elapsed().as_secs_f64(), cpu_seconds() - used);
    sum(tasks.join_all().await, seconds, cpu)
}

/// Keeps one command under way until the run is ending.
async fn write(leader: Replica, value: Vec<u8>, phase: Arc<AtomicU8>) -> Counted {
    let mut counted = Counted::default();
    while phase.load(Ordering::Relaxed) != ENDING {
        let began = Instant::now();
        let class = match timeout(TIMEOUT, leader.client_write(value.clone())).await {
            Ok(Ok(_)) => {
                counted.acknowledged_ever += 1;
                if phase.load(Ordering::Relaxed) == MEASURED {
                    counted.latencies.push(began.elapsed().as_micros() as u32);
                }
                continue;
            }
            // It was not appended, or another leader has put something else in its place.
            Ok(Err(RaftError::APIError(_))) => "not the leader",
            Ok(Err(RaftError::Fatal(_))) => {
                counted.unknown += 1;
                "the replica has stopped"
            }
            Err(_) => {
                counted.unknown += 1;
                "timed out"
            }
        };
        *counted.errors.entry(class.to_owned()).or_default() += 1;
        sleep(BACK_OFF).await;
    }
    counted
}

fn sum(all: Vec<Counted>, seconds: f64, cpu: f64) -> Outcome {
    let mut outcome = Outcome { seconds, ..Outcome::default() };
    let mut latencies = Vec::new();
    for counted in all {
        outcome.acknowledged_ever += counted.acknowledged_ever;
        outcome.unknown += counted.unknown;
        latencies.extend(counted.latencies);
        for (class, count) in counted.errors {
            outcome.not_acknowledged += count;
            *outcome.errors.entry(class).or_default() += count;
        }
    }
    latencies.sort_unstable();
    let count = latencies.len();
    outcome.acknowledged = count;
    outcome.ops_per_second = count as f64 / seconds;
    if let Some(longest) = latencies.last() {
        outcome.p50_micros = latencies[count / 2].into();
        outcome.p99_micros = latencies[count * 99 / 100].into();
        outcome.max_micros = (*longest).into();
        outcome.cpu_micros_per_op = cpu * 1e6 / count as f64;
    }
    outcome
}

/// The processor time of this process so far.
fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_all_tasks() {
        let counted = |latencies: Vec<u32>, unknown| Counted {
            acknowledged_ever: 2 * latencies.len() as u64,
            unknown,
            errors: [("timed out".to_owned(), unknown)].into(),
            latencies,
        };
        let outcome =
            sum(vec![counted((51..=100).collect(), 2), counted((1..=50).collect(), 1)], 2.0, 0.001);
        assert_eq!((outcome.acknowledged, outcome.acknowledged_ever), (100, 200));
        assert_eq!(
            (outcome.p50_micros, outcome.p99_micros, outcome.max_micros),
            (51.0, 100.0, 100.0)
        );
        assert_eq!((outcome.ops_per_second, outcome.cpu_micros_per_op), (50.0, 10.0));
        assert_eq!((outcome.not_acknowledged, outcome.unknown), (3, 3));
    }
}
