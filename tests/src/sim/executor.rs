//! Runs the tasks of all nodes on one thread, and picks the next ready task at random.
//!
//! A task belongs to a shard of a process. A crash ends all tasks of the process between two polls:
//! their futures are dropped and never polled again. A panic is caught at the task.

use super::random::Random;
use purlin_rsm::{NodeId, ShardId};
use std::{
    any::Any,
    cell::{Cell, RefCell},
    collections::BTreeSet,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

/// One start of a node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Process {
    pub(crate) node: NodeId,
    pub(crate) boot: u64,
}

/// The owner of a task.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Owner {
    pub(crate) process: Process,
    pub(crate) shard: ShardId,
}

thread_local! {
    /// Whose task this thread polls.
    static POLLED: Cell<Option<Process>> = const { Cell::new(None) };
}

/// The process whose task this thread polls, for what the nodes log.
pub(crate) fn polled_for_logs() -> Option<Process> {
    POLLED.get()
}

pub(crate) type TaskFuture = Pin<Box<dyn Future<Output = ()>>>;

/// What a poll came to.
pub(crate) enum Polled {
    /// No task was ready.
    Idle,
    /// One was, and went on; its number for the trace.
    Ran(Owner, u64),
    /// It ended by a panic.
    Panicked { owner: Owner, message: String },
}

pub(crate) struct Executor {
    ready: Arc<Ready>,
    tasks: RefCell<Vec<Option<Task>>>,
    vacant: RefCell<Vec<u32>>,
    spawned: Cell<u64>,
    schedule: Random,
    /// Shards that do not run for now, and their tasks that would.
    paused: RefCell<BTreeSet<(NodeId, ShardId)>>,
    /// Shards whose core works on what a task of theirs has done; the same for their tasks.
    working: RefCell<BTreeSet<(NodeId, ShardId)>>,
    parked: RefCell<Vec<TaskKey>>,
}

impl Executor {
    pub(crate) fn new(schedule: Random) -> Self {
        Self {
            ready: Arc::default(),
            tasks: RefCell::default(),
            vacant: RefCell::default(),
            spawned: Cell::new(0),
            schedule,
            paused: RefCell::default(),
            working: RefCell::default(),
            parked: RefCell::default(),
        }
    }

    pub(crate) fn spawn(&self, owner: Owner, future: TaskFuture) {
        let mut tasks = self.tasks.borrow_mut();
        let slot = self.vacant.borrow_mut().pop().unwrap_or(tasks.len() as u32);
        if slot as usize == tasks.len() {
            tasks.push(None);
        }
        let number = self.spawned.get();
        self.spawned.set(number + 1);
        let handle = Arc::new(Handle {
            key: TaskKey { slot, number },
            queued: AtomicBool::new(false),
            ready: self.ready.clone(),
        });
        let waker = Waker::from(handle.clone());
        waker.wake_by_ref();
        tasks[slot as usize] = Some(Task { owner, future: Some(future), handle, waker });
    }

    /// Polls one ready task, if there is one.
    pub(crate) fn poll_one(&self) -> Polled {
        loop {
            let Some(key) = self.ready.take_any(&self.schedule) else { return Polled::Idle };
            let Some((owner, mut future, waker)) = self.check_out(key) else { continue };
            let mut context = Context::from_waker(&waker);
            // The future is never polled again after a panic, so that no broken state is seen.
            POLLED.set(Some(owner.process));
            let result = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut context)));
            POLLED.set(None);
            match result {
                Ok(Poll::Pending) => self.check_in(key, future),
                Ok(Poll::Ready(())) => self.retire(key, future),
                Err(payload) => {
                    self.retire(key, future);
                    return Polled::Panicked { owner, message: panic_message(&*payload) };
                }
            }
            return Polled::Ran(owner, key.number);
        }
    }

    /// Ends all tasks that `condemned` names, without polling them again.
    pub(crate) fn abort(&self, condemned: impl Fn(&Owner) -> bool) {
        let mut dropped = Vec::new();
        for (slot, entry) in self.tasks.borrow_mut().iter_mut().enumerate() {
            if entry.as_ref().is_some_and(|task| condemned(&task.owner)) {
                dropped.push(entry.take());
                self.vacant.borrow_mut().push(slot as u32);
            }
        }
        // Outside the borrows, since a future's drop may come back here.
        for task in dropped {
            drop_quietly(task);
        }
    }

    pub(crate) fn pause(&self, node: NodeId, shard: ShardId) {
        self.paused.borrow_mut().insert((node, shard));
    }

    pub(crate) fn resume(&self, node: NodeId, shard: ShardId) {
        self.paused.borrow_mut().remove(&(node, shard));
        self.unpark();
    }

    /// The core of a shard works, and runs no task meanwhile.
    pub(crate) fn begin_work(&self, node: NodeId, shard: ShardId) {
        self.working.borrow_mut().insert((node, shard));
    }

    pub(crate) fn end_work(&self, node: NodeId, shard: ShardId) {
        self.working.borrow_mut().remove(&(node, shard));
        self.unpark();
    }

    fn unpark(&self) {
        let parked = self.parked.take();
        self.ready.queue.lock().expect("no poll panics inside").extend(parked);
    }

    /// Takes a ready task's future to poll it; nothing when it has ended or its shard is paused.
    fn check_out(&self, key: TaskKey) -> Option<(Owner, TaskFuture, Waker)> {
        let mut tasks = self.tasks.borrow_mut();
        let task = tasks.get_mut(key.slot as usize)?.as_mut()?;
        if task.handle.key != key {
            return None;
        }
        let shard = (task.owner.process.node, task.owner.shard);
        let stands = |shards: &BTreeSet<_>| !shards.is_empty() && shards.contains(&shard);
        if stands(&self.paused.borrow()) || stands(&self.working.borrow()) {
            self.parked.borrow_mut().push(key);
            return None;
        }
        task.handle.queued.store(false, Ordering::Relaxed);
        Some((task.owner, task.future.take()?, task.waker.clone()))
    }

    /// Puts a future back, unless its task was ended while it ran.
    fn check_in(&self, key: TaskKey, future: TaskFuture) {
        let mut tasks = self.tasks.borrow_mut();
        match tasks[key.slot as usize].as_mut() {
            Some(task) if task.handle.key == key => task.future = Some(future),
            _ => {
                drop(tasks);
                drop_quietly(future);
            }
        }
    }

    fn retire(&self, key: TaskKey, future: TaskFuture) {
        let mut tasks = self.tasks.borrow_mut();
        let entry = &mut tasks[key.slot as usize];
        if entry.as_ref().is_some_and(|task| task.handle.key == key) {
            *entry = None;
            self.vacant.borrow_mut().push(key.slot);
        }
        drop(tasks);
        drop_quietly(future);
    }
}

struct Task {
    owner: Owner,
    /// Away while it is polled.
    future: Option<TaskFuture>,
    handle: Arc<Handle>,
    waker: Waker,
}

/// Names a task: where it is, and its number, since places are used again.
#[derive(Clone, Copy, PartialEq, Eq)]
struct TaskKey {
    slot: u32,
    number: u64,
}

/// What a waker of a task points at.
struct Handle {
    key: TaskKey,
    /// Whether the task is in the ready queue, in which it is once at most.
    queued: AtomicBool,
    ready: Arc<Ready>,
}

impl Wake for Handle {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            self.ready.queue.lock().expect("no poll panics inside").push(self.key);
        }
    }
}

/// The ready tasks. A lock, since a waker must be `Send`; nobody ever waits for it.
#[derive(Default)]
struct Ready {
    queue: Mutex<Vec<TaskKey>>,
}

impl Ready {
    fn take_any(&self, schedule: &Random) -> Option<TaskKey> {
        let mut queue = self.queue.lock().expect("no poll panics inside");
        match queue.len() {
            0 => None,
            1 => queue.pop(),
            many => Some(queue.swap_remove(schedule.below(many as u64) as usize)),
        }
    }
}

/// A destructor that panics while its process is being ended tells nothing about the process.
fn drop_quietly<T>(value: T) {
    drop(catch_unwind(AssertUnwindSafe(|| drop(value))));
}

fn panic_message(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        return (*text).to_owned();
    }
    payload.downcast_ref::<String>().cloned().unwrap_or_else(|| "a panic without text".to_owned())
}
