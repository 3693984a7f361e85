//! The options, which are those of `purlin-bench in-process`.

use clap::Parser;
use std::{path::PathBuf, time::Duration};

/// The load of `purlin-bench in-process` on openraft: three nodes in this process, each with a log file of its own
#[derive(Clone, Debug, Parser)]
pub(crate) struct Options {
    /// How many groups there are
    #[arg(long, value_name = "N", default_value_t = 48, value_parser = clap::value_parser!(u32).range(1..=16_384))]
    pub(crate) groups: u32,

    /// How many commands are under way, over all groups
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=40_000))]
    pub(crate) in_flight: u32,

    /// Bytes of a command
    #[arg(long, value_name = "BYTES", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub(crate) value_size: u32,

    /// How long to measure, as in 500ms, 10s or 1m
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "10s")]
    pub(crate) duration: Duration,

    /// How long to run before the measurement
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "2s")]
    pub(crate) warmup: Duration,

    /// An existing directory for the logs, which are removed at the end
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) dir: PathBuf,

    /// Write the result as JSON to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|letter: char| !letter.is_ascii_digit());
    let number = digits.parse::<u32>().map_err(|_| "give a time as 500ms, 10s or 1m".to_owned())?;
    match &text[digits.len()..] {
        "ms" => Ok(Duration::from_millis(number.into())),
        "s" => Ok(Duration::from_secs(number.into())),
        "m" => Ok(Duration::from_secs(u64::from(number) * 60)),
        _ => Err("give a time as 500ms, 10s or 1m".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit() {
        for (text, millis) in [("500ms", 500), ("10s", 10_000), ("2m", 120_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "10", "s", "1h", "-1s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
