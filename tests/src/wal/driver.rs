//! Who uses the WAL, and who breaks its disk.

use super::{
    WalFigures,
    expected::{Expected, Group},
};
use crate::sim::{
    Crash, DiskError, DiskFault, DiskOperation, Outcome, Random, Rot, SimDisk, SimRuntime, World,
};
use bytes::Bytes;
use purlin::Runtime as _;
use purlin_rsm::{
    BootId, ClusterId, Entry, GroupId, HardState, Identity, Incarnation, Index, NodeId, Payload,
    PeerMemory, Position, Sequence, ShardId, Term,
};
use purlin_storage::{Batch, Durability, StorageError, SubmitError, Wal, WalConfig};
use std::{
    cell::{Cell, RefCell},
    ops::Range,
    rc::Rc,
    time::Duration,
};

const NODE: NodeId = NodeId(1);
const SHARD: ShardId = ShardId(0);
const GROUPS: u64 = 4;
const STEPS: u64 = 150;
/// No batch is longer, so that each is written whole: a quarter of the smallest segment takes it.
const BATCH_BYTES_MAX: usize = 12 << 10;
/// A start, or what is submitted on a sound disk, takes no longer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Segments that a WAL prepares, and files that it keeps for recycling, at most.
const SPARE: u64 = 3 + 4;

/// One WAL, its disk and what a start must find there.
pub(super) struct Driver {
    world: World,
    random: Random,
    node: Rc<Node>,
}

/// What the driver and the process of the WAL share.
struct Node {
    config: WalConfig,
    /// Set as long as the WAL is open and has been compared.
    wal: RefCell<Option<Rc<Wal<SimDisk>>>>,
    /// Why the last start failed.
    failure: RefCell<Option<StorageError>>,
    expected: RefCell<Expected>,
    violations: RefCell<Vec<String>>,
    figures: Cell<WalFigures>,
    /// A fault may strike this process, or has.
    is_armed: Cell<bool>,
    /// Durable bytes are spoiled: the WAL may find damage from now on.
    is_rotten: Cell<bool>,
    /// Numbers the entries, so that no two are equal.
    entries: Cell<u64>,
}

impl Driver {
    pub(super) fn new(world: World, random: Random) -> Self {
        let config = WalConfig {
            segment_bytes: *random.pick(&[64 << 10, 128 << 10, 256 << 10]),
            durability: *random.pick(&[Durability::EachWrite, Durability::OnSync]),
            writes_in_flight_max: random.within(1..6) as usize,
            tail_bytes_max: *random.pick(&[0, 4 << 10, 1 << 20]),
            ..WalConfig::default()
        };
        let node = Node {
            config,
            wal: RefCell::default(),
            failure: RefCell::default(),
            expected: RefCell::new(Expected::new()),
            violations: RefCell::default(),
            figures: Cell::default(),
            is_armed: Cell::new(false),
            is_rotten: Cell::new(false),
            entries: Cell::new(0),
        };
        Self { world, random, node: Rc::new(node) }
    }

    /// The whole run.
    pub(super) fn run(self) -> (Vec<String>, WalFigures) {
        let node = self.node.clone();
        self.world.start(NODE, 1, move |runtime| process(runtime, node.clone()));
        for _ in 0..STEPS {
            if self.is_over() {
                break;
            }
            self.step();
        }
        if !self.is_over() {
            self.end();
        }
        for panic in self.world.panics() {
            self.node.violation(format!("a panic: {}", panic.message));
        }
        (self.node.violations.take(), self.node.figures.get())
    }

    fn is_over(&self) -> bool {
        !self.node.violations.borrow().is_empty()
            || !self.world.panics().is_empty()
            || self.node.figures.get().damaged > 0
    }

    fn step(&self) {
        let open = self.node.wal.borrow().clone();
        let Some(wal) = open else { return self.wait_for_start() };
        if self.has_failed(&wal) {
            return self.crash();
        }
        match self.random.below(100) {
            0..40 => self.submit(&wal),
            40..50 => self.forget(&wal),
            50..58 => self.release(&wal),
            58..68 => self.read(&wal),
            68..76 => wal.quiet_tick(),
            76..82 => self.crash(),
            82..90 => self.break_the_disk(),
            _ => self.pass(self.random.duration(Duration::ZERO..Duration::from_millis(50))),
        }
        // Most steps follow one another while writes are in flight.
        if self.random.chance(0.5) {
            self.pass(self.random.exponential(Duration::from_micros(500)));
        }
        if let Some(wal) = self.node.wal.borrow().clone() {
            self.node.observe(&wal);
        }
    }

    fn pass(&self, time: Duration) {
        self.finish(self.world.run_for(time));
    }

    fn finish(&self, outcome: Outcome) {
        if outcome == Outcome::BudgetExhausted {
            self.node.violation("the WAL comes to no end");
        }
    }

    /// Waits until the process has opened its WAL, or has said why it cannot; sometimes it is ended before.
    fn wait_for_start(&self) {
        if self.random.chance(0.2) {
            let outcome = self.world.run_polls(self.random.below(200));
            self.finish(outcome);
            return self.crash();
        }
        let (node, limit) = (self.node.clone(), PATIENCE);
        let is_decided = || node.wal.borrow().is_some() || node.failure.borrow().is_some();
        let outcome = self.world.run_until(limit, is_decided);
        self.finish(outcome);
        let failure = self.node.failure.take();
        match failure {
            Some(StorageError::Damaged { .. }) if self.node.is_rotten.get() => {
                self.node.count(|figures| figures.damaged += 1);
            }
            Some(_) if self.node.may_fail() => {
                self.node.count(|figures| figures.failures += 1);
                self.mend();
                self.crash();
            }
            Some(error) => self.node.violation(format!("the WAL does not open: {error}")),
            None if self.node.wal.borrow().is_none() && self.world.panics().is_empty() => {
                self.node.violation("the WAL does not open in time");
            }
            None => {}
        }
    }

    /// Whether the WAL has stopped. Only a fault may stop it.
    fn has_failed(&self, wal: &Wal<SimDisk>) -> bool {
        let Some(failure) = wal.failure() else { return false };
        if self.node.may_fail() {
            self.node.count(|figures| figures.failures += 1);
        } else {
            self.node.violation(format!("the WAL stops without a fault: {failure}"));
        }
        true
    }

    /// Ends the process, and starts it again.
    fn crash(&self) {
        if let Some(wal) = self.node.wal.take() {
            self.node.observe(&wal);
        }
        let how = *self.random.pick(&[Crash::Kill, Crash::PowerCut]);
        self.world.crash(NODE, how);
        self.node.failure.take();
        if self.random.chance(0.7) {
            self.mend();
        }
        self.world.restart(NODE);
    }

    /// No fault waits any more. Those that have struck may still show in the process that runs.
    fn mend(&self) {
        let disk = self.world.node(NODE);
        disk.disarm();
        disk.set_quota(None);
        if self.node.wal.borrow().is_none() {
            self.node.is_armed.set(false);
        }
    }

    fn break_the_disk(&self) {
        use {DiskError::*, DiskOperation::*};
        let disk = self.world.node(NODE);
        let arm = |operation, error| {
            self.node.is_armed.set(true);
            let times = self.random.within(1..3) as u32;
            disk.arm(DiskFault { operation, path_contains: ".wal".to_owned(), times, error });
        };
        match self.random.below(12) {
            0..4 => arm(Read, *self.random.pick(&[Device, Short, Elsewhere])),
            4 => arm(Write, *self.random.pick(&[Device, Short, Full])),
            5 => arm(Sync, Device),
            6..9 => {
                self.node.is_armed.set(true);
                let more = self.random.below(3) * self.node.config.segment_bytes;
                disk.set_quota(Some(disk.used() + more));
            }
            9 => disk.set_quota(None),
            10 => disk.hang_disk(self.random.duration(Duration::ZERO..Duration::from_millis(200))),
            _ if self.random.chance(0.3) => {
                let how = *self.random.pick(&[Rot::Bit, Rot::Zero, Rot::Old, Rot::Unreadable]);
                if disk.rot(&self.random, how).is_some() {
                    self.node.is_rotten.set(true);
                }
            }
            _ => {}
        }
    }

    fn submit(&self, wal: &Wal<SimDisk>) {
        let mut after = self.node.expected.borrow().now().clone();
        let mut batch = Batch::default();
        for _ in 0..self.random.within(1..4) {
            let id = GroupId(self.random.within(1..GROUPS + 1) as u32);
            let group = after.group(id);
            if self.random.chance(0.3) {
                let state = self.next_hard_state(&group);
                batch.hard_state(id, state);
                after.change(id, |group| group.hard_state = state);
            }
            let (entries, is_replacing) = self.next_entries(id, &group);
            if batch.bytes() + entries.iter().map(Entry::cost).sum::<usize>() < BATCH_BYTES_MAX {
                batch.entries(id, &entries);
                after.change(id, |group| {
                    group.truncations += u64::from(is_replacing);
                    group.log.truncate(entries[0].index.0 as usize - 1);
                    group.log.extend(entries);
                });
            }
        }
        if self.random.chance(0.1) {
            let memory = self.next_memory(after.peer);
            batch.peer(memory);
            after.peer = Some(memory);
        }
        if batch.is_empty() {
            return;
        }
        match wal.submit(batch) {
            Ok(sequence) => {
                self.node.expected.borrow_mut().submitted(sequence, after);
                self.node.count(|figures| figures.batches += 1);
            }
            Err(SubmitError::NoSpace(_)) if self.node.may_fail() => {
                self.node.count(|figures| figures.refused += 1);
            }
            Err(error) => self.node.violation(format!("a batch is refused: {error}")),
        }
    }

    fn next_hard_state(&self, group: &Group) -> HardState {
        let term = Term(group.hard_state.term.0 + 1);
        let vote = self.random.chance(0.8).then(|| NodeId(self.random.within(1..4) as u32));
        HardState { term, vote, committed: group.hard_state.committed }
    }

    fn next_memory(&self, known: Option<PeerMemory>) -> PeerMemory {
        let start = known.map_or(1, |known| known.start + 1);
        let (node, incarnation) = (NodeId(9), Incarnation(1));
        let (boot, durable) = (BootId(start), Sequence(start * 10));
        PeerMemory { node, incarnation, shard: SHARD, start, boot, durable, fenced: false }
    }

    /// Entries behind the log, or instead of its end; and whether they replace any. A term is given to one
    /// leader, so each place of the log has one entry of a term.
    fn next_entries(&self, id: GroupId, group: &Group) -> (Vec<Entry>, bool) {
        let needed = self.node.expected.borrow().floor(id);
        let back = if self.random.chance(0.2) { self.random.below(6) } else { 0 };
        let last = Index(group.last().0.saturating_sub(back).max(needed.0));
        let is_replacing = last < group.last();
        let term = group.log.last().map_or(1, |entry| entry.term.0);
        let is_new_term = is_replacing || self.random.chance(0.1);
        let term = Term(term + u64::from(is_new_term));
        let bytes = self.random.magnitude(8.0, 3_000.0) as usize;
        let entry = |nth: u64| {
            let index = Index(last.0 + 1 + nth);
            let mut data = vec![nth as u8; bytes];
            self.node.entries.set(self.node.entries.get() + 1);
            data[..8].copy_from_slice(&self.node.entries.get().to_le_bytes());
            // Each entry has one command, so that positions are indexes.
            let (before, payload) = (Position(last.0 + nth), Payload::command(Bytes::from(data)));
            Entry { term, index, before, payload }
        };
        ((0..self.random.within(1..6)).map(entry).collect(), is_replacing)
    }

    /// Raises the floor of a group, to an entry that no crash takes back.
    fn forget(&self, wal: &Wal<SimDisk>) {
        self.node.observe(wal);
        let id = GroupId(self.random.within(1..GROUPS + 1) as u32);
        let mut expected = self.node.expected.borrow_mut();
        let (floor, last) = (expected.floor(id), expected.durable_last(id));
        if floor < last {
            let keeps =
                if self.random.chance(0.5) { 0 } else { self.random.below(last.0 - floor.0) };
            let floor = Index(last.0 - keeps);
            expected.forgot(id, floor);
            wal.forget(id, floor.next(), Position(floor.0));
            self.node.count(|figures| figures.floors += 1);
        }
    }

    fn release(&self, wal: &Rc<Wal<SimDisk>>) {
        let (wal, node) = (wal.clone(), self.node.clone());
        let floors = node.expected.borrow().floors();
        self.world.spawn_on(NODE, SHARD, |_| async move {
            match wal.release().await {
                Ok(0) => {}
                Ok(segments) => {
                    node.expected.borrow_mut().released(&floors);
                    node.count(|figures| figures.released += segments as u64);
                }
                Err(_) if wal.failure().is_some() => {}
                Err(error) => node.violation(format!("a release fails: {error}")),
            }
        });
    }

    fn read(&self, wal: &Rc<Wal<SimDisk>>) {
        let id = GroupId(self.random.within(1..GROUPS + 1) as u32);
        let group = self.node.expected.borrow().now().group(id);
        let first = Index(self.random.within(1..group.last().0 + 2));
        let end = Index(first.0 + self.random.within(1..50));
        let bytes_max = *self.random.pick(&[0, 2 << 10, 1 << 20]);
        let (wal, node) = (wal.clone(), self.node.clone());
        self.world.spawn_on(NODE, SHARD, move |_| async move {
            node.compare_read(&wal, id, &group, first..end, bytes_max).await;
        });
    }

    /// The disk is sound again: everything works, and space is given back.
    fn end(&self) {
        self.mend();
        self.crash();
        self.mend();
        for _ in 0..4 {
            if self.is_over() || self.node.wal.borrow().is_some() {
                break;
            }
            self.wait_for_start();
        }
        let open = self.node.wal.borrow().clone();
        let Some(wal) = open.filter(|_| !self.is_over()) else { return };
        self.submit(&wal);
        if !self.settle(&wal) {
            return;
        }
        for id in (1..=GROUPS as u32).map(GroupId) {
            let last = self.node.expected.borrow().now().group(id).last();
            self.node.expected.borrow_mut().forgot(id, last);
            wal.forget(id, last.next(), Position(last.0));
        }
        self.release(&wal);
        if self.settle(&wal) {
            self.check_space(&wal);
        }
        // What was released stays so.
        self.crash();
        while !self.is_over() && self.node.wal.borrow().is_none() {
            self.wait_for_start();
        }
    }

    /// Lets everything become durable. Whether that was done on a sound disk.
    fn settle(&self, wal: &Wal<SimDisk>) -> bool {
        let outcome = self.world.run_until(PATIENCE, || wal.durable() == wal.submitted());
        self.finish(outcome);
        self.pass(Duration::from_secs(5));
        if self.has_failed(wal) {
            return false;
        }
        if wal.durable() != wal.submitted() {
            let (durable, submitted) = (wal.durable(), wal.submitted());
            self.node.violation(format!("{submitted} is submitted, and only {durable} durable"));
        }
        self.node.observe(wal);
        !self.is_over()
    }

    /// No entry is needed: the active segment is kept, and one more if the relocations have begun it.
    fn check_space(&self, wal: &Wal<SimDisk>) {
        let kept = wal.stats().segments as u64;
        let most = (kept + SPARE) * self.node.config.segment_bytes;
        let used = self.world.node(NODE).used();
        if kept > 2 || used > most {
            self.node.violation(format!("{kept} segments and {used} bytes are kept for no entry"));
        }
    }
}

impl Node {
    fn violation(&self, what: impl Into<String>) {
        self.violations.borrow_mut().push(what.into());
    }

    fn count(&self, change: impl FnOnce(&mut WalFigures)) {
        let mut figures = self.figures.get();
        change(&mut figures);
        self.figures.set(figures);
    }

    /// Whether a failure is explained by what was done to the disk.
    fn may_fail(&self) -> bool {
        self.is_armed.get() || self.is_rotten.get()
    }

    /// Checks the WAL's own invariants, and what it calls durable.
    fn observe(&self, wal: &Wal<SimDisk>) {
        if let Err(violation) = wal.check() {
            self.violation(violation.to_string());
        }
        if let Err(what) = self.expected.borrow_mut().acknowledged(wal.durable()) {
            self.violation(what);
        }
    }

    /// Reads, and compares with what was in the log at the call or later.
    async fn compare_read(
        &self,
        wal: &Wal<SimDisk>,
        id: GroupId,
        before: &Group,
        range: Range<Index>,
        bytes_max: usize,
    ) {
        let read = match wal.read(id, range.clone(), bytes_max).await {
            Ok(read) => read,
            Err(_) if self.may_fail() || wal.failure().is_some() => return,
            Err(error) => return self.violation(format!("a read of group {id} fails: {error}")),
        };
        self.count(|figures| figures.reads += 1);
        let now = self.expected.borrow().now().group(id);
        let (first, floor) = (range.start, self.expected.borrow().floor(id));
        let is_needed = floor < first && first <= before.last();
        let is_unchanged = now.truncations == before.truncations;
        if is_unchanged && is_needed && read.is_empty() {
            self.violation(format!("a read of group {id} from {first} finds nothing"));
        }
        for (entry, index) in read.iter().zip(first.0..) {
            let has = |group: &Group| group.log.get(index as usize - 1) == Some(entry);
            let is_known = if is_unchanged { has(&now) } else { has(&now) || has(before) };
            // An entry that was written and replaced during the read is in neither.
            let is_new = Index(index) > before.last();
            let is_between = now.truncations > before.truncations + u64::from(!is_new);
            if entry.index != Index(index) || !is_known && !is_between {
                self.violation(format!("a read of group {id} finds {} at {index}", entry.id()));
            }
        }
    }

    /// Reads each group's log from its floor to its end.
    async fn read_all(&self, wal: &Wal<SimDisk>) {
        let groups = self.expected.borrow().now().groups.clone();
        for (id, group) in groups {
            let mut next = self.expected.borrow().floor(id).next();
            while next <= group.last() {
                let read = match wal.read(id, next..group.last().next(), 64 << 10).await {
                    Ok(read) => read,
                    Err(_) if self.may_fail() => return,
                    Err(error) => {
                        return self.violation(format!("group {id} from {next} on: {error}"));
                    }
                };
                if read.is_empty() || !group.from(next).starts_with(&read) {
                    let found = read.first().map(Entry::id);
                    return self.violation(format!("group {id} has {found:?} at {next}"));
                }
                next = Index(next.0 + read.len() as u64);
            }
        }
    }
}

/// The process of the WAL: opens it, compares what it finds, and runs its loops until it is ended.
async fn process(runtime: SimRuntime, node: Rc<Node>) {
    let (disk, config) = (runtime.disk(), &node.config);
    let opened = loop {
        match Wal::open(&disk, identity(), config, &mut || runtime.random()).await {
            Err(StorageError::Missing { .. }) if node.expected.borrow().is_empty() => {
                let created = Wal::create(&disk, identity(), config, runtime.random()).await;
                if let Err(error) = created {
                    break Err(error);
                }
            }
            Err(StorageError::Locked { .. }) => runtime.sleep(Duration::from_millis(20)).await,
            opened => break opened,
        }
    };
    let (wal, recovered) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            *node.failure.borrow_mut() = Some(error);
            return std::future::pending().await;
        }
    };
    if let Err(what) = node.expected.borrow_mut().start(&recovered, wal.durable()) {
        node.violation(format!("start {}: {what}", recovered.start.number));
    }
    runtime.spawn(wal.clone().prepare_loop());
    for _ in 0..config.writes_in_flight_max {
        runtime.spawn(wal.clone().write_loop());
    }
    node.read_all(&wal).await;
    node.count(|figures| figures.starts += 1);
    *node.wal.borrow_mut() = Some(wal);
    std::future::pending().await
}

fn identity() -> Identity {
    Identity { cluster: ClusterId(1), node: NODE, incarnation: Incarnation(1), shard: SHARD }
}
