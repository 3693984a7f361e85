//! All groups of a shard: found by id, noted when something happened to them, woken when their time
//! has come.

use crate::shard::group::Group;
use purlin_rsm::{GroupId, Tick};
use std::{cmp::Reverse, collections::BinaryHeap};

/// See the module.
pub(crate) struct Groups {
    /// In the order of their ids.
    groups: Vec<Group>,
    /// Places of groups that have inputs, in the order they got them.
    dirty: Vec<usize>,
    /// When groups want to be told the time. A group may stand here more than once, or too early: it
    /// is asked for its deadline when it comes up.
    timers: BinaryHeap<Reverse<(Tick, usize)>>,
    /// The earliest timer of each group that is in the heap.
    armed: Vec<Option<Tick>>,
}

impl Groups {
    /// The groups of a shard, in the order of their ids.
    pub(crate) fn new(groups: Vec<Group>) -> Self {
        assert!(groups.is_sorted_by(|a, b| a.id < b.id), "groups that are not in order");
        let armed = vec![None; groups.len()];
        let mut groups = Self { groups, dirty: Vec::new(), timers: BinaryHeap::new(), armed };
        (0..groups.groups.len()).for_each(|place| groups.touch(place));
        groups
    }

    pub(crate) fn place(&self, id: GroupId) -> Option<usize> {
        self.groups.binary_search_by_key(&id, |group| group.id).ok()
    }

    pub(crate) fn at(&self, place: usize) -> &Group {
        &self.groups[place]
    }

    /// A group that is about to get an input.
    pub(crate) fn at_mut(&mut self, place: usize) -> &mut Group {
        self.touch(place);
        &mut self.groups[place]
    }

    /// A group that is about to get an input.
    pub(crate) fn get_mut(&mut self, id: GroupId) -> Option<&mut Group> {
        let place = self.place(id)?;
        Some(self.at_mut(place))
    }

    pub(crate) fn get(&self, id: GroupId) -> Option<&Group> {
        self.place(id).map(|place| &self.groups[place])
    }

    /// A group whose inputs are being worked on.
    pub(crate) fn at_ready(&mut self, place: usize) -> &mut Group {
        &mut self.groups[place]
    }

    /// An input for every group.
    pub(crate) fn for_each(&mut self, input: impl Fn(&mut Group)) {
        (0..self.groups.len()).for_each(|place| input(self.at_mut(place)));
    }

    pub(crate) fn len(&self) -> usize {
        self.groups.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Group> {
        self.groups.iter()
    }

    /// Takes the places of the groups that had inputs.
    pub(crate) fn take_dirty(&mut self) -> Vec<usize> {
        let dirty = std::mem::take(&mut self.dirty);
        dirty.iter().for_each(|place| self.groups[*place].is_dirty = false);
        dirty
    }

    pub(crate) fn has_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Notes the deadline of a group whose inputs have been worked on.
    pub(crate) fn rearm(&mut self, place: usize) {
        let Some(deadline) = self.groups[place].raft.deadline() else { return };
        if self.armed[place].is_none_or(|armed| deadline < armed) {
            self.armed[place] = Some(deadline);
            self.timers.push(Reverse((deadline, place)));
        }
    }

    /// Tells the groups whose time has come.
    pub(crate) fn tick(&mut self, now: Tick) {
        while let Some(Reverse((due, place))) = self.timers.peek().copied() {
            if due > now {
                return;
            }
            self.timers.pop();
            if self.armed[place] == Some(due) {
                self.armed[place] = None;
                if self.groups[place].raft.deadline().is_some_and(|deadline| deadline <= now) {
                    self.at_mut(place).raft.tick(now);
                } else {
                    self.rearm(place);
                }
            }
        }
    }

    /// When a group wants to be told the time next.
    pub(crate) fn deadline(&self) -> Option<Tick> {
        self.timers.peek().map(|Reverse((due, _))| *due)
    }

    fn touch(&mut self, place: usize) {
        if !std::mem::replace(&mut self.groups[place].is_dirty, true) {
            self.dirty.push(place);
        }
    }
}
