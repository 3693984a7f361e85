//! Damage to what is durable: rot, lies of the device, files that are lost, directories that go back.
//!
//! **What can be noticed, and by whom.** Rot strikes only what later batches of the same log call durable
//! (see [`crate::sim::NodeHandle::rot`]): the node itself must notice, at its next start or when it reads
//! there. A wiped directory or another node's shows at once. But a directory that was *set back* is sound
//! in itself: what it has forgotten may be a vote, or its copy of an acknowledged entry, and only a peer
//! that is up, reachable and remembers can tell (safety I4). If no such peer is there, the promise is
//! broken, and no implementation could keep it.
//!
//! So a node that was set back is **admitted**: it starts only when all faults have ended and the others
//! have been up and connected for a while. Then they hold all that was ever acknowledged, and what the
//! node has forgotten can break nothing; that it is found out, or catches up, is what the run shows.

use super::{
    Corruption, Fault,
    nemesis::{Nemesis, Step, Stream},
};
use crate::sim::{
    device::{DiskError, DiskFault, DiskOperation, Rot},
    random::Random,
    world::{Crash, World},
};
use purlin_rsm::NodeId;
use std::time::Duration;

/// The files that hold a log: those whose names contain this.
const LOG: &str = ".wal";
/// How long the others are calm before a node that was set back starts.
const SETTLE: Duration = Duration::from_secs(8);
/// And how long they stay calm after that.
const WATCH: Duration = Duration::from_secs(6);
/// The chance that a node is set back that was set back before.
const AGAIN: f64 = 0.2;
/// An old copy is at least so old.
const COPY_AGE: Duration = Duration::from_secs(1);
/// Rot under a running node is found at its next start, in the mean after this time.
const DISCOVERY: Duration = Duration::from_secs(2);

/// A node that was set back comes in.
pub(super) struct Admission {
    node: NodeId,
    /// When it starts, or when it has been watched for long enough.
    until: Duration,
    has_started: bool,
}

impl Nemesis {
    /// The nodes that [`Nemesis::calm`] has not started, since what they have forgotten could break a
    /// promise until the others hold everything.
    pub fn late(&self, world: &World) -> Vec<NodeId> {
        self.set_back.iter().copied().filter(|&node| !world.is_running(node)).collect()
    }

    /// Starts the late nodes, if the others are enough without them. The others must have served for a
    /// while: then a late node catches up, or stops with an error that its corruption explains.
    pub fn readmit(&mut self, world: &World) {
        for node in self.late(world) {
            if self.others_are_enough(world, node) {
                self.set_back.remove(&node);
                world.restart(node);
            }
        }
    }

    /// Strikes a node's durable bytes, if it may be corrupted.
    pub(super) fn damage(&mut self, world: &World, fault: Fault, stream: &Stream, node: NodeId) {
        let random = &stream.random;
        if !self.may_corrupt(fault, node) || !self.all_have_acted(world) {
            return;
        }
        // While such a node comes in nothing else goes wrong, which takes time from everything else.
        let is_again = self.corrupted.get(&node).is_some_and(Corruption::has_set_back);
        if is_again && fault.sets_back() && !random.chance(AGAIN) {
            return;
        }
        match fault {
            Fault::RotBit => self.rot(world, fault, stream, node, Rot::Bit),
            Fault::RotZero => self.rot(world, fault, stream, node, Rot::Zero),
            Fault::RotOld => self.rot(world, fault, stream, node, Rot::Old),
            Fault::RotUnreadable => self.rot(world, fault, stream, node, Rot::Unreadable),
            Fault::LostWrite => {
                let times = random.magnitude(1.0, 100.0) as u32;
                self.lie(world, fault, node, DiskOperation::Write, DiskError::Lost, times);
            }
            Fault::LyingSync => {
                let times = random.magnitude(1.0, 100.0) as u32;
                self.lie(world, fault, node, DiskOperation::Sync, DiskError::Lost, times);
            }
            Fault::Misdirect => {
                let struck = self.corrupted.get(&node);
                if !struck.is_some_and(|corruption| corruption.kinds.contains(&fault)) {
                    self.lie(world, fault, node, DiskOperation::Write, DiskError::Elsewhere, 1);
                }
            }
            Fault::Restore => self.restore(world, stream, node),
            _ => {
                // What lies on a disk changes while the node is down.
                if let Some(what) = self.spoil(world, fault, random, node) {
                    self.note_corruption(world, fault, node, &what);
                    self.restart_later(world, stream.length(), node);
                }
            }
        }
    }

    /// A minority, unless the run goes beyond; but never more are set back, since the others, who hold
    /// everything, must be enough to go on.
    fn may_corrupt(&self, fault: Fault, node: NodeId) -> bool {
        self.corrupted.contains_key(&node)
            || self.corrupted.len() < self.options.minority()
            || (self.options.beyond && !fault.sets_back())
    }

    /// A new cluster needs all its members once (safety I2): before that nobody can do without one.
    fn all_have_acted(&self, world: &World) -> bool {
        self.options.nodes.iter().all(|&node| world.node(node).has_old_bytes())
    }

    fn note_corruption(&mut self, world: &World, fault: Fault, node: NodeId, what: &str) {
        self.tell(world, fault, &format!("n{node} {what}"));
        self.corrupted.entry(node).or_default().kinds.insert(fault);
        if fault.sets_back() {
            self.set_back.insert(node);
        }
    }

    fn rot(&mut self, world: &World, fault: Fault, stream: &Stream, node: NodeId, how: Rot) {
        let Some(place) = world.node(node).rot(&stream.random, how) else { return };
        self.note_corruption(world, fault, node, &place);
        let at_once = stream.random.chance(0.5);
        let found = if at_once { Duration::ZERO } else { stream.random.exponential(DISCOVERY) };
        self.later(world, found, Step::Discover(node));
    }

    fn lie(
        &mut self,
        world: &World,
        fault: Fault,
        node: NodeId,
        operation: DiskOperation,
        error: DiskError,
        times: u32,
    ) {
        self.note_corruption(world, fault, node, &format!("{times} times"));
        let path_contains = LOG.to_owned();
        world.node(node).arm(DiskFault { operation, path_contains, times, error });
    }

    /// Takes the node down without power, and spoils its directory: what was done.
    fn spoil(&self, world: &World, fault: Fault, random: &Random, node: NodeId) -> Option<String> {
        let image = world.node(node).durable_image();
        let logs = image.files().into_iter().filter(|(path, len)| path.contains(LOG) && *len > 0);
        let logs: Vec<(String, u64)> = logs.collect();
        let others: Vec<_> = self.options.nodes.iter().filter(|other| **other != node).collect();
        if logs.is_empty() || (fault == Fault::Copy && others.is_empty()) {
            return None;
        }
        world.crash(node, Crash::PowerCut);
        let disk = world.node(node);
        let (path, len) = random.pick(&logs);
        let done = match fault {
            Fault::Truncate => {
                let len = random.below(*len);
                disk.truncate(path, len).map(|()| format!("{path} to {len}"))
            }
            Fault::LoseFile => disk.lose_file(path).map(|()| path.clone()),
            Fault::SwapFiles => {
                let (other, _) = random.pick(&logs);
                disk.swap_files(path, other).map(|()| format!("{path} and {other}"))
            }
            Fault::Copy => {
                let other = **random.pick(&others);
                disk.restore(&world.node(other).durable_image());
                Ok(format!("from n{other}"))
            }
            _ => {
                disk.wipe();
                Ok(String::new())
            }
        };
        // A removal that was under way may have taken the file: then the power cut was all.
        done.ok()
    }

    /// Takes a copy of a node's directory, or brings an older one back.
    fn restore(&mut self, world: &World, stream: &Stream, node: NodeId) {
        let is_old = |(at, _): &(Duration, _)| world.now() >= *at + COPY_AGE;
        if !self.copies.get(&node).is_some_and(is_old) {
            if !self.copies.contains_key(&node) && world.is_whole(node) {
                let copy = world.node(node).durable_image();
                world.trace(&format!("n{node} is copied"));
                self.copies.insert(node, (world.now(), copy));
            }
            return;
        }
        let (at, copy) = self.copies.remove(&node).expect("it is there");
        world.crash(node, Crash::PowerCut);
        world.node(node).restore(&copy);
        self.note_corruption(world, Fault::Restore, node, &format!("of {:.3?}", at));
        self.restart_later(world, stream.length(), node);
    }

    /// A node that was set back shall start: first the others become calm.
    pub(super) fn begin_admission(&mut self, world: &World, node: NodeId) {
        if self.admission.is_some() {
            return;
        }
        world.trace(&format!("n{node} waits until the others are calm"));
        self.end_conditions(world);
        for &other in &self.options.nodes {
            let is_up = world.is_whole(other) && !world.is_stopping(other);
            if other != node && !self.corrupted.contains_key(&other) && !is_up {
                world.crash(other, Crash::Kill);
                world.restart(other);
            }
        }
        let until = world.now() + SETTLE;
        self.admission = Some(Admission { node, until, has_started: false });
    }

    /// How long everything else waits for a node that comes in, if one does.
    pub(super) fn attend_admission(&mut self, world: &World) -> Option<Duration> {
        let admission = self.admission.take()?;
        let Admission { node, until, has_started } = admission;
        if until > world.now() {
            self.admission = Some(admission);
            return Some(until - world.now());
        }
        if has_started {
            self.postpone(SETTLE + WATCH);
            return None;
        }
        if !self.others_are_enough(world, node) {
            self.postpone(SETTLE);
            self.restart_later(world, SETTLE, node);
            return None;
        }
        self.set_back.remove(&node);
        if !world.is_running(node) {
            world.restart(node);
        }
        self.admission = Some(Admission { node, until: until + WATCH, has_started: true });
        Some(WATCH)
    }

    /// Whether the sound nodes but this one are a majority and all run, so that they hold everything.
    fn others_are_enough(&self, world: &World, node: NodeId) -> bool {
        let nodes = self.options.nodes.iter().copied();
        let sound = nodes.filter(|it| *it != node && !self.corrupted.contains_key(it));
        let sound: Vec<NodeId> = sound.collect();
        sound.len() > self.options.nodes.len() / 2
            && sound.iter().all(|&node| world.is_whole(node) && !world.is_stopping(node))
    }
}
