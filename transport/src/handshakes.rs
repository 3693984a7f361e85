//! The places of inbound connections that have not said yet whose they are.
//!
//! Anybody who reaches the port can open connections and say nothing. So a new connection always gets a
//! place: when all are taken, the oldest connection gives its place up, for a peer says its name at once.
//! Addresses at which a member was met or is configured have places of their own, which no other address can
//! take: an IPv4 address is the same when a socket of both families shows it as an IPv6 one. Connections that were admitted need no place.

use crate::cancel::CancelToken;
use purlin_rsm::NodeId;
use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
    rc::Rc,
};

/// See the module.
#[derive(Default)]
pub(crate) struct Handshakes {
    /// Connections from addresses of members, the oldest first.
    known: Places,
    /// Connections from all other addresses.
    strangers: Places,
    /// The addresses of each member: two at most.
    members: BTreeMap<(NodeId, Source), IpAddr>,
}

type Places = VecDeque<(u64, Rc<CancelToken>)>;

/// How an address of a member is known.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Source {
    /// By the configuration.
    Configured,
    /// By the last handshake that was admitted.
    Met,
}

impl Handshakes {
    /// The member `node` has this address.
    pub(crate) fn know(&mut self, node: NodeId, source: Source, address: IpAddr) {
        self.members.insert((node, source), address.to_canonical());
    }

    /// Gives connection `id`, from an address, a place among `most` of its kind.
    pub(crate) fn enter(
        &mut self,
        id: u64,
        token: &Rc<CancelToken>,
        from: Option<IpAddr>,
        most: usize,
    ) {
        let from = from.map(|from| from.to_canonical());
        let is_known = from.is_some_and(|from| self.members.values().any(|known| *known == from));
        let places = if is_known { &mut self.known } else { &mut self.strangers };
        if places.len() >= most
            && let Some((_, oldest)) = places.pop_front()
        {
            purlin_rsm::sometimes!("oldest handshake gave its place up");
            oldest.give_way();
        }
        places.push_back((id, token.clone()));
    }

    /// The handshake of connection `id` has ended.
    pub(crate) fn leave(&mut self, id: u64) {
        for places in [&mut self.known, &mut self.strangers] {
            places.retain(|(other, _)| *other != id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A socket of both families shows an IPv4 address as an IPv6 one.
    #[test]
    fn an_ipv4_address_of_a_member_is_known_in_both_forms() {
        let plain: IpAddr = "10.0.0.1".parse().unwrap();
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
        for (member, from) in [(plain, mapped), (mapped, plain)] {
            let mut handshakes = Handshakes::default();
            handshakes.know(NodeId(1), Source::Configured, member);
            handshakes.enter(1, &Rc::default(), Some(from), 1);
            assert_eq!((handshakes.known.len(), handshakes.strangers.len()), (1, 0), "{from}");
        }
    }

    #[test]
    fn strangers_take_no_place_of_a_member_and_the_oldest_gives_way() {
        let mut handshakes = Handshakes::default();
        let address = |last| Some(IpAddr::from([10, 0, 0, last]));
        handshakes.know(NodeId(1), Source::Configured, address(1).unwrap());
        handshakes.know(NodeId(2), Source::Met, address(2).unwrap());
        let enter = |handshakes: &mut Handshakes, id, from| {
            let token = Rc::new(CancelToken::default());
            handshakes.enter(id, &token, from, 2);
            token
        };
        let members = [1, 2].map(|id| enter(&mut handshakes, id, address(id as u8)));
        let strangers = [3, 4, 5].map(|id| enter(&mut handshakes, id, address(9)));
        let nowhere = enter(&mut handshakes, 6, None);
        let ended = |token: &Rc<CancelToken>| token.is_over();
        assert_eq!(members.each_ref().map(ended), [false, false]);
        assert_eq!(strangers.each_ref().map(ended), [true, true, false]);
        assert!(!ended(&nowhere));
        handshakes.leave(5);
        enter(&mut handshakes, 7, None);
        assert!(!ended(&nowhere), "there was a free place");
    }
}
