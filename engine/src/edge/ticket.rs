//! A ticket: a request that a group has, and what waits for its outcome.

use crate::{
    control::stage_timer::StageTimer,
    edge::{accepted::AcceptedBatch, caller::LaneRef},
};
use purlin_rsm::{EntryId, GroupId, Outcome, RequestError};
use std::rc::Rc;

/// Waits for the outcome of one request. A ticket always ends: one that is dropped ends as unknown.
pub(crate) struct Ticket(Option<Waiter>);

enum Waiter {
    /// The request with this tag, in a lane of this shard.
    Lane(LaneRef, u64),
    /// The request at this position, in a batch of another shard.
    Batch(Rc<AcceptedBatch>, usize),
    /// One of these, of a command that is timed. It is rare, and so it has its place elsewhere.
    Timed(Box<Timed>),
}

struct Timed {
    waiter: Waiter,
    group: GroupId,
    timer: Rc<StageTimer>,
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

    /// The same, of a command to `group` that `timer` times.
    pub(crate) fn timed(mut self, group: GroupId, timer: &Rc<StageTimer>) -> Self {
        let timed = |waiter| Waiter::Timed(Box::new(Timed { waiter, group, timer: timer.clone() }));
        self.0 = self.0.take().map(timed);
        self
    }

    /// The command is the entry `id` of its leader's log, or one of several in it.
    #[inline]
    pub(crate) fn proposed(&self, id: EntryId) {
        if let Some(Waiter::Timed(timed)) = &self.0 {
            timed.timer.proposed(timed.group, id);
        }
    }

    fn waiter(&self) -> Option<&Waiter> {
        match &self.0 {
            Some(Waiter::Timed(timed)) => Some(&timed.waiter),
            waiter => waiter.as_ref(),
        }
    }

    /// Whether its outcome has no room: in the reply to its batch, or with its caller.
    pub(crate) fn is_left_out(&self) -> bool {
        match self.waiter() {
            Some(Waiter::Batch(batch, position)) => batch.is_left_out(*position),
            Some(Waiter::Lane(lane, tag)) => lane.is_left_out(*tag),
            Some(Waiter::Timed(_)) | None => false,
        }
    }

    /// The query is not answered, since its outcome has no room: it is asked again when there is some.
    pub(crate) fn leave_out(mut self) {
        match self.0.take() {
            Some(Waiter::Lane(lane, tag)) => lane.leave_out(tag),
            Some(Waiter::Batch(batch, position)) => batch.end(position, Err(RequestError::Busy)),
            Some(Waiter::Timed(_)) => unreachable!("queries are not timed"),
            None => {}
        }
    }

    /// Whether an accepted batch waits for it, and not a lane.
    pub(crate) fn is_of_batch(&self) -> bool {
        matches!(self.waiter(), Some(Waiter::Batch(..)))
    }

    /// Whether `lane` waits for the outcome of its request `tag`.
    pub(crate) fn is_of_lane(&self, lane: &LaneRef, tag: u64) -> bool {
        matches!(self.waiter(), Some(Waiter::Lane(other, its)) if other.is(lane) && *its == tag)
    }

    /// The request has ended.
    pub(crate) fn end(mut self, outcome: Outcome) {
        self.finish(outcome);
    }

    fn finish(&mut self, outcome: Outcome) {
        match self.0.take() {
            Some(Waiter::Lane(lane, tag)) => lane.end(tag, outcome),
            Some(Waiter::Batch(batch, position)) => batch.end(position, outcome),
            Some(Waiter::Timed(timed)) => (*timed).end(outcome),
            None => {}
        }
    }
}

impl Timed {
    /// Apart, so that the end of any other ticket is short.
    #[cold]
    fn end(self, outcome: Outcome) {
        self.timer.ended(outcome.is_ok());
        Ticket(Some(self.waiter)).end(outcome);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.finish(Err(RequestError::UNKNOWN));
    }
}
