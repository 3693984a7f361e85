//! What this shard keeps of one shard of another node that it dials. The task that dials is
//! `outbound`.

use crate::{cancel::CancelToken, outbox::Outbox, peer_shard::PeerShard, signal::Signal};
use purlin_rsm::random::hash;
use std::cell::{Cell, RefCell};

/// A peer that we dial.
pub(crate) struct Peer {
    pub(crate) id: PeerShard,
    pub(crate) want: Cell<Want>,
    /// Whether the handshake is done and the connection not lost yet.
    pub(crate) is_up: Cell<bool>,
    pub(crate) outbox: RefCell<Outbox>,
    /// Raised when the turn is over and something waits in the outbox.
    pub(crate) ready: Signal,
    /// Whether the peer is in the list for the next flush.
    pub(crate) is_dirty: Cell<bool>,
    /// Ends the current attempt, connection or pause.
    pub(crate) cancel: CancelToken,
    /// Attempts that failed since the last one that did not.
    pub(crate) failures: Cell<u32>,
}

/// What a peer is wanted for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Want {
    /// Nothing any more: its task ends.
    Nothing,
    /// To say how many shards its node has.
    Learning,
    /// To be sent to.
    Sending,
}

impl Peer {
    pub(crate) fn new(id: PeerShard, want: Want, outbox: Outbox) -> Self {
        Self {
            id,
            want: Cell::new(want),
            is_up: Cell::new(false),
            outbox: RefCell::new(outbox),
            ready: Signal::default(),
            is_dirty: Cell::new(false),
            cancel: CancelToken::default(),
            failures: Cell::new(0),
        }
    }

    /// Ends the task of this peer, unless the peer is wanted again before the task notices.
    pub(crate) fn unwant(&self) {
        self.want.set(Want::Nothing);
        self.cancel.drop_connection();
    }

    /// As [`Peer::unwant`], but what waits is written before, and read by the peer.
    pub(crate) fn finish(&self) {
        self.want.set(Want::Nothing);
        match self.is_up.get() {
            true => self.ready.raise(),
            false => self.cancel.drop_connection(),
        }
    }

    /// The pause before the next attempt, in beats: drawn from 1 to `most`, so that nodes that failed
    /// together do not try again together.
    pub(crate) fn pause_beats(&self, seed: u64, most: u64) -> u64 {
        let place = u64::from(self.id.node.0) << 16 | u64::from(self.id.shard.0);
        1 + hash(hash(seed ^ place) ^ u64::from(self.failures.get())) % most
    }

    /// The peer was heard, and is silent now: its connection is made anew.
    pub(crate) fn dial_again(&self) {
        if self.is_up.get() {
            self.cancel.give_up();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use purlin_rsm::{NodeId, ShardId};

    #[test]
    fn pauses_have_a_bound_that_does_not_grow_and_differ_between_peers() {
        let peer = |node| {
            Peer::new(PeerShard::new(NodeId(node), ShardId(0)), Want::Sending, Outbox::new(1, 1))
        };
        let pauses = |peer: &Peer| -> Vec<u64> {
            let pause = |failures| {
                peer.failures.set(failures);
                peer.pause_beats(9, 4)
            };
            (0..40).map(pause).collect()
        };
        let one = pauses(&peer(1));
        assert!(one.iter().all(|beats| (1..=4).contains(beats)), "{one:?}");
        assert!((1..=4).all(|beats| one[30..].contains(&beats)), "{one:?}");
        assert_eq!(one, pauses(&peer(1)));
        assert_ne!(one, pauses(&peer(2)));
    }
}
