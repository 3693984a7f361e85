//! Stage 6: outcomes to their callers, on this core, on another shard, or at another node.

use crate::{
    edge::{
        request::{Outcome, RequestError},
        requests::{Answer, AnswerTo},
        ticket::BatchOrigin,
    },
    mesh::MeshItem,
    runtime::Runtime,
    shard::Shard,
};
use bytes::Bytes;
use purlin_rsm::GroupId;
use purlin_transport::{ForwardAnswer, ForwardReply, Outbound};

impl<R: Runtime> Shard<R> {
    /// Sends the outcomes of batches that are complete, and wakes the callers on this core, each once.
    pub(crate) fn reply(&mut self) {
        for answer in self.requests.late.take() {
            self.send_answer(answer);
        }
        for batch in self.requests.taken.take_complete() {
            self.answer_batch(batch.origin, BatchAnswer::Done(batch.take_outcomes()));
        }
        self.requests.foreign.answer();
        self.requests.desk.notify_answered();
    }

    /// Answers a batch from elsewhere.
    pub(crate) fn answer_batch(&mut self, origin: BatchOrigin, answer: BatchAnswer) {
        let (since, bytes) = (self.requests.desk.now(), answer.bytes());
        let to = match origin {
            BatchOrigin::Shard(shard, batch) => {
                AnswerTo::Shard(shard, MeshItem::Answer { batch, answer })
            }
            BatchOrigin::Peer(pair, id) => {
                let reply = ForwardReply { id, answer: answer.into() };
                AnswerTo::Peer(pair, Outbound::ForwardReply(reply))
            }
        };
        self.send_answer(Answer { since, bytes, to });
    }

    /// An answer that finds no room now goes out with a later turn. Without a connection it is lost:
    /// its origin gives the batch up when it notices.
    fn send_answer(&mut self, answer: Answer) {
        let Answer { since, bytes, to } = answer;
        let sent = match to {
            AnswerTo::Shard(shard, item) => {
                self.mesh.try_send(shard, item).map_err(|item| AnswerTo::Shard(shard, item))
            }
            AnswerTo::Peer(pair, _) if !self.exchanger.is_connected(pair).0 => Ok(()),
            AnswerTo::Peer(pair, item) => {
                self.exchanger.send(pair, item).map_err(|item| AnswerTo::Peer(pair, item))
            }
        };
        if let Err(to) = sent {
            purlin_rsm::sometimes!("answer to a batch waits for room");
            self.requests.late.push(Answer { since, bytes, to });
        }
    }
}

/// What an outcome takes beside its result, about.
const OUTCOME_OVERHEAD: usize = 32;

/// What became of a batch.
#[derive(Debug)]
pub(crate) enum BatchAnswer {
    /// None of it was taken: try again.
    Bounced,
    /// None of it was taken, since there is too much to do.
    Busy,
    /// One outcome for each request.
    Done(Vec<Outcome>),
}

impl From<BatchAnswer> for ForwardAnswer {
    fn from(answer: BatchAnswer) -> Self {
        use purlin_transport::Outcome as Wire;
        let wire = |outcome: Outcome| match outcome {
            Ok(result) => Wire::Applied(result),
            Err(RequestError::Unknown { term, index, .. }) => Wire::Unknown { term, index },
            Err(_) => Wire::NotApplied,
        };
        match answer {
            BatchAnswer::Bounced => Self::Bounced { leader: None },
            BatchAnswer::Busy => Self::Busy,
            BatchAnswer::Done(outcomes) => Self::Done(outcomes.into_iter().map(wire).collect()),
        }
    }
}

impl BatchAnswer {
    /// About how much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Bounced | Self::Busy => OUTCOME_OVERHEAD,
            Self::Done(outcomes) => outcomes
                .iter()
                .map(|outcome| OUTCOME_OVERHEAD + outcome.as_ref().map_or(0, Bytes::len))
                .sum(),
        }
    }

    /// As it came from a peer, for a batch to `group`.
    pub(crate) fn from_wire(answer: ForwardAnswer, group: GroupId) -> Self {
        use purlin_transport::Outcome as Wire;
        let outcome = |outcome| match outcome {
            Wire::Applied(result) => Ok(result),
            Wire::NotApplied => Err(RequestError::NotApplied),
            Wire::Unknown { term, index } => Err(RequestError::Unknown { group, term, index }),
        };
        match answer {
            ForwardAnswer::Bounced { .. } => Self::Bounced,
            ForwardAnswer::Busy => Self::Busy,
            ForwardAnswer::Done(outcomes) => {
                Self::Done(outcomes.into_iter().map(outcome).collect())
            }
        }
    }
}
