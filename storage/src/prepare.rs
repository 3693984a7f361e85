//! The loop that keeps segments ready: it does what the reserve asks for.

use crate::{
    directory,
    disk::{Disk, File},
    error::is_full,
    reserve::{Prepared, Task},
    segment::{self, Segment},
    wal::Wal,
};
use std::{io, rc::Rc};

impl<D: Disk> Wal<D> {
    /// Keeps segments ready. Run one of these; it ends when the WAL is poisoned.
    pub async fn prepare_loop(self: Rc<Self>) {
        loop {
            let preparing = self.signals.preparing.listen();
            // Bound to a name, so that the state is not borrowed across the await.
            let task = self.state.borrow_mut().next_task();
            match task {
                None => return,
                Some(Task::Recycle(segment, number)) => self.recycle(segment, number).await,
                Some(Task::Create(number)) => self.create_segment(number).await,
                Some(Task::Discard(segment)) => self.discard(segment).await,
                Some(Task::Wait) => preparing.await,
            }
        }
    }

    async fn recycle(&self, segment: Rc<Segment<D::File>>, number: u64) {
        let name = segment::name(number);
        match self.disk.rename(&segment.name, &name).await {
            Ok(()) => {}
            Err(error) if is_full(&error) => return self.no_space(Some(segment), &error),
            Err(error) => return self.poison("renaming a segment", &segment.name, error),
        }
        match self.disk.sync_dir().await {
            Ok(()) => {
                purlin_rsm::sometimes!("segment recycled");
                let segment = Rc::into_inner(segment).expect("only an idle file is recycled");
                self.is_prepared(Prepared { number, file: segment.file });
            }
            Err(error) => self.poison("renaming a segment", &name, error),
        }
    }

    async fn create_segment(&self, number: u64) {
        let (bytes, durability) = (self.config.segment_bytes, self.config.durability);
        match directory::create(&self.disk, number, bytes, durability).await {
            Ok(file) => self.is_prepared(Prepared { number, file }),
            Err(error) if is_full(&error) => self.no_space(None, &error),
            Err(error) => self.poison("making a segment", &segment::name(number), error),
        }
    }

    fn is_prepared(&self, prepared: Prepared<D::File>) {
        let has_room_again = self.state.borrow_mut().add_prepared(prepared);
        if has_room_again {
            let location = self.disk.location();
            tracing::info!(
                location,
                "there is space for segments of the write-ahead log again: writes are taken"
            );
        }
        self.changed();
    }

    /// There was no room for another segment; a file that was to become it is free again. It is tried again
    /// and again, and said once.
    fn no_space(&self, unused: Option<Rc<Segment<D::File>>>, error: &io::Error) {
        let is_news = self.state.borrow_mut().no_space(unused);
        if is_news {
            let location = self.disk.location();
            tracing::warn!(%error, location, "no space for a segment of the write-ahead log: writes are refused until there is room; free space on this file system");
        }
        self.changed();
    }

    async fn discard(&self, segment: Rc<Segment<D::File>>) {
        let segment = Rc::into_inner(segment).expect("only an idle file is discarded");
        if let Err(error) = directory::remove(&self.disk, &segment.name).await {
            return self.poison("removing a segment", &segment.name, error);
        }
        if let Err(error) = segment.file.close().await {
            tracing::warn!(%error, name = segment.name, "closing a segment that was removed failed; nothing is lost");
        }
        // There may be room for another one now.
        self.state.borrow_mut().seek_space();
    }
}
