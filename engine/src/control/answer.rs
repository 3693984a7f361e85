//! One answer from a shard to a thread that waits for it.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
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

/// Where a shard puts its answer. Dropping it tells the caller that the shard has stopped.
pub(crate) struct Reply<T>(Arc<Slot<T>>);

/// The answer to an operator's request: to be awaited on any executor, or waited for by
/// [`ControlAnswer::wait`]. It comes as soon as the shard's next turn ends. Dropping it is harmless.
#[must_use = "the answer is all that a request gives"]
pub struct ControlAnswer<T>(Arc<Slot<T>>);

struct Slot<T> {
    state: Mutex<State<T>>,
    filled: Condvar,
}

struct State<T> {
    answer: Option<Result<T, ControlError>>,
    waker: Option<Waker>,
}

/// The two ends of one answer.
pub(crate) fn answer<T>() -> (Reply<T>, ControlAnswer<T>) {
    let state = Mutex::new(State { answer: None, waker: None });
    let slot = Arc::new(Slot { state, filled: Condvar::new() });
    (Reply(slot.clone()), ControlAnswer(slot))
}

impl<T> Slot<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Reply<T> {
    /// Gives the answer. The first one counts.
    pub(crate) fn send(self, answer: Result<T, ControlError>) {
        self.fill(answer);
    }

    fn fill(&self, answer: Result<T, ControlError>) {
        let mut state = self.0.lock();
        if state.answer.is_some() {
            return;
        }
        state.answer = Some(answer);
        let waker = state.waker.take();
        drop(state);
        self.0.filled.notify_all();
        waker.into_iter().for_each(Waker::wake);
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        // An answer that was taken by its caller already is put again, for nobody.
        self.fill(Err(ControlError::Stopped));
    }
}

impl<T> ControlAnswer<T> {
    /// Blocks this thread until the answer is there.
    ///
    /// # Errors
    /// [`ControlError::Late`] when `timeout` passes first; else why there is no answer.
    pub fn wait(self, timeout: Duration) -> Result<T, ControlError> {
        let is_open = |state: &mut State<T>| state.answer.is_none();
        let waited = self.0.filled.wait_timeout_while(self.0.lock(), timeout, is_open);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.answer.take().unwrap_or(Err(ControlError::Late))
    }
}

impl<T> Future for ControlAnswer<T> {
    type Output = Result<T, ControlError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.0.lock();
        match state.answer.take() {
            Some(answer) => Poll::Ready(answer),
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}
