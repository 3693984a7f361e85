//! Stage 6: outcomes to their callers, on this core, on another shard, or at another node.

use crate::{
    edge::{
        batch::BatchAnswer,
        requests::{Answer, AnswerTo},
        ticket::BatchOrigin,
    },
    mesh::MeshItem,
    runtime::Runtime,
    shard::Shard,
};
use purlin_transport::{ForwardReply, Outbound};

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
