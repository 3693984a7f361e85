//! What the shards of a node show, to any thread: the board, and the status of each shard.

use crate::{
    control::{
        port::ShardControl,
        stages::StageTimes,
        status::{GroupCounts, Level, ShardState, ShardStatus},
    },
    node::board::{Board, BoardEntry},
    placement::Placement,
};
use purlin_rsm::{GroupId, NodeId, ShardId};
use std::sync::Arc;

/// What write-ahead logs have written since the start.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct WalWritten {
    /// Syncs begun. A log that is opened for durable writes needs none for its batches.
    pub syncs: u64,
    /// Batches given to the device. Each is one write, and durable before anything in it counts.
    pub batches: u64,
    /// All bytes given to the device: records, headers and padding.
    pub bytes: u64,
}

/// A node, as it shows itself. A clone is another handle. Reading it asks no shard.
#[derive(Clone)]
pub struct NodeView {
    node: NodeId,
    board: Arc<Board>,
    shards: Arc<[ShardControl]>,
}

impl NodeView {
    /// Of a node with these shards, in the order of their numbers.
    pub(crate) fn new(node: NodeId, board: Arc<Board>, shards: Arc<[ShardControl]>) -> Self {
        Self { node, board, shards }
    }

    /// The node.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// How its groups stand.
    pub fn board(&self) -> &Arc<Board> {
        &self.board
    }

    /// Operators' requests to a shard, and its status; `None` when the node has no such shard.
    pub fn control(&self, shard: ShardId) -> Option<&ShardControl> {
        self.shards.get(usize::from(shard.0))
    }

    /// The shard on which a group lives.
    pub fn shard_of(&self, group: GroupId) -> ShardId {
        Placement::new(self.shards.len() as u16).shard_of(group)
    }

    /// How the shards stood at their last beats, in the order of their numbers.
    pub fn statuses(&self) -> Vec<Arc<ShardStatus>> {
        self.shards.iter().map(ShardControl::latest).collect()
    }

    /// Whether each shard serves, by its last beat: if not, clients are served better by another node.
    pub fn is_ready(&self) -> bool {
        let serves = |shard: &ShardControl| matches!(shard.latest().state, ShardState::Serving);
        self.shards.iter().all(serves)
    }

    /// The groups of all shards, counted by the shards at their last beats. The cost does not depend on the
    /// number of groups.
    pub fn counts(&self) -> GroupCounts {
        self.shards.iter().map(|shard| shard.latest().groups).sum()
    }

    /// What the log entries of all groups take in memory, by the shards' last beats.
    pub fn entry_bytes(&self) -> Level {
        self.shards.iter().map(|shard| shard.latest().queues.entry_bytes).sum()
    }

    /// What the state machines of all groups hold in memory, by the shards' last beats.
    pub fn machine_bytes(&self) -> Level {
        self.shards.iter().map(|shard| shard.latest().queues.machine_bytes).sum()
    }

    /// How long a sample of the commands that its shards led spent in each stage, by the shards' last beats.
    pub fn stages(&self) -> StageTimes {
        let mut stages = StageTimes::default();
        self.shards.iter().for_each(|shard| stages.add(&shard.latest().stages));
        stages
    }

    /// What the logs of its shards have written since the node was started, by the shards' last beats.
    pub fn wal(&self) -> WalWritten {
        let mut sum = WalWritten::default();
        for figures in self.shards.iter().map(|shard| shard.latest().wal.figures) {
            sum.syncs += figures.syncs;
            sum.batches += figures.batches;
            sum.bytes += figures.written_bytes;
        }
        sum
    }

    /// How the groups from `first` on stand, in the order of their ids. A group whose shard does not run has
    /// no leader that this node knows. A step costs the same wherever it is, and there may be a million
    /// groups: take a bounded number of them at a time.
    pub fn groups_from(&self, first: GroupId) -> impl Iterator<Item = BoardEntry> {
        let runs: Vec<bool> = self.shards.iter().map(|shard| shard.latest().state.runs()).collect();
        self.board.groups_from(first).map(move |entry| {
            let shard = self.shard_of(entry.group);
            let leader = entry.leader.filter(|_| runs[usize::from(shard.0)]);
            BoardEntry { leader, ..entry }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, ErrorKind};
    use purlin_rsm::{Index, Term};

    fn view(shards: u32, groups: u32) -> NodeView {
        let of_each = GroupCounts { groups: groups / shards, ..GroupCounts::default() };
        let control = |shard: u32| {
            let before = ShardStatus {
                shard: ShardId(shard as u16),
                state: ShardState::Serving,
                groups: of_each,
                ..ShardStatus::default()
            };
            ShardControl::new(Arc::default(), before)
        };
        let controls = (0..shards).map(control).collect();
        NodeView::new(NodeId(1), Arc::new(Board::new(groups)), controls)
    }

    #[test]
    fn the_counts_of_a_node_are_the_sums_of_its_shards() {
        let view = view(2, 4);
        let counts =
            GroupCounts { groups: 2, leading: 1, following: 1, applied: 7, ..Default::default() };
        let control = view.control(ShardId(0)).expect("there are two");
        control.publish(&mut Arc::new(ShardStatus { groups: counts, ..Default::default() }));
        let sum = view.counts();
        assert_eq!((sum.groups, sum.leading, sum.following, sum.applied), (4, 1, 1, 7));
    }

    #[test]
    fn the_groups_of_a_shard_that_does_not_run_have_no_leader() {
        let view = view(2, 4);
        for group in (1..=4).map(GroupId) {
            view.board().note(group, Term(2), Some(NodeId(1)));
            view.board().note_applied(group, Index(u64::from(group.0)));
        }
        assert!(view.is_ready());
        let error = Error::new(ErrorKind::Bug, "", "", "", "");
        view.control(ShardId(1)).expect("there are two").fail(error);
        let led: Vec<_> = view.groups_from(GroupId(2)).map(|it| (it.group.0, it.leader)).collect();
        let leader = Some(NodeId(1));
        assert_eq!(led, [(2, leader), (3, None), (4, leader)]);
        assert_eq!(view.counts().without_leader, 2, "those of shard 1");
        assert!(!view.is_ready());
    }
}
