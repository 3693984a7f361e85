//! Where the nodes listen, how many shards they have, and which of those shards are wanted. Pure.
//! Shard `i` of a node listens at the node's peer port plus `i`: the port names the shard, so no
//! connection is handed from one core to another.

use crate::peer_shard::PeerShard;
use purlin_rsm::{NodeId, ShardId};
use std::collections::{BTreeMap, BTreeSet};

/// Names the wanted shards of a node that has this many shards.
pub(crate) type ShardsOf = Box<dyn Fn(u16) -> Vec<ShardId>>;

#[derive(Default)]
pub(crate) struct Registry {
    nodes: BTreeMap<NodeId, Known>,
}

#[derive(Default)]
struct Known {
    /// Host and peer port: shard `i` listens at that port plus `i`.
    address: Option<(String, u16)>,
    /// How many shards the node has, by its own word.
    shards: Option<u16>,
    wanted: Option<ShardsOf>,
}

impl Registry {
    pub(crate) fn set_address(&mut self, node: NodeId, host: String, peer_port: u16) {
        self.nodes.entry(node).or_default().address = Some((host, peer_port));
    }

    pub(crate) fn want(&mut self, node: NodeId, wanted: ShardsOf) {
        self.nodes.entry(node).or_default().wanted = Some(wanted);
    }

    /// The node has said how many shards it has.
    pub(crate) fn learn(&mut self, node: NodeId, shards: u16) {
        self.nodes.entry(node).or_default().shards = Some(shards);
    }

    /// Whether shards of the node are wanted while their number is not known.
    pub(crate) fn is_in_doubt(&self, node: NodeId) -> bool {
        let known = self.nodes.get(&node);
        known.is_some_and(|known| known.wanted.is_some() && known.shards.is_none())
    }

    /// Which shards of the node are wanted. `None` as long as their number is not known: then shard
    /// 0 must be asked.
    pub(crate) fn wanted(&self, node: NodeId) -> Option<BTreeSet<ShardId>> {
        let known = self.nodes.get(&node)?;
        let (shards, wanted) = (known.shards?, known.wanted.as_ref()?);
        Some(wanted(shards).into_iter().filter(|shard| shard.0 < shards).collect())
    }

    /// Where the shard listens, as `host:port`, or what is missing.
    pub(crate) fn address(&self, peer: PeerShard) -> Result<String, &'static str> {
        let known = self.nodes.get(&peer.node).and_then(|known| known.address.as_ref());
        let (host, peer_port) = known.ok_or("its address is not known")?;
        let port = peer_port.checked_add(peer.shard.0).ok_or("its port would be over 65,535")?;
        let is_bare_v6 = host.contains(':') && !host.starts_with('[');
        Ok(if is_bare_v6 { format!("[{host}]:{port}") } else { format!("{host}:{port}") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shard_has_the_port_of_its_number() {
        let mut registry = Registry::default();
        let at = |node, shard| PeerShard::new(NodeId(node), ShardId(shard));
        registry.set_address(NodeId(1), "host".into(), 7000);
        registry.set_address(NodeId(2), "::1".into(), 65_535);
        assert_eq!(registry.address(at(1, 3)).unwrap(), "host:7003");
        assert_eq!(registry.address(at(2, 0)).unwrap(), "[::1]:65535");
        assert!(registry.address(at(2, 1)).is_err());
        assert!(registry.address(at(3, 0)).is_err());
        registry.set_address(NodeId(1), "other".into(), 1);
        assert_eq!(registry.address(at(1, 0)).unwrap(), "other:1");
    }

    #[test]
    fn the_wanted_shards_follow_from_how_many_there_are() {
        let mut registry = Registry::default();
        registry.want(NodeId(1), Box::new(|shards| vec![ShardId(5 % shards), ShardId(9)]));
        assert_eq!(registry.wanted(NodeId(1)), None);
        registry.learn(NodeId(1), 4);
        assert_eq!(registry.wanted(NodeId(1)), Some(BTreeSet::from([ShardId(1)])));
    }
}
