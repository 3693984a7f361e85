//! Where in the WAL a group's entries lie: the index has some marks, and a look-up scans from a mark.
//!
//! A group gets a mark for its first entries, for entries that replace others, and for the first entries
//! after 64 KiB of WAL since its last mark (with more than 64 groups, after 1 KiB for each group). So a
//! look-up reads at most that many bytes that it does not need. All groups together have at most 2^20
//! marks of 24 bytes for each GiB of WAL, which is 24 MiB, beside the marks of replaced entries.

use crate::{
    align::BLOCK,
    invariant::{Violation, holds},
    segment::FIRST_BATCH,
};
use purlin_rsm::{GroupId, Index};
use std::ops::Range;

/// A place in the WAL where a batch lies, and which batch of its segment that is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Location {
    pub(crate) segment: u64,
    /// In blocks, of which a segment has at most 2^20.
    block: u32,
    /// How far its sequence is above that of the segment's header: 1 for the first batch.
    pub(crate) nth: u32,
}

impl Location {
    /// Of the first batch in a segment.
    pub(crate) fn first(segment: u64) -> Self {
        Self { segment, block: (FIRST_BATCH / BLOCK as u64) as u32, nth: 1 }
    }

    /// Of the next batch in the same segment, behind one of `written_bytes` here.
    pub(crate) fn behind(self, written_bytes: usize) -> Self {
        let blocks = (written_bytes / BLOCK) as u32;
        Self { block: self.block + blocks, nth: self.nth + 1, ..self }
    }

    /// In bytes.
    pub(crate) fn position(self) -> u64 {
        u64::from(self.block) * BLOCK as u64
    }
}

/// From the batch at `at` on, the group's entries stand in order from `first`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Mark {
    pub(crate) first: Index,
    pub(crate) at: Location,
}

const _: () = assert!(size_of::<Mark>() == 24);

/// The marks of one group.
///
/// Invariant: strictly ascending in index, and ascending in place. Between two of them, and behind the last, the
/// group's records continue one another; replaced entries stand beyond the next mark's index only.
#[derive(Default, Debug)]
pub(crate) struct Marks {
    marks: Vec<Mark>,
    /// How much WAL there was at the last mark.
    wal_bytes: u64,
}

/// How much WAL lies between two marks of a group, when the shard has `groups` of them.
fn spacing(groups: usize) -> u64 {
    (groups.max(64) as u64) << 10
}

impl Marks {
    /// Entries from `first` on, behind all others, are written at `at`, with `wal_bytes` before it.
    pub(crate) fn append(&mut self, first: Index, at: Location, wal_bytes: u64, groups: usize) {
        if self.marks.is_empty() || wal_bytes - self.wal_bytes >= spacing(groups) {
            self.marks.push(Mark { first, at });
            self.wal_bytes = wal_bytes;
        }
    }

    /// Entries from `first` on, which replace all at or above it, are written at `at`.
    pub(crate) fn replace(&mut self, first: Index, at: Location, wal_bytes: u64) {
        let kept = self.marks.partition_point(|mark| mark.first < first);
        self.marks.truncate(kept);
        self.marks.push(Mark { first, at });
        self.wal_bytes = wal_bytes;
    }

    /// Nothing below `first` is needed any more.
    pub(crate) fn forget(&mut self, first: Index) {
        let needed = self.marks.partition_point(|mark| mark.first <= first).saturating_sub(1);
        self.marks.drain(..needed);
    }

    /// No entry is left.
    pub(crate) fn clear(&mut self) {
        self.marks.clear();
    }

    /// The oldest place that is still needed.
    pub(crate) fn oldest(&self) -> Option<Location> {
        self.marks.first().map(|mark| mark.at)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.marks.len()
    }

    /// Where to scan for the entry at `index`, and the indices that this scan serves.
    pub(crate) fn find(&self, index: Index) -> Option<(Mark, Range<Index>)> {
        let after = self.marks.partition_point(|mark| mark.first <= index);
        let mark = *self.marks.get(after.checked_sub(1)?)?;
        let end = self.marks.get(after).map_or(Index(u64::MAX), |next| next.first);
        Some((mark, mark.first..end))
    }

    /// Checks what is always true of the marks of group `id`, whose log goes from `first` to `last`.
    pub(crate) fn check(&self, id: GroupId, first: Index, last: Index) -> Result<(), Violation> {
        let place = |mark: &Mark| (mark.at.segment, mark.at.block);
        holds(
            self.marks.is_sorted_by(|a, b| a.first < b.first && place(a) <= place(b)),
            "a group's marks ascend in index and place",
            || format!("group {id}: {:?}", self.marks),
        )?;
        let (lowest, highest) = (self.marks.first(), self.marks.last());
        holds(
            last < first || lowest.is_some_and(|mark| mark.first <= first),
            "a group's first entry has a mark",
            || format!("group {id}: first {first}, last {last}, first mark {lowest:?}"),
        )?;
        holds(
            highest.is_none_or(|mark| mark.first <= last),
            "no mark is above a group's last entry",
            || format!("group {id}: last {last}, last mark {highest:?}"),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(position: u64) -> Location {
        Location { segment: 1, block: (position / BLOCK as u64) as u32, nth: 1 }
    }

    #[test]
    fn marks_are_sparse_and_found_again() {
        let mut marks = Marks::default();
        for n in 0..100 {
            marks.append(Index(n + 1), at(n * 4096), n * 4096, 3);
        }
        assert_eq!(marks.len(), 7);
        let (mark, served) = marks.find(Index(20)).unwrap();
        assert_eq!(mark, Mark { first: Index(17), at: at(16 * 4096) });
        assert_eq!(served, Index(17)..Index(33));
        assert_eq!(marks.find(Index(0)), None);
        assert_eq!(marks.find(Index(100)).unwrap().1.end, Index(u64::MAX));
    }

    #[test]
    fn each_broken_invariant_is_named() {
        let broken = |change: fn(&mut Marks)| {
            let mut marks = Marks::default();
            for n in 0..3 {
                marks.append(Index(n * 10 + 1), at(n << 16), n << 16, 1);
            }
            let check = |marks: &Marks| marks.check(GroupId(1), Index(1), Index(30));
            assert_eq!(check(&marks), Ok(()));
            change(&mut marks);
            check(&marks).unwrap_err().invariant
        };
        let ascend = "a group's marks ascend in index and place";
        assert_eq!(broken(|marks| marks.marks[2].first = Index(11)), ascend);
        assert_eq!(broken(|marks| marks.marks[2].at.block = 0), ascend);
        assert_eq!(
            broken(|marks| marks.marks[0].first = Index(2)),
            "a group's first entry has a mark"
        );
        assert_eq!(
            broken(|marks| marks.marks[2].first = Index(31)),
            "no mark is above a group's last entry"
        );
    }

    #[test]
    fn each_group_of_a_shard_with_many_groups_has_fewer_marks() {
        let mut marks = Marks::default();
        for n in 0..1024 {
            marks.append(Index(n + 1), at(n * 4096), n * 4096, 4096);
        }
        assert_eq!(marks.len(), 1);
    }

    #[test]
    fn truncating_and_forgetting_keep_the_needed_marks() {
        let mut marks = Marks::default();
        for n in 0..4 {
            marks.append(Index(n * 10 + 1), at(n << 16), n << 16, 1);
        }
        marks.replace(Index(15), at(9 << 16), 9 << 16);
        assert_eq!(marks.len(), 3);
        assert_eq!(marks.find(Index(14)).unwrap().1, Index(11)..Index(15));
        marks.forget(Index(14));
        assert_eq!(marks.oldest(), Some(at(1 << 16)));
        marks.forget(Index(15));
        assert_eq!(marks.oldest(), Some(at(9 << 16)));
    }
}
