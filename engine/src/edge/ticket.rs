//! A ticket: a request that a group has, and what waits for its outcome.

use crate::edge::{accepted::AcceptedBatch, caller::LaneRef};
use purlin_rsm::{Outcome, RequestError};
use std::rc::Rc;

/// Waits for the outcome of one request. A ticket always ends: one that is dropped ends as unknown.
pub(crate) struct Ticket(Option<Waiter>);

enum Waiter {
    /// The request with this tag, in a lane of this shard.
    Lane(LaneRef, u64),
    /// The request at this position, in a batch of another shard.
    Batch(Rc<AcceptedBatch>, usize),
}

impl Ticket {
    /// Of the request `tag` in a lane of this shard.
    pub(crate) fn lane(lane: &LaneRef, tag: u64) -> Self {
        Self(Some(Waiter::Lane(lane.clone(), tag)))
    }

    /// Of the request at `position` in a batch of another shard.
    pub(crate) fn batch(batch: &Rc<AcceptedBatch>, position: usize) -> Self {
        Self(Some(Waiter::Batch(batch.clone(), position)))
    }

    /// Whether its outcome has no room: in the reply to its batch, or with its caller.
    pub(crate) fn is_left_out(&self) -> bool {
        match &self.0 {
            Some(Waiter::Batch(batch, position)) => batch.is_left_out(*position),
            Some(Waiter::Lane(lane, tag)) => lane.is_left_out(*tag),
            None => false,
        }
    }

    /// The query is not answered, since its outcome has no room: it is asked again when there is some.
    pub(crate) fn leave_out(mut self) {
        match self.0.take() {
            Some(Waiter::Lane(lane, tag)) => lane.leave_out(tag),
            Some(Waiter::Batch(batch, position)) => batch.end(position, Err(RequestError::Busy)),
            None => {}
        }
    }

    /// Whether an accepted batch waits for it, and not a lane.
    pub(crate) fn is_of_batch(&self) -> bool {
        matches!(self.0, Some(Waiter::Batch(..)))
    }

    /// Whether `lane` waits for the outcome of its request `tag`.
    pub(crate) fn is_of_lane(&self, lane: &LaneRef, tag: u64) -> bool {
        matches!(&self.0, Some(Waiter::Lane(other, its)) if other.is(lane) && *its == tag)
    }

    /// The request has ended.
    pub(crate) fn end(mut self, outcome: Outcome) {
        self.finish(outcome);
    }

    fn finish(&mut self, outcome: Outcome) {
        match self.0.take() {
            Some(Waiter::Lane(lane, tag)) => lane.end(tag, outcome),
            Some(Waiter::Batch(batch, position)) => batch.end(position, outcome),
            None => {}
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.finish(Err(RequestError::UNKNOWN));
    }
}
