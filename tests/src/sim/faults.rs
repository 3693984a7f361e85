//! Faults by chance: which kinds a seed has, when they strike, and how they end.
//!
//! A driver alternates [`Nemesis::act`] with runs of the world, and ends with [`Nemesis::calm`], after
//! which every node runs and every link works.

use super::{
    disk::{DiskError, DiskFault, DiskOperation},
    random::Random,
    world::{Crash, World},
};
use purlin_rsm::{NodeId, ShardId};
use std::{collections::BTreeSet, time::Duration};

/// Which faults a run has.
#[derive(Clone, Debug)]
pub struct FaultOptions {
    /// The nodes that they strike.
    pub nodes: Vec<NodeId>,
    /// The shards of each node.
    pub shards: u16,
    /// How many nodes are down at once at most.
    pub down_max: usize,
    /// The mean time between two faults.
    pub pause_mean: Duration,
    /// The kinds that occur.
    pub kinds: Vec<Fault>,
}

/// A kind of fault.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Fault {
    /// A process ends.
    Kill,
    /// A node loses power.
    PowerCut,
    /// All nodes lose power at once.
    Blackout,
    /// The nodes part into two sides.
    Partition,
    /// One node hears another no more, which hears it.
    OneWay,
    /// The connections of two nodes break.
    Reset,
    /// A core stands still.
    Pause,
    /// A disk stands still.
    HangDisk,
    /// A disk fails a write.
    WriteError,
    /// A disk fails a sync.
    SyncError,
    /// A disk has little or no room left, until it is relieved.
    FullDisk,
}

impl Fault {
    /// All kinds.
    pub const ALL: [Self; 11] = [
        Self::Kill,
        Self::PowerCut,
        Self::Blackout,
        Self::Partition,
        Self::OneWay,
        Self::Reset,
        Self::Pause,
        Self::HangDisk,
        Self::WriteError,
        Self::SyncError,
        Self::FullDisk,
    ];
}

impl FaultOptions {
    /// A subset of all kinds, each with an even chance, and a pace, drawn for one seed.
    pub fn draw(random: &Random, nodes: &[NodeId], shards: u16) -> Self {
        let mut kinds = Fault::ALL.to_vec();
        kinds.retain(|_| random.chance(0.5));
        let pause_mean = Duration::from_secs_f64(random.magnitude(0.1, 3.0));
        let down_max = random.below(nodes.len() as u64 + 1) as usize;
        Self { nodes: nodes.to_vec(), shards, down_max, pause_mean, kinds }
    }
}

/// A full disk has room for a few of these, or for none.
const ROOM_STEP: u64 = 1 << 20;

/// Lets faults strike and end.
pub struct Nemesis {
    options: FaultOptions,
    paused: BTreeSet<(NodeId, ShardId)>,
    full: BTreeSet<NodeId>,
    is_cut: bool,
}

impl Nemesis {
    /// A nemesis that has done nothing yet.
    pub fn new(options: FaultOptions) -> Self {
        Self { options, paused: BTreeSet::new(), full: BTreeSet::new(), is_cut: false }
    }

    /// Does one thing, and says for how long the world shall run until the next.
    pub fn act(&mut self, world: &World) -> Duration {
        let random = world.faults();
        // To end a fault is as likely as to begin one, so that many are short and some pile up.
        if random.chance(0.5) {
            self.relieve(world);
        } else if !self.options.kinds.is_empty() {
            self.strike(world, *random.pick(&self.options.kinds));
        }
        random.exponential(self.options.pause_mean)
    }

    /// Ends all faults and starts every node that is down.
    pub fn calm(&mut self, world: &World) {
        world.heal();
        self.is_cut = false;
        self.full.clear();
        self.resume_all(world);
        for &node in &self.options.nodes {
            world.node(node).disarm();
            world.node(node).set_quota(None);
            world.node(node).hang_disk(Duration::ZERO);
            if !world.is_running(node) {
                world.restart(node);
            }
        }
    }

    fn strike(&mut self, world: &World, fault: Fault) {
        let random = world.faults();
        let node = *random.pick(&self.options.nodes);
        match fault {
            Fault::Kill => self.take_down(world, node, Crash::Kill),
            Fault::PowerCut => self.take_down(world, node, Crash::PowerCut),
            Fault::Blackout if self.options.down_max == self.options.nodes.len() => {
                self.options.nodes.iter().for_each(|&node| world.crash(node, Crash::PowerCut));
            }
            Fault::Blackout => {}
            Fault::Partition => {
                let mut nodes = self.options.nodes.clone();
                random.shuffle(&mut nodes);
                let (one, other) = nodes.split_at(random.below(nodes.len() as u64) as usize);
                world.partition(one, other);
                self.is_cut = true;
            }
            Fault::OneWay => {
                world.cut_one_way(&[node], &[*random.pick(&self.options.nodes)]);
                self.is_cut = true;
            }
            Fault::Reset => world.reset_connections(node, *random.pick(&self.options.nodes)),
            Fault::Pause => {
                let shard = ShardId(random.below(u64::from(self.options.shards)) as u16);
                world.pause(node, shard);
                self.paused.insert((node, shard));
            }
            Fault::HangDisk => {
                world.node(node).hang_disk(random.exponential(Duration::from_secs(1)))
            }
            Fault::WriteError => arm(world, node, DiskOperation::Write),
            Fault::SyncError => arm(world, node, DiskOperation::Sync),
            Fault::FullDisk => {
                let room = random.below(4) * ROOM_STEP;
                world.node(node).set_quota(Some(world.node(node).used() + room));
                self.full.insert(node);
            }
        }
    }

    fn relieve(&mut self, world: &World) {
        let random = world.faults();
        let down: Vec<_> =
            self.options.nodes.iter().copied().filter(|&node| !world.is_running(node)).collect();
        match random.below(4) {
            0 if self.is_cut => {
                world.heal();
                self.is_cut = false;
            }
            1 if !self.paused.is_empty() => self.resume_all(world),
            2 if !self.full.is_empty() => {
                std::mem::take(&mut self.full)
                    .iter()
                    .for_each(|&node| world.node(node).set_quota(None));
            }
            _ if !down.is_empty() => world.restart(*random.pick(&down)),
            _ => {}
        }
    }

    fn take_down(&self, world: &World, node: NodeId, how: Crash) {
        let down = self.options.nodes.iter().filter(|&&node| !world.is_running(node)).count();
        if down < self.options.down_max {
            world.crash(node, how);
        }
    }

    fn resume_all(&mut self, world: &World) {
        for (node, shard) in std::mem::take(&mut self.paused) {
            world.resume(node, shard);
        }
    }
}

fn arm(world: &World, node: NodeId, operation: DiskOperation) {
    let path_contains = String::new();
    world.node(node).arm(DiskFault {
        operation,
        path_contains,
        times: 1,
        error: DiskError::Device,
    });
}
