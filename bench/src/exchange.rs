//! One connection's requests and replies, without the socket.
//!
//! Requests are encoded into an output buffer and wait in order. A server replies in order, so each
//! reply belongs to the oldest request. An exchange owns no socket and no clock: bytes and times
//! pass through its methods, so that any transport can run it, a simulated one too. The caller
//! bounds the operations in flight, and with them the buffer.

use std::collections::VecDeque;

use crate::reply::{Malformed, Reply, ReplyParser};
use crate::workload::Request;

/// One operation on its way. Times are nanoseconds of the run's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Operation {
    /// When the operation was meant to start. In a closed loop this is when it was sent.
    pub intended: u64,
    /// When the operation was handed to the socket.
    pub sent: u64,
    /// What it asks for. Without a reply the outcome of a write is unknown.
    pub request: Request,
    /// Where it belongs in a cluster.
    pub way: Way,
    /// Its place among the operations that are noted for a check.
    pub noted: Option<u32>,
}

/// Who sent an operation in a cluster, and where it goes. Not used without a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Way {
    /// The client that it belongs to.
    pub client: u32,
    /// The slot of its key.
    pub slot: u16,
    /// How often a server has sent it elsewhere.
    pub redirects: u8,
}

/// The memory for requests that an idle connection of a cluster keeps.
const OUT_KEPT: usize = 64 * 1024;

/// The requests and replies of one connection.
#[derive(Debug, Default)]
pub struct Exchange {
    out: Vec<u8>,
    /// How many bytes of `out` were written. Invariant: `written <= out.len()`; both are 0 when all
    /// was written.
    written: usize,
    /// Oldest first.
    in_flight: VecDeque<Operation>,
    parser: ReplyParser,
}

impl Exchange {
    /// Says whether the replies tell which values they hold.
    pub fn look_at_values(&mut self, looks: bool) {
        self.parser.look_at_values(looks);
    }

    /// Appends one operation. `encode` writes its request.
    pub fn push(&mut self, operation: Operation, encode: impl FnOnce(&mut Vec<u8>)) {
        encode(&mut self.out);
        self.in_flight.push_back(operation);
    }

    /// The bytes still to be written.
    pub fn unwritten(&self) -> &[u8] {
        &self.out[self.written..]
    }

    /// The first `count` bytes of [`Self::unwritten`] are written.
    pub fn wrote(&mut self, count: usize) {
        self.written += count;
        assert!(self.written <= self.out.len(), "{} written of {}", self.written, self.out.len());
        if self.written == self.out.len() {
            self.out.clear();
            self.written = 0;
        }
    }

    /// Reads bytes that the server sent, and calls `done` for each operation that has its reply,
    /// the oldest first.
    ///
    /// # Errors
    /// When the bytes are not RESP, or no request waits for the reply. The connection cannot be
    /// used any more.
    pub fn receive(
        &mut self,
        mut input: &[u8],
        mut done: impl FnMut(&Operation, Reply<'_>),
    ) -> Result<(), Malformed> {
        while let Some(reply) = self.parser.next(&mut input)? {
            let Some(operation) = self.in_flight.pop_front() else {
                return Err(Malformed("a reply to nothing that was asked"));
            };
            done(&operation, reply);
        }
        Ok(())
    }

    /// Gives the memory of a large pipeline back, when all of it is written. A cluster has many connections that
    /// are idle for most of the time.
    pub fn release(&mut self) {
        if self.out.is_empty() && self.out.capacity() > OUT_KEPT {
            self.out = Vec::new();
        }
    }

    /// How many operations wait for their reply.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// The operation that waits longest.
    pub fn oldest(&self) -> Option<&Operation> {
        self.in_flight.front()
    }

    /// Empties the exchange for a new connection, and returns the operations that waited.
    pub fn abandon(&mut self) -> VecDeque<Operation> {
        std::mem::take(self).in_flight
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(intended: u64) -> Operation {
        Operation { intended, sent: intended, ..Operation::default() }
    }

    fn asked(exchange: &mut Exchange, intended: u64) {
        exchange.push(operation(intended), |out| out.extend_from_slice(b"PING\r\n"));
    }

    #[test]
    fn replies_belong_to_the_oldest_operation() {
        let mut exchange = Exchange::default();
        (1..=3).for_each(|at| asked(&mut exchange, at));
        let mut done = Vec::new();
        exchange
            .receive(b"+PONG\r\n-ERR x\r\n+PO", |op, reply| {
                done.push((op.intended, matches!(reply, Reply::Done(_))))
            })
            .unwrap();
        assert_eq!(done, [(1, true), (2, false)]);
        assert_eq!(exchange.oldest(), Some(&operation(3)));
        exchange.receive(b"NG\r\n", |op, _| done.push((op.intended, true))).unwrap();
        assert_eq!(done.last(), Some(&(3, true)));
        assert!(exchange.receive(b"+PONG\r\n", |_, _| ()).is_err());
    }

    #[test]
    fn partial_writes_keep_the_rest_in_order() {
        let mut exchange = Exchange::default();
        asked(&mut exchange, 1);
        exchange.wrote(4);
        assert_eq!(exchange.unwritten(), b"\r\n");
        asked(&mut exchange, 2);
        assert_eq!(exchange.unwritten(), b"\r\nPING\r\n");
        exchange.wrote(8);
        assert!(exchange.unwritten().is_empty());
    }

    #[test]
    fn a_fresh_connection_remembers_nothing() {
        let mut exchange = Exchange::default();
        asked(&mut exchange, 1);
        exchange.receive(b"$10\r\nhal", |_, _| ()).unwrap();
        assert_eq!(exchange.abandon(), [operation(1)]);
        asked(&mut exchange, 2);
        let mut done = 0;
        exchange.receive(b"+OK\r\n", |_, _| done += 1).unwrap();
        assert_eq!(done, 1);
    }
}
