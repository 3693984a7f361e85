//! Raft: one replica's part in agreeing on a group's log (Ongaro, Ousterhout: In search of an
//! understandable consensus algorithm, 2014; and Ongaro's thesis of the same year).
//!
//! [`Raft`] is sans-IO. In go messages ([`Raft::step`]), time ([`Raft::tick`]), proposals and reads
//! ([`Raft::propose`], [`Raft::read`]), completions ([`Raft::appended`], [`Raft::fetched`],
//! [`Raft::applied`]) and what the connection to a peer's node says ([`Raft::vouch`] and its
//! siblings). Out comes a [`Ready`], from [`Raft::ready`].
//!
//! # Storage is asynchronous
//! A [`Ready`] hands entries and hard state out to be written, and goes on. What vouches for
//! durability (a vote, asking for votes, the vote for oneself, acknowledging an append) waits in a
//! gate until [`Raft::appended`] says that the group's newest write is durable. A leader sends
//! entries before its own write of them, and counts itself only once that is durable
//! (Raft thesis 10.2.1).
//!
//! # Time is borrowed
//! A replica has no tick of its own: it names its next [`Raft::deadline`] and wants to be told then.
//! A follower whose leader's *node* is heard of, and names this group in its heartbeats, has none:
//! it is [`Raft::vouch`]ed for, and its timer runs only from [`Raft::unvouch`] on. In the same way a
//! leader is told when a follower's node confirms it, or falls silent. So an idle group costs
//! nothing, and one heartbeat per pair of shards serves all groups of that pair.

mod apply;
mod election;
mod gate;
mod invariants;
mod log;
mod progress;
mod read;
mod ready;
mod replication;
mod role;
mod terms;
mod timer;
mod voters;

#[cfg(test)]
mod harness;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod orders_test;
#[cfg(test)]
mod raft_test;
#[cfg(test)]
mod script;
#[cfg(test)]
mod script_test;

pub use progress::Window;
pub use read::ConfirmedRead;
pub use ready::{Append, Fetch, FetchPurpose, Ready};
pub use terms::Terms;
pub use voters::Voters;

use crate::{
    entry::{Entry, Payload},
    message::{Envelope, Message},
    types::{EntryId, GroupId, HardState, Index, NodeId, Term, Tick, WriteId},
};
use apply::FetchToApply;
use bytes::Bytes;
use gate::{Gate, Promise};
use log::Log;
use role::{Campaign, Follower, Leader, Role};
use std::{collections::BTreeSet, ops::Range};
use timer::ElectionTimer;

/// What a replica is told when it is made.
#[derive(Clone, Debug)]
pub struct RaftConfig {
    /// Its group.
    pub group: GroupId,
    /// Its node.
    pub node: NodeId,
    /// The voters and learners of the group, this node among them.
    pub voters: Voters,
    /// How long a follower hears of no leader before it campaigns, in ticks: random in this range.
    pub election_ticks: Range<u64>,
    /// After how many ticks followers that have nothing to receive are told of a commit.
    pub tell_commit_ticks: u64,
    /// How much may be on its way to one follower.
    pub window: Window,
    /// Bytes of entries in one append, about; a larger entry travels alone.
    pub append_bytes_max: usize,
    /// Bytes of entries handed out at once to be applied, about.
    pub apply_bytes_max: usize,
    /// Bytes of entries kept in memory for followers that lag; what is not yet durable and applied is
    /// kept beyond it.
    pub cache_bytes_max: usize,
    /// Whether it campaigns at once when the group is fresh.
    pub campaigns_first: bool,
    /// Until then it neither votes nor campaigns, unless [`Raft::trust`] is called before: its
    /// directory may have gone back, and a peer would notice (safety I4).
    pub abstains_until: Tick,
    /// For the random part of timeouts; differs from replica to replica.
    pub seed: u64,
}

/// What recovery has found of a replica: all of it is durable.
#[derive(Clone, Default, Debug)]
pub struct Recovered {
    /// Its term, vote and commit hint.
    pub hard_state: HardState,
    /// The terms of its whole log.
    pub terms: Terms,
    /// The end of its log, as far as it is at hand.
    pub tail: Vec<Entry>,
}

/// A proposal or a read that this replica cannot take, since it does not lead.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("this replica does not lead its group")]
pub struct NotLeader {
    /// Who does, as far as it knows.
    pub leader: Option<NodeId>,
}

/// Why a replica has stopped: another one, or the disk, has lost what was committed. It does nothing
/// any more, and nothing of its group must be served here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Fault {
    /// A leader sent another entry where this replica holds a committed one.
    #[error(
        "the leader {leader} of term {term} sent another entry in the place of the committed entry {ours}"
    )]
    CommittedConflict {
        /// Who sent it.
        leader: NodeId,
        /// Its term.
        term: Term,
        /// The committed entry.
        ours: EntryId,
    },
    /// The WAL gave an entry that is not the one that was written.
    #[error("the WAL gave {found} where the log holds {expected}")]
    WrongEntry {
        /// What came.
        found: EntryId,
        /// What the log holds at the place that was asked for.
        expected: EntryId,
    },
}

/// What a replica is, for those outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RoleKind {
    /// Follows, or waits for a leader.
    Follower,
    /// Asks whether it would get votes.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}

/// No election ever reaches this term. A message that names it or a later one is damaged, and to follow
/// it would leave no term to elect anybody in. Frames carry twice as much, so that whoever was brought close
/// to it can still campaign.
const TERM_MAX: Term = Term(1 << 61);

/// One replica's part in agreeing on its group's log.
#[derive(Debug)]
pub struct Raft {
    config: RaftConfig,
    /// The latest input's time.
    now: Tick,
    term: Term,
    /// Whom it voted for in `term`.
    vote: Option<NodeId>,
    /// Term or vote are not handed out to be written yet.
    hard_state_changed: bool,
    role: Role,
    log: Log,
    gate: Gate,
    timer: ElectionTimer,
    /// The peers that there is no connection to.
    unreachable: BTreeSet<NodeId>,
    /// The newest read round of any of its leaderships.
    newest_round: u64,
    fetch_to_apply: FetchToApply,
    /// What the next [`Raft::ready`] hands out.
    ready: Ready,
    fault: Option<Fault>,
}

impl Raft {
    /// A replica as recovery has found it, at time `now`.
    pub fn new(config: RaftConfig, recovered: Recovered, now: Tick) -> Self {
        let HardState { term, vote, committed } = recovered.hard_state;
        // The commit is a hint and no promise (safety A7).
        let committed = committed.min(recovered.terms.last().index);
        let log = Log::new(recovered.terms, recovered.tail, committed);
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

    /// A message of another replica of the group.
    pub fn step(&mut self, now: Tick, envelope: Envelope) {
        self.now = now;
        if self.fault.is_some() || !self.is_for_us(&envelope) {
            return;
        }
        let Envelope { from, term, message, .. } = envelope;
        if !self.meet_term(from, term, &message) {
            return;
        }
        match message {
            Message::PreVote { last } => self.on_pre_vote(from, term, last),
            Message::PreVoteReply { granted } => self.on_pre_vote_reply(from, term, granted),
            Message::Vote { last } => self.on_vote(from, last),
            Message::VoteReply { granted } => self.on_vote_reply(from, granted),
            Message::Append { prev, entries, committed } => {
                self.on_append(from, prev, entries, committed)
            }
            Message::AppendReply { matched } => self.on_append_reply(from, matched),
            Message::AppendReject { prev, hint } => self.on_append_reject(from, prev, hint),
            Message::ReadProbe { round } => self.on_read_probe(from, round),
            Message::ReadProbeReply { round } => self.on_read_probe_reply(from, round),
            // Its term has been met already, and there is nothing else to it.
            Message::Stale => {}
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

    /// Appends a command to the log, if this replica leads. It is sent and written at the next
    /// [`Raft::ready`], together with all others of the turn.
    ///
    /// # Errors
    /// [`NotLeader`]: certainly not appended.
    pub fn propose(&mut self, command: Bytes) -> Result<EntryId, NotLeader> {
        match self.role {
            Role::Leader(_) if self.fault.is_none() => {
                Ok(self.append_own(Payload::Command(command)))
            }
            _ => Err(NotLeader { leader: self.leader() }),
        }
    }

    /// Registers a read under the caller's name for it; it comes back in [`Ready::reads`], or in
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

    /// The heartbeat of `leader`'s node names this group, with `term`: as long as it does, no timer
    /// needs to run. Returns whether this replica follows it in that term; if not, it must be
    /// told so (safety R4).
    pub fn vouch(&mut self, now: Tick, leader: NodeId, term: Term) -> bool {
        self.now = now;
        let is_term_sound = (self.term..TERM_MAX).contains(&term) && term > Term(0);
        if self.fault.is_some() || !is_term_sound || !self.is_other_member(leader) {
            return false;
        }
        if term > self.term {
            self.follow(term, Some(leader));
        }
        if !self.recognise(leader) {
            return false;
        }
        if let Role::Follower(follower) = &mut self.role {
            follower.vouched = true;
            self.timer.stop();
        }
        true
    }

    /// `leader`'s node does not vouch for it any more: it was silent for the shortest election
    /// timeout, or lost its connection, or its heartbeat does not name this group.
    pub fn unvouch(&mut self, now: Tick, leader: NodeId) {
        self.now = now;
        if let Role::Follower(follower) = &mut self.role
            && follower.leader == Some(leader)
            && follower.vouched
        {
            crate::sometimes!("leader vouches no more");
            follower.vouched = false;
            follower.heard = None;
            self.timer.arm_late(now);
        }
    }

    /// The node of `follower` has confirmed that it follows us in this group and term.
    pub fn confirm(&mut self, now: Tick, follower: NodeId) {
        self.now = now;
        if let Some(progress) = self.follower_mut(follower) {
            progress.confirmed = true;
            // A follower that we keep quiet by heartbeats must also get entries.
            if !progress.connected {
                self.connected(now, follower);
            }
        }
    }

    /// The node of `follower` was silent for an election timeout, or does not confirm this group.
    pub fn unconfirm(&mut self, now: Tick, follower: NodeId) {
        self.now = now;
        if let Some(progress) = self.follower_mut(follower) {
            // It may have gone on to a higher term, and would never say so to a leader that is silent.
            if std::mem::take(&mut progress.confirmed) {
                progress.restart();
            }
            self.check_quorum();
        }
    }

    /// There is a new connection to the node of `peer`: what was sent on the last one may be lost.
    /// To be told whatever the role is: who becomes the leader later goes by it.
    pub fn connected(&mut self, now: Tick, peer: NodeId) {
        self.now = now;
        self.unreachable.remove(&peer);
        if let Some(progress) = self.follower_mut(peer) {
            progress.connected = true;
            progress.restart();
        }
    }

    /// The connection to the node of `peer` is lost. To be told whatever the role is.
    pub fn disconnected(&mut self, now: Tick, peer: NodeId) {
        self.now = now;
        if self.is_other_member(peer) {
            self.unreachable.insert(peer);
        }
        if let Some(progress) = self.follower_mut(peer) {
            progress.connected = false;
            progress.restart();
        }
    }

    /// An append to `follower` was held back, or there was no room for it: it is lost, and sent again after a
    /// while. Nothing else would tell, if it only told of a commit: the answer to the append before looks
    /// just like its own (B33).
    pub fn unsent(&mut self, now: Tick, follower: NodeId) {
        self.now = now;
        if let Some(progress) = self.follower_mut(follower) {
            progress.stall(now);
        }
    }

    /// Each peer has seen this start and found nothing missing: it may vote (safety I4).
    pub fn trust(&mut self) {
        self.timer.trust();
    }

    /// Everything that is to be done now. [`Raft::has_ready`] says whether that is anything.
    pub fn ready(&mut self) -> Ready {
        if self.fault.is_none() {
            self.replicate();
            self.ask_readers();
            self.hand_out_write();
            self.hand_out_committed();
        }
        invariants::check(self);
        std::mem::take(&mut self.ready)
    }

    /// Whether [`Raft::ready`] may have something to do. Cheap, and true a little too often.
    pub fn has_ready(&self) -> bool {
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

    /// Whether committed entries are not handed out to be applied.
    pub fn has_unapplied(&self) -> bool {
        self.log.to_apply().is_some()
    }

    /// The write, and all before it, is durable.
    pub fn appended(&mut self, now: Tick, write: WriteId) {
        self.now = now;
        self.log.completed(write);
        let kept = self.gate.open(write);
        self.redeem(kept);
        self.go_on();
        self.advance_commit();
    }

    /// Entries that were asked for, from the start of the range on; none when the WAL could not give
    /// them.
    pub fn fetched(&mut self, purpose: FetchPurpose, entries: Vec<Entry>) {
        if self.fault.is_some() {
            return;
        }
        let Some(first) = entries.first().map(|entry| entry.index) else {
            return self.fetch_failed(purpose);
        };
        let wrong = entries.iter().enumerate().find(|(i, entry)| {
            entry.index != Index(first.0 + *i as u64) || !self.log.has(entry.id())
        });
        match (purpose, wrong) {
            // What is committed is never truncated: this is damage.
            (FetchPurpose::Apply, Some((i, entry))) => self.fail(Fault::WrongEntry {
                found: entry.id(),
                expected: EntryId::new(
                    self.log.term(Index(first.0 + i as u64)).unwrap_or_default(),
                    entry.index,
                ),
            }),
            (FetchPurpose::Apply, None) => self.fetched_to_apply(entries),
            // They were truncated meanwhile, or the leadership is over.
            (FetchPurpose::Send(follower), Some(_)) => {
                self.fetch_failed(FetchPurpose::Send(follower))
            }
            (FetchPurpose::Send(follower), None) => self.send_fetched(follower, entries),
        }
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

    /// Its term.
    pub fn term(&self) -> Term {
        self.term
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

    /// Who leads in its term, as far as it knows.
    pub fn leader(&self) -> Option<NodeId> {
        match &self.role {
            Role::Follower(follower) => follower.leader,
            Role::Candidate(_) => None,
            Role::Leader(_) => Some(self.config.node),
        }
    }

    /// Whether it leads, and has committed an entry of its term: its commit index is the group's.
    pub fn has_committed_in_term(&self) -> bool {
        matches!(&self.role, Role::Leader(leader) if self.log.committed() >= leader.noop)
    }

    /// The voters and learners of its group.
    pub fn voters(&self) -> &Voters {
        &self.config.voters
    }

    /// The last entry known to be durable on a quorum.
    pub fn committed(&self) -> Index {
        self.log.committed()
    }

    /// The last entry that its state machine has applied.
    pub fn applied_index(&self) -> Index {
        self.log.applied()
    }

    /// The last entry that is durable here.
    pub fn durable(&self) -> Index {
        self.log.durable()
    }

    /// Its last entry.
    pub fn last(&self) -> EntryId {
        self.log.last()
    }

    /// The term of its entry at `index`, `None` beyond the last.
    pub fn term_of(&self, index: Index) -> Option<Term> {
        self.log.term(index)
    }

    /// Whom it voted for in its term.
    pub fn vote(&self) -> Option<NodeId> {
        self.vote
    }

    /// Bytes of entries in memory.
    pub fn cache_bytes(&self) -> usize {
        self.log.cache_bytes()
    }

    /// Why it has stopped, if it has.
    pub fn fault(&self) -> Option<Fault> {
        self.fault
    }

    fn is_for_us(&self, envelope: &Envelope) -> bool {
        envelope.group == self.config.group
            && envelope.term < TERM_MAX
            && envelope.to == self.config.node
            && self.is_other_member(envelope.from)
    }

    fn is_other_member(&self, node: NodeId) -> bool {
        node != self.config.node && self.config.voters.contains(node)
    }

    /// Compares the sender's term with ours. Whether the message is to be looked at further.
    fn meet_term(&mut self, from: NodeId, term: Term, message: &Message) -> bool {
        match message {
            // These speak of a term to come and change none (Raft thesis 9.6).
            Message::PreVote { .. } | Message::PreVoteReply { granted: true } => return true,
            // A leader that is heard of protects itself from a node that missed it (Raft thesis 4.2.3).
            Message::Vote { .. } if term > self.term && self.hears_of_leader() => return false,
            _ => {}
        }
        if term > self.term {
            let leader = matches!(message, Message::Append { .. } | Message::ReadProbe { .. })
                .then_some(from);
            self.follow(term, leader);
        } else if term < self.term {
            self.answer_stale(from, message);
            return false;
        }
        true
    }

    /// A sender that acts in an older term must learn of ours, or it might wait for ever.
    fn answer_stale(&mut self, from: NodeId, message: &Message) {
        match message {
            Message::Vote { .. } => self.send(from, Message::VoteReply { granted: false }),
            Message::Append { .. } | Message::ReadProbe { .. } => self.send(from, Message::Stale),
            _ => {}
        }
    }

    /// Becomes a follower in `term`, which is not below ours.
    fn follow(&mut self, term: Term, leader: Option<NodeId>) {
        assert!(term >= self.term, "term {term} after {}", self.term);
        if term > self.term {
            crate::sometimes!(self.role() == RoleKind::Leader, "leader deposed by a higher term");
            self.term = term;
            self.vote = None;
            self.hard_state_changed = true;
            self.gate.clear();
        }
        self.leave_leadership();
        let heard = leader.map(|_| self.now);
        self.role = Role::Follower(Follower { leader, vouched: false, heard });
        self.timer.arm(self.now);
    }

    /// Gives up what only a leader has.
    fn leave_leadership(&mut self) {
        if let Role::Leader(leader) = &mut self.role {
            crate::sometimes!(
                leader.reads.awaited_since().is_some(),
                "reads abandoned with a leadership"
            );
            self.newest_round = leader.reads.newest();
            self.ready.failed_reads.extend(leader.reads.abandon());
        }
    }

    /// `from` acts as the leader of our term. False when that cannot be: two leaders in one term are
    /// another one's mistake, and no reason to fall over (safety A6).
    fn recognise(&mut self, from: NodeId) -> bool {
        match &mut self.role {
            Role::Leader(_) => return false,
            Role::Follower(follower) if follower.leader.is_some_and(|leader| leader != from) => {
                return false;
            }
            Role::Follower(follower) => {
                follower.leader = Some(from);
                follower.heard = Some(self.now);
                // Before the timer is armed: the failed campaigns of before are over.
                self.timer.succeeded();
                if !follower.vouched {
                    self.timer.arm(self.now);
                }
            }
            Role::Candidate(_) => {
                crate::sometimes!("candidate gives way to the leader of its term");
                // Its requests for votes are void, and would speak of a log that may change now.
                self.gate.clear();
                self.timer.succeeded();
                self.follow(self.term, Some(from));
            }
        }
        true
    }

    /// Whether a leader was heard of within the shortest election timeout.
    fn hears_of_leader(&self) -> bool {
        match &self.role {
            Role::Leader(_) => true,
            Role::Candidate(_) => false,
            Role::Follower(follower) => {
                let recent = |heard: Tick| self.now.0 < heard.0 + self.timer.shortest();
                follower.leader.is_some()
                    && (follower.vouched || follower.heard.is_some_and(recent))
            }
        }
    }

    fn leader_mut(&mut self) -> Option<&mut Leader> {
        match &mut self.role {
            Role::Leader(leader) => Some(leader),
            Role::Follower(_) | Role::Candidate(_) => None,
        }
    }

    fn envelope(&self, to: NodeId, term: Term, message: Message) -> Envelope {
        Envelope { from: self.config.node, to, group: self.config.group, term, message }
    }

    /// A message that promises nothing about what is durable here.
    fn send(&mut self, to: NodeId, message: Message) {
        self.send_in(to, self.term, message);
    }

    fn send_in(&mut self, to: NodeId, term: Term, message: Message) {
        let envelope = self.envelope(to, term, message);
        self.ready.messages.push(envelope);
    }

    /// A message that leaves only once everything it rests on is durable (safety A1, A2).
    fn send_gated(&mut self, to: NodeId, message: Message) {
        let envelope = self.envelope(to, self.term, message);
        self.gate.push_message(envelope);
    }

    /// Promises whose ground is durable now.
    fn redeem(&mut self, promises: Vec<Promise>) {
        for promise in promises {
            match promise {
                Promise::Message(envelope) => self.ready.messages.push(envelope),
                Promise::OwnVote(term) => self.count_own_vote(term),
            }
        }
    }

    fn hand_out_write(&mut self) {
        if self.hard_state_changed || self.log.has_unwritten() {
            // A crash may leave the hard state without the entries that are written with it, and what they
            // replace would count as committed (safety A7).
            let committed = self.log.committed().min(self.log.written());
            let (term, vote) = (self.term, self.vote);
            let hard_state = self.hard_state_changed.then_some(HardState { term, vote, committed });
            self.hard_state_changed = false;
            let (write, entries) = self.log.write();
            self.ready.append = Some(Append { write, hard_state, entries });
        }
        crate::sometimes!(
            self.ready.append.is_none()
                && self.gate.has_fresh()
                && self.log.newest_outstanding().is_some(),
            "promise waits for an older write"
        );
        let free = self.gate.seal(self.log.newest_outstanding());
        self.redeem(free);
        self.go_on();
    }

    /// Lets an election timer that stood still run again, if all promises are kept.
    fn go_on(&mut self) {
        if !self.gate.is_waiting() {
            self.timer.go_on(self.now);
        }
    }

    /// It is tried again after a while, not at once: the disk may need longer than that to recover.
    fn fetch_failed(&mut self, purpose: FetchPurpose) {
        let now = self.now;
        match purpose {
            FetchPurpose::Apply => {
                let at = Tick(now.0 + self.retry_ticks());
                self.fetch_to_apply = FetchToApply::RetryAt(at);
            }
            FetchPurpose::Send(follower) => {
                if let Some(progress) = self.follower_mut(follower) {
                    progress.fetching = false;
                    progress.stall(now);
                }
            }
        }
    }

    fn fail(&mut self, fault: Fault) {
        crate::sometimes!("replica stopped by a fault");
        self.leave_leadership();
        self.role = Role::Follower(Follower::default());
        self.timer.stop();
        self.gate.clear();
        self.fault = Some(fault);
    }
}
