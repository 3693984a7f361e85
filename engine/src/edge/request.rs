//! What a client asks of a group, and how it ends.

use bytes::Bytes;
use purlin_rsm::{Outcome, RequestKind};

/// What a client asks of a group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// A command for the log: applied at most once by this request.
    Propose(Bytes),
    /// A question to the state machine, answered linearizably.
    Query(Bytes),
}

impl Request {
    pub(crate) fn kind(&self) -> RequestKind {
        match self {
            Self::Propose(_) => RequestKind::Propose,
            Self::Query(_) => RequestKind::Query,
        }
    }

    #[cfg(test)]
    pub(crate) fn new(kind: RequestKind, data: Bytes) -> Self {
        match kind {
            RequestKind::Propose => Self::Propose(data),
            RequestKind::Query => Self::Query(data),
        }
    }

    /// Its data, for its group on this shard. A command is never sent again from there, so it is moved; a query may be
    /// asked again.
    pub(crate) fn take_for_group(&mut self) -> Bytes {
        match self {
            Self::Propose(command) => std::mem::take(command),
            Self::Query(query) => query.clone(),
        }
    }

    pub(crate) fn data(&self) -> &Bytes {
        match self {
            Self::Propose(data) | Self::Query(data) => data,
        }
    }
}

/// A request of a [`crate::Caller`] has ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Completion {
    /// The caller's name for the request.
    pub tag: u64,
    /// How it ended.
    pub outcome: Outcome,
}
