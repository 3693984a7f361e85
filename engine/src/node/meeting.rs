//! The meeting of the initial voters: this shard acts only when they have met (safety I2).
//!
//! To act is to vote, to campaign and to acknowledge. A fresh directory acts when each other initial
//! voter has answered its handshake with the same initial voters. Or when one member that acts already
//! has answered, with a table of incarnations that names this directory. Shard 0 collects the answers,
//! records the table, and tells the other shards.

use crate::{
    control::status::ShardState,
    error::Error,
    node::identity::{self, NodeIdentity},
    wake::Wake,
};
use purlin_rsm::{Incarnation, NodeId, ShardId};
use purlin_storage::Disk;
use purlin_transport::Facts;
use std::{cell::RefCell, collections::BTreeMap, rc::Rc, sync::Arc};

/// See the module.
pub(crate) struct Meeting {
    identity: NodeIdentity,
    /// The initial voters that have answered, with the incarnations of their directories.
    met: BTreeMap<NodeId, Incarnation>,
    /// The record that is being written, and its result.
    recording: Option<Recording>,
    /// Shards of this node that were not told yet that the voters have met.
    pub(crate) untold: Vec<ShardId>,
    /// The peers have found that the directory has gone back (safety I4). This is true before it is
    /// recorded, too.
    is_fenced: bool,
}

/// The result of a task that writes an identity, shared with the loop.
type Recording = Rc<RefCell<Option<Result<NodeIdentity, Error>>>>;

impl Meeting {
    pub(crate) fn new(identity: NodeIdentity) -> Self {
        let met = [(identity.node, identity.incarnation)].into();
        Self { identity, met, recording: None, untold: Vec::new(), is_fenced: false }
    }

    /// Whether the shard may vote, campaign and acknowledge.
    pub(crate) fn is_acting(&self) -> bool {
        self.identity.has_met && !self.is_fenced
    }

    /// Whether the peers have found that the directory has gone back.
    pub(crate) fn is_fenced(&self) -> bool {
        self.is_fenced
    }

    /// The state of a shard that runs, for operators.
    pub(crate) fn state(&self) -> ShardState {
        match self.identity.has_met {
            _ if self.is_fenced => ShardState::Fenced,
            true => ShardState::Serving,
            false => ShardState::Meeting,
        }
    }

    /// Stops acting, for good.
    pub(crate) fn fence(&mut self) {
        self.is_fenced = true;
    }

    /// The identity to record, if the directory is fenced and the fence is not recorded yet.
    pub(crate) fn fenced(&self) -> Option<NodeIdentity> {
        let is_due = self.is_fenced && !self.identity.is_fenced;
        is_due.then(|| NodeIdentity { is_fenced: true, ..self.identity.clone() })
    }

    /// Whether an identity is being recorded.
    pub(crate) fn is_recording(&self) -> bool {
        self.recording.is_some()
    }

    pub(crate) fn identity(&self) -> &NodeIdentity {
        &self.identity
    }

    /// The initial voters that this directory has not met.
    pub(crate) fn waits_for(&self) -> Vec<NodeId> {
        let absent = |node: &NodeId| !self.met.contains_key(node);
        self.identity.voter_ids().into_iter().filter(absent).collect()
    }

    /// A peer has answered our handshake. Returns the identity to record if no answer is missing any
    /// more.
    pub(crate) fn meet(&mut self, facts: &Facts) -> Option<NodeIdentity> {
        let knows = self.identity.has_met || self.is_recording();
        if knows || facts.voters != self.identity.voter_ids() {
            return None;
        }
        let me = (self.identity.node, self.identity.incarnation);
        if facts.acting && facts.table.contains(&me) {
            purlin_rsm::sometimes!("fresh directory let in by a member that acts");
            self.met.extend(facts.table.iter().copied());
        } else {
            self.met.insert(facts.node, facts.incarnation);
        }
        self.complete()
    }

    /// The identity with the complete table, if this directory has met all initial voters.
    pub(crate) fn complete(&self) -> Option<NodeIdentity> {
        if self.identity.has_met || !self.waits_for().is_empty() {
            return None;
        }
        let voters = self
            .identity
            .voters
            .iter()
            .map(|(node, _)| (*node, self.met.get(node).copied()))
            .collect();
        Some(NodeIdentity { voters, has_met: true, ..self.identity.clone() })
    }

    /// Returns a task that records an identity durably beside the loop of the shard, and then wakes the
    /// loop. The shard acts only when the table is recorded (safety I2).
    pub(crate) fn record<D: Disk>(
        &mut self,
        disk: D,
        identity: NodeIdentity,
        wake: Arc<Wake>,
    ) -> Option<impl Future<Output = ()> + use<D>> {
        if self.is_recording() {
            // Of two tasks that write the same file, one could undo the other.
            return None;
        }
        let result = Rc::new(RefCell::new(None));
        self.recording = Some(result.clone());
        Some(async move {
            let recorded = identity::replace(&disk, &identity).await;
            *result.borrow_mut() = Some(recorded.map(|()| identity));
            wake.notify();
        })
    }

    /// The identity that was recorded since the last call.
    ///
    /// # Errors
    /// The disk failed: the shard cannot go on.
    pub(crate) fn take_recorded(&mut self) -> Result<Option<NodeIdentity>, Error> {
        let done = self.recording.as_ref().and_then(|recording| recording.borrow_mut().take());
        let Some(recorded) = done else { return Ok(None) };
        self.recording = None;
        self.adopt(recorded?);
        Ok(Some(self.identity.clone()))
    }

    /// Another shard of this node has recorded this identity.
    pub(crate) fn adopt(&mut self, identity: NodeIdentity) {
        self.met.extend(identity.table());
        self.identity = identity;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use purlin_rsm::{BootId, ClusterId, Fork, Sequence, Start};
    use purlin_transport::Advertised;

    fn identity(node: u32) -> NodeIdentity {
        NodeIdentity {
            cluster: ClusterId(1),
            node: NodeId(node),
            incarnation: Incarnation(100 + u64::from(node)),
            shards: 1,
            groups: 4,
            extra_groups: 0,
            max_command: 1 << 20,
            fork: Fork::default(),
            voters: (1..=3).map(|voter| (NodeId(voter), None)).collect(),
            has_met: false,
            is_fenced: false,
        }
    }

    fn facts(node: u32, acting: bool, table: &[(u32, u64)]) -> Facts {
        let identity = identity(node);
        Facts {
            cluster: identity.cluster,
            fork: identity.fork,
            config_hash: identity.config_hash(),
            node: identity.node,
            incarnation: identity.incarnation,
            shard: ShardId(0),
            shards: 1,
            starts: vec![Start { number: 1, boot: BootId(9), kept: Sequence(0) }],
            voters: identity.voter_ids(),
            table: table
                .iter()
                .map(|(node, incarnation)| (NodeId(*node), Incarnation(*incarnation)))
                .collect(),
            acting,
            advertised: Advertised::default(),
        }
    }

    #[test]
    fn a_fresh_directory_acts_only_when_all_initial_voters_have_answered() {
        let mut meeting = Meeting::new(identity(1));
        assert_eq!(meeting.waits_for(), [NodeId(2), NodeId(3)]);
        assert!(meeting.meet(&facts(2, false, &[])).is_none());
        assert!(meeting.meet(&facts(2, false, &[])).is_none(), "the same one twice is one");
        let complete = meeting.meet(&facts(3, false, &[])).expect("all have answered");
        assert_eq!(complete.table().len(), 3);
        assert!(!meeting.is_acting(), "not before it is recorded");
        meeting.adopt(complete);
        assert!(meeting.is_acting());
    }

    #[test]
    fn one_member_that_acts_and_knows_this_directory_is_enough() {
        let mut meeting = Meeting::new(identity(1));
        let unaware = facts(2, true, &[(1, 7), (2, 102), (3, 103)]);
        assert!(meeting.meet(&unaware).is_none(), "it knows another incarnation of node 1");
        let mut meeting = Meeting::new(identity(1));
        assert!(meeting.meet(&facts(2, true, &[(1, 101), (2, 102), (3, 103)])).is_some());
    }

    #[test]
    fn a_fenced_node_acts_no_more_before_and_after_the_fence_is_recorded() {
        let mut meeting = Meeting::new(identity(1));
        meeting.adopt(NodeIdentity { has_met: true, ..identity(1) });
        assert!(meeting.is_acting() && meeting.fenced().is_none());
        assert!(matches!(meeting.state(), ShardState::Serving));
        meeting.fence();
        assert!(matches!(meeting.state(), ShardState::Fenced), "before it is recorded, too");
        let recorded = meeting.fenced().expect("there is something to record");
        assert!(!meeting.is_acting() && recorded.is_fenced && recorded.has_met);
        meeting.adopt(recorded);
        assert!(!meeting.is_acting() && meeting.fenced().is_none());
    }

    #[test]
    fn other_initial_voters_do_not_count() {
        let mut meeting = Meeting::new(identity(1));
        let mut alone = facts(2, true, &[(1, 101), (2, 102), (3, 103)]);
        alone.voters = vec![NodeId(2)];
        assert!(meeting.meet(&alone).is_none());
    }
}
