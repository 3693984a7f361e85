//! Clients in the simulated world that speak the Redis protocol to the server's real front end.
//!
//! ```text
//! Op ─► words ─► Client ─► Wire ─► network ─► serve: the front end ─► shard ─► log: request
//!      told ◄── Value ◄────┘                                     (what words must become)
//! ```

mod client;
mod message;
mod wire;

pub use client::{Answered, Client, ClientOptions};
pub use message::{expected_command, request, told, words};
pub use purlin_server::resp::{FrontEndOptions, Value, group_of};
pub use wire::{Wire, request_bytes};

use crate::sim::SimRuntime;
use purlin::{ClusterConfig, LocalShard, NodeId, Runtime, ShardId};
use purlin_server::{
    admin::{AdminFacts, Connections, serve_admin},
    resp::{NodeFacts, serve_shard},
};
use purlin_transport::Net;
use std::io;

/// Where the first shard of a node listens for clients; the others follow. (Shards of a real node share
/// one port, and the kernel chooses.)
const PORT: u16 = 6379;
/// Where the first shard of a node listens for operators.
const ADMIN_PORT: u16 = 7098;

/// Where a shard of a node listens for clients.
pub fn address(node: NodeId, shard: ShardId) -> String {
    format!("n{node}:{}", PORT + shard.0)
}

/// Where a node listens for operators.
pub fn admin_address(node: NodeId) -> String {
    format!("n{node}:{ADMIN_PORT}")
}

/// Serves the clients of a shard, as long as its process lives. It returns when it listens.
///
/// # Errors
/// Somebody of this process listens there already.
pub async fn serve(
    local: &LocalShard<SimRuntime>,
    cluster: &ClusterConfig,
    change: impl FnOnce(&mut FrontEndOptions),
) -> io::Result<()> {
    let (runtime, shard) = (local.runtime(), local.shard());
    let listener = runtime.net().listen(&address(local.node(), shard)).await?;
    let mut options = FrontEndOptions {
        shard: shard.0,
        shards: runtime.shards(),
        ..FrontEndOptions::new(cluster.groups, PORT + shard.0)
    };
    change(&mut options);
    let facts = NodeFacts {
        process: runtime.boot() as u32,
        cluster: cluster.id.to_string(),
        admin: admin_address(local.node()),
        nodes: cluster.members.len() as u32,
        replicas: cluster.replicas,
        shards: u32::from(runtime.shards()),
        started_at: runtime.now(),
    };
    serve_shard(local, listener, options, facts);
    if shard == ShardId(0) { serve_operators(local, cluster).await } else { Ok(()) }
}

/// Serves operators at the first shard of a node. (Each shard of a real node serves operators.)
async fn serve_operators(
    local: &LocalShard<SimRuntime>,
    cluster: &ClusterConfig,
) -> io::Result<()> {
    let (runtime, node) = (local.runtime(), local.node());
    let listener = runtime.net().listen(&admin_address(node)).await?;
    let view = local.view().clone();
    let facts = AdminFacts {
        cluster: cluster.clone(),
        process: runtime.boot() as u32,
        gateway: address(node, local.shard()),
        admin: admin_address(node),
        started_at: runtime.now(),
    };
    runtime.spawn(serve_admin(runtime.clone(), listener, view, facts, Connections::default()));
    Ok(())
}
