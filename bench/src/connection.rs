//! One TCP connection to a server, which may die and come back.
//!
//! ```text
//! Down ──connect──► Connecting ──writable──► Up ──error, end, timeout──► Down (retry after a pause)
//! ```
//!
//! Nothing here blocks: the socket is non-blocking from its first system call, and the driver's epoll
//! says when to go on. The pause before a retry doubles from 10 to 100 ms, no more, since the time
//! without service is to be seen sharply. It never sends an operation twice.

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

/// A connection and what is under way on it.
#[derive(Debug)]
pub struct Connection {
    address: SocketAddr,
    /// What epoll reports its events with.
    token: u64,
    link: Link,
    /// The last write was short: epoll watches for room.
    is_blocked: bool,
    /// Attempts without success since it was up.
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
    /// A connection to be, whose events will carry `token`.
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

    /// When a retry is due; `None` while it is up or being set up.
    pub fn retry_at(&self) -> Option<u64> {
        match self.link {
            Link::Down { retry_at } => Some(retry_at),
            _ => None,
        }
    }

    /// Since when it is being set up.
    pub fn connecting_since(&self) -> Option<u64> {
        match self.link {
            Link::Connecting { since, .. } => Some(since),
            _ => None,
        }
    }

    /// Can operations be sent on it?
    pub fn is_up(&self) -> bool {
        matches!(self.link, Link::Up { .. })
    }

    /// Starts to connect; [`Self::finish_connect`] follows when epoll says so.
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

    /// The attempt has ended: makes the connection usable.
    ///
    /// # Errors
    /// When it has ended badly. The caller closes it.
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

    /// Reads once into `buffer`; 0 when there is nothing to read now.
    ///
    /// # Errors
    /// When the connection has ended, in order or not. The caller closes it.
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

    /// Writes what waits, as far as the socket takes it; the rest goes out when epoll reports room.
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

    /// Ends it, whatever its state; a retry is due after a pause. What was on its way is in
    /// `exchange` still, for the caller to take account of.
    pub fn close(&mut self, now: u64, chance: &mut Chance) {
        let pause = (RETRY_FIRST_NANOS << self.failures.min(10)).min(RETRY_MAX_NANOS);
        // Half of it by chance, so that many connections do not knock in the same moment.
        let pause = pause / 2 + chance.below(pause / 2);
        self.failures = self.failures.saturating_add(1);
        self.is_blocked = false;
        // Dropping the socket closes it, and epoll forgets it.
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
