//! The three processes on loopback: what they answer, and how they end.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// A directory below target/ that goes with its owner.
struct Dir(PathBuf);

impl Dir {
    fn new(test: &str) -> Self {
        let path =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{test}-{}", std::process::id()));
        for node in ["1", "2", "3"] {
            fs::create_dir_all(path.join(node)).unwrap();
        }
        Self(path)
    }

    fn log(&self, node: &str) -> PathBuf {
        self.0.join(node).join("floor.log")
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// A process of this test, which ends with it.
struct Process {
    child: Child,
    address: String,
}

impl Process {
    /// Starts a process, and waits until it says where it listens.
    fn start(role: &str, dir: &Dir, node: &str, more: &[&str]) -> Self {
        let mut child = command(role, dir, node, more).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ");
        let address = address.unwrap_or_else(|| panic!("{role} {node} said {line:?}")).to_owned();
        Self { child, address }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// The exit code, when the process has ended by itself.
    fn exit_code(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn command(role: &str, dir: &Dir, node: &str, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_purlin-floor"));
    command.args([role, "--listen", "127.0.0.1:0", "--log-mib", "4", "--dir"]);
    command.arg(dir.0.join(node)).args(more).stderr(Stdio::piped());
    command
}

/// Two followers and their leader.
fn start(dir: &Dir) -> [Process; 3] {
    let [first, second] = ["2", "3"].map(|node| Process::start("follower", dir, node, &[]));
    let more = ["--follower", &first.address, "--follower", &second.address];
    let leader = Process::start("leader", dir, "1", &more);
    [leader, first, second]
}

fn request(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// Sends all, and reads exactly as many bytes as are expected.
fn exchange(client: &mut TcpStream, requests: &[u8], expected: &[u8]) {
    let mut writer = client.try_clone().unwrap();
    std::thread::scope(|scope| {
        // A server that answers while it reads must not wait for this test to read.
        scope.spawn(move || writer.write_all(requests).unwrap());
        let mut replies = vec![0; expected.len()];
        client.read_exact(&mut replies).unwrap();
        assert!(
            replies == expected,
            "{}",
            String::from_utf8_lossy(&replies[..replies.len().min(300)])
        );
    });
}

#[test]
fn replies_come_in_the_order_of_the_requests() {
    let dir = Dir::new("order");
    let [mut leader, mut first, mut second] = start(&dir);
    let mut client = TcpStream::connect(&leader.address).unwrap();
    exchange(&mut client, &request(&[b"PING"]), b"+PONG\r\n");
    exchange(&mut client, &request(&[b"GET", b"k"]), b"$-1\r\n");
    let pipeline = [
        request(&[b"SET", b"k", b"one"]),
        request(&[b"GET", b"k"]),
        request(&[b"SET", b"k", b"two"]),
        request(&[b"SET", b"other", b""]),
        request(&[b"PING"]),
        request(&[b"GET", b"k"]),
        request(&[b"GET", b"other"]),
    ];
    let expected = b"+OK\r\n$3\r\none\r\n+OK\r\n+OK\r\n+PONG\r\n$3\r\ntwo\r\n$0\r\n\r\n";
    exchange(&mut client, &pipeline.concat(), expected);
    exchange(&mut client, &request(&[b"GET", b"k"]), b"$3\r\ntwo\r\n");
    let mut other = TcpStream::connect(&leader.address).unwrap();
    exchange(&mut other, &request(&[b"GET", b"k"]), b"$3\r\ntwo\r\n");
    exchange(
        &mut other,
        &request(&[b"DEL", b"k"]),
        b"-ERR this path serves SET key value, GET key and PING only\r\n",
    );

    assert!(["1", "2", "3"].iter().all(|node| dir.log(node).exists()));
    leader.signal(Signal::TERM);
    assert_eq!(leader.exit_code(), Some(0));
    // A follower without its leader ends by itself.
    assert_eq!((first.exit_code(), second.exit_code()), (Some(1), Some(1)));
    assert!(["1", "2", "3"].iter().all(|node| !dir.log(node).exists()));
}

/// 24 MiB of values: frames get full, the log of 4 MiB wraps around, and the followers catch up.
#[test]
fn large_pipelines_pass_through_a_small_log() {
    let dir = Dir::new("large");
    let processes = start(&dir);
    let mut client = TcpStream::connect(&processes[0].address).unwrap();
    let values: Vec<_> = (0..240_u8).map(|number| vec![number; 100 << 10]).collect();
    let sets: Vec<_> = values.iter().map(|value| request(&[b"SET", &value[..1], value])).collect();
    exchange(&mut client, &sets.concat(), &b"+OK\r\n".repeat(values.len()));
    for value in &values {
        let expected = [b"$102400\r\n", value.as_slice(), b"\r\n"].concat();
        exchange(&mut client, &request(&[b"GET", &value[..1]]), &expected);
    }
}

#[test]
fn bytes_that_are_no_request_end_their_connection_only() {
    let dir = Dir::new("malformed");
    let processes = start(&dir);
    let mut client = TcpStream::connect(&processes[0].address).unwrap();
    client.write_all(b"GET k\r\n").unwrap();
    let mut said = String::new();
    client.read_to_string(&mut said).unwrap();
    assert!(said.starts_with("-ERR"), "{said}");
    let mut other = TcpStream::connect(&processes[0].address).unwrap();
    exchange(&mut other, &request(&[b"PING"]), b"+PONG\r\n");
}

#[test]
fn a_signal_ends_a_follower_and_its_log_goes_with_it() {
    let dir = Dir::new("signal");
    let mut follower = Process::start("follower", &dir, "1", &[]);
    assert!(dir.log("1").exists());
    follower.signal(Signal::INT);
    assert_eq!(follower.exit_code(), Some(0));
    assert!(!dir.log("1").exists());
}

#[test]
fn a_file_that_was_there_before_is_kept() {
    let dir = Dir::new("kept");
    fs::write(dir.log("1"), "mine").unwrap();
    let output = command("follower", &dir, "1", &[]).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("floor.log") && text.contains("--dir"), "{text}");
    assert_eq!(fs::read_to_string(dir.log("1")).unwrap(), "mine");
}

#[test]
fn a_leader_without_followers_says_so() {
    let dir = Dir::new("alone");
    let nobody =
        std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let output = command("leader", &dir, "1", &["--follower", &nobody, "--follower", &nobody])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(&nobody) && text.contains("start both followers"), "{text}");
    assert!(!dir.log("1").exists());
    let output = Command::new(env!("CARGO_BIN_EXE_purlin-floor")).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}
