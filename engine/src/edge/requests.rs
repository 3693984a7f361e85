//! All requests of a shard: those of its own callers, those that wait for a leader, those that are away,
//! and those that it has accepted from other shards.

use crate::{
    config::NodeConfig,
    control::status::QueueStatus,
    edge::{
        accepted::Accepted,
        away::{Away, Waiter},
        caller::{Caller, Callers, LaneRef},
        deadlines::{Deadlines, Holder},
        inlet::InletCaller,
        late::{LateReplies, LateReply},
        other_shard::OtherShard,
    },
    shard::groups::GroupSlot,
    wake::Wake,
};
use purlin_rsm::Tick;
use std::{
    rc::{Rc, Weak},
    sync::Arc,
};

/// See the module.
pub(crate) struct Requests {
    pub(crate) callers: Rc<Callers>,
    pub(crate) inlet_caller: InletCaller,
    /// Lanes that found no leader, or whose batch bounced: they try again with the next change.
    parked: Vec<LaneRef>,
    pub(crate) away: Away,
    pub(crate) accepted: Accepted,
    pub(crate) late: LateReplies,
    pub(crate) deadlines: Deadlines,
}

impl Requests {
    /// `random` differs from start to start.
    pub(crate) fn new(node: &NodeConfig, max_command: usize, wake: Arc<Wake>, random: u64) -> Self {
        let callers = Callers::new(node.intake.clone(), max_command, node.raft.tick, wake);
        Self {
            inlet_caller: InletCaller::new(&callers),
            callers,
            parked: Vec::new(),
            away: Away::new(random),
            accepted: Accepted::new(node.intake.requests_max),
            late: LateReplies::default(),
            deadlines: Deadlines::new(node.raft.ticks(node.intake.deadline)),
        }
    }

    /// How full the queues are.
    pub(crate) fn queues(&self) -> QueueStatus {
        let (requests, request_bytes) = self.callers.levels();
        QueueStatus {
            requests,
            request_bytes,
            parked: self.parked.len(),
            away: self.away.len(),
            accepted: self.accepted.level(),
            late_replies: self.late.level(),
            ..QueueStatus::default()
        }
    }

    /// Moves out the lanes that have something to send. From now on the requests in them have a deadline.
    pub(crate) fn take_scheduled(&mut self) -> Vec<LaneRef> {
        let scheduled = self.callers.take_scheduled();
        scheduled.iter().for_each(|lane| self.watch_caller(&lane.caller));
        scheduled
    }

    /// Keeps a lane that cannot send now, until something changes.
    pub(crate) fn park(&mut self, lane: LaneRef) {
        self.parked.push(lane);
    }

    /// Whether a lane is parked.
    pub(crate) fn is_parked(&self, lane: &LaneRef) -> bool {
        self.parked.iter().any(|parked| parked.is(lane))
    }

    /// Lets the parked lanes try again.
    pub(crate) fn retry_parked(&mut self) {
        std::mem::take(&mut self.parked).iter().for_each(LaneRef::go_on);
    }

    /// A batch is on its way to another shard.
    pub(crate) fn sent_away(&mut self, now: Tick, id: u64, to: OtherShard, waiter: Waiter) {
        self.away.sent(now, id, to, waiter);
        self.watch_away();
    }

    /// Keeps a reply that found a full channel.
    pub(crate) fn keep_late(&mut self, late: LateReply) {
        purlin_rsm::sometimes!("reply to a batch waits for room");
        self.late.push(late);
        self.watch_late();
    }

    /// Ends the requests whose deadline has passed, but for those that groups hold: these groups come
    /// back, and with them the time before which a request must have come to be ended.
    pub(crate) fn expire(&mut self, now: Tick) -> (Tick, Vec<GroupSlot>) {
        let limit = self.deadlines.limit(now);
        let mut groups = Vec::new();
        for holder in self.deadlines.take_due(limit) {
            match holder {
                Holder::Caller(caller) => {
                    let Some(caller) = Weak::upgrade(&caller) else { continue };
                    caller.expire(limit);
                    self.watch_caller(&caller);
                }
                Holder::Group(slot) => groups.push(slot),
                Holder::Away => {
                    self.away.expire(limit);
                    self.watch_away();
                }
                Holder::Late => {
                    self.late.expire(limit);
                    self.watch_late();
                }
            }
        }
        (limit, groups)
    }

    /// Ends everything that waits on this shard, and takes nothing any more.
    pub(crate) fn stop(&mut self) {
        self.callers.stop();
        self.waiting_callers().iter().for_each(|caller| caller.stop());
        self.inlet_caller.tell_outcomes();
        self.callers.wake_answered();
    }

    /// The callers that wait for something. A caller with requests stands in the queue of deadlines, or
    /// its lane is scheduled; one may stand here twice.
    pub(crate) fn waiting_callers(&self) -> Vec<Rc<Caller>> {
        let watched = self.deadlines.iter().filter_map(|holder| match holder {
            Holder::Caller(caller) => caller.upgrade(),
            Holder::Group(_) | Holder::Away | Holder::Late => None,
        });
        watched.chain(self.callers.scheduled()).collect()
    }

    fn watch_caller(&mut self, caller: &Rc<Caller>) {
        if let Some(oldest) = caller.watch() {
            self.deadlines.push(oldest, Holder::Caller(Rc::downgrade(caller)));
        }
    }

    fn watch_away(&mut self) {
        if let Some(oldest) = self.away.watch() {
            self.deadlines.push(oldest, Holder::Away);
        }
    }

    fn watch_late(&mut self) {
        if let Some(oldest) = self.late.watch() {
            self.deadlines.push(oldest, Holder::Late);
        }
    }
}
