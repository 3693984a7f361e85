//! What agreement costs without a disk or a network: one group of a leader and two followers in one
//! thread, whose messages arrive and whose writes are durable at once.
//!
//! Measured is the way of a batch of proposals: accepted, sent, written on three replicas,
//! acknowledged, committed, applied on the leader, told to the followers and applied there. The time
//! for an entry is thus that of three replicas; on a node it is spent on its part alone.

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput};
use purlin_rsm::{
    GroupId, NodeId, Tick,
    raft::{Raft, RaftConfig, Ready, Recovered, RoleKind, Voters, Window},
};

const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];
/// How long followers that get no entries wait to be told of a commit.
const TELL_COMMIT_TICKS: u64 = 1;

/// The three replicas of a group; the first leads.
struct Group {
    replicas: Vec<Raft>,
    now: Tick,
}

impl Group {
    /// A group with a leader that has committed in its term.
    fn new() -> Self {
        let replica = |node| Raft::new(config(node), Recovered::default(), Tick(0));
        let mut group = Self { replicas: NODES.map(replica).into(), now: Tick(1) };
        group.replicas[0].tick(group.now);
        group.settle();
        assert_eq!(group.replicas[0].role(), RoleKind::Leader);
        // As the heartbeats between their nodes do it: no timer of the followers runs from here on.
        let term = group.replicas[0].term();
        let (leader, followers) = group.replicas.split_first_mut().expect("there are three");
        for (follower, node) in followers.iter_mut().zip(&NODES[1..]) {
            assert!(follower.vouch(group.now, NODES[0], term), "{node} follows");
            leader.confirm(group.now, *node);
        }
        group.agree(&[]);
        group
    }

    /// Proposes the commands, and goes on until all of them are applied everywhere.
    fn agree(&mut self, commands: &[Bytes]) {
        for command in commands {
            self.replicas[0].propose(command.clone()).expect("the first one leads");
        }
        self.settle();
        self.now.0 += TELL_COMMIT_TICKS;
        self.replicas[0].tick(self.now);
        self.settle();
        let last = self.replicas[0].last().index;
        assert!(self.replicas.iter().all(|replica| replica.applied_index() == last));
    }

    /// Does what the replicas want done until they want nothing more.
    fn settle(&mut self) {
        let mut is_quiet = false;
        while !is_quiet {
            is_quiet = true;
            for at in 0..self.replicas.len() {
                let ready = self.replicas[at].ready();
                is_quiet &= ready.is_empty();
                self.carry_out(at, ready);
            }
        }
    }

    fn carry_out(&mut self, at: usize, ready: Ready) {
        assert!(ready.fetches.is_empty(), "the cache holds all that is asked for");
        for envelope in ready.messages {
            let to = NODES.iter().position(|node| *node == envelope.to).expect("a voter");
            self.replicas[to].step(self.now, envelope);
        }
        if let Some(append) = ready.append {
            self.replicas[at].appended(self.now, append.write);
        }
        if let Some(last) = ready.committed.last() {
            self.replicas[at].applied(last.index);
        }
    }
}

/// With the bounds that the engine gives its groups.
fn config(node: NodeId) -> RaftConfig {
    RaftConfig {
        tell_commit_ticks: TELL_COMMIT_TICKS,
        window: Window { messages: 64, bytes: 1 << 20 },
        append_bytes_max: 256 << 10,
        apply_bytes_max: 1 << 20,
        cache_bytes_max: 4 << 20,
        campaigns_first: node == NODES[0],
        ..RaftConfig::new(GroupId(1), node, Voters::new(NODES))
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut benches = criterion.benchmark_group("raft_step");
    for entries in [1, 16, 256] {
        let commands = vec![Bytes::copy_from_slice(&[7; 16]); entries];
        let mut group = Group::new();
        benches.throughput(Throughput::Elements(entries as u64));
        benches.bench_function(BenchmarkId::new("agree", entries), |bencher| {
            bencher.iter(|| group.agree(&commands));
        });
    }
    benches.finish();
    criterion.final_summary();
}
