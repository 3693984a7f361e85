//! Why a WAL does not open, does not read, or has stopped. Each variant is a decision for the caller.
//!
//! [`StorageError::trouble`] has the text for people.

use purlin_rsm::{Identity, Trouble};
use std::{fmt, io, sync::Arc};
use thiserror::Error;

use crate::batch::Batch;

/// Why a WAL does not open, does not read, or has stopped.
#[derive(Clone, Debug)]
pub enum StorageError {
    /// Another process has the directory or one of its segments open.
    Locked {
        /// The directory, or the directory and the file.
        location: String,
    },
    /// The directory does not exist or holds no segment. Only [`crate::Wal::create`] makes one.
    Missing {
        /// The directory.
        location: String,
    },
    /// The directory in which a new log was to be made already has one.
    Exists {
        /// The directory.
        location: String,
    },
    /// A segment belongs to another cluster, node, incarnation or shard.
    Foreign {
        /// The directory.
        location: String,
        /// The file.
        segment: String,
        /// The log that the segment belongs to.
        found: Box<Identity>,
        /// The log that was to be opened.
        expected: Box<Identity>,
    },
    /// A segment has another format than this version reads.
    OtherFormat {
        /// The directory.
        location: String,
        /// The file.
        segment: String,
        /// The format of the file.
        version: u32,
        /// The format that this version reads.
        known: u32,
    },
    /// A segment of this format uses a field that this version keeps for later ones.
    LaterFields {
        /// The directory.
        location: String,
        /// The file.
        segment: String,
    },
    /// Records that were made durable are not there any more (safety W5).
    Damaged {
        /// The directory.
        location: String,
        /// The file.
        segment: String,
        /// The position in it, in bytes.
        offset: u64,
        /// What was found.
        what: String,
    },
    /// The device failed. A write or a sync that failed is never tried again.
    Io {
        /// The directory and file.
        location: String,
        /// The operation that failed.
        action: &'static str,
        /// What the failure means for the data.
        means: &'static str,
        /// The error of the device.
        source: Arc<io::Error>,
    },
    /// The file system has no room for a segment.
    NoSpace {
        /// The directory.
        location: String,
        /// The size of a segment.
        bytes: u64,
    },
    /// The WAL stopped before this call was done; [`crate::Wal::failure`] says why it stopped.
    Poisoned {
        /// The directory.
        location: String,
    },
}

impl StorageError {
    /// What happened, where, what it means for the data, and what to do.
    // Long because each error has one arm with its texts.
    pub fn trouble(&self) -> Trouble {
        match self {
            Self::Locked { location } => Trouble::new(
                "the write-ahead log is in use",
                location,
                "another process has it open, or the last writes of a stopped process have not ended; \
                 nothing was changed",
                "stop the other process, or wait a few seconds, then start again",
            ),
            Self::Missing { location } => Trouble::new(
                "there is no write-ahead log",
                location,
                "the directory is new, wiped or not mounted; an empty log could forget votes and \
                 acknowledged entries, so none was made",
                "mount or name the right directory; for a node of a new cluster, make the directory with \
                 `init`; a node whose directory is lost stays out, since this version cannot bring it back",
            ),
            Self::Exists { location } => Trouble::new(
                "there is already a write-ahead log",
                location,
                "nothing was changed",
                "start the node on this directory, or choose another directory",
            ),
            Self::Foreign { location, segment, found, expected } => Trouble::new(
                format!(
                    "the write-ahead log belongs to {}, and {} was to start on it",
                    owner(found),
                    owner(expected)
                ),
                format!("{location}, {segment}"),
                "two logs must not be mixed; nothing was changed",
                "start each node on its own data directory",
            ),
            Self::OtherFormat { location, segment, version, known } => Trouble::new(
                format!(
                    "the write-ahead log has format {version}, and this version reads format {known}"
                ),
                format!("{location}, {segment}"),
                "the log was written by another version of the program; nothing was changed",
                if version > known {
                    "start the newer version of the program that wrote the log"
                } else {
                    "start the older version of the program that wrote the log: this version cannot \
                     convert it"
                },
            ),
            Self::LaterFields { location, segment } => Trouble::new(
                "the write-ahead log uses fields that this version does not know",
                format!("{location}, {segment}"),
                "the log was written by a later version of the program; nothing was changed",
                "start the later version of the program that wrote the log",
            ),
            Self::Damaged { location, segment, offset, what } => Trouble::new(
                format!("the write-ahead log is damaged: {what}"),
                format!("{location}, {segment} at {offset}"),
                "durable records are lost, perhaps a vote, and it is unknown of which group; so no \
                 replica of this shard can be trusted and the shard does not start; the other members \
                 hold the data",
                "check the disk, and keep the directory: this version cannot repair the shard, and its \
                 groups go on at the other members as long as those are a majority",
            ),
            Self::Io { location, action, means, source } => {
                Trouble::new(format!("{action} failed: {source}"), location, *means, remedy(source))
            }
            Self::NoSpace { location, bytes } => Trouble::new(
                "there is no space for a segment of the write-ahead log",
                location,
                "the shard does not start; nothing is lost",
                format!("free {bytes} bytes or more on this file system, then start again"),
            ),
            Self::Poisoned { location } => Trouble::new(
                "the write-ahead log has stopped",
                location,
                "acknowledged records are durable; records that were not acknowledged may be durable \
                 or not",
                "look for the first error in the log of the program, then start again",
            ),
        }
    }
}

/// The log that an identity stands for, in words.
fn owner(identity: &Identity) -> String {
    let Identity { cluster, node, incarnation, shard } = identity;
    format!("shard {shard} of node {node} ({incarnation}) of cluster {cluster}")
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.trouble().fmt(f)
    }
}

impl std::error::Error for StorageError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Why a batch was not taken. The batch comes back whole, and nothing of it was written. For the code of
/// the caller: a person reads [`crate::Wal::failure`].
#[derive(Debug, Error)]
pub enum SubmitError {
    /// The WAL has stopped for good: see [`crate::Wal::failure`].
    #[error("the write-ahead log has stopped")]
    Poisoned(Batch),
    /// There is no room for entries. Hard states are still taken, from the reserve. Try again later.
    #[error("the write-ahead log has no space for entries")]
    NoSpace(Batch),
    /// One record needs more than a quarter of a segment, and so it never fits.
    #[error("a record is longer than a quarter of a segment")]
    TooLarge(Batch),
}

/// What to do about an error of a file or a directory, by its kind.
pub fn remedy(error: &io::Error) -> &'static str {
    /// A process, or the whole machine, has as many open files as it may.
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    match (error.kind(), error.raw_os_error()) {
        (io::ErrorKind::PermissionDenied, _) => {
            "let the user that runs this program own the directory and all that is in it (`chown -R`), or \
             run the program as their owner, then start again"
        }
        (io::ErrorKind::ReadOnlyFilesystem, _) => {
            "mount the file system for writing, then start again; if the kernel has made it read-only, \
             check the disk first"
        }
        (io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory, _) => {
            "name the right data directory, or put back what belongs there, then start again"
        }
        (io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded, _) => {
            "free space on this file system, or raise the quota, then start again"
        }
        (io::ErrorKind::OutOfMemory, _) => "free memory on this machine, then start again",
        (_, Some(EMFILE | ENFILE)) => "raise the limit on open files (ulimit -n), then start again",
        _ => "check the disk and its file system (the kernel's log says more), then start again",
    }
}

/// What a file could not be made, opened or renamed for want of. The operation did nothing, and nothing that
/// was durable is in doubt: it may be tried again when there is more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Shortage {
    /// The disk, or the quota on it, is full.
    Space,
    /// The process (`EMFILE`) or the machine (`ENFILE`) has no file descriptor left.
    Descriptors,
    /// The kernel has no memory for it (`ENOMEM`).
    Memory,
}

impl Shortage {
    /// What `error` is for want of, if it is.
    pub(crate) fn of(error: &io::Error) -> Option<Self> {
        const ENFILE: i32 = 23;
        const EMFILE: i32 = 24;
        match (error.kind(), error.raw_os_error()) {
            (io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded, _) => Some(Self::Space),
            (io::ErrorKind::OutOfMemory, _) => Some(Self::Memory),
            (_, Some(EMFILE | ENFILE)) => Some(Self::Descriptors),
            _ => None,
        }
    }

    /// What there is no more of, and what to do.
    pub(crate) fn texts(self) -> (&'static str, &'static str) {
        match self {
            Self::Space => ("space on the disk", "free space on this file system"),
            Self::Descriptors => (
                "file descriptor left",
                "close connections, or raise the limit on open files (ulimit -n; systemd: LimitNOFILE) and \
                 start again",
            ),
            Self::Memory => ("memory left in the kernel", "free memory on this machine"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use purlin_rsm::{ClusterId, Incarnation, NodeId, ShardId};

    fn errors_of_another_log(found: Box<Identity>, expected: Box<Identity>) -> String {
        let (location, segment) = ("data/shard-1".into(), "000000000007.wal".into());
        StorageError::Foreign { location, segment, found, expected }.trouble().what
    }

    #[test]
    fn each_error_has_four_parts() {
        let location = || "data/shard-1".to_owned();
        let segment = || "000000000007.wal".to_owned();
        let identity = |node| {
            let (cluster, incarnation) = (ClusterId(7), Incarnation(8));
            Box::new(Identity { cluster, node: NodeId(node), incarnation, shard: ShardId(1) })
        };
        let device = Arc::new(io::Error::from(io::ErrorKind::BrokenPipe));
        let format = |version| StorageError::OtherFormat {
            location: location(),
            segment: segment(),
            version,
            known: 5,
        };
        let what = "a batch is gone".to_owned();
        let errors = [
            StorageError::LaterFields { location: location(), segment: segment() },
            StorageError::Locked { location: location() },
            StorageError::Missing { location: location() },
            StorageError::Exists { location: location() },
            StorageError::Foreign {
                location: location(),
                segment: segment(),
                found: identity(2),
                expected: identity(3),
            },
            format(4),
            format(6),
            StorageError::Damaged { location: location(), segment: segment(), offset: 9, what },
            StorageError::Io {
                location: location(),
                action: "writing",
                means: "it stops",
                source: device,
            },
            StorageError::NoSpace { location: location(), bytes: 4096 },
            StorageError::Poisoned { location: location() },
        ];
        for error in errors {
            let Trouble { what, place, means, action } = error.trouble();
            assert!(place.starts_with("data/shard-1"), "{error}");
            for part in [&what, &means, &action] {
                assert!(
                    !part.is_empty() && !part.contains('\n') && !part.contains("  "),
                    "{error:?}"
                );
            }
            assert_eq!(error.to_string().lines().count(), 4, "{error}");
        }
        for (errno, advice) in [
            (13, "chown -R"),
            (1, "chown -R"),
            (30, "mount the file system for writing"),
            (20, "name the right data directory"),
            (21, "name the right data directory"),
            (28, "free space"),
            (122, "free space"),
            (24, "ulimit -n"),
            (5, "check the disk"),
        ] {
            let action = remedy(&io::Error::from_raw_os_error(errno));
            assert!(action.contains(advice), "{errno}: {action}");
        }
        let foreign = errors_of_another_log(identity(2), identity(3));
        assert!(foreign.contains("belongs to shard 1 of node 2 ("), "{foreign}");
        assert!(foreign.contains("and shard 1 of node 3 ("), "{foreign}");
        for (errno, lacks, advice) in [
            (28, "space", "free space"),
            (122, "space", "free space"),
            (23, "file descriptor", "ulimit -n"),
            (24, "file descriptor", "ulimit -n"),
            (12, "memory", "free memory"),
        ] {
            let shortage = Shortage::of(&io::Error::from_raw_os_error(errno)).expect("a shortage");
            let (what, action) = shortage.texts();
            assert!(what.contains(lacks) && action.contains(advice), "{errno}: {what}, {action}");
        }
        assert_eq!(Shortage::of(&io::Error::from_raw_os_error(5)), None);
        assert!(format(4).trouble().action.contains("older version"));
        assert!(format(6).trouble().action.contains("newer version"));
    }
}
