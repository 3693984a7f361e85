//! What the members of a cluster agree on, and what one node chooses for itself.

use crate::{
    error::{Error, ErrorKind},
    node::identity,
};
use purlin_rsm::{ClusterId, GroupId, NodeId};
use purlin_storage::{Durability, WalConfig};
use purlin_transport::Advertised;
use std::{collections::BTreeSet, path::PathBuf, time::Duration};

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
    /// Whether each shard gets a core of its own, where there are enough of them.
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
    /// Memory that each shard registers with io_uring, in bytes; it counts as locked memory.
    pub io_memory: usize,
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
}

/// The write-ahead logs of a node, one for each shard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WalOptions {
    /// The size of a segment; a multiple of 4,096 bytes.
    pub segment_bytes: u64,
    /// How writes become durable.
    pub durable_by: DurableBy,
    /// Writes that may be in flight at once, 1 to 64. More hide a slow disk's latency, fewer make larger
    /// batches.
    pub writes_in_flight_max: usize,
    /// The longest write of several records, in bytes, of 4,096 at least. One longer record travels alone.
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
    /// After this time a request that was taken is answered as unknown, or not applied.
    pub deadline: Duration,
}

/// A command of this length still fits into a frame between nodes.
const MAX_COMMAND: usize = 12 << 20;
/// The longest command of a cluster that does not choose.
const MAX_COMMAND_DEFAULT: usize = 8 << 20;
/// The most groups that own slots: as many as there are slots.
const GROUPS_MAX: u32 = 16_384;
const EXTRA_GROUPS_MAX: u32 = 1_000_000;
/// And so do entries of this length together.
const MESSAGE_BYTES: usize = 15 << 20;
/// What a batch, its record and its entry add to a command on disk, at most.
const COMMAND_OVERHEAD: usize = 32 << 10;

impl ClusterConfig {
    /// A cluster with one replica of each group on every member, no extra groups, and commands of
    /// 8 MiB at most.
    pub fn new(id: ClusterId, groups: u32, members: Vec<Member>) -> Self {
        Self {
            id,
            groups,
            extra_groups: 0,
            max_command: MAX_COMMAND_DEFAULT,
            replicas: members.len() as u32,
            members,
        }
    }

    /// The number of all user groups, which are 1 to this number: those that own slots, then the extra
    /// ones.
    pub fn all_groups(&self) -> u32 {
        self.groups + self.extra_groups
    }

    /// Whether the members can form a cluster.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], with the first contradiction.
    pub fn validate(&self) -> Result<(), Error> {
        let nodes: BTreeSet<NodeId> = self.members.iter().map(|member| member.node).collect();
        let contradiction = if self.groups == 0 || self.groups > GROUPS_MAX {
            Some(format!("{} groups: there must be 1 to 16,384", self.groups))
        } else if self.extra_groups > EXTRA_GROUPS_MAX {
            Some(format!("{} extra groups: there may be 1,000,000 at most", self.extra_groups))
        } else if self.max_command == 0 || self.max_command > MAX_COMMAND {
            Some(format!(
                "the longest command is {} bytes: it must be 1 byte at least, and 12 MiB at most to fit \
                 into a frame between nodes",
                self.max_command
            ))
        } else if self.members.is_empty() || nodes.len() < self.members.len() {
            Some("the members must have different node ids, and there must be one at least".into())
        } else if nodes.len() > identity::VOTERS_MAX {
            Some(format!("{} members: there may be {} at most", nodes.len(), identity::VOTERS_MAX))
        } else if nodes.contains(&NodeId(0)) {
            Some("a node id must not be 0".into())
        } else if self.replicas as usize != self.members.len() {
            Some(format!(
                "{} replicas on {} members: for now each member has a replica of each group",
                self.replicas,
                self.members.len()
            ))
        } else {
            None
        };
        contradiction.map_or(Ok(()), |what| Err(invalid(what, "the cluster's configuration")))
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
            io_memory: 10 << 20,
        }
    }

    /// Whether the node's choices fit each other and the cluster.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], with the first contradiction.
    pub fn validate(&self, cluster: &ClusterConfig) -> Result<(), Error> {
        let (raft, timeout) = (&self.raft, &self.raft.election_timeout);
        let contradiction = if !cluster.members.iter().any(|member| member.node == self.node) {
            Some(format!("node {} is not among the members", self.node))
        } else if self.advertised.host.len() > Advertised::HOST_BYTES_MAX {
            Some(format!(
                "the host that the node tells of itself has {} bytes: {} at most",
                self.advertised.host.len(),
                Advertised::HOST_BYTES_MAX
            ))
        } else if raft.tick.is_zero() || raft.heartbeat < raft.tick {
            Some("the tick must not be zero, and the heartbeat not shorter than it".into())
        } else if raft.ticks(timeout.start) >= raft.ticks(timeout.end)
            || timeout.start < raft.heartbeat * 2
        {
            Some(
                "the election timeout must be a range of one tick at least, that begins at two \
                 heartbeats at least"
                    .into(),
            )
        } else if !self.wal.segment_bytes.is_multiple_of(4096) || self.wal.segment_bytes < 1 << 20 {
            Some("a WAL segment must be a multiple of 4,096 bytes, and 1 MiB at least".into())
        } else if cluster.max_command > self.wal.max_command() {
            Some(format!(
                "the cluster's longest command is {} bytes, and a WAL segment of {} bytes holds {} at most: \
                 a quarter of itself, less 32 KiB",
                cluster.max_command,
                self.wal.segment_bytes,
                self.wal.max_command()
            ))
        } else if raft.inflight_messages_max == 0
            || raft.inflight_bytes_max == 0
            || raft.append_bytes_max == 0
            || raft.apply_bytes_max == 0
            || self.intake.requests_max == 0
        {
            Some("windows and queues must not be empty".into())
        } else if raft.append_bytes_max + cluster.max_command > MESSAGE_BYTES {
            // What is read from the log for a follower may end with one entry too many.
            Some(
                "a message to a follower and the longest command must fit into a frame between nodes: \
                 15 MiB together at most"
                    .into(),
            )
        } else if self.wal.batch_bytes_max as u64 > self.wal.segment_bytes / 4 {
            Some("a batch must fit into a quarter of a WAL segment".into())
        } else {
            self.wal.config(Durability::EachWrite).validate().err()
        };
        contradiction.map_or(Ok(()), |what| Err(invalid(what, "the node's configuration")))
    }
}

/// Whether `node`, a member, can have so many shards: each listens at a port of its own.
pub(crate) fn validate_shards(
    cluster: &ClusterConfig,
    node: NodeId,
    shards: u16,
) -> Result<(), Error> {
    let me = cluster.members.iter().find(|member| member.node == node);
    let me = me.expect("the node's configuration is validated before");
    if shards > 0 && me.last_port(shards) <= u32::from(u16::MAX) {
        return Ok(());
    }
    let what = format!("{shards} shards: there must be one, and a port for each from peer_port on");
    Err(invalid(what, "the node's configuration"))
}

fn invalid(what: String, place: &str) -> Error {
    Error::new(ErrorKind::Config, what, place, "nothing was changed", "correct it and start again")
}

impl RaftOptions {
    /// A time in whole ticks, and one at least.
    pub(crate) fn ticks(&self, duration: Duration) -> u64 {
        (duration.as_nanos() / self.tick.as_nanos()).max(1) as u64
    }
}

impl WalOptions {
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
            deadline: Duration::from_secs(10),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(members: u32) -> ClusterConfig {
        let member =
            |node| Member { node: NodeId(node), host: "127.0.0.1".into(), peer_port: 7000 };
        ClusterConfig::new(ClusterId(1), 1, (1..=members).map(member).collect())
    }

    #[test]
    fn what_a_shard_or_a_directory_could_not_hold_is_a_contradiction() {
        assert_eq!(cluster(256).validate(), Ok(()));
        assert!(cluster(257).validate().is_err());
        let node = |change: fn(&mut NodeConfig)| {
            let mut node = NodeConfig::new(NodeId(1), "nowhere");
            change(&mut node);
            node.validate(&cluster(3))
        };
        assert_eq!(node(|_| ()), Ok(()));
        let in_one_tick = node(|node| {
            node.raft.election_timeout = Duration::from_millis(500)..Duration::from_millis(505);
        });
        assert!(in_one_tick.is_err(), "both ends are 50 ticks");
        assert!(node(|node| node.advertised.host = "n".repeat(255)).is_ok());
        assert!(node(|node| node.advertised.host = "n".repeat(256)).is_err());
        assert!(node(|node| node.raft.inflight_bytes_max = 0).is_err());
        assert!(node(|node| node.raft.append_bytes_max = 0).is_err());
        assert!(node(|node| node.raft.append_bytes_max = 7 << 20).is_ok());
        assert!(node(|node| node.raft.append_bytes_max = 8 << 20).is_err());
        assert!(node(|node| node.wal.batch_bytes_max = 17 << 20).is_err());
        assert!(node(|node| node.wal.writes_in_flight_max = 0).is_err());
        assert!(node(|node| node.wal.batch_bytes_max = 4095).is_err());
    }

    #[test]
    fn what_init_fixes_has_bounds() {
        let cluster = |change: fn(&mut ClusterConfig)| {
            let mut cluster = cluster(3);
            change(&mut cluster);
            cluster.validate().map(|()| cluster.all_groups())
        };
        assert_eq!(cluster(|it| (it.groups, it.extra_groups) = (16_384, 1_000_000)), Ok(1_016_384));
        assert!(cluster(|it| it.groups = 0).is_err());
        assert!(cluster(|it| it.groups = 16_385).is_err());
        assert!(cluster(|it| it.extra_groups = 1_000_001).is_err());
        assert!(cluster(|it| it.max_command = 12 << 20).is_ok());
        assert!(cluster(|it| it.max_command = (12 << 20) + 1).is_err());
        assert!(cluster(|it| it.max_command = 0).is_err());
    }

    #[test]
    fn a_node_whose_segments_cannot_hold_the_longest_command_does_not_start() {
        let mut node = NodeConfig::new(NodeId(1), "nowhere");
        (node.wal.segment_bytes, node.wal.batch_bytes_max) = (4 << 20, 1 << 20);
        let mut cluster = cluster(3);
        cluster.max_command = (1 << 20) - (32 << 10);
        assert_eq!(node.validate(&cluster), Ok(()));
        cluster.max_command += 1;
        let error = node.validate(&cluster).unwrap_err();
        assert_eq!(
            error.trouble.what,
            "the cluster's longest command is 1015809 bytes, and a WAL segment of 4194304 bytes holds \
             1015808 at most: a quarter of itself, less 32 KiB"
        );
    }

    #[test]
    fn a_node_has_a_shard_and_each_shard_a_port() {
        let mut cluster = cluster(1);
        assert!(validate_shards(&cluster, NodeId(1), 0).is_err());
        cluster.members[0].peer_port = 65_534;
        assert!(validate_shards(&cluster, NodeId(1), 2).is_ok());
        assert!(validate_shards(&cluster, NodeId(1), 3).is_err());
    }
}
