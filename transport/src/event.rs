//! What the engine gives to the exchanger, and what it gets from it.

use crate::{
    forward::{Forward, ForwardReply},
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
    Forward(Forward),
    /// The outcome of commands that the peer forwarded.
    ForwardReply(ForwardReply),
}

/// What has happened.
///
/// The connection on which we write to a peer (outbound) and the one on which it writes to us
/// (inbound) come and go by themselves. A forwarded command travels on the first, its reply on the
/// second; so when **either** is lost, every command forwarded to that peer and not yet answered
/// has an unknown outcome. Commands are best forwarded only while both are up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A peer that was wanted has accepted our handshake: `send` reaches it from now on.
    OutboundUp(Facts),
    /// A peer's first shard was asked how many there are, is not wanted itself, and has answered;
    /// the connection is closed again.
    Learned(Facts),
    /// The connection on which we write is lost, and with it perhaps what was sent last.
    OutboundLost(PeerShard),
    /// A peer has connected to us and was accepted.
    InboundUp(Facts),
    /// The connection on which it wrote is lost, or replaced by a newer one of the same peer.
    InboundLost(PeerShard),
    /// Messages for replicas here.
    Messages(PeerShard, Vec<Envelope>),
    /// A heartbeat.
    Heartbeat(PeerShard, Heartbeat),
    /// Client commands for a leader here.
    Forward(PeerShard, Forward),
    /// The outcome of commands that were forwarded to that peer.
    ForwardReply(PeerShard, ForwardReply),
    /// A handshake failed for a reason. Comes again with each try.
    Refused {
        /// The peer as it calls itself, or as it was looked for.
        peer: PeerShard,
        /// The peer refuses us, or a shard that has not met the others yet sees from the peer's
        /// table that it would. If the refusal also [`Refusal::ends`] our node, the shard records
        /// that durably and stops.
        by_them: bool,
        /// Why.
        refusal: Refusal,
    },
}
