//! What scenarios share: names, times, agreement, and a network that misbehaves.

use purlin::{Index, NodeId};
use purlin_tests::{
    cluster::{
        ClusterOptions,
        scenario::{Answer, GROUP, Scenario, calm},
    },
    sim::{Latency, NetOptions, Random, WorldOptions},
};
use std::time::Duration;

pub(crate) const ONE: NodeId = NodeId(1);
pub(crate) const TWO: NodeId = NodeId(2);
pub(crate) const THREE: NodeId = NodeId(3);

/// The longest time after which a follower that hears nothing campaigns.
pub(crate) const ELECTION: Duration = Duration::from_millis(1000);

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// All nodes, whether they run or not.
pub(crate) fn all(s: &Scenario) -> Vec<NodeId> {
    s.nodes().collect()
}

/// The number that a request was answered.
pub(crate) fn number(answer: &Answer) -> Option<u64> {
    let Some(Ok(Some(value))) = answer else { return None };
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// Writes a key at the first of `nodes`, and all of them apply that.
pub(crate) fn agree(s: &Scenario, nodes: &[NodeId], key: &str, value: &str) {
    s.must_write(nodes[0], key, value, seconds(15));
    all_apply(s, nodes, s.applied(nodes[0]));
}

/// All of `nodes` apply the entry at `index`.
pub(crate) fn all_apply(s: &Scenario, nodes: &[NodeId], index: Index) {
    s.must_reach(&format!("{index:?} at {nodes:?}"), seconds(20), || {
        nodes.iter().all(|node| s.applied(*node) >= index)
    });
}

/// How far any node has applied.
pub(crate) fn applied_anywhere(s: &Scenario) -> Index {
    s.nodes().map(|node| s.applied(node)).max().unwrap_or_default()
}

/// A leader that is among `nodes` and that all of them follow.
pub(crate) fn one_leader(s: &Scenario, nodes: &[NodeId]) -> NodeId {
    let agreed = || {
        let leader = s.leader_among(nodes)?;
        let follows = |node: &NodeId| {
            let status = s.status(*node, GROUP);
            status.is_some_and(|status| status.leader == Some(leader))
        };
        (nodes.contains(&leader) && nodes.iter().all(follows)).then_some(leader)
    };
    s.must_reach(&format!("one leader of {nodes:?}"), seconds(10), || agreed().is_some());
    agreed().expect("there is one")
}

/// A cluster with links that lose much, which TCP turns into waiting, and now and then flip a bit that
/// TCP misses.
pub(crate) fn shaky(nodes: u32, clients: u32) -> ClusterOptions {
    let jitter =
        Latency::steady(Duration::ZERO, Duration::from_micros(500)).with_spikes(0.03, millis(150));
    let net = NetOptions { jitter, flip_chance: 0.000_5, ..NetOptions::default() };
    let world = WorldOptions { nodes, net, ..WorldOptions::default() };
    ClusterOptions { world, ..calm(nodes, clients) }
}

/// Lets time pass in which connections break and links are cut one way for a moment.
pub(crate) fn shake(s: &Scenario, random: &Random, duration: Duration) {
    let end = s.world.now() + duration;
    while s.world.now() < end {
        let plugged = s.plugged();
        let (one, other) = (*random.pick(&plugged), *random.pick(&plugged));
        match random.below(6) {
            0 if one != other => s.world.reset_connections(one, other),
            1 if one != other => {
                s.world.cut_one_way(&[one], &[other]);
                s.run_for(random.duration(millis(20)..millis(120)));
                s.world.heal_link(one, other);
            }
            _ => {}
        }
        s.run_for(random.duration(millis(20)..millis(80)));
    }
}
