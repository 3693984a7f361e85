//! Writes what led to a failure into a file that a person can read.

use super::arguments::to_replay;
use crate::cluster::{ClusterOptions, Report};
use std::{fmt::Write as _, fs, path::Path};

/// Writes the timeline of a failed run below `target/`, and says where.
pub(super) fn write(command: &str, seed: u64, options: &ClusterOptions, report: &Report) {
    let command = format!("{command} -- {} --trace", to_replay(seed, options));
    println!("replay: {command}");
    let directory = Path::new("target/sim");
    let path = directory.join(format!("seed-{seed}.txt"));
    let written = fs::create_dir_all(directory)
        .and_then(|()| fs::write(&path, text(seed, options, report, &command)));
    match written {
        Ok(()) => println!("timeline: {}", path.display()),
        Err(error) => println!("no timeline: {} cannot be written: {error}", path.display()),
    }
}

fn text(seed: u64, options: &ClusterOptions, report: &Report, command: &str) -> String {
    let mut text = report.explain(seed);
    let _ = writeln!(text, "\n{command}\n\nThe last of what happened, by simulated seconds:\n");
    report.lines.iter().for_each(|line| {
        let _ = writeln!(text, "{line}");
    });
    let _ = writeln!(text, "\n{options:#?}");
    text
}
