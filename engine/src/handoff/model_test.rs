//! The handoff of woken tasks under loom: many orders of steps, and each value that the memory model allows.

mod atomics {
    pub(super) use loom::sync::atomic::{AtomicBool, Ordering, fence};
}
#[expect(clippy::duplicate_mod, reason = "the same code, over other atomics")]
#[path = "steps.rs"]
mod steps;

use self::steps::{Next, Queued, Receiver};
use loom::{
    sync::{
        Arc, Notify,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// A queue of tasks of which only the number counts. It orders no more than a queue must: what a task's
/// sender did before the push is seen by the receiver that takes the task.
struct Queue(AtomicUsize);

impl Queue {
    fn push(&self) {
        self.0.fetch_add(1, Ordering::Release);
    }

    fn is_empty(&self) -> bool {
        self.0.load(Ordering::Acquire) == 0
    }

    fn drain(&self) -> usize {
        if self.is_empty() { 0 } else { self.0.swap(0, Ordering::AcqRel) }
    }
}

struct Shared {
    receiver: Receiver,
    queue: Queue,
    signal: Notify,
}

impl Shared {
    fn new() -> Arc<Self> {
        let queue = Queue(AtomicUsize::new(0));
        Arc::new(Self { receiver: Receiver::new(), queue, signal: Notify::new() })
    }

    fn send(&self) {
        self.queue.push();
        match self.receiver.pushed() {
            Next::Nothing => {}
            Next::Signal => self.signal.notify(),
            Next::Drain => drop(self.queue.drain()),
        }
    }

    /// Sleeps as the task that drains the queue does. In a model a sleep without a signal never ends, and
    /// loom calls that a deadlock.
    fn sleep(&self) {
        self.receiver.begin_sleep();
        if self.queue.is_empty() {
            self.signal.wait();
        }
        self.receiver.end_sleep();
    }
}

/// Runs a model in every order of steps in which at most two threads are interrupted: a lost wake needs
/// one for each side, and all orders of three threads take hours.
fn explore(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(model);
}

/// A lost wake: the task is in the queue, the receiver sleeps, and no signal comes.
#[test]
fn a_receiver_never_sleeps_over_a_task_in_its_queue() {
    explore(|| {
        const SENDERS: usize = 2;
        let shared = Shared::new();
        for _ in 0..SENDERS {
            let shared = shared.clone();
            thread::spawn(move || shared.send());
        }
        let mut taken = shared.queue.drain();
        while taken < SENDERS {
            shared.sleep();
            taken += shared.queue.drain();
        }
    });
}

/// A wake of a task that is queued already pushes nothing, so the task's next run must see its cause.
#[test]
fn a_task_that_is_run_sees_the_cause_of_each_wake_that_found_it_queued() {
    explore(|| {
        let shared = Shared::new();
        let task = Arc::new((Queued::new(), [AtomicUsize::new(0), AtomicUsize::new(0)]));
        for sender in 0..2 {
            let (shared, task) = (shared.clone(), task.clone());
            thread::spawn(move || {
                task.1[sender].store(1, Ordering::Relaxed);
                if task.0.enter() {
                    shared.send();
                }
            });
        }
        let is_done = || task.1.iter().all(|cause| cause.load(Ordering::Relaxed) == 1);
        loop {
            if shared.queue.drain() > 0 {
                task.0.leave();
                if is_done() {
                    break;
                }
            }
            shared.sleep();
        }
    });
}

/// A task that stays in the queue of a receiver that is gone is never dropped: it holds the queue itself.
#[test]
fn no_task_stays_in_the_queue_of_a_receiver_that_is_gone() {
    explore(|| {
        let shared = Shared::new();
        let sender = {
            let shared = shared.clone();
            thread::spawn(move || shared.send())
        };
        shared.receiver.leave();
        shared.queue.drain();
        sender.join().expect("it ends");
        assert!(shared.queue.is_empty());
    });
}
