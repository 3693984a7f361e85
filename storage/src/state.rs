//! All of a WAL but its I/O: what is submitted, where it lies, what is in flight, what is durable.
//!
//! Each noun in it keeps its own invariants: the *pipeline* the order of writes, the *segments* the
//! files and places, the *reserve* the files ahead of need, *live* the index and the latest records. This
//! module joins them, and checks what must hold between them. Pure state: every method returns at once,
//! and the loops around it (`write`, `prepare`, `purge`, `reader`) wait and do the I/O.

use crate::{
    align::BLOCK,
    batch::{self, Batch, Kind},
    config::WalConfig,
    demand::Demand,
    disk::File,
    error::{StorageError, SubmitError},
    invariant::{Violation, holds},
    live::{Live, Pending, ReadPlan},
    pipeline::{Pipeline, Step},
    reserve::{Prepared, Reserve, Task},
    segment::Segment,
    segments::{Segments, Write},
};
use bytes::Bytes;
use purlin_rsm::{GroupId, Index, Position, Sequence};
use std::{collections::VecDeque, ops::Range, rc::Rc, time::Duration};

/// The state of one WAL.
pub(crate) struct State<F: File> {
    config: WalConfig,
    pipeline: Pipeline,
    live: Live,
    segments: Segments<F>,
    reserve: Reserve<F>,
    demand: Demand,
    /// Sealed, and not yet taken by a write loop.
    writes: VecDeque<Write<F>>,
    /// Why it has stopped. Set once, and never taken back.
    failure: Option<StorageError>,
    is_releasing: bool,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    batches: u64,
    closing_batches: u64,
    rotations: u64,
    record_bytes: u64,
    written_bytes: u64,
    syncs: u64,
}

/// Figures of one WAL since it was opened, and its present state.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct WalStats {
    /// Batches given to the device, closing ones included.
    pub batches: u64,
    /// Closing batches among them.
    pub closing_batches: u64,
    /// New segments, beside the one of the start.
    pub rotations: u64,
    /// Bytes of records given to the device.
    pub record_bytes: u64,
    /// All bytes given to the device: records, headers and padding.
    pub written_bytes: u64,
    /// Syncs begun.
    pub syncs: u64,
    /// The size of one segment.
    pub segment_bytes: u64,
    /// Segments that hold something needed.
    pub segments: usize,
    /// Segments that wait to become active.
    pub prepared: usize,
    /// Files that hold nothing needed, and wait to be recycled or removed.
    pub free: usize,
    /// The size of the files of all these: what the log takes on the disk. A file that is being made,
    /// renamed or removed just now does not count.
    pub bytes: u64,
    /// Writes in flight.
    pub in_flight: usize,
    /// Batches and headers that wait.
    pub queued: usize,
    /// Marks in the index, 24 bytes each.
    pub marks: usize,
}

/// What a write loop gets.
pub(crate) enum Taken<F: File> {
    /// A write.
    Write(Write<F>),
    /// Nothing now.
    Nothing,
    /// Nothing any more.
    Ended,
}

impl<F: File> State<F> {
    /// The state behind a recovery: `durable` is durable, and the header `recorded` of the active segment
    /// says so of everything before it.
    pub(crate) fn new(
        config: WalConfig,
        live: Live,
        segments: Segments<F>,
        reserve: Reserve<F>,
        recorded: Sequence,
        durable: Sequence,
    ) -> Self {
        let state = Self {
            config,
            pipeline: Pipeline::new(recorded, durable),
            live,
            segments,
            reserve,
            demand: Demand::default(),
            writes: VecDeque::new(),
            failure: None,
            is_releasing: false,
            counts: Counts::default(),
        };
        state.assert_invariants();
        state
    }

    // ---- What the engine asks

    /// Whether a batch submitted now goes to the device at once.
    pub(crate) fn is_ready(&self) -> bool {
        self.failure.is_none()
            && self.pipeline.queued() == 0
            && self.pipeline.in_flight() < self.config.writes_in_flight_max
    }

    /// Whether there is room for entries, beside the reserve.
    pub(crate) fn has_space(&self) -> bool {
        !self.reserve.is_full()
    }

    /// Whether there was no room for entries, and there is not much again.
    pub(crate) fn lacks_room(&self) -> bool {
        self.reserve.lacks_room()
    }

    /// Everything up to it is durable.
    pub(crate) fn durable(&self) -> Sequence {
        self.pipeline.durable()
    }

    /// The last sequence given out.
    pub(crate) fn submitted(&self) -> Sequence {
        self.pipeline.submitted()
    }

    /// Why the WAL has stopped, if it has.
    pub(crate) fn failure(&self) -> Option<&StorageError> {
        self.failure.as_ref()
    }

    /// Figures.
    pub(crate) fn stats(&self) -> WalStats {
        let prepared = self.reserve.prepared();
        WalStats {
            batches: self.counts.batches,
            closing_batches: self.counts.closing_batches,
            rotations: self.counts.rotations,
            record_bytes: self.counts.record_bytes,
            written_bytes: self.counts.written_bytes,
            syncs: self.counts.syncs,
            segment_bytes: self.config.segment_bytes,
            segments: self.segments.len(),
            prepared,
            free: self.reserve.free_files(),
            bytes: self.segments.bytes()
                + prepared as u64 * self.config.segment_bytes
                + self.reserve.free_bytes(),
            in_flight: self.pipeline.in_flight(),
            queued: self.pipeline.queued(),
            marks: self.live.marks(),
        }
    }

    // ---- The way of a batch

    /// Plans a batch and starts what may start. `relocation`: the batch repeats what is known, so it may
    /// be empty and is written even then.
    pub(crate) fn submit(
        &mut self,
        batch: Batch,
        relocation: bool,
    ) -> Result<Sequence, SubmitError> {
        if self.failure.is_some() {
            return Err(SubmitError::Poisoned(batch));
        }
        if batch.is_empty() && !relocation {
            return Ok(self.pipeline.submitted());
        }
        let write_bytes_max = WalConfig::write_bytes_max(self.config.segment_bytes);
        let mut cuts = batch.cuts(self.config.records_bytes_max());
        if cuts.iter().any(|cut| batch::written_bytes(cut.len()) > write_bytes_max) {
            return Err(SubmitError::TooLarge(batch));
        }
        if cuts.is_empty() {
            cuts.push(0..0);
        }
        if batch.has_entries() && !self.has_room(&cuts) {
            purlin_rsm::sometimes!("entries refused for want of space");
            self.reserve.refuse();
            return Err(SubmitError::NoSpace(batch));
        }
        let urgent = !batch.has_entries();
        let bytes = batch.into_bytes();
        for cut in cuts {
            self.plan(bytes.slice(cut), urgent);
        }
        let sequence = self.pipeline.submitted();
        self.start_writes();
        self.assert_invariants();
        Ok(sequence)
    }

    /// Whether all `cuts` of a batch with entries fit without using the reserve (safety W8).
    fn has_room(&self, cuts: &[Range<usize>]) -> bool {
        let written = cuts.iter().map(|cut| batch::written_bytes(cut.len()));
        let rotations = self.segments.rotations(written);
        self.reserve.has_room(rotations, self.pipeline.queued_headers())
    }

    /// Decides where a batch will lie, and lets the index know.
    fn plan(&mut self, records: Bytes, urgent: bool) {
        let written = batch::written_bytes(records.len());
        if !self.segments.fits(written) {
            self.plan_header(urgent);
        }
        let sequence = self.pipeline.plan_batch(Kind::Records, records.clone());
        let pending = Pending { sequence, durable: self.pipeline.durable() };
        let at = self.segments.plan_batch(written);
        let taken = self.live.apply(&records, at, written, Some(pending), |_, _| ());
        taken.expect("a batch holds the records that its methods put into it");
    }

    fn plan_header(&mut self, urgent: bool) {
        let number = self.segments.plan_segment();
        self.pipeline.plan_header(number, urgent);
    }

    /// A tick in which nothing was submitted: plans the closing batch when safety W9 asks for it.
    pub(crate) fn quiet_tick(&mut self) {
        if self.failure.is_some() || !self.pipeline.wants_closing() {
            return;
        }
        if self.segments.fits(BLOCK) {
            purlin_rsm::sometimes!("closing batch written");
            self.pipeline.plan_batch(Kind::Closing, Bytes::new());
            self.segments.plan_batch(BLOCK);
        } else {
            purlin_rsm::sometimes!("header written instead of a closing batch");
            // The next segment's header names the last batch, which says the same.
            self.plan_header(true);
        }
        self.start_writes();
        self.assert_invariants();
    }

    /// Seals what may be in flight now.
    fn start_writes(&mut self) {
        while let Some(step) = self.pipeline.next(self.config.writes_in_flight_max) {
            match *step {
                Step::Header { number, urgent, .. } => {
                    let Some(prepared) = self.reserve.take(urgent) else { return };
                    assert_eq!(prepared.number, number, "segments are used in their order");
                    self.start_segment(prepared);
                }
                Step::Batch { .. } => self.start_batch(),
            }
        }
    }

    fn start_segment(&mut self, prepared: Prepared<F>) {
        // The header names the last batch, and so it says that everything up to that one is durable.
        let watermark = self.segments.last_batch().sequence;
        let Step::Header { sequence, .. } = self.pipeline.start(watermark) else {
            unreachable!("the next step was a header")
        };
        let write = self.segments.begin(prepared.number, prepared.file, sequence);
        self.counts.rotations += 1;
        self.counts.written_bytes += BLOCK as u64;
        self.writes.push_back(write);
    }

    fn start_batch(&mut self) {
        let watermark = self.pipeline.durable();
        let Step::Batch { sequence, kind, records } = self.pipeline.start(watermark) else {
            unreachable!("the next step was a batch")
        };
        let write = self.segments.seal(sequence, watermark, kind, &records);
        self.counts.batches += 1;
        self.counts.closing_batches += u64::from(kind == Kind::Closing);
        self.counts.record_bytes += records.len() as u64;
        self.counts.written_bytes += batch::written_bytes(records.len()) as u64;
        self.writes.push_back(write);
    }

    // ---- For the loops that write

    /// Whether writes are in flight.
    pub(crate) fn is_writing(&self) -> bool {
        self.failure.is_none() && self.pipeline.in_flight() > 0
    }

    /// How many writes wait for a loop.
    pub(crate) fn waiting_writes(&self) -> usize {
        self.writes.len()
    }

    /// The next write.
    pub(crate) fn take_write(&mut self) -> Taken<F> {
        if self.failure.is_some() {
            return Taken::Ended;
        }
        self.writes.pop_front().map_or(Taken::Nothing, Taken::Write)
    }

    /// A write has completed, and a completed write is durable.
    pub(crate) fn is_durable(&mut self, sequence: Sequence) {
        self.pipeline.is_durable(sequence);
        self.start_writes();
        self.assert_invariants();
    }

    /// A write has completed, and needs a sync that begins after this.
    pub(crate) fn is_written(&mut self, sequence: Sequence) {
        self.pipeline.is_written(sequence);
    }

    /// Whether a sync is to begin now.
    pub(crate) fn begin_sync(&mut self) -> bool {
        let begins = self.failure.is_none() && self.pipeline.begin_sync();
        self.counts.syncs += u64::from(begins);
        begins
    }

    /// The sync has completed.
    pub(crate) fn end_sync(&mut self) {
        self.pipeline.end_sync();
        self.start_writes();
        self.assert_invariants();
    }

    /// The WAL stops for good.
    pub(crate) fn fail(&mut self, failure: StorageError) {
        assert!(self.failure.is_none(), "{:?}, and now {failure:?}", self.failure);
        self.failure = Some(failure);
        self.writes.clear();
    }

    // ---- For the loop that prepares segments

    /// Whether a segment is to be prepared or removed now.
    pub(crate) fn has_task(&self) -> bool {
        self.reserve.has_task()
    }

    /// What is to be done for the reserve; nothing once the WAL has stopped.
    pub(crate) fn next_task(&mut self) -> Option<Task<F>> {
        self.failure.is_none().then(|| self.reserve.next_task(self.config.segment_bytes))
    }

    /// Another segment is ready.
    /// Whether there is room again after there was none.
    pub(crate) fn add_prepared(&mut self, prepared: Prepared<F>) -> bool {
        self.reserve.add(prepared);
        self.start_writes();
        self.assert_invariants();
        self.reserve.news() == Some(false)
    }

    /// There was no room for another segment; a file that was to become it is free again. Whether it is
    /// news that entries find no room.
    pub(crate) fn no_space(&mut self, unused: Option<Rc<Segment<F>>>) -> bool {
        self.reserve.free(unused);
        self.reserve.failed();
        self.start_writes();
        self.assert_invariants();
        self.reserve.news() == Some(true)
    }

    /// A caller wants space after there was none. Whether it is to be tried now.
    pub(crate) fn seek_space(&mut self) -> bool {
        self.reserve.kick()
    }

    /// `elapsed` has passed since this was last called: sees how much is to be prepared.
    pub(crate) fn note_time(&mut self, elapsed: Duration) {
        let bytes = self.demand.note(self.counts.written_bytes, elapsed);
        self.reserve.expect(bytes, self.config.segment_bytes, elapsed);
    }

    // ---- For releasing segments

    /// Entries of `group` below `first` are no longer needed.
    pub(crate) fn forget(&mut self, group: GroupId, first: Index, position: Position) {
        self.live.forget(group, first, position);
        self.assert_invariants();
    }

    /// Whether a release may begin: one runs at a time.
    pub(crate) fn begin_release(&mut self) -> bool {
        !std::mem::replace(&mut self.is_releasing, true)
    }

    /// The release has ended.
    pub(crate) fn end_release(&mut self) {
        self.is_releasing = false;
    }

    /// The segments below the returned one hold no needed entry; the batch has what else lives in
    /// them. Nothing when no segment can be released.
    pub(crate) fn releasable(&self) -> Option<(u64, Batch)> {
        let active = self.segments.active();
        let oldest = self.live.oldest_with_entries();
        let until = oldest.map_or(active, |oldest| oldest.min(active));
        self.segments.has_below(until).then(|| (until, self.live.relocations(until)))
    }

    /// From now on every batch and header says that nothing below segment `oldest` is needed.
    pub(crate) fn name_oldest(&mut self, oldest: u64) {
        self.segments.name_oldest(oldest);
        self.assert_invariants();
    }

    /// Frees the segments below `until`, and counts them.
    pub(crate) fn free_below(&mut self, until: u64) -> usize {
        let released = self.segments.release_below(until);
        let count = released.len();
        self.reserve.free(released);
        self.assert_invariants();
        count
    }

    // ---- For reading

    /// How to read the next entries of a range, and how often the group's log was truncated before.
    pub(crate) fn plan_read(&mut self, group: GroupId, range: Range<Index>) -> (ReadPlan, u64) {
        self.live.plan_read(group, range, self.pipeline.durable())
    }

    /// The segment with this number, or the next one that there is. Nothing once the group's entry at
    /// `next` is forgotten: its segment may be released, and a younger segment would begin too late.
    pub(crate) fn needed_segment(
        &self,
        group: GroupId,
        number: u64,
        next: Index,
    ) -> Option<Rc<Segment<F>>> {
        if next < self.live.group(group)?.first() {
            return None;
        }
        self.segments.find(number)
    }

    // ---- Invariants

    /// Checks everything that is always true. Takes a time that grows with groups and marks.
    pub(crate) fn check(&self) -> Result<(), Violation> {
        let queued_headers = self.pipeline.queued_headers();
        self.pipeline.check(self.config.writes_in_flight_max)?;
        self.segments.check(queued_headers)?;
        self.reserve.check(self.segments.active())?;
        self.live.check(|number| self.segments.check_needed(number))?;
        let (last, durable) = (self.segments.last_batch().sequence, self.pipeline.durable());
        holds(last <= self.pipeline.submitted(), "the last sealed batch was submitted", || {
            format!("batch {last} is sealed, {} submitted", self.pipeline.submitted())
        })?;
        holds(
            self.writes.len() <= self.pipeline.in_flight(),
            "each write that waits for a loop is in flight",
            || format!("{} wait, {} in flight", self.writes.len(), self.pipeline.in_flight()),
        )?;
        holds(
            self.writes.iter().all(|write| write.sequence > durable),
            "no write that waits for a loop is durable",
            || format!("{durable} is durable"),
        )?;
        holds(
            self.failure.is_none() || self.writes.is_empty(),
            "a WAL that has stopped writes nothing",
            || format!("{} writes wait", self.writes.len()),
        )
    }

    /// Wherever debug assertions are on, and in the simulator.
    fn assert_invariants(&self) {
        if (cfg!(debug_assertions) || purlin_rsm::reach::is_recording())
            && let Err(violation) = self.check()
        {
            panic!("{violation}");
        }
    }

    /// The segments.
    #[cfg(test)]
    pub(crate) fn segments(&self) -> &Segments<F> {
        &self.segments
    }

    /// The index and the latest records.
    #[cfg(test)]
    pub(crate) fn live(&self) -> &Live {
        &self.live
    }

    /// The segments, to be broken by a test.
    #[cfg(test)]
    pub(crate) fn segments_mut(&mut self) -> &mut Segments<F> {
        &mut self.segments
    }

    /// The reserve, to be broken by a test.
    #[cfg(test)]
    pub(crate) fn reserve_mut(&mut self) -> &mut Reserve<F> {
        &mut self.reserve
    }

    /// The index, to be broken by a test.
    #[cfg(test)]
    pub(crate) fn live_mut(&mut self) -> &mut Live {
        &mut self.live
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Harness, MemoryFile, append, hard_state, small};

    /// Breaks the state of a WAL with one write in flight that no loop has taken, and says which
    /// invariant does not hold.
    fn broken(change: impl FnOnce(&mut State<MemoryFile>)) -> &'static str {
        let mut h = Harness::new(small(), 1);
        h.write(hard_state(1, 1, 1));
        h.write(append(1, 1, 1..4, 10));
        h.submit(append(1, 1, 4..5, 10));
        let wal = h.wal();
        assert_eq!(wal.check(), Ok(()));
        change(&mut wal.state.borrow_mut());
        wal.check().unwrap_err().invariant
    }

    #[test]
    fn each_broken_invariant_between_the_parts_is_named() {
        let nothing = || Pipeline::new(Sequence(0), Sequence(0));
        assert_eq!(
            broken(|state| state.pipeline = nothing()),
            "the last sealed batch was submitted"
        );
        assert_eq!(
            broken(|state| {
                let segment = state.segments.active_segment();
                let sequence = Sequence(u64::MAX);
                state.writes.push_back(Write { sequence, segment, position: 0, block: Vec::new() });
            }),
            "each write that waits for a loop is in flight"
        );
        assert_eq!(
            broken(|state| state.writes[0].sequence = Sequence(0)),
            "no write that waits for a loop is durable"
        );
        assert_eq!(
            broken(|state| {
                state.failure = Some(StorageError::Poisoned { location: String::new() });
            }),
            "a WAL that has stopped writes nothing"
        );
    }

    #[test]
    #[should_panic(expected = "prepared segments continue the active one without a gap")]
    fn a_submit_checks_the_invariants() {
        let mut h = Harness::new(small(), 1);
        h.run();
        h.wal().state.borrow_mut().reserve = Reserve::new(99, Vec::new());
        h.submit(append(1, 1, 1..2, 10));
    }
}
