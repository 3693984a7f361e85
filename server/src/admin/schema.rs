//! The JSON answers of the admin port, as they are written and read.
//!
//! A reader ignores a field that it does not know, and refuses another [`SCHEMA`]: it changes when a field
//! changes its meaning or goes away. Units stand in the names.

use serde::{Deserialize, Serialize};

/// The version of these answers.
pub const SCHEMA: u32 = 1;

/// The answer to `RAFT STATUS`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeAnswer {
    /// See [`SCHEMA`].
    pub schema: u32,
    /// The node.
    pub node: u32,
    /// The cluster's id, 32 hexadecimal digits.
    pub cluster: String,
    /// The version of the program.
    pub version: String,
    /// The process that the node runs in.
    pub process: u32,
    /// How long it has run.
    pub uptime_seconds: u64,
    /// Where clients connect.
    pub gateway: String,
    /// Where operators connect.
    pub admin: String,
    /// How many replicas each group has.
    pub replicas: u32,
    /// Whether each of its shards serves. If not, clients are served better by another node.
    #[serde(default)]
    pub ready: bool,
    /// Its groups, counted.
    pub groups: Groups,
    /// Where the time goes of the commands that it leads, over all its shards.
    #[serde(default)]
    pub stages: Stages,
    /// The shards of the node.
    pub shards: Vec<Shard>,
}

#[cfg(test)]
impl NodeAnswer {
    /// The answer of a node for tests: three replicas of each group, and no shard.
    pub(crate) fn sample(node: u32, groups: Groups) -> Self {
        Self {
            schema: SCHEMA,
            node,
            cluster: "c".into(),
            version: "0.1.0".into(),
            process: 1,
            uptime_seconds: 1,
            gateway: String::new(),
            admin: String::new(),
            replicas: 3,
            ready: true,
            groups,
            stages: Stages::default(),
            shards: Vec::new(),
        }
    }
}

/// The groups of a node, counted by its shards at their last beats.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Groups {
    /// All.
    pub all: u32,
    /// This node leads them.
    pub leads: u32,
    /// This node knows no leader of them.
    pub without_leader: u32,
    /// The entries of all groups that are applied here, since the cluster was made.
    #[serde(default)]
    pub applied: u64,
    /// The commands in these entries.
    #[serde(default)]
    pub commands: u64,
}

/// A shard, as it stood at its last beat.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Shard {
    /// Its number.
    pub shard: u16,
    /// `opening`, `meeting`, `serving`, `fenced`, `stopped` or `failed`.
    pub state: String,
    /// Why it has failed.
    pub error: Option<String>,
    /// Beats since it was opened. A shard whose number does not grow hangs.
    pub beat: u64,
    /// Initial members that a new cluster waits for.
    pub waits_for: Vec<u32>,
    /// What is wrong, in sentences.
    pub problems: Vec<String>,
    /// Replicas that have stopped by a fault, or whose state machine has stopped.
    pub stopped_replicas: u32,
    /// Its write-ahead log.
    pub wal: Wal,
    /// How full its queues are.
    pub queues: Queues,
    /// Requests that ended without an outcome, since the shard was opened.
    pub refusals: Refusals,
    /// Shards of other nodes.
    pub peers: Vec<Peer>,
    /// How long the turns of its loop took.
    pub turns: Times,
    /// Where the time goes of the commands that it leads.
    #[serde(default)]
    pub stages: Stages,
}

/// How long commands spend in each stage from their acceptance by the shard that leads them to their answer: of a sample
/// since the start. `queue`, `quorum`, `apply` and `reply` follow one another; `wal` runs beside `quorum`.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Stages {
    /// From the acceptance until the command is in the leader's log, in memory.
    pub queue: Times,
    /// From then until it is durable at the leader.
    pub wal: Times,
    /// From the same moment until it is committed: durable on a majority, with the leader or without.
    pub quorum: Times,
    /// From the commit until the state machine has applied it.
    pub apply: Times,
    /// From then until its answer is handed to the connection.
    pub reply: Times,
    /// From the acceptance until the answer is handed on.
    pub total: Times,
}

/// A write-ahead log.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Wal {
    /// The space that its files take on the disk: segments in use, prepared ones, and free files.
    pub bytes: u64,
    /// Segments that hold something needed.
    pub segments: u64,
    /// Bytes written since the start.
    pub written_bytes: u64,
    /// Batches written since the start.
    pub batches: u64,
    /// Syncs since the start.
    pub syncs: u64,
    /// Writes that wait to join a batch.
    pub pending_writes: u64,
    /// From a write until it is known to be durable.
    pub latency: Times,
}

/// Times, as a few of their quantiles.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Times {
    /// How many there were.
    pub count: u64,
    /// Half of them were not longer.
    pub p50_us: u64,
    /// 99 of 100 were not longer.
    pub p99_us: u64,
    /// The longest.
    pub max_us: u64,
}

/// How full something is that has a bound.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Level {
    /// So much is in it.
    pub now: u64,
    /// So much may be in it.
    pub max: u64,
}

/// The queues of a shard.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Queues {
    /// Requests of clients at this shard that have not ended.
    pub requests: Level,
    /// Their bytes.
    pub request_bytes: Level,
    /// What the log entries of all groups take in memory.
    #[serde(default)]
    pub entry_bytes: Level,
    /// What keys and values take in memory.
    #[serde(default)]
    pub machine_bytes: Level,
    /// Requests and tasks of other threads.
    pub inlet: Level,
    /// Requests of operators.
    pub control: Level,
    /// Batches that were sent to another shard or node and are not answered.
    pub away: u64,
    /// Requests that came from another shard or node and are not answered.
    pub accepted: Level,
    /// The bytes of these requests.
    #[serde(default)]
    pub accepted_bytes: Level,
}

/// Requests that ended without an outcome, by cause.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Refusals {
    /// A queue was full.
    pub busy: u64,
    /// No leader was known until the deadline.
    pub no_leader: u64,
    /// Certainly not applied, after a change of leader.
    pub not_applied: u64,
    /// It may be applied, or not.
    pub unknown: u64,
    /// Longer than `cluster.max_command`.
    pub too_large: u64,
    /// The leader's disk was full.
    pub no_space: u64,
    /// The data at the leader took as much memory as it may.
    #[serde(default)]
    pub no_memory: u64,
}

/// A shard of another node.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Peer {
    /// Its node.
    pub node: u32,
    /// Its number there.
    pub shard: u16,
    /// Where it listens.
    pub address: Option<String>,
    /// The connection on which this shard writes to it. Shards without a common group need none.
    pub outbound: Link,
    /// The connection on which it writes to this shard.
    pub inbound: Link,
    /// Beats since its last message.
    pub silent_beats: Option<u64>,
}

/// One direction between two shards.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Link {
    /// Whether there is a connection.
    pub up: bool,
    /// Why the last connection or attempt ended, while there is no connection.
    pub ended: Option<String>,
}

/// The answer to `RAFT GROUPS`: one page of at most 1,024 groups.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GroupsAnswer {
    /// See [`SCHEMA`].
    pub schema: u32,
    /// The node.
    pub node: u32,
    /// Where the next page begins; nothing when this is the last page.
    pub next: Option<u32>,
    /// The groups, ascending.
    pub groups: Vec<GroupLine>,
}

/// A group, as one node knows it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GroupLine {
    /// The group.
    pub group: u32,
    /// Its term.
    pub term: u64,
    /// Its leader.
    pub leader: Option<u32>,
    /// The last entry that the node has applied.
    pub applied: u64,
}

/// The answer to `RAFT GROUP g`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GroupAnswer {
    /// See [`SCHEMA`].
    pub schema: u32,
    /// The node.
    pub node: u32,
    /// The group.
    pub group: u32,
    /// `follower`, `candidate` or `leader`, as the engine names it.
    pub role: String,
    /// Its term.
    pub term: u64,
    /// Its leader.
    pub leader: Option<u32>,
    /// The index of the last entry of the log here.
    pub last: u64,
    /// The last entry that is durable here.
    pub durable: u64,
    /// The last entry that is known to be committed.
    pub committed: u64,
    /// The last entry that is applied here.
    pub applied: u64,
    /// Proposals whose outcome is open.
    pub proposals: u64,
    /// Queries that are not answered.
    pub queries: u64,
    /// Queries that the state machine has panicked at, since the shard was opened.
    #[serde(default)]
    pub failed_queries: u64,
    /// Why the replica, or its state machine, has stopped.
    pub fault: Option<String>,
    /// The other voters, when the replica leads.
    pub followers: Vec<Follower>,
}

/// A follower, as its leader sees it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Follower {
    /// Its node.
    pub node: u32,
    /// `probe` or `replicate`.
    pub state: String,
    /// Its log equals the leader's up to here.
    pub matched: u64,
    /// The next entry that it is sent.
    pub next: u64,
    /// Messages with entries that it has not answered.
    pub in_flight: u64,
    /// Whether there is a connection to its node.
    pub connected: bool,
}

/// The answer to `RAFT MEMBERS`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MembersAnswer {
    /// See [`SCHEMA`].
    pub schema: u32,
    /// The node that answers.
    pub node: u32,
    /// The members, as in the node's configuration.
    pub members: Vec<Member>,
}

/// A member.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Member {
    /// Its node.
    pub node: u32,
    /// Where other nodes reach it.
    pub host: String,
    /// The port of its first shard for other nodes.
    pub peer_port: u16,
    /// Where operators connect, as it has told; nothing when it has told nothing.
    pub admin: Option<String>,
    /// Whether it has told that other machines cannot reach its admin port.
    pub admin_is_local: bool,
}
