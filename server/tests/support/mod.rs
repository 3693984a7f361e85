//! A running `purlin dev`, in a working directory of its own.

use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

pub(crate) const PATIENCE: Duration = Duration::from_secs(90);
const LAST_LINE: &str = "Ctrl-C ends all.";

/// A working directory of its own, removed at the end.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        let name = format!("dev-{name}-{}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir(&path).expect("a new directory");
        Self(path)
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.0.join(".purlin-dev")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("removable");
    }
}

/// A running `purlin dev`.
pub(crate) struct Dev {
    child: Child,
    lines: Receiver<String>,
}

/// What it prints of a node.
pub(crate) struct Node {
    pub(crate) gateway: String,
    pub(crate) pid: Pid,
}

impl Dev {
    pub(crate) fn start(scratch: &Scratch, arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_purlin"));
        command.arg("dev").args(arguments).current_dir(&scratch.0);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the program runs");
        let lines = lines_of(child.stdout.take().expect("piped"));
        Self { child, lines }
    }

    /// What it prints up to the line that begins with `start`.
    pub(crate) fn until(&self, start: &str) -> Vec<String> {
        let mut seen: Vec<String> = Vec::new();
        while !seen.last().is_some_and(|line| line.trim_start().starts_with(start)) {
            let line = self.lines.recv_timeout(PATIENCE);
            seen.push(line.unwrap_or_else(|_| panic!("no {start:?} in {seen:#?}")));
        }
        seen
    }

    /// The nodes, once they serve.
    pub(crate) fn nodes(&self) -> Vec<Node> {
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
    pub(crate) fn end(mut self, signal: Signal) -> Option<i32> {
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
    let [_, gateway, "pid", pid, "leads", leads, "admin", _, ref _shards @ ..] = words[..] else {
        return None;
    };
    assert!(leads.parse::<u32>().is_ok(), "{line}");
    let pid = Pid::from_raw(pid.parse().expect(line)).expect(line);
    Some(Node { gateway: gateway.to_owned(), pid })
}

/// Whether soon nobody listens. The kernel may close a port a little after the process has ended,
/// when io_uring had an accept under way.
pub(crate) fn closes(gateway: &str) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if TcpStream::connect(gateway).is_err() {
            return true;
        }
    }
    false
}
