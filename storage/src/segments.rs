//! The segments of the log: which files hold it, which one grows, and where the next batch will lie.
//!
//! ```text
//!    released      kept                                    prepared
//!  ┌ ─ ─ ─ ─ ┐   ┌───────────┐ ┌─────────┐ ┌───────────┐ ┌ ─ ─ ─ ─ ┐
//!       3          4 (oldest)    5           6 b b b · ·      7
//!  └ ─ ─ ─ ─ ┘   └───────────┘ └─────────┘ └───────▲───┘ └ ─ ▲ ─ ─ ┘
//!                                     the active's end    planned
//! ```
//!
//! A batch gets its place when it is submitted (*planned*). It is encoded for that place when its write
//! may start. So `planned` may lie behind the end of the active segment, or in a segment that has not
//! begun. This module does no I/O: the caller writes the blocks that are made here.

use crate::{
    align::BLOCK,
    batch::{self, Kind, Seed, Stamp},
    config::WalConfig,
    disk::File,
    index::Location,
    invariant::{Violation, holds},
    segment::{self, BatchName, FIRST_BATCH, Header, Segment},
};
use purlin_rsm::{Identity, Sequence, Start, random::SplitMix};
use std::{cell::Cell, collections::BTreeMap, rc::Rc};

/// The files of the log, from the oldest needed one to the active one.
pub(crate) struct Segments<F: File> {
    template: HeaderTemplate,
    seed: Seed,
    /// All segments that hold something needed, by number, the active one included.
    kept: BTreeMap<u64, Rc<Segment<F>>>,
    /// The size of their files, together.
    kept_bytes: u64,
    active: Rc<Segment<F>>,
    /// Where the next submitted batch will lie.
    planned: Location,
    /// The last batch that was sealed.
    last_batch: BatchName,
    /// The oldest segment that is needed; stands in every batch and header from now on.
    oldest: u64,
}

/// What all headers of one start have in common.
pub(crate) struct HeaderTemplate {
    pub(crate) identity: Identity,
    /// The size of a new segment.
    pub(crate) bytes: u64,
    /// This start and those before it, the latest last (safety I4).
    pub(crate) starts: Vec<Start>,
    pub(crate) epochs: Epochs,
}

/// Random epochs from a seed.
pub(crate) struct Epochs(SplitMix);

/// One write: a block, and its place.
pub(crate) struct Write<F: File> {
    pub(crate) sequence: Sequence,
    pub(crate) segment: Rc<Segment<F>>,
    pub(crate) position: u64,
    pub(crate) block: F::Block,
}

impl Epochs {
    pub(crate) fn new(seed: u64) -> Self {
        Self(SplitMix::new(seed))
    }

    fn draw(&mut self) -> u64 {
        self.0.draw()
    }
}

impl HeaderTemplate {
    /// The header of segment `number`, with an epoch of its own.
    pub(crate) fn header(
        &mut self,
        number: u64,
        sequence: Sequence,
        previous: BatchName,
        oldest: u64,
    ) -> Header {
        Header {
            identity: self.identity,
            number,
            epoch: self.epochs.draw(),
            sequence,
            previous,
            oldest,
            bytes: self.bytes,
            starts: self.starts.clone(),
        }
    }
}

impl<F: File> Segments<F> {
    /// The log as a start has found it: the `older` segments and the active one, which ends in `planned`.
    pub(crate) fn new(
        template: HeaderTemplate,
        older: impl IntoIterator<Item = Segment<F>>,
        active: Segment<F>,
        planned: Location,
        last_batch: BatchName,
    ) -> Self {
        let active = Rc::new(active);
        let mut kept: BTreeMap<u64, Rc<Segment<F>>> =
            older.into_iter().map(|segment| (segment.number, Rc::new(segment))).collect();
        kept.insert(active.number, active.clone());
        let oldest = *kept.keys().next().expect("the active one at least");
        let seed = Seed::new(&template.identity);
        let kept_bytes = kept.values().map(|segment| segment.bytes).sum();
        Self { template, seed, kept, kept_bytes, active, planned, last_batch, oldest }
    }

    /// Whether a batch of `written` bytes fits behind what is planned.
    pub(crate) fn fits(&self, written: usize) -> bool {
        self.fits_at(self.planned.segment, self.planned.position(), written)
    }

    /// Whether a batch of `written` bytes fits into a segment at `position`. Segments differ in size.
    fn fits_at(&self, segment: u64, position: u64, written: usize) -> bool {
        let is_active = segment == self.active.number;
        let bytes = if is_active { self.active.bytes } else { self.template.bytes };
        position + written as u64 <= bytes && written <= WalConfig::write_bytes_max(bytes)
    }

    /// The number of new segments that batches of these lengths on disk need.
    pub(crate) fn rotations(&self, written: impl IntoIterator<Item = usize>) -> usize {
        let (mut segment, mut position) = (self.planned.segment, self.planned.position());
        let mut rotations = 0;
        for written in written {
            if !self.fits_at(segment, position, written) {
                rotations += 1;
                segment += 1;
                position = FIRST_BATCH;
            }
            position += written as u64;
        }
        rotations
    }

    /// Gives the next batch, of `written` bytes, its place.
    pub(crate) fn plan_batch(&mut self, written: usize) -> Location {
        let at = self.planned;
        self.planned = at.behind(written);
        at
    }

    /// The next batch will lie in a new segment. Returns the number of that segment.
    pub(crate) fn plan_segment(&mut self) -> u64 {
        self.planned = Location::first(self.planned.segment + 1);
        self.planned.segment
    }

    /// Makes a prepared file the active segment. Returns the write of its header, which names the last
    /// batch before it.
    pub(crate) fn begin(&mut self, number: u64, file: F, sequence: Sequence) -> Write<F> {
        assert_eq!(number, self.active.number + 1, "segments begin in the order of their numbers");
        let header = self.template.header(number, sequence, self.last_batch, self.oldest);
        let active = Rc::new(Segment {
            number,
            name: segment::name(number),
            epoch: header.epoch,
            sequence,
            bytes: header.bytes,
            end: Cell::new(FIRST_BATCH),
            file,
        });
        let mut block = active.file.block(BLOCK);
        header.write(block.as_mut());
        self.kept_bytes += active.bytes;
        self.kept.insert(number, active.clone());
        self.active = active.clone();
        Write { sequence, segment: active, position: 0, block }
    }

    /// Encodes a batch at the end of the active segment. Returns its write.
    pub(crate) fn seal(
        &mut self,
        sequence: Sequence,
        watermark: Sequence,
        kind: Kind,
        records: &[u8],
    ) -> Write<F> {
        let segment = self.active.clone();
        let (position, written) = (segment.end.get(), batch::written_bytes(records.len()));
        let end = position + written as u64;
        assert!(end <= segment.bytes, "a batch ends at {end} of {}", segment.bytes);
        let mut block = segment.file.block(written);
        let stamp = Stamp { epoch: segment.epoch, sequence, watermark, oldest: self.oldest, kind };
        let checksum = batch::seal(block.as_mut(), self.seed, &stamp, records);
        self.last_batch = BatchName { segment: segment.number, sequence, checksum };
        segment.end.set(end);
        Write { sequence, segment, position, block }
    }

    /// The last batch that was sealed.
    pub(crate) fn last_batch(&self) -> BatchName {
        self.last_batch
    }

    /// The number of the active segment.
    pub(crate) fn active(&self) -> u64 {
        self.active.number
    }

    /// How many segments are kept.
    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }

    /// The size of the files of all kept segments.
    pub(crate) fn bytes(&self) -> u64 {
        self.kept_bytes
    }

    /// The kept segment with this number, or the next one behind it.
    pub(crate) fn find(&self, number: u64) -> Option<Rc<Segment<F>>> {
        self.kept.range(number..).next().map(|(_, segment)| segment.clone())
    }

    /// Whether a kept segment has a number below `until`.
    pub(crate) fn has_below(&self, until: u64) -> bool {
        self.kept.range(..until).next().is_some()
    }

    /// From now on every batch and header names `oldest` as the oldest segment that is needed.
    pub(crate) fn name_oldest(&mut self, oldest: u64) {
        assert!(
            self.oldest <= oldest && oldest <= self.active.number,
            "the oldest segment was {}, the active one is {}, and {oldest} is to be the oldest",
            self.oldest,
            self.active.number
        );
        self.oldest = oldest;
    }

    /// Takes out the segments below `until`, which are no longer needed.
    pub(crate) fn release_below(&mut self, until: u64) -> Vec<Rc<Segment<F>>> {
        assert!(until <= self.oldest, "segments from {} on are needed, not {until}", self.oldest);
        let kept = self.kept.split_off(&until);
        let released = std::mem::replace(&mut self.kept, kept).into_values();
        released.inspect(|segment| self.kept_bytes -= segment.bytes).collect()
    }

    /// Checks the invariants of the segments. `queued_headers` headers wait to be written.
    pub(crate) fn check(&self, queued_headers: usize) -> Result<(), Violation> {
        let (active, planned) = (&self.active, self.planned);
        holds(
            self.kept.iter().all(|(number, segment)| *number == segment.number),
            "each segment is kept under its own number",
            || format!("{:?}", self.kept.keys()),
        )?;
        let newest = self.kept.last_key_value().map(|(number, _)| *number);
        holds(newest == Some(active.number), "the active segment is the newest", || {
            format!("{} is active, and {newest:?} is the newest", active.number)
        })?;
        holds(
            self.oldest <= active.number,
            "the oldest segment is not above the active one",
            || format!("oldest {}, active {}", self.oldest, active.number),
        )?;
        let segments_ahead = planned.segment.checked_sub(active.number);
        holds(
            segments_ahead == Some(queued_headers as u64),
            "each queued header is of one segment between the active and the planned one",
            || format!("active {}, planned {planned:?}, headers {queued_headers}", active.number),
        )?;
        holds(
            queued_headers > 0 || planned.position() >= active.end.get(),
            "the planned place is not before the end of the active segment",
            || format!("planned {planned:?}, end {}", active.end.get()),
        )?;
        holds(
            self.kept.values().all(|it| (FIRST_BATCH..=it.bytes).contains(&it.end.get())),
            "each segment ends within its file",
            || format!("{:?}", self.kept.values().map(|it| it.end.get()).collect::<Vec<_>>()),
        )?;
        holds(
            self.last_batch.segment <= active.number,
            "the last batch lies in the active segment or before it",
            || format!("{:?}, active {}", self.last_batch, active.number),
        )?;
        let bytes = || self.kept.values().map(|segment| segment.bytes).sum::<u64>();
        holds(self.kept_bytes == bytes(), "the bytes of the kept segments are counted", || {
            format!("{} in {} segments, counted as {}", bytes(), self.len(), self.kept_bytes)
        })
    }

    /// Checks that a segment which something needs is there: kept, or planned and not begun.
    pub(crate) fn check_needed(&self, number: u64) -> Result<(), Violation> {
        let is_kept = self.oldest <= number && self.kept.contains_key(&number);
        let is_planned = self.active.number < number && number <= self.planned.segment;
        holds(
            is_kept || is_planned,
            "each needed segment is kept, and not below the oldest that batches name (W7)",
            || {
                let kept = self.kept.keys();
                format!("segment {number} is needed, {kept:?} are kept, from {}", self.oldest)
            },
        )
    }

    /// The names of the kept files, the newest last.
    #[cfg(test)]
    pub(crate) fn names(&self) -> Vec<String> {
        self.kept.values().map(|segment| segment.name.clone()).collect()
    }

    /// The active segment.
    #[cfg(test)]
    pub(crate) fn active_segment(&self) -> Rc<Segment<F>> {
        self.active.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Harness, MemoryFile, append, small};

    fn broken(change: impl FnOnce(&mut Segments<MemoryFile>)) -> &'static str {
        let mut h = Harness::new(small(), 1);
        h.write(append(1, 1, 1..4, 10));
        let wal = h.wal();
        let mut state = wal.state.borrow_mut();
        let segments = state.segments_mut();
        assert_eq!(segments.check(0), Ok(()));
        change(segments);
        segments.check(0).unwrap_err().invariant
    }

    #[test]
    fn each_broken_invariant_is_named() {
        assert_eq!(
            broken(|segments| {
                segments.kept.insert(0, segments.active.clone());
            }),
            "each segment is kept under its own number"
        );
        assert_eq!(
            broken(|segments| {
                segments.kept.pop_last();
            }),
            "the active segment is the newest"
        );
        assert_eq!(
            broken(|segments| segments.oldest = segments.active.number + 1),
            "the oldest segment is not above the active one"
        );
        assert_eq!(
            broken(|segments| {
                segments.plan_segment();
            }),
            "each queued header is of one segment between the active and the planned one"
        );
        assert_eq!(
            broken(|segments| segments.planned = Location::first(segments.active.number)),
            "the planned place is not before the end of the active segment"
        );
        assert_eq!(
            broken(|segments| segments.active.end.set(0)),
            "each segment ends within its file"
        );
        assert_eq!(
            broken(|segments| segments.last_batch.segment = segments.active.number + 1),
            "the last batch lies in the active segment or before it"
        );
        assert_eq!(
            broken(|segments| segments.kept_bytes -= 1),
            "the bytes of the kept segments are counted"
        );
    }

    #[test]
    fn a_needed_segment_that_is_gone_is_named() {
        let mut h = Harness::new(small(), 1);
        h.write(append(1, 1, 1..4, 10));
        let wal = h.wal();
        let mut state = wal.state.borrow_mut();
        let segments = state.segments_mut();
        let active = segments.active();
        assert_eq!(segments.check_needed(active), Ok(()));
        let gone = segments.check_needed(active + 1).unwrap_err().invariant;
        assert_eq!(
            gone,
            "each needed segment is kept, and not below the oldest that batches name (W7)"
        );
        segments.plan_segment();
        assert_eq!(segments.check_needed(active + 1), Ok(()), "it is planned");
        segments.oldest = active + 1;
        assert_eq!(segments.check_needed(active).unwrap_err().invariant, gone);
    }
}
