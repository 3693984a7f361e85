//! Stage 3: writes the writes of all groups to the WAL in one batch, and tells the groups what is
//! durable.

use crate::{
    config::NodeConfig,
    control::{
        histogram::Histogram,
        status::{Level, WalStatus},
    },
    error::{Error, ErrorKind},
    shard::groups::Groups,
    wake::Wake,
};
use purlin_rsm::{Entry, GroupId, PeerMemory, RequestError, Sequence, Tick, WriteId, raft::Append};
use purlin_storage::{Batch, Disk, SubmitError, Wal};
use std::{
    collections::{BTreeSet, VecDeque},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

/// The writes that wait for the WAL, and the batches in flight.
pub(crate) struct AppendStage<D: Disk> {
    wal: Rc<Wal<D>>,
    /// The writes that wait, in the order in which they came.
    pending: Writes,
    /// The cost of the entries in `pending`. At `pending_bytes_max` new proposals are refused as busy.
    pending_bytes: usize,
    pending_bytes_max: usize,
    in_flight: VecDeque<InFlight>,
    progress: Progress,
    quickness: Quickness,
    /// What is newly known of peers. It joins the next batch, and causes a batch only if a peer was
    /// fenced (safety I4). A write is progress that peers learn of. If their progress caused a write
    /// here, two idle shards would keep each other writing.
    memories: Memories,
    /// The records that the WAL writes at once: a batch that is full is one write.
    batch_bytes_max: usize,
    /// The last attempt found no room for entries.
    is_full: bool,
    /// When a batch was last submitted. The WAL is told of a beat without one.
    written_at: Tick,
    /// When the WAL was last told of the time.
    beat_at: Duration,
    /// The time from the submit of each batch until this shard noticed that it is durable.
    latency: Histogram,
}

struct InFlight {
    sequence: Sequence,
    /// The writes that are durable when the batch is.
    writes: Vec<(GroupId, WriteId)>,
    has_entries: bool,
    since: Tick,
    submitted_at: Duration,
}

/// When the disk last made something durable, or last had nothing to do.
///
/// A disk hangs when nothing that it was given becomes durable. The age of a batch says less: a large
/// batch takes long on a slow disk that works at its full speed.
#[derive(Default)]
struct Progress {
    durable: Sequence,
    at: Tick,
    /// When it last made something durable after it had stood for longer than `timeout`.
    stood_at: Option<Tick>,
    /// The shortest election timeout, in ticks.
    timeout: u64,
}

/// After a disk has stood, its shard is unfit to take leaderships over for so many election timeouts: a disk that stands
/// now and then is seldom seen while it does.
const SLOW_TIMEOUTS: u64 = 4;

impl Progress {
    /// Notes what is durable now. `was_given`: batches of groups were in flight until now. The WAL writes some of its
    /// own, and how long it had nothing to do says nothing.
    fn note(&mut self, now: Tick, durable: Sequence, was_given: bool) {
        if durable > self.durable {
            if was_given && self.stands(now) {
                self.stood_at = Some(now);
            }
            (self.durable, self.at) = (durable, now);
        }
    }

    /// Whether a disk that was given something has made nothing durable for longer than an election timeout.
    fn stands(&self, now: Tick) -> bool {
        self.at.0 + self.timeout < now.0
    }

    /// Whether it has stood lately.
    fn has_stood(&self, now: Tick) -> bool {
        self.stood_at.is_some_and(|at| now.0 <= at.0 + SLOW_TIMEOUTS * self.timeout)
    }
}

/// How long this disk lately took to make a batch durable. It decides whether a batch goes out beside one that is in flight.
///
/// On a quick disk it waits for the one in flight: that is a fraction of a millisecond, and what comes meanwhile shares
/// the write. Each write costs the processor as much as some hundred commands (docs/bench.md). On a slow disk the wait
/// would be a second sync for the commands in it, so the batch goes out at once. So does a single write beside a single
/// batch: with one client nothing else comes to share its write, and a node that is a little behind the others would stay
/// behind.
#[derive(Default)]
struct Quickness {
    /// Over about the last eight batches.
    typical: Duration,
}

impl Quickness {
    /// A disk is quick if it takes no longer than this.
    const MAX: Duration = Duration::from_micros(500);

    fn note(&mut self, took: Duration) {
        self.typical = (self.typical * 7 + took.min(Self::MAX * 16)) / 8;
    }

    /// Whether the next batch, of `writes` writes of groups, may go out beside `batches` in flight, of which the newest
    /// was submitted so long ago.
    fn lets_go(&self, writes: usize, batches: usize, in_flight_for: Duration) -> bool {
        let is_single = (writes, batches) == (1, 1);
        is_single || self.typical > Self::MAX || in_flight_for > Self::MAX
    }
}

impl<D: Disk> AppendStage<D> {
    pub(crate) fn new(wal: Rc<Wal<D>>, node: &NodeConfig, wake: Arc<Wake>) -> Self {
        let timeout = node.raft.ticks(node.raft.election_timeout.start);
        wal.set_notify(Rc::new(move || wake.notify()));
        let batch_bytes_max = wal.records_bytes_max();
        Self {
            wal,
            pending: Writes::new(),
            pending_bytes: 0,
            pending_bytes_max: node.intake.request_bytes_max,
            in_flight: VecDeque::new(),
            progress: Progress { timeout, ..Progress::default() },
            quickness: Quickness::default(),
            memories: Memories::default(),
            batch_bytes_max,
            is_full: false,
            written_at: Tick(0),
            beat_at: Duration::ZERO,
            latency: Histogram::default(),
        }
    }

    /// Adds a write of a group to the next batch.
    pub(crate) fn push(&mut self, group: GroupId, append: Append) {
        let bytes = cost(&append);
        self.pending_bytes += bytes;
        let piece_bytes_max = self.batch_bytes_max - overhead(self.batch_bytes_max);
        if bytes <= piece_bytes_max {
            self.pending.push_back(QueuedWrite { group, append, is_last: true });
        } else {
            self.pending.extend(QueuedWrite::pieces(group, append, piece_bytes_max));
        }
    }

    /// Adds what is newly known of peers to the next batch.
    pub(crate) fn remember(&mut self, memories: Vec<PeerMemory>) {
        memories.into_iter().for_each(|memory| self.memories.add(memory));
    }

    /// Tells the groups which of their writes are durable, in the order of the batches. The batches may
    /// complete in any order (safety W1).
    pub(crate) fn complete(&mut self, now: Tick, at: Duration, groups: &mut Groups) {
        let durable = self.wal.durable();
        self.progress.note(now, durable, !self.in_flight.is_empty());
        while self.in_flight.front().is_some_and(|batch| batch.sequence <= durable) {
            let Some(batch) = self.in_flight.pop_front() else { return };
            let took = at.saturating_sub(batch.submitted_at);
            self.latency.record(took);
            self.quickness.note(took);
            for (at, (group, write)) in batch.writes.iter().copied().enumerate() {
                let ahead = |by| batch.writes.get(at + by).map(|(group, _)| *group);
                groups.look_ahead_for(ahead(1), ahead(2));
                let Some(slot) = groups.slot(group) else { continue };
                if let Some(group) = groups.peek_mut(slot) {
                    group.raft.appended(now, write);
                }
                groups.touch_if_needed(slot);
            }
        }
    }

    /// Submits what waits, while the WAL is ready for batches, and the disk is not about to end the last one
    /// ([`Quickness`]). Writes that come meanwhile join the next batch: no timer collects them.
    ///
    /// # Errors
    /// The WAL has failed: nothing is tried again, and the shard stops.
    pub(crate) fn submit(&mut self, now: Tick, clock: impl Fn() -> Duration) -> Result<(), Error> {
        if let Some(failure) = self.wal.failure() {
            return Err(Error::disk_failed(&failure));
        }
        while self.wal.is_ready()
            && (!self.pending.is_empty() || self.memories.are_urgent())
            && self.may_go_out(clock())
        {
            if !self.submit_one(now, &clock, true)? && !self.submit_one(now, &clock, false)? {
                break;
            }
        }
        Ok(())
    }

    /// Whether a batch may go out now: none is in flight, it is a full one, or it gains nothing by waiting.
    fn may_go_out(&self, at: Duration) -> bool {
        let Some(newest) = self.in_flight.back() else { return true };
        let (writes, batches) = (self.pending.len(), self.in_flight.len());
        let in_flight_for = at.saturating_sub(newest.submitted_at);
        let waits = !self.quickness.lets_go(writes, batches, in_flight_for)
            && self.pending_bytes < self.batch_bytes_max;
        purlin_rsm::sometimes!(waits, "batch waits for the one in flight");
        !waits
    }

    /// Submits one batch. Returns whether the WAL accepted one.
    fn submit_one(
        &mut self,
        now: Tick,
        clock: impl Fn() -> Duration,
        with_entries: bool,
    ) -> Result<bool, Error> {
        let bytes = self.pending_bytes + overhead(self.pending_bytes);
        let mut batch = Batch::with_capacity(bytes.min(self.batch_bytes_max));
        // On a full disk they would use up the reserve for hard states (safety W8).
        let with_memories = with_entries || self.memories.are_urgent();
        if with_memories {
            self.memories.0.iter().for_each(|memory| batch.peer(*memory));
        }
        let taken = if with_entries {
            self.fill(&mut batch)
        } else {
            self.fill_without_entries(&mut batch)
        };
        if batch.is_empty() {
            self.is_full = !with_entries;
            return Ok(false);
        }
        match self.wal.submit(batch) {
            Ok(sequence) => {
                if with_memories {
                    self.memories.0.clear();
                }
                if self.in_flight.is_empty() {
                    self.progress.at = now;
                }
                self.pending_bytes -= taken.iter().map(|it| cost(&it.append)).sum::<usize>();
                let durable = taken.iter().filter(|it| it.is_last);
                let writes = durable.map(|it| (it.group, it.append.write)).collect();
                self.in_flight.push_back(InFlight {
                    sequence,
                    writes,
                    has_entries: taken.iter().any(|it| !it.append.entries.is_empty()),
                    since: now,
                    submitted_at: clock(),
                });
                // That a hard state found room says nothing about entries.
                let has_entries = self.in_flight.back().is_some_and(|it| it.has_entries);
                self.is_full =
                    !with_entries || (self.is_full && !has_entries && !self.wal.has_space());
                self.written_at = now;
                Ok(true)
            }
            Err(SubmitError::NoSpace(_)) => {
                purlin_rsm::sometimes!("write with entries waits for space");
                self.put_back(taken);
                self.is_full = true;
                Ok(false)
            }
            Err(SubmitError::Poisoned(_)) => {
                Err(Error::disk_failed(&self.wal.failure().expect("a poisoned WAL says why")))
            }
            Err(SubmitError::TooLarge(_)) => Err(too_long()),
        }
    }

    /// Fills a batch with what waits, in order, up to `batch_bytes_max`: with one write at least, and with no more
    /// than fits. Returns what is in the batch. The cost does not depend on how much waits behind it.
    fn fill(&mut self, batch: &mut Batch) -> Writes {
        let mut taken = Writes::new();
        while let Some(next) = self.pending.front()
            && (taken.is_empty() || batch.bytes() + longest(&next.append) <= self.batch_bytes_max)
        {
            put(batch, next);
            taken.extend(self.pending.pop_front());
        }
        taken
    }

    /// Fills a batch with the hard states that wait: on a full disk they still go out. A hard state behind
    /// waiting entries of its group waits too, since the writes of a group complete in order (safety A2). That costs no
    /// group its service. A leader commits nothing, and so answers no read, without a majority that writes entries. Such
    /// a majority elects one of its own, without the vote that waits here.
    fn fill_without_entries(&mut self, batch: &mut Batch) -> Writes {
        let (mut taken, mut left, mut blocked) = (Writes::new(), Writes::new(), BTreeSet::new());
        for next in std::mem::take(&mut self.pending) {
            let has_entries = !next.append.entries.is_empty();
            purlin_rsm::sometimes!(has_entries, "hard states written while entries wait for space");
            if batch.bytes() >= self.batch_bytes_max || has_entries || blocked.contains(&next.group)
            {
                blocked.insert(next.group);
                left.push_back(next);
                continue;
            }
            put(batch, &next);
            taken.push_back(next);
        }
        self.pending = left;
        taken
    }

    /// Puts writes back that were not submitted, before the others. This keeps the order within each
    /// group, and no other order matters.
    fn put_back(&mut self, mut writes: Writes) {
        writes.append(&mut self.pending);
        self.pending = writes;
    }

    /// Tells the WAL of a quiet beat, so that it may write a closing batch (safety W9). Lets the WAL look
    /// for space when it has none: batches may wait in the WAL for a segment while nothing waits here. And the WAL
    /// learns how much time has passed, since it prepares segments for the present rate.
    pub(crate) fn beat(&mut self, last: Tick, at: Duration) {
        self.wal.note_time(at.saturating_sub(self.beat_at));
        self.beat_at = at;
        if self.written_at < last && (self.is_idle() || self.is_full) {
            self.wal.quiet_tick();
        } else {
            self.wal.seek_space();
        }
    }

    /// Lets what was submitted become durable, and writes the closing batch that safety W9 asks for. It never returns if
    /// the disk hangs, and returns at once if it has failed.
    pub(crate) async fn close(&self) {
        if let Err(error) = self.wal.close().await {
            tracing::warn!("the log was not closed: {error}");
        }
    }

    /// Whether writes of groups wait for a batch.
    pub(crate) fn has_writes(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether nothing waits to be written or to become durable.
    pub(crate) fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.in_flight.is_empty()
    }

    /// Since when the disk has made nothing durable, or `None` if nothing is in flight.
    pub(crate) fn without_progress_since(&self) -> Option<Tick> {
        (!self.in_flight.is_empty()).then_some(self.progress.at)
    }

    /// Whether the disk hangs: nothing that is in flight has become durable since `limit`. Or the oldest batch was
    /// submitted before `oldest`: a disk that takes so long for one batch is of no use, whatever its progress.
    pub(crate) fn is_stalled(&self, limit: Tick, oldest: Tick) -> bool {
        self.without_progress_since().is_some_and(|since| since < limit)
            || self.in_flight.front().is_some_and(|batch| batch.since < oldest)
    }

    /// Whether the disk stands for longer than an election timeout, or has lately: its shard is no good leader.
    pub(crate) fn is_slow(&self, now: Tick) -> bool {
        let stands = !self.in_flight.is_empty() && self.progress.stands(now);
        stands || self.progress.has_stood(now)
    }

    /// Why new proposals are refused, or `None` if they are accepted.
    pub(crate) fn refusal(&self) -> Option<RequestError> {
        if self.is_full {
            purlin_rsm::sometimes!("proposal refused, the disk is full");
            return Some(RequestError::NoSpace);
        }
        // The disk is far behind. The deadline of a request ends the request, but its entry would still
        // wait in memory: so the entries need a bound of their own.
        (self.pending_bytes >= self.pending_bytes_max).then_some(RequestError::Busy)
    }

    /// Whether the last attempt found no room for entries.
    pub(crate) fn is_full(&self) -> bool {
        self.is_full
    }

    /// Whether there is no room for entries, or soon will be none, or there was none and there is not much again.
    pub(crate) fn lacks_space(&self) -> bool {
        self.is_full || self.wal.lacks_room()
    }

    /// The figures of the WAL, for operators.
    pub(crate) fn fill_status(&self, status: &mut WalStatus) {
        status.figures = self.wal.stats();
        status.pending_writes = self.pending.len();
        status.pending_bytes = Level { now: self.pending_bytes, max: self.pending_bytes_max };
        status.latency.clone_from(&self.latency);
    }

    /// Checks that the batches in flight agree with the WAL.
    pub(crate) fn check(&self) -> Result<(), String> {
        let ends = self.in_flight.front().zip(self.in_flight.back());
        let Some((first, last)) = ends else { return Ok(()) };
        check_in_flight(self.wal.durable(), first.sequence, last.sequence, self.wal.submitted())
    }

    /// Checks that the batches in flight are in order, and that the bytes that wait are counted right.
    pub(crate) fn check_deeply(&self) -> Result<(), String> {
        if !self.in_flight.iter().is_sorted_by(|one, next| one.sequence < next.sequence) {
            return Err("append: batches in flight out of order".into());
        }
        check_pending(&self.pending, self.pending_bytes)
    }

    /// The last batch that is durable.
    pub(crate) fn durable(&self) -> Sequence {
        self.wal.durable()
    }
}

/// Each batch in flight was submitted, and is not durable.
fn check_in_flight(
    durable: Sequence,
    first: Sequence,
    last: Sequence,
    submitted: Sequence,
) -> Result<(), String> {
    if durable < first && last <= submitted {
        return Ok(());
    }
    Err(format!(
        "append: batches {first} to {last} are in flight; the WAL has {durable} durable and {submitted} submitted"
    ))
}

fn check_pending(pending: &Writes, counted: usize) -> Result<(), String> {
    let bytes: usize = pending.iter().map(|it| cost(&it.append)).sum();
    if bytes == counted {
        return Ok(());
    }
    Err(format!("append: {bytes} bytes wait, counted as {counted}"))
}

/// The error for an entry that is too long for the WAL. Commands of clients are bounded at intake, so
/// only a leader with larger segments can send such an entry.
fn too_long() -> Error {
    Error::new(
        ErrorKind::Config,
        "an entry of another node is longer than this node's write-ahead log takes",
        "[wal] segment of this node's configuration",
        "the shard stops, since it cannot follow; nothing is lost",
        "make the segments of this node as large as those of the other nodes",
    )
}

/// The latest memory of each peer. Newer ones replace older ones, since an idle shard may learn of peers
/// for a long time without a write.
#[derive(Default)]
struct Memories(Vec<PeerMemory>);

impl Memories {
    fn add(&mut self, memory: PeerMemory) {
        let key = |it: &PeerMemory| (it.node, it.incarnation, it.shard);
        match self.0.binary_search_by_key(&key(&memory), key) {
            Ok(place) => self.0[place] = memory,
            Err(place) => self.0.insert(place, memory),
        }
    }

    fn are_urgent(&self) -> bool {
        self.0.iter().any(|memory| memory.fenced)
    }
}

type Writes = VecDeque<QueuedWrite>;

/// A write of a group that waits for a batch, or a piece of it.
struct QueuedWrite {
    group: GroupId,
    append: Append,
    /// The end of the write is in it: only then is the write durable as a whole.
    is_last: bool,
}

impl QueuedWrite {
    /// Cuts a write between entries, so that each piece costs at most `bytes_max` or has one entry. The hard state is
    /// in the first.
    fn pieces(group: GroupId, append: Append, bytes_max: usize) -> Vec<Self> {
        let Append { write, entries, hard_state } = append;
        let piece = |hard_state, entries| Self {
            group,
            append: Append { write, entries, hard_state },
            is_last: false,
        };
        let mut pieces = vec![piece(hard_state, Vec::new())];
        let mut bytes = 0;
        for entry in entries {
            bytes += entry.cost();
            let last = pieces.last_mut().expect("there is a first one");
            if bytes <= bytes_max || last.append.entries.is_empty() {
                last.append.entries.push(entry);
            } else {
                purlin_rsm::sometimes!("write of a group cut over two batches");
                bytes = entry.cost();
                pieces.push(piece(None, vec![entry]));
            }
        }
        pieces.last_mut().expect("there is a first one").is_last = true;
        pieces
    }
}

fn put(batch: &mut Batch, write: &QueuedWrite) {
    // The hard state comes before the entries that came with it (safety A2).
    if let Some(state) = write.append.hard_state {
        batch.hard_state(write.group, state);
    }
    batch.entries(write.group, &write.append.entries);
}

/// The records of a write take no more bytes than this, unless its entries are of many terms.
fn longest(append: &Append) -> usize {
    let cost = cost(append);
    cost + overhead(cost)
}

/// What records take in addition to entries that cost `cost`: a hard state, and a head for each run.
fn overhead(cost: usize) -> usize {
    const HARD_STATE: usize = 64;
    const RUN_HEAD: usize = 64;
    const RUN_COST_LEAST: usize = 4 << 10;
    HARD_STATE + RUN_HEAD * (1 + cost / RUN_COST_LEAST)
}

/// About the memory that a write takes.
fn cost(append: &Append) -> usize {
    append.entries.iter().map(Entry::cost).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use purlin_rsm::{
        BootId, HardState, Incarnation, Index, NodeId, Payload, Position, ShardId, Term,
    };

    #[test]
    fn batches_in_flight_that_the_wal_contradicts_are_named() {
        let check = |durable, first, last, submitted| {
            check_in_flight(Sequence(durable), Sequence(first), Sequence(last), Sequence(submitted))
        };
        assert_eq!(check(4, 5, 7, 7), Ok(()));
        assert!(
            check(5, 5, 7, 7).unwrap_err().contains("5 to 7 are in flight"),
            "5 was not reported"
        );
        assert!(check(4, 5, 7, 6).is_err(), "7 was never submitted");
    }

    #[test]
    fn bytes_that_wait_and_are_counted_wrongly_are_named() {
        let append = Append { write: WriteId(1), entries: Vec::new(), hard_state: None };
        let pending = Writes::from([QueuedWrite { group: GroupId(1), append, is_last: true }]);
        assert_eq!(check_pending(&pending, 0), Ok(()));
        assert!(check_pending(&pending, 1).unwrap_err().contains("0 bytes wait, counted as 1"));
    }

    /// A full batch is one write and no crumb behind it.
    #[test]
    fn what_fits_into_a_batch_fits_into_one_write() {
        let records_max = 256 * 1024 - 56;
        for value in [0, 1, 100, 1000, 2015, 4000, 8000, 20_000, 100_000] {
            let entry = |index| Entry {
                term: Term(1),
                index: Index(index),
                before: Position(index - 1),
                payload: Payload::command(vec![0; value].into()),
            };
            let count = 3 * records_max as u64 / (value as u64 + 32) + 3;
            let state = HardState { term: Term(1), vote: None, committed: Index(0) };
            let append = Append {
                write: WriteId(7),
                entries: (1..=count).map(entry).collect(),
                hard_state: Some(state),
            };
            let piece_bytes_max = records_max - overhead(records_max);
            for piece in QueuedWrite::pieces(GroupId(1), append, piece_bytes_max) {
                let mut batch = Batch::default();
                put(&mut batch, &piece);
                let (bytes, bound) = (batch.bytes(), longest(&piece.append));
                assert!(bytes <= bound, "values of {value}: {bytes} bytes, and not {bound}");
                assert!(bound <= records_max, "values of {value}: {bound} bytes");
            }
        }
    }

    /// A long write goes out in pieces, each within the bound of a batch, and is durable with its last one.
    #[test]
    fn a_write_is_cut_between_entries_and_complete_with_its_last_piece() {
        let entry = |index| Entry {
            term: Term(1),
            index: Index(index),
            before: Position(index - 1),
            payload: Payload::command(vec![0; 968].into()),
        };
        assert_eq!(entry(1).cost(), 1000);
        let state = HardState { term: Term(1), vote: None, committed: Index(0) };
        let append = Append {
            write: WriteId(7),
            entries: (1..=5).map(entry).collect(),
            hard_state: Some(state),
        };
        let pieces = |bytes_max| -> Vec<_> {
            let pieces = QueuedWrite::pieces(GroupId(1), append.clone(), bytes_max);
            assert!(pieces.iter().all(|piece| piece.append.write == WriteId(7)));
            let indexes = |piece: &QueuedWrite| {
                let indexes: Vec<_> = piece.append.entries.iter().map(|it| it.index.0).collect();
                (indexes, piece.append.hard_state.is_some(), piece.is_last)
            };
            pieces.iter().map(indexes).collect()
        };
        assert_eq!(
            pieces(2999),
            [(vec![1, 2], true, false), (vec![3, 4], false, false), (vec![5], false, true)]
        );
        assert_eq!(pieces(5000), [(vec![1, 2, 3, 4, 5], true, true)]);
        let single = pieces(10);
        assert_eq!(
            (single.len(), &single[0], &single[4]),
            (5, &(vec![1], true, false), &(vec![5], false, true))
        );
        let empty = Append { entries: Vec::new(), ..append.clone() };
        assert_eq!(QueuedWrite::pieces(GroupId(1), empty, 10).len(), 1, "a hard state alone");
    }

    #[test]
    fn a_disk_hangs_when_nothing_becomes_durable_and_not_when_a_batch_is_old() {
        let mut progress = Progress::default();
        progress.note(Tick(5), Sequence(1), true);
        progress.note(Tick(9), Sequence(1), true);
        assert_eq!(progress.at, Tick(5), "nothing new");
        progress.note(Tick(9), Sequence(2), true);
        assert_eq!(progress.at, Tick(9));
    }

    #[test]
    fn a_disk_has_stood_if_it_took_longer_than_an_election_timeout_and_for_four_more() {
        let mut progress = Progress { timeout: 50, ..Progress::default() };
        progress.note(Tick(50), Sequence(1), true);
        assert!(!progress.has_stood(Tick(50)) && !progress.stands(Tick(100)));
        assert!(progress.stands(Tick(101)), "while it does");
        progress.note(Tick(1000), Sequence(2), false);
        assert!(!progress.has_stood(Tick(1000)), "it was given nothing");
        progress.at = Tick(50);
        progress.note(Tick(101), Sequence(3), true);
        assert!(progress.has_stood(Tick(301)) && !progress.has_stood(Tick(302)));
    }

    /// On a quick disk a batch waits for the one before it, and not for one that stands, when the next turn comes.
    #[test]
    fn a_batch_waits_for_the_one_in_flight_on_a_quick_disk_only() {
        let micros = Duration::from_micros;
        let mut quickness = Quickness::default();
        (0..100).for_each(|_| quickness.note(micros(120)));
        assert!(!quickness.lets_go(2, 1, micros(100)) && !quickness.lets_go(1, 2, micros(100)));
        assert!(quickness.lets_go(1, 1, micros(0)), "nothing comes to share it");
        assert!(quickness.lets_go(2, 1, micros(501)), "it stands for once");
        assert!(!quickness.lets_go(2, 1, micros(500)));
        let just_quick = Quickness { typical: Quickness::MAX };
        assert!(!just_quick.lets_go(2, 1, micros(0)));
        quickness.note(Duration::from_secs(5));
        assert!(quickness.lets_go(2, 1, micros(0)), "one batch that stood counts");
        (0..40).for_each(|_| quickness.note(micros(120)));
        assert!(!quickness.lets_go(2, 1, micros(100)), "and is forgotten");
        (0..40).for_each(|_| quickness.note(micros(900)));
        assert!(quickness.lets_go(2, 1, micros(0)), "a slow disk");
    }

    #[test]
    fn of_each_peer_only_the_latest_memory_waits() {
        let mut memories = Memories::default();
        let memory = |node, durable| PeerMemory {
            node: NodeId(node),
            incarnation: Incarnation(1),
            shard: ShardId(0),
            start: 1,
            boot: BootId(1),
            durable: Sequence(durable),
            fenced: false,
        };
        (0..1000).for_each(|beat| memories.add(memory(2 + beat % 2, u64::from(beat))));
        let kept = memories.0;
        assert_eq!(kept, [memory(2, 998), memory(3, 999)]);
    }
}
