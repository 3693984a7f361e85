//! Why a replica stops for good.

use crate::types::{EntryId, NodeId, Term};

/// Why a replica has stopped: another one, or the disk, has lost what was committed. It does nothing
/// any more, and nothing of its group must be served here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Fault {
    /// A leader sent another entry where this replica holds a committed one.
    #[error(
        "the leader {leader} of term {term} sent another entry in the place of the committed entry {ours}"
    )]
    CommittedConflict {
        /// Who sent it.
        leader: NodeId,
        /// Its term.
        term: Term,
        /// The committed entry.
        ours: EntryId,
    },
    /// The WAL gave an entry that is not the one that was written.
    #[error("the WAL gave {found} where the log holds {expected}")]
    WrongEntry {
        /// What came.
        found: EntryId,
        /// What the log holds at the place that was asked for.
        expected: EntryId,
    },
}
