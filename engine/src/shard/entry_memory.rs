//! The budget for the log entries of all groups of a shard: what they take in memory together, and which group
//! gives some up next.
//!
//! Without it, each group keeps what it needs within bounds of its own, and a thousand groups a thousand times
//! that: entries that a follower has not acknowledged, that wait for the disk, or that a slow machine has not
//! applied. Each group tells what its entries take, at their real cost, and this adds it up. Beyond the budget,
//! entries that are durable leave the memory and are read from the write-ahead log when they are needed. The
//! groups take turns. If what is not durable alone is too much, proposals are refused as busy, and appends with
//! entries are dropped until the disk has caught up: so the sum is the budget at most, and what one frame of a
//! peer or one batch of requests adds.

use crate::control::status::Level;
use std::collections::VecDeque;

/// What an entry of one command takes beside the command.
pub(crate) const ENTRY_BYTES: usize = 192;
/// An entry takes at most this many times its [`Entry::cost`](purlin_rsm::Entry::cost), by which appends are cut.
const COST_TO_BYTES: usize = 6;
/// What the list of a group that holds one entry takes, and twice that.
const LIST_BYTES: usize = 1 << 10;

/// See the module. `S` names a group.
pub(crate) struct EntryMemory<S> {
    bytes: usize,
    bytes_max: usize,
    /// What one command or append may add to the budget.
    excess_max: usize,
    /// The groups whose entries take memory, each once; the one that gives up entries next is first. Groups that
    /// were removed, or hold none any more, may stand here until it is their turn.
    holders: VecDeque<S>,
}

impl<S: PartialEq> EntryMemory<S> {
    /// For `bytes_max` bytes. A command takes `command_bytes_max` bytes at most, and the entries of an append cost
    /// `append_bytes_max` or are one.
    pub(crate) fn new(bytes_max: usize, command_bytes_max: usize, append_bytes_max: usize) -> Self {
        let excess_max = COST_TO_BYTES * append_bytes_max + command_bytes_max + LIST_BYTES;
        Self { bytes: 0, bytes_max, excess_max, holders: VecDeque::new() }
    }

    /// The entries of a group took `before` bytes, and take `now`.
    pub(crate) fn changed(&mut self, before: usize, now: usize) {
        self.bytes = self.bytes - before + now;
    }

    /// A group that was not listed holds entries.
    pub(crate) fn holds(&mut self, group: S) {
        self.holders.push_back(group);
    }

    /// A group is removed, whose entries took so much.
    pub(crate) fn forget(&mut self, group: S, bytes: usize) {
        self.bytes -= bytes;
        self.holders.retain(|other| *other != group);
    }

    /// The group that is to give up entries now, if the sum is too much. It leaves the list.
    pub(crate) fn next_to_evict(&mut self) -> Option<S> {
        if self.is_full() { self.holders.pop_front() } else { None }
    }

    /// Whether the sum is too much.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes > self.bytes_max
    }

    /// The bytes that the sum may grow by.
    pub(crate) fn room(&self) -> usize {
        self.bytes_max.saturating_sub(self.bytes)
    }

    pub(crate) fn level(&self) -> Level {
        Level { now: self.bytes, max: self.bytes_max }
    }

    /// Whether this agrees with what the groups count: their bytes, how many are listed, and whether all that
    /// hold entries are.
    pub(crate) fn check(
        &self,
        bytes: usize,
        holders: usize,
        is_listed: bool,
    ) -> Result<(), String> {
        let listed = self.holders.len();
        if bytes != self.bytes || holders != listed || !is_listed {
            return Err(format!(
                "entry memory: {bytes} bytes of {holders} groups, counted as {} of {listed}; all holders listed: \
                 {is_listed}",
                self.bytes
            ));
        }
        Ok(())
    }

    /// Whether the sum is within its bound. The entries of one append come on top of the budget, and where entries
    /// are tiny the list of one group may have just doubled. Checked where no peer sends longer appends than that.
    pub(crate) fn check_bound(&self) -> Result<(), String> {
        let most =
            self.bytes_max.saturating_add(self.bytes_max / 3).saturating_add(self.excess_max);
        if self.bytes <= most {
            return Ok(());
        }
        Err(format!("entry memory: {} bytes with a budget of {}", self.bytes, self.bytes_max))
    }
}

impl<S: PartialEq> Default for EntryMemory<S> {
    fn default() -> Self {
        Self::new(usize::MAX, 0, 0)
    }
}
