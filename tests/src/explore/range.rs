//! Runs a range of seeds on all cores, shows the progress, and adds up the results.

use super::{Explorer, timeline};
use crate::{
    cluster::{Report, Subject},
    reached,
};
use std::{
    ops::Range,
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// More runs of which the checker says nothing are a failure of their own.
const GIVEN_UP_ONE_IN: u64 = 50;
/// A state that is reached less often by a range is worth naming.
const SELDOM: u64 = 40;
const PROGRESS: Duration = Duration::from_secs(10);

/// What all threads know.
struct Progress {
    seeds: Range<u64>,
    started: Instant,
    next: AtomicU64,
    is_over: AtomicBool,
    sum: Mutex<Sum>,
}

struct Sum {
    report: Report,
    runs: u64,
    failed: Vec<u64>,
    told: Instant,
}

impl Progress {
    fn new(seeds: Range<u64>) -> Self {
        let started = Instant::now();
        let sum = Sum { report: Report::default(), runs: 0, failed: Vec::new(), told: started };
        Self {
            next: AtomicU64::new(seeds.start),
            seeds,
            started,
            is_over: AtomicBool::new(false),
            sum: Mutex::new(sum),
        }
    }

    fn take(&self) -> Option<u64> {
        let seed = self.next.fetch_add(1, Ordering::Relaxed);
        (seed < self.seeds.end && !self.is_over.load(Ordering::Relaxed)).then_some(seed)
    }

    fn add(&self, seed: u64, report: &Report, stops_at_failure: bool) {
        let mut sum = self.sum.lock().expect("no thread panics inside");
        sum.runs += 1;
        sum.report.add(report);
        if !report.violations.is_empty() {
            println!("{}", report.explain(seed));
            sum.failed.push(seed);
            self.is_over.fetch_or(stops_at_failure, Ordering::Relaxed);
        }
        if sum.told.elapsed() >= PROGRESS {
            sum.told = Instant::now();
            let (done, of) = (sum.runs, self.seeds.end - self.seeds.start);
            let pace = done as f64 / self.started.elapsed().as_secs_f64();
            eprintln!("{done} of {of} seeds, {pace:.1} a second, {} failed", sum.failed.len());
        }
    }
}

impl<S: Subject, F: Fn(u64) -> S + Sync> Explorer<F> {
    /// Runs all seeds, and says what came of them.
    pub(super) fn run_range(&self) -> ExitCode {
        let progress = Progress::new(self.arguments.seeds.clone());
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let work = || {
            while let Some(seed) = progress.take() {
                let report = self.run(seed, &self.options(seed));
                progress.add(seed, &report, self.arguments.first);
            }
        };
        std::thread::scope(|scope| (0..cores).for_each(|_| drop(scope.spawn(work))));
        let elapsed = progress.started.elapsed();
        let Sum { report, runs, mut failed, .. } =
            progress.sum.into_inner().expect("no thread panics inside");
        tell(&report, runs, elapsed);
        failed.sort_unstable();
        if let Some(&seed) = failed.first() {
            println!("{} seeds failed: {failed:?}", failed.len());
            self.explain_failure(seed);
            return ExitCode::FAILURE;
        }
        if report.inconclusive as u64 * GIVEN_UP_ONE_IN > runs.max(GIVEN_UP_ONE_IN) {
            println!("the search was given up too often: the checker sees too little");
            return ExitCode::FAILURE;
        }
        let missing = reached::missing(&report.reached);
        let never = reached::RARE.iter().filter(|name| !report.reached.contains_key(**name));
        println!(
            "states reached: {}; never: {:?}",
            report.reached.len(),
            never.collect::<Vec<_>>()
        );
        println!("never, and required: {missing:?}");
        let seldom = report.reached.iter().filter(|(_, count)| **count < SELDOM);
        println!("seldom: {:?}", seldom.collect::<Vec<_>>());
        if self.arguments.all_reached && !missing.is_empty() {
            return ExitCode::FAILURE;
        }
        println!("no violation");
        ExitCode::SUCCESS
    }

    /// Makes the failure small, and writes down what led to it.
    fn explain_failure(&self, seed: u64) {
        let options = self.options(seed);
        let (options, report) = match self.arguments.no_shrink {
            true => (options.clone(), self.run(seed, &options)),
            false => self.shrink(seed, options),
        };
        timeline::write(self.command, seed, &options, &report);
    }
}

fn tell(report: &Report, runs: u64, elapsed: Duration) {
    let (seconds, hours) = (elapsed.as_secs_f64(), report.simulated.as_secs_f64() / 3_600.0);
    println!(
        "{runs} seeds in {seconds:.1} s ({:.1} a second), {hours:.2} simulated hours ({:.2} a minute)",
        runs as f64 / seconds,
        hours / seconds * 60.0
    );
    let (done, not_applied, unknown) = report.operations;
    println!("{} events, {} starts of nodes, {:?}", report.events, report.starts, report.figures);
    let faults = report.faults.iter().map(|(fault, count)| format!("{fault} {count}"));
    println!("faults: {}", faults.collect::<Vec<_>>().join(", "));
    println!("operations: {done} done, {not_applied} not applied, {unknown} unknown");
    println!("{:?}", report.audited);
    println!("{:?}", report.logged);
    println!("the search for an order was given up in {} runs", report.inconclusive);
}
