//! The leader: collects the SETs of a turn into one frame, writes it to its log, sends it to both followers,
//! and answers when two of three are durable.
//!
//! A GET is answered from memory. No other process ever leads, so the memory of this one has every SET that
//! was answered. The replies of a client come in the order of its requests.

use std::collections::VecDeque;
use std::net::{SocketAddr, TcpListener, TcpStream};

use crate::connection::{Connection, READ_BYTES};
use crate::failure::Failure;
use crate::frame::{self, Builder};
use crate::log::Log;
use crate::options::LeaderOptions;
use crate::poll::{self, Poll, STOP, Watch};
use crate::resp::{self, Request};
use crate::store::Store;

const LISTENER: u64 = 1;
const LOG: u64 = 2;
const FOLLOWER: u64 = 3;
const CLIENT: u64 = 16;
/// How many connections one run takes. A place is not used again: a late reply must not reach another client.
const CLIENTS_MAX: usize = 65_536;

/// Runs the leader until a signal ends it.
///
/// # Errors
/// When it cannot start, when its log fails, or when a follower goes.
pub(crate) fn run(options: &LeaderOptions) -> Result<(), Failure> {
    let mut poll = Poll::new()?;
    let node = &options.node;
    let log = Log::create(&node.dir, node.log_bytes, node.depth)?;
    let listener = poll::listen(node.listen)?;
    let [first, second] = options.followers;
    let followers = [Follower::connect(first)?, Follower::connect(second)?];
    poll.add(&listener, LISTENER, Watch::Level)?;
    poll.add(&log, LOG, Watch::Level)?;
    for (token, follower) in (FOLLOWER..).zip(&followers) {
        poll.add(&follower.connection, token, Watch::Edge)?;
    }
    poll::say_ready(&listener);
    let mut leader = Leader::new(log, followers);
    let (mut tokens, mut scratch) = (Vec::new(), vec![0; READ_BYTES]);
    loop {
        let may_sleep = !leader.has_work();
        tokens.clear();
        poll.wait(may_sleep, &mut tokens)?;
        for &token in &tokens {
            match token {
                STOP => return Ok(()),
                LISTENER => leader.meet(&listener, &poll)?,
                // The log is looked at in every turn.
                LOG => {}
                FOLLOWER..CLIENT => leader.hear((token - FOLLOWER) as usize, &mut scratch)?,
                client => leader.ready.push((client - CLIENT) as usize),
            }
        }
        leader.turn(&mut scratch)?;
    }
}

struct Leader {
    log: Log,
    followers: [Follower; 2],
    store: Store,
    clients: Vec<Option<Client>>,
    /// Clients that may have requests to read. A client may be in it twice.
    ready: Vec<usize>,
    /// Clients with replies to send.
    answered: Vec<usize>,
    frame: Builder,
    /// What the clients of `frame` wait for, in order.
    replies: Vec<Reply>,
    /// Frames that are sent and not committed, in order; the first one is `committed + 1`.
    in_flight: VecDeque<InFlight>,
    committed: u64,
    /// Memory of frames that are done, to use again.
    memory: Vec<Vec<u8>>,
}

struct Follower {
    connection: Connection,
    address: SocketAddr,
    /// The last sequence that this follower said to be durable.
    durable: u64,
}

struct Client {
    connection: Connection,
    /// Replies that wait for frames.
    waiting: usize,
}

struct InFlight {
    bytes: Vec<u8>,
    /// Invariant: each entry of the frame belongs to one `Says::Done`, in order.
    replies: Vec<Reply>,
}

/// What a client is told when a frame is committed.
struct Reply {
    client: usize,
    says: Says,
}

enum Says {
    /// So many SETs, one after the other, are done.
    Done(usize),
    Value(Box<[u8]>),
    Text(&'static [u8]),
}

impl Leader {
    fn new(log: Log, followers: [Follower; 2]) -> Self {
        Self {
            log,
            followers,
            store: Store::default(),
            clients: Vec::new(),
            ready: Vec::new(),
            answered: Vec::new(),
            frame: Builder::new(Vec::new()),
            replies: Vec::new(),
            in_flight: VecDeque::new(),
            committed: 0,
            memory: Vec::new(),
        }
    }

    fn meet(&mut self, listener: &TcpListener, poll: &Poll) -> Result<(), Failure> {
        let Ok((socket, _)) = listener.accept() else { return Ok(()) };
        // A socket that is dropped here is closed: the client sees it.
        let Ok(connection) = Connection::new(socket) else { return Ok(()) };
        if self.clients.len() < CLIENTS_MAX {
            poll.add(&connection, CLIENT + self.clients.len() as u64, Watch::Edge)?;
            self.clients.push(Some(Client { connection, waiting: 0 }));
        }
        Ok(())
    }

    /// Reads what a follower says.
    fn hear(&mut self, follower: usize, scratch: &mut [u8]) -> Result<(), Failure> {
        let sent = self.last_sent();
        self.followers[follower].read(sent, scratch)
    }

    /// The sequence of the last frame that was sent.
    fn last_sent(&self) -> u64 {
        self.committed + self.in_flight.len() as u64
    }

    /// Whether a turn would find something to do without any event.
    fn has_work(&self) -> bool {
        (!self.ready.is_empty() || !self.frame.is_empty()) && self.log.has_room()
    }

    fn turn(&mut self, scratch: &mut [u8]) -> Result<(), Failure> {
        let own = self.log.reap()?;
        self.commit(own);
        for client in std::mem::take(&mut self.ready) {
            self.take_requests(client, scratch);
        }
        if !self.frame.is_empty() && self.log.has_room() {
            self.send_frame()?;
        }
        self.flush();
        Ok(())
    }

    /// Two of three durable: apply, and answer.
    fn commit(&mut self, own: u64) {
        let mut durable = [own, self.followers[0].durable, self.followers[1].durable];
        durable.sort_unstable();
        while self.committed < durable[1] {
            let frame = self.in_flight.pop_front().expect("only frames that were sent are durable");
            self.committed += 1;
            let mut entries = frame::entries(&frame.bytes);
            for reply in &frame.replies {
                // In the order of the requests: a GET does not see the SETs behind it.
                if let Says::Done(count) = reply.says {
                    let done = entries.by_ref().take(count);
                    done.for_each(|(key, value)| self.store.set(key, value));
                }
                self.answer(reply);
            }
            drop(entries);
            self.memory.push(frame.bytes);
        }
    }

    fn answer(&mut self, reply: &Reply) {
        let Some(client) = &mut self.clients[reply.client] else { return };
        let out = client.connection.output();
        match &reply.says {
            Says::Done(count) => {
                client.waiting -= count - 1;
                (0..*count).for_each(|_| out.extend_from_slice(resp::OK));
            }
            Says::Value(key) => resp::write_value(self.store.get(key), out),
            Says::Text(text) => out.extend_from_slice(text),
        }
        client.waiting -= 1;
        self.answered.push(reply.client);
    }

    /// Reads the requests of a client until there is no whole one, or the frame is full.
    fn take_requests(&mut self, number: usize, scratch: &mut [u8]) {
        let Some(client) = &mut self.clients[number] else { return };
        let has_more = client.connection.read(scratch);
        let input = std::mem::take(&mut client.connection.input);
        let mut used = 0;
        let mut is_full = false;
        let mut mistake = None;
        while !is_full {
            match resp::first(&input[used..]) {
                Ok(Some((request, length))) => match self.take(number, &request) {
                    true => used += length,
                    false => is_full = true,
                },
                Ok(None) => break,
                Err(text) => {
                    mistake = Some(text);
                    break;
                }
            }
        }
        if is_full || has_more {
            self.ready.push(number);
        }
        self.answered.push(number);
        let Some(client) = &mut self.clients[number] else { return };
        client.connection.input = input;
        client.connection.input.drain(..used);
        if let Some(text) = mistake {
            client.connection.output().extend_from_slice(format!("-{text}\r\n").as_bytes());
            client.connection.flush();
            client.connection.has_ended = true;
        }
    }

    /// Takes one request. Returns false if the frame has no room for it.
    fn take(&mut self, number: usize, request: &Request<'_>) -> bool {
        match *request {
            Request::Set { key, value } => {
                if !self.frame.has_room(key, value) {
                    return false;
                }
                self.frame.push(key, value);
                self.clients[number].as_mut().expect("it sent a request").waiting += 1;
                match self.replies.last_mut() {
                    Some(Reply { client, says: Says::Done(count) }) if *client == number => {
                        *count += 1
                    }
                    _ => self.replies.push(Reply { client: number, says: Says::Done(1) }),
                }
            }
            Request::Get { key } => self.say(number, Says::Value(key.into())),
            Request::Ping => self.say(number, Says::Text(resp::PONG)),
            Request::Unknown => self.say(number, Says::Text(resp::UNKNOWN)),
        }
        true
    }

    /// Answers behind all SETs of the client: at once if there are none.
    fn say(&mut self, number: usize, says: Says) {
        let client = self.clients[number].as_mut().expect("it sent a request");
        client.waiting += 1;
        let is_first = client.waiting == 1;
        let reply = Reply { client: number, says };
        match self.in_flight.back_mut() {
            _ if is_first => self.answer(&reply),
            _ if !self.frame.is_empty() => self.replies.push(reply),
            Some(frame) => frame.replies.push(reply),
            None => unreachable!("client {number} waits for no frame"),
        }
    }

    /// The followers get the frame first: then all three writes run side by side.
    fn send_frame(&mut self) -> Result<(), Failure> {
        let next = Builder::new(self.memory.pop().unwrap_or_default());
        let frame = std::mem::replace(&mut self.frame, next);
        let sequence = self.last_sent() + 1;
        let bytes = frame.seal(sequence, self.committed);
        for follower in &mut self.followers {
            follower.connection.send(&bytes);
        }
        self.log.append(&bytes, sequence)?;
        self.in_flight.push_back(InFlight { bytes, replies: std::mem::take(&mut self.replies) });
        Ok(())
    }

    fn flush(&mut self) {
        for number in self.answered.drain(..) {
            let Some(client) = &mut self.clients[number] else { continue };
            client.connection.flush();
            if client.connection.has_ended {
                self.clients[number] = None;
            }
        }
    }
}

impl Follower {
    fn connect(address: SocketAddr) -> Result<Self, Failure> {
        let connection = TcpStream::connect(address).and_then(Connection::new);
        let connection = connection.map_err(|error| {
            Failure::new(
                format!("a follower cannot be reached: {error}"),
                address,
                "the leader does not start, since it never works with fewer than two followers",
                "start both followers first, and name their addresses with --follower",
            )
        })?;
        Ok(Self { connection, address, durable: 0 })
    }

    /// Takes the acknowledgements that have come, and sends what could not be sent before.
    fn read(&mut self, sent: u64, scratch: &mut [u8]) -> Result<(), Failure> {
        self.connection.read(scratch);
        let (ack, used) = frame::last_ack(&self.connection.input);
        self.connection.input.drain(..used);
        self.durable = ack.unwrap_or(self.durable);
        self.connection.flush();
        if self.durable > sent {
            return Err(self.failed("a follower acknowledged a frame that was never sent"));
        }
        if self.connection.has_ended {
            return Err(self.failed("a follower closed its connection"));
        }
        Ok(())
    }

    fn failed(&self, what: &str) -> Failure {
        Failure::new(
            what,
            self.address,
            "the leader ends: this path has no recovery",
            "read the output of the follower, then start the three processes again",
        )
    }
}
