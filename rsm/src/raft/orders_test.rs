//! Every order of a few events, in a cluster of three nodes or of one, so that nothing depends on chance. The
//! oracle looks at each step.
//!
//! Two orders that differ only in events of different nodes lead to the same end, so only one of them is taken.
//! An event that was tried before its siblings sleeps in their branches until something happens that it depends
//! on (Godefroid: Partial-order methods for the verification of concurrent systems, 1996).

use super::{
    Raft, RoleKind,
    harness::{Cluster, Disk, Options},
};
use crate::{
    entry::{Entry, Payload},
    message::Message,
    types::{HardState, Index, NodeId, Position, Term},
};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Something that may happen next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Event {
    /// The oldest message on the way from one node to another arrives.
    Deliver(NodeId, NodeId),
    /// A node's oldest write becomes durable.
    Persist(NodeId),
    /// A node loses its memory, and starts anew on what is durable.
    Crash(NodeId),
    /// A leader is given a command.
    Propose(NodeId),
    /// A leader is given a read.
    Read(NodeId),
    /// A while passes without a leader, and one node campaigns. Pre-votes change nothing, so all of them are
    /// answered at once.
    Campaign(NodeId),
}

impl Event {
    /// The node that the event touches, if it is only one.
    fn node(self) -> Option<NodeId> {
        match self {
            Self::Deliver(_, node) | Self::Persist(node) | Self::Crash(node) => Some(node),
            Self::Propose(node) => Some(node),
            // A read must see what was committed anywhere when it began.
            Self::Read(_) | Self::Campaign(_) => None,
        }
    }

    /// Whether the two events lead to the same state in either order, and neither prevents the other.
    fn is_apart_from(self, other: Self) -> bool {
        let is_limited = |event| matches!(event, Self::Crash(_) | Self::Propose(_));
        let apart = self.node().zip(other.node()).is_some_and(|(a, b)| a != b);
        apart && !(is_limited(self) && is_limited(other))
    }
}

/// How the cluster begins, and how often the events that may happen at any time do happen.
#[derive(Clone, Copy, Default)]
struct Bounds {
    /// How many events there are.
    events: usize,
    /// Whether there is but one node.
    is_alone: bool,
    /// The terms of each node's log, and the term that all of them are in.
    logs: [&'static [u64]; 3],
    term: u64,
    /// The leader at the beginning. All nodes hold its first entry.
    leader: Option<NodeId>,
    /// The node that campaigns first. Where two nodes are alike, one of them is enough.
    first: Option<NodeId>,
    campaigns: usize,
    crashes: usize,
    proposals: usize,
    reads: usize,
}

/// Walks through all orders of events.
struct Walk {
    bounds: Bounds,
    /// The events on the way to where it is now.
    path: Vec<Event>,
    ends: usize,
    /// The last entry that was committed in any order.
    committed: Index,
}

impl Walk {
    fn begin(&self) -> Cluster {
        let nodes = if self.bounds.is_alone { 1 } else { 3 };
        let options = Options { nodes, append_bytes_max: 1, is_told: false, ..Options::default() };
        let mut cluster = Cluster::new(options);
        for (id, terms) in cluster.ids().into_iter().zip(self.bounds.logs) {
            let entry = |(index, term): (u64, &u64)| Entry {
                term: Term(*term),
                index: Index(index),
                before: Position(0),
                payload: Payload::Noop,
            };
            let entries: Vec<Entry> = (1..).zip(terms).map(entry).collect();
            cluster.oracle.hold(&entries, Term(0));
            let term = Term(self.bounds.term);
            let hard_state = HardState { term, vote: None, committed: Index(0) };
            cluster.nodes.get_mut(&id).expect("a node").disk =
                Disk { hard_state, entries, ..Disk::default() };
            cluster.restart(id, 0);
        }
        if let Some(leader) = self.bounds.leader {
            campaign(&mut cluster, leader);
            settle(&mut cluster);
        }
        cluster
    }

    fn replay(&self) -> Cluster {
        let mut cluster = self.begin();
        self.path.iter().for_each(|event| happen(&mut cluster, *event));
        cluster
    }

    fn walk(&mut self, cluster: Cluster, mut asleep: Vec<Event>) {
        self.committed = self.committed.max(cluster.oracle.committed());
        let events = self.possible(&cluster);
        if self.path.len() == self.bounds.events || events.is_empty() {
            self.ends += 1;
            return;
        }
        let mut here = Some(cluster);
        for event in events {
            if asleep.contains(&event) {
                continue;
            }
            let mut next = here.take().unwrap_or_else(|| self.replay());
            let asleep_next = asleep.iter().filter(|other| other.is_apart_from(event)).copied();
            self.path.push(event);
            happen(&mut next, event);
            self.walk(next, asleep_next.collect());
            self.path.pop();
            asleep.push(event);
        }
    }

    fn possible(&self, cluster: &Cluster) -> Vec<Event> {
        let bounds = &self.bounds;
        let count = |is: fn(&Event) -> bool| self.path.iter().filter(|event| is(event)).count();
        let campaigns = count(|event| matches!(event, Event::Campaign(_)));
        let may_crash = count(|event| matches!(event, Event::Crash(_))) < bounds.crashes;
        let may_propose = count(|event| matches!(event, Event::Propose(_))) < bounds.proposals;
        let may_read = count(|event| matches!(event, Event::Read(_))) < bounds.reads;
        let mut events = Vec::new();
        for envelope in &cluster.network {
            let deliver = Event::Deliver(envelope.from, envelope.to);
            if !events.contains(&deliver) {
                events.push(deliver);
            }
        }
        for (id, node) in &cluster.nodes {
            let raft = node.raft.as_ref().expect("all are up");
            let leads = raft.role() == RoleKind::Leader;
            let is_next = campaigns > 0 || bounds.first.is_none_or(|first| first == *id);
            let may_campaign = campaigns < bounds.campaigns && is_next;
            let mut add = |may: bool, event| events.extend(may.then_some(event));
            add(!node.writing.is_empty(), Event::Persist(*id));
            add(leads && may_propose, Event::Propose(*id));
            add(leads && may_read, Event::Read(*id));
            add(!leads && may_campaign && raft.deadline().is_some(), Event::Campaign(*id));
            add(may_crash, Event::Crash(*id));
        }
        events
    }
}

fn happen(cluster: &mut Cluster, event: Event) {
    match event {
        Event::Deliver(from, to) => deliver(cluster, |m| (m.0, m.1) == (from, to)),
        Event::Persist(id) => cluster.persist(id, 1),
        Event::Crash(id) => {
            cluster.crash(id, 0);
            cluster.restart(id, 0);
        }
        Event::Propose(id) => {
            // The command differs from time to time, so two entries with the same name are told apart.
            let command = cluster.nodes[&id].now.to_string();
            cluster.propose(id, &command);
        }
        Event::Read(id) => drop(cluster.read(id, 1)),
        Event::Campaign(id) => campaign(cluster, id),
    }
    cluster.ids().into_iter().for_each(|id| cluster.hand_out(id));
}

fn deliver(cluster: &mut Cluster, is_wanted: impl Fn((NodeId, NodeId, &Message)) -> bool) {
    let mut network = cluster.network.iter();
    if let Some(at) = network.position(|m| is_wanted((m.from, m.to, &m.message))) {
        let to = cluster.deliver(at);
        cluster.hand_out(to);
    }
}

fn campaign(cluster: &mut Cluster, id: NodeId) {
    for node in cluster.nodes.values_mut() {
        node.now.0 += 100;
    }
    cluster.input(id, Raft::tick);
    cluster.hand_out(id);
    let is_asked = |message: &Message| {
        matches!(message, Message::PreVote { .. } | Message::PreVoteReply { .. })
    };
    while cluster.network.iter().any(|envelope| is_asked(&envelope.message)) {
        deliver(cluster, |(_, _, message)| is_asked(message));
    }
}

fn settle(cluster: &mut Cluster) {
    let is_busy = |cluster: &Cluster| {
        !cluster.network.is_empty() || cluster.nodes.values().any(|node| !node.writing.is_empty())
    };
    while is_busy(cluster) {
        cluster.ids().into_iter().for_each(|id| cluster.persist(id, usize::MAX));
        cluster.ids().into_iter().for_each(|id| cluster.hand_out(id));
        deliver(cluster, |_| true);
    }
}

/// Walks through all orders. There must be at least `ends` ends, and `committed` must be the highest commit of
/// all orders. Otherwise the walk would have shown nothing.
fn walk(bounds: Bounds, ends: usize, committed: u64) {
    let mut walk = Walk { bounds, path: Vec::new(), ends: 0, committed: Index(0) };
    let begin = walk.begin();
    let result = catch_unwind(AssertUnwindSafe(|| walk.walk(begin, Vec::new())));
    if let Err(panic) = result {
        eprintln!("after {:?}", walk.path);
        resume_unwind(panic);
    }
    println!("{} ends, {} committed", walk.ends, walk.committed);
    assert!(walk.ends >= ends && walk.committed == Index(committed), "it shows too little");
}

const ONE: Option<NodeId> = Some(NodeId(1));
const TWO: Option<NodeId> = Some(NodeId(2));

/// At most one replica leads in a term, whichever node crashes when.
#[test]
fn every_order_of_two_campaigns() {
    let bounds = Bounds { first: ONE, campaigns: 2, ..Bounds::default() };
    walk(Bounds { events: 10, ..bounds }, 1_000, 1);
    walk(Bounds { events: 8, crashes: 1, ..bounds }, 1_000, 0);
}

/// A lone voter asks nobody. Only its own disk keeps it from using a term, or the name of an entry, twice.
#[test]
fn every_order_at_a_lone_voter() {
    let bounds =
        Bounds { is_alone: true, campaigns: 3, crashes: 2, proposals: 2, ..Bounds::default() };
    walk(Bounds { events: 12, reads: 1, ..bounds }, 1_000, 4);
}

/// A command is sent, another node comes to lead, and one of them crashes.
#[test]
fn every_order_of_a_proposal_and_an_election() {
    let bounds =
        Bounds { leader: ONE, first: TWO, proposals: 1, campaigns: 1, ..Bounds::default() };
    walk(Bounds { events: 10, ..bounds }, 1_000, 2);
    walk(Bounds { events: 8, crashes: 1, ..bounds }, 1_000, 2);
}

/// A leader is asked to read while another one is elected, and commits.
#[test]
fn every_order_of_a_read_and_an_election() {
    let bounds = Bounds { leader: ONE, first: TWO, reads: 1, campaigns: 1, ..Bounds::default() };
    walk(Bounds { events: 10, ..bounds }, 1_000, 2);
}

/// Logs that have come apart, as in the Raft paper's figure 8. Copies of an entry of an older term commit
/// nothing by themselves, and the logs agree in the end.
#[test]
fn every_order_of_campaigns_with_different_logs() {
    let bounds = Bounds { logs: [&[1, 2], &[1], &[1, 3]], term: 3, ..Bounds::default() };
    walk(Bounds { events: 15, campaigns: 1, ..bounds }, 500, 3);
    walk(Bounds { events: 11, campaigns: 1, crashes: 1, ..bounds }, 1_000, 0);
    walk(Bounds { events: 8, campaigns: 2, crashes: 1, ..bounds }, 1_000, 0);
}
