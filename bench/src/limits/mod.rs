//! `purlin-bench limits`: what this machine can do, and what it allows for a load.
//!
//! ```text
//! sample   how long a cell is measured
//! disk ─┐
//! tcp  ─┼─► formula ─► report
//! cpu  ─┘                    └─► achieved   a later load beside them
//! ```
//!
//! No server takes part. The whole run is bounded: in time by the number of cells, and in disk space by
//! [`disk::FILES`] files of [`disk::FILE_BYTES`].

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::host::HostFacts;
use crate::signals::Signals;

pub mod sample;

pub mod cpu;
pub mod disk;
pub mod tcp;

pub mod formula;
pub mod report;

pub mod achieved;

use disk::Files;
use formula::{Limits, Load, Measured};
use report::LimitsReport;
use sample::Bounds;

/// The options of `purlin-bench limits`.
#[derive(Clone, Debug, Args)]
pub struct LimitsOptions {
    /// An existing directory on the disk to measure. The files in it take 48 MiB, and have no names
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,

    /// How long each cell is measured, above 0 and at most 10 s; there are 74 cells at most
    #[arg(long, value_name = "SECONDS", default_value_t = 0.2, value_parser = seconds)]
    pub seconds: f64,

    /// Write the result as JSON to this file; `-` is standard output, and the text goes to standard error
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// The limits are for so many shards in a node
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = count(1024))]
    pub shards: u64,

    /// The limits are for so many nodes, all on this machine
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = count(9))]
    pub nodes: u64,

    /// The limits are for so many connections
    #[arg(short, long, value_name = "N", default_value_t = 64, value_parser = count(50_000))]
    pub clients: u64,

    /// The limits are for so many operations in one write of a connection
    #[arg(short = 'P', long, value_name = "N", default_value_t = 1, value_parser = count(10_000))]
    pub pipeline: u64,

    /// The limits are for values of so many bytes
    #[arg(short = 'd', long, value_name = "BYTES", default_value_t = 16, value_parser = count(1 << 20))]
    pub value_size: u64,
}

/// Why there are no limits.
#[derive(Debug)]
pub enum LimitsError {
    /// A signal ended the run; its number.
    Interrupted(i32),
    /// A part of the machine could not be measured.
    Io {
        /// The part: a directory, or loopback.
        place: String,
        /// What the operating system said.
        error: io::Error,
    },
    /// The measurements do not suffice. The text says which is missing.
    Incomplete(String),
}

/// The most cells that a run measures.
pub fn cells() -> usize {
    disk::loads().count() + tcp::CELLS + cpu::CELLS
}

/// Measures all, and applies the formulas.
///
/// # Errors
/// See [`LimitsError`].
pub fn run(options: &LimitsOptions, signals: &Signals) -> Result<LimitsReport, LimitsError> {
    let host = HostFacts::read();
    let has_ended = || signals.seen().is_some();
    let bounds = Bounds { time: Duration::from_secs_f64(options.seconds), has_ended: &has_ended };
    let load = options.load();
    let measured = measure(options, &host, load.value_bytes, bounds);
    // An interrupted run has cells without enough samples: they are not shown.
    if let Some(signal) = signals.seen() {
        return Err(LimitsError::Interrupted(signal));
    }
    let measured = measured?;
    let limits = Limits::of(&measured, &load).map_err(LimitsError::Incomplete)?;
    Ok(LimitsReport::new(host, options.seconds, measured, load, limits))
}

fn measure(
    options: &LimitsOptions,
    host: &HostFacts,
    value_bytes: usize,
    bounds: Bounds<'_>,
) -> Result<Measured, LimitsError> {
    let at = |place: String| move |error| LimitsError::Io { place, error };
    let dir = options.dir.display().to_string();
    let files = Files::create(&options.dir).map_err(at(dir.clone()))?;
    let mut cells = Vec::new();
    for load in disk::loads().take_while(|_| !(bounds.has_ended)()) {
        cells.extend(files.measure(load, bounds).map_err(at(dir.clone()))?);
    }
    let tcp = tcp::measure(bounds).map_err(at("TCP on loopback".to_owned()))?;
    let cpu = cpu::measure(value_bytes, bounds);
    Ok(Measured { cores: host.cores, is_direct: files.is_direct, disk: cells, tcp, cpu })
}

impl LimitsOptions {
    fn load(&self) -> Load {
        Load {
            shards: self.shards as usize,
            nodes: self.nodes as usize,
            clients: self.clients as usize,
            pipeline: self.pipeline as usize,
            value_bytes: self.value_size as usize,
        }
    }
}

fn count(most: u64) -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(1..=most)
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if seconds > 0.0 && seconds <= 10.0 => Ok(seconds),
        _ => Err("say a number above 0 and at most 10, as in 0.2".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_run_is_bounded() {
        assert_eq!(cells(), 74);
        let default = 0.2;
        assert!(cells() as f64 * default < 20.0, "the rest of 30 s is for making the files");
    }

    #[test]
    fn times_that_measure_nothing_or_take_too_long_are_refused() {
        assert_eq!(seconds("0.2"), Ok(0.2));
        assert!(["0", "-1", "11", "NaN", "x"].iter().all(|text| seconds(text).is_err()));
    }
}
