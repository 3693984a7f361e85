//! Directories that are fresh, wiped, old, or another node's.

use crate::support::{ONE, THREE, TWO, seconds};
use purlin::ErrorKind;
use purlin_tests::{cluster::scenario::Scenario, sim::Crash};

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
