//! What the write-ahead log costs without a device: batches of 48 groups encoded, indexed, sealed and
//! written to files in memory, and entries of one group found among those of the others and read back.
//!
//! A write copies its block into the file, as a device would fetch it, and is durable at once. Rotation
//! and the recycling of segments are part of the figures: the log never grows beyond a few segments.

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput};
use memory_disk::MemoryDisk;
use purlin_rsm::{
    ClusterId, Entry, GroupId, Identity, Incarnation, Index, NodeId, Payload, Position, ShardId,
    Term,
};
use purlin_storage::{Batch, StorageError, Wal, WalConfig};
use std::{
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker},
};

#[path = "support/memory_disk.rs"]
mod memory_disk;

const GROUPS: u32 = 48;
/// What a follower that lags asks for at once, in entries.
const READ_ENTRIES: u64 = 64;

/// A WAL with the loops that the engine would run.
struct Log {
    wal: Rc<Wal<MemoryDisk>>,
    loops: Vec<Pin<Box<dyn Future<Output = ()>>>>,
    /// What each group appends next; their indices grow from batch to batch.
    entries: Vec<Entry>,
    rotations: u64,
}

impl Log {
    fn new(entries: u64, command_bytes: usize) -> Self {
        let identity = Identity {
            cluster: ClusterId(1),
            node: NodeId(1),
            incarnation: Incarnation(1),
            shard: ShardId(0),
        };
        let (disk, mut random) = (MemoryDisk::default(), 1..);
        let mut draw = || random.next().expect("there is always a next number");
        let config = WalConfig { segment_bytes: 16 << 20, ..WalConfig::default() };
        now(Wal::create(&disk, identity, &config, draw())).expect("a WAL is made");
        let opened = now(Wal::open(&disk, identity, &config, &mut draw));
        let (wal, _) = opened.expect("a WAL is opened");
        let entry = |index| Entry {
            term: Term(1),
            index: Index(index),
            before: Position(index - 1),
            payload: Payload::command(Bytes::from(vec![7; command_bytes])),
        };
        let entries = (1..=entries).map(entry).collect();
        let loops: Vec<Pin<Box<dyn Future<Output = ()>>>> =
            vec![Box::pin(wal.clone().write_loop()), Box::pin(wal.clone().prepare_loop())];
        Self { wal, loops, entries, rotations: 0 }
    }

    /// Appends the next entries of all groups in one batch, which is durable in the end.
    fn append(&mut self) {
        let mut batch = Batch::default();
        for group in (1..=GROUPS).map(GroupId) {
            batch.entries(group, &self.entries);
        }
        let sequence = self.wal.submit(batch).expect("there is room");
        self.run_loops();
        assert!(self.wal.durable() >= sequence, "a write that is not durable");
        let count = self.entries.len() as u64;
        for entry in &mut self.entries {
            (entry.index.0, entry.before.0) = (entry.index.0 + count, entry.before.0 + count);
        }
    }

    /// After a rotation, gives back what lies in older segments.
    fn compact(&mut self) {
        let rotations = self.wal.stats().rotations;
        if std::mem::replace(&mut self.rotations, rotations) == rotations {
            return;
        }
        for group in (1..=GROUPS).map(GroupId) {
            // Each entry has one command.
            let first = self.entries[0].index.previous();
            self.wal.forget(group, first, Position(first.previous().0));
        }
        let wal = self.wal.clone();
        self.run(wal.release()).expect("segments are released");
    }

    /// Reads entries of a group from `first` on.
    fn read(&mut self, group: GroupId, first: Index) -> Vec<Entry> {
        let (wal, range) = (self.wal.clone(), first..Index(first.0 + READ_ENTRIES));
        self.run(wal.read(group, range, usize::MAX)).expect("what was written can be read")
    }

    /// Runs a future beside the loops, which do what it waits for.
    fn run<T>(
        &mut self,
        future: impl Future<Output = Result<T, StorageError>>,
    ) -> Result<T, StorageError> {
        let mut future = pin!(future);
        loop {
            if let Poll::Ready(result) = future.as_mut().poll(&mut context()) {
                return result;
            }
            self.run_loops();
        }
    }

    /// Runs the loops until they wait. Files in memory never let them.
    fn run_loops(&mut self) {
        for task in &mut self.loops {
            assert!(task.as_mut().poll(&mut context()).is_pending(), "the WAL has stopped");
        }
    }
}

/// The result of a future that waits for nothing but files in memory.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut context()) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("it waits for something else than a file"),
    }
}

/// Everything is polled again until it is done, so nobody needs to be woken.
fn context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    appending(&mut criterion);
    reading(&mut criterion);
    criterion.final_summary();
}

fn appending(criterion: &mut Criterion) {
    let mut benches = criterion.benchmark_group("wal_append");
    for (entries, command_bytes) in [(1, 16), (16, 16), (1, 1024)] {
        let mut log = Log::new(entries, command_bytes);
        benches.throughput(Throughput::Elements(u64::from(GROUPS) * entries));
        let name = format!("{GROUPS}x{entries}x{command_bytes}B");
        benches.bench_function(BenchmarkId::new("submit", name), |bencher| {
            bencher.iter(|| {
                log.append();
                log.compact();
            });
        });
    }
    benches.finish();
}

fn reading(criterion: &mut Criterion) {
    let mut benches = criterion.benchmark_group("wal_append");
    benches.throughput(Throughput::Elements(READ_ENTRIES));
    for command_bytes in [16, 1024] {
        let mut log = Log::new(1, command_bytes);
        let batches = 4 * READ_ENTRIES;
        (0..batches).for_each(|_| log.append());
        // Every group in turn, and a place in its log that moves on by a step that shares no factor.
        let mut reads = (0..).map(|n| {
            let first = 1 + n * 37 % (batches - READ_ENTRIES);
            (GroupId(1 + (n % u64::from(GROUPS)) as u32), Index(first))
        });
        let name = format!("{READ_ENTRIES}x{command_bytes}B of {GROUPS} groups");
        benches.bench_function(BenchmarkId::new("read", name), |bencher| {
            bencher.iter(|| {
                let (group, first) = reads.next().expect("there is always a next one");
                let entries = log.read(group, first);
                assert_eq!((entries[0].index, entries.len() as u64), (first, READ_ENTRIES));
                entries
            });
        });
    }
    benches.finish();
}
