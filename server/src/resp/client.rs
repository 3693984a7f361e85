//! A blocking client of the protocol, for the command line and for tests.

use super::{reply::Reply, value::Value};
use bytes::BytesMut;
use std::{
    io::{self, BufReader, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    time::{Duration, Instant},
};

/// A connection to a server.
pub struct RespClient {
    reader: BufReader<Timed>,
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
        Self::over(address, Patience::Each(timeout))
    }

    /// Connects to `address`. All that is done over the connection fails at `deadline`, also when the server
    /// sends a byte now and then.
    ///
    /// # Errors
    ///
    /// No address of that name takes a connection in time.
    pub fn connect_until(address: impl ToSocketAddrs, deadline: Instant) -> io::Result<Self> {
        Self::over(address, Patience::Until(deadline))
    }

    fn over(address: impl ToSocketAddrs, patience: Patience) -> io::Result<Self> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in address.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, patience.left()?) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    let reader = BufReader::new(Timed { stream, patience });
                    return Ok(Self { reader, queued: BytesMut::new() });
                }
                Err(error) => last = error,
            }
        }
        Err(last)
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

/// How long a client waits.
#[derive(Clone, Copy)]
enum Patience {
    /// So long for each read and write.
    Each(Duration),
    /// Until then for everything.
    Until(Instant),
}

impl Patience {
    /// How long the next read or write may take.
    fn left(self) -> io::Result<Duration> {
        let left = match self {
            Self::Each(timeout) => timeout,
            Self::Until(deadline) => deadline.saturating_duration_since(Instant::now()),
        };
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
    }
}

/// A stream whose reads and writes end in time.
struct Timed {
    stream: TcpStream,
    patience: Patience,
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.patience.left()?))?;
        self.stream.read(buffer)
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.patience.left()?))?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
