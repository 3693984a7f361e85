//! Why a WAL does not open, or stopped. Each variant is a decision for the caller.
//!
//! The text has four parts, a line each: what happened, where, what it means for the data, what to do.

use purlin_rsm::Identity;
use std::{io, sync::Arc};
use thiserror::Error;

use crate::batch::Batch;

/// Why a WAL does not open, does not read, or has stopped.
#[derive(Clone, Debug, Error)]
pub enum StorageError {
    /// Another process has the directory or one of its segments open.
    #[error(
        "the write-ahead log is in use\n  in     {location}\n  means  nothing was changed; another \
         process holds it, or its last writes have not ended\n  do     stop the other process, or \
         wait a moment, and start again"
    )]
    Locked {
        /// The directory.
        location: String,
    },
    /// The directory is not there or holds no segment. Only [`crate::Wal::create`] makes one.
    #[error(
        "there is no write-ahead log\n  in     {location}\n  means  the directory is new, wiped or \
         not mounted; starting empty could forget votes and acknowledged entries, so nothing was \
         made\n  do     mount or restore the right directory; `init` makes a new one, for a new node"
    )]
    Missing {
        /// The directory.
        location: String,
    },
    /// There is a log already where one was to be made.
    #[error(
        "there is a write-ahead log already\n  in     {location}\n  means  nothing was changed\n  do     \
         start on it, or choose another directory"
    )]
    Exists {
        /// The directory.
        location: String,
    },
    /// A segment belongs to another cluster, node, incarnation or shard.
    #[error(
        "the write-ahead log belongs to somebody else\n  in     {location}, {segment}: {found:?}, and \
         expected {expected:?}\n  means  nothing was changed; using it would mix two logs\n  do     \
         give this node its own directory back"
    )]
    Foreign {
        /// The directory.
        location: String,
        /// The file.
        segment: String,
        /// Whose it is.
        found: Box<Identity>,
        /// Whose it should be.
        expected: Box<Identity>,
    },
    /// A segment has a format that this version does not know.
    #[error(
        "the write-ahead log has format {version}, and this version reads format {known}\n  in     \
         {location}, {segment}\n  means  nothing was changed\n  do     start the version that wrote it"
    )]
    NewerFormat {
        /// The directory.
        location: String,
        /// The file.
        segment: String,
        /// The format that it has.
        version: u32,
        /// The format that is known here.
        known: u32,
    },
    /// Something that was made durable is not there any more (safety W5).
    #[error(
        "the write-ahead log is damaged: {what}\n  in     {location}, {segment} at {offset}\n  means  \
         something durable is lost, perhaps a vote, and nobody knows of which group: every replica \
         of this shard is suspect, so the shard does not start; the other members hold its data\n  do     \
         check the disk, keep the directory aside, and bring the node back as a new member"
    )]
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
    /// The device failed. After a write or a sync it is never tried again.
    #[error(
        "{action} failed: {source}\n  in     {location}\n  means  {means}\n  do     check the disk \
         and its file system, then start again"
    )]
    Io {
        /// The directory and file.
        location: String,
        /// What was tried.
        action: &'static str,
        /// What that means for the data.
        means: &'static str,
        /// What the device said.
        source: Arc<io::Error>,
    },
    /// There is no room for a segment.
    #[error(
        "there is no space for a segment\n  in     {location}\n  means  nothing is lost, and nothing \
         new is taken\n  do     free {bytes} bytes or more on this file system"
    )]
    NoSpace {
        /// The directory.
        location: String,
        /// The size of a segment.
        bytes: u64,
    },
    /// The WAL stopped before this could be done; [`crate::Wal::failure`] says why.
    #[error(
        "the write-ahead log has stopped\n  in     {location}\n  means  what was acknowledged is \
         durable, what was not may be or not\n  do     see the first error, then start again"
    )]
    Poisoned {
        /// The directory.
        location: String,
    },
}

/// Why a batch was not taken. It comes back whole, and nothing of it was written.
#[derive(Debug, Error)]
pub enum SubmitError {
    /// The WAL has stopped for good: see [`crate::Wal::failure`].
    #[error("the write-ahead log has stopped")]
    Poisoned(Batch),
    /// No room for entries. Hard states are still taken, from the reserve. Try again later.
    #[error("no space for entries")]
    NoSpace(Batch),
    /// One record needs more than a quarter of a segment. It will never fit.
    #[error("a record is longer than a quarter of a segment")]
    TooLarge(Batch),
}

/// Whether an error says that the disk, or the quota on it, is full.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
