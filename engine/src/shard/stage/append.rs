//! Stage 3: one batch for the writes of all groups to the WAL, and its durability back to them.

use crate::{
    control::{
        histogram::Histogram,
        status::{Level, WalStatus},
    },
    error::{Error, ErrorKind},
    shard::groups::Groups,
    wake::Wake,
};
use purlin_rsm::{
    Entry, GroupId, Incarnation, NodeId, PeerMemory, RequestError, Sequence, ShardId, Tick,
    WriteId, raft::Append,
};
use purlin_storage::{Batch, Disk, SubmitError, Wal};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

/// Writes that wait for the WAL, and batches that are on their way.
pub(crate) struct AppendStage<D: Disk> {
    wal: Rc<Wal<D>>,
    /// In the order of each group's write ids.
    pending: Writes,
    /// What the entries in `pending` cost, and how much of it there may be before proposals are refused.
    pending_bytes: usize,
    pending_bytes_max: usize,
    in_flight: VecDeque<InFlight>,
    /// What is newly known of peers: it joins the next batch, and causes one only when a peer was
    /// fenced (safety I4). If every news of a peer's progress caused a write, which is progress itself,
    /// two idle shards would keep each other writing.
    memories: Memories,
    batch_bytes_max: usize,
    /// There was no room for entries when it was last tried.
    is_full: bool,
    /// When something was last written: the WAL is told when it has been quiet since.
    written_at: Tick,
    /// From the submit of each batch until this shard learned that it is durable.
    latency: Histogram,
}

struct InFlight {
    sequence: Sequence,
    writes: Vec<(GroupId, WriteId)>,
    since: Tick,
    submitted_at: Duration,
}

impl<D: Disk> AppendStage<D> {
    pub(crate) fn new(
        wal: Rc<Wal<D>>,
        batch_bytes_max: usize,
        pending_bytes_max: usize,
        wake: Arc<Wake>,
    ) -> Self {
        wal.set_notify(Rc::new(move || wake.notify()));
        Self {
            wal,
            pending: Writes::new(),
            pending_bytes: 0,
            pending_bytes_max,
            in_flight: VecDeque::new(),
            memories: Memories::default(),
            batch_bytes_max,
            is_full: false,
            written_at: Tick(0),
            latency: Histogram::default(),
        }
    }

    /// Takes a group's write; it goes out with the next batch.
    pub(crate) fn push(&mut self, group: GroupId, append: Append) {
        self.pending_bytes += cost(&append);
        self.pending.push_back((group, append));
    }

    /// Takes what is newly known of peers.
    pub(crate) fn remember(&mut self, memories: Vec<PeerMemory>) {
        memories.into_iter().for_each(|memory| self.memories.add(memory));
    }

    /// Tells the groups which of their writes are durable: in the order of the batches, whatever order
    /// they complete in (safety W1).
    pub(crate) fn complete(&mut self, now: Tick, at: Duration, groups: &mut Groups) {
        let durable = self.wal.durable();
        while self.in_flight.front().is_some_and(|batch| batch.sequence <= durable) {
            let Some(batch) = self.in_flight.pop_front() else { return };
            self.latency.record(at.saturating_sub(batch.submitted_at));
            for (group, write) in batch.writes {
                if let Some(group) = groups.input(group) {
                    group.raft.appended(now, write);
                }
            }
        }
    }

    /// Submits what waits, as long as the WAL takes batches. What comes while it does not joins the
    /// next one: the sync in flight is the linger.
    ///
    /// # Errors
    /// The WAL has failed, and so has the shard: nothing is tried again.
    pub(crate) fn submit(&mut self, now: Tick, clock: impl Fn() -> Duration) -> Result<(), Error> {
        if let Some(failure) = self.wal.failure() {
            return Err(Error::disk_failed(&failure));
        }
        while self.wal.is_ready() && (!self.pending.is_empty() || self.memories.are_urgent()) {
            if !self.submit_one(now, &clock, true)? && !self.submit_one(now, &clock, false)? {
                break;
            }
        }
        Ok(())
    }

    /// Submits one batch. Whether one was taken.
    fn submit_one(
        &mut self,
        now: Tick,
        clock: impl Fn() -> Duration,
        with_entries: bool,
    ) -> Result<bool, Error> {
        let mut batch = Batch::default();
        // On a full disk they would use up what is kept for hard states.
        let with_memories = with_entries || self.memories.are_urgent();
        if with_memories {
            self.memories.0.values().for_each(|memory| batch.peer(*memory));
        }
        let (taken, left) = self.build(&mut batch, with_entries);
        if batch.is_empty() {
            (self.pending, self.is_full) = (merge(taken, left), !with_entries);
            return Ok(false);
        }
        match self.wal.submit(batch) {
            Ok(sequence) => {
                if with_memories {
                    self.memories.0.clear();
                }
                let writes = taken.iter().map(|(group, append)| (*group, append.write)).collect();
                self.pending_bytes -= taken.iter().map(|(_, append)| cost(append)).sum::<usize>();
                self.in_flight.push_back(InFlight {
                    sequence,
                    writes,
                    since: now,
                    submitted_at: clock(),
                });
                (self.pending, self.is_full, self.written_at) = (left, !with_entries, now);
                Ok(true)
            }
            Err(SubmitError::NoSpace(_)) => {
                purlin_rsm::sometimes!("write with entries waits for space");
                (self.pending, self.is_full) = (merge(taken, left), true);
                Ok(false)
            }
            Err(SubmitError::Poisoned(_)) => {
                Err(Error::disk_failed(&self.wal.failure().expect("a poisoned WAL says why")))
            }
            Err(SubmitError::TooLarge(_)) => Err(too_long()),
        }
    }

    /// Fills a batch. Without entries, when the disk is full, hard states still go out; but none that
    /// comes behind entries of its group, since completions are in order.
    fn build(&mut self, batch: &mut Batch, with_entries: bool) -> (Writes, Writes) {
        let (mut taken, mut left, mut blocked) = (Writes::new(), Writes::new(), BTreeSet::new());
        for (group, append) in std::mem::take(&mut self.pending) {
            let waits = !with_entries && !append.entries.is_empty();
            purlin_rsm::sometimes!(waits, "hard states written while entries wait for space");
            if batch.bytes() >= self.batch_bytes_max || waits || blocked.contains(&group) {
                blocked.insert(group);
                left.push_back((group, append));
                continue;
            }
            // Never behind the entries that came with it (safety A2).
            if let Some(state) = append.hard_state {
                batch.hard_state(group, state);
            }
            batch.entries(group, &append.entries);
            taken.push_back((group, append));
        }
        (taken, left)
    }

    /// Lets the WAL close what it has acknowledged when nothing is going on (safety W9), and look for space
    /// when it has none: what waits for a segment may wait there, and not here.
    pub(crate) fn beat(&mut self, now: Tick) {
        if self.written_at < now && (self.is_idle() || self.is_full) {
            self.wal.quiet_tick();
        } else if !self.wal.has_space() {
            self.wal.seek_space();
        }
    }

    /// Whether nothing waits to be written or to become durable.
    pub(crate) fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.in_flight.is_empty()
    }

    /// Whether the oldest write is older than `limit`: the disk hangs.
    pub(crate) fn is_stalled(&self, limit: Tick) -> bool {
        self.in_flight.front().is_some_and(|batch| batch.since < limit)
    }

    /// Why new proposals are refused, if they are.
    pub(crate) fn refusal(&self) -> Option<RequestError> {
        if self.is_full {
            purlin_rsm::sometimes!("proposal refused, the disk is full");
            return Some(RequestError::NoSpace);
        }
        // The disk is far behind: the deadlines of requests end them, and not the entries that they
        // have put into the log, which would wait in memory.
        (self.pending_bytes >= self.pending_bytes_max).then_some(RequestError::Busy)
    }

    /// Whether there was no room for entries when it was last tried.
    pub(crate) fn is_full(&self) -> bool {
        self.is_full
    }

    /// Since when the oldest batch in flight is on its way.
    pub(crate) fn oldest(&self) -> Option<Tick> {
        self.in_flight.front().map(|batch| batch.since)
    }

    /// How the WAL stands, for operators.
    pub(crate) fn fill_status(&self, status: &mut WalStatus) {
        status.figures = self.wal.stats();
        status.pending_writes = self.pending.len();
        status.pending_bytes = Level { now: self.pending_bytes, max: self.pending_bytes_max };
        status.latency.clone_from(&self.latency);
    }

    /// Whether the batches in flight agree with the WAL.
    pub(crate) fn check(&self) -> Result<(), String> {
        let ends = self.in_flight.front().zip(self.in_flight.back());
        let Some((first, last)) = ends else { return Ok(()) };
        check_in_flight(self.wal.durable(), first.sequence, last.sequence, self.wal.submitted())
    }

    /// Whether the batches in flight are in order, and the bytes that wait are counted.
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

/// What is in flight is not durable, and was submitted.
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
    let bytes: usize = pending.iter().map(|(_, append)| cost(append)).sum();
    if bytes == counted {
        return Ok(());
    }
    Err(format!("append: {bytes} bytes wait, counted as {counted}"))
}

/// Our own commands are bounded at intake: only a leader with larger segments can send this.
fn too_long() -> Error {
    Error::new(
        ErrorKind::Config,
        "an entry of another node is longer than this node's write-ahead log takes",
        "[wal] segment of this node's configuration",
        "nothing is lost: this node cannot follow, and stops",
        "give this node segments as large as those of the others",
    )
}

/// The latest memory of each peer: an idle shard may hear of them for long and write nothing.
#[derive(Default)]
struct Memories(BTreeMap<(NodeId, Incarnation, ShardId), PeerMemory>);

impl Memories {
    fn add(&mut self, memory: PeerMemory) {
        self.0.insert((memory.node, memory.incarnation, memory.shard), memory);
    }

    fn are_urgent(&self) -> bool {
        self.0.values().any(|memory| memory.fenced)
    }
}

type Writes = VecDeque<(GroupId, Append)>;

/// What a write holds in memory, about.
fn cost(append: &Append) -> usize {
    append.entries.iter().map(Entry::cost).sum()
}

/// Puts writes back that were not taken. Only the order within each group matters, and of each group
/// what was to be taken came first.
fn merge(mut taken: Writes, left: Writes) -> Writes {
    taken.extend(left);
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use purlin_rsm::BootId;

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
        let pending = Writes::from([(GroupId(1), append)]);
        assert_eq!(check_pending(&pending, 0), Ok(()));
        assert!(check_pending(&pending, 1).unwrap_err().contains("0 bytes wait, counted as 1"));
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
        let kept: Vec<_> = memories.0.into_values().collect();
        assert_eq!(kept, [memory(2, 998), memory(3, 999)]);
    }
}
