//! The nodes of a simulated cluster: their configuration, their directories, and what each of their
//! shards runs.

use super::{Cluster, Subject, floor};
use crate::{
    resp,
    sim::{Outcome, SimRuntime, World},
};
use bytes::Bytes;
use purlin::os::RuntimeKind;
use purlin::{
    ApplyContext, ClusterConfig, ClusterId, Command, GroupId, Index, IntakeOptions, LocalShard,
    Member, NodeConfig, NodeId, ShardId, ShardSetup, Shared, StateMachine,
};
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    rc::Rc,
    time::Duration,
};

/// The processes of all nodes.
#[derive(Default)]
pub(super) struct Processes {
    /// What the shards of one process share, by node and boot.
    shared: RefCell<BTreeMap<(NodeId, u64), Shared<SimRuntime>>>,
    /// The running shards.
    pub(super) locals: RefCell<BTreeMap<(NodeId, ShardId), LocalShard<SimRuntime>>>,
    /// Nodes with a shard that has stopped: they are started again when all is calm.
    pub(super) stopped: RefCell<BTreeSet<NodeId>>,
    /// Nodes that are not started again when they stop: their bytes were corrupted.
    pub(super) given_up: RefCell<BTreeSet<NodeId>>,
    /// How often nodes were started again when all was calm already.
    pub(super) revived: RefCell<BTreeMap<NodeId, u32>>,
    /// Why shards have stopped, in that order.
    pub(super) stops: RefCell<Vec<(NodeId, purlin::Error)>>,
    /// How often nodes were started.
    pub(super) starts: Cell<u64>,
}

/// The id of the simulated cluster.
pub(super) const CLUSTER: ClusterId = ClusterId(0x5eed);

impl<S: Subject> Cluster<S> {
    pub(super) fn cluster_config(&self) -> ClusterConfig {
        let member =
            |node: u32| Member { node: NodeId(node), host: format!("n{node}"), peer_port: 7000 };
        let members = (1..=self.options.nodes).map(member).collect();
        ClusterConfig {
            max_command: self.options.limits[0].max_command,
            ..ClusterConfig::new(CLUSTER, self.options.groups, members)
        }
    }

    fn node_config(&self, node: NodeId) -> NodeConfig {
        let limits = self.options.limits_of(node);
        NodeConfig {
            node,
            data_dir: PathBuf::new(),
            pin: false,
            advertised: resp::advertised(node),
            raft: limits.raft.clone(),
            wal: limits.wal.clone(),
            intake: IntakeOptions {
                requests_max: limits.requests_max,
                request_bytes_max: limits.request_bytes_max,
                machine_bytes_max: limits.machine_bytes_max,
                ..IntakeOptions::default()
            },
            peer_host: None,
            runtime: RuntimeKind::default(),
            io_memory: 0,
            spin: Duration::ZERO,
        }
    }

    pub(super) fn shards(&self, node: NodeId) -> u16 {
        self.options.shards[node.0 as usize - 1]
    }

    /// Makes a node's directory.
    pub(super) fn init(self: &Rc<Self>, world: &World, node: NodeId) {
        let cluster = self.clone();
        world.start(node, 1, move |runtime| {
            let cluster = cluster.clone();
            async move {
                let (config, node_config) = (cluster.cluster_config(), cluster.node_config(node));
                let shards = cluster.shards(node);
                let made = purlin::init_on(&runtime, &config, &node_config, shards).await;
                if let Err(error) = made {
                    cluster.violation(format!("init of node {node} failed: {error}"));
                }
            }
        });
        let ended = world.run_until(Duration::from_secs(60), || !world.is_running(node));
        assert_eq!(ended, Outcome::Reached, "init of node {node} comes to no end");
    }

    /// Starts a node with as many shards as it was made with.
    pub(super) fn start(self: &Rc<Self>, world: &World, node: NodeId) {
        self.start_with(world, node, self.shards(node));
    }

    /// Starts a node with a number of shards in its configuration.
    pub(super) fn start_with(self: &Rc<Self>, world: &World, node: NodeId, shards: u16) {
        let cluster = self.clone();
        world.start(node, shards, move |runtime| {
            // An earlier process may have ended without a word.
            cluster.processes.locals.borrow_mut().remove(&(runtime.node(), runtime.shard()));
            cluster.clone().run_shard(runtime)
        });
    }

    /// What one shard of a node runs.
    async fn run_shard(self: Rc<Self>, runtime: SimRuntime) {
        let (node, shard) = (runtime.node(), runtime.shard());
        let processes = &self.processes;
        processes.starts.set(processes.starts.get() + u64::from(shard == ShardId(0)));
        let setup = self.setup(&runtime);
        let shared = setup.shared.clone();
        // From its first moment, as the server does.
        runtime.on_stop(move || shared.stop());
        let result = match setup.open().await {
            Ok(opened) => {
                processes.locals.borrow_mut().insert((node, shard), opened.local());
                self.spawn_clients(&runtime, &opened.local());
                self.serve_visitors(&runtime, opened.local());
                opened.run().await
            }
            Err(error) => Err(error),
        };
        processes.locals.borrow_mut().remove(&(node, shard));
        if let Err(error) = result {
            self.shard_stopped(&runtime, error);
        }
    }

    pub(super) fn setup(self: &Rc<Self>, runtime: &SimRuntime) -> ShardSetup<SimRuntime> {
        let (node, cluster) = (runtime.node(), self.clone());
        let mut shared = self.processes.shared.borrow_mut();
        let shared = shared
            .entry((node, runtime.boot()))
            .or_insert_with(|| Shared::new(node, runtime.shards(), &self.cluster_config()));
        let core = runtime.clone();
        ShardSetup {
            mesh: runtime.mesh(self.options.limits_of(node).mesh),
            runtime: runtime.clone(),
            shard: runtime.shard(),
            cluster: self.cluster_config(),
            node: self.node_config(node),
            durability: self.options.durability,
            machines: Rc::new(move |group| {
                let machine = cluster.subject.machine(group);
                let applied = Index(0);
                let (core, cluster) = (core.clone(), cluster.clone());
                Box::new(Observed { node, group, machine, applied, core, cluster })
            }),
            shared: shared.clone(),
        }
    }

    pub(super) fn shard_stopped(&self, runtime: &SimRuntime, error: purlin::Error) {
        let node = runtime.node();
        runtime.trace(&format!("shard stops: {error}"));
        self.processes.stopped.borrow_mut().insert(node);
        self.processes.stops.borrow_mut().push((node, error));
    }
}

/// A machine that shows its state after each command.
struct Observed<S: Subject> {
    node: NodeId,
    group: GroupId,
    machine: S::Machine,
    /// The last command that it has applied.
    applied: Index,
    /// Where it runs, and takes time.
    core: SimRuntime,
    cluster: Rc<Cluster<S>>,
}

impl<S: Subject> Observed<S> {
    /// Panics if a scenario wants the machine to fail here.
    fn strike(&self, bytes: &[u8]) {
        if let Some(poison) = &*self.cluster.poison.borrow() {
            poison.strike(self.node, bytes);
        }
    }
}

impl<S: Subject> StateMachine for Observed<S> {
    fn apply(&mut self, context: &ApplyContext, commands: &[Command], outcomes: &mut Vec<Bytes>) {
        let judges = &self.cluster.judges;
        for command in commands {
            self.strike(&command.data);
            self.core.work(self.cluster.subject.keys_of_command(&command.data));
            self.machine.apply(context, std::slice::from_ref(command), outcomes);
            let (group, position) = (context.group, command.position);
            self.applied = command.id.index;
            judges.order.borrow_mut().applied(group, position, &command.data);
            judges.audit.applied(self.node, group, command);
            let digest = S::digest(&self.machine);
            let seen = judges.states.borrow_mut().observe(self.node, group, position, digest);
            if let Err(divergence) = seen {
                self.cluster.violation(format!("two replicas differ: {divergence}"));
            }
        }
    }

    fn query(&self, query: &[u8]) -> Bytes {
        self.strike(query);
        let (floor, query) = floor::unmarked(query);
        if self.applied < floor {
            let Self { node, group, applied, .. } = self;
            self.cluster.violation(format!(
                "R1: node {node} answers a read of group {group} at {applied}, and {floor} was done before"
            ));
        }
        self.core.work(self.cluster.subject.keys_of_query(query));
        self.machine.query(query)
    }

    fn held_bytes(&self) -> usize {
        self.machine.held_bytes()
    }

    fn admits_when_full(&self, command: &[u8]) -> bool {
        self.machine.admits_when_full(command)
    }
}
