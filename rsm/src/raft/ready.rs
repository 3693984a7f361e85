//! What a replica asks of its surroundings, and which completion each part owes it.

use super::{fetch::Fetch, read::ConfirmedRead};
use crate::{
    entry::Entry,
    message::Envelope,
    types::{HardState, WriteId},
};

/// Everything that a replica wants done. The only thing that leaves raft.
#[derive(Default, Debug)]
pub struct Ready {
    /// Free to go now, and in this order to each receiver. What had to wait for durability has.
    pub messages: Vec<Envelope>,
    /// To be made durable; owes [`super::Raft::appended`].
    pub append: Option<Append>,
    /// To be applied in this order; owes [`super::Raft::applied`].
    pub committed: Vec<Entry>,
    /// To be read from the WAL; each owes [`super::Raft::fetched`].
    pub fetches: Vec<Fetch>,
    /// To be answered once their index is applied.
    pub reads: Vec<ConfirmedRead>,
    /// Reads that this replica cannot confirm any more: it does not lead now.
    pub failed_reads: Vec<u64>,
}

/// One write of one group to the WAL. All of it lies in one batch: a hard state never comes after
/// the entries that came with it (safety A2).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Append {
    /// The name of the write, for its completion.
    pub write: WriteId,
    /// The hard state, when it changed.
    pub hard_state: Option<HardState>,
    /// Consecutive entries; they replace everything at or above the first of them.
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
