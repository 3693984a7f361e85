//! Why a host does not start, or has stopped: a kind for code, and four parts for people.

use purlin_rsm::Trouble;
use purlin_storage::StorageError;
use std::fmt;

/// Why a host does not start, or has stopped.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Error {
    /// The kind: what a caller decides by.
    pub kind: ErrorKind,
    /// The four parts that a person reads.
    pub trouble: Trouble,
}

/// What kind of error an [`Error`] is.
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
        Self::of(kind, Trouble::new(what, place, means, action))
    }

    /// From its kind and what is told about it.
    pub(crate) fn of(kind: ErrorKind, trouble: Trouble) -> Self {
        Self { kind, trouble }
    }
}

impl Error {
    /// Why a shard does not start on its write-ahead log.
    pub(crate) fn cannot_open(error: &StorageError) -> Self {
        let kind = match error {
            StorageError::Locked { .. }
            | StorageError::Missing { .. }
            | StorageError::Exists { .. }
            | StorageError::Foreign { .. }
            | StorageError::OtherFormat { .. }
            | StorageError::LaterFields { .. } => ErrorKind::DataDirectory,
            StorageError::Damaged { .. } => ErrorKind::Damage,
            StorageError::Io { .. } | StorageError::NoSpace { .. } => ErrorKind::Environment,
            StorageError::Poisoned { .. } => ErrorKind::Disk,
        };
        Self::of(kind, error.trouble())
    }

    /// Why a shard that runs must stop. Its text for damage is another one than at a start: the shard did
    /// start, a read of some entries found the damage, and only the next start reads the whole log.
    pub(crate) fn disk_failed(error: &StorageError) -> Self {
        let trouble = error.trouble();
        match error {
            StorageError::Damaged { .. } => Self::new(
                ErrorKind::Damage,
                trouble.what,
                trouble.place,
                "a read of durable entries found the damage, and the shard has stopped; nothing was \
                 changed, nothing of the damage was sent, and the other members hold the data",
                "check the disk, then start again: a start reads the whole log; if the start finds the \
                 damage too, keep the directory: the shard stays down, since this version cannot repair \
                 it, and its groups go on at the other members",
            ),
            _ => Self::of(ErrorKind::Disk, trouble),
        }
    }
}

/// The four parts, a line each.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.trouble.fmt(f)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    fn damage() -> StorageError {
        StorageError::Damaged {
            location: "data/shard-1".into(),
            segment: "000000000007.wal".into(),
            offset: 8192,
            what: "a durable batch is not readable any more".into(),
        }
    }

    #[test]
    fn damage_under_a_running_shard_is_damage_and_says_all_four_parts() {
        let error = Error::disk_failed(&damage());
        assert_eq!(error.kind, ErrorKind::Damage);
        let trouble = &error.trouble;
        assert!(trouble.what.contains("a durable batch is not readable any more"), "{error}");
        assert_eq!(trouble.place, "data/shard-1, 000000000007.wal at 8192");
        assert!(!trouble.means.contains("does not start"), "it did start: {error}");
        assert!(trouble.action.contains("start again"), "{error}");
        assert_eq!(error.to_string().lines().count(), 4, "{error}");
    }

    #[test]
    fn a_failure_of_the_device_under_a_running_shard_is_its_disk() {
        let error = Error::disk_failed(&StorageError::Poisoned { location: "data/shard-0".into() });
        assert_eq!((error.kind, error.trouble.place.as_str()), (ErrorKind::Disk, "data/shard-0"));
    }

    #[test]
    fn a_start_tells_what_the_storage_tells() {
        let error = Error::cannot_open(&damage());
        assert_eq!((error.kind, &error.trouble), (ErrorKind::Damage, &damage().trouble()));
        let missing = StorageError::Missing { location: "data/shard-0".into() };
        assert_eq!(Error::cannot_open(&missing).kind, ErrorKind::DataDirectory);
    }
}
