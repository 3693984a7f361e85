//! Waking one task. A signal owns no task and no clock.

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
