//! `purlin server`: one node, until SIGINT or SIGTERM.

use super::{ServerArguments, logging};
use crate::{error::Failure, machine::load, serve};
use purlin::ErrorKind;
use rustix::{
    process::{Pid, Signal, getppid, set_parent_process_death_signal},
    thread::{CpuSet, sched_setaffinity},
};

/// Runs the node of the configuration file that was named.
pub(super) fn run(arguments: &ServerArguments) -> Result<(), Failure> {
    if let Some(parent) = arguments.parent {
        end_with(parent)?;
    }
    use_only(&arguments.cores)?;
    let config = load(&arguments.config)?;
    logging::start(config.log)?;
    Ok(serve::run(config)?)
}

/// Has the kernel kill this process when its parent dies, even by a kill: a cluster to try out leaves
/// nothing behind. Data is as safe as in any crash.
fn end_with(parent: i32) -> Result<(), Failure> {
    let refused = |why: String| {
        Failure::new(
            ErrorKind::Environment,
            why,
            "the option --parent",
            "nothing was started",
            "start the node without --parent",
        )
    };
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| {
        refused(format!("the end of the parent process cannot be watched: {error}"))
    })?;
    // It may have died before it was watched.
    if getppid().map(Pid::as_raw_pid) != Some(parent) {
        return Err(refused(format!("process {parent} is not the parent of this process")));
    }
    Ok(())
}

/// Has this thread, and all that it starts, run on these cores, if any are named.
fn use_only(cores: &[usize]) -> Result<(), Failure> {
    if cores.is_empty() {
        return Ok(());
    }
    let mut set = CpuSet::new();
    cores.iter().filter(|core| **core < CpuSet::MAX_CPU).for_each(|core| set.set(*core));
    sched_setaffinity(None, &set).map_err(|error| {
        Failure::new(
            ErrorKind::Environment,
            format!("the cores {cores:?} cannot be used: {error}"),
            "this process",
            "nothing was started",
            "start the node without --cores",
        )
    })
}
