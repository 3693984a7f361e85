//! What a replica is told when it is made, and what recovery has found of it.

use super::{Terms, Voters, Window};
use crate::{
    entry::Entry,
    types::{GroupEpoch, GroupId, HardState, NodeId, Position, Tick},
};
use std::ops::Range;

/// What a replica is told when it is made.
#[derive(Clone, Debug)]
pub struct RaftConfig {
    /// The group of the replica.
    pub group: GroupId,
    /// The epoch of the group that this replica is part of.
    pub epoch: GroupEpoch,
    /// The node of the replica.
    pub node: NodeId,
    /// The voters and learners of the group, this node among them.
    pub voters: Voters,
    /// After how many ticks without a leader a follower campaigns: a random number in this range.
    pub election_ticks: Range<u64>,
    /// After how many ticks a leader tells followers that have no entries to receive of a new commit.
    pub tell_commit_ticks: u64,
    /// How much may be on its way to one follower.
    pub window: Window,
    /// About how many bytes of entries one append carries. A larger entry travels alone.
    pub append_bytes_max: usize,
    /// About how many bytes of entries are handed out at once to be applied.
    pub apply_bytes_max: usize,
    /// How many bytes of entries stay in memory for followers that lag. Entries that are not yet durable and
    /// applied stay beyond that.
    pub cache_bytes_max: usize,
    /// Whether this replica campaigns at once when the group is fresh.
    pub campaigns_first: bool,
    /// Until this tick the replica neither votes nor campaigns, unless [`Raft::trust`](super::Raft::trust) is
    /// called before. Its directory may have gone back, and a peer would notice that (safety I4).
    pub abstains_until: Tick,
    /// How many ticks a replica that is unfit to lead gives fitter ones before it campaigns.
    pub unfit_ticks: u64,
    /// Seeds the random part of timeouts. It differs from replica to replica.
    pub seed: u64,
}

impl RaftConfig {
    /// The configuration with which a test, a bench or an example begins: the first epoch of the group,
    /// short timeouts, a window of 16 messages and 1 MiB, and 64 KiB for each of the other limits. A host
    /// sets each field itself.
    pub fn new(group: GroupId, node: NodeId, voters: Voters) -> Self {
        Self {
            group,
            epoch: GroupEpoch::FIRST,
            node,
            voters,
            election_ticks: 10..20,
            tell_commit_ticks: 1,
            window: Window { messages: 16, bytes: 1 << 20 },
            append_bytes_max: 64 << 10,
            apply_bytes_max: 64 << 10,
            cache_bytes_max: 64 << 10,
            campaigns_first: false,
            abstains_until: Tick(0),
            unfit_ticks: 40,
            seed: u64::from(node.0),
        }
    }
}

/// What recovery has found of a replica: all of it is durable.
#[derive(Clone, Default, Debug)]
pub struct Recovered {
    /// The term, the vote and the commit hint.
    pub hard_state: HardState,
    /// The terms of the log, from its floor to its last entry.
    pub terms: Terms,
    /// The end of the log, as far as recovery kept it in memory.
    pub tail: Vec<Entry>,
    /// The position of the last command of its log.
    pub end: Position,
}
