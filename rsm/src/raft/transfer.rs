//! A leader hands its group over to a voter of its choice (Raft thesis 3.10).
//!
//! The leader takes no more proposals. It waits until the voter holds its whole log durably, its own machine has
//! applied that log, and the reads that it was given are confirmed. Then it tells the voter to campaign at once. The
//! requests for votes of that campaign are *forced*: voters do not refuse them because they hear of a leader. If
//! nothing comes of it within an election timeout, the leader goes on. A read that comes later still needs a round,
//! which the followers of a later term do not confirm.
//!
//! Without proposals the log ends, so the wait ends too, whatever the load was: the voter lacks a window at most. So a
//! transfer begins although the leader's own log is not durable yet, unless its disk is full.
//!
//! The voter is told in the first half of the timeout only, so that its campaign seldom meets a leader that has gone
//! on. A leader whose transfer has failed waits before the next one: each costs a timeout without proposals.

use super::{
    Raft,
    config::RaftConfig,
    log::Log,
    progress::State,
    role::{Leader, Role, Transfer},
};
use crate::{
    message::Message,
    types::{NodeId, Tick},
};

/// After a failed transfer a leader waits for so many of the shortest election timeouts.
const PAUSE_TIMEOUTS: u64 = 16;
/// Each further failure in a leadership doubles the wait, at most so many times.
const DOUBLINGS_MAX: u32 = 5;

impl Leader {
    /// Whether a majority can vote for another leader. The vote of this one waits behind its own entries, on a full
    /// disk for ever. Then the others must be a majority without it (safety T3).
    fn can_be_followed(&self, log: &Log, config: &RaftConfig) -> bool {
        let votes = |voter| {
            let progress = self.followers.get(&voter);
            progress.is_some_and(|progress| progress.connected && progress.confirmed)
        };
        log.durable() == log.last().index || config.voters.has_majority(votes)
    }
}

impl Raft {
    /// Whether a hand-over to `to` would begin: this replica must lead and must have committed in its term, and `to`
    /// must be a voter that follows it and lacks no more than what is on its way. A majority must be able to vote, or
    /// will be once the own log is durable. The wait after a failed transfer must be over.
    pub fn may_hand_over(&self, now: Tick, to: NodeId) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        let committed = self.log.committed();
        let is_voter = to != self.config.node && self.config.voters.is_voter(to);
        let is_near = leader.followers.get(&to).is_some_and(|progress| {
            let replicates = matches!(progress.state, State::Replicate(_));
            let is_served = progress.connected && progress.has_room && progress.confirmed;
            is_served && replicates && progress.matched >= committed
        });
        let is_free = leader.transfer.is_none() && leader.next_transfer <= now;
        self.fault.is_none()
            && is_voter
            && committed >= leader.noop
            && is_near
            && is_free
            && (!self.fitness.is_disk_full || leader.can_be_followed(&self.log, &self.config))
    }

    /// Begins to hand the group over to `to`. Returns whether it does; see [`Raft::may_hand_over`].
    pub fn hand_over(&mut self, now: Tick, to: NodeId) -> bool {
        self.now = now;
        if !self.may_hand_over(now, to) {
            return false;
        }
        let until = Tick(now.0 + self.timer.shortest());
        let Some(leader) = self.leader_mut() else { return false };
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
        let (last, half) = (self.log.last().index, self.timer.shortest() / 2);
        let Role::Leader(leader) = &self.role else { return };
        let Some(transfer) = leader.transfer else { return };
        let to = transfer.to;
        let has_all = leader.followers.get(&to).is_some_and(|progress| progress.matched == last);
        // What is committed and applied by then is answered as done; anything else would end as unknown.
        let has_answered =
            (self.log.applied() == last && leader.reads.is_empty()) || self.is_loading();
        let is_ready = has_all && has_answered && leader.can_be_followed(&self.log, &self.config);
        let is_early = self.now.0 + half < transfer.until.0;
        if !transfer.is_told && is_ready && is_early {
            self.send(to, Message::TimeoutNow);
            if let Some(leader) = self.leader_mut() {
                leader.transfer = Some(Transfer { is_told: true, ..transfer });
            }
        }
    }

    /// The leader goes on when its time to hand over is up. It waits before it hands over again.
    pub(super) fn end_transfer(&mut self) {
        let (now, pause) = (self.now, PAUSE_TIMEOUTS * self.timer.shortest());
        if let Some(leader) = self.leader_mut()
            && leader.transfer.is_some_and(|transfer| transfer.until <= now)
        {
            crate::sometimes!("leader goes on, its group was not taken over");
            leader.transfer = None;
            leader.next_transfer = Tick(now.0 + (pause << leader.failed_transfers));
            leader.failed_transfers = (leader.failed_transfers + 1).min(DOUBLINGS_MAX);
        }
    }
}
