//! Requests of clients.

use super::cost::bounded;
use purlin_server::resp::{Parser, RequestLimits};

/// Limits that short inputs reach.
const SMALL: RequestLimits = RequestLimits {
    arguments_max: 8,
    arguments_kept: 8,
    bulk_bytes_max: 32,
    inline_bytes_max: 64,
    request_bytes_max: 128,
};

type Request = Vec<Vec<u8>>;

/// The first byte says how the rest is cut, and which limits hold. The rest is what a client sends. However
/// it is cut, it gives the same requests and the same error; and requests that are written again are read
/// again.
pub fn resp(data: &[u8]) {
    let Some((&how, input)) = data.split_first() else { return };
    let limits = if how & 1 == 0 { SMALL } else { RequestLimits::default() };
    let mut count = 0;
    // A word of a line is two bytes long and has a place of eight, in a list that doubles as it grows.
    let error =
        bounded(input.len(), 16, 4 << 10, || read(input, input.len(), limits, |_, _| count += 1));
    assert!(count <= input.len(), "{count} requests in {} bytes", input.len());

    let requests = |piece: usize| {
        let mut requests = Vec::new();
        let error = read(input, piece, limits, |parser, bytes| {
            requests.push(parser.arguments(bytes).iter().map(<[u8]>::to_vec).collect::<Request>());
        });
        (requests, error)
    };
    let whole = requests(input.len());
    assert_eq!(whole.1, error);
    assert_eq!(requests(1 + usize::from(how >> 1)), whole, "cut in pieces");

    let written: Vec<u8> = whole.0.iter().flat_map(write).collect();
    let mut again = Vec::new();
    let error = read(&written, written.len(), RequestLimits::default(), |parser, bytes| {
        again.push(parser.arguments(bytes).iter().map(<[u8]>::to_vec).collect::<Request>());
    });
    assert_eq!((again, error), (whole.0, None), "written again");
}

/// Hands each request of `input` to `each`, the input coming in pieces of `piece` bytes. Returns the error at
/// which it ends.
fn read(
    input: &[u8],
    piece: usize,
    limits: RequestLimits,
    mut each: impl FnMut(&Parser, &[u8]),
) -> Option<String> {
    let mut parser = Parser::new(limits);
    let (mut start, mut end) = (0, 0);
    loop {
        let bytes = &input[start..end];
        match parser.parse(bytes) {
            Err(error) => return Some(error.to_string()),
            Ok(Some(len)) => {
                assert!(len > 0 && len <= bytes.len(), "a request of {len} bytes");
                each(&parser, bytes);
                start += len;
            }
            Ok(None) if end == input.len() => return None,
            Ok(None) => end = input.len().min(end + piece),
        }
        assert!(parser.needs() <= limits.request_bytes_max + 1, "{} bytes", parser.needs());
    }
}

/// The request as an array of bulk strings.
fn write(request: &Request) -> Vec<u8> {
    let mut out = format!("*{}\r\n", request.len()).into_bytes();
    for argument in request {
        out.extend(format!("${}\r\n", argument.len()).into_bytes());
        out.extend_from_slice(argument);
        out.extend_from_slice(b"\r\n");
    }
    out
}
