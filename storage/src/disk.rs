//! The seam to a disk: one directory of it, and the files in it.
//!
//! The code above this seam is production code, which the simulator runs too; the simulator replaces the
//! code below. No implementation panics because of a device. Errors are `std::io::Error`, and a full disk
//! (`ENOSPC`) is `ErrorKind::StorageFull`. When the process or the kernel has no file descriptor or no
//! memory left, an operation fails before it has begun, with the number that the system gave (`EMFILE`,
//! `ENFILE`, `ENOMEM`).

use crate::pace::Pace;
use std::io;

/// How a write to a file becomes durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// A completed write is durable in its own range, and in no other (`O_DSYNC`).
    EachWrite,
    /// A write is durable once a [`File::sync`] that began after its completion has completed.
    OnSync,
}

/// One directory. A clone is another handle to the same directory.
pub trait Disk: Clone + 'static {
    /// Its files.
    type File: File;
    /// Keeps the directory locked until it is dropped.
    type Lock: 'static;

    /// A directory below this one. It need not exist: the first use shows whether it does.
    fn subdirectory(&self, name: &str) -> Self;
    /// The place in words, for messages.
    fn location(&self) -> String;
    /// Makes this directory; durable in its parent after the parent's [`Disk::sync_dir`].
    async fn create_dir(&self) -> io::Result<()>;
    /// Locks the directory against a second process. `WouldBlock` when another holds it.
    async fn lock(&self) -> io::Result<Self::Lock>;
    /// Makes a file of `len` bytes, which are durable (and no hole) when this returns: `head`, of one block
    /// at most, and zeroes behind it. Its name is durable after [`Disk::sync_dir`]. `AlreadyExists` when there
    /// is one. The file is locked, as by [`Disk::open`]. Asks `pace` before each piece of
    /// [`FILL_BYTES`](crate::FILL_BYTES) that it writes.
    async fn create_paced(
        &self,
        name: &str,
        head: &[u8],
        len: u64,
        durability: Durability,
        pace: &Pace,
    ) -> io::Result<Self::File>;
    /// [`Disk::create_paced`], all zeroes, and as fast as the device is.
    async fn create(&self, name: &str, len: u64, durability: Durability) -> io::Result<Self::File> {
        self.create_paced(name, &[], len, durability, &Pace::default()).await
    }
    /// Opens a file and takes its own lock, waiting a bounded time for it: writes of a killed process
    /// that are still in flight hold it (safety W3). `NotFound`, or `WouldBlock` when it stays held.
    async fn open(&self, name: &str, durability: Durability) -> io::Result<Self::File>;
    /// The names of the files and directories in it, sorted.
    async fn list(&self) -> io::Result<Vec<String>>;
    /// Removes a file; durable after [`Disk::sync_dir`].
    async fn remove(&self, name: &str) -> io::Result<()>;
    /// Renames a file, replacing `to`; durable after [`Disk::sync_dir`].
    async fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Makes creations, removals and renames in this directory durable.
    async fn sync_dir(&self) -> io::Result<()>;
}

/// An owned, aligned buffer that the device may hold while an operation is in flight.
pub trait Block: AsRef<[u8]> + AsMut<[u8]> + 'static {}
impl<T: AsRef<[u8]> + AsMut<[u8]> + 'static> Block for T {}

/// A file for aligned reads and writes, several of which may be in flight. Positions and lengths are
/// multiples of 4,096 bytes.
pub trait File: 'static {
    /// Its buffers.
    type Block: Block;

    /// A buffer of `len` bytes, of any content.
    fn block(&self, len: usize) -> Self::Block;
    /// The file's size in bytes.
    async fn size(&self) -> io::Result<u64>;
    /// Reads `len` bytes at `position`; shorter only at the end of the file.
    async fn read_at(&self, position: u64, len: usize) -> io::Result<Self::Block>;
    /// Writes the whole block or fails. Dropping the future does not take the write back.
    async fn write_at(&self, block: Self::Block, position: u64) -> io::Result<()>;
    /// Makes every write durable that completed before this began.
    async fn sync(&self) -> io::Result<()>;
    /// Closes the file and gives its lock back.
    async fn close(self) -> io::Result<()>;
}
