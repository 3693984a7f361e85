//! The driver's part of a run over a cluster: learns the slots, sends each operation to the endpoint
//! that leads its slot, and sends it again where a server says so.

use std::io;

use crate::cluster::CONNECTIONS_MAX;
use crate::connection::Connection;
use crate::exchange::Operation;
use crate::open_loop::OpenLoop;
use crate::poller::allow_open_files;
use crate::workload::Request;

use super::clock::nanos;
use super::config::Pace;
use super::{Driver, RunError, Stage};

impl Driver<'_> {
    /// Before the run: learns the slots from the first target that tells them, and plans the connections.
    ///
    /// # Errors
    /// When no target tells the slots in time, or there would be too many connections.
    pub(super) fn learn_slots(&mut self) -> Result<(), RunError> {
        let until = nanos(self.config.reach);
        while self.signals.seen().is_none() {
            let Some(cluster) = &mut self.cluster else { return Ok(()) };
            if cluster.route.leader_count() > 0 {
                return self.equip_all();
            }
            let inquiry = &cluster.inquiry;
            if inquiry.is_hopeless() || (self.clock.now >= until && inquiry.has_asked_all()) {
                return Err(RunError::NoSlots(match inquiry.failures() {
                    failures if failures.is_empty() => "no slot has a leader".to_owned(),
                    failures => failures,
                }));
            }
            self.look_after_connections();
            self.inquire();
            self.wait(self.wake_at())?;
        }
        Ok(())
    }

    fn equip_all(&mut self) -> Result<(), RunError> {
        let Some(cluster) = &self.cluster else { return Ok(()) };
        let (clients, endpoints) = (self.config.clients, cluster.route.leader_count());
        if clients * endpoints > CONNECTIONS_MAX {
            let text = format!(
                "{clients} clients need a connection to each of {endpoints} endpoints, and \
                 {CONNECTIONS_MAX} connections are the most: give fewer --clients"
            );
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, text).into());
        }
        allow_open_files((clients * endpoints) as u64 + 16)?;
        self.equip();
        Ok(())
    }

    /// Plans connections to the endpoints that are new.
    fn equip(&mut self) {
        let Some(cluster) = &self.cluster else { return };
        for endpoint in cluster.unequipped() {
            self.equip_one(endpoint);
        }
    }

    fn equip_one(&mut self, endpoint: usize) {
        let Some(cluster) = &mut self.cluster else { return };
        let Some((address, first)) = cluster.equip(endpoint) else { return };
        assert_eq!(first, self.connections.len(), "a block of connections has another place");
        let last = first + self.config.clients;
        self.connections.extend((first..last).map(|place| Connection::new(address, place as u64)));
        // Without enough files a connection fails, and is counted.
        let _ = allow_open_files(last as u64 + 16);
        // They are made at the next look.
        self.clock.look_at = self.clock.now;
    }

    /// Asks for the slots when it is time.
    pub(super) fn inquire(&mut self) {
        let Some(cluster) = &mut self.cluster else { return };
        let connections = &self.connections;
        let up = || {
            let mut up: Vec<_> =
                connections.iter().filter(|it| it.is_up()).map(Connection::address).collect();
            up.dedup();
            up
        };
        cluster.inquiry.turn(up, &self.poller.epoll, self.clock.now);
    }

    /// Handles an event of the connection of the inquiry.
    pub(super) fn on_inquiry(&mut self) {
        let now = self.clock.now;
        let Some(cluster) = &mut self.cluster else { return };
        let answer = cluster.inquiry.on_event(&self.poller.epoll, &mut self.poller.buffer, now);
        let Some((rows, server)) = answer else { return };
        cluster.learn(&rows, server);
        cluster.reroute();
        if self.stage != Stage::Reaching {
            self.equip();
        }
    }

    /// Whether the connection should be made when it is down.
    pub(super) fn is_wanted(&self, index: usize) -> bool {
        let is_draining = matches!(self.stage, Stage::Draining { .. });
        match &self.cluster {
            Some(cluster) => cluster.has_waiting(index) || (!is_draining && cluster.is_led(index)),
            None => !is_draining,
        }
    }

    /// Gives up the operations that have waited too long for a connection.
    pub(super) fn give_up_waiting(&mut self) {
        let Some(cluster) = &mut self.cluster else { return };
        let now = self.clock.now;
        for operation in cluster.take_overdue(now, nanos(self.config.timeout)) {
            self.recorder.never_taken(&operation, now);
            cluster.end(&operation);
        }
    }

    /// The run ends: gives up the operations that still wait for a connection.
    pub(super) fn end_waiting(&mut self) {
        let Some(cluster) = &mut self.cluster else { return };
        cluster.reroute();
        for (_, operation) in cluster.take_moved() {
            self.recorder.never_taken(&operation, self.clock.now);
            cluster.end(&operation);
        }
    }

    /// Sends the operations that were sent elsewhere, and the next ones of clients whose operations have all ended.
    pub(super) fn serve_clients(&mut self) {
        while let Some(cluster) = &mut self.cluster {
            let (moved, ready) = (cluster.take_moved(), cluster.take_ready());
            if moved.is_empty() && ready.is_empty() {
                break;
            }
            let mut touched = Vec::new();
            for (endpoint, operation) in moved {
                self.place(endpoint, operation, &mut touched);
            }
            if matches!((self.config.pace, self.stage), (Pace::Closed, Stage::Sending { .. })) {
                ready
                    .into_iter()
                    .for_each(|client| self.send_pipeline(client as u32, &mut touched));
            }
            // A connection that is lost here ends the operations on it, so the clients are looked at again.
            touched.into_iter().for_each(|index| self.flush_and_release(index));
        }
    }

    /// Closed loop: sends the next pipeline of a client.
    fn send_pipeline(&mut self, client: u32, touched: &mut Vec<usize>) {
        let (now, left) = (self.clock.now, self.requests_left);
        let Some(cluster) = self.cluster.as_mut().filter(|_| left > 0) else { return };
        let limits = (self.config.pipeline, left);
        let (endpoint, mut requests) = cluster.draw(limits, &mut self.workload);
        for request in requests.drain(..) {
            self.begin_operation(client, now, endpoint, request, touched);
        }
        if let Some(cluster) = &mut self.cluster {
            cluster.give_back(requests);
        }
    }

    /// Open loop: sends the operations that are due up to `last`, as far as clients have room.
    pub(super) fn send_due_to_cluster(&mut self, open: &mut OpenLoop, last: u64) {
        let mut touched = Vec::new();
        while open.next_at() <= last && self.requests_left > 0 {
            let Some(cluster) = &mut self.cluster else { return };
            let Some(client) = cluster.next_with_room(self.config.pipeline) else {
                open.found_none();
                break;
            };
            open.found_room();
            let request = self.workload.draw();
            let slot = self.workload.slot(&request);
            let endpoint = cluster.route.of(slot);
            self.begin_operation(client, open.take(), endpoint, (request, slot), &mut touched);
        }
        touched.into_iter().for_each(|index| self.flush_and_release(index));
    }

    fn begin_operation(
        &mut self,
        client: u32,
        intended: u64,
        endpoint: usize,
        request: (Request, u16),
        touched: &mut Vec<usize>,
    ) {
        let now = self.clock.now;
        self.count_begun(intended);
        let noted = self.note(client, &request.0);
        let Some(cluster) = &mut self.cluster else { return };
        let begun = cluster.begin(client, intended, now, request);
        let operation = Operation { noted, ..begun };
        self.place(endpoint, operation, touched);
    }

    /// Puts an operation on its client's connection to `endpoint`, to be written, or to wait until the connection is
    /// up.
    fn place(&mut self, endpoint: usize, operation: Operation, touched: &mut Vec<usize>) {
        let Some(cluster) = &self.cluster else { return };
        if cluster.connection(endpoint, &operation).is_none() {
            self.equip_one(endpoint);
        }
        let Some(cluster) = &mut self.cluster else { return };
        // An operation that ended here would let its client begin another one at once, and so without end.
        let Some(index) = cluster.connection(endpoint, &operation) else {
            return cluster.wait_unplaced(operation);
        };
        if self.connections[index].is_up() {
            return self.put(index, operation, touched);
        }
        cluster.wait(index, operation);
        if self.connections[index].retry_at().is_some_and(|at| self.clock.now >= at) {
            self.connect(index);
        }
    }

    /// Encodes an operation onto a connection that is up.
    fn put(&mut self, index: usize, mut operation: Operation, touched: &mut Vec<usize>) {
        let Some(cluster) = &mut self.cluster else { return };
        // The time of an operation that is sent again runs on.
        if operation.way.redirects == 0 {
            operation.sent = self.clock.now;
        }
        cluster.sent(index, &operation);
        let exchange = &mut self.connections[index].exchange;
        if exchange.unwritten().is_empty() {
            touched.push(index);
        }
        exchange.push(operation, |out| self.workload.append(&operation.request, out));
    }

    /// The connection is up: sends what waits for it.
    pub(super) fn send_waiting(&mut self, index: usize) {
        let waiting = self.cluster.as_mut().map(|cluster| cluster.take_waiting(index));
        let mut touched = Vec::new();
        for operation in waiting.into_iter().flatten() {
            self.put(index, operation, &mut touched);
        }
        touched.into_iter().for_each(|index| self.flush_and_release(index));
    }

    fn flush_and_release(&mut self, index: usize) {
        self.flush(index);
        self.connections[index].exchange.release();
    }
}
