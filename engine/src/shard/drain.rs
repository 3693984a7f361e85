//! How far the end of a shard has come that was asked to stop; `stage/stop.rs` does it.
//!
//! ```text
//! asked ──► drains: takes no new request, hands leaderships over, answers what is under way
//!       ──► drained, for a beat: says so, and goes on for the other shards of the node
//!       ──► all shards are drained, or a second has passed
//!       ──► ends: answers the rest, writes a closing batch, lets what was written to others leave
//! ```
//!
//! The shards of a node drain together: a batch of another shard of the node may lie in the inbox of this one, and its
//! client waits there. A beat lets the batches come that other nodes have sent to the leader before: they go back, and
//! out again to the next leader. A shard that fails ends at once, and only lets its clients take their answers.

use crate::{edge::inlet::Inlet, runtime::Runtime, shard::groups::Groups, stop::Stops};
use purlin_rsm::GroupId;
use std::{rc::Rc, sync::Arc, time::Duration};

/// How far the stop of a shard has come.
pub(crate) struct Drain<R: Runtime> {
    pub(crate) stops: Rc<Stops>,
    /// The ways into all shards of the node.
    inlets: Arc<[Arc<Inlet<R>>]>,
    /// Since when it drains.
    pub(crate) since: Option<Duration>,
    /// Since when nothing is under way.
    pub(crate) quiet_since: Option<Duration>,
    /// The groups whose hand-over has begun because of the stop, as far as it has not ended.
    moving: Vec<GroupId>,
    /// More groups are to be handed over at the next beat.
    pub(crate) has_more: bool,
}

impl<R: Runtime> Drain<R> {
    pub(crate) fn new(stops: Rc<Stops>, inlets: Arc<[Arc<Inlet<R>>]>) -> Self {
        let (since, quiet_since) = (None, None);
        Self { stops, inlets, since, quiet_since, moving: Vec::new(), has_more: false }
    }

    /// Whether the shard drains.
    pub(crate) fn has_begun(&self) -> bool {
        self.since.is_some()
    }

    /// A group is being handed over.
    pub(crate) fn moves(&mut self, group: GroupId) {
        if self.has_begun() {
            self.moving.push(group);
        }
    }

    /// Whether a leadership may still go to another node.
    pub(crate) fn is_moving(&mut self, groups: &Groups) -> bool {
        self.moving.retain(|id| groups.get(*id).is_some_and(|it| it.raft.is_handing_over()));
        self.has_more || !self.moving.is_empty()
    }

    /// This shard has nothing left to do: the others need not wait for it.
    pub(crate) fn say_drained(&self, inlet: &Inlet<R>) {
        if inlet.set_drained() {
            self.inlets.iter().for_each(|other| other.wake().notify());
        }
    }

    /// Whether no shard of the node has anything left to do. One that has ended has nothing.
    pub(crate) fn are_all_drained(&self) -> bool {
        self.inlets.iter().all(|inlet| inlet.is_drained() || inlet.is_stopped())
    }
}
