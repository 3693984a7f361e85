//! The log of a server process: text, to the standard error.

use crate::config::{LogFormat, LogLevel, LogOptions};
use std::io::{IsTerminal, stderr};
use tracing_subscriber::filter::LevelFilter;

/// Overrides the level of the configuration.
const LEVEL_VARIABLE: &str = "PURLIN_LOG";

/// Starts logging, once for the process.
pub(super) fn start(options: LogOptions) {
    let asked = std::env::var(LEVEL_VARIABLE).ok();
    let (level, unknown) = level(options.level, asked.as_deref());
    let colours = options.format == LogFormat::Auto && stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_writer(stderr).with_ansi(colours);
    // A second start, in a process that embeds this one, leaves the first as it is.
    let _ = builder.with_max_level(level).try_init();
    if let Some(unknown) = unknown {
        tracing::warn!(
            "{LEVEL_VARIABLE}={unknown} is not a level; the level of the configuration file is used; \
             the levels are off, error, warn, info, debug and trace"
        );
    }
}

/// The level to use, and what was asked for when that is no level.
fn level(configured: LogLevel, asked: Option<&str>) -> (LevelFilter, Option<&str>) {
    match asked.map(|name| LogLevel::parse(name).ok_or(name)) {
        None => (filter(configured), None),
        Some(Ok(level)) => (filter(level), None),
        Some(Err(unknown)) => (filter(configured), Some(unknown)),
    }
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_overrides_the_file() {
        assert_eq!(level(LogLevel::Info, None), (LevelFilter::INFO, None));
        assert_eq!(level(LogLevel::Info, Some("DEBUG")), (LevelFilter::DEBUG, None));
        assert_eq!(level(LogLevel::Info, Some("off")), (LevelFilter::OFF, None));
        assert_eq!(level(LogLevel::Warn, Some("loud")), (LevelFilter::WARN, Some("loud")));
    }
}
