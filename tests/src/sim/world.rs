//! The world: its nodes and their processes, the events that strike them, and the course of time.

pub(crate) use super::trace::Event;
use super::{
    clock::{Clock, Due, NodeClock},
    cpu::CpuOptions,
    device::NodeDisk,
    disk::DiskOptions,
    executor::{Executor, Owner, Polled, Process},
    figures::Figures,
    mesh::MeshHub,
    net::{self, LinkTrouble, NetOptions, Network},
    node::NodeHandle,
    random::{Latency, Random},
    runtime::SimRuntime,
    trace::Trace,
    watch::{Watcher, Watchers},
};
use purlin_rsm::{NodeId, ShardId};
use std::{
    any::{Any, TypeId},
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    future::Future,
    ops::Range,
    pin::Pin,
    rc::Rc,
    time::Duration,
};

/// What kind of world it is.
#[derive(Clone, Debug)]
pub struct WorldOptions {
    /// Nodes 1 to this number. Others appear when they are named.
    pub nodes: u32,
    /// The disks.
    pub disk: DiskOptions,
    /// The network.
    pub net: NetOptions,
    /// The channels between shards.
    pub mesh: Latency,
    /// How long cores work; for no time if there is none.
    pub cpu: Option<CpuOptions>,
    /// Each node's clock shows a time of this range at the beginning.
    pub clock_offset: Range<Duration>,
    /// Each node's clock shows so many milliseconds, of this range, in 1,000 of the world's.
    pub clock_rate: Range<u32>,
    /// A run that polls more often has come to no end.
    pub polls_max: u64,
    /// So does one that polls this often in one moment.
    pub polls_in_moment_max: u64,
    /// How many lines of the history are kept.
    pub lines_max: usize,
}

impl Default for WorldOptions {
    fn default() -> Self {
        Self {
            nodes: 3,
            disk: DiskOptions::default(),
            net: NetOptions::default(),
            mesh: Latency::steady(Duration::from_micros(1), Duration::from_micros(3)),
            cpu: None,
            clock_offset: Duration::ZERO..Duration::from_secs(3_600),
            clock_rate: 990..1_010,
            polls_max: 50_000_000,
            polls_in_moment_max: 1_000_000,
            lines_max: 1_000,
        }
    }
}

impl WorldOptions {
    /// Options drawn for one seed: slow or fast disks and links, with rare or frequent spikes, and
    /// clocks that agree or do not.
    pub fn draw(random: &Random) -> Self {
        let mut options = Self::default();
        let micros =
            |least, most| Duration::from_nanos((random.magnitude(least, most) * 1_000.0) as u64);
        let spikes = || (random.magnitude(0.0001, 0.02), micros(10_000.0, 2_000_000.0));
        let disk = &mut options.disk;
        for latency in [&mut disk.write, &mut disk.sync, &mut disk.read] {
            let (chance, most) = spikes();
            *latency =
                Latency::steady(latency.least, micros(20.0, 5_000.0)).with_spikes(chance, most);
        }
        let (chance, most) = spikes();
        options.net.jitter = Latency::steady(Duration::ZERO, micros(5.0, 2_000.0));
        options.net.jitter = options.net.jitter.with_spikes(chance, most);
        options.net.link.end = options.net.link.start + micros(10.0, 50_000.0);
        if random.chance(0.2) {
            options.clock_rate = 500..2_000;
        }
        options
    }
}

/// How a node goes down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Crash {
    /// The process ends (`kill -9`): what was written stays readable, writes in flight complete later,
    /// and peers notice that their connections are closed.
    Kill,
    /// The power fails: of what was not synced anything may be left, and peers hear nothing. The host
    /// answers nobody until the node starts again.
    PowerCut,
}

/// Why a run stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Outcome {
    /// Its condition became true.
    Reached,
    /// Its time is over.
    TimeReached,
    /// Nothing is left that could happen: no task is ready and nothing is due.
    Quiescent,
    /// Tasks went on and on: a livelock, or a world too large for its budget.
    BudgetExhausted,
    /// A task panicked; see [`World::panics`]. Its process is gone.
    Panicked,
}

/// A panic in a task.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TaskPanic {
    /// The seed of the world.
    pub seed: u64,
    /// Whose task it was.
    pub node: NodeId,
    /// On which shard.
    pub shard: ShardId,
    /// When, in the world's time.
    pub at: Duration,
    /// What it said.
    pub message: String,
}

/// A world. Dropping it ends all its tasks.
pub struct World {
    core: Rc<Core>,
}

impl Drop for World {
    fn drop(&mut self) {
        // Tasks own handles of the world, which owns the tasks.
        self.core.executor.abort(|_| true);
        self.core.clock.clear();
        // Taken out first, since what they own may come back here when it is dropped.
        let rest = (self.core.machines.take(), self.core.network.take());
        drop(rest);
    }
}

impl World {
    /// The world that follows from `seed`.
    pub fn new(seed: u64, options: WorldOptions) -> Self {
        let core = Rc::new(Core {
            seed,
            clock: Clock::begin(),
            executor: Executor::new(Random::new(seed, "schedule")),
            random: Streams::new(seed),
            network: RefCell::default(),
            machines: RefCell::default(),
            trace: Trace::new(options.lines_max),
            panics: RefCell::default(),
            watchers: Watchers::default(),
            polls: Cell::new(0),
            figures: Cell::default(),
            options,
        });
        let nodes: Vec<_> = (0..=core.options.nodes).map(NodeId).collect();
        core.network.borrow_mut().draw_link(
            &core.random.net,
            core.options.net.link.clone(),
            &nodes,
        );
        for node in nodes {
            core.make_machine(node);
        }
        core.begin_process(OUTSIDE, 1, None);
        Self { core }
    }

    /// Lets somebody look on, from now until the world ends. It changes nothing of what happens.
    pub fn watch(&self, watcher: Rc<dyn Watcher>) {
        self.core.watchers.add(watcher);
    }

    /// The seed.
    pub fn seed(&self) -> u64 {
        self.core.seed
    }

    /// The world's time.
    pub fn now(&self) -> Duration {
        self.core.clock.now()
    }

    /// The stream for what the test itself draws: a workload.
    pub fn workload(&self) -> &Random {
        &self.core.random.workload
    }

    /// The stream for faults.
    pub fn faults(&self) -> &Random {
        &self.core.random.faults
    }

    /// A runtime that belongs to no node, for clients: it never crashes. Over the network it is node 0.
    pub fn outside(&self) -> SimRuntime {
        self.core.runtime(OUTSIDE, ShardId(0))
    }

    /// A node, its disk and its links.
    pub fn node(&self, node: NodeId) -> NodeHandle<'_> {
        self.core.make_machine(node);
        NodeHandle::new(&self.core, node)
    }

    /// Starts a process of `shards` shards on `node`: `main` makes what each of them runs. A shard
    /// stops when its `main` returns, and the process ends with its last shard.
    pub fn start<F, Fut>(&self, node: NodeId, shards: u16, main: F)
    where
        F: Fn(SimRuntime) -> Fut + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        self.core.make_machine(node);
        let main: MainFactory = Rc::new(move |runtime| Box::pin(main(runtime)));
        self.core.start(node, shards, main);
    }

    /// Starts a node again as it was started before, on the disk as it is.
    pub fn restart(&self, node: NodeId) {
        let (shards, main) = self.core.with_machine(node, |machine| {
            let main = machine.main.clone().expect("the node was started before");
            (machine.shards, main)
        });
        self.core.start(node, shards, main);
    }

    /// Runs a task on a shard of a running process, beside its own; it ends with it.
    pub fn spawn_on<Fut: Future<Output = ()> + 'static>(
        &self,
        node: NodeId,
        shard: ShardId,
        task: impl FnOnce(SimRuntime) -> Fut,
    ) {
        let runtime = self.core.runtime(node, shard);
        purlin::Runtime::spawn(&runtime.clone(), task(runtime));
    }

    /// Takes a node down; nothing when it is down. It may be done at any moment between two polls.
    pub fn crash(&self, node: NodeId, how: Crash) {
        self.core.trace.line(self.core.clock.now(), &format!("n{node} {how:?}"));
        self.core.count(|figures| match how {
            Crash::Kill => figures.kills += u64::from(self.is_running(node)),
            Crash::PowerCut => figures.power_cuts += 1,
        });
        self.core.end_process(node, how);
    }

    /// Asks the process of a node to stop, as SIGTERM does. One that does not listen ends at once. Returns whether the
    /// process listens.
    pub fn terminate(&self, node: NodeId) -> bool {
        self.core.trace.line(self.core.clock.now(), &format!("n{node} is asked to stop"));
        let on_stop = self.core.with_machine(node, |machine| {
            let running = machine.process.as_mut()?;
            running.is_asked_to_stop = true;
            running.on_stop.clone()
        });
        match on_stop {
            Some(stop) => stop(),
            None => self.core.end_process(node, Crash::Kill),
        }
        self.is_stopping(node)
    }

    /// Whether the process of the node was asked to stop, and runs.
    pub fn is_stopping(&self, node: NodeId) -> bool {
        self.core.with_machine(node, |machine| {
            machine.process.as_ref().is_some_and(|running| running.is_asked_to_stop)
        })
    }

    /// How often the node was started.
    pub fn boots(&self, node: NodeId) -> u64 {
        self.core.with_machine(node, |machine| machine.boots)
    }

    /// Whether a process of the node runs.
    pub fn is_running(&self, node: NodeId) -> bool {
        self.core.is_running(node)
    }

    /// Whether a process of the node runs, and none of its shards has stopped.
    pub fn is_whole(&self, node: NodeId) -> bool {
        self.core.with_machine(node, |machine| {
            machine.process.as_ref().is_some_and(|running| running.stopped.borrow().is_empty())
        })
    }

    /// Cuts all links between the nodes of `one` side and of the `other`, both ways.
    pub fn partition(&self, one: &[NodeId], other: &[NodeId]) {
        self.cut_one_way(one, other);
        self.cut_one_way(other, one);
    }

    /// Cuts the way from the nodes of one side to those of the other, and not the way back.
    pub fn cut_one_way(&self, from: &[NodeId], to: &[NodeId]) {
        self.core.trace.line(self.core.clock.now(), &format!("cut {from:?} to {to:?}"));
        let mut network = self.core.network.borrow_mut();
        for &from in from {
            to.iter().for_each(|&to| network.cut(from, to));
        }
    }

    /// Cuts a node off from all other nodes, the outside too.
    pub fn isolate(&self, node: NodeId) {
        let others: Vec<_> = self.core.machines.borrow().keys().copied().collect();
        self.partition(&[node], &others);
    }

    /// Heals all cuts.
    pub fn heal(&self) {
        self.core.trace.line(self.core.clock.now(), "heal");
        net::heal(&self.core, None);
    }

    /// Heals the link between two nodes.
    pub fn heal_link(&self, one: NodeId, two: NodeId) {
        net::heal(&self.core, Some((one, two)));
    }

    /// Breaks all connections between two nodes: each end learns at once, later, or when it writes.
    pub fn reset_connections(&self, one: NodeId, two: NodeId) {
        self.core.trace.line(self.core.clock.now(), &format!("reset {one} {two}"));
        net::reset(&self.core, one, two);
    }

    /// From now on the way from one node to another is so; none mends it.
    pub fn trouble_link(&self, from: NodeId, to: NodeId, trouble: Option<LinkTrouble>) {
        net::trouble(&self.core, from, to, trouble);
    }

    /// From now on `from` reaches another node when it dials `to`; none mends it.
    pub fn cross_wire(&self, from: NodeId, to: NodeId, instead: Option<NodeId>) {
        self.core.network.borrow_mut().cross(from, to, instead);
    }

    /// Stops a shard's core for a while, as a hypervisor would; nothing of its state is lost.
    pub fn pause(&self, node: NodeId, shard: ShardId) {
        self.core.executor.pause(node, shard);
    }

    /// Lets a paused shard go on.
    pub fn resume(&self, node: NodeId, shard: ShardId) {
        self.core.executor.resume(node, shard);
    }

    /// Lets `duration` of the world's time pass.
    pub fn run_for(&self, duration: Duration) -> Outcome {
        self.run(self.now() + duration, u64::MAX, || false)
    }

    /// Runs until `condition` holds, `limit` of time at most. It is asked whenever time is about to
    /// move on.
    pub fn run_until(&self, limit: Duration, condition: impl FnMut() -> bool) -> Outcome {
        self.run(self.now() + limit, u64::MAX, condition)
    }

    /// Polls a number of times, to stop between any two polls; `TimeReached` after them.
    pub fn run_polls(&self, polls: u64) -> Outcome {
        self.run(Duration::MAX, polls, || false)
    }

    /// Adds a line to the history.
    pub fn trace(&self, line: &str) {
        self.core.trace.line(self.now(), line);
    }

    /// The last lines of the history.
    pub fn lines(&self) -> Vec<String> {
        self.core.trace.lines()
    }

    /// The whole history as one number: equal for equal seeds, options and calls.
    pub fn hash(&self) -> u64 {
        self.core.trace.hash()
    }

    /// How many events the history has.
    pub fn events(&self) -> u64 {
        self.core.trace.events()
    }

    /// How many writes and syncs of files the disks have done.
    pub fn disk_events(&self) -> u64 {
        self.core.trace.events_of(Event::Disk)
    }

    /// How many pieces of bytes the network has delivered.
    pub fn deliveries(&self) -> u64 {
        self.core.trace.events_of(Event::Deliver)
    }

    /// How many bytes the network has delivered from one node to another.
    pub fn bytes_delivered(&self, from: NodeId, to: NodeId) -> u64 {
        self.core.network.borrow().delivered(from, to)
    }

    /// The panics of all tasks so far.
    pub fn panics(&self) -> Vec<TaskPanic> {
        self.core.panics.borrow().clone()
    }

    /// What has gone wrong so far, in numbers.
    pub fn figures(&self) -> Figures {
        self.core.figures.get()
    }

    fn run(&self, until: Duration, polls_max: u64, mut condition: impl FnMut() -> bool) -> Outcome {
        let core = &self.core;
        let mut polls_in_moment = 0;
        for _ in 0..polls_max {
            loop {
                match core.executor.poll_one() {
                    Polled::Ran(owner, task) => {
                        core.trace.event(Event::Poll, task, 0);
                        core.poll_ended(owner);
                        break;
                    }
                    Polled::Panicked { owner, message } => {
                        core.clock.poll_ended();
                        core.record_panic(owner, message);
                        return Outcome::Panicked;
                    }
                    Polled::Idle if condition() => return Outcome::Reached,
                    Polled::Idle => {}
                }
                polls_in_moment = 0;
                match core.clock.next() {
                    Some(at) if at <= until => core.happen(),
                    next => {
                        if until < Duration::MAX {
                            core.clock.advance_to(until);
                        }
                        let quiet = next.is_none();
                        return if quiet { Outcome::Quiescent } else { Outcome::TimeReached };
                    }
                }
            }
            polls_in_moment += 1;
            core.polls.set(core.polls.get() + 1);
            let too_often = polls_in_moment > core.options.polls_in_moment_max;
            if too_often || core.polls.get() > core.options.polls_max {
                return Outcome::BudgetExhausted;
            }
        }
        Outcome::TimeReached
    }
}

/// The node to which belongs what is outside of all nodes.
pub(crate) const OUTSIDE: NodeId = NodeId(0);

type MainFactory = Rc<dyn Fn(SimRuntime) -> Pin<Box<dyn Future<Output = ()>>>>;

/// What all parts of a world share.
pub(crate) struct Core {
    pub(crate) seed: u64,
    pub(crate) options: WorldOptions,
    pub(crate) clock: Clock,
    pub(crate) executor: Executor,
    pub(crate) random: Streams,
    pub(crate) network: RefCell<Network>,
    machines: RefCell<BTreeMap<NodeId, Machine>>,
    pub(crate) trace: Trace,
    panics: RefCell<Vec<TaskPanic>>,
    pub(crate) watchers: Watchers,
    polls: Cell<u64>,
    figures: Cell<Figures>,
}

/// One stream of chance for each concern.
pub(crate) struct Streams {
    pub(crate) disk: Random,
    pub(crate) net: Random,
    workload: Random,
    faults: Random,
}

impl Streams {
    fn new(seed: u64) -> Self {
        let stream = |concern| Random::new(seed, concern);
        Self {
            disk: stream("disk"),
            net: stream("net"),
            workload: stream("workload"),
            faults: stream("faults"),
        }
    }
}

/// A node's hardware, and the process on it.
struct Machine {
    disk: Rc<NodeDisk>,
    clock: NodeClock,
    random: Rc<Random>,
    has_power: bool,
    boots: u64,
    shards: u16,
    main: Option<MainFactory>,
    process: Option<RunningProcess>,
}

/// The shards of a process that have stopped, known to all of them.
pub(crate) type StoppedShards = Rc<RefCell<BTreeSet<ShardId>>>;

struct RunningProcess {
    process: Process,
    shards: u16,
    stopped: StoppedShards,
    /// The mesh of each item type.
    meshes: BTreeMap<TypeId, Rc<dyn Any>>,
    /// What it does when it is asked to stop, if it listens.
    on_stop: Option<Rc<dyn Fn()>>,
    is_asked_to_stop: bool,
}

impl RunningProcess {
    fn new(process: Process, shards: u16) -> Self {
        let (stopped, meshes) = Default::default();
        Self { process, shards, stopped, meshes, on_stop: None, is_asked_to_stop: false }
    }
}

impl Core {
    /// Adds to the figures.
    pub(crate) fn count(&self, add: impl FnOnce(&mut Figures)) {
        let mut figures = self.figures.get();
        add(&mut figures);
        self.figures.set(figures);
    }

    pub(crate) fn disk(&self, node: NodeId) -> Rc<NodeDisk> {
        self.with_machine(node, |machine| machine.disk.clone())
    }

    pub(crate) fn is_running(&self, node: NodeId) -> bool {
        self.with_machine(node, |machine| machine.process.is_some())
    }

    pub(crate) fn is_powered(&self, node: NodeId) -> bool {
        self.machines.borrow().get(&node).is_some_and(|machine| machine.has_power)
    }

    /// Whether the process of `owner` runs and its shard has not stopped.
    pub(crate) fn is_alive(&self, owner: Owner) -> bool {
        let machines = self.machines.borrow();
        let running =
            machines.get(&owner.process.node).and_then(|machine| machine.process.as_ref());
        running.is_some_and(|running| {
            running.process == owner.process && !running.stopped.borrow().contains(&owner.shard)
        })
    }

    /// The mesh of a process for items of one type, and its stopped shards.
    pub(crate) fn mesh_hub<T: 'static>(
        &self,
        process: Process,
        shards: u16,
        capacity: usize,
    ) -> (Rc<RefCell<MeshHub<T>>>, StoppedShards) {
        self.with_machine(process.node, |machine| {
            let running = machine.process.as_mut().expect("a running process asks for its mesh");
            assert_eq!(running.process, process, "the mesh of a process that has ended");
            let new_hub =
                || -> Rc<dyn Any> { Rc::new(RefCell::new(MeshHub::<T>::new(shards, capacity))) };
            let hub = running.meshes.entry(TypeId::of::<T>()).or_insert_with(new_hub).clone();
            let hub = hub.downcast().expect("it is kept under its type");
            (hub, running.stopped.clone())
        })
    }

    /// From now on the process does this when it is asked to stop.
    pub(crate) fn on_stop(&self, process: Process, stop: Rc<dyn Fn()>) {
        self.with_machine(process.node, |machine| {
            let running = machine.process.as_mut().filter(|it| it.process == process);
            running.expect("a running process listens").on_stop = Some(stop);
        });
    }

    fn make_machine(&self, node: NodeId) {
        let mut machines = self.machines.borrow_mut();
        machines.entry(node).or_insert_with(|| {
            let random = Random::new(self.seed, &format!("node {node}"));
            let rate = &self.options.clock_rate;
            let rate = random.within(u64::from(rate.start)..u64::from(rate.end)) as u32;
            let offset = random.duration(self.options.clock_offset.clone());
            Machine {
                disk: NodeDisk::new(),
                clock: NodeClock { offset, rate },
                random: Rc::new(random),
                has_power: true,
                boots: 0,
                shards: 0,
                main: None,
                process: None,
            }
        });
    }

    fn with_machine<T>(&self, node: NodeId, with: impl FnOnce(&mut Machine) -> T) -> T {
        let mut machines = self.machines.borrow_mut();
        with(machines.get_mut(&node).unwrap_or_else(|| panic!("there is no node {node}")))
    }

    fn begin_process(&self, node: NodeId, shards: u16, main: Option<MainFactory>) -> Process {
        assert!(shards > 0, "node {node} without a shard");
        self.with_machine(node, |machine| {
            assert!(machine.process.is_none(), "node {node} runs already");
            machine.boots += 1;
            machine.has_power = true;
            machine.shards = shards;
            machine.main = main;
            let process = Process { node, boot: machine.boots };
            machine.process = Some(RunningProcess::new(process, shards));
            process
        })
    }

    fn start(self: &Rc<Self>, node: NodeId, shards: u16, main: MainFactory) {
        let process = self.begin_process(node, shards, Some(main.clone()));
        self.trace.line(self.clock.now(), &format!("n{node} starts, boot {}", process.boot));
        for shard in (0..shards).map(ShardId) {
            let owner = Owner { process, shard };
            let body = main(self.runtime(node, shard));
            let core = Rc::downgrade(self);
            let whole = async move {
                body.await;
                // Ended from outside, since it owns the very task that says so.
                if let Some(core) = core.upgrade() {
                    core.clock.after(Duration::ZERO, move |core| core.shard_returned(owner));
                }
            };
            self.executor.spawn(owner, Box::pin(whole));
        }
    }

    fn runtime(self: &Rc<Self>, node: NodeId, shard: ShardId) -> SimRuntime {
        self.with_machine(node, |machine| {
            let running = machine.process.as_ref().unwrap_or_else(|| panic!("node {node} is down"));
            assert!(shard.0 < running.shards, "node {node} has no shard {shard}");
            let owner = Owner { process: running.process, shard };
            let (disk, random) = (machine.disk.clone(), machine.random.clone());
            SimRuntime::new(self, owner, running.shards, machine.clock, disk, random)
        })
    }

    /// A shard's main has returned: its other tasks end, and with the last shard the process.
    fn shard_returned(self: &Rc<Self>, owner: Owner) {
        if !self.is_alive(owner) {
            return;
        }
        let all = self.with_machine(owner.process.node, |machine| {
            let running = machine.process.as_ref().expect("it is alive");
            let mut stopped = running.stopped.borrow_mut();
            stopped.insert(owner.shard);
            stopped.len() == running.shards as usize
        });
        if all {
            self.end_process(owner.process.node, Crash::Kill);
        } else {
            self.executor.abort(|it| *it == owner);
        }
    }

    fn end_process(self: &Rc<Self>, node: NodeId, how: Crash) {
        let disk = self.disk(node);
        let running = self.with_machine(node, |machine| {
            machine.has_power &= how == Crash::Kill;
            machine.process.take()
        });
        if let Some(running) = &running {
            let process = running.process;
            // First the world lets go of the process, so that its destructors find nothing to undo.
            net::process_ended(self, process, how == Crash::Kill);
            disk.process_ended(process);
        }
        if how == Crash::PowerCut {
            disk.power_cut(self);
        }
        if let Some(running) = running {
            self.executor.abort(|owner| owner.process == running.process);
            self.watchers.tell(|watcher| watcher.ended(self.clock.now(), node));
        }
    }

    fn record_panic(self: &Rc<Self>, owner: Owner, message: String) {
        let at = self.clock.now();
        let (node, shard) = (owner.process.node, owner.shard);
        self.trace.line(at, &format!("n{node}.{shard} panics: {message}"));
        let panic = TaskPanic { seed: self.seed, node, shard, at, message };
        self.panics.borrow_mut().push(panic);
        if node != OUTSIDE && self.is_alive(owner) {
            self.end_process(node, Crash::Kill);
        }
    }

    /// A core whose task has worked runs nothing else until that is done.
    fn poll_ended(&self, owner: Owner) {
        let worked = self.clock.poll_ended();
        if !worked.is_zero() {
            let (node, shard) = (owner.process.node, owner.shard);
            self.executor.begin_work(node, shard);
            self.clock.after(worked, move |core| core.executor.end_work(node, shard));
        }
    }

    /// Does the next thing that is due.
    fn happen(self: &Rc<Self>) {
        let Some(due) = self.clock.advance() else { return };
        self.trace.event(Event::Due, self.clock.now().as_nanos() as u64, 0);
        match due {
            Due::Wake(waker) => waker.wake(),
            Due::Call(call) => call(self),
        }
    }
}
