//! The machine under a node: its threads and cores, sockets, descriptors and directories, and the two production
//! runtimes as one.
//!
//! ```text
//! check, faster_durability   before any shard starts: can this machine run it, and how does it sync?
//! run_shards                 one thread and one executor for each shard, pinned where there are cores
//!   └─ OsRuntime               what a shard runs on: `crate::glommio` or `crate::ring`, as configured
//! ```
//!
//! It never prints and installs no handler of signals or panics.
#![expect(
    clippy::disallowed_methods,
    reason = "this is the clock, the threads and the random source that the seams stand for"
)]

mod access;
mod cores;
pub(crate) mod directory;
mod files;
mod mesh;
pub(crate) mod names;
mod panics;
mod probe;
mod runtime;
mod shards;
pub(crate) mod sockets;

pub use access::explain_access;
pub use cores::Pinning;
pub use directory::DirectoryLock;
pub use files::{ClientFiles, OpenFiles, raise_open_files};
pub use mesh::{ShardMesh, mesh};
pub(crate) use panics::Panics;
pub use probe::{check, faster_durability, locked_memory};
pub use runtime::{
    OsBlock, OsDisk, OsFile, OsListener, OsNet, OsReader, OsRuntime, OsWriter, RuntimeKind,
};
pub use shards::{ShardEnd, ShardThreads, ThreadOptions, run_once, run_shards};
pub use sockets::SharedPort;

use std::{any::Any, io};

/// What a panic leaves.
pub(crate) type Panic = Box<dyn Any + Send>;

/// A number of the kernel's random source.
pub(crate) fn random() -> u64 {
    let mut bytes = [0; 8];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    assert_eq!(filled, Ok(8), "the kernel has no random numbers");
    u64::from_ne_bytes(bytes)
}

/// Whether an error says that the disk, or the quota on it, is full.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
