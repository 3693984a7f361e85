//! The write-ahead log of one shard: one stream of batches for all its groups.
//!
//! Owns the active segment and the path of a batch from [`Wal::submit`] to [`Wal::durable`]. Has no
//! task, clock or random source of its own: the engine runs [`Wal::write_loop`] as often as writes
//! may be in flight, and [`Wal::prepare_loop`] once.
//!
//! Where a batch will lie is decided when it is submitted, so the index knows it at once. A failed
//! write or sync poisons the WAL for good: what the device holds is unknown then, and a second sync
//! that succeeds would prove nothing.

use crate::{
    align::BLOCK,
    batch::{self, Batch, HEADER_BYTES, Kind, Seed, Stamp},
    config::WalConfig,
    disk::{Disk, Durability, File},
    error::{StorageError, SubmitError},
    index::Location,
    live::{Live, Pending},
    pipeline::{Pipeline, Step},
    reserve::Reserve,
    segment::{BatchName, FIRST_BATCH, Header, Segment},
};
use bytes::Bytes;
use event_listener::Event;
use purlin_rsm::{Identity, Sequence, Start};
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
    io,
    ops::Range,
    rc::Rc,
    sync::Arc,
};

/// The write-ahead log of one shard.
pub struct Wal<D: Disk> {
    pub(crate) disk: D,
    pub(crate) config: WalConfig,
    pub(crate) seed: Seed,
    pub(crate) signals: Signals,
    /// Never borrowed across an await, nor while [`Signals::changed`] calls out.
    pub(crate) state: RefCell<State<D::File>>,
    identity: Identity,
    _lock: D::Lock,
}

pub(crate) struct State<F: File> {
    pub(crate) pipeline: Pipeline,
    pub(crate) live: Live,
    /// All segments that hold something needed, the active one included.
    pub(crate) segments: BTreeMap<u64, Rc<Segment<F>>>,
    pub(crate) active: Rc<Segment<F>>,
    pub(crate) reserve: Reserve<F>,
    /// Where the next submitted batch will lie.
    pub(crate) planned: Location,
    /// The last batch that was sealed.
    pub(crate) last_batch: BatchName,
    /// The oldest segment that is needed; stands in every batch and header from now on.
    pub(crate) oldest: u64,
    pub(crate) starts: Vec<Start>,
    pub(crate) epochs: Epochs,
    /// Sealed, and not yet taken by a write loop.
    writes: VecDeque<Write<F>>,
    failure: Option<StorageError>,
    is_closing: bool,
    pub(crate) is_releasing: bool,
    counts: Counts,
}

struct Write<F: File> {
    sequence: Sequence,
    segment: Rc<Segment<F>>,
    position: u64,
    block: F::Block,
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
    /// Segments that hold something needed.
    pub segments: usize,
    /// Segments that wait to become active.
    pub prepared: usize,
    /// Writes in flight.
    pub in_flight: usize,
    /// Batches and headers that wait.
    pub queued: usize,
    /// Marks in the index, 24 bytes each.
    pub marks: usize,
}

/// Wakes those who wait inside the WAL, and the engine.
#[derive(Default)]
pub(crate) struct Signals {
    work: Event,
    progress: Event,
    pub(crate) preparing: Event,
    notify: RefCell<Option<Rc<dyn Fn()>>>,
}

impl Signals {
    /// Something that anybody but a writer may wait for has changed.
    fn changed(&self) {
        self.progress.notify(usize::MAX);
        self.preparing.notify(usize::MAX);
        let notify = self.notify.borrow().clone();
        if let Some(notify) = notify {
            notify();
        }
    }
}

/// Random epochs from a seed (SplitMix64), so that rotation needs nobody.
pub(crate) struct Epochs(u64);

impl Epochs {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// What recovery hands over to a WAL that runs.
pub(crate) struct Opened<D: Disk> {
    pub(crate) disk: D,
    pub(crate) lock: D::Lock,
    pub(crate) identity: Identity,
    pub(crate) config: WalConfig,
    pub(crate) live: Live,
    pub(crate) segments: BTreeMap<u64, Rc<Segment<D::File>>>,
    pub(crate) active: Rc<Segment<D::File>>,
    pub(crate) reserve: Reserve<D::File>,
    pub(crate) last_batch: BatchName,
    /// Where the next batch will lie.
    pub(crate) planned: Location,
    /// Of the active segment's header, which says that all before it is durable.
    pub(crate) header_sequence: Sequence,
    /// What is durable: the header, and what was carried behind it.
    pub(crate) durable: Sequence,
    pub(crate) oldest: u64,
    pub(crate) starts: Vec<Start>,
    pub(crate) epochs: Epochs,
}

impl<D: Disk> Wal<D> {
    pub(crate) fn new(opened: Opened<D>) -> Self {
        let state = State {
            pipeline: Pipeline::new(opened.header_sequence, opened.durable),
            live: opened.live,
            planned: opened.planned,
            segments: opened.segments,
            active: opened.active,
            reserve: opened.reserve,
            last_batch: opened.last_batch,
            oldest: opened.oldest,
            starts: opened.starts,
            epochs: opened.epochs,
            writes: VecDeque::new(),
            failure: None,
            is_closing: false,
            is_releasing: false,
            counts: Counts::default(),
        };
        Self {
            disk: opened.disk,
            seed: Seed::new(&opened.identity),
            identity: opened.identity,
            config: opened.config,
            signals: Signals::default(),
            state: RefCell::new(state),
            _lock: opened.lock,
        }
    }

    /// Calls `notify` whenever [`Self::durable`], [`Self::is_ready`], [`Self::has_space`] or
    /// [`Self::failure`] may have changed, but not from inside a call of [`Self::submit`] or
    /// [`Self::quiet_tick`]. It may call any method of the WAL.
    pub fn set_notify(&self, notify: Rc<dyn Fn()>) {
        *self.signals.notify.borrow_mut() = Some(notify);
    }

    /// Whether a batch submitted now goes to the device at once. Submitting one batch for all groups
    /// whenever this is true batches without lingering.
    pub fn is_ready(&self) -> bool {
        let state = self.state.borrow();
        state.failure.is_none()
            && state.pipeline.queued() == 0
            && state.pipeline.in_flight() < self.config.writes_in_flight_max
    }

    /// Whether there is room for entries, beside the reserve (safety W8). While there is none, take
    /// no new command and no entries of a leader; hard states are still taken.
    pub fn has_space(&self) -> bool {
        !self.state.borrow().reserve.is_full()
    }

    /// Encodes and queues a batch for writing; never waits. Gives the sequence with which all of it
    /// is durable. An empty batch is durable with what was submitted before it.
    ///
    /// What is queued and not in flight is held in memory, so submit when [`Self::is_ready`] only.
    ///
    /// # Panics
    /// When entries leave a gap behind the group's log, or replace entries that were forgotten.
    pub fn submit(&self, batch: Batch) -> Result<Sequence, SubmitError> {
        let sequence = self.accept(batch, false);
        self.wake_writers();
        sequence
    }

    /// Wakes as many writers as there are writes to take, or all when they are to end.
    pub(crate) fn wake_writers(&self) {
        let writers = {
            let state = self.state.borrow();
            if state.has_ended() { usize::MAX } else { state.writes.len() }
        };
        self.signals.work.notify(writers);
    }

    /// Something that anybody may wait for has changed.
    pub(crate) fn changed(&self) {
        self.wake_writers();
        self.signals.changed();
    }

    /// `relocation`: nothing of it is new, so it may be empty and still is to be written.
    pub(crate) fn accept(&self, batch: Batch, relocation: bool) -> Result<Sequence, SubmitError> {
        let mut state = self.state.borrow_mut();
        if state.failure.is_some() {
            return Err(SubmitError::Poisoned(batch));
        }
        if batch.is_empty() && !relocation {
            return Ok(state.pipeline.submitted());
        }
        let write_bytes_max = WalConfig::write_bytes_max(self.config.segment_bytes);
        let records_max = self.config.batch_bytes_max.min(write_bytes_max) - HEADER_BYTES;
        let mut cuts = batch.cuts(records_max);
        if cuts.iter().any(|cut| batch::written_bytes(cut.len()) > write_bytes_max) {
            return Err(SubmitError::TooLarge(batch));
        }
        if cuts.is_empty() {
            cuts.push(0..0);
        }
        if batch.has_entries() && !state.has_room(&cuts, self.config.segment_bytes) {
            purlin_rsm::sometimes!("entries refused for want of space");
            state.reserve.kick();
            self.signals.preparing.notify(usize::MAX);
            return Err(SubmitError::NoSpace(batch));
        }
        let urgent = !batch.has_entries();
        let bytes = batch.into_bytes();
        for cut in cuts {
            state.plan(bytes.slice(cut), urgent, self.config.segment_bytes);
        }
        let sequence = state.pipeline.submitted();
        self.start_writes(&mut state);
        Ok(sequence)
    }

    /// The watermark: everything up to it is durable (safety W1).
    pub fn durable(&self) -> Sequence {
        self.state.borrow().pipeline.durable()
    }

    /// The last sequence given out.
    pub fn submitted(&self) -> Sequence {
        self.state.borrow().pipeline.submitted()
    }

    /// Call once in each tick in which nothing was submitted. Writes the closing batch when safety W9
    /// asks for it, and tries for space again after there was none.
    pub fn quiet_tick(&self) {
        self.seek_space();
        let mut state = self.state.borrow_mut();
        if state.failure.is_some() || !state.pipeline.wants_closing() {
            return;
        }
        if state.planned.position() + BLOCK as u64 <= self.config.segment_bytes {
            purlin_rsm::sometimes!("closing batch written");
            state.pipeline.plan_batch(Kind::Closing, Bytes::new());
            state.planned = state.planned.behind(BLOCK);
        } else {
            purlin_rsm::sometimes!("header written instead of a closing batch");
            // The next segment's header names the last batch, which says the same.
            state.plan_header(true);
        }
        self.start_writes(&mut state);
        drop(state);
        self.wake_writers();
    }

    /// Tries for space again after there was none; [`Self::quiet_tick`] does it too. Each failure makes the
    /// next attempt wait for more of these calls.
    pub fn seek_space(&self) {
        if self.state.borrow_mut().reserve.kick() {
            self.signals.preparing.notify(usize::MAX);
        }
    }

    /// Why the WAL has stopped, if it has. It never runs again.
    pub fn failure(&self) -> Option<StorageError> {
        self.state.borrow().failure.clone()
    }

    /// This start and those before it, the latest last (safety I4).
    pub fn starts(&self) -> Vec<Start> {
        self.state.borrow().starts.clone()
    }

    /// Whose WAL this is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Figures for people and metrics.
    pub fn stats(&self) -> WalStats {
        let state = self.state.borrow();
        WalStats {
            batches: state.counts.batches,
            closing_batches: state.counts.closing_batches,
            rotations: state.counts.rotations,
            record_bytes: state.counts.record_bytes,
            written_bytes: state.counts.written_bytes,
            syncs: state.counts.syncs,
            segments: state.segments.len(),
            prepared: state.reserve.prepared(),
            in_flight: state.pipeline.in_flight(),
            queued: state.pipeline.queued(),
            marks: state.live.marks(),
        }
    }

    /// Lets the loops end once what is submitted is durable.
    pub fn close(&self) {
        self.state.borrow_mut().is_closing = true;
        self.changed();
    }

    /// Returns when everything up to `sequence` is durable.
    pub async fn wait_durable(&self, sequence: Sequence) -> Result<(), StorageError> {
        loop {
            let progress = self.signals.progress.listen();
            if self.durable() >= sequence {
                return Ok(());
            }
            if self.failure().is_some() {
                return Err(StorageError::Poisoned { location: self.disk.location() });
            }
            progress.await;
        }
    }

    /// Writes one block after another. Run as many of these as writes may be in flight; they end when
    /// the WAL is poisoned, or closed and done.
    pub async fn write_loop(self: Rc<Self>) {
        loop {
            let work = self.signals.work.listen();
            match self.take_write() {
                Taken::Write(write) => {
                    // A wake that came to this one is for another.
                    drop(work);
                    self.write(write).await;
                }
                Taken::Nothing => work.await,
                Taken::Ended => return,
            }
        }
    }

    fn take_write(&self) -> Taken<D::File> {
        let mut state = self.state.borrow_mut();
        if state.failure.is_some() {
            return Taken::Ended;
        }
        match state.writes.pop_front() {
            Some(write) => Taken::Write(write),
            None if state.is_closing && state.pipeline.durable() == state.pipeline.submitted() => {
                Taken::Ended
            }
            None => Taken::Nothing,
        }
    }

    async fn write(&self, write: Write<D::File>) {
        let Write { sequence, segment, position, block } = write;
        // W8: also when it says that the disk is full. The place was prepared, so the file system
        // has lied, and what it holds now is unknown.
        if let Err(error) = segment.file.write_at(block, position).await {
            purlin_rsm::sometimes!("WAL poisoned by a write");
            return self.poison("writing", &segment.name, error);
        }
        match self.config.durability {
            Durability::EachWrite => self.complete(|pipeline| pipeline.is_durable(sequence)),
            Durability::OnSync => {
                self.state.borrow_mut().pipeline.is_written(sequence);
                self.sync(&segment).await;
            }
        }
    }

    /// Syncs until nothing written is left without. All in flight lies in one segment, since a header
    /// is in flight alone. Where another loop syncs already, that one goes on.
    async fn sync(&self, segment: &Segment<D::File>) {
        while self.begin_sync() {
            match segment.file.sync().await {
                Ok(()) => self.complete(Pipeline::end_sync),
                // Never again: a later success would not cover what this one may have dropped.
                Err(error) => return self.poison("a sync", &segment.name, error),
            }
        }
    }

    fn begin_sync(&self) -> bool {
        let mut state = self.state.borrow_mut();
        let begins = state.failure.is_none() && state.pipeline.begin_sync();
        state.counts.syncs += u64::from(begins);
        begins
    }

    fn complete(&self, completion: impl FnOnce(&mut Pipeline)) {
        {
            let mut state = self.state.borrow_mut();
            // After a failure nothing more is acknowledged, whatever still completes.
            if state.failure.is_some() {
                return;
            }
            completion(&mut state.pipeline);
            self.start_writes(&mut state);
        }
        self.changed();
    }

    /// Stops the WAL for good; the first reason stays.
    pub(crate) fn poison(&self, action: &'static str, file: &str, error: io::Error) {
        {
            let mut state = self.state.borrow_mut();
            if state.failure.is_some() {
                return;
            }
            purlin_rsm::sometimes!(action == "a sync", "WAL poisoned by a sync");
            tracing::error!(file, %error, "{action} failed: the write-ahead log stops");
            state.failure = Some(StorageError::Io {
                location: format!("{}, {file}", self.disk.location()),
                action,
                means: "what was acknowledged is durable; what was not may be or not, and the \
                        write-ahead log takes nothing more",
                source: Arc::new(error),
            });
            state.writes.clear();
        }
        self.changed();
    }

    /// Seals what may be in flight now.
    pub(crate) fn start_writes(&self, state: &mut State<D::File>) {
        while let Some(step) = state.pipeline.next(self.config.writes_in_flight_max) {
            match *step {
                Step::Header { number, urgent, .. } => {
                    if !self.start_segment(state, number, urgent) {
                        return;
                    }
                }
                Step::Batch { .. } => self.start_batch(state),
            }
        }
    }

    /// Makes segment `number` the active one and queues its header. False while there is none.
    fn start_segment(&self, state: &mut State<D::File>, number: u64, urgent: bool) -> bool {
        let Some(prepared) = state.reserve.take(urgent) else { return false };
        assert_eq!(prepared.number, number, "segments are used in the order of their numbers");
        let Step::Header { sequence, .. } = state.pipeline.start(state.last_batch.sequence) else {
            unreachable!("the next step was a header")
        };
        let epoch = state.epochs.draw();
        let header = Header {
            identity: self.identity,
            number,
            epoch,
            sequence,
            previous: state.last_batch,
            oldest: state.oldest,
            bytes: self.config.segment_bytes,
            starts: state.starts.clone(),
        };
        let segment = Rc::new(Segment {
            number,
            name: prepared.name,
            epoch,
            sequence,
            bytes: self.config.segment_bytes,
            end: Cell::new(FIRST_BATCH),
            file: prepared.file,
        });
        let mut block = segment.file.block(BLOCK);
        header.write(block.as_mut());
        state.segments.insert(number, segment.clone());
        state.active = segment.clone();
        state.counts.rotations += 1;
        state.counts.written_bytes += BLOCK as u64;
        state.writes.push_back(Write { sequence, segment, position: 0, block });
        self.signals.preparing.notify(usize::MAX);
        true
    }

    fn start_batch(&self, state: &mut State<D::File>) {
        let watermark = state.pipeline.durable();
        let Step::Batch { sequence, kind, records } = state.pipeline.start(watermark) else {
            unreachable!("the next step was a batch")
        };
        let segment = state.active.clone();
        let position = segment.end.get();
        let written = batch::written_bytes(records.len());
        let mut block = segment.file.block(written);
        let stamp = Stamp { epoch: segment.epoch, sequence, watermark, oldest: state.oldest, kind };
        let checksum = batch::seal(block.as_mut(), self.seed, &stamp, &records);
        state.last_batch = BatchName { segment: segment.number, sequence, checksum };
        segment.end.set(position + written as u64);
        state.counts.batches += 1;
        state.counts.closing_batches += u64::from(kind == Kind::Closing);
        state.counts.record_bytes += records.len() as u64;
        state.counts.written_bytes += written as u64;
        state.writes.push_back(Write { sequence, segment, position, block });
    }
}

enum Taken<F: File> {
    Write(Write<F>),
    Nothing,
    Ended,
}

impl<F: File> State<F> {
    /// Whether nothing more is to be prepared.
    pub(crate) fn has_ended(&self) -> bool {
        self.failure.is_some() || self.is_closing
    }

    /// Whether all `cuts` of a batch with entries fit without touching the reserve (safety W8).
    fn has_room(&self, cuts: &[Range<usize>], segment_bytes: u64) -> bool {
        let mut position = self.planned.position();
        let mut rotations = 0;
        for cut in cuts {
            let written = batch::written_bytes(cut.len()) as u64;
            if position + written > segment_bytes {
                rotations += 1;
                position = FIRST_BATCH;
            }
            position += written;
        }
        self.reserve.has_room(rotations, self.pipeline.queued_headers())
    }

    /// Decides where a batch will lie, and lets the index know.
    fn plan(&mut self, records: Bytes, urgent: bool, segment_bytes: u64) {
        let written = batch::written_bytes(records.len());
        if self.planned.position() + written as u64 > segment_bytes {
            self.plan_header(urgent);
        }
        let sequence = self.pipeline.plan_batch(Kind::Records, records.clone());
        let pending = Pending { sequence, durable: self.pipeline.durable() };
        let taken = self.live.apply(&records, self.planned, written, Some(pending), |_| ());
        taken.expect("a batch holds what its methods put in");
        self.planned = self.planned.behind(written);
    }

    fn plan_header(&mut self, urgent: bool) {
        self.planned = Location::first(self.planned.segment + 1);
        self.pipeline.plan_header(self.planned.segment, urgent);
    }
}
