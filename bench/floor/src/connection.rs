//! A socket and its two buffers. Nothing here waits.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};

/// Bytes of input beyond which a connection reads no more: more than any request or frame.
const INPUT_BYTES_MAX: usize = 2 << 20;
/// Bytes of output that a peer may leave unread.
const OUTPUT_BYTES_MAX: usize = 64 << 20;
/// Bytes of one read.
pub(crate) const READ_BYTES: usize = 256 * 1024;

/// A connection to a client, a follower, or the leader.
pub(crate) struct Connection {
    socket: TcpStream,
    /// Bytes that have come and are not used yet.
    pub(crate) input: Vec<u8>,
    output: Vec<u8>,
    /// Whether the other end has gone, or has left too much unread.
    pub(crate) has_ended: bool,
}

impl Connection {
    /// Takes a connected socket.
    ///
    /// # Errors
    /// When its options cannot be set.
    pub(crate) fn new(socket: TcpStream) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, input: Vec::new(), output: Vec::new(), has_ended: false })
    }

    /// Reads what has come. Returns whether there may be more.
    pub(crate) fn read(&mut self, scratch: &mut [u8]) -> bool {
        while !self.has_ended {
            if self.input.len() >= INPUT_BYTES_MAX {
                return true;
            }
            match self.socket.read(scratch) {
                Ok(0) => self.has_ended = true,
                Ok(count) => {
                    self.input.extend_from_slice(&scratch[..count]);
                    // The socket was emptied: the poll tells what comes next.
                    if count < scratch.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.has_ended = true,
            }
        }
        false
    }

    /// The bytes that are still to be sent; replies are added here.
    pub(crate) fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// Sends these bytes behind those that wait.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        if self.output.is_empty() {
            let sent = self.write(bytes);
            self.output.extend_from_slice(&bytes[sent..]);
        } else {
            self.output.extend_from_slice(bytes);
        }
    }

    /// Sends what waits, as far as the socket takes it.
    pub(crate) fn flush(&mut self) {
        if self.output.is_empty() {
            return;
        }
        let output = std::mem::take(&mut self.output);
        let sent = self.write(&output);
        self.output = output;
        self.output.drain(..sent);
        self.has_ended |= self.output.len() > OUTPUT_BYTES_MAX;
    }

    /// Returns how many bytes the socket took.
    fn write(&mut self, bytes: &[u8]) -> usize {
        let mut sent = 0;
        while sent < bytes.len() && !self.has_ended {
            match self.socket.write(&bytes[sent..]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.has_ended = true,
            }
        }
        sent
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
