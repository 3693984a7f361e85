//! A cluster of the real engine in a simulated world: nodes with their shards and groups, clients that
//! write down what they asked and were told, and machines that show their states to the checkers.

pub mod scenario;

use crate::{
    checker::{
        history::{History, OperationId, Told},
        kv::KvModel,
        linearizability::{self, Verdict},
        order::Order,
        states::States,
    },
    sim::{Crash, FaultOptions, Nemesis, Outcome, Random, SimRuntime, World, WorldOptions},
    workload::{Op, Reply, Request, Workload, WorkloadOptions},
};
use bytes::Bytes;
use purlin::{
    ApplyContext, ClusterConfig, ClusterId, Command, Completion, Durability, DurableBy, GroupId,
    IntakeOptions, LocalShard, Member, NodeConfig, NodeId, RaftOptions, RequestError, Runtime,
    ShardId, ShardSetup, Shared, StateMachine, WalOptions, group_of_slot,
    kv::{KvCommand, KvMachine, KvOutcome, KvQuery, SetCondition, StringsBuf},
};
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::PathBuf,
    rc::Rc,
    time::Duration,
};

/// Messages that wait between two shards of a node.
const MESH_CAPACITY: usize = 256;
/// How long a client waits after an answer, at most.
const THINK: Duration = Duration::from_millis(60);
/// After the faults have ended, everything must work again within this simulated time.
const RECOVERY: Duration = Duration::from_secs(60);
/// How long a probe waits for one shard's answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// The search for an order of one key's operations gives up after so many steps.
const CHECK_STEPS: u64 = 2_000_000;

/// What a run is made of.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// How many nodes.
    pub nodes: u32,
    /// The shards of each node: they may differ.
    pub shards: Vec<u16>,
    /// How many user groups.
    pub groups: u32,
    /// Clients at each shard.
    pub clients: u32,
    /// How many requests every other client keeps open on a connection of its own; with 1 none does.
    pub pipeline: usize,
    /// How long faults strike, in simulated time.
    pub turmoil: Duration,
    /// Disks, network and clocks.
    pub world: WorldOptions,
    /// What clients ask.
    pub workload: WorkloadOptions,
    /// What goes wrong.
    pub faults: FaultOptions,
    /// How writes become durable.
    pub durability: Durability,
    /// The size of a WAL segment; small ones rotate often.
    pub segment_bytes: u64,
}

impl ClusterOptions {
    /// Options drawn for a seed: mostly three nodes and few groups, now and then one or five nodes.
    pub fn draw(seed: u64, turmoil: Duration) -> Self {
        let random = Random::new(seed, "cluster");
        let nodes = *random.pick(&[1, 3, 3, 3, 3, 3, 3, 5]);
        let shards = (0..nodes).map(|_| *random.pick(&[1, 1, 2, 3])).collect::<Vec<u16>>();
        let ids: Vec<NodeId> = (1..=nodes).map(NodeId).collect();
        let shards_max = shards.iter().copied().max().unwrap_or(1);
        Self {
            nodes,
            groups: *random.pick(&[1, 2, 4, 7]),
            clients: 1 + random.below(3) as u32,
            pipeline: *Random::new(seed, "pipeline").pick(&[1, 2, 6, 20]),
            turmoil,
            world: WorldOptions::draw(&random),
            workload: WorkloadOptions::draw(&random),
            faults: FaultOptions::draw(&random, &ids, shards_max),
            durability: if random.chance(0.5) { Durability::EachWrite } else { Durability::OnSync },
            segment_bytes: *random.pick(&[1 << 20, 4 << 20]),
            shards,
        }
    }
}

/// What a run has shown.
#[derive(Clone, Default, Debug)]
pub struct Report {
    /// What must not have happened. Empty of a good run.
    pub violations: Vec<String>,
    /// Over all events; equal for equal seeds.
    pub hash: u64,
    /// Operations that were done, certainly not applied, and unknown.
    pub operations: (usize, usize, usize),
    /// Runs in which the search for an order of some key's operations was given up: nothing is known
    /// of that key.
    pub inconclusive: usize,
    /// Events of the world.
    pub events: u64,
    /// Crashes of nodes.
    pub starts: u64,
    /// Simulated time.
    pub simulated: Duration,
    /// The last lines of the history.
    pub lines: Vec<String>,
}

/// What the parts of a run share.
struct Shelf {
    options: ClusterOptions,
    history: RefCell<History<Op, Reply>>,
    workload: RefCell<Workload>,
    states: RefCell<States>,
    order: RefCell<Order>,
    violations: RefCell<Vec<String>>,
    /// What the shards of one process share, by node and boot.
    shared: RefCell<BTreeMap<(NodeId, u64), Shared<SimRuntime>>>,
    /// The running shards.
    locals: RefCell<BTreeMap<(NodeId, ShardId), LocalShard<SimRuntime>>>,
    /// Nodes with a shard that has stopped: they are started again when all is calm.
    stopped: RefCell<BTreeSet<NodeId>>,
    /// Why shards have stopped, in that order.
    stops: RefCell<Vec<(NodeId, purlin::Error)>>,
    /// A scenario judges by itself whether a shard may stop.
    is_scenario: bool,
    clients: Cell<u32>,
    starts: Cell<u64>,
    /// Clients ask nothing new.
    is_over: Cell<bool>,
}

/// Runs one seed: a phase in which things go wrong, then one in which nothing does and everything must
/// work again, then the checkers.
pub fn run(seed: u64, options: ClusterOptions) -> Report {
    let world = World::new(seed, options.world.clone());
    let shelf = Shelf::new(seed, options, false);
    let nodes: Vec<NodeId> = (1..=shelf.options.nodes).map(NodeId).collect();
    nodes.iter().for_each(|node| shelf.init(&world, *node));
    nodes.iter().for_each(|node| shelf.start(&world, *node));
    shelf.turmoil(&world);
    shelf.recover(&world, &nodes);
    shelf.judge(&world)
}

impl Shelf {
    fn new(seed: u64, options: ClusterOptions, is_scenario: bool) -> Rc<Self> {
        let workload = Workload::new(Random::new(seed, "workload"), options.workload.clone());
        Rc::new(Self {
            workload: RefCell::new(workload),
            history: RefCell::default(),
            states: RefCell::default(),
            order: RefCell::default(),
            violations: RefCell::default(),
            shared: RefCell::default(),
            locals: RefCell::default(),
            stopped: RefCell::default(),
            stops: RefCell::default(),
            is_scenario,
            clients: Cell::new(0),
            starts: Cell::new(0),
            is_over: Cell::new(false),
            options,
        })
    }

    fn violation(&self, what: impl Into<String>) {
        self.violations.borrow_mut().push(what.into());
    }

    fn cluster_config(&self) -> ClusterConfig {
        let member =
            |node: u32| Member { node: NodeId(node), host: format!("n{node}"), peer_port: 7000 };
        ClusterConfig {
            id: ClusterId(0x5eed),
            groups: self.options.groups,
            replicas: self.options.nodes,
            members: (1..=self.options.nodes).map(member).collect(),
        }
    }

    fn node_config(&self, node: NodeId) -> NodeConfig {
        NodeConfig {
            node,
            data_dir: PathBuf::new(),
            pin: false,
            raft: RaftOptions::default(),
            wal: WalOptions {
                segment_bytes: self.options.segment_bytes,
                durable_by: DurableBy::Auto,
            },
            intake: IntakeOptions { command_bytes_max: 64 << 10, ..IntakeOptions::default() },
            io_memory: 0,
        }
    }

    fn shards(&self, node: NodeId) -> u16 {
        self.options.shards[node.0 as usize - 1]
    }

    fn init(self: &Rc<Self>, world: &World, node: NodeId) {
        let shelf = self.clone();
        world.start(node, 1, move |runtime| {
            let shelf = shelf.clone();
            async move {
                let (cluster, config) = (shelf.cluster_config(), shelf.node_config(node));
                if let Err(error) =
                    purlin::init_on(&runtime, &cluster, &config, shelf.shards(node)).await
                {
                    shelf.violation(format!("init of node {node} failed: {error}"));
                }
            }
        });
        let _ = world.run_until(Duration::from_secs(60), || !world.is_running(node));
    }

    fn start(self: &Rc<Self>, world: &World, node: NodeId) {
        let shelf = self.clone();
        world.start(node, self.shards(node), move |runtime| shelf.clone().run_shard(runtime));
    }

    /// What one shard of a node runs.
    async fn run_shard(self: Rc<Self>, runtime: SimRuntime) {
        let (node, shard) = (runtime.node(), runtime.shard());
        self.starts.set(self.starts.get() + u64::from(shard == ShardId(0)));
        let shared = self
            .shared
            .borrow_mut()
            .entry((node, runtime.boot()))
            .or_insert_with(|| Shared::new(runtime.shards(), self.options.groups))
            .clone();
        let machines = {
            let shelf = self.clone();
            Rc::new(move |_group| -> Box<dyn StateMachine> {
                Box::new(Observed { node, machine: KvMachine::new(), shelf: shelf.clone() })
            })
        };
        let setup = ShardSetup {
            mesh: runtime.mesh(MESH_CAPACITY),
            runtime: runtime.clone(),
            shard,
            cluster: self.cluster_config(),
            node: self.node_config(node),
            durability: self.options.durability,
            machines,
            shared,
        };
        let opened = setup.open().await;
        let result = match opened {
            Ok(opened) => {
                self.locals.borrow_mut().insert((node, shard), opened.local());
                self.spawn_clients(&runtime, &opened.local());
                opened.run().await
            }
            Err(error) => Err(error),
        };
        self.locals.borrow_mut().remove(&(node, shard));
        if let Err(error) = result {
            runtime.trace(&format!("shard stops: {error}"));
            self.stopped.borrow_mut().insert(node);
            self.stops.borrow_mut().push((node, error.clone()));
            // A disk that was told to fail may stop a shard; nothing else may.
            let is_allowed =
                matches!(error.kind, purlin::ErrorKind::Disk | purlin::ErrorKind::Environment);
            if !is_allowed && !self.is_scenario {
                self.violation(format!("node {node} shard {shard} stopped: {error}"));
            }
        }
    }

    fn spawn_clients(self: &Rc<Self>, runtime: &SimRuntime, local: &LocalShard<SimRuntime>) {
        for _ in 0..self.options.clients {
            let client = self.clients.get();
            self.clients.set(client + 1);
            let (runtime, local) = (runtime.clone(), local.clone());
            if self.options.pipeline > 1 && client % 2 == 1 {
                runtime.clone().spawn(self.clone().run_pipeline(client, runtime, local));
            } else {
                runtime.clone().spawn(self.clone().run_client(client, runtime, local));
            }
        }
    }

    /// A client asks one thing after the other, at one shard of one node, until that is gone.
    async fn run_client(
        self: Rc<Self>,
        client: u32,
        runtime: SimRuntime,
        local: LocalShard<SimRuntime>,
    ) {
        while !self.is_over.get() {
            let Request { key, op } = self.workload.borrow_mut().next(client);
            let (id, group, request) = self.invoke(client, None, key, &op, runtime.now());
            let outcome = match request {
                purlin::Request::Propose(command) => local.propose(group, command).await,
                purlin::Request::Query(query) => local.query(group, query).await,
            };
            self.history.borrow_mut().complete(id, told(&op, outcome), runtime.now());
            let think = runtime.random() % THINK.as_micros() as u64;
            runtime.sleep(Duration::from_micros(think)).await;
        }
    }

    /// A client keeps several requests open on one connection, to all groups, proposals and queries
    /// mixed.
    async fn run_pipeline(
        self: Rc<Self>,
        client: u32,
        runtime: SimRuntime,
        local: LocalShard<SimRuntime>,
    ) {
        let (connection, mut open) = (local.connect(), BTreeMap::new());
        let (mut newest, mut completions) = (0, Vec::new());
        while !self.is_over.get() || !open.is_empty() {
            let room = match self.is_over.get() {
                true => 0,
                false => (self.options.pipeline - open.len()) as u64,
            };
            let burst = if room == 0 { 0 } else { 1 + runtime.random() % room };
            for _ in 0..burst {
                let Request { key, op } = self.workload.borrow_mut().next(client);
                let (id, group, request) =
                    self.invoke(client, Some(client.into()), key, &op, runtime.now());
                newest += 1;
                open.insert(newest, (id, op));
                connection.submit(group, request, newest);
            }
            connection.completed().await;
            connection.take_completions(&mut completions);
            for Completion { tag, outcome } in completions.drain(..) {
                let Some((id, op)) = open.remove(&tag) else {
                    return self.violation(format!("client {client}: {tag} ended twice"));
                };
                self.history.borrow_mut().complete(id, told(&op, outcome), runtime.now());
            }
            let think = runtime.random() % (2 * THINK.as_micros()) as u64;
            runtime.sleep(Duration::from_micros(think)).await;
        }
    }

    /// Writes down that a client asks, and says where to ask what.
    fn invoke(
        &self,
        client: u32,
        connection: Option<u64>,
        key: Bytes,
        op: &Op,
        now: Duration,
    ) -> (OperationId, GroupId, purlin::Request) {
        let number = self.history.borrow().operations().len();
        let (group, request) = (self.group(&key), encode(&key, op, number));
        let lane = connection.map(|connection| connection << 32 | u64::from(group.0));
        let id = self.history.borrow_mut().invoke_in(lane, client, key, op.clone(), now);
        if let purlin::Request::Propose(command) = &request {
            self.order.borrow_mut().proposed(id, group, command.clone());
        }
        (id, group, request)
    }

    /// The group of a key: any fixed rule will do.
    fn group(&self, key: &[u8]) -> GroupId {
        let sum =
            key.iter().fold(7_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(*byte)));
        group_of_slot((sum % 16_384) as u16, self.options.groups)
    }

    fn turmoil(self: &Rc<Self>, world: &World) {
        let mut nemesis = Nemesis::new(self.options.faults.clone());
        let end = world.now() + self.options.turmoil;
        while world.now() < end && world.panics().is_empty() {
            let pause = nemesis.act(world).min(end.saturating_sub(world.now()));
            match world.run_for(pause) {
                Outcome::BudgetExhausted => {
                    return self.violation("a task spins without waiting for anything");
                }
                Outcome::Panicked => return,
                Outcome::Reached | Outcome::TimeReached | Outcome::Quiescent => {}
            }
        }
        nemesis.calm(world);
        for node in self.stopped.take() {
            world.crash(node, Crash::Kill);
            world.restart(node);
        }
    }

    /// Everything must work again: each group takes a write at each node, and all replicas become equal.
    fn recover(self: &Rc<Self>, world: &World, nodes: &[NodeId]) {
        if !world.panics().is_empty() {
            return;
        }
        let missing: Rc<RefCell<BTreeSet<(NodeId, GroupId)>>> = Rc::default();
        for node in nodes {
            for group in (1..=self.options.groups).map(GroupId) {
                let (shelf, missing, node) = (self.clone(), missing.clone(), *node);
                let runtime = world.outside();
                missing.borrow_mut().insert((node, group));
                world.outside().spawn(async move {
                    shelf.probe(&runtime, node, group).await;
                    missing.borrow_mut().remove(&(node, group));
                });
            }
        }
        if self.run_while_reviving(world, || missing.borrow().is_empty()) != Outcome::Reached {
            let missing = missing.borrow();
            return self.violation(format!(
                "no write {RECOVERY:?} after the last fault, (node, group): {missing:?}"
            ));
        }
        self.is_over.set(true);
        let states = || self.states.borrow().all_equal(nodes);
        if world.run_until(RECOVERY, || states().is_ok()) != Outcome::Reached
            && let Err(divergence) = states()
        {
            self.violation(format!(
                "replicas differ {RECOVERY:?} after the last write: {divergence:?}"
            ));
        }
    }

    /// Runs until `condition` holds. A write or sync that was under way when the faults ended may still
    /// fail, and stop its shard: whoever runs the node starts it again, once. A node that stops a second
    /// time stays down, and so shows.
    fn run_while_reviving(&self, world: &World, condition: impl Fn() -> bool) -> Outcome {
        let (end, mut revived) = (world.now() + RECOVERY, BTreeSet::new());
        loop {
            let is_anybody_down = |seen: &BTreeSet<NodeId>| {
                self.stopped.borrow().iter().any(|node| !seen.contains(node))
            };
            let left = end.saturating_sub(world.now());
            let outcome = world.run_until(left, || condition() || is_anybody_down(&revived));
            if outcome != Outcome::Reached || condition() {
                return outcome;
            }
            for node in self.stopped.take() {
                if revived.insert(node) {
                    world.crash(node, Crash::Kill);
                    world.restart(node);
                }
            }
        }
    }

    /// Writes into a group at a node until it is done.
    async fn probe(&self, runtime: &SimRuntime, node: NodeId, group: GroupId) {
        let key = format!("probe-{node}-{group}");
        let command = KvCommand::Set {
            key: key.as_bytes(),
            value: b"x",
            condition: SetCondition::Always,
            get: false,
        };
        loop {
            let local = self.locals.borrow().get(&(node, ShardId(0))).cloned();
            if let Some(local) = local {
                // The shard may have ended with its process, and will never answer.
                let answered = async { local.propose(group, command.encode()).await.is_ok() };
                let given_up = async {
                    runtime.sleep(PATIENCE).await;
                    false
                };
                if futures_lite::future::or(answered, given_up).await {
                    return;
                }
            }
            runtime.sleep(Duration::from_millis(100)).await;
        }
    }

    fn judge(&self, world: &World) -> Report {
        for panic in world.panics() {
            self.violation(format!("{panic:?}"));
        }
        self.order.borrow().tell(&mut self.history.borrow_mut());
        let history = self.history.borrow();
        let mut inconclusive = 0;
        match linearizability::check(&KvModel, &history, CHECK_STEPS) {
            Verdict::Linearizable => {}
            Verdict::Violation(violation) => self.violation(violation.to_string()),
            Verdict::Inconclusive { key } => {
                inconclusive = 1;
                world.trace(&format!("the search for an order of {key:?} was given up"));
            }
        }
        let mut violations = self.violations.take();
        violations.extend(self.order.borrow().violations(&history));
        violations.truncate(20);
        Report {
            violations,
            hash: world.hash(),
            operations: history.counts(),
            inconclusive,
            events: world.events(),
            starts: self.starts.get(),
            simulated: world.now(),
            lines: world.lines(),
        }
    }
}

/// A machine that shows its state after each command.
struct Observed {
    node: NodeId,
    machine: KvMachine,
    shelf: Rc<Shelf>,
}

impl StateMachine for Observed {
    fn apply(&mut self, context: &ApplyContext, commands: &[Command], outcomes: &mut Vec<Bytes>) {
        for command in commands {
            self.machine.apply(context, std::slice::from_ref(command), outcomes);
            let (group, index) = (context.group, command.id.index);
            self.shelf.order.borrow_mut().applied(group, index, &command.data);
            let digest = self.machine.digest();
            let seen = self.shelf.states.borrow_mut().observe(self.node, group, index, digest);
            if let Err(divergence) = seen {
                self.shelf.violation(format!("two replicas differ: {divergence:?}"));
            }
        }
    }

    fn query(&self, query: &[u8]) -> Bytes {
        self.machine.query(query)
    }
}

/// What an outcome tells the client that asked for `op`.
fn told(op: &Op, outcome: Result<Bytes, RequestError>) -> Told<Reply> {
    match outcome {
        Ok(outcome) => Told::Done(decode(op, &outcome)),
        Err(RequestError::Unknown { .. }) => Told::Unknown,
        Err(_) => Told::NotApplied,
    }
}

/// An operation as the machine takes it, with its number in the history: no two commands are equal.
fn encode(key: &[u8], op: &Op, number: usize) -> purlin::Request {
    let set = |value, condition, get| {
        purlin::Request::Propose(KvCommand::Set { key, value, condition, get }.encode())
    };
    match op {
        Op::Get => purlin::Request::Query(KvQuery::Get { key }.encode()),
        Op::Exists => purlin::Request::Query(KvQuery::Exist { keys: keys(key).strings() }.encode()),
        Op::Length => purlin::Request::Query(KvQuery::Length { key }.encode()),
        Op::Set(value) => set(value, SetCondition::Always, false),
        Op::SetIfAbsent(value) => set(value, SetCondition::Absent, false),
        Op::SetIfPresent(value) => set(value, SetCondition::Present, false),
        Op::SetIfEqual { expected, value } => set(value, SetCondition::Equal(expected), false),
        Op::Swap(value) => set(value, SetCondition::Always, true),
        Op::Append(value) => purlin::Request::Propose(KvCommand::Append { key, value }.encode()),
        Op::Increment(delta) => {
            purlin::Request::Propose(KvCommand::Add { key, delta: *delta }.encode())
        }
        Op::Delete => {
            // One more, which never exists and so counts for nothing.
            let mut keys = keys(key);
            keys.push(format!("none-{number}").as_bytes());
            purlin::Request::Propose(KvCommand::Delete { keys: keys.strings() }.encode())
        }
    }
}

fn keys(key: &[u8]) -> StringsBuf {
    let mut keys = StringsBuf::default();
    keys.push(key);
    keys
}

/// What the machine answered, as the checkers know it.
fn decode(op: &Op, outcome: &[u8]) -> Reply {
    let outcome = KvOutcome::decode(outcome).expect("the machine's own outcome");
    let is_value = matches!(op, Op::Get | Op::Swap(_));
    match outcome {
        KvOutcome::Nil if is_value => Reply::Value(None),
        KvOutcome::Nil => Reply::Refused,
        KvOutcome::Ok => Reply::Done,
        KvOutcome::Integer(number) => Reply::Number(number),
        KvOutcome::Bytes(value) => Reply::Value(Some(Bytes::copy_from_slice(value))),
        KvOutcome::Error(text) if text.windows(8).any(|word| word == b"overflow") => {
            Reply::OutOfRange
        }
        KvOutcome::Error(_) => Reply::NotANumber,
        KvOutcome::Array(_) => unreachable!("no operation asks for several values"),
    }
}

impl Report {
    /// Adds another run's figures.
    pub fn add(&mut self, other: &Self) {
        let ((a, b, c), (x, y, z)) = (self.operations, other.operations);
        self.operations = (a + x, b + y, c + z);
        self.inconclusive += other.inconclusive;
        self.events += other.events;
        self.starts += other.starts;
        self.simulated += other.simulated;
    }

    /// The report in words, for a failed seed.
    pub fn explain(&self, seed: u64) -> String {
        let mut text = format!("seed {seed} fails:\n");
        for violation in &self.violations {
            let _ = writeln!(text, "  {violation}");
        }
        let _ = write!(
            text,
            "replay: cargo run --release -p purlin-tests --bin sim -- --seed {seed} --trace"
        );
        text
    }
}
