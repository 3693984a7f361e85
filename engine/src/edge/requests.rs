//! All requests of a shard: those of its own callers, those that wait for a leader, those that are away,
//! and those that it has accepted from other shards.

use crate::{
    config::NodeConfig,
    control::{stage_timer::StageTimer, status::QueueStatus},
    edge::{
        accepted::Accepted,
        away::{Away, Waiter},
        caller::{Caller, Callers, LaneRef},
        deadlines::{Deadlines, Holder},
        inlet::InletCaller,
        lane::Wait,
        late::{LateReplies, LateReply},
        other_shard::OtherShard,
        without_room::WithoutRoom,
    },
    shard::groups::GroupSlot,
    wake::Wake,
};
use bytes::Bytes;
use purlin_rsm::Tick;
use purlin_transport::BatchOutcome;
use std::{mem, rc::Rc, sync::Arc};

/// See the module.
///
/// Its drop lets go of all lanes and callers, however the shard has ended: callers that others hold do not
/// keep each other.
pub(crate) struct Requests {
    pub(crate) callers: Rc<Callers>,
    pub(crate) inlet_caller: InletCaller,
    /// Lanes that found no leader, or whose batch bounced: they try again with the next change.
    parked: Vec<LaneRef>,
    /// Lanes whose batch found no room on its way, or at the other shard.
    pub(crate) without_room: WithoutRoom,
    /// All lanes without room are to try again: the leader of a group may be another one.
    retries_all: bool,
    pub(crate) away: Away,
    pub(crate) accepted: Accepted,
    pub(crate) late: LateReplies,
    pub(crate) deadlines: Deadlines,
    /// Empty lists, whose memory each turn uses again.
    buffers: Buffers,
}

/// What moves from the lanes into the groups in one turn.
#[derive(Default)]
pub(crate) struct Buffers {
    /// Lanes that have something to send.
    pub(crate) lanes: Vec<LaneRef>,
    /// Requests of one lane, with their tags.
    pub(crate) requests: Vec<(Bytes, u64)>,
    /// Lanes whose requests go to another shard, and which.
    pub(crate) away: Vec<(OtherShard, LaneRef)>,
}

/// Lists that a burst made longer than this are not kept: about 64 KiB for each shard.
const BUFFER_MAX: usize = 1024;

/// The most callers that are gone in the queue of deadlines, before they are dropped from it.
const GONE_MAX: usize = 64;

impl Requests {
    /// `random` differs from start to start.
    pub(crate) fn new(
        node: &NodeConfig,
        max_command: usize,
        wake: Arc<Wake>,
        timer: Rc<StageTimer>,
        random: u64,
    ) -> Self {
        let callers = Callers::new(node.intake.clone(), max_command, node.raft.tick, wake, timer);
        Self {
            inlet_caller: InletCaller::new(&callers),
            callers,
            parked: Vec::new(),
            without_room: WithoutRoom::default(),
            retries_all: false,
            away: Away::new(random),
            accepted: Accepted::new(node.intake.requests_max, node.intake.request_bytes_max),
            late: LateReplies::default(),
            deadlines: Deadlines::new(
                node.raft.ticks(node.intake.deadline),
                node.raft.ticks(node.intake.leader_deadline),
            ),
            buffers: Buffers::default(),
        }
    }

    /// How full the queues are.
    pub(crate) fn queues(&self) -> QueueStatus {
        let (requests, request_bytes) = self.callers.levels();
        QueueStatus {
            requests,
            request_bytes,
            parked: self.parked.len() + self.without_room.len(),
            away: self.away.len(),
            accepted: self.accepted.level(),
            accepted_bytes: self.accepted.bytes(),
            late_replies: self.late.level(),
            ..QueueStatus::default()
        }
    }

    /// Moves out the lanes that have something to send. From now on the requests in them have a deadline.
    /// [`Requests::give_back`] follows.
    pub(crate) fn take_scheduled(&mut self) -> Buffers {
        let mut buffers = mem::take(&mut self.buffers);
        self.callers.take_scheduled(&mut buffers.lanes);
        buffers.lanes.iter().for_each(|lane| self.watch_caller(&lane.caller));
        buffers
    }

    /// The lanes have been worked on.
    pub(crate) fn give_back(&mut self, mut buffers: Buffers) {
        buffers.lanes.clear();
        buffers.lanes.shrink_to(BUFFER_MAX);
        buffers.requests.clear();
        buffers.requests.shrink_to(BUFFER_MAX);
        buffers.away.clear();
        buffers.away.shrink_to(BUFFER_MAX);
        self.buffers = buffers;
    }

    /// Keeps a lane that cannot send now for want of a leader, until something changes. Nobody waits for the requests
    /// of a caller whose client has gone: they end.
    pub(crate) fn park(&mut self, lane: LaneRef, wait: Wait) {
        if lane.caller.has_left() {
            return lane.give_up();
        }
        lane.with(|lane| lane.wait = Some(wait));
        self.parked.push(lane);
    }

    /// Keeps a lane that finds no room at `at` now. Nobody waits for the requests of a caller whose client has gone:
    /// they end.
    pub(crate) fn park_without_room(&mut self, at: OtherShard, lane: LaneRef) {
        match lane.caller.has_left() {
            true => lane.give_up(),
            false => self.without_room.push(at, lane),
        }
    }

    /// Whether a lane is parked.
    pub(crate) fn is_parked(&self, lane: &LaneRef) -> bool {
        self.parked.iter().any(|parked| parked.is(lane)) || self.without_room.has(lane)
    }

    /// Lets the parked lanes try again.
    pub(crate) fn retry_parked(&mut self) {
        mem::take(&mut self.parked).iter().for_each(LaneRef::go_on);
        self.retries_all = true;
    }

    /// Takes out the lanes without room, if all are to try again.
    pub(crate) fn take_without_room(&mut self) -> impl Iterator<Item = LaneRef> + use<> {
        mem::take(&mut self.retries_all).then(|| self.without_room.take_all()).into_iter().flatten()
    }

    /// A batch is on its way to another shard.
    pub(crate) fn sent_away(&mut self, now: Tick, id: u64, to: OtherShard, waiter: Waiter) {
        self.away.sent(now, id, to, waiter);
        self.watch_away();
    }

    /// The shard `from` has replied to the batch `id`: who waits for that. Unless the shard is busy, it may have room for
    /// others, whoever waited for the batch: the batch takes none there any more, nor on the way.
    pub(crate) fn replied(
        &mut self,
        id: u64,
        from: OtherShard,
        outcome: &BatchOutcome,
    ) -> Option<Waiter> {
        if *outcome != BatchOutcome::Busy {
            self.without_room.note_room(from);
        }
        self.away.replied(id, from)
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
        let (mut callers, mut groups, mut gone) = (Vec::new(), Vec::new(), 0);
        let (mut is_away_due, mut is_late_due) = (false, false);
        for holder in self.deadlines.take_due(now) {
            match holder {
                Holder::Caller(caller) => match caller.upgrade() {
                    Some(caller) => callers.push(caller),
                    None => gone += 1,
                },
                Holder::Group(slot) => groups.push(slot),
                Holder::Away => is_away_due = true,
                Holder::Late => is_late_due = true,
            }
        }
        // They have left the queue all at once, before anybody compares its length with their number.
        self.callers.gone_left(gone);
        for caller in callers {
            caller.expire(limit);
            self.watch_caller(&caller);
        }
        if is_away_due {
            self.away.expire(limit.any);
            self.watch_away();
        }
        if is_late_due {
            self.late.expire(limit.any);
            self.watch_late();
        }
        (limit.any, groups)
    }

    /// Whether each request has ended that this shard has taken in, of its own callers or of other shards. A query that
    /// waits for its caller to take answers may be left.
    pub(crate) fn are_ended(&self) -> bool {
        self.callers.size().0 == 0 && self.accepted.level().now == 0 && self.late.level().now == 0
    }

    /// Ends everything that waits on this shard, and takes nothing any more.
    pub(crate) fn stop(&mut self) {
        self.callers.stop();
        self.waiting_callers().iter().for_each(|caller| caller.stop());
        self.inlet_caller.tell_outcomes();
        self.callers.wake_answered();
        self.parked.clear();
        drop(self.without_room.take_all());
        self.callers.forget();
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
            self.sweep_deadlines();
        }
    }

    /// Callers that are gone leave the queue of deadlines when they are more than [`GONE_MAX`] and more than all
    /// others there. So a caller that lives for a single request does not stand there until its deadline.
    fn sweep_deadlines(&mut self) {
        let gone = self.callers.gone();
        if gone > GONE_MAX && gone > self.deadlines.len() - gone {
            self.callers.gone_left(self.deadlines.drop_gone());
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

impl Drop for Requests {
    fn drop(&mut self) {
        self.callers.forget();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        control::stage_timer::tests::still,
        edge::{lane::Limit, outgoing::OutgoingBatch, request::Request, ticket::Ticket},
    };
    use purlin_rsm::{GroupId, NodeId, Outcome, RequestError, ShardId};
    use std::{rc::Weak, time::Duration};

    const GROUP: GroupId = GroupId(1);
    const OTHER: OtherShard = OtherShard::OfThisNode(ShardId(1));

    fn requests() -> Requests {
        let node = NodeConfig::new(NodeId(1), "unused");
        Requests::new(&node, 1 << 20, Default::default(), still(), 7)
    }

    fn ask(caller: &Caller) {
        caller.submit(GROUP, Request::Query(Bytes::from_static(b"q")), 5);
    }

    /// A caller whose lane is taken out of the list of those that have something to send.
    fn taken(requests: &mut Requests) -> (Rc<Caller>, LaneRef) {
        let caller = requests.callers.caller();
        ask(&caller);
        let mut buffers = requests.take_scheduled();
        let lane = buffers.lanes.pop().expect("it has a request");
        requests.give_back(buffers);
        (caller, lane)
    }

    /// A caller in each of the places that keep one, by its lane or by itself, and the ticket that one of them
    /// waits for.
    fn callers_everywhere(requests: &mut Requests) -> (Vec<Weak<Caller>>, Ticket) {
        let (parked, lane) = taken(requests);
        requests.park(lane, Wait::Leader);
        let (away, lane) = taken(requests);
        let outgoing = OutgoingBatch::of(9, OTHER, lane).expect("a batch");
        requests.sent_away(Tick(0), 9, OTHER, Waiter::Lanes(outgoing.batch.group, outgoing.parts));
        let (here, lane) = taken(requests);
        lane.send_here(&mut Vec::new()).expect("a query");
        let ticket = Ticket::lane(&lane, 5);
        let (answered, lane) = taken(requests);
        lane.send_here(&mut Vec::new()).expect("a query");
        Ticket::lane(&lane, 5).end(Ok(Bytes::new()));
        let scheduled = requests.callers.caller();
        ask(&scheduled);
        let callers = [parked, away, here, answered, scheduled];
        (callers.iter().map(Rc::downgrade).collect(), ticket)
    }

    fn alive(callers: &[Weak<Caller>]) -> usize {
        callers.iter().filter(|caller| caller.strong_count() > 0).count()
    }

    #[test]
    fn a_shard_that_has_stopped_keeps_no_caller() {
        let mut requests = requests();
        let (callers, ticket) = callers_everywhere(&mut requests);
        let shared = Rc::downgrade(&requests.callers);
        assert_eq!(alive(&callers), 5, "their requests go on without them");
        requests.stop();
        assert_eq!(alive(&callers), 2, "a batch that is away and a ticket keep theirs");
        drop(ticket);
        drop(requests);
        assert_eq!((alive(&callers), shared.strong_count()), (0, 0));
    }

    /// A shard that ends by a bug, or a node that loses its power in the simulator.
    #[test]
    fn a_shard_that_is_dropped_without_a_stop_keeps_no_caller() {
        let mut requests = requests();
        let (callers, ticket) = callers_everywhere(&mut requests);
        let (shared, held) = (Rc::downgrade(&requests.callers), requests.callers.caller());
        drop(ticket);
        drop(requests);
        assert_eq!(alive(&callers), 0);
        ask(&held);
        drop(held);
        assert_eq!(shared.strong_count(), 0, "a caller that came back later keeps nothing either");
    }

    #[test]
    fn callers_that_are_gone_are_never_more_than_the_others_in_the_queue_of_deadlines_and_a_few() {
        let mut requests = requests();
        let mut live = Vec::new();
        for round in 0..10_000 {
            let (caller, lane) = taken(&mut requests);
            let (gone, len) = (requests.callers.gone(), requests.deadlines.len());
            assert!(gone <= GONE_MAX.max(len - gone), "{gone} gone of {len}");
            assert_eq!(len - gone, live.len() + 1);
            lane.send_here(&mut Vec::new()).expect("a query");
            lane.end(5, Ok(Bytes::new()));
            requests.callers.wake_answered();
            // Many stay at first, and leave together: the bound follows those that are there.
            match round {
                0..1000 => live.push(caller),
                5000 => live.clear(),
                _ => {}
            }
        }
        requests.expire(Tick(u64::MAX));
        assert_eq!((requests.callers.gone(), requests.deadlines.len()), (0, 0));
    }

    #[test]
    fn callers_that_are_gone_leave_the_queue_of_deadlines_with_the_others_that_are_due() {
        let mut requests = requests();
        let (stays, lane) = taken(&mut requests);
        lane.send_here(&mut Vec::new()).expect("a query, which has found its leader");
        let mut others: Vec<_> = (0..2 * GONE_MAX).map(|_| taken(&mut requests)).collect();
        // All are due at once, and the one that stays comes up first.
        others.iter().for_each(|(_, lane)| lane.give_up());
        others.clear();
        requests.callers.wake_answered();
        assert_eq!(requests.callers.gone(), 2 * GONE_MAX);
        let due = requests.deadlines.limit(Tick(0));
        let ticks = NodeConfig::new(NodeId(1), "unused").raft.ticks(Duration::from_secs(3));
        requests.expire(Tick(due.any.0 + ticks));
        assert_eq!((requests.callers.gone(), requests.deadlines.len()), (0, 1));
        drop((lane, stays));
    }

    #[test]
    fn a_lane_of_a_client_that_has_gone_is_not_parked() {
        let mut requests = requests();
        let (caller, lane) = taken(&mut requests);
        lane.send_away(9).expect("a batch");
        caller.leave();
        lane.bounce(9);
        requests.park(lane, Wait::Leader);
        let mut completions = Vec::new();
        caller.take_completions(&mut completions);
        let outcomes: Vec<_> = completions.into_iter().map(|it| it.outcome).collect();
        assert_eq!(outcomes, [Err(RequestError::NoLeader { waited_ms: 0 })]);
        assert!(requests.parked.is_empty());
    }

    fn outcomes(caller: &Caller) -> Vec<Outcome> {
        let mut completions = Vec::new();
        caller.take_completions(&mut completions);
        completions.into_iter().map(|it| it.outcome).collect()
    }

    /// There is a leader, so it is not that which the request has waited for.
    #[test]
    fn a_request_that_found_no_room_by_its_deadline_is_told_that_the_shard_is_busy() {
        let mut requests = requests();
        let (caller, lane) = taken(&mut requests);
        requests.park_without_room(OTHER, lane.clone());
        assert!(requests.is_parked(&lane));
        caller.expire(Limit { any: Tick(0), leaderless: Tick(1) });
        assert_eq!(outcomes(&caller), [Err(RequestError::Busy)]);
        requests.without_room.note_room(OTHER);
        assert!(requests.without_room.take_next().is_some_and(|it| it.with(|_| ()).is_none()));
    }

    #[test]
    fn a_lane_that_waits_for_room_ends_with_its_client() {
        let mut requests = requests();
        let (caller, lane) = taken(&mut requests);
        requests.park_without_room(OTHER, lane);
        caller.leave();
        assert_eq!(outcomes(&caller).len(), 1, "it waited when the client left");
        let (caller, lane) = taken(&mut requests);
        lane.send_away(9).expect("a batch");
        caller.leave();
        lane.bounce(9);
        requests.park_without_room(OTHER, lane);
        assert_eq!(outcomes(&caller).len(), 1, "it found no room when the client had left");
        assert_eq!(requests.callers.size(), (0, 0));
    }

    #[test]
    fn a_burst_leaves_no_large_buffer() {
        let mut requests = requests();
        let mut buffers = requests.take_scheduled();
        buffers.requests.extend((0..9 * BUFFER_MAX as u64).map(|tag| (Bytes::new(), tag)));
        requests.give_back(buffers);
        assert!(requests.buffers.requests.capacity() < 2 * BUFFER_MAX);
        assert!(requests.buffers.requests.is_empty());
    }

    /// Also a reply that nobody waits for, or that another shard of the node waits for, and one that bounces its batch.
    #[test]
    fn each_reply_but_busy_lets_those_try_that_wait_for_room() {
        let done = BatchOutcome::Done(Vec::new());
        for (outcome, may_have_room) in
            [(done, true), (BatchOutcome::Bounced, true), (BatchOutcome::Busy, false)]
        {
            let mut requests = requests();
            let (_caller, lane) = taken(&mut requests);
            requests.park_without_room(OTHER, lane);
            assert!(requests.replied(9, OTHER, &outcome).is_none());
            let tries = requests.without_room.take_next().is_some();
            assert_eq!(tries, may_have_room, "{outcome:?}");
        }
    }
}
