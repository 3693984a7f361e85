//! All connections of one shard to the shards of other nodes.
//!
//! Single-threaded, without a clock and without spawn: futures to run come out of `take_drivers`,
//! time goes in by `beat`, and `notify` tells the engine that there is something to fetch. `notify`
//! may be called from within any method, so it should do no more than wake the shard's loop.

use crate::{
    config::ExchangerConfig,
    connection::Ended,
    event::{Event, Outbound, PeerShard},
    handshake::Facts,
    inbound::{self, Arrivals},
    inbox::Inbox,
    journal::{Direction, Journal},
    net::{Listener, Net},
    outbox::{Full, Outbox},
    peer::{self, Peer, Want},
    peers::PeerBook,
    refusal::Refusal,
    registry::Registry,
};
use purlin_rsm::{Incarnation, NodeId, PeerMemory, Sequence, ShardId};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::Future,
    io,
    pin::Pin,
    rc::Rc,
};

/// A task of the exchanger, to be run by the engine until it ends.
pub type Driver = Pin<Box<dyn Future<Output = ()>>>;

/// All connections of one shard to the shards of other nodes.
pub struct Exchanger<N: Net> {
    pub(crate) net: N,
    pub(crate) config: ExchangerConfig,
    /// What we say of ourselves; its table is the book's.
    local: RefCell<Facts>,
    notify: Rc<dyn Fn()>,

    book: RefCell<PeerBook>,
    registry: RefCell<Registry>,
    /// Those whom we dial.
    peers: RefCell<BTreeMap<PeerShard, Rc<Peer>>>,
    /// Those to whom something was sent since the last flush.
    dirty: RefCell<Vec<Rc<Peer>>>,
    /// Those who dial us.
    pub(crate) arrivals: Arrivals,
    pub(crate) inbox: RefCell<Inbox>,
    drivers: RefCell<Vec<Driver>>,
    journal: RefCell<Journal>,
    /// What our WAL has made durable, as of the last flush (safety I4).
    pub(crate) durable: Cell<Sequence>,
    /// Counts beats.
    now: Cell<u64>,
}

impl<N: Net> Exchanger<N> {
    /// The exchanger of the shard that `local` tells of. The table in `local` is not used: what is
    /// told to others is the book's, and this node itself.
    pub fn new(
        net: N,
        local: Facts,
        book: PeerBook,
        config: ExchangerConfig,
        notify: Rc<dyn Fn()>,
    ) -> Rc<Self> {
        config.assert_valid();
        local.assert_valid();
        Rc::new(Self {
            inbox: RefCell::new(Inbox::new(config.inbox_bytes_max)),
            net,
            config,
            local: RefCell::new(local),
            notify,
            book: RefCell::new(book),
            registry: RefCell::default(),
            peers: RefCell::default(),
            dirty: RefCell::default(),
            arrivals: Arrivals::default(),
            drivers: RefCell::default(),
            journal: RefCell::default(),
            durable: Cell::new(Sequence(0)),
            now: Cell::new(0),
        })
    }

    /// Listens at `address`, as `host:port`, and accepts in a driver from then on. Returns the port.
    pub async fn listen(self: &Rc<Self>, address: &str) -> io::Result<u16> {
        let listener = self.net.listen(address).await?;
        let port = listener.port();
        self.spawn(inbound::accept(self.clone(), listener));
        Ok(port)
    }

    /// This shard has met the others and votes from now on (safety I2).
    pub fn set_acting(&self, acting: bool) {
        self.local.borrow_mut().acting = acting;
    }

    /// The members and their incarnations, as the cluster has agreed on them.
    pub fn set_table(&self, table: impl IntoIterator<Item = (NodeId, Incarnation)>) {
        self.book.borrow_mut().set_table(table);
    }

    /// The members whose incarnation is known, this node included, ascending.
    pub fn table(&self) -> Vec<(NodeId, Incarnation)> {
        let local = self.local.borrow();
        let mut table: BTreeMap<_, _> = self.book.borrow().table().into_iter().collect();
        table.insert(local.node, local.incarnation);
        table.into_iter().collect()
    }

    /// Shard `i` of `node` listens at `peer_port + i` of `host`: for the next dial.
    pub fn set_address(&self, node: NodeId, host: String, peer_port: u16) {
        self.registry.borrow_mut().set_address(node, host, peer_port);
    }

    /// Keeps connections to those shards of `node` that `shards_of` names when it is told how many
    /// there are; the first shard is asked for their number. Replaces what was wanted of `node`
    /// before. `shards_of` is asked again when the number is learned anew, and must not call the
    /// exchanger.
    pub fn want(self: &Rc<Self>, node: NodeId, shards_of: impl Fn(u16) -> Vec<ShardId> + 'static) {
        assert_ne!(node, self.node(), "a node does not dial itself");
        self.registry.borrow_mut().want(node, Box::new(shards_of));
        self.arrange(node);
    }

    /// The tasks that the engine shall run. To be called after `notify`.
    pub fn take_drivers(&self) -> Vec<Driver> {
        std::mem::take(&mut self.drivers.borrow_mut())
    }

    /// Gives `item` to the peer at the next `flush`. The item comes back when the peer is not
    /// connected, when too much waits for it already, or when no frame can hold it.
    pub fn send(&self, to: PeerShard, item: Outbound) -> Result<(), Outbound> {
        let peers = self.peers.borrow();
        let Some(peer) = peers.get(&to).filter(|peer| peer.is_up.get()) else { return Err(item) };
        if let Outbound::Message(envelope) = &item {
            let route = (envelope.from, envelope.to);
            assert_eq!(route, (self.node(), to.node), "the connection says whom it is from and to");
        }
        match peer.outbox.borrow_mut().push(&item, self.durable.get()) {
            Ok(()) => {}
            Err(Full::Now) => return Err(item),
            Err(Full::Always) => {
                self.report_too_long(to);
                return Err(item);
            }
        }
        if !peer.is_dirty.replace(true) {
            self.dirty.borrow_mut().push(peer.clone());
        }
        Ok(())
    }

    /// Ends a turn: each peer with something to say writes all of it at once. `durable` is what the
    /// WAL has made durable; never less than before.
    pub fn flush(&self, durable: Sequence) {
        let before = self.durable.replace(durable);
        assert!(before <= durable, "what is durable went back from {before} to {durable}");
        for peer in self.dirty.borrow_mut().drain(..) {
            peer.is_dirty.set(false);
            peer.ready.raise();
        }
    }

    /// What has happened next.
    pub fn poll(&self) -> Option<Event> {
        let (event, readers) = self.inbox.borrow_mut().pop()?;
        readers.into_iter().for_each(|reader| reader.wake());
        Some(event)
    }

    /// One beat has passed.
    pub fn beat(&self) {
        self.now.set(self.now.get() + 1);
        self.book.borrow_mut().beat();
        self.arrivals.beat(self.now.get());
        self.peers.borrow().values().for_each(|peer| peer.leash.beat(self.now.get()));
    }

    /// Whether `send` reaches the peer, and whether it reaches us.
    pub fn is_connected(&self, peer: PeerShard) -> (bool, bool) {
        let outbound = self.peers.borrow().get(&peer).is_some_and(|peer| peer.is_up.get());
        (outbound, self.arrivals.is_connected(peer))
    }

    /// What is newly remembered of the peers, for the WAL: at leisure, but what is fenced soon.
    pub fn take_memories(&self) -> Vec<PeerMemory> {
        self.book.borrow_mut().take_changes()
    }

    /// Closes all connections; all drivers end.
    pub fn stop(&self) {
        self.arrivals.stop();
        self.peers.borrow().values().for_each(|peer| peer.unwant());
    }
}

/// For the tasks of the connections.
impl<N: Net> Exchanger<N> {
    pub(crate) fn now(&self) -> u64 {
        self.now.get()
    }

    pub(crate) fn in_beats(&self, beats: u64) -> u64 {
        self.now.get() + beats
    }

    pub(crate) fn node(&self) -> NodeId {
        self.local.borrow().node
    }

    pub(crate) fn address(&self, peer: PeerShard) -> Result<String, &'static str> {
        self.registry.borrow().address(peer)
    }

    /// What we say of ourselves.
    pub(crate) fn facts(&self) -> Facts {
        Facts { table: self.table(), ..self.local.borrow().clone() }
    }

    /// Decides about a handshake, by `check` and by what is remembered, and remembers it: in one
    /// go, so that of two at a time one sees the other (safety I5).
    pub(crate) fn judge(
        &self,
        theirs: &Facts,
        durable: Sequence,
        check: impl FnOnce(&Facts) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        check(&self.facts())?;
        let mut book = self.book.borrow_mut();
        let judged = book.check(theirs);
        match judged {
            Ok(()) => book.admit(theirs, durable),
            Err(Refusal::WentBack { .. }) => self.cut_off(theirs.pair()),
            Err(_) => {}
        }
        judged
    }

    /// A frame has come; whether it counts.
    pub(crate) fn saw(&self, facts: &Facts, durable: Sequence) -> bool {
        let boot = facts.start().boot;
        self.book.borrow_mut().saw(facts.pair(), facts.incarnation, boot, durable)
    }

    /// A peer has said how many shards its node has.
    pub(crate) fn learned(self: &Rc<Self>, facts: &Facts) {
        self.registry.borrow_mut().learn(facts.node, facts.shards);
        self.arrange(facts.node);
    }

    /// A shard that dials us says too how many its node has: the first one, which we ask, may have
    /// stopped while the others go on. It is asked nevertheless, since its answer tells more.
    pub(crate) fn told_by_dialler(self: &Rc<Self>, facts: &Facts) {
        if facts.shard != ShardId(0) && self.registry.borrow().is_in_doubt(facts.node) {
            self.learned(facts);
        }
    }

    pub(crate) fn outbound_up(&self, peer: &Peer, facts: Facts) {
        peer.outbox.borrow_mut().clear();
        peer.is_up.set(true);
        if self.journal.borrow_mut().is_news(Direction::Outbound, peer.pair, "up") {
            tracing::info!(peer = %peer.pair, "connected");
        }
        self.emit(Event::OutboundUp(facts), 0);
    }

    pub(crate) fn outbound_lost(&self, peer: &Peer) {
        peer.is_up.set(false);
        peer.outbox.borrow_mut().clear();
        self.emit(Event::OutboundLost(peer.pair), 0);
    }

    pub(crate) fn inbound_up(&self, facts: Facts) {
        if self.journal.borrow_mut().is_news(Direction::Inbound, facts.pair(), "up") {
            tracing::info!(peer = %facts.pair(), "accepted a connection");
        }
        self.emit(Event::InboundUp(facts), 0);
    }

    /// Says why a connection ended, if that is news; `peer` is `None` for one that never said whose
    /// it is.
    pub(crate) fn ended(&self, direction: Direction, peer: Option<PeerShard>, ended: &Ended) {
        if let (Some(peer), Ended::Refused { refusal, by_them }) = (peer, ended) {
            // Safety I2: one who has not met the others yet may learn from a peer's table that it
            // is not the one they know. One who acts was known to all, so such a table is old.
            let is_told = refusal.ends(self.node()) && !self.local.borrow().acting;
            let by_them = *by_them || is_told;
            self.emit(Event::Refused { peer, by_them, refusal: *refusal }, 0);
        }
        purlin_rsm::sometimes!(matches!(ended, Ended::Late), "connection given up for silence");
        match (ended, peer) {
            (Ended::Dropped, _) => {}
            (_, Some(peer)) => {
                if self.journal.borrow_mut().is_news(direction, peer, &ended.to_string()) {
                    tracing::warn!(%peer, ?direction, "no connection: {ended}");
                }
            }
            (_, None) => {
                if self
                    .journal
                    .borrow_mut()
                    .may_log_unidentified(self.now(), self.config.unidentified_log_beats)
                {
                    tracing::warn!("closed a connection at the peer port: {ended}");
                }
            }
        }
    }

    pub(crate) fn emit(&self, event: Event, bytes: usize) {
        let is_first = self.inbox.borrow_mut().push(event, bytes);
        if is_first {
            (self.notify)();
        }
    }

    pub(crate) fn spawn(&self, driver: impl Future<Output = ()> + 'static) {
        self.drivers.borrow_mut().push(Box::pin(driver));
        (self.notify)();
    }

    /// The task of a peer that is no longer wanted has ended.
    pub(crate) fn forget(&self, peer: &Peer) {
        self.peers.borrow_mut().remove(&peer.pair);
    }

    /// Makes the peers of `node` those that are wanted.
    fn arrange(self: &Rc<Self>, node: NodeId) {
        let wanted = self.registry.borrow().wanted(node);
        let Some(wanted) = wanted else {
            return self.keep(PeerShard::new(node, ShardId(0)), Want::Learning);
        };
        for peer in self.peers.borrow().values().filter(|peer| peer.pair.node == node) {
            // Who is only asked ends by its answer, which tells more than the number of shards.
            if peer.want.get() == Want::Sending && !wanted.contains(&peer.pair.shard) {
                peer.unwant();
            }
        }
        wanted.iter().for_each(|shard| self.keep(PeerShard::new(node, *shard), Want::Sending));
    }

    fn keep(self: &Rc<Self>, pair: PeerShard, want: Want) {
        if let Some(peer) = self.peers.borrow().get(&pair) {
            peer.want.set(want);
            return;
        }
        if self.arrivals.accepting.is_dropped() {
            return;
        }
        let outbox = Outbox::new(self.config.outbox_bytes_max, self.config.frame_bytes_max);
        let peer = Rc::new(Peer::new(pair, want, outbox));
        self.peers.borrow_mut().insert(pair, peer.clone());
        self.spawn(peer::run(self.clone(), peer));
    }

    /// Ends the connections of a peer that has gone back (safety I4).
    fn cut_off(&self, pair: PeerShard) {
        self.arrivals.drop_peer(pair);
        if let Some(peer) = self.peers.borrow().get(&pair) {
            peer.leash.drop_it();
        }
    }

    fn report_too_long(&self, to: PeerShard) {
        let text = "an item is longer than frame_bytes_max";
        if self.journal.borrow_mut().is_news(Direction::Outbound, to, text) {
            tracing::error!(peer = %to, "not sent: {text}. Means: it is never delivered. Do: lower \
                the longest command, which must be shorter than a frame");
        }
    }
}

#[cfg(test)]
#[path = "exchanger_test.rs"]
mod tests;
