//! Asks a server for the slots of its cluster, on a connection of its own.
//!
//! ```text
//! idle ──wanted, and the pause is over──► asked one server ──rows──► idle
//!  ▲                                            │
//!  └── error, refusal or no answer in time ◄────┘   the next attempt asks another server
//! ```
//!
//! The connections of the load do not wait for it. The table of the slots is somebody else's.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;

use rustix::fd::OwnedFd;

use crate::connection::Connection;
use crate::exchange::Operation;
use crate::reply::{Reply, ReplyParser};
use crate::slots_reply::{REPLY_BYTES_MAX, SlotsRow, read_rows};

/// The token with which epoll reports the events of the connection.
pub const INQUIRY_TOKEN: u64 = u64::MAX - 1;

const REQUEST: &[u8] = b"*2\r\n$7\r\nCLUSTER\r\n$5\r\nSLOTS\r\n";
/// How long a server may take.
const ANSWER_NANOS: u64 = 500_000_000;
/// The least time from a reply to the next attempt.
const PAUSE_NANOS: u64 = 100_000_000;
/// The least time from a failure to the next attempt.
const RETRY_NANOS: u64 = 10_000_000;

/// The rows that a server gave, and its address.
pub type Answer = (Vec<SlotsRow>, SocketAddr);

/// Asks the servers in turn.
#[derive(Debug)]
pub struct Inquiry {
    /// The servers that the user has named.
    targets: Vec<SocketAddr>,
    asked: Option<Asked>,
    is_wanted: bool,
    /// No attempt begins before this time.
    not_before: u64,
    /// How many attempts there were.
    attempts: usize,
    /// How many of them gave rows.
    answered: u64,
    /// The last failure of each target.
    failures: BTreeMap<SocketAddr, Failure>,
}

/// The server that is asked now.
#[derive(Debug)]
struct Asked {
    connection: Connection,
    since: u64,
    /// All bytes of the reply so far, at most [`REPLY_BYTES_MAX`].
    reply: Vec<u8>,
    parser: ReplyParser,
}

#[derive(Debug)]
struct Failure {
    text: String,
    /// Whether the server has answered. Then another attempt would give the same.
    is_final: bool,
}

impl Failure {
    fn of(text: impl ToString, is_final: bool) -> Self {
        Self { text: text.to_string(), is_final }
    }
}

impl Inquiry {
    /// Nothing is asked yet. The slots are wanted.
    pub fn new(targets: Vec<SocketAddr>) -> Self {
        Self {
            targets,
            asked: None,
            is_wanted: true,
            not_before: 0,
            attempts: 0,
            answered: 0,
            failures: BTreeMap::new(),
        }
    }

    /// The slots may have changed.
    pub fn want(&mut self) {
        self.is_wanted = true;
    }

    /// The clock begins again. What was asked is dropped, and is asked again.
    pub fn restart(&mut self) {
        self.is_wanted |= self.asked.is_some();
        (self.asked, self.not_before) = (None, 0);
    }

    /// Asks a server if one is due, and gives up a server that does not answer. The servers of `others` are asked
    /// in turn with the targets.
    pub fn turn(&mut self, others: impl FnOnce() -> Vec<SocketAddr>, epoll: &OwnedFd, now: u64) {
        match &self.asked {
            Some(asked) if now >= asked.since + ANSWER_NANOS => {
                self.fail(Failure::of("no answer in time", false), now);
            }
            None if self.is_wanted && now >= self.not_before => {
                let servers = [others(), self.targets.clone()].concat();
                self.ask(servers[self.attempts % servers.len()], epoll, now);
            }
            _ => {}
        }
    }

    fn ask(&mut self, server: SocketAddr, epoll: &OwnedFd, now: u64) {
        self.attempts += 1;
        self.is_wanted = false;
        let mut connection = Connection::new(server, INQUIRY_TOKEN);
        let begun = connection.connect(epoll, now);
        let (reply, parser) = (Vec::new(), ReplyParser::default());
        self.asked = Some(Asked { connection, since: now, reply, parser });
        if let Err(error) = begun {
            self.fail(Failure::of(error, false), now);
        }
    }

    /// Handles an event of the connection. Returns the rows when they are complete.
    pub fn on_event(&mut self, epoll: &OwnedFd, buffer: &mut [u8], now: u64) -> Option<Answer> {
        let asked = self.asked.as_mut()?;
        match asked.advance(epoll, buffer) {
            Ok(None) => None,
            Ok(Some(rows)) => {
                let server = asked.connection.address();
                (self.asked, self.not_before) = (None, now + PAUSE_NANOS);
                self.answered += 1;
                self.failures.remove(&server);
                Some((rows, server))
            }
            Err(failure) => {
                self.fail(failure, now);
                None
            }
        }
    }

    /// The rows of `server` could not be used.
    pub fn refuse(&mut self, server: SocketAddr, why: String) {
        self.note(server, Failure::of(why, true));
    }

    /// When [`Self::turn`] has to be called at the latest.
    pub fn wake_at(&self) -> u64 {
        match &self.asked {
            Some(asked) => asked.since + ANSWER_NANOS,
            None if self.is_wanted => self.not_before,
            None => u64::MAX,
        }
    }

    /// How many attempts there were, and how many of them gave rows.
    pub fn counts(&self) -> (usize, u64) {
        (self.attempts, self.answered)
    }

    /// Whether each target was asked.
    pub fn has_asked_all(&self) -> bool {
        self.attempts >= self.targets.len() && self.asked.is_none()
    }

    /// Whether each target has answered, and none with the slots.
    pub fn is_hopeless(&self) -> bool {
        self.targets.iter().all(|it| self.failures.get(it).is_some_and(|failure| failure.is_final))
    }

    /// What went wrong last, for each target.
    pub fn failures(&self) -> String {
        let failures =
            self.failures.iter().map(|(server, failure)| format!("{server}: {}", failure.text));
        failures.collect::<Vec<_>>().join("; ")
    }

    fn fail(&mut self, failure: Failure, now: u64) {
        let asked = self.asked.take().expect("only a server that is asked can fail");
        self.is_wanted = true;
        self.not_before = now + RETRY_NANOS;
        self.note(asked.connection.address(), failure);
    }

    fn note(&mut self, server: SocketAddr, failure: Failure) {
        if self.targets.contains(&server) {
            self.failures.insert(server, failure);
        }
    }
}

impl Asked {
    fn advance(
        &mut self,
        epoll: &OwnedFd,
        buffer: &mut [u8],
    ) -> Result<Option<Vec<SlotsRow>>, Failure> {
        let connection = &mut self.connection;
        let broken = |error: io::Error| Failure::of(error, false);
        if connection.connecting_since().is_some() {
            connection.finish_connect(epoll).map_err(broken)?;
            connection.exchange.push(Operation::default(), |out| out.extend_from_slice(REQUEST));
        }
        connection.flush(epoll).map_err(broken)?;
        let count = connection.read(buffer).map_err(broken)?;
        self.receive(&buffer[..count])
    }

    fn receive(&mut self, mut bytes: &[u8]) -> Result<Option<Vec<SlotsRow>>, Failure> {
        if self.reply.len() + bytes.len() > REPLY_BYTES_MAX {
            let text = format!("its reply to CLUSTER SLOTS has more than {REPLY_BYTES_MAX} bytes");
            return Err(Failure::of(text, true));
        }
        self.reply.extend_from_slice(bytes);
        let bad = |why: &str| {
            Failure::of(format!("its reply to CLUSTER SLOTS is not understood: {why}"), true)
        };
        match self.parser.next(&mut bytes) {
            Ok(None) => Ok(None),
            Ok(Some(Reply::Error(text))) => {
                let text = String::from_utf8_lossy(text);
                Err(Failure::of(format!("CLUSTER SLOTS is refused: {text}"), true))
            }
            Ok(Some(_)) => read_rows(&self.reply).map(Some).map_err(|why| bad(&why)),
            Err(malformed) => Err(bad(malformed.0)),
        }
    }
}
