//! A deterministic world: nodes with disks, a network between them, virtual time, one thread.
//!
//! The engine, the WAL and the exchanger run in it unchanged, over [`SimRuntime`]. The seed
//! determines everything: the order of tasks, every latency, the state that a crash leaves.
//! [`World::hash`] is a hash of the whole history, so that two runs of one seed can be compared.
//!
//! ```text
//! World ── start, crash, partition, run ──► Executor ── polls ──► tasks of (node, boot, shard)
//!                                             Clock  ── what is due ──► devices, network, mesh
//! ```

mod clock;
mod connection;
mod cpu;
mod device;
mod disk;
mod executor;
mod faults;
mod figures;
mod image;
mod logs;
mod mesh;
mod net;
mod node;
mod random;
mod runtime;
mod trace;
mod tree;
mod watch;
mod world;

pub(crate) use clock::now_for_logs;
pub use cpu::CpuOptions;
pub use device::{Descriptors, DiskError, DiskFault, DiskOperation, Failures, Rot};
pub use disk::{DiskOptions, SimDisk, SimFile, SimLock};
pub use faults::{Corruption, Fault, FaultOptions, Nemesis};
pub use figures::Figures;
pub use logs::LogFigures;
pub(crate) use logs::NodeLogs;
pub use mesh::SimMesh;
pub use net::{LinkTrouble, NetOptions, SimListener, SimNet, SimReader, SimWriter};
pub use node::NodeHandle;
pub use random::{Latency, Random};
pub use runtime::SimRuntime;
pub use tree::DirectoryImage;
pub use watch::{SeenBytes, SeenWrite, Watcher};
pub use world::{Crash, Outcome, TaskPanic, World, WorldOptions};

#[cfg(test)]
mod world_test;
