//! Linearizable reads without a log entry (ReadIndex; Raft thesis 6.4).
//!
//! A leader that has committed in its term notes the commit index and asks its followers whether they still
//! follow it. It answers the read once a majority has said so and that index is applied. A read joins only a
//! round that is sent after the read was registered (safety R1). So one round serves all reads that came since
//! the last round.

use super::{
    check::{Checked, ensure},
    voters::Voters,
};
use crate::types::{Index, NodeId, Tick};
use std::collections::{BTreeMap, VecDeque};

/// A read that the leader has confirmed. It may be answered once `index` is applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConfirmedRead {
    /// The caller's name for it.
    pub read: u64,
    /// The last entry that the state machine must have applied.
    pub index: Index,
}

/// The reads of one leadership that are not confirmed.
#[derive(Debug)]
pub(super) struct ReadQueue {
    /// The reads that were registered since the last round went out.
    fresh: Vec<ConfirmedRead>,
    /// The rounds on their way, oldest first, each with the reads that it will confirm.
    rounds: VecDeque<(u64, Vec<ConfirmedRead>)>,
    /// The newest round. It only grows, and goes on growing in the replica's next leadership, so a late reply
    /// to an earlier round confirms nothing newer (safety R1, B43). After a restart the term is another one,
    /// and replies carry their term.
    newest: u64,
    /// The newest round that each follower has replied to.
    replied: BTreeMap<NodeId, u64>,
    /// When the newest round went out.
    asked_at: Tick,
}

impl ReadQueue {
    /// A queue without reads. Its rounds follow `newest`.
    pub(super) fn new(newest: u64) -> Self {
        Self {
            fresh: Vec::new(),
            rounds: VecDeque::new(),
            newest,
            replied: BTreeMap::new(),
            asked_at: Tick(0),
        }
    }

    /// What is always true of the reads of a leader that has committed up to `committed`. Names what is not.
    pub(super) fn check_deeply(&self, committed: Index) -> Checked {
        let Self { fresh, rounds, newest, replied, .. } = self;
        ensure!(
            rounds.iter().is_sorted_by(|a, b| a.0 < b.0),
            "reads: rounds out of order: {rounds:?}"
        );
        ensure!(
            rounds.back().is_none_or(|(round, _)| round <= newest),
            "reads: a round is newer than the newest, {newest}: {rounds:?}"
        );
        ensure!(
            replied.values().all(|round| round <= newest),
            "reads: there is a reply to a round that was never sent, {newest} is the newest: {replied:?}"
        );
        let mut reads = rounds.iter().flat_map(|(_, reads)| reads).chain(fresh);
        match reads.find(|read| read.index > committed) {
            Some(read) => {
                Err(format!("reads: {read:?} waits for more than the commit {committed}"))
            }
            None => Ok(()),
        }
    }

    /// The newest round. The next leadership goes on from it.
    pub(super) fn newest(&self) -> u64 {
        self.newest
    }

    /// Notes a read, with the present commit index.
    pub(super) fn register(&mut self, read: u64, committed: Index) {
        self.fresh.push(ConfirmedRead { read, index: committed });
    }

    /// Whether reads wait for a round to be sent.
    pub(super) fn wants_round(&self) -> bool {
        !self.fresh.is_empty()
    }

    /// Whether no read waits for a round, or for the replies to one.
    pub(super) fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.rounds.is_empty()
    }

    /// Since when the oldest round waits for replies.
    pub(super) fn awaited_since(&self) -> Option<Tick> {
        (!self.rounds.is_empty()).then_some(self.asked_at)
    }

    /// Starts a round for all reads registered so far, and returns its number. `committed` is at least the
    /// first entry of the term, so it covers everything that was committed before this leadership (B41).
    pub(super) fn start_round(&mut self, now: Tick, committed: Index) -> u64 {
        self.newest += 1;
        self.asked_at = now;
        let mut reads = std::mem::take(&mut self.fresh);
        reads.iter_mut().for_each(|read| read.index = read.index.max(committed));
        self.rounds.push_back((self.newest, reads));
        self.newest
    }

    /// `follower` still followed this leader when `round` reached it.
    pub(super) fn replied(&mut self, follower: NodeId, round: u64) {
        if round <= self.newest {
            crate::sometimes!(round < self.newest, "reply to an older read round");
            let replied = self.replied.entry(follower).or_default();
            *replied = (*replied).max(round);
        }
    }

    /// Takes the reads of all rounds that a majority of `voters` has replied to. The leader `me` counts as having
    /// replied to all.
    pub(super) fn take_confirmed(&mut self, voters: &Voters, me: NodeId) -> Vec<ConfirmedRead> {
        let replied = |voter| match self.replied.get(&voter) {
            _ if voter == me => u64::MAX,
            round => round.copied().unwrap_or(0),
        };
        let reached = voters.reached(replied);
        let mut confirmed = Vec::new();
        while self.rounds.front().is_some_and(|(round, _)| *round <= reached) {
            let (_, reads) = self.rounds.pop_front().expect("there is a first one");
            crate::sometimes!(!reads.is_empty(), "read round confirmed");
            confirmed.extend(reads);
        }
        confirmed
    }

    /// Gives up all reads, since the leadership is over. Returns those that were not confirmed.
    pub(super) fn abandon(&mut self) -> Vec<u64> {
        let rounds = std::mem::take(&mut self.rounds).into_iter().flat_map(|(_, reads)| reads);
        rounds.chain(std::mem::take(&mut self.fresh)).map(|read| read.read).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voters() -> Voters {
        Voters::new([1, 2, 3].map(NodeId))
    }

    #[test]
    fn a_late_reply_confirms_no_later_read() {
        let mut reads = ReadQueue::new(7);
        reads.register(100, Index(5));
        let first = reads.start_round(Tick(0), Index(5));
        reads.register(101, Index(5));
        reads.replied(NodeId(2), first);
        let confirmed = reads.take_confirmed(&voters(), NodeId(1));
        assert_eq!(confirmed, [ConfirmedRead { read: 100, index: Index(5) }]);
        let second = reads.start_round(Tick(1), Index(5));
        reads.replied(NodeId(2), first);
        assert!(reads.take_confirmed(&voters(), NodeId(1)).is_empty());
        reads.replied(NodeId(3), second);
        assert_eq!(reads.take_confirmed(&voters(), NodeId(1)).len(), 1);
    }

    #[test]
    fn a_reply_to_a_round_that_was_never_sent_confirms_nothing() {
        let mut reads = ReadQueue::new(0);
        reads.replied(NodeId(2), 99);
        reads.register(1, Index(1));
        reads.start_round(Tick(0), Index(1));
        assert!(reads.take_confirmed(&voters(), NodeId(1)).is_empty());
    }

    #[test]
    fn a_lone_voter_confirms_its_own_reads() {
        let mut reads = ReadQueue::new(0);
        reads.register(1, Index(1));
        reads.start_round(Tick(0), Index(1));
        assert_eq!(reads.take_confirmed(&Voters::new([NodeId(1)]), NodeId(1)).len(), 1);
    }

    #[test]
    fn each_broken_invariant_is_named() {
        let queue = || {
            let mut reads = ReadQueue::new(3);
            reads.register(1, Index(5));
            reads.start_round(Tick(0), Index(5));
            reads.register(2, Index(6));
            reads
        };
        assert_eq!(queue().check_deeply(Index(6)), Ok(()));
        let broken = |change: fn(&mut ReadQueue)| {
            let mut reads = queue();
            change(&mut reads);
            reads.check_deeply(Index(6)).expect_err("it is broken")
        };
        let violation = broken(|reads| reads.rounds.push_back((4, Vec::new())));
        assert!(violation.starts_with("reads: rounds out of order"), "{violation}");
        let violation = broken(|reads| reads.newest = 3);
        assert!(violation.starts_with("reads: a round is newer than the newest"), "{violation}");
        let violation = broken(|reads| _ = reads.replied.insert(NodeId(2), 9));
        assert!(violation.starts_with("reads: there is a reply to a round that"), "{violation}");
        let violation = broken(|reads| reads.register(3, Index(7)));
        assert!(violation.contains("waits for more than the commit 6"), "{violation}");
    }
}
