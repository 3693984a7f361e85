//! `purlin-bench in-process`: replicated commands a second of the library, without a gateway and without clients.
//!
//! ```text
//! options   what is measured, and why it could not be
//! cluster   three hosts in this process, each with a log of its own on the disk
//! load      on the core of each shard: commands to the groups that the shard leads
//! machine   what the groups replicate: the last command, and how many there were
//! report    the rate, the latencies, and the processor time
//! ```
//!
//! A command is acknowledged when it is durable on two of the three nodes and applied. The commands come from the core of
//! the shard that leads their group, so the run measures the engine and not the queue for other threads. After the load
//! the groups are asked how many commands they have applied, and the answer must fit what was acknowledged.

use crate::cpu::CpuMeter;
use crate::host::HostFacts;
use crate::signals::Signals;

pub mod options;

pub mod machine;

pub mod cluster;
pub mod load;

pub mod report;

use cluster::Cluster;
use load::{Counted, Phase, Phases};
use options::{InProcessError, InProcessOptions};
use report::{InProcessReport, Measured};

/// Starts the hosts, runs the load, compares what was applied, and stops the hosts.
///
/// # Errors
/// See [`InProcessError`]. The directory of the run is removed in each case.
pub fn run(
    options: &InProcessOptions,
    signals: &Signals,
) -> Result<InProcessReport, InProcessError> {
    let host = HostFacts::read();
    let cluster = Cluster::start(options)?;
    let leads = cluster.await_leaders(signals)?;
    let measured = measure(options, &cluster, &leads, signals)?;
    let applied = cluster.applied(signals)?;
    let leaders_moved = cluster.leads() != leads;
    cluster.stop()?;
    compare(&measured.counted, applied)?;
    let leads = leads.iter().map(Vec::len).collect();
    Ok(InProcessReport::new(options, host, leads, leaders_moved, measured))
}

/// The warm-up, the measured time, and the end of what is under way.
fn measure(
    options: &InProcessOptions,
    cluster: &Cluster,
    leads: &[Vec<purlin::GroupId>],
    signals: &Signals,
) -> Result<Measured, InProcessError> {
    let phases = Phases::default();
    let active = active(leads, options.active_groups());
    let ended = cluster.start_load(options, &active, &phases)?;
    cluster.wait(options.warmup, &ended, signals)?;
    let meter = CpuMeter::start();
    let clock = phases.enter(Phase::Measured);
    let waited = cluster.wait(options.duration, &ended, signals);
    let meter = meter.map(CpuMeter::stop);
    let seconds = (phases.enter(Phase::Ending) - clock).as_secs_f64();
    waited?;
    let counted = ended.collect()?;
    Ok(Measured { seconds, cpu_seconds: meter.map(|meter| meter.used), counted })
}

/// Of the groups that each node leads, those that get commands: the first ones of all.
fn active(leads: &[Vec<purlin::GroupId>], count: u64) -> Vec<Vec<purlin::GroupId>> {
    let is_active = |group: &&purlin::GroupId| u64::from(group.0) <= count;
    leads.iter().map(|groups| groups.iter().filter(is_active).copied().collect()).collect()
}

/// Each acknowledged command was applied once, and a command whose outcome is unknown at most once.
fn compare(counted: &Counted, applied: u64) -> Result<(), InProcessError> {
    let least = counted.acknowledged_ever;
    let most = least + counted.unknown;
    if (least..=most).contains(&applied) {
        return Ok(());
    }
    Err(InProcessError::Failed {
        what: format!("{applied} commands were applied, and {least} to {most} should have been"),
        place: "the state machines of the groups".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use purlin::GroupId;

    fn counted(acknowledged_ever: u64, unknown: u64) -> Counted {
        Counted { acknowledged_ever, unknown, ..Counted::default() }
    }

    #[test]
    fn the_first_groups_of_all_are_active_wherever_they_are_led() {
        let leads =
            [vec![1, 4], vec![2, 5], vec![3]].map(|it| it.into_iter().map(GroupId).collect());
        let active = active(&leads, 4);
        assert_eq!(
            active,
            [vec![1, 4], vec![2], vec![3]]
                .map(|it| it.into_iter().map(GroupId).collect::<Vec<_>>())
        );
    }

    #[test]
    fn what_was_acknowledged_must_have_been_applied_and_nothing_else() {
        assert!(compare(&counted(5, 2), 5).is_ok() && compare(&counted(5, 2), 7).is_ok());
        assert!(compare(&counted(5, 2), 4).is_err() && compare(&counted(5, 2), 8).is_err());
    }
}
