//! A message comes in: whether it counts, what its term means (Raft paper 5.1), and which handler gets it.

use super::Raft;
use crate::{
    message::{Envelope, Message},
    types::{NodeId, Term, Tick},
};

/// No election ever reaches this term. A message that names it or a later one is damaged. A replica that
/// followed such a term would leave no term for the next election. Frames carry terms up to twice this one, so
/// a replica that was brought close to it can still campaign.
pub(super) const TERM_MAX: Term = Term(1 << 61);

impl Raft {
    /// Handles a message of another replica of the group.
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
            Message::Vote { last, .. } => self.on_vote(from, last),
            Message::VoteReply { granted } => self.on_vote_reply(from, granted),
            Message::Append { prev, entries, committed } => {
                self.on_append(from, prev, entries, committed)
            }
            Message::AppendReply { matched } => self.on_append_reply(from, matched),
            Message::AppendReject { prev, hint } => self.on_append_reject(from, prev, hint),
            Message::ReadProbe { round } => self.on_read_probe(from, round),
            Message::ReadProbeReply { round } => self.on_read_probe_reply(from, round),
            Message::TimeoutNow => self.on_timeout_now(from),
            // The term of the message was handled above, and the message says nothing else.
            Message::Stale => {}
        }
    }

    pub(super) fn is_for_us(&self, envelope: &Envelope) -> bool {
        // Safety M10: the epoch comes first. A term of another epoch is not compared with ours.
        envelope.group == self.config.group
            && envelope.epoch == self.config.epoch
            && envelope.term < TERM_MAX
            && envelope.to == self.config.node
            && self.is_other_member(envelope.from)
    }

    pub(super) fn is_other_member(&self, node: NodeId) -> bool {
        node != self.config.node && self.config.voters.contains(node)
    }

    /// Compares the sender's term with the own one. Returns whether the message is to be handled further.
    pub(super) fn meet_term(&mut self, from: NodeId, term: Term, message: &Message) -> bool {
        match message {
            // These messages name the term of an election to come. They change no term (Raft thesis 9.6).
            Message::PreVote { .. } | Message::PreVoteReply { granted: true } => return true,
            // A candidate that missed the leader does not depose it: voters that hear of the leader drop
            // the request (Raft thesis 4.2.3), unless the leader asked for it (Raft thesis 3.10).
            Message::Vote { forced: false, .. } if term > self.term && self.hears_of_leader() => {
                return false;
            }
            _ => {}
        }
        if term > self.term {
            let leader = is_of_a_leader(message).then_some(from);
            self.follow(term, leader);
        } else if term < self.term {
            self.answer_stale(from, message);
            return false;
        }
        true
    }

    /// A sender that acts in an older term must learn of the newer one, or it might wait for ever.
    pub(super) fn answer_stale(&mut self, from: NodeId, message: &Message) {
        match message {
            Message::Vote { .. } => self.send(from, Message::VoteReply { granted: false }),
            message if is_of_a_leader(message) => self.send(from, Message::Stale),
            _ => {}
        }
    }
}

/// Whether only the leader of the envelope's term sends it.
fn is_of_a_leader(message: &Message) -> bool {
    matches!(message, Message::Append { .. } | Message::ReadProbe { .. } | Message::TimeoutNow)
}
