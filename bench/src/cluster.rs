//! The clients of a cluster: each one has a connection to each endpoint, as a client of Redis
//! Cluster does.
//!
//! ```text
//! connections   [ endpoint a: client 0, 1, 2, … ] [ endpoint b: client 0, 1, 2, … ] …   a block each
//! operation     key ─► slot ─► endpoint (route) ─► connection of its client
//!               not up: waits ─► up: sent ─► reply: done
//!                     ▲               └────► MOVED: to the endpoint that it names, 16 times at most
//!                     └── the slots are learnt anew: what waits goes where it is led now
//! ```
//!
//! A client has no more than `pipeline` operations under way, over all its connections. So memory is
//! bounded, and an endpoint that is down holds up its clients one after the other, as it does in an
//! application. An operation for a slot without a leader goes to some endpoint, which answers for it.
//!
//! This module opens and writes nothing. The driver does, and tells it what came of it.

use std::collections::VecDeque;
use std::net::SocketAddr;

use serde::Serialize;

use crate::ahead::Ahead;
use crate::exchange::{Operation, Way};
use crate::inquiry::Inquiry;
use crate::route::Route;
use crate::slots::SLOTS;
use crate::slots_reply::SlotsRow;
use crate::workload::{Request, Workload};

/// The most connections of a run.
pub const CONNECTIONS_MAX: usize = 50_000;
/// How often an operation is sent elsewhere.
pub const REDIRECTS_MAX: u8 = 16;

/// The clients, and what they know of the cluster.
#[derive(Debug)]
pub struct Cluster {
    /// Which endpoint leads which slot.
    pub route: Route,
    /// How this is learnt.
    pub inquiry: Inquiry,
    /// How many clients there are.
    clients: usize,
    /// For each endpoint the number of its block of connections, if it has one.
    blocks: Vec<Option<usize>>,
    /// For each block its endpoint.
    endpoints: Vec<usize>,
    /// For each connection the operations that wait until it is up.
    waiting: Vec<VecDeque<Operation>>,
    /// Operations to endpoints for which there are no connections left.
    unplaced: VecDeque<Operation>,
    /// For each client its operations that have not ended.
    under_way: Vec<usize>,
    /// The sum of `under_way`.
    under_way_total: usize,
    /// The clients whose operations have all ended since the last look.
    ready: Vec<usize>,
    /// Operations to be sent to another endpoint.
    moved: Vec<(usize, Operation)>,
    /// Requests that are drawn and not sent.
    ahead: Ahead,
    /// The memory for the requests of one pipeline.
    taken: Vec<(Request, u16)>,
    /// The client after the one that got the last operation (open loop).
    next: usize,
    seen: Seen,
}

/// What the operations of a run have touched.
#[derive(Debug)]
struct Seen {
    slots: Vec<bool>,
    blocks: Vec<bool>,
    without_endpoint_max: usize,
}

/// What a run has seen of its cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClusterFacts {
    /// Endpoints that lead a slot at the end.
    pub endpoints: usize,
    /// Ranges of slots with one leader each at the end.
    pub ranges: usize,
    /// Endpoints that got an operation.
    pub endpoints_used: usize,
    /// Slots of which an operation was sent.
    pub slots_used: usize,
    /// Connections to all endpoints.
    pub connections: usize,
    /// Slots without an endpoint at the end.
    pub slots_without_endpoint: usize,
    /// The most slots without an endpoint at any time.
    pub slots_without_endpoint_max: usize,
    /// How often the slots were asked for, and how often they were learnt.
    pub inquiries: usize,
    /// See `inquiries`.
    pub inquiries_answered: u64,
}

impl Cluster {
    /// A cluster of which only some servers are known.
    pub fn new(targets: Vec<SocketAddr>, clients: usize) -> Self {
        Self {
            route: Route::default(),
            inquiry: Inquiry::new(targets),
            clients,
            blocks: Vec::new(),
            endpoints: Vec::new(),
            waiting: Vec::new(),
            unplaced: VecDeque::new(),
            under_way: vec![0; clients],
            under_way_total: 0,
            ready: Vec::new(),
            moved: Vec::new(),
            ahead: Ahead::default(),
            taken: Vec::new(),
            next: 0,
            seen: Seen {
                slots: vec![false; SLOTS.into()],
                blocks: Vec::new(),
                without_endpoint_max: 0,
            },
        }
    }

    /// Replaces the table of the slots by the rows of `server`.
    pub fn learn(&mut self, rows: &[SlotsRow], server: SocketAddr) {
        if let Err(why) = self.route.learn(rows, server.ip()) {
            self.inquiry.refuse(server, why);
            self.inquiry.want();
        }
        let without = self.route.slots_without_endpoint();
        if without > 0 {
            self.inquiry.want();
        }
        self.seen.without_endpoint_max = self.seen.without_endpoint_max.max(without);
    }

    /// The endpoints that lead a slot and have no connections.
    pub fn unequipped(&self) -> Vec<usize> {
        let is_unequipped = |&endpoint: &usize| {
            self.route.leads(endpoint) && self.blocks.get(endpoint).copied().flatten().is_none()
        };
        (0..self.route.endpoints().len()).filter(is_unequipped).collect()
    }

    /// Plans a connection of each client to `endpoint`. Returns the address and the place of the first one, which
    /// follows the connections that there are. `None` when there would be too many connections.
    pub fn equip(&mut self, endpoint: usize) -> Option<(SocketAddr, usize)> {
        let first = self.waiting.len();
        if first + self.clients > CONNECTIONS_MAX {
            return None;
        }
        self.blocks.resize(self.route.endpoints().len(), None);
        self.blocks[endpoint] = Some(self.endpoints.len());
        self.endpoints.push(endpoint);
        self.seen.blocks.push(false);
        self.waiting.resize_with(first + self.clients, VecDeque::new);
        Some((self.route.endpoints()[endpoint], first))
    }

    /// The connection of an operation's client to `endpoint`, if there are connections to it.
    pub fn connection(&self, endpoint: usize, operation: &Operation) -> Option<usize> {
        let block = self.blocks.get(endpoint).copied().flatten()?;
        Some(block * self.clients + operation.way.client as usize)
    }

    /// Whether the connection in this place leads to an endpoint that leads a slot.
    pub fn is_led(&self, connection: usize) -> bool {
        self.route.leads(self.endpoints[connection / self.clients])
    }

    /// The next client in turn that has less than `limit` operations under way (open loop).
    pub fn next_with_room(&mut self, limit: usize) -> Option<u32> {
        let clients = (self.next..self.clients).chain(0..self.next);
        let found = clients.into_iter().find(|&client| self.under_way[client] < limit)?;
        self.next = (found + 1) % self.clients;
        Some(found as u32)
    }

    /// Takes all clients that have nothing under way.
    pub fn take_ready(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.ready)
    }

    /// All clients begin.
    pub fn make_all_ready(&mut self) {
        self.ready = (0..self.clients).collect();
    }

    /// Draws a pipeline to one endpoint: see [`Ahead::take`]. The caller must return the requests with
    /// [`Self::give_back`].
    pub fn draw(
        &mut self,
        limits: (usize, u64),
        workload: &mut Workload,
    ) -> (usize, Vec<(Request, u16)>) {
        let mut taken = std::mem::take(&mut self.taken);
        (self.ahead.take(limits, workload, &self.route, &mut taken), taken)
    }

    /// Takes the memory of the requests back.
    pub fn give_back(&mut self, mut taken: Vec<(Request, u16)>) {
        taken.clear();
        self.taken = taken;
    }

    /// A new operation of `client`. It is under way from now on.
    pub fn begin(
        &mut self,
        client: u32,
        intended: u64,
        now: u64,
        (request, slot): (Request, u16),
    ) -> Operation {
        self.under_way[client as usize] += 1;
        self.under_way_total += 1;
        let way = Way { client, slot, redirects: 0 };
        Operation { intended, sent: now, request, way, noted: None }
    }

    /// An operation has ended, in whatever way.
    pub fn end(&mut self, operation: &Operation) {
        let client = operation.way.client as usize;
        self.under_way[client] -= 1;
        self.under_way_total -= 1;
        if self.under_way[client] == 0 {
            self.ready.push(client);
        }
    }

    /// Whether no operation is under way.
    pub fn is_idle(&self) -> bool {
        self.under_way_total == 0
    }

    /// `operation` goes out on this connection.
    pub fn sent(&mut self, connection: usize, operation: &Operation) {
        self.seen.slots[usize::from(operation.way.slot)] = true;
        self.seen.blocks[connection / self.clients] = true;
    }

    /// `operation` got an error from `server`. Returns true when it is sent elsewhere, and so has not ended.
    pub fn is_moved(&mut self, operation: &Operation, text: &[u8], server: SocketAddr) -> bool {
        if !text.starts_with(b"MOVED ") || operation.way.redirects >= REDIRECTS_MAX {
            return false;
        }
        let Some(endpoint) = self.route.moved(text, server.ip()) else { return false };
        let mut operation = *operation;
        operation.way.redirects += 1;
        self.moved.push((endpoint, operation));
        self.inquiry.want();
        true
    }

    /// Takes the operations that are to be sent elsewhere, each with its endpoint.
    pub fn take_moved(&mut self) -> Vec<(usize, Operation)> {
        std::mem::take(&mut self.moved)
    }

    /// `operation` waits until the connection is up.
    pub fn wait(&mut self, connection: usize, operation: Operation) {
        self.waiting[connection].push_back(operation);
    }

    /// `operation` waits until its slot has an endpoint with connections.
    pub fn wait_unplaced(&mut self, operation: Operation) {
        self.unplaced.push_back(operation);
    }

    /// Whether operations wait for the connection.
    pub fn has_waiting(&self, connection: usize) -> bool {
        !self.waiting[connection].is_empty()
    }

    /// Takes the operations that wait for the connection.
    pub fn take_waiting(&mut self, connection: usize) -> VecDeque<Operation> {
        std::mem::take(&mut self.waiting[connection])
    }

    /// Takes all operations that wait, to send them where they are led now.
    pub fn reroute(&mut self) {
        for waiting in self.waiting.iter_mut().chain([&mut self.unplaced]) {
            let endpoint_of = |operation: &Operation| self.route.of(operation.way.slot);
            self.moved
                .extend(waiting.drain(..).map(|operation| (endpoint_of(&operation), operation)));
        }
    }

    /// Takes the operations that have waited for `timeout`, and asks for the slots when others wait. Operations wait
    /// in the order of their times but for those that were sent elsewhere, which are old.
    pub fn take_overdue(&mut self, now: u64, timeout: u64) -> Vec<Operation> {
        let mut overdue = Vec::new();
        for waiting in self.waiting.iter_mut().chain([&mut self.unplaced]) {
            while let Some(operation) = waiting.pop_front_if(|it| now >= it.sent + timeout) {
                overdue.push(operation);
            }
        }
        let mut waiting = self.waiting.iter().chain([&self.unplaced]);
        if waiting.any(|waiting| !waiting.is_empty()) {
            self.inquiry.want();
        }
        overdue
    }

    /// What was seen so far.
    pub fn facts(&self) -> ClusterFacts {
        let count = |seen: &[bool]| seen.iter().filter(|&&is_seen| is_seen).count();
        let (inquiries, inquiries_answered) = self.inquiry.counts();
        ClusterFacts {
            endpoints: self.route.leader_count(),
            ranges: self.route.ranges(),
            endpoints_used: count(&self.seen.blocks),
            slots_used: count(&self.seen.slots),
            connections: self.waiting.len(),
            slots_without_endpoint: self.route.slots_without_endpoint(),
            slots_without_endpoint_max: self.seen.without_endpoint_max,
            inquiries,
            inquiries_answered,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: SocketAddr =
        SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

    /// Two endpoints, of which the second one has the higher half of the slots.
    fn cluster(clients: usize) -> Cluster {
        let mut cluster = Cluster::new(vec![SERVER], clients);
        let row = |(first, last, port)| SlotsRow { first, last, host: None, port };
        cluster.learn(&[(0, 8_191, 1), (8_192, 16_383, 2)].map(row), SERVER);
        cluster
    }

    #[test]
    fn each_client_has_a_connection_to_each_endpoint() {
        let mut cluster = cluster(3);
        assert_eq!(cluster.unequipped(), [0, 1]);
        assert_eq!(cluster.equip(1).unwrap().1, 0);
        let operation = cluster.begin(2, 0, 0, (Request::default(), 9_000));
        assert_eq!(cluster.connection(1, &operation), Some(2));
        assert_eq!(cluster.connection(0, &operation), None);
        assert_eq!(cluster.equip(0).unwrap().1, 3);
        assert_eq!(cluster.connection(0, &operation), Some(5));
        assert!(cluster.unequipped().is_empty());
        assert!(cluster.is_led(5));
    }

    #[test]
    fn an_operation_without_a_connection_is_overdue_in_time_and_no_endpoint_has_too_many() {
        let mut cluster = cluster(CONNECTIONS_MAX);
        assert!(cluster.equip(0).is_some() && cluster.equip(1).is_none());
        let operation = cluster.begin(0, 0, 10, (Request::default(), 9_000));
        cluster.wait_unplaced(operation);
        assert!(cluster.take_overdue(109, 100).is_empty());
        assert_eq!(cluster.take_overdue(110, 100), [operation]);
        assert!(cluster.take_ready().is_empty());
        cluster.end(&operation);
        assert!(cluster.is_idle() && cluster.take_ready() == [0]);
    }

    #[test]
    fn an_operation_is_sent_on_sixteen_times_at_most() {
        let mut cluster = cluster(1);
        let mut operation = cluster.begin(0, 0, 0, (Request::default(), 5));
        for _ in 0..REDIRECTS_MAX {
            assert!(cluster.is_moved(&operation, b"MOVED 5 :2", SERVER));
            operation = cluster.take_moved()[0].1;
        }
        assert!(!cluster.is_moved(&operation, b"MOVED 5 :2", SERVER));
        assert!(!cluster.is_moved(&Operation::default(), b"ERR no", SERVER));
        assert!(!cluster.is_idle(), "it has not ended");
    }
}
