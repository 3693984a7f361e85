//! What a client connection asks of the engine.
//!
//! A shard of the engine is one [`Backend`]; tests and the simulator may put another in its place.

use purlin::{Caller, Completion, GroupId, LocalShard, NodeId, Request, Runtime};
use std::{rc::Rc, time::Duration};

/// One connection's way to the groups of the cluster, wherever they are led.
///
/// Requests of one connection to one group take effect in the order in which they were submitted: a
/// query sees its connection's earlier writes of that group, and a write waits for its earlier
/// queries (safety E1, E2).
pub trait Backend: 'static {
    /// Takes a request to `group`. It never waits, and it completes exactly once, with `tag`.
    fn submit(&self, group: GroupId, request: Request, tag: u64);

    /// Moves the completions since the last call to the end of `into`, in any order.
    fn take_completions(&self, into: &mut Vec<Completion>);

    /// Resolves when there is at least one completion to take.
    fn completed(&self) -> impl Future<Output = ()>;

    /// The facts that `INFO` tells.
    fn info(&self) -> ServerInfo;
}

/// The facts that `INFO` and `WAIT` tell.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerInfo {
    /// This node.
    pub node: NodeId,
    /// The process that it runs in.
    pub process: u32,
    /// The cluster's id, as text.
    pub cluster: String,
    /// Where operators connect.
    pub admin: String,
    /// How many nodes the cluster has.
    pub nodes: u32,
    /// How many voters each group has.
    pub replicas: u32,
    /// How many shards this node has.
    pub shards: u32,
    /// The groups that this node leads, ascending.
    pub leads: Vec<GroupId>,
    /// How many of its groups know no leader.
    pub groups_without_leader: u32,
    /// How many entries of all groups, since the cluster was made, are applied here.
    pub entries_applied: u64,
    /// How long it has run.
    pub uptime: Duration,
}

/// What a node's [`ServerInfo`] consists of that does not change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeFacts {
    /// The id of the process. It is told from outside: a simulated node has none of its own.
    pub process: u32,
    /// The cluster's id, as text.
    pub cluster: String,
    /// Where operators connect.
    pub admin: String,
    /// How many nodes the cluster has.
    pub nodes: u32,
    /// How many voters each group has.
    pub replicas: u32,
    /// How many shards this node has.
    pub shards: u32,
    /// When it started, by the clock of its runtime.
    pub started_at: Duration,
}

/// The engine, from the core of one shard.
pub struct ShardBackend<R: Runtime> {
    caller: Rc<Caller>,
    shard: LocalShard<R>,
    facts: Rc<NodeFacts>,
}

impl<R: Runtime> ShardBackend<R> {
    /// A way to the groups for one more connection.
    pub fn new(shard: &LocalShard<R>, facts: &Rc<NodeFacts>) -> Self {
        Self { caller: shard.caller(), shard: shard.clone(), facts: Rc::clone(facts) }
    }
}

impl<R: Runtime> Backend for ShardBackend<R> {
    fn submit(&self, group: GroupId, request: Request, tag: u64) {
        self.caller.submit(group, request, tag);
    }

    fn take_completions(&self, into: &mut Vec<Completion>) {
        self.caller.take_completions(into);
    }

    fn completed(&self) -> impl Future<Output = ()> {
        self.caller.completed()
    }

    fn info(&self) -> ServerInfo {
        let node = self.shard.node();
        let mut info = ServerInfo {
            node,
            process: self.facts.process,
            cluster: self.facts.cluster.clone(),
            admin: self.facts.admin.clone(),
            nodes: self.facts.nodes,
            replicas: self.facts.replicas,
            shards: self.facts.shards,
            leads: Vec::new(),
            groups_without_leader: 0,
            entries_applied: 0,
            uptime: self.shard.runtime().now().saturating_sub(self.facts.started_at),
        };
        for group in self.shard.board().groups() {
            if group.leader == Some(node) {
                info.leads.push(group.group);
            }
            info.groups_without_leader += u32::from(group.leader.is_none());
            info.entries_applied += group.applied.0;
        }
        info
    }
}
