//! What a replica is at a time, with the state that only this role has.

use super::{progress::Progress, read::ReadQueue, voters::Ballots};
use crate::types::{Index, NodeId, Tick};
use std::collections::BTreeMap;

/// What a replica is, for those outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RoleKind {
    /// Follows, or waits for a leader.
    Follower,
    /// Asks whether it would get votes.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}

/// What a replica is.
#[derive(Debug)]
pub(super) enum Role {
    /// Follows a leader, or waits to hear of one.
    Follower(Follower),
    /// Asks for votes.
    Candidate(Candidate),
    /// Leads.
    Leader(Leader),
}

/// A replica that follows.
#[derive(Default, Debug)]
pub(super) struct Follower {
    /// The leader of this term, once it is known.
    pub leader: Option<NodeId>,
    /// The leader's node vouches for it by its heartbeats: no timer runs.
    pub vouched: bool,
    /// When the leader was last heard of.
    pub heard: Option<Tick>,
}

/// A replica that asks for votes.
#[derive(Debug)]
pub(super) struct Candidate {
    /// Which votes.
    pub campaign: Campaign,
    /// Who answered what.
    pub ballots: Ballots,
}

/// What a candidate asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Campaign {
    /// Whether a vote in the next term would succeed; changes no term (Raft thesis 9.6).
    PreVote,
    /// Votes in its term.
    Vote,
}

/// A replica that leads.
#[derive(Debug)]
pub(super) struct Leader {
    /// All other voters and learners.
    pub followers: BTreeMap<NodeId, Progress>,
    /// Its first entry: it has committed in its term once this is committed.
    pub noop: Index,
    /// Reads that are not confirmed.
    pub reads: ReadQueue,
    /// By when a majority must have confirmed that it leads; from then on at all times.
    pub confirmed_by: Option<Tick>,
    /// When followers that have nothing to receive are told of the commit.
    pub tell_commit_at: Option<Tick>,
}
