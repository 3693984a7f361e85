//! The epoll of a process, the signals that end it, and the line that says that it is ready.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::failure::Failure;

const EVENTS_MAX: usize = 256;
/// The token of the signals.
pub(crate) const STOP: u64 = 0;

/// What a process waits for.
pub(crate) struct Poll {
    epoll: OwnedFd,
    events: Vec<Event>,
    /// A byte comes here with SIGTERM or SIGINT.
    _stop: UnixStream,
}

/// How an event is told.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Watch {
    /// In every wait, as long as there is something to read.
    Level,
    /// Once for each change: there is more to read, or room to write again.
    Edge,
}

impl Poll {
    /// An epoll that knows the signals only.
    ///
    /// # Errors
    /// When the kernel refuses an epoll or a handler.
    pub(crate) fn new() -> Result<Self, Failure> {
        Self::with_signals().map_err(failed)
    }

    fn with_signals() -> io::Result<Self> {
        let (stop, signal) = UnixStream::pair()?;
        signal_hook::low_level::pipe::register(SIGTERM, signal.try_clone()?)?;
        signal_hook::low_level::pipe::register(SIGINT, signal)?;
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &stop, EventData::new_u64(STOP), EventFlags::IN)?;
        Ok(Self { epoll, events: Vec::with_capacity(EVENTS_MAX), _stop: stop })
    }

    /// Watches a file. Its events carry the token.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub(crate) fn add(&self, source: impl AsFd, token: u64, watch: Watch) -> Result<(), Failure> {
        let flags = match watch {
            Watch::Level => EventFlags::IN,
            Watch::Edge => EventFlags::IN | EventFlags::OUT | EventFlags::ET,
        };
        epoll::add(&self.epoll, source, EventData::new_u64(token), flags)
            .map_err(|error| failed(error.into()))
    }

    /// Stops to watch a file that stays open.
    pub(crate) fn remove(&self, source: impl AsFd) {
        let _ = epoll::delete(&self.epoll, source);
    }

    /// Waits for events, or only looks for them. Adds their tokens to `tokens`.
    ///
    /// # Errors
    /// When the epoll reports an error.
    pub(crate) fn wait(&mut self, may_sleep: bool, tokens: &mut Vec<u64>) -> Result<(), Failure> {
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let timeout = (!may_sleep).then_some(&at_once);
        self.events.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), timeout) {
            Ok(_) => tokens.extend(self.events.iter().map(|event| event.data.u64())),
            // A completion of the ring ends a wait in this way.
            Err(Errno::INTR) => {}
            Err(error) => return Err(failed(error.into())),
        }
        Ok(())
    }
}

fn failed(error: io::Error) -> Failure {
    Failure::new(
        format!("the operating system refused to watch sockets: {error}"),
        "this process",
        "it cannot serve, and ends",
        "see the limit of open files (ulimit -n), then start the three processes again",
    )
}

/// Listens at an address.
///
/// # Errors
/// When the address is in use, or not of this machine.
pub(crate) fn listen(address: SocketAddr) -> Result<TcpListener, Failure> {
    let listener = TcpListener::bind(address);
    let listener = listener.and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
    listener.map_err(|error| {
        Failure::new(
            format!("the address cannot be listened at: {error}"),
            address,
            "this process does not start",
            "name a free address of this machine with --listen",
        )
    })
}

/// Tells whoever started the process that it is ready, and where.
pub(crate) fn say_ready(listener: &TcpListener) {
    if let Ok(address) = listener.local_addr() {
        let mut out = io::stdout().lock();
        // A reader that has gone does not need to know.
        drop(writeln!(out, "listening on {address}").and_then(|()| out.flush()));
    }
}
