//! Giving segments back, strictly the oldest first (safety W7).
//!
//! A segment may go once no entry in it is needed, the latest record of every hard state, floor and
//! peer memory lies in a younger one, and something durable names a younger one as the oldest. So
//! recovery never looks for a file that is gone, and notices one that is lost.

use crate::{
    batch::Batch,
    disk::Disk,
    error::{StorageError, SubmitError},
    wal::Wal,
};
use purlin_rsm::{GroupId, Index, Sequence};

impl<D: Disk> Wal<D> {
    /// Entries of `group` below `first` are no longer needed, and are not read any more. They come
    /// back at a restart as long as nothing durable says so; [`Self::release`] writes that.
    ///
    /// # Panics
    /// When `first` is beyond the end of the group's log.
    pub fn forget(&self, group: GroupId, first: Index) {
        let mut state = self.state.borrow_mut();
        if let Some(group) = state.live.groups.get_mut(&group) {
            group.forget(first);
        }
    }

    /// Gives back the oldest segments that hold no needed entry, after relocating what else lives in
    /// them. Returns how many. They are recycled or removed by [`Self::prepare_loop`].
    pub async fn release(&self) -> Result<usize, StorageError> {
        if std::mem::replace(&mut self.state.borrow_mut().is_releasing, true) {
            return Ok(0);
        }
        let released = self.release_oldest().await;
        self.state.borrow_mut().is_releasing = false;
        released
    }

    async fn release_oldest(&self) -> Result<usize, StorageError> {
        let (until, relocations) = {
            let state = self.state.borrow();
            let active = state.active.number;
            let until =
                state.live.oldest_with_entries().map_or(active, |oldest| oldest.min(active));
            if state.segments.range(..until).next().is_none() {
                return Ok(0);
            }
            (until, state.live.relocations(until))
        };
        // W6: built and sealed in one turn, so nothing newer lies before it.
        let relocated = self.relocate(relocations)?;
        self.wait_durable(relocated).await?;
        // W7: only now may anything name a younger segment, and only once that is durable may files go.
        self.state.borrow_mut().oldest = until;
        let named = self.relocate(Batch::default())?;
        self.wait_durable(named).await?;
        Ok(self.free_below(until))
    }

    /// Submits records that change nothing.
    fn relocate(&self, batch: Batch) -> Result<Sequence, StorageError> {
        let sequence = self.accept(batch, true).map_err(|error| match error {
            SubmitError::Poisoned(_) => StorageError::Poisoned { location: self.disk.location() },
            SubmitError::NoSpace(_) | SubmitError::TooLarge(_) => {
                unreachable!("relocations are short, and use the reserve")
            }
        });
        self.wake_writers();
        sequence
    }

    fn free_below(&self, until: u64) -> usize {
        let mut state = self.state.borrow_mut();
        let kept = state.segments.split_off(&until);
        let released = std::mem::replace(&mut state.segments, kept);
        let count = released.len();
        state.reserve.free(released.into_values());
        self.signals.preparing.notify(usize::MAX);
        count
    }
}
