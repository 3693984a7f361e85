//! What a replica is told when it is made, and what recovery has found of it.

use super::{Terms, Voters, Window};
use crate::{
    entry::Entry,
    types::{GroupId, HardState, NodeId, Tick},
};
use std::ops::Range;

/// What a replica is told when it is made.
#[derive(Clone, Debug)]
pub struct RaftConfig {
    /// Its group.
    pub group: GroupId,
    /// Its node.
    pub node: NodeId,
    /// The voters and learners of the group, this node among them.
    pub voters: Voters,
    /// How long a follower hears of no leader before it campaigns, in ticks: random in this range.
    pub election_ticks: Range<u64>,
    /// After how many ticks followers that have nothing to receive are told of a commit.
    pub tell_commit_ticks: u64,
    /// How much may be on its way to one follower.
    pub window: Window,
    /// Bytes of entries in one append, about; a larger entry travels alone.
    pub append_bytes_max: usize,
    /// Bytes of entries handed out at once to be applied, about.
    pub apply_bytes_max: usize,
    /// Bytes of entries kept in memory for followers that lag; what is not yet durable and applied is
    /// kept beyond it.
    pub cache_bytes_max: usize,
    /// Whether it campaigns at once when the group is fresh.
    pub campaigns_first: bool,
    /// Until then it neither votes nor campaigns, unless [`Raft::trust`] is called before: its
    /// directory may have gone back, and a peer would notice (safety I4).
    pub abstains_until: Tick,
    /// For the random part of timeouts; differs from replica to replica.
    pub seed: u64,
}

/// What recovery has found of a replica: all of it is durable.
#[derive(Clone, Default, Debug)]
pub struct Recovered {
    /// Its term, vote and commit hint.
    pub hard_state: HardState,
    /// The terms of its whole log.
    pub terms: Terms,
    /// The end of its log, as far as it is at hand.
    pub tail: Vec<Entry>,
}
