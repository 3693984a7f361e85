//! How a shard stands with the shards of other nodes: a read-only view of the exchanger.

use crate::{handshake::Facts, hub::Hub, links::Direction, net::Net, peer_shard::PeerShard};
use std::sync::Arc;

/// A peer's shard, as an exchanger knows it. A copy shares its texts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerStatus {
    /// Which one.
    pub peer: PeerShard,
    /// Where it listens, as `host:port`, if that is known.
    pub address: Option<Arc<str>>,
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
    pub ended: Option<Arc<str>>,
}

impl<N: Net> Hub<N> {
    /// How the peers' shards stand that are dialled, and those that were admitted since our own start.
    /// Replaces what is in `into`, whose memory is used again: each beat calls this.
    pub(crate) fn status(&self, into: &mut Vec<PeerStatus>) {
        let (links, peers, book) = (self.links.borrow(), self.peers.borrow(), self.book.borrow());
        into.clear();
        into.extend(links.known().map(|(peer, link)| {
            let status = |direction, is_up: bool| LinkStatus {
                is_up,
                ended: link.ended(direction).filter(|_| !is_up).cloned(),
            };
            let is_reached = peers.get(&peer).is_some_and(|peer| peer.is_up.get());
            let facts = link.facts.clone();
            PeerStatus {
                peer,
                address: link.address.clone(),
                outbound: status(Direction::Outbound, is_reached),
                inbound: status(Direction::Inbound, self.arrivals.is_connected(peer)),
                silent_beats: facts.as_ref().and_then(|facts| book.silent_beats(facts)),
                facts,
            }
        }));
    }
}
