//! What is done to a directory by short system calls, made in place: at a start, if at all.

use super::explain_access;
use rustix::fs::{FlockOperation, Mode, OFlags};
use std::{fs, io, os::fd::OwnedFd, path::Path};

/// Keeps a directory locked while it lives.
pub struct DirectoryLock {
    _file: OwnedFd,
}

/// Makes the directory `path`, for its owner alone.
pub(crate) fn make(path: &Path) -> io::Result<()> {
    rustix::fs::mkdir(path, Mode::RWXU).map_err(|error| explain_access(path, error.into()))
}

/// Locks a directory by its file `path`. `WouldBlock` when another process holds it.
pub(crate) fn lock(path: &Path) -> io::Result<DirectoryLock> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR);
    let file = file.map_err(|error| explain_access(path, error.into()))?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    Ok(DirectoryLock { _file: file })
}

/// The names in the directory `path`, sorted.
pub(crate) fn list(path: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(|error| explain_access(path, error))? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}
