//! Virtual time: the events that are due, and the clocks of the nodes.
//!
//! Time stands still while tasks run. When no task is ready, time jumps to the next event. Events
//! that are due at the same moment happen in the order in which they were asked for.
//!
//! A task may say that it works for some time ([`Clock::work`]). Then the time goes on for this task alone until
//! its poll ends: what it asks for comes as much later. The executor keeps its shard from running for that time.

use super::world::Core;
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

/// What happens at a moment.
pub(crate) enum Due {
    /// A sleeping task goes on.
    Wake(Waker),
    /// Something of the world outside the tasks: a device or the network.
    Call(Call),
}

type Call = Box<dyn FnOnce(&Rc<Core>)>;

thread_local! {
    /// The time of the world that this thread runs.
    static NOW_FOR_LOGS: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// The time of the world that this thread runs, for what the nodes log.
pub(crate) fn now_for_logs() -> Duration {
    NOW_FOR_LOGS.get()
}

/// Names something due: its moment, and its place among those of the same moment.
pub(crate) type DueKey = (Duration, u64);

/// The world's time, and all that is due.
#[derive(Default)]
pub(crate) struct Clock {
    now: Cell<Duration>,
    /// For how long the task that is polled has worked in this poll.
    worked: Cell<Duration>,
    sequence: Cell<u64>,
    due: RefCell<BTreeMap<DueKey, Due>>,
}

impl Clock {
    /// The clock of a world that begins.
    pub(crate) fn begin() -> Self {
        NOW_FOR_LOGS.set(Duration::ZERO);
        Self::default()
    }

    pub(crate) fn now(&self) -> Duration {
        self.now.get() + self.worked.get()
    }

    /// The task that is polled works for `time`.
    pub(crate) fn work(&self, time: Duration) {
        self.worked.set(self.worked.get() + time);
    }

    /// The poll has ended. Returns for how long its task has worked.
    pub(crate) fn poll_ended(&self) -> Duration {
        self.worked.take()
    }

    pub(crate) fn schedule(&self, at: Duration, due: Due) -> DueKey {
        let sequence = self.sequence.get();
        self.sequence.set(sequence + 1);
        let key = (at.max(self.now.get()), sequence);
        self.due.borrow_mut().insert(key, due);
        key
    }

    /// Does `call` after `delay`, whatever becomes of the task that asks for it.
    pub(crate) fn after(&self, delay: Duration, call: impl FnOnce(&Rc<Core>) + 'static) {
        self.schedule(self.now() + delay, Due::Call(Box::new(call)));
    }

    pub(crate) fn cancel(&self, key: DueKey) {
        let cancelled = self.due.borrow_mut().remove(&key);
        // Dropped outside the borrow, since it may own things whose drop comes back here.
        drop(cancelled);
    }

    /// The moment of the next thing due.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.due.borrow().first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes the next thing due, and moves the time to it.
    pub(crate) fn advance(&self) -> Option<Due> {
        let ((at, _), due) = self.due.borrow_mut().pop_first()?;
        self.go_to(at);
        Some(due)
    }

    /// Moves the time on to `at`, at which or before which nothing is due.
    pub(crate) fn advance_to(&self, at: Duration) {
        assert!(self.next().is_none_or(|next| next >= at), "something is due before {at:?}");
        self.go_to(self.now.get().max(at));
    }

    fn go_to(&self, at: Duration) {
        self.now.set(at);
        NOW_FOR_LOGS.set(at);
    }

    pub(crate) fn clear(&self) {
        let due = self.due.take();
        drop(due);
    }
}

/// A node's own clock: off by some time, and fast or slow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NodeClock {
    /// What it shows at the world's beginning.
    pub(crate) offset: Duration,
    /// How many of its milliseconds pass in 1,000 of the world's.
    pub(crate) rate: u32,
}

impl NodeClock {
    pub(crate) fn read(&self, now: Duration) -> Duration {
        self.offset + now * self.rate / 1_000
    }

    /// The world's time that passes while this clock shows that `duration` has.
    pub(crate) fn stretch(&self, duration: Duration) -> Duration {
        // The rounding of both directions together is below two nanoseconds.
        duration.saturating_mul(1_000) / self.rate + Duration::from_nanos(2)
    }
}

/// Waits for a moment of the world's time.
pub(crate) struct Sleep {
    core: Rc<Core>,
    until: Duration,
    due: Option<DueKey>,
}

impl Sleep {
    pub(crate) fn new(core: Rc<Core>, until: Duration) -> Self {
        Self { core, until, due: None }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if let Some(due) = self.due.take() {
            self.core.clock.cancel(due);
        }
        if self.core.clock.now() >= self.until {
            return Poll::Ready(());
        }
        let waker = context.waker().clone();
        self.due = Some(self.core.clock.schedule(self.until, Due::Wake(waker)));
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(due) = self.due.take() {
            self.core.clock.cancel(due);
        }
    }
}

/// A result that the world hands to one waiting task.
pub(crate) struct Promise<T> {
    slot: Rc<RefCell<(Option<T>, Option<Waker>)>>,
}

impl<T> Clone for Promise<T> {
    fn clone(&self) -> Self {
        Self { slot: self.slot.clone() }
    }
}

impl<T> Promise<T> {
    pub(crate) fn new() -> Self {
        Self { slot: Rc::new(RefCell::new((None, None))) }
    }

    pub(crate) fn keep(&self, value: T) {
        let mut slot = self.slot.borrow_mut();
        slot.0 = Some(value);
        if let Some(waker) = slot.1.take() {
            waker.wake();
        }
    }
}

impl<T> Future for Promise<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let mut slot = self.slot.borrow_mut();
        match slot.0.take() {
            Some(value) => Poll::Ready(value),
            None => {
                slot.1 = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_never_wakes_early_by_its_own_clock() {
        for rate in [500, 999, 1_000, 1_001, 1_777, 2_000] {
            let clock = NodeClock { offset: Duration::from_nanos(17), rate };
            for start in (0..1_000).map(|n| Duration::from_nanos(n * 7_919)) {
                let asked = Duration::from_nanos(12_345_677);
                let passed = clock.read(start + clock.stretch(asked)) - clock.read(start);
                assert!(passed >= asked, "rate {rate}, start {start:?}: {passed:?}");
            }
        }
    }
}
