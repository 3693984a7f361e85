//! Bytes that no client and no peer would send, at every port of a node. It closes the connection or
//! answers with an error, goes on serving everybody else, and keeps its memory.

use super::support::{Cluster, Node, SOON, Shape};
use purlin_rsm::Sequence;
use purlin_server::resp::{RespClient, Value};
use purlin_tests::fuzz;
use purlin_transport::{
    VERSIONS,
    frame::{self, Kind},
};
use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

const SHAPE: Shape = Shape { shards: 2, groups: 6 };
/// What a node may grow by under bad input, in bytes.
const GROWTH_MAX: u64 = 64 << 20;

/// What happens to a connection that sends something.
#[derive(PartialEq, Eq, Debug)]
enum Fate {
    /// It is closed, after these bytes.
    Closed(Vec<u8>),
    /// It stays open for a while.
    Open,
}

/// Sends `bytes` to `port`, and nothing more. Waits at most `patience` for what comes.
fn send(port: u16, bytes: &[u8], patience: Duration) -> Fate {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the node listens");
    stream.set_read_timeout(Some(patience)).expect("a time");
    stream.set_write_timeout(Some(patience)).expect("a time");
    // It may be closed before all is sent.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock) => Fate::Open,
        // Reset, or closed.
        _ => Fate::Closed(answer),
    }
}

fn assert_serves(node: &Node, client: &mut RespClient, after: &str) {
    let reply = client.command(&["INCR", "alive"]).expect(after);
    assert!(
        matches!(reply, Value::Integer(1..)),
        "after {after}: {reply}: {}",
        node.process().log()
    );
    assert!(!node.process().log().contains("panicked"), "after {after}: {}", node.process().log());
}

/// What closes a connection to a gateway, and how the answer to it begins.
fn bad_requests() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let text = |text: &str| text.as_bytes().to_vec();
    vec![
        ("a huge array", text("*2147483648\r\n"), "-ERR Protocol error: "),
        ("a huge string", text("*1\r\n$536870913\r\n"), "-ERR Protocol error: "),
        ("a negative string", text("*1\r\n$-5\r\n"), "-ERR Protocol error: "),
        ("no number", text("*x\r\n"), "-ERR Protocol error: "),
        ("a number too large", text("*99999999999999999999999\r\n"), "-ERR Protocol error: "),
        ("another type", text("*1\r\n:5\r\n"), "-ERR Protocol error: "),
        ("a missing line end", text("*1\r\n$4\r\nPINGxx*1\r\n"), "-ERR Protocol error: "),
        ("a line without end", vec![b'a'; 1 << 20], "-ERR Protocol error: "),
        ("open quotes", text("set \"k v\r\n"), "-ERR Protocol error: "),
        ("an HTTP request", text("POST / HTTP/1.1\r\nHost: x\r\n\r\n"), ""),
    ]
}

#[test]
fn bad_requests_close_their_connection_and_no_other() {
    let cluster = Cluster::start("bad-requests", SHAPE);
    let node = &cluster.nodes[0];
    let (port, mut client) = (node.ports.gateway(), node.client());
    assert_serves(node, &mut client, "nothing");
    let before = node.resident_bytes();
    for (name, bytes, answer) in bad_requests() {
        match send(port, &bytes, SOON) {
            Fate::Closed(found) => {
                let found = String::from_utf8_lossy(&found);
                assert!(found.starts_with(answer), "{name} is answered {found:?}");
            }
            Fate::Open => panic!("{name} leaves the connection open"),
        }
        assert_serves(node, &mut client, name);
    }
    for (name, bytes) in noise() {
        send(port, &bytes, Duration::from_millis(100));
        assert_serves(node, &mut client, name);
    }
    assert_serves(node, &mut client, "all of it");
    let growth = node.resident_bytes().saturating_sub(before);
    assert!(growth < GROWTH_MAX, "the node has grown by {growth} bytes");
    cluster.assert_no_panic();
}

/// What nobody understands.
fn noise() -> Vec<(&'static str, Vec<u8>)> {
    // Of a fixed pseudo-random sequence, so that a failure comes again.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |count| {
        let next = |_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        };
        (0..count).map(next).collect::<Vec<u8>>()
    };
    vec![
        ("random bytes", random(100_000)),
        ("zeros", vec![0; 100_000]),
        ("ones", vec![0xff; 100_000]),
        (
            "the hello of TLS",
            [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", &*random(500)].concat(),
        ),
        ("an HTTP request", b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
        ("half a request", b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100\r\nhalf".to_vec()),
        ("many nested arrays", b"*1\r\n".repeat(250_000)),
        ("line ends", b"\r\n".repeat(100_000)),
        ("nothing", Vec::new()),
    ]
}

#[test]
fn a_request_in_single_bytes_is_answered() {
    let cluster = Cluster::start("slow", SHAPE);
    let node = &cluster.nodes[1];
    let mut stream = TcpStream::connect(("127.0.0.1", node.ports.gateway())).expect("it listens");
    stream.set_nodelay(true).expect("an option");
    stream.set_read_timeout(Some(SOON)).expect("a time");
    let mut client = node.client();
    for byte in b"*3\r\n$3\r\nSET\r\n$4\r\nslow\r\n$2\r\nok\r\n*2\r\n$3\r\nGET\r\n$4\r\nslow\r\n" {
        stream.write_all(&[*byte]).expect("it is open");
        assert_serves(node, &mut client, "a byte");
    }
    stream.shutdown(Shutdown::Write).expect("it is open");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert_eq!(answer, "+OK\r\n$2\r\nok\r\n");
}

#[test]
fn unknown_peers_at_the_peer_ports_are_refused() {
    let cluster = Cluster::start("unknown-peers", SHAPE);
    let node = &cluster.nodes[0];
    let mut client = node.client();
    assert_serves(node, &mut client, "nothing");
    let before = node.resident_bytes();
    for shard in 0..SHAPE.shards {
        let port = node.ports.peer() + shard;
        for (name, bytes) in
            noise().into_iter().chain(bad_frames()).chain(bad_hellos(&cluster, shard.into()))
        {
            // A peer that sends nothing, or half a hello, has until the time limit of the handshake.
            let fate = send(port, &bytes, SOON);
            assert!(fate != Fate::Open, "{name} leaves the connection to shard {shard} open");
            assert_serves(node, &mut client, name);
        }
    }
    let growth = node.resident_bytes().saturating_sub(before);
    assert!(growth < GROWTH_MAX, "the node has grown by {growth} bytes");
    cluster.wait_until_equal();
    cluster.assert_no_panic();
}

/// Frames that are not what they say.
/// Ends the crowd when the test does, also when it fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Each stranger connects, says nothing until its connection is closed, and connects again.
#[test]
fn silent_strangers_keep_no_restarted_node_out() {
    const STRANGERS: usize = 200;
    let mut cluster = Cluster::start("strangers", SHAPE);
    let ends = AtomicBool::new(false);
    let crowd = |port: u16| {
        let connect = || TcpStream::connect(("127.0.0.1", port)).ok();
        let mut crowd: Vec<_> = (0..STRANGERS).map(|_| connect()).collect();
        while !ends.load(Ordering::Relaxed) {
            for stranger in &mut crowd {
                if let Some(stream) = stranger {
                    stream.set_read_timeout(Some(SOON)).expect("a time");
                    let _ = stream.read(&mut [0]);
                }
                *stranger = connect();
            }
        }
    };
    let ports: Vec<_> = cluster.nodes[..2].iter().map(|node| node.ports.peer()).collect();
    std::thread::scope(|scope| {
        let _ends = Ends(&ends);
        for port in ports.into_iter().flat_map(|port| [port, port + 1]) {
            scope.spawn(move || crowd(port));
        }
        for node in [2, 1] {
            cluster.nodes[node].kill();
            cluster.nodes[node].start();
            cluster.wait_until_ready();
            cluster.wait_until_equal();
        }
    });
    let log = cluster.nodes[0].process().log();
    let lines = log.matches("connections that were not admitted were closed").count();
    assert!((1..60).contains(&lines), "{lines} lines:\n{log}");
    cluster.assert_no_panic();
}

fn bad_frames() -> Vec<(&'static str, Vec<u8>)> {
    let good = framed(Kind::Hello, b"no hello");
    let changed = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let mut huge = good.clone();
    huge[16..20].copy_from_slice(&u32::MAX.to_le_bytes());
    vec![
        ("a hello that is none", good.clone()),
        ("half a header", good[..10].to_vec()),
        ("a header alone", good[..24].to_vec()),
        ("another magic", changed(0, b'X')),
        ("another version", changed(4, 200)),
        ("another kind", changed(5, 200)),
        ("flags", changed(6, 1)),
        ("a wrong checksum", changed(20, good[20] ^ 1)),
        ("a huge length", huge),
        ("messages before a hello", framed(Kind::Messages, b"x")),
        ("an answer before a hello", framed(Kind::HelloAnswer, b"x")),
        ("a heartbeat before a hello", framed(Kind::Heartbeat, b"")),
    ]
}

/// The fields of a hello that only a node of the cluster gets right.
struct UnknownPeer {
    version: u64,
    wanted: (u64, u64),
    cluster: u128,
    node: u64,
}

/// Hellos of unknown peers, each wrong in one way.
fn bad_hellos(cluster: &Cluster, shard: u64) -> Vec<(&'static str, Vec<u8>)> {
    let cluster = cluster.nodes[0].config.cluster.id.0;
    let right = || UnknownPeer { version: VERSIONS.1.into(), wanted: (1, shard), cluster, node: 2 };
    let hello = |peer: UnknownPeer| framed(Kind::Hello, &peer.hello());
    vec![
        ("an unknown version", hello(UnknownPeer { version: 99, ..right() })),
        ("another cluster", hello(UnknownPeer { cluster: 1, ..right() })),
        // A refused name has one line in a while: another name, for a line of its own.
        ("another node wanted", hello(UnknownPeer { wanted: (2, shard), node: 3, ..right() })),
        ("another shard wanted", hello(UnknownPeer { wanted: (1, 77), ..right() })),
        ("the node itself", hello(UnknownPeer { node: 1, ..right() })),
        ("another configuration", hello(right())),
    ]
}

impl UnknownPeer {
    /// As `purlin_transport::Hello` is encoded; the hash of the configuration is wrong.
    fn hello(&self) -> Vec<u8> {
        let mut body = Vec::new();
        // The purpose is 1: a peer.
        for number in [self.version, self.version, 1, self.wanted.0, self.wanted.1] {
            body.push(number as u8);
        }
        body.extend_from_slice(&self.cluster.to_le_bytes());
        // No fork.
        body.push(0);
        body.extend_from_slice(&0x1234_u64.to_le_bytes());
        body.push(self.node as u8);
        body.extend_from_slice(&77_u64.to_le_bytes());
        // Shard 0, without an incarnation of its own, of 2, which acts, in its first start.
        body.extend_from_slice(&[0, 0, 2, 1, 1, 1]);
        body.extend_from_slice(&99_u64.to_le_bytes());
        // It kept nothing, knows three voters, has no table and has met nobody.
        body.extend_from_slice(&[0, 3, 1, 2, 3, 0, 0]);
        // It tells no host and no port.
        body.extend_from_slice(&[0, 0, 0, 0]);
        body
    }
}

fn framed(kind: Kind, body: &[u8]) -> Vec<u8> {
    fuzz::framed(kind, Sequence(0), body)
}

#[test]
fn hellos_of_unknown_peers_are_refused_with_the_reason() {
    let cluster = Cluster::start("hellos", SHAPE);
    let node = &cluster.nodes[0];
    for (name, bytes) in bad_hellos(&cluster, 0) {
        let Fate::Closed(answer) = send(node.ports.peer(), &bytes, SOON) else {
            panic!("{name} leaves the connection open");
        };
        assert!(answer.starts_with(b"PURL") && answer[5] == Kind::HelloAnswer as u8, "{name}");
        assert_eq!(answer[frame::HEADER_BYTES], 1, "{name} is not refused");
    }
    for said in
        ["no common version", "a node of cluster", "listens at the address of", "call themselves"]
    {
        node.process().wait_for(said, SOON);
    }
    cluster.assert_no_panic();
}

#[test]
fn a_client_that_takes_no_replies_costs_little_and_only_itself() {
    let cluster = Cluster::start("no-replies", Shape { shards: 1, groups: 3 });
    cluster.nodes[0].done(&["SET", "large", &"x".repeat(400 << 10)]);
    let before: Vec<_> = cluster.nodes.iter().map(Node::resident_bytes).collect();
    let silent: Vec<_> = cluster.nodes.iter().map(|node| (node, ask(node, 2000))).collect();
    for (node, _) in &silent {
        let mut client = node.client();
        for _ in 0..100 {
            assert_serves(node, &mut client, "a client that takes no replies");
        }
    }
    for (node, before) in cluster.nodes.iter().zip(before) {
        let growth = node.resident_bytes().saturating_sub(before);
        assert!(growth < 2 * GROWTH_MAX, "a node has grown by {growth} bytes");
    }
}

/// A connection that has asked for a large value so many times, and reads nothing.
fn ask(node: &Node, times: usize) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", node.ports.gateway())).expect("it listens");
    let requests = b"*2\r\n$3\r\nGET\r\n$5\r\nlarge\r\n".repeat(times);
    stream.write_all(&requests).expect("the kernel takes that much");
    stream
}
