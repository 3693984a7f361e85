//! The deadlines of all requests of a shard, in one queue.
//!
//! Each holder of requests stands in the queue at most once, with the time at which its oldest request
//! is due. Then the holder expires what is due and stands there again with the oldest that is left. So a
//! beat costs what expires, and not what waits; and every request costs nothing here.
//!
//! A request that has found no leader is due earlier than others. Only its lane knows whether it has found
//! one, so a caller is asked as if its oldest request had not, and from then on at each beat.

use crate::{
    edge::{caller::Caller, lane::Limit},
    shard::groups::GroupSlot,
};
use purlin_rsm::Tick;
use std::{collections::BTreeMap, mem, rc::Weak};

/// What holds requests that have a deadline.
pub(crate) enum Holder {
    Caller(Weak<Caller>),
    Group(GroupSlot),
    /// The table of the batches that are away.
    Away,
    /// The late replies.
    Late,
}

/// See the module.
pub(crate) struct Deadlines {
    deadline_ticks: u64,
    leader_ticks: u64,
    /// By the time at which the holder's oldest request is due.
    holders: BTreeMap<Tick, Vec<Holder>>,
    len: usize,
}

impl Deadlines {
    /// An empty queue: a request has `deadline_ticks`, and `leader_ticks` as long as it has found no leader.
    pub(crate) fn new(deadline_ticks: u64, leader_ticks: u64) -> Self {
        let leader_ticks = leader_ticks.min(deadline_ticks);
        Self { deadline_ticks, leader_ticks, holders: BTreeMap::new(), len: 0 }
    }

    /// Which requests have run out of time.
    pub(crate) fn limit(&self, now: Tick) -> Limit {
        let before = |ticks| Tick(now.0.saturating_sub(ticks));
        Limit { any: before(self.deadline_ticks), leaderless: before(self.leader_ticks) }
    }

    /// Notes a holder that is not in the queue, and when its oldest request came.
    pub(crate) fn push(&mut self, oldest: Tick, holder: Holder) {
        let ticks = match holder {
            Holder::Caller(_) => self.leader_ticks,
            Holder::Group(_) | Holder::Away | Holder::Late => self.deadline_ticks,
        };
        self.len += 1;
        self.holders.entry(Tick(oldest.0.saturating_add(ticks))).or_default().push(holder);
    }

    /// Moves out the holders with requests that were due before `now`.
    pub(crate) fn take_due(&mut self, now: Tick) -> Vec<Holder> {
        let later = self.holders.split_off(&now);
        let due = mem::replace(&mut self.holders, later);
        let due: Vec<Holder> = due.into_values().flatten().collect();
        self.len -= due.len();
        due
    }

    /// How many holders there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// All holders.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Holder> {
        self.holders.values().flatten()
    }

    /// Drops the callers that are gone. Returns how many they were.
    pub(crate) fn drop_gone(&mut self) -> usize {
        let is_alive = |holder: &Holder| match holder {
            Holder::Caller(caller) => caller.strong_count() > 0,
            Holder::Group(_) | Holder::Away | Holder::Late => true,
        };
        self.holders.retain(|_, holders| {
            holders.retain(is_alive);
            !holders.is_empty()
        });
        let len = self.holders.values().map(Vec::len).sum();
        mem::replace(&mut self.len, len) - len
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::stage_timer::tests::still;
    use crate::edge::caller::Callers;
    use std::{rc::Rc, time::Duration};

    fn names(due: &[Holder]) -> String {
        due.iter().map(|it| if let Holder::Away = it { 'a' } else { 'l' }).collect()
    }

    #[test]
    fn only_holders_that_are_due_come_up_and_in_order() {
        let mut deadlines = Deadlines::new(10, 20);
        deadlines.push(Tick(7), Holder::Late);
        deadlines.push(Tick(5), Holder::Away);
        deadlines.push(Tick(6), Holder::Late);
        deadlines.push(Tick(5), Holder::Late);
        assert_eq!(deadlines.limit(Tick(4)).any, Tick(0));
        let limit = Limit { any: Tick(5), leaderless: Tick(5) };
        assert_eq!(deadlines.limit(Tick(15)), limit, "no request has more than its deadline");
        assert_eq!(names(&deadlines.take_due(Tick(15))), "", "what is due at 15 is not late at 15");
        assert_eq!(names(&deadlines.take_due(Tick(17))), "all");
        assert_eq!(names(&deadlines.take_due(Tick(u64::MAX))), "l");
    }

    #[test]
    fn callers_that_are_gone_are_dropped_and_all_others_stay() {
        let callers = Callers::new(
            Default::default(),
            1,
            Duration::from_millis(10),
            Default::default(),
            still(),
        );
        let mut deadlines = Deadlines::new(10, 4);
        let kept = callers.caller();
        deadlines.push(Tick(1), Holder::Caller(Rc::downgrade(&kept)));
        deadlines.push(Tick(1), Holder::Away);
        for tick in 1..4 {
            deadlines.push(Tick(tick), Holder::Caller(Rc::downgrade(&callers.caller())));
        }
        assert_eq!((deadlines.drop_gone(), deadlines.len()), (3, 2));
        let early = deadlines.take_due(Tick(6));
        assert!(matches!(early[..], [Holder::Caller(_)]), "it is asked when a leader is overdue");
        early.into_iter().for_each(|it| deadlines.push(Tick(1), it));
        let due = deadlines.take_due(Tick(12));
        let alive = |it: &&Holder| matches!(it, Holder::Caller(it) if it.strong_count() > 0);
        assert_eq!((due.len(), due.iter().filter(alive).count(), deadlines.len()), (2, 1, 0));
    }
}
