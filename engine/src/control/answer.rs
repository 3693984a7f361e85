//! One answer from a shard to a thread that waits for it.

use crate::cell::SharedCell;
use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

/// Why an operator's request has no answer. The request changed nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// As many requests wait as the shard's control queue holds.
    #[error("the shard has too many control requests, this one was not taken: ask again later")]
    Busy,
    /// The shard has stopped, or ended by an error.
    #[error("the shard has stopped: its last status says why")]
    Stopped,
    /// The shard did not answer in time: it is busy with a long turn, or hangs.
    #[error("the shard did not answer in time: it is overloaded, or it hangs")]
    Late,
}

type Cell<T> = SharedCell<Result<T, ControlError>>;

/// Where a shard puts its answer. Dropping it tells the caller that the shard has stopped.
pub(crate) struct Reply<T>(Arc<Cell<T>>);

/// The answer to an operator's request: to be awaited on any executor, or waited for by
/// [`ControlAnswer::wait`]. It comes as soon as the shard's next turn ends. Dropping it is harmless.
#[must_use = "the answer is all that a request gives"]
pub struct ControlAnswer<T>(Arc<Cell<T>>);

/// The two ends of one answer.
pub(crate) fn answer<T>() -> (Reply<T>, ControlAnswer<T>) {
    let cell = Arc::<Cell<T>>::default();
    (Reply(cell.clone()), ControlAnswer(cell))
}

impl<T> Reply<T> {
    /// Gives the answer. The first one counts.
    pub(crate) fn send(self, answer: Result<T, ControlError>) {
        self.0.fill(answer);
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        // An answer that was taken by its caller already is put again, for nobody.
        self.0.fill(Err(ControlError::Stopped));
    }
}

impl<T> ControlAnswer<T> {
    /// Blocks this thread until the answer is there.
    ///
    /// # Errors
    /// [`ControlError::Late`] when `timeout` passes first; else why there is no answer.
    pub fn wait(self, timeout: Duration) -> Result<T, ControlError> {
        self.0.wait(timeout).unwrap_or(Err(ControlError::Late))
    }
}

impl<T> Future for ControlAnswer<T> {
    type Output = Result<T, ControlError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll(context.waker())
    }
}
