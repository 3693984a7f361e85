//! The loop that keeps segments ready: it does what the reserve asks for.

use crate::{
    directory,
    disk::{Disk, File},
    error::Shortage,
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
        if let Err(error) = self.disk.rename(&segment.name, &name).await {
            return self.not_prepared(Some(segment), "renaming a segment", &name, error);
        }
        if let Err(error) = self.disk.sync_dir().await {
            let undone = match Shortage::of(&error) {
                // It has not begun: the file may have its old name again, and waits under it.
                Some(Shortage::Descriptors | Shortage::Memory) => {
                    self.disk.rename(&name, &segment.name).await
                }
                Some(Shortage::Space) | None => {
                    return self.poison("renaming a segment", &name, error);
                }
            };
            return match undone {
                Ok(()) => self.not_prepared(Some(segment), "renaming a segment", &name, error),
                Err(error) => self.poison("renaming a segment", &name, error),
            };
        }
        purlin_rsm::sometimes!("segment recycled");
        let segment = Rc::into_inner(segment).expect("only an idle file is recycled");
        self.is_prepared(Prepared { number, file: segment.file });
    }

    async fn create_segment(&self, number: u64) {
        let (bytes, durability) = (self.config.segment_bytes, self.config.durability);
        let head = segment::prepared_block(self.identity, bytes);
        match directory::create(&self.disk, number, &head, bytes, durability, &self.pace).await {
            Ok(file) => self.is_prepared(Prepared { number, file }),
            Err(error) => {
                self.not_prepared(None, "making a segment", &segment::name(number), error)
            }
        }
    }

    fn is_prepared(&self, prepared: Prepared<D::File>) {
        let has_room_again = self.state.borrow_mut().add_prepared(prepared);
        if has_room_again {
            let location = self.disk.location();
            tracing::info!(
                location,
                "segments of the write-ahead log can be made again: writes are taken"
            );
        }
        self.changed();
    }

    /// Another segment was not prepared: for want of something, or because the device failed. Nothing that
    /// was acknowledged lies in it, so a want stops no more than new entries (safety W8). A file that was to
    /// become the segment is free again. A want is said once, until there is room again.
    fn not_prepared(
        &self,
        unused: Option<Rc<Segment<D::File>>>,
        action: &'static str,
        name: &str,
        error: io::Error,
    ) {
        let Some(shortage) = Shortage::of(&error) else {
            return self.poison(action, name, error);
        };
        let is_news = self.state.borrow_mut().no_space(unused);
        if is_news {
            let (location, (what, action)) = (self.disk.location(), shortage.texts());
            tracing::warn!(
                %error, location,
                "there is no {what} for another segment of the write-ahead log: writes are refused until there \
                 is; {action}"
            );
        }
        self.changed();
    }

    async fn discard(&self, segment: Rc<Segment<D::File>>) {
        let segment = Rc::into_inner(segment).expect("only an idle file is discarded");
        match directory::remove(&self.disk, &segment.name).await {
            Ok(()) => {}
            // A file that nobody needs stays until a later sync of the directory, or the next start.
            Err(error) if Shortage::of(&error).is_some() => {
                tracing::warn!(%error, name = segment.name, "a segment that nobody needs was not removed for good; the next start removes it");
            }
            Err(error) => return self.poison("removing a segment", &segment.name, error),
        }
        if let Err(error) = segment.file.close().await {
            tracing::warn!(%error, name = segment.name, "closing a segment that was removed failed; nothing is lost");
        }
        // There may be room for another one now.
        self.state.borrow_mut().seek_space();
    }
}
