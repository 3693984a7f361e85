//! Programs of the machine. Where one is missing the test that wants it says so and passes, but not
//! in CI: there `.ci/setup` has installed them.

use rustix::process::geteuid;
use std::{path::PathBuf, process::Command};

/// A command that runs the program `name`; nothing when it is missing.
pub(crate) fn tool(name: &str) -> Option<Command> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let mut paths = std::env::split_paths(&folders).map(|folder| folder.join(name));
    let found: Option<PathBuf> = paths.find(|path| path.is_file());
    if found.is_none() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{name} is missing: see .ci/setup");
        println!("skipped: there is no {name} here");
    }
    found.map(Command::new)
}

pub(crate) fn is_root() -> bool {
    geteuid().is_root()
}
