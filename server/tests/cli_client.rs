//! `purlin cli` before a node: what it shows, and what its exit code says.

#[expect(dead_code, reason = "what other tests need of it")]
mod support;

use purlin_server::cli::client::{ClientOptions, Session, Status};
use rustix::process::Signal;
use std::net::TcpListener;
use support::{Dev, Scratch, closes};

/// A node that serves.
struct Server {
    dev: Dev,
    gateway: String,
    port: u16,
    _scratch: Scratch,
}

impl Server {
    fn start(name: &str) -> Self {
        let scratch = Scratch::new(name);
        let dev = Dev::start(&scratch, &["--nodes", "1", "--groups", "4"]);
        let gateway = dev.nodes().remove(0).gateway;
        let port = gateway.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        Self { dev, port: port.expect("a port"), gateway, _scratch: scratch }
    }

    /// Ends it, and waits until nobody listens.
    fn end(self) {
        assert_eq!(self.dev.end(Signal::TERM), Some(0));
        assert!(closes(&self.gateway), "nothing listens");
    }
}

fn session(port: u16, is_terminal: bool) -> Session<Vec<u8>> {
    Session::new(ClientOptions::new(port), Vec::new(), is_terminal)
}

#[test]
fn a_terminal_shows_replies_for_people_and_a_pipe_as_they_are() {
    let server = Server::start("cli-lines");
    let lines = "SET k \"a b\"\nGET k\n\nINCR n\nGET absent\nMGET k absent\nSTRLEN k\n";
    for (is_terminal, shown) in [
        (true, "OK\n\"a b\"\n(integer) 1\n(nil)\n1) \"a b\"\n2) (nil)\n(integer) 3\n"),
        (false, "OK\na b\n2\n\na b\n\n3\n"),
    ] {
        let mut out = Vec::new();
        let mut session = Session::new(ClientOptions::new(server.port), &mut out, is_terminal);
        assert_eq!(session.run_lines(lines.as_bytes()), Status::Done);
        assert_eq!(String::from_utf8(out).expect("text"), shown);
    }
    server.end();
}

/// All commands of a pipe are sent, also behind a line that is no text, or it is said that they were not.
#[test]
fn a_pipe_may_hold_any_bytes_and_is_read_to_its_end() {
    let server = Server::start("cli-bytes");
    let mut out = Vec::new();
    let mut session = Session::new(ClientOptions::new(server.port), &mut out, false);
    assert_eq!(session.run_lines(&b"SET a \xff\r\nSET b 2\nSTRLEN a\nGET b"[..]), Status::Done);
    assert_eq!(String::from_utf8_lossy(&out), "OK\nOK\n1\n2\n");

    struct Broken;
    impl std::io::Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::InvalidData.into())
        }
    }
    let mut session = Session::new(ClientOptions::new(server.port), Vec::new(), false);
    assert_eq!(session.run_lines(std::io::BufReader::new(Broken)), Status::Refused);
    server.end();
}

#[test]
fn the_status_says_what_is_known_of_the_command() {
    let server = Server::start("cli-status");
    let mut client = session(server.port, true);
    assert_eq!(client.execute(&["SET", "k", "v"]), Status::Done);
    assert_eq!(client.execute(&["NOPE"]), Status::Refused);
    assert_eq!(client.execute_line("GET \"k"), Status::Refused);

    // What is lost with the connection may be applied, unless it changes nothing.
    server.end();
    assert_eq!(client.execute(&["SET", "k", "w"]), Status::Unknown);
    assert_eq!(client.execute(&["SET", "k", "w"]), Status::Unreachable, "nothing listens");
    assert_eq!(client.execute(&["GET", "k"]), Status::Unreachable);
}

#[test]
fn a_read_is_repeated_over_a_new_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let node = std::thread::spawn(move || {
        use std::io::{Read, Write};
        // One answer for each connection, as of a node that restarts in between.
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().expect("the client comes");
            let mut request = [0; 21];
            stream.read_exact(&mut request).expect("a request");
            stream.write_all(b"$1\r\nv\r\n").expect("the client reads");
        }
    });
    let mut client = session(port, true);
    assert_eq!(client.execute(&["GET", "kk"]), Status::Done);
    assert_eq!(client.execute(&["GET", "kk"]), Status::Done);
    node.join().expect("both came");
}
