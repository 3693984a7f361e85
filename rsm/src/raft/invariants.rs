//! What is always true of a replica. Each owner of state checks its own part; what spans several is checked here.

use super::{
    Raft,
    check::{Checked, ensure},
    role::Role,
};
use crate::reach;

/// Checks a replica after a step: cheaply in every build, and deeply where debug assertions are on and in the
/// simulator.
///
/// # Panics
/// When an invariant does not hold: it is named, with its values.
pub(super) fn check(raft: &Raft) {
    let mut checked = check_cheaply(raft);
    if checked.is_ok() && (cfg!(debug_assertions) || reach::is_recording()) {
        checked = check_deeply(raft);
    }
    checked.unwrap_or_else(|violation| {
        panic!("group {} at node {}: {violation}", raft.config.group, raft.config.node)
    });
}

fn check_cheaply(raft: &Raft) -> Checked {
    raft.log.check()?;
    let last = raft.log.last();
    ensure!(last.term <= raft.term, "raft: entry {last} in term {}", raft.term);
    let Role::Leader(leader) = &raft.role else { return Ok(()) };
    ensure!(
        raft.vote == Some(raft.config.node),
        "raft: a leader that voted for {:?} in term {}",
        raft.vote,
        raft.term
    );
    let noop = raft.log.term(leader.noop);
    ensure!(
        noop == Some(raft.term),
        "raft: a leader of term {} whose first entry {} is of term {noop:?}",
        raft.term,
        leader.noop
    );
    for (node, progress) in &leader.followers {
        progress.check(last.index).map_err(|violation| format!("follower {node}: {violation}"))?;
    }
    Ok(())
}

fn check_deeply(raft: &Raft) -> Checked {
    raft.log.check_deeply()?;
    raft.config.voters.check()?;
    if let Role::Leader(leader) = &raft.role {
        leader.followers.values().try_for_each(|progress| progress.check_deeply())?;
    }
    Ok(())
}
