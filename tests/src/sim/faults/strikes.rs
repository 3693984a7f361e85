//! What each kind of fault does when it strikes. Damage to durable bytes is in `damage`.

use super::{
    Fault,
    nemesis::{Lag, Nemesis, Side, Step, Stream},
};
use crate::sim::{
    device::{Descriptors, DiskError, DiskFault, DiskOperation},
    net::LinkTrouble,
    random::Random,
    world::{Crash, OUTSIDE, World},
};
use purlin_rsm::{NodeId, ShardId};
use std::time::Duration;

/// A full disk has room for a few of these, or for none.
const ROOM_STEP: u64 = 1 << 20;
/// How long cores stand still.
const PAUSE_LEAST: Duration = Duration::from_millis(10);
const PAUSE_MOST: Duration = Duration::from_secs(30);
/// A lag grows by so much, so often.
const LAG_STEP: Duration = Duration::from_millis(130);
const LAG_PACE: Duration = Duration::from_millis(150);

impl Nemesis {
    pub(super) fn strike(&mut self, world: &World, fault: Fault, stream: &Stream) {
        let node = self.random_node(&stream.random);
        match fault {
            Fault::Kill => self.take_down(world, fault, stream, node, Crash::Kill),
            Fault::PowerCut => self.take_down(world, fault, stream, node, Crash::PowerCut),
            Fault::KillAll => self.take_all_down(world, fault, stream, Crash::Kill),
            Fault::Blackout => self.take_all_down(world, fault, stream, Crash::PowerCut),
            Fault::Storm => self.storm(world, stream, node),
            Fault::SlowStart => self.slow_start(world, stream, node),
            Fault::Stop => self.stop(world, stream, node),
            Fault::Pause => {
                let shard = stream.random.below(u64::from(self.options.shards)) as u16;
                self.pause(world, fault, stream, node, vec![ShardId(shard)]);
            }
            Fault::Freeze => {
                let shards = (0..self.options.shards).map(ShardId).collect();
                self.pause(world, fault, stream, node, shards);
            }
            Fault::Partition
            | Fault::Isolate
            | Fault::Minority
            | Fault::Bridge
            | Fault::OneWay
            | Fault::Deaf
            | Fault::Mute => self.cut(world, fault, stream),
            Fault::Reset => {
                let other = self.random_node(&stream.random);
                self.tell(world, fault, &format!("n{node} n{other}"));
                world.reset_connections(node, other);
            }
            Fault::Lag => self.lag(world, stream, node),
            Fault::ClientReset => {
                self.tell(world, fault, &format!("n{node}"));
                world.reset_connections(OUTSIDE, node);
            }
            Fault::ClientClog => self.clog_clients(world, stream, node),
            Fault::Clog | Fault::Narrow | Fault::FlipBits => self.trouble(world, fault, stream),
            Fault::CrossWire => self.cross_wire(world, stream),
            Fault::HangDisk => {
                let length = stream.length();
                self.tell(world, fault, &format!("n{node} for {length:.3?}"));
                self.stands(world, node, length);
                world.node(node).hang_disk(length);
            }
            Fault::WriteError => {
                self.arm(world, fault, node, DiskOperation::Write, DiskError::Device)
            }
            Fault::WriteFull => self.arm(world, fault, node, DiskOperation::Write, DiskError::Full),
            Fault::ShortWrite => {
                self.arm(world, fault, node, DiskOperation::Write, DiskError::Short)
            }
            Fault::SyncError => {
                self.arm(world, fault, node, DiskOperation::Sync, DiskError::Device)
            }
            Fault::ReadError => {
                self.arm(world, fault, node, DiskOperation::Read, DiskError::Device)
            }
            Fault::ShortRead => self.arm(world, fault, node, DiskOperation::Read, DiskError::Short),
            Fault::WrongRead => {
                self.arm(world, fault, node, DiskOperation::Read, DiskError::Elsewhere)
            }
            Fault::FullDisk => self.fill_disk(world, stream, node),
            Fault::Names => {
                let length = stream.length();
                self.tell(world, fault, &format!("n{node} for {length:.3?}"));
                world.node(node).silence_names(true);
                self.later(world, length, Step::AnswerNames(node));
            }
            Fault::Descriptors => self.take_descriptors(world, stream, node),
            _ => self.damage(world, fault, stream, node),
        }
    }

    fn take_down(
        &mut self,
        world: &World,
        fault: Fault,
        stream: &Stream,
        node: NodeId,
        how: Crash,
    ) {
        if !self.may_take_down(world, node) {
            return;
        }
        if stream.random.chance(0.5) {
            // Between any two polls, not only when all is quiet. What that finds, the next run tells.
            let _ = world.run_polls(stream.random.magnitude(1.0, 1_000.0) as u64);
        }
        self.tell(world, fault, &format!("n{node}"));
        world.crash(node, how);
        self.restart_later(world, stream.length(), node);
    }

    pub(super) fn may_take_down(&self, world: &World, node: NodeId) -> bool {
        let nodes = self.options.nodes.iter();
        let is_down = |node| !world.is_running(node) || world.is_stopping(node);
        let down = nodes.filter(|it| !self.corrupted.contains_key(it) && is_down(**it));
        world.is_running(node) && down.count() < self.options.down_max
    }

    fn take_all_down(&mut self, world: &World, fault: Fault, stream: &Stream, how: Crash) {
        if self.options.down_max < self.options.nodes.len() {
            return;
        }
        self.tell(world, fault, "all");
        for node in self.options.nodes.clone() {
            world.crash(node, how);
            self.restart_later(world, stream.length(), node);
        }
    }

    fn storm(&mut self, world: &World, stream: &Stream, node: NodeId) {
        if !self.may_take_down(world, node) {
            return;
        }
        let kills = 2 + stream.random.below(5);
        let gap = Duration::from_secs_f64(stream.random.magnitude(0.001, 2.0));
        self.tell(world, Fault::Storm, &format!("n{node} {kills} times, {gap:.3?} apart"));
        let mut at = Duration::ZERO;
        for _ in 0..kills {
            self.later(world, at, Step::KillAgain(node));
            at += stream.random.exponential(gap);
            self.restart_later(world, at, node);
            at += stream.random.exponential(gap);
        }
    }

    fn slow_start(&mut self, world: &World, stream: &Stream, node: NodeId) {
        if self.may_take_down(world, node) {
            let length = stream.length();
            self.tell(world, Fault::SlowStart, &format!("n{node}, which takes {length:.3?}"));
            world.crash(node, Crash::Kill);
            self.awaited.insert(node);
            self.later(world, stream.length(), Step::StartSlowly(node, length));
        }
    }

    fn pause(
        &mut self,
        world: &World,
        fault: Fault,
        stream: &Stream,
        node: NodeId,
        shards: Vec<ShardId>,
    ) {
        let length = stream.length().clamp(PAUSE_LEAST, PAUSE_MOST);
        self.tell(world, fault, &format!("n{node} {shards:?} for {length:.3?}"));
        self.stands(world, node, length);
        let shards: Vec<_> = shards.into_iter().map(|shard| (node, shard)).collect();
        for &(node, shard) in &shards {
            world.pause(node, shard);
            self.conditions.paused.insert((node, shard));
        }
        self.later(world, length, Step::Resume(shards));
    }

    /// The ways that a kind of cut takes: from whom, to whom.
    fn ways(&self, fault: Fault, stream: &Stream) -> Vec<Side> {
        let random = &stream.random;
        let mut nodes = self.options.nodes.clone();
        random.shuffle(&mut nodes);
        let both = |one: &[NodeId], other: &[NodeId]| {
            vec![(one.to_vec(), other.to_vec()), (other.to_vec(), one.to_vec())]
        };
        let many = nodes.len();
        let first = many.min(1);
        match fault {
            Fault::Partition => {
                let (one, other) = nodes.split_at(random.below(many as u64) as usize);
                both(one, other)
            }
            Fault::Isolate => both(&nodes[..first], &nodes[first..]),
            Fault::Minority => {
                let (one, other) = nodes.split_at(self.options.minority());
                both(one, other)
            }
            Fault::Bridge => {
                let (one, other) = nodes[first..].split_at((many - first) / 2);
                both(one, other)
            }
            Fault::OneWay => {
                vec![(nodes[..first].to_vec(), nodes[first..].iter().take(1).copied().collect())]
            }
            Fault::Deaf => vec![(nodes[first..].to_vec(), nodes[..first].to_vec())],
            _ => vec![(nodes[..first].to_vec(), nodes[first..].to_vec())],
        }
    }

    fn cut(&mut self, world: &World, fault: Fault, stream: &Stream) {
        let sides = self.ways(fault, stream);
        if sides.iter().any(|(from, to)| !from.is_empty() && !to.is_empty()) {
            self.tell(world, fault, "");
            self.hold_cut(world, &sides, stream.length());
        }
    }

    fn lag(&mut self, world: &World, stream: &Stream, node: NodeId) {
        if self.conditions.lag_end > world.now() {
            // Two of them elect nobody.
            return;
        }
        let most = Duration::from_secs_f64(stream.random.magnitude(1.0, 8.0));
        let silence = most + stream.length();
        let growth = LAG_PACE.mul_f64(most.div_duration_f64(LAG_STEP));
        self.conditions.lag_end = world.now() + growth + silence;
        self.tell(world, Fault::Lag, &format!("n{node} by {most:.3?}, silent for {silence:.3?}"));
        self.lag_more(world, Lag { node, delay: Duration::ZERO, most, silence });
    }

    /// As behind a queue that grows, what a node hears comes later and later, but it goes on coming: a
    /// leader has answers of a majority all the time. Once they are old enough nobody hears it, another
    /// is elected, and the old one does not know.
    pub(super) fn lag_more(&mut self, world: &World, lag: Lag) {
        let Lag { node, delay, most, silence } = lag;
        let others = self.others(node);
        let delay = delay + LAG_STEP;
        let trouble = LinkTrouble { delay, ..LinkTrouble::default() };
        others.iter().for_each(|&other| self.set_trouble(world, (other, node), trouble));
        if delay < most {
            self.later(world, LAG_PACE, Step::Lag(Lag { delay, ..lag }));
            return;
        }
        others.iter().for_each(|&other| self.later(world, silence, Step::Mend(other, node)));
        self.hold_cut(world, &[(vec![node], others)], silence);
    }

    fn others(&self, node: NodeId) -> Vec<NodeId> {
        self.options.nodes.iter().copied().filter(|other| *other != node).collect()
    }

    fn clog_clients(&mut self, world: &World, stream: &Stream, node: NodeId) {
        let random = &stream.random;
        let way = if random.chance(0.5) { (OUTSIDE, node) } else { (node, OUTSIDE) };
        let trouble = if random.chance(0.5) { clogged(random) } else { narrow(random) };
        self.tell(world, Fault::ClientClog, &format!("n{} to n{}: {trouble:?}", way.0, way.1));
        self.hold_trouble(world, way, trouble, stream.length());
    }

    /// A way between two nodes, if there are two.
    fn random_way(&self, stream: &Stream) -> Option<(NodeId, NodeId)> {
        let mut nodes = self.options.nodes.clone();
        stream.random.shuffle(&mut nodes);
        Some((*nodes.first()?, *nodes.get(1)?))
    }

    fn trouble(&mut self, world: &World, fault: Fault, stream: &Stream) {
        let Some((from, to)) = self.random_way(stream) else { return };
        let random = &stream.random;
        let trouble = match fault {
            Fault::Clog => clogged(random),
            Fault::Narrow => narrow(random),
            _ => {
                let flip_chance = random.magnitude(0.000_1, 0.1);
                LinkTrouble { flip_chance, ..LinkTrouble::default() }
            }
        };
        self.tell(world, fault, &format!("n{from} to n{to}: {trouble:?}"));
        self.hold_trouble(world, (from, to), trouble, stream.length());
    }

    fn cross_wire(&mut self, world: &World, stream: &Stream) {
        let Some((from, to)) = self.random_way(stream) else { return };
        let instead = self.random_node(&stream.random);
        if instead == to {
            return;
        }
        self.tell(world, Fault::CrossWire, &format!("n{from} dials n{to} and reaches n{instead}"));
        world.cross_wire(from, to, Some(instead));
        world.reset_connections(from, to);
        self.conditions.crossed.insert((from, to));
        self.later(world, stream.length(), Step::Uncross(from, to));
    }

    fn fill_disk(&mut self, world: &World, stream: &Stream, node: NodeId) {
        let room = stream.random.below(4) * ROOM_STEP;
        self.tell(world, Fault::FullDisk, &format!("n{node} with room for {room}"));
        world.node(node).set_quota(Some(world.node(node).used() + room));
        self.later(world, stream.length(), Step::MakeRoom(node));
    }

    fn take_descriptors(&mut self, world: &World, stream: &Stream, node: NodeId) {
        let left = if stream.random.chance(0.3) { Descriptors::Kept } else { Descriptors::Gone };
        self.tell(world, Fault::Descriptors, &format!("n{node}: {left:?}"));
        world.node(node).set_descriptors(left);
        self.later(world, stream.length(), Step::GiveDescriptors(node));
    }

    fn arm(
        &mut self,
        world: &World,
        fault: Fault,
        node: NodeId,
        operation: DiskOperation,
        error: DiskError,
    ) {
        // Two in a row would not be what happens once: a second look may be what a reader relies on.
        if world.node(node).is_armed(operation) {
            return;
        }
        self.tell(world, fault, &format!("n{node}"));
        let path_contains = String::new();
        world.node(node).arm(DiskFault { operation, path_contains, times: 1, error });
    }
}

/// A link that is very slow.
fn clogged(random: &Random) -> LinkTrouble {
    let delay = Duration::from_secs_f64(random.magnitude(0.02, 10.0));
    LinkTrouble { delay, ..LinkTrouble::default() }
}

/// A link with little bandwidth.
fn narrow(random: &Random) -> LinkTrouble {
    let time_per_kilobyte = Duration::from_secs_f64(random.magnitude(0.000_1, 0.1));
    LinkTrouble { time_per_kilobyte, ..LinkTrouble::default() }
}
