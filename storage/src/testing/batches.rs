//! Entries and batches of a test.

use crate::Batch;
use purlin_rsm::{Entry, GroupId, HardState, Index, NodeId, Payload, Position, Term};

pub(crate) fn entries(term: u64, indices: std::ops::Range<u64>, bytes: usize) -> Vec<Entry> {
    let entry = |index: u64| {
        let payload = Payload::command(vec![(index * 7 + term) as u8; bytes].into());
        Entry { term: Term(term), index: Index(index), before: Position(index - 1), payload }
    };
    indices.map(entry).collect()
}

pub(crate) fn append(group: u32, term: u64, indices: std::ops::Range<u64>, bytes: usize) -> Batch {
    let mut batch = Batch::default();
    batch.entries(GroupId(group), &entries(term, indices, bytes));
    batch
}

pub(crate) fn hard_state(group: u32, term: u64, vote: u32) -> Batch {
    let mut batch = Batch::default();
    let state = HardState { term: Term(term), vote: Some(NodeId(vote)), committed: Index(0) };
    batch.hard_state(GroupId(group), state);
    batch
}
