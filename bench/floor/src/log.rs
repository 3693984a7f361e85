//! The log: a preallocated file that durable writes go through, one after the other, and that wraps around.
//!
//! A write is one or more frames, and zeros up to a full block of [`BLOCK`] bytes. No written block is written
//! again before the log wraps around. Nothing reads the file: recovery is left out.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::failure::Failure;
use crate::ring::Ring;

/// The unit of writes, in bytes; at least the logical block of the disk.
const BLOCK: usize = 4096;
/// The most bytes of one write; a multiple of [`BLOCK`].
pub(crate) const WRITE_BYTES_MAX: usize = 1 << 20;

/// The log of one process. When it is dropped, it removes its file.
pub(crate) struct Log {
    ring: Ring,
    file: File,
    path: PathBuf,
    bytes: u64,
    /// Where the next write begins. Invariant: a multiple of [`BLOCK`].
    next_at: u64,
    free: Vec<Buffer>,
    /// Writes in the order of their submission. The number of the first one is `ended`.
    in_flight: VecDeque<Write>,
    /// How many writes have left `in_flight`; the token of a write is its number.
    ended: u64,
    durable: u64,
}

struct Write {
    buffer: Buffer,
    length: usize,
    sequence: u64,
    is_done: bool,
}

impl Log {
    /// Makes the file `floor.log` in an existing directory, full of zeros, and durable.
    ///
    /// # Errors
    /// When the file exists, cannot be made, or cannot be written without the page cache.
    pub(crate) fn create(dir: &Path, bytes: u64, depth: usize) -> Result<Self, Failure> {
        let path = dir.join("floor.log");
        let fail = |error: io::Error| {
            Failure::new(
                format!("the log could not be made: {error}"),
                path.display(),
                "this process does not start, and nothing was acknowledged",
                "name an existing directory without a floor.log, on a disk that takes O_DIRECT, as --dir",
            )
        };
        let file = OpenOptions::new().write(true).create_new(true).open(&path).map_err(fail)?;
        // From here on the file is ours to remove.
        let made = fill(file, bytes).and_then(|()| open_durable(&path));
        let ring = made.and_then(|file| Ok((file, Ring::new(depth.next_power_of_two())?)));
        let (file, ring) = ring.map_err(|error| {
            drop(fs::remove_file(&path));
            fail(error)
        })?;
        let free = (0..depth).map(|_| Buffer::new()).collect();
        let in_flight = VecDeque::new();
        Ok(Self { ring, file, path, bytes, next_at: 0, free, in_flight, ended: 0, durable: 0 })
    }

    /// Whether another write may start.
    pub(crate) fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    /// Starts to write frames, of which the last one has this sequence. The bytes are copied.
    ///
    /// # Errors
    /// When the kernel does not take the write.
    pub(crate) fn append(&mut self, frames: &[u8], sequence: u64) -> Result<(), Failure> {
        let mut buffer = self.free.pop().expect("the caller asked has_room");
        let length = buffer.fill(frames);
        if self.next_at + length as u64 > self.bytes {
            self.next_at = 0;
        }
        let token = self.ended + self.in_flight.len() as u64;
        self.in_flight.push_back(Write { buffer, length, sequence, is_done: false });
        let write = self.in_flight.back().expect("just pushed");
        let bytes = &write.buffer.bytes()[..write.length];
        // SAFETY: the buffer's bytes lie in a vector that is not touched until `reap` has seen the
        // completion, and `drop` waits for all completions.
        let started = unsafe { self.ring.write(&self.file, bytes, self.next_at, token) };
        started.map_err(|error| self.failed(&error))?;
        self.next_at += length as u64;
        Ok(())
    }

    /// Takes the completions that have come. Returns the sequence up to which all frames are durable.
    ///
    /// # Errors
    /// When a write failed, or was cut. Nothing after it can be acknowledged.
    pub(crate) fn reap(&mut self) -> Result<u64, Failure> {
        while let Some(completion) = self.ring.next_completion() {
            let write = &mut self.in_flight[(completion.token - self.ended) as usize];
            write.is_done = true;
            let length = write.length;
            match completion.written {
                Ok(written) if written == length => {}
                Ok(_) => return Err(self.failed(&io::Error::from(io::ErrorKind::WriteZero))),
                Err(error) => return Err(self.failed(&error)),
            }
        }
        while let Some(write) = self.in_flight.pop_front_if(|write| write.is_done) {
            self.durable = write.sequence;
            self.free.push(write.buffer);
            self.ended += 1;
        }
        Ok(self.durable)
    }

    fn failed(&self, error: &io::Error) -> Failure {
        Failure::new(
            format!("a write to the log failed: {error}"),
            self.path.display(),
            "this process can acknowledge nothing more, and ends",
            "see whether the disk works, then start the three processes again",
        )
    }
}

/// Readable when a write has ended.
impl AsFd for Log {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

/// The kernel may read a buffer until its write has ended.
impl Drop for Log {
    fn drop(&mut self) {
        while self.in_flight.iter().any(|write| !write.is_done) {
            match self.ring.next_completion() {
                Some(end) => self.in_flight[(end.token - self.ended) as usize].is_done = true,
                None if self.ring.wait().is_ok() => {}
                None => {
                    // The writes cannot be waited for: their memory must stay.
                    std::mem::forget(std::mem::take(&mut self.in_flight));
                    break;
                }
            }
        }
        drop(fs::remove_file(&self.path));
    }
}

/// Writes zeros, so that later writes change no metadata of the file system.
fn fill(mut file: File, bytes: u64) -> io::Result<()> {
    let zeros = vec![0; 1 << 20];
    for _ in 0..bytes >> 20 {
        file.write_all(&zeros)?;
    }
    file.sync_all()
}

fn open_durable(path: &Path) -> io::Result<File> {
    let flags = (OFlags::DIRECT | OFlags::DSYNC).bits() as i32;
    OpenOptions::new().write(true).custom_flags(flags).open(path)
}

/// Memory for one write, as `O_DIRECT` wants it: it begins at a multiple of [`BLOCK`].
struct Buffer {
    memory: Vec<u8>,
    start: usize,
}

impl Buffer {
    fn new() -> Self {
        let memory = vec![0; WRITE_BYTES_MAX + BLOCK];
        let start = memory.as_ptr().align_offset(BLOCK);
        assert!(start < BLOCK, "no aligned place in {} bytes", memory.len());
        Self { memory, start }
    }

    fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.start + WRITE_BYTES_MAX]
    }

    /// Copies the frames in, and zeros behind them. Returns how many bytes are to be written.
    fn fill(&mut self, frames: &[u8]) -> usize {
        let length = frames.len().next_multiple_of(BLOCK);
        assert!(length <= WRITE_BYTES_MAX, "a write of {length} bytes");
        let bytes = &mut self.memory[self.start..self.start + length];
        bytes[..frames.len()].copy_from_slice(frames);
        bytes[frames.len()..].fill(0);
        length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_aligned_and_padded_with_zeros() {
        let mut buffer = Buffer::new();
        assert_eq!(buffer.bytes().as_ptr() as usize % BLOCK, 0);
        assert_eq!(buffer.fill(&[7; 5000]), 8192);
        assert_eq!(buffer.fill(&[9; 100]), 4096);
        assert_eq!((buffer.bytes()[99], buffer.bytes()[100], buffer.bytes()[4095]), (9, 0, 0));
    }
}
