//! Reads the replies of a server, as far as a load generator needs them.
//!
//! ```text
//! +OK\r\n   :12\r\n   $5\r\nhello\r\n   *2\r\n...   a value
//! $-1\r\n   *-1\r\n                                  nil
//! -ERR what happened\r\n                             an error
//! ```
//!
//! Only RESP2 is read, since the generator never sends `HELLO 3`. The parser accepts bytes in
//! pieces of any size and keeps no payload: it keeps its place in the current reply, the first
//! bytes of a line that arrived in parts, and the fingerprint of a value if it is told to look. So its
//! memory is bounded, whatever lengths a server announces.

use crate::fingerprint::Fingerprint;

/// What a reply says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// The operation was done, and this is what came back.
    Done(Held),
    /// The operation was refused. The text comes without the leading `-`, and ends where the line
    /// is 512 bytes long.
    Error(&'a [u8]),
}

/// What the reply to an operation held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// No value: a key that does not exist.
    Nil,
    /// A number.
    Number(i64),
    /// A value, if the parser was told to look at values.
    Value(Fingerprint),
    /// Anything else.
    Other,
}

/// Why the bytes are not RESP2. The connection cannot be used any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// The part of a line that is kept when it arrives in pieces; error texts are cut here.
const LINE_KEPT: usize = 512;
/// A longer line is no reply.
const LINE_MAX: usize = 64 * 1024;
/// The longest bulk string that is accepted: the limit of Redis.
const BULK_MAX: i64 = 512 * 1024 * 1024;
/// The elements that may be outstanding in nested arrays.
const ELEMENTS_MAX: i64 = 1 << 20;

/// The place inside a stream of replies.
#[derive(Debug, Default)]
pub struct ReplyParser {
    /// The first bytes of the line being read, when it arrives in pieces.
    line: Vec<u8>,
    /// The length of that line so far, with the bytes that were not kept.
    line_length: usize,
    /// The bytes of a bulk string's payload and its `\r\n` that are still to come.
    body_left: u64,
    /// The elements still to come until the reply is whole; 0 between replies.
    elements_left: i64,
    /// Whether values are looked at. This takes a checksum of each.
    looks: bool,
    /// What the current reply holds, as far as it was read.
    held: Option<Held>,
}

impl ReplyParser {
    /// Says whether values are looked at from now on.
    pub fn look_at_values(&mut self, looks: bool) {
        self.looks = looks;
    }

    /// Reads `input` up to the end of one reply, and moves `input` past the bytes that it used.
    /// `None` means that all bytes were used and the reply is not complete yet.
    ///
    /// # Errors
    /// When the bytes are not RESP2.
    pub fn next<'a, 'input: 'a>(
        &'a mut self,
        input: &mut &'input [u8],
    ) -> Result<Option<Reply<'a>>, Malformed> {
        loop {
            if self.body_left > 0 {
                self.skip_body(input)?;
                if self.body_left > 0 {
                    return Ok(None);
                }
                if self.element_ended() {
                    return Ok(Some(self.done()));
                }
            }
            let Some(line) = self.take_line(input)? else { return Ok(None) };
            let is_first = self.elements_left == 0;
            let head = head(self.text(line))?;
            if is_first && matches!(head, Head::Error) {
                return Ok(Some(Reply::Error(&self.text(line)[1..])));
            }
            if self.enter(head, is_first)? && self.element_ended() {
                return Ok(Some(self.done()));
            }
        }
    }

    /// Whether the place is between two replies.
    pub fn is_at_start(&self) -> bool {
        self.elements_left == 0 && self.line_length == 0
    }

    fn done<'a>(&mut self) -> Reply<'a> {
        Reply::Done(self.held.take().unwrap_or(Held::Other))
    }

    /// Notes what a line announces. Returns false when a payload comes next.
    fn enter(&mut self, head: Head, is_first: bool) -> Result<bool, Malformed> {
        if is_first {
            self.elements_left = 1;
            self.held = head.held(self.looks);
        }
        match head {
            Head::Error | Head::Scalar | Head::Number(_) | Head::Bulk(-1) | Head::Array(-1) => {}
            Head::Bulk(length @ 0..=BULK_MAX) => {
                self.body_left = length as u64 + 2;
                return Ok(false);
            }
            Head::Array(count @ 0..=ELEMENTS_MAX) if self.elements_left + count <= ELEMENTS_MAX => {
                self.elements_left += count;
            }
            Head::Bulk(_) => {
                return Err(Malformed("a bulk string whose length is not 0 to 512 MiB"));
            }
            Head::Array(_) => return Err(Malformed("an array whose length is not 0 to 1,048,576")),
        }
        Ok(true)
    }

    /// Counts one element as read. Returns true when the reply is complete.
    fn element_ended(&mut self) -> bool {
        self.elements_left -= 1;
        self.elements_left == 0
    }

    /// Skips payload, and checks the `\r\n` after it: this finds a wrong length.
    fn skip_body(&mut self, input: &mut &[u8]) -> Result<(), Malformed> {
        let payload = (self.body_left.saturating_sub(2) as usize).min(input.len());
        if let Some(Held::Value(fingerprint)) = &mut self.held {
            fingerprint.add(&input[..payload]);
        }
        *input = &input[payload..];
        self.body_left -= payload as u64;
        while self.body_left > 0 && self.body_left <= 2 {
            let Some((&byte, rest)) = input.split_first() else { break };
            if byte != if self.body_left == 2 { b'\r' } else { b'\n' } {
                return Err(Malformed("a bulk string longer or shorter than announced"));
            }
            *input = rest;
            self.body_left -= 1;
        }
        Ok(())
    }

    /// Takes a line without its `\r\n`: directly from `input` when all of it is there, otherwise
    /// collected in `self.line`.
    fn take_line<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Line<'a>>, Malformed> {
        let end = input.iter().position(|&byte| byte == b'\n');
        let (piece, rest) = input.split_at(end.map_or(input.len(), |end| end + 1));
        *input = rest;
        if self.line_length + piece.len() > LINE_MAX {
            return Err(Malformed("a line of more than 64 KiB"));
        }
        if end.is_some() && self.line_length == 0 {
            let line = piece.strip_suffix(b"\r\n").ok_or(NO_RETURN)?;
            return Ok(Some(Line::Straight(&line[..line.len().min(LINE_KEPT)])));
        }
        self.keep(piece);
        if end.is_some() { self.pieced_together().map(Some) } else { Ok(None) }
    }

    fn keep(&mut self, piece: &[u8]) {
        if self.line_length == 0 {
            self.line.clear();
        }
        self.line_length += piece.len();
        let room = LINE_KEPT + 2 - self.line.len();
        self.line.extend_from_slice(&piece[..piece.len().min(room)]);
    }

    /// Ends the line in `self.line`. If the line was cut, its `\r` is not there and cannot be
    /// checked.
    fn pieced_together<'a>(&mut self) -> Result<Line<'a>, Malformed> {
        let length = std::mem::take(&mut self.line_length);
        match self.line.strip_suffix(b"\r\n") {
            Some(line) => Ok(Line::Kept(line.len())),
            None if length > self.line.len() => Ok(Line::Kept(LINE_KEPT)),
            None => Err(NO_RETURN),
        }
    }

    fn text<'a>(&'a self, line: Line<'a>) -> &'a [u8] {
        match line {
            Line::Straight(text) => text,
            Line::Kept(length) => &self.line[..length],
        }
    }
}

/// Where a complete line lies.
#[derive(Clone, Copy)]
enum Line<'a> {
    Straight(&'a [u8]),
    /// In the parser's own buffer, with this length.
    Kept(usize),
}

/// What a line announces.
#[derive(Clone, Copy)]
enum Head {
    Error,
    Scalar,
    Number(i64),
    Bulk(i64),
    Array(i64),
}

impl Head {
    /// What a reply holds that begins so.
    fn held(self, looks: bool) -> Option<Held> {
        match self {
            Self::Bulk(-1) | Self::Array(-1) => Some(Held::Nil),
            Self::Number(number) => Some(Held::Number(number)),
            Self::Bulk(_) if looks => Some(Held::Value(Fingerprint::default())),
            _ => None,
        }
    }
}

const NO_RETURN: Malformed = Malformed("a line that ends without \\r");

fn head(line: &[u8]) -> Result<Head, Malformed> {
    let (&kind, rest) = line.split_first().ok_or(Malformed("an empty line"))?;
    match kind {
        b'-' => Ok(Head::Error),
        b'+' => Ok(Head::Scalar),
        b':' => integer(rest).map(Head::Number),
        b'$' => integer(rest).map(Head::Bulk),
        b'*' => integer(rest).map(Head::Array),
        _ => Err(Malformed("a reply of an unknown type")),
    }
}

fn integer(text: &[u8]) -> Result<i64, Malformed> {
    std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(Malformed("something else where a number belongs"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds the pieces one after the other, and returns each reply as text.
    fn read(pieces: &[&[u8]]) -> Result<Vec<String>, Malformed> {
        let mut parser = ReplyParser::default();
        let mut replies = Vec::new();
        for piece in pieces {
            let mut input = *piece;
            loop {
                let reply = parser.next(&mut input)?;
                match reply {
                    Some(Reply::Done(Held::Nil)) => replies.push("nil".to_owned()),
                    Some(Reply::Done(_)) => replies.push("value".to_owned()),
                    Some(Reply::Error(text)) => {
                        replies.push(String::from_utf8_lossy(text).into_owned())
                    }
                    None => break,
                }
            }
            assert!(input.is_empty());
        }
        assert!(parser.is_at_start(), "the replies did not end with the bytes");
        Ok(replies)
    }

    const STREAM: &[u8] =
        b"+OK\r\n:-12\r\n$5\r\nhe\r\no\r\n$-1\r\n-ERR not today\r\n$0\r\n\r\n*-1\r\n\
        *3\r\n$1\r\nx\r\n*2\r\n:1\r\n$-1\r\n-ERR inside\r\n*0\r\n-MOVED 1 h:2\r\n+PONG\r\n";

    const SAID: [&str; 11] = [
        "value",
        "value",
        "value",
        "nil",
        "ERR not today",
        "value",
        "nil",
        "value",
        "value",
        "MOVED 1 h:2",
        "value",
    ];

    #[test]
    fn replies_are_the_same_whole_and_split_at_every_byte() {
        assert_eq!(read(&[STREAM]).unwrap(), SAID);
        for at in 0..=STREAM.len() {
            let (left, right) = STREAM.split_at(at);
            assert_eq!(read(&[left, right]).unwrap(), SAID, "split at {at}");
        }
        let single: Vec<&[u8]> = STREAM.chunks(1).collect();
        assert_eq!(read(&single).unwrap(), SAID);
    }

    #[test]
    fn a_parser_that_looks_tells_what_a_reply_held() {
        let held = |at: usize, looks| {
            let bytes = b"$5\r\nhello\r\n:7\r\n*1\r\n$5\r\nhello\r\n$-1\r\n+OK\r\n";
            let mut parser = ReplyParser::default();
            parser.look_at_values(looks);
            let mut held = Vec::new();
            for mut piece in [&bytes[..at], &bytes[at..]] {
                while let Some(reply) = parser.next(&mut piece).unwrap() {
                    let Reply::Done(what) = reply else { panic!("{reply:?}") };
                    held.push(what);
                }
            }
            held
        };
        let value = Held::Value(Fingerprint::of(b"hello"));
        for at in 0..30 {
            assert_eq!(
                held(at, true),
                [value, Held::Number(7), Held::Other, Held::Nil, Held::Other]
            );
            assert_eq!(held(at, false)[0], Held::Other);
        }
    }

    #[test]
    fn a_payload_is_skipped_and_never_kept() {
        let mut parser = ReplyParser::default();
        assert_eq!(parser.next(&mut b"$400000000\r\n".as_slice()), Ok(None));
        let chunk = vec![b'x'; 1 << 20];
        for _ in 0..300 {
            assert_eq!(parser.next(&mut chunk.as_slice()), Ok(None));
        }
        assert!(parser.line.capacity() <= LINE_KEPT + 2);
    }

    #[test]
    fn a_long_error_is_cut_and_the_next_reply_is_still_found() {
        let mut bytes = b"-ERR ".to_vec();
        bytes.resize(5_000, b'x');
        bytes.extend_from_slice(b"\r\n+OK\r\n");
        for size in [bytes.len(), 100, 514, 513, 1] {
            let pieces: Vec<&[u8]> = bytes.chunks(size).collect();
            let said = read(&pieces).unwrap();
            assert_eq!(said[0].len(), LINE_KEPT - 1, "in pieces of {size}");
            assert_eq!(said[1], "value");
        }
    }

    #[test]
    fn bytes_that_are_no_resp_are_refused() {
        let too_long = [b"+".as_slice(), &vec![b'x'; LINE_MAX]].concat();
        let cases: [&[u8]; 12] = [
            b"hello\r\n",
            b"\r\n",
            b"+OK\n",
            b":x\r\n",
            b"$-2\r\n",
            b"$99999999999999999999\r\n",
            b"$536870913\r\n",
            b"*-2\r\n",
            b"*1048577\r\n",
            b"$1\r\nxyz",
            b"*2000000\r\n",
            &too_long,
        ];
        for bytes in cases {
            assert!(
                read(&[bytes]).is_err(),
                "{}",
                String::from_utf8_lossy(&bytes[..bytes.len().min(30)])
            );
        }
    }

    #[test]
    fn nested_arrays_cannot_add_up_without_bound() {
        let bytes = b"*1000000\r\n*1000000\r\n";
        assert!(read(&[bytes]).is_err());
    }
}
