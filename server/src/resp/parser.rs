//! Reads requests out of the bytes of a connection, wherever those happen to be cut.
//!
//! ```text
//! request  *3\r\n $3\r\n SET\r\n $1\r\n k\r\n $2\r\n v1\r\n     an array of bulk strings
//!          SET k "v 1"\r\n                                      or a line ("inline")
//! ```
//!
//! It copies nothing but a line with quotes, judges each length before it makes room for it, and
//! accepts nothing that it would have to guess at: the first byte that cannot be right is an error,
//! after which the connection is closed.

use std::{borrow::Cow, ops::Range};
use thiserror::Error;

/// What a request may cost at most, judged while its head is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RequestLimits {
    /// How many arguments it has, its name included.
    pub arguments_max: usize,
    /// How many of them are kept; those behind are read, and counted. No command takes more.
    pub arguments_kept: usize,
    /// The longest argument, in bytes.
    pub bulk_bytes_max: usize,
    /// The longest line, in bytes.
    pub inline_bytes_max: usize,
    /// The whole of it, in bytes.
    pub request_bytes_max: usize,
}

/// The arguments of a command that sets as many keys as one command may: no command takes more.
const ARGUMENTS_KEPT: usize = 1 + 2 * (16 << 10);

/// What a request may have more than the longest command, in bytes: the lengths and line ends around its
/// arguments, as many as a command may have.
pub(super) const FRAMING_BYTES_MAX: usize = 512 << 10;

impl RequestLimits {
    /// The limits where a value has `max_value` bytes at most, and a command that goes into the log
    /// `max_command`.
    pub fn new(max_value: usize, max_command: usize) -> Self {
        Self {
            arguments_max: 1 << 20,
            arguments_kept: ARGUMENTS_KEPT,
            bulk_bytes_max: max_value,
            inline_bytes_max: 64 << 10,
            request_bytes_max: max_command + FRAMING_BYTES_MAX,
        }
    }

    /// The longest command that goes into the log, in bytes.
    pub fn max_command(&self) -> usize {
        self.request_bytes_max.saturating_sub(FRAMING_BYTES_MAX)
    }
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self::new(8 << 20, 8 << 20)
    }
}

/// The bytes are no request. The connection is of no further use, since nobody knows where the next
/// request would begin.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("Protocol error: {0}")]
pub struct ProtocolError(Cow<'static, str>);

impl ProtocolError {
    const fn new(text: &'static str) -> Self {
        Self(Cow::Borrowed(text))
    }
}

/// Reads one request after the other.
pub struct Parser {
    limits: RequestLimits,
    /// How much of the present request has been read: it is never read twice.
    position: usize,
    stage: Stage,
    /// Where the arguments read so far lie: in the request, or in `unquoted` for a line.
    arguments: Vec<Range<u32>>,
    /// How many arguments were read, also those that are not kept.
    count: usize,
    /// The arguments of a line, without their quotes.
    unquoted: Vec<u8>,
}

/// What is read next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// The first byte of a request.
    Start,
    /// A line, up to its end.
    Line,
    /// The length of an argument, of this many that are still to come.
    Length { missing: usize },
    /// An argument of `len` bytes, the first of `missing` that are still to come.
    Argument { missing: usize, len: usize },
    /// Nothing: the request is whole, and its arguments are lent out.
    End,
}

impl Parser {
    /// A parser at the beginning of a connection.
    pub fn new(limits: RequestLimits) -> Self {
        assert!(limits.request_bytes_max <= u32::MAX as usize, "{limits:?} needs 64-bit places");
        Self {
            limits,
            position: 0,
            stage: Stage::Start,
            arguments: Vec::new(),
            count: 0,
            unquoted: Vec::new(),
        }
    }

    /// Reads on. `bytes` begin where the present request begins, and hold at least what they held
    /// the last time. The answer is the length of the request once all of it is there; from then on
    /// the next request is read, from `bytes` without it.
    ///
    /// # Errors
    ///
    /// The bytes are no request. The parser must not be asked again.
    pub fn parse(&mut self, bytes: &[u8]) -> Result<Option<usize>, ProtocolError> {
        if self.stage == Stage::End {
            self.restart();
        }
        while self.stage != Stage::End {
            let next = match self.stage {
                Stage::Start => self.start(bytes)?,
                Stage::Line => self.line(bytes)?,
                Stage::Length { missing } => self.length(bytes, missing)?,
                Stage::Argument { missing, len } => self.argument(bytes, missing, len)?,
                Stage::End => unreachable!("the loop ends there"),
            };
            let Some(stage) = next else { return Ok(None) };
            self.stage = stage;
        }
        Ok(Some(self.position))
    }

    /// The arguments of the request that `parse` has just completed; none when the request was
    /// empty. `bytes` are those that it was given.
    pub fn arguments<'a>(&'a self, bytes: &'a [u8]) -> Arguments<'a> {
        let is_line = !bytes.starts_with(b"*");
        let bytes = if is_line { &self.unquoted } else { bytes };
        Arguments { bytes, places: &self.arguments, len: self.count }
    }

    /// What it takes in memory, in bytes.
    pub fn memory(&self) -> usize {
        self.arguments.capacity() * size_of::<Range<u32>>() + self.unquoted.capacity()
    }

    /// Gives back what an idle connection does not need: nothing while a part of a request is there.
    pub fn give_back(&mut self) {
        if self.stage == Stage::Start {
            (self.arguments, self.unquoted) = Default::default();
        }
    }

    /// How many bytes the present request needs in all, as far as is known: never more than the
    /// limits allow.
    pub fn needs(&self) -> usize {
        match self.stage {
            Stage::Argument { len, .. } => self.position + len + 2,
            _ => self.position + 1,
        }
    }

    fn restart(&mut self) {
        self.position = 0;
        self.stage = Stage::Start;
        self.count = 0;
        self.arguments.clear();
        self.unquoted.clear();
        // One huge request should not cost its memory for ever.
        self.arguments.shrink_to(1_024);
        self.unquoted.shrink_to(1_024);
    }

    fn start(&mut self, bytes: &[u8]) -> Result<Option<Stage>, ProtocolError> {
        /// The first byte of what a TLS client says first.
        const TLS_HANDSHAKE: u8 = 0x16;
        match bytes.first() {
            None => Ok(None),
            Some(b'*') => self.count(bytes),
            Some(&TLS_HANDSHAKE) => {
                Err(ProtocolError::new("this port does not speak TLS; connect without TLS"))
            }
            Some(_) => Ok(Some(Stage::Line)),
        }
    }

    fn count(&mut self, bytes: &[u8]) -> Result<Option<Stage>, ProtocolError> {
        const WRONG: ProtocolError = ProtocolError::new("invalid multibulk length");
        let Some((count, len)) = number(&bytes[1..]).ok_or(WRONG)? else { return Ok(None) };
        let max = self.limits.arguments_max;
        if count > max as i64 {
            let text = format!("invalid multibulk length: a request has {max} arguments at most");
            return Err(ProtocolError(text.into()));
        }
        self.position = 1 + len;
        // An empty array, or none, asks for nothing and is not answered.
        let missing = usize::try_from(count).unwrap_or(0);
        Ok(Some(if missing == 0 { Stage::End } else { Stage::Length { missing } }))
    }

    fn length(&mut self, bytes: &[u8], missing: usize) -> Result<Option<Stage>, ProtocolError> {
        const WRONG: ProtocolError = ProtocolError::new("invalid bulk length");
        let Some((&first, rest)) = bytes[self.position..].split_first() else { return Ok(None) };
        if first != b'$' {
            let got = char::from(first).escape_default();
            return Err(ProtocolError(format!("expected '$', got '{got}'").into()));
        }
        let Some((bulk, len)) = number(rest).ok_or(WRONG)? else { return Ok(None) };
        let bulk = usize::try_from(bulk).map_err(|_| WRONG)?;
        let max = self.limits.bulk_bytes_max;
        if bulk > max {
            let text = format!("invalid bulk length: an argument has {max} bytes at most");
            return Err(ProtocolError(text.into()));
        }
        self.position += 1 + len;
        if self.position + bulk + 2 > self.limits.request_bytes_max {
            let max = self.limits.request_bytes_max;
            return Err(ProtocolError(format!("a request has {max} bytes at most").into()));
        }
        Ok(Some(Stage::Argument { missing, len: bulk }))
    }

    fn argument(
        &mut self,
        bytes: &[u8],
        missing: usize,
        len: usize,
    ) -> Result<Option<Stage>, ProtocolError> {
        let Some(rest) = bytes[self.position..].get(len..) else { return Ok(None) };
        match rest {
            [b'\r', b'\n', ..] => {}
            [] | [b'\r'] => return Ok(None),
            _ => return Err(ProtocolError::new("expected CRLF after a bulk string")),
        }
        self.push(self.position as u32..(self.position + len) as u32);
        self.position += len + 2;
        Ok(Some(match missing - 1 {
            0 => Stage::End,
            missing => Stage::Length { missing },
        }))
    }

    fn line(&mut self, bytes: &[u8]) -> Result<Option<Stage>, ProtocolError> {
        let max = self.limits.inline_bytes_max;
        let end = bytes[self.position..].iter().position(|&byte| byte == b'\n');
        let len = end.map_or(bytes.len(), |end| self.position + end);
        if len > max {
            let text = format!("too big inline request: a line has {max} bytes at most");
            return Err(ProtocolError(text.into()));
        }
        if end.is_none() {
            self.position = len;
            return Ok(None);
        }
        self.position = len + 1;
        self.split(&bytes[..len])?;
        Ok(Some(Stage::End))
    }

    /// Splits a line at its spaces, and takes the quotes off, as a shell would.
    fn split(&mut self, line: &[u8]) -> Result<(), ProtocolError> {
        let mut rest = line.trim_ascii();
        while !rest.is_empty() {
            let start = self.unquoted.len() as u32;
            rest = self.word(rest)?.trim_ascii_start();
            self.push(start..self.unquoted.len() as u32);
        }
        Ok(())
    }

    fn push(&mut self, place: Range<u32>) {
        self.count += 1;
        if self.arguments.len() < self.limits.arguments_kept {
            self.arguments.push(place);
        }
    }

    /// Takes one word off the front of `rest`, and gives what is behind it.
    fn word<'a>(&mut self, mut rest: &'a [u8]) -> Result<&'a [u8], ProtocolError> {
        const UNBALANCED: ProtocolError = ProtocolError::new("unbalanced quotes in request");
        while let Some((&byte, behind)) = rest.split_first() {
            match byte {
                b'"' | b'\'' => {
                    let behind = self.quoted(byte, behind).ok_or(UNBALANCED)?;
                    // A closing quote ends the word.
                    let is_end = behind.first().is_none_or(u8::is_ascii_whitespace);
                    return if is_end { Ok(behind) } else { Err(UNBALANCED) };
                }
                byte if byte.is_ascii_whitespace() => return Ok(rest),
                byte => self.unquoted.push(byte),
            }
            rest = behind;
        }
        Ok(rest)
    }

    /// Takes what stands before the closing `quote`, and gives what is behind it; nothing when
    /// there is none.
    fn quoted<'a>(&mut self, quote: u8, mut rest: &'a [u8]) -> Option<&'a [u8]> {
        loop {
            let (byte, behind) = match rest {
                [byte, behind @ ..] if *byte == quote => return Some(behind),
                [b'\\', b'\'', behind @ ..] if quote == b'\'' => (b'\'', behind),
                [b'\\', b'x', high, low, behind @ ..] if quote == b'"' => {
                    match (hex(*high), hex(*low)) {
                        (Some(high), Some(low)) => (high << 4 | low, behind),
                        _ => (b'x', &rest[2..]),
                    }
                }
                [b'\\', escaped, behind @ ..] if quote == b'"' => (unescape(*escaped), behind),
                [byte, behind @ ..] => (*byte, behind),
                [] => return None,
            };
            self.unquoted.push(byte);
            rest = behind;
        }
    }
}

/// The words of a line, split as those of an inline request.
///
/// # Errors
///
/// A quote is not closed, or closed within a word.
pub fn split_line(line: &[u8]) -> Result<Vec<Vec<u8>>, ProtocolError> {
    let mut parser = Parser::new(RequestLimits::default());
    parser.split(line)?;
    let words = Arguments { bytes: &parser.unquoted, places: &parser.arguments, len: parser.count };
    Ok(words.iter().map(<[u8]>::to_vec).collect())
}

/// The arguments of one request, the first of them its name.
#[derive(Clone, Copy)]
pub struct Arguments<'a> {
    bytes: &'a [u8],
    places: &'a [Range<u32>],
    /// More than there are places when some were not kept.
    len: usize,
}

impl<'a> Arguments<'a> {
    /// How many the request has, also those that were not kept.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the request was empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The argument at `place`, if there is one, and it was kept.
    pub fn get(&self, place: usize) -> Option<&'a [u8]> {
        let range = self.places.get(place)?;
        Some(&self.bytes[range.start as usize..range.end as usize])
    }

    /// The arguments that were kept, in order: all of them for a command that takes so many.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a [u8]> + use<'a> {
        let bytes = self.bytes;
        self.places.iter().map(move |range| &bytes[range.start as usize..range.end as usize])
    }

    /// The arguments from `place` on.
    pub fn from(&self, place: usize) -> Self {
        let places = self.places.get(place..).unwrap_or_default();
        Self { bytes: self.bytes, places, len: self.len.saturating_sub(place) }
    }
}

impl std::ops::Index<usize> for Arguments<'_> {
    type Output = [u8];

    fn index(&self, place: usize) -> &[u8] {
        let range = &self.places[place];
        &self.bytes[range.start as usize..range.end as usize]
    }
}

/// The number and the line end at the front of `bytes`, and the length of both. Nothing inside when
/// it goes on behind the end of `bytes`, nothing at all when it cannot be a number. It is written
/// as Redis wants it: no plus, no leading zero.
fn number(bytes: &[u8]) -> Option<Option<(i64, usize)>> {
    let is_negative = bytes.first() == Some(&b'-');
    let digits = &bytes[usize::from(is_negative)..];
    let mut value = 0i64;
    for (place, &byte) in digits.iter().enumerate() {
        let is_first = place == 0;
        match byte {
            b'0' if is_first => match digits.get(1) {
                Some(b'\r') if !is_negative => {}
                None if !is_negative => return Some(None),
                _ => return None,
            },
            b'0'..=b'9' => {
                value = value.checked_mul(10)?.checked_add(i64::from(byte - b'0'))?;
            }
            b'\r' if !is_first => {
                let len = usize::from(is_negative) + place + 2;
                return match digits.get(place + 1) {
                    Some(b'\n') => Some(Some((if is_negative { -value } else { value }, len))),
                    Some(_) => None,
                    None => Some(None),
                };
            }
            _ => return None,
        }
    }
    Some(None)
}

fn unescape(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 8,
        b'a' => 7,
        byte => byte,
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}
