//! The way to ask a shard, and to see it, from any thread: a bounded queue of requests beside the path of
//! the clients' requests, and the latest status.

use crate::{
    control::{
        answer::{ControlAnswer, ControlError, Reply, answer},
        histogram::Histogram,
        status::{GroupStatus, ShardState, ShardStatus},
    },
    error::{Error, ErrorKind},
    node::board::Board,
    wake::Wake,
};
use crossbeam::queue::ArrayQueue;
use purlin_rsm::{GroupId, ShardId};
use std::{
    mem,
    sync::{
        Arc, Mutex, PoisonError, TryLockError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// Requests that wait for one shard; more are refused.
pub(crate) const CONTROL_CAPACITY: usize = 64;

/// What an operator asks of a shard.
pub(crate) enum ControlRequest {
    /// How the shard stands now.
    Status(Reply<ShardStatus>),
    /// How its groups stand whose id is this one or above: one page of them.
    Groups(GroupId, Reply<Vec<GroupStatus>>),
    /// How this group stands, if it is on this shard.
    Group(GroupId, Reply<Option<GroupStatus>>),
}

/// Asks one shard, and sees it, from any thread. A clone is another handle.
///
/// Requests go by a queue of their own: a shard whose clients wait in long queues still answers. The shard
/// answers at the end of its next turn. [`ShardControl::latest`] needs no answer of the shard.
#[derive(Clone)]
pub struct ShardControl(Arc<Port>);

struct Port {
    queue: ArrayQueue<ControlRequest>,
    /// Wakes the shard's loop.
    wake: Arc<Wake>,
    is_stopped: AtomicBool,
    published: Mutex<Arc<ShardStatus>>,
}

impl ShardControl {
    pub(crate) fn new(wake: Arc<Wake>) -> Self {
        Self(Arc::new(Port {
            queue: ArrayQueue::new(CONTROL_CAPACITY),
            wake,
            is_stopped: AtomicBool::new(false),
            published: Mutex::default(),
        }))
    }

    /// The status of the latest beat; it stays when the shard hangs or has stopped. Before the first beat
    /// it says [`ShardState::Opening`].
    pub fn latest(&self) -> Arc<ShardStatus> {
        self.0.published.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The status of the shard's next turn.
    pub fn status(&self) -> ControlAnswer<ShardStatus> {
        self.ask(ControlRequest::Status)
    }

    /// How the shard's groups stand whose id is `first` or above, in the order of their ids: at most
    /// [`crate::GROUPS_PER_PAGE`]. The next page begins behind the last group of this one.
    pub fn groups(&self, first: GroupId) -> ControlAnswer<Vec<GroupStatus>> {
        self.ask(|reply| ControlRequest::Groups(first, reply))
    }

    /// How `group` stands; `None` when it is not on this shard.
    pub fn group(&self, group: GroupId) -> ControlAnswer<Option<GroupStatus>> {
        self.ask(|reply| ControlRequest::Group(group, reply))
    }

    fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> ControlRequest) -> ControlAnswer<T> {
        let (reply, answer) = answer();
        let port = &self.0;
        if port.is_stopped.load(Ordering::Acquire) {
            reply.send(Err(ControlError::Stopped));
            return answer;
        }
        if let Err(refused) = port.queue.push(request(reply)) {
            refused.refuse(ControlError::Busy);
            return answer;
        }
        port.wake.notify();
        if port.is_stopped.load(Ordering::Acquire) {
            // The shard may have looked for the last time before this came.
            self.refuse_all();
        }
        answer
    }

    /// What waits is told that the shard has stopped.
    fn refuse_all(&self) {
        while let Some(request) = self.0.queue.pop() {
            request.refuse(ControlError::Stopped);
        }
    }

    /// Replaces the status: the shard has ended, or could not be opened.
    pub(crate) fn set_last(&self, last: ShardStatus) {
        *self.0.published.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(last);
    }
}

impl ControlRequest {
    fn refuse(self, error: ControlError) {
        match self {
            Self::Status(reply) => reply.send(Err(error)),
            Self::Groups(_, reply) => reply.send(Err(error)),
            Self::Group(_, reply) => reply.send(Err(error)),
        }
    }
}

/// What those outside a shard see of it and ask of it: the shard's end. Its drop refuses everything that
/// waits, however the shard has ended.
pub(crate) struct Outside {
    /// Who leads its groups, for the other shards and for callers.
    pub(crate) board: Arc<Board>,
    control: ShardControl,
    /// The status before the published one, to be filled anew.
    spare: Arc<ShardStatus>,
    /// How long each turn took.
    turns: Histogram,
}

impl Outside {
    pub(crate) fn new(board: Arc<Board>, control: ShardControl) -> Self {
        Self { board, control, spare: Arc::default(), turns: Histogram::default() }
    }

    /// The handle for others.
    pub(crate) fn control(&self) -> &ShardControl {
        &self.control
    }

    /// The shard has made one turn.
    pub(crate) fn turned(&mut self, time: Duration) {
        self.turns.record(time);
    }

    pub(crate) fn turns(&self) -> &Histogram {
        &self.turns
    }

    /// The next request.
    pub(crate) fn next_request(&self) -> Option<ControlRequest> {
        self.control.0.queue.pop()
    }

    /// Requests that wait.
    pub(crate) fn requests(&self) -> usize {
        self.control.0.queue.len()
    }

    /// A status to fill and to publish: the one before the last, unless somebody reads it still.
    pub(crate) fn spare(&mut self) -> ShardStatus {
        Arc::get_mut(&mut self.spare).map(mem::take).unwrap_or_default()
    }

    /// Publishes a status. The shard never waits for a reader. While a reader takes the last status, this
    /// one is not published; the next beat brings another one.
    pub(crate) fn publish(&mut self, status: ShardStatus) {
        match Arc::get_mut(&mut self.spare) {
            Some(spare) => *spare = status,
            None => self.spare = Arc::new(status),
        }
        let published = match self.control.0.published.try_lock() {
            Err(TryLockError::WouldBlock) => return,
            Err(TryLockError::Poisoned(error)) => Some(error.into_inner()),
            Ok(published) => Some(published),
        };
        published.into_iter().for_each(|mut published| mem::swap(&mut *published, &mut self.spare));
    }

    /// The shard has stopped: this is its last status.
    pub(crate) fn close(&self, last: ShardStatus) {
        self.control.set_last(last);
        self.end();
    }

    fn end(&self) {
        self.control.0.is_stopped.store(true, Ordering::Release);
        self.control.refuse_all();
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        if !self.control.0.is_stopped.load(Ordering::Acquire) {
            // It did not say why it ends: a bug ends it, or its host has dropped it.
            let last = self.control.latest();
            let (name, last) = (last.shard, (*last).clone());
            self.control.set_last(ShardStatus { state: ShardState::Failed(ended(name)), ..last });
        }
        self.end();
    }
}

fn ended(shard: ShardId) -> Error {
    Error::new(
        ErrorKind::Bug,
        format!("shard {shard} ended without a reason"),
        "this process",
        "what was acknowledged is durable on a majority; the groups' other replicas go on",
        "look for the first error in the log, and start the node again",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once};

    fn outside() -> (Outside, ShardControl) {
        let control = ShardControl::new(Arc::default());
        (Outside::new(Arc::new(Board::new(1)), control.clone()), control)
    }

    #[test]
    fn requests_beyond_the_queue_are_refused_and_make_room_when_answered() {
        let (outside, control) = outside();
        let waiting: Vec<_> = (0..CONTROL_CAPACITY).map(|_| control.status()).collect();
        assert_eq!(outside.requests(), CONTROL_CAPACITY);
        let refused = block_on(control.group(GroupId(1)));
        assert!(matches!(refused, Err(ControlError::Busy)), "{refused:?}");
        let Some(ControlRequest::Status(reply)) = outside.next_request() else { panic!() };
        reply.send(Ok(ShardStatus { beat: 7, ..ShardStatus::default() }));
        let mut waiting = waiting.into_iter();
        let first = waiting.next().expect("the first");
        assert_eq!(block_on(first).map(|status| status.beat), Ok(7));
        let mut again = control.group(GroupId(1));
        assert!(block_on(poll_once(&mut again)).is_none(), "it was taken");
        drop(outside);
        assert!(waiting.all(|answer| matches!(block_on(answer), Err(ControlError::Stopped))));
        assert!(matches!(block_on(again), Err(ControlError::Stopped)));
    }

    #[test]
    fn a_shard_that_has_stopped_says_so_and_keeps_its_last_status() {
        let (outside, control) = outside();
        let before = control.groups(GroupId(1));
        outside.close(ShardStatus { beat: 9, state: ShardState::Stopped, ..Default::default() });
        assert!(matches!(block_on(before), Err(ControlError::Stopped)));
        assert!(matches!(block_on(control.status()), Err(ControlError::Stopped)));
        drop(outside);
        let latest = control.latest();
        assert!(latest.beat == 9 && matches!(latest.state, ShardState::Stopped), "{latest:?}");
    }

    #[test]
    fn a_shard_that_ends_without_a_word_has_failed() {
        let (mut outside, control) = outside();
        outside.publish(ShardStatus { beat: 3, ..ShardStatus::default() });
        drop(outside);
        let latest = control.latest();
        assert!(latest.beat == 3 && matches!(latest.state, ShardState::Failed(_)), "{latest:?}");
    }

    #[test]
    fn a_status_is_published_whoever_reads_the_one_before() {
        let (mut outside, control) = outside();
        let mut read = Vec::new();
        for beat in 1..=5 {
            let status = ShardStatus { beat, ..outside.spare() };
            outside.publish(status);
            read.push(control.latest());
        }
        assert!(read.iter().map(|status| status.beat).eq(1..=5), "none changes in a reader's hand");
    }

    /// A shard that waited for a reader would let its groups wait.
    #[test]
    fn a_reader_never_keeps_the_shard_waiting() {
        let (mut outside, control) = outside();
        let reader = control.0.published.lock().expect("nobody else");
        outside.publish(ShardStatus { beat: 1, ..ShardStatus::default() });
        drop(reader);
        assert_eq!(control.latest().beat, 0, "left out");
        outside.publish(ShardStatus { beat: 2, ..ShardStatus::default() });
        assert_eq!(control.latest().beat, 2);
    }

    #[test]
    fn an_answer_that_does_not_come_in_time_is_late() {
        let (_outside, control) = outside();
        let late = control.group(GroupId(1)).wait(Duration::ZERO);
        assert_eq!(late, Err(ControlError::Late));
    }
}
