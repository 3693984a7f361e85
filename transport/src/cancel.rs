//! Ending what a task waits for. A token owns no task and no clock: time comes in by `beat`.

use crate::signal::Signal;
use futures_lite::future;
use std::{cell::Cell, future::Future};

/// Ends whatever the task of a connection waits for: when its deadline has passed, or when the
/// connection is dropped from outside.
#[derive(Default)]
pub(crate) struct CancelToken {
    /// The beat at which the task's time is over.
    deadline: Cell<Option<u64>>,
    cancelled: Cell<Option<Cancelled>>,
    signal: Signal,
}

/// Why a task was cancelled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cancelled {
    /// Its deadline had passed.
    Late,
    /// The connection was dropped from outside.
    Dropped,
    /// A newer connection wanted the task's place.
    Crowded,
}

impl CancelToken {
    /// Makes the token fresh: not cancelled, and without a deadline.
    pub(crate) fn reset(&self) {
        self.deadline.set(None);
        self.cancelled.set(None);
    }

    /// Replaces the deadline: the task's time is over at beat `deadline`.
    pub(crate) fn set_deadline(&self, deadline: Option<u64>) {
        self.deadline.set(deadline);
    }

    pub(crate) fn beat(&self, now: u64) {
        if self.deadline.get().is_some_and(|deadline| deadline <= now) {
            self.deadline.set(None);
            self.cancel(Cancelled::Late);
        }
    }

    /// Drops the connection: the task ends, whatever its deadline.
    pub(crate) fn drop_connection(&self) {
        self.cancel(Cancelled::Dropped);
    }

    /// The task's time is over now, as if its deadline had passed.
    pub(crate) fn give_up(&self) {
        self.cancel(Cancelled::Late);
    }

    /// Ends the task for a newer connection.
    pub(crate) fn give_way(&self) {
        self.cancel(Cancelled::Crowded);
    }

    #[cfg(test)]
    pub(crate) fn is_over(&self) -> bool {
        self.cancelled.get().is_some()
    }

    pub(crate) fn is_dropped(&self) -> bool {
        self.cancelled.get() == Some(Cancelled::Dropped)
    }

    /// The output of `future`, unless the token is cancelled before.
    pub(crate) async fn guard<T>(&self, future: impl Future<Output = T>) -> Result<T, Cancelled> {
        future::or(async { Err(self.cancelled().await) }, async { Ok(future.await) }).await
    }

    /// A deadline that passes later does not replace `Dropped`.
    fn cancel(&self, why: Cancelled) {
        if !self.is_dropped() {
            self.cancelled.set(Some(why));
            self.signal.raise();
        }
    }

    async fn cancelled(&self) -> Cancelled {
        loop {
            if let Some(why) = self.cancelled.get() {
                return why;
            }
            self.signal.wait().await;
        }
    }
}
