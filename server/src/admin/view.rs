//! What the admin port reads of its node, from any thread: the board, and what each shard publishes.

use purlin::{Board, GroupId, GroupStatus, NodeId, Placement, ShardControl, ShardStatus};
use std::sync::Arc;

/// A node, as an operator sees it.
pub struct NodeView {
    /// The node.
    pub node: NodeId,
    /// How the groups stand.
    pub board: Arc<Board>,
    /// The shards, in the order of their numbers.
    pub shards: Vec<ShardControl>,
}

impl NodeView {
    /// How the shards stood at their last beats. A shard that hangs or has stopped has one too.
    pub(super) fn statuses(&self) -> Vec<Arc<ShardStatus>> {
        self.shards.iter().map(ShardControl::latest).collect()
    }

    /// How the replica of a group stands now.
    ///
    /// # Errors
    /// Why nobody can say, in a sentence.
    pub(super) async fn group(&self, group: GroupId) -> Result<GroupStatus, String> {
        // A shard that hangs must not answer for the groups of another one.
        let shard = Placement::new(self.shards.len() as u16).shard_of(group);
        match self.shards[usize::from(shard.0)].group(group).await {
            Ok(Some(status)) => Ok(status),
            Ok(None) => Err(format!("shard {shard} of this node does not have it")),
            Err(error) => Err(error.to_string()),
        }
    }
}
