//! Wakes of a task by another thread, which must not be lost.
//!
//! glommio 0.9.0 announces such a wake by an event in the ring by which it also preempts. When that
//! event falls between two of its turns, it runs nothing, takes that for nothing to run, and sleeps
//! over the woken task until something else happens. So no other thread ever touches a waker of
//! glommio's. Each task is polled with a waker of ours, which pushes the task to a queue of its
//! executor and, if the executor sleeps, writes to a socket. A task of the executor reads the socket,
//! as any connection is read, and wakes the tasks of the queue by glommio's own wakers.
//!
//! ```text
//! other thread ── wake ──► queue of woken tasks ─────────┐
//!                          socket, if the reader sleeps ─┴─► WakeQueue::run ──► glommio's own wakers
//! this thread ─── wake ────────────────────────────────────────────────────────────┘
//! ```
//!
//! `crate::handoff` holds what must be right in every order of steps; loom checks it.

use crate::handoff::{Next, Queued, Receiver};
use ::glommio::net::UnixStream;
use crossbeam::queue::SegQueue;
use futures_lite::AsyncReadExt;
use rustix::net::SendFlags;
use std::{
    cell::Cell,
    future::{Future, poll_fn},
    io,
    os::{
        fd::{FromRawFd, IntoRawFd},
        unix::net,
    },
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Wake, Waker},
};

/// Numbers the executors of this process, from 1.
static EXECUTORS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// The executor of this thread; 0 if there is none.
    static EXECUTOR: Cell<u64> = const { Cell::new(0) };
}

/// The tasks of one executor that other threads have woken.
pub(super) struct WakeQueue {
    executor: u64,
    /// Each task is in it at most once.
    woken: SegQueue<Arc<Task>>,
    receiver: Receiver,
    signal: net::UnixStream,
}

impl WakeQueue {
    /// The queue of the present thread's executor, and what `run` is to read.
    pub(super) fn open() -> io::Result<(Arc<Self>, Signals)> {
        let executor = EXECUTORS.fetch_add(1, Ordering::Relaxed) + 1;
        EXECUTOR.set(executor);
        let (signal, read) = net::UnixStream::pair()?;
        // SAFETY: the descriptor is a connected socket, and this is its only owner.
        let read = unsafe { UnixStream::from_raw_fd(read.into_raw_fd()) };
        let queue = Self { executor, woken: SegQueue::new(), receiver: Receiver::new(), signal };
        Ok((Arc::new(queue), Signals(read)))
    }

    /// Runs `future`, as one task of this queue's executor, with a waker that other threads may use.
    pub(super) async fn wakeable<F: Future>(self: Arc<Self>, future: F) -> F::Output {
        let task = Task { queue: self, queued: Queued::new(), waker: Mutex::new(None) };
        let task = Arc::new(task);
        let (waker, task) = (Waker::from(task.clone()), TakesWakerBack(task));
        let mut future = pin!(future);
        poll_fn(|cx| {
            task.0.keep(cx.waker());
            future.as_mut().poll(&mut Context::from_waker(&waker))
        })
        .await
    }

    /// Wakes the tasks that other threads push, for as long as the executor runs.
    pub(super) async fn run(self: Arc<Self>, mut signals: Signals) {
        loop {
            while let Some(task) = self.woken.pop() {
                task.queued.leave();
                task.wake_here();
            }
            self.receiver.begin_sleep();
            if self.woken.is_empty() {
                signals.wait().await;
            }
            self.receiver.end_sleep();
        }
    }

    /// Drops the tasks of the queue, and those that are pushed from now on.
    pub(super) fn close(&self) {
        self.receiver.leave();
        self.clear();
    }

    fn clear(&self) {
        while self.woken.pop().is_some() {}
    }

    fn push(&self, task: Arc<Task>) {
        self.woken.push(task);
        match self.receiver.pushed() {
            Next::Nothing => {}
            Next::Drain => self.clear(),
            // The socket cannot be full: `run` reads each signal before it sleeps again. When the
            // executor has ended, nothing is left to wake.
            Next::Signal => {
                let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
                rustix::net::send(&self.signal, &[0], flags).ok();
            }
        }
    }
}

/// The end of the socket at which the executor waits for a signal.
pub(super) struct Signals(UnixStream);

impl Signals {
    async fn wait(&mut self) {
        let bytes = self.0.read(&mut [0; 64]).await;
        let bytes = bytes.expect("the queue keeps the other end of the socket");
        assert!(bytes > 0, "the queue keeps the other end of the socket");
    }
}

/// What wakes one task of an executor, from any thread.
struct Task {
    queue: Arc<WakeQueue>,
    /// Whether it is among the queue's woken tasks.
    queued: Queued,
    /// glommio's own, for the executor's thread alone. Until the first poll, and once the task has
    /// ended, there is none.
    waker: Mutex<Option<Waker>>,
}

impl Task {
    fn keep(&self, waker: &Waker) {
        let mut kept = self.waker();
        if !kept.as_ref().is_some_and(|kept| kept.will_wake(waker)) {
            *kept = Some(waker.clone());
        }
    }

    fn wake_here(&self) {
        if let Some(waker) = &*self.waker() {
            waker.wake_by_ref();
        }
    }

    fn waker(&self) -> MutexGuard<'_, Option<Waker>> {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if EXECUTOR.get() == self.queue.executor {
            self.wake_here();
        } else if self.queued.enter() {
            self.queue.push(self.clone());
        }
    }
}

/// Takes glommio's waker back when its task ends, on the executor's thread.
struct TakesWakerBack(Arc<Task>);

impl Drop for TakesWakerBack {
    fn drop(&mut self) {
        self.0.waker().take();
    }
}
