//! A blocking client of the protocol, for the command line and for tests.
//!
//! It trusts the server no more than the server trusts it: lengths are judged before they are
//! believed, and replies are nested only so deep.

use super::reply::Reply;
use bytes::BytesMut;
use std::{
    fmt,
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    time::Duration,
};

/// The longest reply in bytes, or in elements, that is believed.
const LEN_MAX: u64 = 512 << 20;

/// How deep replies may be nested.
const DEPTH_MAX: usize = 16;

/// One reply.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// Nothing.
    Nil,
    /// A short text.
    Simple(String),
    /// An error; the first word is its kind.
    Error(String),
    /// A number.
    Integer(i64),
    /// Bytes.
    Bulk(Vec<u8>),
    /// A text for people.
    Text(String),
    /// A boolean, a double or a long number, as it was written.
    Other(String),
    /// Several replies in order; also a set.
    Array(Vec<Self>),
    /// Keys and values.
    Map(Vec<(Self, Self)>),
}

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

    /// Puts bytes where `send` takes them from, requests or not.
    pub fn queue_bytes(&mut self, bytes: &[u8]) {
        self.queued.extend_from_slice(bytes);
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

    /// Says that no command will come any more; replies that are due still come.
    ///
    /// # Errors
    ///
    /// The connection is lost.
    pub fn finish(&mut self) -> io::Result<()> {
        self.reader.get_ref().shutdown(std::net::Shutdown::Write)
    }

    /// Waits for the next reply.
    ///
    /// # Errors
    ///
    /// The connection is lost, the server took too long, or what came is no reply.
    pub fn read_reply(&mut self) -> io::Result<Value> {
        self.value(0)
    }

    fn value(&mut self, depth: usize) -> io::Result<Value> {
        if depth > DEPTH_MAX {
            return Err(strange("replies nested too deep"));
        }
        let line = self.line()?;
        let Some((kind, text)) = line.split_at_checked(1) else {
            return Err(strange("an empty line"));
        };
        match kind {
            "+" => Ok(Value::Simple(text.into())),
            "-" => Ok(Value::Error(text.into())),
            ":" => Ok(Value::Integer(text.parse().map_err(|_| strange(&line))?)),
            "_" => Ok(Value::Nil),
            "," | "#" | "(" => Ok(Value::Other(text.into())),
            "$" | "=" | "!" => self.bulk(kind, text),
            "*" | "~" | ">" => self.array(text, depth),
            "%" => self.map(text, depth),
            _ => Err(strange(&line)),
        }
    }

    fn bulk(&mut self, kind: &str, len: &str) -> io::Result<Value> {
        let Some(len) = length(len)? else { return Ok(Value::Nil) };
        let mut bytes = Vec::new();
        // It grows by what comes, not by what was announced.
        self.reader.by_ref().take(len + 2).read_to_end(&mut bytes)?;
        if !bytes.ends_with(b"\r\n") || bytes.len() as u64 != len + 2 {
            return Err(closed());
        }
        bytes.truncate(len as usize);
        Ok(match kind {
            "$" => Value::Bulk(bytes),
            "=" => Value::Text(String::from_utf8_lossy(bytes.get(4..).unwrap_or(&[])).into()),
            _ => Value::Error(String::from_utf8_lossy(&bytes).into()),
        })
    }

    fn array(&mut self, len: &str, depth: usize) -> io::Result<Value> {
        let Some(len) = length(len)? else { return Ok(Value::Nil) };
        let values = (0..len).map(|_| self.value(depth + 1));
        Ok(Value::Array(values.collect::<io::Result<_>>()?))
    }

    fn map(&mut self, len: &str, depth: usize) -> io::Result<Value> {
        let len = length(len)?.ok_or_else(|| strange("a map without a length"))?;
        let pairs = (0..len).map(|_| Ok((self.value(depth + 1)?, self.value(depth + 1)?)));
        Ok(Value::Map(pairs.collect::<io::Result<_>>()?))
    }

    fn line(&mut self) -> io::Result<String> {
        const LINE_MAX: u64 = 1 << 20;
        let mut line = Vec::new();
        self.reader.by_ref().take(LINE_MAX).read_until(b'\n', &mut line)?;
        let Some(text) = line.strip_suffix(b"\r\n") else {
            return Err(if line.ends_with(b"\n") { strange("a bare line end") } else { closed() });
        };
        Ok(String::from_utf8_lossy(text).into_owned())
    }
}

fn length(text: &str) -> io::Result<Option<u64>> {
    match text.parse::<i64>() {
        Ok(-1) => Ok(None),
        Ok(len) if (0..=LEN_MAX as i64).contains(&len) => Ok(Some(len as u64)),
        _ => Err(strange(text)),
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection")
}

fn strange(what: &str) -> io::Error {
    let text = format!("the server sent what is no reply: {}", what.escape_debug());
    io::Error::new(io::ErrorKind::InvalidData, text)
}

impl Value {
    /// The bytes of a value that is text or bytes.
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bulk(bytes) => Some(bytes),
            Self::Simple(text) | Self::Text(text) | Self::Other(text) => Some(text.as_bytes()),
            _ => None,
        }
    }
}

/// For people, as `redis-cli` shows replies at a terminal.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.show(f, "")
    }
}

impl Value {
    fn show(&self, f: &mut fmt::Formatter<'_>, indent: &str) -> fmt::Result {
        match self {
            Self::Nil => f.write_str("(nil)"),
            Self::Simple(text) | Self::Other(text) => f.write_str(text),
            Self::Text(text) => f.write_str(text.trim_end()),
            Self::Error(text) => write!(f, "(error) {text}"),
            Self::Integer(number) => write!(f, "(integer) {number}"),
            Self::Bulk(bytes) => write!(f, "\"{}\"", quoted(bytes)),
            Self::Array(values) => {
                show_list(f, indent, ')', values, |f, value, indent| value.show(f, indent))
            }
            Self::Map(pairs) => show_list(f, indent, '#', pairs, |f, (key, value), indent| {
                key.show(f, indent)?;
                f.write_str(" => ")?;
                value.show(f, indent)
            }),
        }
    }
}

/// Numbered, one below the other, those of an inner list under their own number.
fn show_list<T>(
    f: &mut fmt::Formatter<'_>,
    indent: &str,
    mark: char,
    items: &[T],
    show: impl Fn(&mut fmt::Formatter<'_>, &T, &str) -> fmt::Result,
) -> fmt::Result {
    if items.is_empty() {
        return f.write_str(if mark == ')' { "(empty array)" } else { "(empty hash)" });
    }
    let width = items.len().to_string().len();
    let inner = format!("{indent}{}", " ".repeat(width + 2));
    for (place, item) in items.iter().enumerate() {
        if place > 0 {
            write!(f, "\n{indent}")?;
        }
        write!(f, "{:>width$}{mark} ", place + 1)?;
        show(f, item, &inner)?;
    }
    Ok(())
}

/// Bytes as one types them between double quotes.
fn quoted(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            b'\\' | b'"' => text.extend(['\\', char::from(byte)]),
            b'\n' => text.push_str("\\n"),
            b'\r' => text.push_str("\\r"),
            b'\t' => text.push_str("\\t"),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => text.push_str(&format!("\\x{byte:02x}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_shown_as_by_redis_cli() {
        let bulk = |text: &str| Value::Bulk(text.into());
        let inner = Value::Array(vec![Value::Integer(1), Value::Nil]);
        let list = Value::Array(vec![bulk("a\"\n\u{1}"), inner, Value::Array(vec![])]);
        let shown = "1) \"a\\\"\\n\\x01\"\n2) 1) (integer) 1\n   2) (nil)\n3) (empty array)";
        assert_eq!(list.to_string(), shown);
        let map = Value::Map(vec![(bulk("k"), Value::Simple("OK".into()))]);
        assert_eq!(map.to_string(), "1# \"k\" => OK");
        assert_eq!(Value::Error("ERR no".into()).to_string(), "(error) ERR no");
    }
}
