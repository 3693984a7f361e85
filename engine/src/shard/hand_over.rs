//! Leaderships go to the node that should have them: once a beat this shard looks at some of the groups that it
//! leads, and hands over those that another node should lead.
//!
//! A group *must* move while this shard cannot serve it well: it stops, its disk takes no entries, the machine of the
//! group is loading, or this shard does not hear a voter while another voter hears all. A group *should* move
//! back to the node that led it first, once that node has been fit for a while. So after a rolling restart each node
//! leads its share again.
//!
//! A group moves only to a node that is fit and hears all that this one hears. That node has no reason to hand it
//! back, so a group does not move to and fro. How many groups move in a beat has a bound.

use crate::{
    config::first_leader,
    shard::{disk_room::DiskRoom, group::Group, pairs::Pairs},
};
use purlin_rsm::{GroupId, NodeId, Tick};

/// A voter is missed once it was not heard for so many election timeouts. By then the others have missed it too, if
/// nobody hears it.
const MISSED_TIMEOUTS: u64 = 4;
/// A node is fit for a while once it has been fit for so many election timeouts.
const SETTLED_TIMEOUTS: u64 = 4;
/// A group goes back at least so many beats after the last one that did: some 5 in a second.
const BACK_BEATS: u64 = 2;

/// Which groups were looked at.
pub(crate) struct HandOver {
    /// Groups go back to the node that led them first.
    pub(crate) leaders_return: bool,
    /// The next group to look at.
    pub(crate) cursor: GroupId,
    /// Whether the disk takes entries, and which groups know it.
    pub(crate) disk_room: DiskRoom,
    /// The beat in which a group went back last.
    pub(crate) went_back: u64,
}

impl HandOver {
    pub(crate) fn new(leaders_return: bool) -> Self {
        Self { leaders_return, cursor: GroupId(0), disk_room: DiskRoom::default(), went_back: 0 }
    }

    /// Whether a group may go back in this beat. That hangs on the last one that did, and not on the number of the
    /// beat: with two windows of groups each is looked at in every other beat.
    pub(crate) fn may_go_back(&self, beat: u64) -> bool {
        self.leaders_return && beat >= self.went_back + BACK_BEATS
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
    /// This shard was asked to stop.
    pub(crate) is_stopping: bool,
    /// The shortest election timeout, in ticks.
    pub(crate) timeout: u64,
}

impl Sight<'_> {
    /// The node to which a group that this shard leads must move, if it must and there is one.
    pub(crate) fn who_must(&self, group: &Group) -> Option<NodeId> {
        let limit = Tick(self.now.0.saturating_sub(MISSED_TIMEOUTS * self.timeout));
        let missed = |node: &NodeId| self.pairs.misses(*node, group.id, limit);
        let voters = || group.raft.voters().other_voters(self.me);
        let is_unfit = self.is_stopping || self.is_disk_full || group.raft.is_loading();
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
        let to = self.first_leader(group).filter(is_fit).or_else(|| {
            let fit: Vec<NodeId> = voters().filter(is_fit).collect();
            one_of(&fit, group.id)
        });
        purlin_rsm::sometimes!(
            to.is_some() && self.is_stopping,
            "leader that stops hands its groups over"
        );
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

/// One of the nodes that are fit to lead `group`. For other groups it is another one, so that the load spreads.
fn one_of(fit: &[NodeId], group: GroupId) -> Option<NodeId> {
    let place = (group.0 as usize).checked_rem(fit.len())?;
    Some(fit[place])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hand_over_back_is_possible_in_odd_beats_and_in_even_ones() {
        let mut hand_over = HandOver::new(true);
        let may = |hand_over: &HandOver, beats: [u64; 4]| beats.map(|it| hand_over.may_go_back(it));
        assert_eq!(may(&hand_over, [2, 3, 4, 5]), [true; 4], "none has gone back");
        hand_over.went_back = 5;
        assert_eq!(may(&hand_over, [5, 6, 7, 8]), [false, false, true, true]);
        hand_over.leaders_return = false;
        assert_eq!(may(&hand_over, [5, 6, 7, 8]), [false; 4]);
    }

    #[test]
    fn hand_over_spreads_groups_over_the_nodes_that_are_fit() {
        let fit = [NodeId(2), NodeId(3)];
        // The groups that node 1 of three leads first.
        let to = [3, 6, 9, 12].map(|id| one_of(&fit, GroupId(id)));
        assert_eq!(to, [3, 2, 3, 2].map(|id| Some(NodeId(id))));
        assert_eq!(one_of(&[], GroupId(1)), None);
    }
}
