//! What is always true of a replica, checked wherever debug assertions are on, and in the simulator.

use super::{Raft, role::Role};
use crate::reach;

/// Checks one replica's state.
///
/// # Panics
/// When something that can never be is.
pub(super) fn check(raft: &Raft) {
    if !cfg!(debug_assertions) && !reach::is_recording() {
        return;
    }
    let log = &raft.log;
    let last = log.last();
    assert!(
        log.applied() <= log.committed(),
        "applied {} beyond commit {}",
        log.applied(),
        log.committed()
    );
    assert!(log.committed() <= last.index, "commit {} beyond last {last}", log.committed());
    assert!(log.durable() <= last.index, "durable {} beyond last {last}", log.durable());
    assert!(last.term <= raft.term, "entry {last} in term {}", raft.term);
    if let Role::Leader(leader) = &raft.role {
        assert_eq!(raft.vote, Some(raft.config.node), "a leader that did not vote for itself");
        assert_eq!(log.term(leader.noop), Some(raft.term), "a leader without an entry of its term");
        for (node, progress) in &leader.followers {
            assert!(progress.matched < progress.next, "follower {node}: {progress:?}");
            assert!(
                progress.matched <= last.index,
                "follower {node} beyond last {last}: {progress:?}"
            );
        }
    }
}
