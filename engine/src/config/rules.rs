//! The rules of a configuration: the one set, for programs that embed the engine and for the server.
//!
//! A rule that is broken yields a [`Contradiction`]. `validate` returns the first one as an error. The
//! server shows all of them, each at its key in the configuration file.

use super::{
    ClusterConfig, NodeConfig, RaftOptions, WalOptions, quantity::ByteSize, quantity::Period,
};
use crate::{
    error::{Error, ErrorKind},
    node::identity::VOTERS_MAX,
};
use purlin_rsm::NodeId;
use purlin_storage::Durability;
use purlin_transport::Advertised;
use std::{fmt, time::Duration};

/// The longest election timeout.
const ELECTION_MAX: Duration = Duration::from_secs(60);
/// Entries of this length together still fit into a frame between nodes.
const MESSAGE_BYTES: usize = 15 << 20;

/// Values of a configuration that do not go together, or one value that is out of its range.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Contradiction {
    /// The fields that it is about, such as `raft.heartbeat` and `cluster.members[0].node`. The text
    /// is about the first one.
    pub fields: Vec<String>,
    /// What is wrong: the text that follows the name of the first field.
    pub text: String,
    /// A remark: the reason, or what to write instead; perhaps empty.
    pub remark: String,
}

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {}", self.fields[0], self.text)?;
        if self.remark.is_empty() { Ok(()) } else { write!(f, " ({})", self.remark) }
    }
}

/// The contradictions found so far.
#[derive(Default)]
struct Found(Vec<Contradiction>);

impl Found {
    fn add(&mut self, fields: &[&str], text: String, remark: &str) {
        let fields = fields.iter().map(|&field| field.into()).collect();
        self.0.push(Contradiction { fields, text, remark: remark.into() });
    }

    fn first(self, place: &str) -> Result<(), Error> {
        match self.0.first() {
            None => Ok(()),
            Some(first) => Err(invalid(first.to_string(), place)),
        }
    }

    fn members(&mut self, cluster: &ClusterConfig) {
        let members = &cluster.members;
        if members.is_empty() {
            return self.add(&["cluster.members"], "is empty".into(), "");
        }
        if members.len() > VOTERS_MAX {
            let text = format!("has {} members, and must have {VOTERS_MAX} at most", members.len());
            self.add(&["cluster.members"], text, "");
        }
        for (at, member) in members.iter().enumerate() {
            let field = format!("cluster.members[{at}].node");
            if member.node == NodeId(0) {
                self.add(&[&field], "is 0, and must be 1 at least".into(), "");
            }
            if members[..at].iter().any(|other| other.node == member.node) {
                let text = format!("is {}, which is the id of another member too", member.node.0);
                self.add(&[&field], text, "each node has an id of its own");
            }
        }
        if cluster.replicas as usize != members.len() {
            let text = format!(
                "is {}, and there are {} members: in this version each member has a replica of each group",
                cluster.replicas,
                members.len()
            );
            let remark = format!("must be {}, or left out", members.len());
            self.add(&["cluster.replicas"], text, &remark);
        }
    }

    fn own_node(&mut self, node: NodeId, cluster: &ClusterConfig) {
        let members = &cluster.members;
        if members.iter().any(|member| member.node == node) {
            return;
        }
        let ids: Vec<_> = members.iter().map(|member| member.node.0.to_string()).collect();
        let text = format!("is {}, which is none of the members", node.0);
        let remark = match ids.is_empty() {
            true => String::new(),
            false => format!("the members are {}", ids.join(", ")),
        };
        self.add(&["node.id"], text, &remark);
    }

    fn advertised(&mut self, host: &str) {
        if host.len() > Advertised::HOST_BYTES_MAX {
            let text = format!(
                "has {} bytes, and must have {} at most",
                host.len(),
                Advertised::HOST_BYTES_MAX
            );
            self.add(&["listen.advertise_host"], text, "a handshake has no room for more");
        }
    }

    fn times(&mut self, raft: &RaftOptions) {
        let (least, most) = (raft.election_timeout.start, raft.election_timeout.end);
        let (name, range) =
            ("raft.election_timeout", format!("\"{}..{}\"", Period(least), Period(most)));
        if raft.tick.is_zero() {
            self.add(&["raft.tick"], "is zero, and must be longer".into(), "");
        } else if least >= most || most > ELECTION_MAX {
            let text = format!(
                "is {range}, and must be a range that grows and ends at {} or earlier",
                Period(ELECTION_MAX)
            );
            self.add(&[name], text, "the same timeout everywhere would split every vote");
        } else if raft.ticks(least) == raft.ticks(most) {
            let text = format!(
                "is {range}, which begins and ends in the same tick, and a tick is {}",
                Period(raft.tick)
            );
            let remark = "the same timeout everywhere would split every vote";
            self.add(&[name, "raft.tick"], text, remark);
        }
        if least <= raft.heartbeat * 2 {
            let text = format!(
                "begins at {}, which is not more than two heartbeats of {}",
                Period(least),
                Period(raft.heartbeat)
            );
            let remark = "one lost heartbeat would start an election";
            self.add(&[name, "raft.heartbeat"], text, remark);
        }
        if raft.heartbeat < raft.tick {
            let text = format!(
                "is {}, which is shorter than a tick of {}",
                Period(raft.heartbeat),
                Period(raft.tick)
            );
            self.add(&["raft.heartbeat", "raft.tick"], text, "time passes in ticks");
        }
    }

    fn wal(&mut self, wal: &WalOptions, cluster: &ClusterConfig) {
        let segment = ByteSize(wal.segment_bytes);
        if !WalOptions::SEGMENT_BYTES.contains(&wal.segment_bytes)
            || !wal.segment_bytes.is_multiple_of(WalOptions::SEGMENT_UNIT)
        {
            let (least, most) = WalOptions::SEGMENT_BYTES.into_inner();
            let text = format!(
                "is {segment}, and must be {} to {}, a multiple of {}",
                ByteSize(least),
                ByteSize(most),
                ByteSize(WalOptions::SEGMENT_UNIT)
            );
            self.add(&["wal.segment_bytes"], text, "");
        }
        // The range of a segment is narrower here than in the log itself, and is checked above.
        let of_the_log = wal.config(Durability::EachWrite).contradictions().into_iter();
        for (field, text) in of_the_log.filter(|(field, _)| *field != "segment_bytes") {
            self.add(&[&format!("wal.{field}")], text, "");
        }
        if cluster.max_command > wal.max_command() {
            let text = format!(
                "is {}, and with segments of {segment} it must be at most {}",
                ByteSize(cluster.max_command as u64),
                ByteSize(wal.max_command() as u64)
            );
            let remark =
                "a quarter of a segment, less 32KiB for what the log puts around a command";
            self.add(&["cluster.max_command", "wal.segment_bytes"], text, remark);
        }
        if wal.batch_bytes_max as u64 > wal.segment_bytes / 4 {
            let text = format!(
                "is {}, and with segments of {segment} it must be at most {}",
                ByteSize(wal.batch_bytes_max as u64),
                ByteSize(wal.segment_bytes / 4)
            );
            let remark = "a batch must fit into a quarter of a segment";
            self.add(&["wal.batch_bytes_max", "wal.segment_bytes"], text, remark);
        }
    }

    fn windows(&mut self, node: &NodeConfig, cluster: &ClusterConfig) {
        let raft = &node.raft;
        for (field, value) in [
            ("raft.inflight_messages_max", raft.inflight_messages_max),
            ("raft.inflight_bytes_max", raft.inflight_bytes_max),
            ("raft.append_bytes_max", raft.append_bytes_max),
            ("raft.apply_bytes_max", raft.apply_bytes_max),
            ("raft.memory_bytes_max", raft.memory_bytes_max),
            ("raft.outbox_bytes_max", raft.outbox_bytes_max),
            ("intake.requests_max", node.intake.requests_max),
        ] {
            if value == 0 {
                self.add(&[field], "is 0, and must be 1 at least".into(), "");
            }
        }
        if node.intake.request_bytes_max < cluster.max_command {
            let text = format!(
                "is {}, and with a longest command of {} it must be at least that",
                ByteSize(node.intake.request_bytes_max as u64),
                ByteSize(cluster.max_command as u64)
            );
            let remark = "a longer command would be refused as busy for ever";
            self.add(&["intake.request_bytes_max", "cluster.max_command"], text, remark);
        }
        // What is read from the log for a follower may end with one entry too many.
        if raft.append_bytes_max.saturating_add(cluster.max_command) > MESSAGE_BYTES {
            let text = format!(
                "is {}, and with a longest command of {} it must be at most {}",
                ByteSize(raft.append_bytes_max as u64),
                ByteSize(cluster.max_command as u64),
                ByteSize(MESSAGE_BYTES.saturating_sub(cluster.max_command) as u64)
            );
            let remark = "both together must fit into a frame between nodes";
            self.add(&["raft.append_bytes_max", "cluster.max_command"], text, remark);
        }
    }
}

impl ClusterConfig {
    /// All that keeps the members from forming a cluster.
    pub fn contradictions(&self) -> Vec<Contradiction> {
        self.found().0
    }

    /// Whether the members can form a cluster.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], with the first contradiction.
    pub fn validate(&self) -> Result<(), Error> {
        self.found().first("the cluster's configuration")
    }

    fn found(&self) -> Found {
        let mut found = Found::default();
        if self.groups == 0 || self.groups > Self::GROUPS_MAX {
            let text = format!("is {}, and must be 1 to {}", self.groups, Self::GROUPS_MAX);
            found.add(&["cluster.groups"], text, "");
        }
        if self.extra_groups > Self::EXTRA_GROUPS_MAX {
            let most = Self::EXTRA_GROUPS_MAX;
            let text = format!("is {}, and must be {most} at most", self.extra_groups);
            found.add(&["cluster.extra_groups"], text, "");
        }
        if self.max_command == 0 || self.max_command > Self::MAX_COMMAND {
            let text = format!(
                "is {}, and must be 1B to {}",
                ByteSize(self.max_command as u64),
                ByteSize(Self::MAX_COMMAND as u64)
            );
            let remark = "a command must fit into a frame between nodes";
            found.add(&["cluster.max_command"], text, remark);
        }
        found.members(self);
        found
    }
}

impl NodeConfig {
    /// All that keeps the node's choices from fitting each other and the cluster.
    pub fn contradictions(&self, cluster: &ClusterConfig) -> Vec<Contradiction> {
        self.found(cluster).0
    }

    /// Whether the node's choices fit each other and the cluster.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], with the first contradiction.
    pub fn validate(&self, cluster: &ClusterConfig) -> Result<(), Error> {
        self.found(cluster).first("the node's configuration")
    }

    fn found(&self, cluster: &ClusterConfig) -> Found {
        let mut found = Found::default();
        found.own_node(self.node, cluster);
        found.advertised(&self.advertised.host);
        found.times(&self.raft);
        found.wal(&self.wal, cluster);
        found.windows(self, cluster);
        found
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
    let what = format!(
        "{shards} shards do not fit: there must be 1 at least, and a port up to 65535 for each, from \
         peer_port on"
    );
    Err(invalid(what, "the node's configuration"))
}

fn invalid(what: String, place: &str) -> Error {
    Error::new(ErrorKind::Config, what, place, "nothing was changed", "correct it and start again")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Member;
    use purlin_rsm::ClusterId;

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
        assert!(node(|node| node.raft.memory_bytes_max = 0).is_err());
        assert!(node(|node| node.raft.outbox_bytes_max = 0).is_err());
        assert!(node(|node| node.raft.append_bytes_max = 7 << 20).is_ok());
        assert!(node(|node| node.raft.append_bytes_max = 8 << 20).is_err());
        assert!(node(|node| node.wal.batch_bytes_max = 17 << 20).is_err());
        assert!(node(|node| node.wal.writes_in_flight_max = 0).is_err());
        assert!(node(|node| node.wal.batch_bytes_max = 4095).is_err());
    }

    #[test]
    fn numbers_that_init_fixes_have_bounds() {
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
            "`cluster.max_command` is 1015809B, and with segments of 4MiB it must be at most 992KiB (a \
             quarter of a segment, less 32KiB for what the log puts around a command)"
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

    #[test]
    fn an_election_timeout_is_longer_than_two_heartbeats() {
        let mut node = NodeConfig::new(NodeId(1), "nowhere");
        node.raft.election_timeout = Duration::from_millis(200)..Duration::from_millis(400);
        let found = node.contradictions(&cluster(1));
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].fields, ["raft.election_timeout", "raft.heartbeat"]);
        node.raft.election_timeout.start += node.raft.tick;
        assert_eq!(node.contradictions(&cluster(1)), []);
    }

    #[test]
    fn all_contradictions_are_listed_and_the_first_is_the_error() {
        let mut node = NodeConfig::new(NodeId(9), "nowhere");
        (node.raft.tick, node.raft.apply_bytes_max) = (Duration::ZERO, 0);
        (node.wal.segment_bytes, node.wal.writes_in_flight_max) = ((64 << 20) + 1, 65);
        let found = node.contradictions(&cluster(1));
        let fields: Vec<_> = found.iter().map(|it| it.fields[0].as_str()).collect();
        let expected = [
            "node.id",
            "raft.tick",
            "wal.segment_bytes",
            "wal.writes_in_flight_max",
            "raft.apply_bytes_max",
        ];
        assert_eq!(fields, expected);
        let error = node.validate(&cluster(1)).unwrap_err();
        assert_eq!(
            error.trouble.what,
            "`node.id` is 9, which is none of the members (the members are 1)"
        );
    }
}
