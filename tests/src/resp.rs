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
use purlin::{Advertised, ClusterConfig, LocalShard, NodeId, Runtime, ShardId};
use purlin_server::{
    admin::{AdminFacts, Connections, serve_admin},
    cpu::ProcessTimes,
    resp::{ClientListeners, NodeFacts, serve_shard},
};
use purlin_transport::Net;
use std::io;

/// Where the first shard of a node listens for clients; the others follow. (Shards of a real node share
/// one port, and the kernel chooses.)
const PORT: u16 = 6379;
/// Where the first shard of a node listens for clients of Redis Cluster; the others follow.
const SHARD_PORT_BASE: u16 = 6500;
/// Where the first shard of a node listens for operators.
const ADMIN_PORT: u16 = 7098;

/// Where a shard of a node listens for clients.
pub fn address(node: NodeId, shard: ShardId) -> String {
    format!("n{node}:{}", PORT + shard.0)
}

/// Where a shard of a node listens for clients of Redis Cluster.
pub fn shard_address(node: NodeId, shard: ShardId) -> String {
    format!("n{node}:{}", SHARD_PORT_BASE + shard.0)
}

/// Where clients and operators find a node, as it tells them.
pub fn advertised(node: NodeId) -> Advertised {
    Advertised {
        host: format!("n{node}"),
        gateway_port: PORT,
        shard_port_base: SHARD_PORT_BASE,
        // Another one than where it listens, so that it shows whose word is taken.
        admin_port: ADMIN_PORT - 100 + 100 * node.0 as u16,
    }
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
    let listeners = ClientListeners {
        gateway: runtime.net().listen(&address(local.node(), shard)).await?,
        shard: Some(runtime.net().listen(&shard_address(local.node(), shard)).await?),
    };
    let mut options = FrontEndOptions {
        shard: shard.0,
        shards: runtime.shards(),
        shard_port: SHARD_PORT_BASE + shard.0,
        ..FrontEndOptions::new(cluster.groups, PORT + shard.0)
    };
    change(&mut options);
    let facts = NodeFacts {
        process: runtime.boot() as u32,
        cpu: || Some(ProcessTimes::default()),
        cluster: cluster.id.to_string(),
        admin: admin_address(local.node()),
        advertised: advertised(local.node()),
        nodes: cluster.members.len() as u32,
        replicas: cluster.replicas,
        shards: runtime.shards(),
        started_at: runtime.now(),
    };
    serve_shard(local, listeners, options, facts);
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
        cpu: || Some(ProcessTimes::default()),
        gateway: address(node, local.shard()),
        admin: admin_address(node),
        started_at: runtime.now(),
    };
    runtime.spawn(serve_admin(runtime.clone(), listener, view, facts, Connections::default()));
    Ok(())
}
