//! Lets faults strike and end, each at its time.

use super::{
    Corruption, Fault, FaultOptions,
    damage::Admission,
    stops::{Stop, Stops},
};
use crate::sim::{
    device::Descriptors,
    net::LinkTrouble,
    random::Random,
    tree::DirectoryImage,
    world::{Crash, World},
};
use purlin_rsm::{NodeId, ShardId};
use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::Duration,
};

/// Lets faults strike and end. A driver alternates [`Nemesis::act`] with runs of the world, and ends with
/// [`Nemesis::calm`].
pub struct Nemesis {
    pub(super) options: FaultOptions,
    streams: BTreeMap<Fault, Stream>,
    /// What will be done, by its time and in the order in which it was decided.
    agenda: BTreeMap<(Duration, u64), Step>,
    decided: u64,
    /// Nodes for whose start there is a time on the agenda.
    pub(super) awaited: BTreeSet<NodeId>,
    /// Nodes of which some shards have stopped, and that are left like that.
    left: BTreeSet<NodeId>,
    pub(super) conditions: Conditions,
    pub(super) corrupted: BTreeMap<NodeId, Corruption>,
    /// Nodes whose directories may have gone back since they last started (see `damage`).
    pub(super) set_back: BTreeSet<NodeId>,
    pub(super) admission: Option<Admission>,
    pub(super) copies: BTreeMap<NodeId, (Duration, DirectoryImage)>,
    counts: BTreeMap<Fault, u64>,
    pub(super) stops: Stops,
}

/// How one kind strikes.
#[derive(Clone)]
pub(super) struct Stream {
    pub(super) random: Rc<Random>,
    /// The mean time between two of its strikes.
    pause: Duration,
    /// How long one lasts, in the mean.
    length: Duration,
}

impl Stream {
    /// Rare and long, frequent and short: all are as likely.
    fn draw(seed: u64, fault: Fault, least: Duration) -> Self {
        let random = Random::new(seed, &format!("fault {fault}"));
        let pause = least.mul_f64(random.magnitude(1.0, 30.0));
        let length = pause.mul_f64(random.magnitude(0.01, 1.0));
        Self { random: Rc::new(random), pause, length }
    }

    /// How long this one lasts.
    pub(super) fn length(&self) -> Duration {
        const MOST: Duration = Duration::from_secs(30);
        self.random.exponential(self.length).min(MOST)
    }
}

/// What one cut takes away: the ways from all of these nodes to all of those.
pub(super) type Side = (Vec<NodeId>, Vec<NodeId>);

/// Something to do.
pub(super) enum Step {
    Strike(Fault),
    /// Ends the process of a node again, in a storm.
    KillAgain(NodeId),
    Restart(NodeId),
    /// Ends what is left of a node of which a shard has stopped, and starts it.
    Revive(NodeId),
    /// Starts a node on a disk that stands still for so long.
    StartSlowly(NodeId, Duration),
    /// Starts a node again that was asked to stop, once it has ended.
    StartStopped(Stop),
    /// Takes a node down in whose bytes something waits to be found.
    Discover(NodeId),
    /// A node hears all others a little later than before.
    Lag(Lag),
    Heal(u64),
    Resume(Vec<(NodeId, ShardId)>),
    Mend(NodeId, NodeId),
    Uncross(NodeId, NodeId),
    MakeRoom(NodeId),
    GiveDescriptors(NodeId),
    AnswerNames(NodeId),
}

/// A node comes to lag behind, slowly, and nobody hears it then.
pub(super) struct Lag {
    pub(super) node: NodeId,
    /// How late it hears all others now, and in the end.
    pub(super) delay: Duration,
    pub(super) most: Duration,
    /// For how long nobody hears it.
    pub(super) silence: Duration,
}

/// What lasts at present.
#[derive(Default)]
pub(super) struct Conditions {
    /// The ways that each cut took.
    pub(super) cuts: BTreeMap<u64, Vec<(NodeId, NodeId)>>,
    pub(super) paused: BTreeSet<(NodeId, ShardId)>,
    pub(super) troubled: BTreeSet<(NodeId, NodeId)>,
    pub(super) crossed: BTreeSet<(NodeId, NodeId)>,
    /// Until then a node lags behind.
    pub(super) lag_end: Duration,
}

impl Nemesis {
    /// A nemesis that has done nothing yet.
    pub fn new(options: FaultOptions) -> Self {
        Self {
            options,
            streams: BTreeMap::new(),
            agenda: BTreeMap::new(),
            decided: 0,
            awaited: BTreeSet::new(),
            left: BTreeSet::new(),
            conditions: Conditions::default(),
            corrupted: BTreeMap::new(),
            set_back: BTreeSet::new(),
            admission: None,
            copies: BTreeMap::new(),
            counts: BTreeMap::new(),
            stops: Stops::default(),
        }
    }

    /// Does what is due, and says for how long the world shall run until the next. It may run the world
    /// for some polls itself, to crash a node between two of them.
    pub fn act(&mut self, world: &World) -> Duration {
        if self.streams.is_empty() {
            self.begin(world);
        }
        loop {
            if let Some(wait) = self.attend_admission(world) {
                return wait;
            }
            self.notice_the_stopped(world);
            match self.agenda.first_entry() {
                Some(first) if first.key().0 <= world.now() => {
                    let step = first.remove();
                    self.take(world, step);
                }
                Some(first) => return first.key().0 - world.now(),
                None => return self.options.pause_mean,
            }
        }
    }

    /// Ends all faults, and starts every node that is down but the late ones ([`Nemesis::readmit`]).
    pub fn calm(&mut self, world: &World) {
        self.agenda.clear();
        self.awaited.clear();
        self.admission = None;
        self.end_conditions(world);
        for &node in &self.options.nodes {
            if world.is_stopping(node) {
                world.crash(node, Crash::Kill);
            }
            if !world.is_running(node) && !self.set_back.contains(&node) {
                world.restart(node);
            }
        }
    }

    /// The nodes that are corrupted, and what corrupted them.
    pub fn corrupted(&self) -> &BTreeMap<NodeId, Corruption> {
        &self.corrupted
    }

    /// What nodes did not do that were asked to stop.
    pub fn violations(&self) -> &[String] {
        &self.stops.violations
    }

    /// How often each kind struck.
    pub fn counts(&self) -> &BTreeMap<Fault, u64> {
        &self.counts
    }

    fn begin(&mut self, world: &World) {
        for fault in Fault::ALL {
            // The logs draw when their readers stand: a step here would be one more look at the nodes.
            if fault != Fault::BlockLog && self.options.kinds.contains(&fault) {
                let stream = Stream::draw(world.seed(), fault, self.options.pause_mean);
                self.later(world, stream.random.exponential(stream.pause), Step::Strike(fault));
                self.streams.insert(fault, stream);
            }
        }
    }

    /// Cuts the ways from one side to another, each, and heals them after a while.
    pub(super) fn hold_cut(&mut self, world: &World, sides: &[Side], length: Duration) {
        self.decided += 1;
        let number = self.decided;
        world.trace(&format!("this is cut {number}"));
        let mut ways = Vec::new();
        for (from, to) in sides {
            world.cut_one_way(from, to);
            ways.extend(from.iter().flat_map(|&from| to.iter().map(move |&to| (from, to))));
        }
        self.conditions.cuts.insert(number, ways);
        self.later(world, length, Step::Heal(number));
    }

    /// Makes the way from one node to another so for a while.
    pub(super) fn hold_trouble(
        &mut self,
        world: &World,
        (from, to): (NodeId, NodeId),
        trouble: LinkTrouble,
        length: Duration,
    ) {
        self.set_trouble(world, (from, to), trouble);
        self.later(world, length, Step::Mend(from, to));
    }

    /// Makes it so until somebody mends it.
    pub(super) fn set_trouble(
        &mut self,
        world: &World,
        (from, to): (NodeId, NodeId),
        trouble: LinkTrouble,
    ) {
        world.trouble_link(from, to, Some(trouble));
        self.conditions.troubled.insert((from, to));
    }

    pub(super) fn later(&mut self, world: &World, delay: Duration, step: Step) {
        self.decided += 1;
        self.agenda.insert((world.now() + delay, self.decided), step);
    }

    /// Everything on the agenda happens later by so much.
    pub(super) fn postpone(&mut self, by: Duration) {
        let agenda = std::mem::take(&mut self.agenda);
        self.agenda = agenda.into_iter().map(|((at, n), step)| ((at + by, n), step)).collect();
    }

    /// A fault strikes: one line of the history, and one more in the counts.
    pub(super) fn tell(&mut self, world: &World, fault: Fault, whom: &str) {
        *self.counts.entry(fault).or_default() += 1;
        world.trace(&format!("fault {fault} {whom}"));
    }

    pub(super) fn random_node(&self, random: &Random) -> NodeId {
        *random.pick(&self.options.nodes)
    }

    fn take(&mut self, world: &World, step: Step) {
        match step {
            Step::Strike(fault) => {
                let stream = self.streams[&fault].clone();
                let pause = stream.random.exponential(stream.pause);
                self.later(world, pause, Step::Strike(fault));
                self.strike(world, fault, &stream);
            }
            Step::KillAgain(node) => world.crash(node, Crash::Kill),
            Step::Restart(node) => self.restart(world, node),
            Step::Revive(node) => {
                if world.is_running(node) && !world.is_whole(node) {
                    world.crash(node, Crash::Kill);
                }
                self.restart(world, node);
            }
            Step::StartSlowly(node, length) => {
                self.stands(world, node, length);
                world.node(node).hang_disk(length);
                self.restart(world, node);
            }
            Step::StartStopped(stop) => self.start_stopped(world, stop),
            Step::Discover(node) => {
                world.crash(node, Crash::PowerCut);
                self.restart(world, node);
            }
            Step::Lag(lag) => self.lag_more(world, lag),
            Step::Heal(number) => self.heal(world, number),
            Step::Resume(shards) => self.resume(world, shards),
            Step::Mend(from, to) => {
                self.conditions.troubled.remove(&(from, to));
                world.trouble_link(from, to, None);
            }
            Step::Uncross(from, to) => {
                self.conditions.crossed.remove(&(from, to));
                world.cross_wire(from, to, None);
            }
            Step::MakeRoom(node) => {
                world.node(node).set_quota(None);
            }
            Step::AnswerNames(node) => world.node(node).silence_names(false),
            Step::GiveDescriptors(node) => {
                world.node(node).set_descriptors(Descriptors::Enough);
            }
        }
    }

    pub(super) fn restart_later(&mut self, world: &World, delay: Duration, node: NodeId) {
        self.awaited.insert(node);
        self.later(world, delay, Step::Restart(node));
    }

    /// Starts a node again that has stopped by itself; a corrupted one stays down. If only some of its
    /// shards have stopped, that is noticed at once, or at the end.
    fn notice_the_stopped(&mut self, world: &World) {
        const REVIVAL: Duration = Duration::from_secs(1);
        for node in self.options.nodes.clone() {
            let is_known = self.awaited.contains(&node) || self.corrupted.contains_key(&node);
            if is_known || world.is_whole(node) {
                self.left.remove(&node);
            } else if !world.is_running(node) {
                self.restart_later(world, world.faults().exponential(REVIVAL), node);
            } else if !self.left.contains(&node) && world.faults().chance(0.5) {
                self.awaited.insert(node);
                self.later(world, world.faults().exponential(REVIVAL), Step::Revive(node));
            } else {
                self.left.insert(node);
            }
        }
    }

    fn restart(&mut self, world: &World, node: NodeId) {
        self.awaited.remove(&node);
        if world.is_running(node) {
            return;
        }
        if self.set_back.contains(&node) {
            self.begin_admission(world, node);
        } else {
            world.restart(node);
        }
    }

    /// Ends a cut, but for the ways that another one cuts too.
    fn heal(&mut self, world: &World, number: u64) {
        let Some(ways) = self.conditions.cuts.remove(&number) else { return };
        world.trace(&format!("heal cut {number}"));
        let held: BTreeSet<_> = self.conditions.cuts.values().flatten().copied().collect();
        for (from, to) in ways.into_iter().filter(|way| !held.contains(way)) {
            world.heal_link(from, to);
            if held.contains(&(to, from)) {
                world.cut_one_way(&[to], &[from]);
            }
        }
    }

    fn resume(&mut self, world: &World, shards: Vec<(NodeId, ShardId)>) {
        for (node, shard) in shards {
            if self.conditions.paused.remove(&(node, shard)) {
                world.trace(&format!("n{node}.{shard} goes on"));
                world.resume(node, shard);
            }
        }
    }

    pub(super) fn end_conditions(&mut self, world: &World) {
        let conditions = std::mem::take(&mut self.conditions);
        world.heal();
        for (node, shard) in conditions.paused {
            world.resume(node, shard);
        }
        for (from, to) in conditions.troubled {
            world.trouble_link(from, to, None);
        }
        for (from, to) in conditions.crossed {
            world.cross_wire(from, to, None);
        }
        for &node in &self.options.nodes {
            world.node(node).disarm();
            world.node(node).set_quota(None);
            world.node(node).set_descriptors(Descriptors::Enough);
            world.node(node).silence_names(false);
            world.node(node).hang_disk(Duration::ZERO);
        }
    }
}
