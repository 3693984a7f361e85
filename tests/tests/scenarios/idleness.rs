//! What a cluster does when nobody asks it anything.

use crate::support::seconds;
use purlin_tests::cluster::scenario::Scenario;

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
