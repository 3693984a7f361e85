//! A request that a group has taken, and who waits for its outcome.

use crate::{
    desk::Connection,
    lane::Pending,
    request::{Outcome, RequestError},
};
use purlin_rsm::{GroupId, ShardId};
use purlin_transport::Pair;
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
        self.finish(Err(RequestError::unknown(self.group)));
    }
}

/// Who gets the outcomes of a batch that was sent away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BatchOrigin {
    /// Another shard of this node, and its name for the batch.
    Shard(ShardId, u64),
    /// A shard of another node, and its name for the batch.
    Peer(Pair, u64),
}

/// A batch from elsewhere that a group of this shard has taken.
pub(crate) struct TakenBatch {
    pub(crate) origin: BatchOrigin,
    /// One for each request.
    outcomes: RefCell<Vec<Option<Outcome>>>,
    missing: Cell<usize>,
}

impl TakenBatch {
    pub(crate) fn new(origin: BatchOrigin, count: usize) -> Rc<Self> {
        Rc::new(Self {
            origin,
            outcomes: RefCell::new(vec![None; count]),
            missing: Cell::new(count),
        })
    }

    /// Whether all outcomes are there.
    pub(crate) fn is_complete(&self) -> bool {
        self.missing.get() == 0
    }

    /// The outcomes of a complete batch.
    pub(crate) fn take_outcomes(&self) -> Vec<Outcome> {
        self.outcomes.take().into_iter().flatten().collect()
    }

    fn set(&self, position: usize, outcome: Outcome) {
        let before = self.outcomes.borrow_mut()[position].replace(outcome);
        assert!(before.is_none(), "request {position} of a batch ended twice");
        self.missing.set(self.missing.get() - 1);
    }
}
