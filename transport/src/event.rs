//! What the engine gives to the exchanger, and what it gets from it.

use crate::{
    forward::{BatchReply, RequestBatch},
    handshake::Facts,
    heartbeat::Heartbeat,
    peer_shard::PeerShard,
    refusal::Refusal,
};
use purlin_rsm::Envelope;

/// What can be sent to a peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outbound {
    /// A message between replicas; from this node, to the peer's.
    Message(Envelope),
    /// The heartbeat of this interval.
    Heartbeat(Heartbeat),
    /// Client commands for a leader at the peer.
    Forward(RequestBatch),
    /// The outcome of commands that the peer forwarded.
    ForwardReply(BatchReply),
}

/// What has happened.
///
/// Two connections join us to a peer: on the outbound one we write, on the inbound one the peer
/// writes. They come and go independently. A forwarded command travels on the outbound connection
/// and its reply on the inbound one. So when **either** is lost, every command that was forwarded
/// to that peer and has no reply yet has an unknown outcome. Commands are best forwarded only while
/// both connections are up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A peer that was wanted has accepted our handshake: `send` reaches it from now on.
    OutboundUp(Facts),
    /// The first shard of a peer's node has said how many shards there are. That shard itself is
    /// not wanted, and the connection is closed again.
    Learned(Facts),
    /// The outbound connection is lost, and with it perhaps what was sent last.
    OutboundLost(PeerShard),
    /// The outbound connection has room again: a message, a batch or a reply was refused since it was made, or since
    /// the last such event.
    Room(PeerShard),
    /// A peer has dialled us and was accepted.
    InboundUp(Facts),
    /// The inbound connection is lost, or a newer connection of the same peer has replaced it.
    InboundLost(PeerShard),
    /// Messages for replicas here.
    Messages(PeerShard, Vec<Envelope>),
    /// A heartbeat.
    Heartbeat(PeerShard, Heartbeat),
    /// Client commands for a leader here.
    Forward(PeerShard, RequestBatch),
    /// The outcome of commands that were forwarded to that peer.
    ForwardReply(PeerShard, BatchReply),
    /// A handshake was refused. The event comes again with each attempt.
    Refused {
        /// The peer by the name that it gave, or by the name that we dialled.
        peer: PeerShard,
        /// The peer refuses us; or this shard has not met the others yet, and the peer's table says
        /// that the peer would refuse us. If the refusal also [`Refusal::ends`] our node, the shard
        /// records that durably and stops.
        by_them: bool,
        /// Why.
        refusal: Refusal,
    },
}
