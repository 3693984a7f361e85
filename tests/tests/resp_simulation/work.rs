//! How much a connection does before it lets the other tasks of its core run. The client here sends without a
//! pause and takes all replies at once, so nothing but a yield ever makes the connection's tasks wait.

use crate::memory::{Behaviour, Client, GROUPS, Seen, TestServer, backend};
use purlin::{GroupId, Reader, Runtime, Writer};
use purlin_server::resp::{ClientPort, FrontEnd, FrontEndOptions, Value, group_of, serve_client};
use purlin_tests::{
    resp::request_bytes,
    sim::{SimDisk, SimMesh, SimNet, SimRuntime},
};
use std::{cell::Cell, collections::BTreeSet, io, net::IpAddr, rc::Rc, time::Duration};

/// A connection's work between two yields: what it reads, and what it writes.
const BYTES_MAX: usize = 128 << 10;

/// The runtime of the simulator, which counts from yield to yield.
#[derive(Clone)]
struct Counting {
    runtime: SimRuntime,
    counts: Rc<Counts>,
}

#[derive(Default)]
struct Counts {
    reads: Cell<usize>,
    yields: Cell<usize>,
    read: Count,
    written: Count,
}

/// Bytes since the latest yield, the most that there were between two, and all.
#[derive(Default)]
struct Count {
    since: Cell<usize>,
    most: Cell<usize>,
    all: Cell<usize>,
}

impl Count {
    fn add(&self, bytes: usize) {
        self.since.set(self.since.get() + bytes);
        self.most.set(self.most.get().max(self.since.get()));
        self.all.set(self.all.get() + bytes);
    }
}

impl Runtime for Counting {
    type Disk = SimDisk;
    type Net = SimNet;
    type Mesh<T: Send + 'static> = SimMesh<T>;

    fn disk(&self) -> SimDisk {
        self.runtime.disk()
    }

    fn net(&self) -> SimNet {
        self.runtime.net()
    }

    fn now(&self) -> Duration {
        self.runtime.now()
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static {
        self.runtime.sleep(duration)
    }

    async fn yield_now(&self) {
        self.counts.yields.set(self.counts.yields.get() + 1);
        self.counts.read.since.set(0);
        self.counts.written.since.set(0);
        self.runtime.yield_now().await;
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.runtime.spawn(task);
    }

    fn random(&self) -> u64 {
        self.runtime.random()
    }
}

/// Input that is always there already.
struct Flood {
    bytes: Vec<u8>,
    at: usize,
    counts: Rc<Counts>,
}

impl Reader for Flood {
    async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = buffer.len().min(self.bytes.len() - self.at);
        buffer[..len].copy_from_slice(&self.bytes[self.at..self.at + len]);
        self.at += len;
        self.counts.reads.set(self.counts.reads.get() + 1);
        self.counts.read.add(len);
        Ok(len)
    }

    fn remote(&self) -> Option<IpAddr> {
        None
    }
}

/// A client that takes everything at once.
struct Sink(Rc<Counts>);

impl Writer for Sink {
    async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.written.add(bytes.len());
        Ok(())
    }

    async fn close(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Serves a client that sends `bytes` to the gateway, to the end.
fn flood(bytes: Vec<u8>) -> Rc<Counts> {
    flood_at(ClientPort::Gateway, bytes, Behaviour::default())
}

fn flood_at(port: ClientPort, bytes: Vec<u8>, behaviour: Behaviour) -> Rc<Counts> {
    let server = TestServer::start();
    let counts = Rc::new(Counts::default());
    let runtime = Counting { runtime: server.runtime(), counts: Rc::clone(&counts) };
    let reader = Flood { bytes, at: 0, counts: Rc::clone(&counts) };
    let front = FrontEnd::new(FrontEndOptions::new(GROUPS, TestServer::PORT));
    let backend = backend(server.runtime(), behaviour);
    let writer = Sink(Rc::clone(&counts));
    server.run(serve_client(runtime, front, port, backend, reader, writer));
    counts
}

#[test]
fn a_connection_that_never_waits_lets_others_run() {
    let lines = |line: &str| line.repeat((4 << 20) / line.len()).into_bytes();
    for bytes in
        [lines("\r\n"), lines("PING\r\n"), lines("COMMAND DOCS set\r\n"), lines("GET k\r\n")]
    {
        let name = String::from_utf8_lossy(&bytes[..8]).into_owned();
        let (len, counts) = (bytes.len(), flood(bytes));
        assert_eq!(counts.read.all.get(), len, "{name:?} is read to its end");
        let most = [counts.read.most.get(), counts.written.most.get()];
        assert!(most.iter().all(|most| *most <= BYTES_MAX), "{name:?}: {most:?} bytes in one go");
    }
}

/// A pattern that is compared with all names costs more than its bytes.
#[test]
fn a_connection_that_asks_with_long_patterns_lets_others_run() {
    let pattern = "a".repeat(1_000);
    let ask = |words: &[&str]| request_bytes(&[words, &[&pattern]].concat()).repeat(1_000);
    for bytes in [ask(&["CONFIG", "GET"]), ask(&["COMMAND", "LIST", "FILTERBY", "PATTERN"])] {
        let counts = flood(bytes);
        // Each costs as much as 30 KiB, and what costs 64 KiB takes about a millisecond.
        assert!(counts.yields.get() > 300, "{} pauses", counts.yields.get());
    }
}

/// A command for all keys looks at each group, also where this shard leads none of them.
#[test]
fn a_connection_that_asks_a_shard_for_all_keys_lets_others_run() {
    let bytes = "DBSIZE\r\n".repeat((1 << 20) / 8).into_bytes();
    let behaviour = Behaviour { leads_nothing: true, ..Behaviour::default() };
    let counts = flood_at(ClientPort::Shard, bytes, behaviour);
    // Each costs 200 bytes with 48 groups.
    assert!(counts.yields.get() > 300, "{} pauses", counts.yields.get());
}

#[test]
fn wait_does_not_look_at_the_groups() {
    let behaviour = Behaviour::default();
    let seen = Rc::clone(&behaviour.seen);
    let server = TestServer::with(behaviour, |_| {});
    let mut client = server.client();
    assert_eq!(client.command(&["WAIT", "0", "0"]).expect("a reply"), Value::Integer(2));
    assert_eq!(seen.infos.get(), 0);
    client.command(&["INFO"]).expect("a reply");
    assert_eq!(seen.infos.get(), 1);
}

/// Answers come although the writer stands, since the client reads nothing: nobody else counts them.
#[test]
fn answers_that_wait_for_a_writer_that_stands_are_in_the_budget() {
    const MIB: usize = 1 << 20;
    let behaviour = Behaviour { pace: Duration::from_millis(10), ..Behaviour::default() };
    let seen = Rc::clone(&behaviour.seen);
    let server = TestServer::with(behaviour, |options| options.memory_max = 64 * MIB);
    let (mut client, mut other) = (server.client(), server.client());
    // It is longer than the pipe takes.
    let value = "v".repeat(6 * MIB);
    client.command(&["SET", "key", &value]).expect("a reply");
    (0..40).for_each(|_| client.queue(&["GET", "key"]));
    client.send().expect("it is sent");
    settle(&server);
    let most = seen.answers_max.get();
    assert!((32 * MIB..72 * MIB).contains(&most), "{most} bytes of answers waited");
    let list = other.command(&["CLIENT", "LIST"]).expect("a reply");
    let lines = String::from_utf8_lossy(list.bytes().expect("a text")).lines().count();
    assert_eq!(lines, 1, "the one that held the most was closed: {list:?}");
    let whole = (0..40).all(|_| client.read_reply().is_ok());
    assert!(!whole, "it learns of that by the end of its connection");
}

/// A replies' bytes are written in pieces, and between these others run.
#[test]
fn a_long_reply_is_written_in_pieces() {
    let value = "v".repeat(8_000_000);
    let counts = flood(request_bytes(&["ECHO", &value]));
    assert!(counts.written.all.get() > value.len(), "{} bytes", counts.written.all.get());
    assert!(
        counts.written.most.get() <= BYTES_MAX,
        "{} bytes in one go",
        counts.written.most.get()
    );
}

/// Whether the client is told that it is too much, or not: it takes few reads.
#[test]
fn a_request_of_many_short_arguments_is_read_in_large_pieces() {
    for count in [16_000, 1_000_000] {
        let words: Vec<String> = (0..count).map(|n| format!("key{n}")).collect();
        let bytes = request_bytes(&["EXISTS".to_owned()].iter().chain(&words).collect::<Vec<_>>());
        let (len, counts) = (bytes.len(), flood(bytes));
        let (reads, enough) = (counts.reads.get(), 10 + len / (16 << 10));
        assert!(reads <= enough, "{reads} reads of {len} bytes");
        assert!(counts.read.most.get() <= BYTES_MAX, "{} bytes in one go", counts.read.most.get());
    }
}

/// A server none of whose groups has a leader, and what it has seen.
fn leaderless() -> (TestServer, Rc<Seen>) {
    let behaviour =
        Behaviour { leaderless: (0..=64).map(GroupId).collect(), ..Behaviour::default() };
    let seen = Rc::clone(&behaviour.seen);
    (TestServer::with(behaviour, |_| {}), seen)
}

/// Runs a server until what was sent to it has been handled.
fn settle(server: &TestServer) {
    let runtime = server.runtime();
    server.run(async move { runtime.sleep(Duration::from_millis(500)).await });
}

/// Requests that wait for a leader are gone when their client is, whatever it sent behind them.
fn requests_end_with_their_client(behind: &[&[&str]]) {
    let (server, seen) = leaderless();
    let mut client = server.client();
    client.queue(&["INCR", "visits"]);
    behind.iter().for_each(|request| client.queue(request));
    client.send().expect("it is sent");
    settle(&server);
    assert_eq!(seen.leaderless.get(), 1, "it waits for a leader");
    drop(client);
    settle(&server);
    assert_eq!(seen.leaderless.get(), 0);
}

/// Behind the mistake nothing is taken in, and the end of the client is seen all the same.
#[test]
fn requests_without_a_leader_end_when_their_client_goes_after_a_protocol_error() {
    let (server, seen) = leaderless();
    let mut client = server.client();
    client.queue(&["INCR", "visits"]);
    client.queue_bytes(b"*x\r\n");
    client.send().expect("it is sent");
    settle(&server);
    assert_eq!(seen.leaderless.get(), 1, "it waits for a leader");
    drop(client);
    settle(&server);
    assert_eq!(seen.leaderless.get(), 0);
}

/// The writer stands, since the client reads nothing: a reply that is longer than the pipe, then the request.
fn a_writer_that_stands(change: fn(&mut FrontEndOptions)) -> (TestServer, Rc<Seen>, Client) {
    // All groups but that of the key have a leader.
    let leaderless = BTreeSet::from([group_of(b"visits", GROUPS)]);
    let behaviour = Behaviour { leaderless, ..Behaviour::default() };
    let seen = Rc::clone(&behaviour.seen);
    let server = TestServer::with(behaviour, change);
    let mut client = server.client();
    (0..2).for_each(|_| client.queue(&["ECHO", &"v".repeat(6 << 20)]));
    client.queue(&["INCR", "visits"]);
    client.send().expect("it is sent");
    settle(&server);
    assert_eq!(seen.leaderless.get(), 1, "it waits for a leader");
    (server, seen, client)
}

#[test]
fn requests_without_a_leader_end_with_the_write_deadline() {
    let (server, seen, client) =
        a_writer_that_stands(|options| options.write_deadline = Duration::from_secs(1));
    (0..3).for_each(|_| settle(&server));
    assert_eq!(seen.leaderless.get(), 0);
    drop(client);
}

#[test]
fn requests_without_a_leader_end_when_their_connection_holds_too_much() {
    let (server, seen, client) = a_writer_that_stands(|options| options.memory_max = 48 << 20);
    // Each holds less than the first, and all together too much.
    for _ in 0..6 {
        let mut other = server.client();
        other.queue(&["ECHO", &"v".repeat(6 << 20)]);
        other.send().expect("it is sent");
        settle(&server);
    }
    assert_eq!(seen.leaderless.get(), 0, "it held the most");
    drop(client);
}

#[test]
fn requests_without_a_leader_end_when_their_client_goes() {
    requests_end_with_their_client(&[]);
}

/// The client has said that it is done, so nothing reads its requests any more when it goes.
#[test]
fn requests_without_a_leader_end_when_their_client_goes_after_quit() {
    requests_end_with_their_client(&[&["QUIT"]]);
}
