//! Reads the reply to `CLUSTER SLOTS`: which server leads which slots.
//!
//! ```text
//! *2                          a row for each range of slots that has a leader
//!   *3 :0 :5460               the first and the last slot, both included
//!      *4 $9 127.0.0.1 :7101  the leader: host, port, id, and what else is known of it
//!         $40 c0ffee… *0
//!   *4 :5461 :10922 *4 … *4 …   further servers of a row are replicas, and are not read
//! ```
//!
//! The bytes come from a server, so nothing here believes them: each number has bounds, and each
//! violation is an error with a text.

use crate::slots::SLOTS;

/// The longest reply.
pub const REPLY_BYTES_MAX: usize = 4 << 20;
/// A row has at least one slot.
const ROWS_MAX: usize = SLOTS as usize;
/// The elements of a row: two slots, the leader, and replicas.
const ROW_ELEMENTS_MAX: usize = 4_096;
/// The longest host.
pub const HOST_BYTES_MAX: usize = 255;

/// One row: a range of slots and its leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotsRow {
    /// The first slot.
    pub first: u16,
    /// The last slot; it belongs to the range. Not before `first`.
    pub last: u16,
    /// The leader's host. `None` means the host that was asked.
    pub host: Option<String>,
    /// The leader's port, not 0.
    pub port: u16,
}

/// The rows of a complete reply.
///
/// # Errors
/// When the bytes are no such reply. The text says what is wrong with them.
pub fn read_rows(reply: &[u8]) -> Result<Vec<SlotsRow>, String> {
    let mut reader = Reader { rest: reply };
    let count = reader.array(ROWS_MAX, "rows")?;
    // Nothing is reserved: the bytes are here, but their count may lie.
    let rows = (0..count).map(|_| row(&mut reader)).collect::<Result<_, _>>()?;
    if reader.rest.is_empty() { Ok(rows) } else { Err("bytes follow its last row".to_owned()) }
}

/// The host and the port of `host:port`. An empty host means the host that was asked.
pub fn read_address(text: &str) -> Option<(Option<&str>, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|&port| port != 0)?;
    let is_known = !host.is_empty() && host != "?";
    (host.len() <= HOST_BYTES_MAX).then_some((is_known.then_some(host), port))
}

fn row(reader: &mut Reader<'_>) -> Result<SlotsRow, String> {
    let elements = reader.array(ROW_ELEMENTS_MAX, "elements of a row")?;
    if elements < 3 {
        return Err(format!("a row has {elements} elements, and needs two slots and a server"));
    }
    let (first, last) = (reader.number(SLOTS - 1, "slot")?, reader.number(SLOTS - 1, "slot")?);
    if first > last {
        return Err(format!("a row ends at slot {last} before it starts at slot {first}"));
    }
    let fields = reader.array(ROW_ELEMENTS_MAX, "fields of a server")?;
    if fields < 2 {
        return Err(format!("a server has {fields} fields, and needs a host and a port"));
    }
    let host = reader.host()?;
    let port = reader.number(u16::MAX, "port")?;
    if port == 0 {
        return Err("a server has the port 0".to_owned());
    }
    reader.skip(fields - 2 + elements - 3)?;
    Ok(SlotsRow { first, last, host, port })
}

/// The part of the reply that is not read yet.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// The kind of the next element, and the text of its line.
    fn line(&mut self) -> Result<(u8, &'a str), String> {
        let end = self.rest.windows(2).position(|pair| pair == b"\r\n").ok_or(CUT)?;
        let (line, rest) = (&self.rest[..end], &self.rest[end + 2..]);
        self.rest = rest;
        let (&kind, text) = line.split_first().ok_or("a line is empty")?;
        let text = std::str::from_utf8(text).map_err(|_| "a line is no text")?;
        Ok((kind, text))
    }

    fn array(&mut self, max: usize, what: &str) -> Result<usize, String> {
        let (kind, text) = self.line()?;
        match text.parse() {
            Ok(count) if kind == b'*' && count <= max => Ok(count),
            _ => Err(format!(
                "it has `{}` where the number of {what} belongs, {max} at most",
                shown(kind, text)
            )),
        }
    }

    fn number(&mut self, max: u16, what: &str) -> Result<u16, String> {
        let (kind, text) = self.line()?;
        match text.parse() {
            Ok(number) if kind == b':' && number <= max => Ok(number),
            _ => {
                Err(format!("it has `{}` where a {what} of 0 to {max} belongs", shown(kind, text)))
            }
        }
    }

    /// A host. Nil, an empty text and `?` mean that the server does not know its own host.
    fn host(&mut self) -> Result<Option<String>, String> {
        let (kind, text) = self.line()?;
        let length = match text.parse::<i64>() {
            Ok(-1) if kind == b'$' => return Ok(None),
            Ok(length) if kind == b'$' => usize::try_from(length).ok(),
            _ => None,
        };
        let Some(length) = length.filter(|length| *length <= HOST_BYTES_MAX) else {
            let shown = shown(kind, text);
            return Err(format!(
                "it has `{shown}` where a host of at most {HOST_BYTES_MAX} bytes belongs"
            ));
        };
        let host = std::str::from_utf8(self.body(length)?).map_err(|_| "a host is no text")?;
        Ok(Some(host).filter(|host| !host.is_empty() && *host != "?").map(str::to_owned))
    }

    fn body(&mut self, length: usize) -> Result<&'a [u8], String> {
        let (body, rest) = self.rest.split_at_checked(length).ok_or(CUT)?;
        self.rest = rest.strip_prefix(b"\r\n").ok_or("a text has another length than announced")?;
        Ok(body)
    }

    /// Skips elements of any kind, with all that is in them.
    fn skip(&mut self, count: usize) -> Result<(), String> {
        let mut left = count;
        while left > 0 {
            left -= 1;
            let (kind, text) = self.line()?;
            if !b"*$".contains(&kind) {
                continue;
            }
            let length: i64 = text.parse().map_err(|_| "a length is no number")?;
            // Nil has no body.
            let Ok(length) = usize::try_from(length) else { continue };
            if kind == b'*' {
                left = left.checked_add(length).ok_or("an array is too long")?;
            } else {
                self.body(length)?;
            }
        }
        Ok(())
    }
}

const CUT: &str = "it ends in the middle of an element";

/// The start of a line, for a text.
fn shown(kind: u8, text: &str) -> String {
    format!("{}{}", char::from(kind), text.chars().take(40).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str) -> Result<Vec<SlotsRow>, String> {
        read_rows(text.replace(' ', "\r\n").as_bytes())
    }

    fn row(first: u16, last: u16, host: Option<&str>, port: u16) -> SlotsRow {
        SlotsRow { first, last, host: host.map(str::to_owned), port }
    }

    #[test]
    fn the_leader_of_each_row_is_read_and_the_rest_is_skipped() {
        let reply = "*2 *3 :0 :5460 *4 $9 127.0.0.1 :7101 $2 id *0 \
                     *5 :5461 :5461 *4 $3 ::1 :7102 $2 id *2 $8 hostname $1 h \
                     *3 $1 r :9 $1 x *-1 ";
        let expected =
            [row(0, 5_460, Some("127.0.0.1"), 7_101), row(5_461, 5_461, Some("::1"), 7_102)];
        assert_eq!(rows(reply).unwrap(), expected);
        assert_eq!(rows("*0 ").unwrap(), []);
    }

    #[test]
    fn a_server_that_does_not_know_its_host_means_the_one_that_was_asked() {
        for host in ["$-1", "$1 ?", "$0 "] {
            let reply = format!("*1 *3 :0 :1 *3 {host} :7101 $2 id ");
            assert_eq!(rows(&reply).unwrap(), [row(0, 1, None, 7_101)], "{host}");
        }
    }

    #[test]
    fn bad_replies_are_refused_with_a_text() {
        let server = "*3 $1 h :7101 $2 id ";
        for (reply, text) in [
            ("+OK ".to_owned(), "number of rows"),
            ("*16385 ".to_owned(), "16384 at most"),
            ("*-1 ".to_owned(), "number of rows"),
            ("*1 *2 :0 :1 ".to_owned(), "2 elements"),
            (format!("*1 *3 :0 :16384 {server}"), "slot of 0 to 16383"),
            (format!("*1 *3 :-1 :5 {server}"), "slot of 0 to 16383"),
            (format!("*1 *3 :9 :5 {server}"), "before it starts"),
            ("*1 *3 :0 :1 *1 $1 h ".to_owned(), "1 fields"),
            ("*1 *3 :0 :1 *2 $1 h :0 ".to_owned(), "port 0"),
            ("*1 *3 :0 :1 *2 $1 h :65536 ".to_owned(), "port of 0 to 65535"),
            ("*1 *3 :0 :1 *2 $256 h :1 ".to_owned(), "255 bytes"),
            ("*1 *3 :0 :1 *2 $1 hh :1 ".to_owned(), "length"),
            ("*1 *3 :0 :1 *3 $1 h :1 *9 ".to_owned(), "middle"),
            ("*1 *3 :0 :1 *3 $1 h :1 *18446744073709551615 ".to_owned(), "no number"),
            ("*2 *3 :0 :1 *2 $1 h :1 ".to_owned(), "middle"),
            (format!("*1 *3 :0 :1 {server}:1 "), "follow"),
            (" ".to_owned(), "empty"),
        ] {
            let error = rows(&reply).unwrap_err();
            assert!(error.contains(text), "{reply}: {error}");
        }
    }

    #[test]
    fn addresses_have_a_port_and_may_have_a_host() {
        assert_eq!(read_address("h:7101"), Some((Some("h"), 7_101)));
        assert_eq!(read_address("::1:7101"), Some((Some("::1"), 7_101)));
        assert_eq!(read_address(":7101"), Some((None, 7_101)));
        let long = format!("{}:1", "h".repeat(HOST_BYTES_MAX + 1));
        for text in ["", "h", "h:", "h:0", "h:65536", &long] {
            assert_eq!(read_address(text), None, "{text}");
        }
    }
}
