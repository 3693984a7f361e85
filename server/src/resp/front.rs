//! What all client connections of a shard share: limits, settings, and who is connected.

use super::{
    budget::{Budget, Holding},
    parser::RequestLimits,
    reply::Protocol,
    ring::RingLimits,
};
use purlin::Signal;
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    time::Duration,
};

/// How a shard's front end serves its clients.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FrontEndOptions {
    /// How many user groups the cluster has: with it a key leads to its group.
    pub groups: u32,
    /// The port of the gateway, which serves the keys of all groups.
    pub port: u16,
    /// The port of this shard, which serves the keys of the groups that the shard leads; 0 for none.
    pub shard_port: u16,
    /// This shard's number, and how many shards of this node serve clients: so that the ids that
    /// connections get are unique on the node.
    pub shard: u16,
    /// See `shard`.
    pub shards: u16,
    /// How many connections this shard keeps. One more is told so and closed.
    pub clients_max: usize,
    /// What a request may cost at most.
    pub request: RequestLimits,
    /// How many requests of one connection may wait for their reply. It is not read from meanwhile.
    pub pipeline_max: usize,
    /// The same in bytes of replies that wait for the client to take them.
    pub output_bytes_max: usize,
    /// Bytes of requests that are read though no more requests are taken in. A request that is longer is read
    /// all the same.
    pub query_bytes_max: usize,
    /// What all connections of the shard hold together, in bytes. When it is more, the one that holds the most is
    /// closed.
    pub memory_max: usize,
    /// A client that takes less than [`WRITE_PIECE_BYTES`] of the replies that wait for it in this time
    /// is disconnected.
    pub write_deadline: Duration,
}

impl FrontEndOptions {
    /// Default limits, for a cluster of `groups` user groups, at `port`.
    pub fn new(groups: u32, port: u16) -> Self {
        Self {
            groups,
            port,
            shard_port: 0,
            shard: 0,
            shards: 1,
            clients_max: 10_000,
            request: RequestLimits::default(),
            pipeline_max: 1_024,
            output_bytes_max: 16 << 20,
            query_bytes_max: 16 << 20,
            memory_max: 256 << 20,
            write_deadline: Duration::from_secs(60),
        }
    }
}

/// A port that clients connect to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClientPort {
    /// The gateway of a node serves every key, wherever it is led. The shards of the node share it.
    Gateway,
    /// The port of one shard serves the keys of the groups that the shard leads. Who asks there for a key that
    /// another shard leads is told where that shard is, as Redis Cluster does it.
    Shard,
}

/// Replies are written in pieces of so many bytes, each within the write deadline.
pub const WRITE_PIECE_BYTES: usize = 64 << 10;

/// What all client connections of a shard share.
pub struct FrontEnd {
    options: FrontEndOptions,
    clients: RefCell<BTreeMap<u64, Rc<ClientState>>>,
    connections: Cell<u64>,
    commands: Cell<u64>,
    logged_at: Cell<Option<Duration>>,
    budget: Budget,
    is_stopping: Cell<bool>,
    /// To the tasks that accept, one for each port: the front end stops.
    stop: [Signal; 2],
    /// To the task that stops the front end: the last client has gone.
    gone: Signal,
}

impl FrontEnd {
    /// A front end that nobody is connected to yet.
    pub fn new(options: FrontEndOptions) -> Rc<Self> {
        assert!((1..=16_384).contains(&options.groups), "{options:?}");
        assert!(options.shard < options.shards, "{options:?}");
        assert!(options.pipeline_max > 0 && options.output_bytes_max > 0, "{options:?}");
        Rc::new(Self {
            budget: Budget::new(options.memory_max),
            options,
            clients: RefCell::default(),
            connections: Cell::new(0),
            commands: Cell::new(0),
            logged_at: Cell::new(None),
            is_stopping: Cell::new(false),
            stop: Default::default(),
            gone: Signal::default(),
        })
    }

    /// How it serves.
    pub fn options(&self) -> &FrontEndOptions {
        &self.options
    }

    /// The number of a port.
    pub(super) fn number_of(&self, port: ClientPort) -> u16 {
        match port {
            ClientPort::Gateway => self.options.port,
            ClientPort::Shard => self.options.shard_port,
        }
    }

    /// What its connections may hold, and hold.
    pub(super) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// How many bytes of requests a connection reads, before it stops because none of them can be taken in: a
    /// whole request in any case.
    pub(super) fn query_bytes_max(&self) -> usize {
        self.options.query_bytes_max.max(self.options.request.request_bytes_max)
    }

    /// How many clients are connected now.
    pub fn clients(&self) -> usize {
        self.clients.borrow().len()
    }

    /// How many connections there have been.
    pub fn connections(&self) -> u64 {
        self.connections.get()
    }

    /// How many commands have been read.
    pub fn commands(&self) -> u64 {
        self.commands.get()
    }

    /// From now on no client is accepted, and no request taken in. The replies that are due are written, and returns
    /// when all clients have gone.
    pub(super) async fn stop(&self) {
        self.is_stopping.set(true);
        self.stop.iter().for_each(Signal::raise);
        self.clients.borrow().values().for_each(|client| client.stop.raise());
        while self.clients() > 0 {
            self.gone.wait().await;
        }
    }

    /// Whether no request is taken in any more.
    pub(super) fn is_stopping(&self) -> bool {
        self.is_stopping.get()
    }

    /// Returns when no client is to be accepted at `port` any more. For one task of each port.
    pub(super) async fn stops(&self, port: ClientPort) {
        while !self.is_stopping() {
            self.stop[port as usize].wait().await;
        }
    }

    /// Takes in a connection that was made at `now`; nothing when there are too many.
    pub(super) fn connect(&self, now: Duration) -> Option<Rc<ClientState>> {
        if self.clients() >= self.options.clients_max {
            return None;
        }
        let number = self.connections.get();
        self.connections.set(number + 1);
        let id = number * u64::from(self.options.shards) + u64::from(self.options.shard) + 1;
        let client = Rc::new(ClientState::new(id, now, self.budget.join(id)));
        self.clients.borrow_mut().insert(id, Rc::clone(&client));
        Some(client)
    }

    pub(super) fn disconnect(&self, client: &ClientState) {
        self.clients.borrow_mut().remove(&client.id);
        self.budget.forget(&client.holding);
        self.gone.raise();
    }

    pub(super) fn count_command(&self) {
        self.commands.set(self.commands.get() + 1);
    }

    /// Whether what a client did may be logged at `now`: once a second, so that no client can fill
    /// the log.
    pub(super) fn may_log(&self, now: Duration) -> bool {
        const PAUSE: Duration = Duration::from_secs(1);
        if self.logged_at.get().is_some_and(|at| now.saturating_sub(at) < PAUSE) {
            return false;
        }
        self.logged_at.set(Some(now));
        true
    }

    pub(super) fn ring_limits(&self) -> RingLimits {
        RingLimits {
            requests_max: self.options.pipeline_max,
            bytes_max: self.options.output_bytes_max,
        }
    }

    /// What `CLIENT LIST` says at `now`: the clients of this shard, a line each.
    pub(super) fn client_list(&self, now: Duration) -> String {
        self.clients.borrow().values().map(|client| client.describe(now)).collect()
    }

    /// What `CONFIG GET` knows. The two that Redis' tools ask for, and that have no meaning here,
    /// are empty: everything acknowledged is durable on a majority.
    pub(super) fn settings(&self, port: ClientPort) -> Vec<(&'static str, String)> {
        let options = &self.options;
        vec![
            ("appendonly", String::new()),
            ("client-query-buffer-limit", self.query_bytes_max().to_string()),
            ("databases", "1".into()),
            ("maxclients", options.clients_max.to_string()),
            // Of the whole node: asked of it when it is wanted.
            ("maxmemory", String::new()),
            ("maxmemory-clients", options.memory_max.to_string()),
            ("maxmemory-policy", "noeviction".into()),
            ("port", self.number_of(port).to_string()),
            ("proto-max-bulk-len", options.request.bulk_bytes_max.to_string()),
            ("purlin-groups", options.groups.to_string()),
            ("purlin-max-command", options.request.max_command().to_string()),
            ("purlin-max-request", options.request.request_bytes_max.to_string()),
            ("purlin-output-buffer", options.output_bytes_max.to_string()),
            ("purlin-pipeline-max", options.pipeline_max.to_string()),
            ("save", String::new()),
        ]
    }
}

/// What is known of one connection.
pub(super) struct ClientState {
    pub(super) id: u64,
    pub(super) protocol: Cell<Protocol>,
    pub(super) name: RefCell<String>,
    pub(super) library: RefCell<String>,
    pub(super) library_version: RefCell<String>,
    /// The latest command; a subcommand behind its container.
    pub(super) command: Cell<(Option<&'static str>, &'static str)>,
    /// Its `MULTI` was refused, and neither `EXEC`, `DISCARD` nor `RESET` has come since.
    pub(super) has_refused_multi: Cell<bool>,
    connected_at: Duration,
    pub(super) active_at: Cell<Duration>,
    /// The memory that it holds.
    pub(super) holding: Rc<Holding>,
    /// To its reader: no request is to be taken in any more.
    pub(super) stop: Signal,
}

impl ClientState {
    fn new(id: u64, now: Duration, holding: Rc<Holding>) -> Self {
        Self {
            id,
            protocol: Cell::default(),
            name: RefCell::default(),
            library: RefCell::default(),
            library_version: RefCell::default(),
            command: Cell::new((None, "NULL")),
            has_refused_multi: Cell::new(false),
            connected_at: now,
            active_at: Cell::new(now),
            holding,
            stop: Signal::default(),
        }
    }

    /// Forgets what the connection has said of itself, as `RESET` wants it.
    pub(super) fn reset(&self) {
        self.protocol.set(Protocol::default());
        self.name.borrow_mut().clear();
        self.has_refused_multi.set(false);
    }

    /// A line as `CLIENT LIST` has it, with its end. Addresses are not known here.
    pub(super) fn describe(&self, now: Duration) -> String {
        let protocol = match self.protocol.get() {
            Protocol::Resp2 => 2,
            Protocol::Resp3 => 3,
        };
        let (container, command) = self.command.get();
        let container = container.map(|name| format!("{name}|")).unwrap_or_default();
        let (input, replies) = self.holding.parts();
        format!(
            "id={} name={} age={} idle={} flags=N db=0 qbuf={input} omem={replies} tot-mem={} \
             cmd={container}{command} user=default lib-name={} lib-ver={} resp={protocol}\n",
            self.id,
            self.name.borrow(),
            now.saturating_sub(self.connected_at).as_secs(),
            now.saturating_sub(self.active_at.get()).as_secs(),
            input + replies,
            self.library.borrow(),
            self.library_version.borrow(),
        )
    }
}
