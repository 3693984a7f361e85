//! What the exchanger and the tasks of its connections share: who we are, what is remembered of the
//! peers, the inbox, and the time in beats.
//!
//! The hub knows no task. A task that must be started goes out of it: an inbound connection as a
//! driver, a peer to dial in the list of new peers, and the exchanger makes the driver of it.

use crate::{
    arrivals::Arrivals,
    config::ExchangerConfig,
    connection::Ended,
    event::Event,
    handshake::Facts,
    handshakes::Source,
    inbox::Inbox,
    links::{Direction, Links},
    net::Net,
    outbox::Outbox,
    peer::{Peer, Want},
    peer_book::PeerBook,
    peer_shard::PeerShard,
    refusal::Refusal,
    registry::Registry,
};
use purlin_rsm::{Incarnation, NodeId, Sequence, ShardId};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    rc::Rc,
    sync::Arc,
};

/// A task of the exchanger, to be run by the engine until it ends.
pub type Driver = Pin<Box<dyn Future<Output = ()>>>;

/// See the module.
pub(crate) struct Hub<N: Net> {
    pub(crate) net: N,
    pub(crate) config: ExchangerConfig,
    /// What we say of ourselves. The table in it is not used: the book has the table.
    pub(crate) local: RefCell<Facts>,
    notify: Rc<dyn Fn()>,
    pub(crate) book: RefCell<PeerBook>,
    pub(crate) registry: RefCell<Registry>,
    /// The peers that we dial.
    pub(crate) peers: RefCell<BTreeMap<PeerShard, Rc<Peer>>>,
    /// The peers among them that have no task yet.
    new_peers: RefCell<Vec<Rc<Peer>>>,
    /// The connections that peers have dialled.
    pub(crate) arrivals: Arrivals,
    pub(crate) inbox: RefCell<Inbox>,
    drivers: RefCell<Vec<Driver>>,
    /// How each peer stands, and what it last told of itself.
    pub(crate) links: RefCell<Links>,
    /// What our WAL has made durable, as of the last flush (safety I4).
    pub(crate) durable: Cell<Sequence>,
    /// The number of beats so far.
    beats: Cell<u64>,
}

impl<N: Net> Hub<N> {
    pub(crate) fn new(
        net: N,
        local: Facts,
        book: PeerBook,
        config: ExchangerConfig,
        notify: Rc<dyn Fn()>,
    ) -> Self {
        config.assert_valid();
        local.assert_valid();
        Self {
            inbox: RefCell::new(Inbox::new(config.inbox_bytes_max)),
            net,
            config,
            local: RefCell::new(local),
            notify,
            book: RefCell::new(book),
            registry: RefCell::default(),
            peers: RefCell::default(),
            new_peers: RefCell::default(),
            arrivals: Arrivals::default(),
            drivers: RefCell::default(),
            links: RefCell::default(),
            durable: Cell::new(Sequence(0)),
            beats: Cell::new(0),
        }
    }

    /// The present beat.
    pub(crate) fn now(&self) -> u64 {
        self.beats.get()
    }

    /// The beat that comes in `beats` beats.
    pub(crate) fn in_beats(&self, beats: u64) -> u64 {
        self.beats.get() + beats
    }

    /// One beat has passed.
    pub(crate) fn beat(&self) {
        self.beats.set(self.beats.get() + 1);
        let now = self.beats.get();
        self.book.borrow_mut().beat();
        self.arrivals.beat(now);
        self.tell_unidentified(now);
        self.peers.borrow().values().for_each(|peer| peer.cancel.beat(now));
    }

    /// This node.
    pub(crate) fn node(&self) -> NodeId {
        self.local.borrow().node
    }

    /// Shard `i` of `node` listens at `peer_port + i` of `host`.
    pub(crate) fn set_address(&self, node: NodeId, host: String, peer_port: u16) {
        if let Ok(address) = host.parse() {
            self.arrivals.handshakes.borrow_mut().know(node, Source::Configured, address);
        }
        self.registry.borrow_mut().set_address(node, host, peer_port);
        self.links.borrow_mut().readdress(node, |peer| self.shown_address(peer));
    }

    /// Where `peer` listens, for people.
    fn shown_address(&self, peer: PeerShard) -> Option<Arc<str>> {
        self.address(peer).ok().map(Arc::from)
    }

    /// Where `peer` listens, or what is missing to dial it.
    pub(crate) fn address(&self, peer: PeerShard) -> Result<String, &'static str> {
        self.registry.borrow().address(peer)
    }

    /// The members whose incarnation is known, this node included, ascending.
    pub(crate) fn table(&self) -> Vec<(NodeId, Incarnation)> {
        let local = self.local.borrow();
        let mut table: BTreeMap<_, _> = self.book.borrow().table().into_iter().collect();
        table.insert(local.node, local.incarnation);
        table.into_iter().collect()
    }

    /// What we say of ourselves.
    pub(crate) fn facts(&self) -> Facts {
        Facts { table: self.table(), ..self.local.borrow().clone() }
    }

    /// Decides about a handshake, by `check` and by what is remembered of the peer, and remembers the
    /// peer if it is admitted. It is one step: of two handshakes at a time the second sees the first
    /// (safety I5).
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
            Ok(()) => {
                book.admit(theirs, durable);
                self.note_told(theirs);
            }
            Err(Refusal::WentBack { .. }) => self.cut_off(theirs.pair()),
            Err(_) => {}
        }
        judged
    }

    /// Remembers what an admitted peer tells of itself. Its node may have fewer shards than before.
    pub(crate) fn note_told(&self, facts: &Facts) {
        let address = self.shown_address(facts.pair());
        self.links.borrow_mut().told(facts, address);
    }

    /// A frame has come from a peer. Returns whether the frame counts.
    pub(crate) fn saw(&self, facts: &Facts, durable: Sequence) -> bool {
        let boot = facts.start().boot;
        self.book.borrow_mut().saw(facts.pair(), facts.incarnation, boot, durable)
    }

    /// A peer has said how many shards its node has.
    pub(crate) fn learned(&self, facts: &Facts) {
        self.registry.borrow_mut().learn(facts.node, facts.shards);
        self.arrange(facts.node);
    }

    /// A shard that dials us says too how many shards its node has: the first shard, which we ask, may
    /// have stopped while the others go on. We ask the first shard all the same, since its answer
    /// tells more.
    pub(crate) fn told_by_dialler(&self, facts: &Facts) {
        if facts.shard != ShardId(0) && self.registry.borrow().is_in_doubt(facts.node) {
            self.learned(facts);
        }
    }

    pub(crate) fn outbound_up(&self, peer: &Peer, facts: Facts) {
        peer.outbox.borrow_mut().clear();
        peer.is_up.set(true);
        if self.links.borrow_mut().up(Direction::Outbound, peer.id) {
            tracing::info!(peer = %peer.id, "connected to the peer");
        }
        self.emit(Event::OutboundUp(facts), 0);
    }

    pub(crate) fn outbound_lost(&self, peer: &Peer) {
        peer.is_up.set(false);
        peer.outbox.borrow_mut().clear();
        self.emit(Event::OutboundLost(peer.id), 0);
    }

    pub(crate) fn inbound_up(&self, facts: Facts) {
        if self.links.borrow_mut().up(Direction::Inbound, facts.pair()) {
            tracing::info!(peer = %facts.pair(), "accepted the connection of the peer");
        }
        self.emit(Event::InboundUp(facts), 0);
    }

    /// Logs why a connection ended that we dialled, or that was admitted, if that is news.
    pub(crate) fn ended(&self, direction: Direction, peer: PeerShard, ended: &Ended) {
        self.note_ended(direction, Some(peer), ended, |links, why| {
            links.ended(direction, peer, why)
        });
    }

    /// Logs why an inbound connection was not admitted, if that is news, once in a while. `peer` is the name
    /// that it gave, which may be another's: `None` if it never said whose it is.
    pub(crate) fn not_admitted(&self, peer: Option<PeerShard>, ended: &Ended) {
        let is_up = peer.is_some_and(|peer| self.arrivals.is_connected(peer));
        let (now, pause) = (self.now(), self.config.unidentified_log_beats);
        self.note_ended(Direction::Inbound, peer, ended, |links, why| {
            links.not_admitted(peer, is_up, why, now, pause)
        });
        self.tell_unidentified(now);
    }

    /// Tells the engine of a refusal, and logs the end of a connection if `is_news`.
    fn note_ended(
        &self,
        direction: Direction,
        peer: Option<PeerShard>,
        ended: &Ended,
        is_news: impl FnOnce(&mut Links, &str) -> bool,
    ) {
        if let (Some(peer), Ended::Refused { refusal, by_them }) = (peer, ended) {
            // Safety I2: a node that has not met the others yet may learn from a peer's table that it
            // is not the node they know. A node that acts was known to all, so such a table is old.
            let is_told = refusal.ends(self.node()) && !self.local.borrow().acting;
            let by_them = *by_them || is_told;
            self.emit(Event::Refused { peer, by_them, refusal: *refusal }, 0);
        }
        purlin_rsm::sometimes!(matches!(ended, Ended::Late), "connection given up for silence");
        if matches!(ended, Ended::Dropped) {
            return;
        }
        let why = ended.to_string();
        let is_news = is_news(&mut self.links.borrow_mut(), &why);
        if let (true, Some(peer)) = (is_news, peer) {
            tracing::warn!(%peer, ?direction, "the connection has ended, or was not made: {why}");
        }
    }

    /// Logs how many connections were not admitted and have no line of their own, once in a while.
    fn tell_unidentified(&self, now: u64) {
        let pause = self.config.unidentified_log_beats;
        let told = self.links.borrow_mut().take_unidentified(now, pause);
        if let Some((count, why)) = told {
            tracing::warn!(
                count,
                "connections that were not admitted were closed, the last one because: {why}. Means: they keep \
                 no member out. Do: if there are many, see who reaches the ports between nodes"
            );
        }
    }

    /// Puts an event into the inbox that stands for `bytes` of a frame.
    pub(crate) fn emit(&self, event: Event, bytes: usize) {
        let is_first = self.inbox.borrow_mut().push(event, bytes);
        if is_first {
            (self.notify)();
        }
    }

    /// Hands a task out, to be run by the engine.
    pub(crate) fn spawn(&self, driver: impl Future<Output = ()> + 'static) {
        self.drivers.borrow_mut().push(Box::pin(driver));
        (self.notify)();
    }

    /// The tasks that were handed out since the last call, and the peers that have no task yet.
    pub(crate) fn take_new(&self) -> (Vec<Driver>, Vec<Rc<Peer>>) {
        (self.drivers.take(), self.new_peers.take())
    }

    /// The task of a peer that is no longer wanted has ended.
    pub(crate) fn forget(&self, peer: &Peer) {
        self.peers.borrow_mut().remove(&peer.id);
        self.links.borrow_mut().undialled(peer.id);
    }

    /// Makes the peers of `node` the ones that are wanted.
    pub(crate) fn arrange(&self, node: NodeId) {
        let wanted = self.registry.borrow().wanted(node);
        let Some(wanted) = wanted else {
            return self.keep(PeerShard::new(node, ShardId(0)), Want::Learning);
        };
        for peer in self.peers.borrow().values().filter(|peer| peer.id.node == node) {
            // A peer that is only asked ends by its answer, which tells more than the number of shards.
            if peer.want.get() == Want::Sending && !wanted.contains(&peer.id.shard) {
                peer.unwant();
            }
        }
        wanted.iter().for_each(|shard| self.keep(PeerShard::new(node, *shard), Want::Sending));
    }

    fn keep(&self, id: PeerShard, want: Want) {
        if let Some(peer) = self.peers.borrow().get(&id) {
            peer.want.set(want);
            return;
        }
        if self.arrivals.accepting.is_dropped() {
            return;
        }
        let outbox = Outbox::new(self.config.outbox_bytes_max, self.config.frame_bytes_max);
        let peer = Rc::new(Peer::new(id, want, outbox));
        self.peers.borrow_mut().insert(id, peer.clone());
        let address = self.shown_address(id);
        self.links.borrow_mut().dialled(id, address);
        self.new_peers.borrow_mut().push(peer);
        (self.notify)();
    }

    /// A peer that was heard is silent: perhaps our connection to it is as dead as its own.
    pub(crate) fn dial_again(&self, id: PeerShard) {
        purlin_rsm::sometimes!("silent peer dialled again");
        if let Some(peer) = self.peers.borrow().get(&id) {
            peer.dial_again();
        }
    }

    /// Ends the connections of a peer whose directory has gone back (safety I4).
    fn cut_off(&self, id: PeerShard) {
        self.arrivals.drop_peer(id);
        if let Some(peer) = self.peers.borrow().get(&id) {
            peer.cancel.drop_connection();
        }
    }
}
