//! Giving segments back, strictly the oldest first (safety W7).
//!
//! A segment may go once no entry in it is needed, the latest record of every hard state, floor and
//! peer memory lies in a younger one, and something durable names a younger one as the oldest. So
//! recovery never looks for a file that is gone, and notices a file that is lost.

use crate::{
    batch::Batch,
    disk::Disk,
    error::{StorageError, SubmitError},
    wal::Wal,
};
use purlin_rsm::{GroupId, Index, Position, Sequence};

impl<D: Disk> Wal<D> {
    /// Entries of `group` below `first`, whose last command has `position`, are no longer needed, and
    /// are not read any more. They come back at a restart as long as nothing durable says so; [`Self::release`] writes that.
    ///
    /// # Panics
    /// When `first` is beyond the end of the group's log.
    pub fn forget(&self, group: GroupId, first: Index, position: Position) {
        self.state.borrow_mut().forget(group, first, position);
    }

    /// Gives back the oldest segments that hold no needed entry, after relocating what else lives in
    /// them. Returns how many. They are recycled or removed by [`Self::prepare_loop`]. While one call
    /// runs, another one does nothing; a call that is dropped before its end may be made again.
    pub async fn release(&self) -> Result<usize, StorageError> {
        let Some(release) = Release::begin(self) else { return Ok(0) };
        release.run().await
    }
}

/// The one release that runs.
struct Release<'a, D: Disk> {
    wal: &'a Wal<D>,
}

impl<'a, D: Disk> Release<'a, D> {
    fn begin(wal: &'a Wal<D>) -> Option<Self> {
        // Made only if it begins: its drop ends the release.
        let begins = wal.state.borrow_mut().begin_release();
        begins.then(|| Self { wal })
    }

    async fn run(&self) -> Result<usize, StorageError> {
        let releasable = self.wal.state.borrow().releasable();
        let Some((until, relocations)) = releasable else { return Ok(0) };
        // W6: built and sealed in one turn, so nothing newer lies before it.
        let relocated = self.submit(relocations)?;
        self.wal.wait_durable(relocated).await?;
        // W7: only now may a batch name a younger segment, and only once such a batch is durable may
        // files go.
        self.wal.state.borrow_mut().name_oldest(until);
        let named = self.submit(Batch::default())?;
        self.wal.wait_durable(named).await?;
        let count = self.wal.state.borrow_mut().free_below(until);
        self.wal.signals.preparing.notify(usize::MAX);
        Ok(count)
    }

    /// Submits records that change nothing.
    fn submit(&self, batch: Batch) -> Result<Sequence, StorageError> {
        self.wal.accept(batch, true).map_err(|error| match error {
            SubmitError::Poisoned(_) => {
                StorageError::Poisoned { location: self.wal.disk.location() }
            }
            SubmitError::NoSpace(_) | SubmitError::TooLarge(_) => {
                unreachable!("relocations are short, and use the reserve")
            }
        })
    }
}

impl<D: Disk> Drop for Release<'_, D> {
    fn drop(&mut self) {
        self.wal.state.borrow_mut().end_release();
    }
}
