//! A cluster of the real engine in a simulated world: nodes with their shards and groups, clients
//! that record what they asked and what they were told, and machines that show their states to the
//! checkers.
//!
//! ```text
//! run ── turmoil ──► recovery ──► judgement
//!        faults      none: all    the checkers
//!        strike      must work
//! ```
//!
//! The seed, the options and the [`Subject`] determine a run. The subject may be any state machine:
//! `examples/queue.rs` shows one.

mod clients;
mod floor;
pub mod kv;
mod nodes;
mod options;
mod phases;
mod recovery;
mod report;
mod room;
pub mod scenario;
mod subject;

pub use kv::KeyValue;
pub use options::{ClusterOptions, Limits};
pub use recovery::Fate;
pub use report::Report;
pub use subject::{Answers, InputOf, NoVisitor, OutputOf, Subject, Visitor};

use crate::{
    audit::Audit,
    checker::{history::History, order::Order, states::States},
    reached::{FAULT, MACHINE_FAILED},
    sim::{Fault, NodeLogs, World},
};
use bytes::Bytes;
use nodes::Processes;
use purlin::{NodeId, ShardId};
use purlin_rsm::reach::Recorder;
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

/// Runs one seed: a phase in which things go wrong, then one in which nothing does and everything must
/// work again, then the checkers.
pub fn run<S: Subject>(seed: u64, subject: S, options: ClusterOptions) -> Report {
    let logs = NodeLogs::new(seed, &options.faults);
    logs.listen(|| run_with(seed, subject, options, &logs))
}

fn run_with<S: Subject>(seed: u64, subject: S, options: ClusterOptions, logs: &NodeLogs) -> Report {
    let reached = Recorder::install();
    let world = World::new(seed, options.world.clone());
    let cluster = Cluster::new(subject, options);
    let nodes = cluster.nodes();
    world.watch(cluster.judges.audit.clone());
    nodes.iter().for_each(|node| cluster.init(&world, *node));
    nodes.iter().for_each(|node| cluster.start(&world, *node));
    cluster.spawn_visitors(&world);
    let mut nemesis = cluster.turmoil(&world);
    logs.calm(world.now());
    cluster.recover(&world, &mut nemesis);
    cluster.judge_stops(&world, &nemesis);
    let (reached, mut faults) = (reached.counts(), nemesis.counts().clone());
    let (logged, violations) = logs.end();
    violations.into_iter().for_each(|what| cluster.violation(what));
    if logged.blocks > 0 {
        faults.insert(Fault::BlockLog, logged.blocks);
    }
    if reached.contains_key(FAULT) && nemesis.corrupted().is_empty() {
        cluster.violation("a replica stopped by a fault, and nobody's bytes were corrupted");
    }
    if reached.contains_key(MACHINE_FAILED) {
        cluster.violation("a state machine failed");
    }
    Report { reached, faults, logged, ..cluster.judge(&world) }
}

/// All that the parts of a run share.
struct Cluster<S: Subject> {
    subject: S,
    options: ClusterOptions,
    judges: Judges<S>,
    processes: Processes,
    /// How many clients there have been.
    clients: Cell<u32>,
    /// Each client at a shard holds this as long as it may wait for an answer.
    asking: Rc<()>,
    /// And so does each visitor.
    visiting: Rc<()>,
    /// Clients ask nothing new.
    is_over: Cell<bool>,
    poison: RefCell<Option<Poison>>,
}

/// At these nodes the machines panic at a command or a query that holds these bytes.
struct Poison {
    bytes: Bytes,
    nodes: Vec<NodeId>,
}

impl Poison {
    /// Panics if `bytes` poisons the machine at `node`.
    fn strike(&self, node: NodeId, bytes: &[u8]) {
        let is_here = bytes.windows(self.bytes.len()).any(|part| part == self.bytes);
        assert!(!(is_here && self.nodes.contains(&node)), "poisoned");
    }
}

/// Who writes down what happens, and judges it.
struct Judges<S: Subject> {
    history: RefCell<History<InputOf<S>, OutputOf<S>>>,
    states: RefCell<States>,
    order: RefCell<Order>,
    audit: Rc<Audit>,
    violations: RefCell<Vec<String>>,
}

impl<S: Subject> Judges<S> {
    fn new(voters: Vec<NodeId>) -> Self {
        Self {
            audit: Rc::new(Audit::new(voters)),
            history: RefCell::default(),
            states: RefCell::default(),
            order: RefCell::default(),
            violations: RefCell::default(),
        }
    }
}

impl<S: Subject> Cluster<S> {
    fn new(subject: S, options: ClusterOptions) -> Rc<Self> {
        Rc::new(Self {
            subject,
            judges: Judges::new((1..=options.nodes).map(NodeId).collect()),
            options,
            processes: Processes::default(),
            clients: Cell::new(0),
            asking: Rc::default(),
            visiting: Rc::default(),
            is_over: Cell::new(false),
            poison: RefCell::default(),
        })
    }

    fn nodes(&self) -> Vec<NodeId> {
        (1..=self.options.nodes).map(NodeId).collect()
    }

    fn all_shards(&self) -> Vec<(NodeId, ShardId)> {
        let shards_of = |node: NodeId| (0..self.shards(node)).map(move |it| (node, ShardId(it)));
        self.nodes().into_iter().flat_map(shards_of).collect()
    }

    fn violation(&self, what: impl Into<String>) {
        self.judges.violations.borrow_mut().push(what.into());
    }
}
