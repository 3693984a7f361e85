//! The one table of configuration keys: each with its field, the values that the field takes, and what
//! it means. Reading, checking, `purlin config default` and the page `docs/configuration.md` come from
//! this table. A file that has another key is refused.

use super::{COMMAND_OVERHEAD_BYTES, Config, SHARDS_MAX, field::Field};
use purlin::{ClusterConfig, Member, WalOptions};
use purlin_kv::VALUE_BYTES_MAX;
use std::time::Duration;

/// A section of the file.
pub(super) struct Section {
    pub(super) name: &'static str,
    /// What its keys are about.
    pub(super) help: &'static str,
    pub(super) keys: &'static [Key<Config>],
}

/// A key: of a section, when `C` is the configuration; of one member, when `C` is that.
pub(super) struct Key<C: 'static> {
    pub(super) name: &'static str,
    pub(super) absent: Absent,
    /// What it means, in sentences.
    pub(super) help: &'static str,
    pub(super) field: fn(&mut C) -> Field<'_>,
}

/// What it means that a key is not given.
#[derive(Clone, Copy)]
pub(super) enum Absent {
    /// A mistake. The text says what the key is for.
    Mistake(&'static str),
    /// The field has its default.
    Default,
    /// The field gets a value that depends on other keys, as the text says.
    Derived(&'static str),
}

use Absent::{Default, Derived, Mistake};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const KIB: u64 = 1 << 10;
const GIB: u64 = 1 << 30;

const fn key<C>(
    name: &'static str,
    absent: Absent,
    help: &'static str,
    field: fn(&mut C) -> Field<'_>,
) -> Key<C> {
    Key { name, absent, help, field }
}

/// All sections, in the order in which a file is written.
pub(super) static SECTIONS: [Section; 9] = [
    Section {
        name: "node",
        help: "This node.",
        keys: &[
            key(
                "id",
                Mistake("which of the members this node is"),
                "Which of the members this node is. `purlin init` fixes it.",
                |c| Field::Number(&mut c.node.id, 1..=u32::MAX as u64),
            ),
            key(
                "data_dir",
                Mistake("the directory with this node's data"),
                "The directory with this node's data. `purlin init` makes it once. A relative path \
                 begins at the folder of this file.",
                |c| Field::Path(&mut c.node.data_dir),
            ),
            key(
                "shards",
                Default,
                "How many shards this node has; each shard runs on one core. `purlin init` fixes it. \
                 \"auto\" means one shard for each core that the process may use, and one less when \
                 there are more than four.",
                |c| Field::Shards(&mut c.node.shards, SHARDS_MAX),
            ),
            key(
                "pin",
                Default,
                "Whether each shard gets a core of its own, where there are enough cores that no other node on this machine has.",
                |c| Field::Flag(&mut c.node.pin),
            ),
        ],
    },
    Section {
        name: "cluster",
        help: "The cluster. This section is the same in the files of all members.",
        keys: &[
            key(
                "id",
                Mistake("`purlin init --new` prints a new one"),
                "The id of the cluster. `purlin init --new` draws one. Nodes of different clusters \
                 refuse each other's connections.",
                |c| Field::Id(&mut c.cluster.id),
            ),
            key(
                "groups",
                Default,
                "How many Raft groups share the keys. `purlin init` fixes it.",
                |c| Field::Number(&mut c.cluster.groups, 1..=ClusterConfig::GROUPS_MAX.into()),
            ),
            key(
                "extra_groups",
                Default,
                "How many groups, beside those that share the keys, belong to programs that embed the \
                 engine. `purlin init` fixes it.",
                |c| {
                    Field::Number(
                        &mut c.cluster.extra_groups,
                        0..=ClusterConfig::EXTRA_GROUPS_MAX.into(),
                    )
                },
            ),
            key(
                "max_command",
                Default,
                "The longest command with all its parts: name, key, value and options. A quarter of a \
                 segment must hold it, with 32KiB beside it. `purlin init` fixes it.",
                |c| {
                    Field::Size(
                        &mut c.cluster.max_command,
                        COMMAND_OVERHEAD_BYTES + 1..=ClusterConfig::MAX_COMMAND as u64,
                        1,
                    )
                },
            ),
            key(
                "replicas",
                Derived("the number of members"),
                "How many replicas each group has. In this version it must be the number of members.",
                |c| Field::Number(&mut c.cluster.replicas, 1..=1_000),
            ),
            key(
                "members",
                Mistake("the list of members: { node = 1, host = \"10.0.0.1\", peer_port = 7050 }"),
                "The members. `purlin init` fixes which nodes they are: this version cannot add or remove \
                 one. Hosts and ports may change. Shard i of a node listens for other nodes at port \
                 peer_port + i.",
                |c| Field::Members(&mut c.cluster.members),
            ),
        ],
    },
    Section {
        name: "listen",
        help: "Where this node listens. Usually a node takes its ports from one block of a hundred: the \
               gateway at the first port, the shards' ports for clients from +1, the ports for other \
               nodes from +50, the admin port at +98.",
        keys: &[
            key(
                "gateway",
                Default,
                "Where Redis clients connect. There are no passwords in this version, so an address \
                 that is not a loopback address also needs insecure = true.",
                |c| Field::Address(&mut c.listen.gateway),
            ),
            key(
                "insecure",
                Default,
                "Whether the gateway and the admin port may have an address that other machines reach. \
                 Everybody who reaches the gateway can read and change all keys.",
                |c| Field::Flag(&mut c.listen.insecure),
            ),
            key(
                "shard_port_base",
                Derived("0; `purlin config default` writes the port of the gateway plus 1"),
                "Shard i listens for clients of Redis Cluster at this port plus i, at the address of the \
                 gateway: clients learn there which shard leads which keys, and ask that shard. 0 means \
                 that the shards have no such ports.",
                |c| Field::Number(&mut c.listen.shard_port_base, 0..=65_535),
            ),
            key(
                "peer_host",
                Derived("this node's `host` in `cluster.members`"),
                "The address at which this node listens for other nodes. \"0.0.0.0\" and \"::\" mean all \
                 addresses of the machine.",
                |c| Field::Host(&mut c.listen.peer_host),
            ),
            key(
                "advertise_host",
                Derived(
                    "the address of the gateway if other machines reach it, or this node's `host` in \
                     `cluster.members`",
                ),
                "The host to which clients of Redis Cluster are sent for this node, and the one that this \
                 node names where its gateway or its admin port listens at all addresses of the machine. \
                 It must be one that clients reach: behind NAT, or in a container, that of the machine \
                 outside.",
                |c| Field::Host(&mut c.listen.advertise_host),
            ),
            key(
                "admin",
                Derived("127.0.0.1, with the gateway's port plus 98"),
                "Where `purlin status` connects. The admin port also answers when the cluster has no \
                 leader, and when clients hold all connections of the gateway.",
                |c| Field::Address(&mut c.listen.admin),
            ),
        ],
    },
    Section {
        name: "raft",
        help: "Timing and windows of Raft.",
        keys: &[
            key(
                "tick",
                Default,
                "The unit of Raft's time. A shorter tick reacts sooner and costs more.",
                |c| Field::Time(&mut c.raft.tick, MS..=SECOND),
            ),
            key(
                "election_timeout",
                Default,
                "A follower that hears nothing of a leader for a random time in this range starts an \
                 election. A shorter time replaces a leader that has failed sooner, and it replaces a slow \
                 leader without need.",
                |c| Field::Times(&mut c.raft.election_timeout),
            ),
            key(
                "heartbeat",
                Default,
                "How often a shard tells the other nodes which groups it leads. It must be shorter than \
                 half of the shortest election timeout, and not shorter than a tick.",
                |c| Field::Time(&mut c.raft.heartbeat, MS..=MINUTE),
            ),
            key(
                "inflight_bytes",
                Default,
                "How much a leader sends to one follower of one group before the follower acknowledges \
                 it.",
                |c| Field::Size(&mut c.raft.inflight_bytes_max, 64 * KIB..=GIB, 1),
            ),
            key(
                "memory",
                Default,
                "How much memory the log entries of all groups of one shard may take: those that other nodes \
                 or the disk have not taken yet, and those that are not applied. When it is more, entries are \
                 read from the log again. When the disk is so far behind that they are not in the log yet, \
                 writes are refused as busy.",
                |c| Field::Size(&mut c.raft.memory_bytes_max, 1024 * KIB..=1024 * GIB, 1),
            ),
        ],
    },
    Section {
        name: "wal",
        help: "The write-ahead log of each shard.",
        keys: &[
            key(
                "segment",
                Default,
                "The size of a segment file. Larger segments are changed less often; smaller segments keep \
                 less unused space in reserve. A change holds for new segments.",
                |c| {
                    Field::Size(
                        &mut c.wal.segment_bytes,
                        WalOptions::SEGMENT_BYTES,
                        WalOptions::SEGMENT_UNIT,
                    )
                },
            ),
            key(
                "durable_by",
                Default,
                "How a write becomes durable; every write does. \"dsync\": with the write itself. \
                 \"fdatasync\": by a sync after it. \"auto\": by whichever the disk does faster.",
                |c| Field::Word(&mut c.wal.durable_by),
            ),
        ],
    },
    Section {
        name: "kv",
        help: "The keys and their values.",
        keys: &[key(
            "max_memory",
            Default,
            "How much memory all keys and values of this node may take, with all that is around them. Its shards \
             have equal parts of it. When a part is used up, writes that need more get the error OOM; reads, \
             deletes and writes that need no more go on. \"auto\" means 70 % of the memory of the machine, or of \
             the control group of the process; less where the other budgets need more than the rest.",
            |c| Field::SizeOrAuto(&mut c.kv.max_memory, 1024 * KIB..=64 * 1024 * GIB),
        )],
    },
    Section {
        name: "client",
        help: "What one client may ask for.",
        keys: &[
            key(
                "max_value",
                Derived("`cluster.max_command` less 128KiB, and 8MiB at most"),
                "The longest value that a client may send. `cluster.max_command` must hold it, with 128KiB \
                 beside it. A client that sends a longer one is told so, and its connection is closed.",
                |c| Field::Size(&mut c.client.max_value, 1..=VALUE_BYTES_MAX as u64, 1),
            ),
            key(
                "max_pipeline",
                Default,
                "How many commands of one connection may wait for their replies. The node reads the next \
                 command of that connection when one of them has its reply.",
                |c| Field::Number(&mut c.client.max_pipeline, 1..=1 << 20),
            ),
            key(
                "output_buffer",
                Default,
                "How much of the replies may wait until a client reads it. Meanwhile the node runs no more \
                 commands of that client.",
                |c| Field::Size(&mut c.client.output_buffer, 64 * KIB..=4 * GIB, 1),
            ),
            key(
                "query_buffer",
                Default,
                "How much of a client's commands the node reads while it runs none of them, because replies \
                 wait. Many client libraries send a whole pipeline before they read the first reply. The \
                 longest command is read in any case.",
                |c| Field::Size(&mut c.client.query_buffer, 64 * KIB..=4 * GIB, 1),
            ),
            key(
                "memory",
                Default,
                "How much the clients of one shard may hold together: commands that were read, and replies \
                 that wait. When it is more, the node closes the connection that holds the most, and logs \
                 that.",
                |c| Field::Size(&mut c.client.memory, 1024 * KIB..=1024 * GIB, 1),
            ),
            key(
                "deadline",
                Default,
                "After this time a command gets an error as its reply. The error says whether the \
                 command was not applied, or may be applied.",
                |c| {
                    Field::Time(
                        &mut c.client.deadline,
                        Duration::from_millis(100)..=MINUTE.saturating_mul(60),
                    )
                },
            ),
            key(
                "leader_deadline",
                Default,
                "After this time a command that has found no leader gets the error CLUSTERDOWN: it was not \
                 applied. A time below the time-out of the clients keeps them from sending a command again \
                 that still waits here. After `deadline`, where that is shorter.",
                |c| {
                    Field::Time(
                        &mut c.client.leader_deadline,
                        Duration::from_millis(100)..=MINUTE.saturating_mul(60),
                    )
                },
            ),
        ],
    },
    Section {
        name: "runtime",
        help: "What a shard takes of the machine.",
        keys: &[
            key(
                "kind",
                Default,
                "What a shard runs on. \"glommio\": the library of that name, three rings for each shard. \
                 \"ring\": one ring for each shard, which asks the kernel less often and takes less of the \
                 processor; it needs Linux 6.1.",
                |c| Field::Word(&mut c.runtime.kind),
            ),
            key(
                "io_memory",
                Default,
                "Memory that each shard of the kind \"glommio\" registers with io_uring. It counts three times \
                 as locked memory (ulimit -l). Where the limit is lower, the shard runs without it, and slower.",
                |c| Field::Size(&mut c.runtime.io_memory, 64 * KIB..=GIB, 1),
            ),
            key(
                "spin",
                Default,
                "So long a shard of the kind \"ring\" looks for something to do before it sleeps, if it is pinned to a \
                 core of its own. Waking a thread takes some ten microseconds, and a core that spins is never idle.",
                |c| Field::Time(&mut c.runtime.spin, Duration::ZERO..=Duration::from_millis(1)),
            ),
        ],
    },
    Section {
        name: "log",
        help: "The text log, written to the standard error.",
        keys: &[
            key(
                "level",
                Default,
                "The least important level that is logged. PURLIN_LOG in the environment overrides it.",
                |c| Field::Word(&mut c.log.level),
            ),
            key(
                "format",
                Default,
                "\"auto\": text, with colours on a terminal. \"text\": text without colours.",
                |c| Field::Word(&mut c.log.format),
            ),
        ],
    },
];

/// The keys of one of `cluster.members`.
pub(super) static MEMBER: [Key<Member>; 3] = [
    key("node", Mistake(""), "The id of the node.", |m| {
        Field::Number(&mut m.node, 1..=u32::MAX as u64)
    }),
    key("host", Mistake(""), "The host at which other nodes reach it.", |m| {
        Field::Host(&mut m.host)
    }),
    key("peer_port", Mistake(""), "The port of its first shard for other nodes.", |m| {
        Field::Number(&mut m.peer_port, 1..=65_535)
    }),
];
