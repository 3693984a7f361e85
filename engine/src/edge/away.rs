//! Batches of requests that this shard has sent elsewhere: who waits for each, and what becomes of it
//! when its answer, or the connection it would come on, is gone.

use crate::edge::{desk::LaneRef, ticket::BatchOrigin};
use purlin_rsm::{Outcome, RequestError, ShardId, Tick};
use purlin_transport::PeerShard;
use std::collections::BTreeMap;

/// Where a batch has gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Destination {
    /// Another shard of this node, on which the group lives.
    Shard(ShardId),
    /// The group's leader, at another node.
    Peer(PeerShard),
}

/// Who waits for a batch.
pub(crate) enum Waiting {
    /// A lane of this shard.
    Lane(LaneRef),
    /// Another shard of this node, whose batch this shard has passed on, and how many requests it has.
    Shard(BatchOrigin, usize),
}

/// See the module.
pub(crate) struct Away {
    /// Names begin at a random number, so that none of an earlier process of this shard comes again: a
    /// peer may answer a batch of that one on the connection of this.
    newest: u64,
    batches: BTreeMap<u64, Sent>,
}

struct Sent {
    to: Destination,
    waiting: Waiting,
    since: Tick,
}

impl Away {
    /// Nothing is away. `random` differs from start to start.
    pub(crate) fn new(random: u64) -> Self {
        Self { newest: random, batches: BTreeMap::new() }
    }

    /// How many batches are away.
    pub(crate) fn len(&self) -> usize {
        self.batches.len()
    }

    /// A name for the next batch.
    pub(crate) fn next(&mut self) -> u64 {
        self.newest = self.newest.wrapping_add(1);
        self.newest
    }

    /// The batch is on its way.
    pub(crate) fn sent(&mut self, now: Tick, batch: u64, to: Destination, waiting: Waiting) {
        self.batches.insert(batch, Sent { to, waiting, since: now });
    }

    /// The batch is answered, by `from`. `None` when nobody waits for it any more.
    pub(crate) fn answered(&mut self, batch: u64, from: Destination) -> Option<Waiting> {
        if self.batches.get(&batch)?.to != from {
            return None;
        }
        self.batches.remove(&batch).map(|sent| sent.waiting)
    }

    /// Forgets batches that were sent before `limit`. Their requests came before that, so they have
    /// ended by their deadline; and an answer that was lost never comes.
    pub(crate) fn expire(&mut self, limit: Tick) {
        self.batches.retain(|_, sent| sent.since >= limit);
    }

    /// A connection with `peer` is lost: whatever is there has no known outcome (safety E1).
    pub(crate) fn lost(&mut self, peer: PeerShard) -> Vec<(u64, Waiting)> {
        let to = Destination::Peer(peer);
        let lost: Vec<u64> = self
            .batches
            .iter()
            .filter(|(_, sent)| sent.to == to)
            .map(|(batch, _)| *batch)
            .collect();
        lost.into_iter()
            .filter_map(|batch| self.batches.remove(&batch).map(|sent| (batch, sent.waiting)))
            .collect()
    }
}

/// The outcomes of a batch of `count` requests of which nothing is known.
pub(crate) fn unknown(count: usize) -> Vec<Outcome> {
    vec![Err(RequestError::UNKNOWN); count]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::desk::Desk;
    use purlin_rsm::{GroupId, NodeId};

    const PEER: Destination = Destination::Peer(PeerShard { node: NodeId(2), shard: ShardId(0) });

    fn waiting() -> Waiting {
        let desk = Desk::new(
            Default::default(),
            1 << 20,
            std::time::Duration::from_millis(10),
            Default::default(),
        );
        Waiting::Lane((desk.connect(), GroupId(1)))
    }

    #[test]
    fn an_answer_to_an_earlier_process_answers_no_batch_of_this() {
        let (mut earlier, mut now) = (Away::new(7), Away::new(1 << 40));
        let late = earlier.next();
        let batch = now.next();
        now.sent(Tick(0), batch, PEER, waiting());
        assert!(now.answered(late, PEER).is_none(), "simulator seed 228");
        assert!(now.answered(batch, PEER).is_some());
    }

    #[test]
    fn only_its_destination_answers_a_batch_and_only_once() {
        let mut away = Away::new(0);
        let batch = away.next();
        away.sent(Tick(0), batch, PEER, waiting());
        assert!(away.answered(batch, Destination::Shard(ShardId(0))).is_none());
        assert!(away.answered(batch, PEER).is_some());
        assert!(away.answered(batch, PEER).is_none());
    }

    #[test]
    fn what_is_away_at_a_lost_peer_is_lost() {
        let mut away = Away::new(0);
        let (one, two) = (away.next(), away.next());
        away.sent(Tick(0), one, PEER, waiting());
        away.sent(Tick(0), two, Destination::Shard(ShardId(1)), waiting());
        let lost = away.lost(PeerShard::new(NodeId(2), ShardId(0)));
        assert_eq!(lost.iter().map(|(batch, _)| *batch).collect::<Vec<_>>(), [one]);
        assert!(away.answered(one, PEER).is_none());
    }

    #[test]
    fn a_batch_whose_answer_was_lost_is_forgotten_after_its_deadline() {
        let mut away = Away::new(0);
        let (early, late) = (away.next(), away.next());
        away.sent(Tick(4), early, PEER, waiting());
        away.sent(Tick(5), late, PEER, waiting());
        away.expire(Tick(5));
        assert!(away.answered(early, PEER).is_none());
        assert!(away.answered(late, PEER).is_some());
    }
}
