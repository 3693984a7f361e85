//! A cluster that a test controls step by step: the same nodes as those of a seed, without faults
//! unless the test causes them. Every wait is bounded in simulated time.

use super::{Cluster, ClusterOptions, KeyValue, Poison, clients::ask};
use crate::sim::{Crash, Outcome, Random, SimRuntime, World};
use crate::workload::WorkloadOptions;
use bytes::Bytes;
use futures_lite::future::{block_on, poll_once};
use purlin::{
    BoardEntry, Caller, ControlAnswer, ControlError, ErrorKind, GroupId, Index, LocalShard, NodeId,
    NodeView, Request, RequestError, ShardControl, ShardId, ShardSetup, StopHold, Term,
};
use purlin_kv::{KvCommand, KvOutcome, KvQuery, SetCondition, StringsBuf};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::Duration,
};

/// See the module.
pub struct Scenario {
    /// Its world, to cut, crash and restore in.
    pub world: World,
    cluster: Rc<Cluster<KeyValue>>,
    elections: RefCell<Elections>,
    unplugged: RefCell<BTreeSet<NodeId>>,
}

/// The leader of each group in each term, as far as one was seen when time moved on.
type Elections = BTreeMap<(GroupId, Term), NodeId>;

/// What a request was answered, or nothing when no answer came in time.
pub type Answer = Option<Result<Option<Bytes>, RequestError>>;

/// The group that scenarios speak to.
pub const GROUP: GroupId = GroupId(1);

/// A request whose answer is not waited for.
#[derive(Clone)]
pub struct Pending(Rc<RefCell<Answer>>);

impl Pending {
    /// Its answer, if that has come.
    pub fn answer(&self) -> Answer {
        self.0.borrow().clone()
    }

    /// Whether it was done.
    pub fn is_done(&self) -> bool {
        matches!(*self.0.borrow(), Some(Ok(_)))
    }
}

/// A cluster of `nodes` nodes with one shard and one group each, where nothing goes wrong by itself.
/// With `clients` at each node there is load beside what the test asks.
pub fn calm(nodes: u32, clients: u32) -> ClusterOptions {
    ClusterOptions { clients, ..ClusterOptions::calm(nodes, 1) }
}

impl Scenario {
    /// Directories of a [`calm`] cluster, and no process.
    pub fn new(seed: u64, nodes: u32, clients: u32) -> Self {
        Self::with(seed, calm(nodes, clients))
    }

    /// The same with all nodes started, and a first write done.
    pub fn running(seed: u64, nodes: u32, clients: u32) -> Self {
        Self::running_with(seed, calm(nodes, clients))
    }

    /// Directories of another kind of cluster, and no process.
    pub fn with(seed: u64, options: ClusterOptions) -> Self {
        let random = Random::new(seed, "workload");
        Self::with_subject(seed, options, KeyValue::new(random, WorkloadOptions::default()))
    }

    /// The same with another load, or other front ends.
    pub fn with_subject(seed: u64, options: ClusterOptions, subject: KeyValue) -> Self {
        let world = World::new(seed, options.world.clone());
        let scenario = Self {
            world,
            cluster: Cluster::new(subject, options),
            elections: RefCell::default(),
            unplugged: RefCell::default(),
        };
        scenario.world.watch(scenario.cluster.judges.audit.clone());
        scenario.nodes().for_each(|node| scenario.init(node));
        scenario
    }

    /// The same with all nodes started, and a first write done.
    pub fn running_with(seed: u64, options: ClusterOptions) -> Self {
        Self::with(seed, options).started()
    }

    /// Starts all nodes, lets the visitors come, and does a first write.
    pub fn started(self) -> Self {
        self.nodes().for_each(|node| self.start(node, self.cluster.shards(node)));
        self.cluster.spawn_visitors(&self.world);
        self.must_write(NodeId(1), "first", "1", Duration::from_secs(20));
        self
    }

    /// All nodes.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + use<> {
        (1..=self.cluster.options.nodes).map(NodeId)
    }

    /// All nodes but one.
    pub fn others(&self, node: NodeId) -> Vec<NodeId> {
        self.nodes().filter(|other| *other != node).collect()
    }

    /// All shards of all nodes.
    pub fn shards(&self) -> Vec<(NodeId, ShardId)> {
        self.cluster.all_shards()
    }

    /// Makes a node's directory anew.
    pub fn init(&self, node: NodeId) {
        self.cluster.init(&self.world, node);
    }

    /// Starts a node with a number of shards in its configuration.
    pub fn start(&self, node: NodeId, shards: u16) {
        self.cluster.start_with(&self.world, node, shards);
    }

    /// Starts a process of one shard at `at` that was told something else than the nodes were: who it
    /// is, or what its cluster is.
    pub fn start_changed(
        &self,
        at: NodeId,
        change: impl Fn(&mut ShardSetup<SimRuntime>) + Clone + 'static,
    ) {
        let cluster = self.cluster.clone();
        self.world.start(at, 1, move |runtime| {
            let (cluster, change) = (cluster.clone(), change.clone());
            async move {
                let mut setup = cluster.setup(&runtime);
                change(&mut setup);
                let result = match setup.open().await {
                    Ok(opened) => opened.run().await,
                    Err(error) => Err(error),
                };
                if let Err(error) = result {
                    cluster.shard_stopped(&runtime, error);
                }
            }
        });
    }

    /// From now on the machines at `nodes` panic at a command or a query that holds `bytes`.
    pub fn poison(&self, bytes: &'static str, nodes: &[NodeId]) {
        let poison = Poison { bytes: Bytes::from_static(bytes.as_bytes()), nodes: nodes.to_vec() };
        self.cluster.poison.replace(Some(poison));
    }

    /// Lets time pass.
    pub fn run_for(&self, duration: Duration) {
        let outcome = self.world.run_until(duration, || {
            self.note_leaders();
            false
        });
        let is_past = matches!(outcome, Outcome::TimeReached | Outcome::Quiescent);
        assert!(is_past, "{outcome:?}; {:?}", self.world.panics());
    }

    /// Runs until something holds.
    pub fn must_reach(&self, what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
        let outcome = self.world.run_until(limit, || {
            self.note_leaders();
            condition()
        });
        assert_eq!(outcome, Outcome::Reached, "{what}, in {limit:?}; {:?}", self.world.panics());
    }

    /// Takes a node down, and waits until that is done.
    pub fn crash(&self, node: NodeId, how: Crash) {
        self.world.crash(node, how);
        self.cluster.processes.locals.borrow_mut().retain(|(at, _), _| *at != node);
    }

    /// Asks a node to stop, as a signal does, and does not wait.
    pub fn ask_to_stop(&self, node: NodeId) {
        self.world.terminate(node);
    }

    /// Keeps the first shard of a node from ending, as a front end does whose clients have answers to take.
    pub fn hold(&self, node: NodeId) -> StopHold {
        self.local(node).expect("the node runs").hold()
    }

    /// The leader that the running nodes among `nodes` know, in the highest term that they know.
    pub fn leader_among(&self, nodes: &[NodeId]) -> Option<NodeId> {
        let locals = self.cluster.processes.locals.borrow();
        let running = locals.iter().filter(|((node, _), _)| nodes.contains(node));
        let statuses = running.flat_map(|(_, local)| local.board().group(GROUP));
        statuses.max_by_key(|status| status.term)?.leader
    }

    /// The leader, once there is one.
    pub fn leader(&self) -> NodeId {
        let nodes: Vec<NodeId> = self.nodes().collect();
        self.must_reach("a leader", Duration::from_secs(20), || {
            self.leader_among(&nodes).is_some()
        });
        self.leader_among(&nodes).expect("there is one")
    }

    /// How a group stands at a node, if that runs.
    pub fn status(&self, node: NodeId, group: GroupId) -> Option<BoardEntry> {
        let locals = self.cluster.processes.locals.borrow();
        locals.get(&(node, ShardId(0)))?.board().group(group)
    }

    /// How far a node has applied the group that scenarios speak to; nothing when it does not run.
    pub fn applied(&self, node: NodeId) -> Index {
        self.status(node, GROUP).map_or(Index(0), |status| status.applied)
    }

    /// Whether any node has applied a command of exactly these bytes.
    pub fn has_applied(&self, group: GroupId, command: &Bytes) -> bool {
        self.cluster.judges.order.borrow().has_applied(group, command)
    }

    /// The highest term of that group at any running node.
    pub fn term(&self) -> Term {
        let terms = self.nodes().filter_map(|node| self.status(node, GROUP));
        terms.map(|status| status.term).max().unwrap_or_default()
    }

    /// The terms in which a group has had a leader.
    pub fn elections(&self, group: GroupId) -> usize {
        self.elections.borrow().keys().filter(|(of, _)| *of == group).count()
    }

    /// Election safety: one leader of a group in one term, at whatever moment.
    fn note_leaders(&self) {
        let mut elections = self.elections.borrow_mut();
        for ((node, shard), local) in self.cluster.processes.locals.borrow().iter() {
            if *shard != ShardId(0) {
                continue;
            }
            let groups = local.board().groups_from(GroupId(1));
            for status in groups.filter(|status| status.leader == Some(*node)) {
                let first = *elections.entry((status.group, status.term)).or_insert(*node);
                assert_eq!(first, *node, "two leaders: {status:?}");
            }
        }
    }

    /// Pulls a node's cable: it reaches nobody, and runs on.
    pub fn unplug(&self, node: NodeId) {
        self.unplugged.borrow_mut().insert(node);
        self.world.isolate(node);
    }

    /// Puts it in again: the node reaches whoever has one.
    pub fn plug_in(&self, node: NodeId) {
        self.unplugged.borrow_mut().remove(&node);
        for other in self.plugged() {
            self.world.heal_link(node, other);
        }
    }

    /// The nodes that reach each other.
    pub fn plugged(&self) -> Vec<NodeId> {
        let unplugged = self.unplugged.borrow();
        self.nodes().filter(|node| !unplugged.contains(node)).collect()
    }

    /// Writes a key at a node.
    pub fn write(&self, at: NodeId, key: &str, value: &str, limit: Duration) -> Answer {
        self.ask(at, GROUP, set(key, value), limit)
    }

    /// Reads a key at a node, linearizably.
    pub fn read(&self, at: NodeId, key: &str, limit: Duration) -> Answer {
        self.ask(at, GROUP, get(key), limit)
    }

    /// Adds one to a counter at a node; the sum comes back.
    pub fn increment(&self, at: NodeId, key: &str, limit: Duration) -> Answer {
        self.ask(at, GROUP, increment(key), limit)
    }

    /// Asks a node, and waits for the answer.
    pub fn ask(&self, at: NodeId, group: GroupId, request: Request, limit: Duration) -> Answer {
        self.local(at)?;
        let pending = self.submit(at, group, request);
        let outcome = self.world.run_until(limit, || {
            self.note_leaders();
            pending.answer().is_some()
        });
        assert!(!matches!(outcome, Outcome::Panicked | Outcome::BudgetExhausted), "{outcome:?}");
        pending.answer()
    }

    /// Asks a node, and does not wait. A node that does not run never answers.
    pub fn submit(&self, at: NodeId, group: GroupId, request: Request) -> Pending {
        let pending = Pending(Rc::default());
        let Some(local) = self.local(at) else { return pending };
        let told = pending.clone();
        purlin::Runtime::spawn(&self.world.outside(), async move {
            let outcome = ask(&local, group, request).await;
            *told.0.borrow_mut() = Some(outcome.map(|outcome| value_in(&outcome)));
        });
        pending
    }

    /// A caller at a shard of a running node, to ask many things in their order.
    pub fn caller(&self, at: NodeId, shard: ShardId) -> Rc<Caller> {
        self.cluster.processes.locals.borrow().get(&(at, shard)).expect("the shard runs").caller()
    }

    /// The way to ask the first shard of a running node what an operator asks.
    pub fn control(&self, at: NodeId) -> ShardControl {
        self.control_of(at, ShardId(0))
    }

    /// The way to ask a shard of a running node what an operator asks.
    pub fn control_of(&self, at: NodeId, shard: ShardId) -> ShardControl {
        let local = self.local(at).expect("the node runs");
        local.view().control(shard).expect("a shard of the node").clone()
    }

    /// What the shards of a running node show.
    pub fn view(&self, at: NodeId) -> NodeView {
        self.local(at).expect("the node runs").view().clone()
    }

    /// Waits for the answer to what an operator asked.
    pub fn answer<T>(&self, mut answer: ControlAnswer<T>) -> Result<T, ControlError> {
        let mut answered = None;
        self.must_reach("the answer of a shard", Duration::from_secs(5), || {
            answered = block_on(poll_once(&mut answer));
            answered.is_some()
        });
        answered.expect("reached")
    }

    fn local(&self, at: NodeId) -> Option<LocalShard<SimRuntime>> {
        self.cluster.processes.locals.borrow().get(&(at, ShardId(0))).cloned()
    }

    /// Writes until it is done, within a bound.
    pub fn must_write(&self, at: NodeId, key: &str, value: &str, limit: Duration) {
        let end = self.world.now() + limit;
        while self.world.now() < end {
            if let Some(Ok(_)) = self.write(at, key, value, end - self.world.now()) {
                return;
            }
            self.run_for(Duration::from_millis(20));
        }
        panic!("no write of {key} at node {at} in {limit:?}; stops: {:?}", self.stops());
    }

    /// Reads until there is an answer, within a bound.
    pub fn must_read(&self, at: NodeId, key: &str, limit: Duration) -> Option<String> {
        let end = self.world.now() + limit;
        while self.world.now() < end {
            if let Some(Ok(value)) = self.read(at, key, end - self.world.now()) {
                return value.map(|value| String::from_utf8_lossy(&value).into_owned());
            }
            self.run_for(Duration::from_millis(20));
        }
        panic!("no read of {key} at node {at} in {limit:?}; stops: {:?}", self.stops());
    }

    /// Why shards have stopped, in that order.
    pub fn stops(&self) -> Vec<(NodeId, ErrorKind, String)> {
        let stops = self.cluster.processes.stops.borrow();
        stops.iter().map(|(node, error)| (*node, error.kind, error.to_string())).collect()
    }

    /// The node must stop for this kind of reason, and does not run then.
    pub fn must_stop(&self, node: NodeId, kind: ErrorKind, limit: Duration) -> String {
        let before = self.stops().len();
        self.must_reach("the node stops", limit, || !self.world.is_running(node));
        let stops = self.stops().split_off(before.saturating_sub(1));
        let (stopped, found, text) = stops.last().expect("a node that stops says why").clone();
        assert_eq!((stopped, found), (node, kind), "{text}");
        text
    }

    /// No replicas that differ, nothing promised that the disks do not hold, no panic.
    pub fn assert_sound(&self) {
        let judges = &self.cluster.judges;
        assert_eq!(judges.violations.take(), Vec::<String>::new());
        assert_eq!(judges.audit.violations(), Vec::<String>::new());
        assert_eq!(self.world.panics(), []);
    }

    /// All nodes become equal, within a bound.
    pub fn must_converge(&self, limit: Duration) {
        let nodes: Vec<NodeId> = self.nodes().collect();
        self.must_reach("equal replicas", limit, || {
            self.cluster.judges.states.borrow().all_equal(&nodes).is_ok()
        });
    }

    /// The clients stop, and what they were told is judged as that of a seed is. Returns how many
    /// requests were done, certainly not applied, and unknown.
    pub fn judge(&self) -> (usize, usize, usize) {
        self.cluster.is_over.set(true);
        // Each request has ended by its deadline.
        self.run_for(Duration::from_secs(12));
        self.must_reach("an end of all visits", Duration::from_secs(60), || {
            Rc::strong_count(&self.cluster.visiting) == 1
        });
        let report = self.cluster.judge(&self.world);
        assert_eq!(report.violations, Vec::<String>::new());
        assert_eq!(report.inconclusive, 0, "the search for an order was given up");
        report.operations
    }
}

/// To write a key.
pub fn set(key: &str, value: &str) -> Request {
    let (key, value) = (key.as_bytes(), value.as_bytes());
    let condition = SetCondition::Always;
    Request::Propose(KvCommand::Set { key, value, condition, get: false }.encode())
}

/// To delete a key.
pub fn delete(key: &str) -> Request {
    let keys = StringsBuf::from_iter([key.as_bytes()]);
    Request::Propose(KvCommand::Delete { keys: keys.strings() }.encode())
}

/// To read a key.
pub fn get(key: &str) -> Request {
    Request::Query(KvQuery::Get { key: key.as_bytes() }.encode())
}

/// To add one to a counter.
pub fn increment(key: &str) -> Request {
    Request::Propose(KvCommand::Add { key: key.as_bytes(), delta: 1 }.encode())
}

/// What a machine has answered, as text.
pub fn value_in(outcome: &[u8]) -> Option<Bytes> {
    match KvOutcome::decode(outcome).expect("the machine's own outcome") {
        KvOutcome::Bytes(value) => Some(Bytes::copy_from_slice(value)),
        KvOutcome::Integer(number) => Some(number.to_string().into()),
        _ => None,
    }
}
