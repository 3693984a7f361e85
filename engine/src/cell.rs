//! A value that one thread gives once, and another waits for.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
    time::Duration,
};

/// See the module. One waits for the value at a time: on any executor, or by blocking its thread.
pub(crate) struct SharedCell<T> {
    state: Mutex<State<T>>,
    filled: Condvar,
}

struct State<T> {
    value: Option<T>,
    waker: Option<Waker>,
}

impl<T> Default for SharedCell<T> {
    fn default() -> Self {
        let state = Mutex::new(State { value: None, waker: None });
        Self { state, filled: Condvar::new() }
    }
}

impl<T> SharedCell<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the value. The first value counts.
    pub(crate) fn fill(&self, value: T) {
        let mut state = self.lock();
        state.value.get_or_insert(value);
        let waker = state.waker.take();
        drop(state);
        self.filled.notify_all();
        waker.into_iter().for_each(Waker::wake);
    }

    /// Takes the value, once it is there; until then `waker` is woken when it comes.
    pub(crate) fn poll(&self, waker: &Waker) -> Poll<T> {
        let mut state = self.lock();
        match state.value.take() {
            Some(value) => Poll::Ready(value),
            None => {
                state.waker = Some(waker.clone());
                Poll::Pending
            }
        }
    }

    /// Blocks this thread until the value is there, and takes it; nothing when `timeout` passes first.
    pub(crate) fn wait(&self, timeout: Duration) -> Option<T> {
        let is_open = |state: &mut State<T>| state.value.is_none();
        let waited = self.filled.wait_timeout_while(self.lock(), timeout, is_open);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.value.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_counts_and_is_taken_once() {
        let cell = SharedCell::default();
        assert!(cell.poll(Waker::noop()).is_pending());
        cell.fill(1);
        cell.fill(2);
        assert_eq!(cell.wait(Duration::ZERO), Some(1));
        assert_eq!(cell.wait(Duration::ZERO), None);
    }
}
