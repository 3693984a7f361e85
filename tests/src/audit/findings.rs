//! The violations that an audit has found, and how much it has checked.

use super::truth::Broken;
use purlin_rsm::{GroupId, NodeId, ShardId};
use std::time::Duration;

/// How much was judged: a run in which one of these is zero has shown nothing of it.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Counts {
    /// Headers of segments that were written.
    pub headers: u64,
    /// Batches that were written.
    pub batches: u64,
    /// Frames that left a node.
    pub frames: u64,
    /// Votes that were granted or asked for.
    pub votes: u64,
    /// Acknowledgements of entries.
    pub acknowledgements: u64,
    /// What was not judged since its sender had moved on to another term.
    pub stale: u64,
    /// Messages of leaders.
    pub leaders: u64,
    /// Times that something was newly committed.
    pub commits: u64,
    /// Commands that replicas have applied.
    pub applied: u64,
    /// Operations of which a client was told that they are done.
    pub answers: u64,
    /// Logs that were recovered at the end.
    pub recovered: u64,
}

impl Counts {
    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        self.headers += other.headers;
        self.batches += other.batches;
        self.frames += other.frames;
        self.votes += other.votes;
        self.acknowledgements += other.acknowledgements;
        self.stale += other.stale;
        self.leaders += other.leaders;
        self.commits += other.commits;
        self.applied += other.applied;
        self.answers += other.answers;
        self.recovered += other.recovered;
    }
}

#[derive(Default)]
pub(crate) struct Findings {
    now: Duration,
    texts: Vec<String>,
    pub(crate) counts: Counts,
}

/// More than these say nothing new.
const FINDINGS_MAX: usize = 20;

impl Findings {
    /// What is found from now on is found at this time.
    pub(crate) fn at(&mut self, now: Duration) {
        self.now = self.now.max(now);
    }

    pub(crate) fn texts(&self) -> Vec<String> {
        self.texts.clone()
    }

    /// Something that a shard's WAL has done.
    pub(crate) fn shard(&mut self, (node, shard): (NodeId, ShardId), broken: Broken) {
        broken.iter().for_each(|what| self.add(&format!("node {node} shard {shard}"), what));
    }

    /// Something that a node has done in a group.
    pub(crate) fn group(&mut self, node: NodeId, group: GroupId, what: &str) {
        self.add(&format!("node {node} group {group}"), what);
    }

    /// Something that belongs to no node.
    pub(crate) fn add(&mut self, whose: &str, what: &str) {
        if self.texts.len() < FINDINGS_MAX {
            let now = self.now.as_secs_f64();
            self.texts.push(format!("audit at {now:.6}, {whose}: {what}"));
        }
    }
}
