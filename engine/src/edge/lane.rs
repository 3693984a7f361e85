//! Order at the edge: the requests of one caller to one group, in the order they came (safety E1, E2).
//!
//! A lane sends requests of one kind at a time: a query waits for the proposals before it, and a
//! proposal for the queries before it. If the group's leader is on this shard, requests go straight into
//! its log, one behind the other. If the leader is elsewhere, one batch is away at a time, and the batch
//! is accepted or bounced whole. A batch that bounced was never appended, and its requests go out again
//! before anything younger. A request that was once accepted is never sent again by us: it ends applied,
//! not applied or unknown.

use crate::edge::request::Request;
use purlin_rsm::{RequestKind, Tick};
use std::collections::VecDeque;

/// Requests in one batch for another shard, and their bytes; a longer request travels alone.
pub(crate) const BATCH_COUNT_MAX: usize = 1024;
pub(crate) const BATCH_BYTES_MAX: usize = 1 << 20;

/// For so many requests an empty lane keeps its memory, in each of its two queues: about 2 KiB for each caller.
pub(crate) const KEPT_MAX: usize = 16;

/// The requests of one caller to one group.
#[derive(Default, Debug)]
pub(crate) struct Lane {
    /// Not sent yet, or bounced.
    queue: VecDeque<Pending>,
    /// Sent and not ended; all of one kind and in one place.
    sent: VecDeque<Pending>,
    place: Place,
    /// How many requests of the batch that is away have run out of time. They are its oldest, so its
    /// outcomes begin with theirs.
    expired: usize,
    /// How many of those sent, its oldest, were left unanswered because their caller had no room: they stand
    /// before all others again as soon as nothing else is sent.
    left_out: usize,
    /// It sends nothing before its caller has room for answers.
    pub(crate) waits_for_room: bool,
    /// What its queue waits for, if it has tried to send and could not.
    pub(crate) wait: Option<Wait>,
    /// Its number among the lanes that found no room at another shard, until something of it was taken.
    pub(crate) room_number: Option<u64>,
    /// It stands in the list of lanes that have something to send.
    pub(crate) is_scheduled: bool,
}

/// Where the sent requests of a lane are.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// In the log or the reads of the group, on this shard.
    #[default]
    Here,
    /// In this batch, at another shard or node.
    Away(u64),
}

/// What the queue of a lane waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wait {
    /// A leader of the group.
    Leader,
    /// A leader too, and the state machine of the group has stopped at this node.
    Machine,
    /// Room at another shard, or on the way there.
    Room,
}

/// A request that has not ended.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub(crate) tag: u64,
    /// Without its data once it lies in the log of its group on this shard: it is never sent again.
    pub(crate) request: Request,
    /// How long its data is.
    pub(crate) bytes: usize,
    /// When it came.
    pub(crate) since: Tick,
    /// Whether the shard counts it in what it has taken in.
    pub(crate) is_counted: bool,
    /// Whether it shares no batch with requests of other lanes: its outcome may be long.
    pub(crate) is_alone: bool,
    /// Whether the shard times it. Once it is in the log on this shard, its ticket says so.
    pub(crate) is_timed: bool,
}

/// Requests that came earlier have run out of time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Limit {
    /// Each request.
    pub(crate) any: Tick,
    /// A request that has found no leader.
    pub(crate) leaderless: Tick,
}

/// Requests that were moved out of a lane before their outcome came.
#[derive(Default)]
pub(crate) struct Removed {
    /// Never accepted by anybody.
    pub(crate) queued: Vec<Pending>,
    /// In doubt.
    pub(crate) sent: Vec<Pending>,
    /// How many more are not counted from now on, and their bytes: they wait for their own caller.
    pub(crate) uncounted: (usize, usize),
}

impl Lane {
    /// Adds a request behind all others.
    pub(crate) fn push(&mut self, pending: Pending) {
        self.queue.push_back(pending);
    }

    /// Whether nothing is left of it.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.sent.is_empty()
    }

    /// Whether there is something to send.
    pub(crate) fn has_queued(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Sends what may go to `place` now: requests of one kind, and their kind. While requests are sent,
    /// only more of their kind may follow them into the log on this shard. After a change of the leader
    /// nothing younger goes out while an older one is in doubt elsewhere.
    pub(crate) fn send(
        &mut self,
        place: Place,
        count_max: usize,
        bytes_max: usize,
    ) -> Option<(RequestKind, impl Iterator<Item = &mut Pending>)> {
        let kind = self.queue.front()?.request.kind();
        if self.left_out > 0 {
            return None;
        }
        let may_follow = |sent: &Pending| {
            place == Place::Here && self.place == place && sent.request.kind() == kind
        };
        if !self.sent.front().is_none_or(may_follow) {
            return None;
        }
        let (first, mut bytes) = (self.sent.len(), 0);
        while let Some(next) = self.queue.front() {
            bytes += next.bytes;
            let count = self.sent.len() - first;
            let fits = count == 0 || (count < count_max && bytes <= bytes_max);
            // Of two long outcomes in a reply the second may find no room.
            let is_second_alone = place != Place::Here
                && next.is_alone
                && self.sent.range(first..).any(|sent| sent.is_alone);
            if next.request.kind() != kind || !fits || is_second_alone {
                break;
            }
            self.sent.extend(self.queue.pop_front());
        }
        if place == Place::Here {
            self.room_number = None;
        } else {
            self.expired = 0;
        }
        (self.place, self.wait) = (place, None);
        Some((kind, self.sent.range_mut(first..)))
    }

    /// The batch was not accepted: its requests stand before all others again.
    pub(crate) fn bounce(&mut self, batch: u64) {
        if self.place == Place::Away(batch) {
            while let Some(pending) = self.sent.pop_back() {
                self.queue.push_front(pending);
            }
        }
    }

    /// Queries of a batch that has ended without an outcome for them: they stand before all others
    /// again.
    pub(crate) fn put_back(&mut self, queries: Vec<Pending>) {
        for pending in queries.into_iter().rev() {
            assert!(
                pending.request.kind() == RequestKind::Query,
                "{pending:?} may have been applied"
            );
            self.queue.push_front(pending);
        }
    }

    /// The kind of the next request to be sent, and its bytes.
    pub(crate) fn next(&self) -> Option<(RequestKind, usize)> {
        self.queue.front().map(|next| (next.request.kind(), next.bytes))
    }

    /// Whether one of the requests that a batch may take shares it with no other lane.
    pub(crate) fn is_alone(&self) -> bool {
        let (queued, sent) = (self.queue.iter(), self.sent.iter());
        let mut next = queued.take(BATCH_COUNT_MAX).chain(sent.take(BATCH_COUNT_MAX));
        next.any(|pending| pending.is_alone)
    }

    /// The tag of the next request to be sent, if that is a query.
    pub(crate) fn next_query(&self) -> Option<u64> {
        let next = self.queue.front()?;
        (next.request.kind() == RequestKind::Query).then_some(next.tag)
    }

    /// Whether a query was left unanswered. Later ones must be too: they would see an earlier state.
    pub(crate) fn leaves_out(&self) -> bool {
        self.left_out > 0
    }

    /// The query `tag` was not answered, since its caller has no room for the answer.
    pub(crate) fn leave_out(&mut self, tag: u64) {
        let Some(at) = self.sent.iter().position(|pending| pending.tag == tag) else { return };
        let pending = self.sent.remove(at).expect("it was just found");
        assert!(pending.request.kind() == RequestKind::Query, "{pending:?} may have been applied");
        self.sent.insert(self.left_out, pending);
        self.left_out += 1;
        self.put_left_out_back();
    }

    /// Its caller may have room. The deadline of its requests begins now: until now they waited for their caller.
    pub(crate) fn stop_waiting_for_room(&mut self, now: Tick) {
        self.waits_for_room = false;
        self.queue.iter_mut().for_each(|pending| pending.since = now);
    }

    fn put_left_out_back(&mut self) {
        if self.left_out > 0 && self.left_out == self.sent.len() {
            let left_out = self.sent.drain(..).collect();
            self.put_back(left_out);
            (self.left_out, self.waits_for_room) = (0, true);
        }
    }

    /// The request `tag` has ended; `None` when it had ended before, by its deadline.
    pub(crate) fn end(&mut self, tag: u64) -> Option<Pending> {
        let at = self.sent.iter().position(|pending| pending.tag == tag)?;
        let ended = self.sent.remove(at);
        self.put_left_out_back();
        ended
    }

    /// Moves out the requests of `batch`, which has ended, and says how many before them have run out of
    /// time: perhaps all.
    pub(crate) fn end_batch(&mut self, batch: u64) -> (usize, Vec<Pending>) {
        if self.place == Place::Away(batch) {
            purlin_rsm::sometimes!(self.expired > 0, "reply to a batch after its deadline");
            self.room_number = None;
            (self.expired, self.sent.drain(..).collect())
        } else {
            (0, Vec::new())
        }
    }

    /// Whether its requests wait for a leader, or for room on the way there, and for nothing else. It may be
    /// scheduled all the same, for younger ones.
    pub(crate) fn is_parked(&self) -> bool {
        let has_tried = self.wait.is_some() || !self.is_scheduled;
        self.sent.is_empty() && !self.queue.is_empty() && !self.waits_for_room && has_tried
    }

    /// Moves out the requests that came before `limit`: each has one deadline, from when it came. Those that
    /// wait for their own caller stay. After the time for finding a leader they are not counted any more, so that a
    /// caller that takes no answers keeps no others out for longer.
    pub(crate) fn expire(&mut self, limit: Limit) -> Removed {
        let late = |queue: &mut VecDeque<Pending>, limit: Tick| {
            let late = queue.partition_point(|pending| pending.since < limit);
            queue.drain(..late).collect()
        };
        let sent: Vec<Pending> = late(&mut self.sent, limit.any);
        self.expired += sent.len();
        self.left_out = self.left_out.saturating_sub(sent.len());
        self.put_left_out_back();
        let limit = match (self.waits_for_room, self.is_parked()) {
            (true, _) => {
                let uncounted = self.stop_counting(limit.leaderless);
                return Removed { sent, uncounted, ..Removed::default() };
            }
            (false, true) => limit.leaderless,
            (false, false) => limit.any,
        };
        Removed { sent, queued: late(&mut self.queue, limit), ..Removed::default() }
    }

    /// The requests that came before `limit` are not counted from now on. Returns how many these are, and their bytes.
    fn stop_counting(&mut self, limit: Tick) -> (usize, usize) {
        let late = self.queue.partition_point(|pending| pending.since < limit);
        // They are the oldest, so those that are not counted already come first.
        let counted = self.queue.range_mut(..late).rev().take_while(|pending| pending.is_counted);
        counted.fold((0, 0), |(count, bytes), pending| {
            pending.is_counted = false;
            (count + 1, bytes + pending.bytes)
        })
    }

    /// Moves out the requests that are not sent.
    pub(crate) fn drain_queued(&mut self) -> Vec<Pending> {
        self.queue.drain(..).collect()
    }

    /// A lane without requests, which keeps the memory of this one for [`KEPT_MAX`] requests at most.
    pub(crate) fn emptied(self) -> Self {
        let empty = |mut queue: VecDeque<Pending>| {
            queue.clear();
            queue.shrink_to(KEPT_MAX);
            queue
        };
        Self { queue: empty(self.queue), sent: empty(self.sent), ..Self::default() }
    }

    /// For how many requests it has memory.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.queue.capacity() + self.sent.capacity()
    }

    /// Moves out everything.
    pub(crate) fn drain(&mut self) -> Removed {
        self.left_out = 0;
        let (sent, queued) = (self.sent.drain(..).collect(), self.queue.drain(..).collect());
        Removed { sent, queued, ..Removed::default() }
    }

    /// When its oldest request came.
    pub(crate) fn oldest(&self) -> Option<Tick> {
        self.sent.front().or(self.queue.front()).map(|pending| pending.since)
    }

    /// Its requests that are counted, and their bytes.
    pub(crate) fn size(&self) -> (usize, usize) {
        let counted = self.queue.iter().chain(&self.sent).filter(|pending| pending.is_counted);
        counted.fold((0, 0), |(count, bytes), pending| (count + 1, bytes + pending.bytes))
    }

    /// The kind of its sent requests, if there are any.
    pub(crate) fn sent_kind(&self) -> Option<RequestKind> {
        self.sent.front().map(|pending| pending.request.kind())
    }

    /// Where its sent requests are, and the tags of those that are to be answered.
    pub(crate) fn sent(&self) -> (Place, Vec<u64>) {
        (self.place, self.sent.range(self.left_out..).map(|pending| pending.tag).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn lane(kinds: &str) -> Lane {
        let mut lane = Lane::default();
        (0..).zip(kinds.chars()).for_each(|(tag, kind)| lane.push(pending(tag, kind)));
        lane
    }

    fn pending(tag: u64, kind: char) -> Pending {
        let kind = if kind == 'w' { RequestKind::Propose } else { RequestKind::Query };
        let request = Request::new(kind, Bytes::from_static(b"x"));
        let bytes = request.data().len();
        let since = Tick(tag);
        Pending { tag, request, bytes, since, is_counted: true, is_alone: false, is_timed: false }
    }

    fn here(lane: &mut Lane) -> Vec<u64> {
        sent(lane.send(Place::Here, usize::MAX, usize::MAX))
    }

    fn away(lane: &mut Lane, batch: u64, count_max: usize) -> Vec<u64> {
        sent(lane.send(Place::Away(batch), count_max, 100))
    }

    fn sent<'a>(sent: Option<(RequestKind, impl Iterator<Item = &'a mut Pending>)>) -> Vec<u64> {
        sent.into_iter().flat_map(|(_, sent)| sent.map(|pending| pending.tag)).collect()
    }

    fn tags(pendings: &[Pending]) -> Vec<u64> {
        pendings.iter().map(|pending| pending.tag).collect()
    }

    #[test]
    fn a_query_waits_for_earlier_proposals_and_a_proposal_for_earlier_queries() {
        let mut lane = lane("wwrw");
        assert_eq!(here(&mut lane), [0, 1]);
        assert_eq!(here(&mut lane), []);
        lane.end(0);
        assert_eq!(here(&mut lane), [], "one proposal is still in flight");
        lane.end(1);
        assert_eq!(here(&mut lane), [2]);
        assert_eq!(here(&mut lane), []);
        lane.end(2);
        assert_eq!(here(&mut lane), [3]);
    }

    #[test]
    fn a_batch_that_bounced_goes_out_before_anything_younger() {
        let mut lane = lane("www");
        assert_eq!(away(&mut lane, 7, 2), [0, 1]);
        assert_eq!(away(&mut lane, 8, 2), [], "one batch at a time");
        assert_eq!(here(&mut lane), [], "not while a batch is in doubt elsewhere (safety E1)");
        lane.bounce(6);
        assert_eq!(here(&mut lane), [], "another batch's bounce is not ours");
        lane.bounce(7);
        assert_eq!(here(&mut lane), [0, 1, 2]);
    }

    #[test]
    fn after_a_leader_change_nothing_younger_goes_away_while_an_older_is_in_doubt_here() {
        let mut lane = lane("w");
        assert_eq!(here(&mut lane), [0]);
        lane.push(pending(1, 'w'));
        assert_eq!(away(&mut lane, 1, 9), []);
        lane.end(0);
        assert_eq!(away(&mut lane, 1, 9), [1]);
    }

    #[test]
    fn a_deadline_ends_what_is_late_and_what_waits_goes_on() {
        let mut lane = lane("wrw");
        assert_eq!(here(&mut lane), [0]);
        assert_eq!(lane.oldest(), Some(Tick(0)));
        let removed = lane.expire(Limit { any: Tick(2), leaderless: Tick(2) });
        assert_eq!((tags(&removed.sent), tags(&removed.queued)), (vec![0], vec![1]));
        assert_eq!((lane.oldest(), lane.size()), (Some(Tick(2)), (1, 1)));
        assert!(lane.end(0).is_none(), "its late outcome is nobody's");
        assert_eq!(here(&mut lane), [2]);
    }

    #[test]
    fn an_oversized_request_travels_alone() {
        let mut lane = Lane::default();
        for tag in 0..2 {
            let request = Request::Propose(Bytes::from(vec![0; 1000]));
            let bytes = request.data().len();
            lane.push(Pending {
                tag,
                request,
                bytes,
                since: Tick(0),
                is_counted: true,
                is_alone: false,
                is_timed: false,
            });
        }
        assert_eq!(away(&mut lane, 1, 10), [0]);
    }

    /// A client that sends on and on would give its oldest request five times as long as others have.
    #[test]
    fn a_lane_that_waits_keeps_its_deadline_when_younger_requests_come() {
        let limit = Limit { any: Tick(0), leaderless: Tick(1) };
        for wait in [Wait::Leader, Wait::Machine, Wait::Room] {
            let mut lane = lane("ww");
            lane.is_scheduled = true;
            assert!(!lane.is_parked() && lane.expire(limit).queued.is_empty(), "it tries soon");
            lane.wait = Some(wait);
            assert!(lane.is_parked());
            assert_eq!(tags(&lane.expire(limit).queued), [0], "{wait:?}");
            assert_eq!(here(&mut lane), [1]);
            assert!(lane.wait.is_none(), "it waits no more");
        }
    }
}
