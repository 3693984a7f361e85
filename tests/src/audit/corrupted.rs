//! Nodes whose disks were changed behind their backs. What they hold now is not known, but it is known what
//! they can hold at most: what they held before, and what they have claimed since.

use purlin_rsm::{GroupId, Index, NodeId};
use std::collections::BTreeMap;

/// See the module.
#[derive(Default)]
pub(crate) struct Corrupted {
    /// How far the log of each replica of such a node may go.
    most: BTreeMap<NodeId, BTreeMap<GroupId, Index>>,
}

impl Corrupted {
    pub(crate) fn contains(&self, node: NodeId) -> bool {
        self.most.contains_key(&node)
    }

    pub(crate) fn len(&self) -> usize {
        self.most.len()
    }

    /// `node` is corrupted, and has held so much until now.
    pub(crate) fn strike(
        &mut self,
        node: NodeId,
        held: impl IntoIterator<Item = (GroupId, Index)>,
    ) {
        self.most.entry(node).or_default().extend(held);
    }

    /// `node`, if it is corrupted, says or shows that it holds all up to `index`.
    pub(crate) fn claims(&mut self, node: NodeId, group: GroupId, index: Index) {
        if let Some(most) = self.most.get_mut(&node) {
            let most = most.entry(group).or_default();
            *most = index.max(*most);
        }
    }

    /// How many may hold an entry.
    pub(crate) fn holders(&self, group: GroupId, index: Index) -> usize {
        let holds =
            |most: &&BTreeMap<GroupId, Index>| most.get(&group).is_some_and(|it| *it >= index);
        self.most.values().filter(holds).count()
    }
}
