//! How one thread hands a woken task over to another without a lock: when the sender must signal, and when
//! the task must be queued again.
//!
//! `model_test.rs` compiles this file a second time, over the atomics of loom, and runs every order of
//! steps and every value that the memory model allows a load to return.

use super::atomics::{AtomicBool, Ordering, fence};

/// What the sender of a wake must do after it has pushed the task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    /// The receiver is awake and will look at the queue.
    Nothing,
    /// The receiver sleeps, or is about to.
    Signal,
    /// The receiver is gone: the sender empties the queue.
    Drain,
}

/// Whether the receiver of a queue sleeps, and whether it is gone.
pub(crate) struct Receiver {
    /// Set by the receiver before it sleeps. The one sender that clears it signals. All changes are swaps:
    /// they have one order that each thread agrees on, also in the model, where a store has no fixed place
    /// among the changes of other threads.
    is_asleep: AtomicBool,
    is_gone: AtomicBool,
}

impl Receiver {
    pub(crate) fn new() -> Self {
        Self { is_asleep: AtomicBool::new(false), is_gone: AtomicBool::new(false) }
    }

    /// Before the receiver sleeps. It must look at the queue after this, and sleep only if it is empty.
    pub(crate) fn begin_sleep(&self) {
        self.is_asleep.swap(true, Ordering::AcqRel);
        // With the fence of `pushed`: the receiver sees the task, or its sender sees that the receiver
        // sleeps. Without either fence both may see the old value, and the wake is lost.
        fence(Ordering::SeqCst);
    }

    /// After the receiver has slept, or has found that it need not.
    pub(crate) fn end_sleep(&self) {
        self.is_asleep.swap(false, Ordering::AcqRel);
    }

    /// For a sender that has pushed a task.
    pub(crate) fn pushed(&self) -> Next {
        fence(Ordering::SeqCst);
        if self.is_gone.load(Ordering::Relaxed) {
            Next::Drain
        } else if self.is_asleep.load(Ordering::Relaxed)
            && self.is_asleep.swap(false, Ordering::AcqRel)
        {
            Next::Signal
        } else {
            Next::Nothing
        }
    }

    /// The receiver goes for good. It must empty the queue after this: a task that it does not see there is
    /// one whose sender sees that the receiver is gone.
    pub(crate) fn leave(&self) {
        self.is_gone.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }
}

/// Whether a task is in the queue, so that it is there at most once.
pub(crate) struct Queued(AtomicBool);

impl Queued {
    pub(crate) fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// For a sender that wakes the task. Whether the sender must push it.
    pub(crate) fn enter(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }

    /// For the receiver, after it has taken the task out and before it runs the task.
    pub(crate) fn leave(&self) {
        // A store would not do. A sender that found the task queued has pushed nothing, so the task must see
        // what that sender did before: the swap reads what the sender wrote.
        self.0.swap(false, Ordering::AcqRel);
    }
}
