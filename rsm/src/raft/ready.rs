//! What a replica asks of its owner, and which completion each part requires.

use super::{fetch::Fetch, read::ConfirmedRead};
use crate::{
    entry::Entry,
    message::Envelope,
    types::{HardState, WriteId},
};

/// Everything that a replica wants done. Nothing else leaves raft.
#[derive(Default, Debug)]
pub struct Ready {
    /// Messages to send now, in this order to each receiver. What they promise is durable.
    pub messages: Vec<Envelope>,
    /// A write to make durable. [`super::Raft::appended`] must report its completion.
    pub append: Option<Append>,
    /// Entries to apply in this order. [`super::Raft::applied`] must report it.
    pub committed: Vec<Entry>,
    /// Entries to read from the WAL. [`super::Raft::fetched`] must report each of these.
    pub fetches: Vec<Fetch>,
    /// Reads to answer once their index is applied.
    pub reads: Vec<ConfirmedRead>,
    /// Reads that this replica cannot confirm any more, since it does not lead now.
    pub failed_reads: Vec<u64>,
}

/// One write of one group to the WAL. The hard state goes out before the entries or with the first of them, so it is
/// never durable later than an entry that came with it (safety A2).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Append {
    /// The name of the write, for its completion.
    pub write: WriteId,
    /// The hard state, when it changed.
    pub hard_state: Option<HardState>,
    /// Consecutive entries. They replace everything at or above the first of them.
    pub entries: Vec<Entry>,
}

impl Ready {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
            && self.append.is_none()
            && self.committed.is_empty()
            && self.fetches.is_empty()
            && self.reads.is_empty()
            && self.failed_reads.is_empty()
    }
}
