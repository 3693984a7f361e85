//! Segments ahead of need: zero-filled or recycled, and named, before anybody waits for one.
//!
//! Two of them are kept for hard states and relocation (safety W8), so that a full disk stops new
//! entries and not the elections and the release of space that get it out of there. A third one is
//! what entries go on with.
//!
//! A new file is filled under the name `….new` and renamed when it is whole, so that a crash on the
//! way leaves nothing that looks like a segment (B93). A recycled one is renamed; its batches are void
//! by their epoch. Names are durable before a file is offered (safety W7).

use crate::{
    disk::{Disk, File},
    error::is_full,
    segment::{self, Segment},
    wal::Wal,
};
use std::{collections::VecDeque, io, rc::Rc};

/// Segments that only hard states and relocations may take.
const RESERVE: usize = 2;
/// Segments to have ready.
const PREPARED: usize = RESERVE + 1;
/// Files to keep for recycling, which is cheaper than filling new ones. More are removed.
const FREE: usize = 4;

/// Segments that are ready, and files that may become ones.
pub(crate) struct Reserve<F: File> {
    prepared: VecDeque<Prepared<F>>,
    /// Files that nobody needs. One that a read still looks at waits here.
    free: Vec<Rc<Segment<F>>>,
    /// The number of the next segment to prepare.
    next_number: u64,
    space: Space,
}

/// A segment that waits to become active.
pub(crate) struct Prepared<F> {
    pub(crate) number: u64,
    pub(crate) name: String,
    pub(crate) file: F,
}

/// Whether there was room for another segment when it was last tried.
enum Space {
    Enough,
    /// Making a segment failed so many times in a row; it is tried again after so many kicks.
    Full {
        failures: u32,
        kicks: u32,
    },
}

enum Task<F> {
    Recycle(Rc<Segment<F>>, u64),
    Create(u64),
    Discard(Rc<Segment<F>>),
    Wait,
    Ended,
}

impl<F: File> Reserve<F> {
    /// Prepares segments from `next_number` on, from `free` files first.
    pub(crate) fn new(next_number: u64, free: Vec<Rc<Segment<F>>>) -> Self {
        Self { prepared: VecDeque::new(), free, next_number, space: Space::Enough }
    }

    /// The next segment. `urgent`: also one of the last two.
    pub(crate) fn take(&mut self, urgent: bool) -> Option<Prepared<F>> {
        purlin_rsm::sometimes!(
            urgent && self.prepared.len() <= RESERVE,
            "reserve used for a hard state"
        );
        // What was taken in before the disk was full has nowhere else to go.
        if self.prepared.len() > RESERVE || urgent || self.is_full() {
            return self.prepared.pop_front();
        }
        None
    }

    /// Whether entries that need `rotations` more segments, behind `queued` ones, may come in. Once the
    /// reserve is touched its segments are for hard states alone, also where they have begun.
    pub(crate) fn has_room(&self, rotations: usize, queued: usize) -> bool {
        !self.is_full() || self.prepared.len() >= RESERVE + queued + rotations
    }

    pub(crate) fn is_full(&self) -> bool {
        matches!(self.space, Space::Full { .. })
    }

    pub(crate) fn prepared(&self) -> usize {
        self.prepared.len()
    }

    /// Nobody needs these any more, so there may be room at once.
    pub(crate) fn free(&mut self, segments: impl IntoIterator<Item = Rc<Segment<F>>>) {
        self.free.extend(segments);
        if let Space::Full { kicks, .. } = &mut self.space {
            *kicks = 0;
        }
    }

    /// Somebody would like space again. Whether it is to be tried now.
    pub(crate) fn kick(&mut self) -> bool {
        let Space::Full { kicks, .. } = &mut self.space else { return false };
        *kicks = kicks.saturating_sub(1);
        *kicks == 0
    }

    /// Each attempt that fails has filled the disk to the brim, so they get rarer. But whoever made room
    /// waits for the next one, and with them an election whose votes wait behind entries.
    fn failed(&mut self) {
        const DOUBLINGS_MAX: u32 = 4;
        purlin_rsm::sometimes!("no space for another segment");
        let failures = match self.space {
            Space::Enough => 0,
            Space::Full { failures, .. } => (failures + 1).min(DOUBLINGS_MAX),
        };
        self.space = Space::Full { failures, kicks: 1 << failures };
    }

    /// Another segment is ready.
    pub(crate) fn add(&mut self, prepared: Prepared<F>) {
        assert_eq!(prepared.number, self.next_number, "a segment out of order");
        self.next_number += 1;
        self.prepared.push_back(prepared);
        if self.prepared.len() >= PREPARED {
            purlin_rsm::sometimes!(self.is_full(), "space for segments came back");
            self.space = Space::Enough;
        }
    }

    fn next_task(&mut self, segment_bytes: u64) -> Task<F> {
        let is_idle = |segment: &Rc<Segment<F>>| Rc::strong_count(segment) == 1;
        let fits = |segment: &Rc<Segment<F>>| is_idle(segment) && segment.bytes == segment_bytes;
        let may_try = !matches!(self.space, Space::Full { kicks: 1.., .. });
        if self.prepared.len() < PREPARED && may_try {
            return match self.free.iter().position(fits) {
                Some(at) => Task::Recycle(self.free.remove(at), self.next_number),
                None => Task::Create(self.next_number),
            };
        }
        let is_of_no_use = |segment: &Rc<Segment<F>>| {
            is_idle(segment) && (self.free.len() > FREE || segment.bytes != segment_bytes)
        };
        match self.free.iter().position(is_of_no_use) {
            Some(at) => Task::Discard(self.free.remove(at)),
            None => Task::Wait,
        }
    }
}

impl<D: Disk> Wal<D> {
    /// Keeps segments ready. Run one of these; it ends when the WAL is poisoned or closed.
    pub async fn prepare_loop(self: Rc<Self>) {
        loop {
            let preparing = self.signals.preparing.listen();
            match self.next_task() {
                Task::Recycle(segment, number) => self.recycle(segment, number).await,
                Task::Create(number) => self.create_segment(number).await,
                Task::Discard(segment) => self.discard(segment).await,
                Task::Wait => preparing.await,
                Task::Ended => return,
            }
        }
    }

    fn next_task(&self) -> Task<D::File> {
        let mut state = self.state.borrow_mut();
        if state.has_ended() {
            return Task::Ended;
        }
        state.reserve.next_task(self.config.segment_bytes)
    }

    async fn recycle(&self, segment: Rc<Segment<D::File>>, number: u64) {
        let name = segment::name(number);
        if let Err(error) = self.disk.rename(&segment.name, &name).await {
            if !is_full(&error) {
                return self.poison("renaming a segment", &segment.name, error);
            }
            let mut state = self.state.borrow_mut();
            state.reserve.free([segment]);
            state.reserve.failed();
            return;
        }
        match self.disk.sync_dir().await {
            Ok(()) => {
                purlin_rsm::sometimes!("segment recycled");
                let segment = Rc::into_inner(segment).expect("only an idle file is recycled");
                self.is_prepared(Prepared { number, name, file: segment.file });
            }
            Err(error) => self.poison("renaming a segment", &name, error),
        }
    }

    async fn create_segment(&self, number: u64) {
        let (bytes, durability) = (self.config.segment_bytes, self.config.durability);
        match create(&self.disk, number, bytes, durability).await {
            Ok(prepared) => self.is_prepared(prepared),
            Err(error) if is_full(&error) => {
                tracing::warn!(%error, location = self.disk.location(), "no space for a segment");
                self.state.borrow_mut().reserve.failed();
                self.retry_writes();
            }
            Err(error) => self.poison("making a segment", &segment::name(number), error),
        }
    }

    fn is_prepared(&self, prepared: Prepared<D::File>) {
        self.state.borrow_mut().reserve.add(prepared);
        self.retry_writes();
    }

    fn retry_writes(&self) {
        self.start_writes(&mut self.state.borrow_mut());
        self.changed();
    }

    async fn discard(&self, segment: Rc<Segment<D::File>>) {
        let segment = Rc::into_inner(segment).expect("only an idle file is discarded");
        if let Err(error) = remove(&self.disk, &segment.name).await {
            return self.poison("removing a segment", &segment.name, error);
        }
        if let Err(error) = segment.file.close().await {
            tracing::warn!(%error, name = segment.name, "closing a removed segment failed");
        }
        // There may be room for another one now.
        if self.state.borrow_mut().reserve.kick() {
            self.signals.preparing.notify(usize::MAX);
        }
    }
}

/// Makes segment `number`: zero-filled, whole, and durable by name.
pub(crate) async fn create<D: Disk>(
    disk: &D,
    number: u64,
    bytes: u64,
    durability: crate::disk::Durability,
) -> io::Result<Prepared<D::File>> {
    let (unfinished, name) = (segment::unfinished_name(number), segment::name(number));
    let file = match disk.create(&unfinished, bytes, durability).await {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            disk.remove(&unfinished).await?;
            disk.create(&unfinished, bytes, durability).await
        }
        created => created,
    };
    let file = match file {
        Ok(file) => file,
        Err(error) => {
            // What was made of it must not keep the space that others need.
            if disk.remove(&unfinished).await.is_ok() {
                disk.sync_dir().await?;
            }
            return Err(error);
        }
    };
    rename(disk, &unfinished, &name).await?;
    Ok(Prepared { number, name, file })
}

pub(crate) async fn rename<D: Disk>(disk: &D, from: &str, to: &str) -> io::Result<()> {
    disk.rename(from, to).await?;
    disk.sync_dir().await
}

pub(crate) async fn remove<D: Disk>(disk: &D, name: &str) -> io::Result<()> {
    disk.remove(name).await?;
    disk.sync_dir().await
}
