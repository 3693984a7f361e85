//! NOT WIRED: a stand-in on this branch only, to be replaced as a whole by the file that joins the
//! gateway and the engine's host.

use crate::config::Config;
use purlin::{Error, ErrorKind};

/// Makes the node's data directory.
///
/// # Errors
/// Always, on this branch.
pub fn init(config: &Config) -> Result<(), Error> {
    Err(not_wired(config))
}

/// Serves until SIGINT or SIGTERM.
///
/// # Errors
/// Always, on this branch.
pub fn run(config: Config) -> Result<(), Error> {
    Err(not_wired(&config))
}

fn not_wired(config: &Config) -> Error {
    Error {
        kind: ErrorKind::Environment,
        what: "not wired".into(),
        place: config.node.data_dir.display().to_string(),
        means: "nothing was started or changed".into(),
        action: "use a build with the engine's host".into(),
    }
}
