//! What a replica is told about the nodes of its peers: heartbeats that vouch for a leader, replies that
//! confirm one, and connections that come and go. See "One heartbeat serves many groups" in [`super`].

use super::{Raft, receive::TERM_MAX, role::Role};
use crate::{
    message::Message,
    types::{Index, NodeId, Term, Tick},
};

impl Raft {
    /// The heartbeat of the node of `leader` names this group with `term`. While heartbeats do so, this replica
    /// needs no election timer. Returns whether this replica follows `leader` in that term. If it does not, the
    /// leader must be told (safety R4).
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

    /// The node of `leader` does not vouch for this replica any more: the node was silent for the shortest
    /// election timeout, or lost its connection, or its heartbeat does not name this group.
    pub fn unvouch(&mut self, now: Tick, leader: NodeId) {
        self.now = now;
        if let Role::Follower(follower) = &mut self.role
            && follower.leader == Some(leader)
            && follower.vouched
        {
            crate::sometimes!("leader's node vouches no longer");
            follower.vouched = false;
            follower.heard = None;
            self.timer.arm_late(now);
        }
    }

    /// The node of `follower` has confirmed that its replica follows this one in this group and term.
    pub fn confirm(&mut self, now: Tick, follower: NodeId) {
        self.now = now;
        if let Some(progress) = self.follower_mut(follower) {
            progress.confirmed = true;
            // The heartbeats stop the follower's election timer, so the follower must also get entries.
            if !progress.connected {
                self.connected(now, follower);
            }
        }
    }

    /// The node of `follower` was silent for an election timeout, or does not confirm this group any more.
    pub fn unconfirm(&mut self, now: Tick, follower: NodeId) {
        self.now = now;
        if let Some(progress) = self.follower_mut(follower) {
            // The follower may have gone on to a higher term. Only a reply to a message tells its term,
            // so it is asked. What was sent to it is still on its way.
            if std::mem::take(&mut progress.confirmed) {
                progress.ask(now);
            }
            self.check_quorum();
        }
    }

    /// There is a new connection to the node of `peer`. What was sent on the last one may be lost. The caller
    /// reports this in every role, since a later leader starts from it.
    pub fn connected(&mut self, now: Tick, peer: NodeId) {
        self.now = now;
        self.unreachable.remove(&peer);
        if let Some(progress) = self.follower_mut(peer) {
            progress.connected = true;
            progress.restart();
        }
    }

    /// The connection to the node of `peer` is lost. The caller reports this in every role.
    pub fn disconnected(&mut self, now: Tick, peer: NodeId) {
        self.now = now;
        if self.is_other_member(peer) {
            self.unreachable.insert(peer);
        }
        if let Some(progress) = self.follower_mut(peer) {
            progress.connected = false;
            progress.restart();
            self.evict();
        }
    }

    /// An append to `follower` that begins behind `prev` was held back, or there was no room for it. The caller
    /// sends none of the appends to that follower that came after it, and reports each. They go out again after
    /// [`Raft::room`], and until then this replica sends the follower nothing. If the append only told of a commit,
    /// nothing else would show the loss: the reply to the append before looks the same (B33).
    pub fn unsent(&mut self, now: Tick, follower: NodeId, prev: Index) {
        self.now = now;
        if let Some(progress) = self.follower_mut(follower) {
            crate::sometimes!("append did not go out");
            progress.unsent(prev);
        }
    }

    /// There is room again for appends to `follower`.
    pub fn room(&mut self, now: Tick, follower: NodeId) {
        self.now = now;
        if let Some(progress) = self.follower_mut(follower) {
            progress.has_room = true;
        }
    }

    /// Whether entries for `follower` are being read from the log, or wait to be handed out by [`Raft::ready`].
    pub fn has_entries_to_come(&self, follower: NodeId) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        let waits = |message: &Message| matches!(message, Message::Append { entries, .. } if !entries.is_empty());
        leader.followers.get(&follower).is_some_and(|progress| progress.fetching)
            || self.ready.messages.iter().any(|it| it.to == follower && waits(&it.message))
    }

    /// Each peer has seen this start of the shard and found nothing missing, so this replica may vote (safety
    /// I4).
    pub fn trust(&mut self) {
        self.timer.trust();
    }

    /// `from` acts as the leader of this term. Returns false when that cannot be: two leaders in one term are a
    /// bug elsewhere, and no reason for a panic here (safety A6).
    pub(super) fn recognise(&mut self, from: NodeId) -> bool {
        match &mut self.role {
            Role::Leader(_) => return false,
            Role::Follower(follower) if follower.leader.is_some_and(|leader| leader != from) => {
                return false;
            }
            Role::Follower(follower) => {
                follower.leader = Some(from);
                follower.heard = Some(self.now);
                // Before the timer is armed, so that its timeout is not longer because of earlier failed
                // campaigns.
                self.timer.succeeded();
                if !follower.vouched {
                    self.timer.arm(self.now);
                }
            }
            Role::Candidate(_) => {
                crate::sometimes!("candidate gives way to the leader of its term");
                // The candidate's requests for votes are void. They name the end of a log that may change
                // now.
                self.gate.clear();
                self.timer.succeeded();
                self.follow(self.term, Some(from));
            }
        }
        true
    }

    /// Whether this replica has heard of a leader within the shortest election timeout.
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
