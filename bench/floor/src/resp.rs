//! Requests of the Redis protocol, as far as this path serves them: arrays of bulk strings.

/// A request of a client.
#[derive(Debug, PartialEq)]
pub(crate) enum Request<'a> {
    Set {
        key: &'a [u8],
        value: &'a [u8],
    },
    Get {
        key: &'a [u8],
    },
    Ping,
    /// Any other command, or one of these with other arguments.
    Unknown,
}

/// The most bytes of a key or a value: half a frame.
const BULK_BYTES_MAX: usize = 256 * 1024;
/// The most arguments of a request, with the command itself.
const ARGUMENTS_MAX: usize = 8;

pub(crate) const OK: &[u8] = b"+OK\r\n";
pub(crate) const NIL: &[u8] = b"$-1\r\n";
pub(crate) const PONG: &[u8] = b"+PONG\r\n";
pub(crate) const UNKNOWN: &[u8] = b"-ERR this path serves SET key value, GET key and PING only\r\n";

/// The first request of the bytes, and its length in bytes. `None` until all of it is there.
///
/// # Errors
/// When the bytes are no request, or one that is too long.
pub(crate) fn first(bytes: &[u8]) -> Result<Option<(Request<'_>, usize)>, &'static str> {
    let mut reader = Reader { bytes, at: 0 };
    let Some(count) = reader.number(b'*', ARGUMENTS_MAX)? else { return Ok(None) };
    let mut arguments: [&[u8]; ARGUMENTS_MAX] = [b""; ARGUMENTS_MAX];
    for argument in &mut arguments[..count] {
        let Some(bulk) = reader.bulk()? else { return Ok(None) };
        *argument = bulk;
    }
    let is = |name: &[u8]| arguments[0].eq_ignore_ascii_case(name);
    let request = match arguments[..count] {
        [_, key, value] if is(b"SET") => Request::Set { key, value },
        [_, key] if is(b"GET") => Request::Get { key },
        [_] if is(b"PING") => Request::Ping,
        _ => Request::Unknown,
    };
    Ok(Some((request, reader.at)))
}

/// Writes the reply to a GET.
pub(crate) fn write_value(value: Option<&[u8]>, out: &mut Vec<u8>) {
    let Some(value) = value else { return out.extend_from_slice(NIL) };
    out.extend_from_slice(format!("${}\r\n", value.len()).as_bytes());
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// A place in the bytes of a client.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// A line like `*3\r\n`, whose number is `most` at most.
    fn number(&mut self, kind: u8, most: usize) -> Result<Option<usize>, &'static str> {
        let rest = &self.bytes[self.at..];
        match rest.first() {
            None => return Ok(None),
            Some(&first) if first != kind => {
                return Err("ERR the bytes are no array of bulk strings");
            }
            Some(_) => {}
        }
        let mut number = 0;
        for (place, &byte) in rest.iter().enumerate().skip(1) {
            match byte {
                b'0'..=b'9' => number = number * 10 + usize::from(byte - b'0'),
                b'\r' if place > 1 => {
                    let has_end = rest.get(place + 1).is_some();
                    self.at += place + 2;
                    return Ok(has_end.then_some(number));
                }
                _ => return Err("ERR a length is no number"),
            }
            if number > most {
                return Err("ERR a request is longer than this path takes");
            }
        }
        Ok(None)
    }

    fn bulk(&mut self) -> Result<Option<&'a [u8]>, &'static str> {
        let Some(length) = self.number(b'$', BULK_BYTES_MAX)? else { return Ok(None) };
        let Some(bulk) = self.bytes.get(self.at..self.at + length + 2) else { return Ok(None) };
        self.at += length + 2;
        Ok(Some(&bulk[..length]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_when_they_are_whole() {
        let bytes = b"*3\r\n$3\r\nset\r\n$1\r\nk\r\n$5\r\nvalue\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n";
        let (request, length) = first(bytes).unwrap().unwrap();
        assert_eq!(request, Request::Set { key: b"k", value: b"value" });
        for cut in 0..length {
            assert_eq!(first(&bytes[..cut]), Ok(None), "{cut} bytes");
        }
        assert_eq!(first(&bytes[length..]).unwrap().unwrap().0, Request::Get { key: b"k" });
        let ping = first(b"*1\r\n$4\r\nPING\r\n").unwrap().unwrap();
        assert_eq!(ping, (Request::Ping, 14));
        assert_eq!(first(b"*1\r\n$4\r\nQUIT\r\n").unwrap().unwrap().0, Request::Unknown);
        assert_eq!(first(b"*0\r\n").unwrap().unwrap().0, Request::Unknown);
    }

    #[test]
    fn bytes_that_are_no_request_are_refused() {
        let all = ["PING\r\n", "*x\r\n", "*\r\n", "*9\r\n", "*1\r\n$999999\r\n", "*1\r\n+OK\r\n"];
        for bytes in all {
            assert!(first(bytes.as_bytes()).is_err(), "{bytes}");
        }
    }
}
