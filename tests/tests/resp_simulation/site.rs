//! A cluster with the real front end at every shard, and clients that write down what they were told.

use bytes::Bytes;
use purlin::{
    ApplyContext, ClusterConfig, ClusterId, Command, Durability, DurableBy, GroupId, IntakeOptions,
    LocalShard, Member, NodeConfig, NodeId, RaftOptions, Runtime, ShardId, ShardSetup, Shared,
    StateMachine, WalOptions, kv::KvMachine,
};
use purlin_tests::{
    checker::{
        history::History,
        kv::KvModel,
        linearizability::{self, Verdict},
        order::Order,
    },
    resp::{self, Client, ClientOptions, Value, Wire},
    sim::{Fault, FaultOptions, Nemesis, Outcome, Random, SimRuntime, World, WorldOptions},
    workload::{Op, Reply, Request, Workload, WorkloadOptions},
};
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    rc::Rc,
    time::Duration,
};

const CHECK_STEPS: u64 = 2_000_000;
/// What a client keeps open at most.
const OPEN_MAX: u64 = 12;

pub(crate) struct SiteOptions {
    /// The shards of each node.
    pub(crate) shards: Vec<u16>,
    pub(crate) groups: u32,
    pub(crate) world: WorldOptions,
    /// How the front ends serve.
    pub(crate) front: fn(&mut resp::FrontEndOptions),
}

impl Default for SiteOptions {
    fn default() -> Self {
        let world = WorldOptions::default();
        Self { shards: vec![1, 2, 1], groups: 4, world, front: |_| {} }
    }
}

/// See the module.
pub(crate) struct Site {
    pub(crate) world: World,
    shared: Rc<State>,
}

struct State {
    shards: Vec<u16>,
    cluster: ClusterConfig,
    front: fn(&mut resp::FrontEndOptions),
    workload: RefCell<Workload>,
    history: RefCell<History<Op, Reply>>,
    order: RefCell<Order>,
    /// All commands that any replica has applied.
    applied: RefCell<BTreeSet<Bytes>>,
    processes: RefCell<BTreeMap<(NodeId, u64), Shared<SimRuntime>>>,
    locals: RefCell<BTreeMap<(NodeId, ShardId), LocalShard<SimRuntime>>>,
    wrong: RefCell<Vec<String>>,
    clients: Cell<u32>,
    is_over: Cell<bool>,
}

impl Site {
    /// A cluster that serves at every shard.
    pub(crate) fn running(seed: u64, options: SiteOptions) -> Self {
        let world = World::new(seed, options.world);
        let member =
            |node: u32| Member { node: NodeId(node), host: format!("n{node}"), peer_port: 7000 };
        let nodes = options.shards.len() as u32;
        let cluster = ClusterConfig {
            id: ClusterId(0x5eed),
            groups: options.groups,
            replicas: nodes,
            members: (1..=nodes).map(member).collect(),
        };
        let workload = Workload::new(Random::new(seed, "workload"), WorkloadOptions::default());
        let shared = Rc::new(State {
            shards: options.shards,
            cluster,
            front: options.front,
            workload: RefCell::new(workload),
            history: RefCell::default(),
            order: RefCell::default(),
            applied: RefCell::default(),
            processes: RefCell::default(),
            locals: RefCell::default(),
            wrong: RefCell::default(),
            clients: Cell::new(0),
            is_over: Cell::new(false),
        });
        let site = Self { world, shared };
        site.nodes().for_each(|node| site.init(node));
        site.nodes().for_each(|node| site.start(node));
        site.nodes().for_each(|node| site.must_serve(node));
        site
    }

    pub(crate) fn nodes(&self) -> impl Iterator<Item = NodeId> + use<> {
        (1..=self.shared.cluster.members.len() as u32).map(NodeId)
    }

    pub(crate) fn shards(&self) -> Vec<(NodeId, ShardId)> {
        let shards = |node: NodeId| (0..self.shared.shards(node)).map(move |n| (node, ShardId(n)));
        self.nodes().flat_map(shards).collect()
    }

    /// Who leads, by what the running nodes know.
    pub(crate) fn leaders(&self) -> BTreeSet<NodeId> {
        let locals = self.shared.locals.borrow();
        let statuses = locals.values().flat_map(|local| local.board().groups().collect::<Vec<_>>());
        statuses.filter_map(|status| status.leader).collect()
    }

    fn init(&self, node: NodeId) {
        let shared = self.shared.clone();
        self.world.start(node, 1, move |runtime| {
            let shared = shared.clone();
            async move {
                let (cluster, config) = (&shared.cluster, node_config(node));
                let made = purlin::init_on(&runtime, cluster, &config, shared.shards(node)).await;
                made.expect("a directory is made");
            }
        });
        let _ = self.world.run_until(Duration::from_secs(60), || !self.world.is_running(node));
    }

    fn start(&self, node: NodeId) {
        let shared = self.shared.clone();
        let shards = shared.shards(node);
        self.world.start(node, shards, move |runtime| shared.clone().run_shard(runtime));
    }

    pub(crate) fn run_for(&self, duration: Duration) {
        let outcome = self.world.run_for(duration);
        let panics = self.world.panics();
        assert!(matches!(outcome, Outcome::TimeReached | Outcome::Quiescent), "{panics:?}");
    }

    /// Talks with a shard over a connection from outside, within a bound.
    pub(crate) fn ask<T: 'static>(
        &self,
        node: NodeId,
        shard: ShardId,
        limit: Duration,
        talk: impl AsyncFnOnce(Wire) -> T + 'static,
    ) -> T {
        let said = Rc::new(RefCell::new(None));
        let (runtime, told) = (self.world.outside(), said.clone());
        self.world.outside().spawn(async move {
            let address = resp::address(node, shard);
            let wire = Wire::connect(&runtime, &address).await.expect("it is taken in");
            let all = talk(wire).await;
            *told.borrow_mut() = Some(all);
        });
        let outcome = self.world.run_until(limit, || said.borrow().is_some());
        let panics = self.world.panics();
        assert_eq!(outcome, Outcome::Reached, "node {node} shard {shard} {limit:?} {panics:?}");
        said.take().expect("it was reached")
    }

    /// Every group takes a write at the first shard of a node, within a bound.
    pub(crate) fn must_serve(&self, node: NodeId) {
        const LIMIT: Duration = Duration::from_secs(30);
        let (runtime, is_done) = (self.world.outside(), Rc::new(Cell::new(false)));
        let (done, groups) = (is_done.clone(), self.shared.cluster.groups);
        self.world.outside().spawn(async move {
            let address = resp::address(node, ShardId(0));
            let mut group = 1;
            while group <= groups {
                match write_into(&runtime, &address, GroupId(group), groups).await {
                    true => group += 1,
                    false => runtime.sleep(Duration::from_millis(50)).await,
                }
            }
            done.set(true);
        });
        let outcome = self.world.run_until(LIMIT, || is_done.get());
        let panics = self.world.panics();
        assert_eq!(outcome, Outcome::Reached, "node {node} serves after {LIMIT:?}; {panics:?}");
    }

    /// How many clients a node's first shard says that it has, this question not counted.
    pub(crate) fn clients(&self, node: NodeId) -> usize {
        let text = self.ask(node, ShardId(0), Duration::from_secs(10), async |mut wire| {
            wire.write(&resp::request_bytes(&["CLIENT", "LIST"])).await.expect("it is sent");
            wire.reply().await.expect("a reply")
        });
        let Value::Bulk(text) = text else { panic!("{text:?} is no text") };
        String::from_utf8_lossy(&text).lines().count() - 1
    }

    /// A client keeps operations open at any shard of any node, until the test is judged.
    pub(crate) fn spawn_client(&self) {
        let shared = self.shared.clone();
        let number = shared.clients.get();
        shared.clients.set(number + 1);
        let addresses = self.shards().into_iter().map(|(node, shard)| resp::address(node, shard));
        let options = ClientOptions::new(addresses.collect());
        let client = Client::new(self.world.outside(), number, options);
        self.world.outside().spawn(shared.run_client(self.world.outside(), number, client));
    }

    /// Kills nodes, breaks links, those of clients too, and stops cores by chance, and leaves all well in the end.
    pub(crate) fn turmoil(&self, duration: Duration) {
        let mut nemesis = Nemesis::new(FaultOptions {
            nodes: self.nodes().collect(),
            shards: 1,
            down_max: 1,
            pause_mean: Duration::from_millis(700),
            kinds: vec![
                Fault::Kill,
                Fault::PowerCut,
                Fault::Partition,
                Fault::OneWay,
                Fault::Reset,
                Fault::Pause,
            ],
            beyond: false,
        });
        let end = self.world.now() + duration;
        while self.world.now() < end {
            let pause = nemesis.act(&self.world);
            if self.world.faults().chance(0.2) {
                let nodes: Vec<NodeId> = self.nodes().collect();
                self.world.reset_connections(NodeId(0), *self.world.faults().pick(&nodes));
            }
            self.run_for(pause.min(end - self.world.now()));
        }
        nemesis.calm(&self.world);
    }

    /// Lets the clients end, and judges what they were told and what the log has. Gives how many
    /// operations were done, not applied, and unknown.
    pub(crate) fn judge(&self, limit: Duration) -> (usize, usize, usize) {
        self.shared.is_over.set(true);
        let outcome = self.world.run_until(limit, || self.shared.clients.get() == 0);
        assert_eq!(outcome, Outcome::Reached, "clients wait; {:?}", self.world.panics());
        self.nodes().for_each(|node| self.must_serve(node));
        self.assert_sound();
        let mut history = self.shared.history.borrow_mut();
        let order = self.shared.order.borrow();
        order.tell(&mut history);
        assert_eq!(order.violations(&history), Vec::<String>::new());
        let verdict = linearizability::check(&KvModel, &history, CHECK_STEPS);
        assert!(matches!(verdict, Verdict::Linearizable), "{verdict:?}");
        history.counts()
    }

    /// Whether a replica has applied a command of exactly these bytes.
    pub(crate) fn has_applied(&self, command: &Bytes) -> bool {
        self.shared.applied.borrow().contains(command)
    }

    /// No shard has stopped, nothing has panicked, no client was told what it must not be told.
    pub(crate) fn assert_sound(&self) {
        assert_eq!(self.world.panics(), []);
        assert_eq!(*self.shared.wrong.borrow(), Vec::<String>::new());
    }
}

/// Writes a key of a group, and tells whether that is done.
async fn write_into(runtime: &SimRuntime, address: &str, group: GroupId, groups: u32) -> bool {
    let keys = (0..).map(|n| format!("probe-{n}"));
    let key = keys.into_iter().find(|key| resp::group_of(key.as_bytes(), groups) == group);
    let request = resp::request_bytes(&["SET", &key.expect("there are enough"), "x"]);
    let Ok(mut wire) = Wire::connect(runtime, address).await else { return false };
    wire.write(&request).await.is_ok()
        && wire.reply().await.is_ok_and(|reply| reply == Value::Simple("OK".into()))
}

impl State {
    fn shards(&self, node: NodeId) -> u16 {
        self.shards[node.0 as usize - 1]
    }

    async fn run_shard(self: Rc<Self>, runtime: SimRuntime) {
        /// Messages that wait between two shards of a node.
        const MESH_CAPACITY: usize = 256;
        let (node, shard) = (runtime.node(), runtime.shard());
        let shared = self
            .processes
            .borrow_mut()
            .entry((node, runtime.boot()))
            .or_insert_with(|| Shared::new(runtime.shards(), self.cluster.groups))
            .clone();
        let state = self.clone();
        let setup = ShardSetup {
            mesh: runtime.mesh(MESH_CAPACITY),
            runtime: runtime.clone(),
            shard,
            cluster: self.cluster.clone(),
            node: node_config(node),
            durability: Durability::EachWrite,
            machines: Rc::new(move |_group| -> Box<dyn StateMachine> {
                Box::new(Observed { machine: KvMachine::new(), state: state.clone() })
            }),
            shared,
        };
        let stopped = match setup.open().await {
            Ok(opened) => {
                let local = opened.local();
                let served = resp::serve(&local, &self.cluster, self.front).await;
                served.expect("the port is free");
                self.locals.borrow_mut().insert((node, shard), local);
                opened.run().await
            }
            Err(error) => Err(error),
        };
        self.wrong.borrow_mut().push(format!("node {node} shard {shard} stopped: {stopped:?}"));
    }

    async fn run_client(self: Rc<Self>, runtime: SimRuntime, number: u32, mut client: Client) {
        while !self.is_over.get() {
            client.connect().await;
            for _ in 0..1 + runtime.random() % (OPEN_MAX - client.open() as u64) {
                self.ask(&mut client, number, runtime.now());
            }
            self.take_answers(&mut client, &runtime).await;
            let think = runtime.random() % 100_000;
            runtime.sleep(Duration::from_micros(think)).await;
        }
        while client.open() > 0 {
            self.take_answers(&mut client, &runtime).await;
        }
        self.clients.set(self.clients.get() - 1);
    }

    fn ask(&self, client: &mut Client, number: u32, now: Duration) {
        let Request { key, op } = self.workload.borrow_mut().next(number);
        let group = resp::group_of(&key, self.cluster.groups);
        let mut history = self.history.borrow_mut();
        let place = history.operations().len();
        let lane = Some(client.lane(group));
        let id = history.invoke_in(lane, number, key.clone(), op.clone(), now);
        if let Some(command) = resp::expected_command(&key, &op, place) {
            self.order.borrow_mut().proposed(id, group, command);
        }
        client.ask(id, &key, op, place);
    }

    async fn take_answers(&self, client: &mut Client, runtime: &SimRuntime) {
        match client.answers().await {
            Ok(answers) => {
                for (id, told) in answers {
                    self.history.borrow_mut().complete(id, told, runtime.now());
                }
            }
            Err(strange) => self.wrong.borrow_mut().push(strange),
        }
    }
}

/// A machine that shows what it applies.
struct Observed {
    machine: KvMachine,
    state: Rc<State>,
}

impl StateMachine for Observed {
    fn apply(&mut self, context: &ApplyContext, commands: &[Command], outcomes: &mut Vec<Bytes>) {
        let mut order = self.state.order.borrow_mut();
        for command in commands {
            order.applied(context.group, command.id.index, &command.data);
            self.state.applied.borrow_mut().insert(command.data.clone());
        }
        self.machine.apply(context, commands, outcomes);
    }

    fn query(&self, query: &[u8]) -> Bytes {
        self.machine.query(query)
    }
}

fn node_config(node: NodeId) -> NodeConfig {
    NodeConfig {
        node,
        data_dir: PathBuf::new(),
        pin: false,
        raft: RaftOptions::default(),
        wal: WalOptions { segment_bytes: 1 << 20, durable_by: DurableBy::Auto },
        intake: IntakeOptions { command_bytes_max: 64 << 10, ..IntakeOptions::default() },
        io_memory: 0,
    }
}
