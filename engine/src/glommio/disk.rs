//! A directory of a real disk: aligned direct I/O that bypasses the page cache.
//!
//! Reads, writes and syncs of files go through io_uring; names change through the executor's blocking
//! thread. What is left (locks, sizes, `mkdir`, lists) are short system calls, made in place: they
//! touch the disk at start or while a segment is prepared, if at all.
//!
//! A file is locked by `flock` for as long as its description is open, and a write that the kernel
//! still works on keeps it open after its process is gone (safety W3).

use crate::{
    Disk, Durability, FILL_BYTES, File, Pace,
    os::{DirectoryLock, directory, explain_access, is_full},
};
use ::glommio::{
    GlommioError,
    io::{self as dma, DmaBuffer, DmaFile, OpenOptions},
    timer,
};
use rustix::fs::{FlockOperation, OFlags, fstat, stat};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    fs,
    future::Future,
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::fs::{FileExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    rc::Rc,
    time::{Duration, Instant},
};

/// Positions and lengths are multiples of this.
const BLOCK_BYTES: u64 = 4096;
/// How long an open waits for a file's lock, and how often it tries.
const LOCK_WAIT: Duration = Duration::from_secs(10);
const LOCK_PAUSE: Duration = Duration::from_millis(1);

/// One directory, for the executor that it was made on.
#[derive(Clone)]
pub struct Directory {
    path: Rc<Path>,
    /// The directory itself, open from its first sync on: later ones need no descriptor that there may not
    /// be.
    opened: Rc<RefCell<Option<Rc<dma::Directory>>>>,
    /// The devices on which glommio has settled how it polls for completions.
    settled: Rc<RefCell<BTreeSet<u64>>>,
}

impl Directory {
    pub(super) fn new(path: PathBuf) -> Self {
        let path = std::path::absolute(&path).unwrap_or(path);
        Self { path: path.into(), opened: Rc::default(), settled: Rc::default() }
    }

    async fn opened(&self) -> io::Result<Rc<dma::Directory>> {
        let opened = self.opened.borrow().clone();
        if let Some(opened) = opened {
            return Ok(opened);
        }
        let opened = dma::Directory::open(&*self.path).await.map_err(io_error);
        let opened = Rc::new(opened.map_err(|error| explain_access(&self.path, error))?);
        *self.opened.borrow_mut() = Some(opened.clone());
        Ok(opened)
    }

    fn at(&self, name: &str) -> PathBuf {
        let is_plain = !name.is_empty() && !name.contains('/') && name != "." && name != "..";
        assert!(is_plain, "{name:?} is no name of a file");
        self.path.join(name)
    }

    async fn open_with(
        &self,
        name: &str,
        durability: Durability,
        is_new: bool,
    ) -> io::Result<DirectFile> {
        let settled = self.settle_polling().await;
        settled.map_err(|error| explain_access(&self.path, error))?;
        let mut flags = OFlags::NOFOLLOW;
        if durability == Durability::EachWrite {
            flags |= OFlags::DSYNC;
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(is_new).mode(0o600);
        options.custom_flags(flags.bits() as i32);
        let path = self.at(name);
        let file = options.dma_open(&path).await.map_err(io_error);
        let file = file.map_err(|error| explain_access(&path, error))?;
        DirectFile::new(file).locked().await
    }

    /// Lets glommio find out, on a file with content, whether this device can be polled for
    /// completions. It asks once for each device and thread, by reading the first file that it opens,
    /// and from an empty one it learns the wrong answer: on ext4 every later read then fails.
    async fn settle_polling(&self) -> io::Result<()> {
        let device = stat(&*self.path)?.st_dev;
        if !self.settled.borrow().contains(&device) {
            match nameless_block(&self.path) {
                Ok(Some(file)) => {
                    let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
                    read_once(path.into()).await?;
                }
                Ok(None) => {}
                // A node starts on a full disk too. What it starts on has content.
                Err(error) if is_full(&error) => match block_in(&self.path)? {
                    Some(path) => read_once(path).await?,
                    None => return Err(error),
                },
                Err(error) => return Err(error),
            }
            self.settled.borrow_mut().insert(device);
        }
        Ok(())
    }
}

async fn read_once(path: PathBuf) -> io::Result<()> {
    let opened = DmaFile::open(path).await.map_err(io_error)?;
    opened.close().await.map_err(io_error)
}

/// A file of a whole block or more in the directory.
fn block_in(directory: &Path) -> io::Result<Option<PathBuf>> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let found = fs::symlink_metadata(&path)?;
        if found.is_file() && found.len() >= BLOCK_BYTES {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// A file of one written block that has no name, or `None` where there are no such files.
fn nameless_block(directory: &Path) -> io::Result<Option<fs::File>> {
    let flags = (OFlags::TMPFILE | OFlags::CLOEXEC).bits() as i32;
    let opened = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .mode(0o600)
        .custom_flags(flags)
        .open(directory);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::Unsupported => return Ok(None),
        Err(error) => return Err(error),
    };
    file.write_all_at(&[0; BLOCK_BYTES as usize], 0)?;
    file.sync_data()?;
    Ok(Some(file))
}

impl Disk for Directory {
    type File = DirectFile;
    type Lock = DirectoryLock;

    fn subdirectory(&self, name: &str) -> Self {
        let settled = self.settled.clone();
        Self { path: self.at(name).into(), opened: Rc::default(), settled }
    }

    fn location(&self) -> String {
        self.path.display().to_string()
    }

    async fn create_dir(&self) -> io::Result<()> {
        directory::make(&self.path)
    }

    async fn lock(&self) -> io::Result<DirectoryLock> {
        directory::lock(&self.at("LOCK"))
    }

    async fn create_paced(
        &self,
        name: &str,
        head: &[u8],
        len: u64,
        durability: Durability,
        pace: &Pace,
    ) -> io::Result<DirectFile> {
        assert!(len.is_multiple_of(BLOCK_BYTES), "{name} of {len} bytes is no whole blocks");
        // Filled without a sync for each piece, then opened as it is to be used.
        let file = self.open_with(name, Durability::OnSync, true).await?;
        if let Err(error) = file.fill(head, len, pace).await {
            file.close().await?;
            self.remove(name).await?;
            return Err(error);
        }
        match durability {
            Durability::OnSync => Ok(file),
            Durability::EachWrite => {
                file.close().await?;
                self.open_with(name, durability, false).await
            }
        }
    }

    async fn open(&self, name: &str, durability: Durability) -> io::Result<DirectFile> {
        self.open_with(name, durability, false).await
    }

    async fn list(&self) -> io::Result<Vec<String>> {
        directory::list(&self.path)
    }

    async fn remove(&self, name: &str) -> io::Result<()> {
        let path = self.at(name);
        let removed = dma::remove(&path).await.map_err(io_error);
        removed.map_err(|error| explain_access(&path, error))
    }

    async fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (self.at(from), self.at(to));
        let renamed = dma::rename(&from, &to).await.map_err(io_error);
        renamed.map_err(|error| explain_access(&from, error))
    }

    async fn sync_dir(&self) -> io::Result<()> {
        // It is `fdatasync`, which for a directory does what `fsync` does on the file systems of Linux.
        self.opened().await?.sync().await.map_err(io_error)
    }
}

/// An aligned buffer, of whole blocks when made by [`File::block`].
pub struct Aligned(DmaBuffer);

impl AsRef<[u8]> for Aligned {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl AsMut<[u8]> for Aligned {
    fn as_mut(&mut self) -> &mut [u8] {
        self.0.as_bytes_mut()
    }
}

/// A file that is open for direct I/O.
pub struct DirectFile {
    /// Always there until it is closed.
    file: Option<DmaFile>,
    /// Operations begun and not seen to end: a dropped future may leave one to the kernel for ever.
    in_flight: Cell<usize>,
}

impl DirectFile {
    fn new(file: DmaFile) -> Self {
        Self { file: Some(file), in_flight: Cell::new(0) }
    }

    fn dma(&self) -> &DmaFile {
        self.file.as_ref().expect("a file is closed by value")
    }

    async fn locked(self) -> io::Result<Self> {
        let deadline = Instant::now() + LOCK_WAIT;
        loop {
            match rustix::fs::flock(&self, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(self),
                Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => {
                    timer::sleep(LOCK_PAUSE).await;
                }
                Err(error) => {
                    self.close().await?;
                    return Err(error.into());
                }
            }
        }
    }

    /// Makes the empty file one of `len` bytes, `head` and zeroes, that are really written: the first write to
    /// blocks that are only allocated would wait for the file system's journal.
    async fn fill(&self, head: &[u8], len: u64, pace: &Pace) -> io::Result<()> {
        match self.dma().pre_allocate(len, false).await.map_err(io_error) {
            Err(error) if error.kind() != io::ErrorKind::Unsupported => return Err(error),
            _ => {}
        }
        let mut position = 0;
        while position < len {
            let bytes = FILL_BYTES.min((len - position) as usize);
            pace.piece(bytes).await;
            let mut piece = self.block(bytes);
            piece.as_mut().fill(0);
            if position == 0 {
                piece.as_mut()[..head.len()].copy_from_slice(head);
            }
            let written = piece.as_ref().len() as u64;
            self.write_at(piece, position).await?;
            position += written;
        }
        self.sync().await
    }

    async fn tracked<T>(
        &self,
        operation: impl Future<Output = Result<T, GlommioError<()>>>,
    ) -> io::Result<T> {
        self.in_flight.set(self.in_flight.get() + 1);
        let result = operation.await;
        self.in_flight.set(self.in_flight.get() - 1);
        result.map_err(io_error)
    }
}

impl File for DirectFile {
    type Block = Aligned;

    fn block(&self, len: usize) -> Aligned {
        assert!(len > 0 && is_aligned(len), "a buffer of {len} bytes is no whole blocks");
        Aligned(self.dma().alloc_dma_buffer(len))
    }

    async fn size(&self) -> io::Result<u64> {
        Ok(fstat(self)?.st_size as u64)
    }

    async fn read_at(&self, position: u64, len: usize) -> io::Result<Aligned> {
        assert!(position.is_multiple_of(BLOCK_BYTES), "a read at {position} is not aligned");
        let mut block = self.block(len);
        let mut filled = 0;
        while filled < len {
            let from = position + filled as u64;
            let read = self.tracked(self.dma().read_at_aligned(from, len - filled)).await?;
            block.as_mut()[filled..filled + read.len()].copy_from_slice(&read);
            filled += read.len();
            // The end of the file, which direct reads meet with a short count, then with none.
            if read.is_empty() || !is_aligned(filled) {
                break;
            }
        }
        block.0.trim_to_size(filled);
        Ok(block)
    }

    async fn write_at(&self, block: Aligned, position: u64) -> io::Result<()> {
        let len = block.0.len();
        assert!(position.is_multiple_of(BLOCK_BYTES), "a write at {position} is not aligned");
        assert!(is_aligned(len), "a write of {len} bytes is no whole blocks");
        let written = self.tracked(self.dma().write_at(block.0, position)).await?;
        if written < len {
            let text = format!("wrote {written} of {len} bytes at {position}");
            return Err(io::Error::new(io::ErrorKind::WriteZero, text));
        }
        Ok(())
    }

    async fn sync(&self) -> io::Result<()> {
        self.tracked(self.dma().fdatasync()).await
    }

    async fn close(mut self) -> io::Result<()> {
        let file = self.file.take().expect("a file is closed once");
        file.close().await.map_err(io_error)
    }
}

impl Drop for DirectFile {
    /// A file that is dropped open is closed by its executor's next turn, if there is one. So the lock
    /// goes here, unless the kernel may still be writing.
    fn drop(&mut self) {
        if self.file.is_some() && self.in_flight.get() == 0 {
            rustix::fs::flock(&*self, FlockOperation::Unlock).ok();
        }
    }
}

impl AsFd for DirectFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is open as long as `file` is, which `self` keeps.
        unsafe { BorrowedFd::borrow_raw(self.dma().as_raw_fd()) }
    }
}

fn is_aligned(len: usize) -> bool {
    (len as u64).is_multiple_of(BLOCK_BYTES)
}

/// The system's own error, with its number, where there is one: glommio's conversion loses it.
pub(super) fn io_error(error: GlommioError<()>) -> io::Error {
    match error {
        GlommioError::IoError(source) | GlommioError::EnhancedIoError { source, .. } => source,
        other => other.into(),
    }
}
