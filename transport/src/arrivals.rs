//! The connections that other nodes have dialled: which there are, and which is current for each
//! peer. The tasks that read them are `inbound`.

use crate::{cancel::CancelToken, handshakes::Handshakes, peer_shard::PeerShard};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
};

/// The inbound connections of an exchanger.
#[derive(Default)]
pub(crate) struct Arrivals {
    /// Ends the task that accepts, or lets it wait after a failure.
    pub(crate) accepting: CancelToken,
    /// All inbound connections in the order in which they came, unfinished handshakes included.
    tokens: RefCell<BTreeMap<u64, Rc<CancelToken>>>,
    /// The connection that counts as the peer's, for each peer.
    current: RefCell<BTreeMap<PeerShard, u64>>,
    /// Those whose handshake is not finished.
    pub(crate) handshakes: RefCell<Handshakes>,
    next: Cell<u64>,
}

impl Arrivals {
    pub(crate) fn beat(&self, now: u64) {
        self.accepting.beat(now);
        self.tokens.borrow().values().for_each(|token| token.beat(now));
    }

    pub(crate) fn stop(&self) {
        self.accepting.drop_connection();
        self.tokens.borrow().values().for_each(|token| token.drop_connection());
    }

    pub(crate) fn is_connected(&self, peer: PeerShard) -> bool {
        self.current.borrow().contains_key(&peer)
    }

    /// Ends the current connection of `peer`.
    pub(crate) fn drop_peer(&self, peer: PeerShard) {
        let current = self.current.borrow().get(&peer).copied();
        if let Some(id) = current {
            self.tokens.borrow()[&id].drop_connection();
        }
    }

    pub(crate) fn open(&self, token: &Rc<CancelToken>) -> u64 {
        let id = self.next.replace(self.next.get() + 1);
        self.tokens.borrow_mut().insert(id, token.clone());
        id
    }

    /// Makes connection `id` the current one of `peer`, unless a later connection is. The connection
    /// that was current until now is dropped.
    pub(crate) fn install(&self, id: u64, peer: PeerShard) -> Installed {
        let before = self.current.borrow().get(&peer).copied();
        if before.is_some_and(|before| before > id) {
            return Installed::Late;
        }
        self.current.borrow_mut().insert(peer, id);
        match before {
            Some(before) => {
                purlin_rsm::sometimes!("half-open connection replaced");
                self.tokens.borrow()[&before].drop_connection();
                Installed::Replaced
            }
            None => Installed::First,
        }
    }

    fn is_current(&self, id: u64, peer: PeerShard) -> bool {
        self.current.borrow().get(&peer) == Some(&id)
    }

    /// Connection `id` is over. Returns whether it was the current one of `peer` until now.
    pub(crate) fn close(&self, id: u64, peer: Option<PeerShard>) -> bool {
        self.tokens.borrow_mut().remove(&id);
        let was_current = peer.is_some_and(|peer| self.is_current(id, peer));
        if let Some(peer) = peer.filter(|_| was_current) {
            self.current.borrow_mut().remove(&peer);
        }
        was_current
    }
}

/// What [`Arrivals::install`] did.
pub(crate) enum Installed {
    /// The peer had no connection.
    First,
    /// The connection replaced an older one of the peer.
    Replaced,
    /// The peer has a later connection already: this one must end.
    Late,
}
