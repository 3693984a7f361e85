//! `purlin dev`: a cluster to try out. Its nodes are processes of this very program, each with a
//! configuration file of its own, on loopback ports and with data below the working directory:
//!
//! ```text
//! .purlin-dev/lock                 held while the cluster runs
//! .purlin-dev/kept                 stays when the cluster ends (--keep)
//! .purlin-dev/node-1/purlin.toml   data/   log.txt
//! .purlin-dev/node-2/…
//! ```
//!
//! A node that ends is reported and stays ended; a person may start it again by hand. Nothing is removed
//! while a node has its data open. Scripts read what is printed.

mod cluster;
mod folder;
mod node;
mod options;
mod plan;
mod ports;
mod probe;
mod report;

pub use self::options::DevOptions;
use self::{
    cluster::Cluster,
    folder::{Folder, Removed},
    plan::Plan,
};
use crate::{
    error::Failure,
    output::{say, say_in_background},
    signals::Signals,
};
use purlin::ErrorKind;
use std::{io, path::Path};

/// Runs a cluster until SIGINT, SIGTERM or SIGHUP.
pub(crate) fn run(options: &DevOptions) -> Result<(), Failure> {
    let signals = Signals::listen()?;
    say_in_background().map_err(|error| no_output(&error))?;
    let folder = Folder::claim(Path::new("."), options.keep)?;
    let ended = live(&signals, &folder, options);
    let path = folder.path().display().to_string();
    if folder.is_kept() {
        say(format!("kept in {path}: `purlin dev --keep` starts it again"));
    } else if let Removed::InUse = folder.remove()? {
        // Somebody has started one of our nodes again by hand.
        say(format!(
            "a node of this cluster still runs, so {path} is not removed: end the node, then remove it"
        ));
    }
    ended
}

fn no_output(error: &io::Error) -> Failure {
    Failure::new(
        ErrorKind::Environment,
        format!("the thread that prints cannot be started: {error}"),
        "this process",
        "nothing was started",
        "raise the limits on open files (ulimit -n) and threads (ulimit -u)",
    )
}

fn live(signals: &Signals, folder: &Folder, options: &DevOptions) -> Result<(), Failure> {
    let plan = match folder.is_kept() {
        true => Plan::resume(folder)?,
        false => Plan::make(folder, options)?,
    };
    let mut cluster = Cluster::new(&plan, signals);
    let lived = cluster.live(folder);
    cluster.end();
    lived
}
