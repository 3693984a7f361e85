//! Links that flip bits, break, or hold bytes back.

use crate::support::{agree, millis, seconds, shake, shaky};
use purlin::NodeId;
use purlin_tests::{
    cluster::{ClusterOptions, scenario::Scenario},
    sim::{Crash, Random},
};

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
