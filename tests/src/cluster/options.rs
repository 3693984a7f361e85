//! What a run is made of: drawn for a seed, or chosen.

use crate::sim::{FaultOptions, Random, WorldOptions};
use purlin::{Durability, NodeId};
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
    /// How long faults strike, in simulated time.
    pub turmoil: Duration,
    /// Disks, network and clocks.
    pub world: WorldOptions,
    /// What goes wrong.
    pub faults: FaultOptions,
    /// How writes become durable.
    pub durability: Durability,
    /// The size of a WAL segment; small ones rotate often.
    pub segment_bytes: u64,
}

impl ClusterOptions {
    /// Options drawn for a seed: mostly three nodes and few groups, now and then one or five nodes.
    pub fn draw(seed: u64) -> Self {
        let random = Random::new(seed, "cluster");
        let nodes = *random.pick(&[1, 3, 3, 3, 3, 3, 3, 5]);
        let shards = (0..nodes).map(|_| *random.pick(&[1, 1, 2, 3])).collect::<Vec<u16>>();
        let ids: Vec<NodeId> = (1..=nodes).map(NodeId).collect();
        let shards_max = shards.iter().copied().max().unwrap_or(1);
        Self {
            nodes,
            groups: *random.pick(&[1, 2, 4, 7]),
            clients: 1 + random.below(3) as u32,
            pipeline: *Random::new(seed, "pipeline").pick(&[1, 2, 6, 20]),
            turmoil: Random::new(seed, "turmoil").duration(TURMOIL),
            world: WorldOptions::draw(&random),
            faults: FaultOptions::draw(&random, &ids, shards_max),
            durability: if random.chance(0.5) { Durability::EachWrite } else { Durability::OnSync },
            segment_bytes: *random.pick(&[1 << 20, 4 << 20]),
            shards,
        }
    }

    /// A calm cluster: nothing goes wrong unless somebody makes it.
    pub fn calm(nodes: u32, groups: u32) -> Self {
        let ids: Vec<NodeId> = (1..=nodes).map(NodeId).collect();
        Self {
            nodes,
            shards: vec![1; nodes as usize],
            groups,
            clients: 0,
            pipeline: 4,
            turmoil: Duration::ZERO,
            world: WorldOptions { nodes, ..WorldOptions::default() },
            faults: FaultOptions {
                nodes: ids,
                shards: 1,
                down_max: 0,
                pause_mean: Duration::from_secs(1),
                kinds: Vec::new(),
                beyond: false,
            },
            durability: Durability::EachWrite,
            segment_bytes: 1 << 20,
        }
    }
}
