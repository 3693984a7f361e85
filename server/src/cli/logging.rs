//! The log of a server process: text, to the standard error, written by the thread of the log.

use crate::{
    config::{LogFormat, LogLevel, LogOptions},
    error::Failure,
    log_queue::LogQueue,
    output::{flush_log, start_log},
};
use purlin::ErrorKind;
use std::{
    backtrace::{Backtrace, BacktraceStatus},
    io::{self, IsTerminal, stderr},
    panic::{self, PanicHookInfo},
    thread::{self, Thread},
};
use tracing_subscriber::{
    filter::LevelFilter,
    fmt::{
        format::Writer,
        time::{FormatTime, SystemTime},
    },
};

/// Overrides the level of the configuration.
const LEVEL_VARIABLE: &str = "PURLIN_LOG";

/// Starts logging, once for the process.
pub(super) fn start(options: LogOptions) -> Result<(), Failure> {
    let asked = std::env::var(LEVEL_VARIABLE).ok();
    let (level, unknown) = level(options.level, asked.as_deref());
    let colours = options.format == LogFormat::Auto && stderr().is_terminal();
    let queue = start_log(dropped).map_err(|error| no_log(&error))?;
    let builder = tracing_subscriber::fmt().with_writer(|| queue.clone()).with_ansi(colours);
    // A second start, in a process that embeds this one, leaves the first as it is.
    let _ = builder.log_internal_errors(false).with_max_level(level).try_init();
    // The hook of the standard library would wait for the reader of the standard error.
    panic::set_hook(Box::new(|info| log_panic(queue, info)));
    if let Some(unknown) = unknown {
        tracing::warn!(
            "{LEVEL_VARIABLE}={unknown} is not a level; the level of the configuration file is used; \
             the levels are off, error, warn, info, debug and trace"
        );
    }
    Ok(())
}

/// The line about lines that are missing.
fn dropped(lines: u64, why: &str) -> String {
    let mut text = String::new();
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    let noun = if lines == 1 { "line" } else { "lines" };
    format!("{text}  WARN {lines} {noun} of this log are missing here: {why}\n")
}

/// A panic of the main thread ends the process, so this waits for the log then. No other thread waits: a shard that
/// panics, or whose state machine does, must not stand for a reader of the log.
fn log_panic(queue: &LogQueue, info: &PanicHookInfo<'_>) {
    let thread = thread::current();
    let mut text = format!("thread '{}' {info}\n", thread.name().unwrap_or("without a name"));
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        text += &format!("{backtrace}\n");
    }
    queue.add(text.as_bytes());
    if ends_the_process(&thread) {
        flush_log();
    }
}

/// Whether a panic of this thread ends the process: the runtime of Rust gives its name to the main thread.
fn ends_the_process(thread: &Thread) -> bool {
    thread.name() == Some("main")
}

fn no_log(error: &io::Error) -> Failure {
    Failure::new(
        ErrorKind::Environment,
        format!("the thread that writes the log cannot be started: {error}"),
        "this process",
        "the node does not start; nothing was changed",
        "raise the limits on open files (ulimit -n) and threads (ulimit -u)",
    )
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

    #[test]
    fn a_panic_of_a_shard_waits_for_no_reader_of_the_log() {
        let waits = |name: &str| {
            let thread = thread::Builder::new().name(name.into());
            let thread = thread.spawn(|| ends_the_process(&thread::current())).expect("a thread");
            thread.join().expect("it ends")
        };
        assert_eq!(["shard-0", "output", "main"].map(waits), [false, false, true]);
    }

    #[test]
    fn missing_lines_are_said_with_their_time() {
        let text = dropped(2, "the disk is full");
        let (time, rest) = text.split_once("  ").expect("a time");
        assert!(time.starts_with("20") && time.ends_with('Z'), "{text}");
        assert_eq!(rest, "WARN 2 lines of this log are missing here: the disk is full\n");
        assert!(dropped(1, "x").contains("1 line of"), "{text}");
    }
}
