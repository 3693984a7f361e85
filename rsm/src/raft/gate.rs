//! What must not leave before it is durable (safety A1, A2).
//!
//! A gated promise waits for its group's *newest* outstanding write, even if it wrote nothing itself:
//! an append that is received twice is acknowledged only once the first copy is durable (B22).

use crate::{
    message::{Envelope, Message},
    types::{Term, WriteId},
};
use std::collections::VecDeque;

/// Something that must be durable before it counts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Promise {
    /// A message that vouches for what is durable here.
    Message(Envelope),
    /// The candidate's vote for itself, in this term.
    OwnVote(Term),
}

/// Promises that wait, in the order they were made.
#[derive(Default, Debug)]
pub(super) struct Gate {
    /// Made since the last write was handed out; they may depend on what the next one holds.
    fresh: Vec<Promise>,
    /// Each waits for its write; the writes are in order.
    waiting: VecDeque<(WriteId, Promise)>,
}

impl Gate {
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

    /// Adds a message. Of several acknowledgements in a row the last says it all.
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

    /// All that is to be written has been handed out: from here on the fresh promises wait for
    /// `newest`, the newest outstanding write. Without one all is durable, and they are free.
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

    /// Everything up to `write` is durable: frees what waited for it.
    pub(super) fn open(&mut self, write: WriteId) -> Vec<Promise> {
        crate::sometimes!(
            self.waiting.iter().any(|(id, _)| *id > write),
            "promise waits for a younger write"
        );
        let free = self.waiting.partition_point(|(id, _)| *id <= write);
        self.waiting.drain(..free).map(|(_, promise)| promise).collect()
    }

    /// The term has moved on: what was promised in an older one is of no use to anybody.
    pub(super) fn clear(&mut self) {
        crate::sometimes!(!self.waiting.is_empty(), "promises of an older term are void");
        self.fresh.clear();
        self.waiting.clear();
    }
}
