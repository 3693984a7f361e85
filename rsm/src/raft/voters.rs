//! The members of a group, and every count over them.
//!
//! [`Voters`] names who votes and who only learns. Outside a joint configuration there is one set of voters. In a
//! joint configuration there are two, the incoming and the outgoing one, and an agreement needs a majority of
//! *each* (Raft paper 6; thesis 4.3). [`Voters::reached`] is the only place that counts: votes, the commit, the
//! quorum check and read rounds all ask it (safety M5). It asks about the members of each half and about nobody
//! else, so a replica counts itself only in a half in which it is a voter.

use crate::types::NodeId;

/// The voters and the learners of a group.
///
/// A configuration is made rarely and asked often, with every acknowledgement and every turn of a group. So its
/// sets are sorted lists, and no question allocates.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Voters {
    /// The voters; in a joint configuration those that the change leads to. Never empty. Ascending.
    incoming: Vec<NodeId>,
    /// In a joint configuration the voters that the change starts from; otherwise empty. Ascending.
    outgoing: Vec<NodeId>,
    /// All voters and learners, each once. Ascending.
    members: Vec<NodeId>,
}

impl Voters {
    /// A configuration that is not joint and has no learners.
    ///
    /// # Panics
    /// When there is no voter.
    pub fn new(voters: impl IntoIterator<Item = NodeId>) -> Self {
        Self::joint(voters, [], [])
    }

    /// A configuration with all three sets. It is joint when `outgoing` has members.
    ///
    /// # Panics
    /// When `incoming` is empty, or a learner is a voter too.
    pub fn joint(
        incoming: impl IntoIterator<Item = NodeId>,
        outgoing: impl IntoIterator<Item = NodeId>,
        learners: impl IntoIterator<Item = NodeId>,
    ) -> Self {
        let (incoming, outgoing) = (ascending(incoming), ascending(outgoing));
        let learners = ascending(learners);
        let voters = incoming.iter().chain(&outgoing).copied();
        let members = ascending(voters.chain(learners.iter().copied()));
        let voters = Self { incoming, outgoing, members };
        if let Some(learner) = learners.into_iter().find(|learner| voters.is_voter(*learner)) {
            panic!("voters: {learner} is a voter and a learner: {voters:?}");
        }
        voters.check().unwrap_or_else(|violation| panic!("{violation}"));
        voters
    }

    /// Whether `node` is a voter of either half.
    pub fn is_voter(&self, node: NodeId) -> bool {
        self.halves().any(|half| half.contains(&node))
    }

    /// Whether `node` has a replica of the group: as a voter or as a learner.
    pub fn contains(&self, node: NodeId) -> bool {
        self.members.contains(&node)
    }

    /// The voters and learners other than `me`, each once, in ascending order.
    pub fn others(&self, me: NodeId) -> impl Iterator<Item = NodeId> {
        self.members.iter().copied().filter(move |node| *node != me)
    }

    /// The voters other than `me`, each once, in ascending order.
    pub fn other_voters(&self, me: NodeId) -> impl Iterator<Item = NodeId> {
        self.others(me).filter(|node| self.is_voter(*node))
    }

    /// The largest value that a majority has reached; in a joint configuration a majority of each half. `value`
    /// gives the value of one voter. It is asked about voters only, and more than once about each.
    pub(super) fn reached<T: Ord + Copy>(&self, value: impl Fn(NodeId) -> T) -> T {
        // Voters are few: to compare each with each costs less than to sort a copy of their values.
        let of_half = |half: &[NodeId]| {
            let has_majority = |at: &T| {
                half.iter().filter(|voter| value(**voter) >= *at).count() >= majority(half.len())
            };
            let values = half.iter().map(|voter| value(*voter));
            values.filter(has_majority).max().expect("a majority has reached the lowest value")
        };
        self.halves().map(of_half).min().expect("a configuration has voters")
    }

    /// Whether `holds` is true of a majority; in a joint configuration of a majority of each half.
    pub(super) fn has_majority(&self, holds: impl Fn(NodeId) -> bool) -> bool {
        self.reached(holds)
    }

    /// How a vote stands. Answers of nodes that are not voters do not count.
    pub(super) fn tally(&self, ballots: &Ballots) -> Tally {
        if self.has_majority(|voter| ballots.answer(voter) == Some(true)) {
            Tally::Won
        } else if self.has_majority(|voter| ballots.answer(voter) != Some(false)) {
            Tally::Open
        } else {
            Tally::Lost
        }
    }

    /// What is always true of a configuration. Names what is not.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.incoming.is_empty() {
            return Err(format!("voters: nobody votes: {self:?}"));
        }
        let ascend = |nodes: &[NodeId]| nodes.is_sorted_by(|a, b| a < b);
        if ![&self.incoming, &self.outgoing, &self.members].into_iter().all(|set| ascend(set)) {
            return Err(format!("voters: a set that does not ascend: {self:?}"));
        }
        match self.halves().flatten().find(|voter| !self.contains(**voter)) {
            Some(voter) => Err(format!("voters: {voter} votes and is no member: {self:?}")),
            None => Ok(()),
        }
    }

    /// The sets of which an agreement needs a majority each.
    fn halves(&self) -> impl Iterator<Item = &[NodeId]> {
        [&self.incoming[..], &self.outgoing[..]].into_iter().filter(|half| !half.is_empty())
    }
}

/// These nodes, each once, in ascending order.
fn ascending(nodes: impl IntoIterator<Item = NodeId>) -> Vec<NodeId> {
    let mut nodes: Vec<NodeId> = nodes.into_iter().collect();
    nodes.sort_unstable();
    nodes.dedup();
    nodes
}

/// How many of `voters` voters make a majority.
pub(super) fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

/// The answers to a question that was put to all voters. The first answer of each counts, once (B07).
#[derive(Clone, Default, Debug)]
pub(super) struct Ballots {
    answers: Vec<(NodeId, bool)>,
}

/// How a vote stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Tally {
    /// A majority granted it.
    Won,
    /// So many refused that no majority is left.
    Lost,
    /// Neither yet.
    Open,
}

impl Ballots {
    /// Records a voter's answer.
    pub(super) fn record(&mut self, voter: NodeId, granted: bool) {
        if self.answer(voter).is_none() {
            self.answers.push((voter, granted));
        }
    }

    /// What `voter` has answered.
    pub(super) fn answer(&self, voter: NodeId) -> Option<bool> {
        self.answers.iter().find(|(node, _)| *node == voter).map(|(_, granted)| *granted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes<const N: usize>(nodes: [u32; N]) -> [NodeId; N] {
        nodes.map(NodeId)
    }

    /// A change from 1, 2, 3 to 3, 4, 5 with the learner 6.
    fn joint() -> Voters {
        Voters::joint(nodes([3, 4, 5]), nodes([1, 2, 3]), nodes([6]))
    }

    fn ballots(granted: &[u32], refused: &[u32]) -> Ballots {
        let mut ballots = Ballots::default();
        granted.iter().for_each(|voter| ballots.record(NodeId(*voter), true));
        refused.iter().for_each(|voter| ballots.record(NodeId(*voter), false));
        ballots
    }

    #[test]
    fn reached_is_the_highest_value_that_a_majority_has() {
        let of = |values: &[u64]| {
            let voters = Voters::new((0..values.len() as u32).map(NodeId));
            voters.reached(|node| values[node.0 as usize])
        };
        assert_eq!(of(&[5]), 5);
        assert_eq!(of(&[5, 3]), 3);
        assert_eq!(of(&[5, 3, 9]), 5);
        assert_eq!(of(&[1, 2, 3, 4]), 2);
        assert_eq!(of(&[1, 2, 3, 4, 5]), 3);
    }

    #[test]
    fn a_broken_configuration_is_named() {
        let broken = |change: fn(&mut Voters)| {
            let mut voters = joint();
            change(&mut voters);
            voters.check().expect_err("it is broken")
        };
        assert!(broken(|voters| voters.incoming.clear()).starts_with("voters: nobody votes"));
        assert!(broken(|voters| voters.outgoing.reverse()).contains("a set that does not ascend"));
        let no_member = broken(|voters| voters.members.retain(|node| *node != NodeId(5)));
        assert!(no_member.starts_with("voters: 5 votes and is no member"), "{no_member}");
    }

    #[test]
    fn a_joint_majority_needs_both_halves_and_reaches_the_lower_value() {
        let at = |values: [u64; 7]| joint().reached(|node| values[node.0 as usize]);
        assert_eq!(at([0, 9, 9, 1, 1, 1, 9]), 1, "the outgoing voters are further");
        assert_eq!(at([0, 1, 1, 9, 9, 9, 9]), 1, "the incoming voters are further");
        assert_eq!(at([0, 7, 0, 8, 9, 0, 9]), 7, "3 counts in both halves");
    }

    #[test]
    fn a_learner_counts_for_no_quorum() {
        let of_voters = |node: NodeId| {
            assert_ne!(node, NodeId(6), "a learner's value");
            true
        };
        assert!(joint().has_majority(of_voters));
        assert_eq!(joint().tally(&ballots(&[6, 1, 2], &[])), Tally::Open);
        assert_eq!(joint().tally(&ballots(&[], &[6])), Tally::Open);
    }

    /// Safety M5: 1 is to be removed from 1, 2, 3 by a change to 2, 3, 4.
    #[test]
    fn a_replica_that_is_no_voter_of_a_half_does_not_count_there() {
        let voters = Voters::joint(nodes([2, 3, 4]), nodes([1, 2, 3]), []);
        let with = |these: &[u32]| voters.has_majority(|node| these.contains(&node.0));
        assert!(!with(&[1, 2]), "2 alone is no majority of 2, 3, 4");
        assert!(with(&[1, 2, 4]));
        assert!(with(&[2, 3]), "it needs no voice of 1");
        assert_eq!(voters.tally(&ballots(&[1, 2], &[])), Tally::Open);
        assert_eq!(voters.tally(&ballots(&[1, 2, 4], &[])), Tally::Won);
    }

    #[test]
    fn a_vote_is_lost_when_one_half_cannot_agree_any_more() {
        assert_eq!(joint().tally(&ballots(&[1, 2, 3, 4], &[])), Tally::Won);
        assert_eq!(joint().tally(&ballots(&[1, 2, 3], &[])), Tally::Open);
        assert_eq!(joint().tally(&ballots(&[1, 2, 3], &[4, 5])), Tally::Lost);
        assert_eq!(joint().tally(&ballots(&[3, 4, 5], &[1])), Tally::Open);
        let four = Voters::new(nodes([1, 2, 3, 4]));
        assert_eq!(four.tally(&ballots(&[], &[1])), Tally::Open);
        assert_eq!(
            four.tally(&ballots(&[], &[1, 2])),
            Tally::Lost,
            "two of four cannot make three"
        );
    }

    #[test]
    fn a_voter_counts_once_and_another_node_never() {
        let voters = Voters::new(nodes([1, 2, 3, 4, 5]));
        let mut ballots = ballots(&[1, 2, 2, 2, 9, 8], &[1]);
        assert_eq!(voters.tally(&ballots), Tally::Open);
        ballots.record(NodeId(3), true);
        assert_eq!(voters.tally(&ballots), Tally::Won);
    }

    #[test]
    fn others_are_listed_once_and_in_order() {
        let others: Vec<NodeId> = joint().others(NodeId(4)).collect();
        assert_eq!(others, nodes([1, 2, 3, 5, 6]));
        let voters: Vec<NodeId> = joint().other_voters(NodeId(6)).collect();
        assert_eq!(voters, nodes([1, 2, 3, 4, 5]));
        assert!(joint().contains(NodeId(6)) && !joint().is_voter(NodeId(6)));
        assert!(joint().is_voter(NodeId(1)) && joint().is_voter(NodeId(5)));
        assert!(!joint().contains(NodeId(7)));
    }

    #[test]
    #[should_panic(expected = "voters: nobody votes")]
    fn a_configuration_without_voters_panics() {
        Voters::joint([], nodes([1]), []);
    }

    #[test]
    #[should_panic(expected = "voters: 2 is a voter and a learner")]
    fn a_learner_that_is_also_a_voter_panics() {
        Voters::joint(nodes([1]), nodes([2]), nodes([2]));
    }
}
