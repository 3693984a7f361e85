//! Stage 6: hands outcomes to their callers, on this core, on another shard, or at another node.

use crate::{
    edge::{late::LateReply, other_shard::Origin},
    runtime::Runtime,
    shard::Shard,
};
use purlin_transport::{BatchOutcome, BatchReply};

impl<R: Runtime> Shard<R> {
    /// Replies to the batches whose outcomes are complete, and wakes the callers on this core, each once.
    pub(crate) fn reply(&mut self) {
        for late in self.requests.late.take() {
            self.send_reply_or_keep(late);
        }
        for batch in self.requests.accepted.take_complete() {
            let (to, reply) = batch.reply();
            let since = self.requests.callers.now();
            self.send_reply_or_keep(LateReply::new(since, to, reply));
        }
        self.requests.inlet_caller.tell_outcomes();
        self.requests.callers.wake_answered();
        self.requests.callers.timer().replied(|batch| self.requests.accepted.has(batch));
    }

    /// Replies to a batch of another shard at once.
    pub(crate) fn reply_to(&mut self, origin: Origin, outcome: BatchOutcome) {
        let since = self.requests.callers.now();
        let reply = BatchReply { id: origin.id, outcome };
        self.send_reply_or_keep(LateReply::new(since, origin.shard, reply));
    }

    /// Sends a reply; one that finds no room goes out in a later turn.
    fn send_reply_or_keep(&mut self, LateReply { since, to, reply, bytes }: LateReply) {
        if let Err(reply) = self.others.send_reply(to, reply) {
            self.requests.keep_late(LateReply { since, to, reply, bytes });
        }
    }
}
