//! Disks that hang, fill up, fail, or forget.

use crate::support::{ONE, THREE, TWO, millis, one_leader, seconds};
use purlin::{Durability, ErrorKind, GroupId, NodeId, RequestError, ShardId};
use purlin_rsm::reach::Recorder;
use purlin_tests::{
    cluster::{
        ClusterOptions,
        scenario::{Answer, GROUP, Scenario, calm, get, set},
    },
    sim::{Crash, Descriptors, DiskError, DiskFault, DiskOperation, Latency, Random, Rot},
};
use std::time::Duration;

/// Safety R5: its network lives, so nobody else could lead.
#[test]
fn a_node_whose_disk_hangs_loses_its_leadership() {
    let s = Scenario::running(7, 3, 2);
    let leader = s.leader();
    s.world.node(leader).hang_disk(seconds(60));
    let others = s.others(leader);
    s.must_reach("another leader", seconds(10), || {
        s.leader_among(&others).is_some_and(|now| now != leader)
    });
    s.must_write(others[0], "moved", "1", seconds(5));
    s.assert_sound();
}

/// A disk that is slow and works at its full speed does not hang, whatever waits for it: a batch that takes
/// longer than two election timeouts costs no leadership.
#[test]
fn a_slow_disk_with_much_to_write_keeps_its_leadership() {
    let reached = Recorder::install();
    let mut options = calm(3, 0);
    options.world.disk.bytes_per_second = Some(6_000_000);
    let s = Scenario::running_with(7, options);
    let (leader, term) = (s.leader(), s.term());
    let value = "v".repeat(60_000);
    let write = |n: usize| s.submit(leader, GROUP, set(&format!("key-{n}"), &value));
    let writes: Vec<_> = (0..300).map(write).collect();
    s.run_for(seconds(8));
    let done = writes.iter().filter(|write| write.is_done()).count();
    assert_eq!((done, s.term()), (300, term), "18 MB at 6 MB a second, and no election");
    assert!(reached.counts().contains_key("write of a group cut over two batches"));
    s.assert_sound();
}

/// Its requests end by their deadline, and their entries still wait for the disk.
#[test]
fn requests_that_wait_for_a_disk_that_hangs_are_bounded() {
    let s = Scenario::running(14, 1, 0);
    s.world.node(ONE).hang_disk(seconds(60));
    let value = "v".repeat(60_000);
    let write = |n: u32| s.write(ONE, &format!("key-{n}"), &value, Duration::from_millis(1));
    let is_busy = |answer: &Answer| matches!(answer, Some(Err(RequestError::Busy)));
    let full = (0..2000).find(|n| is_busy(&write(*n)));
    assert!(full.is_some(), "120 MB were taken in");
    s.run_for(seconds(12));
    let full_again = (0..20).find(|n| is_busy(&write(*n)));
    assert!(full_again.is_some(), "those that have ended made room for as many again");
    s.must_write(ONE, "resumed", "1", seconds(90));
    s.assert_sound();
}

#[test]
fn a_full_disk_refuses_writes_and_reads_on_and_resumes_by_itself() {
    let s = Scenario::running(8, 3, 0);
    s.run_for(seconds(2));
    let full = |node: NodeId| s.world.node(node).set_quota(Some(s.world.node(node).used()));
    s.nodes().for_each(full);
    let value = "v".repeat(60_000);
    let refused = (0..400).find_map(|n| {
        let answer = s.write(ONE, &format!("key-{n}"), &value, seconds(3));
        (!matches!(answer, Some(Ok(_)))).then_some(answer)
    });
    assert!(refused.is_some(), "24 MB went into full disks");
    // Refused before it is proposed: the client waits for no deadline, and the outcome is certain.
    let leader = one_leader(&s, &[ONE, TWO, THREE]);
    let told = s.write(leader, "more", &value, seconds(1));
    assert_eq!(told, Some(Err(RequestError::NoSpace)));
    assert_eq!(s.must_read(ONE, "first", seconds(5)).as_deref(), Some("1"));
    assert_eq!(s.must_read(TWO, "key-0", seconds(5)).as_deref(), Some(value.as_str()));
    assert_eq!(s.stops(), [], "no shard stops for want of space");
    s.nodes().for_each(|node| s.world.node(node).set_quota(None));
    s.must_write(ONE, "resumed", "1", seconds(30));
    s.assert_sound();
}

/// A process without file descriptors makes no segment. It refuses writes as on a full disk, and its log goes
/// on: with clients alone, a poisoned log could be had from outside.
#[test]
fn nodes_without_descriptors_refuse_writes_and_read_on_and_resume_by_themselves() {
    let s = Scenario::running(11, 3, 0);
    s.run_for(seconds(2));
    s.nodes().for_each(|node| s.world.node(node).set_descriptors(Descriptors::Gone));
    let value = "v".repeat(60_000);
    let refused = (0..400).find_map(|n| {
        let answer = s.write(ONE, &format!("key-{n}"), &value, seconds(3));
        (!matches!(answer, Some(Ok(_)))).then_some(answer)
    });
    assert!(refused.is_some(), "24 MB went into segments that could not be made");
    assert_eq!(s.stops(), [], "no shard stops for want of a descriptor");
    assert_eq!(s.must_read(TWO, "key-0", seconds(5)).as_deref(), Some(value.as_str()));
    s.nodes().for_each(|node| s.world.node(node).set_descriptors(Descriptors::Enough));
    s.must_write(ONE, "resumed", "1", seconds(30));
    s.assert_sound();
}

/// B86, safety W8: what is kept for hard states is kept, however long there is no room: neither entries nor
/// what is remembered of peers use it up.
#[test]
fn a_disk_that_is_full_for_long_still_votes() {
    let (seed, idle) = (9, GroupId(2));
    let s = Scenario::running_with(seed, ClusterOptions { groups: 2, ..calm(3, 0) });
    s.run_for(seconds(2));
    s.world.node(ONE).set_quota(Some(s.world.node(ONE).used()));
    let value = "v".repeat(60_000);
    (0..100).for_each(|n| s.must_write(TWO, &format!("large-{n}"), &value, seconds(5)));
    for n in 0..400 {
        s.must_write(TWO, &format!("small-{n}"), "1", seconds(5));
        s.run_for(seconds(1));
    }
    // The other two need it to elect anybody.
    let led_by = |node| s.status(node, idle).and_then(|status| status.leader);
    let leader = led_by(TWO).expect("a leader");
    assert_ne!(leader, ONE, "another seed");
    s.crash(leader, Crash::PowerCut);
    s.must_reach("another leader", seconds(20), || led_by(ONE).is_some_and(|it| it != leader));
    assert_eq!(s.stops(), [], "no shard stops for want of space");
    s.world.node(ONE).set_quota(None);
    s.world.restart(leader);
    s.must_write(ONE, "resumed", "1", seconds(30));
    s.assert_sound();
}

/// B86: what waits for room may be the next segment's header alone, which came with no entry: it must be
/// tried again all the same.
#[test]
fn room_is_found_again_wherever_it_ran_out() {
    for (seed, bytes) in [(10, 100), (11, 5_000), (12, 9_000)] {
        let s = Scenario::running(seed, 1, 0);
        s.world.node(ONE).set_quota(Some(s.world.node(ONE).used()));
        // Each write is followed by the batch that closes it.
        let value = "v".repeat(bytes);
        let refused = (0..2_000).any(|n| {
            s.run_for(millis(250));
            !matches!(s.write(ONE, &format!("key-{n}"), &value, seconds(1)), Some(Ok(_)))
        });
        assert!(refused, "8 MB went into a full disk");
        s.run_for(seconds(30));
        s.world.node(ONE).set_quota(None);
        s.must_write(ONE, "resumed", "1", seconds(30));
        s.assert_sound();
    }
}

/// B21, safety A4: the only copy does not count before it is durable.
#[test]
fn a_lone_node_acknowledges_nothing_that_its_disk_has_not_done() {
    for (seed, how) in [(710, Crash::PowerCut), (711, Crash::Kill)] {
        let s = Scenario::running(seed, 1, 0);
        s.world.node(ONE).hang_disk(seconds(5));
        let write = s.submit(ONE, GROUP, set("key", "1"));
        s.run_for(seconds(2));
        assert_eq!(write.answer(), None, "the disk stands still");
        s.crash(ONE, how);
        s.run_for(seconds(10));
        assert_eq!(write.answer(), None, "it was never durable");
        s.world.restart(ONE);
        s.must_write(ONE, "key", "2", seconds(20));
        s.assert_sound();
    }
}

/// B22, safety A2: a follower whose disk stands still acknowledges nothing, however often it is asked.
#[test]
fn a_follower_acknowledges_nothing_that_its_disk_has_not_done() {
    for seed in 712..716 {
        let s = Scenario::running(seed, 3, 0);
        let leader = one_leader(&s, &[ONE, TWO, THREE]);
        let [follower, down] = s.others(leader)[..] else { panic!("three nodes") };
        s.crash(down, Crash::PowerCut);
        s.run_for(millis(300));
        s.world.node(follower).hang_disk(seconds(4));
        let writes: Vec<_> =
            (0..5).map(|n| s.submit(leader, GROUP, set(&format!("key-{n}"), "1"))).collect();
        for _ in 0..10 {
            s.run_for(millis(300));
            // What is sent again meets an older write that is still on its way.
            s.world.reset_connections(leader, follower);
        }
        assert!(!writes.iter().any(|write| write.is_done()), "done on one disk of three");
        s.crash(follower, Crash::PowerCut);
        s.crash(leader, Crash::PowerCut);
        s.nodes().for_each(|node| s.world.restart(node));
        s.must_write(ONE, "end", "1", seconds(20));
        s.assert_sound();
    }
}

/// B24, B06, safety W1: writes complete in any order, and power fails at any moment. What was told as
/// done is there after it, on one node and on three.
#[test]
fn an_acknowledged_write_is_there_after_a_blackout_at_any_moment() {
    for (seed, nodes) in [(716, 1), (717, 1), (718, 3), (719, 3)] {
        let mut options = calm(nodes, 0);
        options.durability = if seed % 2 == 0 { Durability::EachWrite } else { Durability::OnSync };
        let disk = &mut options.world.disk;
        disk.write = Latency::steady(Duration::from_micros(20), millis(8));
        disk.sync = Latency::steady(Duration::from_micros(20), millis(4));
        let s = Scenario::running_with(seed, options);
        let random = Random::new(seed, "blackouts");
        for round in 0..8 {
            let mut writes = Vec::new();
            for n in 0..30 {
                let (key, at) = (format!("{round}-{n}"), NodeId(1 + n % nodes));
                writes.push((s.submit(at, GROUP, set(&key, "kept")), key));
                s.run_for(random.duration(Duration::ZERO..millis(2)));
            }
            s.run_for(random.duration(Duration::ZERO..millis(10)));
            s.nodes().for_each(|node| s.crash(node, Crash::PowerCut));
            s.nodes().for_each(|node| s.world.restart(node));
            for (write, key) in writes.iter().filter(|(write, _)| write.is_done()) {
                let found = s.must_read(ONE, key, seconds(20));
                assert_eq!(found.as_deref(), Some("kept"), "{key}: {:?}", write.answer());
            }
        }
        s.assert_sound();
    }
}

/// B27, B84: a leader whose write fails, while its followers have what it could not write, stops; it
/// never puts something else in that place.
#[test]
fn a_leader_whose_write_fails_stops_and_returns_with_the_same_log() {
    for (seed, error) in (720..).zip([DiskError::Device, DiskError::Full]) {
        let s = Scenario::running(seed, 3, 0);
        let leader = one_leader(&s, &[ONE, TWO, THREE]);
        s.run_for(seconds(2));
        s.world.node(leader).arm(fault(DiskOperation::Write, error));
        let writes: Vec<_> =
            (0..5).map(|n| s.submit(leader, GROUP, set(&format!("key-{n}"), "1"))).collect();
        s.must_stop(leader, ErrorKind::Disk, seconds(5));
        let other = s.others(leader)[0];
        s.must_write(other, "other", "1", seconds(10));
        s.world.restart(leader);
        s.must_write(leader, "back", "1", seconds(10));
        for (n, _) in writes.iter().enumerate().filter(|(_, write)| write.is_done()) {
            assert_eq!(s.must_read(other, &format!("key-{n}"), seconds(5)).as_deref(), Some("1"));
        }
        s.must_converge(seconds(10));
        s.assert_sound();
    }
}

/// B84: a sync that has failed is never tried again: a later success would not cover what it dropped.
#[test]
fn nothing_is_acknowledged_after_a_sync_that_failed() {
    for seed in 722..726 {
        let options = ClusterOptions { durability: Durability::OnSync, ..calm(1, 0) };
        let s = Scenario::running_with(seed, options);
        s.run_for(seconds(2));
        s.world.node(ONE).arm(fault(DiskOperation::Sync, DiskError::Device));
        let writes: Vec<_> = (0..40)
            .map(|n| {
                s.run_for(Duration::from_micros(200));
                (s.submit(ONE, GROUP, set(&format!("key-{n}"), "1")), format!("key-{n}"))
            })
            .collect();
        s.must_stop(ONE, ErrorKind::Disk, seconds(5));
        s.crash(ONE, Crash::PowerCut);
        s.world.restart(ONE);
        for (_, key) in writes.iter().filter(|(write, _)| write.is_done()) {
            assert_eq!(s.must_read(ONE, key, seconds(20)).as_deref(), Some("1"), "{key}");
        }
        s.must_write(ONE, "after", "1", seconds(10));
        s.assert_sound();
    }
}

/// A leader, another node, and one that is unplugged and lags by more than a leader keeps in memory.
fn one_lags(s: &Scenario, value: &str) -> [NodeId; 3] {
    let leader = one_leader(s, &[ONE, TWO, THREE]);
    let [other, behind] = s.others(leader)[..] else { panic!("three nodes") };
    s.unplug(behind);
    // Its connections give up, and with them what they would have held for it.
    s.run_for(seconds(20));
    (0..150).for_each(|n| s.must_write(leader, &format!("key-{n}"), value, seconds(5)));
    [leader, other, behind]
}

/// B28: what cannot be read for a follower stops the shard that cannot read it, and never shortens the
/// follower's log.
#[test]
fn a_leader_that_cannot_read_its_log_for_a_follower_stops() {
    let s = Scenario::running(726, 3, 0);
    let value = "v".repeat(60_000);
    let [leader, other, behind] = one_lags(&s, &value);
    // What cannot be read is read again, once.
    s.world
        .node(leader)
        .arm(DiskFault { times: 2, ..fault(DiskOperation::Read, DiskError::Device) });
    s.plug_in(behind);
    s.must_stop(leader, ErrorKind::Disk, seconds(15));
    s.must_write(other, "other", "1", seconds(10));
    s.must_reach("it catches up from another", seconds(20), || {
        s.applied(behind) >= s.applied(other)
    });
    assert_eq!(s.must_read(behind, "key-149", seconds(10)), Some(value));
    s.world.restart(leader);
    s.must_write(leader, "back", "1", seconds(10));
    s.must_converge(seconds(20));
    s.assert_sound();
}

/// B79: the one entry of a quiet group lies in a segment that nobody else needs any more.
#[test]
fn the_entries_of_a_quiet_group_outlive_many_segments() {
    let s = Scenario::running_with(727, ClusterOptions { groups: 2, ..calm(3, 0) });
    let quiet = GroupId(2);
    let wrote = s.ask(ONE, quiet, set("quiet", "kept"), seconds(10));
    assert!(matches!(wrote, Some(Ok(_))), "{wrote:?}");
    let value = "v".repeat(60_000);
    for n in 0..60 {
        s.must_write(ONE, "loud", &value, seconds(5));
        if n % 20 == 19 {
            s.nodes().for_each(|node| s.crash(node, Crash::PowerCut));
            s.nodes().for_each(|node| s.world.restart(node));
            s.must_write(ONE, "loud", "again", seconds(20));
        }
    }
    let read = s.ask(TWO, quiet, get("quiet"), seconds(10));
    assert_eq!(read, Some(Ok(Some("kept".into()))));
    s.assert_sound();
}

/// B82, safety W5: damage in what was durable stops its shard, which says where; the node's other
/// shard goes on, and so do all groups. Nothing is shortened: it stays so however often it is started.
#[test]
fn damage_stops_its_shard_and_nothing_else() {
    let options = ClusterOptions { shards: vec![2; 3], groups: 4, ..calm(3, 0) };
    let s = Scenario::running_with(728, options);
    let value = "v".repeat(60_000);
    for n in 0..40 {
        let group = GroupId(1 + n % 4);
        let answer = s.ask(ONE, group, set(&format!("key-{n}"), &value), seconds(10));
        assert!(matches!(answer, Some(Ok(_))), "{answer:?}");
    }
    s.run_for(seconds(2));
    s.crash(THREE, Crash::Kill);
    s.run_for(seconds(1));
    damage(&s, THREE, "shard-1");
    for _ in 0..2 {
        s.world.restart(THREE);
        s.must_reach("the shard says so", seconds(10), || {
            s.stops().last().is_some_and(|(_, kind, _)| *kind == ErrorKind::Damage)
        });
        let (node, _, text) = s.stops().pop().expect("it has stopped");
        assert!(node == THREE && text.contains("shard-1"), "{text}");
        assert!(s.world.is_running(THREE), "the other shard goes on");
        for n in 0..4 {
            let group = GroupId(1 + n);
            let answer = s.ask(ONE, group, set("after", "1"), seconds(15));
            assert!(matches!(answer, Some(Ok(_))), "group {group}: {answer:?}");
        }
        s.must_reach("its other shard is back", seconds(10), || {
            s.status(THREE, GroupId(2)).is_some_and(|status| status.leader.is_some())
        });
        // Groups 2 and 4 live on its first shard.
        let read = s.ask(THREE, GroupId(2), get("after"), seconds(10));
        assert_eq!(read, Some(Ok(Some("1".into()))));
        s.crash(THREE, Crash::Kill);
        s.run_for(seconds(1));
    }
    s.assert_sound();
}

/// B89: one of three is damaged, and the nodes return in any order. Nothing acknowledged is lost, and
/// the damaged one serves nothing.
#[test]
fn damage_to_one_of_three_loses_nothing_in_whatever_order_they_return() {
    let orders = [[1, 2, 3], [1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1]];
    for (seed, order) in (730..).zip(orders) {
        let s = Scenario::running(seed, 3, 0);
        let value = "v".repeat(60_000);
        (0..20).for_each(|n| s.must_write(ONE, &format!("key-{n}"), &value, seconds(5)));
        s.run_for(seconds(2));
        s.nodes().for_each(|node| s.crash(node, Crash::PowerCut));
        s.run_for(seconds(1));
        damage(&s, THREE, "shard-0");
        for node in order {
            s.world.restart(NodeId(node));
            s.run_for(seconds(1));
        }
        for n in 0..20 {
            let found = s.must_read(NodeId(1 + n % 2), &format!("key-{n}"), seconds(20));
            assert_eq!(found.as_ref(), Some(&value), "key-{n}, {order:?}");
        }
        assert!(!s.world.is_running(THREE), "it serves what it cannot read");
        assert!(
            s.stops().iter().all(|(node, kind, _)| (*node, *kind) == (THREE, ErrorKind::Damage))
        );
        assert!(!s.stops().is_empty());
        s.assert_sound();
    }
}

/// Safety W5: damage that a leader meets while it reads for a follower is told as damage. The follower
/// gets nothing of it, and the next start of the shard finds it too.
#[test]
fn damage_under_a_read_for_a_follower_stops_the_shard_as_damage() {
    let s = Scenario::running(741, 3, 0);
    let value = "v".repeat(60_000);
    let [leader, other, behind] = one_lags(&s, &value);
    s.world
        .node(leader)
        .rot(&Random::new(742, "rot"), Rot::Bit)
        .expect("its log has durable batches");
    s.plug_in(behind);
    let told = s.must_stop(leader, ErrorKind::Damage, seconds(15));
    for part in ["a durable batch is not readable any more", "\n  in ", "\n  means ", "\n  do "] {
        assert!(told.contains(part), "{part} in {told}");
    }
    s.must_write(other, "other", "1", seconds(10));
    s.must_reach("it catches up from another", seconds(20), || {
        s.applied(behind) >= s.applied(other)
    });
    (0..150).step_by(7).for_each(|n| {
        let found = s.must_read(behind, &format!("key-{n}"), seconds(10));
        assert_eq!(found.as_ref(), Some(&value), "key-{n}");
    });
    s.world.restart(leader);
    s.must_stop(leader, ErrorKind::Damage, seconds(10));
    s.assert_sound();
}

/// Safety W4: a device that reads once from a wrong place, in the middle of a catch-up, stops nobody.
#[test]
fn a_read_for_a_follower_from_a_wrong_place_is_read_again() {
    for seed in 742..746 {
        let s = Scenario::running(seed, 3, 0);
        let value = "v".repeat(60_000);
        let [leader, other, behind] = one_lags(&s, &value);
        let node = s.world.node(leader);
        node.arm(fault(DiskOperation::Read, DiskError::Elsewhere));
        s.plug_in(behind);
        s.must_reach("it catches up", seconds(20), || s.applied(behind) >= s.applied(other));
        assert!(!node.is_armed(DiskOperation::Read), "it never happened");
        assert_eq!(s.stops(), [], "seed {seed}");
        assert_eq!(s.must_read(behind, "key-149", seconds(10)).as_ref(), Some(&value));
        s.assert_sound();
    }
}

/// Safety A2, W8: a follower's disk is full, and entries wait for room. No vote may pass them, though
/// there is room for it: it would make them look durable, and a new leader would count them.
#[test]
fn a_vote_passes_no_entries_that_wait_for_room() {
    for seed in 731..733 {
        let s = Scenario::running(seed, 3, 0);
        s.run_for(seconds(2));
        let leader = one_leader(&s, &[ONE, TWO, THREE]);
        let [other, follower] = s.others(leader)[..] else { panic!("three nodes") };
        let full = s.world.node(follower);
        full.set_quota(Some(full.used()));
        let value = "v".repeat(60_000);
        for n in 0..100 {
            s.must_write(leader, &format!("key-{n}"), &value, seconds(5));
        }
        s.run_for(seconds(2));
        s.crash(leader, Crash::PowerCut);
        s.run_for(seconds(5));
        let elected = s.leader_among(&[other, follower]).filter(|node| *node != leader);
        assert_eq!(
            elected, None,
            "seed {seed}: a vote left before what it vouches for was durable"
        );
        full.set_quota(None);
        s.must_write(other, "more", "1", seconds(20));
        s.world.restart(leader);
        s.must_converge(seconds(20));
        s.assert_sound();
    }
}

/// The vote of a full follower waits behind its entries, and nobody needs it: the nodes that can commit can elect. A
/// group of the same nodes in which no entries wait has every vote.
#[test]
fn a_majority_with_room_elects_without_the_vote_that_waits() {
    let s = Scenario::running_with(734, ClusterOptions { groups: 2, ..calm(5, 0) });
    s.run_for(seconds(2));
    let nodes: Vec<NodeId> = s.nodes().collect();
    let leader = one_leader(&s, &nodes);
    let full = s.others(leader)[0];
    s.world.node(full).set_quota(Some(s.world.node(full).used()));
    let value = "v".repeat(60_000);
    for n in 0..100 {
        s.must_write(leader, &format!("key-{n}"), &value, seconds(5));
    }
    s.run_for(seconds(2));
    s.crash(leader, Crash::PowerCut);
    let rest: Vec<NodeId> =
        nodes.iter().copied().filter(|node| ![leader, full].contains(node)).collect();
    s.must_write(rest[0], "more", "1", seconds(10));
    // With a second one down, no majority could commit in this group. The idle one elects by the vote of the full node.
    let idle = GroupId(2);
    let knows = |node: NodeId| s.status(node, idle).and_then(|status| status.leader);
    let down = knows(rest[0]).filter(|node| rest.contains(node)).unwrap_or(rest[1]);
    s.crash(down, Crash::PowerCut);
    s.must_reach("a leader of the idle group", seconds(20), || {
        knows(full).is_some_and(|node| rest.contains(&node) && node != down)
    });
    s.world.node(full).set_quota(None);
    let up = rest.iter().copied().find(|node| *node != down).expect("two are up");
    s.must_write(up, "resumed", "1", seconds(20));
    [leader, down].into_iter().for_each(|node| s.world.restart(node));
    s.must_converge(seconds(30));
    s.assert_sound();
}

/// B86: without a free byte a cluster starts, reads, and says no; with room it goes on by itself.
#[test]
fn a_cluster_starts_on_full_disks() {
    let s = Scenario::running(740, 3, 0);
    (0..20).for_each(|n| s.must_write(ONE, &format!("key-{n}"), "1", seconds(5)));
    s.run_for(seconds(2));
    s.nodes().for_each(|node| s.crash(node, Crash::PowerCut));
    s.nodes().for_each(|node| s.world.node(node).set_quota(Some(s.world.node(node).used())));
    s.nodes().for_each(|node| s.world.restart(node));
    (0..20).for_each(|n| {
        let found = s.must_read(TWO, &format!("key-{n}"), seconds(20));
        assert_eq!(found.as_deref(), Some("1"));
    });
    assert_eq!(s.stops(), [], "no shard stops for want of space");
    s.nodes().for_each(|node| s.world.node(node).set_quota(None));
    let value = "v".repeat(60_000);
    (0..40).for_each(|n| s.must_write(ONE, &format!("more-{n}"), &value, seconds(30)));
    s.assert_sound();
}

/// A shard that stands still does not stop the others of its node, nor depose them.
#[test]
fn a_shard_that_stands_still_stops_no_other() {
    let options = ClusterOptions { shards: vec![2; 3], groups: 2, ..calm(3, 0) };
    let s = Scenario::running_with(741, options);
    let (on_one, on_zero) = (GroupId(1), GroupId(2));
    s.must_reach("a leader of each", seconds(10), || {
        [on_one, on_zero].iter().all(|it| s.status(ONE, *it).is_some_and(|it| it.leader.is_some()))
    });
    let leader = s.status(ONE, on_zero).and_then(|status| status.leader).expect("there is one");
    let elections = s.elections(on_zero);
    s.world.pause(leader, ShardId(1));
    for n in 0..20 {
        let answer = s.ask(leader, on_zero, set(&format!("key-{n}"), "1"), millis(500));
        assert!(matches!(answer, Some(Ok(_))), "the {n}th write: {answer:?}");
        s.run_for(millis(200));
    }
    assert_eq!(s.elections(on_zero), elections, "deposed for another shard's sake");
    s.world.resume(leader, ShardId(1));
    let answer = s.ask(leader, on_one, set("key", "1"), seconds(12));
    assert!(matches!(answer, Some(Ok(_))), "{answer:?}");
    s.assert_sound();
}

/// One failure of the node's log.
fn fault(operation: DiskOperation, error: DiskError) -> DiskFault {
    DiskFault { operation, path_contains: "shard-0".to_owned(), times: 1, error }
}

/// Turns a byte in the middle of the oldest segment of a shard that is long enough: a start begins a short one.
fn damage(s: &Scenario, node: NodeId, shard: &str) {
    let image = s.world.node(node).readable_image();
    let files = image.files();
    let position = 300 << 10;
    let is_long = |name: &str| {
        image.read(name, position, 64).is_some_and(|it| it.iter().any(|byte| *byte != 0))
    };
    let is_log = |name: &str| name.starts_with(shard) && name.ends_with(".wal") && is_long(name);
    let (path, _) = files.iter().find(|(name, _)| is_log(name)).expect("it has a log");
    let byte = image.read(path, position, 1).expect("it is as long")[0];
    s.world.node(node).overwrite(path, position, &[byte ^ 4]).expect("it is there");
}

/// As with a batch of the log (safety W4): only what is wrong twice is wrong.
#[test]
fn an_identity_that_is_read_wrongly_once_is_read_again() {
    for error in [DiskError::Device, DiskError::Short, DiskError::Elsewhere] {
        let s = Scenario::running(9, 3, 0);
        s.crash(ONE, Crash::Kill);
        let path_contains = "identity".to_owned();
        let operation = DiskOperation::Read;
        s.world.node(ONE).arm(DiskFault { operation, path_contains, times: 1, error });
        s.start(ONE, 1);
        s.must_write(ONE, "again", "1", seconds(20));
        assert!(!s.world.node(ONE).is_armed(operation), "{error:?} never happened");
        assert_eq!(s.stops(), []);
        s.assert_sound();
    }
}
