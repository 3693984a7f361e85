//! Leaderships go to the node that should have them: once a beat this shard looks at some of the groups that it
//! leads, and hands over those that another node should lead.
//!
//! A group *must* move while this shard cannot serve it well: its disk takes no entries, the machine of the group is
//! loading, or this shard does not hear a voter while another voter hears all. A group *should* move
//! back to the node that led it first, once that node has been fit for a while. So after a rolling restart each node
//! leads its share again.
//!
//! A group moves only to a node that is fit and hears all that this one hears. That node has no reason to hand it
//! back, so a group does not move to and fro. How many groups move in a beat has a bound.

use crate::{
    config::first_leader,
    shard::{group::Group, pairs::Pairs},
};
use purlin_rsm::{GroupId, NodeId, Tick};

/// A voter is missed once it was not heard for so many election timeouts.
const MISSED_TIMEOUTS: u64 = 2;
/// A node is fit for a while once it has been fit for so many election timeouts.
const SETTLED_TIMEOUTS: u64 = 4;

/// Which groups were looked at.
pub(crate) struct HandOver {
    /// Groups go back to the node that led them first.
    pub(crate) leaders_return: bool,
    /// The next group to look at.
    pub(crate) cursor: GroupId,
    /// Since when the disk takes no entries. The groups were told so.
    pub(crate) full_since: Option<Tick>,
}

impl HandOver {
    pub(crate) fn new(leaders_return: bool) -> Self {
        Self { leaders_return, cursor: GroupId(0), full_since: None }
    }
}

/// What a decision rests on.
pub(crate) struct Sight<'a> {
    pub(crate) me: NodeId,
    pub(crate) pairs: &'a Pairs,
    pub(crate) now: Tick,
    /// For an election timeout: a disk that holds the same log was filled by the same entries, and its node has said
    /// so by now. A leader that cannot write its first entry would answer no read.
    pub(crate) is_disk_full: bool,
    /// The shortest election timeout, in ticks.
    pub(crate) timeout: u64,
}

impl Sight<'_> {
    /// The node to which a group that this shard leads must move, if it must and there is one.
    pub(crate) fn who_must(&self, group: &Group) -> Option<NodeId> {
        let limit = Tick(self.now.0.saturating_sub(MISSED_TIMEOUTS * self.timeout));
        let missed = |node: &NodeId| self.pairs.misses(*node, group.id, limit);
        let voters = || group.raft.voters().other_voters(self.me);
        let is_unfit = self.is_disk_full || group.raft.is_loading();
        let misses_one = voters().any(|node| missed(&node));
        if !is_unfit && !misses_one {
            return None;
        }
        // For want of room or data, a node that hears as much as this one. For want of a voter, one that hears all.
        let is_fit = |to: &NodeId| {
            let others = voters().filter(|node| node != to && (!is_unfit || !missed(node)));
            let since = if is_unfit { self.now } else { limit };
            self.pairs.is_fit(*to, group.id, since, others)
        };
        let to = self.first_leader(group).filter(is_fit).or_else(|| voters().find(is_fit));
        purlin_rsm::sometimes!(
            to.is_some() && self.is_disk_full,
            "leader without room hands its groups over"
        );
        purlin_rsm::sometimes!(
            to.is_some() && !is_unfit,
            "leader that misses a voter hands its groups over"
        );
        to
    }

    /// The node to which a group that this shard leads should move back.
    pub(crate) fn who_should(&self, group: &Group) -> Option<NodeId> {
        let limit = Tick(self.now.0.saturating_sub(SETTLED_TIMEOUTS * self.timeout));
        let voters = || group.raft.voters().other_voters(self.me);
        let to = self.first_leader(group)?;
        let heard =
            voters().filter(|node| *node != to && !self.pairs.misses(*node, group.id, limit));
        self.pairs.is_fit(to, group.id, limit, heard).then_some(to)
    }

    /// The node that led the group first, unless that is this one.
    fn first_leader(&self, group: &Group) -> Option<NodeId> {
        let voters = group.raft.voters();
        let mut members: Vec<NodeId> = voters.other_voters(self.me).collect();
        if voters.is_voter(self.me) {
            members.push(self.me);
        }
        members.sort_unstable();
        Some(first_leader(group.id, &members)).filter(|first| *first != self.me)
    }
}
