//! Why a replica stops for good.

use crate::types::{EntryId, NodeId, Position, Term};

/// Why a replica has stopped: another replica, or the disk, has lost or changed what was
/// committed. A stopped replica does
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
    /// A leader sent entries that continue this log, and counts the commands up to there differently. Entries
    /// travel in frames with a checksum, so one of the two has applied other commands.
    #[error(
        "the leader {leader} of term {term} counts {theirs} commands up to the entry {at}, and this replica \
         counts {ours}"
    )]
    PositionConflict {
        /// The leader that sent them.
        leader: NodeId,
        /// The term of that leader.
        term: Term,
        /// The entry before the first that this replica does not have. The logs agree in it.
        at: EntryId,
        /// The position of the last command up to it, as this replica has it.
        ours: Position,
        /// And as the leader has it.
        theirs: Position,
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
