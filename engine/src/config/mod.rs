//! What the members of a cluster agree on, and what one node chooses for itself.

pub(crate) mod quantity;
pub(crate) mod rules;

use crate::os::RuntimeKind;
use purlin_rsm::{ClusterId, GroupId, NodeId};
use purlin_storage::{Durability, WalConfig};
use purlin_transport::Advertised;
use std::{ops::RangeInclusive, path::PathBuf, time::Duration};

/// What all members of a cluster agree on. What can never change of it goes into the handshake
/// (safety I6); addresses may change at any restart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClusterConfig {
    /// The cluster, drawn at random once.
    pub id: ClusterId,
    /// The groups that own the hash slots: groups 1 to this number, at most 16,384. Fixed when the
    /// cluster is made.
    pub groups: u32,
    /// Groups that belong to who embeds the engine, numbered after those that own the slots; at most
    /// 1,000,000. Fixed when the cluster is made.
    pub extra_groups: u32,
    /// The longest command or query, in bytes, 12 MiB at most. Fixed when the cluster is made: a node
    /// whose segments cannot hold it does not start.
    pub max_command: usize,
    /// How many voters each group has; for now all members.
    pub replicas: u32,
    /// The initial members.
    pub members: Vec<Member>,
}

/// One member of a cluster and where it listens for its peers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Its node id, not 0.
    pub node: NodeId,
    /// Its host: an IP address or a name that resolves to one.
    pub host: String,
    /// Shard `i` of it listens at this port plus `i`.
    pub peer_port: u16,
}

/// What one node chooses for itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeConfig {
    /// This node's id, one of the members'.
    pub node: NodeId,
    /// Its data directory, made by `init` (safety I1).
    pub data_dir: PathBuf,
    /// Whether each shard gets a core of its own, where there are enough that no other node on this machine has.
    pub pin: bool,
    /// Where clients and operators find it: the engine tells it to the other nodes.
    pub advertised: Advertised,
    /// Timing and windows of raft.
    pub raft: RaftOptions,
    /// The write-ahead logs.
    pub wal: WalOptions,
    /// What a shard takes in before it says `Busy`.
    pub intake: IntakeOptions,
    /// The host at which the node listens for other nodes; its host among the members when it is not said.
    pub peer_host: Option<String>,
    /// What its shards run on.
    pub runtime: RuntimeKind,
    /// Memory that each shard registers with io_uring, in bytes; it counts as locked memory. For
    /// [`RuntimeKind::Glommio`] alone.
    pub io_memory: usize,
    /// So long a shard on a core of its own looks for something to do before it sleeps. For [`RuntimeKind::Ring`]
    /// alone.
    pub spin: Duration,
}

/// Timing and windows of raft.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RaftOptions {
    /// The unit of raft's logical time.
    pub tick: Duration,
    /// A follower that hears nothing of its leader for a random time in this range campaigns.
    pub election_timeout: std::ops::Range<Duration>,
    /// A shard tells each peer shard this often which groups it leads.
    pub heartbeat: Duration,
    /// Entries sent to one follower of one group and not yet acknowledged, in bytes.
    pub inflight_bytes_max: usize,
    /// The same, in messages.
    pub inflight_messages_max: usize,
    /// Entries in one message to a follower, in bytes; one longer entry travels alone.
    pub append_bytes_max: usize,
    /// Entries of one group that the state machine is given at once, in bytes.
    pub apply_bytes_max: usize,
    /// Applied entries that each group keeps in memory for followers that lag, in bytes. What is not there
    /// is read from the write-ahead log.
    pub cache_bytes_max: usize,
    /// Entries of all groups of a shard in memory, in bytes: for followers that lag, for the disk, and for machines
    /// that are behind. Beyond it, they are read from the write-ahead log; what is not durable yet, and is too much
    /// alone, makes the shard refuse proposals as busy. What one batch or one message brings comes on top.
    pub memory_bytes_max: usize,
    /// Messages and requests that wait to be written to one shard of another node, in bytes.
    pub outbox_bytes_max: usize,
    /// Whether a leader hands its group back to the node that led it first, once that node is fit for a while. So the
    /// nodes lead equal shares again after a restart.
    pub leaders_return: bool,
}

/// The write-ahead logs of a node, one for each shard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WalOptions {
    /// The size of a segment, one of [`Self::SEGMENT_BYTES`]; a multiple of [`Self::SEGMENT_UNIT`].
    pub segment_bytes: u64,
    /// How writes become durable.
    pub durable_by: DurableBy,
    /// Writes that may be in flight at once, 1 to 64. More hide a slow disk's latency, fewer make larger
    /// batches.
    pub writes_in_flight_max: usize,
    /// The longest write of several records, in bytes, one block of the log at least. One longer record travels alone.
    pub batch_bytes_max: usize,
    /// Entries of all groups of a shard that a start keeps in memory, in bytes.
    pub tail_bytes_max: usize,
}

/// How writes to a write-ahead log become durable: how, never whether.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DurableBy {
    /// Whichever of the two the disk does faster, measured at start.
    Auto,
    /// Each write by itself (`O_DSYNC`).
    Dsync,
    /// A sync after each write (`fdatasync`).
    Fdatasync,
}

/// What a shard takes in before it says `Busy`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IntakeOptions {
    /// Requests that wait for their outcome.
    pub requests_max: usize,
    /// Their bytes.
    pub request_bytes_max: usize,
    /// Memory that the state machines of a shard may hold together, in bytes. Beyond it, a leader refuses the
    /// commands that a machine does not admit then. What is under way comes on top: at each leader `request_bytes_max` of
    /// its callers and as much of other shards, and what the machine needs beside the bytes of a command.
    pub machine_bytes_max: usize,
    /// After this time a request that was taken is answered as unknown, or not applied.
    pub deadline: Duration,
    /// After this time a request that has found no leader is answered as not applied; after `deadline`, if that
    /// is shorter. A client that is told so in time does not give up and ask again while the request waits here.
    pub leader_deadline: Duration,
}

/// What a batch, its record and its entry add to a command on disk, at most.
pub(crate) const COMMAND_OVERHEAD: usize = 32 << 10;

impl ClusterConfig {
    /// The most groups that own slots: as many as there are slots.
    pub const GROUPS_MAX: u32 = 16_384;
    /// The most extra groups.
    pub const EXTRA_GROUPS_MAX: u32 = 1_000_000;
    /// The longest command that any cluster may choose, in bytes: it still fits into a frame between nodes.
    pub const MAX_COMMAND: usize = 12 << 20;
    /// The longest command of a cluster that does not choose, in bytes.
    const MAX_COMMAND_DEFAULT: usize = 8 << 20;

    /// A cluster with one replica of each group on every member, no extra groups, and commands of
    /// 8 MiB at most.
    pub fn new(id: ClusterId, groups: u32, members: Vec<Member>) -> Self {
        Self {
            id,
            groups,
            extra_groups: 0,
            max_command: Self::MAX_COMMAND_DEFAULT,
            replicas: members.len() as u32,
            members,
        }
    }

    /// The number of all user groups, which are 1 to this number: those that own slots, then the extra
    /// ones.
    pub fn all_groups(&self) -> u32 {
        self.groups + self.extra_groups
    }
}

impl Member {
    /// The port of the last of its shards, of which there is one at least. It may be too high to be
    /// one.
    pub fn last_port(&self, shards: u16) -> u32 {
        u32::from(self.peer_port) + u32::from(shards) - 1
    }
}

impl NodeConfig {
    /// Node `node` with its data in `data_dir`, and defaults for everything else.
    pub fn new(node: NodeId, data_dir: impl Into<PathBuf>) -> Self {
        Self {
            node,
            data_dir: data_dir.into(),
            pin: true,
            advertised: Advertised::default(),
            raft: RaftOptions::default(),
            wal: WalOptions::default(),
            intake: IntakeOptions::default(),
            peer_host: None,
            runtime: RuntimeKind::default(),
            io_memory: 10 << 20,
            spin: Duration::ZERO,
        }
    }
}

impl RaftOptions {
    /// A time in whole ticks, and one at least.
    pub(crate) fn ticks(&self, duration: Duration) -> u64 {
        (duration.as_nanos() / self.tick.as_nanos()).max(1) as u64
    }
}

impl WalOptions {
    /// The sizes that a segment may have, in bytes; each a multiple of [`Self::SEGMENT_UNIT`].
    pub const SEGMENT_BYTES: RangeInclusive<u64> = 1 << 20..=*WalConfig::SEGMENT_BYTES.end();
    /// The size of a segment is a multiple of this, in bytes.
    pub const SEGMENT_UNIT: u64 = WalConfig::SEGMENT_UNIT;

    /// The longest command that its segments can hold, in bytes.
    pub fn max_command(&self) -> usize {
        (self.segment_bytes as usize / 4).saturating_sub(COMMAND_OVERHEAD)
    }

    /// As the log takes them.
    pub(crate) fn config(&self, durability: Durability) -> WalConfig {
        WalConfig {
            segment_bytes: self.segment_bytes,
            durability,
            writes_in_flight_max: self.writes_in_flight_max,
            batch_bytes_max: self.batch_bytes_max,
            tail_bytes_max: self.tail_bytes_max,
        }
    }
}

impl Default for RaftOptions {
    fn default() -> Self {
        Self {
            tick: Duration::from_millis(10),
            election_timeout: Duration::from_millis(500)..Duration::from_millis(1000),
            heartbeat: Duration::from_millis(100),
            inflight_bytes_max: 4 << 20,
            inflight_messages_max: 256,
            append_bytes_max: 256 << 10,
            apply_bytes_max: 1 << 20,
            cache_bytes_max: 4 << 20,
            memory_bytes_max: 128 << 20,
            outbox_bytes_max: 32 << 20,
            leaders_return: true,
        }
    }
}

impl Default for WalOptions {
    fn default() -> Self {
        let wal = WalConfig::default();
        Self {
            segment_bytes: wal.segment_bytes,
            durable_by: DurableBy::Auto,
            writes_in_flight_max: wal.writes_in_flight_max,
            batch_bytes_max: wal.batch_bytes_max,
            tail_bytes_max: wal.tail_bytes_max,
        }
    }
}

impl Default for IntakeOptions {
    fn default() -> Self {
        Self {
            requests_max: 64 << 10,
            request_bytes_max: 64 << 20,
            machine_bytes_max: usize::MAX,
            deadline: Duration::from_secs(10),
            leader_deadline: Duration::from_secs(2),
        }
    }
}

/// The group that owns hash slot `slot` (0 to 16,383) when the cluster has `groups` user groups.
pub fn group_of_slot(slot: u16, groups: u32) -> GroupId {
    let (slot, groups) = (u64::from(slot), u64::from(groups));
    GroupId((((slot + 1) * groups - 1) / 16_384 + 1) as u32)
}

/// The member that campaigns first in a fresh `group`, of `members` in the order of their node ids.
pub fn first_leader(group: GroupId, members: &[NodeId]) -> NodeId {
    members[group.0 as usize % members.len()]
}
