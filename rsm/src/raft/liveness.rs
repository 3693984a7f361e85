//! What a replica is told of its peers' nodes: heartbeats that vouch for a leader, answers that confirm one,
//! and connections that come and go. See "Time is borrowed" in [`super`].

use super::{Raft, receive::TERM_MAX, role::Role};
use crate::types::{NodeId, Term, Tick};

impl Raft {
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

    /// `from` acts as the leader of our term. False when that cannot be: two leaders in one term are
    /// another one's mistake, and no reason to fall over (safety A6).
    pub(super) fn recognise(&mut self, from: NodeId) -> bool {
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
    pub(super) fn hears_of_leader(&self) -> bool {
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
}
