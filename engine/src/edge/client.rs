//! Requests from any thread: a bounded queue for each shard, and an answer that can be awaited on any
//! executor or blocked for.

use crate::{
    control::status::Level,
    edge::{
        desk::{Connection, Desk},
        local::LocalShard,
        request::{Completion, Request},
    },
    placement::Placement,
    runtime::Runtime,
    wake::Wake,
};
use bytes::Bytes;
use crossbeam::queue::ArrayQueue;
use purlin_rsm::{GroupId, Outcome, RequestError, RequestKind};
use std::{
    collections::BTreeMap,
    future::Future,
    ops::Deref,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

/// Requests that wait to be taken in by one shard.
const INLET_CAPACITY: usize = 16 << 10;
/// Requests of other threads that a shard takes in at one turn.
const INTAKE_MAX: usize = 1024;

/// The way into one shard from any thread.
pub(crate) struct Inlet<R: Runtime> {
    queue: ArrayQueue<Inbound<R>>,
    wake: Arc<Wake>,
    /// The shard was asked to stop.
    is_stopping: AtomicBool,
    /// It has: nothing is taken in.
    is_stopped: AtomicBool,
}

/// Something to be run on the shard's core, with its handle.
pub(crate) type Task<R> = Box<dyn FnOnce(LocalShard<R>) + Send>;

/// What comes in by it.
pub(crate) enum Inbound<R: Runtime> {
    Request {
        group: GroupId,
        request: Request,
        answer: Arc<Slot>,
    },
    /// To be run on the shard's core.
    Task(Task<R>),
}

impl<R: Runtime> Inlet<R> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            queue: ArrayQueue::new(INLET_CAPACITY),
            wake: Arc::default(),
            is_stopping: AtomicBool::new(false),
            is_stopped: AtomicBool::new(false),
        })
    }

    /// What wakes the shard's loop.
    pub(crate) fn wake(&self) -> &Arc<Wake> {
        &self.wake
    }

    /// Hands something in; a full queue gives it back.
    pub(crate) fn push(&self, inbound: Inbound<R>) -> Result<(), Inbound<R>> {
        if self.is_stopped.load(Ordering::Acquire) {
            return Err(inbound);
        }
        self.queue.push(inbound)?;
        self.wake.notify();
        if self.is_stopped.load(Ordering::Acquire) {
            // The shard may have looked for the last time before this came.
            self.close();
        }
        Ok(())
    }

    pub(crate) fn pop(&self) -> Option<Inbound<R>> {
        self.queue.pop()
    }

    /// How full it is.
    pub(crate) fn level(&self) -> Level {
        Level { now: self.queue.len(), max: self.queue.capacity() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Asks the shard to stop.
    pub(crate) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
        self.wake.notify();
    }

    /// Whether the shard was asked to stop.
    pub(crate) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }

    /// Nothing is taken in any more; what waits was not applied.
    pub(crate) fn close(&self) {
        self.is_stopped.store(true, Ordering::Release);
        while let Some(inbound) = self.queue.pop() {
            if let Inbound::Request { answer, .. } = inbound {
                answer.fill(Err(RequestError::Stopping));
            }
        }
    }
}

/// An inlet whose shard lives: its drop closes it, however the shard has ended, and whether it was ever
/// opened. Nobody waits for a shard that is gone.
pub(crate) struct LiveInlet<R: Runtime>(pub(crate) Arc<Inlet<R>>);

impl<R: Runtime> Deref for LiveInlet<R> {
    type Target = Inlet<R>;

    fn deref(&self) -> &Inlet<R> {
        &self.0
    }
}

impl<R: Runtime> Drop for LiveInlet<R> {
    fn drop(&mut self) {
        self.close();
    }
}

/// Requests of other threads that a shard has taken in.
pub(crate) struct ForeignDesk {
    /// Proposals and queries apart: neither waits for the other, since a thread that wants an order
    /// waits for the first answer.
    proposals: Rc<Connection>,
    queries: Rc<Connection>,
    waiting: BTreeMap<u64, Arc<Slot>>,
    newest: u64,
    completions: Vec<Completion>,
}

impl ForeignDesk {
    pub(crate) fn new(desk: &Rc<Desk>) -> Self {
        Self {
            proposals: desk.connect(),
            queries: desk.connect(),
            waiting: BTreeMap::new(),
            newest: 0,
            completions: Vec::new(),
        }
    }

    /// Takes requests in; tasks come back.
    pub(crate) fn take_in<R: Runtime>(&mut self, inlet: &Inlet<R>) -> Vec<Task<R>> {
        let mut tasks = Vec::new();
        for _ in 0..INTAKE_MAX {
            match inlet.pop() {
                Some(Inbound::Request { group, request, answer }) => {
                    self.submit(group, request, answer)
                }
                Some(Inbound::Task(task)) => tasks.push(task),
                None => break,
            }
        }
        if !inlet.is_empty() {
            inlet.wake.notify();
        }
        tasks
    }

    fn submit(&mut self, group: GroupId, request: Request, answer: Arc<Slot>) {
        self.newest += 1;
        self.waiting.insert(self.newest, answer);
        match request.kind() {
            RequestKind::Propose => self.proposals.submit(group, request, self.newest),
            RequestKind::Query => self.queries.submit(group, request, self.newest),
        }
    }

    /// Gives the outcomes that are there to the threads that wait for them.
    pub(crate) fn answer(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        self.proposals.take_completions(&mut self.completions);
        self.queries.take_completions(&mut self.completions);
        for Completion { tag, outcome } in self.completions.drain(..) {
            if let Some(answer) = self.waiting.remove(&tag) {
                answer.fill(outcome);
            }
        }
    }
}

impl Drop for ForeignDesk {
    /// A shard that ends by a bug answers nothing more.
    fn drop(&mut self) {
        for answer in self.waiting.values() {
            answer.fill(Err(RequestError::UNKNOWN));
        }
    }
}

/// Where an outcome is put for another thread.
#[derive(Default)]
pub(crate) struct Slot {
    state: Mutex<SlotState>,
    filled: Condvar,
}

#[derive(Default)]
struct SlotState {
    outcome: Option<Outcome>,
    waker: Option<Waker>,
}

impl Slot {
    pub(crate) fn fill(&self, outcome: Outcome) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.outcome.get_or_insert(outcome);
        let waker = state.waker.take();
        drop(state);
        self.filled.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Proposes to and queries the groups of a host, from any thread. A clone is another handle.
///
/// A request goes to its group's leader, wherever that is. Requests of one client are in no order: who
/// wants one waits for the first answer, or uses a [`Connection`] on the core.
pub struct Client<R: Runtime> {
    inlets: Arc<[Arc<Inlet<R>>]>,
    max_command: usize,
}

impl<R: Runtime> Clone for Client<R> {
    fn clone(&self) -> Self {
        Self { inlets: self.inlets.clone(), max_command: self.max_command }
    }
}

impl<R: Runtime> Client<R> {
    pub(crate) fn new(inlets: Arc<[Arc<Inlet<R>>]>, max_command: usize) -> Self {
        Self { inlets, max_command }
    }

    /// Proposes a command to a group. Once this returns the command may be applied, whether the answer
    /// is awaited or dropped.
    pub fn propose(&self, group: GroupId, command: impl Into<Bytes>) -> Answer {
        self.request(group, Request::Propose(command.into()))
    }

    /// Queries a group's state machine, linearizably: it has applied every command whose answer came
    /// before this call.
    pub fn query(&self, group: GroupId, query: impl Into<Bytes>) -> Answer {
        self.request(group, Request::Query(query.into()))
    }

    fn request(&self, group: GroupId, request: Request) -> Answer {
        let slot = Arc::<Slot>::default();
        let answer = Answer { slot: slot.clone() };
        let bytes = request.data().len();
        if bytes > self.max_command {
            slot.fill(Err(RequestError::TooLarge { bytes, limit: self.max_command }));
            return answer;
        }
        let shard = Placement::new(self.inlets.len() as u16).shard_of(group);
        let inlet = &self.inlets[usize::from(shard.0)];
        if let Err(Inbound::Request { answer, .. }) =
            inlet.push(Inbound::Request { group, request, answer: slot })
        {
            let is_stopped = inlet.is_stopped.load(Ordering::Acquire);
            answer.fill(Err(if is_stopped { RequestError::Stopping } else { RequestError::Busy }));
        }
        answer
    }
}

/// The answer to a request, to be awaited on any executor or waited for by [`Answer::wait`]. It always
/// comes. Dropping it takes nothing back.
#[must_use = "an answer says whether the request was applied"]
pub struct Answer {
    slot: Arc<Slot>,
}

impl Answer {
    /// Blocks this thread until the answer is there.
    ///
    /// # Errors
    /// How the request failed; [`RequestError::Unknown`] when `timeout` passes first.
    pub fn wait(self, timeout: Duration) -> Outcome {
        let state = self.slot.state.lock().unwrap_or_else(PoisonError::into_inner);
        let waited =
            self.slot.filled.wait_timeout_while(state, timeout, |state| state.outcome.is_none());
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.outcome.take().unwrap_or(Err(RequestError::UNKNOWN))
    }
}

impl Future for Answer {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        let mut state = self.slot.state.lock().unwrap_or_else(PoisonError::into_inner);
        match state.outcome.take() {
            Some(outcome) => Poll::Ready(outcome),
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}
