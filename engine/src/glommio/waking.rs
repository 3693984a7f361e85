//! Wakes of a task by another thread, which must not be lost.
//!
//! glommio 0.9.0 announces such a wake by an event in the ring by which it also preempts. When that
//! event falls between two of its turns, it runs nothing, takes that for nothing to run, and sleeps
//! over the woken task until something else happens. So no other thread ever touches a waker of
//! glommio's: each task is polled with a waker of ours, which leaves the task at the executor's door
//! and rings. The bell is a socket that a task of the executor reads, as any connection is read.
//!
//! ```text
//! other thread ── wake ──► Door: woken tasks, in order ──┐
//!                          bell, if nobody is up ────────┴─► porter ──► glommio's own wakers
//! this thread ─── wake ────────────────────────────────────────────────────────┘
//! ```

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
        atomic::{AtomicBool, AtomicU64, Ordering, fence},
    },
    task::{Context, Wake, Waker},
};

/// Numbers the executors of this process, from 1.
static EXECUTORS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// The executor of this thread; 0 if there is none.
    static EXECUTOR: Cell<u64> = const { Cell::new(0) };
}

/// Where other threads leave the tasks of one executor that they wake.
pub(super) struct Door {
    executor: u64,
    /// Each task is in it at most once.
    woken: SegQueue<Arc<Task>>,
    /// Set once the porter has found nobody and waits for the bell; who rings clears it.
    is_quiet: AtomicBool,
    is_closed: AtomicBool,
    bell: net::UnixStream,
}

impl Door {
    /// The door of the present thread's executor, and the bell for its porter to hear.
    pub(super) fn open() -> io::Result<(Arc<Self>, Bell)> {
        let executor = EXECUTORS.fetch_add(1, Ordering::Relaxed) + 1;
        EXECUTOR.set(executor);
        let (bell, heard) = net::UnixStream::pair()?;
        // SAFETY: the descriptor is a connected socket, and this is its only owner.
        let heard = unsafe { UnixStream::from_raw_fd(heard.into_raw_fd()) };
        let door = Self {
            executor,
            woken: SegQueue::new(),
            is_quiet: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
            bell,
        };
        Ok((Arc::new(door), Bell(heard)))
    }

    /// Runs `future`, as one task of this door's executor, with a waker that other threads may use.
    pub(super) async fn admit<F: Future>(self: Arc<Self>, future: F) -> F::Output {
        let task =
            Arc::new(Task { door: self, is_left: AtomicBool::new(false), waker: Mutex::new(None) });
        let (waker, task) = (Waker::from(task.clone()), Admitted(task));
        let mut future = pin!(future);
        poll_fn(|cx| {
            task.0.keep(cx.waker());
            future.as_mut().poll(&mut Context::from_waker(&waker))
        })
        .await
    }

    /// Wakes what other threads leave, for as long as the executor runs.
    pub(super) async fn attend(self: Arc<Self>, mut bell: Bell) {
        loop {
            self.let_in();
            self.is_quiet.store(true, Ordering::Relaxed);
            // Either this sees the task, or who left it sees that it is quiet.
            fence(Ordering::SeqCst);
            if self.woken.is_empty() {
                bell.hear().await;
            }
            self.is_quiet.store(false, Ordering::Relaxed);
        }
    }

    /// Forgets who is at the door, and lets nobody come any more.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        while self.woken.pop().is_some() {}
    }

    fn let_in(&self) {
        while let Some(task) = self.woken.pop() {
            task.is_left.store(false, Ordering::SeqCst);
            task.wake_here();
        }
    }

    fn leave(&self, task: Arc<Task>) {
        self.woken.push(task);
        fence(Ordering::SeqCst);
        if self.is_closed.load(Ordering::Relaxed) {
            self.close();
        } else if self.is_quiet.load(Ordering::Relaxed)
            && self.is_quiet.swap(false, Ordering::AcqRel)
        {
            // It cannot be full: the porter hears each ring before it is quiet again. When the
            // executor has ended, there is nobody to hear.
            rustix::net::send(&self.bell, &[0], SendFlags::NOSIGNAL | SendFlags::DONTWAIT).ok();
        }
    }
}

/// The porter's side of the bell.
pub(super) struct Bell(UnixStream);

impl Bell {
    async fn hear(&mut self) {
        let rings = self.0.read(&mut [0; 64]).await;
        let rings = rings.expect("the door keeps the other end of the bell");
        assert!(rings > 0, "the door keeps the other end of the bell");
    }
}

/// What wakes one task of an executor, from any thread.
struct Task {
    door: Arc<Door>,
    /// Whether it is among the door's woken tasks.
    is_left: AtomicBool,
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
        if EXECUTOR.get() == self.door.executor {
            self.wake_here();
        } else if !self.is_left.swap(true, Ordering::SeqCst) {
            self.door.leave(self.clone());
        }
    }
}

/// Takes glommio's waker back when its task ends, on the executor's thread.
struct Admitted(Arc<Task>);

impl Drop for Admitted {
    fn drop(&mut self) {
        self.0.waker().take();
    }
}
