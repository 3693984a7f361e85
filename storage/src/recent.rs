//! The end of each group's log as recovery passes it, within one bound for the shard.
//!
//! The latest runs of the WAL stay longest, whichever group they are of. So a group's part is always the
//! end of its log, without a gap. Runs are kept as bytes, and become entries only when all is read.

use purlin_rsm::{
    Entry, GroupId, Index,
    run::{Entries, Run},
};
use std::collections::{BTreeMap, VecDeque};

/// The latest entries of all groups.
pub(crate) struct Recent {
    bytes_max: usize,
    /// What all runs cost.
    bytes: usize,
    groups: BTreeMap<GroupId, VecDeque<Entries>>,
    /// The first entry of each run, in the order of the WAL. Replaced runs are still listed.
    arrivals: VecDeque<(GroupId, Index)>,
}

impl Recent {
    /// Holds runs that cost at most `bytes_max` together, and one more run.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, bytes: 0, groups: BTreeMap::new(), arrivals: VecDeque::new() }
    }

    /// Adds a run that was read, and drops the oldest runs.
    pub(crate) fn add(&mut self, id: GroupId, run: &Run<'_>) {
        let group = self.groups.entry(id).or_default();
        while let Some(replaced) = group.pop_back_if(|old| old.first() >= run.first) {
            self.bytes -= replaced.cost();
        }
        if let Some(last) = group.back_mut().filter(|last| last.end() > run.first) {
            self.bytes -= last.cost();
            last.truncate(run.first);
            self.bytes += last.cost();
        }
        // Behind a gap, which a floor will explain, nothing before it is of use.
        if group.back().is_some_and(|last| last.end() != run.first) {
            self.bytes -= group.drain(..).map(|old| old.cost()).sum::<usize>();
        }
        let copy = run.copied();
        self.bytes += copy.cost();
        self.arrivals.push_back((id, run.first));
        group.push_back(copy);
        self.drop_oldest();
    }

    /// Drops runs as long as the others fill the bound.
    fn drop_oldest(&mut self) {
        const COST_MIN: usize = 32;
        while let Some(&(id, first)) = self.arrivals.front() {
            let group = self.groups.get_mut(&id).expect("a group that arrived");
            let oldest = group.front().filter(|run| run.first() == first);
            let cost = oldest.map_or(0, Entries::cost);
            let is_crowded = self.arrivals.len() > self.bytes_max / COST_MIN + 1;
            if cost > 0 && self.bytes - cost < self.bytes_max && !is_crowded {
                return;
            }
            self.arrivals.pop_front();
            if cost > 0 {
                group.pop_front();
                self.bytes -= cost;
            }
        }
    }

    /// All entries, within the bound now; those of each group go up to the end of its log.
    pub(crate) fn into_entries(self) -> BTreeMap<GroupId, VecDeque<Entry>> {
        let expand = |runs: VecDeque<Entries>| runs.into_iter().flatten();
        let mut groups: BTreeMap<GroupId, VecDeque<Entry>> =
            self.groups.into_iter().map(|(id, runs)| (id, expand(runs).collect())).collect();
        let cost = |entries: &VecDeque<Entry>| entries.iter().map(Entry::cost).sum::<usize>();
        let mut bytes = groups.values().map(cost).sum::<usize>();
        // Only the oldest run can be too much.
        for (id, _) in self.arrivals {
            let Some(group) = groups.get_mut(&id) else { continue };
            while bytes > self.bytes_max {
                let Some(entry) = group.pop_front() else { break };
                bytes -= entry.cost();
            }
        }
        groups
    }
}
