//! The network behind the `Net` seam: the listeners, the links that are cut, and the speed of each
//! link. What is lost in a cut is sent again as Linux does it, unless the seam states another bound.
//!
//! Node `n` has the host names `n<n>` and `10.0.<n / 256>.<n % 256>`; `127.0.0.1` and `localhost` are
//! the node itself. What a connection does is told in `connection`.

use super::{
    clock::Sleep,
    connection::{self, Connection, End, HowEnded, Shared, Side},
    device::Descriptors,
    executor::Process,
    random::{Latency, Random},
    world::{Core, Event},
};
use purlin_rsm::NodeId;
use purlin_transport::{CONNECT_MAX, Listener, Net, Reader, Writer};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, VecDeque},
    future::poll_fn,
    io::{self, ErrorKind},
    net::IpAddr,
    ops::Range,
    rc::{Rc, Weak},
    task::{Poll, Waker},
    time::Duration,
};

/// How the network behaves.
#[derive(Clone, Debug)]
pub struct NetOptions {
    /// Each link has a latency of its own, drawn once from this range.
    pub link: Range<Duration>,
    /// What comes on top for each segment. A spike is a loss, since TCP sends again.
    pub jitter: Latency,
    /// The time that 1,000 bytes take.
    pub time_per_kilobyte: Duration,
    /// How often a bit of a segment flips on its way, past TCP's checksum.
    pub flip_chance: f64,
    /// Bytes of one direction of a connection that are sent and not yet read.
    pub pipe_bytes: usize,
    /// When a way is no longer slow, it takes up to this time until the sender tries again.
    pub retransmit_max: Duration,
    /// How long a connect waits for an answer, but for [`purlin_transport::CONNECT_MAX`] between nodes.
    pub connect_timeout: Duration,
}

impl Default for NetOptions {
    fn default() -> Self {
        Self {
            link: Duration::from_micros(50)..Duration::from_micros(500),
            jitter: Latency::steady(Duration::ZERO, Duration::from_micros(30))
                .with_spikes(0.001, Duration::from_millis(250)),
            time_per_kilobyte: Duration::from_nanos(1_000),
            flip_chance: 0.0,
            pipe_bytes: 256 << 10,
            retransmit_max: Duration::from_millis(400),
            connect_timeout: Duration::from_secs(3),
        }
    }
}

/// What ails the way from one node to another for a while.
#[derive(Clone, Copy, Default, Debug)]
pub struct LinkTrouble {
    /// Everything takes so much longer.
    pub delay: Duration,
    /// The time that 1,000 bytes take on top, one after the other.
    pub time_per_kilobyte: Duration,
    /// How often a bit of a segment flips on its way, past TCP's checksum.
    pub flip_chance: f64,
}

/// The network between all nodes.
#[derive(Default)]
pub(crate) struct Network {
    listeners: BTreeMap<(NodeId, u16), Backlog>,
    connections: BTreeMap<u64, Shared>,
    connected: u64,
    cut: BTreeSet<(NodeId, NodeId)>,
    links: BTreeMap<(NodeId, NodeId), Duration>,
    troubles: BTreeMap<(NodeId, NodeId), LinkTrouble>,
    /// By dialler and dialled node: the node that is reached instead.
    crossed: BTreeMap<(NodeId, NodeId), NodeId>,
    /// The nodes whose name server does not answer.
    nameless: BTreeSet<NodeId>,
    /// The nodes that a process has found by name: what it found last stays known to it.
    found: BTreeSet<(Process, NodeId)>,
    /// Bytes that have arrived, by sender and receiver.
    delivered: BTreeMap<[NodeId; 2], u64>,
}

/// The connections that wait for a listener.
struct Backlog {
    process: Process,
    between_nodes: bool,
    waiting: VecDeque<(SimReader, SimWriter)>,
    acceptor: Option<Waker>,
}

const BACKLOG_MAX: usize = 128;
const EPHEMERAL_PORTS: Range<u16> = 49_152..65_535;

impl Network {
    /// Draws the latencies of the links between `nodes`, so that they do not depend on which node sends
    /// first.
    pub(crate) fn draw_link(&mut self, random: &Random, range: Range<Duration>, nodes: &[NodeId]) {
        for &one in nodes {
            for &two in nodes {
                let latency = random.duration(range.clone());
                self.links.insert((one.min(two), one.max(two)), latency);
            }
        }
    }

    pub(crate) fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        !self.cut.is_empty() && self.cut.contains(&(from, to))
    }

    /// The time of one segment on its way.
    pub(crate) fn latency(&self, core: &Core, from: NodeId, to: NodeId) -> Duration {
        if from == to {
            return Duration::from_micros(10)
                + core.random.net.exponential(Duration::from_micros(5));
        }
        let link = self.links.get(&(from.min(to), from.max(to)));
        let link = link.copied().unwrap_or(core.options.net.link.start);
        let delay = self.trouble(from, to).map_or(Duration::ZERO, |trouble| trouble.delay);
        link + delay + core.options.net.jitter.draw(&core.random.net)
    }

    /// What ails the way between two nodes, if anything does.
    pub(crate) fn trouble(&self, from: NodeId, to: NodeId) -> Option<LinkTrouble> {
        if self.troubles.is_empty() { None } else { self.troubles.get(&(from, to)).copied() }
    }

    pub(crate) fn cross(&mut self, from: NodeId, to: NodeId, instead: Option<NodeId>) {
        match instead {
            Some(instead) => self.crossed.insert((from, to), instead),
            None => self.crossed.remove(&(from, to)),
        };
    }

    /// Whether the names that `node` looks up stand still.
    pub(crate) fn silence_names(&mut self, node: NodeId, is_silent: bool) {
        if is_silent {
            self.nameless.insert(node);
        } else {
            self.nameless.remove(&node);
        }
    }

    /// Cuts what goes `from` one node `to` another.
    pub(crate) fn cut(&mut self, from: NodeId, to: NodeId) {
        if from != to {
            self.cut.insert((from, to));
        }
    }

    /// Bytes have arrived from one node at another.
    pub(crate) fn count(&mut self, ends: [NodeId; 2], bytes: usize) {
        *self.delivered.entry(ends).or_default() += bytes as u64;
    }

    /// How many have, in all.
    pub(crate) fn delivered(&self, from: NodeId, to: NodeId) -> u64 {
        self.delivered.get(&[from, to]).copied().unwrap_or_default()
    }

    fn between(&self, matches: impl Fn(&Connection) -> bool) -> Vec<Shared> {
        let all = self.connections.values();
        all.filter(|connection| matches(&connection.borrow())).cloned().collect()
    }

    fn forget_finished(&mut self) {
        self.connections.retain(|_, connection| !connection.borrow().is_over());
    }

    fn free_port(&self, node: NodeId) -> Option<u16> {
        EPHEMERAL_PORTS.into_iter().find(|&port| !self.listeners.contains_key(&(node, port)))
    }
}

/// All cuts are healed, or those between two nodes.
pub(crate) fn heal(core: &Rc<Core>, nodes: Option<(NodeId, NodeId)>) {
    let healed: Vec<_> = {
        let mut network = core.network.borrow_mut();
        let concerned = |&(from, to): &(NodeId, NodeId)| {
            nodes.is_none_or(|(one, two)| (from, to) == (one, two) || (from, to) == (two, one))
        };
        let cut = std::mem::take(&mut network.cut);
        let (healed, kept): (BTreeSet<_>, BTreeSet<_>) = cut.into_iter().partition(concerned);
        network.cut = kept;
        network.between(|connection| healed.iter().any(|&(from, to)| connection.joins(from, to)))
    };
    for connection in healed {
        connection::resume(core, &connection);
    }
}

/// From now on the way from one node to another is so. Without trouble what is on its way, and was slow,
/// is so no more: TCP sends it again.
pub(crate) fn trouble(core: &Rc<Core>, from: NodeId, to: NodeId, trouble: Option<LinkTrouble>) {
    let slowed = {
        let mut network = core.network.borrow_mut();
        let before = match trouble {
            Some(trouble) => network.troubles.insert((from, to), trouble),
            None => network.troubles.remove(&(from, to)),
        };
        let is_over = before.is_some() && trouble.is_none();
        if is_over { network.between(|it| it.joins(from, to)) } else { Vec::new() }
    };
    for connection in slowed {
        connection::hasten(core, &connection, from);
    }
}

/// Breaks every connection between two nodes: each end learns at once, later, or when it writes.
pub(crate) fn reset(core: &Rc<Core>, one: NodeId, two: NodeId) {
    let broken = core.network.borrow().between(|connection| connection.joins(one, two));
    core.count(|figures| figures.resets += broken.len() as u64);
    for connection in broken {
        connection.borrow_mut().break_off();
        for side in [0, 1] {
            match core.random.net.below(3) {
                0 => connection::fail(&connection, side, ErrorKind::ConnectionReset),
                1 => connection::send_reset(core, &connection, side),
                _ => {}
            }
        }
    }
    core.network.borrow_mut().forget_finished();
}

/// A process is gone. With power, its kernel closes its connections, and the peers notice. Without power,
/// the peers receive nothing.
pub(crate) fn process_ended(core: &Rc<Core>, process: Process, has_power: bool) {
    let (mut backlogs, connections) = {
        let mut network = core.network.borrow_mut();
        let ports: Vec<_> = network
            .listeners
            .iter()
            .filter_map(|(key, backlog)| (backlog.process == process).then_some(*key))
            .collect();
        let backlogs: Vec<_> = ports.iter().map(|key| network.listeners.remove(key)).collect();
        let concerned = |it: &Connection| it.ends.iter().any(|end| end.process == process);
        network.found.retain(|(other, _)| *other != process);
        (backlogs, network.between(concerned))
    };
    for connection in connections {
        for side in [0, 1] {
            let ended = connection.borrow().ends[side].process == process;
            if ended {
                let told = match core.random.net.below(2) {
                    _ if !has_power => HowEnded::Silence,
                    0 => HowEnded::Finish,
                    _ => HowEnded::Reset,
                };
                connection::abandon(core, &connection, side, told);
            }
        }
    }
    // Their halves' drops come back here.
    backlogs.clear();
    core.network.borrow_mut().forget_finished();
}

/// A process's network.
#[derive(Clone)]
pub struct SimNet {
    core: Weak<Core>,
    process: Process,
    between_nodes: bool,
}

impl SimNet {
    pub(crate) fn new(core: &Rc<Core>, process: Process) -> Self {
        Self { core: Rc::downgrade(core), process, between_nodes: false }
    }

    fn core(&self) -> Rc<Core> {
        self.core.upgrade().expect("tasks end before their world")
    }

    fn resolve(&self, host: &str) -> Option<NodeId> {
        match host {
            "localhost" | "127.0.0.1" | "0.0.0.0" => Some(self.process.node),
            _ => node_of_host(host),
        }
    }

    /// Looks a name up, unless it is known. A look-up stands still for as long as the name server does.
    async fn look_up(&self, host: &str, to: NodeId) {
        const PAUSE: Duration = Duration::from_millis(100);
        let core = self.core();
        let node = self.process.node;
        while host == format!("n{to}")
            && core.network.borrow().nameless.contains(&node)
            && !core.network.borrow().found.contains(&(self.process, to))
        {
            Sleep::new(core.clone(), core.clock.now() + PAUSE).await;
        }
        core.network.borrow_mut().found.insert((self.process, to));
    }

    /// One way of the handshake: false when it did not come through in time.
    async fn travel(&self, from: NodeId, to: NodeId) -> bool {
        let core = self.core();
        let most = core.options.net.connect_timeout;
        let deadline = core.clock.now() + if self.between_nodes { CONNECT_MAX } else { most };
        // As Linux asks again.
        let mut pause = Duration::from_secs(1);
        loop {
            let latency = core.network.borrow().latency(&core, from, to);
            let arrival = core.clock.now() + latency;
            Sleep::new(core.clone(), arrival.min(deadline)).await;
            if arrival > deadline {
                return false;
            }
            if core.is_powered(to) && !core.network.borrow().is_cut(from, to) {
                return true;
            }
            let again = core.clock.now() + pause;
            Sleep::new(core.clone(), again.min(deadline)).await;
            if again >= deadline {
                return false;
            }
            pause *= 2;
        }
    }

    /// Puts a new connection into the listener's backlog.
    fn knock(&self, to: NodeId, port: u16) -> io::Result<(SimReader, SimWriter)> {
        let core = self.core();
        let mut network = core.network.borrow_mut();
        let network = &mut *network;
        let backlog = network.listeners.get_mut(&(to, port)).ok_or(ErrorKind::ConnectionRefused)?;
        if backlog.waiting.len() >= BACKLOG_MAX {
            return Err(ErrorKind::ConnectionRefused.into());
        }
        network.connected += 1;
        let ends = [
            End::new(self.process, self.between_nodes),
            End::new(backlog.process, backlog.between_nodes),
        ];
        let connection = Rc::new(RefCell::new(Connection::new(network.connected, ends)));
        network.connections.insert(network.connected, connection.clone());
        backlog.waiting.push_back(halves(&self.core, &connection, 1));
        if let Some(waker) = backlog.acceptor.take() {
            waker.wake();
        }
        core.trace.event(Event::Connect, u64::from(to.0), u64::from(port));
        Ok(halves(&self.core, &connection, 0))
    }
}

/// The node that a host name of the simulated world names.
fn node_of_host(host: &str) -> Option<NodeId> {
    if let Some(number) = host.strip_prefix('n') {
        return number.parse().ok().map(NodeId);
    }
    let (high, low) = host.strip_prefix("10.0.")?.split_once('.')?;
    let (high, low): (u8, u8) = (high.parse().ok()?, low.parse().ok()?);
    Some(NodeId(u32::from(high) * 256 + u32::from(low)))
}

fn parse_address(address: &str) -> io::Result<(&str, u16)> {
    let parsed = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    parsed.ok_or_else(|| {
        io::Error::new(ErrorKind::InvalidInput, format!("{address} is no address host:port"))
    })
}

impl Net for SimNet {
    type Reader = SimReader;
    type Writer = SimWriter;
    type Listener = SimListener;

    fn between_nodes(&self) -> Self {
        Self { between_nodes: true, ..self.clone() }
    }

    async fn listen(&self, address: &str) -> io::Result<SimListener> {
        let (host, port) = parse_address(address)?;
        let node = self.process.node;
        if self.resolve(host) != Some(node) {
            return Err(ErrorKind::AddrNotAvailable.into());
        }
        let core = self.core();
        let mut network = core.network.borrow_mut();
        let port = match port {
            0 => network.free_port(node).ok_or(ErrorKind::AddrInUse)?,
            port => port,
        };
        if network.listeners.contains_key(&(node, port)) {
            return Err(ErrorKind::AddrInUse.into());
        }
        let backlog = Backlog {
            process: self.process,
            between_nodes: self.between_nodes,
            waiting: VecDeque::new(),
            acceptor: None,
        };
        network.listeners.insert((node, port), backlog);
        Ok(SimListener { core: self.core.clone(), process: self.process, port })
    }

    async fn connect(&self, address: &str) -> io::Result<(SimReader, SimWriter)> {
        let (host, port) = parse_address(address)?;
        let to = self.resolve(host).ok_or_else(|| {
            io::Error::new(ErrorKind::NotFound, format!("{host} is no host of this world"))
        })?;
        self.look_up(host, to).await;
        let from = self.process.node;
        self.core().disk(from).take_descriptor()?;
        let crossed = self.core().network.borrow().crossed.get(&(from, to)).copied();
        let to = crossed.unwrap_or(to);
        if !self.travel(from, to).await {
            return Err(ErrorKind::TimedOut.into());
        }
        let knocked = self.knock(to, port);
        if !self.travel(to, from).await {
            return Err(ErrorKind::TimedOut.into());
        }
        knocked
    }
}

/// Waits for connections.
pub struct SimListener {
    core: Weak<Core>,
    process: Process,
    port: u16,
}

impl Listener for SimListener {
    type Reader = SimReader;
    type Writer = SimWriter;

    async fn accept(&mut self) -> io::Result<(SimReader, SimWriter)> {
        let core = self.core.upgrade().expect("tasks end before their world");
        poll_fn(|context| {
            let mut network = core.network.borrow_mut();
            let key = (self.process.node, self.port);
            let backlog = network.listeners.get_mut(&key).expect("it lives as long as we");
            if backlog.waiting.is_empty() {
                backlog.acceptor = Some(context.waker().clone());
                return Poll::Pending;
            }
            // Without a descriptor the connection waits on.
            let taken = core.disk(self.process.node).take_descriptor();
            Poll::Ready(taken.map(|()| backlog.waiting.pop_front().expect("one waits")))
        })
        .await
    }

    fn port(&self) -> u16 {
        self.port
    }

    fn has_room(&self) -> bool {
        let core = self.core.upgrade().expect("tasks end before their world");
        core.disk(self.process.node).descriptors() == Descriptors::Enough
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        let Some(core) = self.core.upgrade() else { return };
        let mut network = core.network.borrow_mut();
        let key = (self.process.node, self.port);
        // After a crash the port may belong to the next process already.
        if network.listeners.get(&key).is_some_and(|backlog| backlog.process == self.process) {
            let backlog = network.listeners.remove(&key);
            // Outside the borrow: the halves' drops come back here.
            drop(network);
            drop(backlog);
        }
    }
}

fn halves(core: &Weak<Core>, connection: &Shared, side: Side) -> (SimReader, SimWriter) {
    let half = || Half { core: core.clone(), connection: connection.clone(), side };
    (SimReader(half()), SimWriter(half()))
}

/// What both halves of a connection's end know.
struct Half {
    core: Weak<Core>,
    connection: Shared,
    side: Side,
}

impl Half {
    fn core(&self) -> Rc<Core> {
        self.core.upgrade().expect("tasks end before their world")
    }

    /// Once both halves of an end are dropped, nobody reads there any more.
    fn close_if_last(&self, core: &Rc<Core>) {
        let end_over = {
            let end = &self.connection.borrow().ends[self.side];
            !end.has_reader && !end.has_writer
        };
        if end_over {
            connection::shut(core, &self.connection, self.side);
            core.network.borrow_mut().forget_finished();
        }
    }
}

/// The inbound half of a connection.
pub struct SimReader(Half);

impl Reader for SimReader {
    /// As node `n` has the host `10.0.<n / 256>.<n % 256>`.
    fn remote(&self) -> Option<IpAddr> {
        let NodeId(node) = self.0.connection.borrow().ends[1 - self.0.side].process.node;
        Some(IpAddr::from([10, 0, (node >> 8) as u8, node as u8]))
    }

    async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let core = self.0.core();
        poll_fn(|context| {
            let mut connection = self.0.connection.borrow_mut();
            match connection.read(&core, self.0.side, buffer, context.waker()) {
                Some(result) => Poll::Ready(result),
                None => Poll::Pending,
            }
        })
        .await
    }
}

impl Drop for SimReader {
    fn drop(&mut self) {
        let Some(core) = self.0.core.upgrade() else { return };
        self.0.connection.borrow_mut().ends[self.0.side].has_reader = false;
        self.0.close_if_last(&core);
    }
}

/// The outbound half of a connection.
pub struct SimWriter(Half);

impl Writer for SimWriter {
    async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let core = self.0.core();
        let mut sent = 0;
        while sent < bytes.len() {
            sent += poll_fn(|context| {
                let rest = &bytes[sent..];
                let Half { connection, side, .. } = &self.0;
                match connection::send(&core, connection, *side, rest, context.waker()) {
                    Some(result) => Poll::Ready(result),
                    None => Poll::Pending,
                }
            })
            .await?;
        }
        Ok(())
    }

    async fn close(&mut self) -> io::Result<()> {
        connection::shut(&self.0.core(), &self.0.connection, self.0.side);
        Ok(())
    }
}

impl Drop for SimWriter {
    fn drop(&mut self) {
        let Some(core) = self.0.core.upgrade() else { return };
        self.0.connection.borrow_mut().ends[self.0.side].has_writer = false;
        connection::finish(&core, &self.0.connection, self.0.side);
        self.0.close_if_last(&core);
    }
}
