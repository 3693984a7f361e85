//! The io_uring: writes go in, and completions come out.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use io_uring::{IoUring, opcode, types};

/// A ring for the writes of one file.
pub(crate) struct Ring {
    ring: IoUring,
}

/// The end of one write.
pub(crate) struct Completion {
    /// The number that the write was given.
    pub(crate) token: u64,
    /// How many bytes were written.
    pub(crate) written: io::Result<usize>,
}

impl Ring {
    /// A ring for this many writes at once.
    ///
    /// # Errors
    /// When the kernel has no io_uring, or does not allow it.
    pub(crate) fn new(entries: usize) -> io::Result<Self> {
        Ok(Self { ring: IoUring::new(entries as u32)? })
    }

    /// Starts to write `bytes` at a place of the file.
    ///
    /// # Errors
    /// When the kernel does not take the write.
    ///
    /// # Safety
    /// The bytes must stay where they are, unchanged, until the completion with this token has come.
    pub(crate) unsafe fn write(
        &mut self,
        file: &File,
        bytes: &[u8],
        at: u64,
        token: u64,
    ) -> io::Result<()> {
        let write =
            opcode::Write::new(types::Fd(file.as_raw_fd()), bytes.as_ptr(), bytes.len() as u32);
        let entry = write.offset(at).build().user_data(token);
        // SAFETY: the caller keeps the bytes. The file is open as long as the kernel has the write, since the
        // kernel holds a reference of its own.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        pushed.map_err(|_| io::Error::other("the submission queue is full"))?;
        self.ring.submit()?;
        Ok(())
    }

    /// The next write that has ended, if there is one.
    pub(crate) fn next_completion(&mut self) -> Option<Completion> {
        let entry = self.ring.completion().next()?;
        let written = match entry.result() {
            error if error < 0 => Err(io::Error::from_raw_os_error(-error)),
            count => Ok(count as usize),
        };
        Some(Completion { token: entry.user_data(), written })
    }

    /// Waits until a write has ended.
    ///
    /// # Errors
    /// When the kernel refuses to wait.
    pub(crate) fn wait(&self) -> io::Result<()> {
        match self.ring.submit_and_wait(1) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }
}

/// Readable when a write has ended.
impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the ring owns the descriptor, and lives as long as the borrow.
        unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) }
    }
}
