//! The first phase of a run, in which faults strike, and the last one, in which the checkers judge.

use super::{Cluster, Report, Subject};
use crate::{
    checker::linearizability::{self, Verdict},
    sim::{Crash, Fault, LogFigures, Nemesis, Outcome, World},
};
use purlin::ErrorKind;
use purlin_rsm::reach::Counts;
use std::{collections::BTreeMap, rc::Rc, time::Duration};

/// The search for an order of one key's operations gives up after so many steps.
const CHECK_STEPS: u64 = 2_000_000;
/// More violations of one run tell nothing new.
const VIOLATIONS_MAX: usize = 20;

impl<S: Subject> Cluster<S> {
    /// Faults strike, and then end. Returns the nemesis, which knows the faults.
    pub(super) fn turmoil(self: &Rc<Self>, world: &World) -> Nemesis {
        let mut nemesis = Nemesis::new(self.options.faults.clone());
        let end = world.now() + self.options.turmoil;
        while world.now() < end && world.panics().is_empty() {
            let pause = nemesis.act(world).min(end.saturating_sub(world.now()));
            match self.run_for(world, pause) {
                Outcome::BudgetExhausted | Outcome::Panicked => break,
                Outcome::Reached | Outcome::TimeReached | Outcome::Quiescent => {}
            }
        }
        nemesis.calm(world);
        for node in self.processes.stopped.take() {
            if !nemesis.corrupted().contains_key(&node) && !world.is_whole(node) {
                world.crash(node, Crash::Kill);
                world.restart(node);
            }
        }
        nemesis
    }

    /// Lets time pass. A task that spins would stop it.
    pub(super) fn run_for(&self, world: &World, duration: Duration) -> Outcome {
        let outcome = world.run_for(duration);
        if outcome == Outcome::BudgetExhausted {
            self.violation("a task spins without waiting for anything");
        }
        outcome
    }

    /// A write or sync that failed on a node's disk may stop its shards, a full one or a process without file descriptors a start, and what has
    /// befallen its bytes; nothing else may. A read that fails is read again, and may meet the next failure.
    pub(super) fn judge_stops(&self, world: &World, nemesis: &Nemesis) {
        nemesis.violations().iter().for_each(|what| self.violation(what));
        let struck = |fault| nemesis.counts().contains_key(&fault);
        let hangs = struck(Fault::HangDisk) || struck(Fault::SlowStart);
        for (node, error) in self.processes.stops.borrow().iter() {
            let failed = world.node(*node).failures();
            let fails = failed.writes || failed.reads > 1;
            let is_allowed = match error.kind {
                ErrorKind::Disk => fails,
                // Two readers of one file: the second look of one meets the failure that was meant for the other.
                ErrorKind::Damage => failed.reads > 1,
                ErrorKind::Environment => fails || failed.space || failed.descriptors,
                // The last writes of a killed process, on a disk that hangs, still hold its files.
                ErrorKind::DataDirectory => hangs,
                _ => false,
            };
            let is_explained =
                nemesis.corrupted().get(node).is_some_and(|it| it.explains(error.kind));
            if !is_allowed && !is_explained {
                self.violation(format!("node {node} stopped: {error}"));
            }
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
            figures: world.figures(),
            faults: BTreeMap::new(),
            simulated: world.now(),
            reached: Counts::new(),
            logged: LogFigures::default(),
            lines: world.lines(),
            audited: judges.audit.counts(),
        }
    }
}
