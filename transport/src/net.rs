//! The seam to a network: reliable, ordered byte streams in two halves.
//!
//! A connection has two halves, since one task reads while another writes. Dropping a writer closes
//! that direction; dropping both halves closes the connection.

use std::{io, net::IpAddr, time::Duration};

/// Between nodes, a dial that hears nothing ends after this time: the kernel itself asks again after 1, 3, 7
/// and more seconds, so an attempt that began in a cut of the network would learn late of its end.
pub const CONNECT_MAX: Duration = Duration::from_millis(500);
/// Between nodes, a connection ends when what was sent on it is not acknowledged for this time. The kernel
/// counts a reader that takes nothing for as long too, so this time is longer than `ExchangerConfig::stall_beats`:
/// a slow peer slows its sender down, and ends nothing. A cut of the network is noticed sooner, by silence
/// (`ExchangerConfig::silence_beats`). This bound is for connections on which nobody listens: the kernel itself
/// gives up after 15 minutes.
pub const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(10);
/// Between nodes, a connection on which nothing is sent is probed after this time.
pub const PROBE_AFTER: Duration = Duration::from_secs(1);
/// A client's connection on which nothing comes is probed after this time, and after a third of it again. It
/// ends with the third probe that has no answer.
pub const CLIENT_PROBE_AFTER: Duration = Duration::from_secs(300);

/// A node's network.
pub trait Net: Clone + 'static {
    /// The inbound half of a connection.
    type Reader: Reader;
    /// The outbound half of a connection.
    type Writer: Writer;
    /// Waits for connections.
    type Listener: Listener<Reader = Self::Reader, Writer = Self::Writer>;

    /// The same network for connections between nodes, dialled or accepted: with [`CONNECT_MAX`],
    /// [`UNACKNOWLEDGED_MAX`] and [`PROBE_AFTER`].
    fn between_nodes(&self) -> Self;
    /// Listens at `address`, as `host:port`. The error is `AddrInUse` when another listener of this
    /// or another process has the address.
    async fn listen(&self, address: &str) -> io::Result<Self::Listener>;
    /// Connects to `address`, as `host:port`. Small writes are not delayed.
    async fn connect(&self, address: &str) -> io::Result<(Self::Reader, Self::Writer)>;
}

/// Waits for connections.
pub trait Listener: 'static {
    /// The inbound half of a connection.
    type Reader: Reader;
    /// The outbound half of a connection.
    type Writer: Writer;

    /// The next connection.
    async fn accept(&mut self) -> io::Result<(Self::Reader, Self::Writer)>;
    /// The port at which it listens. This is how a caller learns the port after it has listened at
    /// port 0.
    fn port(&self) -> u16;
    /// Whether the connection that was accepted last leaves the process the file descriptors that it keeps
    /// for its files and for other nodes. A listener for clients closes the connection if not.
    fn has_room(&self) -> bool {
        true
    }
}

/// The inbound half of a connection.
pub trait Reader: 'static {
    /// The address of the other end, where there is one.
    fn remote(&self) -> Option<IpAddr>;
    /// Reads some bytes into `buffer`. 0 means that the other side has closed the connection. A
    /// future that is dropped has read nothing.
    async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize>;
}

/// The outbound half of a connection.
pub trait Writer: 'static {
    /// Writes all bytes. They may still be lost when the connection is lost.
    async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Closes the connection in both directions, so that a blocked reader of it wakes.
    async fn close(&mut self) -> io::Result<()>;
}
