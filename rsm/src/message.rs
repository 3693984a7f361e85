//! The messages between the replicas of a group: the only message enum.

use crate::{
    entry::Entry,
    types::{EntryId, GroupEpoch, GroupId, Index, NodeId, Term},
};

/// A message with its sender, its receiver, its group and the sender's term.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Envelope {
    /// The node of the replica that sends it.
    pub from: NodeId,
    /// The node of the replica that receives it.
    pub to: NodeId,
    /// Their group.
    pub group: GroupId,
    /// The epoch of the group that the sender is part of. It is compared before the term (safety M10).
    pub epoch: GroupEpoch,
    /// The term of the sender. In `PreVote` and a granted `PreVoteReply`: the term in which the sender of
    /// the `PreVote` would campaign.
    pub term: Term,
    /// The message.
    pub message: Message,
}

/// A message between two replicas of a group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// Asks whether the receiver would vote for the sender. Changes nothing at the receiver (Raft thesis
    /// 9.6).
    PreVote {
        /// The last entry of the log of the sender.
        last: EntryId,
    },
    /// The reply to `PreVote`.
    PreVoteReply {
        /// Whether the sender of the reply would vote for its receiver.
        granted: bool,
    },
    /// Asks for the vote of the receiver (Raft paper 5.2, 5.4.1).
    Vote {
        /// The last entry of the log of the candidate.
        last: EntryId,
        /// The leader has asked for the campaign. So the receiver does not refuse because it still hears
        /// from a leader (Raft thesis 3.10, 4.2.3).
        forced: bool,
    },
    /// The reply to `Vote`. A granted vote leaves only when it is durable (safety A1).
    VoteReply {
        /// Whether the sender of the reply voted for the candidate.
        granted: bool,
    },
    /// The leader sends entries that follow `prev`, and how far its log is committed (Raft paper 5.3).
    Append {
        /// The entry before the first of `entries`.
        prev: EntryId,
        /// Consecutive entries. Empty if the leader probes, or only tells `committed`.
        entries: Vec<Entry>,
        /// The entries up to here are committed.
        committed: Index,
    },
    /// The log of the sender equals the leader's up to `matched`, durably.
    AppendReply {
        /// The last index up to which the logs are known to be equal, and durable at the sender.
        matched: Index,
    },
    /// The log of the sender has no entry `prev` with the index and term that the leader named.
    AppendReject {
        /// The index of the `prev` that did not match.
        prev: Index,
        /// The latest entry of the sender that may match: neither its index nor its term is above that of
        /// the leader's `prev`.
        hint: EntryId,
    },
    /// The leader asks whether the receiver still follows it in this term. It is sent after the reads of
    /// `round` were registered (safety R1).
    ReadProbe {
        /// The number of the round. A leader uses no number twice in one term: it grows until the replica
        /// ends, and a restarted replica leads only in a later term.
        round: u64,
    },
    /// The reply to `ReadProbe`: the sender followed the leader, in the term of the envelope, when the
    /// probe reached it.
    ReadProbeReply {
        /// The round of the `ReadProbe`.
        round: u64,
    },
    /// The leader asks the voter that is to lead next to campaign at once (Raft thesis 3.10).
    TimeoutNow,
    /// Tells a stale leader the higher term of the sender, and nothing else.
    Stale,
}
