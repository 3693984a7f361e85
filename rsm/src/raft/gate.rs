//! Promises that must not leave before what they promise is durable (safety A1, A2).
//!
//! A promise waits for the *newest* write of its group that has not completed, even if its own turn wrote
//! nothing. An append that is received twice is acknowledged only once the first copy is durable (B22).

use super::check::{Checked, ensure};
use crate::{
    message::{Envelope, Message},
    types::{Term, WriteId},
};
use std::collections::VecDeque;

/// Something that counts only once the state that it rests on is durable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Promise {
    /// A message that vouches for what is durable here.
    Message(Envelope),
    /// The candidate's vote for itself, in this term.
    OwnVote(Term),
}

/// The promises that wait, in the order in which they were made.
#[derive(Default, Debug)]
pub(super) struct Gate {
    /// Promises made since the last write was handed out. They may depend on what the next write holds.
    fresh: Vec<Promise>,
    /// Promises that wait for a write each. The writes are in order.
    waiting: VecDeque<(WriteId, Promise)>,
}

impl Gate {
    /// What is always true of the promises of a replica in `term`, when `newest` is its newest write that has not
    /// completed. Names what is not.
    pub(super) fn check_deeply(&self, term: Term, newest: Option<WriteId>) -> Checked {
        let Self { fresh, waiting } = self;
        ensure!(
            waiting.iter().is_sorted_by(|a, b| a.0 <= b.0),
            "gate: promises wait out of order: {waiting:?}"
        );
        ensure!(
            waiting.back().is_none_or(|(write, _)| Some(*write) <= newest),
            "gate: a promise waits for a write that is not under way, {newest:?} is the newest: {waiting:?}"
        );
        let promises = waiting.iter().map(|(_, promise)| promise).chain(fresh);
        for promise in promises {
            let of = match promise {
                Promise::Message(envelope) => envelope.term,
                Promise::OwnVote(term) => *term,
            };
            ensure!(of == term, "gate: a promise of term {of} in term {term}: {promise:?}");
        }
        Ok(())
    }

    /// Whether promises wait.
    pub(super) fn is_waiting(&self) -> bool {
        !self.fresh.is_empty() || !self.waiting.is_empty()
    }

    /// Whether promises were made since the last [`Gate::seal`].
    pub(super) fn has_fresh(&self) -> bool {
        !self.fresh.is_empty()
    }

    /// Adds a promise.
    pub(super) fn push(&mut self, promise: Promise) {
        self.fresh.push(promise);
    }

    /// Adds a message. Of several acknowledgements in a row only the last is kept, since it covers the others.
    pub(super) fn push_message(&mut self, envelope: Envelope) {
        if let Message::AppendReply { matched } = envelope.message
            && let Some(Promise::Message(last)) = self.fresh.last_mut()
            && let Message::AppendReply { matched: earlier } = &mut last.message
            && (last.to, last.term) == (envelope.to, envelope.term)
        {
            *earlier = matched.max(*earlier);
            return;
        }
        self.push(Promise::Message(envelope));
    }

    /// All that is to be written has been handed out. From here on the fresh promises wait for `newest`, the
    /// newest write that has not completed. Without such a write everything is durable, and they are free.
    pub(super) fn seal(&mut self, newest: Option<WriteId>) -> Vec<Promise> {
        let fresh = std::mem::take(&mut self.fresh);
        match newest {
            None => fresh,
            Some(write) => {
                self.waiting.extend(fresh.into_iter().map(|promise| (write, promise)));
                Vec::new()
            }
        }
    }

    /// Everything up to `write` is durable. Frees the promises that waited for it.
    pub(super) fn open(&mut self, write: WriteId) -> Vec<Promise> {
        crate::sometimes!(
            self.waiting.iter().any(|(id, _)| *id > write),
            "promise waits for a younger write"
        );
        let free = self.waiting.partition_point(|(id, _)| *id <= write);
        self.waiting.drain(..free).map(|(_, promise)| promise).collect()
    }

    /// The term has moved on. Promises of an older term are of no use to anybody.
    pub(super) fn clear(&mut self) {
        crate::sometimes!(!self.waiting.is_empty(), "promises of an older term are void");
        self.fresh.clear();
        self.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A gate in which votes of term 2 wait for these writes.
    fn waiting(writes: &[u64]) -> Gate {
        let wait = |write: &u64| (WriteId(*write), Promise::OwnVote(Term(2)));
        Gate { fresh: Vec::new(), waiting: writes.iter().map(wait).collect() }
    }

    #[test]
    fn each_broken_invariant_is_named() {
        let check = |gate: Gate, newest| gate.check_deeply(Term(2), newest);
        assert_eq!(check(waiting(&[1, 3, 3]), Some(WriteId(3))), Ok(()));
        assert_eq!(check(Gate::default(), None), Ok(()));
        let broken = |gate, newest| check(gate, newest).expect_err("it is broken");
        let violation = broken(waiting(&[3, 1]), Some(WriteId(3)));
        assert!(violation.starts_with("gate: promises wait out of order"), "{violation}");
        for newest in [None, Some(WriteId(2))] {
            let violation = broken(waiting(&[3]), newest);
            assert!(violation.starts_with("gate: a promise waits for a write"), "{violation}");
        }
        let mut gate = waiting(&[1]);
        gate.push(Promise::OwnVote(Term(1)));
        let violation = broken(gate, Some(WriteId(1)));
        assert!(violation.starts_with("gate: a promise of term 1 in term 2"), "{violation}");
    }

    /// Safety A2: the promise waits for the newest write, and not for an older one.
    #[test]
    fn a_promise_is_free_once_its_write_is_durable() {
        let mut gate = Gate::default();
        gate.push(Promise::OwnVote(Term(2)));
        assert_eq!(gate.seal(Some(WriteId(5))), []);
        assert_eq!(gate.open(WriteId(4)), []);
        assert!(gate.is_waiting());
        assert_eq!(gate.open(WriteId(5)), [Promise::OwnVote(Term(2))]);
        gate.push(Promise::OwnVote(Term(2)));
        assert_eq!(gate.seal(None), [Promise::OwnVote(Term(2))], "nothing is under way");
        assert!(!gate.is_waiting());
    }
}
