//! Entries that have left the cache: they are read from the WAL, to be applied or to be sent.

use crate::types::{Index, NodeId, Tick};
use std::ops::Range;

/// Entries that have left the cache and are needed again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fetch {
    /// What the entries are for.
    pub purpose: FetchPurpose,
    /// Which entries. The answer may stop early, but brings at least one.
    pub range: Range<Index>,
    /// About how many bytes the answer may have at most.
    pub bytes_max: usize,
}

/// What fetched entries are for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum FetchPurpose {
    /// To be applied.
    Apply,
    /// To be sent to a follower that lags.
    Send(NodeId),
}

/// The entries to be applied next that are not in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum FetchToApply {
    /// No entries are missing, or none were asked for.
    None,
    /// They are being read from the WAL.
    Asked,
    /// The WAL could not give them. They are asked for again at this tick.
    RetryAt(Tick),
    /// Nothing is applied any more: the state machine has stopped.
    Never,
}

impl FetchToApply {
    /// The tick at which the read is tried again.
    pub(super) fn retry(self) -> Option<Tick> {
        match self {
            Self::RetryAt(at) => Some(at),
            Self::None | Self::Asked | Self::Never => None,
        }
    }

    /// Whether that tick has come.
    pub(super) fn is_retry_due(self, now: Tick) -> bool {
        self.retry().is_some_and(|at| at <= now)
    }
}
