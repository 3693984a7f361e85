//! Which shard of a node has a group: the one place that decides.

use purlin_rsm::{GroupId, ShardId};

/// Where the groups of one node live. A node knows its own placement, and a peer's by how many shards the
/// peer says it has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Placement {
    /// Above 0.
    shards: u16,
}

impl Placement {
    /// The placement of a node with `shards` shards.
    ///
    /// # Panics
    /// When `shards` is 0.
    pub fn new(shards: u16) -> Self {
        assert!(shards > 0, "a node without shards");
        Self { shards }
    }

    /// How many shards the node has.
    pub fn shards(self) -> u16 {
        self.shards
    }

    /// The shard on which `group` lives.
    pub fn shard_of(self, group: GroupId) -> ShardId {
        ShardId((group.0 % u32::from(self.shards)) as u16)
    }

    /// The groups of `shard`, of the groups 1 to `groups`, ascending.
    pub(crate) fn groups_of(
        self,
        shard: ShardId,
        groups: u32,
    ) -> impl Iterator<Item = GroupId> + use<> {
        (1..=groups).map(GroupId).filter(move |group| self.shard_of(*group) == shard)
    }

    /// How many of the groups 1 to `groups` are on `shard`.
    pub(crate) fn count_of(self, shard: ShardId, groups: u32) -> u32 {
        let (shards, shard) = (u32::from(self.shards), u32::from(shard.0));
        // Group 0 is none of them.
        if shard == 0 { groups / shards } else { (groups + shards - shard) / shards }
    }

    /// The shards on which `groups` live, ascending, each once.
    pub(crate) fn shards_of(self, groups: impl Iterator<Item = GroupId>) -> Vec<ShardId> {
        let mut shards: Vec<ShardId> = groups.map(|group| self.shard_of(group)).collect();
        shards.sort_unstable();
        shards.dedup();
        shards
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_group_is_on_one_shard_and_the_shards_have_them_all() {
        let placement = Placement::new(3);
        let mut all: Vec<GroupId> =
            (0..3).flat_map(|shard| placement.groups_of(ShardId(shard), 20)).collect();
        for (shard, groups) in (0..3).flat_map(|shard| (0..20).map(move |groups| (shard, groups))) {
            let count = placement.groups_of(ShardId(shard), groups).count() as u32;
            assert_eq!(placement.count_of(ShardId(shard), groups), count, "{shard} of {groups}");
        }
        all.sort_unstable();
        assert_eq!(all, (1..=20).map(GroupId).collect::<Vec<_>>());
    }

    #[test]
    fn two_nodes_with_other_numbers_of_shards_share_the_shards_of_common_groups() {
        let (ours, theirs) = (Placement::new(2), Placement::new(4));
        let shared = |shard| theirs.shards_of(ours.groups_of(ShardId(shard), 20));
        assert_eq!(shared(0), [ShardId(0), ShardId(2)]);
        assert_eq!(shared(1), [ShardId(1), ShardId(3)]);
        assert_eq!(theirs.shards_of(ours.groups_of(ShardId(1), 2)), [ShardId(1)], "group 1 alone");
    }
}
