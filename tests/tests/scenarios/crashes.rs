//! Nodes that are killed or lose their power.

use crate::support::seconds;
use purlin::NodeId;
use purlin_tests::{cluster::scenario::Scenario, sim::Crash};

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
