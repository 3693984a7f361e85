//! Who a data directory is, so that a wiped, rolled-back or copied one is noticed.
//!
//! A node's directory gets a random [`Incarnation`] when it is made (safety I1). Each start of a
//! shard on it gets a number and a random [`BootId`], and remembers the last [`Sequence`] of the
//! WAL that it kept (safety I4). Peers remember what they have seen of each other and compare.

use crate::types::{NodeId, ShardId, number};
use std::fmt;

/// One cluster, drawn at random when it is made and the same on all its members.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub u128);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// One life of a data directory: random, drawn by `init`, never changed (safety I1).
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u64);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// One start of a shard: random, so that two copies of a directory differ (safety I4, I5).
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootId(pub u64);

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

number! {
    /// Numbers the batches of one shard's WAL. Never repeats in the life of a data directory.
    Sequence(u64)
}

number! {
    /// One history of a cluster. A repair after the loss of a majority opens the next one, from 0 on, so
    /// that nodes that were not part of the repair are refused by those that were (safety Q2).
    Fork(u32)
}

/// One start of a shard on its data directory.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Start {
    /// Counts the starts, from 1.
    pub number: u64,
    /// Drawn at this start.
    pub boot: BootId,
    /// The last batch of the WAL that this start found and kept.
    pub kept: Sequence,
}

/// Whose WAL this is; stands in every segment header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The cluster that the node belongs to.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// The incarnation of its data directory.
    pub incarnation: Incarnation,
    /// The shard of the node.
    pub shard: ShardId,
}

/// What is remembered of a peer's shard: the furthest it is known to have been (safety I4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PeerMemory {
    /// The peer's node.
    pub node: NodeId,
    /// The incarnation of its data directory.
    pub incarnation: Incarnation,
    /// Its shard.
    pub shard: ShardId,
    /// The number of its latest start that was seen.
    pub start: u64,
    /// The boot id of that start.
    pub boot: BootId,
    /// The highest WAL sequence that it said was durable in that start.
    pub durable: Sequence,
    /// It has gone back behind what it once said, and is refused for good.
    pub fenced: bool,
}
