//! The board of a node: for each group, its term, its leader and how far it is applied here. Only the
//! shard of a group writes; any thread reads. The board is a hint: no reply to a client rests on it.

use purlin_rsm::{GroupId, Index, NodeId, Term};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// See the module.
pub struct Board {
    groups: Vec<Slot>,
}

#[derive(Default)]
struct Slot {
    /// The node id of the leader, 0 without a leader.
    leader: AtomicU32,
    term: AtomicU64,
    applied: AtomicU64,
}

/// The state of a group, as its replica on this node knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BoardEntry {
    /// The group.
    pub group: GroupId,
    /// Its term.
    pub term: Term,
    /// Its leader, if one is known.
    pub leader: Option<NodeId>,
    /// The last entry that was applied here when the shard last wrote it to the board.
    pub applied: Index,
}

impl Board {
    pub(crate) fn new(groups: u32) -> Self {
        Self { groups: (0..=groups).map(|_| Slot::default()).collect() }
    }

    pub(crate) fn note(&self, group: GroupId, term: Term, leader: Option<NodeId>) {
        if let Some(slot) = self.groups.get(group.0 as usize) {
            slot.term.store(term.0, Ordering::Relaxed);
            slot.leader.store(leader.map_or(0, |node| node.0), Ordering::Relaxed);
        }
    }

    pub(crate) fn note_applied(&self, group: GroupId, applied: Index) {
        if let Some(slot) = self.groups.get(group.0 as usize) {
            slot.applied.store(applied.0, Ordering::Relaxed);
        }
    }

    /// The state of a group.
    pub fn group(&self, group: GroupId) -> Option<BoardEntry> {
        self.groups_from(group).next().filter(|entry| entry.group == group)
    }

    /// The state of each user group from `first` on, in the order of their ids. A step costs the same
    /// wherever it is, and there may be a million groups: a shard takes a bounded number of them at a time.
    pub fn groups_from(&self, first: GroupId) -> impl Iterator<Item = BoardEntry> {
        self.groups.iter().enumerate().skip(first.0.max(1) as usize).map(|(group, slot)| {
            let leader = slot.leader.load(Ordering::Relaxed);
            BoardEntry {
                group: GroupId(group as u32),
                term: Term(slot.term.load(Ordering::Relaxed)),
                leader: (leader != 0).then_some(NodeId(leader)),
                applied: Index(slot.applied.load(Ordering::Relaxed)),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_begin_at_any_id_and_end_at_the_last() {
        let board = Board::new(5);
        let from = |first| board.groups_from(GroupId(first)).map(|it| it.group.0);
        assert!(from(0).eq(1..=5), "group 0 is no user group");
        assert!(from(4).eq(4..=5) && from(6).eq([]));
        assert_eq!(board.group(GroupId(5)).map(|it| it.group), Some(GroupId(5)));
        assert_eq!((board.group(GroupId(0)), board.group(GroupId(6))), (None, None));
    }
}
