//! Stage 6: outcomes to their callers, on this core, on another shard, or at another node.

use crate::{
    edge::{
        requests::{Answer, AnswerTo},
        ticket::BatchOrigin,
    },
    mesh::MeshItem,
    runtime::Runtime,
    shard::Shard,
};
use bytes::Bytes;
use purlin_rsm::Outcome;
use purlin_transport::{BatchOutcome, BatchReply, Outbound};

impl<R: Runtime> Shard<R> {
    /// Sends the outcomes of batches that are complete, and wakes the callers on this core, each once.
    pub(crate) fn reply(&mut self) {
        for answer in self.requests.late.take() {
            self.send_answer(answer);
        }
        for batch in self.requests.taken.take_complete() {
            self.answer_batch(batch.origin, BatchOutcome::Done(batch.take_outcomes()));
        }
        self.requests.foreign.answer();
        self.requests.desk.notify_answered();
    }

    /// Answers a batch from elsewhere.
    pub(crate) fn answer_batch(&mut self, origin: BatchOrigin, outcome: BatchOutcome) {
        let (since, bytes) = (self.requests.desk.now(), bytes(&outcome));
        let to = match origin {
            BatchOrigin::Shard(shard, id) => {
                AnswerTo::Shard(shard, MeshItem::Reply(BatchReply { id, outcome }))
            }
            BatchOrigin::Peer(pair, id) => {
                AnswerTo::Peer(pair, Outbound::ForwardReply(BatchReply { id, outcome }))
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
            AnswerTo::Peer(pair, _) if !self.exchanger.is_outbound_up(pair) => Ok(()),
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

/// About how much memory what became of a batch takes.
fn bytes(outcome: &BatchOutcome) -> usize {
    let BatchOutcome::Done(outcomes) = outcome else { return OUTCOME_OVERHEAD };
    let bytes = |outcome: &Outcome| OUTCOME_OVERHEAD + outcome.as_ref().map_or(0, Bytes::len);
    outcomes.iter().map(bytes).sum()
}
