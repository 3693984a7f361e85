//! How the request of a client ends: its outcome, by one name on its shard, between shards and between
//! nodes.

use crate::{Index, Position, Term};
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
    #[error("the shard is busy, the request was not taken")]
    Busy,
    /// The group had no leader until the request's deadline.
    #[error("the group had no leader for {waited_ms} ms, the request was not taken")]
    NoLeader {
        /// How long the request waited for a leader.
        waited_ms: u64,
    },
    /// Another entry was committed in its place, or it was never appended.
    #[error("the request was certainly not applied")]
    NotApplied,
    /// Leadership or a connection was lost while the request was in flight, or it took too long. It may
    /// be applied, now or later.
    #[error("the outcome is unknown (index {index}, term {term}, position {position})")]
    Unknown {
        /// The term in which it was appended; 0 when not known.
        term: Term,
        /// The index of its entry; 0 when not known.
        index: Index,
        /// Its number among the commands of the group; 0 when not known.
        position: Position,
    },
    /// The command or query is longer than a shard takes.
    #[error("a request of {bytes} bytes is longer than the {limit} that a shard takes")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The disk of the group's leader is full: it takes proposals again when there is room.
    #[error("the disk is full, the request was not taken")]
    NoSpace,
    /// There is no such group.
    #[error("there is no such group")]
    NoSuchGroup,
    /// The host is shutting down, and had not taken the request.
    #[error("the host is stopping, the request was not taken")]
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
