//! A thread-per-core, sharded multi-raft engine to embed.

pub mod glommio;

mod config;
mod error;
mod host;
mod runtime;

mod client;
mod desk;
mod lane;
mod local;
mod request;

mod away;
mod mesh;
mod requests;
mod setup;
mod shard;
mod stage;
mod ticket;

mod fetcher;
mod group;
mod groups;
mod identity;
mod membership;
mod pairs;

mod board;
mod wake;

pub use board::{Board, GroupStatus};
pub use client::{Answer, Client};
pub use config::{
    ClusterConfig, DurableBy, IntakeOptions, Member, NodeConfig, RaftOptions, WalOptions,
    first_leader, group_of_slot, placement,
};
pub use desk::Connection;
pub use error::{Error, ErrorKind};
pub use host::{Host, HostBuilder, init, recorded_shards};
pub use local::LocalShard;
pub use mesh::MeshMessage;
pub use purlin_rsm::*;
pub use purlin_storage::{Block, Disk, Durability, File};
pub use purlin_transport::{Listener, Net, Reader, Writer};
pub use request::{Completion, Outcome, Request, RequestError};
pub use runtime::{Mesh, Runtime};
pub use setup::{MachineFactory, ShardSetup, Shared, init as init_on};
pub use shard::Shard;
