//! A cluster that a test leads step by step: the same nodes as those of a seed, calm unless the test
//! says otherwise. What is asked of it is bounded in simulated time.

use super::{Cluster, ClusterOptions, KeyValue};
use crate::sim::{Crash, Outcome, Random, World};
use crate::workload::WorkloadOptions;
use bytes::Bytes;
use purlin::{
    ErrorKind, GroupId, LocalShard, NodeId, RequestError, ShardId,
    kv::{KvCommand, KvOutcome, KvQuery, SetCondition},
};
use std::{cell::RefCell, rc::Rc, time::Duration};

/// See the module.
pub struct Scenario {
    /// Its world, to cut, crash and restore in.
    pub world: World,
    cluster: Rc<Cluster<KeyValue>>,
}

/// What a request was answered, or nothing when no answer came in time.
pub type Answer = Option<Result<Option<Bytes>, RequestError>>;

/// The group that scenarios speak to.
pub const GROUP: GroupId = GroupId(1);

impl Scenario {
    /// Directories of `nodes` nodes with one shard and one group each, and no process. With `clients`
    /// at each node there is load beside what the test asks.
    pub fn new(seed: u64, nodes: u32, clients: u32) -> Self {
        let options = ClusterOptions { clients, ..ClusterOptions::calm(nodes, 1) };
        let world = World::new(seed, options.world.clone());
        let load = KeyValue::new(Random::new(seed, "workload"), WorkloadOptions::default());
        let cluster = Cluster::new(load, options, true);
        cluster.nodes().into_iter().for_each(|node| cluster.init(&world, node));
        Self { world, cluster }
    }

    /// The same with all nodes started, and a first write done.
    pub fn running(seed: u64, nodes: u32, clients: u32) -> Self {
        let scenario = Self::new(seed, nodes, clients);
        scenario.nodes().for_each(|node| scenario.start(node, 1));
        scenario.must_write(NodeId(1), "first", "1", Duration::from_secs(20));
        scenario
    }

    /// All nodes.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + use<> {
        (1..=self.cluster.options.nodes).map(NodeId)
    }

    /// All nodes but one.
    pub fn others(&self, node: NodeId) -> Vec<NodeId> {
        self.nodes().filter(|other| *other != node).collect()
    }

    /// Makes a node's directory anew.
    pub fn init(&self, node: NodeId) {
        self.cluster.init(&self.world, node);
    }

    /// Starts a node with a number of shards in its configuration.
    pub fn start(&self, node: NodeId, shards: u16) {
        self.cluster.start_with(&self.world, node, shards);
    }

    /// Lets time pass.
    pub fn run_for(&self, duration: Duration) {
        let outcome = self.world.run_for(duration);
        assert!(matches!(outcome, Outcome::TimeReached | Outcome::Quiescent), "{outcome:?}");
    }

    /// Runs until something holds.
    pub fn must_reach(&self, what: &str, limit: Duration, condition: impl FnMut() -> bool) {
        let outcome = self.world.run_until(limit, condition);
        assert_eq!(outcome, Outcome::Reached, "{what}, in {limit:?}");
    }

    /// Takes a node down, and waits until that is done.
    pub fn crash(&self, node: NodeId, how: Crash) {
        self.world.crash(node, how);
        self.cluster.processes.locals.borrow_mut().retain(|(at, _), _| *at != node);
    }

    /// Whom the running nodes among `nodes` take for the leader, in the highest term that they know.
    pub fn leader_among(&self, nodes: &[NodeId]) -> Option<NodeId> {
        let locals = self.cluster.processes.locals.borrow();
        let running = locals.iter().filter(|((node, _), _)| nodes.contains(node));
        let statuses = running.flat_map(|(_, local)| local.board().groups().next());
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

    /// Writes a key at a node.
    pub fn write(&self, at: NodeId, key: &str, value: &str, limit: Duration) -> Answer {
        let command = KvCommand::Set {
            key: key.as_bytes(),
            value: value.as_bytes(),
            condition: SetCondition::Always,
            get: false,
        };
        let command = command.encode();
        self.ask(at, limit, async move |local| local.propose(GROUP, command).await)
    }

    /// Reads a key at a node, linearizably.
    pub fn read(&self, at: NodeId, key: &str, limit: Duration) -> Answer {
        let query = KvQuery::Get { key: key.as_bytes() }.encode();
        self.ask(at, limit, async move |local| local.query(GROUP, query).await)
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

    /// No replicas that differ, no panic.
    pub fn assert_sound(&self) {
        assert_eq!(self.cluster.judges.violations.take(), Vec::<String>::new());
        assert_eq!(self.world.panics(), []);
    }

    fn ask<F>(
        &self,
        at: NodeId,
        limit: Duration,
        request: impl FnOnce(LocalShard<crate::sim::SimRuntime>) -> F,
    ) -> Answer
    where
        F: Future<Output = Result<Bytes, RequestError>> + 'static,
    {
        let local = self.cluster.processes.locals.borrow().get(&(at, ShardId(0))).cloned()?;
        let answer: Rc<RefCell<Answer>> = Rc::default();
        let (told, request) = (answer.clone(), request(local));
        purlin::Runtime::spawn(&self.world.outside(), async move {
            let outcome = request.await;
            *told.borrow_mut() = Some(outcome.map(|outcome| value_in(&outcome)));
        });
        let _ = self.world.run_until(limit, || answer.borrow().is_some());
        answer.take()
    }
}

fn value_in(outcome: &[u8]) -> Option<Bytes> {
    match KvOutcome::decode(outcome).expect("the machine's own outcome") {
        KvOutcome::Bytes(value) => Some(Bytes::copy_from_slice(value)),
        _ => None,
    }
}
