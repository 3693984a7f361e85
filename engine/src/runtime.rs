//! The seam to a core's runtime: its tasks, clock, disk, network, random source, and its channels to
//! the other shards of the node.

use purlin_rsm::ShardId;
use purlin_storage::Disk;
use purlin_transport::Net;
use std::{future::Future, time::Duration};

/// What a shard runs on: one thread, on which nothing needs to be `Send`. A clone is another handle.
pub trait Runtime: Clone + 'static {
    /// The node's data directory.
    type Disk: Disk;
    /// The node's network.
    type Net: Net;
    /// Channels to the other shards of the node.
    type Mesh<T: Send + 'static>: Mesh<T>;

    /// The node's data directory.
    fn disk(&self) -> Self::Disk;
    /// The node's network.
    fn net(&self) -> Self::Net;
    /// Monotonic time since some moment before the runtime's first use.
    fn now(&self) -> Duration;
    /// Returns after `duration`, not before.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static;
    /// Lets the other tasks of this core run, and takes in what the kernel has completed, before it returns. A
    /// task that has more to do calls it after a bounded amount of work.
    fn yield_now(&self) -> impl Future<Output = ()>;
    /// Runs a task on this core, until it ends or the runtime does.
    fn spawn(&self, task: impl Future<Output = ()> + 'static);
    /// A random number, for epochs, incarnations, boot ids and the seeds of timeouts.
    fn random(&self) -> u64;
}

/// A shard's ends of the channels between the shards of a node.
pub trait Mesh<T>: 'static {
    /// Hands `item` to shard `to`, in order per pair of shards. Never waits: a full channel, or one
    /// whose shard has stopped, gives the item back (safety E4).
    fn try_send(&self, to: ShardId, item: T) -> Result<(), T>;
    /// The next item of any shard, itself excluded. For one task at a time.
    async fn recv(&self) -> (ShardId, T);
}
