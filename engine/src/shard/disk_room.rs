//! Whether the disk of this shard takes entries, and how the groups learn of a change.
//!
//! The groups are told in the order of their ids, so many in one beat: a change that all of them learnt in one turn
//! would keep this turn from everything else. Until a group has been told it acts on what was true before, which
//! is harmless: this only decides how soon it campaigns, and the peers of the shard hear of the change at once.

use crate::shard::groups::Groups;
use purlin_rsm::{GroupId, Tick};

/// So many groups are told in one beat.
const TOLD_MAX: usize = 512;

/// See the module.
#[derive(Default)]
pub(crate) struct DiskRoom {
    /// Since when the disk takes no entries.
    full_since: Option<Tick>,
    /// The next group to tell; none when each knows.
    next: Option<GroupId>,
}

impl DiskRoom {
    /// Since when the disk takes no entries; none while it takes them.
    pub(crate) fn full_since(&self) -> Option<Tick> {
        self.full_since
    }

    /// Notes whether the disk takes entries now. After a change all groups are to be told, from the first one on.
    pub(crate) fn note(&mut self, now: Tick, is_full: bool) {
        if self.full_since.is_some() != is_full {
            self.full_since = is_full.then_some(now);
            self.next = Some(GroupId(0));
        }
    }

    /// Tells the next groups, if some are to be told.
    pub(crate) fn tell(&mut self, now: Tick, groups: &mut Groups) {
        let Some(next) = self.next else { return };
        let ids: Vec<GroupId> = groups.from(next).take(TOLD_MAX).map(|group| group.id).collect();
        self.next = ids.get(TOLD_MAX - 1).map(|last| GroupId(last.0 + 1));
        for group in ids {
            if let Some(group) = groups.input(group) {
                group.raft.set_disk_full(now, self.full_since.is_some());
            }
        }
    }

    /// Checks that each group which has been told knows what is true now.
    pub(crate) fn check(&self, groups: &Groups) -> Result<(), String> {
        let is_full = self.full_since.is_some();
        let told = groups.iter().take_while(|group| self.next.is_none_or(|next| group.id < next));
        let wrong = told.filter(|group| group.raft.is_disk_full() != is_full).map(|group| group.id);
        wrong.min().map_or(Ok(()), |id| {
            Err(format!("disk room: group {id} was told, and does not know that full is {is_full}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::group::tests::fresh_group;

    const GROUPS: u32 = 10_000;

    fn groups() -> Groups {
        let mut groups = Groups::default();
        for id in 1..=GROUPS {
            groups.insert(fresh_group(GroupId(id)));
        }
        groups.take_dirty();
        groups
    }

    fn knowing(groups: &Groups) -> usize {
        groups.iter().filter(|group| group.raft.is_disk_full()).count()
    }

    /// Beats until each group has been told. Returns their number.
    fn beats(room: &mut DiskRoom, groups: &mut Groups) -> usize {
        for beat in 1..100 {
            room.tell(Tick(beat), groups);
            assert!(groups.take_dirty().len() <= TOLD_MAX, "the work of one turn has a bound");
            assert_eq!(room.check(groups), Ok(()));
            if room.next.is_none() {
                return beat as usize;
            }
        }
        panic!("the groups are not told");
    }

    #[test]
    fn a_change_of_room_reaches_ten_thousand_groups_in_turns_of_bounded_work() {
        let (mut room, mut groups) = (DiskRoom::default(), groups());
        room.tell(Tick(1), &mut groups);
        assert!(!groups.has_dirty(), "nothing has changed");
        room.note(Tick(2), true);
        assert_eq!(room.full_since(), Some(Tick(2)));
        assert_eq!(beats(&mut room, &mut groups), GROUPS as usize / TOLD_MAX + 1);
        assert_eq!(knowing(&groups), GROUPS as usize);
        room.note(Tick(200), true);
        room.tell(Tick(200), &mut groups);
        assert!(!groups.has_dirty(), "it is no news");
    }

    #[test]
    fn a_change_in_the_middle_reaches_those_that_know_the_one_before() {
        let (mut room, mut groups) = (DiskRoom::default(), groups());
        room.note(Tick(1), true);
        (0..7).for_each(|_| room.tell(Tick(1), &mut groups));
        assert_eq!(knowing(&groups), 7 * TOLD_MAX);
        groups.take_dirty();
        room.note(Tick(2), false);
        beats(&mut room, &mut groups);
        assert_eq!(knowing(&groups), 0);
    }

    #[test]
    fn a_group_that_was_told_and_does_not_know_is_named() {
        let (mut room, mut groups) = (DiskRoom::default(), groups());
        room.note(Tick(1), true);
        room.tell(Tick(1), &mut groups);
        let group = groups.input(GroupId(3)).expect("it is there");
        group.raft.set_disk_full(Tick(1), false);
        assert!(room.check(&groups).unwrap_err().contains("group 3"));
    }
}
