//! Counts the interesting states that a run reaches. A simulation that never reaches such a state shows nothing
//! about it.
//!
//! ```
//! # let void = 3;
//! purlin_rsm::sometimes!("torn tail cut");
//! purlin_rsm::sometimes!(void > 0, "torn tail had readable batches in it");
//! ```
//!
//! Without a recorder, a point costs the load of a flag, and its condition is not evaluated. A recorder counts
//! what its own thread reaches, since a simulated world runs on one thread.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    marker::PhantomData,
    sync::atomic::{AtomicUsize, Ordering},
};

/// How often each named state was reached.
pub type Counts = BTreeMap<&'static str, u64>;

/// How many recorders there are, on all threads.
static RECORDERS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// What the recorder of this thread has counted, if it has one.
    static COUNTS: RefCell<Option<Counts>> = const { RefCell::new(None) };
}

/// Notes that a named state is reached, or that it is reached if a condition holds. Each name occurs in one
/// place.
#[macro_export]
macro_rules! sometimes {
    ($name:literal $(,)?) => {
        if $crate::reach::is_recording() {
            $crate::reach::reached($name);
        }
    };
    ($condition:expr, $name:literal $(,)?) => {
        if $crate::reach::is_recording() && $condition {
            $crate::reach::reached($name);
        }
    };
}

/// Counts what its thread reaches, for as long as it lives.
#[derive(Debug)]
pub struct Recorder {
    /// Keeps the recorder on the thread that it counts on.
    _thread: PhantomData<*const ()>,
}

impl Recorder {
    /// Begins to count on this thread.
    ///
    /// # Panics
    /// When this thread has a recorder already.
    pub fn install() -> Self {
        COUNTS.with_borrow_mut(|counts| {
            assert!(counts.is_none(), "this thread has a recorder already");
            *counts = Some(Counts::new());
        });
        RECORDERS.fetch_add(1, Ordering::Relaxed);
        Self { _thread: PhantomData }
    }

    /// What was reached so far.
    pub fn counts(&self) -> Counts {
        COUNTS.with_borrow(|counts| counts.clone().expect("it was installed"))
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        RECORDERS.fetch_sub(1, Ordering::Relaxed);
        COUNTS.take();
    }
}

/// For [`sometimes!`]: whether there is a recorder, perhaps on another thread.
#[inline(always)]
pub fn is_recording() -> bool {
    RECORDERS.load(Ordering::Relaxed) > 0
}

/// For [`sometimes!`]: counts `name`, if this thread has a recorder.
#[cold]
pub fn reached(name: &'static str) {
    COUNTS.with_borrow_mut(|counts| {
        if let Some(counts) = counts {
            *counts.entry(name).or_default() += 1;
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(times: u64) {
        for time in 0..times {
            sometimes!("passed");
            sometimes!(time % 2 == 1, "passed at an odd time");
        }
    }

    #[test]
    fn a_recorder_counts_what_its_thread_reaches_until_it_is_dropped() {
        pass(1);
        let recorder = Recorder::install();
        pass(3);
        std::thread::scope(|scope| _ = scope.spawn(|| pass(5)));
        assert_eq!(recorder.counts(), Counts::from([("passed", 3), ("passed at an odd time", 1)]));
        drop(recorder);
        pass(7);
        assert_eq!(Recorder::install().counts(), Counts::new());
    }

    #[test]
    #[should_panic(expected = "a recorder already")]
    fn a_thread_has_one_recorder() {
        let _first = Recorder::install();
        Recorder::install();
    }
}
