//! The sending side of an open loop: which operation is due, and which connection has room for it.
//!
//! There are two copies of the schedule: one follows the operations that were sent, the other
//! follows the time. Their difference is the backlog, so an operation that waits costs no memory.
//! This module sends nothing itself.

use crate::connection::Connection;
use crate::schedule::Schedule;

/// What an open loop has sent, and what is due.
#[derive(Debug)]
pub struct OpenLoop {
    /// The schedule at the next operation to send.
    schedule: Schedule,
    /// The schedule at the next operation that was not due at the last look.
    arrived: Schedule,
    /// Operations that were due before this time belong to the warm-up, and do not count.
    measured_from: u64,
    backlog_max: u64,
    /// Whether no connection had room for what is due. Then only a reply changes that, and time
    /// does not.
    is_full: bool,
    /// The connection after the one that got the last operation.
    next: usize,
    /// Connections with new operations since the last write, each once.
    touched: Vec<usize>,
}

impl OpenLoop {
    /// An open loop that has sent nothing yet. Its measurement starts at that time.
    pub fn new(schedule: Schedule, measured_from: u64) -> Self {
        let arrived = schedule.clone();
        Self {
            schedule,
            arrived,
            measured_from,
            backlog_max: 0,
            is_full: false,
            next: 0,
            touched: Vec::new(),
        }
    }

    /// Notes which operations are due at `now`. Returns how many are due and not sent.
    pub fn look(&mut self, now: u64) -> u64 {
        let backlog = self.arrived.pass(now).saturating_sub(self.schedule.taken());
        if now >= self.measured_from {
            self.backlog_max = self.backlog_max.max(backlog);
        }
        backlog
    }

    /// When the next operation is meant to start.
    pub fn next_at(&self) -> u64 {
        self.schedule.next_at()
    }

    /// The next connection in turn that is up and has less than `limit` operations in flight.
    pub fn next_with_room(&mut self, connections: &[Connection], limit: usize) -> Option<usize> {
        let count = connections.len();
        let has_room = |&index: &usize| {
            connections[index].is_up() && connections[index].exchange.in_flight() < limit
        };
        let found = (self.next..count).chain(0..self.next).find(has_room);
        self.is_full = found.is_none();
        if let Some(index) = found {
            self.next = (index + 1) % count;
            if connections[index].exchange.unwritten().is_empty() {
                self.touched.push(index);
            }
        }
        found
    }

    /// Takes the next operation. Returns its intended time.
    pub fn take(&mut self) -> u64 {
        self.schedule.take()
    }

    /// The connections that have new operations to write.
    pub fn take_touched(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.touched)
    }

    /// No connection has room. Only a reply changes that.
    pub fn found_none(&mut self) {
        self.is_full = true;
    }

    /// A reply has come: there is room.
    pub fn found_room(&mut self) {
        self.is_full = false;
    }

    /// When to look again.
    pub fn wake_at(&self) -> u64 {
        if self.is_full { u64::MAX } else { self.next_at() }
    }

    /// The largest backlog at any look of the measurement.
    pub fn backlog_max(&self) -> u64 {
        self.backlog_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chance::Chance;
    use crate::exchange::Operation;
    use crate::recorder::Recorder;
    use crate::reply::Held;
    use crate::schedule::Arrivals;

    const MS: u64 = 1_000_000;

    /// A simulated server: it serves one operation after the other in 0.1 ms each, and stands still
    /// from 500 to 700 ms. The load is one operation a millisecond for two seconds.
    fn served_at(free_at: u64, asked_at: u64) -> u64 {
        let start = free_at.max(asked_at);
        let start = if (500 * MS..700 * MS).contains(&start) { 700 * MS } else { start };
        start + MS / 10
    }

    #[test]
    fn a_stall_shows_in_the_latency_from_the_intended_time_and_hides_in_the_service_time() {
        let schedule = Schedule::new(Arrivals::Uniform, 1_000.0, 0, Chance::new(1));
        let mut open = OpenLoop::new(schedule, 0);
        let mut recorder = Recorder::new(0, true);
        let mut now = 0;
        while open.next_at() < 2_000 * MS {
            // One connection with room for one operation sends when it has its reply.
            now = now.max(open.next_at());
            open.look(now);
            let operation = Operation { intended: open.take(), sent: now, ..Operation::default() };
            now = served_at(now, now);
            recorder.success(&operation, now, Held::Other);
        }
        assert_eq!(recorder.totals().succeeded, 2_000, "none is skipped");
        // 200 operations fell into the stall, and some 22 more waited behind them: 11 % of all.
        let at = |quantile| recorder.latency().value_at_quantile(quantile);
        assert!(at(0.95) > 90 * MS && at(0.99) > 170 * MS, "{} {}", at(0.95), at(0.99));
        assert!(at(0.85) < MS, "{}", at(0.85));
        let service = recorder.service();
        assert!(service.value_at_quantile(0.999) < MS, "one slow answer in 2,000");
        assert!(service.max() > 190 * MS);
        assert!((198..=202).contains(&open.backlog_max()), "{}", open.backlog_max());
        assert!((199 * MS..202 * MS).contains(&recorder.gap().nanos), "{:?}", recorder.gap());
    }

    #[test]
    fn a_backlog_is_counted_and_not_stored() {
        let schedule = Schedule::new(Arrivals::Poisson, 1e6, 0, Chance::new(1));
        let mut open = OpenLoop::new(schedule, 0);
        let backlog = open.look(1_000 * MS);
        assert!((990_000..1_010_000).contains(&backlog), "{backlog}");
        for _ in 0..1_000 {
            open.take();
        }
        assert_eq!(open.look(1_000 * MS), backlog - 1_000);
        assert_eq!(open.backlog_max(), backlog);
    }

    #[test]
    fn without_a_connection_there_is_no_room_and_nothing_to_wake_for() {
        let schedule = Schedule::new(Arrivals::Uniform, 1_000.0, 0, Chance::new(1));
        let mut open = OpenLoop::new(schedule, 0);
        let down = [Connection::new("127.0.0.1:1".parse().unwrap(), 0)];
        assert_eq!(open.next_with_room(&down, 8), None);
        assert_eq!(open.wake_at(), u64::MAX);
        open.found_room();
        assert_eq!(open.wake_at(), 0);
    }
}
