//! One client connection: requests in, replies out in their order.
//!
//! ```text
//!  bytes ─► inbox ─► parser ─► table ─┬─► answered here ──────────────┐
//!          reader task                └─► backend ─► groups ─┐        │
//!                                                            ▼        ▼
//!  bytes ◄────────────────────────── output ◄── drained ◄── ring ◄────┘
//!          writer task
//! ```
//!
//! The reader takes in the requests that a read has brought before it wakes anybody; the writer
//! puts all completions that there are into the ring before it writes once. When the ring is full
//! the reader takes no more requests, but reads on up to a limit: many client libraries send a whole
//! pipeline before they read a reply. The writer takes the answers of groups as there is room for their
//! replies. What all connections of a shard hold has a budget: see [`super::budget`]. After [`WORK_MAX`] the
//! reader lets others run, and after [`WRITE_PIECE_BYTES`] the writer does.

use super::{
    backend::Backend,
    commands::{self, CommandSpec, Run},
    data::Plan,
    front::{ClientState, FrontEnd, WRITE_PIECE_BYTES},
    gather::{Gather, GroupRequest},
    inbox::Inbox,
    introspect::describe,
    local::Local,
    parser::{Arguments, Parser},
    refused_multi,
    reply::Reply,
    ring::{Asked, Ring},
    route::group_of,
    words,
};
use bytes::BytesMut;
use futures_lite::future;
use purlin::{Completion, GroupId, Reader, Request, Runtime, Signal, Writer};
use purlin_kv::{KEY_BYTES_MAX, KvCommand, StringsBuf};
use std::{
    cell::{Cell, RefCell},
    io,
    pin::pin,
    rc::Rc,
    time::Duration,
};
use tracing::{debug, info, warn};

/// Serves a connection until the client leaves, or is asked to. Replies that are due are written
/// first.
pub async fn serve_client<R: Runtime, B: Backend>(
    runtime: R,
    front: Rc<FrontEnd>,
    backend: B,
    mut reader: impl Reader,
    writer: impl Writer,
) {
    let Some(client) = front.connect(runtime.now(), backend.waiting_bytes()) else {
        const WHY: &str = "this shard has as many clients as it takes";
        return refuse_client(runtime, front, writer, WHY).await;
    };
    let connection = Rc::new(Connection::new(front, client, backend));
    runtime.spawn(Rc::clone(&connection).write_replies(runtime.clone(), writer));
    connection.read_requests(&runtime, &mut reader).await;
    connection.finish().await;
}

/// Tells a client that it is one too many, and closes its connection.
pub(super) async fn refuse_client<R: Runtime>(
    runtime: R,
    front: Rc<FrontEnd>,
    mut writer: impl Writer,
    why: &'static str,
) {
    if front.may_log(runtime.now()) {
        let (clients, most) = (front.clients(), front.options().clients_max);
        warn!(
            clients,
            most,
            "a client's connection was refused: {why}; close connections, or raise the limit of open files \
             (ulimit -n) and start again"
        );
    }
    let mut refusal = BytesMut::new();
    Reply::new(&mut refusal, Default::default()).error(words::MAX_CLIENTS);
    // A client that does not take it learns of it by the end of the connection.
    let _ = write_within(&runtime, &front, &mut writer, &refusal).await;
    let _ = writer.close().await;
}

/// What a reader does before it lets others run: bytes that it reads, requests' and local replies' bytes, and
/// [`PART_WORK`] for each request to a group. That is about a millisecond. One command is done in one go.
const WORK_MAX: usize = 64 << 10;

/// What a request to a group counts as, in bytes.
const PART_WORK: usize = 64;

/// What is read behind a mistake of a client, at most: in bytes, in time, and at once.
const DISCARDED_MAX: usize = 64 << 20;
const DISCARD_TIME: Duration = Duration::from_secs(1);
const DISCARD_READ: usize = 16 << 10;

/// What the two tasks of a connection share.
struct Connection<B> {
    front: Rc<FrontEnd>,
    client: Rc<ClientState>,
    backend: B,
    ring: RefCell<Ring>,
    /// To the writer: there may be something to write, or no request will come any more.
    news: Signal,
    /// To the reader: the ring may have room again.
    room: Signal,
    /// To the reader: the writer has ended.
    end: Signal,
    /// Bytes of the inbox, and of the replies that are being written.
    input: Cell<usize>,
    writing: Cell<usize>,
    /// What the reader has done since others could run.
    work: Cell<usize>,
    /// Whether no request will come any more.
    is_last: Cell<bool>,
    /// Whether the writer has ended: it has written all, or cannot.
    has_ended: Cell<bool>,
}

/// Why the reader stopped taking requests out of the inbox.
#[derive(PartialEq, Eq)]
enum Stop {
    /// There is no whole request in it.
    Empty,
    /// The ring is full.
    Full,
    /// Others must run first.
    Busy,
    /// No request is to be taken any more.
    Last,
    /// What comes is no request, and no more is to be taken.
    Broken,
}

impl<B: Backend> Connection<B> {
    fn new(front: Rc<FrontEnd>, client: Rc<ClientState>, backend: B) -> Self {
        let ring = RefCell::new(Ring::new(front.ring_limits()));
        Self {
            front,
            client,
            backend,
            ring,
            news: Signal::default(),
            room: Signal::default(),
            end: Signal::default(),
            input: Cell::new(0),
            writing: Cell::new(0),
            work: Cell::new(0),
            is_last: Cell::new(false),
            has_ended: Cell::new(false),
        }
    }

    /// Takes requests in until the client closes its side, asks to, or makes a mistake.
    async fn read_requests(&self, runtime: &impl Runtime, reader: &mut impl Reader) {
        let mut inbox = Inbox::new();
        let mut parser = Parser::new(self.front.options().request);
        // Whether the client has sent its last byte. What it has sent before is run all the same.
        let mut is_whole = false;
        while !self.has_ended.get() {
            let stop = self.take_requests(&mut parser, &mut inbox);
            self.count_input(inbox.capacity());
            match stop {
                Stop::Last => return,
                Stop::Broken => return self.discard(runtime, reader).await,
                Stop::Empty if is_whole => return,
                Stop::Full if is_whole || inbox.unread().len() >= self.front.query_bytes_max() => {
                    self.room.wait().await;
                    continue;
                }
                Stop::Busy => {
                    runtime.yield_now().await;
                    self.work.set(0);
                    continue;
                }
                Stop::Full | Stop::Empty => {}
            }
            let space = inbox.space(parser.needs());
            let read = future::or(self.read(reader, space), self.room_again(&stop)).await;
            let Some(read) = read else { continue };
            match read {
                Ok(0) => {
                    is_whole = true;
                    self.backend.leave();
                }
                Ok(len) => {
                    inbox.fill(len);
                    self.add_work(len);
                }
                Err(error) => {
                    debug!(client = self.client.id, %error, "a client's connection was lost");
                    return self.backend.leave();
                }
            }
            self.client.active_at.set(runtime.now());
        }
    }

    /// Reads what comes behind a mistake, and forgets it, up to [`DISCARDED_MAX`] and for [`DISCARD_TIME`]. The end
    /// of a connection with unread input would take the error away before the client has read it.
    async fn discard(&self, runtime: &impl Runtime, reader: &mut impl Reader) {
        let mut bytes = vec![0; DISCARD_READ];
        let all = async {
            let mut left = DISCARDED_MAX;
            while left > 0 {
                let Ok(len @ 1..) = reader.read(&mut bytes).await else { return };
                left = left.saturating_sub(len);
                runtime.yield_now().await;
            }
        };
        let too_late = future::or(runtime.sleep(DISCARD_TIME), self.end.wait());
        future::or(all, too_late).await;
    }

    /// A read that ends when the writer does. Others run while it waits.
    async fn read(&self, reader: &mut impl Reader, space: &mut [u8]) -> Option<io::Result<usize>> {
        let mut read = pin!(future::or(reader.read(space), self.writer_ends()));
        if let Some(read) = future::poll_once(read.as_mut()).await {
            return Some(read);
        }
        self.work.set(0);
        Some(read.await)
    }

    /// Ends a read when there is room again for the requests that have been read.
    async fn room_again(&self, stop: &Stop) -> Option<io::Result<usize>> {
        match stop {
            Stop::Full => self.room.wait().await,
            _ => future::pending().await,
        }
        None
    }

    /// The inbox has so many bytes now.
    fn count_input(&self, bytes: usize) {
        self.input.set(bytes);
        self.count_memory();
    }

    fn count_memory(&self) {
        let replies = self.ring.borrow().memory() + self.writing.get();
        self.front.budget().note(&self.client.holding, self.input.get(), replies);
    }

    fn add_work(&self, work: usize) {
        self.work.set(self.work.get() + work);
    }

    /// A read that ends when the writer does.
    async fn writer_ends(&self) -> io::Result<usize> {
        self.end.wait().await;
        Ok(0)
    }

    /// Waits until the replies that are due are written, or cannot be.
    async fn finish(&self) {
        self.is_last.set(true);
        self.news.raise();
        while !self.has_ended.get() {
            self.end.wait().await;
        }
        self.front.disconnect(&self.client);
    }

    fn take_requests(&self, parser: &mut Parser, inbox: &mut Inbox) -> Stop {
        let stop = loop {
            if self.work.get() >= WORK_MAX {
                break Stop::Busy;
            }
            if !self.ring.borrow().has_room() {
                break Stop::Full;
            }
            match parser.parse(inbox.unread()) {
                Ok(None) => break Stop::Empty,
                Ok(Some(len)) => {
                    let is_last = self.execute(parser.arguments(inbox.unread()));
                    inbox.consume(len);
                    self.add_work(len);
                    if is_last {
                        break Stop::Last;
                    }
                }
                Err(error) => {
                    self.refuse(format!("ERR {error}"));
                    break Stop::Broken;
                }
            }
        };
        if self.ring.borrow().has_output() {
            self.news.raise();
        }
        stop
    }

    /// Executes one request, and tells whether it is the last.
    fn execute(&self, arguments: Arguments<'_>) -> bool {
        if arguments.is_empty() {
            return false;
        }
        self.front.count_command();
        if let Some(reply) = refused_multi::reply_behind(&self.client, arguments) {
            match reply {
                Ok(()) => self.answer(|local| local.reply().ok()),
                Err(text) => self.answer(|local| local.reply().error(text)),
            };
            return false;
        }
        match resolve(arguments) {
            Ok((container, command)) => {
                self.client.command.set((container, command.name));
                return self.run(command, arguments);
            }
            Err(Unresolved::Text(text)) => {
                refused_multi::note_refusal(&self.client, &arguments[0]);
                self.refuse(text);
            }
            Err(Unresolved::Http) => {
                if self.front.may_log(self.client.active_at.get()) {
                    info!(
                        client = self.client.id,
                        "a client sent an HTTP request to the Redis port; its connection was closed"
                    );
                }
                return true;
            }
        }
        false
    }

    fn run(&self, command: &CommandSpec, arguments: Arguments<'_>) -> bool {
        match command.run {
            Run::Local(run) => self.answer(|local| run(local, arguments)),
            Run::Describe(what) => self.answer(|local| describe(what, local, arguments)),
            Run::Data(plan) => {
                match plan(arguments) {
                    Ok(plan) => self.submit(command, plan),
                    Err(text) => self.refuse(text.as_bytes()),
                }
                false
            }
            Run::Container => unreachable!("{} needs a subcommand by its arity", command.name),
        }
    }

    fn answer(&self, run: impl FnOnce(&mut Local<'_>)) -> bool {
        self.ring.borrow_mut().answer(|out| {
            let before = out.len();
            let mut local = Local {
                out,
                front: &self.front,
                client: &self.client,
                info: &|| self.backend.info(),
                now: self.client.active_at.get(),
                is_last: false,
            };
            run(&mut local);
            let is_last = local.is_last;
            self.add_work(out.len() - before);
            is_last
        })
    }

    fn refuse(&self, text: impl AsRef<[u8]>) {
        let protocol = self.client.protocol.get();
        self.ring.borrow_mut().answer(|out| Reply::new(out, protocol).error(text));
    }

    fn submit(&self, command: &CommandSpec, plan: Plan<'_>) {
        let groups = self.front.options().groups;
        match plan {
            Plan::One(key, _) if key.len() > KEY_BYTES_MAX => self.refuse(words::KEY_TOO_LONG),
            Plan::One(key, request) => self.submit_one(group_of(key, groups), request),
            Plan::Split(_, keys) if keys.iter().any(|key| key.len() > KEY_BYTES_MAX) => {
                self.refuse(words::KEY_TOO_LONG);
            }
            Plan::Split(what, keys) => self.submit_all(Gather::split(what, keys, groups)),
            Plan::All(what) => self.submit_all(Gather::all(what, groups)),
            Plan::SetMany(pairs) => match atomic_group(command.name, pairs, groups) {
                Err(text) => self.refuse(text),
                Ok(group) => {
                    let pairs: StringsBuf = pairs.iter().collect();
                    let command = KvCommand::SetMany { pairs: pairs.strings() };
                    self.submit_one(group, Request::Propose(command.encode()));
                }
            },
        }
    }

    fn submit_one(&self, group: GroupId, request: Request) {
        let is_read = matches!(request, Request::Query(_));
        let (Request::Query(data) | Request::Propose(data)) = &request;
        let (bytes, protocol) = (data.len(), self.client.protocol.get());
        let asked = Asked { group, is_read, bytes, protocol };
        let tag = self.ring.borrow_mut().expect(asked);
        self.add_work(PART_WORK);
        self.backend.submit(group, request, tag);
    }

    fn submit_all(&self, (gather, requests): (Gather, Vec<GroupRequest>)) {
        let bytes = requests.iter().map(|(_, request)| match request {
            Request::Query(data) | Request::Propose(data) => data.len(),
        });
        let (bytes, protocol) = (bytes.sum(), self.client.protocol.get());
        let tag = self.ring.borrow_mut().expect_all(gather, protocol, bytes);
        self.add_work(requests.len() * PART_WORK);
        for (part, (group, request)) in requests.into_iter().enumerate() {
            self.backend.submit(group, request, tag + part as u64);
        }
    }

    /// Writes replies until all are written after the last request, or the client takes no more.
    async fn write_replies<R: Runtime>(self: Rc<Self>, runtime: R, mut writer: impl Writer) {
        let mut completions = Vec::new();
        let mut output = BytesMut::new();
        loop {
            self.collect(&mut completions, &mut output);
            if output.is_empty() {
                if self.is_last.get() && self.ring.borrow().is_empty() {
                    break;
                }
                let news = async {
                    future::or(self.backend.completed(), self.news.wait()).await;
                    true
                };
                let closes = async {
                    self.is_too_large(&runtime).await;
                    false
                };
                match future::or(news, closes).await {
                    true => continue,
                    false => break,
                }
            }
            self.room.raise();
            let write =
                async { Some(write_within(&runtime, &self.front, &mut writer, &output).await) };
            let closes = async {
                self.is_too_large(&runtime).await;
                None
            };
            let Some(written) = future::or(write, closes).await else { break };
            if let Err(error) = written {
                if self.front.may_log(runtime.now()) {
                    info!(client = self.client.id, %error, "replies could not be written to a client; its connection was closed");
                }
                break;
            }
            recycle(&mut output);
        }
        self.front.budget().forget(&self.client.holding);
        // The client may have closed it already.
        let _ = writer.close().await;
        self.has_ended.set(true);
        self.end.raise();
        self.room.raise();
    }

    /// Puts completions into the ring, and takes out what is ready to be written.
    fn collect(&self, completions: &mut Vec<Completion>, output: &mut BytesMut) {
        self.backend.take_completions(completions);
        let mut ring = self.ring.borrow_mut();
        for Completion { tag, outcome } in completions.drain(..) {
            ring.complete(tag, outcome);
        }
        ring.take_output(output);
        self.backend.answer_only(ring.wanted());
        drop(ring);
        self.writing.set(output.capacity());
        self.count_memory();
    }

    /// Returns when the connection is to be closed, because it holds the most memory of all and that is too much.
    async fn is_too_large(&self, runtime: &impl Runtime) {
        self.client.holding.is_too_large().await;
        let budget = self.front.budget();
        let (client, held, max) = (self.client.id, self.client.holding.bytes(), budget.bytes_max());
        if self.front.may_log(runtime.now()) {
            warn!(
                client,
                "a client's connection was closed: the clients of this shard held more than {} bytes \
                 (`client.memory`), and this one the most: {held} bytes of requests and unread replies; \
                 what of its commands was under way goes on",
                max
            );
        }
    }
}

/// Why a request has no command.
enum Unresolved {
    /// The client is told.
    Text(String),
    /// The client is a browser, perhaps one that somebody has tricked into coming here: it is told
    /// nothing, as Redis does it.
    Http,
}

/// A command, behind the name of its container if it is a subcommand.
type Resolved = (Option<&'static str>, &'static CommandSpec);

/// The command that a request names, with a number of arguments that it takes.
fn resolve(arguments: Arguments<'_>) -> Result<Resolved, Unresolved> {
    let name = &arguments[0];
    let Some(command) = commands::find(name) else {
        if name.eq_ignore_ascii_case(b"POST") || name.eq_ignore_ascii_case(b"HOST:") {
            return Err(Unresolved::Http);
        }
        let unknown = || words::unknown_command(arguments);
        return Err(Unresolved::Text(commands::refusal(name).unwrap_or_else(unknown)));
    };
    if command.subcommands.is_empty() || arguments.len() < 2 {
        return within_arity(command.name.into(), command, arguments).map(|()| (None, command));
    }
    let Some(subcommand) = command.subcommand(&arguments[1]) else {
        let known = command.subcommands.iter().map(|subcommand| subcommand.name);
        let text = words::unknown_subcommand(command.name, known, &arguments[1]);
        return Err(Unresolved::Text(text));
    };
    let full_name = format!("{}|{}", command.name, subcommand.name);
    within_arity(full_name, subcommand, arguments).map(|()| (Some(command.name), subcommand))
}

/// Whether a command takes so many arguments, or what the client is told.
fn within_arity(
    name: String,
    command: &CommandSpec,
    arguments: Arguments<'_>,
) -> Result<(), Unresolved> {
    if !command.takes(arguments.len()) {
        return Err(Unresolved::Text(words::wrong_arity(&name)));
    }
    let most = command.arguments_max();
    if arguments.len() > most {
        let text = words::too_many_arguments(&name, command.keys_max(), most, arguments.len());
        return Err(Unresolved::Text(text));
    }
    Ok(())
}

/// The group that has all keys of a command that must be atomic, or what to tell the client.
fn atomic_group(name: &str, pairs: Arguments<'_>, groups: u32) -> Result<GroupId, String> {
    let mut keys = pairs.iter().step_by(2);
    let first = group_of(keys.next().expect("the arity was checked"), groups);
    match keys.map(|key| group_of(key, groups)).find(|&group| group != first) {
        Some(other) => Err(words::not_atomic(name, first, other)),
        None => Ok(first),
    }
}

/// Writes all of `bytes`, unless the client takes too long. How long that is counts anew for each piece:
/// a client that is slow, and does take its replies, is not dropped.
async fn write_within(
    runtime: &impl Runtime,
    front: &FrontEnd,
    writer: &mut impl Writer,
    bytes: &[u8],
) -> io::Result<()> {
    for piece in bytes.chunks(WRITE_PIECE_BYTES) {
        write_piece(runtime, front, writer, piece).await?;
        if piece.len() == WRITE_PIECE_BYTES {
            // A client that takes all at once never lets this task wait.
            runtime.yield_now().await;
        }
    }
    Ok(())
}

async fn write_piece(
    runtime: &impl Runtime,
    front: &FrontEnd,
    writer: &mut impl Writer,
    piece: &[u8],
) -> io::Result<()> {
    let mut write = pin!(writer.write_all(piece));
    // Nearly always there is room in the socket: then no timer is made.
    if let Some(written) = future::poll_once(write.as_mut()).await {
        return written;
    }
    let deadline = async {
        runtime.sleep(front.options().write_deadline).await;
        Err(io::ErrorKind::TimedOut.into())
    };
    future::or(write, deadline).await
}

/// Empties a buffer for the next replies; a huge one is given back.
fn recycle(output: &mut BytesMut) {
    const BYTES_KEPT: usize = 256 << 10;
    if output.capacity() > BYTES_KEPT {
        *output = BytesMut::new();
    }
    output.clear();
}
