//! What a core works on keeps it from all else: how long a command, and a page of commands, keeps a shard.

use crate::support::{all, one_leader, seconds};
use purlin::{GroupId, NodeId, Request, TURN_MAX};
use purlin_kv::{KvCommand, KvQuery, StringsBuf};
use purlin_tests::{
    cluster::{
        ClusterOptions,
        scenario::{GROUP, Pending, Scenario, calm},
    },
    sim::CpuOptions,
};
use std::time::Duration;

/// The most keys that the server takes in one command (docs/commands.md).
const KEYS_MAX: usize = 16 << 10;

/// Three nodes, four groups, and cores that take so long for each key.
fn with_cores(seed: u64, key: Duration) -> Scenario {
    let mut options = ClusterOptions { groups: 4, ..calm(3, 0) };
    options.world.cpu = Some(CpuOptions { key, ..CpuOptions::usual() });
    // The longest command has short keys, and is longer than those of seeds.
    options.limits[0].max_command = 128 << 10;
    Scenario::running_with(seed, options)
}

/// A command and a query with as many keys as one may have.
fn longest() -> [Request; 2] {
    let keys: StringsBuf = (0..KEYS_MAX).map(|_| b"k").collect();
    let (delete, get) =
        (KvCommand::Delete { keys: keys.strings() }, KvQuery::Exist { keys: keys.strings() });
    [Request::Propose(delete.encode()), Request::Query(get.encode())]
}

/// Many of each at once, to all groups.
fn submit(s: &Scenario, node: NodeId, count: u32) -> Vec<Pending> {
    let requests = longest();
    let each = (0..count).flat_map(|n| requests.iter().map(move |request| (n, request)));
    each.map(|(n, request)| s.submit(node, GroupId(1 + n % 4), request.clone())).collect()
}

/// The longest turn of a shard so far.
fn longest_turn(s: &Scenario, node: NodeId) -> Duration {
    s.control(node).latest().turns.max()
}

#[test]
fn commands_with_the_most_keys_keep_each_turn_short_and_depose_nobody() {
    let s = with_cores(1000, CpuOptions::usual().key);
    s.run_for(seconds(5));
    let leader = one_leader(&s, &all(&s));
    let elections = || (1..=4).map(|group| s.elections(GroupId(group))).sum::<usize>();
    let before = elections();
    let pending = submit(&s, leader, 80);
    s.must_reach("all are done", seconds(8), || pending.iter().all(Pending::is_done));
    s.run_for(seconds(1));
    for node in all(&s) {
        let turn = longest_turn(&s, node);
        // One such command takes 10 ms: so the model is at work.
        assert!(turn >= Duration::from_millis(9), "node {node}: {turn:?}");
        assert!(turn <= TURN_MAX, "node {node}: {turn:?}");
    }
    assert_eq!(elections(), before);
    s.assert_sound();
}

/// The same without a bound on what a command may ask for: one that takes 10 s. So the model can fail.
#[test]
fn a_command_that_takes_longer_than_an_election_timeout_deposes_its_leader() {
    let s = with_cores(1001, CpuOptions::usual().key * 1000);
    let leader = one_leader(&s, &all(&s));
    let elections = s.elections(GROUP);
    let [command, _] = longest();
    let _ = s.submit(leader, GROUP, command);
    s.run_for(seconds(60));
    assert!(s.elections(GROUP) > elections, "{elections} elections as before");
}
