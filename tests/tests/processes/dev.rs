//! `purlin dev`: a cluster in one command, and nothing of it afterwards.

use super::support::{Process, SOON, Scratch, purlin, until};
use purlin_server::resp::{RespClient, Value};
use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;

/// A `purlin dev` that serves.
struct Dev {
    process: Process,
    /// The ports of the lines that it says to type.
    ports: Vec<u16>,
    pids: Vec<u32>,
}

impl Dev {
    fn start(folder: &Path, options: &[&str]) -> Self {
        let mut command = purlin();
        command.arg("dev").args(["--groups", "6", "--segment", "2MiB"]).args(options);
        let process = Process::start("dev", command.current_dir(folder));
        process.wait_for("Ctrl-C ends all.", SOON);
        let out = process.out();
        let words: Vec<_> = out.split_whitespace().collect();
        let after = |word: &str| {
            let pairs = words.windows(2).filter(|pair| pair[0] == word);
            pairs.map(|pair| pair[1].to_owned()).collect::<Vec<_>>()
        };
        let ports = after("-p").iter().map(|port| port.parse().expect("a port")).collect();
        let pids = after("pid").iter().map(|pid| pid.parse().expect("a process id")).collect();
        let dev = Self { process, ports, pids };
        assert_eq!((dev.ports.len(), dev.pids.len()), (3, 3), "{out}");
        assert!(dev.pids.iter().all(|pid| is_running(*pid)), "{out}");
        dev
    }

    fn client(&self, place: usize) -> RespClient {
        RespClient::connect(("127.0.0.1", self.ports[place]), SOON).expect("it serves")
    }

    /// Ends it by `signal`; then none of its processes runs any more.
    fn end(self, signal: Signal) {
        self.process.signal(signal);
        let end = self.process.end(SOON);
        assert_eq!(end.code, Some(0), "{}\n{}", end.out, end.err);
        assert_eq!(end.err, "");
        assert!(!self.pids.iter().any(|pid| is_running(*pid)), "{}", end.out);
    }
}

fn is_running(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn each_node_serves_and_a_signal_ends_all_and_removes_all() {
    for signal in [Signal::INT, Signal::TERM] {
        let scratch = Scratch::new("dev");
        let dev = Dev::start(scratch.path(), &["--shards", "2"]);
        for (place, number) in (0..3).zip(1..) {
            let reply = dev.client(place).command(&["INCR", "visits"]).expect("it serves");
            assert_eq!(reply, Value::Integer(number));
        }
        assert_eq!(scratch.names(), [".purlin-dev"]);
        dev.end(signal);
        assert!(scratch.names().is_empty(), "{:?} is left", scratch.names());
    }
}

#[test]
fn a_kept_cluster_starts_again_on_its_data() {
    let scratch = Scratch::new("dev-keep");
    let dev = Dev::start(scratch.path(), &["--keep"]);
    let reply = dev.client(0).command(&["SET", "hello", "world"]).expect("it serves");
    assert_eq!(reply, Value::Simple("OK".into()));
    dev.end(Signal::INT);
    assert_eq!(scratch.names(), [".purlin-dev"]);
    let dev = Dev::start(scratch.path(), &["--keep"]);
    let reply = dev.client(2).command(&["GET", "hello"]).expect("it serves");
    assert_eq!(reply, Value::Bulk(b"world".into()));
    dev.end(Signal::TERM);
}

/// Kills node `number` of a cluster, and starts it again as `dev` says, but not by `dev`.
fn start_by_hand(dev: &Dev, folder: &Path, number: usize) -> Process {
    let pid = Pid::from_raw(dev.pids[number - 1] as i32).expect("a process id");
    kill_process(pid, Signal::KILL).expect("it runs");
    dev.process.wait_for(&format!("node {number} ended"), SOON);
    let mut command = purlin();
    command.args(["server", "--config"]).arg(format!(".purlin-dev/node-{number}/purlin.toml"));
    let process = Process::start(&format!("node {number} by hand"), command.current_dir(folder));
    process.wait_for("serves clients", SOON);
    process
}

#[test]
fn a_node_that_was_started_by_hand_and_does_not_answer_keeps_its_data() {
    let scratch = Scratch::new("dev-by-hand");
    let dev = Dev::start(scratch.path(), &[]);
    let node = start_by_hand(&dev, scratch.path(), 1);
    node.signal(Signal::STOP);
    dev.process.signal(Signal::INT);
    let end = dev.process.end(SOON);
    assert_eq!(end.code, Some(0), "{}\n{}", end.out, end.err);
    assert!(end.out.contains("a node of this cluster still runs"), "{}", end.out);
    let identity = scratch.path().join(".purlin-dev/node-1/data/identity");
    assert!(identity.exists(), "the data of a node that runs is gone");
    node.signal(Signal::CONT);
    node.signal(Signal::TERM);
    assert_eq!(node.end(SOON).code, Some(0));
}

#[test]
fn nodes_that_were_started_by_hand_outlive_the_last_node_of_dev() {
    let scratch = Scratch::new("dev-by-hand-2");
    let dev = Dev::start(scratch.path(), &[]);
    let mut client = dev.client(0);
    client.command(&["SET", "hello", "world"]).expect("it serves");
    let nodes = [1, 2].map(|number| start_by_hand(&dev, scratch.path(), number));
    let gateway = dev.ports[1];
    kill_process(Pid::from_raw(dev.pids[2] as i32).expect("a process id"), Signal::KILL)
        .expect("it runs");
    let end = dev.process.end(SOON);
    assert_eq!(end.code, Some(137), "{}\n{}", end.out, end.err);
    assert!(end.out.contains("a node of this cluster still runs"), "{}", end.out);
    assert!(scratch.path().join(".purlin-dev/node-2/data/identity").exists(), "its data is gone");
    let reply = until("two nodes serve", || {
        let mut client = RespClient::connect(("127.0.0.1", gateway), SOON).ok()?;
        client.command(&["GET", "hello"]).ok().filter(|reply| reply.bytes().is_some())
    });
    assert_eq!(reply, Value::Bulk(b"world".into()));
    for node in nodes {
        node.signal(Signal::TERM);
        assert_eq!(node.end(SOON).code, Some(0));
    }
}

#[test]
fn nodes_end_when_dev_is_killed() {
    let scratch = Scratch::new("dev-killed");
    let dev = Dev::start(scratch.path(), &[]);
    let pids = dev.pids.clone();
    dev.process.kill();
    until("the nodes have ended", || {
        let mut pids = pids.iter();
        (!pids.any(|pid| is_running(*pid))).then_some(())
    });
    // What was left behind is in nobody's way.
    Dev::start(scratch.path(), &[]).end(Signal::INT);
    assert!(scratch.names().is_empty(), "{:?} is left", scratch.names());
}
