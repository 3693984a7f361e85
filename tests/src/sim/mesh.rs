//! The channels between the shards of a process: bounded, in order for each pair of shards, and
//! with a small delay.

use super::{
    executor::Process,
    world::{Core, Event, StoppedShards},
};
use purlin::Mesh;
use purlin_rsm::ShardId;
use std::{
    cell::RefCell,
    collections::VecDeque,
    future::poll_fn,
    rc::{Rc, Weak},
    task::{Poll, Waker},
    time::Duration,
};

/// All channels for one type of item of one process.
pub(crate) struct MeshHub<T> {
    inboxes: Vec<Inbox<T>>,
    capacity: usize,
}

struct Inbox<T> {
    /// By sending shard: what is under way, and when the last of it arrives.
    lanes: Vec<Lane<T>>,
    arrived: VecDeque<(ShardId, T)>,
    receiver: Option<Waker>,
}

struct Lane<T> {
    travelling: VecDeque<T>,
    /// Sent and not yet received.
    occupied: usize,
    last_arrival: Duration,
}

impl<T> MeshHub<T> {
    pub(crate) fn new(shards: u16, capacity: usize) -> Self {
        let lane =
            || Lane { travelling: VecDeque::new(), occupied: 0, last_arrival: Duration::ZERO };
        let inbox = || Inbox {
            lanes: (0..shards).map(|_| lane()).collect(),
            arrived: VecDeque::new(),
            receiver: None,
        };
        Self { inboxes: (0..shards).map(|_| inbox()).collect(), capacity }
    }
}

/// A shard's ends of the channels of its process.
pub struct SimMesh<T> {
    core: Weak<Core>,
    hub: Rc<RefCell<MeshHub<T>>>,
    /// The shards of the process that have stopped.
    stopped: StoppedShards,
    process: Process,
    shard: ShardId,
}

impl<T> SimMesh<T> {
    pub(crate) fn new(
        core: &Rc<Core>,
        hub: Rc<RefCell<MeshHub<T>>>,
        stopped: StoppedShards,
        process: Process,
        shard: ShardId,
    ) -> Self {
        Self { core: Rc::downgrade(core), hub, stopped, process, shard }
    }
}

impl<T: 'static> SimMesh<T> {
    fn arrive(hub: &RefCell<MeshHub<T>>, from: ShardId, to: ShardId) {
        let mut hub = hub.borrow_mut();
        let inbox = &mut hub.inboxes[to.0 as usize];
        let item = inbox.lanes[from.0 as usize].travelling.pop_front().expect("one for each call");
        inbox.arrived.push_back((from, item));
        if let Some(waker) = inbox.receiver.take() {
            waker.wake();
        }
    }
}

impl<T: Send + 'static> Mesh<T> for SimMesh<T> {
    fn try_send(&self, to: ShardId, item: T) -> Result<(), T> {
        assert!(to != self.shard, "shard {to} sends to itself through the mesh");
        let Some(core) = self.core.upgrade() else { return Err(item) };
        let mut hub = self.hub.borrow_mut();
        let capacity = hub.capacity;
        assert!((to.0 as usize) < hub.inboxes.len(), "shard {to} does not exist");
        let lane = &mut hub.inboxes[to.0 as usize].lanes[self.shard.0 as usize];
        if lane.occupied == capacity || self.stopped.borrow().contains(&to) {
            return Err(item);
        }
        lane.occupied += 1;
        lane.travelling.push_back(item);
        let latency = core.options.mesh.draw(&core.random.net);
        let at = lane.last_arrival.max(core.clock.now() + latency);
        lane.last_arrival = at;
        let (hub, from, node) = (self.hub.clone(), self.shard, self.process.node);
        core.clock.after(at - core.clock.now(), move |core| {
            core.trace.event(Event::Mesh, u64::from(node.0), u64::from(to.0));
            Self::arrive(&hub, from, to);
        });
        Ok(())
    }

    async fn recv(&self) -> (ShardId, T) {
        poll_fn(|context| {
            let mut hub = self.hub.borrow_mut();
            let inbox = &mut hub.inboxes[self.shard.0 as usize];
            if let Some((from, item)) = inbox.arrived.pop_front() {
                inbox.lanes[from.0 as usize].occupied -= 1;
                return Poll::Ready((from, item));
            }
            inbox.receiver = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }
}
