//! Runs seeds of the simulator: one to be replayed, or a range on all cores.

use clap::Parser;
use purlin_tests::cluster::{self, ClusterOptions, KeyValue, Report};
use std::{
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// More runs of which the checker says nothing are a failure of their own.
const GIVEN_UP_ONE_IN: u64 = 50;

/// Runs seeds of the simulator.
#[derive(Parser)]
struct Arguments {
    /// Replays one seed.
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Runs the seeds A..B.
    #[arg(long, value_parser = range)]
    seeds: Option<(u64, u64)>,
    /// Simulated seconds in which things go wrong.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Prints the history of the seed.
    #[arg(long)]
    trace: bool,
    /// Prints what the nodes log, while the seed runs.
    #[arg(long)]
    log: bool,
}

fn range(text: &str) -> Result<(u64, u64), String> {
    let parse =
        |number: &str| number.parse::<u64>().map_err(|error| format!("{number:?}: {error}"));
    let (from, to) = text.split_once("..").ok_or("a range is written A..B")?;
    Ok((parse(from)?, parse(to)?))
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.log {
        let log = tracing_subscriber::fmt().without_time().with_target(false).with_ansi(false);
        log.with_max_level(tracing_subscriber::filter::LevelFilter::DEBUG).init();
    }
    let turmoil = Duration::from_secs(arguments.seconds);
    match (arguments.seed, arguments.seeds) {
        (Some(seed), _) => replay(seed, turmoil, arguments.trace),
        (None, Some((from, to))) => run_range(from, to, turmoil),
        (None, None) => run_range(0, 300, turmoil),
    }
}

fn replay(seed: u64, turmoil: Duration, trace: bool) -> ExitCode {
    let options = ClusterOptions::draw(seed, turmoil);
    println!("{options:#?}");
    let report = cluster::run(seed, KeyValue::draw(seed), options);
    if trace {
        report.lines.iter().for_each(|line| println!("{line}"));
    }
    println!(
        "seed {seed}: hash {:016x}, operations done, not applied, unknown {:?}, {} starts, {} events, {:.1?} simulated",
        report.hash, report.operations, report.starts, report.events, report.simulated
    );
    verdict(&[(seed, report)])
}

fn run_range(from: u64, to: u64, turmoil: Duration) -> ExitCode {
    let (started, next) = (Instant::now(), AtomicU64::new(from));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        let mut failed = Vec::new();
        let mut sum = Report::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= to {
                return (failed, sum);
            }
            let report =
                cluster::run(seed, KeyValue::draw(seed), ClusterOptions::draw(seed, turmoil));
            sum.add(&report);
            if !report.violations.is_empty() {
                println!("{}", report.explain(seed));
                failed.push((seed, report));
            }
        }
    };
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a run catches its own panics"))
            .collect()
    });
    let mut sum = Report::default();
    results.iter().for_each(|(_, part)| sum.add(part));
    let failed: Vec<_> = results.into_iter().flat_map(|(failed, _)| failed).collect();
    let seconds = started.elapsed().as_secs_f64();
    let (done, not_applied, unknown) = sum.operations;
    println!(
        "{} seeds in {seconds:.1} s ({:.1} a second), {:.2} simulated hours, {} starts, {} events",
        to - from,
        (to - from) as f64 / seconds,
        sum.simulated.as_secs_f64() / 3600.0,
        sum.starts,
        sum.events
    );
    println!("operations: {done} done, {not_applied} not applied, {unknown} unknown");
    println!("the search for an order was given up in {} runs", sum.inconclusive);
    if sum.inconclusive as u64 * GIVEN_UP_ONE_IN > (to - from).max(GIVEN_UP_ONE_IN) {
        println!("that is more than one in {GIVEN_UP_ONE_IN}: the checker sees too little");
        return ExitCode::FAILURE;
    }
    verdict(&failed)
}

fn verdict(reports: &[(u64, Report)]) -> ExitCode {
    let failed: Vec<u64> = reports
        .iter()
        .filter(|(_, report)| !report.violations.is_empty())
        .map(|(seed, _)| *seed)
        .collect();
    if failed.is_empty() {
        println!("no violation");
        return ExitCode::SUCCESS;
    }
    reports
        .iter()
        .filter(|(_, report)| !report.violations.is_empty())
        .take(3)
        .for_each(|(seed, report)| println!("{}", report.explain(*seed)));
    println!("{} seeds failed: {failed:?}", failed.len());
    ExitCode::FAILURE
}
