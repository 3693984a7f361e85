//! The command line.

use crate::{cluster::ClusterOptions, sim::Fault};
use clap::Parser;
use std::{fmt::Write as _, ops::Range, time::Duration};

/// Runs seeds of the simulator, on all cores.
#[derive(Clone, Debug, Parser)]
pub struct Arguments {
    /// Replays one seed.
    #[arg(long, conflicts_with = "seeds")]
    pub seed: Option<u64>,
    /// Runs the seeds A..B.
    #[arg(long, value_parser = range, default_value = "0..300")]
    pub seeds: Range<u64>,
    /// Simulated seconds in which things go wrong, instead of those that each seed draws.
    #[arg(long, value_parser = seconds)]
    pub seconds: Option<Duration>,
    /// Faults that do not occur, by name, with commas between.
    #[arg(long, value_delimiter = ',')]
    pub without: Vec<Fault>,
    /// Stops at the first seed that fails.
    #[arg(long)]
    pub first: bool,
    /// Leaves the seeds that fail as they are.
    #[arg(long)]
    pub no_shrink: bool,
    /// Fails when a named state is not reached by any seed.
    #[arg(long)]
    pub all_reached: bool,
    /// Prints the history of the seed.
    #[arg(long)]
    pub trace: bool,
    /// Prints what the nodes log, while the seed runs.
    #[arg(long)]
    pub log: bool,
}

impl Arguments {
    /// Changes what a seed has drawn.
    pub fn change(&self, options: &mut ClusterOptions) {
        options.turmoil = self.seconds.unwrap_or(options.turmoil);
        options.faults.kinds.retain(|kind| !self.without.contains(kind));
    }
}

/// The arguments that replay a seed with these options.
pub(super) fn to_replay(seed: u64, options: &ClusterOptions) -> String {
    let mut text = format!("--seed {seed} --seconds {}", options.turmoil.as_secs_f64());
    let mut without = ClusterOptions::draw(seed).faults.kinds;
    without.retain(|kind| !options.faults.kinds.contains(kind));
    let without: Vec<String> = without.into_iter().map(|kind| kind.to_string()).collect();
    if !without.is_empty() {
        let _ = write!(text, " --without {}", without.join(","));
    }
    text
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let parse =
        |number: &str| number.parse::<u64>().map_err(|error| format!("{number:?}: {error}"));
    let (from, to) = text.split_once("..").ok_or("a range is written A..B")?;
    let range = parse(from)?..parse(to)?;
    if range.is_empty() { Err("there is no seed in it".to_owned()) } else { Ok(range) }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|error| format!("{error}"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_replays_a_seed_parses_to_the_same_options() {
        let mut options = ClusterOptions::draw(7);
        options.turmoil = Duration::from_micros(1_234_567);
        options.faults.kinds.truncate(2);
        let words = to_replay(7, &options);
        let arguments = Arguments::parse_from(["sim"].into_iter().chain(words.split(' ')));
        let mut again = ClusterOptions::draw(arguments.seed.expect("it names the seed"));
        arguments.change(&mut again);
        assert_eq!(format!("{again:?}"), format!("{options:?}"));
    }

    #[test]
    fn ranges_that_are_none_are_refused() {
        assert_eq!(range("3..5"), Ok(3..5));
        for wrong in ["3", "a..5", "3..", "5..3", "3..3"] {
            assert!(range(wrong).is_err(), "{wrong}");
        }
    }
}
