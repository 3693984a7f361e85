//! The epoll and its buffers, and the limits of the process that a wait depends on.
//!
//! This module does not know connections or loads.

use std::io;
use std::num::NonZeroU64;

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const EVENTS_MAX: usize = 256;
const READ_BYTES: usize = 256 * 1024;
const SECOND_NANOS: u64 = 1_000_000_000;

/// The epoll, and buffers that are used again in every turn.
pub struct Poller {
    /// The epoll with which connections register.
    pub epoll: OwnedFd,
    events: Vec<Event>,
    /// The buffer for a read of any connection.
    pub buffer: Vec<u8>,
}

impl Poller {
    /// An epoll that watches nothing yet.
    ///
    /// # Errors
    /// When the operating system refuses an epoll.
    pub fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        Ok(Self { epoll, events: Vec::with_capacity(EVENTS_MAX), buffer: vec![0; READ_BYTES] })
    }

    /// Watches `source` for bytes to read. Its events will carry `token`.
    ///
    /// # Errors
    /// When it cannot be watched.
    pub fn add(&self, source: impl AsFd, token: u64) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, source, EventData::new_u64(token), EventFlags::IN)?)
    }

    /// Waits for this many nanoseconds at most. The caller must return the events with
    /// [`Self::give_back`].
    ///
    /// # Errors
    /// When the epoll reports an error.
    pub fn wait(&mut self, nanos: u64) -> io::Result<Vec<Event>> {
        let mut events = std::mem::take(&mut self.events);
        events.clear();
        let timeout = Timespec {
            tv_sec: (nanos / SECOND_NANOS) as i64,
            tv_nsec: (nanos % SECOND_NANOS) as i64,
        };
        match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => Ok(events),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes the events back, so that the next wait needs no memory.
    pub fn give_back(&mut self, events: Vec<Event>) {
        self.events = events;
    }
}

/// Raises the process's limit of open files to `count`.
///
/// # Errors
/// When the hard limit is lower.
pub fn allow_open_files(count: u64) -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= count) {
        return Ok(());
    }
    if limit.maximum.is_some_and(|maximum| maximum < count) {
        let most = limit.maximum.unwrap_or_default();
        let text = format!("{count} files must be open at once, and the limit is {most}");
        return Err(io::Error::new(io::ErrorKind::QuotaExceeded, text));
    }
    Ok(setrlimit(Resource::Nofile, Rlimit { current: Some(count), maximum: limit.maximum })?)
}

/// Linux lets a wait end up to 50 µs late, so that wake-ups can be shared. This is too coarse for a
/// schedule. Where the setting cannot be changed, the latency from the intended time shows the
/// delay.
pub fn wake_on_time() {
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_in_time_and_on_an_event() {
        use std::io::Write;
        let mut poller = Poller::new().unwrap();
        let (reader, mut writer) = std::os::unix::net::UnixStream::pair().unwrap();
        poller.add(&reader, 7).unwrap();
        let events = poller.wait(1_000).unwrap();
        assert!(events.is_empty());
        poller.give_back(events);
        writer.write_all(b"x").unwrap();
        let events = poller.wait(60 * SECOND_NANOS).unwrap();
        assert_eq!(events.iter().map(|event| event.data.u64()).collect::<Vec<_>>(), [7]);
    }

    #[test]
    fn more_open_files_than_allowed_are_an_error() {
        let Some(maximum) = getrlimit(Resource::Nofile).maximum else { return };
        assert!(allow_open_files(16).is_ok());
        let error = allow_open_files(maximum + 1).unwrap_err();
        assert!(error.to_string().contains("limit"), "{error}");
    }
}
