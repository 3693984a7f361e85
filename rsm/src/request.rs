//! How the request of a client ends: its outcome, by one name on its shard, between shards and between
//! nodes.

use crate::{Index, Position, ShardId, Term};
use bytes::Bytes;

/// Whether requests go into the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RequestKind {
    /// They are proposals: log them, apply them.
    Propose,
    /// They are queries: answer them at a linearizable point.
    Query,
}

/// How a request ended.
pub type Outcome = Result<Bytes, RequestError>;

/// Why a request has no result. The variant tells the caller what to do next; all but
/// [`RequestError::Unknown`] say that it was certainly not applied.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The shard has as many requests as it may take. Retry after a pause.
    #[error("the shard is busy: the request was not applied")]
    Busy,
    /// The group had no leader until the request's deadline.
    #[error("no leader of the group was reached for {waited_ms} ms: the request was not applied")]
    NoLeader {
        /// How long the request waited for a leader.
        waited_ms: u64,
    },
    /// Another entry was committed in its place, or it was never appended.
    #[error("the request was not applied")]
    NotApplied,
    /// Leadership or a connection was lost while the request was in flight, or it took too long. A
    /// proposal may be applied, now or later. A query changes nothing, and may be asked again.
    #[error("the outcome is unknown: the request may be applied, now or later{}", place(*term, *index, *position))]
    Unknown {
        /// The term in which it was appended; 0 when not known.
        term: Term,
        /// The index of its entry; 0 when not known.
        index: Index,
        /// Its number among the commands of the group; 0 when not known.
        position: Position,
    },
    /// The command or query is longer than a shard takes.
    #[error("the request has {bytes} bytes, and a shard takes {limit} at most: it was not applied")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The disk of the group's leader is full: it takes proposals again when there is room.
    #[error("the disk of the group's leader is full: the request was not applied")]
    NoSpace,
    /// The data at the group's leader takes as much memory as it may: the leader takes requests that free memory.
    #[error(
        "the data of the group's leader takes as much memory as it may: the request was not applied"
    )]
    NoMemory,
    /// The group's leader still applies what its log held when it started.
    #[error("the group's leader is loading its data: the request was not applied")]
    Loading,
    /// There is no such group.
    #[error("there is no such group: the request was not applied")]
    NoSuchGroup,
    /// The state machine of the group failed at an earlier command, here and wherever it applied that command. No
    /// replica can lead the group before the machine is corrected and the nodes are started again.
    #[error(
        "the state machine of the group has stopped at an earlier command: the request was not applied"
    )]
    GroupStopped,
    /// The state machine panicked at this query. The query was not answered, and changed nothing.
    #[error("the state machine of the group panicked at the query: it was not answered")]
    QueryFailed,
    /// The shard of this node that has the group has stopped, and the node sends nothing on for it. Other nodes serve
    /// the group.
    #[error(
        "shard {shard} of this node, which has the group, has stopped: the request was not applied"
    )]
    ShardStopped {
        /// The shard.
        shard: ShardId,
    },
    /// The host is shutting down, and had not taken the request.
    #[error("the host is stopping: the request was not applied")]
    Stopping,
}

impl RequestError {
    /// An unknown outcome of a request of which nobody can tell where it stands in a log.
    pub const UNKNOWN: Self =
        Self::Unknown { term: Term(0), index: Index(0), position: Position(0) };

    /// Whether the request was certainly not applied, and never will be.
    pub fn is_definitely_not_applied(&self) -> bool {
        !matches!(self, Self::Unknown { .. })
    }
}

/// Where a command stands in the log of its group, as far as that is known, for the end of a text: empty
/// when nothing is known.
fn place(term: Term, index: Index, position: Position) -> String {
    let numbers = [("index", index.0), ("term", term.0), ("position", position.0)];
    let known = numbers.iter().filter(|(_, number)| *number > 0);
    let known: Vec<_> = known.map(|(name, number)| format!("{name} {number}")).collect();
    if known.is_empty() { String::new() } else { format!(" ({})", known.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_outcome_names_only_the_numbers_that_are_known() {
        let text = |term, index, position| {
            let (term, index, position) = (Term(term), Index(index), Position(position));
            RequestError::Unknown { term, index, position }.to_string()
        };
        let start = "the outcome is unknown: the request may be applied, now or later";
        assert_eq!(RequestError::UNKNOWN.to_string(), start);
        assert_eq!(text(2, 5, 7), format!("{start} (index 5, term 2, position 7)"));
        assert_eq!(text(2, 5, 0), format!("{start} (index 5, term 2)"));
    }
}
