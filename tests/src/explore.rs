//! Looks for seeds that fail: it runs a range of them on all cores, or one seed again, and it makes
//! a failure small.
//!
//! [`main`] is the whole command line, for any [`Subject`]. The program `sim` is one line around
//! it, and so is a user's own simulator.

mod arguments;
mod range;
mod shrink;
mod timeline;

pub use arguments::Arguments;

use crate::{
    cluster::{self, ClusterOptions, Report, Subject},
    sim, wal,
};
use clap::Parser as _;
use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
};
use tracing_subscriber::fmt::{format::Writer, time::FormatTime};

/// Parses the command line and does what it says, with the subject that `draw` makes for a seed.
/// `command` is how one runs this program, to be told with a failure.
pub fn main<S: Subject>(command: &'static str, draw: impl Fn(u64) -> S + Sync) -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.log {
        let log =
            tracing_subscriber::fmt().with_timer(SimulatedTime).with_target(false).with_ansi(false);
        log.with_max_level(tracing_subscriber::filter::LevelFilter::DEBUG).init();
    }
    let explorer = Explorer { command, draw, arguments };
    match explorer.arguments.seed {
        Some(seed) => explorer.replay(seed),
        None => explorer.run_range(),
    }
}

/// Writes the time of the simulated world before each line that its nodes log.
struct SimulatedTime;

impl FormatTime for SimulatedTime {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        write!(writer, "{:>12.6}", sim::now_for_logs().as_secs_f64())
    }
}

/// Runs seeds as the arguments say.
struct Explorer<F> {
    command: &'static str,
    draw: F,
    arguments: Arguments,
}

impl<S: Subject, F: Fn(u64) -> S + Sync> Explorer<F> {
    fn options(&self, seed: u64) -> ClusterOptions {
        let mut options = ClusterOptions::draw(seed);
        self.arguments.change(&mut options);
        options
    }

    /// A cluster, and the life of one WAL beside it. A panic of the simulator itself is a failure of its
    /// seed as well.
    fn run(&self, seed: u64, options: &ClusterOptions) -> Report {
        let run = || {
            let mut report = cluster::run(seed, (self.draw)(seed), options.clone());
            let life = wal::run(seed);
            report
                .violations
                .extend(life.violations.iter().map(|what| format!("WAL alone: {what}")));
            for (name, count) in life.reached {
                *report.reached.entry(name).or_default() += count;
            }
            report
        };
        catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Report {
            violations: vec!["the simulator itself panicked, see above".to_owned()],
            ..Report::default()
        })
    }

    /// One seed again, with all that there is to be told of it.
    fn replay(&self, seed: u64) -> ExitCode {
        let options = self.options(seed);
        println!("{options:#?}");
        let report = self.run(seed, &options);
        if self.arguments.trace {
            report.lines.iter().for_each(|line| println!("{line}"));
        }
        println!(
            "seed {seed}: hash {:016x}, {} events, {:.1?} simulated, {} starts, operations done, not applied, \
             unknown {:?}",
            report.hash, report.events, report.simulated, report.starts, report.operations
        );
        if report.violations.is_empty() {
            println!("no violation");
            return ExitCode::SUCCESS;
        }
        println!("{}", report.explain(seed));
        timeline::write(self.command, seed, &options, &report);
        ExitCode::FAILURE
    }
}
