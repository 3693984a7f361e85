//! What replicas of a group say to each other: the only message enum.

use crate::{
    entry::Entry,
    types::{EntryId, GroupEpoch, GroupId, Index, NodeId, Term},
};

/// A message with its sender, its receiver, its group and the sender's term.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Envelope {
    /// The replica's node that says it.
    pub from: NodeId,
    /// The replica's node that it is for.
    pub to: NodeId,
    /// Their group.
    pub group: GroupId,
    /// The epoch of the group that the sender is part of. It is compared before the term (safety M10).
    pub epoch: GroupEpoch,
    /// The sender's term; for `PreVote` and a granted `PreVoteReply` the term of the vote to come.
    pub term: Term,
    /// What is said.
    pub message: Message,
}

/// What replicas of a group say to each other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// Would you vote for me, whose log ends in `last`? Changes nothing at the receiver
    /// (Raft thesis 9.6).
    PreVote {
        /// The last entry of the asker's log.
        last: EntryId,
    },
    /// Answers `PreVote`.
    PreVoteReply {
        /// Whether the answerer would vote for the asker.
        granted: bool,
    },
    /// Vote for me, whose log ends in `last` (Raft paper 5.2, 5.4.1).
    Vote {
        /// The last entry of the candidate's log.
        last: EntryId,
        /// The leader asked for the campaign: that the receiver hears of a leader is no reason to refuse
        /// (Raft thesis 3.10, 4.2.3).
        forced: bool,
    },
    /// Answers `Vote`; a granted one leaves only once the vote is durable.
    VoteReply {
        /// Whether the answerer voted for the candidate.
        granted: bool,
    },
    /// Entries that follow `prev`, and how far the log is committed (Raft paper 5.3).
    Append {
        /// The entry before the first of `entries`.
        prev: EntryId,
        /// Consecutive entries; empty to probe, or to pass on `committed`.
        entries: Vec<Entry>,
        /// Everything up to here is committed.
        committed: Index,
    },
    /// The sender's log equals the leader's up to `matched`, durably.
    AppendReply {
        /// The last index that is known to be equal and durable.
        matched: Index,
    },
    /// The sender's log has no entry `prev` as the leader named it.
    AppendReject {
        /// The index of the `prev` that did not match.
        prev: Index,
        /// The sender's latest entry that may match: not above `prev`, its term not above that of
        /// the leader's `prev`.
        hint: EntryId,
    },
    /// Do you still follow me in this term? Sent after the reads of `round` were registered
    /// (safety R1).
    ReadProbe {
        /// Never used twice by a leader, across restarts too.
        round: u64,
    },
    /// The sender follows the leader in the envelope's term, and did when `round` reached it.
    ReadProbeReply {
        /// The round that is answered.
        round: u64,
    },
    /// Campaign at once, says the leader to the voter that is to lead after it (Raft thesis 3.10).
    TimeoutNow,
    /// A stale leader is told the sender's higher term, nothing else.
    Stale,
}
