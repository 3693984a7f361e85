//! Writes replies as RESP2 or RESP3, straight into the bytes that go out.
//!
//! ```text
//!          RESP2      RESP3
//! simple   +OK\r\n    the same
//! error    -ERR text  the same
//! integer  :1\r\n     the same
//! bulk     $1\r\nx\r\n the same
//! array    *2\r\n ... the same
//! nil      $-1\r\n    _\r\n
//! map      *4\r\n ... %2\r\n ...
//! set      *2\r\n ... ~2\r\n ...
//! text     as bulk    =8\r\ntxt:text\r\n
//! ```

use bytes::{BufMut, BytesMut};

/// The version of the protocol that a connection speaks; it begins with the second.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// What every client understands.
    #[default]
    Resp2,
    /// What a client asks for with `HELLO 3`.
    Resp3,
}

/// Writes replies of one protocol at the end of some bytes.
pub struct Reply<'a> {
    out: &'a mut BytesMut,
    protocol: Protocol,
}

impl<'a> Reply<'a> {
    /// Writes at the end of `out`.
    pub fn new(out: &'a mut BytesMut, protocol: Protocol) -> Self {
        Self { out, protocol }
    }

    /// The version that it writes.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// `+OK`.
    pub fn ok(&mut self) {
        self.simple("OK");
    }

    /// A short text without line ends.
    pub fn simple(&mut self, text: &str) {
        self.line(b'+', text.as_bytes());
    }

    /// An error. The first word of `text` is its kind; line ends in it become spaces.
    pub fn error(&mut self, text: impl AsRef<[u8]>) {
        self.line(b'-', text.as_ref());
    }

    /// A number.
    pub fn integer(&mut self, value: i64) {
        if let 0..=9 = value {
            return self.out.put_slice(&[b':', b'0' + value as u8, b'\r', b'\n']);
        }
        self.number(b':', value);
    }

    /// Bytes.
    pub fn bulk(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        self.out.reserve(bytes.len() + 32);
        self.number(b'$', bytes.len() as i64);
        self.out.put_slice(bytes);
        self.out.put_slice(b"\r\n");
    }

    /// Text for people, which a client shows as it is.
    pub fn text(&mut self, text: &str) {
        match self.protocol {
            Protocol::Resp2 => self.bulk(text),
            Protocol::Resp3 => {
                self.number(b'=', text.len() as i64 + 4);
                self.out.put_slice(b"txt:");
                self.out.put_slice(text.as_bytes());
                self.out.put_slice(b"\r\n");
            }
        }
    }

    /// Nothing, where there could have been something.
    pub fn nil(&mut self) {
        self.out.put_slice(match self.protocol {
            Protocol::Resp2 => b"$-1\r\n",
            Protocol::Resp3 => b"_\r\n",
        });
    }

    /// Nothing, where there could have been an array.
    pub fn nil_array(&mut self) {
        match self.protocol {
            Protocol::Resp2 => self.out.put_slice(b"*-1\r\n"),
            Protocol::Resp3 => self.nil(),
        }
    }

    /// The head of an array; its `len` elements follow.
    pub fn array(&mut self, len: usize) {
        self.number(b'*', len as i64);
    }

    /// The head of a map; `len` keys, each with its value behind it, follow.
    pub fn map(&mut self, len: usize) {
        match self.protocol {
            Protocol::Resp2 => self.array(2 * len),
            Protocol::Resp3 => self.number(b'%', len as i64),
        }
    }

    /// The head of a set; its `len` elements follow.
    pub fn set(&mut self, len: usize) {
        match self.protocol {
            Protocol::Resp2 => self.array(len),
            Protocol::Resp3 => self.number(b'~', len as i64),
        }
    }

    fn line(&mut self, kind: u8, text: &[u8]) {
        self.out.reserve(text.len() + 3);
        self.out.put_u8(kind);
        let start = self.out.len();
        self.out.put_slice(text);
        for byte in &mut self.out[start..] {
            if matches!(byte, b'\r' | b'\n') {
                *byte = b' ';
            }
        }
        self.out.put_slice(b"\r\n");
    }

    fn number(&mut self, kind: u8, value: i64) {
        const DIGITS_MAX: usize = 20;
        let mut line = [0; DIGITS_MAX + 3];
        let mut start = line.len() - 2;
        line[start..].copy_from_slice(b"\r\n");
        let mut rest = value.unsigned_abs();
        loop {
            start -= 1;
            line[start] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        if value < 0 {
            start -= 1;
            line[start] = b'-';
        }
        start -= 1;
        line[start] = kind;
        self.out.put_slice(&line[start..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(protocol: Protocol, write: impl FnOnce(&mut Reply<'_>)) -> String {
        let mut out = BytesMut::new();
        write(&mut Reply::new(&mut out, protocol));
        String::from_utf8(out.to_vec()).expect("text")
    }

    #[test]
    fn both_versions_write_what_they_should() {
        let all = |reply: &mut Reply<'_>| {
            reply.ok();
            reply.error("ERR two\r\nlines");
            for number in [0, 9, 10, -1, i64::MAX, i64::MIN] {
                reply.integer(number);
            }
            reply.bulk("");
            reply.bulk("a\r\nb");
            reply.nil();
            reply.map(1);
            reply.set(12);
            reply.text("hi");
        };
        let same = "+OK\r\n-ERR two  lines\r\n:0\r\n:9\r\n:10\r\n:-1\r\n:9223372036854775807\r\n\
            :-9223372036854775808\r\n$0\r\n\r\n$4\r\na\r\nb\r\n";
        assert_eq!(
            written(Protocol::Resp2, all),
            format!("{same}$-1\r\n*2\r\n*12\r\n$2\r\nhi\r\n")
        );
        assert_eq!(
            written(Protocol::Resp3, all),
            format!("{same}_\r\n%1\r\n~12\r\n=6\r\ntxt:hi\r\n")
        );
    }
}
