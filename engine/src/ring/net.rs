//! TCP without delay of small writes.
//!
//! The kernel tells a connection each time that there is something to read, without being asked again. A read is one
//! `recv` into the caller's buffer, and a write is one `send` of what the socket takes: both return at once.

use super::reactor::{Reactor, Side, Watch};
use crate::{
    Listener, Net, Reader, Writer,
    os::{
        ClientFiles, SharedPort,
        names::{self, Names},
        sockets::{self, Ends},
    },
};
use rustix::net::{self, RecvFlags, SendFlags, Shutdown, SocketAddrAny};
use std::{
    future::poll_fn,
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsRawFd, OwnedFd},
    rc::Rc,
    task::{Context, Poll},
};

/// The network of this machine.
#[derive(Clone)]
pub struct RingTcp {
    reactor: Rc<Reactor>,
    ends: Ends,
    names: Names,
}

impl RingTcp {
    /// For clients and operators, until [`Net::between_nodes`].
    pub(super) fn new(reactor: Rc<Reactor>) -> Self {
        Self { reactor, ends: Ends::Client, names: Names::new() }
    }

    /// The listener of this executor at a shared port, for clients that may have the descriptors `files`.
    pub(super) fn listener(&self, port: SharedPort, files: ClientFiles) -> RingAcceptor {
        let (socket, port) = port.into_parts();
        RingAcceptor::of(self, socket, port, Ends::Client, files)
    }

    async fn connect_to(&self, address: SocketAddr) -> io::Result<Rc<OwnedFd>> {
        let socket = Rc::new(sockets::open(address)?);
        rustix::io::ioctl_fionbio(&socket, true)?;
        match net::connect(&*socket, &address) {
            Ok(()) => return Ok(socket),
            Err(rustix::io::Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        let output = self.reactor.watch(socket.clone(), Side::Output);
        output.must_wait();
        let connected = async {
            poll_fn(|cx| output.poll_ready(cx)).await;
            Ok(net::sockopt::socket_error(&*socket)??)
        };
        let late = async {
            self.reactor.sleep(self.ends.connect_max()).await;
            Err(io::Error::from(io::ErrorKind::TimedOut))
        };
        futures_lite::future::or(connected, late).await.map(|()| socket.clone())
    }
}

impl Net for RingTcp {
    type Reader = RingReader;
    type Writer = RingWriter;
    type Listener = RingAcceptor;

    fn between_nodes(&self) -> Self {
        Self { ends: Ends::Nodes, ..self.clone() }
    }

    async fn listen(&self, address: &str) -> io::Result<RingAcceptor> {
        let socket = names::listen(&self.names, address).await?;
        let port = sockets::port_of(&socket)?;
        Ok(RingAcceptor::of(self, socket, port, self.ends, ClientFiles::ALL))
    }

    async fn connect(&self, address: &str) -> io::Result<(RingReader, RingWriter)> {
        let dial = async |to| halves(&self.reactor, self.connect_to(to).await?, self.ends);
        names::connect(&self.names, address, dial).await
    }
}

/// Waits for connections.
pub struct RingAcceptor {
    reactor: Rc<Reactor>,
    socket: Rc<OwnedFd>,
    input: Watch,
    port: u16,
    ends: Ends,
    /// The descriptors that its connections may have.
    files: ClientFiles,
    /// Whether the last connection has one of them.
    has_room: bool,
}

impl RingAcceptor {
    fn of(net: &RingTcp, socket: OwnedFd, port: u16, ends: Ends, files: ClientFiles) -> Self {
        let (reactor, socket) = (net.reactor.clone(), Rc::new(socket));
        rustix::io::ioctl_fionbio(&socket, true).expect("a socket can be told not to wait");
        let input = reactor.watch(socket.clone(), Side::Input);
        Self { reactor, socket, input, port, ends, files, has_room: true }
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<OwnedFd>> {
        let flags = net::SocketFlags::CLOEXEC | net::SocketFlags::NONBLOCK;
        loop {
            if self.input.poll_ready(cx).is_pending() {
                return Poll::Pending;
            }
            match net::accept_with(&*self.socket, flags) {
                Err(rustix::io::Errno::AGAIN) => self.input.must_wait(),
                Err(rustix::io::Errno::INTR) => {}
                accepted => return Poll::Ready(accepted.map_err(Into::into)),
            }
        }
    }
}

impl Listener for RingAcceptor {
    type Reader = RingReader;
    type Writer = RingWriter;

    async fn accept(&mut self) -> io::Result<(RingReader, RingWriter)> {
        loop {
            let accepted = poll_fn(|cx| self.poll_accept(cx)).await;
            if let Ok(socket) = &accepted {
                self.has_room = self.files.has(socket.as_raw_fd());
            }
            match accepted.and_then(|socket| halves(&self.reactor, Rc::new(socket), self.ends)) {
                // Gone before it was ours: the listener is as good as before.
                Err(error) if sockets::is_gone(&error) => {}
                accepted => return accepted,
            }
        }
    }

    fn port(&self) -> u16 {
        self.port
    }

    fn has_room(&self) -> bool {
        self.has_room
    }
}

/// The inbound half of a connection.
pub struct RingReader {
    socket: Rc<OwnedFd>,
    input: Watch,
}

impl Reader for RingReader {
    fn remote(&self) -> Option<IpAddr> {
        let address: SocketAddrAny = net::getpeername(&*self.socket).ok()??;
        SocketAddr::try_from(address).ok().map(|address| address.ip().to_canonical())
    }

    async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        assert!(!buffer.is_empty(), "a read of nothing looks like the end of the stream");
        poll_fn(|cx| self.poll_read(cx, buffer)).await
    }
}

impl RingReader {
    fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            if self.input.poll_ready(cx).is_pending() {
                return Poll::Pending;
            }
            match net::recv(&*self.socket, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((count, _)) => {
                    // What comes later is told anew. Only behind urgent data, which no client of this protocol sends,
                    // more may lie there already.
                    if count < buffer.len() {
                        self.input.must_wait();
                    }
                    return Poll::Ready(Ok(count));
                }
                Err(rustix::io::Errno::AGAIN) => self.input.must_wait(),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }
}

/// The outbound half of a connection.
pub struct RingWriter {
    socket: Rc<OwnedFd>,
    output: Watch,
}

impl Writer for RingWriter {
    async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            poll_fn(|cx| self.output.poll_ready(cx)).await;
            match net::send(&*self.socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(sent) => bytes = &bytes[sent..],
                Err(rustix::io::Errno::AGAIN) => self.output.must_wait(),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    async fn close(&mut self) -> io::Result<()> {
        shut(&self.socket, Shutdown::Both)
    }
}

impl Drop for RingWriter {
    /// Closes its direction.
    fn drop(&mut self) {
        shut(&self.socket, Shutdown::Write).ok();
    }
}

fn shut(socket: &OwnedFd, how: Shutdown) -> io::Result<()> {
    match net::shutdown(socket, how).map_err(io::Error::from) {
        Err(error) if sockets::is_gone(&error) => Ok(()),
        shut => shut,
    }
}

fn halves(
    reactor: &Rc<Reactor>,
    socket: Rc<OwnedFd>,
    ends: Ends,
) -> io::Result<(RingReader, RingWriter)> {
    net::sockopt::set_tcp_nodelay(&socket, true)?;
    ends.watch(&socket)?;
    let input = reactor.watch(socket.clone(), Side::Input);
    let output = reactor.watch(socket.clone(), Side::Output);
    let writer = RingWriter { socket: socket.clone(), output };
    Ok((RingReader { socket, input }, writer))
}
