//! The options of a run: drawn for a seed, or chosen.

use super::{Fate, recovery::GROUPS_MANY};
use crate::sim::{CpuOptions, FaultOptions, Random, WorldOptions};
use purlin::{Durability, IntakeOptions, NodeId, RaftOptions, WalOptions};
use std::{ops::Range, time::Duration};

/// How long faults strike: with the start and the recovery, a run takes 20 to 60 seconds and seldom more.
const TURMOIL: Range<Duration> = Duration::from_secs(12)..Duration::from_secs(45);

/// What a run is made of.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// How many nodes.
    pub nodes: u32,
    /// The shards of each node: they may differ.
    pub shards: Vec<u16>,
    /// How many user groups.
    pub groups: u32,
    /// Clients at each shard.
    pub clients: u32,
    /// How many requests every other client keeps open on a connection of its own; with 1 none does.
    pub pipeline: usize,
    /// Clients that come over the network, from outside all nodes. Without a number the shards open no
    /// front ends.
    pub visitors: Option<u32>,
    /// How long a client waits after an answer, on average.
    pub think: Duration,
    /// When no client asks anything, in the world's time.
    pub idle: Vec<Range<Duration>>,
    /// How long faults strike, in simulated time.
    pub turmoil: Duration,
    /// Disks, network and clocks.
    pub world: WorldOptions,
    /// What goes wrong.
    pub faults: FaultOptions,
    /// Nodes that are never healed, as far as a majority is left without them.
    pub forsaken: Vec<(NodeId, Fate)>,
    /// How writes become durable.
    pub durability: Durability,
    /// What a shard of each node takes in, and holds. Nodes without an entry have the last one.
    pub limits: Vec<Limits>,
}

impl ClusterOptions {
    /// Options drawn for a seed.
    pub fn draw(seed: u64) -> Self {
        let random = Random::new(seed, "cluster");
        let size = Size::draw(&random);
        let ids: Vec<NodeId> = (1..=size.nodes).map(NodeId).collect();
        let shards: Vec<u16> =
            ids.iter().map(|_| 1 + random.below(size.shards_max) as u16).collect();
        let shards_max = shards.iter().copied().max().unwrap_or(1);
        let shards_sum: u16 = shards.iter().sum();
        let clients = 2 + random.below(CLIENTS_MAX - 1) as u32;
        Self {
            nodes: size.nodes,
            groups: size.groups,
            clients: clients.div_ceil(shards_sum.into()),
            visitors: Some(Random::new(seed, "visitors").below(4) as u32).filter(|it| *it > 0),
            think: Duration::from_secs_f64(random.magnitude(0.005, 0.12)),
            idle: idle_times(&Random::new(seed, "idle")),
            pipeline: *Random::new(seed, "pipeline").pick(&[1, 2, 6, 20]),
            turmoil: Random::new(seed, "turmoil").duration(TURMOIL),
            world: WorldOptions {
                cpu: CpuOptions::draw(&Random::new(seed, "cpu")),
                ..WorldOptions::draw(&random)
            },
            faults: FaultOptions::draw_all(&random, &ids, shards_max),
            forsaken: Fate::draw(&Random::new(seed, "forsaken"), &ids),
            durability: if random.chance(0.5) { Durability::EachWrite } else { Durability::OnSync },
            limits: draw_limits(seed, *random.pick(&[1 << 20, 4 << 20]), &size),
            shards,
        }
    }

    /// A calm cluster: nothing goes wrong unless somebody makes it, and leaders stay where they are.
    pub fn calm(nodes: u32, groups: u32) -> Self {
        let mut limits = Limits::default();
        limits.raft.leaders_return = false;
        let ids: Vec<NodeId> = (1..=nodes).map(NodeId).collect();
        Self {
            nodes,
            shards: vec![1; nodes as usize],
            groups,
            clients: 0,
            pipeline: 4,
            turmoil: Duration::ZERO,
            world: WorldOptions { nodes, ..WorldOptions::default() },
            visitors: None,
            forsaken: Vec::new(),
            think: Duration::from_millis(30),
            idle: Vec::new(),
            faults: FaultOptions {
                nodes: ids,
                shards: 1,
                down_max: 0,
                pause_mean: Duration::from_secs(1),
                kinds: Vec::new(),
                beyond: false,
            },
            durability: Durability::EachWrite,
            limits: vec![limits],
        }
    }

    /// The limits of a node.
    pub(super) fn limits_of(&self, node: NodeId) -> &Limits {
        &self.limits[(node.0 as usize - 1).min(self.limits.len() - 1)]
    }

    /// Whether a few clients fill the limits of some node.
    pub(super) fn limits_are_small(&self) -> bool {
        self.limits.iter().any(Limits::are_small)
    }
}

/// How much a shard takes in before it says `Busy`, what its channels to the node's other shards hold, and
/// how much of its groups it sends, applies, keeps and writes at once.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Requests that wait for their outcome, and their bytes.
    pub requests_max: usize,
    /// See there.
    pub request_bytes_max: usize,
    /// The longest command; that of the first node is the one of the cluster.
    pub max_command: usize,
    /// Memory that the machines of a shard may hold.
    pub machine_bytes_max: usize,
    /// Items in a channel from one shard to another.
    pub mesh: usize,
    /// Windows of raft, and what each group keeps in memory.
    pub raft: RaftOptions,
    /// The write-ahead logs; small segments rotate often.
    pub wal: WalOptions,
}

impl Default for Limits {
    fn default() -> Self {
        let intake = IntakeOptions::default();
        Self {
            requests_max: intake.requests_max,
            request_bytes_max: intake.request_bytes_max,
            max_command: Self::MAX_COMMAND,
            machine_bytes_max: intake.machine_bytes_max,
            mesh: 256,
            raft: RaftOptions::default(),
            wal: WalOptions { segment_bytes: 1 << 20, ..WalOptions::default() },
        }
    }
}

impl Limits {
    /// The longest command. It fits into each of the limits on bytes.
    pub(super) const MAX_COMMAND: usize = 64 << 10;
    const SMALL: usize = 100;

    /// Whether a few clients fill them.
    pub(super) fn are_small(&self) -> bool {
        self.requests_max <= Self::SMALL
    }

    /// In three runs of ten they are so small that clients meet them. Of many groups each would wait for
    /// the room that others take.
    fn draw(seed: u64, segment_bytes: u64, groups: u32) -> Self {
        let random = Random::new(seed, "limits");
        let wal = draw_wal(segment_bytes, &Random::new(seed, "wal"));
        let raft = draw_raft(&Random::new(seed, "raft"));
        if !random.chance(0.3) || groups > GROUPS_MANY {
            return Self { raft, wal, ..Self::default() };
        }
        Self {
            requests_max: random.magnitude(1.0, Self::SMALL as f64) as usize,
            request_bytes_max: Self::MAX_COMMAND + random.magnitude(1.0, 1e6) as usize,
            max_command: Self::MAX_COMMAND,
            // No key may be refused in the end: scenarios fill the memory.
            machine_bytes_max: usize::MAX,
            mesh: random.magnitude(1.0, 100.0) as usize,
            raft,
            wal,
        }
    }
}

/// In half of all runs the nodes have limits of their own: a node with large ones sends to one with small ones.
fn draw_limits(seed: u64, segment_bytes: u64, size: &Size) -> Vec<Limits> {
    let random = Random::new(seed, "limits differ");
    let mut limits = vec![Limits::draw(seed, segment_bytes, size.groups)];
    if random.chance(0.5) {
        for _ in 1..size.nodes {
            let segment_bytes = *random.pick(&[1 << 20, 4 << 20]);
            limits.push(Limits::draw(random.bits(), segment_bytes, size.groups));
        }
    }
    limits
}

/// Clients of all nodes together, if each shard has one at least.
const CLIENTS_MAX: u64 = 16;

/// How large a cluster is: mostly small, since most of what can go wrong does so there.
struct Size {
    nodes: u32,
    shards_max: u64,
    groups: u32,
}

impl Size {
    fn draw(random: &Random) -> Self {
        let groups = *random.pick(&[1, 2, 4, 4, 7]);
        let (nodes, shards_max, groups) = match random.below(40) {
            0..=3 => (1, 3, groups),
            4..=7 => (5, 2, groups),
            8 => (7, 1, groups.min(4)),
            9 => (3, 4, 64),
            10 => (5, 2, 24),
            11 => (2, 2, groups),
            _ => (3, 3, groups),
        };
        Self { nodes, shards_max, groups }
    }
}

/// In half of all runs windows and pages are so small that groups fill them, and little is kept in memory, so
/// that followers and machines are served from the log.
fn draw_raft(random: &Random) -> RaftOptions {
    let default = RaftOptions::default();
    if random.chance(0.5) {
        return default;
    }
    RaftOptions {
        inflight_messages_max: random.magnitude(2.0, default.inflight_messages_max as f64) as usize,
        inflight_bytes_max: random.magnitude(4e3, default.inflight_bytes_max as f64) as usize,
        append_bytes_max: random.magnitude(1e3, default.append_bytes_max as f64) as usize,
        apply_bytes_max: random.magnitude(1e3, default.apply_bytes_max as f64) as usize,
        cache_bytes_max: random.magnitude(1.0, default.cache_bytes_max as f64) as usize,
        // An entry of each group has room: with less, groups wait for each other from retry to retry.
        memory_bytes_max: random.magnitude(3e4, 1e6) as usize,
        outbox_bytes_max: random.magnitude(1e4, default.outbox_bytes_max as f64) as usize,
        ..default
    }
}

/// The same for what a log keeps, and writes at once.
fn draw_wal(segment_bytes: u64, random: &Random) -> WalOptions {
    let default = WalOptions { segment_bytes, ..WalOptions::default() };
    if random.chance(0.5) {
        return default;
    }
    WalOptions {
        writes_in_flight_max: random.magnitude(1.0, 16.0) as usize,
        batch_bytes_max: random.magnitude(4096.0, default.batch_bytes_max as f64) as usize,
        tail_bytes_max: random.magnitude(1.0, 1e6) as usize,
        ..default
    }
}

/// Now and then all clients are silent, so that groups fall idle and are woken again.
fn idle_times(random: &Random) -> Vec<Range<Duration>> {
    let mut start = Duration::ZERO;
    let count = random.below(4);
    let times = (0..count).map(|_| {
        start += random.duration(Duration::from_secs(3)..Duration::from_secs(20));
        let end = start + random.duration(Duration::from_millis(200)..Duration::from_secs(5));
        std::mem::replace(&mut start, end)..end
    });
    times.collect()
}
