//! The folder of a cluster: found or made, locked while the cluster runs, removed unless it is kept.
//! Never touches a folder that `purlin dev` has not made, and removes nothing while a node has its data
//! open: the locks of all shards are taken first, and held until all is removed.

use crate::{error::Failure, output::say};
use purlin::ErrorKind;
use std::{
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

const NAME: &str = ".purlin-dev";
const LOCK: &str = "lock";
const KEPT: &str = "kept";
/// Where a node has its data, in the folder of the node.
pub(super) const DATA: &str = "data";
/// What the engine locks in the directory of each shard, for as long as the shard runs.
const SHARD_LOCK: &str = "LOCK";
/// How many clusters may run in one working directory.
const FOLDERS_MAX: u32 = 100;

/// A folder of this cluster alone.
pub(super) struct Folder {
    path: PathBuf,
    /// Locked while this lives.
    _lock: File,
}

/// What became of a folder that was to be removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Removed {
    /// All of it is gone.
    All,
    /// A node has its data open: all of it is still there.
    InUse,
}

impl Folder {
    /// The first below `parent` that no cluster uses. With `keep` that may be one that was kept;
    /// without, one that was kept is left alone, and what a cluster left behind is removed.
    pub(super) fn claim(parent: &Path, keep: bool) -> Result<Self, Failure> {
        for number in 1..=FOLDERS_MAX {
            let path = parent.join(match number {
                1 => NAME.to_owned(),
                number => format!("{NAME}-{number}"),
            });
            if let Some(folder) = Self::claim_at(&path, keep).map_err(|it| refused(&path, &it))? {
                return Ok(folder);
            }
        }
        Err(Failure::new(
            ErrorKind::Environment,
            format!(
                "there are {FOLDERS_MAX} folders of other clusters already, the most that there may be"
            ),
            parent.join(NAME).display().to_string(),
            "no cluster runs; the others are as they were",
            "remove the folders of clusters that nobody needs, or work in another directory",
        ))
    }

    fn claim_at(path: &Path, keep: bool) -> io::Result<Option<Self>> {
        match fs::create_dir(path) {
            Ok(()) => return Self::lock(path, File::create_new(path.join(LOCK))?),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        let lock = match File::options().write(true).open(path.join(LOCK)) {
            Ok(lock) => lock,
            // Not ours, or another process is just making it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(folder) = Self::lock(path, lock)? else { return Ok(None) };
        match (folder.is_kept(), keep) {
            (true, false) => Ok(None),
            (true, true) => Ok(Some(folder)),
            (false, _) => match folder.clear()? {
                Removed::All => Ok(Some(folder)),
                Removed::InUse => {
                    say(format!(
                        "a node of an earlier cluster still runs in {}: it is left as it is",
                        path.display()
                    ));
                    Ok(None)
                }
            },
        }
    }

    /// Nothing when another process has the lock.
    fn lock(path: &Path, lock: File) -> io::Result<Option<Self>> {
        if lock.try_lock().is_err() {
            return Ok(None);
        }
        // The folder may have been removed since the file was opened.
        let still_there = fs::metadata(path.join(LOCK)).is_ok_and(|now| {
            lock.metadata().is_ok_and(|ours| (ours.dev(), ours.ino()) == (now.dev(), now.ino()))
        });
        Ok(still_there.then(|| Self { path: path.to_owned(), _lock: lock }))
    }

    /// Removes what a cluster that ended by force has left, unless one of its nodes runs.
    fn clear(&self) -> io::Result<Removed> {
        let Some(_locks) = self.lock_shards()? else { return Ok(Removed::InUse) };
        for entry in fs::read_dir(&self.path)? {
            let path = entry?.path();
            match path.file_name().is_some_and(|name| name == LOCK) {
                true => {}
                false if path.is_dir() => fs::remove_dir_all(path)?,
                false => fs::remove_file(path)?,
            }
        }
        Ok(Removed::All)
    }

    /// The locks of all shards of all nodes; nothing when a node has one. A node that is just started
    /// finds its lock taken, and ends.
    fn lock_shards(&self) -> io::Result<Option<Vec<File>>> {
        let mut locks = Vec::new();
        for node in folders_in(&self.path)? {
            for shard in folders_in(&node.join(DATA))? {
                let lock = match File::options().write(true).open(shard.join(SHARD_LOCK)) {
                    Ok(lock) => lock,
                    // It was never opened.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(error),
                };
                match lock.try_lock() {
                    Ok(()) => locks.push(lock),
                    Err(TryLockError::WouldBlock) => return Ok(None),
                    Err(TryLockError::Error(error)) => return Err(error),
                }
            }
        }
        Ok(Some(locks))
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where node `number` has its files.
    pub(super) fn node(&self, number: u32) -> PathBuf {
        self.path.join(format!("node-{number}"))
    }

    /// From now on it stays when the cluster ends: the cluster in it is complete.
    pub(super) fn keep(&self) -> Result<(), Failure> {
        let made = File::create(self.path.join(KEPT));
        made.map(drop).map_err(|error| refused(&self.path, &error))
    }

    /// Whether there is a complete cluster in it, to be started again.
    pub(super) fn is_kept(&self) -> bool {
        self.path.join(KEPT).exists()
    }

    /// Removes it with all that is in it, unless a node has its data open.
    pub(super) fn remove(self) -> Result<Removed, Failure> {
        let removed = self.lock_shards().and_then(|locks| match locks {
            Some(_locks) => fs::remove_dir_all(&self.path).map(|()| Removed::All),
            None => Ok(Removed::InUse),
        });
        removed.map_err(|error| refused(&self.path, &error))
    }
}

/// The folders in a folder; none when there is no such folder.
fn folders_in(path: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut paths = paths.collect::<io::Result<Vec<_>>>()?;
    paths.retain(|path| path.is_dir());
    Ok(paths)
}

/// That a file or folder of the cluster could not be made, read or removed.
pub(super) fn refused(path: &Path, error: &io::Error) -> Failure {
    Failure::new(
        ErrorKind::Environment,
        format!("the files of the cluster cannot be made, read or removed: {error}"),
        path.display().to_string(),
        "no cluster runs; a kept one is as it was",
        "work in a directory in which you may make files, on a disk with space",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An empty directory of its own, removed at the end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let target = std::env::current_exe().expect("a test is a program");
            let path = target.with_file_name(format!("folder-{name}-{}", std::process::id()));
            fs::create_dir(&path).expect("a new directory");
            Self(path)
        }

        fn claim(&self, keep: bool) -> Folder {
            Folder::claim(&self.0, keep).expect("a folder")
        }

        fn name(&self, folder: &Folder) -> String {
            let name = folder.path.strip_prefix(&self.0).expect("below");
            name.to_str().expect("ASCII").to_owned()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).expect("removable");
        }
    }

    #[test]
    fn a_running_cluster_keeps_its_folder() {
        let scratch = Scratch::new("running");
        let (first, second) = (scratch.claim(false), scratch.claim(true));
        assert_eq!(scratch.name(&first), ".purlin-dev");
        assert_eq!(scratch.name(&second), ".purlin-dev-2");
        assert_eq!(first.remove().expect("removable"), Removed::All);
        assert_eq!(scratch.name(&scratch.claim(false)), ".purlin-dev");
    }

    #[test]
    fn files_of_a_cluster_that_has_ended_are_cleared() {
        let scratch = Scratch::new("left");
        let folder = scratch.claim(false);
        fs::create_dir(folder.node(1)).expect("a new directory");
        fs::write(folder.node(1).join("log.txt"), "x").expect("a file");
        fs::write(folder.path.join("other"), "x").expect("a file");
        drop(folder);
        let again = scratch.claim(false);
        assert_eq!(scratch.name(&again), ".purlin-dev");
        assert!(!again.node(1).exists() && !again.path.join("other").exists());
    }

    /// A node of the folder with data, and the lock of its shard.
    fn data(folder: &Folder, node: u32) -> (PathBuf, File) {
        let shard = folder.node(node).join(DATA).join("shard-0");
        fs::create_dir_all(&shard).expect("new directories");
        fs::write(shard.join("000000000001.wal"), "acknowledged").expect("a file");
        let lock = File::create(shard.join(SHARD_LOCK)).expect("a file");
        (shard.join("000000000001.wal"), lock)
    }

    #[test]
    fn a_node_that_runs_keeps_all_data_of_its_cluster() {
        let scratch = Scratch::new("in-use");
        let folder = scratch.claim(false);
        let ((first, _), (second, lock)) = (data(&folder, 1), data(&folder, 2));
        lock.try_lock().expect("nobody has it");
        assert_eq!(folder.remove().expect("it can be read"), Removed::InUse);
        assert!(first.exists() && second.exists(), "data is gone that a node has open");
        // The next cluster takes another folder, and leaves this one as it is.
        let other = scratch.claim(false);
        assert_eq!(scratch.name(&other), ".purlin-dev-2");
        assert!(first.exists() && second.exists(), "data is gone that a node has open");
        drop((lock, other));
        let again = scratch.claim(false);
        assert_eq!(scratch.name(&again), ".purlin-dev");
        assert!(!first.exists() && !second.exists(), "nobody has it open");
    }

    #[test]
    fn a_kept_cluster_is_found_again_and_never_removed_by_another() {
        let scratch = Scratch::new("kept");
        let folder = scratch.claim(true);
        assert!(!folder.is_kept());
        fs::create_dir(folder.node(1)).expect("a new directory");
        folder.keep().expect("a file");
        drop(folder);
        let other = scratch.claim(false);
        assert_eq!(scratch.name(&other), ".purlin-dev-2");
        let again = scratch.claim(true);
        assert_eq!(scratch.name(&again), ".purlin-dev");
        assert!(again.is_kept() && again.node(1).exists());
    }

    #[test]
    fn a_folder_of_somebody_else_is_left_alone() {
        let scratch = Scratch::new("foreign");
        fs::create_dir(scratch.0.join(NAME)).expect("a new directory");
        fs::write(scratch.0.join(NAME).join("precious"), "x").expect("a file");
        assert_eq!(scratch.name(&scratch.claim(false)), ".purlin-dev-2");
        assert!(scratch.0.join(NAME).join("precious").exists());
    }

    #[test]
    fn a_directory_in_which_nothing_can_be_made_is_an_error_of_the_environment() {
        let failure =
            Folder::claim(Path::new("/proc"), false).map(drop).expect_err("no files there");
        assert_eq!(failure.exit_code(), 4);
        assert!(failure.to_string().contains("in     /proc/.purlin-dev"), "{failure}");
    }
}
