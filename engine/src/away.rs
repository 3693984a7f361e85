//! Batches of requests that this shard has sent elsewhere: who waits for each, and what becomes of it
//! when its answer, or the connection it would come on, is gone.

use crate::{
    desk::LaneRef,
    request::{Outcome, RequestError},
    ticket::BatchOrigin,
};
use purlin_rsm::ShardId;
use purlin_transport::Pair;
use std::collections::BTreeMap;

/// Where a batch has gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Destination {
    /// Another shard of this node, on which the group lives.
    Shard(ShardId),
    /// The group's leader, at another node.
    Peer(Pair),
}

/// Who waits for a batch.
pub(crate) enum Waiting {
    /// A lane of this shard.
    Lane(LaneRef),
    /// Another shard of this node, whose batch this shard has passed on, and how many requests it has.
    Shard(BatchOrigin, usize),
}

/// See the module.
#[derive(Default)]
pub(crate) struct Away {
    newest: u64,
    batches: BTreeMap<u64, (Destination, Waiting)>,
}

impl Away {
    /// A name for the next batch.
    pub(crate) fn next(&mut self) -> u64 {
        self.newest += 1;
        self.newest
    }

    /// The batch is on its way.
    pub(crate) fn sent(&mut self, batch: u64, to: Destination, waiting: Waiting) {
        self.batches.insert(batch, (to, waiting));
    }

    /// The batch is answered, by `from`. `None` when nobody waits for it any more.
    pub(crate) fn answered(&mut self, batch: u64, from: Destination) -> Option<Waiting> {
        if self.batches.get(&batch)?.0 != from {
            return None;
        }
        self.batches.remove(&batch).map(|(_, waiting)| waiting)
    }

    /// A connection with `peer` is lost: whatever is there has no known outcome (safety E1).
    pub(crate) fn lost(&mut self, peer: Pair) -> Vec<(u64, Waiting)> {
        let to = Destination::Peer(peer);
        let lost: Vec<u64> = self
            .batches
            .iter()
            .filter(|(_, (destination, _))| *destination == to)
            .map(|(batch, _)| *batch)
            .collect();
        lost.into_iter()
            .filter_map(|batch| self.batches.remove(&batch).map(|(_, waiting)| (batch, waiting)))
            .collect()
    }
}

/// The outcomes of a batch of `count` requests of which nothing is known.
pub(crate) fn unknown(group: purlin_rsm::GroupId, count: usize) -> Vec<Outcome> {
    vec![Err(RequestError::unknown(group)); count]
}
