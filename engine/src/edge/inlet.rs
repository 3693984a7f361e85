//! The way into a shard from any thread: a bounded queue, and a cell for each outcome that goes back.

use crate::{
    cell::SharedCell,
    control::status::Level,
    edge::{
        caller::{Caller, Callers},
        local::LocalShard,
        request::{Completion, Request},
    },
    runtime::Runtime,
    wake::Wake,
};
use crossbeam::queue::ArrayQueue;
use purlin_rsm::{GroupId, Outcome, RequestError, RequestKind, ShardId};
use std::{
    collections::BTreeMap,
    ops::Deref,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// Requests that wait until one shard takes them.
const INLET_CAPACITY: usize = 16 << 10;
/// Requests of other threads that a shard takes at one turn.
const INTAKE_MAX: usize = 1024;

/// The way into one shard from any thread.
pub(crate) struct Inlet<R: Runtime> {
    shard: ShardId,
    queue: ArrayQueue<Inbound<R>>,
    wake: Arc<Wake>,
    /// The shard was asked to stop.
    is_stopping: AtomicBool,
    /// It was asked to stop, and nothing is under way there any more.
    is_drained: AtomicBool,
    /// It has stopped: nothing is taken.
    is_stopped: AtomicBool,
}

/// Something to be run on the shard's core, with its handle.
pub(crate) type Task<R> = Box<dyn FnOnce(LocalShard<R>) + Send>;

/// What comes by it.
pub(crate) enum Inbound<R: Runtime> {
    Request {
        group: GroupId,
        request: Request,
        outcome: Arc<OutcomeCell>,
    },
    /// To be run on the shard's core.
    Task(Task<R>),
}

impl<R: Runtime> Inlet<R> {
    pub(crate) fn new(shard: ShardId) -> Arc<Self> {
        Arc::new(Self {
            shard,
            queue: ArrayQueue::new(INLET_CAPACITY),
            wake: Arc::default(),
            is_stopping: AtomicBool::new(false),
            is_drained: AtomicBool::new(false),
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

    /// Whether nothing is taken any more.
    pub(crate) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Acquire)
    }

    /// Whether the shard was asked to stop.
    pub(crate) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }

    /// Nothing is under way at the shard any more, which was asked to stop. Returns whether that is news.
    pub(crate) fn set_drained(&self) -> bool {
        !self.is_drained.swap(true, Ordering::AcqRel)
    }

    /// Whether nothing is under way at the shard any more, which was asked to stop.
    pub(crate) fn is_drained(&self) -> bool {
        self.is_drained.load(Ordering::Acquire)
    }

    /// Why a shard that has stopped takes no request.
    pub(crate) fn refusal(&self) -> RequestError {
        match self.is_stopping() {
            true => RequestError::Stopping,
            false => RequestError::ShardStopped { shard: self.shard },
        }
    }

    /// Nothing is taken any more; what waits was not applied.
    pub(crate) fn close(&self) {
        self.is_stopped.store(true, Ordering::Release);
        while let Some(inbound) = self.queue.pop() {
            if let Inbound::Request { outcome, .. } = inbound {
                outcome.fill(Err(self.refusal()));
            }
        }
    }
}

/// An inlet whose shard lives. Its drop closes the inlet, however the shard has ended, and whether the
/// shard was ever opened: so nobody waits for a shard that is gone.
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

/// Where an outcome is put for another thread.
pub(crate) type OutcomeCell = SharedCell<Outcome>;

/// Hands in the requests of other threads, and tells these the outcomes.
pub(crate) struct InletCaller {
    /// Proposals and queries apart: neither waits for the other, since a thread that wants an order
    /// waits for the first outcome.
    proposals: Rc<Caller>,
    queries: Rc<Caller>,
    waiting: BTreeMap<u64, Arc<OutcomeCell>>,
    newest: u64,
    completions: Vec<Completion>,
}

impl InletCaller {
    pub(crate) fn new(callers: &Rc<Callers>) -> Self {
        Self {
            proposals: callers.caller(),
            queries: callers.caller(),
            waiting: BTreeMap::new(),
            newest: 0,
            completions: Vec::new(),
        }
    }

    /// Hands in the requests that came by the inlet; tasks come back.
    pub(crate) fn drain<R: Runtime>(&mut self, inlet: &Inlet<R>) -> Vec<Task<R>> {
        let mut tasks = Vec::new();
        for _ in 0..INTAKE_MAX {
            match inlet.pop() {
                Some(Inbound::Request { group, request, outcome }) => {
                    self.submit(group, request, outcome)
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

    fn submit(&mut self, group: GroupId, request: Request, outcome: Arc<OutcomeCell>) {
        self.newest += 1;
        self.waiting.insert(self.newest, outcome);
        match request.kind() {
            RequestKind::Propose => self.proposals.submit(group, request, self.newest),
            RequestKind::Query => self.queries.submit(group, request, self.newest),
        }
    }

    /// Tells the outcomes that are there to the threads that wait for them.
    pub(crate) fn tell_outcomes(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        self.proposals.take_completions(&mut self.completions);
        self.queries.take_completions(&mut self.completions);
        for Completion { tag, outcome } in self.completions.drain(..) {
            if let Some(cell) = self.waiting.remove(&tag) {
                cell.fill(outcome);
            }
        }
    }
}

impl Drop for InletCaller {
    /// A shard that ends by a bug tells nothing more.
    fn drop(&mut self) {
        for cell in self.waiting.values() {
            cell.fill(Err(RequestError::UNKNOWN));
        }
    }
}
