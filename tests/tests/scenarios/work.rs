//! What a core works on keeps it from all else: how long a command, and a page of commands, keeps a shard.

use crate::support::{ONE, THREE, all, one_leader, seconds};
use purlin::{Caller, GroupId, NodeId, Request, RequestError, ShardId, TURN_MAX};
use purlin_kv::{KvCommand, KvQuery, StringsBuf};
use purlin_rsm::reach::Recorder;
use purlin_tests::{
    cluster::{
        ClusterOptions,
        scenario::{GROUP, Pending, Scenario, calm, get, set},
    },
    sim::{CpuOptions, Latency},
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

/// Each of 40 clients asks one group again and again for as much as a query may: 10 ms of work. The shard has more of it
/// than it can do, and serves its other groups in between.
#[test]
fn a_group_with_more_work_than_its_shard_can_do_keeps_no_other_group_waiting() {
    let s = with_cores(1002, CpuOptions::usual().key);
    s.run_for(seconds(5));
    let leader = one_leader(&s, &all(&s));
    let [_, query] = longest();
    let ask = || s.submit(leader, GroupId(1), query.clone());
    let mut asked: Vec<Pending> = (0..40).map(|_| ask()).collect();
    let mut longest = Duration::ZERO;
    for round in 0..20 {
        let (group, began) = (GroupId(2 + round % 3), s.world.now());
        let write = s.submit(leader, group, set("key", "v"));
        while !write.is_done() {
            assert!(s.world.now() - began < seconds(2), "round {round}: {:?}", write.answer());
            s.run_for(Duration::from_millis(10));
            for pending in &mut asked {
                if pending.is_done() {
                    *pending = ask();
                }
            }
        }
        longest = longest.max(s.world.now() - began);
    }
    // A write takes some turns, and each has a query of the other group.
    assert!(longest < Duration::from_millis(300), "{longest:?}");
    s.assert_sound();
}

/// A shard that stood finds 3 MB from each peer when it goes on, and does not take all of it in one turn.
#[test]
fn a_shard_takes_what_has_come_from_peers_in_several_turns() {
    let reached = Recorder::install();
    let mut options = ClusterOptions { groups: 12, ..calm(3, 0) };
    options.world.net.pipe_bytes = 4 << 20;
    let s = Scenario::running_with(1003, options);
    s.run_for(seconds(3));
    let value = "v".repeat(60_000);
    s.world.pause(THREE, ShardId(0));
    let mut writes = Vec::new();
    for round in 0..12 {
        let write = |group| s.submit(ONE, GroupId(group), set(&format!("key-{round}"), &value));
        writes.extend((1..=12).map(write));
        s.run_for(Duration::from_millis(10));
    }
    s.world.resume(THREE, ShardId(0));
    s.run_for(seconds(3));
    assert!(reached.counts().contains_key("events of peers wait for the next turn"));
    s.must_converge(seconds(5));
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

/// Two connections hand in as much as is taken: one of them long writes, or both of them short reads of all groups.
/// Each has had a request refused before others ask. Those are served, at the leader and elsewhere.
#[test]
fn connections_that_fill_the_intake_leave_room_to_others() {
    let mut options = ClusterOptions { groups: 4, ..calm(3, 0) };
    // Nine writes are more than the bytes, as nine of 8 MiB are more than the server takes.
    let value = "v".repeat(60_000);
    options.limits[0].request_bytes_max = 8 * (60 << 10);
    options.limits[0].requests_max = 1_000;
    let s = Scenario::running_with(1004, options);
    s.run_for(seconds(3));
    let leader = one_leader(&s, &all(&s));
    let of_group = |n: u32| GroupId(1 + n % 4);
    let write = |n| (of_group(n), set("long", &value));
    let read = |n| (of_group(n), get("key"));
    let fill = |caller: &Caller, request: &dyn Fn(u32) -> (GroupId, Request)| {
        caller.take_completions(&mut Vec::new());
        let requests = (0..2_000).map(request);
        for (tag, (group, request)) in requests.enumerate() {
            caller.submit(group, request, tag as u64);
        }
        let mut ended = Vec::new();
        caller.take_completions(&mut ended);
        assert!(ended.iter().all(|it| it.outcome == Err(RequestError::Busy)));
        2_000 - ended.len()
    };
    for node in all(&s) {
        let callers = [s.caller(node, ShardId(0)), s.caller(node, ShardId(0))];
        let others = || (1..=4).map(|group| s.submit(node, GroupId(group), set("key", "v")));
        let writes = fill(&callers[0], &write);
        let mut pending: Vec<Pending> = others().collect();
        s.run_for(seconds(3));
        let reads = callers.each_ref().map(|caller| fill(caller, &read));
        pending.extend(others());
        s.run_for(seconds(3));
        for other in pending {
            assert!(other.is_done(), "node {node}, leader {leader}: {:?}", other.answer());
        }
        // Three quarters of the intake; and so much may have who has little.
        assert_eq!((writes, reads), (6, [750, 1_000 / 64 + 1]));
    }
    s.assert_sound();
}

/// The batches that a node makes of 400 writes, one each `gap`, when its disk takes `write` for a batch.
fn batches_of_many_writes(gap: Duration, write: Duration) -> u64 {
    let mut options = calm(1, 0);
    options.world.disk.write = Latency::steady(write, Duration::from_micros(1));
    let s = Scenario::running_with(1005, options);
    s.must_write(ONE, "key", "v", seconds(5));
    s.run_for(seconds(2));
    let batches = || s.control(ONE).latest().wal.figures.batches;
    let before = batches();
    let ask = |n: u32| {
        s.run_for(gap);
        s.submit(ONE, GROUP, set(&format!("key-{n}"), "v"))
    };
    let asked: Vec<Pending> = (0..400).map(ask).collect();
    s.run_for(seconds(1));
    assert!(asked.iter().all(Pending::is_done));
    s.assert_sound();
    batches() - before
}

/// On a quick disk what comes meanwhile shares a batch; on a slow one nothing waits for the batch in flight.
#[test]
fn writes_share_batches_on_a_quick_disk_and_go_out_at_once_on_a_slow_one() {
    let micros = Duration::from_micros;
    let quick = batches_of_many_writes(micros(25), micros(200));
    let slow = batches_of_many_writes(micros(700), micros(2_000));
    assert!(quick < 100 && slow > 380, "{quick} and {slow} batches");
}
