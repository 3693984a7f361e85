//! A thread-per-core, sharded multi-raft engine to embed.

mod config;
pub mod glommio;
mod runtime;

pub use config::{
    ClusterConfig, DurableBy, IntakeOptions, Member, NodeConfig, RaftOptions, WalOptions,
    first_leader, group_of_slot, placement,
};
pub use purlin_rsm::*;
pub use purlin_storage::{Block, Disk, Durability, File};
pub use purlin_transport::{Listener, Net, Reader, Writer};
pub use runtime::{Mesh, Runtime};
