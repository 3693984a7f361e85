//! What several commands ask of the machine: a file is read, a cluster id is drawn, what a
//! command was asked for is printed.

use crate::{
    config::{Config, FILE_BYTES_MAX},
    error::Failure,
};
use purlin::os::explain_access;
use purlin::{ClusterId, ErrorKind};
use std::{
    fs::File,
    io::{self, Read, Write},
    path::Path,
};

const RANDOM: &str = "/dev/urandom";

/// Prints what a command was asked for, such as a configuration file.
///
/// # Errors
/// It could not be written, and somebody may want it still: a reader that has left has seen enough.
pub(crate) fn print(text: impl AsRef<str>) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{}", text.as_ref()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::new(
            ErrorKind::Environment,
            format!("the output cannot be written: {error}"),
            "the standard output",
            "what was asked for is not there, or not all of it",
            "free space on the disk of the file, or name another file, and try again",
        )),
        _ => Ok(()),
    }
}

/// Reads and checks the configuration file at `path`.
pub(crate) fn load(path: &Path) -> Result<Config, Failure> {
    let mut text = String::new();
    let unreadable = |why: String| {
        Failure::new(
            ErrorKind::Config,
            format!("the configuration file cannot be read: {why}"),
            path.display().to_string(),
            "nothing was started or changed",
            "name a file that can be read; `purlin config default` prints one to begin with",
        )
    };
    let file = File::open(path).map_err(|error| explain_access(path, error));
    let file = file.map_err(|error| unreadable(error.to_string()))?;
    file.take(FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(|error| unreadable(error.to_string()))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(unreadable(format!("it is longer than {FILE_BYTES_MAX} bytes")));
    }
    Ok(Config::parse(path, &text)?)
}

/// A cluster id that no other cluster has.
pub(crate) fn new_cluster_id() -> Result<ClusterId, Failure> {
    let mut bytes = [0; 16];
    let read = File::open(RANDOM).and_then(|mut file| file.read_exact(&mut bytes));
    read.map_err(|error| {
        Failure::new(
            ErrorKind::Environment,
            format!("no random number can be drawn: {error}"),
            RANDOM,
            "nothing was made",
            "let this user read the device",
        )
    })?;
    Ok(ClusterId(u128::from_ne_bytes(bytes).max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_read_is_a_mistake_of_configuration() {
        let failure = load(Path::new("/nonexistent/purlin.toml")).expect_err("no such file");
        assert_eq!(failure.exit_code(), 3);
        assert!(
            failure.to_string().starts_with(
                "error: the configuration file cannot be read: No such file or directory"
            ),
            "{failure}"
        );
    }

    #[test]
    fn cluster_ids_differ() {
        let ids = [new_cluster_id(), new_cluster_id()].map(|id| id.expect("random bytes"));
        assert_ne!(ids[0], ids[1]);
    }
}
