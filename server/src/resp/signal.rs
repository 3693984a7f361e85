//! How the two tasks of a connection wake each other: a flag with at most one waiter.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    task::{Poll, Waker},
};

/// A flag that one task raises and another waits for. Raising it twice is raising it once.
#[derive(Default)]
pub(super) struct Signal {
    is_raised: Cell<bool>,
    waiter: RefCell<Option<Waker>>,
}

impl Signal {
    /// Raises the flag and wakes who waits for it.
    pub(super) fn raise(&self) {
        self.is_raised.set(true);
        let waiter = self.waiter.borrow_mut().take();
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }

    /// Returns once the flag is raised, and takes it down.
    pub(super) async fn wait(&self) {
        poll_fn(|context| {
            if self.is_raised.replace(false) {
                return Poll::Ready(());
            }
            let mut waiter = self.waiter.borrow_mut();
            match &mut *waiter {
                Some(waiter) => waiter.clone_from(context.waker()),
                None => *waiter = Some(context.waker().clone()),
            }
            Poll::Pending
        })
        .await;
    }
}
