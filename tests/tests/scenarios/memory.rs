//! What a shard keeps in memory is bounded, whatever its disk, its followers and its clients do. In the
//! simulator each shard checks after each turn that the entries of its groups are within their budget; these
//! tests drive them into it.

use crate::support::{ONE, THREE, TWO, seconds};
use purlin::{GroupId, Level, NodeId, Problem, RaftOptions, RequestError};
use purlin_rsm::reach::Recorder;
use purlin_tests::{
    cluster::{
        ClusterOptions,
        scenario::{Answer, GROUP, Scenario, calm, delete, set},
    },
    sim::Crash,
};
use std::time::Duration;

/// What grows is refused by the leader, wherever it is asked; reads, deletes and what needs no more go on, and a
/// delete makes room. The other nodes apply all that is in the log.
#[test]
fn a_leader_without_memory_for_data_refuses_what_grows_until_keys_are_deleted() {
    let mut options = calm(3, 0);
    options.limits[0].machine_bytes_max = 1 << 20;
    let s = Scenario::running_with(34, options);
    let (leader, value) = (s.leader(), "v".repeat(20_000));
    let write = |n: usize| s.write(leader, &format!("key-{n}"), &value, seconds(2));
    let no_memory = Some(Err(RequestError::NoMemory));
    let full = (0..100).find(|n| write(*n) == no_memory).expect("2 MB are too much");
    assert!((51..=53).contains(&full), "{full} values of 20,000 bytes and what is around them");
    for node in s.nodes() {
        let answer = s.write(node, "another", "1", seconds(2));
        assert_eq!(answer, no_memory, "asked at node {node}");
        assert_eq!(s.must_read(node, "key-0", seconds(2)).as_deref(), Some(value.as_str()));
    }
    s.must_write(TWO, "key-0", &"w".repeat(20_000), seconds(2));
    s.run_for(seconds(1));
    let level = s.control(leader).latest();
    assert_eq!(level.problems, [Problem::DataFull], "{:?}", level.queues.machine_bytes);
    let delete = |key: &str| s.ask(TWO, GROUP, delete(key), seconds(2));
    assert!(matches!(delete("key-1"), Some(Ok(_))) && matches!(delete("key-2"), Some(Ok(_))));
    s.must_write(THREE, "another", "1", seconds(2));
    s.run_for(seconds(1));
    for node in s.nodes() {
        let Level { now, max } = s.control(node).latest().queues.machine_bytes;
        assert!(max == 1 << 20 && (900_000..max).contains(&now), "node {node} holds {now}");
    }
    s.must_converge(seconds(20));
    s.assert_sound();
}

/// Commands are judged before they go into the log: those that each leader has taken by then come on top.
#[test]
fn data_exceeds_its_memory_by_no_more_than_what_is_under_way() {
    const MAX: usize = 1 << 20;
    const REQUESTS: usize = 128 << 10;
    const VALUE: usize = 4_000;
    let mut options = ClusterOptions { groups: 6, ..calm(3, 0) };
    options.limits[0].machine_bytes_max = MAX;
    options.limits[0].request_bytes_max = REQUESTS;
    let s = Scenario::running_with(35, options);
    let value = "v".repeat(VALUE);
    let mut pending = Vec::new();
    for n in 0..900 {
        let (node, group) = (NodeId(1 + n % 3), GroupId(1 + n / 3 % 6));
        pending.push(s.submit(node, group, set(&format!("key-{n}"), &value)));
        if n % 30 == 0 {
            s.run_for(Duration::from_millis(30));
        }
    }
    s.run_for(seconds(12));
    let done = pending.iter().filter(|it| it.is_done()).count();
    let is_full = |answer: Answer| answer == Some(Err(RequestError::NoMemory));
    assert!(pending.iter().any(|it| is_full(it.answer())), "the memory is full");
    s.must_converge(seconds(20));
    // Of its own callers and of the others, at each of three leaders; and what is around keys and values. One node's
    // intake alone would be less than what this seed shows.
    let on_top = 3 * 2 * (REQUESTS + VALUE);
    for node in s.nodes() {
        let Level { now, max } = s.control(node).latest().queues.machine_bytes;
        assert!(max == MAX && now > MAX + REQUESTS, "node {node} holds {now} after {done} writes");
        assert!(now <= MAX + on_top + on_top / 4, "node {node} holds {now} after {done} writes");
    }
    s.assert_sound();
}

const GROUPS: u32 = 24;
const BUDGET: usize = 1 << 20;

/// Many groups on one shard of each node, with small windows, room for much in each cache, and a small budget for
/// all.
fn many_groups() -> ClusterOptions {
    let mut options = ClusterOptions { groups: GROUPS, ..calm(3, 0) };
    options.limits[0].raft = RaftOptions {
        inflight_bytes_max: 64 << 10,
        append_bytes_max: 32 << 10,
        memory_bytes_max: BUDGET,
        ..RaftOptions::default()
    };
    options
}

/// What the entries of all groups of a node take in memory.
fn held(s: &Scenario, node: NodeId) -> usize {
    s.control(node).latest().queues.entry_bytes.now
}

/// Writes 20,000 bytes to each group so often, and returns the greatest sum that the status of one of these nodes
/// has shown, and how many writes were done.
fn write_to_all(s: &Scenario, nodes: &[NodeId], rounds: usize) -> (usize, usize) {
    let value = "v".repeat(20_000);
    let (mut most, mut done) = (0, 0);
    for round in 0..rounds {
        let write = |group| s.submit(ONE, GroupId(group), set(&format!("{group}-{round}"), &value));
        let writes: Vec<_> = (1..=GROUPS).map(write).collect();
        s.run_for(seconds(1));
        done += writes.iter().filter(|write| write.is_done()).count();
        most = nodes.iter().map(|node| held(s, *node)).fold(most, usize::max);
    }
    (most, done)
}

/// Its connection lives, so each leader keeps what it has to send: a window and a cache for each group.
#[test]
fn a_follower_that_is_slow_for_many_groups_costs_its_leaders_one_budget() {
    let reached = Recorder::install();
    let mut options = many_groups();
    // The windows of all groups that the follower has are twice its budget.
    options.limits[0].raft.inflight_bytes_max = 128 << 10;
    let s = Scenario::running_with(31, options);
    // Node 3 has met the others by then.
    s.must_converge(seconds(20));
    s.world.node(THREE).hang_disk(seconds(30));
    let (most, done) = write_to_all(&s, &[ONE, TWO, THREE], 25);
    assert!(most <= BUDGET + BUDGET / 2, "{most} bytes with a budget of {BUDGET}");
    assert_eq!(done, 25 * GROUPS as usize, "the other two go on");
    for name in [
        "entries of a group leave the memory for those of others",
        "append dropped, entries take too much memory",
    ] {
        assert!(reached.counts().contains_key(name), "never: {name}");
    }
    s.run_for(seconds(20));
    s.must_converge(seconds(60));
    s.assert_sound();
}

/// What the disk has not taken yet cannot leave the memory. So proposals are refused, and not taken into memory
/// without end.
#[test]
fn entries_that_wait_for_a_disk_take_one_budget_and_then_writes_are_refused_as_busy() {
    let s =
        Scenario::running_with(32, ClusterOptions { nodes: 1, shards: vec![1], ..many_groups() });
    s.world.node(ONE).hang_disk(seconds(5));
    let value = "v".repeat(20_000);
    let write = |n: u32| s.submit(ONE, GroupId(1 + n % GROUPS), set(&format!("key-{n}"), &value));
    let writes: Vec<_> = (0..200).map(write).collect();
    s.run_for(seconds(2));
    let is_busy = |answer: Answer| matches!(answer, Some(Err(RequestError::Busy)));
    let refused = writes.iter().filter(|write| is_busy(write.answer())).count();
    assert!((100..160).contains(&refused), "{refused} of 200 were refused: 52 have room");
    assert!(held(&s, ONE) <= BUDGET + BUDGET / 2, "{} bytes", held(&s, ONE));
    s.must_write(ONE, "resumed", "1", seconds(20));
    s.run_for(seconds(2));
    assert_eq!(writes.iter().filter(|write| write.is_done()).count(), 200 - refused);
    assert!(held(&s, ONE) < BUDGET, "{} bytes", held(&s, ONE));
    s.assert_sound();
}

#[test]
fn many_groups_with_a_node_that_is_down_stay_within_one_budget() {
    let s = Scenario::running_with(33, many_groups());
    let (most, done) = write_to_all(&s, &[ONE, TWO, THREE], 5);
    assert_eq!(done, 5 * GROUPS as usize);
    assert!(most <= BUDGET, "{most} bytes");
    s.crash(THREE, Crash::PowerCut);
    let (most, _) = write_to_all(&s, &[ONE, TWO], 10);
    assert!(most <= BUDGET, "{most} bytes for a node that is down");
    s.world.restart(THREE);
    s.must_converge(seconds(60));
    s.assert_sound();
}
