//! Which peers are fit to lead, as far as this shard knows: from their heartbeats, and from whether it hears them.

use purlin_rsm::{NodeId, Tick};
use purlin_transport::Condition;
use std::collections::BTreeMap;

/// What this shard knows of the shard of a peer, beside what the two lead.
#[derive(Default)]
pub(super) struct Fitness {
    /// The peer's latest heartbeat has told that its disk takes no entries, or that it is unfit.
    is_unfit: bool,
    /// The nodes that the peer hears, and since when it tells so.
    pub(super) hears: BTreeMap<NodeId, Tick>,
    /// Since when this shard hears the peer, the peer hears this node, and the peer has room and has loaded.
    pub(super) fit_since: Option<Tick>,
    /// Since when this shard does not hear the peer.
    pub(super) missed_since: Option<Tick>,
}

impl Fitness {
    /// A heartbeat has told of the peer.
    pub(super) fn told(&mut self, now: Tick, condition: &Condition) {
        self.is_unfit = condition.is_disk_full || condition.is_unfit;
        self.hears.retain(|node, _| condition.hears.binary_search(node).is_ok());
        for node in &condition.hears {
            self.hears.entry(*node).or_insert(now);
        }
    }

    pub(super) fn note(&mut self, now: Tick, me: NodeId, is_heard: bool) {
        let is_fit = is_heard && self.hears.contains_key(&me) && !self.is_unfit;
        self.fit_since = is_fit.then(|| self.fit_since.unwrap_or(now));
        self.missed_since = (!is_heard).then(|| self.missed_since.unwrap_or(now));
    }
}
