//! What leaves a replica: messages, the write of a turn, and the promises that wait in the gate for it.

use super::{Append, Raft, Ready, gate::Promise, invariants};
use crate::{
    message::{Envelope, Message},
    types::{HardState, NodeId, Term},
};

impl Raft {
    /// Takes everything that is to be done now.
    pub fn ready(&mut self) -> Ready {
        let had_ready = !invariants::are_deep() || self.has_ready();
        if self.fault.is_none() {
            self.replicate();
            self.ask_readers();
            self.hand_out_write();
            self.hand_out_committed();
        }
        invariants::check(self);
        assert!(
            had_ready || self.ready.is_empty(),
            "ready: nothing was announced: {:?}",
            self.ready
        );
        std::mem::take(&mut self.ready)
    }

    pub(super) fn hand_out_write(&mut self) {
        if self.hard_state_changed || self.log.has_unwritten() {
            // A crash may leave the hard state without the entries that are written with it. The entries
            // that these replace would then count as committed (safety A7).
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

    /// Keeps promises: what they rest on is durable now.
    pub(super) fn redeem(&mut self, promises: Vec<Promise>) {
        for promise in promises {
            match promise {
                Promise::Message(envelope) => self.ready.messages.push(envelope),
                Promise::OwnVote(term) => self.count_own_vote(term),
            }
        }
    }

    /// Lets an election timer that stood still run again, if no promise waits any more.
    pub(super) fn go_on(&mut self) {
        if !self.gate.is_waiting() {
            self.timer.go_on(self.now);
        }
    }

    /// Sends a message that promises nothing about what is durable here.
    pub(super) fn send(&mut self, to: NodeId, message: Message) {
        self.send_in(to, self.term, message);
    }

    pub(super) fn send_in(&mut self, to: NodeId, term: Term, message: Message) {
        let envelope = self.envelope(to, term, message);
        self.ready.messages.push(envelope);
    }

    /// Sends a message once everything that it rests on is durable (safety A1, A2).
    pub(super) fn send_gated(&mut self, to: NodeId, message: Message) {
        let envelope = self.envelope(to, self.term, message);
        self.gate.push_message(envelope);
    }

    pub(super) fn envelope(&self, to: NodeId, term: Term, message: Message) -> Envelope {
        let (group, epoch) = (self.config.group, self.config.epoch);
        Envelope { from: self.config.node, to, group, epoch, term, message }
    }
}
