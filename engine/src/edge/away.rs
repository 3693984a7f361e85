//! The request batches that this shard has sent to other shards: what waits for the reply to each, and
//! how a batch ends when its reply comes, or when the connection for the reply is lost.

use crate::edge::{
    caller::LaneRef,
    other_shard::{Origin, OtherShard},
    outgoing::LanePart,
};
use purlin_rsm::{GroupId, RequestKind, Tick};
use purlin_transport::PeerShard;
use std::collections::BTreeMap;

/// What waits for the reply to a batch.
pub(crate) enum Waiter {
    /// Lanes of this shard, which have requests in it one behind the other.
    Lanes(GroupId, Vec<LanePart>),
    /// Another shard of this node, whose batch this shard has passed on.
    Shard(PassedOn),
}

/// A batch of another shard of this node.
pub(crate) struct PassedOn {
    pub(crate) origin: Origin,
    pub(crate) group: GroupId,
    pub(crate) kind: RequestKind,
    /// How many requests it has.
    pub(crate) count: usize,
}

impl Waiter {
    /// The group that the batch is for.
    fn group(&self) -> GroupId {
        match self {
            Self::Lanes(group, _) => *group,
            Self::Shard(batch) => batch.group,
        }
    }
}

/// See the module.
pub(crate) struct Away {
    /// The numbers of batches begin at a random one, so that no number of an earlier process of this shard
    /// comes again: a peer may reply to a batch of that process on a connection of this one.
    newest: u64,
    batches: BTreeMap<u64, AwayBatch>,
    /// It stands in the queue of deadlines.
    has_deadline: bool,
}

struct AwayBatch {
    to: OtherShard,
    waiter: Waiter,
    since: Tick,
}

impl Away {
    /// Nothing is away. `random` differs from start to start.
    pub(crate) fn new(random: u64) -> Self {
        Self { newest: random, batches: BTreeMap::new(), has_deadline: false }
    }

    /// How many batches are away.
    pub(crate) fn len(&self) -> usize {
        self.batches.len()
    }

    /// A number for the next batch.
    pub(crate) fn next_id(&mut self) -> u64 {
        self.newest = self.newest.wrapping_add(1);
        self.newest
    }

    /// The batch is on its way.
    pub(crate) fn sent(&mut self, now: Tick, id: u64, to: OtherShard, waiter: Waiter) {
        self.batches.insert(id, AwayBatch { to, waiter, since: now });
    }

    /// `from` has replied to the batch. `None` when nobody waits for it any more.
    pub(crate) fn replied(&mut self, id: u64, from: OtherShard) -> Option<Waiter> {
        if self.batches.get(&id)?.to != from {
            return None;
        }
        self.batches.remove(&id).map(|batch| batch.waiter)
    }

    /// When the oldest batch was sent, if the table is not in the queue of deadlines yet: it is from now
    /// on.
    pub(crate) fn watch(&mut self) -> Option<Tick> {
        if self.has_deadline {
            return None;
        }
        let oldest = self.batches.values().map(|batch| batch.since).min();
        self.has_deadline = oldest.is_some();
        oldest
    }

    /// Forgets batches that were sent before `limit`. Their requests came before that, so they have
    /// ended by their deadline; and a reply that was lost never comes. The table has left the queue of
    /// deadlines.
    pub(crate) fn expire(&mut self, limit: Tick) {
        self.has_deadline = false;
        self.batches.retain(|_, batch| batch.since >= limit);
    }

    /// A connection with `peer` is lost: the outcome of whatever is there is unknown (safety E1).
    pub(crate) fn lost(&mut self, peer: PeerShard) -> Vec<(u64, Waiter)> {
        let to = OtherShard::OfPeer(peer);
        let lost = self.batches.extract_if(.., |_, batch| batch.to == to);
        lost.map(|(id, batch)| (id, batch.waiter)).collect()
    }

    /// Batches that were sent before `limit`, and of which `leads` says that their destination does not lead
    /// their group any more. Looks at the batches before `limit` alone, which are few while all is well.
    pub(crate) fn superseded(
        &mut self,
        limit: Tick,
        leads: impl Fn(GroupId, OtherShard) -> bool,
    ) -> Vec<(u64, Waiter)> {
        // The numbers ascend, so the oldest come first.
        let old = self.batches.iter().take_while(|(_, batch)| batch.since < limit);
        let superseded = old.filter(|(_, batch)| !leads(batch.waiter.group(), batch.to));
        let superseded: Vec<u64> = superseded.map(|(id, _)| *id).collect();
        let remove = |id| self.batches.remove(&id).map(|batch| (id, batch.waiter));
        superseded.into_iter().filter_map(remove).collect()
    }

    /// Whether `lane` waits for the batch `id`.
    pub(crate) fn is_awaited_by(&self, id: u64, lane: &LaneRef) -> bool {
        let waiter = self.batches.get(&id).map(|batch| &batch.waiter);
        let Some(Waiter::Lanes(_, parts)) = waiter else { return false };
        parts.iter().any(|part| part.lane.is(lane))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use purlin_rsm::{NodeId, ShardId};

    const PEER: OtherShard = OtherShard::OfPeer(PeerShard { node: NodeId(2), shard: ShardId(0) });

    fn waiter() -> Waiter {
        Waiter::Lanes(GroupId(1), Vec::new())
    }

    #[test]
    fn an_answer_to_an_earlier_process_answers_no_batch_of_this() {
        let (mut earlier, mut now) = (Away::new(7), Away::new(1 << 40));
        let late = earlier.next_id();
        let batch = now.next_id();
        now.sent(Tick(0), batch, PEER, waiter());
        assert!(now.replied(late, PEER).is_none(), "simulator seed 228");
        assert!(now.replied(batch, PEER).is_some());
    }

    #[test]
    fn only_its_destination_answers_a_batch_and_only_once() {
        let mut away = Away::new(0);
        let batch = away.next_id();
        away.sent(Tick(0), batch, PEER, waiter());
        assert!(away.replied(batch, OtherShard::OfThisNode(ShardId(0))).is_none());
        assert!(away.replied(batch, PEER).is_some());
        assert!(away.replied(batch, PEER).is_none());
    }

    #[test]
    fn a_batch_that_is_away_at_a_lost_peer_is_lost() {
        let mut away = Away::new(0);
        let (one, two) = (away.next_id(), away.next_id());
        away.sent(Tick(0), one, PEER, waiter());
        away.sent(Tick(0), two, OtherShard::OfThisNode(ShardId(1)), waiter());
        let lost = away.lost(PeerShard::new(NodeId(2), ShardId(0)));
        assert_eq!(lost.iter().map(|(batch, _)| *batch).collect::<Vec<_>>(), [one]);
        assert!(away.replied(one, PEER).is_none());
    }

    #[test]
    fn a_batch_is_superseded_when_its_destination_leads_no_more() {
        let mut away = Away::new(0);
        let (one, two, young) = (away.next_id(), away.next_id(), away.next_id());
        away.sent(Tick(0), one, PEER, waiter());
        away.sent(Tick(0), two, OtherShard::OfThisNode(ShardId(1)), waiter());
        away.sent(Tick(9), young, PEER, waiter());
        let superseded = away.superseded(Tick(9), |group, to| {
            assert_eq!(group, GroupId(1));
            to != PEER
        });
        assert_eq!(superseded.iter().map(|(batch, _)| *batch).collect::<Vec<_>>(), [one]);
        assert!(away.replied(one, PEER).is_none(), "a late reply is ignored");
        assert!(away.replied(young, PEER).is_some(), "its bounce may be on its way");
    }

    #[test]
    fn a_batch_whose_reply_was_lost_is_forgotten_after_its_deadline() {
        let mut away = Away::new(0);
        let (early, late) = (away.next_id(), away.next_id());
        away.sent(Tick(4), early, PEER, waiter());
        away.sent(Tick(5), late, PEER, waiter());
        assert_eq!((away.watch(), away.watch()), (Some(Tick(4)), None));
        away.expire(Tick(5));
        assert_eq!((away.watch(), away.batches.len()), (Some(Tick(5)), 1));
        assert!(away.replied(early, PEER).is_none());
        assert!(away.replied(late, PEER).is_some());
    }
}
