//! A batch for another shard while it is filled: requests of several lanes to one group, all of one kind.
//!
//! What the lanes of a shard send to one group in one turn travels together. So the shard that gets it takes, numbers and
//! answers one batch, and not one for each connection. Each lane keeps its own order, and there is none between lanes.
//! The batch is taken or bounced whole (safety E1), and each lane gets the outcomes of its part.

use crate::edge::{
    caller::LaneRef,
    lane::{BATCH_BYTES_MAX, BATCH_COUNT_MAX},
    other_shard::OtherShard,
};
use bytes::Bytes;
use purlin_rsm::{GroupId, Outcome, RequestKind};
use purlin_transport::{REQUESTS_MAX, RequestBatch};
use std::iter;

const _: () = assert!(BATCH_COUNT_MAX <= REQUESTS_MAX, "another node would refuse such a batch");

/// See the module.
pub(crate) struct OutgoingBatch {
    pub(crate) to: OtherShard,
    pub(crate) batch: RequestBatch,
    /// The bytes of its requests.
    bytes: usize,
    /// It takes no requests of other lanes: an outcome of it may be long.
    is_alone: bool,
    pub(crate) parts: Vec<LanePart>,
}

/// The requests of one lane in a batch: they follow those of the part before.
pub(crate) struct LanePart {
    pub(crate) lane: LaneRef,
    /// How many there are.
    count: usize,
}

impl OutgoingBatch {
    /// What the lane may send to the shard `to` now, in the batch `id`; `None` if that is nothing.
    pub(crate) fn of(id: u64, to: OtherShard, lane: LaneRef) -> Option<Self> {
        let batch = lane.send_away(id)?;
        let bytes = batch.requests.iter().map(Bytes::len).sum();
        let is_alone = lane.with(|lane| lane.is_alone()) == Some(true);
        let part = LanePart { count: batch.requests.len(), lane };
        Some(Self { to, batch, bytes, is_alone, parts: vec![part] })
    }

    /// Whether the next request of a lane has room in a batch to the shard `to`. The rest of the lane may find none: it
    /// follows when this batch has ended.
    fn takes(&self, to: OtherShard, group: GroupId, (kind, bytes): (RequestKind, usize)) -> bool {
        (to, group, kind) == (self.to, self.batch.group, self.batch.kind)
            && self.batch.requests.len() < BATCH_COUNT_MAX
            && self.bytes + bytes <= BATCH_BYTES_MAX
    }

    /// Adds what the lane may send, unless this batch does not take it: then the lane comes back.
    pub(crate) fn add(&mut self, to: OtherShard, lane: LaneRef) -> Result<(), LaneRef> {
        let Some(next) = lane.with(|lane| lane.next()).flatten() else { return Ok(()) };
        let is_alone = self.is_alone || lane.with(|lane| lane.is_alone()) == Some(true);
        if is_alone || !self.takes(to, lane.group, next) {
            return Err(lane);
        }
        let first = self.batch.requests.len();
        let room = (BATCH_COUNT_MAX - first, BATCH_BYTES_MAX - self.bytes);
        lane.send_with(&mut self.batch, room);
        let added = &self.batch.requests[first..];
        if !added.is_empty() {
            purlin_rsm::sometimes!("requests of several lanes leave in one batch");
            self.bytes += added.iter().map(Bytes::len).sum::<usize>();
            self.parts.push(LanePart { count: added.len(), lane });
        }
        Ok(())
    }
}

/// Ends a batch of these parts with its outcomes. There may be fewer than requests: see [`LaneRef::end_part`].
///
/// The lanes whose parts were left out go on first, so they come first in the next batch. Else a lane that asks for long
/// answers again and again would be answered each time, and those behind it never.
pub(crate) fn end_parts(id: u64, mut parts: Vec<LanePart>, outcomes: Vec<Outcome>) {
    let answered = outcomes.len();
    let mut begin = 0;
    let is_begun = |part: &&LanePart| {
        let is_begun = begin < answered;
        begin += part.count;
        is_begun
    };
    let begun = parts.iter().take_while(is_begun).count();
    let left_out = parts.split_off(begun);
    for part in left_out {
        part.lane.end_part(id, iter::empty(), answered > 0);
        part.lane.go_first();
    }
    let mut outcomes = outcomes.into_iter();
    for LanePart { lane, count } in parts {
        lane.end_part(id, outcomes.by_ref().take(count), answered > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        control::stage_timer::tests::still,
        edge::{
            caller::{Caller, Callers},
            lane::Limit,
            request::Request,
        },
    };
    use purlin_rsm::{RequestError, ShardId, Tick};
    use std::{rc::Rc, sync::Arc, time::Duration};

    const TO: OtherShard = OtherShard::OfThisNode(ShardId(1));
    const OTHER: OtherShard = OtherShard::OfThisNode(ShardId(2));
    const GROUP: GroupId = GroupId(3);

    /// A caller with requests of so many bytes each, tagged from 0 on.
    fn caller(kind: RequestKind, group: GroupId, sizes: &[usize]) -> Rc<Caller> {
        let intake = Default::default();
        let callers =
            Callers::new(intake, 8 << 20, Duration::from_millis(10), Arc::default(), still());
        let caller = callers.caller();
        for (tag, size) in (0..).zip(sizes) {
            let data = Bytes::from(vec![b'x'; *size]);
            let request = match kind {
                RequestKind::Propose => Request::Propose(data),
                RequestKind::Query => Request::Query(data),
            };
            caller.submit(group, request, tag);
        }
        caller
    }

    fn of(caller: &Caller) -> OutgoingBatch {
        OutgoingBatch::of(9, TO, caller.lane(GROUP)).expect("it has requests")
    }

    fn outcome(number: u8) -> Outcome {
        Ok(Bytes::from(vec![number]))
    }

    fn told(caller: &Caller) -> Vec<(u64, Outcome)> {
        let mut completions = Vec::new();
        caller.take_completions(&mut completions);
        completions.into_iter().map(|it| (it.tag, it.outcome)).collect()
    }

    #[test]
    fn each_lane_of_a_batch_gets_its_own_outcomes() {
        let [one, two, none, three] = [&[1, 1][..], &[1], &[], &[1, 1, 1]]
            .map(|sizes| caller(RequestKind::Propose, GROUP, sizes));
        let mut outgoing = of(&one);
        for caller in [&two, &none, &three] {
            assert!(outgoing.add(TO, caller.lane(GROUP)).is_ok());
        }
        assert_eq!((outgoing.batch.requests.len(), outgoing.parts.len()), (6, 3));
        end_parts(9, outgoing.parts, (0..6).map(outcome).collect());
        assert_eq!(told(&one), [(0, outcome(0)), (1, outcome(1))]);
        assert_eq!(told(&two), [(0, outcome(2))]);
        assert_eq!(told(&none), []);
        assert_eq!(told(&three), [(0, outcome(3)), (1, outcome(4)), (2, outcome(5))]);
    }

    #[test]
    fn a_batch_is_for_one_group_of_one_shard_and_of_one_kind() {
        let first = caller(RequestKind::Query, GROUP, &[1]);
        let mut outgoing = of(&first);
        let proposal = caller(RequestKind::Propose, GROUP, &[1]);
        let elsewhere = caller(RequestKind::Query, GroupId(4), &[1]);
        let query = caller(RequestKind::Query, GROUP, &[1]);
        assert!(outgoing.add(TO, proposal.lane(GROUP)).is_err());
        assert!(outgoing.add(TO, elsewhere.lane(GroupId(4))).is_err());
        assert!(outgoing.add(OTHER, query.lane(GROUP)).is_err());
        assert!(outgoing.add(TO, query.lane(GROUP)).is_ok());
        assert_eq!(outgoing.batch.requests.len(), 2);
    }

    #[test]
    fn a_batch_has_a_bound_in_requests_and_in_bytes() {
        let many = caller(RequestKind::Propose, GROUP, &vec![1; BATCH_COUNT_MAX - 1]);
        let two = caller(RequestKind::Propose, GROUP, &[1, 1]);
        let mut outgoing = of(&many);
        assert!(outgoing.add(TO, two.lane(GROUP)).is_ok(), "one of the two has room");
        assert_eq!(outgoing.batch.requests.len(), BATCH_COUNT_MAX);
        assert!(outgoing.add(TO, caller(RequestKind::Propose, GROUP, &[1]).lane(GROUP)).is_err());

        let half = BATCH_BYTES_MAX / 2;
        let halves = caller(RequestKind::Propose, GROUP, &[half]);
        let mut outgoing = of(&halves);
        let long = caller(RequestKind::Propose, GROUP, &[half + 1]);
        assert!(outgoing.add(TO, long.lane(GROUP)).is_err());
        let short = caller(RequestKind::Propose, GROUP, &[half, 1]);
        assert!(outgoing.add(TO, short.lane(GROUP)).is_ok());
        assert_eq!((outgoing.batch.requests.len(), outgoing.bytes), (2, BATCH_BYTES_MAX));
        // A longer request travels alone.
        let longest = caller(RequestKind::Propose, GROUP, &[2 * BATCH_BYTES_MAX]);
        assert_eq!(of(&longest).batch.requests.len(), 1);
    }

    /// The reply had room for the first two outcomes alone.
    #[test]
    fn queries_that_a_short_reply_leaves_out_are_asked_again_whichever_lane_they_are_of() {
        let [one, two, three] =
            [&[1, 1][..], &[1, 1], &[1]].map(|sizes| caller(RequestKind::Query, GROUP, sizes));
        let mut outgoing = of(&one);
        for caller in [&two, &three] {
            assert!(outgoing.add(TO, caller.lane(GROUP)).is_ok());
        }
        end_parts(9, outgoing.parts, (0..3).map(outcome).collect());
        assert_eq!(told(&one).len(), 2);
        assert_eq!(told(&two), [(0, outcome(2))]);
        assert_eq!(told(&three), []);
        let again = [&two, &three].map(|caller| of(caller).batch.requests.len());
        assert_eq!(again, [1, 1]);
    }

    /// A reply has room for three of the long answers. Both ask again as soon as they can.
    #[test]
    fn a_lane_that_a_short_reply_has_left_out_goes_first_in_the_next_batch() {
        let callers = Callers::new(
            Default::default(),
            8 << 20,
            Duration::from_millis(10),
            Arc::default(),
            still(),
        );
        let [long, short] = [8, 1].map(|requests| {
            let caller = callers.caller();
            (0..requests).for_each(|tag| ask(&caller, tag));
            caller
        });
        fn ask(caller: &Caller, tag: u64) {
            caller.submit(GROUP, Request::Query(Bytes::from_static(b"q")), tag);
        }
        let answers = [0, 1].map(|_| {
            let mut lanes = Vec::new();
            callers.take_scheduled(&mut lanes);
            let mut lanes = lanes.into_iter();
            let first = lanes.next().expect("both have something to ask");
            let mut outgoing = OutgoingBatch::of(9, TO, first).expect("a batch");
            lanes.for_each(|lane| assert!(outgoing.add(TO, lane).is_ok()));
            // It stands among those that have something to send before the reply comes.
            ask(&long, 9);
            end_parts(9, outgoing.parts, (0..3).map(outcome).collect());
            told(&long).iter().for_each(|(tag, _)| ask(&long, *tag));
            told(&short).len()
        });
        assert_eq!(answers, [0, 1]);
    }

    #[test]
    fn a_command_with_a_long_outcome_shares_no_batch() {
        let [one, two, after] = [(); 3].map(|()| caller(RequestKind::Propose, GROUP, &[1]));
        two.submit_alone(GROUP, Request::Propose(Bytes::from_static(b"x")), 1);
        let mut outgoing = of(&one);
        assert!(outgoing.add(TO, two.lane(GROUP)).is_err());
        let mut alone = of(&two);
        assert_eq!(alone.batch.requests.len(), 2, "its own requests travel with it");
        let both = caller(RequestKind::Propose, GROUP, &[]);
        (0..2).for_each(|tag| both.submit_alone(GROUP, Request::Propose(Bytes::new()), tag));
        assert_eq!(
            of(&both).batch.requests.len(),
            1,
            "but for another one that may have a long outcome"
        );
        assert!(alone.add(TO, after.lane(GROUP)).is_err());
        assert!(outgoing.add(TO, after.lane(GROUP)).is_ok());
    }

    /// Their outcomes come all the same, in the places of their requests.
    #[test]
    fn outcomes_of_requests_that_have_ended_go_to_no_other_lane() {
        let [one, two] =
            [&[1, 1][..], &[1]].map(|sizes| caller(RequestKind::Propose, GROUP, sizes));
        let mut outgoing = of(&one);
        assert!(outgoing.add(TO, two.lane(GROUP)).is_ok());
        one.expire(Limit { any: Tick(1), leaderless: Tick(1) });
        assert_eq!(told(&one), [0, 1].map(|tag| (tag, Err(RequestError::UNKNOWN))));
        end_parts(9, outgoing.parts, (0..3).map(outcome).collect());
        assert_eq!((told(&one), told(&two)), (vec![], vec![(0, outcome(2))]));
    }

    /// Nobody knows whether they were applied.
    #[test]
    fn proposals_without_an_outcome_are_unknown() {
        let [one, two] = [&[1][..], &[1]].map(|sizes| caller(RequestKind::Propose, GROUP, sizes));
        let mut outgoing = of(&one);
        assert!(outgoing.add(TO, two.lane(GROUP)).is_ok());
        end_parts(9, outgoing.parts, vec![outcome(0)]);
        assert_eq!(told(&one), [(0, outcome(0))]);
        assert_eq!(told(&two), [(0, Err(RequestError::UNKNOWN))]);
    }
}
