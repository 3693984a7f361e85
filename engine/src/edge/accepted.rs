//! Batches of other shards that this shard has accepted: it owes each a reply.

use crate::{
    control::status::Level,
    edge::{
        lane::BATCH_COUNT_MAX,
        other_shard::{Origin, OtherShard},
    },
};
use bytes::Bytes;
use purlin_rsm::{Outcome, RequestError, RequestKind};
use purlin_transport::{BatchOutcome, BatchReply};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::{Rc, Weak},
};

/// Accepted batches that are not replied to.
pub(crate) struct Accepted {
    /// By the number that this shard gives them, in the order in which they came.
    batches: BTreeMap<u64, Rc<AcceptedBatch>>,
    newest: u64,
    complete: Rc<Complete>,
    requests: usize,
    requests_max: usize,
    /// Bytes of the requests of all batches here, until these are replied to.
    bytes: usize,
    bytes_max: usize,
}

/// The numbers of the batches whose outcomes are all there: so a turn looks at these and at no other.
type Complete = RefCell<Vec<u64>>;

impl Accepted {
    pub(crate) fn new(requests_max: usize, bytes_max: usize) -> Self {
        Self {
            batches: BTreeMap::new(),
            newest: 0,
            complete: Rc::default(),
            requests: 0,
            requests_max,
            bytes: 0,
            bytes_max,
        }
    }

    /// Accepts a batch of `requests`, if there is room for it. A batch that is larger than a bound has room when
    /// no other is there.
    pub(crate) fn accept(
        &mut self,
        origin: Origin,
        kind: RequestKind,
        requests: &[Bytes],
    ) -> Option<Rc<AcceptedBatch>> {
        let (count, bytes) = (requests.len(), requests.iter().map(Bytes::len).sum::<usize>());
        let is_within =
            self.requests + count <= self.requests_max && self.bytes + bytes <= self.bytes_max;
        if self.requests > 0 && !is_within {
            return None;
        }
        self.newest += 1;
        let complete = Rc::downgrade(&self.complete);
        let size = BatchSize { count, bytes };
        let batch = Rc::new(AcceptedBatch::with(origin, kind, size, self.newest, complete));
        if count == 0 {
            self.complete.borrow_mut().push(self.newest);
        }
        self.requests += count;
        self.bytes += bytes;
        self.batches.insert(self.newest, batch.clone());
        Some(batch)
    }

    /// Moves out the batches whose outcomes are all there. The cost does not depend on how many are open.
    pub(crate) fn take_complete(&mut self) -> Vec<Rc<AcceptedBatch>> {
        let numbers = self.complete.take();
        let complete = numbers.iter().filter_map(|number| self.batches.remove(number));
        let complete: Vec<_> = complete.collect();
        self.requests -= complete.iter().map(|batch| batch.size.count).sum::<usize>();
        self.bytes -= complete.iter().map(|batch| batch.size.bytes).sum::<usize>();
        complete
    }

    /// Whether the batch with this number is not replied to.
    pub(crate) fn has(&self, number: u64) -> bool {
        self.batches.contains_key(&number)
    }

    /// Requests of accepted batches, and their bound.
    pub(crate) fn level(&self) -> Level {
        Level { now: self.requests, max: self.requests_max }
    }

    /// The bytes of these requests, and their bound.
    pub(crate) fn bytes(&self) -> Level {
        Level { now: self.bytes, max: self.bytes_max }
    }

    /// Requests of accepted batches whose outcome is open.
    pub(crate) fn missing(&self) -> usize {
        self.batches.values().map(|batch| batch.missing.get()).sum()
    }

    /// Whether the counts of requests and bytes are the sums over the batches, and within their bounds.
    pub(crate) fn check(&self) -> Result<(), String> {
        let sizes = || self.batches.values().map(|batch| batch.size);
        let sum =
            (sizes().map(|it| it.count).sum::<usize>(), sizes().map(|it| it.bytes).sum::<usize>());
        let (counted, bounds) = ((self.requests, self.bytes), (self.requests_max, self.bytes_max));
        let is_within = sum.0 <= bounds.0 && sum.1 <= bounds.1;
        // A batch without requests takes no room.
        let is_alone = sizes().filter(|it| it.count > 0).count() == 1;
        if counted != sum || !(is_within || is_alone) {
            return Err(format!(
                "accepted batches: {sum:?} requests and bytes in {} batches, counted as {counted:?}; bounds \
                 {bounds:?}",
                self.batches.len()
            ));
        }
        let is_complete = |batch: &&Rc<AcceptedBatch>| batch.missing.get() == 0;
        let complete = self.batches.values().filter(is_complete).count();
        if self.complete.borrow().len() != complete {
            return Err(format!(
                "accepted batches: {complete} are complete, and {} are listed",
                self.complete.borrow().len()
            ));
        }
        Ok(())
    }
}

/// What the outcomes behind the first may have together, in bytes.
const REST_BYTES_MAX: usize = 2 << 20;
/// What the first outcome may have when it goes to another node. With the rest behind it, it fits a
/// frame.
const FIRST_BYTES_MAX: usize = 12 << 20;
/// An outcome of a proposal of at most so many bytes has room of its own, whatever the others have: also in the largest
/// batch that our nodes make. In a batch of fewer requests it has more. Commands with longer outcomes travel alone
/// ([`crate::Caller::submit_alone`]).
const SHORT_BYTES: usize = 1 << 10;
const SHORT_ROOM: usize = BATCH_COUNT_MAX * SHORT_BYTES;
const _: () =
    assert!(FIRST_BYTES_MAX + REST_BYTES_MAX + SHORT_ROOM <= 15 << 20, "no frame has room");

/// How many requests a batch has, and their bytes.
#[derive(Clone, Copy)]
struct BatchSize {
    count: usize,
    bytes: usize,
}

/// A batch of another shard that a group of this shard has.
///
/// The reply takes only so many bytes: it ends before the first outcome that is too much. The first
/// outcome is never left out, so a shard that asks again for the rest makes progress. If a frame cannot
/// carry the first outcome, it can never be told, and is unknown. Of proposals the rest would be unknown
/// too, since nobody may ask for them again: they have all the room that the first leaves in a frame, and of those that
/// find none each is unknown for itself. A short one finds room beside long ones.
pub(crate) struct AcceptedBatch {
    origin: Origin,
    kind: RequestKind,
    size: BatchSize,
    /// Bytes of the outcomes behind the first, without the short ones of proposals.
    bytes: Cell<usize>,
    /// Bytes of the short ones behind the first, if the requests are proposals.
    short_bytes: Cell<usize>,
    /// How many outcomes the reply has at most.
    answered: Cell<usize>,
    /// One for each request.
    outcomes: RefCell<Vec<Option<Outcome>>>,
    missing: Cell<usize>,
    number: u64,
    /// Where the number goes when no outcome is missing.
    complete: Weak<Complete>,
}

impl AcceptedBatch {
    /// One that no table has.
    #[cfg(test)]
    pub(crate) fn new(origin: Origin, kind: RequestKind, count: usize) -> Rc<Self> {
        Rc::new(Self::with(origin, kind, BatchSize { count, bytes: 0 }, 0, Weak::new()))
    }

    fn with(
        origin: Origin,
        kind: RequestKind,
        size: BatchSize,
        number: u64,
        complete: Weak<Complete>,
    ) -> Self {
        Self {
            origin,
            kind,
            size,
            bytes: Cell::new(0),
            short_bytes: Cell::new(0),
            answered: Cell::new(size.count),
            outcomes: RefCell::new(vec![None; size.count]),
            missing: Cell::new(size.count),
            number,
            complete,
        }
    }

    /// The reply of a complete batch, and which shard it is for. Of long outcomes it has only the first.
    pub(crate) fn reply(&self) -> (OtherShard, BatchReply) {
        assert_eq!(self.missing.get(), 0, "a reply to a batch with open requests");
        let outcomes = self.outcomes.take().into_iter().flatten().take(self.answered.get());
        let outcome = BatchOutcome::Done(outcomes.collect());
        (self.origin.shard, BatchReply { id: self.origin.id, outcome })
    }

    /// Its number on this shard.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Whether the outcome of the request at `position` has no room in the reply: the other shard asks
    /// again if it is a query.
    pub(crate) fn is_left_out(&self, position: usize) -> bool {
        position >= self.answered.get()
    }

    /// The request at `position` has ended.
    pub(crate) fn end(&self, position: usize, mut outcome: Outcome) {
        let bytes = outcome.as_ref().map_or(0, Bytes::len);
        if position == 0 {
            if bytes > FIRST_BYTES_MAX && matches!(self.origin.shard, OtherShard::OfPeer(_)) {
                outcome = Err(RequestError::UNKNOWN);
            }
        } else if !self.takes_room(bytes) {
            outcome = match self.kind {
                RequestKind::Propose => Err(RequestError::UNKNOWN),
                RequestKind::Query => {
                    self.answered.set(self.answered.get().min(position));
                    Err(RequestError::Busy)
                }
            };
        }
        let before = self.outcomes.borrow_mut()[position].replace(outcome);
        assert!(before.is_none(), "request {position} of a batch ended twice");
        self.missing.set(self.missing.get() - 1);
        if self.missing.get() == 0
            && let Some(complete) = self.complete.upgrade()
        {
            complete.borrow_mut().push(self.number);
        }
    }

    /// Takes the room of an outcome behind the first, if there is so much.
    fn takes_room(&self, bytes: usize) -> bool {
        let short = SHORT_BYTES.max(SHORT_ROOM / self.size.count.max(1));
        let is_short = self.kind == RequestKind::Propose && bytes <= short;
        let (taken, most) = match is_short {
            true => (&self.short_bytes, SHORT_ROOM),
            false => (&self.bytes, self.rest_bytes_max()),
        };
        let is_there = taken.get() + bytes <= most;
        if is_there {
            taken.set(taken.get() + bytes);
        }
        is_there
    }

    fn rest_bytes_max(&self) -> usize {
        let first = match self.outcomes.borrow().first() {
            Some(Some(Ok(first))) if self.kind == RequestKind::Propose => first.len(),
            Some(Some(Err(_))) if self.kind == RequestKind::Propose => 0,
            // It may still come, or the rest can be asked for again.
            _ => FIRST_BYTES_MAX,
        };
        REST_BYTES_MAX + FIRST_BYTES_MAX.saturating_sub(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use purlin_rsm::{NodeId, ShardId};
    use purlin_transport::PeerShard;

    const SHARD: Origin = Origin { shard: OtherShard::OfThisNode(ShardId(1)), id: 7 };
    const PEER: Origin = Origin {
        shard: OtherShard::OfPeer(PeerShard { node: NodeId(2), shard: ShardId(1) }),
        id: 7,
    };

    fn empty(count: usize) -> Vec<Bytes> {
        vec![Bytes::new(); count]
    }

    fn zeros(bytes: usize) -> Outcome {
        Ok(Bytes::from(vec![0; bytes]))
    }

    fn told(origin: Origin, kind: RequestKind, outcomes: &[Outcome]) -> Vec<Outcome> {
        let batch = AcceptedBatch::new(origin, kind, outcomes.len());
        for (position, outcome) in outcomes.iter().enumerate() {
            batch.end(position, outcome.clone());
        }
        let (shard, reply) = batch.reply();
        assert_eq!(Origin { shard, id: reply.id }, origin);
        let BatchOutcome::Done(outcomes) = reply.outcome else { panic!("{reply:?}") };
        outcomes
    }

    #[test]
    fn a_long_reply_ends_early_and_never_before_the_first() {
        let outcomes = [zeros(REST_BYTES_MAX), zeros(1), zeros(REST_BYTES_MAX), zeros(0)];
        assert_eq!(told(SHARD, RequestKind::Query, &outcomes), outcomes[..2]);
        assert_eq!(told(SHARD, RequestKind::Query, &[]), []);
    }

    /// They were applied, and would be unknown for want of room.
    #[test]
    fn outcomes_of_proposals_have_the_room_that_the_first_leaves() {
        let outcomes =
            [zeros(FIRST_BYTES_MAX / 2), zeros(REST_BYTES_MAX), zeros(FIRST_BYTES_MAX / 2)];
        assert_eq!(told(PEER, RequestKind::Propose, &outcomes), outcomes);
        assert_eq!(told(PEER, RequestKind::Query, &outcomes), outcomes[..2]);
        let long = [zeros(FIRST_BYTES_MAX), zeros(REST_BYTES_MAX), zeros(1)];
        // Nobody may ask for them again, so those that find no room are unknown, and the short ones are told.
        let short = SHORT_ROOM / 4;
        let outcomes = [&long[..2], &[zeros(short + 1), zeros(short)]].concat();
        let expected = [&long[..2], &[Err(RequestError::UNKNOWN), zeros(short)]].concat();
        assert!(told(PEER, RequestKind::Propose, &outcomes) == expected);
    }

    #[test]
    fn a_first_outcome_that_no_frame_carries_is_unknown_to_a_peer() {
        let fits = [zeros(FIRST_BYTES_MAX), zeros(REST_BYTES_MAX)];
        assert_eq!(told(PEER, RequestKind::Query, &fits), fits);
        let long = [zeros(FIRST_BYTES_MAX + 1), zeros(1)];
        let unknown = [Err(RequestError::UNKNOWN), zeros(1)];
        assert_eq!(told(PEER, RequestKind::Query, &long), unknown);
        assert_eq!(told(SHARD, RequestKind::Query, &long), long);
    }

    /// A client whose commands have long outcomes shares a batch with others.
    #[test]
    fn short_outcomes_of_a_full_batch_are_told_beside_long_ones() {
        let long = zeros(FIRST_BYTES_MAX);
        let outcome = |at| if at % 2 == 0 { long.clone() } else { zeros(SHORT_BYTES) };
        let outcomes: Vec<_> = (0..BATCH_COUNT_MAX).map(outcome).collect();
        let told = told(PEER, RequestKind::Propose, &outcomes);
        assert_eq!((told.len(), &told[0]), (BATCH_COUNT_MAX, &long));
        assert!(told[1..].iter().step_by(2).all(|it| *it == zeros(SHORT_BYTES)));
        assert!(told[2..].iter().step_by(2).all(|it| *it == Err(RequestError::UNKNOWN)));
    }

    /// B36: the requests of batches that are replied to make room.
    #[test]
    fn a_batch_that_is_complete_makes_room() {
        let mut accepted = Accepted::new(2, 100);
        for _ in 0..3 {
            let batch =
                accepted.accept(SHARD, RequestKind::Query, &empty(2)).expect("there is room");
            assert!(accepted.accept(SHARD, RequestKind::Query, &empty(1)).is_none());
            (0..2).for_each(|position| batch.end(position, Ok(Bytes::new())));
            assert_eq!(accepted.check(), Ok(()));
            assert_eq!(accepted.take_complete().len(), 1);
        }
        assert_eq!((accepted.check(), accepted.level().now), (Ok(()), 0));
    }

    /// A turn looks at what is complete, and at no batch that is open.
    #[test]
    fn a_batch_is_listed_when_its_last_outcome_comes() {
        let mut accepted = Accepted::new(99, 100);
        let open: Vec<_> =
            (0..3).filter_map(|_| accepted.accept(SHARD, RequestKind::Query, &empty(2))).collect();
        open.iter().for_each(|batch| batch.end(1, Ok(Bytes::new())));
        assert_eq!(accepted.take_complete().len(), 0);
        [2, 0].iter().for_each(|at| open[*at].end(0, Ok(Bytes::new())));
        assert_eq!(*accepted.complete.borrow(), [3, 1]);
        assert_eq!(accepted.take_complete().len(), 2);
        assert_eq!(accepted.level().now, 2);
        accepted.accept(SHARD, RequestKind::Query, &empty(0));
        assert_eq!(accepted.take_complete().len(), 1, "an empty batch is complete at once");
        accepted.complete.borrow_mut().push(2);
        assert!(accepted.check().unwrap_err().contains("0 are complete, and 1 are listed"));
    }

    #[test]
    fn a_wrong_count_of_requests_is_named() {
        let mut accepted = Accepted::new(9, 100);
        accepted.accept(SHARD, RequestKind::Query, &empty(2));
        accepted.requests = 1;
        assert!(
            accepted
                .check()
                .unwrap_err()
                .contains("(2, 0) requests and bytes in 1 batches, counted as (1, 0)")
        );
        accepted.requests_max = 1;
        accepted.requests = 2;
        assert_eq!(accepted.check(), Ok(()), "a batch beyond the bound has room alone");
    }

    /// Requests of many batches that wait for a slow disk must not fill the memory.
    #[test]
    fn accepted_requests_have_a_bound_in_bytes() {
        let mut accepted = Accepted::new(99, 1_000);
        let requests = |bytes: usize| vec![Bytes::from(vec![0; bytes]); 2];
        let first = accepted.accept(SHARD, RequestKind::Propose, &requests(300)).expect("room");
        assert!(accepted.accept(SHARD, RequestKind::Propose, &requests(201)).is_none());
        accepted.accept(SHARD, RequestKind::Propose, &requests(200)).expect("room for 400 bytes");
        assert_eq!((accepted.check(), accepted.bytes().now), (Ok(()), 1_000));
        (0..2).for_each(|position| first.end(position, Ok(Bytes::new())));
        assert_eq!(accepted.take_complete().len(), 1);
        assert_eq!((accepted.check(), accepted.bytes().now), (Ok(()), 400));
        let mut alone = Accepted::new(99, 1_000);
        alone.accept(SHARD, RequestKind::Propose, &requests(800)).expect("no other is there");
        assert_eq!(alone.check(), Ok(()));
        alone.bytes -= 1;
        assert!(alone.check().unwrap_err().contains("counted as (2, 1599)"));
    }
}
