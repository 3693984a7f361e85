//! The roles of a replica, with the state that only one role has.

use super::{progress::Progress, read::ReadQueue, voters::Ballots};
use crate::types::{Index, NodeId, Tick};
use std::collections::BTreeMap;

/// The role of a replica, as its owner sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RoleKind {
    /// Follows, or waits for a leader.
    Follower,
    /// Campaigns with pre-votes.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}

/// The role of a replica.
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
    /// The node of the leader vouches for this replica by heartbeats, so no election timer runs.
    pub vouched: bool,
    /// When the leader was last heard of.
    pub heard: Option<Tick>,
}

/// A replica that asks for votes.
#[derive(Debug)]
pub(super) struct Candidate {
    /// Which votes it asks for.
    pub campaign: Campaign,
    /// The answers so far.
    pub ballots: Ballots,
}

/// Which votes a candidate asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Campaign {
    /// Pre-votes for the next term. They change no term (Raft thesis 9.6).
    PreVote,
    /// Votes in the candidate's term.
    Vote,
}

/// A replica that leads.
#[derive(Debug)]
pub(super) struct Leader {
    /// All other voters and learners.
    pub followers: BTreeMap<NodeId, Progress>,
    /// The leader's first entry. The leader has committed in its term once this entry is committed.
    pub noop: Index,
    /// Reads that are not confirmed.
    pub reads: ReadQueue,
    /// By this tick a majority must have confirmed the leader for the first time. `None` afterwards: then a
    /// majority must confirm it at all times.
    pub confirmed_by: Option<Tick>,
    /// At this tick the leader tells followers that have no entries to receive of the commit.
    pub tell_commit_at: Option<Tick>,
    /// The group is being handed over to another voter.
    pub transfer: Option<Transfer>,
    /// How many transfers of this leadership have failed, as far as that makes the wait longer.
    pub failed_transfers: u32,
    /// Not before this tick the next transfer begins.
    pub next_transfer: Tick,
}

/// A leadership on its way to another voter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Transfer {
    /// The voter that is to lead.
    pub to: NodeId,
    /// When the leader goes on if the voter has not been elected.
    pub until: Tick,
    /// The voter was told to campaign.
    pub is_told: bool,
}
