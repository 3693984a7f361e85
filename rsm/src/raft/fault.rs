//! Why a replica stops for good.

use crate::types::{EntryId, NodeId, Term};

/// Why a replica has stopped: another replica, or the disk, has lost what was committed. A stopped replica does
/// nothing any more, and nothing of its group may be served from it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Fault {
    /// A leader sent another entry where this replica holds a committed one.
    #[error(
        "the leader {leader} of term {term} sent another entry in the place of the committed entry {ours}"
    )]
    CommittedConflict {
        /// The leader that sent it.
        leader: NodeId,
        /// The term of that leader.
        term: Term,
        /// The committed entry.
        ours: EntryId,
    },
    /// The WAL gave an entry that is not the one that was written.
    #[error("the WAL gave {found} where the log holds {expected}")]
    WrongEntry {
        /// The entry that the WAL gave.
        found: EntryId,
        /// The entry that the log holds at the place that was read.
        expected: EntryId,
    },
}
