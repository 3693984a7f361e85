//! Wakes one waiting task, from this thread or another. Wakes that come while nobody waits are kept,
//! as one.

use event_listener::Event;
use std::sync::atomic::{AtomicBool, Ordering};

/// See the module.
#[derive(Default, Debug)]
pub(crate) struct Wake {
    woken: AtomicBool,
    event: Event,
}

impl Wake {
    /// Wakes the waiting task, or lets its next wait return at once.
    pub(crate) fn notify(&self) {
        if !self.woken.swap(true, Ordering::AcqRel) {
            self.event.notify(1);
        }
    }

    /// Whether a wake is kept.
    pub(crate) fn is_set(&self) -> bool {
        self.woken.load(Ordering::Acquire)
    }

    /// Takes a wake that was kept.
    pub(crate) fn take(&self) -> bool {
        self.woken.swap(false, Ordering::AcqRel)
    }

    /// Waits for a wake. One task at a time.
    pub(crate) async fn wait(&self) {
        while !self.take() {
            let listener = self.event.listen();
            if self.take() {
                return;
            }
            listener.await;
        }
    }
}
