//! The write-ahead log of one shard: one stream of batches for all its groups.
//!
//! This module is what the engine calls. Has no task, clock or random source of its own: the engine
//! runs [`Wal::write_loop`] as often as writes may be in flight, and [`Wal::prepare_loop`] once.
//!
//! Where a batch will lie is decided when it is submitted, so the index knows it at once. A failed
//! write or sync poisons the WAL for good: see `write`.

use crate::{
    batch::{Batch, Seed},
    config::WalConfig,
    disk::Disk,
    error::{StorageError, SubmitError},
    invariant::Violation,
    pace::Pace,
    state::{State, WalStats},
};
use event_listener::Event;
use purlin_rsm::{Identity, Sequence};
use std::{cell::RefCell, rc::Rc, time::Duration};

/// The write-ahead log of one shard.
pub struct Wal<D: Disk> {
    pub(crate) disk: D,
    pub(crate) config: WalConfig,
    pub(crate) identity: Identity,
    pub(crate) seed: Seed,
    pub(crate) signals: Signals,
    pub(crate) pace: Pace,
    /// Never borrowed across an await, nor while [`Signals::changed`] calls out.
    pub(crate) state: RefCell<State<D::File>>,
    _lock: D::Lock,
}

/// Wakes the loops inside the WAL, its callers that wait, and the engine.
#[derive(Default)]
pub(crate) struct Signals {
    /// For write loops: a write waits.
    pub(crate) work: Event,
    /// For callers: something is durable, or the WAL has stopped.
    progress: Event,
    /// For the prepare loop: the reserve may have a task.
    pub(crate) preparing: Event,
    notify: RefCell<Option<Rc<dyn Fn()>>>,
}

impl Signals {
    /// Everybody but the writers may go on.
    fn changed(&self) {
        self.progress.notify(usize::MAX);
        self.preparing.notify(usize::MAX);
        let notify = self.notify.borrow().clone();
        if let Some(notify) = notify {
            notify();
        }
    }
}

impl<D: Disk> Wal<D> {
    pub(crate) fn new(
        disk: D,
        lock: D::Lock,
        config: WalConfig,
        identity: Identity,
        state: State<D::File>,
    ) -> Self {
        let (signals, pace, state) = (Signals::default(), Pace::default(), RefCell::new(state));
        let seed = Seed::new(&identity);
        Self { disk, config, identity, seed, signals, pace, state, _lock: lock }
    }

    /// Calls `notify` whenever [`Self::durable`], [`Self::is_ready`], [`Self::has_space`] or
    /// [`Self::failure`] may have changed, but not from inside a call of [`Self::submit`] or
    /// [`Self::quiet_tick`]. It may call any method of the WAL.
    pub fn set_notify(&self, notify: Rc<dyn Fn()>) {
        *self.signals.notify.borrow_mut() = Some(notify);
    }

    /// Whether a batch submitted now goes to the device at once. A caller that submits one batch for all
    /// groups whenever this is true needs no timer to collect batches.
    pub fn is_ready(&self) -> bool {
        self.state.borrow().is_ready()
    }

    /// Whether there is room for entries, beside the reserve (safety W8). While there is none, take
    /// no new command and no entries of a leader; hard states are still taken.
    pub fn has_space(&self) -> bool {
        self.state.borrow().has_space()
    }

    /// Whether there was no room for entries, and there is not much again: a second segment that could be made shows
    /// that there is. Until then entries may find room, but whoever can should write them elsewhere.
    pub fn lacks_room(&self) -> bool {
        self.state.borrow().lacks_room()
    }

    /// Encodes and queues a batch for writing; never waits. Gives the sequence with which all of it
    /// is durable. An empty batch is durable with what was submitted before it.
    ///
    /// A batch that is queued and not in flight is held in memory, so submit when [`Self::is_ready`] only.
    ///
    /// # Panics
    /// When entries leave a gap behind the group's log, or replace entries that were forgotten.
    pub fn submit(&self, batch: Batch) -> Result<Sequence, SubmitError> {
        self.accept(batch, false)
    }

    /// `relocation`: see [`State::submit`].
    pub(crate) fn accept(&self, batch: Batch, relocation: bool) -> Result<Sequence, SubmitError> {
        let sequence = self.state.borrow_mut().submit(batch, relocation);
        self.wake_loops();
        sequence
    }

    /// The watermark: everything up to it is durable (safety W1).
    pub fn durable(&self) -> Sequence {
        self.state.borrow().durable()
    }

    /// The last sequence given out.
    pub fn submitted(&self) -> Sequence {
        self.state.borrow().submitted()
    }

    /// Call once in each tick in which nothing was submitted. Writes the closing batch when safety W9
    /// asks for it, and tries for space again after there was none.
    pub fn quiet_tick(&self) {
        self.seek_space();
        self.state.borrow_mut().quiet_tick();
        self.wake_loops();
    }

    /// Call in each tick, with the time since the last call. The rate of the writes decides how many segments
    /// are prepared.
    pub fn note_time(&self, elapsed: Duration) {
        self.state.borrow_mut().note_time(elapsed);
        self.wake_loops();
    }

    /// The records that one write takes, in bytes. See [`WalConfig::records_bytes_max`].
    pub fn records_bytes_max(&self) -> usize {
        self.config.records_bytes_max()
    }

    /// Tries for space again after there was none; [`Self::quiet_tick`] does it too. Each failure makes the
    /// next attempt wait for more of these calls.
    pub fn seek_space(&self) {
        let tries = self.state.borrow_mut().seek_space();
        if tries {
            self.wake_loops();
        }
    }

    /// Why the WAL has stopped, if it has. It never runs again.
    pub fn failure(&self) -> Option<StorageError> {
        self.state.borrow().failure().cloned()
    }

    /// Figures for people and metrics.
    pub fn stats(&self) -> WalStats {
        self.state.borrow().stats()
    }

    /// Checks everything that is always true of a WAL in memory. Takes a time that grows with the number
    /// of groups and marks; wherever debug assertions are on, and in the simulator, each submit and each
    /// completion does it.
    ///
    /// # Errors
    /// The invariant that does not hold.
    pub fn check(&self) -> Result<(), Violation> {
        self.state.borrow().check()
    }

    /// Returns when everything up to `sequence` is durable.
    pub async fn wait_durable(&self, sequence: Sequence) -> Result<(), StorageError> {
        loop {
            let progress = self.signals.progress.listen();
            if self.durable() >= sequence {
                return Ok(());
            }
            if self.state.borrow().failure().is_some() {
                return Err(StorageError::Poisoned { location: self.disk.location() });
            }
            progress.await;
        }
    }

    /// Returns when all that was submitted is durable, and the closing batch of safety W9 too. For the end of a log:
    /// nothing is submitted meanwhile.
    ///
    /// # Errors
    /// The WAL has stopped.
    pub async fn close(&self) -> Result<(), StorageError> {
        self.wait_durable(self.submitted()).await?;
        self.quiet_tick();
        self.wait_durable(self.submitted()).await
    }

    /// Wakes as many write loops as there are writes to take, and the prepare loop if it has to act.
    fn wake_loops(&self) {
        let (writes, has_task, is_busy) = {
            let state = self.state.borrow();
            (state.waiting_writes(), state.has_task(), state.is_writing())
        };
        self.pace.set_busy(is_busy);
        self.signals.work.notify(writes);
        if has_task {
            self.signals.preparing.notify(usize::MAX);
        }
    }

    /// Anything that a loop or a caller may wait for has changed, and perhaps the WAL has stopped.
    pub(crate) fn changed(&self) {
        if self.state.borrow().failure().is_some() {
            self.signals.work.notify(usize::MAX);
        }
        self.wake_loops();
        self.signals.changed();
    }
}
