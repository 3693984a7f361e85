//! Nodes that are asked to stop: what is under way is answered, and others lead at once.

use crate::support::{ONE, THREE, TWO, all, millis, one_leader, seconds};
use purlin::{GroupId, NodeId, Problem, Request, RequestError, ShardId, ShardState};
use purlin_kv::{KvCommand, SetCondition};
use purlin_tests::{
    cluster::{
        ClusterOptions,
        scenario::{GROUP, Pending, Scenario, calm, get, increment, set},
    },
    sim::{DiskError, DiskFault, DiskOperation, Latency},
};
use std::time::Duration;

/// A node ends within this time: a second for what is under way, half a second for the rest, and some turns.
const END: Duration = Duration::from_millis(1600);

fn two_shards(seed: u64, groups: u32) -> Scenario {
    Scenario::running_with(seed, ClusterOptions { shards: vec![2; 3], groups, ..calm(3, 0) })
}

/// How many of the first `groups` groups a node leads, as its shards say.
fn led(s: &Scenario, node: NodeId, groups: u32) -> usize {
    let leads =
        |group: &u32| s.status(node, GroupId(*group)).and_then(|it| it.leader) == Some(node);
    (1..=groups).filter(leads).count()
}

/// Requests of its own clients, at the other shard of the node too, and of clients of other nodes.
#[test]
fn a_node_that_stops_answers_what_is_under_way_and_its_groups_are_led_at_once() {
    let s = two_shards(910, 12);
    s.must_reach("it leads some of each shard", seconds(20), || led(&s, ONE, 12) >= 4);
    let control = s.control(ONE);
    let mut pending: Vec<(NodeId, GroupId, Pending)> = Vec::new();
    for round in 0..3 {
        for group in (1..=12).map(GroupId) {
            for node in s.nodes() {
                let request = set(&format!("{node}-{round}"), "v");
                pending.push((node, group, s.submit(node, group, request)));
                pending.push((node, group, s.submit(node, group, get("first"))));
            }
        }
        s.run_for(millis(1));
    }
    s.ask_to_stop(ONE);
    s.must_reach("it ends", END, || !s.world.is_running(ONE));
    assert_eq!(s.stops(), [], "without an error");
    let asked = s.world.now();
    for group in (1..=12).map(GroupId) {
        let answer = s.ask(TWO, group, set("after", "1"), seconds(5));
        assert!(matches!(answer, Some(Ok(_))), "{group}: {answer:?}");
    }
    assert!(
        s.world.now() - asked < millis(500),
        "no election timeout: {:?}",
        s.world.now() - asked
    );
    for (node, group, pending) in &pending {
        assert!(pending.is_done(), "{group} at node {node}: {:?}", pending.answer());
    }
    let last = control.latest();
    assert!(matches!(last.state, ShardState::Stopped), "{last:?}");
    s.world.restart(ONE);
    s.must_write(ONE, "back", "1", seconds(10));
    s.must_converge(seconds(20));
    s.assert_sound();
}

/// A shard with thousands of groups hands all of them over within its second, and ends as soon as it has.
#[test]
fn a_node_that_stops_hands_thousands_of_groups_over() {
    const GROUPS: u32 = 5000;
    let s = Scenario::running_with(919, ClusterOptions { groups: GROUPS, ..calm(3, 0) });
    s.run_for(seconds(3));
    let before = led(&s, ONE, GROUPS);
    assert!(before >= 1500, "node 1 leads {before}");
    let asked = s.world.now();
    s.ask_to_stop(ONE);
    s.must_reach("it ends", END, || !s.world.is_running(ONE));
    let took = s.world.now() - asked;
    assert!(took < millis(900), "{took:?}");
    let others = led(&s, TWO, GROUPS) + led(&s, THREE, GROUPS);
    assert!(others + 50 >= GROUPS as usize, "{others} groups have a leader");
    s.assert_sound();
}

/// A request that comes when the shard stops is told so, and another node may be asked.
#[test]
fn a_node_that_stops_takes_no_new_request() {
    let s = two_shards(911, 4);
    // What is under way cannot end, so the node drains for as long as it may.
    [TWO, THREE].iter().for_each(|node| s.world.isolate(*node));
    let open = s.submit(ONE, GROUP, set("open", "1"));
    s.run_for(millis(50));
    s.ask_to_stop(ONE);
    s.run_for(millis(50));
    for group in (1..=4).map(GroupId) {
        let answer = s.ask(ONE, group, increment("late"), millis(20));
        assert_eq!(answer, Some(Err(RequestError::Stopping)));
    }
    assert_eq!(open.answer(), None, "it is under way");
    s.must_reach("it ends", END, || !s.world.is_running(ONE));
    assert!(matches!(open.answer(), Some(Err(_))), "{:?}", open.answer());
    assert_eq!(s.stops(), []);
    s.assert_sound();
}

/// A batch of a shard that has nothing to do for itself lies at the other shard of its node.
#[test]
fn a_shard_that_stops_waits_for_the_other_shards_of_its_node() {
    let mut options = ClusterOptions { shards: vec![2; 3], groups: 2, ..calm(3, 0) };
    options.world.disk.write = Latency::steady(millis(40), millis(1));
    let s = Scenario::running_with(912, options);
    // Group 1 lives on shard 1, and is asked for at shard 0.
    for node in s.nodes() {
        let control = s.control_of(node, ShardId(1));
        let closing = || control.latest().wal.figures.closing_batches;
        let before = closing();
        let pending = s.submit(node, GroupId(1), increment("n"));
        s.run_for(millis(5));
        assert_eq!(pending.answer(), None, "a write takes 40 ms");
        s.ask_to_stop(node);
        s.must_reach("it ends", END, || !s.world.is_running(node));
        assert!(pending.is_done(), "at node {node}: {:?}", pending.answer());
        assert!(closing() > before, "no beat has passed since its last write");
        s.world.restart(node);
        s.must_write(node, "back", "1", seconds(10));
    }
    s.assert_sound();
}

/// The other nodes would hand its groups back, since it led them first.
#[test]
fn a_node_that_stops_leads_nothing_while_its_clients_take_their_answers() {
    let mut options = ClusterOptions { groups: 12, ..calm(3, 0) };
    options.limits[0].raft.leaders_return = true;
    let s = Scenario::running_with(913, options);
    s.must_reach("it leads its share", seconds(20), || led(&s, ONE, 12) == 4);
    s.run_for(seconds(10));
    let hold = s.hold(ONE);
    s.ask_to_stop(ONE);
    s.must_reach("it leads nothing", millis(300), || led(&s, ONE, 12) == 0);
    for _ in 0..60 {
        s.run_for(millis(10));
        assert_eq!(led(&s, ONE, 12), 0, "a group came back");
    }
    assert!(s.world.is_running(ONE), "a client has answers to take");
    drop(hold);
    s.must_reach("it ends", millis(250), || !s.world.is_running(ONE));
    // One that takes none keeps no node for long.
    let _hold = s.hold(TWO);
    s.ask_to_stop(TWO);
    s.must_reach("it ends", END, || !s.world.is_running(TWO));
    s.assert_sound();
}

/// A cluster with narrow links, and a key with a long value.
fn narrow(seed: u64, time_per_kilobyte: Duration) -> Scenario {
    let mut options = calm(3, 0);
    options.world.net.pipe_bytes = 8 << 10;
    options.world.net.time_per_kilobyte = time_per_kilobyte;
    Scenario::running_with(seed, options)
}

/// Stops the leader so many milliseconds after another node has asked it for something with a long reply.
fn stop_under_a_reply(s: &Scenario, wait: u64) {
    s.must_write(ONE, "key", &"v".repeat(60_000), seconds(20));
    s.run_for(seconds(2));
    let leader = one_leader(s, &all(s));
    let (key, condition) = (b"key".as_slice(), SetCondition::Always);
    let swap = KvCommand::Set { key, value: b"", condition, get: true };
    let pending = s.submit(s.others(leader)[0], GROUP, Request::Propose(swap.encode()));
    s.run_for(millis(wait));
    s.ask_to_stop(leader);
    s.must_reach("it ends", END, || !s.world.is_running(leader));
    s.must_reach("an answer", seconds(12), || pending.answer().is_some());
    assert!(pending.is_done(), "after {wait} ms: {:?}", pending.answer());
    s.world.restart(leader);
    s.must_write(leader, "back", "1", seconds(20));
}

/// A request of another node that comes when the leader has nothing under way goes back, and to the next leader.
#[test]
fn a_request_that_is_on_its_way_to_a_node_that_stops_goes_to_the_next_leader() {
    let s = narrow(914, Duration::from_micros(100));
    (0..12).step_by(2).for_each(|wait| stop_under_a_reply(&s, wait));
    s.assert_sound();
}

/// The reply is on its way for long after the connection has taken it. The connection on which the request came has
/// nothing on its way, and its end would arrive before: so it ends later.
#[test]
fn a_reply_on_a_slow_link_is_read_before_the_node_that_stops_is_gone() {
    // Less than two beats: after these a batch at a node that leads no more is in doubt (safety E1).
    let s = narrow(917, Duration::from_micros(2500));
    [0, 20, 40].into_iter().for_each(|wait| stop_under_a_reply(&s, wait));
    s.assert_sound();
}

/// The disk stands, so the log cannot be closed. An operator who asks what the node did last learns that.
#[test]
fn the_last_status_of_a_node_that_stops_says_what_is_wrong_then() {
    let s = Scenario::running_with(918, calm(3, 0));
    let leader = one_leader(&s, &all(&s));
    let control = s.control(leader);
    s.world.node(leader).hang_disk(seconds(60));
    s.submit(leader, GROUP, set("key", "1"));
    s.must_reach("the disk hangs", seconds(10), || !control.latest().problems.is_empty());
    s.ask_to_stop(leader);
    s.must_reach("it ends", END, || !s.world.is_running(leader));
    let last = control.latest();
    assert!(matches!(last.state, ShardState::Stopped), "{last:?}");
    let problems = &last.problems[..];
    assert!(matches!(problems, [Problem::DiskHangs(time)] if *time > seconds(1)), "{problems:?}");
    s.assert_sound();
}

/// A shard whose disk fails stops, and the node's other shard serves on. It knows no leader of the groups of the stopped
/// one: it says so at once, also of what lay there.
#[test]
fn requests_for_the_groups_of_a_stopped_shard_are_refused_at_once_by_the_others() {
    let s = two_shards(916, 4);
    let (here, there) = (GroupId(2), GroupId(1));
    s.must_reach("it is ready", seconds(5), || s.view(ONE).is_ready());
    let error = DiskError::Device;
    let path_contains = "shard-1".to_owned();
    s.world.node(ONE).arm(DiskFault {
        operation: DiskOperation::Write,
        path_contains,
        times: 1,
        error,
    });
    let open: Vec<Pending> = (0..20)
        .map(|n| {
            s.run_for(millis(1));
            let request = if n % 4 == 0 { get("key-0") } else { set(&format!("key-{n}"), "1") };
            s.submit(ONE, there, request)
        })
        .collect();
    s.must_reach("the shard stops", seconds(5), || !s.stops().is_empty());
    s.must_reach("each is answered", millis(400), || open.iter().all(|it| it.answer().is_some()));
    let stopped = Some(Err(RequestError::ShardStopped { shard: ShardId(1) }));
    for request in [set("after", "1"), get("after")] {
        assert_eq!(s.ask(ONE, there, request, millis(20)), stopped);
        assert_eq!(s.ask(ONE, GroupId(3), get("after"), millis(20)), stopped);
    }
    assert!(!s.view(ONE).is_ready(), "clients are served better elsewhere");
    for node in [ONE, TWO, THREE] {
        let answer = s.ask(node, here, set("after", "1"), seconds(5));
        assert!(matches!(answer, Some(Ok(_))), "at node {node}: {answer:?}");
    }
    s.run_for(seconds(3));
    let answer = s.ask(TWO, there, set("after", "1"), seconds(5));
    assert!(
        matches!(answer, Some(Ok(_))),
        "others lead the groups of the stopped shard: {answer:?}"
    );
    s.assert_sound();
}
