//! Requests from any thread, with outcomes that can be awaited on any executor or blocked for.

use crate::{
    edge::{
        inlet::{Inbound, Inlet, OutcomeCell},
        request::Request,
    },
    placement::Placement,
    runtime::Runtime,
};
use bytes::Bytes;
use purlin_rsm::{GroupId, Outcome, RequestError};
use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

/// Proposes to and queries the groups of a host, from any thread. A clone is another handle.
///
/// A request goes to its group's leader, wherever that is. Requests of one client are in no order. To
/// order two requests, wait for the outcome of the first, or use a [`Caller`](crate::Caller) on the core.
pub struct Client<R: Runtime> {
    inlets: Arc<[Arc<Inlet<R>>]>,
    max_command: usize,
}

impl<R: Runtime> Clone for Client<R> {
    fn clone(&self) -> Self {
        Self { inlets: self.inlets.clone(), max_command: self.max_command }
    }
}

impl<R: Runtime> Client<R> {
    pub(crate) fn new(inlets: Arc<[Arc<Inlet<R>>]>, max_command: usize) -> Self {
        Self { inlets, max_command }
    }

    /// Proposes a command to a group. Once this returns the command may be applied, whether the
    /// outcome is awaited or dropped.
    pub fn propose(&self, group: GroupId, command: impl Into<Bytes>) -> PendingOutcome {
        self.request(group, Request::Propose(command.into()))
    }

    /// Queries a group's state machine, linearizably: it has applied every command whose outcome came
    /// before this call.
    pub fn query(&self, group: GroupId, query: impl Into<Bytes>) -> PendingOutcome {
        self.request(group, Request::Query(query.into()))
    }

    fn request(&self, group: GroupId, request: Request) -> PendingOutcome {
        let cell = Arc::<OutcomeCell>::default();
        let pending = PendingOutcome(cell.clone());
        let bytes = request.data().len();
        if bytes > self.max_command {
            cell.fill(Err(RequestError::TooLarge { bytes, limit: self.max_command }));
            return pending;
        }
        let shard = Placement::new(self.inlets.len() as u16).shard_of(group);
        let inlet = &self.inlets[usize::from(shard.0)];
        if let Err(Inbound::Request { outcome, .. }) =
            inlet.push(Inbound::Request { group, request, outcome: cell })
        {
            let is_stopped = inlet.is_stopped();
            outcome.fill(Err(if is_stopped { inlet.refusal() } else { RequestError::Busy }));
        }
        pending
    }
}

/// The outcome of a request, to be awaited on any executor or waited for by [`PendingOutcome::wait`]. It
/// always comes. Dropping this takes nothing back.
#[must_use = "an outcome says whether the request was applied"]
pub struct PendingOutcome(Arc<OutcomeCell>);

impl PendingOutcome {
    /// Blocks this thread until the outcome is there.
    ///
    /// # Errors
    /// How the request failed; [`RequestError::Unknown`] when `timeout` passes first.
    pub fn wait(self, timeout: Duration) -> Outcome {
        self.0.wait(timeout).unwrap_or(Err(RequestError::UNKNOWN))
    }
}

impl Future for PendingOutcome {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        self.0.poll(context.waker())
    }
}
