//! The seam to a network: reliable, ordered byte streams in two halves.
//!
//! A connection has two halves, since one task reads while another writes. Dropping a writer closes
//! that direction; dropping both halves closes the connection.

use std::io;

/// A node's network.
pub trait Net: Clone + 'static {
    /// The inbound half of a connection.
    type Reader: Reader;
    /// The outbound half of a connection.
    type Writer: Writer;
    /// Waits for connections.
    type Listener: Listener<Reader = Self::Reader, Writer = Self::Writer>;

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
