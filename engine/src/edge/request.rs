//! What a client asks of a group, and how it ends.

use bytes::Bytes;
use purlin_rsm::{GroupId, Index, Term};

/// What a client asks of a group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// A command for the log: applied at most once by this request.
    Propose(Bytes),
    /// A question to the state machine, answered linearizably.
    Query(Bytes),
}

/// Whether requests go into the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Propose,
    Query,
}

impl Request {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Propose(_) => Kind::Propose,
            Self::Query(_) => Kind::Query,
        }
    }

    #[cfg(test)]
    pub(crate) fn new(kind: Kind, data: Bytes) -> Self {
        match kind {
            Kind::Propose => Self::Propose(data),
            Kind::Query => Self::Query(data),
        }
    }

    pub(crate) fn data(&self) -> &Bytes {
        match self {
            Self::Propose(data) | Self::Query(data) => data,
        }
    }
}

/// Why a request has no answer. The variant tells the caller what to do next; all but
/// [`RequestError::Unknown`] say that it was certainly not applied.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The shard has as much to do as it may take in. Retry after a pause.
    #[error("the shard is busy, the request was not taken")]
    Busy,
    /// The group had no leader until the request's deadline.
    #[error("the group had no leader for {waited_ms} ms, the request was not taken")]
    NoLeader {
        /// How long it waited for one.
        waited_ms: u64,
    },
    /// Another entry was committed in its place, or it was never appended.
    #[error("the request was certainly not applied")]
    NotApplied,
    /// Leadership or a connection was lost while it was in flight, or it took too long. It may be
    /// applied, now or later.
    #[error("the outcome is unknown (group {group}, index {index}, term {term})")]
    Unknown {
        /// The group that it was for.
        group: GroupId,
        /// The term that it was appended in; 0 when not known.
        term: Term,
        /// Its place in the log; 0 when not known.
        index: Index,
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
    #[error("there is no group {0}")]
    NoSuchGroup(GroupId),
    /// The host is shutting down, and had not taken it.
    #[error("the host is stopping, the request was not taken")]
    Stopping,
}

impl RequestError {
    /// Whether the request was certainly not applied, and never will be.
    pub fn is_definitely_not_applied(&self) -> bool {
        !matches!(self, Self::Unknown { .. })
    }

    pub(crate) fn unknown(group: GroupId) -> Self {
        Self::Unknown { group, term: Term(0), index: Index(0) }
    }
}

/// How a request ended.
pub type Outcome = Result<Bytes, RequestError>;

/// A request of a [`crate::Connection`] has ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Completion {
    /// The caller's name for the request.
    pub tag: u64,
    /// How it ended.
    pub outcome: Outcome,
}
