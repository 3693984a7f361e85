//! A front end on a thread of its own, over real sockets, before a backend without raft: each group
//! is a machine in memory, and groups answer in any order.

mod runtime;

pub(crate) use runtime::TcpRuntime;

use purlin::{
    ApplyContext, Command, Completion, EntryId, GroupEpoch, GroupId, Net, NodeId, Outcome,
    Position, Request, RequestError, Runtime, StateMachine,
};
use purlin_kv::KvMachine;
use purlin_server::resp::{
    Backend, FrontEnd, FrontEndOptions, RespClient, ServerInfo, serve_clients,
};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::poll_fn,
    os::unix::net::UnixStream,
    rc::Rc,
    sync::mpsc,
    task::{Poll, Waker},
    thread::JoinHandle,
    time::Duration,
};

/// How many groups there are.
pub(crate) const GROUPS: u32 = 48;

/// How the backend behaves.
#[derive(Clone, Default)]
pub(crate) struct Behaviour {
    /// Groups that answer nothing but this.
    pub(crate) failing: BTreeMap<GroupId, RequestError>,
    /// Draws the order in which groups answer.
    pub(crate) seed: u64,
}

/// A front end on a thread of its own. It ends when this is dropped.
pub(crate) struct TestServer {
    /// Where it listens, at 127.0.0.1.
    pub(crate) port: u16,
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl TestServer {
    pub(crate) fn start() -> Self {
        Self::with(Behaviour::default(), |_| {})
    }

    pub(crate) fn with(behaviour: Behaviour, change: fn(&mut FrontEndOptions)) -> Self {
        let (stop, stopped) = UnixStream::pair().expect("a socket pair");
        let (tell, port) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = TcpRuntime::new();
            let main = serve(runtime.clone(), behaviour, change, tell);
            runtime.run(main, stopped);
        });
        let port = port.recv().expect("the server listens");
        Self { port, stop: Some(stop), thread: Some(thread) }
    }

    pub(crate) fn client(&self) -> RespClient {
        let timeout = Duration::from_secs(20);
        RespClient::connect(("127.0.0.1", self.port), timeout).expect("the server accepts")
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().expect("it was started").join();
        // A second panic while the test unwinds would hide the first.
        assert!(ended.is_ok() || std::thread::panicking(), "the server panicked");
    }
}

async fn serve(
    runtime: TcpRuntime,
    behaviour: Behaviour,
    change: fn(&mut FrontEndOptions),
    tell: mpsc::Sender<u16>,
) {
    let listener = runtime.net().listen("127.0.0.1:0").await.expect("a free port");
    let port = purlin::Listener::port(&listener);
    tell.send(port).expect("the test waits");
    let mut options = FrontEndOptions::new(GROUPS, port);
    change(&mut options);
    let front = FrontEnd::new(options);
    let groups = Groups::default();
    let backend = move || MemoryBackend::new(Rc::clone(&groups), behaviour.clone());
    serve_clients(runtime, front, listener, backend).await;
}

type Groups = Rc<RefCell<BTreeMap<GroupId, KvMachine>>>;

/// One connection's way to machines in memory. Requests to one group take effect in order; those to
/// different groups in any.
struct MemoryBackend {
    groups: Groups,
    behaviour: Behaviour,
    random: Cell<u64>,
    /// Requests that were submitted and not executed, by group.
    queues: RefCell<BTreeMap<GroupId, Vec<(Request, u64)>>>,
    waiter: RefCell<Option<Waker>>,
}

impl MemoryBackend {
    fn new(groups: Groups, behaviour: Behaviour) -> Self {
        let random = Cell::new(behaviour.seed);
        let (queues, waiter) = Default::default();
        Self { groups, behaviour, random, queues, waiter }
    }

    fn execute(&self, group: GroupId, request: &Request) -> Outcome {
        if let Some(error) = self.behaviour.failing.get(&group) {
            return Err(error.clone());
        }
        let mut groups = self.groups.borrow_mut();
        let machine = groups.entry(group).or_default();
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

    /// One of `len`, as the seed wants it.
    fn draw(&self, len: usize) -> usize {
        let next = self.random.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        self.random.set(next);
        (next >> 33) as usize % len
    }
}

impl Backend for MemoryBackend {
    fn submit(&self, group: GroupId, request: Request, tag: u64) {
        self.queues.borrow_mut().entry(group).or_default().push((request, tag));
        if let Some(waiter) = self.waiter.borrow_mut().take() {
            waiter.wake();
        }
    }

    /// All that one group has, and the first of another.
    fn take_completions(&self, into: &mut Vec<Completion>) {
        for takes_all in [true, false] {
            let mut queues = self.queues.borrow_mut();
            if queues.is_empty() {
                return;
            }
            let group = *queues.keys().nth(self.draw(queues.len())).expect("one of them");
            let queue = queues.get_mut(&group).expect("it was just there");
            let end = if takes_all { queue.len() } else { 1 };
            for (request, tag) in queue.drain(..end) {
                into.push(Completion { tag, outcome: self.execute(group, &request) });
            }
            if queue.is_empty() {
                queues.remove(&group);
            }
        }
    }

    async fn completed(&self) {
        poll_fn(|context| {
            if !self.queues.borrow().is_empty() {
                return Poll::Ready(());
            }
            *self.waiter.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn info(&self) -> ServerInfo {
        ServerInfo {
            process: std::process::id(),
            node: NodeId(1),
            cluster: "test".into(),
            admin: "127.0.0.1:7098".into(),
            nodes: 3,
            replicas: 3,
            shards: 1,
            leads: (1..=GROUPS).map(purlin::GroupId).collect(),
            groups_without_leader: 0,
            entries_applied: 0,
            uptime: Duration::from_secs(90_000),
        }
    }
}
