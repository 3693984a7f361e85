//! Replies to other shards that have found a full channel. If they were dropped, the other shard would
//! time out requests that were applied.

use crate::{control::status::Level, edge::other_shard::OtherShard};
use bytes::Bytes;
use purlin_rsm::{Outcome, Tick};
use purlin_transport::{BatchOutcome, BatchReply};

/// Replies beyond these bounds are dropped, and their requests end by their deadline.
const LATE_MAX: usize = 4096;
const LATE_BYTES_MAX: usize = 64 << 20;
/// What an outcome takes beside its result, about.
const OUTCOME_OVERHEAD: usize = 32;

/// See the module.
#[derive(Default)]
pub(crate) struct LateReplies {
    replies: Vec<LateReply>,
    bytes: usize,
    /// They stand in the queue of deadlines.
    has_deadline: bool,
}

/// A reply to another shard.
pub(crate) struct LateReply {
    /// When it was first sent.
    pub(crate) since: Tick,
    pub(crate) to: OtherShard,
    pub(crate) reply: BatchReply,
    /// About how much memory it takes, once it was counted: it may be tried in many turns.
    pub(crate) bytes: Option<usize>,
}

impl LateReply {
    /// A reply that is sent for the first time.
    pub(crate) fn new(since: Tick, to: OtherShard, reply: BatchReply) -> Self {
        Self { since, to, reply, bytes: None }
    }

    fn counted(&self) -> usize {
        self.bytes.unwrap_or_else(|| self.bytes())
    }

    fn bytes(&self) -> usize {
        let BatchOutcome::Done(outcomes) = &self.reply.outcome else { return OUTCOME_OVERHEAD };
        let bytes = |outcome: &Outcome| OUTCOME_OVERHEAD + outcome.as_ref().map_or(0, Bytes::len);
        outcomes.iter().map(bytes).sum()
    }
}

impl LateReplies {
    /// Keeps a reply, if there is room for it.
    pub(crate) fn push(&mut self, late: LateReply) {
        let counted = late.counted();
        let bytes = self.bytes + counted;
        if self.replies.len() < LATE_MAX && bytes <= LATE_BYTES_MAX {
            self.bytes = bytes;
            self.replies.push(LateReply { bytes: Some(counted), ..late });
        }
    }

    /// How many there are, and their bound.
    pub(crate) fn level(&self) -> Level {
        Level { now: self.replies.len(), max: LATE_MAX }
    }

    /// Moves all out, to be sent again in their order.
    pub(crate) fn take(&mut self) -> Vec<LateReply> {
        self.bytes = 0;
        std::mem::take(&mut self.replies)
    }

    /// When the oldest was first sent, if they are not in the queue of deadlines yet: they are from now
    /// on.
    pub(crate) fn watch(&mut self) -> Option<Tick> {
        if self.has_deadline {
            return None;
        }
        let oldest = self.replies.iter().map(|late| late.since).min();
        self.has_deadline = oldest.is_some();
        oldest
    }

    /// Drops replies that were first sent before `limit`: nobody waits for them any more.
    /// They have left the queue of deadlines.
    pub(crate) fn expire(&mut self, limit: Tick) {
        self.has_deadline = false;
        self.replies.retain(|late| late.since >= limit);
        self.bytes = self.replies.iter().map(LateReply::counted).sum();
    }

    /// Whether the count of bytes is the sum over the replies, and both are within their bounds.
    pub(crate) fn check(&self) -> Result<(), String> {
        let bytes: usize = self.replies.iter().map(LateReply::bytes).sum();
        if self.bytes != bytes || bytes > LATE_BYTES_MAX || self.replies.len() > LATE_MAX {
            return Err(format!(
                "late replies: {} with {bytes} bytes, counted as {}; bounds {LATE_MAX} and {LATE_BYTES_MAX}",
                self.replies.len(),
                self.bytes
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use purlin_rsm::ShardId;

    fn late(since: u64, bytes: usize) -> LateReply {
        let outcome = BatchOutcome::Done(vec![Ok(Bytes::from(vec![0; bytes]))]);
        let to = OtherShard::OfThisNode(ShardId(1));
        LateReply::new(Tick(since), to, BatchReply { id: 1, outcome })
    }

    #[test]
    fn late_replies_are_bounded_and_forgotten_after_their_deadline() {
        let mut replies = LateReplies::default();
        (0..5).for_each(|since| replies.push(late(since, 20 << 20)));
        assert_eq!((replies.watch(), replies.watch()), (Some(Tick(0)), None));
        replies.expire(Tick(1));
        replies.push(late(9, 1));
        assert_eq!(replies.check(), Ok(()));
        let kept = replies.take().iter().map(|late| late.since.0).collect::<Vec<_>>();
        assert_eq!(kept, [1, 2, 9], "three of five fit, and the first of them was late");
        assert!(replies.take().is_empty());
        (0..5000).for_each(|since| replies.push(late(since, 0)));
        assert_eq!(replies.take().len(), LATE_MAX);
    }

    /// It may come back in each turn until its deadline.
    #[test]
    fn the_outcomes_of_a_reply_are_counted_once() {
        let mut replies = LateReplies::default();
        replies.push(late(0, 10));
        let first = replies.take().remove(0);
        assert_eq!(first.bytes, Some(42));
        replies.push(LateReply { bytes: Some(7), ..first });
        assert_eq!(replies.bytes, 7, "it is not counted anew");
    }

    #[test]
    fn a_wrong_count_of_bytes_is_named() {
        let mut replies = LateReplies::default();
        replies.push(late(0, 10));
        replies.bytes += 1;
        assert!(replies.check().unwrap_err().contains("42 bytes, counted as 43"));
    }
}
