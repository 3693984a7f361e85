//! Order at the edge: the requests of one connection to one group, in the order they came
//! (safety E1, E2).
//!
//! A lane sends requests of one kind at a time: a query waits for the proposals before it, and a
//! proposal for the queries before it. Where the group's leader is on this shard, requests go
//! straight into its log, one behind the other. Where it is not, one batch is away at a time, and is
//! taken or bounced whole; what bounced was never appended, and goes out again before anything
//! younger. What was once taken is never sent again by us: it ends applied, not applied or unknown.

use crate::edge::request::Request;
use purlin_rsm::{RequestKind, Tick};
use std::collections::VecDeque;

/// The requests of one connection to one group.
#[derive(Default, Debug)]
pub(crate) struct Lane {
    /// Not sent yet, or bounced.
    queue: VecDeque<Pending>,
    /// Sent and not ended; all of one kind and in one place.
    sent: VecDeque<Pending>,
    place: Place,
    /// How many of the batch that is away have run out of time. They are its oldest, so its outcomes
    /// begin with theirs.
    expired: usize,
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

/// A request that has not ended.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub(crate) tag: u64,
    pub(crate) request: Request,
    /// When it came.
    pub(crate) since: Tick,
}

/// What became of requests that ran out of time.
pub(crate) struct Expired {
    /// Never taken by anybody.
    pub(crate) unsent: Vec<Pending>,
    /// In doubt.
    pub(crate) sent: Vec<Pending>,
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

    /// The next request for the group's log on this shard, if its turn has come. After a change of the
    /// leader nothing younger goes out while an older one is in doubt elsewhere.
    pub(crate) fn send_here(&mut self) -> Option<Pending> {
        let kind = self.queue.front()?.request.kind();
        let may = self
            .sent
            .front()
            .is_none_or(|sent| self.place == Place::Here && sent.request.kind() == kind);
        if !may {
            return None;
        }
        self.place = Place::Here;
        let pending = self.queue.pop_front()?;
        self.sent.push_back(pending.clone());
        Some(pending)
    }

    /// The next batch for elsewhere: requests of one kind, if nothing is on its way.
    pub(crate) fn send_away(
        &mut self,
        batch: u64,
        count_max: usize,
        bytes_max: usize,
    ) -> Option<(RequestKind, Vec<Pending>)> {
        if !self.sent.is_empty() {
            return None;
        }
        let kind = self.queue.front()?.request.kind();
        let mut bytes = 0;
        while let Some(next) = self.queue.front() {
            bytes += next.request.data().len();
            let fits = self.sent.is_empty() || (self.sent.len() < count_max && bytes <= bytes_max);
            if next.request.kind() != kind || !fits {
                break;
            }
            self.sent.extend(self.queue.pop_front());
        }
        (self.place, self.expired) = (Place::Away(batch), 0);
        Some((kind, self.sent.iter().cloned().collect()))
    }

    /// The batch was not taken: its requests stand before all others again.
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

    /// The request `tag` has ended; `None` when it had ended before, by its deadline.
    pub(crate) fn end(&mut self, tag: u64) -> Option<Pending> {
        let at = self.sent.iter().position(|pending| pending.tag == tag)?;
        self.sent.remove(at)
    }

    /// Takes the requests of `batch`, which has ended, and says how many before them have run out of
    /// time: perhaps all.
    pub(crate) fn end_batch(&mut self, batch: u64) -> (usize, Vec<Pending>) {
        if self.place == Place::Away(batch) {
            purlin_rsm::sometimes!(self.expired > 0, "late batch answered");
            (self.expired, self.sent.drain(..).collect())
        } else {
            (0, Vec::new())
        }
    }

    /// Takes the requests that came before `limit`: each has one deadline, from when it came.
    pub(crate) fn expire(&mut self, limit: Tick) -> Expired {
        let take = |queue: &mut VecDeque<Pending>| {
            let late = queue.partition_point(|pending| pending.since < limit);
            queue.drain(..late).collect()
        };
        let sent: Vec<Pending> = take(&mut self.sent);
        self.expired += sent.len();
        Expired { sent, unsent: take(&mut self.queue) }
    }

    /// Takes everything.
    pub(crate) fn drain(&mut self) -> Expired {
        self.expire(Tick(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn lane(kinds: &str) -> Lane {
        let mut lane = Lane::default();
        for (tag, kind) in kinds.chars().enumerate() {
            let kind = if kind == 'w' { RequestKind::Propose } else { RequestKind::Query };
            let request = Request::new(kind, Bytes::from_static(b"x"));
            lane.push(Pending { tag: tag as u64, request, since: Tick(tag as u64) });
        }
        lane
    }

    fn tags(pendings: &[Pending]) -> Vec<u64> {
        pendings.iter().map(|pending| pending.tag).collect()
    }

    #[test]
    fn a_query_waits_for_earlier_proposals_and_a_proposal_for_earlier_queries() {
        let mut lane = lane("wwrw");
        assert_eq!(lane.send_here().map(|p| p.tag), Some(0));
        assert_eq!(lane.send_here().map(|p| p.tag), Some(1));
        assert!(lane.send_here().is_none());
        lane.end(0);
        assert!(lane.send_here().is_none(), "one proposal is still in flight");
        lane.end(1);
        assert_eq!(lane.send_here().map(|p| p.tag), Some(2));
        assert!(lane.send_here().is_none());
        lane.end(2);
        assert_eq!(lane.send_here().map(|p| p.tag), Some(3));
    }

    #[test]
    fn what_bounced_goes_out_before_anything_younger() {
        let mut lane = lane("www");
        let (_, batch) = lane.send_away(7, 2, 100).expect("nothing is away");
        assert_eq!(tags(&batch), [0, 1]);
        assert!(lane.send_away(8, 2, 100).is_none(), "one batch at a time");
        assert!(lane.send_here().is_none(), "not while a batch is in doubt elsewhere (safety E1)");
        lane.bounce(6);
        assert!(lane.send_here().is_none(), "another batch's bounce is not ours");
        lane.bounce(7);
        assert_eq!(lane.send_here().map(|p| p.tag), Some(0));
        assert_eq!(lane.send_here().map(|p| p.tag), Some(1));
        assert_eq!(lane.send_here().map(|p| p.tag), Some(2));
    }

    #[test]
    fn after_a_leader_change_nothing_younger_goes_away_while_an_older_is_in_doubt_here() {
        let mut lane = lane("ww");
        lane.send_here().expect("the first");
        assert!(lane.send_away(1, 9, 100).is_none());
        lane.end(0);
        assert!(lane.send_away(1, 9, 100).is_some());
    }

    #[test]
    fn a_deadline_ends_what_is_late_and_what_waits_goes_on() {
        let mut lane = lane("wrw");
        lane.send_here().expect("the first");
        let expired = lane.expire(Tick(2));
        assert_eq!((tags(&expired.sent), tags(&expired.unsent)), (vec![0], vec![1]));
        assert!(lane.end(0).is_none(), "its late outcome is nobody's");
        assert_eq!(lane.send_here().map(|p| p.tag), Some(2));
    }

    #[test]
    fn an_oversized_request_travels_alone() {
        let mut lane = Lane::default();
        for tag in 0..2 {
            let request = Request::Propose(Bytes::from(vec![0; 1000]));
            lane.push(Pending { tag, request, since: Tick(0) });
        }
        let (_, batch) = lane.send_away(1, 10, 100).expect("nothing is away");
        assert_eq!(tags(&batch), [0]);
    }
}
