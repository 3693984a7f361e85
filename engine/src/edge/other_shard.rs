//! Another shard, with which this one exchanges batches of requests and replies.

use purlin_rsm::ShardId;
use purlin_transport::PeerShard;

/// Another shard: of this node, or of another one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum OtherShard {
    /// A shard of this node, reached through the mesh.
    OfThisNode(ShardId),
    /// A shard of another node, reached through the exchanger.
    OfPeer(PeerShard),
}

/// Where a batch of another shard came from: that shard, and its number for the batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Origin {
    pub(crate) shard: OtherShard,
    pub(crate) id: u64,
}
