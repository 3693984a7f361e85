//! Disks that hang, fill up or fail.

use crate::support::{ONE, TWO, seconds};
use purlin::{NodeId, RequestError};
use purlin_tests::cluster::scenario::{Answer, Scenario};
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
