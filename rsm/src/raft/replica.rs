//! [`Raft`]: one replica, and those of its inputs that are not messages.

use super::{
    Fault, RaftConfig, Ready, Recovered, RoleKind, Voters, Window,
    fetch::FetchToApply,
    fitness::Fitness,
    gate::Gate,
    log::Log,
    role::{Campaign, Follower, Leader, Role},
    timer::ElectionTimer,
};
use crate::{
    entry::{Commands, Payload},
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
    pub(super) fitness: Fitness,
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
        let fitness = Fitness::of_start(&log);
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
            fitness,
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
    /// [`NotLeader`]: the command was certainly not appended. Also while this replica hands its group over: an entry
    /// that the next leader lacks would keep it from being elected.
    pub fn propose(&mut self, command: Bytes) -> Result<Proposed, NotLeader> {
        self.propose_all(Commands::from(command))
    }

    /// Appends commands as one entry, as [`Raft::propose`] does one. The result names the last of them.
    ///
    /// # Errors
    /// [`NotLeader`]: none of them was appended.
    pub fn propose_all(&mut self, commands: Commands) -> Result<Proposed, NotLeader> {
        match &self.role {
            Role::Leader(leader) if self.fault.is_none() && leader.transfer.is_none() => {
                let id = self.append_own(Payload::Commands(commands));
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
        // Its own vote no longer waits for these entries.
        self.tell_to_campaign();
        self.evict();
    }

    /// The state machine has applied everything up to `index`.
    pub fn applied(&mut self, index: Index) {
        self.log.apply(index);
        self.note_applied();
        self.tell_to_campaign();
        self.evict();
    }

    /// Drops entries from memory that nobody is about to need. A follower without a connection needs none: it
    /// is served from the WAL when it is back. So a node that is down costs no memory.
    pub(super) fn evict(&mut self) {
        if self.has_stopped_applying() {
            // Nothing that is durable is needed: this replica neither applies nor leads.
            return self.log.evict_durable();
        }
        if !self.log.has_evictable() {
            return;
        }
        let unsent = match &self.role {
            Role::Leader(leader) => {
                let connected = leader.followers.values().filter(|progress| progress.connected);
                connected.map(|progress| progress.next).min()
            }
            Role::Follower(_) | Role::Candidate(_) => None,
        };
        self.log.evict(unsent.unwrap_or(Index(u64::MAX)), self.config.cache_bytes_max);
    }

    /// Drops every entry from memory that can be read from the WAL again. The shard asks for this when the
    /// entries of its groups take more memory than they may together.
    pub fn evict_durable(&mut self) {
        self.log.evict_durable();
    }

    /// What its entries take in memory, those that wait to become durable included. The cost of the call does
    /// not depend on how many there are.
    pub fn held_bytes(&self) -> usize {
        self.log.held_bytes()
    }

    pub(super) fn fail(&mut self, fault: Fault) {
        crate::sometimes!("replica stopped by a fault");
        self.leave_leadership();
        self.role = Role::Follower(Follower::default());
        self.timer.stop();
        self.gate.clear();
        self.log.evict_durable();
        self.fault = Some(fault);
    }

    /// Whether [`Raft::ready`] would do anything now. If not, an input needs no call of it: most replies of followers,
    /// for one, come when the entry is committed already. What only time brings is told by [`Raft::deadline`].
    pub fn has_ready(&self) -> bool {
        if !self.ready.is_empty() {
            return true;
        }
        let has_work = self.hard_state_changed
            || self.log.has_unwritten()
            || self.gate.has_fresh()
            || (self.log.to_apply().is_some() && self.fetch_to_apply == FetchToApply::None)
            || self.has_to_send();
        has_work && self.fault.is_none()
    }

    /// Reads a word of each part of the replica that lies in memory of its own, so that the processor fetches them all at
    /// once. The result says nothing. With thousands of groups each of these parts is far from the processor, and a step
    /// would wait for one after the other.
    pub fn look_ahead(&self) -> u64 {
        let of_role = match &self.role {
            Role::Leader(leader) => leader.followers.values().map(|it| it.next.0).max(),
            Role::Follower(_) | Role::Candidate(_) => None,
        };
        let member = self.config.voters.others(self.config.node).next();
        let (of_role, member) = (of_role.unwrap_or_default(), member.unwrap_or_default());
        of_role ^ u64::from(member.0) ^ self.log.look_ahead()
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

    /// The position of the last command that its state machine has applied, as of the latest page of entries that is
    /// applied as a whole.
    pub fn applied_end(&self) -> Position {
        self.log.applied_end()
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
mod tests {
    use super::*;
    use crate::{
        message::{Envelope, Message},
        raft::{
            FetchPurpose,
            harness::{Cluster, Options},
        },
    };

    const NOW: Tick = Tick(100);

    /// Node 1 of three, which leads, keeps up to a mebibyte for followers, and has 1,000 entries to send. Each
    /// follower gets one append at a time.
    fn leader() -> Raft {
        let window = Window { messages: 1, bytes: 1 };
        let options = Options { window, append_bytes_max: 1000, ..Options::default() };
        let mut raft = Cluster::led_by(NodeId(1), options).take(NodeId(1));
        for _ in 0..1000 {
            raft.propose(Bytes::from(vec![7; 100])).expect("it leads");
        }
        raft
    }

    fn answer(raft: &mut Raft, from: u32) {
        let (term, matched) = (raft.term(), raft.last().index);
        let (group, epoch, message) =
            (raft.config.group, raft.config.epoch, Message::AppendReply { matched });
        let (from, to) = (NodeId(from), NodeId(1));
        raft.step(NOW, Envelope { from, to, group, epoch, term, message });
    }

    /// All that is handed out is durable at once, node 2 has it too, and what is in memory is applied.
    fn settle(raft: &mut Raft) {
        loop {
            let ready = raft.ready();
            if let Some(append) = &ready.append {
                raft.appended(NOW, append.write);
                answer(raft, 2);
            }
            match ready.committed.last() {
                Some(last) => raft.applied(last.index),
                None if ready.append.is_none() => return,
                None => {}
            }
        }
    }

    /// Of the three that may hold an entry the second one commits it: what comes before and behind is no work.
    #[test]
    fn a_reply_that_commits_nothing_needs_no_step() {
        let options = Options { append_bytes_max: 1 << 20, ..Options::default() };
        let mut raft = Cluster::led_by(NodeId(1), options).take(NodeId(1));
        assert!(!raft.has_ready());
        raft.propose(Bytes::from_static(b"command")).expect("it leads");
        assert!(raft.has_ready());
        let write = raft.ready().append.expect("the entry").write;
        assert!(!raft.has_ready());
        raft.appended(NOW, write);
        assert!(!raft.has_ready(), "it is durable here, and nowhere else");
        answer(&mut raft, 2);
        assert!(raft.has_ready(), "it is committed");
        let last = raft.ready().committed.last().expect("the entry").index;
        raft.applied(last);
        answer(&mut raft, 3);
        assert!(!raft.has_ready(), "it was committed before");
        raft.read(7).expect("it leads");
        assert!(raft.has_ready(), "a round is to be sent");
        raft.ready();
        assert!(!raft.has_ready());
    }

    #[test]
    fn an_append_that_is_received_twice_needs_a_step_for_its_answer() {
        let mut raft = Cluster::led_by(NodeId(2), Options::default()).take(NodeId(1));
        assert!(!raft.has_ready());
        let (prev, committed) = (raft.last(), raft.committed());
        let message = Message::Append { prev, entries: Vec::new(), committed };
        let (group, epoch, term) = (raft.config.group, raft.config.epoch, raft.term());
        let (from, to) = (NodeId(2), NodeId(1));
        raft.step(NOW, Envelope { from, to, group, epoch, term, message });
        assert!(raft.has_ready(), "it has an answer to give");
        assert_eq!((raft.ready().messages.len(), raft.has_ready()), (1, false));
    }

    #[test]
    fn a_node_that_is_down_costs_its_leaders_no_memory() {
        let mut raft = leader();
        settle(&mut raft);
        let kept = raft.held_bytes();
        assert!(kept > 100_000, "{kept} bytes: node 3 is connected and lacks the entries");
        raft.disconnected(NOW, NodeId(3));
        assert!(raft.held_bytes() < 20_000, "{} bytes of {kept}", raft.held_bytes());
        raft.propose(Bytes::from(vec![7; 1 << 20])).expect("it leads");
        settle(&mut raft);
        assert!(raft.held_bytes() < 20_000, "{} bytes after one more", raft.held_bytes());
        // It comes back, and what it lacks is read from the log.
        raft.connected(NOW, NodeId(3));
        let fetches = raft.ready().fetches;
        assert_eq!(fetches[0].purpose, FetchPurpose::Send(NodeId(3)), "{fetches:?}");
    }

    #[test]
    fn a_leader_that_is_deposed_keeps_nothing_for_followers() {
        let mut raft = leader();
        settle(&mut raft);
        assert!(raft.held_bytes() > 100_000);
        raft.follow(Term(raft.term().0 + 1), None);
        assert!(raft.held_bytes() < 20_000, "{} bytes", raft.held_bytes());
    }

    /// A machine that is behind must not keep all that comes meanwhile in memory.
    #[test]
    fn entries_that_wait_to_be_applied_leave_the_memory_and_come_from_the_log() {
        let mut raft = leader();
        let write = raft.ready().append.expect("1,000 entries").write;
        raft.evict_durable();
        assert!(raft.held_bytes() > 100_000, "none is durable yet");
        raft.appended(NOW, write);
        answer(&mut raft, 2);
        raft.evict_durable();
        assert_eq!(raft.held_bytes(), 0);
        let ready = raft.ready();
        assert!(ready.committed.is_empty() && raft.has_unapplied());
        let purposes: Vec<_> = ready.fetches.iter().map(|fetch| fetch.purpose).collect();
        assert!(purposes.contains(&FetchPurpose::Apply), "{purposes:?}");
    }
}
