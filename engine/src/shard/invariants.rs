//! What is always true of a shard between two turns. Each owner of state checks its own part; what spans
//! several is checked here.

use crate::{
    edge::{caller::LaneRef, lane::Place, requests::Requests},
    runtime::Runtime,
    shard::{Shard, groups::Groups},
};
use purlin_rsm::reach;
use std::rc::Rc;

/// Beyond this number of requests they are not checked one by one in every turn. All else still is.
const DEEP_REQUESTS_MAX: usize = 512;

impl<R: Runtime> Shard<R> {
    /// Checks the shard after a turn: cheaply in every build, and deeply where debug assertions are on and in
    /// the simulator.
    ///
    /// # Panics
    /// When an invariant does not hold: it is named, with its values.
    pub(super) fn check(&self) {
        let is_deep = cfg!(debug_assertions) || reach::is_recording();
        let checked = if is_deep { self.check_deeply() } else { self.check_cheaply() };
        checked.unwrap_or_else(|violation| panic!("{}: {violation}", self.site.name));
    }

    fn check_cheaply(&self) -> Result<(), String> {
        self.requests.callers.check(None)?;
        self.append.check()
    }

    fn check_deeply(&self) -> Result<(), String> {
        self.append.check()?;
        self.append.check_deeply()?;
        self.hand_over.disk_room.check(&self.groups)?;
        if self.meeting.is_acting() {
            self.groups.check_steps()?;
        }
        if reach::is_recording() {
            self.groups.memory().check_bound()?;
        }
        check_requests_and_groups(&self.requests, &self.groups)
    }
}

fn check_requests_and_groups(requests: &Requests, groups: &Groups) -> Result<(), String> {
    groups.check()?;
    requests.accepted.check()?;
    requests.late.check()?;
    if requests.callers.size().0 + requests.accepted.level().now <= DEEP_REQUESTS_MAX {
        check_requests(requests, groups)
    } else {
        requests.callers.check(None)
    }
}

/// Each request is where its lane says, each ticket is awaited, and each holder of requests has a deadline.
fn check_requests(requests: &Requests, groups: &Groups) -> Result<(), String> {
    let (mut count, mut bytes) = (0, 0);
    // Without requests no caller waits, though many may stand in the queue of deadlines.
    let is_any = requests.callers.size().0 > 0;
    let mut callers = if is_any { requests.waiting_callers() } else { Vec::new() };
    callers.sort_by_key(Rc::as_ptr);
    callers.dedup_by(|one, other| Rc::ptr_eq(one, other));
    for caller in callers {
        caller.check_deadline()?;
        for lane in caller.lanes() {
            let size = lane.with(|lane| lane.size()).unwrap_or_default();
            (count, bytes) = (count + size.0, bytes + size.1);
            check_lane(requests, groups, &lane)?;
        }
    }
    requests.callers.check(Some((count, bytes)))?;
    let tickets = groups.iter().flat_map(|group| group.tickets());
    let (missing, held) =
        (requests.accepted.missing(), tickets.filter(|it| it.is_of_batch()).count());
    if missing != held {
        return Err(format!(
            "accepted batches: {missing} requests without an outcome, and the groups hold {held} tickets"
        ));
    }
    groups.iter().try_for_each(|group| group.check_deadline())
}

fn check_lane(requests: &Requests, groups: &Groups, lane: &LaneRef) -> Result<(), String> {
    let Some((queued, is_scheduled, (place, sent))) = lane.with(|lane| {
        let is_scheduled = lane.is_scheduled || lane.waits_for_room || lane.leaves_out();
        (lane.has_queued(), is_scheduled, lane.sent())
    }) else {
        return Ok(());
    };
    let group = lane.group;
    if queued && sent.is_empty() && !is_scheduled && !requests.is_parked(lane) {
        return Err(format!("a lane to group {group} has requests queued and nothing sends them"));
    }
    match place {
        Place::Away(id) if !sent.is_empty() && !requests.away.is_awaited_by(id, lane) => {
            Err(format!("a lane to group {group} waits for batch {id}, which is not away for it"))
        }
        Place::Away(_) => Ok(()),
        Place::Here => {
            let tickets = groups.get(group).into_iter().flat_map(|group| group.tickets());
            let tickets: Vec<_> = tickets.collect();
            let has_ticket = |tag: &u64| tickets.iter().any(|ticket| ticket.is_of_lane(lane, *tag));
            match sent.iter().find(|tag| !has_ticket(tag)) {
                Some(tag) => {
                    Err(format!("request {tag} to group {group} is sent and has no ticket there"))
                }
                None => Ok(()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::NodeConfig,
        edge::{
            away::Waiter,
            caller::Caller,
            lane::Wait,
            other_shard::{Origin, OtherShard},
            request::Request,
            ticket::Ticket,
        },
        shard::group::tests::fresh,
    };
    use crate::{control::stage_timer::tests::still, edge::outgoing::OutgoingBatch};
    use bytes::Bytes;
    use purlin_rsm::{GroupId, NodeId, RequestKind, ShardId, Tick};

    const GROUP: GroupId = GroupId(1);
    const OTHER: OtherShard = OtherShard::OfThisNode(ShardId(1));

    /// A caller with one request, in its lane to the only group.
    fn world() -> (Requests, Groups, Rc<Caller>) {
        let node = NodeConfig::new(NodeId(1), "unused");
        let requests = Requests::new(&node, 1 << 20, Default::default(), still(), 7);
        let mut groups = Groups::default();
        groups.insert(fresh());
        let caller = requests.callers.caller();
        caller.submit(GROUP, Request::Query(Bytes::from_static(b"q")), 5);
        (requests, groups, caller)
    }

    fn violation(requests: &Requests, groups: &Groups) -> String {
        check_requests(requests, groups).expect_err("an invariant is broken")
    }

    #[test]
    fn a_lane_that_nothing_sends_is_named() {
        let (mut requests, groups, _caller) = world();
        assert_eq!(check_requests(&requests, &groups), Ok(()));
        let lane = requests.take_scheduled().lanes.remove(0);
        assert!(violation(&requests, &groups).contains("nothing sends them"));
        requests.park(lane, Wait::Leader);
        assert_eq!(check_requests(&requests, &groups), Ok(()));
    }

    #[test]
    fn a_batch_that_is_not_away_for_its_lane_is_named() {
        let (mut requests, groups, _caller) = world();
        let lane = requests.take_scheduled().lanes.remove(0);
        let outgoing = OutgoingBatch::of(9, OTHER, lane).expect("a batch");
        assert!(violation(&requests, &groups).contains("waits for batch 9, which is not away"));
        requests.sent_away(Tick(0), 9, OTHER, Waiter::Lanes(outgoing.batch.group, outgoing.parts));
        assert_eq!(check_requests(&requests, &groups), Ok(()));
    }

    #[test]
    fn many_requests_hide_nothing_but_themselves() {
        let (mut requests, mut groups, _caller) = world();
        let origin = Origin { shard: OTHER, id: 3 };
        let many = DEEP_REQUESTS_MAX + 1;
        requests
            .accepted
            .accept(origin, RequestKind::Query, &vec![Bytes::new(); many])
            .expect("there is room");
        assert_eq!(check_requests_and_groups(&requests, &groups), Ok(()));
        let slot = groups.slot(GROUP).expect("it is here");
        groups.peek_mut(slot).expect("it is here").known.leads = true;
        let found = check_requests_and_groups(&requests, &groups);
        assert!(found.expect_err("the count of leaders is wrong").starts_with("groups: "));
    }

    #[test]
    fn a_sent_request_without_a_ticket_is_named() {
        let (mut requests, groups, _caller) = world();
        let lane = requests.take_scheduled().lanes.remove(0);
        lane.send_here(&mut Vec::new()).expect("a query");
        assert!(
            violation(&requests, &groups)
                .contains("request 5 to group 1 is sent and has no ticket")
        );
    }

    #[test]
    fn a_ticket_is_of_one_request_in_one_lane() {
        let ((mut requests, _, _caller), (mut others, _, _other)) = (world(), world());
        let lane = requests.take_scheduled().lanes.remove(0);
        let other = others.take_scheduled().lanes.remove(0);
        lane.send_here(&mut Vec::new()).expect("a query");
        let ticket = Ticket::lane(&lane, 5);
        assert!(ticket.is_of_lane(&lane, 5) && !ticket.is_of_batch());
        assert!(!ticket.is_of_lane(&lane, 6) && !ticket.is_of_lane(&other, 5));
    }

    #[test]
    fn a_caller_without_a_deadline_is_named() {
        let (mut requests, groups, caller) = world();
        let mut scheduled = Vec::new();
        requests.callers.take_scheduled(&mut scheduled);
        requests.park(scheduled.remove(0), Wait::Leader);
        requests
            .deadlines
            .push(Tick(0), crate::edge::deadlines::Holder::Caller(Rc::downgrade(&caller)));
        assert!(violation(&requests, &groups).contains("has requests and no deadline"));
    }

    #[test]
    fn an_accepted_request_without_a_ticket_is_named() {
        let (mut requests, groups, _caller) = world();
        let origin = Origin { shard: OTHER, id: 3 };
        requests
            .accepted
            .accept(origin, RequestKind::Query, &[Bytes::new(), Bytes::new()])
            .expect("there is room");
        assert!(
            violation(&requests, &groups)
                .contains("2 requests without an outcome, and the groups hold 0")
        );
    }
}
