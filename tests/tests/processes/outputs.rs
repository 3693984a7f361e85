//! Outputs that take nothing: a full one, one whose reader is gone, one whose reader stands. A node serves
//! and stops as ever, and a command keeps its exit code.

use super::support::{Cluster, Node, SOON, Scratch, Shape, number, purlin, until};
use rustix::{
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    process::{Pid, Signal, kill_process},
};
use std::{
    fs::{self, File},
    io::{self, PipeReader, PipeWriter, Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
    thread,
};

const SHAPE: Shape = Shape { shards: 1, groups: 6 };

/// What is never full enough to take a byte.
fn full() -> Stdio {
    File::options().write(true).open("/dev/full").expect("Linux has it").into()
}

/// A pipe that is full: a write to it stands until somebody reads.
fn stuck() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = io::pipe().expect("a pipe");
    let flags = fcntl_getfl(&writer).expect("flags");
    fcntl_setfl(&writer, flags | OFlags::NONBLOCK).expect("flags");
    while writer.write(b"filled by the test\n").is_ok() {}
    // Up to its last byte.
    while writer.write(b".").is_ok() {}
    fcntl_setfl(&writer, flags).expect("flags");
    (reader, writer)
}

/// A pipe whose reader is gone, as behind `| head -1`.
fn broken() -> Stdio {
    let (_, writer) = io::pipe().expect("a pipe");
    writer.into()
}

/// A client's mistake, which is worth a line in the log.
fn post(node: &Node) {
    let mut stream = TcpStream::connect(node.config.listen.gateway).expect("the node listens");
    stream.set_read_timeout(Some(SOON)).expect("a time");
    stream.write_all(b"POST / HTTP/1.1\r\nHost: x\r\n\r\n").expect("it is open");
    // The answer does not matter, but that there is an end.
    let _ = stream.read_to_end(&mut Vec::new());
}

#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    let mut cluster = Cluster::make("outputs", SHAPE);
    let (mut reader, writer) = stuck();
    let errors = [full(), broken(), writer.into()];
    for (node, error) in cluster.nodes.iter_mut().zip(errors) {
        node.start_with_error_output(error);
    }
    cluster.wait_until_ready();
    for node in &cluster.nodes {
        post(node);
        for counter in 0..12 {
            assert!(number(&node.done(&["INCR", &format!("c:{counter}")])) > 0);
        }
    }
    // The reader is back: what has waited comes, with the line about the client's mistake.
    let log = thread::spawn(move || {
        let mut log = Vec::new();
        let read = reader.read_to_end(&mut log);
        read.map(|_| String::from_utf8_lossy(&log).into_owned()).expect("a pipe")
    });
    for node in &mut cluster.nodes {
        assert_eq!(node.stop().code, Some(0), "node {}", node.config.node.id);
    }
    let log = log.join().expect("no panic");
    for said in ["serves clients at", "an HTTP request", "it was sent signal 15"] {
        assert!(log.contains(said), "no {said:?} in:\n{log}");
    }
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn a_node_whose_log_stands_obeys_a_signal() {
    let mut cluster = Cluster::make("stuck", SHAPE);
    let (_reader, writer) = stuck();
    let [first, others @ ..] = &mut cluster.nodes[..] else { unreachable!("there are three") };
    first.start_with_error_output(writer.into());
    others.iter_mut().for_each(Node::start);
    cluster.wait_until_ready();
    assert_eq!(cluster.nodes[0].stop().code, Some(0));
}

/// The exit code of a command with these outputs.
fn code(command: &mut Command, out: Stdio, err: Stdio) -> Option<i32> {
    let status = command.stdin(Stdio::null()).stdout(out).stderr(err).status();
    status.expect("the program runs").code()
}

#[test]
fn a_command_whose_outputs_are_closed_keeps_its_exit_code() {
    let cases: [(&[&str], i32); 7] = [
        (&["server", "--config", "/nowhere/purlin.toml"], 3),
        (&["init", "--config", "/nowhere/purlin.toml"], 3),
        (&["config", "check", "/nowhere/purlin.toml"], 3),
        (&["cli", "-p", "1", "get", "k"], 7),
        (&["status", "127.0.0.1:1"], 1),
        (&["sevrer"], 2),
        (&["help"], 0),
    ];
    for (words, expected) in cases {
        for (out, err) in [(full(), full()), (broken(), broken())] {
            assert_eq!(code(purlin().args(words), out, err), Some(expected), "{words:?}");
        }
    }
}

/// As behind `| head`: it reads a while, and goes.
#[test]
fn a_status_that_is_watched_ends_quietly_when_its_reader_has_gone() {
    let (mut reader, writer) = io::pipe().expect("a pipe");
    let (mut said, err) = io::pipe().expect("a pipe");
    let mut command = purlin();
    command.args(["status", "--watch", "127.0.0.1:1"]);
    command.stdin(Stdio::null()).stdout(writer).stderr(err);
    let mut status = Guarded(command.spawn().expect("the program runs"));
    // Its outputs are open in the command too.
    drop(command);
    let mut begin = [0; 16];
    reader.read_exact(&mut begin).expect("it prints");
    assert!(status.0.try_wait().expect("it is our child").is_none(), "it goes on while it is read");
    drop(reader);
    let code = until("it has ended", || status.0.try_wait().expect("it is our child"));
    assert_eq!(code.code(), Some(1), "as the last report says");
    let mut text = String::new();
    said.read_to_string(&mut text).expect("text");
    assert_eq!(text, "");
}

/// A script that writes a file must learn that the file is not whole.
#[test]
fn what_was_asked_for_and_cannot_be_written_is_an_error() {
    let asked: [&[&str]; 2] = [&["config", "default"], &["init", "--new"]];
    for words in asked {
        assert_eq!(code(purlin().args(words), full(), full()), Some(4), "{words:?}");
        assert_eq!(code(purlin().args(words), broken(), full()), Some(0), "{words:?} | head -0");
    }
}

/// A process that ends with the test.
struct Guarded(Child);

impl Drop for Guarded {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_cluster_to_try_out_needs_no_reader_and_obeys_a_signal() {
    let (_reader, writer) = stuck();
    for (out, err) in [(full(), full()), (broken(), broken()), (writer.into(), full())] {
        let cluster = Scratch::new("dev-outputs");
        let mut command = purlin();
        command.args(["dev", "--groups", "6", "--segment", "2MiB"]).current_dir(cluster.path());
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        let mut dev = Guarded(command.spawn().expect("the program runs"));
        let log = cluster.path().join(".purlin-dev/node-3/log.txt");
        until("the third node serves", || {
            fs::read_to_string(&log).ok()?.contains("serves clients at").then_some(())
        });
        kill_process(Pid::from_child(&dev.0), Signal::INT).expect("it runs");
        let code = until("dev has ended", || dev.0.try_wait().expect("it is our child"));
        assert_eq!(code.code(), Some(0));
        assert!(cluster.names().is_empty(), "{:?} is left", cluster.names());
    }
}
