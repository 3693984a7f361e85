//! Which peers a leader may hand a group to, as far as this shard knows.

use super::{Pairs, State};
use purlin_rsm::{GroupId, NodeId, Tick};
use purlin_transport::HEARS_MAX;

impl State {
    /// Whether this shard hears the peer, and has a connection to it.
    fn is_heard(&self) -> bool {
        self.is_reached && self.reaches_us && self.heard.is_some()
    }
}

impl Pairs {
    /// Notes once a beat which peers are fit, and which are missed.
    pub(crate) fn note_fitness(&mut self, now: Tick) {
        let me = self.me;
        for state in self.pairs.values_mut() {
            let is_heard = state.is_heard();
            state.fitness.note(now, me, is_heard);
        }
    }

    /// The nodes of which this shard hears each shard with groups of its own, ascending.
    pub(crate) fn hears(&self) -> Vec<NodeId> {
        let is_heard = |node: &&NodeId| {
            let of_node = self.pairs.iter().filter(|(pair, _)| pair.node == **node);
            let mut shared = of_node.filter(|(_, state)| !state.groups.is_empty()).peekable();
            shared.peek().is_some() && shared.all(|(_, state)| state.is_heard())
        };
        self.placements.keys().filter(is_heard).take(HEARS_MAX).copied().collect()
    }

    /// Whether this shard has not heard the shard of `node` with `group` since `limit`.
    pub(crate) fn misses(&self, node: NodeId, group: GroupId, limit: Tick) -> bool {
        let state = self.home(node, group).and_then(|pair| self.pairs.get(&pair));
        state.is_none_or(|state| state.fitness.missed_since.is_some_and(|since| since <= limit))
    }

    /// Whether the shard of `node` with `group` has been fit to lead since `limit`, and has heard each of `others`
    /// since then too. A node that starts is heard by one node sooner than by another.
    pub(crate) fn is_fit(
        &self,
        node: NodeId,
        group: GroupId,
        limit: Tick,
        mut others: impl Iterator<Item = NodeId>,
    ) -> bool {
        let is_long = |since: &Tick| *since <= limit;
        let state = self.home(node, group).and_then(|pair| self.pairs.get(&pair));
        state.is_some_and(|State { fitness, .. }| {
            fitness.fit_since.as_ref().is_some_and(is_long)
                && others.all(|other| fitness.hears.get(&other).is_some_and(is_long))
        })
    }
}
