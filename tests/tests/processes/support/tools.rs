//! Programs of the machine. Where one is missing the test that wants it says so and passes, but not
//! in CI: there `.ci/setup` has installed them.

use rustix::process::geteuid;
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// A command that runs the program `name`; nothing when it is missing.
pub(crate) fn tool(name: &str) -> Option<Command> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let mut paths = std::env::split_paths(&folders).map(|folder| folder.join(name));
    let found: Option<PathBuf> = paths.find(|path| path.is_file());
    if found.is_none() {
        assert!(!is_ci(), "{name} is missing: see .ci/setup");
        println!("skipped: there is no {name} here");
    }
    found.map(Command::new)
}

/// The folder of the client program of a language, and the folder of what `tests/clients/setup` has made for it;
/// nothing when that is missing.
pub(crate) fn client_folder(language: &str) -> Option<(PathBuf, PathBuf)> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(language);
    let target =
        Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it lies in the target folder");
    let clients = target.join("clients");
    if clients.join(format!("{language}.made")).is_file() {
        return Some((sources, clients.join(language)));
    }
    // Also in CI: what a language and its packages need may be out of reach there, and the setup says so.
    println!("skipped: the client in {language} is not installed; tests/clients/setup installs it");
    None
}

/// In CI nothing may be missing.
fn is_ci() -> bool {
    std::env::var("CI").as_deref() == Ok("true")
}

pub(crate) fn is_root() -> bool {
    geteuid().is_root()
}
