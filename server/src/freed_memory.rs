//! How freed memory returns to the system while the program allocates nothing.
//!
//! mimalloc, the allocator of the program, keeps freed memory for a second, since the program may soon ask for it again.
//! Later it returns the memory, but only when a thread allocates much. A node whose clients have gone does not, so it
//! would keep the memory of their replies for minutes. The thread here makes mimalloc look once a second.

use std::{
    io,
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread,
    time::Duration,
};

/// How often the thread looks. A look that finds nothing to return reads a clock and a number.
const EVERY: Duration = Duration::from_secs(1);

/// The thread that returns freed memory. It ends soon after this is dropped.
pub(crate) struct FreedMemory {
    _ends: Sender<()>,
}

impl FreedMemory {
    /// Starts the thread.
    ///
    /// # Errors
    /// The machine refuses a thread.
    pub(crate) fn start() -> io::Result<Self> {
        let (ends, ended) = mpsc::channel::<()>();
        let run = move || {
            while ended.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                return_some();
            }
        };
        thread::Builder::new().name("freed-memory".into()).spawn(run)?;
        Ok(Self { _ends: ends })
    }
}

/// Returns the memory of the whole process that has been free for a second.
fn return_some() {
    // SAFETY: mimalloc lets any thread call this at any time, also while the process ends. It takes no pointer, and
    // returns only memory in which no block is in use. In a program with another allocator, mimalloc has no memory.
    unsafe { libmimalloc_sys::mi_collect(false) }
}
