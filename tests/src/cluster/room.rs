//! At rest a shard takes in as many requests as it ever does: whatever has ended has made room, in the
//! counters of its callers, of batches that it accepted from others, and of its channels.

use super::{Cluster, Subject, recovery::PROBE_PAUSE};
use crate::sim::{Outcome, SimRuntime, World};
use purlin::{Completion, GroupId, NodeId, RequestError, Runtime as _, ShardId};
use std::{cell::RefCell, collections::BTreeSet, rc::Rc};

impl<S: Subject> Cluster<S> {
    /// Each shard of these nodes that has small limits must take in all that it may, at last.
    pub(super) fn expect_room(self: &Rc<Self>, world: &World, core: &[NodeId]) {
        let full: Rc<RefCell<BTreeSet<(NodeId, ShardId)>>> = Rc::default();
        // To fill large limits takes long.
        let is_small = |at: &(NodeId, ShardId)| self.options.limits_of(at.0).are_small();
        for at in self.shards_of(core).into_iter().filter(is_small) {
            let (cluster, full, runtime) = (self.clone(), full.clone(), world.outside());
            full.borrow_mut().insert(at);
            world.outside().spawn(async move {
                // What was given up before, by a client or by its link, ends by its deadline.
                while !cluster.has_room(&runtime, at).await {
                    runtime.sleep(PROBE_PAUSE).await;
                }
                full.borrow_mut().remove(&at);
            });
        }
        if self.run_while_reviving(world, || full.borrow().is_empty()) != Outcome::Reached {
            let full = full.borrow();
            self.violation(format!("at rest, and still busy: {full:?}"));
        }
    }

    /// Whether a shard takes in all that it may. Each request has a caller of its own: one that has many leaves
    /// room to others. A leader at another node may take less, and says so of what it was sent.
    async fn has_room(&self, runtime: &SimRuntime, at: (NodeId, ShardId)) -> bool {
        let Some(local) = self.processes.locals.borrow().get(&at).cloned() else {
            return false;
        };
        let most = self.options.limits_of(at.0).requests_max;
        let [_, query] = self.subject.probe("room");
        let takes_all = |group: GroupId| {
            let leader = local.board().group(group).and_then(|it| it.leader);
            leader.is_none_or(|leader| self.options.limits_of(leader).requests_max >= most)
        };
        let filled = async {
            let groups = (0..self.options.groups).cycle().map(|group| GroupId(1 + group));
            let callers = groups.take(most).map(|group| {
                let caller = local.caller();
                caller.submit(group, query.clone(), 0);
                (group, caller)
            });
            let (mut completions, mut is_full) = (Vec::new(), false);
            for (group, caller) in callers.collect::<Vec<_>>() {
                caller.completed().await;
                caller.take_completions(&mut completions);
                let is_refused = |it: Completion| matches!(it.outcome, Err(RequestError::Busy));
                is_full |= completions.drain(..).any(is_refused) && takes_all(group);
            }
            !is_full
        };
        let given_up = async {
            self.lose_patience(runtime).await;
            false
        };
        futures_lite::future::or(filled, given_up).await
    }
}
