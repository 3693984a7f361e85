//! All connections of one shard to the shards of other nodes.
//!
//! The exchanger runs on one thread, has no clock and starts no task. Futures to run come out of
//! `take_drivers`, and time goes in by `beat`. `notify` tells the engine that there is something to
//! fetch. `notify` may be called from within any method, so it should do no more than wake the shard's
//! loop.

use crate::{
    config::ExchangerConfig,
    event::{Event, Outbound},
    handshake::Facts,
    hub::{Driver, Hub},
    inbound,
    net::{Listener, Net},
    outbound,
    outbox::Full,
    peer::Peer,
    peer_book::PeerBook,
    peer_shard::PeerShard,
    status::PeerStatus,
};
use purlin_rsm::{Incarnation, NodeId, PeerMemory, Sequence, ShardId};
use std::{cell::RefCell, io, rc::Rc};

/// All connections of one shard to the shards of other nodes.
pub struct Exchanger<N: Net> {
    hub: Rc<Hub<N>>,
    /// The peers to which something was sent since the last flush.
    dirty: RefCell<Vec<Rc<Peer>>>,
}

impl<N: Net> Exchanger<N> {
    /// The exchanger of the shard that `local` tells of. The table in `local` is not used: other nodes
    /// are told the table of the book, with this node in it.
    pub fn new(
        net: N,
        local: Facts,
        book: PeerBook,
        config: ExchangerConfig,
        notify: Rc<dyn Fn()>,
    ) -> Rc<Self> {
        let hub = Rc::new(Hub::new(net.between_nodes(), local, book, config, notify));
        Rc::new(Self { hub, dirty: RefCell::default() })
    }

    /// Listens at `address`, as `host:port`, and accepts in a driver from then on. Returns the port.
    pub async fn listen(&self, address: &str) -> io::Result<u16> {
        let listener = self.hub.net.listen(address).await?;
        let port = listener.port();
        self.hub.spawn(inbound::accept(self.hub.clone(), listener));
        Ok(port)
    }

    /// This shard has met the others and votes from now on (safety I2).
    pub fn set_acting(&self, acting: bool) {
        self.hub.local.borrow_mut().acting = acting;
    }

    /// The members and their incarnations, as the cluster has agreed on them.
    pub fn set_table(&self, table: impl IntoIterator<Item = (NodeId, Incarnation)>) {
        self.hub.book.borrow_mut().set_table(table);
    }

    /// The members whose incarnation is known, this node included, ascending.
    pub fn table(&self) -> Vec<(NodeId, Incarnation)> {
        self.hub.table()
    }

    /// Shard `i` of `node` listens at `peer_port + i` of `host`. It holds from the next dial on.
    pub fn set_address(&self, node: NodeId, host: String, peer_port: u16) {
        self.hub.set_address(node, host, peer_port);
    }

    /// Keeps connections to some shards of `node`: those that `shards_of` names when it is told how
    /// many shards the node has. The first shard is asked for their number. Replaces what was wanted
    /// of `node` before. `shards_of` is asked again when the number is learned anew, and must not call
    /// the exchanger.
    pub fn want(&self, node: NodeId, shards_of: impl Fn(u16) -> Vec<ShardId> + 'static) {
        assert_ne!(node, self.hub.node(), "a node does not dial itself");
        self.hub.registry.borrow_mut().want(node, Box::new(shards_of));
        self.hub.arrange(node);
    }

    /// The tasks that the engine shall run. To be called after `notify`.
    pub fn take_drivers(&self) -> Vec<Driver> {
        let (mut drivers, peers) = self.hub.take_new();
        for peer in peers {
            drivers.push(Box::pin(outbound::run(self.hub.clone(), peer)));
        }
        drivers
    }

    /// Gives `item` to the peer at the next `flush`. The item comes back when the peer is not
    /// connected, when too much waits for it already, or when no frame can hold it.
    pub fn send(&self, to: PeerShard, item: Outbound) -> Result<(), Outbound> {
        let peers = self.hub.peers.borrow();
        let Some(peer) = peers.get(&to).filter(|peer| peer.is_up.get()) else { return Err(item) };
        if let Outbound::Message(envelope) = &item {
            let route = (envelope.from, envelope.to);
            let expected = (self.hub.node(), to.node);
            assert_eq!(route, expected, "the connection says whom a message is from and to");
        }
        match peer.outbox.borrow_mut().push(&item, self.hub.durable.get()) {
            Ok(()) => {}
            Err(Full::Now) => return Err(item),
            Err(Full::Always) => {
                self.report_too_long(to);
                return Err(item);
            }
        }
        self.note_dirty(peer);
        Ok(())
    }

    fn note_dirty(&self, peer: &Rc<Peer>) {
        if !peer.is_dirty.replace(true) {
            self.dirty.borrow_mut().push(peer.clone());
        }
    }

    /// The WAL has made all up to `durable` durable, which is never less than before. Each frame says what was durable
    /// when it was closed. So this comes before an acknowledgement that rests on it is sent: the peer remembers the
    /// sequence with the acknowledgement (safety I4).
    pub fn note_durable(&self, durable: Sequence) {
        let before = self.hub.durable.replace(durable);
        assert!(before <= durable, "what is durable went back from {before} to {durable}");
    }

    /// Ends a turn: each peer to which something was sent writes all of it at once. `durable` is what
    /// the WAL has made durable by now.
    pub fn flush(&self, durable: Sequence) {
        self.note_durable(durable);
        for peer in self.dirty.borrow_mut().drain(..) {
            peer.is_dirty.set(false);
            peer.ready.raise();
        }
    }

    /// The next event, if there is one.
    pub fn poll(&self) -> Option<Event> {
        let (event, readers) = self.hub.inbox.borrow_mut().pop()?;
        readers.into_iter().for_each(|reader| reader.wake());
        Some(event)
    }

    /// What the events that wait stand for, in bytes: their frames', and some for each.
    pub fn waiting_bytes(&self) -> usize {
        self.hub.inbox.borrow().bytes()
    }

    /// One beat has passed. A peer to which nothing was sent since the last one is sent a frame without items. So
    /// the peer can tell a pair that has nothing to say from one that is cut.
    pub fn beat(&self) {
        self.hub.beat();
        let durable = self.hub.durable.get();
        for peer in self.hub.peers.borrow().values().filter(|peer| peer.is_up.get()) {
            if peer.outbox.borrow_mut().keep_alive(durable) {
                self.note_dirty(peer);
            }
        }
    }

    /// Whether there is a connection on which we write to the peer: whether `send` reaches it.
    pub fn is_outbound_up(&self, peer: PeerShard) -> bool {
        self.hub.peers.borrow().get(&peer).is_some_and(|peer| peer.is_up.get())
    }

    /// Writes what was sent, and then ends the connections on which we write. Those on which we read stay open until
    /// [`Exchanger::stop`]: a peer whose batch was replied to would otherwise learn of their end before the reply, and
    /// take the batch for lost.
    pub fn finish(&self) {
        self.hub.peers.borrow().values().for_each(|peer| peer.finish());
    }

    /// Whether the peers have read all that was sent before [`Exchanger::finish`]. What is sent to one that is not
    /// connected is lost.
    pub fn is_finished(&self) -> bool {
        self.hub.peers.borrow().values().all(|peer| !peer.is_up.get())
    }

    /// How the peers' shards stand. Replaces what is in `into`.
    pub fn status(&self, into: &mut Vec<PeerStatus>) {
        self.hub.status(into);
    }

    /// What is newly remembered of the peers, to be written into the WAL: lazily, but a fence soon.
    pub fn take_memories(&self) -> Vec<PeerMemory> {
        self.hub.book.borrow_mut().take_changes()
    }

    /// Closes all connections; all drivers end.
    pub fn stop(&self) {
        self.hub.arrivals.stop();
        self.hub.peers.borrow().values().for_each(|peer| peer.unwant());
    }

    fn report_too_long(&self, to: PeerShard) {
        if self.hub.links.borrow_mut().too_long(to) {
            let most = self.hub.config.frame_bytes_max;
            tracing::error!(peer = %to, "a message was not sent: it is longer than a frame, which has {most} \
                bytes at most. Means: it is never delivered. Do: lower the limit of a command");
        }
    }
}

#[cfg(test)]
#[path = "exchanger_test.rs"]
mod tests;
