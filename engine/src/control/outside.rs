//! What those outside a shard see of it and ask of it: the shard's end.

use crate::{
    control::{
        histogram::Histogram,
        news::News,
        port::{ControlRequest, ShardControl},
        status::ShardStatus,
        view::NodeView,
    },
    error::{Error, ErrorKind},
    node::board::Board,
};
use purlin_rsm::ShardId;
use std::{mem, sync::Arc, time::Duration};

/// See the module. Its drop refuses everything that waits, however the shard has ended.
pub(crate) struct Outside {
    /// Who leads its groups, for the other shards and for callers.
    pub(crate) board: Arc<Board>,
    view: NodeView,
    control: ShardControl,
    /// The status before the published one, to be filled anew.
    spare: Arc<ShardStatus>,
    /// How long each turn took.
    turns: Histogram,
    news: News,
}

impl Outside {
    /// The end of shard `shard` of a node.
    ///
    /// # Panics
    /// When the node has no such shard.
    pub(crate) fn new(view: NodeView, shard: ShardId) -> Self {
        let control = view.control(shard).expect("a shard of this node").clone();
        Self {
            board: view.board().clone(),
            view,
            control,
            spare: Arc::default(),
            turns: Histogram::default(),
            news: News::default(),
        }
    }

    /// All that the node shows, for others.
    pub(crate) fn view(&self) -> &NodeView {
        &self.view
    }

    /// The shard has made one turn.
    pub(crate) fn turned(&mut self, time: Duration) {
        self.turns.record(time);
    }

    pub(crate) fn turns(&self) -> &Histogram {
        &self.turns
    }

    /// The next request.
    pub(crate) fn next_request(&self) -> Option<ControlRequest> {
        self.control.next_request()
    }

    /// Requests that wait.
    pub(crate) fn requests(&self) -> usize {
        self.control.requests()
    }

    /// A status to fill and to publish: the one before the last, unless somebody reads it still.
    pub(crate) fn spare(&mut self) -> ShardStatus {
        Arc::get_mut(&mut self.spare).map(mem::take).unwrap_or_default()
    }

    /// Publishes a status, and logs what is new in it. `name` is the shard, for people.
    pub(crate) fn publish(&mut self, name: &str, status: ShardStatus) {
        self.news.tell(name, &status);
        match Arc::get_mut(&mut self.spare) {
            Some(spare) => *spare = status,
            None => self.spare = Arc::new(status),
        }
        self.control.publish(&mut self.spare);
    }

    /// The shard has stopped: this is its last status.
    pub(crate) fn close(&self, last: ShardStatus) {
        self.control.close(last);
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        if !self.control.is_stopped() {
            // It did not say why it ends: a bug ends it, or its host has dropped it.
            self.control.fail(ended(self.control.latest().shard));
        }
    }
}

fn ended(shard: ShardId) -> Error {
    Error::new(
        ErrorKind::Bug,
        format!("shard {shard} ended without a reason"),
        "this process",
        "what was acknowledged is durable on a majority; the groups' other replicas go on",
        "look for the first error in the log, and start the node again",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{answer::ControlError, port::CONTROL_CAPACITY, status::ShardState};
    use futures_lite::future::{block_on, poll_once};
    use purlin_rsm::{GroupId, NodeId};

    fn outside() -> (Outside, ShardControl) {
        let control = ShardControl::new(Arc::default(), ShardStatus::default());
        let view = NodeView::new(NodeId(1), Arc::new(Board::new(1)), [control.clone()].into());
        (Outside::new(view, ShardId(0)), control)
    }

    #[test]
    fn requests_beyond_the_queue_are_refused_and_make_room_when_answered() {
        let (outside, control) = outside();
        let waiting: Vec<_> = (0..CONTROL_CAPACITY).map(|_| control.status()).collect();
        assert_eq!(outside.requests(), CONTROL_CAPACITY);
        let refused = block_on(control.group(GroupId(1)));
        assert!(matches!(refused, Err(ControlError::Busy)), "{refused:?}");
        let Some(ControlRequest::Status(reply)) = outside.next_request() else { panic!() };
        reply.send(Ok(ShardStatus { beat: 7, ..ShardStatus::default() }));
        let mut waiting = waiting.into_iter();
        let first = waiting.next().expect("the first");
        assert_eq!(block_on(first).map(|status| status.beat), Ok(7));
        let mut again = control.group(GroupId(1));
        assert!(block_on(poll_once(&mut again)).is_none(), "it was taken");
        drop(outside);
        assert!(waiting.all(|answer| matches!(block_on(answer), Err(ControlError::Stopped))));
        assert!(matches!(block_on(again), Err(ControlError::Stopped)));
    }

    #[test]
    fn a_shard_that_has_stopped_says_so_and_keeps_its_last_status() {
        let (outside, control) = outside();
        let before = control.groups(GroupId(1));
        outside.close(ShardStatus { beat: 9, state: ShardState::Stopped, ..Default::default() });
        assert!(matches!(block_on(before), Err(ControlError::Stopped)));
        assert!(matches!(block_on(control.status()), Err(ControlError::Stopped)));
        drop(outside);
        let latest = control.latest();
        assert!(latest.beat == 9 && matches!(latest.state, ShardState::Stopped), "{latest:?}");
    }

    #[test]
    fn a_shard_that_ends_without_a_word_has_failed() {
        let (mut outside, control) = outside();
        outside.publish("n1 s0", ShardStatus { beat: 3, ..ShardStatus::default() });
        drop(outside);
        let latest = control.latest();
        assert!(latest.beat == 3 && matches!(latest.state, ShardState::Failed(_)), "{latest:?}");
    }

    #[test]
    fn a_status_is_published_whoever_reads_the_one_before() {
        let (mut outside, control) = outside();
        let mut read = Vec::new();
        for beat in 1..=5 {
            let status = ShardStatus { beat, ..outside.spare() };
            outside.publish("n1 s0", status);
            read.push(control.latest());
        }
        assert!(read.iter().map(|status| status.beat).eq(1..=5), "none changes in a reader's hand");
    }

    /// A shard that waited for a reader would let its groups wait.
    #[test]
    fn a_reader_never_keeps_the_shard_waiting() {
        let (mut outside, control) = outside();
        let reader = control.hold();
        outside.publish("n1 s0", ShardStatus { beat: 1, ..ShardStatus::default() });
        drop(reader);
        assert_eq!(control.latest().beat, 0, "left out");
        outside.publish("n1 s0", ShardStatus { beat: 2, ..ShardStatus::default() });
        assert_eq!(control.latest().beat, 2);
    }

    #[test]
    fn an_answer_that_does_not_come_in_time_is_late() {
        let (_outside, control) = outside();
        let late = control.group(GroupId(1)).wait(Duration::ZERO);
        assert_eq!(late, Err(ControlError::Late));
    }
}
