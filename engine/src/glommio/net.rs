//! TCP without delay of small writes.
//!
//! A read is one `recv` into the caller's buffer, however large, once the socket is readable; a write
//! is one `send` of what the socket takes. Host names are looked up by `names`; an address of numbers needs
//! no look-up, so prefer it where a first dial must be quick.

use super::{Glommio, disk::io_error};
use crate::{
    Listener, Net, Reader, Writer,
    os::{
        ClientFiles, SharedPort,
        names::{self, Names},
        sockets::{Ends, is_gone, port_of},
    },
};
use ::glommio::{
    net::{TcpListener, TcpStream},
    timer,
};
use futures_lite::{AsyncRead, AsyncWrite};
use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    io,
    net::{IpAddr, Shutdown},
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd},
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

/// A writer is woken for nothing when its other end sends no more: the kernel tells that to whoever waits for room. So
/// after this many polls without room it sleeps for a while.
const POLLS_MAX: usize = 3;
const FULL_PAUSE: Duration = Duration::from_millis(10);

/// The network of this machine.
#[derive(Clone)]
pub struct Tcp {
    ends: Ends,
    names: Names,
}

impl Tcp {
    /// For clients and operators, until [`Net::between_nodes`].
    pub(super) fn new() -> Self {
        Self { ends: Ends::Client, names: Names::new() }
    }
}

impl Glommio {
    /// The listener of this executor at a port, for clients that may have the descriptors `files`.
    pub fn listener(&self, port: SharedPort, files: ClientFiles) -> TcpAcceptor {
        let (socket, port) = port.into_parts();
        TcpAcceptor::of(socket, port, Ends::Client, files)
    }
}

impl Net for Tcp {
    type Reader = TcpReader;
    type Writer = TcpWriter;
    type Listener = TcpAcceptor;

    fn between_nodes(&self) -> Self {
        Self { ends: Ends::Nodes, names: self.names.clone() }
    }

    async fn listen(&self, address: &str) -> io::Result<TcpAcceptor> {
        TcpAcceptor::new(names::listen(&self.names, address).await?, self.ends)
    }

    async fn connect(&self, address: &str) -> io::Result<(TcpReader, TcpWriter)> {
        let dial = async |to| {
            let stream = TcpStream::connect_timeout(to, self.ends.connect_max()).await;
            halves(stream.map_err(io_error)?, self.ends)
        };
        names::connect(&self.names, address, dial).await
    }
}

/// Waits for connections.
pub struct TcpAcceptor {
    listener: TcpListener,
    port: u16,
    ends: Ends,
    /// The descriptors that its connections may have.
    files: ClientFiles,
    /// Whether the last connection has one of them.
    has_room: bool,
}

impl TcpAcceptor {
    fn new(socket: OwnedFd, ends: Ends) -> io::Result<Self> {
        let port = port_of(&socket)?;
        Ok(Self::of(socket, port, ends, ClientFiles::ALL))
    }

    pub(super) fn of(socket: OwnedFd, port: u16, ends: Ends, files: ClientFiles) -> Self {
        Self { listener: listener(socket), port, ends, files, has_room: true }
    }
}

impl Listener for TcpAcceptor {
    type Reader = TcpReader;
    type Writer = TcpWriter;

    async fn accept(&mut self) -> io::Result<(TcpReader, TcpWriter)> {
        loop {
            let accepted = self.listener.accept().await.map_err(io_error);
            if let Ok(stream) = &accepted {
                self.has_room = self.files.has(stream.as_raw_fd());
            }
            match accepted.and_then(|stream| halves(stream, self.ends)) {
                // Gone before it was ours: the listener is as good as before.
                Err(error) if is_gone(&error) => {}
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
pub struct TcpReader {
    stream: Rc<RefCell<TcpStream>>,
}

impl Reader for TcpReader {
    fn remote(&self) -> Option<IpAddr> {
        self.stream.borrow().peer_addr().ok().map(|address| address.ip().to_canonical())
    }

    async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        assert!(!buffer.is_empty(), "a read of nothing looks like the end of the stream");
        poll_fn(|cx| Pin::new(&mut *self.stream.borrow_mut()).poll_read(cx, buffer)).await
    }
}

/// The outbound half of a connection.
pub struct TcpWriter {
    stream: Rc<RefCell<TcpStream>>,
}

impl Writer for TcpWriter {
    async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut polls = 0;
            let sent = poll_fn(|cx| {
                polls += 1;
                match polls > POLLS_MAX {
                    true => Poll::Ready(Ok(None)),
                    false => self.poll_write(cx, bytes).map_ok(Some),
                }
            });
            match sent.await? {
                Some(sent) => bytes = &bytes[sent..],
                None => timer::sleep(FULL_PAUSE).await,
            }
        }
        Ok(())
    }

    async fn close(&mut self) -> io::Result<()> {
        poll_fn(|cx| pin!(self.stream.borrow().shutdown(Shutdown::Both)).poll(cx))
            .await
            .map_err(io_error)
            .or_else(|error| if is_gone(&error) { Ok(()) } else { Err(error) })
    }
}

impl TcpWriter {
    fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream.borrow_mut()).poll_write(cx, bytes)
    }
}

impl Drop for TcpWriter {
    /// Closes its direction. It never waits, so there is nobody to wake.
    fn drop(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        let _ = Pin::new(&mut *self.stream.borrow_mut()).poll_close(&mut cx);
    }
}

fn halves(stream: TcpStream, ends: Ends) -> io::Result<(TcpReader, TcpWriter)> {
    stream.set_nodelay(true).map_err(io_error)?;
    // SAFETY: `stream` keeps its descriptor open beyond this call.
    let socket = unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) };
    // glommio's quick way to accept leaves it to be inherited.
    rustix::io::fcntl_setfd(socket, rustix::io::FdFlags::CLOEXEC)?;
    ends.watch(socket)?;
    let stream = Rc::new(RefCell::new(stream));
    Ok((TcpReader { stream: stream.clone() }, TcpWriter { stream }))
}

fn listener(socket: OwnedFd) -> TcpListener {
    // SAFETY: the descriptor is a listening TCP socket, and this is its only owner.
    unsafe { TcpListener::from_raw_fd(socket.into_raw_fd()) }
}

#[cfg(test)]
mod tests {
    use super::{super::run_here, *};
    use crate::{Disk, Durability, Runtime, os::names::tests::scripted};
    use futures_lite::future;
    use rustix::net::sockopt;
    use std::{
        panic::resume_unwind,
        path::PathBuf,
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
    };

    /// Runs a future on an executor of its own.
    fn run<F, T>(folder: PathBuf, start: impl FnOnce(Glommio) -> F + 'static) -> T
    where
        F: Future<Output = T> + 'static,
        T: 'static,
    {
        let ended = run_here(None, 1 << 20, folder, start).expect("it starts");
        ended.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// What `future` gives, or nothing when it stands still.
    async fn soon<T>(runtime: &impl Runtime, future: impl Future<Output = T>) -> Option<T> {
        let pause = runtime.sleep(Duration::from_secs(20));
        future::or(async { Some(future.await) }, async {
            pause.await;
            None
        })
        .await
    }

    /// A name server that does not answer holds neither the log, whose files are renamed and removed, nor a
    /// peer whose last address is good.
    #[test]
    fn nothing_waits_behind_a_look_up_that_stands_still() {
        let folder = std::env::temp_dir().join(format!("purlin-names-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let ended = run(folder.clone(), |runtime| async move {
            let mut listener = runtime.net().listen("127.0.0.1:0").await.unwrap();
            let address = format!("peer.example:{}", listener.port());
            let (names, begun, _still) = scripted(vec![vec![IpAddr::from([127, 0, 0, 1])]]);
            let net = Tcp { ends: Ends::Nodes, names };
            let (first, _) = future::zip(net.connect(&address), listener.accept()).await;
            drop(first.unwrap());
            // From now on look-ups stand still.
            for _ in 0..3 {
                let both = future::zip(net.connect(&address), listener.accept());
                soon(&runtime, both).await.expect("the last good address is dialled").0.unwrap();
            }
            let stuck = net.clone();
            runtime.spawn(async move { drop(stuck.connect("other.example:1").await) });
            let disk = runtime.disk();
            let change = async {
                drop(disk.create("one", 4096, Durability::OnSync).await.unwrap());
                disk.rename("one", "two").await.unwrap();
                disk.remove("two").await.unwrap();
            };
            soon(&runtime, change).await.expect("files are renamed and removed");
            begun.load(Ordering::SeqCst)
        });
        std::fs::remove_dir_all(&folder).ok();
        // The first one, one more of that name, and one of the other name.
        assert!(ended <= 3);
    }

    /// A socket of both families shows an IPv4 address as an IPv6 one.
    #[test]
    fn an_ipv4_address_is_one_at_a_socket_of_both_families() {
        let remote = run(std::env::temp_dir(), |runtime| async move {
            let net = runtime.net();
            let mut listener = net.listen("[::]:0").await.unwrap();
            let address = format!("127.0.0.1:{}", listener.port());
            let (dialled, accepted) = future::zip(net.connect(&address), listener.accept()).await;
            dialled.unwrap();
            accepted.unwrap().0.remote()
        });
        assert_eq!(remote, Some(IpAddr::from([127, 0, 0, 1])));
    }

    /// A name whose old address takes no connection is dialled where it is now.
    #[test]
    fn a_name_that_has_moved_is_looked_up_again() {
        let ends = run(std::env::temp_dir(), |runtime| async move {
            let mut listener = runtime.net().listen("127.0.0.2:0").await.unwrap();
            let address = format!("peer.example:{}", listener.port());
            let has_moved = Arc::new(AtomicBool::new(false));
            let moved = has_moved.clone();
            let resolve = move |_: &str| {
                Ok(vec![IpAddr::from([127, 0, 0, 1 + u8::from(moved.load(Ordering::SeqCst))])])
            };
            let names = Names::with(Arc::new(resolve), Duration::ZERO);
            let net = Tcp { ends: Ends::Nodes, names };
            let before = net.connect(&address).await.map(drop).map_err(|error| error.kind());
            has_moved.store(true, Ordering::SeqCst);
            let (after, _) = future::zip(net.connect(&address), listener.accept()).await;
            (before, after.is_ok())
        });
        assert_eq!(ends, (Err(io::ErrorKind::ConnectionRefused), true));
    }

    /// The bounds of a socket: unacknowledged bytes, probes after, pause between probes, how many.
    fn bounds(stream: &RefCell<TcpStream>) -> (u32, Duration, Duration, u32) {
        // SAFETY: the stream keeps its descriptor open beyond this call.
        let socket = unsafe { BorrowedFd::borrow_raw(stream.borrow().as_raw_fd()) };
        assert!(sockopt::socket_keepalive(socket).unwrap());
        (
            sockopt::tcp_user_timeout(socket).unwrap(),
            sockopt::tcp_keepidle(socket).unwrap(),
            sockopt::tcp_keepintvl(socket).unwrap(),
            sockopt::tcp_keepcnt(socket).unwrap(),
        )
    }

    /// A dead client ends after 600 s, and a connection between nodes 10 s after a cut begins.
    #[test]
    fn both_ends_of_each_connection_are_watched() {
        let ends = run(std::env::temp_dir(), |runtime| async move {
            let mut ends = Vec::new();
            for net in [runtime.net(), runtime.net().between_nodes()] {
                let mut listener = net.listen("127.0.0.1:0").await.unwrap();
                let address = format!("127.0.0.1:{}", listener.port());
                let (near, far) = future::zip(listener.accept(), net.connect(&address)).await;
                ends.extend([near, far].map(|end| bounds(&end.unwrap().0.stream)));
            }
            ends
        });
        let seconds = Duration::from_secs;
        let client = (0, seconds(300), seconds(100), 3);
        let node = (10_000, seconds(1), seconds(1), 3);
        assert_eq!(ends, [client, client, node, node]);
        assert_eq!(Ends::Nodes.connect_max(), Duration::from_millis(500));
    }
}
