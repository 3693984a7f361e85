//! A reply as a client reads it, and shows it to people.
//!
//! It trusts the server no more than the server trusts a client: lengths are judged before they are
//! believed, and replies are nested only so deep.

use std::{
    fmt,
    io::{self, BufRead, Read},
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

impl Value {
    /// Reads one reply.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` when the bytes end before the reply does, `InvalidData` when they are none, and
    /// whatever `reader` fails with.
    pub fn read(reader: &mut impl BufRead) -> io::Result<Self> {
        Self::read_at(reader, 0)
    }

    fn read_at(reader: &mut impl BufRead, depth: usize) -> io::Result<Self> {
        if depth > DEPTH_MAX {
            return Err(strange("replies nested too deep"));
        }
        let line = line(reader)?;
        let Some((kind, text)) = line.split_at_checked(1) else {
            return Err(strange("an empty line"));
        };
        match kind {
            "+" => Ok(Self::Simple(text.into())),
            "-" => Ok(Self::Error(text.into())),
            ":" => Ok(Self::Integer(text.parse().map_err(|_| strange(&line))?)),
            "_" => Ok(Self::Nil),
            "," | "#" | "(" => Ok(Self::Other(text.into())),
            "$" | "=" | "!" => Self::bulk(reader, kind, text),
            "*" | "~" | ">" => Self::array(reader, text, depth),
            "%" => Self::map(reader, text, depth),
            _ => Err(strange(&line)),
        }
    }

    fn bulk(reader: &mut impl BufRead, kind: &str, len: &str) -> io::Result<Self> {
        let Some(len) = length(len)? else { return Ok(Self::Nil) };
        let mut bytes = Vec::new();
        // It grows by what comes, not by what was announced.
        reader.by_ref().take(len + 2).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != len + 2 {
            return Err(closed());
        }
        if !bytes.ends_with(b"\r\n") {
            return Err(strange("bytes longer than announced"));
        }
        bytes.truncate(len as usize);
        Ok(match kind {
            "$" => Self::Bulk(bytes),
            "=" => Self::Text(String::from_utf8_lossy(bytes.get(4..).unwrap_or(&[])).into()),
            _ => Self::Error(String::from_utf8_lossy(&bytes).into()),
        })
    }

    fn array(reader: &mut impl BufRead, len: &str, depth: usize) -> io::Result<Self> {
        let Some(len) = length(len)? else { return Ok(Self::Nil) };
        let values = (0..len).map(|_| Self::read_at(reader, depth + 1));
        Ok(Self::Array(values.collect::<io::Result<_>>()?))
    }

    fn map(reader: &mut impl BufRead, len: &str, depth: usize) -> io::Result<Self> {
        let len = length(len)?.ok_or_else(|| strange("a map without a length"))?;
        let pairs = (0..len)
            .map(|_| Ok((Self::read_at(reader, depth + 1)?, Self::read_at(reader, depth + 1)?)));
        Ok(Self::Map(pairs.collect::<io::Result<_>>()?))
    }

    /// The bytes of a value that is text or bytes.
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bulk(bytes) => Some(bytes),
            Self::Simple(text) | Self::Text(text) | Self::Other(text) => Some(text.as_bytes()),
            _ => None,
        }
    }
}

fn line(reader: &mut impl BufRead) -> io::Result<String> {
    const LINE_MAX: u64 = 1 << 20;
    let mut line = Vec::new();
    reader.by_ref().take(LINE_MAX).read_until(b'\n', &mut line)?;
    let Some(text) = line.strip_suffix(b"\r\n") else {
        return Err(if line.ends_with(b"\n") { strange("a bare line end") } else { closed() });
    };
    Ok(String::from_utf8_lossy(text).into_owned())
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
    let text =
        format!("the server sent something that is no reply of RESP: {}", what.escape_debug());
    io::Error::new(io::ErrorKind::InvalidData, text)
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
    fn a_reply_is_read_whole_or_not_at_all() {
        let whole = b"*2\r\n%1\r\n+a\r\n:-1\r\n$3\r\na\r\n\r\n-ERR next\r\n";
        let len = whole.len() - b"-ERR next\r\n".len();
        let mut rest = &whole[..];
        let map = Value::Map(vec![(Value::Simple("a".into()), Value::Integer(-1))]);
        let reply = Value::Array(vec![map, Value::Bulk(b"a\r\n".to_vec())]);
        assert_eq!(Value::read(&mut rest).expect("a reply"), reply);
        assert_eq!(rest, &whole[len..]);
        for end in 0..len {
            let cut = Value::read(&mut &whole[..end]).expect_err("it is not whole");
            assert_eq!(cut.kind(), io::ErrorKind::UnexpectedEof, "{end} bytes");
        }
        for strange in ["?\r\n", "\r\n", "+a\n", ":x\r\n", "$-2\r\n", "$1\r\nabc", "%-1\r\n"] {
            let error = Value::read(&mut strange.as_bytes()).expect_err("it is no reply");
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{strange:?}");
        }
    }

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
