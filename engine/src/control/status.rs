//! How a shard and its groups stand: what operators, metrics and logs read.
//!
//! A [`ShardStatus`] is published at each beat and can be read from any thread, also while the shard hangs
//! or after it has stopped. It has a bounded size and holds nothing per group but counts: with 16,384
//! groups a line for each would cost more per beat than the rest of an idle shard. A [`GroupStatus`] is
//! made on request.

use crate::{
    control::{histogram::Histogram, stages::StageTimes},
    error::Error,
    shard::machine::MachineStop,
};
use purlin_rsm::{GroupId, NodeId, RequestError, ShardId, raft::RaftStatus};
use purlin_storage::WalStats;
use purlin_transport::PeerStatus;
use std::{fmt, iter::Sum, time::Duration};

/// A shard as it stood at one beat.
#[derive(Clone, Default, Debug)]
pub struct ShardStatus {
    /// The node.
    pub node: NodeId,
    /// The shard.
    pub shard: ShardId,
    /// Whether it serves.
    pub state: ShardState,
    /// Beats since the shard was opened. A number that does not grow for long means that the shard hangs.
    pub beat: u64,
    /// The time of this status, on the clock of the shard's runtime.
    pub at: Duration,
    /// The time between two beats of a shard that is not overloaded.
    pub interval: Duration,
    /// Initial members that a new cluster waits for before it serves, as this shard knows.
    pub waits_for: Vec<NodeId>,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// How many groups it has, by how they stand.
    pub groups: GroupCounts,
    /// The write-ahead log.
    pub wal: WalStatus,
    /// How full the queues are.
    pub queues: QueueStatus,
    /// Requests that ended without an outcome, by cause.
    pub refusals: RefusalCounts,
    /// The shards of other nodes that this shard connects with, in the order of their ids.
    pub peers: Vec<PeerStatus>,
    /// How long each turn of the shard's loop took.
    pub turns: Histogram,
    /// How long a sample of the commands that it led spent in each stage.
    pub stages: StageTimes,
}

/// Whether a shard serves.
#[derive(Clone, Default, Debug)]
pub enum ShardState {
    /// It reads its directory.
    #[default]
    Opening,
    /// It waits for the other initial members of a new cluster (safety I2).
    Meeting,
    /// It serves.
    Serving,
    /// It was asked to stop, and ends what is under way.
    Stopping,
    /// The data directory has gone back: the shard takes part in nothing, and stops as soon as that is
    /// recorded (safety I4).
    Fenced,
    /// It was asked to stop, and has.
    Stopped,
    /// It could not be opened, or had to stop.
    Failed(Error),
}

impl ShardState {
    /// Whether the loop of the shard runs.
    pub fn runs(&self) -> bool {
        match self {
            Self::Meeting | Self::Serving | Self::Stopping | Self::Fenced => true,
            Self::Opening | Self::Stopped | Self::Failed(_) => false,
        }
    }
}

/// Something that an operator should know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Problem {
    /// The disk is full: proposals are refused until there is room.
    DiskFull,
    /// The state machines hold as much memory as they may: leaders refuse what makes them larger.
    DataFull,
    /// The oldest write to the disk has not ended for so long: this shard's groups are led elsewhere.
    DiskHangs(Duration),
    /// The data directory has gone back behind what it told its peers (safety I4).
    Fenced,
    /// So many groups are loading: their machines apply what their logs held at the start.
    Loading(u32),
    /// So many replicas have stopped, since what their group had committed was lost.
    ReplicasStopped(u32),
    /// The state machines of these groups have stopped: their replicas follow, and apply nothing (safety E6).
    MachinesStopped {
        /// How many.
        count: usize,
        /// The first of them, [`STOPPED_NAMED_MAX`] at most.
        first: Vec<GroupId>,
    },
}

/// The most groups that [`Problem::MachinesStopped`] names.
pub const STOPPED_NAMED_MAX: usize = 8;

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DiskFull => write!(
                f,
                "the disk is full, or no file descriptor is left for the log; reads go on, writes are refused until \
                 there is room: free space on it, or close connections"
            ),
            Self::DataFull => write!(
                f,
                "the data takes as much memory as it may (`kv.max_memory`); reads and deletes go on, writes that \
                 need more are refused: delete keys, or give the node more memory"
            ),
            Self::DiskHangs(time) => write!(
                f,
                "a write to the disk has taken {:.1} s so far; other nodes take over the groups: check the disk",
                time.as_secs_f64()
            ),
            Self::Fenced => write!(
                f,
                "the data directory is older than what it once told its peers; the node takes part in nothing, \
                 and this version cannot bring it back: keep the directory, and leave the node stopped"
            ),
            Self::Loading(count) => write!(
                f,
                "{count} groups are loading: they apply what their logs held at the start; other nodes lead them if \
                 they can, else their requests are answered LOADING: wait"
            ),
            Self::ReplicasStopped(count) => write!(
                f,
                "{count} replicas have stopped, because committed entries were lost; the other replicas of \
                 their groups go on; the log says which replicas: check the disk"
            ),
            Self::MachinesStopped { count, first } => {
                let named: Vec<_> = first.iter().map(ToString::to_string).collect();
                let rest = if first.len() < *count { ", …" } else { "" };
                write!(
                    f,
                    "the state machines of {count} groups failed at a command and have stopped here: {}{rest}; their \
                     replicas here keep the log and vote, and cannot lead; a group whose machine has stopped at \
                     all its replicas refuses its requests: `RAFT GROUP` and the log name the command; correct the \
                     machine, and start the node again",
                    named.join(", ")
                )
            }
        }
    }
}

/// How many groups a shard has, by how their replicas here stand. `leading`, `following` and
/// `without_leader` together are `groups`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct GroupCounts {
    /// All.
    pub groups: u32,
    /// The replica here leads.
    pub leading: u32,
    /// The replica here knows a leader at another node.
    pub following: u32,
    /// The replica here knows no leader.
    pub without_leader: u32,
    /// The replica here has stopped by a fault, or its state machine has; it counts above too.
    pub stopped: u32,
    /// The machine here still applies what its log held at the start; it counts above too.
    pub loading: u32,
    /// The entries that all replicas here have applied, since the cluster was made.
    pub applied: u64,
    /// The commands in them; an entry has several under load. Of the commands of a page of entries that is being applied
    /// none is counted yet.
    pub commands: u64,
}

impl GroupCounts {
    /// So many groups of which nothing is known yet.
    pub(crate) fn unknown(groups: u32) -> Self {
        Self { groups, without_leader: groups, ..Self::default() }
    }

    /// The same groups when their shard has ended: it leads none of them, and knows no leader.
    pub(crate) fn of_an_ended_shard(self) -> Self {
        let Self { groups, stopped, applied, commands, .. } = self;
        Self { stopped, applied, commands, ..Self::unknown(groups) }
    }
}

impl Sum for GroupCounts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |sum, other| Self {
            groups: sum.groups + other.groups,
            leading: sum.leading + other.leading,
            following: sum.following + other.following,
            without_leader: sum.without_leader + other.without_leader,
            stopped: sum.stopped + other.stopped,
            loading: sum.loading + other.loading,
            applied: sum.applied + other.applied,
            commands: sum.commands + other.commands,
        })
    }
}

/// A shard's write-ahead log.
#[derive(Clone, Default, Debug)]
pub struct WalStatus {
    /// Batches, bytes, syncs, segments.
    pub figures: WalStats,
    /// Writes of groups that wait to join a batch.
    pub pending_writes: usize,
    /// The bytes of their entries, and beyond how many proposals are refused.
    pub pending_bytes: Level,
    /// From the submit of a batch until the shard learns that it is durable.
    pub latency: Histogram,
}

impl WalStatus {
    /// The space that its files take on the disk: segments in use, prepared ones, and free files.
    pub fn bytes(&self) -> u64 {
        self.figures.bytes
    }
}

/// How full something is that has a bound.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Level {
    /// So much is in it.
    pub now: usize,
    /// So much may be in it.
    pub max: usize,
}

impl Sum for Level {
    fn sum<I: Iterator<Item = Self>>(levels: I) -> Self {
        levels.fold(Self::default(), |sum, other| Self {
            now: sum.now.saturating_add(other.now),
            max: sum.max.saturating_add(other.max),
        })
    }
}

/// How full the queues of a shard are.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct QueueStatus {
    /// Requests of callers on this core that have not ended.
    pub requests: Level,
    /// Their bytes.
    pub request_bytes: Level,
    /// What the log entries of all groups take in memory.
    pub entry_bytes: Level,
    /// What the state machines of all groups hold in memory.
    pub machine_bytes: Level,
    /// Requests and tasks of other threads that the shard has not taken in.
    pub inlet: Level,
    /// Operators' requests that the shard has not taken in.
    pub control: Level,
    /// Connections with requests to a group that no leader is known of.
    pub parked: usize,
    /// Batches of requests that were sent to another shard or node and are not answered.
    pub away: usize,
    /// Requests in batches that came from another shard or node and are not answered.
    pub accepted: Level,
    /// The bytes of these requests.
    pub accepted_bytes: Level,
    /// Replies to such batches that wait for room in a channel.
    pub late_replies: Level,
}

/// Requests of callers on this core that ended without an outcome, by cause, since the shard was opened.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct RefusalCounts {
    /// The shard had as much to do as it may take in.
    pub busy: u64,
    /// The group had no leader until the request's deadline.
    pub no_leader: u64,
    /// Another entry was committed in its place, or it was never appended.
    pub not_applied: u64,
    /// Nobody knows whether it was applied: it took too long, or its leader or a connection was lost.
    pub unknown: u64,
    /// The request was longer than a shard takes.
    pub too_large: u64,
    /// The disk of the group's leader was full.
    pub no_space: u64,
    /// The data at the group's leader took as much memory as it may.
    pub no_memory: u64,
    /// The group's leader was loading.
    pub loading: u64,
    /// There is no such group.
    pub no_such_group: u64,
    /// The state machine of the group had stopped.
    pub group_stopped: u64,
    /// The state machine of the group panicked at the query.
    pub query_failed: u64,
    /// The shard of this node that has the group had stopped.
    pub shard_stopped: u64,
    /// The host was stopping.
    pub stopping: u64,
    /// Any other cause.
    pub other: u64,
}

impl RefusalCounts {
    pub(crate) fn count(&mut self, error: &RequestError) {
        let count = match error {
            RequestError::Busy => &mut self.busy,
            RequestError::NoLeader { .. } => &mut self.no_leader,
            RequestError::NotApplied => &mut self.not_applied,
            RequestError::Unknown { .. } => &mut self.unknown,
            RequestError::TooLarge { .. } => &mut self.too_large,
            RequestError::NoSpace => &mut self.no_space,
            RequestError::NoMemory => &mut self.no_memory,
            RequestError::Loading => &mut self.loading,
            RequestError::NoSuchGroup => &mut self.no_such_group,
            RequestError::GroupStopped => &mut self.group_stopped,
            RequestError::QueryFailed => &mut self.query_failed,
            RequestError::ShardStopped { .. } => &mut self.shard_stopped,
            RequestError::Stopping => &mut self.stopping,
            _ => &mut self.other,
        };
        *count += 1;
    }
}

/// A group's replica on this node as it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupStatus {
    /// The group.
    pub group: GroupId,
    /// Its replica.
    pub raft: RaftStatus,
    /// Proposals in the log whose outcome is open.
    pub proposals: usize,
    /// Queries that are not answered.
    pub queries: usize,
    /// Queries that the state machine has panicked at, since the shard was opened.
    pub failed_queries: u64,
    /// Why the state machine has stopped, if it has: the replica follows and applies nothing (safety E6).
    pub machine: Option<MachineStop>,
}
