//! Makes a failing run small: removes the faults that the failure does not need, and shortens the
//! run.

use super::{Explorer, arguments};
use crate::cluster::{ClusterOptions, Report, Subject};

/// How often the end is cut.
const CUTS: u32 = 10;

impl<S: Subject, F: Fn(u64) -> S + Sync> Explorer<F> {
    /// The smallest options found with which the seed still fails, and how it does.
    pub(super) fn shrink(&self, seed: u64, options: ClusterOptions) -> (ClusterOptions, Report) {
        let report = self.run(seed, &options);
        let run = |options: &ClusterOptions| self.run(seed, options);
        let mut smallest = Smallest { run, options, report, runs: 1 };
        smallest.drop_faults();
        smallest.cut_the_end();
        let Smallest { options, report, runs, .. } = smallest;
        println!("made small in {runs} runs: {}", arguments::to_replay(seed, &options));
        (options, report)
    }
}

struct Smallest<R> {
    run: R,
    options: ClusterOptions,
    report: Report,
    runs: u32,
}

impl<R: Fn(&ClusterOptions) -> Report> Smallest<R> {
    /// Whether it still fails with a change, which then stays.
    fn still_fails(&mut self, change: impl FnOnce(&mut ClusterOptions)) -> bool {
        let mut options = self.options.clone();
        change(&mut options);
        let report = (self.run)(&options);
        self.runs += 1;
        let fails = !report.violations.is_empty();
        if fails {
            (self.options, self.report) = (options, report);
        }
        fails
    }

    fn drop_faults(&mut self) {
        for fault in self.options.faults.kinds.clone() {
            self.still_fails(|options| options.faults.kinds.retain(|kind| *kind != fault));
        }
    }

    /// Halves the time while that goes; else cuts off less and less.
    fn cut_the_end(&mut self) {
        let mut cut = 0.5;
        for _ in 0..CUTS {
            if !self.still_fails(|options| options.turmoil = options.turmoil.mul_f64(1.0 - cut)) {
                cut /= 2.0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::Fault;
    use std::time::Duration;

    #[test]
    fn what_a_failure_does_not_need_is_left_out() {
        let fails = |options: &ClusterOptions| {
            let needed = options.faults.kinds.contains(&Fault::PowerCut)
                && options.turmoil >= Duration::from_secs(7);
            let violations = if needed { vec!["it fails".to_owned()] } else { Vec::new() };
            Report { violations, ..Report::default() }
        };
        let mut options = ClusterOptions::calm(3, 1);
        options.faults.kinds = Fault::ALL.to_vec();
        options.turmoil = Duration::from_secs(60);
        let report = fails(&options);
        let mut smallest = Smallest { run: fails, options, report, runs: 1 };
        smallest.drop_faults();
        smallest.cut_the_end();
        assert_eq!(smallest.options.faults.kinds, [Fault::PowerCut]);
        assert!(
            smallest.options.turmoil < Duration::from_secs(8),
            "{:?}",
            smallest.options.turmoil
        );
        assert!(!smallest.report.violations.is_empty());
    }
}
