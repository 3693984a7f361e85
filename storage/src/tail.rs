//! The end of each group's log as recovery passes it, within one bound for the shard.
//!
//! What the WAL has last stays longest, whichever group it is of. So a group's part is always the end
//! of its log, without a gap.

use crate::record::EntryRun;
use purlin_rsm::{Entry, GroupId, Index};
use std::collections::{BTreeMap, VecDeque};

/// The latest entries of all groups, within a bound.
pub(crate) struct Tail {
    bytes_max: usize,
    bytes: usize,
    groups: BTreeMap<GroupId, VecDeque<Entry>>,
    /// In the order of the WAL. Those of replaced entries are still in it.
    arrivals: VecDeque<(GroupId, Index)>,
}

impl Tail {
    /// Holds entries that cost at most `bytes_max`.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, bytes: 0, groups: BTreeMap::new(), arrivals: VecDeque::new() }
    }

    /// Takes in what was read, and drops the oldest.
    pub(crate) fn take(&mut self, run: &EntryRun<'_>) {
        let group = self.groups.entry(run.group).or_default();
        while let Some(replaced) = group.pop_back_if(|entry| entry.index >= run.first) {
            self.bytes -= replaced.cost();
        }
        // Behind a gap, which a floor will explain, nothing before it is of use.
        if group.back().is_some_and(|entry| entry.index.next() != run.first) {
            self.bytes -= group.drain(..).map(|entry| entry.cost()).sum::<usize>();
        }
        for entry in run.entries() {
            self.bytes += entry.cost();
            self.arrivals.push_back((run.group, entry.index));
            group.push_back(entry);
        }
        self.drop_oldest();
    }

    fn drop_oldest(&mut self) {
        const COST_MIN: usize = 32;
        while self.bytes > self.bytes_max || self.arrivals.len() > self.bytes_max / COST_MIN {
            let Some((group, index)) = self.arrivals.pop_front() else { return };
            let group = self.groups.get_mut(&group).expect("a group that arrived");
            if let Some(entry) = group.pop_front_if(|entry| entry.index == index) {
                self.bytes -= entry.cost();
            }
        }
    }

    /// What is left of a group from `first` on; without gaps, and up to its end.
    pub(crate) fn of(&mut self, group: GroupId, first: Index) -> Vec<Entry> {
        let tail = self.groups.remove(&group).unwrap_or_default();
        tail.into_iter().filter(|entry| entry.index >= first).collect()
    }
}
