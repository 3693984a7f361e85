//! Free loopback ports: a block of a hundred for each node.
//!
//! ```text
//! base            the gateway
//! base + 1…40     the shards, for clients
//! base + 50…89    the shards, for other nodes
//! base + 98       the admin port
//! base + 99       bound while the cluster runs: the block is taken
//! ```
//!
//! A port is free if it can be bound. The last port of a block keeps two clusters that start at the same
//! time apart. All blocks lie below the ports that Linux gives to outgoing connections, so that no
//! such connection takes a port of a node that is down.

use crate::config::{ADMIN_OFFSET, PEER_OFFSET, SHARD_OFFSET};
use std::net::{Ipv4Addr, TcpListener};

const BLOCK: u16 = 100;
const FIRST: u16 = 7000;
const LAST: u16 = 32_600;
/// How many ports of a block are for other nodes, and how many for clients beside the gateway: one for each shard.
pub(super) const PEER_PORTS: u16 = 40;

/// The ports of one node, free when they were taken, and no other cluster's while this lives.
#[derive(Debug)]
pub(super) struct Block {
    base: u16,
    _taken: TcpListener,
}

impl Block {
    /// The first free blocks, for so many nodes with so many shards; nothing when there are too few.
    pub(super) fn take(nodes: u32, shards: u16) -> Option<Vec<Self>> {
        let bases = (FIRST..=LAST).step_by(usize::from(BLOCK));
        let free = bases.filter_map(|base| Self::take_at(base, shards));
        let blocks: Vec<_> = free.take(nodes as usize).collect();
        (blocks.len() == nodes as usize).then_some(blocks)
    }

    /// The block from `base` on, if it is free.
    pub(super) fn take_at(base: u16, shards: u16) -> Option<Self> {
        assert!(shards <= PEER_PORTS, "{shards} shards in a block of {BLOCK} ports");
        let taken = bind(base.checked_add(BLOCK - 1)?)?;
        let (clients, peers) = (base + SHARD_OFFSET, base + PEER_OFFSET);
        let of_shards = (clients..clients + shards).chain(peers..peers + shards);
        let mut used = [base, base + ADMIN_OFFSET].into_iter().chain(of_shards);
        let free = used.all(|port| bind(port).is_some());
        free.then_some(Self { base, _taken: taken })
    }

    /// Where clients connect.
    pub(super) fn gateway(&self) -> u16 {
        self.base
    }

    /// Where the first shard listens for other nodes.
    pub(super) fn peer_port(&self) -> u16 {
        self.base + PEER_OFFSET
    }
}

fn bind(port: u16) -> Option<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_do_not_overlap_and_are_free() {
        let ours = Block::take(3, 4).expect("free ports");
        let theirs = Block::take(2, PEER_PORTS).expect("free ports");
        let mut bases: Vec<_> = ours.iter().chain(&theirs).map(Block::gateway).collect();
        bases.sort_unstable();
        bases.dedup();
        assert_eq!(bases.len(), 5, "each block is taken once");
        for block in &ours {
            assert_eq!(block.peer_port(), block.gateway() + 50);
            assert!(Block::take_at(block.gateway(), 1).is_none(), "it is taken");
        }
    }

    #[test]
    fn a_block_with_a_port_in_use_is_not_free() {
        let base = Block::take(1, 1).expect("free ports")[0].gateway();
        for port in [base + 51, base + 2] {
            let in_use = bind(port).expect("a free port");
            assert!(Block::take_at(base, 2).is_none());
            drop(in_use);
        }
        assert_eq!(Block::take_at(u16::MAX, 1).map(|block| block.base), None);
    }
}
