//! The groups that wait for room to a peer. They take turns: while any waits, no other group sends the peer entries. So
//! groups that fill each room as it comes keep no other group from being served.

use purlin_rsm::GroupId;
use std::collections::{BTreeSet, VecDeque};

/// The groups whose entries wait for room to one peer.
#[derive(Default)]
pub(super) struct WithoutRoom {
    /// They are let on in this order, one at a time.
    queue: VecDeque<GroupId>,
    /// The groups of the queue.
    queued: BTreeSet<GroupId>,
    /// The group that was let on last, until it has sent what it can. If it has to read the log first, the others wait
    /// for that too: their entries would take the room meanwhile.
    turn: Option<GroupId>,
    /// The beats since it was let on.
    turn_beats: u64,
    /// No append was refused since room was told of last.
    has_room: bool,
}

/// A turn ends after so many beats, also if its group still reads the log.
const TURN_BEATS_MAX: u64 = 10;

impl WithoutRoom {
    /// Whether entries of `group` may go out: no group waits, or the group has the turn.
    pub(super) fn may_send(&self, group: GroupId) -> bool {
        self.turn.map_or(self.queue.is_empty(), |turn| turn == group)
    }

    /// An append of `group` has found no room, after others went out if `has_sent`. The group waits for room: as the
    /// first one if it had the turn for nothing.
    pub(super) fn refused(&mut self, group: GroupId, has_sent: bool) {
        self.has_room = false;
        let had_turn = self.turn.take_if(|turn| *turn == group).is_some();
        if self.queued.insert(group) {
            if had_turn && !has_sent {
                self.queue.push_front(group);
            } else {
                self.queue.push_back(group);
            }
        }
    }

    /// Entries of `group`, which has not the turn, wait behind the groups that wait already.
    pub(super) fn wait(&mut self, group: GroupId) {
        debug_assert!(!self.may_send(group), "group {group} need not wait");
        if self.queued.insert(group) {
            self.queue.push_back(group);
        }
    }

    /// Whether a group waits, or has the turn.
    pub(super) fn has_waiting(&self) -> bool {
        self.turn.is_some() || !self.queue.is_empty()
    }

    /// There is room, as far as is known.
    pub(super) fn open(&mut self) {
        self.has_room = true;
    }

    /// One beat has passed: there may be room, and a turn does not last for ever.
    pub(super) fn renew(&mut self) {
        self.open();
        self.turn_beats += 1;
        if self.turn_beats > TURN_BEATS_MAX {
            self.turn = None;
        }
    }

    /// The turn ends, unless its group is `reading` its entries from the log.
    pub(super) fn end_turn(&mut self, reading: impl FnOnce(GroupId) -> bool) {
        if self.turn.is_some_and(|group| !reading(group)) {
            self.turn = None;
        }
    }

    /// Lets the next group on, if there is room and no group has the turn.
    pub(super) fn next_turn(&mut self) -> Option<GroupId> {
        if !self.has_room || self.turn.is_some() {
            return None;
        }
        let next = self.queue.pop_front()?;
        self.queued.remove(&next);
        (self.turn, self.turn_beats) = (Some(next), 0);
        self.turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: GroupId = GroupId(1);
    const B: GroupId = GroupId(2);

    /// Room for one group at a time, and each always has more to send: none is left behind.
    #[test]
    fn groups_that_wait_for_room_take_turns() {
        let mut waiting = WithoutRoom::default();
        let mut served = [0; 5];
        (0..5).for_each(|id| waiting.refused(GroupId(id), false));
        waiting.refused(GroupId(3), true);
        for _ in 0..100 {
            assert_eq!(waiting.next_turn(), None, "there is no room");
            waiting.open();
            let group = waiting.next_turn().expect("all wait");
            served[group.0 as usize] += 1;
            waiting.refused(group, true);
        }
        assert_eq!(served, [20; 5]);
    }

    #[test]
    fn no_other_group_sends_while_one_waits_or_has_the_turn() {
        let mut waiting = WithoutRoom::default();
        assert!(waiting.may_send(A) && waiting.may_send(B));
        waiting.refused(A, false);
        assert!(!waiting.may_send(A) && !waiting.may_send(B));
        waiting.open();
        assert_eq!(waiting.next_turn(), Some(A));
        assert!(waiting.may_send(A) && !waiting.may_send(B), "nobody waits, and A has the turn");
        waiting.wait(B);
        assert!(waiting.may_send(A) && !waiting.may_send(B));
        assert_eq!(waiting.next_turn(), None, "A has the turn");
        waiting.end_turn(|_| true);
        assert_eq!(waiting.next_turn(), None, "A reads its entries from the log");
        waiting.end_turn(|_| false);
        assert_eq!(waiting.next_turn(), Some(B));
        waiting.end_turn(|_| false);
        assert!(waiting.may_send(A) && waiting.may_send(B));
    }

    #[test]
    fn a_turn_ends_after_some_beats_whatever_its_group_does() {
        let mut waiting = WithoutRoom::default();
        waiting.refused(A, false);
        waiting.wait(B);
        for next in [A, B] {
            waiting.open();
            assert_eq!(waiting.next_turn(), Some(next));
            for _ in 0..TURN_BEATS_MAX {
                waiting.renew();
                assert_eq!(waiting.next_turn(), None, "{next} reads its entries from the log");
            }
            waiting.renew();
        }
        assert_eq!((waiting.next_turn(), waiting.has_waiting()), (None, false));
    }

    /// A group may find the room gone although it has the turn: what no other group sends takes room too.
    #[test]
    fn a_group_that_had_the_turn_for_nothing_is_the_next_one() {
        let mut waiting = WithoutRoom::default();
        waiting.refused(A, false);
        waiting.wait(B);
        for (has_sent, next) in [(false, A), (true, B)] {
            waiting.open();
            assert_eq!(waiting.next_turn(), Some(A));
            waiting.refused(A, has_sent);
            assert!(!waiting.may_send(A), "the turn is over");
            waiting.open();
            assert_eq!(waiting.next_turn(), Some(next));
            waiting.refused(next, false);
        }
    }
}
