//! How those on the core of a shard learn that it stops, and how they keep it until they have ended.

use crate::wake::Wake;
use event_listener::Event;
use std::{cell::Cell, rc::Rc, sync::Arc};

/// What a shard and those who hold it share.
pub(crate) struct Stops {
    has_begun: Cell<bool>,
    begun: Event,
    holds: Cell<usize>,
    /// Wakes the loop of the shard.
    wake: Arc<Wake>,
}

impl Stops {
    pub(crate) fn new(wake: Arc<Wake>) -> Rc<Self> {
        let (has_begun, begun, holds) = Default::default();
        Rc::new(Self { has_begun, begun, holds, wake })
    }

    /// One more that has something to end before the shard ends.
    pub(crate) fn hold(self: &Rc<Self>) -> StopHold {
        self.holds.set(self.holds.get() + 1);
        StopHold(self.clone())
    }

    /// The shard stops: all that hold it are told.
    pub(crate) fn begin(&self) {
        self.has_begun.set(true);
        self.begun.notify(usize::MAX);
    }

    /// Whether the shard stops.
    pub(crate) fn has_begun(&self) -> bool {
        self.has_begun.get()
    }

    /// Whether somebody has something to end first.
    pub(crate) fn is_held(&self) -> bool {
        self.holds.get() > 0
    }
}

/// Its owner is told when the shard stops. The shard then goes on until each owner has dropped its hold, for about a
/// second at most. A task that serves clients takes one, so that their answers leave before the shard ends.
pub struct StopHold(Rc<Stops>);

impl StopHold {
    /// Returns when the shard was asked to stop, or has to.
    pub async fn begun(&self) {
        while !self.0.has_begun() {
            self.0.begun.listen().await;
        }
    }
}

impl Drop for StopHold {
    fn drop(&mut self) {
        self.0.holds.set(self.0.holds.get() - 1);
        self.0.wake.notify();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once, zip};
    use std::pin::pin;

    #[test]
    fn each_that_holds_a_shard_is_told_of_its_stop_and_keeps_it() {
        let wake = Arc::<Wake>::default();
        let stops = Stops::new(wake.clone());
        let (one, two) = (stops.hold(), stops.hold());
        {
            let mut both = pin!(zip(one.begun(), two.begun()));
            assert!(block_on(poll_once(both.as_mut())).is_none());
            stops.begin();
            assert!(block_on(poll_once(both)).is_some());
        }
        assert!(block_on(poll_once(stops.hold().begun())).is_some(), "it has begun");
        drop(one);
        assert!(stops.is_held() && wake.take(), "the loop looks again");
        drop(two);
        assert!(!stops.is_held());
    }
}
