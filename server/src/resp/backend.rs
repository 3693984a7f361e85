//! What a client connection asks of the engine, and what it is answered.
//!
//! The engine implements [`Backend`]; tests and the simulator may put their own in its place.

use bytes::Bytes;
use purlin::{GroupId, Index, NodeId, Term};
use std::time::Duration;

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

/// What is asked of a group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// To commit this command and apply it.
    Propose(Bytes),
    /// To answer this query, linearizably.
    Query(Bytes),
}

/// The end of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Completion {
    /// The tag that it was submitted with.
    pub tag: u64,
    /// What the machine answered, or why it did not.
    pub result: Result<Bytes, RequestError>,
}

/// Why a request was not answered. The variant tells what is known of its effect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RequestError {
    /// A queue was full. Certainly not applied.
    Busy,
    /// The group has no leader that could be reached in time. Certainly not applied.
    NoLeader {
        /// How long the request has waited for one.
        waited_ms: u64,
    },
    /// It was never appended, or another entry was committed in its place. Certainly not applied.
    NotApplied,
    /// It was appended, or may have been, and then leadership changed or time ran out: it may be
    /// applied now, later, or never.
    Unknown {
        /// The group that it went to.
        group: GroupId,
        /// The term of its entry, or `Term(0)` when that is not known either.
        term: Term,
        /// The index of its entry, or `Index(0)`.
        index: Index,
    },
    /// It is longer than an entry may be. Certainly not applied.
    TooLarge,
    /// The node is stopping. Certainly not applied.
    Stopping,
}

/// The facts that `INFO` and `WAIT` tell.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerInfo {
    /// This node.
    pub node: NodeId,
    /// The cluster's id, as text.
    pub cluster: String,
    /// How many nodes the cluster has.
    pub nodes: u32,
    /// How many voters each group has.
    pub replicas: u32,
    /// How many shards this node has.
    pub shards: u32,
    /// How many groups this node leads.
    pub groups_led: u32,
    /// How many of its groups know no leader.
    pub groups_without_leader: u32,
    /// How many commands this node has applied since it started.
    pub commands_applied: u64,
    /// How long it has run.
    pub uptime: Duration,
}
