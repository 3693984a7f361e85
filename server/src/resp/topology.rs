//! Where clients reach the leader of each group: what `MOVED` and the subcommands of `CLUSTER` tell.
//!
//! An *endpoint* is a port for clients of one shard of a node, or the gateway of a node whose shards have no ports
//! of their own. The leader of a group is known from the board of this node, and the ports of other nodes from their
//! handshakes. Both are hints: a client that comes to a shard that leads no more is sent on, and no outcome of a
//! command rests on them.

use super::route::SLOTS;
use purlin::{
    Advertised, BoardEntry, GroupId, NodeId, NodeView, PeerShard, Placement, ShardControl, ShardId,
    Term,
};
use std::{collections::BTreeMap, sync::Arc};

/// Where clients reach one shard of a node, or its gateway.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Endpoint {
    /// The node.
    pub node: NodeId,
    /// The shard; `None` for the gateway, which serves all groups.
    pub shard: Option<ShardId>,
    /// The host, as the node names itself.
    pub host: Arc<str>,
    /// The port.
    pub port: u16,
}

/// Who serves a group, as far as clients of a shard's port are concerned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Home {
    /// This shard leads it.
    Here,
    /// Another shard leads it, and clients reach that shard.
    At(Endpoint),
    /// No leader is known, or clients do not reach the leader's shard: this shard forwards, as the gateway does.
    Unknown,
}

/// How clients reach the nodes of a cluster, as one of the nodes knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Topology {
    /// The shard that is asked.
    pub own: (NodeId, ShardId),
    /// The cluster's id, as text.
    pub cluster: String,
    /// How many members the cluster has.
    pub nodes: u32,
    /// The highest term of a group.
    pub term: Term,
    /// The endpoints of all nodes that this node has heard of, ascending.
    endpoints: Vec<Endpoint>,
    /// For each group from 1 on the place of its leader among the endpoints, if it has one.
    leaders: Vec<Option<u32>>,
}

/// What it costs to look at who leads one group, as bytes: a few steps.
pub(super) const GROUP_COST: usize = 4;

/// Slots one behind the other that one endpoint serves: the first, the last, and the place of the endpoint.
type SlotRange = (u16, u16, usize);

/// What a node tells of the way to its clients: itself, the number of its shards, and its ports.
type Told<'a> = (NodeId, u16, &'a Advertised);

impl Endpoint {
    /// Of the shard `shard` of a node, or its gateway. Nothing when the node tells no such port.
    pub fn of((node, _, advertised): Told<'_>, shard: ShardId) -> Option<Self> {
        let Advertised { host, gateway_port, shard_port_base, .. } = advertised;
        let (shard, port) = match *shard_port_base {
            0 => (None, *gateway_port),
            base => (Some(shard), base.checked_add(shard.0)?),
        };
        let is_told = port != 0 && !host.is_empty();
        is_told.then(|| Self { node, shard, host: host.as_str().into(), port })
    }

    /// The 40 hexadecimal digits by which clients know the endpoint: node, shard, and a part of the cluster's id.
    pub fn id(&self, cluster: &str) -> String {
        endpoint_id(self.node, self.shard, cluster)
    }
}

/// See [`Endpoint::id`].
pub(super) fn endpoint_id(node: NodeId, shard: Option<ShardId>, cluster: &str) -> String {
    let shard = shard.map_or(u16::MAX, |shard| shard.0);
    format!("{:08x}{shard:04x}{cluster:0<28.28}", node.0)
}

/// What this node tells of itself, and how it knows the others.
pub(super) struct Known<'a> {
    /// The node's own board, and what its peers have told.
    pub(super) view: &'a NodeView,
    /// The shard that is asked.
    pub(super) shard: ShardId,
    /// How many shards this node has.
    pub(super) shards: u16,
    /// Where clients find this node.
    pub(super) advertised: &'a Advertised,
}

impl Known<'_> {
    /// Whether this shard leads `group`.
    pub(super) fn leads(&self, group: GroupId) -> bool {
        let view = self.view;
        view.shard_of(group) == self.shard
            && view.board().group(group).and_then(|entry| entry.leader) == Some(view.node())
    }

    /// Who serves `group`. Costs next to nothing when this shard leads it.
    pub(super) fn home(&self, group: GroupId) -> Home {
        if self.leads(group) {
            return Home::Here;
        }
        let view = self.view;
        let Some(leader) = view.board().group(group).and_then(|entry| entry.leader) else {
            return Home::Unknown;
        };
        let shard = view.shard_of(group);
        let Some(status) = view.control(shard).map(ShardControl::latest) else {
            return Home::Unknown;
        };
        // What the board says of a shard that does not run is old.
        if !status.state.runs() {
            return Home::Unknown;
        }
        let endpoint = if leader == view.node() {
            Endpoint::of((leader, self.shards, self.advertised), shard)
        } else {
            // The shard that has the group here is connected with the one that has it there. If it is not, the leader
            // may be gone, and the next one is known soon.
            let of_leader = status.peers.iter().filter(|peer| peer.peer.node == leader);
            let mut facts = of_leader.filter_map(|peer| Some((peer, peer.facts.as_deref()?)));
            facts.next().and_then(|(_, facts)| {
                let shard = Placement::new(facts.shards).shard_of(group);
                let pair = PeerShard::new(leader, shard);
                let is_up = status.peers.iter().any(|it| it.peer == pair && it.outbound.is_up);
                let endpoint = Endpoint::of((leader, facts.shards, &facts.advertised), shard);
                endpoint.filter(|_| is_up)
            })
        };
        endpoint.map_or(Home::Unknown, Home::At)
    }
}

impl Topology {
    /// Of a cluster whose keys lie in `groups` groups, as one of its shards knows it.
    pub(super) fn of(known: &Known<'_>, (cluster, nodes): (&str, u32), groups: u32) -> Self {
        let Known { view, shard, shards, advertised } = *known;
        let statuses = view.statuses();
        let peers = statuses.iter().flat_map(|status| &status.peers);
        let told = peers.filter_map(|peer| {
            let facts = peer.facts.as_deref()?;
            Some((peer.peer.node, (facts.shards, &facts.advertised)))
        });
        let mut told: BTreeMap<_, _> = told.collect();
        told.insert(view.node(), (shards, advertised));
        let told = told.into_iter().map(|(node, (shards, advertised))| (node, shards, advertised));
        let board = view.groups_from(GroupId(1)).take(groups as usize);
        Self::made_of((view.node(), shard), (cluster, nodes), told, board)
    }

    fn made_of<'a>(
        own: (NodeId, ShardId),
        (cluster, nodes): (&str, u32),
        told: impl Iterator<Item = Told<'a>>,
        board: impl Iterator<Item = BoardEntry>,
    ) -> Self {
        let mut endpoints = Vec::new();
        // Where the endpoints of each node begin, and how many shards it has.
        let mut nodes_at = BTreeMap::new();
        for told in told {
            let (node, shards, advertised) = told;
            let is_each = advertised.shard_port_base != 0;
            let ports = if is_each { shards } else { 1 };
            let at = endpoints.len();
            let all = (0..ports).map_while(|shard| Endpoint::of(told, ShardId(shard)));
            endpoints.extend(all);
            // A node that does not tell all of them is reached by none.
            if endpoints.len() == at + usize::from(ports) {
                nodes_at.insert(node, (at, shards, is_each));
            } else {
                endpoints.truncate(at);
            }
        }
        let mut term = Term(0);
        let leaders = board.map(|entry| {
            term = term.max(entry.term);
            let &(at, shards, is_each) = nodes_at.get(&entry.leader?)?;
            let shard = if is_each { Placement::new(shards).shard_of(entry.group).0 } else { 0 };
            Some((at + usize::from(shard)) as u32)
        });
        let leaders = leaders.collect();
        Self { own, cluster: cluster.to_owned(), nodes, term, endpoints, leaders }
    }

    /// The endpoints that serve groups, each with its slots: ranges of a first and a last one, ascending.
    pub fn servers(&self) -> Vec<(&Endpoint, Vec<(u16, u16)>)> {
        let mut slots = vec![Vec::new(); self.endpoints.len()];
        for (first, last, at) in self.ranges() {
            slots[at].push((first, last));
        }
        let all = self.endpoints.iter().zip(slots);
        all.filter(|(_, slots)| !slots.is_empty()).collect()
    }

    /// All slots, ascending: the first and the last of each range, and who serves it. That is the leader. For a group
    /// without one it is the endpoint that is asked: it keeps commands until there is a leader, and clients refuse all
    /// slots when one is in no row. An endpoint that knows no leader at all may be cut off, and tells nothing: a client
    /// that takes the rows for all nodes would know no other any more.
    pub fn rows(&self) -> impl Iterator<Item = (u16, u16, &Endpoint)> {
        self.ranges().into_iter().map(|(first, last, at)| (first, last, &self.endpoints[at]))
    }

    /// How many slots have a leader.
    pub fn slots_led(&self) -> u32 {
        let led = self.ranges_by(|leader| leader);
        led.iter().map(|(first, last, _)| u32::from(last - first) + 1).sum()
    }

    /// The endpoint that is asked, if clients reach it.
    pub fn own(&self) -> Option<&Endpoint> {
        self.own_place().map(|at| &self.endpoints[at])
    }

    fn own_place(&self) -> Option<usize> {
        let (node, shard) = self.own;
        let is_own = |it: &Endpoint| it.node == node && it.shard.is_none_or(|it| it == shard);
        self.endpoints.iter().position(is_own)
    }

    fn ranges(&self) -> Vec<SlotRange> {
        let own = self.own_place().filter(|_| self.leaders.iter().any(Option::is_some));
        self.ranges_by(|leader| leader.or(own))
    }

    /// Groups one behind the other with one server are one range. `server` tells it by the leader.
    fn ranges_by(&self, server: impl Fn(Option<usize>) -> Option<usize>) -> Vec<SlotRange> {
        let groups = self.leaders.len() as u32;
        let start = |group: usize| (group as u32 * u32::from(SLOTS) / groups) as u16;
        let mut ranges: Vec<SlotRange> = Vec::new();
        for (group, leader) in self.leaders.iter().enumerate() {
            let Some(at) = server(leader.map(|at| at as usize)) else { continue };
            let (first, last) = (start(group), start(group + 1) - 1);
            match ranges.last_mut() {
                Some(range) if range.2 == at && range.1 + 1 == first => range.1 = last,
                _ => ranges.push((first, last, at)),
            }
        }
        ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use purlin::Index;

    const CLUSTER: &str = "9f0c6f0e4d5b4a0fa1a2c3d4e5f60718";

    fn told(host: &str, gateway_port: u16, shard_port_base: u16) -> Advertised {
        Advertised { host: host.into(), gateway_port, shard_port_base, admin_port: 0 }
    }

    /// A cluster of these nodes, in which these nodes lead the groups from 1 on.
    fn topology(nodes: &[(u32, u16, Advertised)], leaders: &[Option<u32>]) -> Topology {
        let told = nodes.iter().map(|(node, shards, told)| (NodeId(*node), *shards, told));
        let board = (1..).zip(leaders).map(|(group, leader)| BoardEntry {
            group: GroupId(group),
            term: Term(u64::from(group)),
            leader: leader.map(NodeId),
            applied: Index(0),
        });
        Topology::made_of((NodeId(1), ShardId(0)), (CLUSTER, 3), told, board)
    }

    fn rows(topology: &Topology) -> Vec<(u16, u16, String)> {
        let row = |(first, last, it): (u16, u16, &Endpoint)| {
            (first, last, format!("{}:{}", it.host, it.port))
        };
        topology.rows().map(row).collect()
    }

    /// Group g lives on shard g mod (number of shards) of each node.
    #[test]
    fn each_slot_is_told_with_the_port_of_the_shard_that_leads_it() {
        let nodes = [(1, 1, told("a", 7000, 7001)), (2, 2, told("b", 7100, 7101))];
        let four = topology(&nodes, &[Some(2), Some(2), Some(1), Some(1)]);
        let expected = [
            (0, 4095, "b:7102".to_owned()),
            (4096, 8191, "b:7101".into()),
            (8192, 16383, "a:7001".into()),
        ];
        assert_eq!(rows(&four), expected, "groups of one leader are one range");
        assert_eq!((four.term, four.slots_led()), (Term(4), 16384));
        let own = four.own().expect("it leads");
        assert_eq!(own.id(CLUSTER), "0000000100009f0c6f0e4d5b4a0fa1a2c3d4e5f6");
        let servers = four.servers();
        let of_own = servers.iter().find(|(it, _)| *it == own).map(|(_, slots)| slots.as_slice());
        assert_eq!(of_own, Some(&[(8192, 16383)][..]));
    }

    #[test]
    fn a_node_without_ports_for_its_shards_is_reached_at_its_gateway_and_one_that_tells_none_not_at_all()
     {
        let nodes = [
            (1, 3, told("a", 7000, 0)),
            (2, 2, told("", 7100, 7101)),
            (3, 2, told("c", 0, 0)),
            (4, 2, told("d", 7300, u16::MAX)),
        ];
        let all = topology(&nodes, &[Some(1), Some(2), Some(3), Some(4), Some(5), None, Some(1)]);
        let slots = |group: u32| (group * 16384 / 7) as u16;
        let gateway = || "a:7000".to_owned();
        let expected = [(slots(0), slots(1) - 1, gateway()), (slots(6), slots(7) - 1, gateway())];
        assert_eq!(all.own().map(|own| own.shard), Some(None));
        assert_eq!(all.slots_led(), u32::from(slots(1) + 16384 - slots(6)));
        // The endpoint that is asked serves the others.
        assert_eq!(rows(&all), [(0, 16383, "a:7000".to_owned())]);
        let mut unreached = all;
        unreached.own = (NodeId(2), ShardId(0));
        assert_eq!(rows(&unreached), expected, "clients do not reach the one that is asked");
        assert_eq!(unreached.servers().len(), 1);
    }

    #[test]
    fn a_slot_without_a_leader_is_served_by_the_shard_that_is_asked() {
        let nodes = [(1, 1, told("a", 7000, 7001)), (2, 1, told("b", 7100, 7101))];
        let four = topology(&nodes, &[Some(2), None, Some(2), Some(1)]);
        let expected = [
            (0, 4095, "b:7101".to_owned()),
            (4096, 8191, "a:7001".into()),
            (8192, 12287, "b:7101".into()),
            (12288, 16383, "a:7001".into()),
        ];
        assert_eq!(rows(&four), expected);
        assert_eq!(four.slots_led(), 12288);
        let none = topology(&nodes, &[None; 4]);
        assert_eq!((rows(&none), none.slots_led()), (vec![], 0), "it may be cut off");
    }
}
