//! The first and the last phase of a run: faults strike; the checkers judge.

use super::{Cluster, Report, Subject};
use crate::{
    checker::linearizability::{self, Verdict},
    sim::{Crash, Nemesis, Outcome, World},
};
use purlin::reach::Counts;
use std::rc::Rc;

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
        let mut violations = judges.violations.take();
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
            reached: Counts::new(),
            lines: world.lines(),
        }
    }
}
