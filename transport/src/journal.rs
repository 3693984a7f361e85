//! Decides which events of connections are logged. A line about a peer is logged when it differs
//! from the last line about that peer. Connections that never said whose they are share one line in
//! a while. The caller logs.

use crate::peer_shard::PeerShard;
use std::collections::BTreeMap;

/// The direction of a connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Direction {
    /// This shard dials.
    Outbound,
    /// The peer dials.
    Inbound,
}

/// The line about a connection that is up.
pub(crate) const UP: &str = "up";

#[derive(Default)]
pub(crate) struct Journal {
    last: BTreeMap<(Direction, PeerShard), String>,
    /// The beat of the last line about a connection that never said whose it is.
    unidentified: Option<u64>,
}

/// A connection may give any name. Beyond this many names, all are forgotten.
const NAMES_MAX: usize = 1024;

impl Journal {
    /// Whether `text` is news about the connection to or from `peer`.
    pub(crate) fn is_news(&mut self, direction: Direction, peer: PeerShard, text: &str) -> bool {
        let key = (direction, peer);
        if self.last.get(&key).is_some_and(|last| last == text) {
            return false;
        }
        if self.last.len() >= NAMES_MAX {
            self.last.clear();
        }
        self.last.insert(key, text.to_owned());
        true
    }

    /// The last line about the connection to or from `peer`.
    pub(crate) fn last(&self, direction: Direction, peer: PeerShard) -> Option<&str> {
        self.last.get(&(direction, peer)).map(String::as_str)
    }

    /// Whether a connection that never said whose it is may get a line at beat `now`. One line in
    /// `pause` beats is enough for all of them.
    pub(crate) fn may_log_unidentified(&mut self, now: u64, pause: u64) -> bool {
        let is_time = self.unidentified.is_none_or(|last| now - last >= pause);
        if is_time {
            self.unidentified = Some(now);
        }
        is_time
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use purlin_rsm::{NodeId, ShardId};

    #[test]
    fn only_changes_are_news() {
        let mut journal = Journal::default();
        let peer = PeerShard::new(NodeId(1), ShardId(0));
        let mut news = |text| journal.is_news(Direction::Outbound, peer, text);
        let said = ["refused", "refused", "up", "refused"].map(&mut news);
        assert_eq!(said, [true, false, true, true]);
        assert!(journal.is_news(Direction::Inbound, peer, "refused"));
    }

    #[test]
    fn names_are_bounded_and_unidentified_connections_share_a_line() {
        let mut journal = Journal::default();
        for node in 0..5000 {
            journal.is_news(Direction::Inbound, PeerShard::new(NodeId(node), ShardId(0)), "x");
        }
        assert!(journal.last.len() <= NAMES_MAX);
        assert!(journal.may_log_unidentified(7, 50));
        assert!(!journal.may_log_unidentified(7 + 49, 50));
        assert!(journal.may_log_unidentified(7 + 50, 50));
    }
}
