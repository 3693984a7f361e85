//! Elections: pre-votes, campaigns, votes, and leaders that step down without a quorum (Raft paper 5.2, 5.4.1;
//! thesis 4.2.3, 6.2 and 9.6).

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
    /// A peer acts that did not act before. The replica that is to lead a fresh group first campaigns again,
    /// since its first campaign may have reached nobody.
    pub fn campaign_if_fresh(&mut self, now: Tick) {
        self.now = now;
        let may = self.config.campaigns_first && self.term == Term(0) && !self.gate.is_waiting();
        if may && self.may_campaign() && !self.timer.abstains(now) && self.fault.is_none() {
            self.ask_for_pre_votes();
        }
    }

    /// The election timer may be due: no leader was heard of in time.
    pub(super) fn tick_election(&mut self) {
        if !self.timer.is_due(self.now) {
            return;
        }
        if !self.may_campaign() {
            if self.has_stopped_applying() {
                // Requests would go on to a leader that is gone.
                self.role = Role::Follower(Follower::default());
            }
            return self.timer.stop();
        }
        if self.gate.is_waiting() {
            crate::sometimes!("election timer stands still while a promise waits");
            // A request for votes would wait for the same disk, and be stale when it leaves (safety A1).
            return self.timer.stand_still();
        }
        if self.waits_for_a_fitter_one() {
            return;
        }
        if let Role::Candidate(Candidate { campaign, .. }) = self.role {
            crate::sometimes!("campaign ran out of time");
            self.back_off(campaign);
        }
        self.ask_for_pre_votes();
    }

    /// Only a voter may lead. A learner waits for the leader that the voters elect, and needs no timer for
    /// that. A replica whose state machine has stopped waits too (safety E6).
    pub(super) fn may_campaign(&self) -> bool {
        self.config.voters.is_voter(self.config.node) && !self.has_stopped_applying()
    }

    /// A campaign led to no leader. Only failed campaigns for votes double the timeout. A pre-vote disturbs
    /// nobody and waits for no disk, so a replica that was cut off for long campaigns as soon as ever when its
    /// network is back.
    fn back_off(&mut self, campaign: Campaign) {
        if campaign == Campaign::Vote {
            self.timer.failed();
        }
    }

    /// Asks whether votes in the next term would be given.
    fn ask_for_pre_votes(&mut self) {
        self.be_candidate(Campaign::PreVote);
        let (last, term) = (self.log.last(), self.term.next());
        for voter in self.other_voters() {
            self.send_in(voter, term, Message::PreVote { last });
        }
        // The own pre-vote changes nothing that would have to be durable.
        self.count(self.config.node, true);
    }

    /// Asks for votes in a new term. The leader that is heard of has asked for a forced campaign.
    fn ask_for_votes(&mut self, forced: bool) {
        self.be_candidate(Campaign::Vote);
        self.term = self.term.next();
        self.vote = Some(self.config.node);
        self.hard_state_changed = true;
        self.gate.clear();
        // The own vote and the requests for votes wait until the term, the vote and the log that the requests
        // name are durable. Otherwise this replica could vote for another candidate of the term after a crash
        // (safety A1, B04).
        let last = self.log.last();
        for voter in self.other_voters() {
            self.send_gated(voter, Message::Vote { last, forced });
        }
        self.gate.push(Promise::OwnVote(self.term));
    }

    fn be_candidate(&mut self, campaign: Campaign) {
        self.role = Role::Candidate(Candidate { campaign, ballots: Ballots::default() });
        self.timer.arm(self.now);
    }

    fn other_voters(&self) -> Vec<NodeId> {
        self.config.voters.other_voters(self.config.node).collect()
    }

    /// The leader wants this replica to lead after it. Nobody is asked whether the campaign would succeed: the
    /// leader has said so. A promise that waits for the disk is no reason to wait, since the requests for votes
    /// wait for the same write (safety A1).
    pub(super) fn on_timeout_now(&mut self, from: NodeId) {
        if !self.recognise(from) || !self.may_campaign() {
            return;
        }
        if self.timer.abstains(self.now) {
            crate::sometimes!("campaign that the leader asked for withheld after a restart");
            return;
        }
        if self.is_unfit() {
            crate::sometimes!("campaign that the leader asked for withheld, unfit to lead");
            return;
        }
        crate::sometimes!("campaign that the leader asked for");
        self.ask_for_votes(true);
    }

    /// Answers whether this replica would vote for `from` in `term`. The answer changes nothing here (B13).
    pub(super) fn on_pre_vote(&mut self, from: NodeId, term: Term, last: EntryId) {
        let granted = term > self.term
            && !self.hears_of_leader()
            && !self.timer.abstains(self.now)
            && last >= self.log.last();
        crate::sometimes!(!granted && self.hears_of_leader(), "pre-vote refused, leader known");
        // A refusal carries the own term, so a candidate that is behind catches up by it (B09).
        let term = if granted { term } else { self.term };
        self.send_in(from, term, Message::PreVoteReply { granted });
    }

    pub(super) fn on_pre_vote_reply(&mut self, from: NodeId, term: Term, granted: bool) {
        // A grant names the term that it is for. A grant for another campaign counts for nothing (B08,
        // B14).
        if !granted || term == self.term.next() {
            self.count_if(Campaign::PreVote, from, granted);
        }
    }

    /// Votes at most once in a term, and never for a candidate whose log is behind the own one.
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
            crate::sometimes!(
                last < self.log.last(),
                "vote refused, the candidate's log is behind"
            );
            crate::sometimes!(!free, "vote refused, another candidate has it");
            return self.send(from, Message::VoteReply { granted: false });
        }
        if self.vote.is_none() {
            self.vote = Some(from);
            self.hard_state_changed = true;
        }
        // The elected leader's request may come a second time. It must not start the timer that the
        // leader's heartbeats stopped.
        if self.leader().is_none() {
            self.timer.arm(self.now);
        }
        self.send_gated(from, Message::VoteReply { granted: true });
    }

    pub(super) fn on_vote_reply(&mut self, from: NodeId, granted: bool) {
        self.count_if(Campaign::Vote, from, granted);
    }

    /// The own vote in `term` is durable.
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
            (Tally::Won, Campaign::PreVote) => self.ask_for_votes(false),
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
        // A leader commits the entries of earlier terms by an entry of its own term (Raft paper 5.4.2, 8).
        self.append_own(Payload::Noop);
    }

    /// Steps down when no majority confirms that this replica leads. The followers on the other side of a
    /// partition may have another leader, and the clients on this side would wait for nothing (Raft thesis
    /// 6.2).
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

    /// Becomes a follower in `term`, which is not below the own one.
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
        // What a leader keeps for its followers.
        self.evict();
    }

    /// Gives up what only a leader has: its reads fail.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        raft::{
            Fault,
            harness::{Cluster, Options},
        },
        types::Index,
    };

    /// Three new replicas, of which the one of node 1 is to campaign first.
    fn fresh() -> Cluster {
        Cluster::new(Options { campaigns_first: Some(NodeId(1)), ..Options::default() })
    }

    fn after_news_of_a_peer(mut raft: Raft) -> RoleKind {
        raft.campaign_if_fresh(Tick(0));
        raft.role()
    }

    #[test]
    fn news_of_a_peer_lets_only_a_fresh_chosen_and_healthy_replica_campaign() {
        assert_eq!(after_news_of_a_peer(fresh().take(NodeId(1))), RoleKind::PreCandidate);
        let other = fresh().take(NodeId(2));
        assert_eq!(after_news_of_a_peer(other), RoleKind::Follower, "another is to lead");

        let mut abstaining = fresh();
        abstaining.crash(NodeId(1), 0);
        abstaining.restart(NodeId(1), 5);
        let abstaining = abstaining.take(NodeId(1));
        assert_eq!(after_news_of_a_peer(abstaining), RoleKind::Follower, "safety I4");

        let mut failed = fresh().take(NodeId(1));
        let (found, expected) = (EntryId::new(Term(2), Index(1)), EntryId::new(Term(1), Index(1)));
        failed.fail(Fault::WrongEntry { found, expected });
        assert_eq!(after_news_of_a_peer(failed), RoleKind::Follower, "it has stopped for good");

        let leader = Cluster::led_by(NodeId(1), Options::default()).take(NodeId(1));
        assert_eq!(after_news_of_a_peer(leader), RoleKind::Leader, "the group is not fresh");
    }
}
