//! The requests of a shard: those of its own callers, those that wait for a leader, those that are
//! away, and those that it has taken for others.

use crate::{
    config::IntakeOptions,
    control::status::{Level, QueueStatus},
    edge::{
        away::Away,
        client::ForeignDesk,
        desk::{Desk, LaneRef},
        ticket::TakenBatch,
    },
    mesh::MeshItem,
    wake::Wake,
};
use purlin_rsm::{ShardId, Tick};
use purlin_transport::{Outbound, PeerShard};
use std::{rc::Rc, sync::Arc, time::Duration};

/// See the module.
pub(crate) struct Requests {
    pub(crate) desk: Rc<Desk>,
    pub(crate) foreign: ForeignDesk,
    /// Lanes that found no leader, or bounced: they try again with the next change.
    pub(crate) parked: Vec<LaneRef>,
    pub(crate) away: Away,
    pub(crate) taken: Taken,
    pub(crate) late: LateAnswers,
}

/// Batches from elsewhere that are not answered.
pub(crate) struct Taken {
    batches: Vec<(usize, Rc<TakenBatch>)>,
    requests: usize,
    requests_max: usize,
}

impl Requests {
    pub(crate) fn new(
        options: &IntakeOptions,
        max_command: usize,
        tick: Duration,
        wake: Arc<Wake>,
        random: u64,
    ) -> Self {
        let desk = Desk::new(options.clone(), max_command, tick, wake);
        let foreign = ForeignDesk::new(&desk);
        let taken = Taken { batches: Vec::new(), requests: 0, requests_max: options.requests_max };
        Self {
            desk,
            foreign,
            parked: Vec::new(),
            away: Away::new(random),
            taken,
            late: LateAnswers::default(),
        }
    }
}

impl Requests {
    /// How full its queues are.
    pub(crate) fn queues(&self) -> QueueStatus {
        let (requests, request_bytes) = self.desk.levels();
        QueueStatus {
            requests,
            request_bytes,
            parked: self.parked.len(),
            away: self.away.len(),
            taken: Level { now: self.taken.requests, max: self.taken.requests_max },
            late_replies: Level { now: self.late.answers.len(), max: LATE_MAX },
            ..QueueStatus::default()
        }
    }
}

/// Answers to batches from elsewhere that have found a full channel: without them their requests would
/// wait for their deadline, although they are applied.
#[derive(Default)]
pub(crate) struct LateAnswers {
    answers: Vec<Answer>,
    bytes: usize,
}

/// An answer to a batch from elsewhere.
pub(crate) struct Answer {
    pub(crate) since: Tick,
    /// About how much memory it takes.
    pub(crate) bytes: usize,
    pub(crate) to: AnswerTo,
}

/// Where an answer goes, and what is sent there.
pub(crate) enum AnswerTo {
    Shard(ShardId, MeshItem),
    Peer(PeerShard, Outbound),
}

/// Answers beyond these bounds are lost, and their requests end by their deadline.
const LATE_MAX: usize = 4096;
const LATE_BYTES_MAX: usize = 64 << 20;

impl LateAnswers {
    /// Keeps an answer, if there is room for it here.
    pub(crate) fn push(&mut self, answer: Answer) {
        let bytes = self.bytes + answer.bytes;
        if self.answers.len() < LATE_MAX && bytes <= LATE_BYTES_MAX {
            self.bytes = bytes;
            self.answers.push(answer);
        }
    }

    /// Takes all, to be tried again in their order.
    pub(crate) fn take(&mut self) -> Vec<Answer> {
        self.bytes = 0;
        std::mem::take(&mut self.answers)
    }

    /// Forgets those that nobody waits for any more.
    pub(crate) fn expire(&mut self, limit: Tick) {
        self.answers.retain(|answer| answer.since >= limit);
        self.bytes = self.answers.iter().map(|answer| answer.bytes).sum();
    }
}

impl Taken {
    /// Whether a batch of so many requests may be taken.
    pub(crate) fn has_room(&self, requests: usize) -> bool {
        self.requests == 0 || self.requests + requests <= self.requests_max
    }

    pub(crate) fn push(&mut self, requests: usize, batch: Rc<TakenBatch>) {
        self.requests += requests;
        self.batches.push((requests, batch));
    }

    /// Takes the batches whose outcomes are complete.
    pub(crate) fn take_complete(&mut self) -> Vec<Rc<TakenBatch>> {
        let complete =
            self.batches.extract_if(.., |(_, batch)| batch.is_complete()).collect::<Vec<_>>();
        self.requests -= complete.iter().map(|(requests, _)| requests).sum::<usize>();
        complete.into_iter().map(|(_, batch)| batch).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::ticket::{BatchOrigin, Ticket};
    use bytes::Bytes;
    use purlin_rsm::{GroupId, RequestKind};

    /// B36: the requests of batches that are answered make room.
    #[test]
    fn a_batch_that_is_complete_makes_room() {
        let mut taken = Taken { batches: Vec::new(), requests: 0, requests_max: 2 };
        for _ in 0..3 {
            assert!(taken.has_room(2));
            let batch = TakenBatch::new(BatchOrigin::Shard(ShardId(1), 7), RequestKind::Query, 2);
            taken.push(2, batch.clone());
            assert!(!taken.has_room(1));
            for position in 0..2 {
                Ticket::batch(&batch, GroupId(1), position).end(Ok(Bytes::new()));
            }
            assert_eq!(taken.take_complete().len(), 1);
        }
    }

    #[test]
    fn late_answers_are_bounded_and_forgotten_after_their_deadline() {
        let late = |since, bytes| Answer {
            since: Tick(since),
            bytes,
            to: AnswerTo::Shard(ShardId(1), MeshItem::Fenced),
        };
        let mut answers = LateAnswers::default();
        (0..5).for_each(|since| answers.push(late(since, 20 << 20)));
        answers.expire(Tick(1));
        answers.push(late(9, 1));
        let kept = answers.take().iter().map(|late| late.since.0).collect::<Vec<_>>();
        assert_eq!(kept, [1, 2, 9], "three of five fit, and the first of them was late");
        assert!(answers.take().is_empty());
        (0..5000).for_each(|since| answers.push(late(since, 0)));
        assert_eq!(answers.take().len(), LATE_MAX);
    }
}
