//! Free loopback ports, a block for each node, as `purlin dev` takes them: below those that Linux
//! gives to outgoing connections, so that no connection takes the port of a node that is down.

use std::net::{Ipv4Addr, TcpListener};

const BLOCK: u16 = 100;
const FIRST: u16 = 12_000;
const LAST: u16 = 32_600;

/// Ports of one node, nobody else's while this lives.
pub(crate) struct Ports {
    base: u16,
    /// The last port of the block: it says that the block is taken.
    _taken: TcpListener,
}

impl Ports {
    /// A block that nobody uses.
    pub(crate) fn take() -> Self {
        let mut bases = (FIRST..=LAST).step_by(usize::from(BLOCK));
        bases.find_map(Self::take_at).expect("free loopback ports")
    }

    fn take_at(base: u16) -> Option<Self> {
        let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok();
        let taken = bind(base + BLOCK - 1)?;
        let mut used = (base..base + 10).chain(base + 50..base + 60).chain([base + 98]);
        let is_free = used.all(|port| bind(port).is_some());
        is_free.then_some(Self { base, _taken: taken })
    }

    pub(crate) fn gateway(&self) -> u16 {
        self.base
    }

    pub(crate) fn peer(&self) -> u16 {
        self.base + 50
    }
}
