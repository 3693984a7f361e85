//! A replica that is unfit to lead: it is told so by its owner or sees it itself, gives fitter ones time, and tells that
//! it is loading. See [`fitness`](super::fitness).

use super::{Raft, fitness::BEHIND, role::Role};
use crate::types::Tick;

impl Raft {
    /// The disk of the node takes no entries any more, or takes them again.
    pub fn set_disk_full(&mut self, now: Tick, is_full: bool) {
        self.now = now;
        self.fitness.is_disk_full = is_full;
        self.hurry();
    }

    /// Whether the disk of the node takes no entries, as far as this replica was told.
    pub fn is_disk_full(&self) -> bool {
        self.fitness.is_disk_full
    }

    /// Whether the machine still applies what the log held at the start: requests would wait for it. A replica that
    /// has stopped, or that has nothing to apply before there is a leader, loads nothing.
    pub fn is_loading(&self) -> bool {
        let has_more = self.leader().is_some() || self.log.committed() > self.log.applied();
        let applies = self.fault.is_none() && !self.has_stopped_applying();
        self.fitness.loads_until.is_some() && has_more && applies
    }

    /// Whether another replica should lead rather than this one.
    pub(super) fn is_unfit(&self) -> bool {
        self.fitness.is_disk_full || self.log.unapplied_commands() > BEHIND
    }

    /// The election timer is due. Whether to wait for a fitter replica first.
    pub(super) fn waits_for_a_fitter_one(&mut self) -> bool {
        let has_others = self.config.voters.other_voters(self.config.node).next().is_some();
        let waits = matches!(self.role, Role::Follower(_))
            && has_others
            && self.is_unfit()
            && self.timer.defer(self.now, self.config.unfit_ticks);
        crate::sometimes!(waits, "replica waits for a fitter one to campaign");
        waits
    }

    pub(super) fn note_applied(&mut self) {
        self.fitness.applied(&self.log);
        self.hurry();
    }

    /// Campaigns soon after all if there is no reason to wait any more.
    fn hurry(&mut self) {
        if self.timer.is_deferred() && !self.is_unfit() {
            self.timer.hurry(self.now);
        }
    }
}
