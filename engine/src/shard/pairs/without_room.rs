//! The groups that wait for room to a peer. They take turns: a group that has sent something goes behind those that
//! have sent nothing.

use purlin_rsm::GroupId;
use std::collections::{BTreeSet, VecDeque};

/// So many groups are let on at once. If the room is gone then, those behind them were not stepped in vain.
const LET_ON_MAX: usize = 64;

/// The groups whose appends to one peer found no room.
#[derive(Default)]
pub(super) struct WithoutRoom {
    /// Those that have sent nothing since they were let on last, the oldest first.
    first: VecDeque<GroupId>,
    /// Those that have sent something.
    then: VecDeque<GroupId>,
    /// The groups of both.
    all: BTreeSet<GroupId>,
    /// There is room, as far as is known.
    pub(super) has_room: bool,
}

impl WithoutRoom {
    /// An append of `group` has found no room, after others went out if `has_sent`.
    pub(super) fn wait(&mut self, group: GroupId, has_sent: bool) {
        self.has_room = false;
        if self.all.insert(group) {
            let queue = if has_sent { &mut self.then } else { &mut self.first };
            queue.push_back(group);
        }
    }

    /// Takes the groups that may send again now.
    pub(super) fn take(&mut self) -> Vec<GroupId> {
        let mut taken = Vec::new();
        while self.has_room && taken.len() < LET_ON_MAX {
            let next = self.first.pop_front().or_else(|| self.then.pop_front());
            let Some(group) = next else { break };
            self.all.remove(&group);
            taken.push(group);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Room for one group at a time, and each always has more to send: none is left behind.
    #[test]
    fn groups_that_wait_for_room_take_turns() {
        let mut waiting = WithoutRoom::default();
        let mut served = [0; 5];
        (0..5).for_each(|id| waiting.wait(GroupId(id), false));
        waiting.wait(GroupId(3), true);
        for _ in 0..100 {
            assert_eq!(waiting.take(), [], "there is no room");
            waiting.has_room = true;
            for (place, group) in waiting.take().into_iter().enumerate() {
                served[group.0 as usize] += usize::from(place == 0);
                waiting.wait(group, place == 0);
            }
        }
        assert_eq!(served, [20; 5]);
    }

    /// Each group that is let on is stepped, and most of many would find the room gone.
    #[test]
    fn some_of_many_groups_are_let_on_at_once() {
        let mut waiting = WithoutRoom::default();
        (0..1000).for_each(|id| waiting.wait(GroupId(id), false));
        waiting.has_room = true;
        assert_eq!(waiting.take().len(), LET_ON_MAX);
        assert_eq!(waiting.take().first(), Some(&GroupId(LET_ON_MAX as u32)));
        waiting.wait(GroupId(0), true);
        assert_eq!(waiting.take(), [], "the room is gone");
    }
}
