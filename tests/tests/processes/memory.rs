//! Clients that never read cost a node a bounded amount of memory, and the node gives it back when they have gone, also
//! when nobody asks it for anything.

use super::support::{Cluster, Node, Shape, until};
use purlin_server::resp::RespClient;
use std::{
    io::Write,
    net::TcpStream,
    ops::Range,
    time::{Duration, Instant},
};

const SHAPE: Shape = Shape { shards: 1, groups: 1 };
const VALUE_BYTES: usize = 500 << 10;
/// Each connection asks so often for the value, and reads nothing. Without a budget they hold more than 2 GiB together.
const CONNECTIONS: usize = 150;
const QUESTIONS: usize = 80;
/// What the connections of a shard may hold together.
const BUDGET: usize = 96 << 20;
/// What the node may keep when they have gone, in bytes: the same after each round, so it does not grow either.
const MARGIN: u64 = 32 << 20;
/// What the node may grow by while they are connected: a connection that is being closed, and what the allocator keeps
/// for a while, are not in the budget.
const GROWTH_MAX: u64 = 3 * BUDGET as u64;
const ROUNDS: usize = 3;
/// The node returns the memory within so long: mostly it takes two seconds.
const PATIENCE: Duration = Duration::from_secs(30);
/// So many small keys are written behind every third connection, with values of so many bytes.
const SMALL: usize = 50;
const SMALL_BYTES: usize = 300;

/// Small values come and stay while large replies come and go, so what the replies leave is not in one piece. The
/// allocator of the C library then keeps it, and mimalloc gives it back.
///
/// The node is asked for nothing while the test waits. So it allocates next to nothing, and mimalloc returns memory only
/// because a thread of the program makes it look.
#[test]
fn memory_of_clients_that_never_read_is_bounded_and_returns() {
    let mut cluster = Cluster::make("memory", SHAPE);
    for node in &mut cluster.nodes {
        node.config.client.memory = BUDGET;
        node.write_file();
        node.start();
    }
    cluster.wait_until_ready();
    let node = until("a node leads the group", || {
        cluster.nodes.iter().find(|node| node.info("purlin_groups_led") == Some(1))
    });
    node.done(&["SET", "large", &"x".repeat(VALUE_BYTES)]);
    cluster.wait_until_equal();
    let mut client = node.client();
    let mut written = 0..0;
    let before = node.resident_bytes();
    for round in 1..=ROUNDS {
        let silent = connect(node, &mut client, &mut written);
        let mut growth = 0;
        until("the node has closed half of the connections", || {
            growth = node.resident_bytes_most().saturating_sub(before);
            assert!(growth < GROWTH_MAX, "round {round}: the node has grown by {growth} bytes");
            (node.info("connected_clients")? <= CONNECTIONS as u64 / 2).then_some(())
        });
        assert!(growth > MARGIN, "round {round}: {growth} bytes say nothing about what returns");
        drop(silent);
        let after = kept(node, before + MARGIN);
        assert!(
            after < before + MARGIN,
            "round {round}: the node keeps {after} bytes, and had {before} before the clients came"
        );
        println!("round {round}: {before} bytes before, {growth} more at most, {after} after");
    }
    cluster.wait_until_equal();
    cluster.assert_no_panic();
}

/// What the node has in memory once that is less than `enough`, or after [`PATIENCE`].
fn kept(node: &Node, enough: u64) -> u64 {
    let deadline = Instant::now() + PATIENCE;
    until("the node has returned memory, or the time for it is over", || {
        let bytes = node.resident_bytes();
        (bytes < enough || Instant::now() >= deadline).then_some(bytes)
    })
}

/// A connection that has asked for the large value, and reads nothing.
fn ask(node: &Node) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", node.ports.gateway())).expect("it listens");
    let requests = b"*2\r\n$3\r\nGET\r\n$5\r\nlarge\r\n".repeat(QUESTIONS);
    stream.write_all(&requests).expect("the kernel takes that much");
    stream
}

/// Opens the connections, and writes small keys meanwhile.
fn connect(node: &Node, client: &mut RespClient, written: &mut Range<usize>) -> Vec<TcpStream> {
    let value = "y".repeat(SMALL_BYTES);
    let open = |at: usize| {
        let stream = ask(node);
        if at.is_multiple_of(3) {
            *written = written.end..written.end + SMALL;
            let set = |key| ["SET".into(), format!("small:{key}"), value.clone()].to_vec();
            let set: Vec<_> = written.clone().map(set).collect();
            client.pipeline(&set).expect("it serves");
        }
        stream
    };
    (0..CONNECTIONS).map(open).collect()
}
