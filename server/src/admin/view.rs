//! What the admin port reads of its node, from any thread: the board, and what each shard publishes.

use purlin::{Board, GroupId, GroupStatus, NodeId, ShardControl, ShardStatus};
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
        let mut refused = None;
        for shard in &self.shards {
            match shard.group(group).await {
                Ok(Some(status)) => return Ok(status),
                Ok(None) => {}
                Err(error) => refused = Some(error.to_string()),
            }
        }
        Err(refused.unwrap_or("no shard of this node has it".into()))
    }
}
