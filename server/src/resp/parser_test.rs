//! The parser against each way to cut its input, against arbitrary bytes, and against mistakes.

use super::parser::*;

const SMALL: RequestLimits = RequestLimits {
    arguments_max: 8,
    arguments_kept: 8,
    bulk_bytes_max: 32,
    inline_bytes_max: 64,
    request_bytes_max: 128,
};

/// The requests in `input`, fed in pieces that end at each of `cuts`, and how it ended.
fn parse(
    input: &[u8],
    cuts: impl IntoIterator<Item = usize>,
    limits: RequestLimits,
) -> (Vec<Vec<Vec<u8>>>, Option<String>) {
    let mut parser = Parser::new(limits);
    let (mut requests, mut start) = (Vec::new(), 0);
    for end in cuts.into_iter().chain([input.len()]) {
        loop {
            let bytes = &input[start..end];
            match parser.parse(bytes) {
                Ok(None) => break,
                Ok(Some(len)) => {
                    let arguments = parser.arguments(bytes);
                    requests.push(arguments.iter().map(<[u8]>::to_vec).collect());
                    start += len;
                }
                Err(error) => return (requests, Some(error.to_string())),
            }
        }
        assert!(parser.needs() <= limits.request_bytes_max + 1, "{} bytes", parser.needs());
    }
    (requests, None)
}

fn requests(input: &str) -> Vec<Vec<String>> {
    let (requests, error) = parse(input.as_bytes(), [], RequestLimits::default());
    assert_eq!(error, None, "{input:?}");
    let text = |argument: Vec<u8>| String::from_utf8(argument).expect("text");
    requests.into_iter().map(|request| request.into_iter().map(text).collect()).collect()
}

fn error(input: &[u8]) -> String {
    parse(input, [], SMALL).1.unwrap_or_else(|| panic!("{:?} passed", input.escape_ascii()))
}

const MIXED: &[u8] = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\n\r\n\0\xff\r\nPING\r\n\r\n*0\r\n*-1\r\n\
    set k \"a \\x41\\n\"  'it\\'s'\n*2\r\n$0\r\n\r\n$10\r\n0123456789\r\nGET k";

#[test]
fn a_pipeline_is_read_request_by_request() {
    let (requests, error) = parse(MIXED, [], SMALL);
    let expected: Vec<Vec<&[u8]>> = vec![
        vec![b"SET", b"k", b"\r\n\0\xff"],
        vec![b"PING"],
        vec![],
        vec![],
        vec![],
        vec![b"set", b"k", b"a A\n", b"it's"],
        vec![b"", b"0123456789"],
    ];
    assert_eq!((requests, error), (expected.into_iter().map(owned).collect(), None));
}

fn owned(request: Vec<&[u8]>) -> Vec<Vec<u8>> {
    request.into_iter().map(<[u8]>::to_vec).collect()
}

#[test]
fn where_the_bytes_are_cut_changes_nothing() {
    let whole = parse(MIXED, [], SMALL);
    assert_eq!(parse(MIXED, 0..MIXED.len(), SMALL), whole, "byte by byte");
    for cut in 0..MIXED.len() {
        assert_eq!(parse(MIXED, [cut], SMALL), whole, "cut at {cut}");
    }
}

#[test]
fn a_line_is_split_as_by_a_shell() {
    assert_eq!(requests("  GET \t k  \r\n"), [["GET", "k"]]);
    assert_eq!(requests("GET k\n"), [["GET", "k"]]);
    assert_eq!(requests("SET k \"\"\r\n"), [["SET", "k", ""]]);
    assert_eq!(requests("SET k a\"b c\"\r\n"), [["SET", "k", "ab c"]]);
    assert_eq!(requests("SET k \"\\xzz\\q\"\r\n"), [["SET", "k", "xzzq"]]);
    for wrong in ["GET \"k\r\n", "GET 'k\r\n", "GET \"k\"x\r\n", "GET \"k\\\"\r\n"] {
        assert_eq!(error(wrong.as_bytes()), "Protocol error: unbalanced quotes in request");
    }
}

#[test]
fn bytes_that_are_no_request_are_named() {
    for (input, text) in [
        (&b"*2147483648\r\n"[..], "invalid multibulk length: a request has 8 arguments at most"),
        (b"*9\r\n", "invalid multibulk length: a request has 8 arguments at most"),
        (b"*99999999999999999999\r\n", "invalid multibulk length"),
        (b"*a\r\n", "invalid multibulk length"),
        (b"*\r\n", "invalid multibulk length"),
        (b"*+1\r\n", "invalid multibulk length"),
        (b"*01\r\n", "invalid multibulk length"),
        (b"*-0\r\n", "invalid multibulk length"),
        (b"*1\n$4\nPING\n", "invalid multibulk length"),
        (b"*1\r$", "invalid multibulk length"),
        (b"*1\r\n$-5\r\n", "invalid bulk length"),
        (b"*1\r\n$33\r\n", "invalid bulk length: an argument has 32 bytes at most"),
        (b"*1\r\n$536870913\r\n", "invalid bulk length: an argument has 32 bytes at most"),
        (b"*1\r\n$ 4\r\n", "invalid bulk length"),
        (b"*1\r\n$04\r\n", "invalid bulk length"),
        (b"*1\r\n*1\r\n", "expected '$', got '*'"),
        (b"*1\r\n:1\r\n", "expected '$', got ':'"),
        (b"*1\r\n\0", "expected '$', got '\\u{0}'"),
        (b"*1\r\n$4\r\nPINGPING", "expected CRLF after a bulk string"),
        (b"*1\r\n$4\r\nPING\rX", "expected CRLF after a bulk string"),
        (b"\x16\x03\x01\x02", "this port does not speak TLS; connect without TLS"),
    ] {
        assert_eq!(error(input), format!("Protocol error: {text}"), "{:?}", input.escape_ascii());
    }
}

#[test]
fn a_limit_is_allowed_and_one_more_is_not() {
    let line = |len: usize| [vec![b'x'; len], b"\r\n".to_vec()].concat();
    assert_eq!(parse(&line(63), [], SMALL).1, None);
    assert_eq!(
        error(&line(64)),
        "Protocol error: too big inline request: a line has 64 bytes at most"
    );
    assert_eq!(
        error(&[b'x'; 65]),
        "Protocol error: too big inline request: a line has 64 bytes at most",
        "without its end"
    );

    let bulk = |len: usize| [format!("${len}\r\n").into_bytes(), vec![b'x'; len + 2]].concat();
    let full = b"*1\r\n$32\r\n01234567890123456789012345678901\r\n";
    assert_eq!(parse(full, [], SMALL).0[0][0].len(), 32);
    let mut long = b"*8\r\n".to_vec();
    for _ in 0..4 {
        long.extend(&bulk(30)[..5 + 30]);
        long.extend(b"\r\n");
    }
    assert_eq!(error(&long), "Protocol error: a request has 128 bytes at most");
}

#[test]
fn a_promise_of_much_costs_no_memory() {
    let mut parser = Parser::new(RequestLimits::default());
    let mut input = b"*1048576\r\n".to_vec();
    assert_eq!(parser.parse(&input), Ok(None));
    assert!(parser.needs() < 64);
    input.extend(b"$8388608\r\n");
    assert_eq!(parser.parse(&input), Ok(None));
    assert_eq!(parser.needs(), input.len() + (8 << 20) + 2);
}

/// Whatever comes, it is requests or an error, and the same ones however it is cut.
#[test]
fn arbitrary_bytes_are_read_alike_however_they_are_cut() {
    const ALPHABET: &[u8] = b"**$$$\r\n\r\n\r\n0123-+: \"'\\xPINGk\0\x16\xff";
    let mut random = 7u64;
    let mut next = |below: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) as usize % below
    };
    let (mut passed, mut failed) = (0, 0);
    for _ in 0..20_000 {
        let mut input = Vec::new();
        for _ in 0..next(4) {
            // Good requests first, so that the mistakes come in the middle of things.
            input.extend_from_slice(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n");
        }
        input.extend((0..next(40)).map(|_| ALPHABET[next(ALPHABET.len())]));
        let whole = parse(&input, [], SMALL);
        assert_eq!(parse(&input, 0..input.len(), SMALL), whole, "{:?}", input.escape_ascii());
        passed += usize::from(whole.1.is_none());
        failed += usize::from(whole.1.is_some());
    }
    assert!(passed > 1_000 && failed > 1_000, "{passed} passed, {failed} failed");
}

/// A place has 8 bytes: without the bound a request of 7 MB would take 8 MB more, beside its bytes.
#[test]
fn a_million_arguments_take_no_more_memory_than_a_command_may_have() {
    let limits = RequestLimits::default();
    let mut parser = Parser::new(limits);
    let request = [b"*1000000\r\n".as_slice(), &b"$1\r\nk\r\n".repeat(1_000_000)].concat();
    assert_eq!(parser.parse(&request), Ok(Some(request.len())));
    let arguments = parser.arguments(&request);
    assert_eq!((arguments.len(), arguments.iter().count()), (1_000_000, limits.arguments_kept));
    let memory = parser.memory();
    assert!(memory <= 2 * 8 * limits.arguments_kept, "{memory} bytes");
}
