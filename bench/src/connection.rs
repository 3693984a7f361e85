//! One TCP connection to a server. The connection may be lost and is made again.
//!
//! ```text
//! Down ──connect──► Connecting ──writable──► Up ──error, end, timeout──► Down (retry after a pause)
//! ```
//!
//! Nothing here blocks: the socket is non-blocking from its first system call, and the driver's
//! epoll says when it is ready. The pause before a retry doubles from 10 to 100 ms and not further,
//! so that the time without service is measured sharply. A connection never sends an operation
//! twice.

use std::io;
use std::net::SocketAddr;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, sockopt};

use crate::chance::Chance;
use crate::exchange::Exchange;

const RETRY_FIRST_NANOS: u64 = 10_000_000;
const RETRY_MAX_NANOS: u64 = 100_000_000;

/// A connection and the operations on it.
#[derive(Debug)]
pub struct Connection {
    address: SocketAddr,
    /// The token with which epoll reports the events of this connection.
    token: u64,
    link: Link,
    /// Whether the last write was short. Then epoll watches for room.
    is_blocked: bool,
    /// Failed attempts since the connection was up.
    failures: u32,
    /// The operations on it.
    pub exchange: Exchange,
}

#[derive(Debug)]
enum Link {
    Down { retry_at: u64 },
    Connecting { socket: OwnedFd, since: u64 },
    Up { socket: OwnedFd },
}

impl Connection {
    /// A connection that is not made yet. Its events will carry `token`.
    pub fn new(address: SocketAddr, token: u64) -> Self {
        Self {
            address,
            token,
            link: Link::Down { retry_at: 0 },
            is_blocked: false,
            failures: 0,
            exchange: Exchange::default(),
        }
    }

    /// The server's address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// When a retry is due. `None` while the connection is up or is being made.
    pub fn retry_at(&self) -> Option<u64> {
        match self.link {
            Link::Down { retry_at } => Some(retry_at),
            _ => None,
        }
    }

    /// Since when the connection is being made.
    pub fn connecting_since(&self) -> Option<u64> {
        match self.link {
            Link::Connecting { since, .. } => Some(since),
            _ => None,
        }
    }

    /// Whether operations can be sent on it.
    pub fn is_up(&self) -> bool {
        matches!(self.link, Link::Up { .. })
    }

    /// Starts to connect. [`Self::finish_connect`] must follow when epoll reports the end of the
    /// attempt.
    ///
    /// # Errors
    /// When the attempt fails at once. The caller closes it.
    pub fn connect(&mut self, epoll: &OwnedFd, now: u64) -> io::Result<()> {
        assert!(self.retry_at().is_some(), "a connection is connected once at a time");
        let family =
            if self.address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
        sockopt::set_tcp_nodelay(&socket, true)?;
        match rustix::net::connect(&socket, &self.address) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        epoll::add(epoll, &socket, EventData::new_u64(self.token), EventFlags::OUT)?;
        self.link = Link::Connecting { socket, since: now };
        Ok(())
    }

    /// Ends the attempt, and makes the connection usable.
    ///
    /// # Errors
    /// When the attempt has failed. The caller closes the connection.
    pub fn finish_connect(&mut self, epoll: &OwnedFd) -> io::Result<()> {
        let Link::Connecting { socket, .. } =
            std::mem::replace(&mut self.link, Link::Down { retry_at: 0 })
        else {
            panic!("finish_connect on {:?}", self.link);
        };
        sockopt::socket_error(&socket)??;
        epoll::modify(epoll, &socket, EventData::new_u64(self.token), EventFlags::IN)?;
        self.link = Link::Up { socket };
        self.failures = 0;
        Ok(())
    }

    /// Reads once into `buffer`. Returns 0 when there is nothing to read now.
    ///
    /// # Errors
    /// When the connection has ended, by its peer or by an error. The caller closes it.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match rustix::io::read(self.socket(), buffer) {
            Ok(0) => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the server closed the connection",
            )),
            Ok(count) => Ok(count),
            Err(Errno::AGAIN | Errno::INTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes the bytes that wait, as many as the socket accepts. The rest follows when epoll
    /// reports room.
    ///
    /// # Errors
    /// When the connection has ended. The caller closes it.
    pub fn flush(&mut self, epoll: &OwnedFd) -> io::Result<()> {
        while !self.exchange.unwritten().is_empty() {
            let sent =
                rustix::net::send(self.socket(), self.exchange.unwritten(), SendFlags::NOSIGNAL);
            match sent {
                Ok(count) => self.exchange.wrote(count),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return self.watch(epoll, true),
                Err(error) => return Err(error.into()),
            }
        }
        self.watch(epoll, false)
    }

    /// Ends the connection, whatever its state. A retry is due after a pause. The operations that
    /// were in flight stay in `exchange`, for the caller to count.
    pub fn close(&mut self, now: u64, chance: &mut Chance) {
        let pause = (RETRY_FIRST_NANOS << self.failures.min(10)).min(RETRY_MAX_NANOS);
        // Half of the pause is random, so that many connections do not try again at the same
        // moment.
        let pause = pause / 2 + chance.below(pause / 2);
        self.failures = self.failures.saturating_add(1);
        self.is_blocked = false;
        // Dropping the socket closes it, and removes it from the epoll.
        self.link = Link::Down { retry_at: now + pause };
    }

    fn watch(&mut self, epoll: &OwnedFd, for_room: bool) -> io::Result<()> {
        if self.is_blocked == for_room {
            return Ok(());
        }
        self.is_blocked = for_room;
        let flags = if for_room { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
        Ok(epoll::modify(epoll, self.socket(), EventData::new_u64(self.token), flags)?)
    }

    fn socket(&self) -> &OwnedFd {
        let Link::Up { socket } = &self.link else { panic!("no connection: {:?}", self.link) };
        socket
    }
}
