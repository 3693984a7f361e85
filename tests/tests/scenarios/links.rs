//! Links that flip bits, break, or hold bytes back.

use crate::support::{ONE, THREE, TWO, agree, millis, seconds, shake, shaky};
use purlin::{GroupId, NodeId, ShardId};
use purlin_rsm::reach::Recorder;
use purlin_tests::{
    cluster::{
        ClusterOptions,
        scenario::{Pending, Scenario, calm, set},
    },
    sim::{Crash, Latency, LinkTrouble, Random},
};
use std::time::Duration;

/// TCP's checksum misses some: the frame's must not.
#[test]
fn bits_that_flip_on_their_way_change_nothing() {
    let mut options: ClusterOptions = shaky(3, 0);
    options.world.net.flip_chance = 0.02;
    let s = Scenario::running_with(501, options);
    for n in 0..150 {
        let at = NodeId(1 + n % 3);
        let value = format!("{n}-").repeat(500);
        s.must_write(at, &format!("key-{n}"), &value, seconds(30));
        assert_eq!(
            s.must_read(NodeId(1 + (n + 1) % 3), &format!("key-{n}"), seconds(30)),
            Some(value)
        );
    }
    s.must_converge(seconds(20));
    s.assert_sound();
}

/// B30, B31, B40: whatever breaks in the middle, answers find their requests and replicas agree.
#[test]
fn connections_that_break_all_the_time_lose_and_mix_up_nothing() {
    let s = Scenario::running_with(502, shaky(3, 2));
    let random = Random::new(502, "trouble");
    for _ in 0..40 {
        let (one, other) = (1 + random.below(3) as u32, 1 + random.below(3) as u32);
        s.world.reset_connections(NodeId(one), NodeId(other));
        shake(&s, &random, millis(60));
    }
    agree(&s, &s.nodes().collect::<Vec<_>>(), "end", "1");
    let (done, _, _) = s.judge();
    assert!(done >= 100, "{done} requests were done");
    s.must_converge(seconds(20));
    s.assert_sound();
}

/// Names that do not resolve harm no connection that was made before, and no node that others find.
#[test]
fn a_name_server_that_does_not_answer_stops_no_write() {
    let s = Scenario::running_with(503, shaky(3, 0));
    s.nodes().for_each(|node| s.world.node(node).silence_names(true));
    for n in 0..10 {
        let (one, other) = (NodeId(1 + n % 3), NodeId(1 + (n + 1) % 3));
        s.world.reset_connections(one, other);
        s.must_write(one, &format!("key-{n}"), "1", seconds(5));
    }
    // One that starts knows no address. The two others find it, and write on.
    s.crash(NodeId(3), Crash::Kill);
    s.world.restart(NodeId(3));
    s.must_write(NodeId(1), "without", "1", seconds(10));
    s.world.node(NodeId(3)).silence_names(false);
    s.must_converge(seconds(20));
    s.assert_sound();
}

/// The groups that a node leads, as that node says.
fn led_by(s: &Scenario, node: NodeId, groups: u32) -> Vec<GroupId> {
    let leads = |group: &GroupId| s.status(node, *group).and_then(|it| it.leader) == Some(node);
    (1..=groups).map(GroupId).filter(leads).collect()
}

/// Writes `bytes` to each group that node 1 leads, so often, with a pause after each round.
fn write_at_one(
    s: &Scenario,
    groups: u32,
    bytes: usize,
    rounds: usize,
    pause: Duration,
) -> Vec<Pending> {
    let (led, value) = (led_by(s, ONE, groups), "v".repeat(bytes));
    let mut writes = Vec::new();
    for round in 0..rounds {
        let write = |group: &GroupId| s.submit(ONE, *group, set(&format!("key-{round}"), &value));
        writes.extend(led.iter().map(write));
        s.run_for(pause);
    }
    writes
}

/// Nothing that was sent on a connection is lost while the connection lives. So a follower that takes longer than an
/// election timeout, with its disk or as a whole, is asked how far it is, and is sent nothing twice.
#[test]
fn a_follower_that_stood_still_is_sent_nothing_twice() {
    for stands in [
        |s: &Scenario| s.world.node(THREE).hang_disk(millis(600)),
        |s: &Scenario| s.world.pause(THREE, ShardId(0)),
    ] {
        let reached = Recorder::install();
        let s = Scenario::running_with(504, ClusterOptions { groups: 12, ..calm(3, 0) });
        s.run_for(seconds(3));
        let leaders = |s: &Scenario| [ONE, TWO, THREE].map(|node| led_by(s, node, 12).len());
        assert_eq!(leaders(&s), [4; 3]);
        let before = s.world.bytes_delivered(ONE, THREE);
        let mut writes = write_at_one(&s, 12, 20_000, 20, millis(10));
        stands(&s);
        writes.extend(write_at_one(&s, 12, 20_000, 60, millis(10)));
        s.world.resume(THREE, ShardId(0));
        writes.extend(write_at_one(&s, 12, 20_000, 20, millis(10)));
        s.run_for(seconds(3));
        assert!(writes.iter().all(Pending::is_done));
        let (new, sent) = (writes.len() * 20_000, s.world.bytes_delivered(ONE, THREE) - before);
        assert!(sent * 10 <= new as u64 * 12, "{sent} bytes were sent for {new} new ones");
        assert!(reached.counts().contains_key("follower is asked for an overdue reply"));
        s.must_converge(seconds(5));
        s.assert_sound();
    }
}

/// What finds no room goes out as soon as there is room, and what went out is not sent again.
#[test]
fn a_follower_behind_a_narrow_link_is_sent_all_once_and_without_pauses() {
    let reached = Recorder::install();
    let mut options = ClusterOptions { groups: 24, ..calm(3, 0) };
    options.world.net.jitter = Latency::steady(Duration::ZERO, Duration::ZERO);
    options.limits[0].raft.outbox_bytes_max = 1 << 20;
    // Each entry travels alone, and short ones come behind long ones.
    options.limits[0].raft.append_bytes_max = 1;
    let s = Scenario::running_with(505, options);
    s.run_for(seconds(3));
    assert_eq!(led_by(&s, ONE, 24).len(), 8);
    let before = s.world.bytes_delivered(ONE, THREE);
    let sent = || s.world.bytes_delivered(ONE, THREE) - before;
    // 5 MB in a second.
    let time_per_kilobyte = Duration::from_micros(200);
    let trouble = LinkTrouble { time_per_kilobyte, ..LinkTrouble::default() };
    s.world.trouble_link(ONE, THREE, Some(trouble));
    let rejects = || reached.counts().get("append rejected, the logs part before it").copied();
    let rejects_before = rejects();
    let mut writes = Vec::new();
    for bytes in [60_000, 100].repeat(12) {
        writes.extend(write_at_one(&s, 24, bytes, 1, millis(3)));
    }
    let new = writes.len() as u64 / 2 * 60_100;
    let started = s.world.now();
    s.must_reach("all is sent", seconds(10), || sent() >= new);
    let took = s.world.now() - started;
    assert!(took < millis(new / 5_000 + 300), "{new} bytes took {took:?}");
    s.run_for(seconds(2));
    assert!(sent() * 10 <= new * 12, "{} bytes were sent for {new} new ones", sent());
    assert_eq!(rejects(), rejects_before, "an append left a gap");
    assert!(writes.iter().all(Pending::is_done));
    assert!(reached.counts().contains_key("group waits for room to a peer"));
    s.must_converge(seconds(5));
    s.assert_sound();
}

/// A forwarded request that finds the outbox full of other data goes out as soon as there is room, and not with the next
/// beat.
#[test]
fn a_forwarded_request_waits_for_room_and_for_no_beat() {
    let mut options = ClusterOptions { groups: 24, ..calm(3, 0) };
    options.world.net.jitter = Latency::steady(Duration::ZERO, Duration::ZERO);
    options.limits[0].raft.outbox_bytes_max = 1 << 20;
    let s = Scenario::running_with(506, options);
    s.run_for(seconds(3));
    // 50 MB in a second: the outbox is empty after 20 ms.
    let time_per_kilobyte = Duration::from_micros(20);
    let trouble = LinkTrouble { time_per_kilobyte, ..LinkTrouble::default() };
    s.world.trouble_link(ONE, THREE, Some(trouble));
    let elsewhere = led_by(&s, THREE, 24)[0];
    for round in 0..10 {
        write_at_one(&s, 24, 60_000, 3, Duration::ZERO);
        s.run_for(millis(2));
        let started = s.world.now();
        let write = s.submit(ONE, elsewhere, set("key", &"v".repeat(60_000)));
        s.must_reach("it is done", seconds(1), || write.is_done());
        let took = s.world.now() - started;
        assert!(took < millis(60), "{took:?} in round {round}");
        s.run_for(millis(237));
    }
    s.assert_sound();
}

/// Node 1 leads eight groups, and its link to node 3 takes 5 MB in a second.
fn at_a_narrow_link(seed: u64, outbox: usize, cache: Option<usize>) -> Scenario {
    let mut options = ClusterOptions { groups: 24, ..calm(3, 0) };
    options.world.net.jitter = Latency::steady(Duration::ZERO, Duration::ZERO);
    let raft = &mut options.limits[0].raft;
    raft.outbox_bytes_max = outbox;
    raft.append_bytes_max = 16 << 10;
    raft.inflight_bytes_max = 140 << 10;
    raft.cache_bytes_max = cache.unwrap_or(raft.cache_bytes_max);
    let s = Scenario::running_with(seed, options);
    s.run_for(seconds(3));
    assert_eq!(led_by(&s, ONE, 24).len(), 8);
    let time_per_kilobyte = Duration::from_micros(200);
    let trouble = LinkTrouble { time_per_kilobyte, ..LinkTrouble::default() };
    s.world.trouble_link(ONE, THREE, Some(trouble));
    s
}

/// Seven groups have more to send all the time, and the eighth finds too little room for its entry. While it waits, the
/// others wait behind it: what it waits for is the outbox, and not their end.
#[test]
fn a_group_that_found_no_room_goes_before_others_that_have_more_to_send() {
    let reached = Recorder::install();
    let s = at_a_narrow_link(507, 1 << 20, None);
    let led = led_by(&s, ONE, 24);
    let (eighth, seven) = led.split_last().expect("node 1 leads some");
    assert_eq!(seven.len(), 7);
    // The seven have enough for two seconds.
    let write = |group: GroupId, number: usize, bytes: usize| {
        s.submit(ONE, group, set(&format!("key-{number}"), &"v".repeat(bytes)))
    };
    let mut writes = Vec::new();
    for number in 0..100 {
        writes.extend(seven.iter().map(|group| write(*group, number, 14_000)));
        s.run_for(millis(1));
    }
    s.run_for(millis(300));
    let applied = |node, group: GroupId| s.status(node, group).map(|it| it.applied);
    let before = applied(THREE, *eighth);
    let started = s.world.now();
    writes.push(write(*eighth, 0, 60_000));
    s.must_reach("the eighth is served", seconds(3), || applied(THREE, *eighth) > before);
    let took = s.world.now() - started;
    assert!(took < millis(600), "{took:?}");
    let behind = |group: &&GroupId| applied(THREE, **group) < applied(ONE, **group);
    assert_eq!(seven.iter().filter(behind).count(), 7, "all others have more to send");
    for state in
        ["group waits for room to a peer", "entries wait behind those of groups without room"]
    {
        assert!(reached.counts().contains_key(state), "{state}");
    }
    s.run_for(seconds(2));
    assert!(writes.iter().all(Pending::is_done));
    s.must_converge(seconds(5));
    s.assert_sound();
}

/// What all eight groups have to send has left their caches: each reads it from the log when it is let on, and the others
/// wait meanwhile. The link stays busy.
#[test]
fn groups_that_read_their_log_take_turns_at_a_narrow_link() {
    let reached = Recorder::install();
    let s = at_a_narrow_link(508, 256 << 10, Some(20_000));
    let writes = write_at_one(&s, 24, 14_000, 100, millis(1));
    // 11 MB: at most as long again.
    s.run_for(seconds(4));
    for group in led_by(&s, ONE, 24) {
        let applied = |node| s.status(node, group).map(|it| it.applied);
        assert_eq!(applied(THREE), applied(ONE), "{group}");
    }
    assert!(writes.iter().all(Pending::is_done));
    for state in ["lagging follower needs entries from the WAL", "group waits for room to a peer"] {
        assert!(reached.counts().contains_key(state), "{state}");
    }
    s.must_converge(seconds(5));
    s.assert_sound();
}
