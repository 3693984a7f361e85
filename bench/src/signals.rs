//! Ctrl-C and `kill`: the first signal ends the run in order, the second one ends the process at
//! once.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::{SigId, flag, low_level};

/// Listens for SIGINT and SIGTERM for as long as it lives.
pub struct Signals {
    /// The number of the last signal, or 0 before the first.
    seen: Arc<AtomicUsize>,
    /// Carries a byte for each signal, so that a wait that has begun ends.
    wake: UnixStream,
    handlers: Vec<SigId>,
}

impl Signals {
    /// Starts to listen.
    ///
    /// # Errors
    /// When the handlers cannot be set.
    pub fn new() -> io::Result<Self> {
        let seen = Arc::new(AtomicUsize::new(0));
        let has_seen = Arc::new(AtomicBool::new(false));
        let (wake, waker) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        let mut handlers = Vec::new();
        for signal in [SIGINT, SIGTERM] {
            // Handlers run in this order, so only the second signal finds the flag set.
            handlers.push(flag::register_conditional_shutdown(
                signal,
                128 + signal,
                has_seen.clone(),
            )?);
            handlers.push(flag::register(signal, has_seen.clone())?);
            handlers.push(flag::register_usize(signal, seen.clone(), signal as usize)?);
            handlers.push(low_level::pipe::register(signal, waker.try_clone()?)?);
        }
        Ok(Self { seen, wake, handlers })
    }

    /// The signal that came, if any.
    pub fn seen(&self) -> Option<i32> {
        let signal = self.seen.load(Ordering::SeqCst);
        (signal != 0).then_some(signal as i32)
    }

    /// Becomes readable when a signal comes.
    pub fn readable(&self) -> &UnixStream {
        &self.wake
    }

    /// Reads the bytes of past signals, so that the next wait waits again.
    pub fn acknowledge(&mut self) {
        let mut bytes = [0; 16];
        while let Ok(1..) = io::Read::read(&mut self.wake, &mut bytes) {}
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for handler in self.handlers.drain(..) {
            low_level::unregister(handler);
        }
    }
}
