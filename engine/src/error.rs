//! Why a host does not start, or has stopped: what happened, where, what it means for the data, and
//! what to do.

use purlin_storage::StorageError;
use std::fmt;

/// Why a host does not start, or has stopped.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Error {
    /// What kind of trouble it is: what a caller decides by.
    pub kind: ErrorKind,
    /// What happened.
    pub what: String,
    /// Where: a file, an address, a node.
    pub place: String,
    /// What it means for the data.
    pub means: String,
    /// What to do about it.
    pub action: String,
}

/// What kind of trouble an [`Error`] is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The configuration contradicts itself, or the data directory.
    Config,
    /// The machine does not offer what is needed: io_uring, locked memory, a port, a directory.
    Environment,
    /// The data directory is missing, in use, another node's or cluster's, or of a newer format.
    DataDirectory,
    /// The data directory is damaged.
    Damage,
    /// The peers refuse this node: its data directory was wiped, has gone back, or is a copy.
    Refused,
    /// A disk failed while the host ran.
    Disk,
    /// A shard ended by a bug.
    Bug,
}

impl Error {
    /// From its kind and its four parts.
    pub fn new(
        kind: ErrorKind,
        what: impl Into<String>,
        place: impl Into<String>,
        means: impl Into<String>,
        action: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            what: what.into(),
            place: place.into(),
            means: means.into(),
            action: action.into(),
        }
    }

    /// From a text of four parts, a line each, as the crates below write them.
    pub(crate) fn parse(kind: ErrorKind, text: &str) -> Self {
        let mut error = Self::new(kind, "", "", "", "");
        for (number, line) in text.lines().map(str::trim).enumerate() {
            let part = |name: &str| line.strip_prefix(name).map(|rest| rest.trim().to_string());
            match (number, part("in "), part("means "), part("do ")) {
                (0, ..) => error.what = line.to_string(),
                (_, Some(place), ..) => error.place = place,
                (_, _, Some(means), _) => error.means = means,
                (_, _, _, Some(action)) => error.action = action,
                _ => {
                    error.action.push(' ');
                    error.action.push_str(line);
                }
            }
        }
        error
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.what)?;
        for (name, text) in [("in", &self.place), ("means", &self.means), ("do", &self.action)] {
            if !text.is_empty() {
                write!(f, "\n  {name:<6} {text}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// Why a shard that runs must stop. Damage that a read of entries finds is told as what it is, and not as
/// a start tells it: here the shard did start, and nothing but the next start reads all of the log.
pub(crate) fn disk_failed(error: &StorageError) -> Error {
    match error {
        StorageError::Damaged { location, segment, offset, what } => Error::new(
            ErrorKind::Damage,
            format!("the write-ahead log is damaged: {what}"),
            format!("{location}, {segment} at {offset}"),
            "a read of durable entries found it, and the shard has stopped; nothing was changed, \
             nothing of it was sent, and the other members hold its data",
            "check the disk, then start again: a start reads the whole log; if it finds the damage \
             too, keep the directory aside and bring the node back as a new member",
        ),
        _ => Error::parse(ErrorKind::Disk, &error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_under_a_running_shard_is_damage_and_says_all_four_parts() {
        let found = StorageError::Damaged {
            location: "data/shard-1".into(),
            segment: "000000000007.wal".into(),
            offset: 8192,
            what: "a durable batch is not readable any more".into(),
        };
        let error = disk_failed(&found);
        assert_eq!(error.kind, ErrorKind::Damage);
        assert!(error.what.contains("a durable batch is not readable any more"), "{error}");
        assert_eq!(error.place, "data/shard-1, 000000000007.wal at 8192");
        assert!(!error.means.contains("does not start"), "it did start: {error}");
        assert!(error.action.contains("start again"), "{error}");
        assert_eq!(Error::parse(ErrorKind::Damage, &error.to_string()), error);
    }

    #[test]
    fn what_a_device_does_to_a_running_shard_is_its_disk() {
        let error = disk_failed(&StorageError::Poisoned { location: "data/shard-0".into() });
        assert_eq!((error.kind, error.place.as_str()), (ErrorKind::Disk, "data/shard-0"));
    }

    #[test]
    fn a_text_of_four_parts_comes_back_as_it_was() {
        let error = Error::new(ErrorKind::Damage, "it broke", "here", "nothing is lost", "mend it");
        assert_eq!(Error::parse(ErrorKind::Damage, &error.to_string()), error);
        assert_eq!(
            error.to_string(),
            "it broke\n  in     here\n  means  nothing is lost\n  do     mend it"
        );
    }
}
