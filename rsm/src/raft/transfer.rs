//! A leader hands its group over to a voter of its choice (Raft thesis 3.10).
//!
//! The leader takes no more proposals, waits until the voter holds its whole log durably, and tells it to
//! campaign at once. The requests for votes of that campaign are *forced*: voters do not refuse them because
//! they hear of a leader. If nothing comes of it within an election timeout, the leader goes on. Reads go on
//! all the time: each needs a round, which the followers of a later term do not confirm.

use super::{
    Raft,
    progress::State,
    role::{Role, Transfer},
};
use crate::{
    message::Message,
    types::{NodeId, Tick},
};

impl Raft {
    /// Begins to hand the group over to `to`. Returns whether it does: this replica must lead and must have
    /// committed in its term, and `to` must be a voter that follows it and lacks no more than what is on its
    /// way.
    pub fn hand_over(&mut self, now: Tick, to: NodeId) -> bool {
        self.now = now;
        let until = Tick(now.0 + self.timer.shortest());
        let committed = self.log.committed();
        let is_voter = to != self.config.node && self.config.voters.is_voter(to);
        if self.fault.is_some() || !is_voter {
            return false;
        }
        let Role::Leader(leader) = &mut self.role else { return false };
        let is_near = leader.followers.get(&to).is_some_and(|progress| {
            let replicates = matches!(progress.state, State::Replicate(_));
            progress.connected && progress.confirmed && replicates && progress.matched >= committed
        });
        if committed < leader.noop || !is_near || leader.transfer.is_some() {
            return false;
        }
        crate::sometimes!("leader hands its group over");
        leader.transfer = Some(Transfer { to, until, is_told: false });
        self.tell_to_campaign();
        true
    }

    /// Whether this replica leads and is handing its group over: it takes no proposals.
    pub fn is_handing_over(&self) -> bool {
        matches!(&self.role, Role::Leader(leader) if leader.transfer.is_some())
    }

    /// Tells the voter that is to lead to campaign, once it holds the whole log (safety T3).
    pub(super) fn tell_to_campaign(&mut self) {
        let last = self.log.last().index;
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(transfer) = &mut leader.transfer else { return };
        let to = transfer.to;
        let has_all = leader.followers.get(&to).is_some_and(|progress| progress.matched == last);
        if !transfer.is_told && has_all {
            transfer.is_told = true;
            self.send(to, Message::TimeoutNow);
        }
    }

    /// The leader goes on when its time to hand over is up.
    pub(super) fn end_transfer(&mut self) {
        let now = self.now;
        if let Some(leader) = self.leader_mut()
            && leader.transfer.is_some_and(|transfer| transfer.until <= now)
        {
            crate::sometimes!("leader goes on, its group was not taken over");
            leader.transfer = None;
        }
    }
}
