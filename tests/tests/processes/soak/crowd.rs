//! Thousands of connections that are idle but for a PING now and then. None may wait for its answer for long.

use super::{SOON, Stop};
use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// All connections are looked at once in so many turns.
const PARTS: usize = 10;
const TURN: Duration = Duration::from_millis(200);
/// A node that does not take a connection at once has its turn later.
const CONNECT: Duration = Duration::from_millis(200);

pub(super) struct Crowd {
    told: Arc<Mutex<Told>>,
    thread: JoinHandle<String>,
}

/// What the thread tells.
#[derive(Default)]
struct Told {
    open: usize,
    /// When each connection was last answered.
    answered: Vec<Option<Instant>>,
}

struct Connection {
    gateway: SocketAddr,
    stream: Option<TcpStream>,
    /// When the PING was sent that has no answer yet.
    asked: Option<Instant>,
}

impl Crowd {
    pub(super) fn start(gateways: Vec<SocketAddr>, count: usize, stop: &Arc<Stop>) -> Self {
        let told = Arc::new(Mutex::new(Told { open: 0, answered: vec![None; count] }));
        let (stop, tell) = (Arc::clone(stop), Arc::clone(&told));
        let connection = |at: usize| Connection {
            gateway: gateways[at % gateways.len()],
            stream: None,
            asked: None,
        };
        let connections: Vec<_> = (0..count).map(connection).collect();
        let thread = thread::spawn(move || run(connections, &stop, &tell));
        Self { told, thread }
    }

    /// How many are open.
    pub(super) fn open(&self) -> usize {
        self.told.lock().expect("the crowd goes on").open
    }

    /// How many were answered after `moment`.
    pub(super) fn answered_since(&self, moment: Instant) -> usize {
        assert!(!self.thread.is_finished(), "the crowd goes on");
        let told = self.told.lock().expect("the crowd goes on");
        told.answered.iter().flatten().filter(|answered| **answered > moment).count()
    }

    pub(super) fn end(self) -> String {
        self.thread.join().expect("no connection stood")
    }
}

fn run(mut connections: Vec<Connection>, stop: &Stop, told: &Mutex<Told>) -> String {
    let (mut answers, mut lost) = (0, 0);
    for turn in 0.. {
        if stop.wait(TURN) {
            break;
        }
        let mut silent = Vec::new();
        let part = connections.iter_mut().enumerate().skip(turn % PARTS).step_by(PARTS);
        for (at, connection) in part {
            match connection.turn(&mut silent) {
                Ok(true) => {
                    answers += 1;
                    told.lock().expect("nobody panics").answered[at] = Some(Instant::now());
                }
                Ok(false) => {}
                Err(_) => {
                    lost += usize::from(connection.stream.is_some());
                    (connection.stream, connection.asked) = (None, None);
                }
            }
        }
        let open = connections.iter().filter(|it| it.stream.is_some()).count();
        told.lock().expect("nobody panics").open = open;
    }
    format!(
        "{answers} PINGs of {} connections answered, {lost} connections lost",
        connections.len()
    )
}

impl Connection {
    /// Reads an answer that has come, or asks. Whether it was answered.
    fn turn(&mut self, silent: &mut Vec<SocketAddr>) -> io::Result<bool> {
        let Some(stream) = &mut self.stream else {
            if silent.contains(&self.gateway) {
                return Ok(false);
            }
            let connected = TcpStream::connect_timeout(&self.gateway, CONNECT);
            let stream = connected.inspect_err(|_| silent.push(self.gateway))?;
            stream.set_nonblocking(true)?;
            self.stream = Some(stream);
            return Ok(false);
        };
        let Some(asked) = self.asked else {
            stream.write_all(b"PING\r\n")?;
            self.asked = Some(Instant::now());
            return Ok(false);
        };
        let mut answer = [0; 64];
        match stream.read(&mut answer) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                let answer = &answer[..count];
                // A node that has just started says that it loads, and goes on.
                assert!(answer.starts_with(b"+PONG") || answer.starts_with(b"-"), "{answer:?}");
                self.asked = None;
                Ok(answer.starts_with(b"+PONG"))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                assert!(asked.elapsed() < SOON, "a PING has no answer after {:?}", asked.elapsed());
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}
