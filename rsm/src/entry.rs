//! An element of a group's log.

use crate::types::{EntryId, Index, Term};
use bytes::Bytes;

/// One element of a group's log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The term of the leader that made it.
    pub term: Term,
    /// Its place in the log.
    pub index: Index,
    /// What it carries.
    pub payload: Payload,
}

/// What an entry carries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Payload {
    /// Nothing: a new leader's first entry, by which it commits what came before (Raft paper 8).
    Noop,
    /// A command for the state machine.
    Command(Bytes),
}

impl Entry {
    /// The entry's name.
    pub fn id(&self) -> EntryId {
        EntryId::new(self.term, self.index)
    }

    /// Bytes that it costs in memory, on the wire and on disk, about: for windows and caches.
    pub fn cost(&self) -> usize {
        const OVERHEAD: usize = 32;
        match &self.payload {
            Payload::Noop => OVERHEAD,
            Payload::Command(data) => OVERHEAD + data.len(),
        }
    }
}
