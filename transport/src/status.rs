//! How a shard stands with the shards of other nodes: a read-only view of the exchanger.

use crate::{
    handshake::Facts,
    hub::Hub,
    journal::{self, Direction},
    net::Net,
    peer_shard::PeerShard,
};
use std::{collections::BTreeSet, sync::Arc};

/// A peer's shard, as an exchanger knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerStatus {
    /// Which one.
    pub peer: PeerShard,
    /// Where it listens, as `host:port`, if that is known.
    pub address: Option<String>,
    /// The connection on which we write to it.
    pub outbound: LinkStatus,
    /// The connection on which it writes to us.
    pub inbound: LinkStatus,
    /// Beats since its last frame; `None` when none came since our own start.
    pub silent_beats: Option<u64>,
    /// What it last told of itself.
    pub facts: Option<Arc<Facts>>,
}

/// One direction between this shard and a peer's.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct LinkStatus {
    /// There is a connection, and the handshake is done.
    pub is_up: bool,
    /// Why the last connection or attempt ended, while there is no connection: a refusal, or an error of the
    /// network.
    pub ended: Option<String>,
}

impl<N: Net> Hub<N> {
    /// How the peers' shards stand that are dialled, and those that were admitted since our own start.
    /// Replaces what is in `into`.
    pub(crate) fn status(&self, into: &mut Vec<PeerStatus>) {
        let dialled = self.peers.borrow().keys().copied().collect::<BTreeSet<_>>();
        let admitted = self.told.borrow().keys().copied().collect::<BTreeSet<_>>();
        into.clear();
        into.extend(dialled.union(&admitted).map(|peer| self.peer_status(*peer)));
    }

    fn peer_status(&self, peer: PeerShard) -> PeerStatus {
        let facts = self.told.borrow().get(&peer).cloned();
        let is_reached = self.peers.borrow().get(&peer).is_some_and(|peer| peer.is_up.get());
        PeerStatus {
            peer,
            address: self.address(peer).ok(),
            outbound: self.link_status(Direction::Outbound, peer, is_reached),
            inbound: self.link_status(Direction::Inbound, peer, self.arrivals.is_connected(peer)),
            silent_beats: facts.as_ref().and_then(|facts| self.book.borrow().silent_beats(facts)),
            facts,
        }
    }

    fn link_status(&self, direction: Direction, peer: PeerShard, is_up: bool) -> LinkStatus {
        let journal = self.journal.borrow();
        let ended = journal.last(direction, peer).filter(|line| !is_up && *line != journal::UP);
        LinkStatus { is_up, ended: ended.map(str::to_owned) }
    }
}
