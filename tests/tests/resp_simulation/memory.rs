//! A front end alone, before a backend without raft: each group is a machine in memory, and groups
//! answer in any order. A client of it is blocking: while it waits, the world runs.
//!
//! The backend shows what a shard would hold for the connection, and for how long: requests that wait for a
//! leader ([`Seen`]), and answers that the connection does not take.

use bytes::Bytes;
use purlin::{
    ApplyContext, ClusterId, Command, Completion, EntryId, GroupCounts, GroupEpoch, GroupId, Level,
    Net, NodeId, Position, Reader, Request, RequestError, Runtime, ShardId, Signal, StateMachine,
    Writer,
};
use purlin_kv::KvMachine;
use purlin_server::figures::Figures;
use purlin_server::resp::{
    Backend, ClientPort, FrontEnd, FrontEndOptions, Home, ServerInfo, Topology, Value,
    serve_clients,
};
use purlin_tests::{
    resp::{address, request_bytes},
    sim::{self, NetOptions, SimReader, SimRuntime, SimWriter, World, WorldOptions},
};
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet, VecDeque},
    io::{self, BufReader, Read},
    ops::Range,
    rc::Rc,
    time::Duration,
};

const NODE: NodeId = NodeId(1);

/// The longest that a client waits, in simulated time.
const PATIENCE: Duration = Duration::from_secs(20);

/// How many groups there are.
pub(crate) const GROUPS: u32 = 48;

/// How the backend behaves.
#[derive(Clone, Default)]
pub(crate) struct Behaviour {
    /// Groups that answer nothing but this.
    pub(crate) failing: BTreeMap<GroupId, RequestError>,
    /// Groups that have no leader: their requests wait until the connection leaves.
    pub(crate) leaderless: BTreeSet<GroupId>,
    /// When it is not zero, the n-th request of a connection is answered after n times this, whether the
    /// connection takes its answers or not.
    pub(crate) pace: Duration,
    /// Draws the order in which groups answer.
    pub(crate) seed: u64,
    pub(crate) seen: Rc<Seen>,
    /// Who serves the group that is asked for, one answer after the other; at last this shard does.
    pub(crate) homes: Rc<RefCell<VecDeque<Home>>>,
    /// Whether this shard leads no group.
    pub(crate) leads_nothing: bool,
}

/// What the backends of all connections hold.
#[derive(Default)]
pub(crate) struct Seen {
    /// Requests that wait for a leader.
    pub(crate) leaderless: Cell<usize>,
    /// How often a backend was asked for all facts.
    pub(crate) infos: Cell<usize>,
    /// The longest that the answers were together which one connection did not take, in bytes.
    pub(crate) answers_max: Cell<usize>,
}

/// A world with nothing but a front end.
pub(crate) struct TestServer {
    world: Rc<World>,
}

impl TestServer {
    /// The port that the front end believes to be at.
    pub(crate) const PORT: u16 = 6379;

    pub(crate) fn start() -> Self {
        Self::with(Behaviour::default(), |_| {})
    }

    pub(crate) fn with(
        behaviour: Behaviour,
        change: impl Fn(&mut FrontEndOptions) + Clone + 'static,
    ) -> Self {
        // A client that sends its whole pipeline before it reads needs sockets that hold the replies.
        let net = NetOptions { pipe_bytes: 4 << 20, ..NetOptions::default() };
        let options = WorldOptions { nodes: 1, net, ..WorldOptions::default() };
        let world = Rc::new(World::new(behaviour.seed, options));
        let listens = Rc::new(Cell::new(false));
        let told = Rc::clone(&listens);
        world.start(NODE, 1, move |runtime| {
            serve(runtime, behaviour.clone(), change.clone(), Rc::clone(&told))
        });
        assert_eq!(world.run_until(PATIENCE, || listens.get()), sim::Outcome::Reached);
        Self { world }
    }

    /// What a task from outside runs on.
    pub(crate) fn runtime(&self) -> SimRuntime {
        self.world.outside()
    }

    /// Runs a task to its end.
    pub(crate) fn run<T: 'static>(&self, task: impl Future<Output = T> + 'static) -> T {
        run_until_done(&self.world, task)
    }

    pub(crate) fn client(&self) -> Client {
        let runtime = self.world.outside();
        let connected = run_until_done(&self.world, async move {
            runtime.net().connect(&address(NODE, ShardId(0))).await
        });
        let (reader, writer) = connected.expect("the server accepts");
        let input = Input { world: Rc::clone(&self.world), reader: Some(reader) };
        Client { reader: BufReader::new(input), writer: Some(writer), queued: Vec::new() }
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        // A second panic while the test unwinds would hide the first.
        assert!(std::thread::panicking() || self.world.panics().is_empty(), "the server panicked");
    }
}

/// Runs the world until a task from outside has ended, and gives what it gave.
fn run_until_done<T: 'static>(world: &World, task: impl Future<Output = T> + 'static) -> T {
    let end = Rc::new(RefCell::new(None));
    let given = Rc::clone(&end);
    world.outside().spawn(async move {
        let outcome = task.await;
        *given.borrow_mut() = Some(outcome);
    });
    let outcome = world.run_until(PATIENCE, || end.borrow().is_some());
    assert_eq!(outcome, sim::Outcome::Reached, "{:?}", world.panics());
    end.take().expect("it was reached")
}

/// A blocking client.
pub(crate) struct Client {
    reader: BufReader<Input>,
    /// Nothing once the client has said that it has no more to say.
    writer: Option<SimWriter>,
    /// What was queued and not sent.
    queued: Vec<u8>,
}

/// What comes over a connection.
struct Input {
    world: Rc<World>,
    /// Not there while a task reads from it.
    reader: Option<SimReader>,
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut reader = self.reader.take().expect("no task reads");
        let mut bytes = vec![0; buffer.len()];
        let (reader, bytes, len) = run_until_done(&self.world, async move {
            let len = reader.read(&mut bytes).await;
            (reader, bytes, len)
        });
        self.reader = Some(reader);
        let len = len?;
        buffer[..len].copy_from_slice(&bytes[..len]);
        Ok(len)
    }
}

impl Client {
    /// Sends one command and waits for its reply.
    pub(crate) fn command<A: AsRef<[u8]>>(&mut self, words: &[A]) -> io::Result<Value> {
        self.queue(words);
        self.send()?;
        self.read_reply()
    }

    /// Sends commands in one go, and gives their replies.
    pub(crate) fn pipeline<A: AsRef<[u8]>>(
        &mut self,
        commands: &[Vec<A>],
    ) -> io::Result<Vec<Value>> {
        commands.iter().for_each(|words| self.queue(words));
        self.send()?;
        commands.iter().map(|_| self.read_reply()).collect()
    }

    /// Puts a command where `send` takes it from.
    pub(crate) fn queue<A: AsRef<[u8]>>(&mut self, words: &[A]) {
        self.queue_bytes(&request_bytes(words));
    }

    /// Puts bytes where `send` takes them from, requests or not.
    pub(crate) fn queue_bytes(&mut self, bytes: &[u8]) {
        self.queued.extend(bytes);
    }

    /// Sends what was queued.
    pub(crate) fn send(&mut self) -> io::Result<()> {
        let mut writer = self.writer.take().expect("it was not finished");
        let bytes = std::mem::take(&mut self.queued);
        let (writer, sent) = run_until_done(&self.reader.get_ref().world, async move {
            let sent = writer.write_all(&bytes).await;
            (writer, sent)
        });
        self.writer = Some(writer);
        sent
    }

    /// Says that no command will come any more; replies that are due still come.
    pub(crate) fn finish(&mut self) {
        self.writer = None;
    }

    /// Waits for the next reply.
    pub(crate) fn read_reply(&mut self) -> io::Result<Value> {
        Value::read(&mut self.reader)
    }
}

async fn serve(
    runtime: SimRuntime,
    behaviour: Behaviour,
    change: impl Fn(&mut FrontEndOptions),
    listens: Rc<Cell<bool>>,
) {
    let listener = runtime.net().listen(&address(NODE, ShardId(0))).await.expect("a free port");
    listens.set(true);
    let mut options = FrontEndOptions::new(GROUPS, TestServer::PORT);
    change(&mut options);
    let front = FrontEnd::new(options);
    let (groups, on) = (Groups::default(), runtime.clone());
    let is_of_shard = front.options().shard_port != 0;
    let port = if is_of_shard { ClientPort::Shard } else { ClientPort::Gateway };
    let backend = move || MemoryBackend::new(on.clone(), Rc::clone(&groups), behaviour.clone());
    serve_clients(runtime, front, listener, port, backend).await;
}

/// One connection's way to machines of its own.
pub(crate) fn backend(runtime: SimRuntime, behaviour: Behaviour) -> impl Backend {
    MemoryBackend::new(runtime, Groups::default(), behaviour)
}

type Groups = Rc<RefCell<BTreeMap<GroupId, KvMachine>>>;

/// One connection's way to machines in memory. Requests to one group take effect in order; those to
/// different groups in any.
struct MemoryBackend(Rc<Held>);

/// Is told of the bytes of the answers that wait.
type Watcher = Box<dyn Fn(usize)>;

/// What a shard has of one connection. It stays when the connection goes, as in a shard.
struct Held {
    runtime: SimRuntime,
    groups: Groups,
    behaviour: Behaviour,
    random: Cell<u64>,
    /// How many requests came.
    requests: Cell<u32>,
    /// Requests that were submitted and not executed, by group.
    queues: RefCell<BTreeMap<GroupId, Vec<(Request, u64)>>>,
    /// Requests that wait for a leader.
    leaderless: RefCell<Vec<u64>>,
    has_left: Cell<bool>,
    /// Whether the connection is gone: what its requests bring is dropped.
    is_gone: Cell<bool>,
    /// Queries that are due, and whose answers the connection does not want now.
    unwanted: RefCell<Vec<(GroupId, Request, u64)>>,
    wanted: RefCell<Option<Range<u64>>>,
    done: RefCell<Vec<Completion>>,
    done_bytes: Cell<usize>,
    watcher: RefCell<Option<Watcher>>,
    news: Signal,
}

impl MemoryBackend {
    fn new(runtime: SimRuntime, groups: Groups, behaviour: Behaviour) -> Self {
        Self(Rc::new(Held {
            runtime,
            groups,
            random: Cell::new(behaviour.seed),
            behaviour,
            requests: Cell::default(),
            queues: RefCell::default(),
            leaderless: RefCell::default(),
            has_left: Cell::default(),
            is_gone: Cell::default(),
            unwanted: RefCell::default(),
            wanted: RefCell::default(),
            done: RefCell::default(),
            done_bytes: Cell::default(),
            watcher: RefCell::default(),
            news: Signal::default(),
        }))
    }
}

impl Held {
    fn execute(&self, group: GroupId, request: &Request) -> purlin::Outcome {
        if let Some(error) = self.behaviour.failing.get(&group) {
            return Err(error.clone());
        }
        let mut groups = self.groups.borrow_mut();
        let machine = groups.entry(group).or_insert_with(|| KvMachine::new(ClusterId(1), group));
        match request {
            Request::Query(query) => Ok(machine.query(query)),
            Request::Propose(data) => {
                let command = Command {
                    id: EntryId::default(),
                    position: Position::default(),
                    data: data.clone(),
                };
                let mut outcomes = Vec::new();
                machine.apply(
                    &ApplyContext { group, epoch: GroupEpoch::FIRST },
                    &[command],
                    &mut outcomes,
                );
                Ok(outcomes.remove(0))
            }
        }
    }

    /// A request is due whose answer does not wait for the connection, unless it is a query that the connection
    /// does not want to be answered now.
    fn answer(&self, group: GroupId, request: Request, tag: u64) {
        let is_wanted = self.wanted.borrow().as_ref().is_none_or(|wanted| wanted.contains(&tag));
        if !is_wanted && matches!(request, Request::Query(_)) {
            return self.unwanted.borrow_mut().push((group, request, tag));
        }
        self.complete(tag, self.execute(group, &request));
    }

    fn complete(&self, tag: u64, outcome: purlin::Outcome) {
        if self.is_gone.get() {
            return;
        }
        let bytes = self.done_bytes.get() + outcome.as_ref().map_or(0, Bytes::len);
        self.done.borrow_mut().push(Completion { tag, outcome });
        self.note_done(bytes);
        self.news.raise();
    }

    fn note_done(&self, bytes: usize) {
        self.done_bytes.set(bytes);
        let most = &self.behaviour.seen.answers_max;
        most.set(most.get().max(bytes));
        if let Some(tell) = &*self.watcher.borrow() {
            tell(bytes);
        }
    }

    fn note_leaderless(&self, more: usize, fewer: usize) {
        let all = &self.behaviour.seen.leaderless;
        all.set(all.get() + more - fewer);
    }

    /// One of `len`, as the seed wants it.
    fn draw(&self, len: usize) -> usize {
        let next = self.random.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        self.random.set(next);
        (next >> 33) as usize % len
    }
}

impl Drop for MemoryBackend {
    fn drop(&mut self) {
        self.0.is_gone.set(true);
    }
}

impl Backend for MemoryBackend {
    fn submit(&self, group: GroupId, request: Request, tag: u64) {
        let held = &self.0;
        if held.behaviour.leaderless.contains(&group) {
            if held.has_left.get() {
                return held.complete(tag, Err(RequestError::NoLeader { waited_ms: 0 }));
            }
            held.note_leaderless(1, 0);
            return held.leaderless.borrow_mut().push(tag);
        }
        if held.behaviour.pace.is_zero() {
            held.queues.borrow_mut().entry(group).or_default().push((request, tag));
            return held.news.raise();
        }
        held.requests.set(held.requests.get() + 1);
        let after = held.behaviour.pace * held.requests.get();
        let held = Rc::clone(held);
        self.0.runtime.spawn(async move {
            held.runtime.sleep(after).await;
            held.answer(group, request, tag);
        });
    }

    /// All that one group has, and the first of another.
    fn take_completions(&self, into: &mut Vec<Completion>) {
        let held = &self.0;
        into.append(&mut held.done.borrow_mut());
        held.note_done(0);
        for takes_all in [true, false] {
            let mut queues = held.queues.borrow_mut();
            if queues.is_empty() {
                return;
            }
            let group = *queues.keys().nth(held.draw(queues.len())).expect("one of them");
            let queue = queues.get_mut(&group).expect("it was just there");
            let end = if takes_all { queue.len() } else { 1 };
            for (request, tag) in queue.drain(..end) {
                into.push(Completion { tag, outcome: held.execute(group, &request) });
            }
            if queue.is_empty() {
                queues.remove(&group);
            }
        }
    }

    async fn completed(&self) {
        let held = &self.0;
        while held.queues.borrow().is_empty() && held.done.borrow().is_empty() {
            held.news.wait().await;
        }
    }

    fn watch_answers(&self, tell: impl Fn(usize) + 'static) {
        self.0.watcher.replace(Some(Box::new(tell)));
    }

    fn answer_only(&self, tags: Option<Range<u64>>) {
        self.0.wanted.replace(tags);
        for (group, request, tag) in self.0.unwanted.take() {
            self.0.answer(group, request, tag);
        }
    }

    fn leave(&self) {
        let held = &self.0;
        held.has_left.set(true);
        let waiting = held.leaderless.take();
        held.note_leaderless(0, waiting.len());
        for tag in waiting {
            held.complete(tag, Err(RequestError::NoLeader { waited_ms: 0 }));
        }
    }

    fn replicas(&self) -> u32 {
        3
    }

    fn has_requests(&self, group: GroupId) -> bool {
        let held = &self.0;
        let waits = held.behaviour.leaderless.contains(&group);
        waits && !held.leaderless.borrow().is_empty() || held.queues.borrow().contains_key(&group)
    }

    fn home(&self, _: GroupId) -> Home {
        self.0.behaviour.homes.borrow_mut().pop_front().unwrap_or(Home::Here)
    }

    fn leads(&self, _: GroupId) -> bool {
        !self.0.behaviour.leads_nothing
    }

    fn topology(&self, _: u32) -> Topology {
        unreachable!("nothing here asks who leads which slots")
    }

    fn info(&self) -> ServerInfo {
        let infos = &self.0.behaviour.seen.infos;
        infos.set(infos.get() + 1);
        ServerInfo {
            process: 4_711,
            node: NodeId(1),
            cluster: "test".into(),
            admin: "127.0.0.1:7098".into(),
            nodes: 3,
            replicas: 3,
            shards: 1,
            is_ready: true,
            leads: (1..=GROUPS).map(purlin::GroupId).collect(),
            groups: GroupCounts { leading: GROUPS, ..GroupCounts::default() },
            entry_bytes: Level::default(),
            data_bytes: Level::default(),
            figures: Figures::default(),
            uptime: Duration::from_secs(90_000),
        }
    }
}
