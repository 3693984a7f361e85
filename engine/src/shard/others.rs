//! The other shards, and how this shard reaches them: those of its node through the mesh, those of other nodes
//! through the exchanger.

use crate::{
    edge::{inlet::Inlet, other_shard::OtherShard},
    mesh::{MeshItem, MeshPort},
    runtime::Runtime,
    shard::pairs::Pairs,
};
use purlin_rsm::{Envelope, GroupId, NodeId, RequestError, ShardId};
use purlin_transport::{BatchReply, Exchanger, Outbound, PeerShard, RequestBatch};
use std::{rc::Rc, sync::Arc};

/// See the module. Nothing here waits: an item that finds no room is handed back (safety E4).
pub(crate) struct OtherShards<R: Runtime> {
    /// The pairs with the shards of other nodes.
    pub(crate) pairs: Pairs,
    pub(crate) exchanger: Rc<Exchanger<R::Net>>,
    pub(crate) mesh: MeshPort<R>,
    /// The ways of other threads into the shards of this node, which tell whether a shard has stopped.
    pub(crate) inlets: Arc<[Arc<Inlet<R>>]>,
    /// Groups that waited for room are let on before lanes, in this pass.
    pub(crate) are_entries_first: bool,
    /// The log has been told of a peer's entry that is too long.
    pub(crate) told_too_long: bool,
}

impl<R: Runtime> OtherShards<R> {
    /// The shard of the node `leader` that has `group`, if requests can be sent to it and replies can
    /// come back.
    pub(crate) fn connected_home(&self, leader: NodeId, group: GroupId) -> Option<PeerShard> {
        self.pairs.home(leader, group).filter(|pair| self.pairs.is_connected(*pair))
    }

    /// Why a shard of this node takes nothing: it has stopped, or could not be opened.
    pub(crate) fn refusal_of(&self, shard: ShardId) -> Option<RequestError> {
        let inlet = &self.inlets[usize::from(shard.0)];
        inlet.is_stopped().then(|| inlet.refusal())
    }

    /// Puts a message into the next frame of its peer. Returns false if the message is lost: there is no
    /// connection, or its outbox is full.
    pub(crate) fn send(&self, envelope: Envelope) -> bool {
        let home = self.pairs.home(envelope.to, envelope.group);
        let send = |pair| self.exchanger.send(pair, Outbound::Message(envelope));
        home.is_some_and(|pair| send(pair).is_ok())
    }

    /// Sends a batch of requests. Returns whether there was room for it.
    pub(crate) fn send_batch(&self, to: OtherShard, batch: RequestBatch) -> bool {
        match to {
            OtherShard::OfThisNode(to) => self.mesh.try_send(to, MeshItem::Batch(batch)).is_ok(),
            OtherShard::OfPeer(to) => self.exchanger.send(to, Outbound::Forward(batch)).is_ok(),
        }
    }

    /// Sends a reply, or hands it back if there is no room for it, or no connection yet. Once the peer's own connection
    /// is lost too, so is the reply: the other node notices that, and ends the batch as unknown. While it lives, nobody
    /// there would notice.
    pub(crate) fn send_reply(&self, to: OtherShard, reply: BatchReply) -> Result<(), BatchReply> {
        match to {
            OtherShard::OfThisNode(shard) => {
                match self.mesh.try_send(shard, MeshItem::Reply(reply)) {
                    Err(MeshItem::Reply(reply)) => Err(reply),
                    _ => Ok(()),
                }
            }
            OtherShard::OfPeer(peer) if !self.exchanger.is_outbound_up(peer) => {
                let is_awaited = self.pairs.reaches_us(peer);
                purlin_rsm::sometimes!(is_awaited, "reply to a batch waits for a connection");
                if is_awaited { Err(reply) } else { Ok(()) }
            }
            OtherShard::OfPeer(peer) => {
                match self.exchanger.send(peer, Outbound::ForwardReply(reply)) {
                    Err(Outbound::ForwardReply(reply)) => Err(reply),
                    _ => Ok(()),
                }
            }
        }
    }
}
