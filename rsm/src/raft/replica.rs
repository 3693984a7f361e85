//! [`Raft`]: one replica, and those of its inputs that are not messages.

use super::{
    Fault, RaftConfig, Ready, Recovered, RoleKind, Voters, Window,
    fetch::FetchToApply,
    gate::Gate,
    log::Log,
    role::{Campaign, Follower, Leader, Role},
    timer::ElectionTimer,
};
use crate::{
    entry::Payload,
    types::{
        EntryId, EpochTerm, GroupEpoch, HardState, Index, NodeId, Position, Term, Tick, WriteId,
    },
};
use bytes::Bytes;
use std::collections::BTreeSet;

/// One replica's part in agreeing on its group's log.
#[derive(Debug)]
pub struct Raft {
    pub(super) config: RaftConfig,
    /// The latest input's time.
    pub(super) now: Tick,
    pub(super) term: Term,
    /// The candidate that it voted for in `term`.
    pub(super) vote: Option<NodeId>,
    /// The term or the vote has changed since it was last handed out to be written.
    pub(super) hard_state_changed: bool,
    pub(super) role: Role,
    pub(super) log: Log,
    pub(super) gate: Gate,
    pub(super) timer: ElectionTimer,
    /// The peers to which there is no connection.
    pub(super) unreachable: BTreeSet<NodeId>,
    /// The newest read round of all leaderships of this replica.
    pub(super) newest_round: u64,
    pub(super) fetch_to_apply: FetchToApply,
    /// What the next [`Raft::ready`] hands out.
    pub(super) ready: Ready,
    pub(super) fault: Option<Fault>,
}

/// Where a command was appended. It names the command as long as the entry is not replaced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Proposed {
    /// The entry that carries it.
    pub id: EntryId,
    /// Its number among the commands of the group.
    pub position: Position,
}

/// A proposal or a read that this replica cannot take, since it does not lead its group.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("this replica does not lead its group")]
pub struct NotLeader {
    /// The leader, as far as this replica knows.
    pub leader: Option<NodeId>,
}

impl Raft {
    /// A replica as recovery has found it, at time `now`.
    pub fn new(config: RaftConfig, recovered: Recovered, now: Tick) -> Self {
        let HardState { term, vote, committed } = recovered.hard_state;
        // The commit is a hint and no promise (safety A7). `Log::new` raises it to the floor.
        let committed = committed.min(recovered.terms.last().index);
        let log = Log::new(recovered.terms, recovered.tail, recovered.end, committed);
        assert!(
            config.voters.contains(config.node),
            "node {} has a replica of group {}, and is no member of it: {:?}",
            config.node,
            config.group,
            config.voters
        );
        assert!(
            log.last().term <= term,
            "an entry of term {} in a log of term {term}",
            log.last().term
        );
        let Window { messages, bytes } = config.window;
        assert!(messages > 0 && bytes > 0, "nothing fits into {:?}", config.window);
        let abstains_until = (config.abstains_until > now).then_some(config.abstains_until);
        let mut timer =
            ElectionTimer::new(config.election_ticks.clone(), abstains_until, config.seed);
        let is_fresh = term == Term(0) && log.last() == EntryId::default();
        if is_fresh && config.campaigns_first {
            timer.arm_now(now)
        } else {
            timer.arm(now)
        }
        Self {
            config,
            now,
            term,
            vote,
            hard_state_changed: false,
            role: Role::Follower(Follower::default()),
            log,
            gate: Gate::default(),
            timer,
            unreachable: BTreeSet::new(),
            newest_round: 0,
            fetch_to_apply: FetchToApply::None,
            ready: Ready::default(),
            fault: None,
        }
    }

    /// Time has reached [`Raft::deadline`].
    pub fn tick(&mut self, now: Tick) {
        self.now = now;
        if self.fault.is_some() {
            return;
        }
        if self.fetch_to_apply.is_retry_due(now) {
            self.fetch_to_apply = FetchToApply::None;
        }
        match self.role {
            Role::Leader(_) => self.tick_leader(),
            Role::Follower(_) | Role::Candidate(_) => self.tick_election(),
        }
    }

    /// When [`Raft::tick`] must be called next, if nothing else happens before.
    pub fn deadline(&self) -> Option<Tick> {
        if self.fault.is_some() {
            return None;
        }
        let of_role = match &self.role {
            Role::Leader(leader) => leader.deadline(self.retry_ticks()),
            Role::Follower(_) | Role::Candidate(_) => self.timer.deadline(),
        };
        [of_role, self.fetch_to_apply.retry()].into_iter().flatten().min()
    }

    /// Appends a command to the log, if this replica leads. The next [`Raft::ready`] sends and writes it,
    /// together with the other entries of the turn.
    ///
    /// # Errors
    /// [`NotLeader`]: the command was certainly not appended.
    pub fn propose(&mut self, command: Bytes) -> Result<Proposed, NotLeader> {
        match self.role {
            Role::Leader(_) if self.fault.is_none() => {
                let id = self.append_own(Payload::command(command));
                Ok(Proposed { id, position: self.log.end() })
            }
            _ => Err(NotLeader { leader: self.leader() }),
        }
    }

    /// Registers a read under the caller's name for it. It comes back in [`Ready::reads`] or in
    /// [`Ready::failed_reads`].
    ///
    /// # Errors
    /// [`NotLeader`].
    pub fn read(&mut self, read: u64) -> Result<(), NotLeader> {
        match &mut self.role {
            Role::Leader(leader) if self.fault.is_none() => {
                leader.reads.register(read, self.log.committed());
                Ok(())
            }
            _ => Err(NotLeader { leader: self.leader() }),
        }
    }

    /// The write and all writes before it are durable.
    pub fn appended(&mut self, now: Tick, write: WriteId) {
        self.now = now;
        self.log.completed(write);
        let kept = self.gate.open(write);
        self.redeem(kept);
        self.go_on();
        self.advance_commit();
    }

    /// The state machine has applied everything up to `index`.
    pub fn applied(&mut self, index: Index) {
        self.log.apply(index);
        let unsent = match &self.role {
            Role::Leader(leader) => leader.followers.values().map(|progress| progress.next).min(),
            Role::Follower(_) | Role::Candidate(_) => None,
        };
        self.log.evict(unsent.unwrap_or(Index(u64::MAX)), self.config.cache_bytes_max);
    }

    pub(super) fn fail(&mut self, fault: Fault) {
        crate::sometimes!("replica stopped by a fault");
        self.leave_leadership();
        self.role = Role::Follower(Follower::default());
        self.timer.stop();
        self.gate.clear();
        self.fault = Some(fault);
    }

    /// Whether there are committed entries that were not handed out to be applied.
    pub fn has_unapplied(&self) -> bool {
        self.log.to_apply().is_some()
    }

    /// Its term.
    pub fn term(&self) -> Term {
        self.term
    }

    /// The epoch of the group that this replica is part of.
    pub fn epoch(&self) -> GroupEpoch {
        self.config.epoch
    }

    /// The latest term that this replica has seen, in its epoch of the group.
    pub fn epoch_term(&self) -> EpochTerm {
        EpochTerm::new(self.config.epoch, self.term)
    }

    /// Its role.
    pub fn role(&self) -> RoleKind {
        match &self.role {
            Role::Follower(_) => RoleKind::Follower,
            Role::Candidate(candidate) if candidate.campaign == Campaign::PreVote => {
                RoleKind::PreCandidate
            }
            Role::Candidate(_) => RoleKind::Candidate,
            Role::Leader(_) => RoleKind::Leader,
        }
    }

    /// The leader of its term, as far as it knows.
    pub fn leader(&self) -> Option<NodeId> {
        match &self.role {
            Role::Follower(follower) => follower.leader,
            Role::Candidate(_) => None,
            Role::Leader(_) => Some(self.config.node),
        }
    }

    pub(super) fn leader_mut(&mut self) -> Option<&mut Leader> {
        match &mut self.role {
            Role::Leader(leader) => Some(leader),
            Role::Follower(_) | Role::Candidate(_) => None,
        }
    }

    /// The candidate that it voted for in its term.
    pub fn vote(&self) -> Option<NodeId> {
        self.vote
    }

    /// The voters and learners of its group.
    pub fn voters(&self) -> &Voters {
        &self.config.voters
    }

    /// Its last entry.
    pub fn last(&self) -> EntryId {
        self.log.last()
    }

    /// The last entry that is durable here.
    pub fn durable(&self) -> Index {
        self.log.durable()
    }

    /// The last entry known to be durable on a quorum.
    pub fn committed(&self) -> Index {
        self.log.committed()
    }

    /// The last entry that its state machine has applied.
    pub fn applied_index(&self) -> Index {
        self.log.applied()
    }

    /// The position of the last command of its log.
    pub fn end(&self) -> Position {
        self.log.end()
    }

    /// The term of its entry at `index`, `None` below the floor and beyond the last.
    pub fn term_of(&self, index: Index) -> Option<Term> {
        self.log.term(index)
    }

    /// Why it has stopped, if it has.
    pub fn fault(&self) -> Option<Fault> {
        self.fault
    }
}

#[cfg(test)]
impl Raft {
    /// Whether [`Raft::ready`] may have something to do. True a little too often.
    pub(super) fn has_ready(&self) -> bool {
        if self.fault.is_some() {
            return !self.ready.is_empty();
        }
        let leads = matches!(self.role, Role::Leader(_));
        leads
            || self.hard_state_changed
            || self.log.has_unwritten()
            || self.gate.has_fresh()
            || (self.log.to_apply().is_some() && self.fetch_to_apply == FetchToApply::None)
            || !self.ready.is_empty()
    }
}
