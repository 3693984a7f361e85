//! kill -9: of one node after the other, and of all at once. What was acknowledged stays.

use super::support::{Cluster, History, Load, Shape};
use std::time::Instant;

const SHAPE: Shape = Shape { shards: 1, groups: 12 };

#[test]
fn a_killed_node_loses_nothing_and_catches_up() {
    let mut cluster = Cluster::start("kill-one", SHAPE);
    let load = Load::start(&cluster, "w", 6);
    load.wait_for(100);
    for place in 0..cluster.nodes.len() {
        let led = cluster.nodes[place].info("purlin_groups_led").expect("it serves");
        cluster.nodes[place].strike();
        let moment = Instant::now();
        cluster.nodes[place].kill();
        let (median, last) = load.resumed(moment);
        println!(
            "node {}, leader of {led} groups of 12, was killed: writes went on after {} ms (the \
             median of all counters), the last after {} ms",
            place + 1,
            median.as_millis(),
            last.as_millis()
        );
        cluster.nodes[place].start();
        cluster.wait_until_ready();
        load.wait_for(50);
    }
    let history = load.stop();
    println!("{}", history.summary());
    cluster.wait_until_equal();
    history.check(&cluster);
    cluster.assert_no_panic();
}

#[test]
fn all_killed_at_once_start_again_in_any_order() {
    let mut cluster = Cluster::start("kill-all", SHAPE);
    let mut history = History::default();
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    for order in orders {
        let load = Load::start(&cluster, &format!("o{order:?}"), 3);
        load.wait_for(40);
        cluster.nodes.iter().for_each(|node| node.strike());
        cluster.nodes.iter_mut().for_each(|node| node.kill());
        history.add(load.stop());
        for place in order {
            cluster.nodes[place].start();
            // It is open, and listens, before the next one starts.
            cluster.nodes[place].client();
        }
        cluster.wait_until_ready();
        history.check(&cluster);
    }
    println!("{}", history.summary());
    cluster.wait_until_equal();
    cluster.assert_no_panic();
}
