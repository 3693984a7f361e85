//! Reading entries back, for a follower that lags or a machine that restarts.
//!
//! A read finds a mark in the index and scans from there. The returned entries were in the group's log
//! when the call was made or later, even if the log is truncated, rotated or released meanwhile. For
//! this, a read uses durable batches only, reads each piece only as far as the index says, and holds a
//! file, so that it is not recycled under the read.

use crate::{
    batch,
    disk::Disk,
    error::StorageError,
    index::{Location, Mark},
    live::ReadPlan,
    record::{Record, Records},
    scan::{READ_CHUNK, Scanner},
    wal::Wal,
};
use purlin_rsm::{Entry, GroupId, Index, Sequence, run, run::Run};
use std::{io, ops::Range, sync::Arc};

/// Entries that are being collected.
struct Collected {
    entries: Vec<Entry>,
    next: Index,
    bytes_left: usize,
}

impl Collected {
    fn is_enough(&self) -> bool {
        self.bytes_left == 0 && !self.entries.is_empty()
    }

    /// Adds the part of a run that continues it below `end`. A part that is less than half of its run does not keep
    /// the copy of the whole run in memory.
    fn add(&mut self, run: &Run<'_>, end: Index) {
        if run.last() < self.next {
            return;
        }
        let (first, left) = (self.entries.len(), self.bytes_left);
        for entry in run.copied().skip((self.next.0 - run.first.0) as usize) {
            if self.next >= end || self.is_enough() {
                break;
            }
            self.bytes_left = self.bytes_left.saturating_sub(entry.cost());
            self.next = self.next.next();
            self.entries.push(entry);
        }
        if 2 * (left - self.bytes_left) < run.bytes.len() {
            let part = run::compacted(&self.entries[first..]);
            self.entries.truncate(first);
            self.entries.extend(part);
        }
    }
}

impl<D: Disk> Wal<D> {
    /// The entries of `group` in `range`, from its start on: at least one if the log has that, and
    /// no more once they cost `bytes_max` bytes. Empty when the log does not have the first. Waits
    /// for entries that are not durable yet.
    pub async fn read(
        &self,
        group: GroupId,
        range: Range<Index>,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, StorageError> {
        let mut read = Collected { entries: Vec::new(), next: range.start, bytes_left: bytes_max };
        let mut truncations = None;
        while read.next < range.end && !read.is_enough() {
            let (plan, seen) = self.state.borrow_mut().plan_read(group, read.next..range.end);
            // The collected entries were in the log at the call; the entries that follow now may belong to
            // another version of the log.
            if !read.entries.is_empty() && truncations != Some(seen) {
                break;
            }
            truncations = Some(seen);
            match plan {
                ReadPlan::Wait(sequence) if read.entries.is_empty() => {
                    self.wait_durable(sequence).await?;
                }
                ReadPlan::Scan(mark, end) => {
                    if !self.scan(group, mark, end, &mut read).await? {
                        break;
                    }
                }
                ReadPlan::Wait(_) | ReadPlan::End => break,
            }
        }
        // A released file that this held may be recycled now.
        self.signals.preparing.notify(usize::MAX);
        Ok(read.entries)
    }

    /// Collects entries up to `end`. False when the files were released under it.
    async fn scan(
        &self,
        group: GroupId,
        mark: Mark,
        end: Index,
        read: &mut Collected,
    ) -> Result<bool, StorageError> {
        let mut at = mark.at;
        while read.next < end && !read.is_enough() {
            // Bound to a name, so that the state is not borrowed across an await.
            let needed = self.state.borrow().needed_segment(group, at.segment, read.next);
            let Some(segment) = needed else { return Ok(false) };
            let mut scanner = Scanner::new(&segment.file, segment.bytes, self.seed, READ_CHUNK);
            while at.position() < segment.end.get() && read.next < end && !read.is_enough() {
                let damaged = |what: &str| self.damaged(&segment.name, at.position(), what);
                // Any other batch of the segment is sound too, and what it holds may be replaced.
                let sequence = Sequence(segment.sequence.0 + u64::from(at.nth));
                let found = scanner.batch(at.position(), segment.epoch, sequence).await;
                let (header, records) = found
                    .map_err(|error| self.unreadable(&segment.name, error))?
                    .ok_or_else(|| damaged("a durable batch is not readable any more"))?;
                let first = (at == mark.at).then_some(mark.first);
                collect_runs(records, group, first, end, read).map_err(damaged)?;
                at = at.behind(header.written_bytes());
            }
            at = Location::first(segment.number + 1);
        }
        Ok(true)
    }

    fn damaged(&self, segment: &str, offset: u64, what: &str) -> StorageError {
        StorageError::Damaged {
            location: self.disk.location(),
            segment: segment.to_owned(),
            offset,
            what: what.to_owned(),
        }
    }

    fn unreadable(&self, segment: &str, error: io::Error) -> StorageError {
        StorageError::Io {
            location: format!("{}, {segment}", self.disk.location()),
            action: "reading entries",
            means: "entries that were durable cannot be read",
            source: Arc::new(error),
        }
    }
}

/// Collects the group's entries of a batch. In the batch of a mark they begin with the last run that
/// begins at the mark's index: an earlier such run was replaced in the same batch.
fn collect_runs(
    records: &[u8],
    group: GroupId,
    mark: Option<Index>,
    end: Index,
    read: &mut Collected,
) -> Result<(), &'static str> {
    let runs = || {
        Records::new(records).filter_map(|record| match record {
            Ok(Record::Entries { group: of, run }) if of == group => Some(Ok(run)),
            Ok(_) => None,
            Err(malformed) => Some(Err(malformed.0)),
        })
    };
    let begins = |run: &Result<Run<'_>, _>| run.as_ref().is_ok_and(|r| Some(r.first) == mark);
    let skipped = match mark {
        None => 0,
        Some(_) => {
            let last = runs().enumerate().filter(|(_, run)| begins(run)).last();
            last.ok_or("the index points at a batch without these entries")?.0
        }
    };
    for run in runs().skip(skipped) {
        let run = run?;
        // Where the reader has enough, the next run is no gap.
        if read.next >= end || read.is_enough() {
            break;
        }
        if run.first > read.next {
            return Err("entries are missing between two batches");
        }
        read.add(&run, end);
    }
    Ok(())
}

const _: () = assert!(batch::HEADER_BYTES < READ_CHUNK);
