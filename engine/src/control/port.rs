//! The way to ask a shard, and to see it, from any thread: a bounded queue of requests beside the path of
//! the clients' requests, and the latest status.

use crate::{
    control::{
        answer::{ControlAnswer, ControlError, Reply, answer},
        status::{GroupStatus, ShardState, ShardStatus},
    },
    error::Error,
    wake::Wake,
};
use crossbeam::queue::ArrayQueue;
use purlin_rsm::GroupId;
use std::{
    mem,
    sync::{
        Arc, Mutex, PoisonError, TryLockError,
        atomic::{AtomicBool, Ordering},
    },
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
    /// `before` is the status until the shard publishes one.
    pub(crate) fn new(wake: Arc<Wake>, before: ShardStatus) -> Self {
        Self(Arc::new(Port {
            queue: ArrayQueue::new(CONTROL_CAPACITY),
            wake,
            is_stopped: AtomicBool::new(false),
            published: Mutex::new(Arc::new(before)),
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

    /// The next request, for the shard.
    pub(crate) fn next_request(&self) -> Option<ControlRequest> {
        self.0.queue.pop()
    }

    /// Requests that wait.
    pub(crate) fn requests(&self) -> usize {
        self.0.queue.len()
    }

    /// Whether nothing is taken any more.
    pub(crate) fn is_stopped(&self) -> bool {
        self.0.is_stopped.load(Ordering::Acquire)
    }

    /// Publishes `status`, which becomes the one before. The shard never waits for a reader. While a reader
    /// takes the last status, this one is not published; the next beat brings another one.
    pub(crate) fn publish(&self, status: &mut Arc<ShardStatus>) {
        let published = match self.0.published.try_lock() {
            Err(TryLockError::WouldBlock) => return,
            Err(TryLockError::Poisoned(error)) => Some(error.into_inner()),
            Ok(published) => Some(published),
        };
        published.into_iter().for_each(|mut published| mem::swap(&mut *published, status));
    }

    /// The shard has ended, and this is its last status. Nothing is taken any more.
    pub(crate) fn close(&self, last: ShardStatus) {
        *self.0.published.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(last);
        self.0.is_stopped.store(true, Ordering::Release);
        self.refuse_all();
    }

    /// The shard has failed, or never started, and tells nothing more itself. Nothing is taken any more.
    pub(crate) fn fail(&self, error: Error) {
        let latest = self.latest();
        let groups = latest.groups.of_an_ended_shard();
        self.close(ShardStatus { state: ShardState::Failed(error), groups, ..(*latest).clone() });
    }

    /// The status as somebody holds it who is just taking it.
    #[cfg(test)]
    pub(crate) fn hold(&self) -> std::sync::MutexGuard<'_, Arc<ShardStatus>> {
        self.0.published.lock().expect("nobody else")
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
