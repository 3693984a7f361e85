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
//! reader lets others run, and the writer does after each piece.
//!
//! When the front end stops, the reader takes no more requests, and the replies that are due are written. After its
//! last reply a connection is closed in our direction, and what the client still sends is read and forgotten for a
//! while: see [`Connection::linger`].
//!
//! When the client has gone, or takes no replies any more, its requests that wait for a leader end: the client may
//! ask again elsewhere, and they must not take effect beside that.

use super::{
    backend::Backend,
    commands::{CommandSpec, Run},
    front::{ClientPort, ClientState, FrontEnd},
    inbox::Inbox,
    introspect::describe,
    lean::{IDLE_BYTES_MAX, SmallUses, is_idle},
    local::Local,
    moved::{Moved, Progress},
    parser::{Arguments, Parser},
    refused_multi,
    reply::Reply,
    resolve::{Unresolved, resolve},
    ring::Ring,
    words,
    writing::write_within,
};
use bytes::BytesMut;
use futures_lite::future;
use purlin::{Completion, GroupId, Reader, Runtime, Signal, Writer};
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
    port: ClientPort,
    backend: B,
    mut reader: impl Reader,
    writer: impl Writer,
) {
    let Some(client) = front.connect(runtime.now()) else {
        const WHY: &str = "this shard has as many clients as it takes";
        return refuse_client(runtime, front, writer, WHY).await;
    };
    let (budget, holding) = (Rc::clone(&front), Rc::clone(&client.holding));
    backend.watch_answers(move |bytes| budget.budget().note_answers(&holding, bytes));
    let connection = Rc::new(Connection::new(front, client, port, backend));
    runtime.spawn(Rc::clone(&connection).write_replies(runtime.clone(), writer));
    connection.read_requests(&runtime, &mut reader).await;
    connection.finish(&runtime, &mut reader).await;
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
/// [`PART_WORK`](super::submit::PART_WORK) for each request to a group. That is about a millisecond. One command is done in one go.
pub(super) const WORK_MAX: usize = 64 << 10;

/// What is read behind the last request of a client and forgotten, at most: in bytes, before its last reply and after it,
/// and at once.
const DISCARDED_MAX: usize = 64 << 20;
const DISCARD_READ: usize = 16 << 10;

/// After the last reply, a client that sends goes on being read for so long, and one that sends nothing for less.
const LINGER_MAX: Duration = Duration::from_millis(500);
const LINGER_QUIET: Duration = Duration::from_millis(100);

/// What a busy connection may keep of the buffer for replies.
const OUTPUT_BYTES_KEPT: usize = 256 << 10;

/// What the two tasks of a connection share.
pub(super) struct Connection<B> {
    pub(super) front: Rc<FrontEnd>,
    pub(super) client: Rc<ClientState>,
    /// The port that the client has come to.
    pub(super) port: ClientPort,
    pub(super) backend: B,
    pub(super) ring: RefCell<Ring>,
    /// Where the client was told to go instead.
    pub(super) moved: RefCell<Moved>,
    /// The group of the next request, if that waits for earlier ones.
    pub(super) awaited: Cell<Option<GroupId>>,
    /// How far the client's bytes are received and taken in.
    pub(super) progress: Progress,
    /// To the writer: there may be something to write, or no request will come any more.
    news: Signal,
    /// To the reader: the ring may have room again.
    room: Signal,
    /// To the reader: the writer has ended.
    end: Signal,
    /// Bytes of the reader's buffers, and of the writer's.
    input: Cell<usize>,
    writing: Cell<usize>,
    /// What the reader has done since others could run.
    work: Cell<usize>,
    /// Whether no request will come any more.
    is_last: Cell<bool>,
    /// Whether the writer has ended: it has written all, or cannot.
    has_ended: Cell<bool>,
    /// Whether it has written all.
    is_written: Cell<bool>,
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

/// What follows a request.
#[derive(PartialEq, Eq)]
enum Next {
    /// The next one.
    Request,
    /// Nothing: it was the last.
    End,
    /// The same one: it is run when earlier ones have ended.
    NotNow,
}

/// What ends a read.
enum Input {
    /// Bytes of the client, or its end.
    Read(io::Result<usize>),
    /// Requests that have been read have room again.
    Room,
    /// The connection is idle.
    Idle,
    /// The front end stops.
    Stop,
}

/// What ends the writer's wait.
enum Wait {
    News,
    Idle,
    /// The connection is to be closed.
    TooLarge,
}

impl<B: Backend> Connection<B> {
    fn new(front: Rc<FrontEnd>, client: Rc<ClientState>, port: ClientPort, backend: B) -> Self {
        let ring = RefCell::new(Ring::new(front.ring_limits()));
        Self {
            front,
            client,
            port,
            backend,
            ring,
            moved: RefCell::default(),
            awaited: Cell::default(),
            progress: Progress::default(),
            news: Signal::default(),
            room: Signal::default(),
            end: Signal::default(),
            input: Cell::new(0),
            writing: Cell::new(0),
            work: Cell::new(0),
            is_last: Cell::new(false),
            has_ended: Cell::new(false),
            is_written: Cell::new(false),
        }
    }

    /// Takes requests in until the client closes its side, asks to, or makes a mistake.
    async fn read_requests(&self, runtime: &impl Runtime, reader: &mut impl Reader) {
        let mut inbox = Inbox::new();
        let mut parser = Parser::new(self.front.options().request);
        // Whether the client has sent its last byte. What it has sent before is run all the same.
        let mut is_whole = false;
        while !self.has_ended.get() && !self.front.is_stopping() {
            let stop = self.take_requests(&mut parser, &mut inbox);
            self.count_input(&inbox, &parser);
            match stop {
                Stop::Last | Stop::Broken => return,
                Stop::Empty if is_whole => return,
                Stop::Full if is_whole || inbox.unread().len() >= self.front.query_bytes_max() => {
                    future::or(self.room.wait(), self.client.stop.wait()).await;
                    continue;
                }
                Stop::Busy => {
                    runtime.yield_now().await;
                    self.work.set(0);
                    continue;
                }
                Stop::Full | Stop::Empty => {}
            }
            match self.read_more(runtime, reader, &mut inbox, &mut parser, stop).await {
                Input::Room | Input::Idle | Input::Stop => continue,
                Input::Read(Ok(0)) => {
                    is_whole = true;
                    self.backend.leave();
                }
                Input::Read(Ok(len)) => {
                    let received = &self.progress.received;
                    received.set(received.get() + len as u64);
                    self.add_work(len);
                }
                Input::Read(Err(error)) => {
                    debug!(client = self.client.id, %error, "a client's connection was lost");
                    return self.backend.leave();
                }
            }
            self.client.active_at.set(runtime.now());
        }
    }

    /// Reads into the inbox, until something else is to be done.
    async fn read_more(
        &self,
        runtime: &impl Runtime,
        reader: &mut impl Reader,
        inbox: &mut Inbox,
        parser: &mut Parser,
        stop: Stop,
    ) -> Input {
        let is_between = inbox.unread().is_empty();
        if is_between {
            // All that had come is taken in.
            self.moved.take();
            inbox.rest();
        }
        inbox.reserve(parser.needs());
        self.count_input(inbox, parser);
        let gives_back = is_between && inbox.capacity() + parser.memory() > IDLE_BYTES_MAX;
        let read = self.read(reader, inbox.space());
        let input = future::or(read, future::or(self.room_again(stop), self.stops()));
        let idle = async {
            is_idle(runtime, gives_back).await;
            Input::Idle
        };
        let input = future::or(input, idle).await;
        match input {
            Input::Read(Ok(len)) => inbox.fill(len),
            Input::Idle => {
                inbox.give_back();
                parser.give_back();
            }
            _ => {}
        }
        input
    }

    /// A read that ends when the writer does. Others run while it waits.
    async fn read(&self, reader: &mut impl Reader, space: &mut [u8]) -> Input {
        let mut read = pin!(future::or(reader.read(space), self.writer_ends()));
        if let Some(read) = future::poll_once(read.as_mut()).await {
            return Input::Read(read);
        }
        self.work.set(0);
        Input::Read(read.await)
    }

    /// Ends a read when the writer has ended.
    async fn writer_ends(&self) -> io::Result<usize> {
        self.end.wait().await;
        Ok(0)
    }

    /// Ends a read when there is room again for the requests that have been read.
    async fn room_again(&self, stop: Stop) -> Input {
        match stop {
            Stop::Full => self.room.wait().await,
            _ => future::pending().await,
        }
        Input::Room
    }

    /// Ends a read when the front end stops.
    async fn stops(&self) -> Input {
        self.client.stop.wait().await;
        Input::Stop
    }

    /// Reads and forgets what comes, [`DISCARDED_MAX`] at most. Tells whether the client has gone, or has sent nothing for
    /// `quiet`.
    async fn skip(
        &self,
        runtime: &impl Runtime,
        reader: &mut impl Reader,
        quiet: Option<Duration>,
    ) -> bool {
        // Most clients send nothing.
        let mut bytes = vec![0; DISCARD_READ / 16];
        let mut left = DISCARDED_MAX;
        while left > 0 {
            let silence = async {
                match quiet {
                    Some(quiet) => runtime.sleep(quiet).await,
                    None => future::pending().await,
                }
                Ok(0)
            };
            let Ok(len @ 1..) = future::or(reader.read(&mut bytes), silence).await else {
                return true;
            };
            left = left.saturating_sub(len);
            if len == bytes.len() {
                bytes.resize(DISCARD_READ, 0);
            }
            runtime.yield_now().await;
        }
        false
    }

    fn count_input(&self, inbox: &Inbox, parser: &Parser) {
        self.input.set(inbox.capacity() + parser.memory() + self.moved.borrow().memory());
        self.count_memory();
    }

    fn count_memory(&self) {
        let replies = self.ring.borrow().memory() + self.writing.get();
        self.front.budget().note(&self.client.holding, self.input.get(), replies);
    }

    pub(super) fn add_work(&self, work: usize) {
        self.work.set(self.work.get() + work);
    }

    /// Waits until the replies that are due are written, or cannot be. When the client goes meanwhile, its requests
    /// that wait for a leader end.
    async fn finish(&self, runtime: &impl Runtime, reader: &mut impl Reader) {
        self.input.set(DISCARD_READ);
        self.count_memory();
        self.is_last.set(true);
        self.news.raise();
        let ended = async {
            while !self.has_ended.get() {
                self.end.wait().await;
            }
        };
        let gone = async {
            if self.skip(runtime, reader, None).await {
                self.backend.leave();
            }
            future::pending().await
        };
        future::or(ended, gone).await;
        if self.is_written.get() {
            self.linger(runtime, reader).await;
        }
        self.front.disconnect(&self.client);
    }

    /// Reads and forgets what the client sends after the last reply, until it closes its side, sends nothing for
    /// [`LINGER_QUIET`], or [`LINGER_MAX`] has passed. The end of a connection with unread input, or one that is sent to
    /// after its end, is a reset, which takes the replies away that the client has not read yet.
    async fn linger(&self, runtime: &impl Runtime, reader: &mut impl Reader) {
        let quiet = async {
            _ = self.skip(runtime, reader, Some(LINGER_QUIET)).await;
        };
        future::or(quiet, runtime.sleep(LINGER_MAX)).await;
    }

    fn take_requests(&self, parser: &mut Parser, inbox: &mut Inbox) -> Stop {
        let stop = loop {
            if self.work.get() >= WORK_MAX {
                break Stop::Busy;
            }
            if !self.ring.borrow().has_room() || self.awaits_group() {
                break Stop::Full;
            }
            match parser.parse(inbox.unread()) {
                Ok(None) => break Stop::Empty,
                Ok(Some(len)) => {
                    let next = self.execute(parser.arguments(inbox.unread()));
                    if next == Next::NotNow {
                        self.add_work(len);
                        break Stop::Full;
                    }
                    if !parser.arguments(inbox.unread()).is_empty() {
                        self.front.count_command();
                    }
                    inbox.consume(len);
                    let taken = &self.progress.taken;
                    taken.set(taken.get() + len as u64);
                    self.add_work(len);
                    if next == Next::End {
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

    /// Executes one request.
    fn execute(&self, arguments: Arguments<'_>) -> Next {
        if arguments.is_empty() {
            return Next::Request;
        }
        if let Some(reply) = refused_multi::reply_behind(&self.client, arguments) {
            match reply {
                Ok(()) => self.answer(|local| local.reply().ok()),
                Err(text) => self.answer(|local| local.reply().error(text)),
            };
            return Next::Request;
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
                return Next::End;
            }
        }
        Next::Request
    }

    fn run(&self, command: &CommandSpec, arguments: Arguments<'_>) -> Next {
        let is_last = match command.run {
            Run::Local(run) => self.answer(|local| run(local, arguments)),
            Run::Describe(what) => self.answer(|local| describe(what, local, arguments)),
            Run::Data(plan) => match plan(arguments) {
                Ok(plan) => match self.submit(command, plan) {
                    true => false,
                    false => return Next::NotNow,
                },
                Err(text) => {
                    self.refuse(text.as_bytes());
                    false
                }
            },
            Run::Container => unreachable!("{} needs a subcommand by its arity", command.name),
        };
        if is_last { Next::End } else { Next::Request }
    }

    pub(super) fn answer<T>(&self, run: impl FnOnce(&mut Local<'_>) -> T) -> bool {
        self.ring.borrow_mut().answer(|out| {
            let before = out.len();
            let mut local = Local {
                out,
                front: &self.front,
                client: &self.client,
                port: self.port,
                topology: &|| self.backend.topology(self.front.options().groups),
                info: &|| self.backend.info(),
                replicas: self.backend.replicas(),
                now: self.client.active_at.get(),
                cost: 0,
                is_last: false,
            };
            run(&mut local);
            let Local { is_last, cost, .. } = local;
            self.add_work(out.len() - before + cost);
            is_last
        })
    }

    pub(super) fn refuse(&self, text: impl AsRef<[u8]>) {
        let protocol = self.client.protocol.get();
        self.ring.borrow_mut().answer(|out| Reply::new(out, protocol).error(text));
    }

    /// Writes replies until all are written after the last request, or the client takes no more.
    async fn write_replies<R: Runtime>(self: Rc<Self>, runtime: R, mut writer: impl Writer) {
        let mut completions = Vec::new();
        let mut output = BytesMut::new();
        let mut small = SmallUses::default();
        let is_written = loop {
            self.collect(&mut completions, &mut output);
            if output.is_empty() {
                if self.is_last.get() && self.ring.borrow().is_empty() {
                    break true;
                }
                match self.wait(&runtime).await {
                    Wait::News => {}
                    Wait::Idle => {
                        (completions, output) = Default::default();
                        self.ring.borrow_mut().give_back();
                    }
                    Wait::TooLarge => break false,
                }
                continue;
            }
            self.room.raise();
            let write =
                async { Some(write_within(&runtime, &self.front, &mut writer, &output).await) };
            let closes = async {
                self.is_too_large(&runtime).await;
                None
            };
            let Some(written) = future::or(write, closes).await else { break false };
            if let Err(error) = written {
                if self.front.may_log(runtime.now()) {
                    info!(client = self.client.id, %error, "replies could not be written to a client; its connection was closed");
                }
                break false;
            }
            let is_huge = output.capacity() > OUTPUT_BYTES_KEPT;
            if is_huge || small.is_too_large(output.len(), output.capacity()) {
                output = BytesMut::new();
            }
            output.clear();
        };
        self.front.budget().forget(&self.client.holding);
        // Nobody takes replies any more.
        self.backend.leave();
        if is_written {
            // This closes our direction only.
            drop(writer);
        } else {
            // The client may have closed it already.
            let _ = writer.close().await;
        }
        self.is_written.set(is_written);
        self.has_ended.set(true);
        self.end.raise();
        self.room.raise();
    }

    /// Waits until the writer has something to do.
    async fn wait(&self, runtime: &impl Runtime) -> Wait {
        let news = async {
            future::or(self.backend.completed(), self.news.wait()).await;
            Wait::News
        };
        let too_large = async {
            self.is_too_large(runtime).await;
            Wait::TooLarge
        };
        let spare = self.writing.get() + self.ring.borrow().spare_bytes();
        let idle = async {
            is_idle(runtime, spare > IDLE_BYTES_MAX).await;
            Wait::Idle
        };
        future::or(future::or(news, too_large), idle).await
    }

    /// Puts completions into the ring, and takes out what is ready to be written.
    fn collect(&self, completions: &mut Vec<Completion>, output: &mut BytesMut) {
        self.backend.take_completions(completions);
        if self.awaited.get().is_some() && !completions.is_empty() {
            self.room.raise();
        }
        let mut ring = self.ring.borrow_mut();
        for Completion { tag, outcome } in completions.drain(..) {
            ring.complete(tag, outcome);
        }
        ring.take_output(output);
        self.backend.answer_only(ring.wanted());
        drop(ring);
        self.writing.set(output.capacity() + completions.capacity() * size_of::<Completion>());
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
