//! How fit a replica is to lead: whether its disk takes entries, and how far its machine is behind.
//!
//! An election looks at logs only. A replica whose disk is full could take no command as a leader, and one that
//! replays its log could answer none for as long as that lasts. Such a replica waits before it campaigns, so
//! that a fitter one comes first. It waits once for each leader that is lost, and then campaigns all the same:
//! it may be the only one, or all may be alike.

use super::log::Log;
use crate::types::Index;

/// A machine that has more commands to apply than this is behind.
pub(super) const BEHIND: u64 = 1_000;

/// See the module.
#[derive(Default, Debug)]
pub(super) struct Fitness {
    /// The disk of the node takes no entries.
    pub is_disk_full: bool,
    /// The machine applies what the log held at the start, up to here.
    pub loads_until: Option<Index>,
}

impl Fitness {
    /// That of a replica which starts with `log`.
    pub(super) fn of_start(log: &Log) -> Self {
        let last = log.last().index;
        let is_long = log.commands_above_floor() > BEHIND;
        Self { is_disk_full: false, loads_until: is_long.then_some(last) }
    }

    /// The machine has applied more.
    pub(super) fn applied(&mut self, log: &Log) {
        if self.loads_until.is_some_and(|until| log.applied() >= until.min(log.last().index)) {
            self.loads_until = None;
        }
    }
}
