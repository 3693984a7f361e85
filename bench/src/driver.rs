//! Runs a load: one thread, one epoll, all connections.
//!
//! ```text
//!            ┌─ reach ──► warm-up ──► measured ──► drain ─► summary
//! every turn: time-outs · retries · operations that are due · wait · replies
//! ```
//!
//! * **Closed loop**: each connection sends `pipeline` operations in one write, waits for all their
//!   replies, and sends the next ones. A closed loop finds the highest rate of a server. Its
//!   latencies are those of a client that waits.
//! * **Open loop**: a [`Schedule`] says when each operation is meant to start. The operation goes
//!   to the next connection in turn that has room. If no connection has room, the operation waits in
//!   the schedule, where it costs no memory; it is sent as soon as there is room, and it is never
//!   skipped. Its latency runs from the intended time.
//! * **Cluster**: in both loops an operation goes to the endpoint that leads the slot of its key, on a
//!   connection of its client ([`Cluster`] has the rules).
//!
//! A connection that ends affects no other one: its operations are counted as lost, and the
//! connection is made again. No operation is sent twice, unless a server of a cluster has sent it on.
//!
//! # Why epoll, and no executor
//!
//! The generator shares the cores with the server that it measures, so every cycle that it saves is
//! one more for the server. One epoll wait serves all connections that are ready. Each of them
//! costs one read and one write for a whole pipeline: no task, no wake-up, no allocation. An
//! executor on io_uring would add its own turns: glommio 0.9 sends and receives with the same two
//! system calls, and enters up to three rings a turn besides.
//!
//! Measured on two cores beside one Redis 7.0.15 without a log: SET of 16 B over 100,000 keys, 64
//! clients, five runs of each, interleaved, medians. With pipeline 16 both redis-benchmark and this
//! generator saturate the server, at 0.96 million operations a second; they use 0.44 and 0.29 µs of
//! processor time for an operation. Without a pipeline they reach 153 and 204 thousand operations a
//! second, for 6.4 and 3.6 µs.

mod clock;
mod cluster;
mod config;

use std::io;

use rustix::event::epoll::{Event, EventFlags};

use crate::chance::Chance;
use crate::check::notes::Notes;
use crate::check::verdict::{Checked, judge};
use crate::cluster::{Cluster, ClusterFacts};
use crate::connection::Connection;
use crate::cpu::CpuMeter;
use crate::exchange::{Operation, Way};
use crate::give_up::GiveUp;
use crate::inquiry::INQUIRY_TOKEN;
use crate::open_loop::OpenLoop;
use crate::poller::{Poller, allow_open_files, wake_on_time};
use crate::recorder::{OnSecond, Recorder};
use crate::reply::Reply;
use crate::schedule::Schedule;
use crate::signals::Signals;
use crate::workload::{Request, Workload};

use self::clock::{Clock, SECOND_NANOS, nanos};
pub use self::config::{DriverConfig, Extent, Pace};

/// What a run found.
pub struct Summary {
    /// All counts.
    pub recorder: Recorder,
    /// The most operations due and not yet sent (open loop).
    pub backlog_max: u64,
    /// What was seen of the cluster, when the run was over one.
    pub cluster: Option<ClusterFacts>,
    /// The generator's own use of the processor.
    pub cpu: Option<CpuMeter>,
    /// What the check has found, in a run that is checked.
    pub checked: Option<Checked>,
    /// The signal that ended the run early.
    pub signal: Option<i32>,
    /// Whether the run ended early because no operation succeeded any more.
    pub has_given_up: bool,
}

impl Summary {
    /// Whether the check has found a violation.
    pub fn is_violated(&self) -> bool {
        self.checked.as_ref().is_some_and(|checked| checked.violated_keys > 0)
    }

    /// Whether a check was asked for that could not have found anything.
    pub fn is_unchecked(&self) -> bool {
        self.checked.as_ref().is_some_and(|checked| !checked.is_a_check())
    }
}

/// Why a run did not begin.
#[derive(Debug)]
pub enum RunError {
    /// No server could be reached, and nothing was sent. Holds the last error.
    Unreachable(String),
    /// The slots of the cluster could not be learnt, and nothing was sent. Holds why.
    NoSlots(String),
    /// A signal came before anything was sent.
    Interrupted(i32),
    /// The operating system refused a resource that the generator needs.
    Io(io::Error),
}

impl From<io::Error> for RunError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// How often the driver looks for time-outs.
const LOOK_NANOS: u64 = 50_000_000;
/// How long an interrupted run waits for the replies that are still due.
const INTERRUPTED_DRAIN_NANOS: u64 = SECOND_NANOS;
const SIGNAL_TOKEN: u64 = u64::MAX;

/// Runs one load. [`Driver::run`] is all of its life.
pub struct Driver<'a> {
    config: DriverConfig,
    workload: Workload,
    /// Called at the end of each second.
    on_second: &'a mut OnSecond<'a>,
    poller: Poller,
    signals: Signals,
    clock: Clock,
    chance: Chance,
    connections: Vec<Connection>,
    /// `None` when the targets are no cluster.
    cluster: Option<Cluster>,
    stage: Stage,
    recorder: Recorder,
    /// `None` in a closed loop.
    open: Option<OpenLoop>,
    /// How many measured operations may still be sent, when the run has a number of operations.
    requests_left: u64,
    give_up: GiveUp,
    cpu: Option<CpuMeter>,
}

/// The phase of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Connections are made, nothing is sent.
    Reaching,
    /// Operations are sent until this time at the latest.
    Sending { until: u64 },
    /// The driver waits for replies until this time at the latest.
    Draining { until: u64 },
}

impl<'a> Driver<'a> {
    /// Prepares a run of `workload`.
    ///
    /// # Errors
    /// When the operating system refuses an epoll, a signal handler, or that many open files.
    pub fn new(
        config: DriverConfig,
        workload: Workload,
        on_second: &'a mut OnSecond<'a>,
    ) -> io::Result<Self> {
        assert!(
            config.clients > 0 && config.pipeline > 0 && !config.targets.is_empty(),
            "{config:?}"
        );
        allow_open_files(config.clients as u64 + 16)?;
        let poller = Poller::new()?;
        let signals = Signals::new()?;
        poller.add(signals.readable(), SIGNAL_TOKEN)?;
        // The connections to a cluster are planned when its endpoints are known.
        let planned = if config.cluster { 0 } else { config.clients };
        let target = |client: usize| config.targets[client % config.targets.len()];
        let connections = (0..planned).map(|i| Connection::new(target(i), i as u64)).collect();
        let requests_left = match config.extent {
            Extent::Duration(_) => u64::MAX,
            Extent::Requests(count) => count,
        };
        let is_open = matches!(config.pace, Pace::Open { .. });
        let mut recorder = Recorder::new(nanos(config.warmup), is_open);
        recorder.notes = workload.is_checked().then(Notes::default);
        Ok(Self {
            recorder,
            chance: Chance::new(config.seed ^ 0x5eed),
            open: None,
            give_up: GiveUp::new(nanos(config.give_up), nanos(config.timeout)),
            clock: Clock::new(),
            stage: Stage::Reaching,
            cpu: None,
            workload,
            on_second,
            poller,
            signals,
            connections,
            cluster: config.cluster.then(|| Cluster::new(config.targets.clone(), config.clients)),
            requests_left,
            config,
        })
    }

    /// Connects to the servers, runs the load, and returns the result.
    ///
    /// # Errors
    /// When no server can be reached, before anything was sent.
    pub fn run(mut self) -> Result<Summary, RunError> {
        wake_on_time();
        self.reach()?;
        self.begin();
        while !self.is_over() {
            self.turn()?;
        }
        Ok(self.summarise())
    }

    /// Tries to make every connection, for as long as the configuration says. One connection is
    /// enough.
    fn reach(&mut self) -> Result<(), RunError> {
        self.learn_slots()?;
        let until = self.clock.now + nanos(self.config.reach);
        while self.clock.now < until && self.signals.seen().is_none() {
            self.look_after_connections();
            if self.connections.iter().all(Connection::is_up) {
                break;
            }
            self.wait(until)?;
        }
        if self.connections.iter().any(Connection::is_up) {
            return Ok(());
        }
        if let Some(signal) = self.signals.seen() {
            return Err(RunError::Interrupted(signal));
        }
        let why = self.recorder.totals().last_connection_error.clone();
        Err(RunError::Unreachable(why.unwrap_or_else(|| "no answer in time".to_owned())))
    }

    /// Starts the clock of the run, and the load.
    fn begin(&mut self) {
        self.clock = Clock::new();
        let start = self.clock.now;
        self.recorder
            .begin(self.connections.iter().filter(|connection| !connection.is_up()).count());
        let until = match self.config.extent {
            Extent::Duration(duration) => nanos(self.config.warmup) + nanos(duration),
            Extent::Requests(_) => u64::MAX,
        };
        self.stage = Stage::Sending { until };
        if let Pace::Open { rate, arrivals } = self.config.pace {
            let chance = Chance::new(self.chance.draw());
            let schedule = Schedule::new(arrivals, rate, start, chance);
            self.open = Some(OpenLoop::new(schedule, nanos(self.config.warmup)));
        }
        for index in 0..self.connections.len() {
            if self.connections[index].is_up() {
                self.refill(index);
            } else {
                // The times of the connection were taken with the earlier clock.
                self.connections[index].close(start, &mut self.chance);
            }
        }
        if let Some(cluster) = &mut self.cluster {
            cluster.inquiry.restart();
            cluster.make_all_ready();
        }
        self.serve_clients();
    }

    fn is_over(&self) -> bool {
        let Stage::Draining { until } = self.stage else { return false };
        let is_idle =
            self.connections.iter().all(|connection| connection.exchange.in_flight() == 0);
        let is_idle = is_idle && self.cluster.as_ref().is_none_or(Cluster::is_idle);
        is_idle || self.clock.now >= until
    }

    fn turn(&mut self) -> Result<(), RunError> {
        self.advance();
        self.end_second_if_due();
        self.look_after_connections();
        self.inquire();
        self.send_what_is_due();
        self.serve_clients();
        self.wait(self.wake_at())
    }

    /// Moves from phase to phase, by time, by number of operations and by signal.
    fn advance(&mut self) {
        let now = self.clock.now;
        if self.cpu.is_none() && now >= nanos(self.config.warmup) {
            self.cpu = CpuMeter::start();
        }
        let Stage::Sending { until } = self.stage else { return };
        if self.signals.seen().is_some() {
            self.stop_sending(now);
            self.recorder.close(now);
            self.stage = Stage::Draining { until: now + INTERRUPTED_DRAIN_NANOS };
        } else if now >= until {
            self.send_what_is_due();
            self.stop_sending(until);
            self.recorder.close(until);
            self.stage = Stage::Draining { until: now + nanos(self.config.timeout) };
        } else if self.requests_left == 0 {
            self.stage = Stage::Draining { until: now + nanos(self.config.timeout) };
        } else if self.has_given_up() {
            // The replies that are due have had their time.
            self.stage = Stage::Draining { until: now };
        }
    }

    /// Without this check a run of a number of operations would go on for hours with a server that
    /// never comes back, or that takes connections and answers nothing: the kernel of a stopped
    /// process takes them too, so a connection that is up says nothing.
    fn has_given_up(&self) -> bool {
        let last_success = self.recorder.last_success().max(nanos(self.config.warmup));
        // In a closed loop an operation is due at any time.
        let next_at = self.open.as_ref().map_or(0, OpenLoop::next_at);
        matches!(self.config.extent, Extent::Requests(_))
            && self.give_up.is_due(self.clock.now, last_success, next_at)
    }

    /// Records the operations that were due before `end` and were never sent, with the time that
    /// they waited.
    fn stop_sending(&mut self, end: u64) {
        let Some(open) = &mut self.open else { return };
        while open.next_at() < end && self.requests_left > 0 {
            self.requests_left -= 1;
            self.recorder.unsent(open.take(), end);
        }
    }

    fn end_second_if_due(&mut self) {
        if self.clock.now >= self.clock.second_ends {
            self.clock.second_ends +=
                SECOND_NANOS * (1 + (self.clock.now - self.clock.second_ends) / SECOND_NANOS);
            self.end_second();
        }
    }

    fn end_second(&mut self) {
        let now = self.clock.now;
        let is_sending = matches!(self.stage, Stage::Sending { .. });
        let backlog = self.open.as_mut().filter(|_| is_sending).map_or(0, |open| open.look(now));
        self.recorder.end_second(now, backlog, self.on_second);
    }

    /// Gives up operations that wait too long, and makes lost connections again.
    fn look_after_connections(&mut self) {
        let now = self.clock.now;
        if now < self.clock.look_at {
            return;
        }
        let timeout = nanos(self.config.timeout);
        for index in 0..self.connections.len() {
            let connection = &self.connections[index];
            let oldest = connection.exchange.oldest().map(|operation| operation.sent);
            if oldest.or(connection.connecting_since()).is_some_and(|since| now >= since + timeout)
            {
                self.lose(index, &io::Error::new(io::ErrorKind::TimedOut, "no answer in time"));
            } else if connection.retry_at().is_some_and(|at| now >= at) && self.is_wanted(index) {
                self.connect(index);
            }
        }
        self.give_up_waiting();
        let wanted = (0..self.connections.len()).filter(|&index| self.is_wanted(index));
        let soonest =
            wanted.filter_map(|index| self.connections[index].retry_at()).min().unwrap_or(u64::MAX);
        self.clock.look_at = soonest.clamp(now + 1_000_000, now + LOOK_NANOS);
    }

    fn connect(&mut self, index: usize) {
        if let Err(error) = self.connections[index].connect(&self.poller.epoll, self.clock.now) {
            self.lose(index, &error);
        }
    }

    /// Open loop: sends every operation that is due, as far as there is room, over the connections
    /// in turn. Each connection gets one write.
    fn send_what_is_due(&mut self) {
        let Stage::Sending { until } = self.stage else { return };
        let Some(mut open) = self.open.take() else { return };
        let now = self.clock.now;
        open.look(now);
        let last = now.min(until - 1);
        if self.cluster.is_some() {
            self.send_due_to_cluster(&mut open, last);
        }
        while self.cluster.is_none() && open.next_at() <= last && self.requests_left > 0 {
            let Some(index) = open.next_with_room(&self.connections, self.config.pipeline) else {
                break;
            };
            self.push(index, open.take());
        }
        for index in open.take_touched() {
            self.flush(index);
        }
        self.open = Some(open);
    }

    /// Closed loop: sends a pipeline of operations in one write.
    fn refill(&mut self, index: usize) {
        if matches!(self.config.pace, Pace::Open { .. })
            || self.cluster.is_some()
            || !matches!(self.stage, Stage::Sending { .. })
        {
            return;
        }
        for _ in 0..self.config.pipeline {
            if self.requests_left == 0 {
                break;
            }
            self.push(index, self.clock.now);
        }
        self.flush(index);
    }

    /// Encodes one operation onto a connection.
    fn push(&mut self, index: usize, intended: u64) {
        let sent = self.clock.now;
        self.count_begun(intended);
        let request = self.workload.draw();
        let noted = self.note(index as u32, &request);
        let operation = Operation { intended, sent, request, way: Way::default(), noted };
        self.connections[index].exchange.push(operation, |out| self.workload.append(&request, out));
    }

    /// Notes an operation that begins, if the run is checked.
    fn note(&mut self, client: u32, request: &Request) -> Option<u32> {
        let notes = self.recorder.notes.as_mut()?;
        request.sample?;
        notes.ask(client, request, self.workload.fingerprint(request), self.clock.now)
    }

    /// Counts an operation that begins.
    fn count_begun(&mut self, intended: u64) {
        if intended >= nanos(self.config.warmup) {
            self.requests_left -= 1;
        }
        self.give_up.sent(self.clock.now);
    }

    fn flush(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        if connection.is_up()
            && let Err(error) = connection.flush(&self.poller.epoll)
        {
            self.lose(index, &error);
        }
    }

    /// The next time at which the driver must act without an event.
    fn wake_at(&self) -> u64 {
        let stage_ends = match self.stage {
            Stage::Reaching => u64::MAX,
            Stage::Sending { until } | Stage::Draining { until } => until,
        };
        let due = match &self.open {
            Some(open) if matches!(self.stage, Stage::Sending { .. }) => open.wake_at(),
            _ => u64::MAX,
        };
        let inquiry = self.cluster.as_ref().map_or(u64::MAX, |cluster| cluster.inquiry.wake_at());
        stage_ends.min(due).min(inquiry).min(self.clock.second_ends)
    }

    /// Waits for events, until `until` at the latest, and handles them.
    fn wait(&mut self, until: u64) -> Result<(), RunError> {
        let until = until.min(self.clock.look_at);
        let events = self.poller.wait(until.saturating_sub(self.clock.look()))?;
        self.clock.look();
        for event in &events {
            self.on_event(*event);
            self.serve_clients();
        }
        self.poller.give_back(events);
        Ok(())
    }

    fn on_event(&mut self, event: Event) {
        let (token, flags) = (event.data.u64(), event.flags);
        if token == SIGNAL_TOKEN {
            return self.signals.acknowledge();
        }
        if token == INQUIRY_TOKEN {
            return self.on_inquiry();
        }
        let index = token as usize;
        let connection = &mut self.connections[index];
        if connection.connecting_since().is_some() {
            return self.on_connected(index);
        }
        if flags.contains(EventFlags::OUT) {
            self.flush(index);
        }
        // The connection may have been lost since the event was reported.
        if self.connections[index].is_up() && flags.intersects(!EventFlags::OUT) {
            self.on_readable(index);
        }
    }

    fn on_connected(&mut self, index: usize) {
        match self.connections[index].finish_connect(&self.poller.epoll) {
            Ok(()) if self.cluster.is_some() => self.send_waiting(index),
            Ok(()) => self.refill(index),
            Err(error) => self.lose(index, &error),
        }
    }

    fn on_readable(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        let count = match connection.read(&mut self.poller.buffer) {
            Ok(0) => return,
            Ok(count) => count,
            Err(error) => return self.lose(index, &error),
        };
        let now = self.clock.look();
        let (recorder, give_up) = (&mut self.recorder, &mut self.give_up);
        let (mut cluster, server) = (self.cluster.as_mut(), connection.address());
        connection.exchange.look_at_values(recorder.notes.is_some());
        let understood =
            connection.exchange.receive(&self.poller.buffer[..count], |operation, reply| {
                match reply {
                    Reply::Done(held) => {
                        recorder.success(operation, now, held);
                        give_up.succeeded();
                    }
                    Reply::Error(text) => {
                        let mut cluster = cluster.as_deref_mut();
                        if cluster.as_mut().is_some_and(|it| it.is_moved(operation, text, server)) {
                            return recorder.redirected(operation);
                        }
                        recorder.refused(operation, text, now);
                    }
                }
                if let Some(cluster) = cluster.as_deref_mut() {
                    cluster.end(operation);
                }
            });
        if let Err(malformed) = understood {
            self.lose(index, &io::Error::new(io::ErrorKind::InvalidData, malformed.0));
        } else if connection.exchange.in_flight() == 0 {
            self.refill(index);
        } else if let Some(open) = &mut self.open {
            open.found_room();
        }
    }

    /// A connection has ended, or could not be made: counts the operations that were on it.
    fn lose(&mut self, index: usize, error: &io::Error) {
        let now = self.clock.now;
        let connection = &mut self.connections[index];
        let why = format!("{}: {error}", connection.address());
        if connection.is_up() {
            self.recorder.connection_lost(now, why);
        } else {
            self.recorder.connect_failed(now, why);
        }
        for operation in connection.exchange.abandon() {
            if now >= operation.sent + nanos(self.config.timeout) {
                self.recorder.timed_out(&operation, now);
            } else {
                self.recorder.lost(&operation, now);
            }
            if let Some(cluster) = &mut self.cluster {
                cluster.end(&operation);
            }
        }
        if let Some(cluster) = &mut self.cluster {
            cluster.inquiry.want();
        }
        connection.close(now, &mut self.chance);
        self.clock.look_at = self.clock.look_at.min(connection.retry_at().unwrap_or(u64::MAX));
    }

    fn summarise(mut self) -> Summary {
        let now = self.clock.now;
        for connection in &mut self.connections {
            for operation in connection.exchange.abandon() {
                self.recorder.timed_out(&operation, now);
            }
        }
        self.end_waiting();
        self.recorder.close(now);
        if self.recorder.has_second() {
            self.end_second();
        }
        let cpu = self.cpu.map(CpuMeter::stop);
        let notes = self.recorder.notes.take();
        let name = |number| self.workload.key_name(number);
        Summary {
            checked: notes.map(|notes| judge(&notes, name)),
            recorder: self.recorder,
            cluster: self.cluster.as_ref().map(Cluster::facts),
            backlog_max: self.open.map_or(0, |open| open.backlog_max()),
            cpu,
            has_given_up: matches!(self.config.extent, Extent::Requests(_))
                && self.requests_left > 0,
            signal: self.signals.seen(),
        }
    }
}
