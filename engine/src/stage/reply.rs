//! Stage 6: outcomes to their callers, on this core, on another shard, or at another node.

use crate::{
    mesh::MeshItem,
    request::{Outcome, RequestError},
    runtime::Runtime,
    shard::Shard,
    ticket::BatchOrigin,
};
use purlin_rsm::GroupId;
use purlin_transport::{ForwardAnswer, ForwardReply, Outbound};

impl<R: Runtime> Shard<R> {
    /// Sends the outcomes of batches that are complete, and wakes the callers on this core, each once.
    pub(crate) fn reply(&mut self) {
        for batch in self.requests.taken.take_complete() {
            self.answer_batch(batch.origin, BatchAnswer::Done(batch.take_outcomes()));
        }
        self.requests.foreign.answer();
        self.requests.desk.notify_answered();
    }

    /// Answers a batch from elsewhere. An answer that finds no way is lost: its origin gives the batch
    /// up by the deadline, or when the connection is lost.
    pub(crate) fn answer_batch(&mut self, origin: BatchOrigin, answer: BatchAnswer) {
        match origin {
            BatchOrigin::Shard(shard, batch) => {
                let _lost = self.mesh.try_send(shard, MeshItem::Answer { batch, answer });
            }
            BatchOrigin::Peer(pair, id) => {
                let reply = ForwardReply { id, answer: answer.into() };
                let _lost = self.exchanger.send(pair, Outbound::ForwardReply(reply));
            }
        }
    }
}

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
