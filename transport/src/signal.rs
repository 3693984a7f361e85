//! Waking one task, and ending what it waits for. Owns no task and no clock.

use futures_lite::future;
use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    task::{Poll, Waker},
};

/// A flag that one task waits for. Raised before the wait, it is seen by the wait.
#[derive(Default)]
pub(crate) struct Signal {
    is_raised: Cell<bool>,
    waiter: RefCell<Option<Waker>>,
}

impl Signal {
    pub(crate) fn raise(&self) {
        self.is_raised.set(true);
        let waiter = self.waiter.borrow_mut().take();
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }

    /// Waits until it is raised, and lowers it.
    pub(crate) fn wait(&self) -> impl Future<Output = ()> {
        poll_fn(|context| {
            if self.is_raised.replace(false) {
                return Poll::Ready(());
            }
            let mut waiter = self.waiter.borrow_mut();
            if !waiter.as_ref().is_some_and(|waiter| waiter.will_wake(context.waker())) {
                *waiter = Some(context.waker().clone());
            }
            Poll::Pending
        })
    }
}

/// What a connection's task is held by: it ends whatever the task waits for, when its time is over
/// or the connection is dropped from outside.
#[derive(Default)]
pub(crate) struct Leash {
    /// The beat at which time is over.
    deadline: Cell<Option<u64>>,
    cut: Cell<Option<Cut>>,
    signal: Signal,
}

/// How a leash was cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cut {
    /// Its time was over.
    Late,
    /// Somebody dropped it.
    Dropped,
}

impl Leash {
    /// Whole again, and without a deadline.
    pub(crate) fn renew(&self) {
        self.deadline.set(None);
        self.cut.set(None);
    }

    /// Time is over at beat `deadline`, instead of what was said before.
    pub(crate) fn set_deadline(&self, deadline: Option<u64>) {
        self.deadline.set(deadline);
    }

    pub(crate) fn beat(&self, now: u64) {
        if self.deadline.get().is_some_and(|deadline| deadline <= now) {
            self.deadline.set(None);
            self.cut_by(Cut::Late);
        }
    }

    pub(crate) fn drop_it(&self) {
        self.cut_by(Cut::Dropped);
    }

    pub(crate) fn is_dropped(&self) -> bool {
        self.cut.get() == Some(Cut::Dropped)
    }

    /// The output of `future`, unless the leash is cut before.
    pub(crate) async fn hold<T>(&self, future: impl Future<Output = T>) -> Result<T, Cut> {
        future::or(async { Err(self.cut().await) }, async { Ok(future.await) }).await
    }

    /// Dropped stays dropped, whatever the time.
    fn cut_by(&self, cut: Cut) {
        if !self.is_dropped() {
            self.cut.set(Some(cut));
            self.signal.raise();
        }
    }

    async fn cut(&self) -> Cut {
        loop {
            if let Some(cut) = self.cut.get() {
                return cut;
            }
            self.signal.wait().await;
        }
    }
}
