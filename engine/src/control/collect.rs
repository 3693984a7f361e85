//! What a shard tells of itself: its status at each beat, and the answers to operators' requests.

use crate::{
    control::{
        port::{CONTROL_CAPACITY, ControlRequest},
        status::{Level, Problem, QueueStatus, STOPPED_NAMED_MAX, ShardState, ShardStatus},
    },
    error::Error,
    runtime::Runtime,
    shard::{Shard, group::Group},
};
use purlin_rsm::Tick;

/// Groups in one page of [`crate::ShardControl::groups`]. A page of followers takes about 0.3 ms of a turn
/// (measured with `opt-level = 1` on a busy machine), and 16,384 of them 20 ms, too much for each beat.
pub const GROUPS_PER_PAGE: usize = 1024;

/// Operators' requests that are answered in one turn: clients wait for the rest of the turn.
const REQUESTS_PER_TURN: usize = 4;

impl<R: Runtime> Shard<R> {
    /// Publishes the status of this beat.
    pub(crate) fn publish_status(&mut self, now: Tick) {
        let mut status = self.outside.spare();
        self.fill_status(now, &mut status);
        self.outside.publish(&self.site.name, status);
    }

    /// Answers what operators ask.
    pub(crate) fn answer_control(&mut self, now: Tick) {
        for _ in 0..REQUESTS_PER_TURN {
            match self.outside.next_request() {
                Some(ControlRequest::Status(reply)) => {
                    let mut status = ShardStatus::default();
                    self.fill_status(now, &mut status);
                    reply.send(Ok(status));
                }
                Some(ControlRequest::Groups(first, reply)) => {
                    let page = self.groups.from(first).take(GROUPS_PER_PAGE).map(Group::status);
                    reply.send(Ok(page.collect()));
                }
                Some(ControlRequest::Group(id, reply)) => {
                    reply.send(Ok(self.groups.get(id).map(Group::status)));
                }
                None => return,
            }
        }
        if self.outside.requests() > 0 {
            self.wake().notify();
        }
    }

    /// The last status: how the shard has ended.
    pub(crate) fn close_control(&mut self, now: Tick, outcome: &Result<(), Error>) {
        let mut last = ShardStatus::default();
        self.fill_status(now, &mut last);
        last.groups = last.groups.of_an_ended_shard();
        last.state = match outcome {
            Ok(()) => ShardState::Stopped,
            Err(error) => ShardState::Failed(error.clone()),
        };
        self.outside.close(last);
    }

    /// Fills a status with how the shard stands. The cost does not depend on the number of groups.
    fn fill_status(&self, now: Tick, status: &mut ShardStatus) {
        (status.node, status.shard) = (self.site.node, self.site.shard);
        status.beat = self.timing.beats();
        status.at = self.runtime.now();
        status.interval = self.timing.time_of(Tick(self.timing.beat_ticks));
        status.state = match self.meeting.state() {
            ShardState::Serving if self.drain.has_begun() => ShardState::Stopping,
            state => state,
        };
        status.waits_for.clear();
        if !self.meeting.identity().has_met {
            status.waits_for.extend(self.meeting.waits_for());
        }
        self.fill_problems(now, &mut status.problems);
        status.groups = self.groups.counts();
        self.append.fill_status(&mut status.wal);
        status.queues = self.queues();
        status.refusals = self.requests.callers.refusals();
        self.others.exchanger.status(&mut status.peers);
        status.turns.clone_from(self.outside.turns());
        status.stages = self.requests.callers.timer().times();
    }

    fn fill_problems(&self, now: Tick, problems: &mut Vec<Problem>) {
        problems.clear();
        if self.append.is_full() {
            problems.push(Problem::DiskFull);
        }
        let data = self.groups.machines();
        if data.now >= data.max {
            problems.push(Problem::DataFull);
        }
        if self.is_hanging(now)
            && let Some(since) = self.append.without_progress_since()
        {
            let ticks = now.0.saturating_sub(since.0).min(u64::from(u32::MAX)) as u32;
            problems.push(Problem::DiskHangs(self.timing.tick.saturating_mul(ticks)));
        }
        if self.meeting.is_fenced() {
            problems.push(Problem::Fenced);
        }
        if self.groups.counts().loading > 0 {
            problems.push(Problem::Loading(self.groups.counts().loading));
        }
        let machines = self.groups.stopped_machines();
        let faults = self.groups.counts().stopped - machines.len() as u32;
        if faults > 0 {
            problems.push(Problem::ReplicasStopped(faults));
        }
        if !machines.is_empty() {
            let first = machines.iter().copied().take(STOPPED_NAMED_MAX).collect();
            problems.push(Problem::MachinesStopped { count: machines.len(), first });
        }
    }

    fn queues(&self) -> QueueStatus {
        QueueStatus {
            inlet: self.inlet.level(),
            entry_bytes: self.groups.memory().level(),
            machine_bytes: self.groups.machines(),
            control: Level { now: self.outside.requests(), max: CONTROL_CAPACITY },
            ..self.requests.queues()
        }
    }
}
