//! A blocking client of the protocol, for the command line and for tests.

use super::{reply::Reply, value::Value};
use bytes::BytesMut;
use std::{
    io::{self, BufReader, Write},
    net::{TcpStream, ToSocketAddrs},
    time::Duration,
};

/// A connection to a server.
pub struct RespClient {
    reader: BufReader<TcpStream>,
    /// What was queued and not sent.
    queued: BytesMut,
}

impl RespClient {
    /// Connects to `address`. Later reads and writes fail when one takes longer than `timeout`.
    ///
    /// # Errors
    ///
    /// No address of that name takes a connection in time.
    pub fn connect(address: impl ToSocketAddrs, timeout: Duration) -> io::Result<Self> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in address.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, timeout) {
                Ok(stream) => return Self::over(stream, timeout),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn over(stream: TcpStream, timeout: Duration) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        Ok(Self { reader: BufReader::new(stream), queued: BytesMut::new() })
    }

    /// Sends one command and waits for its reply.
    ///
    /// # Errors
    ///
    /// The connection is lost. The command may have been executed.
    pub fn command<A: AsRef<[u8]>>(&mut self, arguments: &[A]) -> io::Result<Value> {
        self.queue(arguments);
        self.send()?;
        self.read_reply()
    }

    /// Sends commands in one go, and gives their replies.
    ///
    /// # Errors
    ///
    /// The connection is lost. Some of the commands may have been executed.
    pub fn pipeline<A: AsRef<[u8]>>(&mut self, commands: &[Vec<A>]) -> io::Result<Vec<Value>> {
        for arguments in commands {
            self.queue(arguments);
        }
        self.send()?;
        commands.iter().map(|_| self.read_reply()).collect()
    }

    /// Puts a command where `send` takes it from.
    pub fn queue<A: AsRef<[u8]>>(&mut self, arguments: &[A]) {
        let mut request = Reply::new(&mut self.queued, Default::default());
        request.array(arguments.len());
        for argument in arguments {
            request.bulk(argument);
        }
    }

    /// Sends what was queued.
    ///
    /// # Errors
    ///
    /// The connection is lost.
    pub fn send(&mut self) -> io::Result<()> {
        let sent = self.reader.get_mut().write_all(&self.queued);
        self.queued.clear();
        sent
    }

    /// Waits for the next reply.
    ///
    /// # Errors
    ///
    /// The connection is lost, the server took too long, or what came is no reply.
    pub fn read_reply(&mut self) -> io::Result<Value> {
        Value::read(&mut self.reader)
    }
}
