//! A read-only view of one replica, for operators and tests. Nothing is decided by it.

use super::{
    Fault, Raft, RoleKind,
    progress::{Progress, State},
    role::Role,
};
use crate::types::{EntryId, Index, NodeId, Term};

/// A replica as it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RaftStatus {
    /// What it is.
    pub role: RoleKind,
    /// Its term.
    pub term: Term,
    /// The leader of the term, if the replica knows one.
    pub leader: Option<NodeId>,
    /// The last entry of its log.
    pub last: EntryId,
    /// The last entry that is durable here.
    pub durable: Index,
    /// The last entry that it knows to be committed.
    pub committed: Index,
    /// The last entry that is applied here.
    pub applied: Index,
    /// All other voters, in the order of their ids, as a leader sees them; empty for any other role.
    pub followers: Vec<FollowerStatus>,
    /// Why it has stopped, if it has.
    pub fault: Option<Fault>,
}

/// A follower as its leader sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FollowerStatus {
    /// Its node.
    pub node: NodeId,
    /// How it is sent entries.
    pub state: FollowerState,
    /// Its log equals the leader's up to here, durably.
    pub matched: Index,
    /// The next entry that it is sent.
    pub next: Index,
    /// Appends that it has not answered.
    pub in_flight: usize,
    /// Their bytes; 0 while probing.
    pub in_flight_bytes: usize,
    /// There is a connection to its node.
    pub is_connected: bool,
    /// Its node answers heartbeats and follows this leader.
    pub is_confirmed: bool,
}

/// How a follower is sent entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FollowerState {
    /// One append at a time: the leader does not know yet where the logs part.
    Probe,
    /// Appends without waiting for answers, up to the window.
    Replicate,
}

impl Raft {
    /// The replica as it stands. It copies a line for each follower, so it is made on request and never per
    /// message.
    pub fn status(&self) -> RaftStatus {
        let followers = match &self.role {
            Role::Leader(leader) => {
                leader.followers.iter().map(|(node, progress)| progress.status(*node)).collect()
            }
            Role::Follower(_) | Role::Candidate(_) => Vec::new(),
        };
        RaftStatus {
            role: self.role(),
            term: self.term(),
            leader: self.leader(),
            last: self.last(),
            durable: self.durable(),
            committed: self.committed(),
            applied: self.applied_index(),
            followers,
            fault: self.fault(),
        }
    }
}

impl Progress {
    fn status(&self, node: NodeId) -> FollowerStatus {
        let (state, in_flight, in_flight_bytes) = match &self.state {
            State::Probe { sent } => (FollowerState::Probe, usize::from(sent.is_some()), 0),
            State::Replicate(inflights) => {
                (FollowerState::Replicate, inflights.count(), inflights.bytes())
            }
        };
        FollowerStatus {
            node,
            state,
            matched: self.matched,
            next: self.next,
            in_flight,
            in_flight_bytes,
            is_connected: self.connected,
            is_confirmed: self.confirmed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        message::{Envelope, Message},
        raft::{RaftConfig, Recovered, Voters},
        types::{GroupEpoch, GroupId, Tick},
    };
    use bytes::Bytes;

    const NOW: Tick = Tick(0);

    fn fresh() -> Raft {
        let config = RaftConfig::new(GroupId(1), NodeId(1), Voters::new([1, 2, 3].map(NodeId)));
        let config = RaftConfig { campaigns_first: true, ..config };
        Raft::new(config, Recovered::default(), NOW)
    }

    /// What is handed out is durable and applied at once; messages are lost.
    fn settle(raft: &mut Raft) {
        while raft.has_ready() {
            let ready = raft.ready();
            if ready.is_empty() {
                return;
            }
            if let Some(append) = ready.append {
                raft.appended(NOW, append.write);
            }
            if let Some(last) = ready.committed.last() {
                raft.applied(last.index);
            }
        }
    }

    fn hear(raft: &mut Raft, from: u32, message: Message) {
        let (from, to) = (NodeId(from), NodeId(1));
        raft.step(
            NOW,
            Envelope {
                from,
                to,
                group: GroupId(1),
                epoch: GroupEpoch::FIRST,
                term: Term(1),
                message,
            },
        );
        settle(raft);
    }

    #[test]
    fn a_leader_shows_how_far_each_follower_is() {
        let mut raft = fresh();
        let status = raft.status();
        assert_eq!((status.role, status.term), (RoleKind::Follower, Term(0)));
        assert_eq!((status.leader, status.followers.len()), (None, 0));
        raft.tick(NOW);
        settle(&mut raft);
        hear(&mut raft, 2, Message::PreVoteReply { granted: true });
        hear(&mut raft, 2, Message::VoteReply { granted: true });
        hear(&mut raft, 2, Message::AppendReply { matched: Index(1) });
        raft.disconnected(NOW, NodeId(3));
        raft.propose(Bytes::from_static(b"command")).expect("it leads");
        settle(&mut raft);
        let status = raft.status();
        assert_eq!((status.role, status.leader), (RoleKind::Leader, Some(NodeId(1))));
        assert_eq!(status.last, EntryId::new(Term(1), Index(2)));
        let behind = (status.durable, status.committed, status.applied);
        assert_eq!(behind, (Index(2), Index(1), Index(1)), "nobody has acknowledged the second");
        let [two, three] = status.followers[..] else { panic!("{status:?}") };
        assert_eq!((two.node, two.state), (NodeId(2), FollowerState::Replicate));
        assert_eq!((two.matched, two.next, two.in_flight), (Index(1), Index(3), 1));
        assert!(two.in_flight_bytes > 0 && two.is_connected, "{two:?}");
        assert_eq!((three.node, three.state), (NodeId(3), FollowerState::Probe));
        assert_eq!((three.matched, three.is_connected), (Index(0), false));
        hear(&mut raft, 2, Message::AppendReply { matched: Index(2) });
        let status = raft.status();
        assert_eq!((status.committed, status.applied), (Index(2), Index(2)));
        assert_eq!((status.followers[0].in_flight, status.followers[0].in_flight_bytes), (0, 0));
    }
}
