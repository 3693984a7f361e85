//! What wakes a command that goes on until somebody ends it: a wish to end it, and the end of a child.

use crate::error::Failure;
use purlin::ErrorKind;
use signal_hook::{
    consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM},
    flag,
    low_level::pipe,
};
use std::{
    io::{self, Read},
    os::unix::net::UnixStream,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// The signals that this process gets from now on.
pub(crate) struct Signals {
    /// Gets a byte with each signal.
    wake: UnixStream,
    stop: Arc<AtomicBool>,
}

impl Signals {
    pub(crate) fn listen() -> Result<Self, Failure> {
        Self::register().map_err(|error| {
            Failure::new(
                ErrorKind::Environment,
                format!("cannot watch for signals: {error}"),
                "this process",
                "nothing was started",
                "raise the limit of open files (ulimit -n)",
            )
        })
    }

    fn register() -> io::Result<Self> {
        let (wake, written) = UnixStream::pair()?;
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            // First the flag, then the byte: the thread that the byte wakes finds the flag set.
            flag::register(signal, stop.clone())?;
            pipe::register(signal, written.try_clone()?)?;
        }
        pipe::register(SIGCHLD, written)?;
        Ok(Self { wake, stop })
    }

    /// Whether there was a wish to end since this was last asked.
    pub(crate) fn take_stop(&self) -> bool {
        self.stop.swap(false, Ordering::Relaxed)
    }

    /// Whether [`Signals::take_stop`] would say so.
    pub(crate) fn stops(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Returns at the next signal, or after `limit`.
    pub(crate) fn wait(&self, limit: Option<Duration>) {
        assert!(limit != Some(Duration::ZERO), "a wait of nothing would be for ever");
        self.wake.set_read_timeout(limit).expect("a time that is not zero");
        // Why it returns does not matter: the caller looks at everything.
        let _ = (&self.wake).read(&mut [0; 64]);
    }
}
