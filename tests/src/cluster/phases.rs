//! The phases of a run: faults strike; none does and everything must work again; the checkers judge.

use super::{Cluster, Report, Subject};
use crate::{
    checker::linearizability::{self, Verdict},
    sim::{Crash, Nemesis, Outcome, SimRuntime, World},
};
use purlin::{GroupId, NodeId, Runtime as _, ShardId};
use std::{cell::RefCell, collections::BTreeSet, rc::Rc, time::Duration};

/// After the faults have ended, everything must work again within this simulated time.
const RECOVERY: Duration = Duration::from_secs(60);
/// How long a probe waits for one shard's answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// The search for an order of one key's operations gives up after so many steps.
const CHECK_STEPS: u64 = 2_000_000;
/// More violations of one run tell nothing new.
const VIOLATIONS_MAX: usize = 20;

impl<S: Subject> Cluster<S> {
    /// Faults strike, and then end.
    pub(super) fn turmoil(self: &Rc<Self>, world: &World) {
        let mut nemesis = Nemesis::new(self.options.faults.clone());
        let end = world.now() + self.options.turmoil;
        while world.now() < end && world.panics().is_empty() {
            let pause = nemesis.act(world).min(end.saturating_sub(world.now()));
            match world.run_for(pause) {
                Outcome::BudgetExhausted => {
                    return self.violation("a task spins without waiting for anything");
                }
                Outcome::Panicked => return,
                Outcome::Reached | Outcome::TimeReached | Outcome::Quiescent => {}
            }
        }
        nemesis.calm(world);
        for node in self.processes.stopped.take() {
            world.crash(node, Crash::Kill);
            world.restart(node);
        }
    }

    /// Everything must work again: each group takes a write at each node, and all replicas become equal.
    pub(super) fn recover(self: &Rc<Self>, world: &World, nodes: &[NodeId]) {
        if !world.panics().is_empty() {
            return;
        }
        let missing: Rc<RefCell<BTreeSet<(NodeId, GroupId)>>> = Rc::default();
        for node in nodes {
            for group in (1..=self.options.groups).map(GroupId) {
                let (cluster, missing, node) = (self.clone(), missing.clone(), *node);
                let runtime = world.outside();
                missing.borrow_mut().insert((node, group));
                world.outside().spawn(async move {
                    cluster.probe(&runtime, node, group).await;
                    missing.borrow_mut().remove(&(node, group));
                });
            }
        }
        if self.run_while_reviving(world, || missing.borrow().is_empty()) != Outcome::Reached {
            let missing = missing.borrow();
            return self.violation(format!(
                "no write {RECOVERY:?} after the last fault, (node, group): {missing:?}"
            ));
        }
        self.is_over.set(true);
        let states = || self.judges.states.borrow().all_equal(nodes);
        if world.run_until(RECOVERY, || states().is_ok()) != Outcome::Reached
            && let Err(divergence) = states()
        {
            self.violation(format!(
                "replicas differ {RECOVERY:?} after the last write: {divergence}"
            ));
        }
    }

    /// Runs until `condition` holds. A write or sync that was under way when the faults ended may still
    /// fail, and stop its shard: whoever runs the node starts it again, once. A node that stops a second
    /// time stays down, and so shows.
    fn run_while_reviving(&self, world: &World, condition: impl Fn() -> bool) -> Outcome {
        let (end, mut revived) = (world.now() + RECOVERY, BTreeSet::new());
        let stopped = &self.processes.stopped;
        loop {
            let is_anybody_down =
                |seen: &BTreeSet<NodeId>| stopped.borrow().iter().any(|node| !seen.contains(node));
            let left = end.saturating_sub(world.now());
            let outcome = world.run_until(left, || condition() || is_anybody_down(&revived));
            if outcome != Outcome::Reached || condition() {
                return outcome;
            }
            for node in stopped.take() {
                if revived.insert(node) {
                    world.crash(node, Crash::Kill);
                    world.restart(node);
                }
            }
        }
    }

    /// Writes into a group at a node until it is done.
    async fn probe(&self, runtime: &SimRuntime, node: NodeId, group: GroupId) {
        let command = self.subject.probe(&format!("probe-{node}-{group}"));
        loop {
            let local = self.processes.locals.borrow().get(&(node, ShardId(0))).cloned();
            if let Some(local) = local {
                // The shard may have ended with its process, and will never answer.
                let answered = async { local.propose(group, command.clone()).await.is_ok() };
                let given_up = async {
                    runtime.sleep(PATIENCE).await;
                    false
                };
                if futures_lite::future::or(answered, given_up).await {
                    return;
                }
            }
            runtime.sleep(Duration::from_millis(100)).await;
        }
    }

    /// What the checkers say, and the figures.
    pub(super) fn judge(&self, world: &World) -> Report {
        let judges = &self.judges;
        world.panics().iter().for_each(|panic| self.violation(format!("{panic:?}")));
        judges.order.borrow().tell(&mut judges.history.borrow_mut());
        let history = judges.history.borrow();
        let verdict = linearizability::check(&self.subject.model(), &history, CHECK_STEPS);
        match &verdict {
            Verdict::Linearizable => {}
            Verdict::Violation(violation) => self.violation(violation.to_string()),
            Verdict::Inconclusive { key } => {
                world.trace(&format!("the search for an order of {key:?} was given up"));
            }
        }
        judges.audit.scan(world);
        let mut violations = judges.violations.take();
        violations.extend(judges.audit.violations());
        violations.extend(judges.order.borrow().violations(&history));
        violations.truncate(VIOLATIONS_MAX);
        Report {
            violations,
            hash: world.hash(),
            operations: history.counts(),
            inconclusive: usize::from(matches!(verdict, Verdict::Inconclusive { .. })),
            events: world.events(),
            starts: self.processes.starts.get(),
            simulated: world.now(),
            lines: world.lines(),
            audited: judges.audit.counts(),
        }
    }
}
