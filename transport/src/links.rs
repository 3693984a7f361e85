//! What this shard knows of its connections with each shard of another node. An entry is changed when
//! something happens; the status copies it, and the log tells what is new in it.
//!
//! A *known* peer is dialled, or was admitted: there are at most as many as the members have shards, and
//! the entry of a known peer stays whatever other connections say.
//!
//! A connection may give any name, and choose what it is refused for. So one that was not admitted says
//! nothing of a peer that is connected, and has a line of its own only now and then: for the name of a known
//! peer once in a pause, for any other name once, and only so many of those names are remembered. The rest
//! shares one line in a pause with the connections that never said whose they are. The caller logs.
//! How often a peer is dialled bounds the lines of the outbound connections.

use crate::{handshake::Facts, peer_shard::PeerShard};
use purlin_rsm::{NodeId, ShardId};
use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

/// The direction of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Direction {
    /// This shard dials.
    Outbound,
    /// The peer dials.
    Inbound,
}

/// The most peers that are not known and whose first reason is remembered.
const UNKNOWN_PEERS_MAX: usize = 1024;

/// See the module.
#[derive(Default)]
pub(crate) struct Links {
    known: BTreeMap<PeerShard, Link>,
    /// Why the first connection ended, for each name that belongs to no known peer.
    unknown: BTreeMap<PeerShard, Arc<str>>,
    /// The connections that have no line of their own.
    unidentified: Unidentified,
}

/// Connections that share a line.
#[derive(Default)]
struct Unidentified {
    /// How many have ended since the last line.
    count: u64,
    /// Why the last one has, after the name that it gave.
    why: String,
    /// The beat of the last line.
    told_at: Option<u64>,
}

/// What is known of a peer.
#[derive(Default)]
pub(crate) struct Link {
    is_dialled: bool,
    /// Where it listens, as `host:port`.
    pub(crate) address: Option<Arc<str>>,
    outbound: Option<Said>,
    inbound: Option<Said>,
    /// The last line of a connection that gave this name and was not admitted, since one was admitted.
    not_admitted: Option<Line>,
    /// What it last told of itself, if it was admitted since our own start.
    pub(crate) facts: Option<Arc<Facts>>,
    is_too_long_told: bool,
}

/// A line of the log.
struct Line {
    why: Arc<str>,
    /// The beat at which it was written, if that is known.
    at: Option<u64>,
}

/// What was last said of one direction.
enum Said {
    Up,
    Ended(Arc<str>),
}

impl Link {
    /// Why the last connection of this direction ended, unless it was up since.
    pub(crate) fn ended(&self, direction: Direction) -> Option<&Arc<str>> {
        let said = match direction {
            Direction::Outbound => &self.outbound,
            Direction::Inbound => &self.inbound,
        };
        said.as_ref().and_then(|said| match said {
            Said::Up => None,
            Said::Ended(why) => Some(why),
        })
    }

    fn said(&mut self, direction: Direction) -> &mut Option<Said> {
        match direction {
            Direction::Outbound => &mut self.outbound,
            Direction::Inbound => &mut self.inbound,
        }
    }
}

impl Links {
    /// The known peers, ascending.
    pub(crate) fn known(&self) -> impl Iterator<Item = (PeerShard, &Link)> {
        self.known.iter().map(|(peer, link)| (*peer, link))
    }

    /// The peer is dialled from now on.
    pub(crate) fn dialled(&mut self, peer: PeerShard, address: Option<Arc<str>>) {
        let link = self.know(peer, address);
        link.is_dialled = true;
    }

    /// The peer is dialled no more.
    pub(crate) fn undialled(&mut self, peer: PeerShard) {
        if let Some(link) = self.known.get_mut(&peer) {
            link.is_dialled = false;
        }
        self.forget_unless_known(peer);
    }

    /// A peer was admitted, and has told this of itself. Its node may have fewer shards than before.
    pub(crate) fn told(&mut self, facts: &Facts, address: Option<Arc<str>>) {
        let of_node = PeerShard::new(facts.node, ShardId(facts.shards))
            ..=PeerShard::new(facts.node, ShardId(u16::MAX));
        let gone: Vec<_> = self.known.range(of_node).map(|(peer, _)| *peer).collect();
        for peer in gone {
            self.known.entry(peer).and_modify(|link| link.facts = None);
            self.forget_unless_known(peer);
        }
        self.know(facts.pair(), address).facts = Some(Arc::new(facts.clone()));
    }

    /// The node listens at another address.
    pub(crate) fn readdress(
        &mut self,
        node: NodeId,
        address: impl Fn(PeerShard) -> Option<Arc<str>>,
    ) {
        let links = self.known.iter_mut().filter(|(peer, _)| peer.node == node);
        links.for_each(|(peer, link)| link.address = address(*peer));
    }

    /// The connection is up. Whether that is news.
    pub(crate) fn up(&mut self, direction: Direction, peer: PeerShard) -> bool {
        let Some(link) = self.known.get_mut(&peer) else { return false };
        match direction {
            Direction::Outbound => link.is_too_long_told = false,
            Direction::Inbound => link.not_admitted = None,
        }
        !matches!(link.said(direction).replace(Said::Up), Some(Said::Up))
    }

    /// A connection ended that we dialled or that was admitted, or it could not be made, for this reason. Whether
    /// that is news of this peer.
    pub(crate) fn ended(&mut self, direction: Direction, peer: PeerShard, why: &str) -> bool {
        let Some(link) = self.known.get_mut(&peer) else { return false };
        if link.ended(direction).is_some_and(|last| **last == *why) {
            return false;
        }
        *link.said(direction) = Some(Said::Ended(why.into()));
        true
    }

    /// An inbound connection was not admitted at beat `now`, for this reason. It gave the name `peer`, if any;
    /// `is_up` says whether that peer is connected. Whether the connection has a line of its own. If it has
    /// none, and is not the same as the last line, it is counted for [`Links::take_unidentified`].
    pub(crate) fn not_admitted(
        &mut self,
        peer: Option<PeerShard>,
        is_up: bool,
        why: &str,
        now: u64,
        pause: u64,
    ) -> bool {
        if let Some(link) = peer.and_then(|peer| self.known.get_mut(&peer)) {
            if !is_up {
                link.inbound = Some(Said::Ended(why.into()));
            }
            let last = link.not_admitted.as_ref();
            if last.is_some_and(|last| *last.why == *why) {
                return false;
            }
            if last.and_then(|last| last.at).is_none_or(|at| now - at >= pause) {
                link.not_admitted = Some(Line { why: why.into(), at: Some(now) });
                return true;
            }
        } else if let Some(peer) = peer {
            let has_room = self.unknown.len() < UNKNOWN_PEERS_MAX;
            match self.unknown.entry(peer) {
                Entry::Occupied(first) if **first.get() == *why => return false,
                Entry::Vacant(entry) if has_room => {
                    entry.insert(why.into());
                    return true;
                }
                _ => {}
            }
        }
        self.unidentified.count += 1;
        self.unidentified.why = match peer {
            Some(peer) => format!("{peer}: {why}"),
            None => why.to_owned(),
        };
        false
    }

    /// At beat `now`: how many connections without a line of their own have ended since this was last told,
    /// and why the last one has. One line in `pause` beats is enough.
    pub(crate) fn take_unidentified(&mut self, now: u64, pause: u64) -> Option<(u64, String)> {
        let all = &mut self.unidentified;
        let is_time = all.told_at.is_none_or(|last| now - last >= pause);
        if all.count == 0 || !is_time {
            return None;
        }
        all.told_at = Some(now);
        Some((std::mem::take(&mut all.count), std::mem::take(&mut all.why)))
    }

    /// An item for the peer is longer than a frame. Whether that is news since the connection is up.
    pub(crate) fn too_long(&mut self, peer: PeerShard) -> bool {
        let link = self.known.get_mut(&peer);
        link.is_some_and(|link| !std::mem::replace(&mut link.is_too_long_told, true))
    }

    /// The entry of a peer that is known from now on.
    fn know(&mut self, peer: PeerShard, address: Option<Arc<str>>) -> &mut Link {
        let Self { known, unknown, .. } = self;
        known.entry(peer).or_insert_with(|| {
            let why = unknown.remove(&peer);
            Link {
                address,
                inbound: why.clone().map(Said::Ended),
                not_admitted: why.map(|why| Line { why, at: None }),
                ..Link::default()
            }
        })
    }

    fn forget_unless_known(&mut self, peer: PeerShard) {
        let is_known = |link: &Link| link.is_dialled || link.facts.is_some();
        if self.known.get(&peer).is_some_and(|link| !is_known(link)) {
            self.known.remove(&peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: u64 = 50;

    fn peer(node: u32) -> PeerShard {
        PeerShard::new(NodeId(node), ShardId(0))
    }

    fn dialled(node: u32) -> Links {
        let mut links = Links::default();
        links.dialled(peer(node), None);
        links
    }

    #[test]
    fn only_changes_are_news() {
        let mut links = dialled(1);
        let ended = |links: &mut Links, direction| links.ended(direction, peer(1), "refused");
        let said = [
            ended(&mut links, Direction::Outbound),
            ended(&mut links, Direction::Outbound),
            links.up(Direction::Outbound, peer(1)),
            links.up(Direction::Outbound, peer(1)),
            ended(&mut links, Direction::Outbound),
        ];
        assert_eq!(said, [true, false, true, false, true]);
        assert!(ended(&mut links, Direction::Inbound), "the other direction");
    }

    #[test]
    fn an_item_that_is_too_long_is_news_once_for_a_connection_and_no_reason_of_its_end() {
        let mut links = dialled(1);
        links.up(Direction::Outbound, peer(1));
        assert_eq!([links.too_long(peer(1)), links.too_long(peer(1))], [true, false]);
        let (_, link) = links.known().next().expect("it is dialled");
        assert_eq!(link.ended(Direction::Outbound), None);
        links.up(Direction::Outbound, peer(1));
        assert!(links.too_long(peer(1)), "another connection");
        assert!(!links.too_long(peer(2)), "nobody knows it");
    }

    /// Whoever reaches the port may give any name, and as many as it likes.
    #[test]
    fn names_that_nobody_knows_are_bounded_and_take_no_reason_of_a_known_peer_away() {
        let mut links = dialled(1);
        links.ended(Direction::Outbound, peer(1), "refused");
        let (mut lines, mut told) = (0, 0);
        for node in 2..10_000 {
            let is_news = links.not_admitted(Some(peer(node)), false, "x", 7, PAUSE);
            lines += usize::from(is_news);
            told += links.take_unidentified(7, PAUSE).map_or(0, |(count, _)| count);
        }
        assert_eq!(links.unknown.len(), UNKNOWN_PEERS_MAX);
        assert_eq!(
            (lines, told),
            (UNKNOWN_PEERS_MAX, 1),
            "one line for all that are not remembered"
        );
        let (_, link) = links.known().next().expect("it is dialled");
        assert_eq!(link.ended(Direction::Outbound).map(|why| &**why), Some("refused"));
        links.not_admitted(None, false, "y", 7, PAUSE);
        assert_eq!(links.take_unidentified(7 + PAUSE - 1, PAUSE), None, "too early");
        let rest = 9_998 - UNKNOWN_PEERS_MAX as u64;
        assert_eq!(links.take_unidentified(7 + PAUSE, PAUSE), Some((rest, "y".into())));
        assert_eq!(links.take_unidentified(7 + 2 * PAUSE, PAUSE), None, "none has come");
    }

    /// Each connection that claims a name may be refused for another reason.
    #[test]
    fn a_name_that_is_claimed_for_ever_new_reasons_has_one_line_in_a_pause() {
        let mut links = dialled(1);
        links.up(Direction::Inbound, peer(1));
        let (mut lines, mut told, mut count) = ([0, 0], 0, 0);
        for now in 0..10 * PAUSE {
            for (name, lines) in [1, 2].into_iter().zip(&mut lines) {
                let why = format!("other cluster {now}");
                let is_up = name == 1;
                let has_line = links.not_admitted(Some(peer(name)), is_up, &why, now, PAUSE);
                *lines += u64::from(has_line);
            }
            if let Some((others, why)) = links.take_unidentified(now, PAUSE) {
                (told, count) = (told + 1, count + others);
                assert_eq!(why, format!("node 2 shard 0: other cluster {now}"));
            }
        }
        assert_eq!(lines, [10, 1], "a known peer in each pause, a name that nobody knows once");
        assert_eq!(told, 10, "one line for all the others");
        assert_eq!(count + links.unidentified.count, 2 * 10 * PAUSE - 11, "all are counted");
        let (_, link) = links.known().next().expect("it is dialled");
        assert_eq!(link.ended(Direction::Inbound), None, "the peer is connected");
    }

    #[test]
    fn a_peer_that_is_refused_for_another_reason_is_told_of_once_the_pause_is_over() {
        let mut links = dialled(1);
        let mut refuse = |why, now| links.not_admitted(Some(peer(1)), false, why, now, PAUSE);
        assert_eq!([refuse("a", 0), refuse("a", 1), refuse("b", 2)], [true, false, false]);
        assert_eq!([refuse("b", PAUSE), refuse("b", PAUSE + 1)], [true, false]);
        let (_, link) = links.known().next().expect("it is dialled");
        assert_eq!(link.ended(Direction::Inbound).map(|why| &**why), Some("b"));
        links.up(Direction::Inbound, peer(1));
        assert!(links.not_admitted(Some(peer(1)), false, "b", PAUSE + 2, PAUSE), "it was up");
    }

    #[test]
    fn an_unknown_peer_that_becomes_known_keeps_its_reason() {
        let mut links = Links::default();
        links.not_admitted(Some(peer(3)), false, "refused", 7, PAUSE);
        links.dialled(peer(3), None);
        let (_, link) = links.known().next().expect("it is dialled");
        assert_eq!(link.ended(Direction::Inbound).map(|why| &**why), Some("refused"));
        assert_eq!(links.unknown.len(), 0);
        links.undialled(peer(3));
        assert_eq!(links.known().count(), 0, "it was never admitted");
    }
}
