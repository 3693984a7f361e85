//! Elections: pre-vote, campaign, granting votes, and leaders that notice they have no quorum
//! (Raft paper 5.2, 5.4.1; thesis 4.2.3, 6.2 and 9.6).

use super::{
    Raft, RoleKind,
    gate::Promise,
    role::{Campaign, Candidate, Follower, Leader, Role},
    voters::{Ballots, Tally},
};
use crate::{
    entry::Payload,
    message::Message,
    types::{EntryId, NodeId, Term, Tick},
};

impl Raft {
    /// A peer acts that did not before. The replica that is to lead a fresh group first campaigns again:
    /// its first campaign may have found nobody there.
    pub fn campaign_if_fresh(&mut self, now: Tick) {
        self.now = now;
        let may = self.config.campaigns_first && self.term == Term(0) && !self.gate.is_waiting();
        if may && self.may_campaign() && !self.timer.abstains(now) && self.fault.is_none() {
            self.campaign_for(Campaign::PreVote);
        }
    }

    /// No leader was heard of in time.
    pub(super) fn tick_election(&mut self) {
        if !self.timer.is_due(self.now) {
            return;
        }
        if !self.may_campaign() {
            return self.timer.stop();
        }
        if self.gate.is_waiting() {
            crate::sometimes!("election timer stands still while a promise waits");
            // Whatever is asked for now would be stale when the disk lets it leave (safety A1).
            return self.timer.stand_still();
        }
        if let Role::Candidate(Candidate { campaign, .. }) = self.role {
            crate::sometimes!("campaign ran out of time");
            self.back_off(campaign);
        }
        self.campaign_for(Campaign::PreVote);
    }

    /// Only a voter may lead. A learner waits for the leader of the others, and needs no timer for that.
    pub(super) fn may_campaign(&self) -> bool {
        self.config.voters.is_voter(self.config.node)
    }

    /// A campaign led to no leader. To ask whether one would be voted for disturbs nobody, and waits for
    /// no disk: whoever nobody answered for long is to try as soon as ever when its network is back.
    fn back_off(&mut self, campaign: Campaign) {
        if campaign == Campaign::Vote {
            self.timer.failed();
        }
    }

    fn campaign_for(&mut self, campaign: Campaign) {
        self.role = Role::Candidate(Candidate { campaign, ballots: Ballots::default() });
        self.timer.arm(self.now);
        match campaign {
            Campaign::PreVote => {
                self.ask_all(campaign);
                // To ask oneself changes nothing that would have to be durable.
                self.count(self.config.node, true);
            }
            Campaign::Vote => {
                self.term = self.term.next();
                self.vote = Some(self.config.node);
                self.hard_state_changed = true;
                self.gate.clear();
                // The own vote, and asking for others on the ground of it, wait until term, vote and the
                // log that is claimed are durable: or a crash would let us vote again (safety A1, B04).
                self.ask_all(campaign);
                self.gate.push(Promise::OwnVote(self.term));
            }
        }
    }

    fn ask_all(&mut self, campaign: Campaign) {
        let last = self.log.last();
        let voters: Vec<NodeId> = self.config.voters.other_voters(self.config.node).collect();
        for voter in voters {
            match campaign {
                Campaign::PreVote => {
                    self.send_in(voter, self.term.next(), Message::PreVote { last })
                }
                Campaign::Vote => self.send_gated(voter, Message::Vote { last }),
            }
        }
    }

    /// Would we vote for `from` in `term`? Answering changes nothing here (B13).
    pub(super) fn on_pre_vote(&mut self, from: NodeId, term: Term, last: EntryId) {
        let granted = term > self.term
            && !self.hears_of_leader()
            && !self.timer.abstains(self.now)
            && last >= self.log.last();
        crate::sometimes!(!granted && self.hears_of_leader(), "pre-vote refused for a leader");
        // A refusal carries our own term: who is behind catches up by it (B09).
        let term = if granted { term } else { self.term };
        self.send_in(from, term, Message::PreVoteReply { granted });
    }

    pub(super) fn on_pre_vote_reply(&mut self, from: NodeId, term: Term, granted: bool) {
        // A grant names the term it is for; one for another campaign counts for nothing (B08, B14).
        if !granted || term == self.term.next() {
            self.count_if(Campaign::PreVote, from, granted);
        }
    }

    /// Votes at most once in a term, and never for a log that is behind ours.
    pub(super) fn on_vote(&mut self, from: NodeId, last: EntryId) {
        if self.timer.abstains(self.now) {
            crate::sometimes!("vote withheld after a restart");
            return;
        }
        let free = match self.vote {
            Some(vote) => vote == from,
            None => self.leader().is_none(),
        };
        if !free || last < self.log.last() {
            crate::sometimes!(last < self.log.last(), "vote refused to a log that is behind");
            crate::sometimes!(!free, "vote refused, given to another");
            return self.send(from, Message::VoteReply { granted: false });
        }
        if self.vote.is_none() {
            self.vote = Some(from);
            self.hard_state_changed = true;
        }
        // Once it leads, its vote request coming again must not start the timer that it keeps still.
        if self.leader().is_none() {
            self.timer.arm(self.now);
        }
        self.send_gated(from, Message::VoteReply { granted: true });
    }

    pub(super) fn on_vote_reply(&mut self, from: NodeId, granted: bool) {
        self.count_if(Campaign::Vote, from, granted);
    }

    /// Our vote for ourselves in `term` is durable.
    pub(super) fn count_own_vote(&mut self, term: Term) {
        if term == self.term {
            self.count_if(Campaign::Vote, self.config.node, true);
        }
    }

    fn count_if(&mut self, wanted: Campaign, voter: NodeId, granted: bool) {
        if matches!(&self.role, Role::Candidate(candidate) if candidate.campaign == wanted) {
            self.count(voter, granted);
        }
    }

    fn count(&mut self, voter: NodeId, granted: bool) {
        let Role::Candidate(candidate) = &mut self.role else { return };
        candidate.ballots.record(voter, granted);
        match (self.config.voters.tally(&candidate.ballots), candidate.campaign) {
            (Tally::Open, _) => {}
            (Tally::Won, Campaign::PreVote) => self.campaign_for(Campaign::Vote),
            (Tally::Won, Campaign::Vote) => self.lead(),
            (Tally::Lost, campaign) => {
                crate::sometimes!("campaign lost");
                self.back_off(campaign);
                self.follow(self.term, None);
            }
        }
    }

    fn lead(&mut self) {
        let mut leader = Leader::new(self.log.last().index.next(), self.newest_round);
        let Role::Candidate(candidate) = &self.role else {
            unreachable!("only a candidate is elected")
        };
        for node in self.config.voters.others(self.config.node) {
            let has_voted = candidate.ballots.answer(node) == Some(true);
            leader.follower(node, has_voted, !self.unreachable.contains(&node));
        }
        leader.confirmed_by = Some(Tick(self.now.0 + self.timer.shortest()));
        self.timer.stop();
        self.timer.succeeded();
        self.role = Role::Leader(leader);
        // By an entry of its own term a leader commits what came before (Raft paper 5.4.2, 8).
        self.append_own(Payload::Noop);
    }

    /// Steps down when no majority confirms that it leads: followers on the other side of a partition
    /// may have another leader, and clients here would wait for nothing (Raft thesis 6.2).
    pub(super) fn check_quorum(&mut self) {
        let (now, me) = (self.now, self.config.node);
        let Role::Leader(leader) = &mut self.role else { return };
        if leader.confirmed_by.is_some_and(|by| now < by) {
            return;
        }
        leader.confirmed_by = None;
        let is_confirmed = |voter| {
            voter == me || leader.followers.get(&voter).is_some_and(|progress| progress.confirmed)
        };
        if !self.config.voters.has_majority(is_confirmed) {
            crate::sometimes!("leader steps down without a quorum");
            self.follow(self.term, None);
        }
    }

    /// Becomes a follower in `term`, which is not below ours.
    pub(super) fn follow(&mut self, term: Term, leader: Option<NodeId>) {
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
    pub(super) fn leave_leadership(&mut self) {
        if let Role::Leader(leader) = &mut self.role {
            crate::sometimes!(
                leader.reads.awaited_since().is_some(),
                "reads abandoned with a leadership"
            );
            self.newest_round = leader.reads.newest();
            self.ready.failed_reads.extend(leader.reads.abandon());
        }
    }
}
