//! The real engine in the simulated world: seeds that must stay good, equal histories of equal seeds,
//! and what a cluster does when one thing goes wrong.

use purlin::{ErrorKind, NodeId, RequestError};
use purlin_tests::{
    cluster::{
        self, ClusterOptions, KeyValue,
        scenario::{Answer, Scenario},
    },
    sim::Crash,
};
use std::{process::Command, time::Duration};

const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);
const THREE: NodeId = NodeId(3);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn options(seed: u64, turmoil: u64) -> ClusterOptions {
    ClusterOptions { turmoil: seconds(turmoil), ..ClusterOptions::draw(seed) }
}

// ---- Seeds

/// Seeds that once failed, with the turmoil that they failed in, and others for breadth.
#[test]
fn seeds_stay_good() {
    let found_something =
        [(22, 10), (36, 10), (100, 10), (112, 10), (128, 10), (142, 10), (3105, 10)];
    let others = (2000..2018).map(|seed| (seed, 2));
    let failed: Vec<String> = found_something
        .into_iter()
        .chain(others)
        .filter_map(|(seed, turmoil)| {
            let report = cluster::run(seed, KeyValue::draw(seed), options(seed, turmoil));
            (!report.violations.is_empty() || report.inconclusive > 0).then(|| report.explain(seed))
        })
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn a_seed_has_one_history() {
    for seed in [3, 5] {
        let run = || cluster::run(seed, KeyValue::draw(seed), options(seed, 1));
        let (one, other) = (run(), run());
        assert_eq!((one.hash, one.events), (other.hash, other.events), "seed {seed}");
        assert!(one.events > 1_000, "seed {seed} did nothing");
    }
}

/// Nothing of a process, such as where its memory lies, may reach a history.
#[test]
fn a_seed_has_one_history_in_two_processes() {
    let run = || {
        let sim = Command::new(env!("CARGO_BIN_EXE_sim"))
            .args(["--seed", "7", "--seconds", "1"])
            .output()
            .expect("the simulator starts");
        let text = String::from_utf8(sim.stdout).expect("it writes text");
        let line = text.lines().find(|line| line.contains("hash")).map(str::to_owned);
        line.unwrap_or_else(|| panic!("no hash in {text}"))
    };
    assert_eq!(run(), run());
}

// ---- Crashes

#[test]
fn writes_resume_soon_after_the_leader_is_killed_under_load() {
    let s = Scenario::running(1, 3, 2);
    let leader = s.leader();
    s.crash(leader, Crash::Kill);
    s.must_write(s.others(leader)[0], "after", "1", seconds(3));
    s.world.restart(leader);
    s.must_write(leader, "again", "1", seconds(5));
    s.assert_sound();
}

#[test]
fn a_blackout_loses_nothing_acknowledged_in_whatever_order_nodes_return() {
    let orders = [[1, 2, 3], [1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1]];
    for (seed, order) in (20..).zip(orders) {
        let s = Scenario::running(seed, 3, 0);
        let write =
            |n: u32| s.must_write(NodeId(1 + n % 3), &format!("key-{n}"), "kept", seconds(5));
        (0..12).for_each(write);
        s.nodes().for_each(|node| s.crash(node, Crash::PowerCut));
        for node in order {
            s.run_for(seconds(2));
            s.world.restart(NodeId(node));
        }
        for n in 0..12 {
            let found = s.must_read(NodeId(1 + n % 3), &format!("key-{n}"), seconds(20));
            assert_eq!(found.as_deref(), Some("kept"), "key-{n} after {order:?}");
        }
        s.assert_sound();
    }
}

// ---- Directories

/// Safety I3.
#[test]
fn a_wiped_directory_is_refused_and_the_others_go_on() {
    let s = Scenario::running(2, 3, 0);
    s.crash(THREE, Crash::Kill);
    s.run_for(seconds(1));
    s.world.node(THREE).wipe();
    s.init(THREE);
    s.start(THREE, 1);
    s.must_stop(THREE, ErrorKind::Refused, seconds(20));
    s.must_write(ONE, "without", "3", seconds(5));
    s.assert_sound();
}

/// Safety I4.
#[test]
fn an_older_copy_of_a_directory_is_refused_for_good() {
    let s = Scenario::running(3, 3, 0);
    s.crash(THREE, Crash::Kill);
    s.run_for(seconds(1));
    let old = s.world.node(THREE).readable_image();
    s.world.restart(THREE);
    (0..10).for_each(|n| s.must_write(THREE, &format!("key-{n}"), "1", seconds(10)));
    s.run_for(seconds(5));
    s.crash(THREE, Crash::Kill);
    s.run_for(seconds(1));
    s.world.node(THREE).restore(&old);
    s.world.restart(THREE);
    s.must_stop(THREE, ErrorKind::Refused, seconds(20));
    // Alone with itself it still knows.
    s.world.isolate(THREE);
    s.world.restart(THREE);
    s.must_stop(THREE, ErrorKind::Refused, seconds(20));
    s.must_write(ONE, "without", "3", seconds(5));
    s.assert_sound();
}

#[test]
fn another_nodes_directory_is_refused() {
    let s = Scenario::running(4, 3, 0);
    s.crash(THREE, Crash::Kill);
    s.crash(TWO, Crash::Kill);
    s.run_for(seconds(1));
    let other = s.world.node(TWO).readable_image();
    s.world.node(THREE).restore(&other);
    s.world.restart(TWO);
    s.world.restart(THREE);
    s.must_stop(THREE, ErrorKind::DataDirectory, seconds(20));
    s.must_write(ONE, "without", "3", seconds(10));
    s.assert_sound();
}

#[test]
fn another_number_of_shards_is_refused() {
    let s = Scenario::running(5, 3, 0);
    s.crash(THREE, Crash::Kill);
    s.run_for(seconds(1));
    s.start(THREE, 2);
    s.must_reach("the node stops", seconds(20), || !s.world.is_running(THREE));
    let stops = s.stops();
    assert!(!stops.is_empty() && stops.iter().all(|(node, _, _)| *node == THREE), "{stops:?}");
    s.start(THREE, 1);
    s.must_write(THREE, "back", "1", seconds(10));
    s.assert_sound();
}

/// Safety I2.
#[test]
fn a_fresh_cluster_acts_only_when_all_have_met() {
    let s = Scenario::new(6, 3, 0);
    s.start(ONE, 1);
    s.start(TWO, 1);
    s.run_for(seconds(20));
    assert_eq!(s.leader_among(&[ONE, TWO]), None, "two of three, which have never met the third");
    s.start(THREE, 1);
    s.must_write(ONE, "met", "1", seconds(10));
    // From then on a majority is enough.
    s.crash(THREE, Crash::Kill);
    s.must_write(ONE, "two", "1", seconds(5));
    s.assert_sound();
}

// ---- Disks

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

/// Its requests end by their deadline, and their entries still wait for the disk.
#[test]
fn what_waits_for_a_disk_that_hangs_is_bounded() {
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
    assert_eq!(s.must_read(ONE, "first", seconds(5)).as_deref(), Some("1"));
    assert_eq!(s.must_read(TWO, "key-0", seconds(5)).as_deref(), Some(value.as_str()));
    assert_eq!(s.stops(), [], "no shard stops for want of space");
    s.nodes().for_each(|node| s.world.node(node).set_quota(None));
    s.must_write(ONE, "resumed", "1", seconds(30));
    s.assert_sound();
}

// ---- Partitions

/// B15, B17, B42: another leader soon, and the old one answers nothing that is stale.
#[test]
fn a_leader_that_is_cut_off_is_replaced_and_answers_nothing_stale() {
    for (seed, way) in (9..).zip(["both", "out", "in"]) {
        let s = Scenario::running(seed, 3, 0);
        s.must_write(ONE, "key", "old", seconds(5));
        let leader = s.leader();
        let others = s.others(leader);
        match way {
            "both" => s.world.partition(&[leader], &others),
            "out" => s.world.cut_one_way(&[leader], &others),
            _ => s.world.cut_one_way(&others, &[leader]),
        }
        s.must_reach(&format!("another leader, {way}"), seconds(4), || {
            s.leader_among(&others).is_some_and(|now| now != leader)
        });
        s.must_write(others[0], "key", "new", seconds(10));
        let read: Answer = s.read(leader, "key", seconds(12));
        let stale = matches!(&read, Some(Ok(value)) if value.as_deref() != Some(b"new"));
        assert!(!stale, "{way}: the old leader answered {read:?}");
        s.world.heal();
        assert_eq!(s.must_read(leader, "key", seconds(10)).as_deref(), Some("new"), "{way}");
        s.assert_sound();
    }
}

#[test]
fn a_minority_acknowledges_nothing() {
    let s = Scenario::running(12, 3, 0);
    let leader = s.leader();
    s.world.isolate(leader);
    let answer = s.write(leader, "lost", "1", seconds(12));
    assert!(!matches!(answer, Some(Ok(_))), "a write without a majority: {answer:?}");
    if let Some(Err(error)) = &answer {
        let is_honest = matches!(error, RequestError::Unknown { .. });
        assert!(is_honest, "it may yet be committed, and the answer was {error}");
    }
    s.assert_sound();
}

// ---- Idleness

/// Safety W9: heartbeats, and nothing else.
#[test]
fn an_idle_cluster_writes_nothing_and_says_little() {
    let s = Scenario::running(13, 3, 0);
    s.run_for(seconds(30));
    let before = (s.world.disk_events(), s.world.deliveries());
    s.run_for(seconds(60));
    let writes = s.world.disk_events() - before.0;
    let deliveries = s.world.deliveries() - before.1;
    assert_eq!(writes, 0, "writes of an idle cluster");
    // Six directions of three nodes, ten heartbeats a second; a delivery may be a part of one.
    assert!(deliveries <= 2 * 6 * 10 * 60, "{deliveries} deliveries in a minute");
    assert!(deliveries >= 6 * 10 * 50, "{deliveries} deliveries: the heartbeats have stopped");
    s.assert_sound();
}
