//! A request that a group has taken, and who waits for its outcome.

use crate::edge::{desk::Connection, lane::Pending};
use bytes::Bytes;
use purlin_rsm::{GroupId, Outcome, RequestError, RequestKind, ShardId};
use purlin_transport::PeerShard;
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

/// Waits for the outcome of one request. It always gets one: a ticket that is dropped ends as
/// unknown.
pub(crate) struct Ticket {
    waiter: Option<Waiter>,
    group: GroupId,
}

enum Waiter {
    Lane { connection: Rc<Connection>, tag: u64 },
    Batch { batch: Rc<TakenBatch>, position: usize },
}

impl Ticket {
    /// Of a request in a lane of this shard.
    pub(crate) fn lane(connection: &Rc<Connection>, group: GroupId, pending: &Pending) -> Self {
        Self {
            waiter: Some(Waiter::Lane { connection: connection.clone(), tag: pending.tag }),
            group,
        }
    }

    /// Of the request at `position` in a batch from elsewhere.
    pub(crate) fn batch(batch: &Rc<TakenBatch>, group: GroupId, position: usize) -> Self {
        Self { waiter: Some(Waiter::Batch { batch: batch.clone(), position }), group }
    }

    /// Whether its outcome has no room in the answer of its batch: who asked asks again if it is a query.
    pub(crate) fn is_left_out(&self) -> bool {
        match &self.waiter {
            Some(Waiter::Batch { batch, position }) => *position >= batch.answered.get(),
            Some(Waiter::Lane { .. }) | None => false,
        }
    }

    /// The request has ended.
    pub(crate) fn end(mut self, outcome: Outcome) {
        self.finish(outcome);
    }

    fn finish(&mut self, outcome: Outcome) {
        match self.waiter.take() {
            Some(Waiter::Lane { connection, tag }) => connection.end(self.group, tag, outcome),
            Some(Waiter::Batch { batch, position }) => batch.set(position, outcome),
            None => {}
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.finish(Err(RequestError::UNKNOWN));
    }
}

/// Who gets the outcomes of a batch that was sent away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BatchOrigin {
    /// Another shard of this node, and its name for the batch.
    Shard(ShardId, u64),
    /// A shard of another node, and its name for the batch.
    Peer(PeerShard, u64),
}

/// What the outcomes behind the first may have together, in bytes.
const REST_BYTES_MAX: usize = 2 << 20;
/// What the first outcome may have when it goes to another node. With the rest behind it, it fits a
/// frame.
const FIRST_BYTES_MAX: usize = 12 << 20;

/// A batch from elsewhere that a group of this shard has taken.
///
/// Its answer takes only so many bytes: it ends before the first outcome that is too much. The first
/// of all is never left out, so whoever asks again for the rest gets on; if a frame cannot carry it,
/// it can never be told, and is unknown. Of proposals the rest would be unknown too, since nobody may
/// ask for them again: they have all the room that the first leaves in a frame.
pub(crate) struct TakenBatch {
    pub(crate) origin: BatchOrigin,
    kind: RequestKind,
    /// Bytes of the outcomes behind the first.
    bytes: Cell<usize>,
    /// How many outcomes the answer has at most.
    answered: Cell<usize>,
    /// One for each request.
    outcomes: RefCell<Vec<Option<Outcome>>>,
    missing: Cell<usize>,
}

impl TakenBatch {
    pub(crate) fn new(origin: BatchOrigin, kind: RequestKind, count: usize) -> Rc<Self> {
        Rc::new(Self {
            origin,
            kind,
            bytes: Cell::new(0),
            answered: Cell::new(count),
            outcomes: RefCell::new(vec![None; count]),
            missing: Cell::new(count),
        })
    }

    /// Whether all outcomes are there.
    pub(crate) fn is_complete(&self) -> bool {
        self.missing.get() == 0
    }

    /// The outcomes of a complete batch; of a long answer only the first.
    pub(crate) fn take_outcomes(&self) -> Vec<Outcome> {
        self.outcomes.take().into_iter().flatten().take(self.answered.get()).collect()
    }

    fn rest_bytes_max(&self) -> usize {
        let first = match self.outcomes.borrow().first() {
            Some(Some(Ok(first))) if self.kind == RequestKind::Propose => first.len(),
            Some(Some(Err(_))) if self.kind == RequestKind::Propose => 0,
            // It may still come, or the rest can be asked for again.
            _ => FIRST_BYTES_MAX,
        };
        REST_BYTES_MAX + FIRST_BYTES_MAX.saturating_sub(first)
    }

    fn set(&self, position: usize, mut outcome: Outcome) {
        let bytes = outcome.as_ref().map_or(0, Bytes::len);
        if position == 0 {
            if bytes > FIRST_BYTES_MAX && matches!(self.origin, BatchOrigin::Peer(..)) {
                // The lane that waits at the origin names its group.
                outcome = Err(RequestError::UNKNOWN);
            }
        } else if self.bytes.get() + bytes > self.rest_bytes_max() {
            self.answered.set(self.answered.get().min(position));
            outcome = Err(RequestError::Busy);
        } else {
            self.bytes.set(self.bytes.get() + bytes);
        }
        let before = self.outcomes.borrow_mut()[position].replace(outcome);
        assert!(before.is_none(), "request {position} of a batch ended twice");
        self.missing.set(self.missing.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use purlin_rsm::NodeId;

    const SHARD: BatchOrigin = BatchOrigin::Shard(ShardId(1), 7);
    const PEER: BatchOrigin =
        BatchOrigin::Peer(PeerShard { node: NodeId(2), shard: ShardId(1) }, 7);

    fn zeros(bytes: usize) -> Outcome {
        Ok(Bytes::from(vec![0; bytes]))
    }

    fn answer(origin: BatchOrigin, outcomes: &[Outcome]) -> Vec<Outcome> {
        answer_to(origin, RequestKind::Query, outcomes)
    }

    fn answer_to(origin: BatchOrigin, kind: RequestKind, outcomes: &[Outcome]) -> Vec<Outcome> {
        let batch = TakenBatch::new(origin, kind, outcomes.len());
        for (position, outcome) in outcomes.iter().enumerate() {
            batch.set(position, outcome.clone());
        }
        assert!(batch.is_complete());
        batch.take_outcomes()
    }

    #[test]
    fn a_long_answer_ends_early_and_never_before_the_first() {
        let outcomes = [zeros(REST_BYTES_MAX), zeros(1), zeros(REST_BYTES_MAX), zeros(0)];
        assert_eq!(answer(SHARD, &outcomes), outcomes[..2]);
        assert_eq!(answer(SHARD, &[]), []);
    }

    /// They were applied, and would be unknown for want of room.
    #[test]
    fn outcomes_of_proposals_have_the_room_that_the_first_leaves() {
        let outcomes =
            [zeros(FIRST_BYTES_MAX / 2), zeros(REST_BYTES_MAX), zeros(FIRST_BYTES_MAX / 2)];
        assert_eq!(answer_to(PEER, RequestKind::Propose, &outcomes), outcomes);
        assert_eq!(answer_to(PEER, RequestKind::Query, &outcomes), outcomes[..2]);
        let long = [zeros(FIRST_BYTES_MAX), zeros(REST_BYTES_MAX), zeros(1)];
        assert_eq!(answer_to(PEER, RequestKind::Propose, &long), long[..2]);
    }

    #[test]
    fn a_first_outcome_that_no_frame_carries_is_unknown_to_a_peer() {
        let fits = [zeros(FIRST_BYTES_MAX), zeros(REST_BYTES_MAX)];
        assert_eq!(answer(PEER, &fits), fits);
        let long = [zeros(FIRST_BYTES_MAX + 1), zeros(1)];
        assert_eq!(answer(PEER, &long), [Err(RequestError::UNKNOWN), zeros(1)]);
        assert_eq!(answer(SHARD, &long), long);
    }
}
