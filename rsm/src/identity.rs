//! The identity of a data directory, by which a wiped, rolled-back or copied directory is noticed.
//!
//! The directory of a node gets a random [`Incarnation`] when it is made (safety I1). Each start of a
//! shard on it gets a number and a random [`BootId`], and records the last [`Sequence`] of the WAL that
//! it kept (safety I4). Peers remember what they have seen of each other, and compare it in each
//! handshake.

use crate::types::{NodeId, ShardId, number};
use std::fmt;

/// The id of a cluster. It is drawn at random when the cluster is made, and is the same on all members.
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

/// Tells a data directory from an earlier or later one of the same node. `init` draws it at random, and
/// it never changes (safety I1).
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

/// Tells one start of a shard from all others. It is random, so that the starts on two copies of a
/// directory differ (safety I4, I5).
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
    /// The number of a batch in the WAL of a shard. It never repeats as long as the data directory
    /// exists.
    Sequence(u64)
}

number! {
    /// The number of a history of a cluster; the first is 0. A repair after the loss of a majority opens
    /// the next fork. Nodes of the higher fork refuse nodes that were not part of the repair (safety Q2).
    Fork(u32)
}

/// One start of a shard on its data directory.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Start {
    /// Counts the starts, from 1.
    pub number: u64,
    /// The random id that was drawn at this start.
    pub boot: BootId,
    /// The last batch of the WAL that this start found and kept.
    pub kept: Sequence,
}

/// The owner of a WAL. It stands in every segment header.
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

/// What is remembered of a shard of a peer: its latest known start, and how far its WAL was durable
/// (safety I4).
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
    /// The directory has gone back behind what the peer once said, and is refused for good.
    pub fenced: bool,
}
