//! What a client connection asks of the engine.
//!
//! A shard of the engine is one [`Backend`]; tests and the simulator may put another in its place.

use super::topology::{Home, Known, Topology};
use crate::{cpu::ProcessTimes, figures::Figures};
use purlin::{
    Advertised, BoardEntry, Caller, Completion, GroupCounts, GroupId, Level, LocalShard, NodeId,
    NodeView, Request, Runtime,
};
use purlin_kv::answers_a_value;
use std::{ops::Range, rc::Rc, time::Duration};

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

    /// From now on `tell` gets the bytes of the completions that wait to be taken, whenever they change.
    fn watch_answers(&self, tell: impl Fn(usize) + 'static);

    /// From now on only queries with these tags are answered, all others later; `None` ends that.
    fn answer_only(&self, tags: Option<Range<u64>>);

    /// The client has gone, or will send nothing more: requests that wait for a leader end as not applied.
    fn leave(&self);

    /// How many voters each group has. Costs nothing.
    fn replicas(&self) -> u32;

    /// Whether a request to `group` has not ended.
    fn has_requests(&self, group: GroupId) -> bool;

    /// Who serves `group`. Costs next to nothing when this shard leads it.
    fn home(&self, group: GroupId) -> Home;

    /// Whether this shard leads `group`. Costs next to nothing.
    fn leads(&self, group: GroupId) -> bool;

    /// How clients reach the leaders of the first `groups` groups. Costs a step for each group.
    fn topology(&self, groups: u32) -> Topology;

    /// The facts that `INFO` tells.
    fn info(&self) -> ServerInfo;
}

/// Groups that `INFO` looks at one by one, for the list of those that the node leads.
const LISTED_MAX: usize = 1024;

/// The facts that `INFO` tells.
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
    /// Whether each of them serves.
    pub is_ready: bool,
    /// The groups that this node leads among the first 1,024 groups, ascending.
    pub leads: Vec<GroupId>,
    /// How many groups it has, by how they stand here.
    pub groups: GroupCounts,
    /// What the log entries of all groups take in memory here, and how much they may take, in bytes.
    pub entry_bytes: Level,
    /// What keys and values take in memory here, and how much they may take, in bytes.
    pub data_bytes: Level,
    /// What it has done so far.
    pub figures: Figures,
    /// How long it has run.
    pub uptime: Duration,
}

/// What a node's [`ServerInfo`] consists of that does not change.
#[derive(Clone, Debug)]
pub struct NodeFacts {
    /// The id of the process. It is told from outside: a simulated node has none of its own.
    pub process: u32,
    /// Tells the processor time of the process, if that can be read. It comes from outside for the same reason.
    pub cpu: fn() -> Option<ProcessTimes>,
    /// The cluster's id, as text.
    pub cluster: String,
    /// Where operators connect.
    pub admin: String,
    /// Where clients connect, as the node tells it to the others.
    pub advertised: Advertised,
    /// How many nodes the cluster has.
    pub nodes: u32,
    /// How many voters each group has.
    pub replicas: u32,
    /// How many shards this node has.
    pub shards: u16,
    /// When it started, by the clock of its runtime.
    pub started_at: Duration,
}

/// Answers that wait for one connection to take them, in bytes; one answer may exceed that.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// The engine, from the core of one shard.
pub struct ShardBackend<R: Runtime> {
    caller: Rc<Caller>,
    shard: LocalShard<R>,
    facts: Rc<NodeFacts>,
}

impl<R: Runtime> ShardBackend<R> {
    /// A way to the groups for one more connection.
    pub fn new(shard: &LocalShard<R>, facts: &Rc<NodeFacts>) -> Self {
        let caller = shard.caller();
        caller.bound_answers(ANSWER_BYTES_MAX);
        Self { caller, shard: shard.clone(), facts: Rc::clone(facts) }
    }

    fn known(&self) -> Known<'_> {
        Known {
            view: self.shard.view(),
            shard: self.shard.shard(),
            shards: self.facts.shards,
            advertised: &self.facts.advertised,
        }
    }
}

impl<R: Runtime> Backend for ShardBackend<R> {
    fn submit(&self, group: GroupId, request: Request, tag: u64) {
        match &request {
            Request::Propose(command) if answers_a_value(command) => {
                self.caller.submit_alone(group, request, tag);
            }
            _ => self.caller.submit(group, request, tag),
        }
    }

    fn take_completions(&self, into: &mut Vec<Completion>) {
        self.caller.take_completions(into);
    }

    fn completed(&self) -> impl Future<Output = ()> {
        self.caller.completed()
    }

    fn watch_answers(&self, tell: impl Fn(usize) + 'static) {
        self.caller.watch_answers(tell);
    }

    fn answer_only(&self, tags: Option<Range<u64>>) {
        self.caller.answer_only(tags);
    }

    fn leave(&self) {
        self.caller.leave();
    }

    fn replicas(&self) -> u32 {
        self.facts.replicas
    }

    fn has_requests(&self, group: GroupId) -> bool {
        self.caller.has_requests(group)
    }

    fn home(&self, group: GroupId) -> Home {
        self.known().home(group)
    }

    fn leads(&self, group: GroupId) -> bool {
        self.known().leads(group)
    }

    fn topology(&self, groups: u32) -> Topology {
        Topology::of(&self.known(), (&self.facts.cluster, self.facts.nodes), groups)
    }

    fn info(&self) -> ServerInfo {
        let (view, node) = (self.shard.view(), self.shard.node());
        let leads = listed(view).filter(|group| group.leader == Some(node));
        ServerInfo {
            node,
            process: self.facts.process,
            cluster: self.facts.cluster.clone(),
            admin: self.facts.admin.clone(),
            nodes: self.facts.nodes,
            replicas: self.facts.replicas,
            shards: u32::from(self.facts.shards),
            is_ready: view.is_ready(),
            leads: leads.map(|group| group.group).collect(),
            groups: view.counts(),
            entry_bytes: view.entry_bytes(),
            data_bytes: view.machine_bytes(),
            figures: Figures::of(view, (self.facts.cpu)()),
            uptime: self.shard.runtime().now().saturating_sub(self.facts.started_at),
        }
    }
}

/// The groups that `INFO` looks at one by one.
fn listed(view: &NodeView) -> impl Iterator<Item = BoardEntry> {
    view.groups_from(GroupId(1)).take(LISTED_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use purlin::os::OsRuntime;
    use purlin::{ClusterConfig, ClusterId, Member, Shared};

    #[test]
    fn info_looks_at_a_bounded_number_of_groups() {
        let member = Member { node: NodeId(1), host: "h".into(), peer_port: 1 };
        let mut cluster = ClusterConfig::new(ClusterId(1), 5, vec![member]);
        cluster.extra_groups = 100_000;
        let shared = Shared::<OsRuntime>::new(NodeId(1), 2, &cluster);
        assert_eq!(listed(shared.view()).count(), LISTED_MAX);
        assert_eq!(shared.view().counts().without_leader, 100_005, "the sums have all of them");
    }
}
