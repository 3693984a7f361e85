//! What the tests of real processes have in common: processes, nodes, clusters, and a load whose
//! outcomes are known.

mod cluster;
mod load;
mod ports;
mod process;
mod scratch;
mod tools;

pub(crate) use cluster::{Cluster, Node, Shape, is_not_applied, number};
pub(crate) use load::{History, Load};
pub(crate) use ports::Ports;
pub(crate) use process::{End, Process, wait_for_news};
pub(crate) use scratch::{Scratch, copy};
pub(crate) use tools::{client_folder, is_root, tool};

use std::{
    process::Command,
    time::{Duration, Instant},
};

/// How long anything may take that should happen soon: much longer than it does, since the machine
/// may be busy with other tests.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// After this time [`until`] looks again, though no process has told anything.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The program under test.
pub(crate) fn purlin() -> Command {
    Command::new(env!("CARGO_BIN_EXE_purlin-under-test"))
}

/// Looks until there is something, which it gives. Between two looks it waits for news of the processes.
/// Fails after [`SOON`], and says what was missing.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + SOON;
    let mut seen = 0;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {} s: {what}", SOON.as_secs());
        seen = wait_for_news(seen, LOOK_EVERY);
    }
}
