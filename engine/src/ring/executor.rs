//! The tasks of one shard, on one thread, and the loop that polls them.
//!
//! ```text
//! pass:  tasks that other threads woke ─► all tasks that can run ─► one system call: submit, complete, wait
//! ```
//!
//! A task that is woken on this thread joins a list of this thread: no lock, and no system call. Another thread
//! pushes the task to a queue, and writes to an event of the kernel if the executor sleeps.

use super::reactor::{Reactor, Side, Watch};
use crate::{
    handoff::{Next, Receiver},
    os::{Panic, Panics},
};
use async_task::{Runnable, Task};
use crossbeam::queue::SegQueue;
use futures_lite::FutureExt;
use rustix::event::{EventfdFlags, eventfd};
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
    future::{Future, poll_fn},
    hint, io,
    os::fd::OwnedFd,
    panic::AssertUnwindSafe,
    pin::pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

/// So many polls follow each other before the clock is read.
const POLLS: usize = 4;
/// So long tasks are polled before the kernel is asked again: tasks that are always ready keep no I/O waiting.
const POLLS_TIME_MAX: Duration = Duration::from_millis(1);

/// Numbers the executors of this process, from 1.
static EXECUTORS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// The executor of this thread; 0 if there is none.
    static EXECUTOR: Cell<u64> = const { Cell::new(0) };
    /// Its tasks that can run.
    static READY: RefCell<VecDeque<Runnable>> = const { RefCell::new(VecDeque::new()) };
}

/// The tasks that other threads have woken.
struct Remote {
    executor: u64,
    woken: SegQueue<Runnable>,
    receiver: Receiver,
    event: OwnedFd,
}

impl Remote {
    fn schedule(&self, task: Runnable) {
        // Where the thread itself ends, it has no list any more, and its executor polls nothing.
        if EXECUTOR.try_with(Cell::get) == Ok(self.executor) {
            READY.try_with(|ready| ready.borrow_mut().push_back(task)).ok();
            return;
        }
        self.woken.push(task);
        // When the executor has gone, all its tasks have ended, and none can be woken.
        if self.receiver.pushed() == Next::Signal {
            rustix::io::write(&self.event, &1_u64.to_ne_bytes()).ok();
        }
    }
}

/// See the module.
pub(super) struct Executor {
    remote: Arc<Remote>,
    /// The event of `remote`, for the executor to wait for.
    event: Cell<Option<OwnedFd>>,
    reactor: Rc<Reactor>,
    /// So long it looks for something to do before it sleeps.
    spin: Duration,
    running: RefCell<BTreeMap<u64, Task<()>>>,
    spawned: Cell<u64>,
    panics: Panics,
}

impl Executor {
    /// The executor of this thread, which has none.
    pub(super) fn new(reactor: Rc<Reactor>, spin: Duration) -> io::Result<Rc<Self>> {
        let executor = EXECUTORS.fetch_add(1, Ordering::Relaxed) + 1;
        EXECUTOR.set(executor);
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let own = event.try_clone()?;
        let remote = Remote { executor, woken: SegQueue::new(), receiver: Receiver::new(), event };
        Ok(Rc::new(Self {
            remote: Arc::new(remote),
            event: Cell::new(Some(own)),
            reactor,
            spin,
            running: RefCell::default(),
            spawned: Cell::default(),
            panics: Panics::default(),
        }))
    }

    /// Runs a task, until it ends or the executor does. A panic of it ends the executor.
    pub(super) fn spawn(self: &Rc<Self>, task: impl Future<Output = ()> + 'static) {
        let (id, executor) = (self.spawned.get(), Rc::downgrade(self));
        self.spawned.set(id + 1);
        let task = async move {
            let ended = AssertUnwindSafe(task).catch_unwind().await;
            if let Some(executor) = executor.upgrade() {
                executor.panics.note(ended);
                let own = executor.running.borrow_mut().remove(&id);
                if let Some(own) = own {
                    own.detach();
                }
            }
        };
        self.running.borrow_mut().insert(id, self.task(task));
    }

    fn task<T: 'static>(&self, task: impl Future<Output = T> + 'static) -> Task<T> {
        let remote = self.remote.clone();
        let (runnable, task) = async_task::spawn_local(task, move |task| remote.schedule(task));
        runnable.schedule();
        task
    }

    /// Runs the executor until `main` or a task that it spawned panics, or `main` ends; then drops all other tasks.
    pub(super) fn run<T: 'static>(
        self: &Rc<Self>,
        main: impl Future<Output = T> + 'static,
    ) -> Result<T, Panic> {
        let event = self.event.take().expect("an executor runs once");
        let signals = self.task(await_signals(self.reactor.watch(Rc::new(event), Side::Input)));
        let executor = self.clone();
        let ended = AssertUnwindSafe(main)
            .catch_unwind()
            .or(async move { Err(executor.panics.first().await) });
        let ended = self.until(self.task(ended));
        while let Some((_, task)) = self.pop() {
            self.until(task.cancel());
        }
        self.until(signals.cancel());
        self.reactor.end();
        EXECUTOR.set(0);
        ended
    }

    /// Polls tasks until `done` is.
    fn until<T>(&self, done: impl Future<Output = T>) -> T {
        let mut done = pin!(done);
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        let waker = Waker::from(woken.clone());
        let mut cx = Context::from_waker(&waker);
        loop {
            if woken.0.swap(false, Ordering::Relaxed)
                && let Poll::Ready(output) = done.as_mut().poll(&mut cx)
            {
                return output;
            }
            self.poll_tasks();
            let is_idle = READY.with(|ready| ready.borrow().is_empty());
            let may_sleep = is_idle && !woken.0.load(Ordering::Relaxed);
            self.turn(may_sleep);
        }
    }

    /// Polls the tasks that can run, and those that they wake: so many that the kernel need not wait for long.
    fn poll_tasks(&self) {
        while let Some(task) = self.remote.woken.pop() {
            READY.with(|ready| ready.borrow_mut().push_back(task));
        }
        let began = Instant::now();
        while began.elapsed() < POLLS_TIME_MAX {
            for _ in 0..POLLS {
                let task = READY.with(|ready| ready.borrow_mut().pop_front());
                let Some(task) = task else { return };
                task.run();
            }
        }
    }

    fn turn(&self, may_sleep: bool) {
        if !may_sleep || self.finds_something() {
            return self.reactor.turn(false);
        }
        self.remote.receiver.begin_sleep();
        self.reactor.turn(self.remote.woken.is_empty());
        self.remote.receiver.end_sleep();
    }

    /// Looks for something to do, for as long as it may.
    fn finds_something(&self) -> bool {
        if self.spin.is_zero() {
            return false;
        }
        let began = Instant::now();
        while began.elapsed() < self.spin {
            if self.reactor.has_news() || !self.remote.woken.is_empty() {
                return true;
            }
            hint::spin_loop();
        }
        false
    }

    fn pop(&self) -> Option<(u64, Task<()>)> {
        self.running.borrow_mut().pop_first()
    }
}

/// Whether what the executor runs for can go on. Only tasks of this thread wake it.
struct Woken(AtomicBool);

impl std::task::Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Waits for signals of other threads. That one came has woken the executor, so there is nothing else to do: each write
/// to the event is told anew, whatever is in it.
async fn await_signals(event: Watch) {
    loop {
        poll_fn(|cx| event.poll_ready(cx)).await;
        event.must_wait();
    }
}
