//! Which endpoint leads which slot, as far as the generator knows.
//!
//! An endpoint is an address at which a server of a Redis Cluster serves clients. Endpoints are
//! numbered in the order in which they were heard of, and a number stays as long as the run. A slot
//! without a leader is a slot of any endpoint: the server that gets it says what becomes of it.
//! This module sends nothing.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use crate::slots::SLOTS;
use crate::slots_reply::{SlotsRow, read_address};

/// The most endpoints of a run.
pub const ENDPOINTS_MAX: usize = 4_096;

/// No endpoint.
const NONE: u16 = u16::MAX;

/// The table of the slots, and the endpoints.
#[derive(Debug)]
pub struct Route {
    /// The endpoint of each slot, or [`NONE`].
    slots: Vec<u16>,
    /// All endpoints that were ever heard of, at most [`ENDPOINTS_MAX`].
    endpoints: Vec<SocketAddr>,
    /// The numbers of the endpoints.
    numbers: BTreeMap<SocketAddr, u16>,
    /// The endpoints that lead a slot, in ascending order.
    leaders: Vec<u16>,
    /// The addresses of host names. Each name is looked up once, since this may take long; `None` was not found.
    names: BTreeMap<String, Option<IpAddr>>,
}

impl Default for Route {
    fn default() -> Self {
        Self {
            slots: vec![NONE; usize::from(SLOTS)],
            endpoints: Vec::new(),
            numbers: BTreeMap::new(),
            leaders: Vec::new(),
            names: BTreeMap::new(),
        }
    }
}

impl Route {
    /// Replaces the table by the rows that the server at `asked` gave.
    ///
    /// # Errors
    /// When a host has no address, or there are too many endpoints. The table stays as it was.
    pub fn learn(&mut self, rows: &[SlotsRow], asked: IpAddr) -> Result<(), String> {
        let mut slots = vec![NONE; usize::from(SLOTS)];
        for row in rows {
            let endpoint = self.endpoint(row.host.as_deref(), row.port, asked)?;
            slots[usize::from(row.first)..=usize::from(row.last)].fill(endpoint);
        }
        self.slots = slots;
        self.count_leaders();
        Ok(())
    }

    /// Reads the text of a `-MOVED` from the server at `asked`, and notes it. Returns the endpoint that it names.
    /// `None` when the text cannot be read, or the endpoint cannot be reached.
    pub fn moved(&mut self, text: &[u8], asked: IpAddr) -> Option<usize> {
        let text = std::str::from_utf8(text).ok()?;
        let (slot, address) = text.strip_prefix("MOVED ")?.split_once(' ')?;
        let slot: u16 = slot.parse().ok().filter(|&slot| slot < SLOTS)?;
        let (host, port) = read_address(address.split(' ').next()?)?;
        let endpoint = self.endpoint(host, port, asked).ok()?;
        if self.slots[usize::from(slot)] != endpoint {
            self.slots[usize::from(slot)] = endpoint;
            self.count_leaders();
        }
        Some(usize::from(endpoint))
    }

    /// The endpoint to which an operation of `slot` goes. There must be an endpoint.
    pub fn of(&self, slot: u16) -> usize {
        let endpoint = self.slots[usize::from(slot)];
        if endpoint != NONE {
            return usize::from(endpoint);
        }
        match self.leaders.len() {
            0 => usize::from(slot) % self.endpoints.len(),
            count => usize::from(self.leaders[usize::from(slot) % count]),
        }
    }

    /// The addresses of the endpoints. The number of an endpoint is its place here.
    pub fn endpoints(&self) -> &[SocketAddr] {
        &self.endpoints
    }

    /// Whether an endpoint leads a slot.
    pub fn leads(&self, endpoint: usize) -> bool {
        self.leaders.binary_search(&(endpoint as u16)).is_ok()
    }

    /// How many endpoints lead a slot.
    pub fn leader_count(&self) -> usize {
        self.leaders.len()
    }

    /// How many slots have no leader.
    pub fn slots_without_endpoint(&self) -> usize {
        self.slots.iter().filter(|&&endpoint| endpoint == NONE).count()
    }

    /// How many ranges of slots there are that have one leader each.
    pub fn ranges(&self) -> usize {
        let starts = self.slots.chunk_by(|one, next| one == next);
        starts.filter(|range| range[0] != NONE).count()
    }

    fn endpoint(&mut self, host: Option<&str>, port: u16, asked: IpAddr) -> Result<u16, String> {
        let ip = host.map_or(Ok(asked), |host| self.resolve(host))?;
        let address = SocketAddr::new(ip, port);
        if let Some(number) = self.numbers.get(&address) {
            return Ok(*number);
        }
        if self.endpoints.len() == ENDPOINTS_MAX {
            return Err(format!("it names more than {ENDPOINTS_MAX} endpoints"));
        }
        let number = self.endpoints.len() as u16;
        self.endpoints.push(address);
        self.numbers.insert(address, number);
        Ok(number)
    }

    fn resolve(&mut self, host: &str) -> Result<IpAddr, String> {
        if let Ok(ip) = host.parse() {
            return Ok(ip);
        }
        let known = self.names.get(host).copied();
        let ip = match known {
            Some(ip) => ip,
            None if self.names.len() < ENDPOINTS_MAX => {
                let ip = look_up(host);
                self.names.insert(host.to_owned(), ip);
                ip
            }
            None => return Err(format!("it names more than {ENDPOINTS_MAX} hosts")),
        };
        ip.ok_or_else(|| format!("its host `{host}` has no address"))
    }

    fn count_leaders(&mut self) {
        let mut leads = vec![false; self.endpoints.len()];
        self.slots
            .iter()
            .filter(|&&place| place != NONE)
            .for_each(|&place| leads[usize::from(place)] = true);
        self.leaders = (0..leads.len() as u16).filter(|&place| leads[usize::from(place)]).collect();
    }
}

fn look_up(host: &str) -> Option<IpAddr> {
    let found = (host, 0).to_socket_addrs().ok()?;
    // Most servers with addresses of both families listen on IPv4.
    found.map(|address| address.ip()).min_by_key(IpAddr::is_ipv6)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn row(first: u16, last: u16, port: u16) -> SlotsRow {
        SlotsRow { first, last, host: None, port }
    }

    #[test]
    fn a_slot_goes_to_its_leader_and_a_slot_without_one_to_any_leader() {
        let mut route = Route::default();
        route.learn(&[row(0, 99, 1), row(100, 199, 2), row(300, 300, 1)], ASKED).unwrap();
        assert_eq!([0, 99, 100, 199, 300].map(|slot| route.of(slot)), [0, 0, 1, 1, 0]);
        assert!((1_000..1_100).any(|slot| route.of(slot) == 0));
        assert!((1_000..1_100).any(|slot| route.of(slot) == 1));
        assert_eq!(
            (route.slots_without_endpoint(), route.ranges(), route.leader_count()),
            (16_384 - 201, 3, 2)
        );
        // The first endpoint leads no more: no slot goes there.
        route.learn(&[row(0, 9, 2)], ASKED).unwrap();
        assert!((0..SLOTS).all(|slot| route.of(slot) == 1));
        assert!(!route.leads(0) && route.leads(1));
        // Nobody leads: all endpoints are asked.
        route.learn(&[], ASKED).unwrap();
        assert_eq!([0, 1].map(|slot| route.of(slot)), [0, 1]);
    }

    #[test]
    fn a_moved_slot_has_another_endpoint() {
        let mut route = Route::default();
        route.learn(&[row(0, 16_383, 1)], ASKED).unwrap();
        assert_eq!(route.moved(b"MOVED 7 127.0.0.1:2", ASKED), Some(1));
        assert_eq!(route.moved(b"MOVED 8 :2", ASKED), Some(1));
        assert_eq!([6, 7, 8, 9].map(|slot| route.of(slot)), [0, 1, 1, 0]);
        assert_eq!(route.endpoints()[1], SocketAddr::new(ASKED, 2));
        for text in [
            "MOVED",
            "MOVED 7",
            "MOVED 16384 h:1",
            "MOVED x h:1",
            "MOVED 7 h",
            "MOVED 7 h:0",
            "ASK 7 127.0.0.1:2",
        ] {
            assert_eq!(route.moved(text.as_bytes(), ASKED), None, "{text}");
        }
    }

    #[test]
    fn endpoints_are_bounded_and_too_many_leave_the_table() {
        let mut route = Route::default();
        route.learn(&[row(0, 16_383, 1)], ASKED).unwrap();
        let many: Vec<_> =
            (0..=ENDPOINTS_MAX as u16).map(|slot| row(slot, slot, slot + 10)).collect();
        assert!(route.learn(&many, ASKED).unwrap_err().contains("4096"));
        assert_eq!(route.endpoints().len(), ENDPOINTS_MAX);
        assert_eq!(route.of(5), 0);
        assert_eq!(route.moved(b"MOVED 7 127.0.0.1:5000", ASKED), None);
    }
}
