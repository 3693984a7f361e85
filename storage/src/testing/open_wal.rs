//! A WAL from one start to its end, and what the next start must find.
//!
//! Every submission adds a step: the state of all groups behind it. A start says how far it kept the log;
//! that must be at least what was acknowledged, and the state must be exactly the one of that step.

use super::{
    Random, Task,
    device::Device,
    entries, identity,
    world::{Moment, World},
};
use crate::{Batch, Recovered, RecoveredGroup, StorageError, Wal, WalConfig};
use purlin_rsm::{
    BootId, Entry, EntryId, GroupId, HardState, Incarnation, Index, NodeId, PeerMemory, Position,
    Sequence, ShardId, Term,
};
use std::{
    collections::BTreeMap,
    future::Future,
    rc::Rc,
    task::{Context, Poll, Waker},
};

/// What a group's part of the WAL is, whole from its first entry ever.
#[derive(Clone, Default, Debug)]
struct Group {
    hard_state: HardState,
    log: Vec<Entry>,
}

/// What the WAL says after a step.
#[derive(Clone, Default, Debug)]
pub(crate) struct Model {
    groups: BTreeMap<GroupId, Rc<Group>>,
    peers: Vec<PeerMemory>,
}

#[derive(Clone, Debug)]
struct Step {
    sequence: Sequence,
    after: Rc<Model>,
}

/// What a start must find after a crash at some moment.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    /// The watermark: all of it was acknowledged.
    pub(crate) durable: Sequence,
    /// The last sequence that was given out.
    given: Sequence,
    /// The last entry of each group that is needed no more.
    floors: Rc<BTreeMap<GroupId, Index>>,
    /// The number of the last start that got through.
    start: u64,
    history: Rc<Vec<Step>>,
}

impl Default for Expected {
    fn default() -> Self {
        let nothing = Step { sequence: Sequence(0), after: Rc::default() };
        Self {
            durable: Sequence(0),
            given: Sequence(0),
            floors: Rc::default(),
            start: 0,
            history: Rc::new(vec![nothing]),
        }
    }
}

impl Expected {
    /// The same for a start that need not find what was acknowledged.
    pub(crate) fn without_acknowledgements(self) -> Self {
        Self { durable: Sequence(0), given: Sequence(0), ..self }
    }

    fn last(&self) -> &Step {
        self.history.last().expect("there is always a first step")
    }

    /// What the log was when the batch `kept` was its last.
    fn at(&self, kept: Sequence) -> &Rc<Model> {
        let steps = self.history.partition_point(|step| step.sequence <= kept);
        &self.history[steps - 1].after
    }

    /// Judges a start: it must hold all that was acknowledged, and nothing that was never written.
    /// Returns the step that it holds.
    fn judge(&self, recovered: &Recovered, first: Sequence) -> Result<Rc<Model>, String> {
        // The first start since is the one that decided; it may have been cut off before it was known.
        let decided = recovered.starts.iter().find(|start| start.number > self.start);
        let kept = decided.ok_or("the start does not know itself")?.kept;
        if kept < self.durable {
            return Err(format!("{kept} was kept, and {} was acknowledged", self.durable));
        }
        if first <= self.given {
            return Err(format!("sequence {first} is given out again: {} was", self.given));
        }
        let model = self.at(kept);
        for (id, group) in &recovered.groups {
            let nothing = Rc::default();
            let expected = model.groups.get(id).unwrap_or(&nothing);
            let floor = self.floors.get(id).copied().unwrap_or_default();
            let differs =
                |what| format!("group {id}, kept {kept}: {what}\n{expected:?}\n{group:?}");
            check_group(expected, floor, group).map_err(differs)?;
        }
        let is_lost = |id: &&GroupId| !recovered.groups.contains_key(id);
        if let Some(lost) = model.groups.keys().find(is_lost) {
            return Err(format!("group {lost} is lost, and {kept} was kept"));
        }
        if recovered.peers != model.peers {
            return Err(format!("{:?} remembered, and {:?} was", recovered.peers, model.peers));
        }
        Ok(model.clone())
    }
}

fn check_group(expected: &Group, floor: Index, group: &RecoveredGroup) -> Result<(), &'static str> {
    if group.hard_state != expected.hard_state {
        return Err("another hard state");
    }
    if group.floor.index > floor {
        return Err("entries are forgotten that are needed");
    }
    let below = group.floor.index.0 as usize;
    let before = below.checked_sub(1).map_or(EntryId::default(), |at| expected.log[at].id());
    if group.floor != before {
        return Err("another entry before the first");
    }
    if group.last.0 != expected.log.len() as u64 || group.tail != expected.log[below..] {
        return Err("another log");
    }
    let mut terms: Vec<(Index, Term)> = Vec::new();
    for entry in &expected.log[below..] {
        if terms.last().is_none_or(|&(_, term)| term != entry.term) {
            terms.push((entry.index, entry.term));
        }
    }
    if group.terms == terms { Ok(()) } else { Err("other terms") }
}

/// An open WAL with its loops.
pub(crate) struct OpenWal {
    pub(crate) world: World<Expected>,
    pub(crate) wal: Rc<Wal<World<Expected>>>,
    pub(crate) recovered: Recovered,
    expected: Expected,
    tasks: Vec<Task>,
}

/// A directory with a foundation and nothing else.
pub(crate) fn founded(config: &WalConfig) -> Device {
    let world = World::new(Device::default(), Expected::default());
    now(Wal::create(&world, identity(), config, 1)).unwrap();
    world.device()
}

/// The result of a future that needs nothing but to be polled.
fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a future waits for something"),
    }
}

impl OpenWal {
    /// Opens what is there; `expected` is what it must find. `seed` tells this start from others.
    pub(crate) fn open(
        world: World<Expected>,
        config: &WalConfig,
        expected: &Expected,
        seed: u64,
    ) -> Result<Result<Self, String>, StorageError> {
        let mut random = Random::new(seed);
        let (wal, recovered) = now(Wal::open(&world, identity(), config, &mut || random.next()))?;
        let model = match expected.judge(&recovered, wal.submitted()) {
            Ok(model) => model,
            Err(wrong) => return Ok(Err(wrong)),
        };
        let floors = recovered.groups.iter().map(|(id, group)| (*id, group.floor.index));
        let expected = Expected {
            durable: wal.durable(),
            given: wal.submitted(),
            floors: Rc::new(floors.collect()),
            start: recovered.start.number,
            history: Rc::new(vec![Step { sequence: Sequence(0), after: model }]),
        };
        let (told, weak) = (world.clone(), Rc::downgrade(&wal));
        wal.set_notify(Rc::new(move || {
            let Some(wal) = weak.upgrade() else { return };
            told.change_expected(|expected| expected.durable = wal.durable());
        }));
        let mut open = Self { world, wal, recovered, expected, tasks: Vec::new() };
        open.tell();
        Ok(Ok(open))
    }

    /// Starts the loops that write.
    pub(crate) fn write_loops(&mut self, count: usize) {
        for _ in 0..count {
            self.tasks.push(Box::pin(self.wal.clone().write_loop()));
        }
    }

    /// Starts the loop that keeps segments ready.
    pub(crate) fn prepare_loop(&mut self) {
        self.tasks.push(Box::pin(self.wal.clone().prepare_loop()));
        self.poll();
    }

    /// Whether the start wrote anything of an older segment anew.
    pub(crate) fn has_carried(&self) -> bool {
        let state = self.wal.state.borrow();
        state.segments().last_batch().segment == state.segments().active()
    }

    /// Whether the active file holds bytes of an earlier segment.
    pub(crate) fn has_stale_bytes(&self) -> bool {
        let (active, device) =
            (self.wal.state.borrow().segments().active_segment(), self.world.device());
        let file = device.find(&active.name).expect("the active file is there");
        let behind = device.read(file, active.end.get() as usize..active.bytes as usize);
        behind.iter().any(|byte| *byte != 0)
    }

    /// What a start must find after a crash now.
    pub(crate) fn expected(&self) -> Expected {
        Expected { durable: self.wal.durable(), ..self.expected.clone() }
    }

    fn tell(&mut self) {
        let expected = self.expected();
        self.world.change_expected(|told| *told = expected);
    }

    pub(crate) fn poll(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        let mut quiet = 0;
        while quiet < 2 {
            let before = self.world.operations();
            self.tasks.retain_mut(|task| task.as_mut().poll(&mut context).is_pending());
            quiet = if self.world.operations() == before { quiet + 1 } else { 0 };
        }
        assert!(self.wal.failure().is_none(), "{:?}", self.wal.failure());
    }

    /// Lets the write or sync complete that began `nth` of those that wait.
    pub(crate) fn land(&mut self, nth: usize) {
        assert!(self.world.land(nth), "nothing waits there");
        self.poll();
    }

    /// Lets everything complete, in its order.
    pub(crate) fn settle(&mut self) {
        self.poll();
        while self.world.land(0) {
            self.poll();
        }
    }

    /// All moments since the world records.
    pub(crate) fn end(self) -> Vec<Moment<Expected>> {
        let mut moments = self.world.take_moments();
        // A step that was not yet written changes nothing for a crash before it.
        let whole = &self.expected.history;
        for moment in &mut moments {
            if moment.expected.start == self.expected.start {
                moment.expected.history = whole.clone();
            }
        }
        moments
    }

    fn group(&self, group: u32) -> Rc<Group> {
        self.expected.last().after.groups.get(&GroupId(group)).cloned().unwrap_or_default()
    }

    fn last(&self, group: u32) -> u64 {
        self.group(group).log.len() as u64
    }

    fn term(&self, group: u32) -> u64 {
        self.group(group).log.last().map_or(1, |entry| entry.term.0)
    }

    fn submit(&mut self, batch: Batch, change: impl FnOnce(&mut Model)) {
        let before = self.wal.submitted();
        let sequence = self.wal.submit(batch).expect("there is room");
        assert!(sequence.0 <= before.0 + 2, "a header and a batch at most");
        let mut model = Model::clone(&self.expected.last().after);
        change(&mut model);
        let step = Step { sequence, after: Rc::new(model) };
        Rc::make_mut(&mut self.expected.history).push(step);
        self.expected.given = sequence;
        self.tell();
        self.poll();
    }

    fn put(&mut self, group: u32, new: Vec<Entry>) {
        let mut batch = Batch::default();
        batch.entries(GroupId(group), &new);
        self.submit(batch, |model| model.append(group, new));
    }

    /// Appends entries of so many bytes each.
    pub(crate) fn append(&mut self, group: u32, count: u64, bytes: usize) {
        let last = self.last(group);
        self.put(group, entries(self.term(group), last + 1..last + 1 + count, bytes));
    }

    /// Replaces the last entries of a group by some of a newer term.
    pub(crate) fn truncate(&mut self, group: u32, back: u64, count: u64, bytes: usize) {
        let first = self.last(group) - back + 1;
        self.put(group, entries(self.term(group) + 1, first..first + count, bytes));
    }

    /// A newer hard state of a group.
    pub(crate) fn vote(&mut self, group: u32, vote: u32) {
        let state = self.next_hard_state(group, vote);
        let mut batch = Batch::default();
        batch.hard_state(GroupId(group), state);
        self.submit(batch, |model| model.vote(group, state));
    }

    fn next_hard_state(&self, group: u32, vote: u32) -> HardState {
        let term = self.group(group).hard_state.term.next();
        HardState { term, vote: Some(NodeId(vote)), committed: Index(0) }
    }

    /// One batch of several groups: a hard state and an entry of each.
    pub(crate) fn together(&mut self, groups: &[u32], bytes: usize) {
        let mut batch = Batch::default();
        let mut news = Vec::new();
        for &group in groups {
            let state = self.next_hard_state(group, group);
            let last = self.last(group);
            let new = entries(self.term(group), last + 1..last + 2, bytes);
            batch.hard_state(GroupId(group), state);
            batch.entries(GroupId(group), &new);
            news.push((group, state, new));
        }
        self.submit(batch, |model| {
            for (group, state, new) in news {
                model.vote(group, state);
                model.append(group, new);
            }
        });
    }

    /// A newer memory of a peer.
    pub(crate) fn remember_peer(&mut self) {
        let start = self.expected.last().after.peers.last().map_or(1, |peer| peer.start + 1);
        let memory = PeerMemory {
            node: NodeId(9),
            incarnation: Incarnation(1),
            shard: ShardId(0),
            start,
            boot: BootId(start * 7),
            durable: Sequence(start * 10),
            fenced: false,
        };
        let mut batch = Batch::default();
        batch.peer(memory);
        self.submit(batch, |model| model.peers = vec![memory]);
    }

    /// Forgets all of a group but its last entries, and begins to give segments back.
    pub(crate) fn release(&mut self, group: u32, keep: u64) {
        let floor = Index(self.last(group).saturating_sub(keep));
        self.wal.forget(GroupId(group), floor.next(), Position(floor.0));
        Rc::make_mut(&mut self.expected.floors).insert(GroupId(group), floor);
        self.tell();
        let wal = self.wal.clone();
        self.tasks.push(Box::pin(async move {
            wal.release().await.expect("releasing works");
        }));
        self.poll();
    }

    /// A tick in which nothing was submitted.
    pub(crate) fn quiet_tick(&mut self) {
        self.wal.quiet_tick();
        self.poll();
    }
}

impl Model {
    fn group(&mut self, group: u32) -> &mut Group {
        Rc::make_mut(self.groups.entry(GroupId(group)).or_default())
    }

    fn append(&mut self, group: u32, new: Vec<Entry>) {
        let group = self.group(group);
        group.log.truncate(new[0].index.0 as usize - 1);
        group.log.extend(new);
    }

    fn vote(&mut self, group: u32, state: HardState) {
        self.group(group).hard_state = state;
    }
}
