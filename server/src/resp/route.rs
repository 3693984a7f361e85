//! From a key to its hash slot, as Redis Cluster does it, and to the group that owns the slot.

use purlin::{GroupId, group_of_slot};
pub use purlin_kv::{SLOTS, slot_of};

/// The group that owns `key` when the cluster has `groups` user groups.
pub fn group_of(key: &[u8], groups: u32) -> GroupId {
    group_of_slot(slot_of(key), groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_slot_has_its_group_and_each_group_its_slots() {
        for groups in [1, 3, 48, 16_384] {
            let mut first = 0;
            for group in 1..=groups {
                let end = group * u32::from(SLOTS) / groups;
                for slot in first..end {
                    assert_eq!(group_of_slot(slot as u16, groups), GroupId(group));
                }
                first = end;
            }
            assert_eq!(first, u32::from(SLOTS));
        }
    }
}
