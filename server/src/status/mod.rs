//! `purlin status`: how a cluster stands, in words or as JSON.
//!
//! It asks the admin port of one node, and through what nodes know of each other the admin ports of the
//! others, all at once and until one deadline. No answer waits for a leader or a majority, so it works best
//! when nothing else does.

mod ask;
mod judge;
mod show;

use crate::{error::Failure, machine::load, output::tell, signals::Signals};
use clap::{Args, ValueEnum};
use std::{path::PathBuf, process::ExitCode, time::Duration};

/// How often `--watch` asks.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// What `purlin status` is told.
#[derive(Args, Clone, Debug)]
pub(crate) struct StatusOptions {
    /// Admin or gateway ports of nodes, as HOST:PORT or PORT; one node names the others
    #[arg(value_name = "NODE", default_value = "127.0.0.1:7098")]
    nodes: Vec<String>,
    /// Ask the node of this configuration file
    #[arg(long, value_name = "FILE", conflicts_with = "nodes")]
    config: Option<PathBuf>,
    /// Ask again each second, until Ctrl-C or until nobody reads any more
    #[arg(long)]
    watch: bool,
    /// How to print it
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Output {
    /// For people
    Table,
    /// One line of JSON
    Json,
}

/// Prints how the cluster stands. The exit code is 0 when nothing is wrong, else 1.
pub(crate) fn run(options: &StatusOptions) -> Result<ExitCode, Failure> {
    let first = match &options.config {
        Some(file) => vec![load(file)?.listen.admin.to_string()],
        None => options.nodes.iter().map(|node| ask::with_host(node)).collect(),
    };
    let signals = Signals::listen()?;
    loop {
        let report = judge::judge(ask::ask_all(&first));
        let text = match options.output {
            Output::Table => show::table(&report),
            Output::Json => show::json(&report),
        };
        // On a terminal the new table takes the place of the old one.
        let clear = options.watch && options.output == Output::Table;
        let told = tell(format!("{}{text}", if clear { "\x1b[H\x1b[2J" } else { "" }));
        // Behind `| head` nobody reads any more, and nobody is to be told so.
        let goes_on = options.watch && told.is_ok();
        if goes_on {
            signals.wait(Some(WATCH_EVERY));
        }
        if !goes_on || signals.take_stop() {
            return Ok(ExitCode::from(u8::from(!report.problems.is_empty())));
        }
    }
}
