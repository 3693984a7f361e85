//! `purlin dev` as a person or a script uses it: real processes, real signals.

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use std::{
    fs,
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(90);
const LAST_LINE: &str = "Ctrl-C ends all.";

/// A working directory of its own, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let name = format!("dev-{name}-{}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir(&path).expect("a new directory");
        Self(path)
    }

    fn folder(&self) -> PathBuf {
        self.0.join(".purlin-dev")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("removable");
    }
}

/// A running `purlin dev`.
struct Dev {
    child: Child,
    lines: Receiver<String>,
}

/// What it prints of a node.
struct Node {
    gateway: String,
    pid: Pid,
}

impl Dev {
    fn start(scratch: &Scratch, arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_purlin"));
        command.arg("dev").args(arguments).current_dir(&scratch.0);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the program runs");
        let lines = lines_of(child.stdout.take().expect("piped"));
        Self { child, lines }
    }

    /// What it prints up to the line that begins with `start`.
    fn until(&self, start: &str) -> Vec<String> {
        let mut seen: Vec<String> = Vec::new();
        while !seen.last().is_some_and(|line| line.trim_start().starts_with(start)) {
            let line = self.lines.recv_timeout(PATIENCE);
            seen.push(line.unwrap_or_else(|_| panic!("no {start:?} in {seen:#?}")));
        }
        seen
    }

    /// The nodes, once they serve.
    fn nodes(&self) -> Vec<Node> {
        let lines = self.until(LAST_LINE);
        let nodes: Vec<_> = lines.iter().filter_map(|line| node(line)).collect();
        for node in &nodes {
            let port = node.gateway.rsplit_once(':').expect("a port").1;
            let example = format!("  redis-cli -p {port} ");
            assert!(lines.iter().any(|line| line.starts_with(&example)), "{example} in {lines:#?}");
        }
        nodes
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// Its exit code, after it has closed its output.
    fn end(mut self, signal: Signal) -> Option<i32> {
        self.signal(signal);
        while self.lines.recv_timeout(PATIENCE).is_ok() {}
        self.child.wait().expect("it is our child").code()
    }
}

impl Drop for Dev {
    /// After a failed test nothing runs on: the nodes end with it.
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines_of(out: ChildStdout) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        let all = BufReader::new(out).lines().map_while(Result::ok);
        all.take_while(|line| sender.send(line.clone()).is_ok()).for_each(drop);
    });
    lines
}

/// Reads `  1     127.0.0.1:7000   pid 4711   leads 16    admin 127.0.0.1:7098`.
fn node(line: &str) -> Option<Node> {
    let words: Vec<_> = line.split_whitespace().collect();
    let [_, gateway, "pid", pid, "leads", leads, "admin", _] = words[..] else { return None };
    assert!(leads.parse::<u32>().is_ok(), "{line}");
    let pid = Pid::from_raw(pid.parse().expect(line)).expect(line);
    Some(Node { gateway: gateway.to_owned(), pid })
}

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

/// Whether soon nobody listens. The kernel may close a port a little after the process has ended,
/// when io_uring had an accept under way.
fn closes(gateway: &str) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if TcpStream::connect(gateway).is_err() {
            return true;
        }
    }
    false
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
