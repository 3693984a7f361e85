//! Lanes whose batch has found no room: on its way to another shard, or at that shard.
//!
//! For each shard the lanes stand in the order of their oldest requests, and only the first of them tries when there may be
//! room: a younger one waits behind it, also one that has something to send for the first time. A lane that finds
//! no room again keeps its place.

use crate::edge::{
    caller::LaneRef,
    lane::{Lane, Wait},
    other_shard::OtherShard,
};
use purlin_rsm::Tick;
use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
};

/// See the module.
#[derive(Default)]
pub(crate) struct WithoutRoom {
    /// By the shard that had no room, the time of the lane's oldest request, and the order in which they came.
    lanes: BTreeMap<(OtherShard, Tick, u64), LaneRef>,
    newest: u64,
    /// Shards that may have room now.
    may_have_room: BTreeSet<OtherShard>,
}

impl WithoutRoom {
    /// The shard `at` has no room for the next batch of this lane.
    pub(crate) fn push(&mut self, at: OtherShard, lane: LaneRef) {
        self.may_have_room.remove(&at);
        let newest = self.newest + 1;
        let wait = |lane: &mut Lane| {
            lane.wait = Some(Wait::Room);
            // One that has tried before keeps its turn.
            lane.oldest().map(|oldest| (oldest, *lane.room_number.get_or_insert(newest)))
        };
        // A lane that is gone has nothing to send.
        let Some(Some((oldest, number))) = lane.with(wait) else { return };
        self.newest = self.newest.max(number);
        self.lanes.insert((at, oldest, number), lane);
    }

    /// The shard `at` may have room.
    pub(crate) fn note_room(&mut self, at: OtherShard) {
        if self.is_awaited(at) {
            self.may_have_room.insert(at);
        }
    }

    /// Whether lanes wait for room at `at`.
    pub(crate) fn is_awaited(&self, at: OtherShard) -> bool {
        self.first(at).is_some()
    }

    /// Takes out the first lane of a shard that may have room. Unless the lane finds none, the next one follows.
    pub(crate) fn take_next(&mut self) -> Option<LaneRef> {
        while let Some(at) = self.may_have_room.first().copied() {
            if let Some(lane) = self.first(at).and_then(|key| self.lanes.remove(&key)) {
                lane.with(|lane| lane.wait = None);
                return Some(lane);
            }
            self.may_have_room.remove(&at);
        }
        None
    }

    /// Takes out all lanes, in their order: another shard may be the one to send to.
    pub(crate) fn take_all(&mut self) -> impl Iterator<Item = LaneRef> + use<> {
        self.may_have_room.clear();
        let lanes = mem::take(&mut self.lanes).into_values();
        lanes.inspect(|lane| _ = lane.with(|lane| lane.wait = None))
    }

    /// How many lanes there are. A lane that ended meanwhile may be one of them.
    pub(crate) fn len(&self) -> usize {
        self.lanes.len()
    }

    /// Whether this lane is one of them.
    pub(crate) fn has(&self, lane: &LaneRef) -> bool {
        self.lanes.values().any(|other| other.is(lane))
    }

    fn first(&self, at: OtherShard) -> Option<(OtherShard, Tick, u64)> {
        let (key, _) = self.lanes.range((at, Tick(0), 0)..).next()?;
        (key.0 == at).then_some(*key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::stage_timer::tests::still;
    use crate::edge::{caller::Callers, request::Request};
    use bytes::Bytes;
    use purlin_rsm::{GroupId, ShardId};
    use std::{rc::Rc, sync::Arc, time::Duration};

    const NEAR: OtherShard = OtherShard::OfThisNode(ShardId(1));
    const FAR: OtherShard = OtherShard::OfThisNode(ShardId(2));

    fn lane(callers: &Rc<Callers>, group: u32, since: u64) -> LaneRef {
        let caller = callers.caller();
        callers.set_now(Tick(since));
        caller.submit(GroupId(group), Request::Query(Bytes::new()), 0);
        caller.lane(GroupId(group))
    }

    fn callers() -> Rc<Callers> {
        let tick = Duration::from_millis(10);
        Callers::new(Default::default(), 1 << 20, tick, Arc::default(), still())
    }

    fn next(waiting: &mut WithoutRoom) -> Option<u32> {
        waiting.take_next().map(|lane| lane.group.0)
    }

    #[test]
    fn the_lane_that_has_waited_for_longest_tries_first_and_the_others_only_after_it() {
        let callers = callers();
        let mut waiting = WithoutRoom::default();
        // The batch of the oldest was bounced by the other shard, so it comes last.
        for (at, group, since) in [(NEAR, 2, 20), (FAR, 9, 5), (NEAR, 3, 20), (NEAR, 1, 10)] {
            waiting.push(at, lane(&callers, group, since));
        }
        assert_eq!(next(&mut waiting), None, "nobody has told of room");
        waiting.note_room(NEAR);
        let first = waiting.take_next().expect("there may be room");
        assert_eq!(first.group, GroupId(1));
        waiting.push(NEAR, first);
        assert_eq!((next(&mut waiting), waiting.len()), (None, 4), "it has found none");
        waiting.note_room(NEAR);
        assert_eq!([1, 2, 3].map(|_| next(&mut waiting)), [Some(1), Some(2), Some(3)]);
        assert!(next(&mut waiting).is_none() && !waiting.is_awaited(NEAR));
        assert!(waiting.is_awaited(FAR));
        waiting.note_room(NEAR);
        assert_eq!(waiting.take_all().map(|lane| lane.group.0).collect::<Vec<_>>(), [9]);
    }

    #[test]
    fn a_lane_that_finds_no_room_again_keeps_its_turn_among_those_of_its_age() {
        let callers = callers();
        let mut waiting = WithoutRoom::default();
        (1..=3).for_each(|group| waiting.push(NEAR, lane(&callers, group, 20)));
        for _ in 0..2 {
            waiting.note_room(NEAR);
            let first = waiting.take_next().expect("there may be room");
            assert_eq!(first.group, GroupId(1));
            // On its way, or at the other shard.
            first.send_away(7).expect("a batch");
            first.bounce(7);
            waiting.push(NEAR, first);
        }
        // Something of it was taken, and it has more to send.
        waiting.note_room(NEAR);
        let first = waiting.take_next().expect("there may be room");
        first.send_away(8).expect("a batch");
        first.caller.submit(GroupId(1), Request::Query(Bytes::new()), 1);
        first.end_batch(8, vec![Ok(Bytes::new())]);
        waiting.push(NEAR, first);
        waiting.note_room(NEAR);
        assert_eq!([1, 2, 3].map(|_| next(&mut waiting)), [Some(2), Some(3), Some(1)]);
    }
}
