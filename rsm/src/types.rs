//! The names and numbers that all crates use. Numbers that must not be confused have types of their own.

use std::fmt;

/// Defines a number type: ordered, hashable, printed as its number.
macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

pub(crate) use number;

number! {
    /// The id of a raft group. Group 0 is reserved for the metadata of the cluster. User groups start at
    /// 1.
    GroupId(u32)
}

number! {
    /// The id of a node: a process with an address and a data directory.
    NodeId(u32)
}

number! {
    /// The number of a shard on its node. A shard is the executor of one core with its groups, its WAL
    /// and its exchanger.
    ShardId(u16)
}

number! {
    /// A raft term. `Term(0)` is the time before the first election.
    Term(u64)
}

number! {
    /// A place in a group's log. `Index(0)` is the place before the first entry.
    Index(u64)
}

number! {
    /// The number of a command in its group. Commands are counted, not entries; the first is 1.
    /// `Position(0)` is the place before the first command. A position never repeats. It does not depend
    /// on how commands are put into entries, and snapshots will keep it.
    Position(u64)
}

number! {
    /// Tells a group from an earlier group of the same id: a group that is removed and made again has the next
    /// epoch. The epoch is compared before the term wherever a group is named (safety M10). The first is 1.
    GroupEpoch(u32)
}

number! {
    /// The number of a write of one replica to the WAL. It only grows until the replica ends. So the
    /// completion of a write whose entries were truncated since is recognised (safety A3).
    WriteId(u64)
}

number! {
    /// The logical clock of raft: ticks since the shard started.
    Tick(u64)
}

impl Index {
    /// The place after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The place before this one. `Index(0)` has none before it, and stays `Index(0)`.
    pub fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl GroupEpoch {
    /// The epoch of a group that was never removed.
    pub const FIRST: Self = Self(1);
}

impl Term {
    /// The term after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// The name of an entry: no two different entries have the same term and index (log matching).
///
/// Ordered as raft compares logs in an election: by term, then by index (Raft paper 5.4.1).
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    /// The term of the leader that made the entry.
    pub term: Term,
    /// Its place in the log.
    pub index: Index,
}

impl EntryId {
    /// The entry at `index`, made in `term`.
    pub fn new(term: Term, index: Index) -> Self {
        Self { term, index }
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.index, self.term)
    }
}

impl fmt::Debug for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A term in one epoch of a group. Terms of different epochs must not be compared, so this type has no
/// order (safety M10).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct EpochTerm {
    /// The epoch of the group.
    pub epoch: GroupEpoch,
    /// A term in that epoch.
    pub term: Term,
}

impl EpochTerm {
    /// `term` in `epoch`.
    pub const fn new(epoch: GroupEpoch, term: Term) -> Self {
        Self { epoch, term }
    }
}

impl fmt::Debug for EpochTerm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in epoch {}", self.term, self.epoch)
    }
}

/// What a replica must remember durably beside its log.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct HardState {
    /// The latest term this replica has seen.
    pub term: Term,
    /// The node that this replica voted for in `term`.
    pub vote: Option<NodeId>,
    /// Entries up to here were committed when this was written. A hint, which never causes a write
    /// (safety A7).
    pub committed: Index,
}
