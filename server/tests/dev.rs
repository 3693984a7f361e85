//! `purlin dev` as a person or a script uses it: real processes, real signals.

mod support;

use rustix::process::{Signal, kill_process, test_kill_process};
use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::TcpStream,
};
use support::{Dev, PATIENCE, Scratch, closes};

/// A connection that has been answered.
fn ping(gateway: &str) -> TcpStream {
    let mut stream = TcpStream::connect(gateway).expect(gateway);
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    stream.write_all(b"*1\r\n$4\r\nPING\r\n").expect("a server");
    let mut reply = [0; 7];
    stream.read_exact(&mut reply).expect("an answer");
    assert_eq!(&reply, b"+PONG\r\n");
    stream
}

#[test]
fn a_cluster_serves_outlives_a_node_and_ends_without_a_trace() {
    let scratch = Scratch::new("life");
    let dev = Dev::start(&scratch, &["--groups", "6"]);
    let nodes = dev.nodes();
    assert_eq!(nodes.len(), 3);
    nodes.iter().for_each(|node| drop(ping(&node.gateway)));

    kill_process(nodes[1].pid, Signal::KILL).expect("it runs");
    let said = dev.until("start it again: ");
    let last = said.last().expect("lines");
    assert!(said[0].starts_with("node 2 ended by signal 9; the others go on."), "{said:#?}");
    assert!(last.ends_with(" server --config ./.purlin-dev/node-2/purlin.toml"), "{last}");
    assert!(closes(&nodes[1].gateway), "it is not restarted");
    ping(&nodes[0].gateway);

    assert_eq!(dev.end(Signal::INT), Some(0));
    assert!(!scratch.folder().exists());
    for node in &nodes {
        assert!(test_kill_process(node.pid).is_err(), "{} still runs", node.gateway);
    }
}

#[test]
fn a_kept_cluster_starts_again_as_it_was() {
    let scratch = Scratch::new("kept");
    let file = scratch.folder().join("node-1/purlin.toml");
    let dev = Dev::start(&scratch, &["--keep", "--nodes", "1", "--groups", "5"]);
    assert_eq!(dev.nodes().len(), 1);
    let written = fs::read_to_string(&file).expect("a file");
    assert!(written.contains("\ngroups = 5\n"), "{written}");
    assert_eq!(dev.end(Signal::TERM), Some(0));

    let other = Dev::start(&scratch, &["--nodes", "1", "--groups", "7"]);
    other.nodes();
    assert!(scratch.0.join(".purlin-dev-2").exists(), "what is kept is left alone");
    assert_eq!(other.end(Signal::TERM), Some(0));
    assert!(!scratch.0.join(".purlin-dev-2").exists());

    let again = Dev::start(&scratch, &["--keep"]);
    assert_eq!(again.nodes().len(), 1, "its own configuration counts");
    let id = |text: &str| text.lines().find(|line| line.starts_with("id = \"")).map(str::to_owned);
    let now = fs::read_to_string(&file).expect("a file");
    assert!(id(&written).is_some());
    assert_eq!(id(&now), id(&written));
    assert_eq!(again.end(Signal::TERM), Some(0));
    assert!(file.exists());
}

#[test]
fn a_dev_that_is_killed_takes_its_nodes_with_it() {
    let scratch = Scratch::new("killed");
    let dev = Dev::start(&scratch, &["--nodes", "2", "--groups", "4"]);
    let nodes = dev.nodes();
    let mut connections: Vec<_> = nodes.iter().map(|node| ping(&node.gateway)).collect();
    assert_eq!(dev.end(Signal::KILL), None);
    for connection in &mut connections {
        // The kernel closes what a process had open, when it ends.
        let mut rest = Vec::new();
        let ended = connection.read_to_end(&mut rest).map_err(|error| error.kind());
        assert!(matches!(ended, Ok(0) | Err(ErrorKind::ConnectionReset)), "{ended:?}");
    }
}
