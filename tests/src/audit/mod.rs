//! The audit watches a world. It knows what the disks have made durable, sees every message that
//! leaves a node, and judges at that instant whether the message promises more than is true.
//!
//! ```text
//! disk ── written, durable ──► Shard: the truth about one WAL ──► Replica: what of a group is durable
//! net ─── sent ─────────────► Streams: frames ──► judged by the truth, and by the Ledger of each group
//! machines and clients ─────► applied, acknowledged ──► the same
//! ```
//!
//! It has a model of its own of what a WAL's writes mean, and shares with the nodes only the decoding of
//! batches and frames. A node is *corrupted* when a fault has changed its disk. From then on the audit
//! judges only one thing that it says: that it leads. A corrupted node may hold what it held before, and
//! what it has claimed since.

mod corrupted;
mod findings;
mod judge;
mod ledger;
mod replica;
mod scan;
mod streams;
mod truth;

#[cfg(test)]
mod audit_test;

pub use findings::Counts;

use crate::sim::{SeenBytes, SeenWrite, Watcher, World};
use corrupted::Corrupted;
use findings::Findings;
use ledger::Group;
use purlin_rsm::{Command, GroupId, Identity, Index, NodeId, ShardId};
use purlin_storage::inspect::{self, Record};
use replica::Replica;
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use streams::Streams;
use truth::Shard;

/// See the module. Let it look on before any directory is made.
pub struct Audit {
    state: RefCell<State>,
}

struct State {
    voters: Vec<NodeId>,
    corrupted: Corrupted,
    shards: BTreeMap<(NodeId, ShardId), Shard>,
    /// Whose WAL lies in a directory.
    places: BTreeMap<NodeId, BTreeMap<String, Identity>>,
    groups: BTreeMap<GroupId, Group>,
    /// For which group a command was proposed.
    proposed: BTreeMap<u64, BTreeSet<GroupId>>,
    streams: Streams,
    findings: Findings,
}

impl Audit {
    /// Of a cluster in which all groups have these voters.
    pub fn new(voters: Vec<NodeId>) -> Self {
        let state = State {
            voters,
            corrupted: Corrupted::default(),
            shards: BTreeMap::new(),
            places: BTreeMap::new(),
            groups: BTreeMap::new(),
            proposed: BTreeMap::new(),
            streams: Streams::default(),
            findings: Findings::default(),
        };
        Self { state: RefCell::new(state) }
    }

    /// Somebody asks for this command of a group. One that is never shown here may be applied anywhere.
    pub fn proposed(&self, group: GroupId, command: &[u8]) {
        let mut state = self.state.borrow_mut();
        state.proposed.entry(ledger::sum(command)).or_default().insert(group);
    }

    /// A replica has applied a command.
    pub fn applied(&self, node: NodeId, group: GroupId, command: &Command) {
        self.state.borrow_mut().applied(node, group, command);
    }

    /// A client is told that its command is done.
    pub fn acknowledged(&self, group: GroupId, command: &[u8]) {
        self.state.borrow_mut().acknowledged(group, command);
    }

    /// The last command of a group of which a client knows that it is done.
    pub fn floor(&self, group: GroupId) -> Index {
        let state = self.state.borrow();
        state.groups.get(&group).map_or(Index(0), |ledger| ledger.acknowledged)
    }

    /// What must not have happened so far, the first of it.
    pub fn violations(&self) -> Vec<String> {
        self.state.borrow().findings.texts()
    }

    /// What was judged so far.
    pub fn counts(&self) -> Counts {
        self.state.borrow().findings.counts
    }

    /// The end of a run, once all that may live is in touch again: whether what clients were told is
    /// durable on a majority, by the truth and by a real recovery of what a power cut now would leave.
    pub fn scan(&self, world: &World) {
        let mut state = self.state.borrow_mut();
        state.findings.at(world.now());
        state.scan_truth();
        for node in state.voters.clone() {
            if !state.corrupted.contains(node) {
                state.scan_disk(node, world.node(node).durable_image());
            }
        }
    }
}

impl Watcher for Audit {
    fn written(&self, at: Duration, write: &SeenWrite<'_>) {
        let mut state = self.state.borrow_mut();
        state.findings.at(at);
        if !state.corrupted.contains(write.node) {
            state.written(write);
        }
    }

    fn durable(&self, at: Duration, node: NodeId, number: u64) {
        let mut state = self.state.borrow_mut();
        state.findings.at(at);
        let shards = state.shards.range_mut((node, ShardId(0))..=(node, ShardId(u16::MAX)));
        shards.for_each(|(_, shard)| shard.is_durable(number));
    }

    fn ended(&self, at: Duration, node: NodeId) {
        let mut state = self.state.borrow_mut();
        state.findings.at(at);
        state.streams.ended(node);
    }

    fn corrupted(&self, at: Duration, node: NodeId) {
        let mut state = self.state.borrow_mut();
        state.findings.at(at);
        let held = state.held(node);
        state.corrupted.strike(node, held);
        state.shards.retain(|(owner, _), _| *owner != node);
    }

    fn sent(&self, at: Duration, sent: &SeenBytes<'_>) {
        let mut state = self.state.borrow_mut();
        // Clients from outside speak another protocol.
        if [sent.from, sent.to].iter().all(|node| state.voters.contains(node)) {
            state.findings.at(at);
            state.sent(sent);
        }
    }
}

impl State {
    /// Takes in a write to a file: a segment's header, a batch, or something that is neither.
    fn written(&mut self, write: &SeenWrite<'_>) {
        if write.position == 0 {
            if let Some(header) = inspect::header(write.bytes) {
                self.findings.counts.headers += 1;
                let owner = (header.identity.node, header.identity.shard);
                if header.starts.is_empty() {
                    if self.shards.get(&owner).is_some_and(|shard| shard.start().is_some()) {
                        let broken = vec!["founds a log that was in use".to_owned()];
                        self.findings.shard(owner, broken);
                    }
                    let places = self.places.entry(write.node).or_default();
                    places.insert(write.directory.to_owned(), header.identity);
                    self.shards.insert(owner, Shard::founded(&header));
                } else if let Some(shard) = self.shards.get_mut(&owner) {
                    let broken = shard.header(write.number, header);
                    self.findings.shard(owner, broken);
                }
            }
            return;
        }
        let place = self.places.get(&write.node).and_then(|it| it.get(write.directory));
        let Some(identity) = place else { return };
        let Some(batch) = inspect::batch(write.bytes, identity) else { return };
        let owner = (identity.node, identity.shard);
        let Some(shard) = self.shards.get_mut(&owner) else { return };
        self.findings.counts.batches += 1;
        let groups = &mut self.groups;
        let broken = shard.batch(write.number, &batch, |replica, record| match (replica, record) {
            (Some(replica), Record::HardState { group, state, .. }) => {
                let ledger = groups.entry(*group).or_default();
                judge::hard_state(*group, ledger, replica, *state)
            }
            (Some(replica), Record::Entries { group, entries }) => {
                let group = (*group, groups.entry(*group).or_default());
                group.1.writes(replica, entries).map_err(|why| format!("group {}: {why}", group.0))
            }
            (None, Record::Entries { group, entries }) => {
                let ledger = groups.entry(*group).or_default();
                match entries.iter().find(|entry| !ledger.knows(entry)) {
                    None => Ok(()),
                    Some(entry) => Err(format!("group {group}: a start makes {} up", entry.id())),
                }
            }
            _ => Ok(()),
        });
        self.findings.shard(owner, broken);
    }

    /// How much of each group is durable at a node now.
    fn held(&mut self, node: NodeId) -> Vec<(GroupId, Index)> {
        let groups: Vec<GroupId> = self.groups.keys().copied().collect();
        let held = |group| Some((group, self.replica(node, group)?.durable()));
        groups.into_iter().filter_map(held).collect()
    }

    /// The replica of a group at a node, with what is durable of it now.
    fn replica(&mut self, node: NodeId, group: GroupId) -> Option<&Replica> {
        let shards = self.shards.range_mut((node, ShardId(0))..=(node, ShardId(u16::MAX)));
        for (_, shard) in shards {
            let durable = shard.durable();
            if let Some(replica) = shard.replicas().get_mut(&group) {
                replica.settle(durable);
                return Some(replica);
            }
        }
        None
    }
}
