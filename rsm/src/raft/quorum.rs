//! Majorities, as pure functions.

use crate::types::NodeId;

/// How many of `voters` voters make a majority.
pub(super) fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

/// The largest value that a majority has reached, when `values` has one value for each voter.
pub(super) fn reached<T: Ord + Copy>(values: &mut [T]) -> T {
    values.sort_unstable_by(|a, b| b.cmp(a));
    values[majority(values.len()) - 1]
}

/// Who answered a question to all voters: each voter's first answer counts, once (B07).
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
        if !self.answers.iter().any(|(node, _)| *node == voter) {
            self.answers.push((voter, granted));
        }
    }

    /// How the vote stands among `voters`; answers of others do not count.
    pub(super) fn tally(&self, voters: &[NodeId]) -> Tally {
        let count = |granted| {
            self.answers.iter().filter(|(n, g)| *g == granted && voters.contains(n)).count()
        };
        if count(true) >= majority(voters.len()) {
            Tally::Won
        } else if count(false) > voters.len() - majority(voters.len()) {
            Tally::Lost
        } else {
            Tally::Open
        }
    }

    /// Who granted it.
    pub(super) fn granted(&self) -> impl Iterator<Item = NodeId> {
        self.answers.iter().filter(|(_, granted)| *granted).map(|(node, _)| *node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reached_is_what_a_majority_has() {
        assert_eq!(reached(&mut [5]), 5);
        assert_eq!(reached(&mut [5, 3]), 3);
        assert_eq!(reached(&mut [5, 3, 9]), 5);
        assert_eq!(reached(&mut [1, 2, 3, 4]), 2);
        assert_eq!(reached(&mut [1, 2, 3, 4, 5]), 3);
    }

    #[test]
    fn a_voter_counts_once_and_a_stranger_never() {
        let voters: Vec<NodeId> = (1..=5).map(NodeId).collect();
        let mut ballots = Ballots::default();
        for voter in [1, 2, 2, 2, 9, 8] {
            ballots.record(NodeId(voter), true);
        }
        assert_eq!(ballots.tally(&voters), Tally::Open);
        ballots.record(NodeId(3), true);
        assert_eq!(ballots.tally(&voters), Tally::Won);
    }

    #[test]
    fn lost_when_no_majority_is_left() {
        let voters: Vec<NodeId> = (1..=4).map(NodeId).collect();
        let mut ballots = Ballots::default();
        ballots.record(NodeId(1), false);
        assert_eq!(ballots.tally(&voters), Tally::Open);
        ballots.record(NodeId(2), false);
        assert_eq!(ballots.tally(&voters), Tally::Lost, "two of four cannot make three");
    }
}
