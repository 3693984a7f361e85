//! TCP sockets, their options and their addresses.

use purlin_transport::{CLIENT_PROBE_AFTER, CONNECT_MAX, PROBE_AFTER, UNACKNOWLEDGED_MAX};
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};
use std::{
    io,
    net::{SocketAddr, ToSocketAddrs},
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;
/// How many probes without an answer end a connection.
const PROBES: u32 = 3;

/// Whom connections join.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ends {
    /// A node, and a client or an operator.
    Client,
    /// Two nodes.
    Nodes,
}

impl Ends {
    /// A dial that hears nothing ends after this time: the kernel itself tries for two minutes.
    pub(crate) fn connect_max(self) -> Duration {
        match self {
            Self::Client => Duration::from_secs(3),
            Self::Nodes => CONNECT_MAX,
        }
    }

    /// Has the kernel end the connection when the other end does not answer.
    pub(crate) fn watch(self, socket: impl AsFd + Copy) -> rustix::io::Result<()> {
        let (probe_after, pause) = match self {
            Self::Client => (CLIENT_PROBE_AFTER, CLIENT_PROBE_AFTER / PROBES),
            Self::Nodes => {
                let millis = UNACKNOWLEDGED_MAX.as_millis() as u32;
                sockopt::set_tcp_user_timeout(socket, millis)?;
                (PROBE_AFTER, PROBE_AFTER)
            }
        };
        sockopt::set_socket_keepalive(socket, true)?;
        sockopt::set_tcp_keepidle(socket, probe_after)?;
        sockopt::set_tcp_keepintvl(socket, pause)?;
        sockopt::set_tcp_keepcnt(socket, PROBES)
    }
}

/// A bound port that several shards of this process listen at, each on a socket of its own, among
/// which the kernel spreads the connections.
///
/// Sockets of their own, since glommio switches a listening socket to non-blocking and back around
/// each accept, and on one shared description a shard would now and then block in it.
pub struct SharedPort {
    socket: OwnedFd,
    port: u16,
}

impl SharedPort {
    /// Binds `address`, as `host:port`, for `shards` shards. `AddrInUse` when another process has it.
    /// Resolves a host name in place: for use before the shards start.
    pub fn bind(address: &str, shards: u16) -> io::Result<Vec<Self>> {
        let mut last = no_address(address);
        for address in address.to_socket_addrs()? {
            match Self::bind_at(address, shards) {
                Ok(ports) => return Ok(ports),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The first bind is exclusive, so it fails while anybody has the port; only then is the port
    /// opened to the others.
    fn bind_at(address: SocketAddr, shards: u16) -> io::Result<Vec<Self>> {
        let first = bind(address)?;
        let port = port_of(&first)?;
        let address = SocketAddr::new(address.ip(), port);
        let mut ports = vec![Self::share(first, port)?];
        for _ in 1..shards {
            let socket = open(address)?;
            sockopt::set_socket_reuseport(&socket, true)?;
            net::bind(&socket, &address)?;
            ports.push(Self::share(socket, port)?);
        }
        Ok(ports)
    }

    fn share(socket: OwnedFd, port: u16) -> io::Result<Self> {
        net::listen(&socket, BACKLOG)?;
        sockopt::set_socket_reuseport(&socket, true)?;
        Ok(Self { socket, port })
    }

    /// The port: of use after binding port 0.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its socket, and its number.
    pub(crate) fn into_parts(self) -> (OwnedFd, u16) {
        (self.socket, self.port)
    }
}

pub(crate) fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, InvalidInput, NotConnected};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | InvalidInput | NotConnected)
}

/// glommio would bind with `SO_REUSEPORT`, with which a second server shares a port unseen. This
/// fails instead.
pub(crate) fn bind(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = open(address)?;
    net::bind(&socket, &address)?;
    Ok(socket)
}

pub(crate) fn open(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let socket = net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // A restart need not wait for the connections of the last run to expire.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    Ok(socket)
}

pub(crate) fn port_of(socket: &OwnedFd) -> io::Result<u16> {
    let address = net::getsockname(socket)?;
    SocketAddr::try_from(address).map(|address| address.port()).map_err(Into::into)
}

/// The host and the port of an address `host:port`.
pub(crate) fn parts(address: &str) -> io::Result<(&str, u16)> {
    let parts = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    let (host, port) = parts.ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("{address} is no address host:port"))
    })?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    Ok((bare.unwrap_or(host), port))
}

pub(crate) fn no_address(address: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{address} resolves to no address"))
}

/// Listens at an address that nobody else has.
pub(crate) fn listen(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = bind(address)?;
    net::listen(&socket, BACKLOG)?;
    Ok(socket)
}
