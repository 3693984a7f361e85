//! Segments ahead of need: zero-filled or recycled, and named, before anybody waits for one. Pure state,
//! no I/O: [`Reserve::next_task`] says what is to be done, and `prepare` does it.
//!
//! Two of the prepared segments are kept for hard states and relocation (safety W8), so that a full disk
//! stops new entries, and not the elections and the release of space that end the shortage. Entries use
//! the others: as many are prepared as the log fills in two seconds at its present rate, within
//! [`AHEAD_MAX`] and [`AHEAD_BYTES_MAX`]. What was prepared for a higher rate is removed slowly: one file
//! after each [`SURPLUS`] in which there was more than that.
//!
//! The log *lacks room* from the moment at which no segment is left for entries until [`ROOM`] segments are: entries
//! go in as soon as there is one, but a node leads again only when there are more. So a disk on which a little space
//! comes and goes moves no leaders.
//!
//! A recycled file is renamed; its batches are void by their epoch. Names are durable before a file is
//! offered (safety W7).

use crate::{
    disk::File,
    invariant::{Violation, holds},
    segment::{self, FIRST_BATCH, Segment},
};
use purlin_rsm::Sequence;
use std::{cell::Cell, collections::VecDeque, rc::Rc, time::Duration};

/// Segments that only hard states and relocations may take.
const RESERVE: usize = 2;
/// The log has room again when so many segments are ready beside the reserve.
const ROOM: usize = 2;
/// Segments to have ready beside the reserve, at most.
const AHEAD_MAX: usize = 16;
/// The size of these, together and at most; one is ready, whatever its size.
const AHEAD_BYTES_MAX: u64 = 1 << 30;
/// Files to keep for recycling, which is cheaper than filling new ones. More are removed.
const FREE: usize = 4;
/// After so long a time with more files than the log wants, one is removed. A rate that falls and rises again
/// within it costs no filling.
const SURPLUS: Duration = Duration::from_secs(60);
/// An attempt to find space waits for at most 2 to the power of this many calls of [`Reserve::kick`].
const DOUBLINGS_MAX: u32 = 4;

/// Segments that are ready, and files that may become segments.
pub(crate) struct Reserve<F: File> {
    prepared: VecDeque<Prepared<F>>,
    /// Files that hold nothing needed. A file that a read still uses waits here.
    free: Vec<Rc<Segment<F>>>,
    /// The size of these files, together.
    free_bytes: u64,
    /// The number of the next segment to prepare.
    next_number: u64,
    /// How many segments to have ready beside the reserve.
    ahead: usize,
    /// For how long there has been more than the log wants.
    surplus: Duration,
    space: Space,
    /// Whether no segment was left for entries, and fewer than [`ROOM`] have been ready since.
    lacks_room: bool,
    /// Whether it was said that there is no room for entries.
    is_told: bool,
}

/// A segment that waits to become active.
pub(crate) struct Prepared<F> {
    pub(crate) number: u64,
    pub(crate) file: F,
}

/// Whether there was room for another segment when that was last tried.
enum Space {
    Enough,
    /// Making a segment failed `failures` times in a row; it is tried again after `kicks` more calls of
    /// [`Reserve::kick`].
    Full {
        failures: u32,
        kicks: u32,
    },
}

/// What is to be done for the reserve.
pub(crate) enum Task<F> {
    /// Rename a free file to the segment of this number.
    Recycle(Rc<Segment<F>>, u64),
    /// Make the segment of this number.
    Create(u64),
    /// Remove a free file.
    Discard(Rc<Segment<F>>),
    /// Nothing now.
    Wait,
}

impl<F: File> Reserve<F> {
    /// Prepares segments from `next_number` on, from `free` files first.
    pub(crate) fn new(next_number: u64, free: Vec<Rc<Segment<F>>>) -> Self {
        let free_bytes = free.iter().map(|segment| segment.bytes).sum();
        Self {
            prepared: VecDeque::new(),
            free,
            free_bytes,
            next_number,
            ahead: 1,
            surplus: Duration::ZERO,
            space: Space::Enough,
            lacks_room: false,
            is_told: false,
        }
    }

    /// The log is expected to fill `bytes` bytes of segments of `segment_bytes` bytes soon; `elapsed` has passed
    /// since it was last said what is expected. What is prepared already stays for a while.
    pub(crate) fn expect(&mut self, bytes: u64, segment_bytes: u64, elapsed: Duration) {
        let bound = AHEAD_MAX.min((AHEAD_BYTES_MAX / segment_bytes) as usize).max(1);
        // Behind a rotation one of them is not ready, and the segment that has begun is empty.
        let wanted = 1 + bytes / segment_bytes;
        self.ahead = usize::try_from(wanted).unwrap_or(bound).min(bound);
        self.surplus = if self.has_surplus() { self.surplus + elapsed } else { Duration::ZERO };
    }

    /// Whether there are more files than the log wants at its present rate. While there is no room for another
    /// one, none is too many (safety W8).
    fn has_surplus(&self) -> bool {
        let wanted = self.wanted();
        let is_more =
            self.prepared.len() > wanted || self.prepared.len() == wanted && !self.free.is_empty();
        is_more && !self.has_failed()
    }

    /// Whether one of them is to be removed now.
    fn gives_back(&self) -> bool {
        self.surplus >= SURPLUS && self.has_surplus()
    }

    /// The next segment. `urgent`: also one of the last two.
    pub(crate) fn take(&mut self, urgent: bool) -> Option<Prepared<F>> {
        purlin_rsm::sometimes!(
            urgent && self.prepared.len() <= RESERVE,
            "reserve used for a hard state"
        );
        // On a full disk, entries that were accepted before it was full use the reserve: no other
        // segment will come for them.
        if self.prepared.len() > RESERVE || urgent || self.is_full() {
            let taken = self.prepared.pop_front();
            self.note_room();
            return taken;
        }
        None
    }

    fn note_room(&mut self) {
        let (is_full, ready) = (self.is_full(), self.prepared.len());
        purlin_rsm::sometimes!(
            self.lacks_room && !is_full && ready > RESERVE && ready < RESERVE + ROOM,
            "room for entries, and not enough to lead again"
        );
        self.lacks_room = is_full || self.lacks_room && ready < RESERVE + ROOM;
    }

    /// Whether there was no room for entries, and there is not much again.
    pub(crate) fn lacks_room(&self) -> bool {
        self.lacks_room
    }

    /// How many segments are to be ready.
    fn wanted(&self) -> usize {
        let room = if self.lacks_room { ROOM } else { 0 };
        RESERVE + self.ahead.max(room)
    }

    /// Whether entries that need `rotations` more segments, behind `queued` ones, may be accepted. Once
    /// the reserve is used, its segments are for hard states alone, also the segment that is active.
    pub(crate) fn has_room(&self, rotations: usize, queued: usize) -> bool {
        !self.has_failed() || self.prepared.len() >= RESERVE + queued + rotations
    }

    /// Whether there was no room for another segment, and none is left for entries.
    pub(crate) fn is_full(&self) -> bool {
        self.has_failed() && self.prepared.len() <= RESERVE
    }

    /// Whether there was no room for another segment when that was last tried.
    fn has_failed(&self) -> bool {
        matches!(self.space, Space::Full { .. })
    }

    /// Whether it is news that there is no room for entries, or that there is again. `None`: no news.
    pub(crate) fn news(&mut self) -> Option<bool> {
        let is_full = self.is_full();
        (std::mem::replace(&mut self.is_told, is_full) != is_full).then_some(is_full)
    }

    /// How many segments are ready.
    pub(crate) fn prepared(&self) -> usize {
        self.prepared.len()
    }

    /// How many files hold nothing needed and are there all the same.
    pub(crate) fn free_files(&self) -> usize {
        self.free.len()
    }

    /// The size of these files.
    pub(crate) fn free_bytes(&self) -> u64 {
        self.free_bytes
    }

    /// These files hold nothing needed any more, so there may be room at once.
    pub(crate) fn free(&mut self, segments: impl IntoIterator<Item = Rc<Segment<F>>>) {
        self.free.extend(segments.into_iter().inspect(|segment| self.free_bytes += segment.bytes));
        if let Space::Full { kicks, .. } = &mut self.space {
            *kicks = 0;
        }
    }

    /// Entries find no room.
    pub(crate) fn refuse(&mut self) {
        self.lacks_room = true;
        self.kick();
    }

    /// A caller wants space after there was none. Whether it is to be tried now.
    pub(crate) fn kick(&mut self) -> bool {
        let Space::Full { kicks, .. } = &mut self.space else { return false };
        *kicks = kicks.saturating_sub(1);
        *kicks == 0
    }

    /// There was no room for another segment. Each such attempt fills the disk for a moment, so attempts
    /// get rarer. But they never stop: an election may wait behind entries that wait for space.
    pub(crate) fn failed(&mut self) {
        purlin_rsm::sometimes!("no space for another segment");
        let failures = match self.space {
            Space::Enough => 0,
            Space::Full { failures, .. } => (failures + 1).min(DOUBLINGS_MAX),
        };
        self.space = Space::Full { failures, kicks: 1 << failures };
        self.note_room();
    }

    /// Another segment is ready.
    pub(crate) fn add(&mut self, prepared: Prepared<F>) {
        assert_eq!(prepared.number, self.next_number, "a segment out of order");
        self.next_number += 1;
        self.prepared.push_back(prepared);
        if self.prepared.len() > RESERVE {
            purlin_rsm::sometimes!(self.has_failed(), "space for another segment found again");
            self.space = Space::Enough;
        }
        self.note_room();
    }

    /// Whether [`Self::next_task`] may have something to do.
    pub(crate) fn has_task(&self) -> bool {
        self.is_short() || self.gives_back()
    }

    /// Whether another segment is to be prepared now.
    fn is_short(&self) -> bool {
        let may_try = !matches!(self.space, Space::Full { kicks: 1.., .. });
        self.prepared.len() < self.wanted() && may_try
    }

    /// What is to be done next, when all segments are to have `segment_bytes` bytes.
    pub(crate) fn next_task(&mut self, segment_bytes: u64) -> Task<F> {
        let is_idle = |segment: &Rc<Segment<F>>| Rc::strong_count(segment) == 1;
        let fits = |segment: &Rc<Segment<F>>| is_idle(segment) && segment.bytes == segment_bytes;
        if self.is_short() {
            return match self.free.iter().position(fits) {
                Some(at) => Task::Recycle(self.take_free(at), self.next_number),
                None => Task::Create(self.next_number),
            };
        }
        let is_of_no_use = |segment: &Rc<Segment<F>>| {
            is_idle(segment) && (self.free.len() > FREE || segment.bytes != segment_bytes)
        };
        if let Some(at) = self.free.iter().position(is_of_no_use) {
            return Task::Discard(self.take_free(at));
        }
        if !self.gives_back() {
            return Task::Wait;
        }
        let surplus = match self.free.iter().position(is_idle) {
            Some(at) => Some(self.take_free(at)),
            None => self.take_last(segment_bytes),
        };
        surplus.map_or(Task::Wait, |segment| {
            self.surplus = Duration::ZERO;
            Task::Discard(segment)
        })
    }

    /// The last prepared segment, if there are more than are wanted: the numbers of the others still follow the
    /// active one.
    fn take_last(&mut self, segment_bytes: u64) -> Option<Rc<Segment<F>>> {
        let more = self.prepared.len() > self.wanted();
        let Prepared { number, file } = if more { self.prepared.pop_back() } else { None }?;
        self.next_number = number;
        Some(Rc::new(Segment {
            number,
            name: segment::name(number),
            epoch: 0,
            sequence: Sequence(0),
            bytes: segment_bytes,
            end: Cell::new(FIRST_BATCH),
            file,
        }))
    }

    fn take_free(&mut self, at: usize) -> Rc<Segment<F>> {
        let segment = self.free.remove(at);
        self.free_bytes -= segment.bytes;
        segment
    }

    /// Checks what is always true of the reserve behind the segment `active`.
    pub(crate) fn check(&self, active: u64) -> Result<(), Violation> {
        let numbers = || self.prepared.iter().map(|prepared| prepared.number);
        holds(
            numbers().eq(active + 1..self.next_number),
            "prepared segments continue the active one without a gap",
            || {
                let numbers: Vec<_> = numbers().collect();
                format!("{numbers:?} behind {active}, next {}", self.next_number)
            },
        )?;
        holds(
            self.prepared.len() <= RESERVE + AHEAD_MAX,
            "no more segments are prepared than may be",
            || format!("{} prepared, {} may be", self.prepared.len(), RESERVE + AHEAD_MAX),
        )?;
        holds(
            !matches!(self.space, Space::Full { failures, kicks }
                if failures > DOUBLINGS_MAX || kicks > 1 << failures),
            "an attempt to find space is never more than its bound away",
            || match self.space {
                Space::Enough => String::new(),
                Space::Full { failures, kicks } => format!("{failures} failures, {kicks} kicks"),
            },
        )?;
        let bytes = || self.free.iter().map(|segment| segment.bytes).sum::<u64>();
        holds(self.free_bytes == bytes(), "the bytes of the free files are counted", || {
            format!("{} in {} files, counted as {}", bytes(), self.free.len(), self.free_bytes)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        directory,
        disk::Durability,
        pace::Pace,
        testing::{Harness, MemoryFile, small},
    };

    fn broken(change: impl FnOnce(&mut Harness, &mut Reserve<MemoryFile>)) -> &'static str {
        let mut h = Harness::new(small(), 1);
        h.run();
        let wal = h.wal();
        let mut state = wal.state.borrow_mut();
        let active = state.segments().active();
        let reserve = state.reserve_mut();
        assert_eq!(reserve.check(active), Ok(()));
        assert_eq!(reserve.prepared(), RESERVE + 1);
        // No loop of the WAL may run while its state is borrowed.
        let mut other = Harness::new(small(), 2);
        other.stop();
        change(&mut other, reserve);
        reserve.check(active).unwrap_err().invariant
    }

    const BYTES: u64 = 4096;

    fn file(h: &mut Harness, number: u64) -> MemoryFile {
        let disk = h.disk.clone();
        let pace = Pace::default();
        h.block_on(directory::create(&disk, number, &[], BYTES, Durability::OnSync, &pace)).unwrap()
    }

    fn unused(h: &mut Harness, number: u64, bytes: u64) -> Rc<Segment<MemoryFile>> {
        let (name, end) = (crate::segment::name(number), Cell::new(0));
        let (sequence, file) = (Sequence(0), file(h, number));
        Rc::new(Segment { number, name, epoch: 1, sequence, bytes, end, file })
    }

    /// A reserve with all the segments that it wants ready, and these files besides.
    fn with_free(h: &mut Harness, sizes: &[u64]) -> Reserve<MemoryFile> {
        let free = (1000..).zip(sizes).map(|(number, bytes)| unused(h, number, *bytes)).collect();
        let mut reserve = Reserve::new(2000, free);
        for number in (2000..).take(RESERVE + 1) {
            reserve.add(Prepared { number, file: file(h, number) });
        }
        reserve
    }

    /// The numbers of the files that it discards until there is nothing more to be done.
    fn discarded(reserve: &mut Reserve<MemoryFile>) -> Vec<u64> {
        let mut numbers = Vec::new();
        loop {
            match reserve.next_task(BYTES) {
                Task::Discard(segment) => numbers.push(segment.number),
                Task::Wait => return numbers,
                Task::Recycle(..) | Task::Create(_) => panic!("all segments are ready"),
            }
        }
    }

    #[test]
    fn so_many_free_files_are_kept_and_none_of_another_size() {
        let reserve = |sizes: &[u64]| {
            let mut h = Harness::new(small(), 2);
            h.stop();
            with_free(&mut h, sizes)
        };
        for count in 0..FREE + 3 {
            let mut reserve = reserve(&vec![BYTES; count]);
            assert_eq!(discarded(&mut reserve).len(), count.saturating_sub(FREE));
            assert_eq!(reserve.free_bytes(), BYTES * count.min(FREE) as u64);
        }
        assert_eq!(discarded(&mut reserve(&[BYTES, 2 * BYTES, BYTES])), [1001]);
    }

    #[test]
    fn a_file_that_a_read_still_uses_is_kept_until_the_read_ends() {
        let mut h = Harness::new(small(), 2);
        h.stop();
        let mut reserve = with_free(&mut h, &[2 * BYTES]);
        let read = reserve.free[0].clone();
        assert_eq!(discarded(&mut reserve), []);
        drop(read);
        assert_eq!(discarded(&mut reserve), [1000]);
    }

    #[test]
    fn each_broken_invariant_is_named() {
        assert_eq!(
            broken(|_, reserve| reserve.next_number += 1),
            "prepared segments continue the active one without a gap"
        );
        assert_eq!(
            broken(|h, reserve| {
                for at in 0..AHEAD_MAX as u64 {
                    let (disk, pace) = (h.disk.clone(), Pace::default());
                    let number = 99 + at;
                    let durability = Durability::OnSync;
                    let made = directory::create(&disk, number, &[], 4096, durability, &pace);
                    let file = h.block_on(made).unwrap();
                    reserve.add(Prepared { number: reserve.next_number, file });
                }
            }),
            "no more segments are prepared than may be"
        );
        assert_eq!(
            broken(|_, reserve| reserve.space = Space::Full { failures: 2, kicks: 5 }),
            "an attempt to find space is never more than its bound away"
        );
        assert_eq!(
            broken(|_, reserve| reserve.free_bytes += 1),
            "the bytes of the free files are counted"
        );
    }
}
