//! The handle of a shard for callers on its own core: no hop, no lock.

use crate::{
    control::{port::ShardControl, view::NodeView},
    edge::{
        caller::{Caller, Callers},
        request::Request,
    },
    node::board::Board,
    runtime::Runtime,
    stop::{StopHold, Stops},
};
use bytes::Bytes;
use purlin_rsm::{GroupId, NodeId, Outcome, ShardId};
use std::{rc::Rc, sync::Arc};

/// See the module. A clone is another handle.
pub struct LocalShard<R: Runtime> {
    pub(crate) runtime: R,
    pub(crate) shard: ShardId,
    pub(crate) callers: Rc<Callers>,
    pub(crate) view: NodeView,
    pub(crate) stops: Rc<Stops>,
}

impl<R: Runtime> Clone for LocalShard<R> {
    fn clone(&self) -> Self {
        Self {
            runtime: self.runtime.clone(),
            shard: self.shard,
            callers: self.callers.clone(),
            view: self.view.clone(),
            stops: self.stops.clone(),
        }
    }
}

impl<R: Runtime> LocalShard<R> {
    /// The core's runtime.
    pub fn runtime(&self) -> &R {
        &self.runtime
    }

    /// The node.
    pub fn node(&self) -> NodeId {
        self.view.node()
    }

    /// The shard.
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// How the node's groups stand.
    pub fn board(&self) -> &Arc<Board> {
        self.view.board()
    }

    /// What the shards of the node show.
    pub fn view(&self) -> &NodeView {
        &self.view
    }

    /// Operators' requests to this shard, and its status.
    pub fn control(&self) -> &ShardControl {
        self.view.control(self.shard).expect("a shard of its node")
    }

    /// Tells its owner when the shard stops, and keeps the shard until the owner has dropped it, for about a second
    /// at most.
    pub fn hold(&self) -> StopHold {
        self.stops.hold()
    }

    /// A new caller: it hands in many requests at a time, and those to one group take effect in order.
    pub fn caller(&self) -> Rc<Caller> {
        self.callers.caller()
    }

    /// Proposes a command to a group and waits for its outcome.
    ///
    /// # Errors
    /// [`crate::RequestError`]: whether it was certainly not applied, or nobody knows.
    pub async fn propose(&self, group: GroupId, command: impl Into<Bytes>) -> Outcome {
        self.request(group, Request::Propose(command.into())).await
    }

    /// Queries a group's state machine, linearizably.
    ///
    /// # Errors
    /// [`crate::RequestError`].
    pub async fn query(&self, group: GroupId, query: impl Into<Bytes>) -> Outcome {
        self.request(group, Request::Query(query.into())).await
    }

    async fn request(&self, group: GroupId, request: Request) -> Outcome {
        let caller = self.caller();
        caller.submit(group, request, 0);
        caller.completed().await;
        let mut completions = Vec::with_capacity(1);
        caller.take_completions(&mut completions);
        completions.pop().expect("a completed request has a completion").outcome
    }
}
