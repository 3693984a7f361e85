//! Nodes that are asked to stop. Each ends by itself within [`END_MAX`], whatever befalls the others, unless one of its
//! cores or its disk stands still meanwhile, or its shards are still being opened. Another fault may end it before.

use super::{
    Fault,
    nemesis::{Nemesis, Step, Stream},
};
use crate::sim::world::{Crash, World};
use purlin_rsm::NodeId;
use std::{collections::BTreeMap, time::Duration};

/// A node ends within this time: a second and a half by its own clock, which may take twice as long, and as much again
/// for a slow write of its identity.
const END_MAX: Duration = Duration::from_secs(6);
/// So often somebody looks whether a node has ended that is to start again.
const LOOK: Duration = Duration::from_millis(200);

/// What is known of the nodes that were asked to stop.
#[derive(Default)]
pub(super) struct Stops {
    /// Until when a core or the disk of a node stands still, at the latest.
    stands_until: BTreeMap<NodeId, Duration>,
    pub(super) violations: Vec<String>,
}

/// A process that was asked to stop.
#[derive(Clone, Copy)]
pub(super) struct Stop {
    node: NodeId,
    boot: u64,
    asked: Duration,
    /// When somebody is to look next.
    due: Duration,
}

impl Nemesis {
    pub(super) fn stop(&mut self, world: &World, stream: &Stream, node: NodeId) {
        if !self.may_take_down(world, node) || world.is_stopping(node) {
            return;
        }
        self.tell(world, Fault::Stop, &format!("n{node}"));
        let (boot, asked) = (world.boots(node), world.now());
        self.awaited.insert(node);
        world.terminate(node);
        let length = stream.length();
        let stop = Stop { node, boot, asked, due: asked + length };
        self.later(world, length, Step::StartStopped(stop));
    }

    /// A core or the disk of the node stands still for so long.
    pub(super) fn stands(&mut self, world: &World, node: NodeId, length: Duration) {
        let until = self.stops.stands_until.entry(node).or_default();
        *until = (*until).max(world.now() + length);
    }

    pub(super) fn start_stopped(&mut self, world: &World, stop: Stop) {
        let Stop { node, boot, asked, due } = stop;
        if world.boots(node) != boot {
            // Another fault has ended it, and it was started again.
            return;
        }
        let is_over = !world.is_running(node);
        // While a node is admitted anew no fault ends, so what stood still may stand still yet.
        let asked = if world.now() > due + LOOK { world.now() } else { asked };
        let stands_until = self.stops.stands_until.get(&node).copied().unwrap_or_default();
        if !is_over && world.now() < asked.max(stands_until) + END_MAX {
            let due = world.now() + LOOK;
            return self.later(world, LOOK, Step::StartStopped(Stop { asked, due, ..stop }));
        }
        if !is_over {
            let what = format!("node {node} was asked to stop at {asked:.3?}, and goes on");
            world.trace(&what);
            self.stops.violations.push(what);
            world.crash(node, Crash::Kill);
        }
        self.restart_later(world, Duration::ZERO, node);
    }
}
