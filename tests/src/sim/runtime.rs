//! The runtime of a simulated shard: its node's disk, network, clock and random source.

use super::{
    clock::{NodeClock, Sleep},
    device::NodeDisk,
    disk::SimDisk,
    executor::Owner,
    mesh::SimMesh,
    net::SimNet,
    random::Random,
    world::Core,
};
use purlin::Runtime;
use purlin_rsm::{NodeId, ShardId};
use std::{
    future::Future,
    rc::{Rc, Weak},
    time::Duration,
};

/// The runtime of one shard of one process of a simulated node.
#[derive(Clone)]
pub struct SimRuntime {
    core: Weak<Core>,
    owner: Owner,
    shards: u16,
    clock: NodeClock,
    disk: Rc<NodeDisk>,
    random: Rc<Random>,
}

impl SimRuntime {
    pub(crate) fn new(
        core: &Rc<Core>,
        owner: Owner,
        shards: u16,
        clock: NodeClock,
        disk: Rc<NodeDisk>,
        random: Rc<Random>,
    ) -> Self {
        Self { core: Rc::downgrade(core), owner, shards, clock, disk, random }
    }

    /// The node that it belongs to.
    pub fn node(&self) -> NodeId {
        self.owner.process.node
    }

    /// The shard that it is.
    pub fn shard(&self) -> ShardId {
        self.owner.shard
    }

    /// How many shards its process has.
    pub fn shards(&self) -> u16 {
        self.shards
    }

    /// How often its node was started before, and once more.
    pub fn boot(&self) -> u64 {
        self.owner.process.boot
    }

    /// This shard's ends of the process's channels for `T`, each with room for `capacity` items. All
    /// shards of a process that ask for the same `T` are joined; the first one sets the capacity.
    pub fn mesh<T: Send + 'static>(&self, capacity: usize) -> SimMesh<T> {
        let core = self.core();
        let (hub, stopped) = core.mesh_hub(self.owner.process, self.shards, capacity);
        SimMesh::new(&core, hub, stopped, self.owner.process, self.owner.shard)
    }

    /// From now on its process does this when it is asked to stop, see [`super::World::terminate`].
    pub fn on_stop(&self, stop: impl Fn() + 'static) {
        self.core().on_stop(self.owner.process, Rc::new(stop));
    }

    /// The world's time, which no clock of a node shows: for those who judge.
    pub fn world_time(&self) -> Duration {
        self.core().clock.now()
    }

    /// The task that runs has worked for the time that the world's cores take for so many keys.
    pub fn work(&self, keys: usize) {
        let core = self.core();
        if let Some(cpu) = core.options.cpu {
            core.clock.work(cpu.work(keys));
        }
    }

    /// Adds a line to the world's history.
    pub fn trace(&self, line: &str) {
        let core = self.core();
        let owner = self.owner;
        let line = format!("n{}.{} {line}", owner.process.node, owner.shard);
        core.trace.line(core.clock.now(), &line);
    }

    fn core(&self) -> Rc<Core> {
        self.core.upgrade().expect("tasks end before their world")
    }
}

impl Runtime for SimRuntime {
    type Disk = SimDisk;
    type Net = SimNet;
    type Mesh<T: Send + 'static> = SimMesh<T>;

    fn disk(&self) -> SimDisk {
        SimDisk::new(&self.core(), self.disk.clone(), self.owner.process)
    }

    fn net(&self) -> SimNet {
        SimNet::new(&self.core(), self.owner.process)
    }

    fn now(&self) -> Duration {
        self.clock.read(self.core().clock.now())
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static {
        let core = self.core();
        let until = core.clock.now().saturating_add(self.clock.stretch(duration));
        Sleep::new(core, until)
    }

    async fn yield_now(&self) {
        futures_lite::future::yield_now().await;
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        // A destructor of a process that was just ended may still ask for a task: nobody runs it.
        let Some(core) = self.core.upgrade() else { return };
        if core.is_alive(self.owner) {
            core.executor.spawn(self.owner, Box::pin(task));
        }
    }

    fn random(&self) -> u64 {
        self.random.bits()
    }
}
