//! The options of `purlin-bench in-process`, and why a run has no result.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use purlin::os::RuntimeKind;

use crate::times::duration;

/// The groups of a cluster that own slots are this many at most.
const GROUPS_MAX: u64 = 16_384;
/// A shard takes 49,152 requests of one caller, and one shard may lead all groups.
const IN_FLIGHT_MAX: u64 = 40_000;
/// Commands under way have so many bytes together at most, since a shard takes 64 MiB of requests.
const IN_FLIGHT_BYTES_MAX: u64 = 32 << 20;
/// The logs are never cut, so the length of a run is bounded.
const RUN_MAX: Duration = Duration::from_secs(600);

/// The options of `purlin-bench in-process`.
#[derive(Clone, Debug, Args)]
pub struct InProcessOptions {
    /// How many groups there are
    #[arg(long, value_name = "N", default_value_t = 48, value_parser = count(GROUPS_MAX))]
    pub groups: u64,

    /// How many of them get commands: the first ones [default: all]
    #[arg(long, alias = "active-groups", value_name = "N", value_parser = count(GROUPS_MAX))]
    pub active: Option<u64>,

    /// How many commands are under way, over all groups
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = count(IN_FLIGHT_MAX))]
    pub in_flight: u64,

    /// Bytes of a command
    #[arg(short = 'd', long, value_name = "BYTES", default_value_t = 16, value_parser = count(1 << 20))]
    pub value_size: u64,

    /// How long to measure, as in 30s, 500ms, 2m; with the warm-up 10m at most
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "10s")]
    pub duration: Duration,

    /// How long to run before the measurement
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "2s")]
    pub warmup: Duration,

    /// What the shards run on: glommio or ring
    #[arg(long, value_name = "NAME", value_parser = runtime, default_value = "glommio")]
    pub runtime: RuntimeKind,

    /// An existing directory for the logs of the three nodes; they are removed at the end
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,

    /// Write the result as JSON to this file; `-` is standard output, and the text goes to standard error
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Why there is no result.
#[derive(Debug)]
pub enum InProcessError {
    /// A signal ended the run; its number.
    Interrupted(i32),
    /// The hosts did not start, or one of them failed. The text has four parts.
    Host(purlin::Error),
    /// Something else went wrong.
    Failed {
        /// What.
        what: String,
        /// Where.
        place: String,
    },
}

impl InProcessOptions {
    /// How many groups get commands.
    pub fn active_groups(&self) -> u64 {
        self.active.unwrap_or(self.groups)
    }

    /// Checks what the types cannot check.
    ///
    /// # Errors
    /// The text says what is wrong and what is right.
    pub fn check(&self) -> Result<(), String> {
        if self.duration.is_zero() {
            return Err("--duration 0 would measure nothing: say 1s or more".to_owned());
        }
        if self.duration + self.warmup > RUN_MAX {
            return Err(format!(
                "--duration and --warmup are {} s at most together, since the logs are not cut",
                RUN_MAX.as_secs()
            ));
        }
        if self.active_groups() > self.groups {
            return Err(format!(
                "--active {}: there are {} groups, see --groups",
                self.active_groups(),
                self.groups
            ));
        }
        if self.in_flight * self.value_size > IN_FLIGHT_BYTES_MAX {
            return Err(format!(
                "--in-flight × --value-size may be {} MiB at most",
                IN_FLIGHT_BYTES_MAX >> 20
            ));
        }
        Ok(())
    }
}

fn runtime(name: &str) -> Result<RuntimeKind, String> {
    let is_named = |kind: &RuntimeKind| kind.to_string() == name;
    RuntimeKind::ALL.into_iter().find(is_named).ok_or_else(|| {
        let names = RuntimeKind::ALL.map(|kind| kind.to_string()).join(" nor ");
        format!("it is neither {names}")
    })
}

fn count(most: u64) -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(1..=most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_has_a_name() {
        assert_eq!(runtime("ring"), Ok(RuntimeKind::Ring));
        assert_eq!(runtime("tokio"), Err("it is neither glommio nor ring".to_owned()));
    }
}
