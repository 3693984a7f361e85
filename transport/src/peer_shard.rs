//! The name of one shard of another node.

use purlin_rsm::{NodeId, ShardId};
use std::fmt;

/// One shard of another node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PeerShard {
    /// The node.
    pub node: NodeId,
    /// Its shard.
    pub shard: ShardId,
}

impl PeerShard {
    /// Shard `shard` of node `node`.
    pub fn new(node: NodeId, shard: ShardId) -> Self {
        Self { node, shard }
    }
}

impl fmt::Display for PeerShard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} shard {}", self.node, self.shard)
    }
}
