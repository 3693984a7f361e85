//! The loops that write: one block after another goes to the device, and its completion becomes
//! durability.
//!
//! A write or a sync that fails poisons the WAL for good: what the device holds is unknown then, and a
//! second sync that succeeds would prove nothing.

use crate::{
    disk::{Disk, Durability, File},
    error::StorageError,
    segment::Segment,
    segments::Write,
    state::{State, Taken},
    wal::Wal,
};
use std::{io, rc::Rc, sync::Arc};

impl<D: Disk> Wal<D> {
    /// Writes one block after another. Run as many of these as writes may be in flight; they end when
    /// the WAL is poisoned.
    pub async fn write_loop(self: Rc<Self>) {
        loop {
            let work = self.signals.work.listen();
            // Bound to a name, so that the state is not borrowed across the await.
            let taken = self.state.borrow_mut().take_write();
            match taken {
                Taken::Write(write) => {
                    // A wake that came to this loop is passed on to another one.
                    drop(work);
                    self.write(write).await;
                }
                Taken::Nothing => work.await,
                Taken::Ended => return,
            }
        }
    }

    async fn write(&self, write: Write<D::File>) {
        let Write { sequence, segment, position, block } = write;
        // W8: also when the error says that the disk is full. The place was filled before, so the file
        // system broke its word, and what it holds now is unknown.
        let bytes = block.as_ref().len();
        if let Err(error) = segment.file.write_at(block, position).await {
            purlin_rsm::sometimes!("WAL poisoned by a failed write");
            return self.poison("writing", &segment.name, error);
        }
        self.pace.wrote(bytes);
        match self.config.durability {
            Durability::EachWrite => self.complete(|state| state.is_durable(sequence)),
            Durability::OnSync => {
                self.state.borrow_mut().is_written(sequence);
                self.sync(&segment).await;
            }
        }
    }

    /// Syncs until no written block is left without a sync. All writes in flight lie in one segment, since
    /// a header is in flight alone. While another loop syncs, this one leaves the next sync to it.
    async fn sync(&self, segment: &Segment<D::File>) {
        while self.begin_sync() {
            match segment.file.sync().await {
                Ok(()) => self.complete(State::end_sync),
                // Never again: a later success would not cover what this sync may have dropped.
                Err(error) => return self.poison("a sync", &segment.name, error),
            }
        }
    }

    fn begin_sync(&self) -> bool {
        self.state.borrow_mut().begin_sync()
    }

    fn complete(&self, completion: impl FnOnce(&mut State<D::File>)) {
        {
            let mut state = self.state.borrow_mut();
            // After a failure nothing more is acknowledged, whatever still completes.
            if state.failure().is_some() {
                return;
            }
            completion(&mut state);
        }
        self.changed();
    }

    /// Stops the WAL for good; the first reason stays.
    pub(crate) fn poison(&self, action: &'static str, file: &str, error: io::Error) {
        {
            let mut state = self.state.borrow_mut();
            if state.failure().is_some() {
                return;
            }
            purlin_rsm::sometimes!(action == "a sync", "WAL poisoned by a failed sync");
            tracing::error!(file, %error, "{action} failed: the write-ahead log stops, and the shard with it; what was acknowledged is durable");
            state.fail(StorageError::Io {
                location: format!("{}, {file}", self.disk.location()),
                action,
                means: "acknowledged records are durable; records that were not acknowledged may be \
                        durable or not; the write-ahead log takes nothing more",
                source: Arc::new(error),
            });
        }
        self.changed();
    }
}
