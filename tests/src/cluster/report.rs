//! The result of a run.

use crate::{
    audit::Counts,
    sim::{Fault, Figures, LogFigures},
};
use purlin_rsm::reach;
use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

/// What a run has shown, or several.
#[derive(Clone, Default, Debug)]
pub struct Report {
    /// What must not have happened. Empty of a good run.
    pub violations: Vec<String>,
    /// Over all events; equal for equal seeds.
    pub hash: u64,
    /// Operations that were done, certainly not applied, and unknown.
    pub operations: (usize, usize, usize),
    /// Runs in which the search for an order of some key's operations was given up: nothing is known
    /// of that key.
    pub inconclusive: usize,
    /// Events of the world.
    pub events: u64,
    /// Starts of nodes.
    pub starts: u64,
    /// Simulated time.
    pub simulated: Duration,
    /// How often what went wrong.
    pub figures: Figures,
    /// How often each fault struck.
    pub faults: BTreeMap<Fault, u64>,
    /// What the nodes logged.
    pub logged: LogFigures,
    /// What was audited.
    pub audited: Counts,
    /// How often each named state was reached.
    pub reached: reach::Counts,
    /// The last lines of the history.
    pub lines: Vec<String>,
}

impl Report {
    /// Adds another run's figures.
    pub fn add(&mut self, other: &Self) {
        let ((a, b, c), (x, y, z)) = (self.operations, other.operations);
        self.operations = (a + x, b + y, c + z);
        self.inconclusive += other.inconclusive;
        self.events += other.events;
        self.starts += other.starts;
        self.simulated += other.simulated;
        self.audited.add(&other.audited);
        self.figures.add(&other.figures);
        self.logged.add(&other.logged);
        for (fault, count) in &other.faults {
            *self.faults.entry(*fault).or_default() += count;
        }
        for (name, count) in &other.reached {
            *self.reached.entry(name).or_default() += count;
        }
    }

    /// The violations in words, for a failed seed.
    pub fn explain(&self, seed: u64) -> String {
        let mut text = format!("seed {seed} fails:\n");
        for violation in &self.violations {
            let _ = writeln!(text, "  {violation}");
        }
        text
    }
}
