//! What a cluster does when nobody asks it anything.

use crate::support::{all, all_apply, millis, one_leader, seconds};
use purlin_rsm::reach::Recorder;
use purlin_tests::{
    cluster::scenario::{GROUP, Scenario, set},
    sim::LinkTrouble,
};

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

/// Safety W9: a write now and then costs no second one. The log is closed once nothing has come for a beat.
#[test]
fn a_log_is_closed_once_when_its_shard_falls_idle_and_not_between_writes() {
    let s = Scenario::running(19, 3, 0);
    let leader = one_leader(&s, &all(&s));
    let control = s.control(leader);
    let closing = || control.latest().wal.figures.closing_batches;
    s.run_for(seconds(2));
    let idle = closing();
    for n in 0..60 {
        s.submit(leader, GROUP, set("key", &n.to_string()));
        s.run_for(millis(50));
    }
    assert_eq!(closing(), idle, "something came in each beat");
    s.run_for(seconds(2));
    assert_eq!(closing(), idle + 1);
    s.run_for(seconds(10));
    assert_eq!(closing(), idle + 1, "nothing has come since");
    s.assert_sound();
}

/// B33: the leader's disk hangs when a commit is to be told, so that the append which tells it is withheld
/// (safety R5); and the answer to the one before comes after that. Nothing is said in this group ever after.
#[test]
fn a_commit_whose_append_was_withheld_is_told_later() {
    let reached = Recorder::install();
    let s = Scenario::running(41, 5, 0);
    s.run_for(seconds(2));
    let leader = s.leader();
    let [.., slow, slower] = s.others(leader)[..] else { panic!("five nodes") };
    for (node, delay) in [(slow, 200), (slower, 400)] {
        let trouble = LinkTrouble { delay: millis(delay), ..LinkTrouble::default() };
        s.world.trouble_link(node, leader, Some(trouble));
    }
    s.run_for(seconds(2));
    assert_eq!(s.leader(), leader);
    s.world.node(leader).hang_disk(millis(1_300));
    let first = s.submit(leader, GROUP, set("key", "1"));
    // Whatever is asked later is withheld: two election timeouts of the disk are almost over.
    s.run_for(millis(950));
    let last = s.submit(leader, GROUP, set("key", "2"));
    s.must_reach("both are done", seconds(3), || first.is_done() && last.is_done());
    let applied = s.applied(leader);
    all_apply(&s, &all(&s), applied);
    assert!(reached.counts().contains_key("append withheld while the disk hangs"));
    assert_eq!(s.leader(), leader, "another leader would have told it anyway");
    s.assert_sound();
}
