//! Directories that are fresh, wiped, old, or another node's.

use crate::support::{ONE, THREE, TWO, millis, seconds};
use purlin::{ClusterConfig, ClusterId, ErrorKind, GroupId, Member, NodeConfig, NodeId};
use purlin_rsm::reach::Recorder;
use purlin_tests::{
    cluster::{
        ClusterOptions,
        scenario::{GROUP, Scenario, calm, set},
    },
    sim::Crash,
};
use std::time::Duration;

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
    // At another node it is first of all not that node's own.
    let fenced = s.world.node(THREE).readable_image();
    s.crash(TWO, Crash::Kill);
    s.run_for(seconds(1));
    s.world.node(TWO).restore(&fenced);
    s.world.restart(TWO);
    let why = s.must_stop(TWO, ErrorKind::DataDirectory, seconds(20));
    assert!(why.contains("belongs to node 3, not 2"), "{why}");
    s.assert_sound();
}

/// Safety I4: the directory is fenced with all its shards, also those that nobody misses anything of. Each
/// of two shards is the one that is refused once.
#[test]
fn a_shard_that_lost_nothing_stops_with_one_that_went_back() {
    for (seed, group) in [(5, GroupId(1)), (6, GroupId(2))] {
        let shards = ClusterOptions { shards: vec![1, 1, 2], ..ClusterOptions::calm(3, 2) };
        let s = Scenario::running_with(seed, shards);
        s.crash(THREE, Crash::Kill);
        s.run_for(seconds(1));
        s.world.restart(THREE);
        s.must_write(THREE, "key", "1", seconds(10));
        // The shards start, and each is heard of, before the copy is made.
        s.run_for(seconds(5));
        let old = s.world.node(THREE).durable_image();
        for n in 0..10 {
            let answer = s.ask(THREE, group, set(&format!("key-{n}"), "1"), seconds(10));
            assert!(matches!(answer, Some(Ok(_))), "{answer:?}");
        }
        s.run_for(seconds(5));
        s.crash(THREE, Crash::PowerCut);
        s.world.node(THREE).restore(&old);
        s.world.restart(THREE);
        s.must_reach("both shards of node 3 stop", seconds(20), || s.stops().len() == 2);
        // Alone with itself it still knows, whichever shard was told.
        s.must_reach("no process", seconds(20), || !s.world.is_running(THREE));
        s.world.isolate(THREE);
        s.world.restart(THREE);
        s.must_reach("both stop again", seconds(20), || s.stops().len() == 4);
        for (node, kind, why) in s.stops() {
            assert_eq!((node, kind), (THREE, ErrorKind::Refused), "{why}");
        }
        s.must_write(ONE, "without", "3", seconds(5));
        s.assert_sound();
    }
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
    s.run_for(seconds(2));
    // Once each has met each, a majority is enough.
    s.crash(THREE, Crash::Kill);
    s.must_write(ONE, "two", "1", seconds(5));
    s.assert_sound();
}

/// Safety I1: nothing is silently made anew.
#[test]
fn an_empty_directory_is_an_error_and_stays_empty() {
    let s = Scenario::running(801, 3, 0);
    s.crash(THREE, Crash::Kill);
    s.run_for(seconds(1));
    s.world.node(THREE).wipe();
    s.start(THREE, 1);
    s.must_stop(THREE, ErrorKind::DataDirectory, seconds(20));
    assert_eq!(s.world.node(THREE).readable_image().files(), [], "a directory was made");
    s.must_write(ONE, "without", "3", seconds(5));
    s.assert_sound();
}

/// Safety I2: A and B commit, A is made anew, C is new and has met nobody. A and C must not elect.
#[test]
fn two_fresh_directories_never_make_a_majority() {
    let s = Scenario::running(802, 3, 0);
    s.must_write(ONE, "key", "1", seconds(5));
    s.nodes().for_each(|node| s.crash(node, Crash::Kill));
    s.run_for(seconds(1));
    for node in [ONE, THREE] {
        s.world.node(node).wipe();
        s.init(node);
        s.start(node, 1);
    }
    let elections = s.elections(GROUP);
    s.run_for(seconds(20));
    assert_eq!(s.elections(GROUP), elections, "two fresh directories have elected");
    // The one that remembers refuses both, and is no majority.
    s.world.restart(TWO);
    s.must_stop(ONE, ErrorKind::Refused, seconds(20));
    s.run_for(seconds(5));
    assert_eq!(s.elections(GROUP), elections);
    s.assert_sound();
}

/// Safety I3, B90: at whichever node the power fails afterwards, a wiped one is remembered.
#[test]
fn a_wiped_directory_is_refused_by_peers_that_have_restarted() {
    let s = Scenario::running(803, 3, 0);
    s.run_for(seconds(5));
    s.nodes().for_each(|node| s.crash(node, Crash::PowerCut));
    s.world.node(THREE).wipe();
    s.init(THREE);
    s.world.restart(ONE);
    s.world.restart(TWO);
    s.start(THREE, 1);
    s.must_stop(THREE, ErrorKind::Refused, seconds(20));
    s.must_write(ONE, "without", "3", seconds(10));
    s.assert_sound();
}

/// Safety I4: it took part, and its disk lost that again: here with the power, though it had said that
/// it was durable.
#[test]
fn a_directory_whose_disk_lied_is_refused() {
    for seed in 804..807 {
        let s = Scenario::running(seed, 3, 0);
        s.run_for(seconds(2));
        let lost = s.world.node(TWO).durable_image();
        (0..10).for_each(|n| s.must_write(TWO, &format!("key-{n}"), "1", seconds(5)));
        s.run_for(seconds(1));
        s.crash(TWO, Crash::PowerCut);
        s.world.node(TWO).restore(&lost);
        s.world.restart(TWO);
        s.must_stop(TWO, ErrorKind::Refused, seconds(20));
        s.must_write(ONE, "without", "2", seconds(10));
        s.assert_sound();
    }
}

/// Safety I4: two nodes are hurt at once. A disk has lost writes that it acknowledged, and the third node has never heard
/// of them. The leader, which has, notices the loss if it is up. If it is down, nobody else can: this pair of faults is
/// beyond reach (docs/SAFETY.md), and an acknowledged write is gone without a word.
#[test]
fn a_loss_is_noticed_by_a_peer_that_heard_of_the_writes_and_by_nobody_else() {
    for (seed, is_leader_up) in [(832, true), (833, true), (832, false), (833, false)] {
        let s = Scenario::running(seed, 3, 0);
        let leader = s.leader();
        let [lost, lags] = s.others(leader)[..] else { panic!("three nodes") };
        s.run_for(seconds(2));
        s.world.isolate(lags);
        let old = s.world.node(lost).durable_image();
        (0..10).for_each(|n| s.must_write(leader, &format!("key-{n}"), "1", seconds(5)));
        s.run_for(seconds(1));
        if !is_leader_up {
            s.crash(leader, Crash::PowerCut);
        }
        s.crash(lost, Crash::PowerCut);
        s.world.node(lost).restore(&old);
        s.world.heal();
        s.world.restart(lost);
        if is_leader_up {
            s.must_stop(lost, ErrorKind::Refused, seconds(20));
            assert_eq!(s.must_read(lags, "key-9", seconds(10)), Some("1".into()), "seed {seed}");
            s.assert_sound();
        } else {
            assert_eq!(s.must_read(lags, "key-9", seconds(10)), None, "seed {seed}");
            assert_eq!(s.stops(), [], "nobody can notice");
            // Whoever heard of the writes notices later, and the write stays lost.
            s.world.restart(leader);
            s.must_stop(lost, ErrorKind::Refused, seconds(20));
            assert_eq!(s.must_read(lags, "key-9", seconds(10)), None, "seed {seed}");
        }
    }
}

/// Safety I4: a disk has lost a write that it acknowledged, and the leader, the only one that heard of it, has lost its
/// power too. If it had written a batch in between, it remembers. If not, nobody can notice (docs/SAFETY.md): the two
/// others elect a leader, and the write is gone without a word.
#[test]
fn a_loss_is_noticed_after_a_restart_by_a_peer_that_wrote_after_it_heard_and_by_no_other() {
    for (seed, has_written) in [(834, true), (835, true), (834, false), (835, false)] {
        let s = Scenario::running(seed, 3, 0);
        let leader = s.leader();
        let [lost, lags] = s.others(leader)[..] else { panic!("three nodes") };
        s.run_for(seconds(2));
        s.world.isolate(lags);
        let old = s.world.node(lost).durable_image();
        s.must_write(leader, "key", "1", seconds(5));
        if has_written {
            s.must_write(leader, "another", "1", seconds(5));
        }
        s.crash(leader, Crash::PowerCut);
        s.crash(lost, Crash::PowerCut);
        s.world.node(lost).restore(&old);
        s.world.restart(leader);
        s.run_for(millis(100));
        s.world.restart(lost);
        if has_written {
            s.must_stop(lost, ErrorKind::Refused, seconds(20));
            s.world.heal();
            assert_eq!(s.must_read(lags, "key", seconds(10)), Some("1".into()), "seed {seed}");
            s.assert_sound();
        } else {
            // They have met, and neither campaigns so soon after its start.
            s.run_for(millis(300));
            s.world.heal();
            s.world.isolate(leader);
            assert_eq!(s.must_read(lags, "key", seconds(10)), None, "seed {seed}");
            // The leader of before takes over what the others have.
            s.world.heal();
            assert_eq!(s.must_read(leader, "key", seconds(10)), None, "seed {seed}");
            assert_eq!(s.stops(), [], "nobody can notice");
        }
    }
}

/// Safety I4: a disk has lost writes that it acknowledged, and the directory of the leader, the only one that heard of
/// them, has gone back too, or has not. If it has, nobody can notice (docs/SAFETY.md).
#[test]
fn a_loss_is_noticed_by_a_peer_that_heard_of_the_writes_unless_its_directory_has_gone_back_too() {
    for (seed, goes_back) in [(836, false), (837, false), (836, true), (837, true)] {
        let s = Scenario::running(seed, 3, 0);
        let leader = s.leader();
        let [lost, lags] = s.others(leader)[..] else { panic!("three nodes") };
        s.run_for(seconds(2));
        s.world.isolate(lags);
        let old = [leader, lost].map(|node| s.world.node(node).durable_image());
        (0..10).for_each(|n| s.must_write(leader, &format!("key-{n}"), "1", seconds(5)));
        s.run_for(seconds(1));
        s.crash(leader, Crash::PowerCut);
        s.crash(lost, Crash::PowerCut);
        s.world.node(lost).restore(&old[1]);
        if goes_back {
            s.world.node(leader).restore(&old[0]);
        }
        s.world.heal();
        s.world.restart(leader);
        s.world.restart(lost);
        if goes_back {
            assert_eq!(s.must_read(lags, "key-9", seconds(10)), None, "seed {seed}");
            s.run_for(seconds(5));
            assert_eq!(s.stops(), [], "nobody can notice");
        } else {
            s.must_stop(lost, ErrorKind::Refused, seconds(20));
            assert_eq!(s.must_read(lags, "key-9", seconds(10)), Some("1".into()), "seed {seed}");
            s.assert_sound();
        }
    }
}

/// Safety I5: after a power loss its peers still hold connections of the process before, which are
/// half open. It is held off until those are silent, does not exit, and is back soon.
#[test]
fn a_node_that_lost_its_power_is_back_though_its_connections_look_alive() {
    for seed in 807..811 {
        let reached = Recorder::install();
        let s = Scenario::running(seed, 3, 0);
        s.crash(THREE, Crash::PowerCut);
        s.world.restart(THREE);
        s.must_write(THREE, "back", "1", seconds(6));
        assert!(reached.counts().contains_key("second boot id held off"), "seed {seed}");
        assert_eq!(s.stops(), []);
        s.assert_sound();
    }
}

/// Safety I5: a copy of a running node's directory, started elsewhere under the same name, is held off
/// as long as that runs, and harms it in nothing.
#[test]
fn a_copy_of_a_running_directory_is_held_off_and_disturbs_nobody() {
    let s = Scenario::running(811, 3, 0);
    s.run_for(seconds(2));
    let elections = s.elections(GROUP);
    let (elsewhere, before) = (NodeId(9), s.applied(THREE));
    let copy = s.world.node(THREE).durable_image();
    s.world.node(elsewhere).restore(&copy);
    s.start_changed(elsewhere, move |setup| {
        setup.node.node = THREE;
        // An address is no part of the handshake (safety I6).
        setup.cluster.members[2].host = format!("n{elsewhere}");
    });
    for n in 0..20 {
        s.must_write(THREE, &format!("key-{n}"), "1", seconds(2));
        s.run_for(seconds(1));
    }
    assert_eq!(s.elections(GROUP), elections, "the copy has caused elections");
    assert!(s.applied(THREE) > before);
    assert!(s.world.is_running(elsewhere), "it waits, and does not exit: {:?}", s.stops());
    assert!(s.world.bytes_delivered(ONE, elsewhere) < 20_000, "peers speak to the copy");
    // The original restarts among all this, and its own directory has not gone back.
    s.crash(elsewhere, Crash::Kill);
    s.crash(THREE, Crash::PowerCut);
    s.world.restart(THREE);
    s.must_write(THREE, "again", "1", seconds(10));
    assert_eq!(s.stops(), []);
    s.assert_sound();
}

/// Safety I6: what can never change is in the directory and in the handshake.
#[test]
fn another_number_of_groups_is_refused() {
    let s = Scenario::running(812, 3, 0);
    s.crash(THREE, Crash::Kill);
    s.run_for(seconds(1));
    s.start_changed(THREE, |setup| setup.cluster.groups = 2);
    s.must_stop(THREE, ErrorKind::DataDirectory, seconds(20));
    // One that was made with it is held off by the others, and harms them in nothing.
    let s = Scenario::with(813, ClusterOptions { groups: 2, ..calm(3, 0) });
    let other = s.world.node(THREE).readable_image();
    let s = Scenario::running(814, 3, 0);
    s.crash(THREE, Crash::Kill);
    s.run_for(seconds(1));
    let before = s.elections(GROUP);
    s.world.node(THREE).restore(&other);
    s.start_changed(THREE, |setup| setup.cluster.groups = 2);
    (0..10).for_each(|n| {
        s.must_write(ONE, &format!("key-{n}"), "1", seconds(2));
        s.run_for(seconds(1));
    });
    assert!(s.elections(GROUP) <= before + 1, "it has caused elections");
    // Nothing more was asked of it: as another incarnation of node 3 it would have had to stop.
    assert!(s.world.is_running(THREE), "{:?}", s.stops());
    s.assert_sound();
}

/// Safety I6: addresses are in no hash. A node that has moved is found when its peers are told where.
#[test]
fn addresses_may_change() {
    let s = Scenario::running(815, 3, 0);
    s.nodes().for_each(|node| s.crash(node, Crash::Kill));
    s.run_for(seconds(1));
    for node in s.nodes() {
        s.start_changed(node, |setup| {
            for member in &mut setup.cluster.members {
                member.host = format!("10.0.0.{}", member.node);
                member.peer_port = 9000;
            }
        });
    }
    let before = s.world.bytes_delivered(ONE, TWO);
    s.run_for(seconds(10));
    assert!(s.world.bytes_delivered(ONE, TWO) > before + 2_000, "no heartbeats for ten seconds");
    assert_eq!(s.stops(), []);
    s.assert_sound();
}

/// Safety I4: what peers remember of a node is durable, so that all of them may restart in between.
#[test]
fn an_older_copy_is_refused_by_peers_that_have_restarted() {
    let s = Scenario::running(816, 3, 0);
    s.crash(THREE, Crash::Kill);
    s.run_for(seconds(1));
    let old = s.world.node(THREE).readable_image();
    s.world.restart(THREE);
    (0..10).for_each(|n| s.must_write(THREE, &format!("key-{n}"), "1", seconds(10)));
    // At leisure, with whatever is written anyway.
    s.run_for(seconds(15));
    (0..3).for_each(|_| {
        s.must_write(ONE, "key", "1", seconds(5));
        s.run_for(seconds(15));
    });
    s.nodes().for_each(|node| s.crash(node, Crash::PowerCut));
    s.world.node(THREE).restore(&old);
    s.nodes().for_each(|node| s.world.restart(node));
    s.must_stop(THREE, ErrorKind::Refused, seconds(20));
    s.must_write(ONE, "without", "3", seconds(10));
    s.assert_sound();
}

/// Safety I2: the power of the node failed before it had recorded the meeting. A member that acts knows
/// the node.
/// All nodes lose their power right after a write, and one disk has lost what it acknowledged within the last second.
/// What its peers remember came with the batch of each write, so they notice.
#[test]
fn a_disk_that_lost_its_last_writes_is_noticed_after_all_have_lost_their_power() {
    let s = Scenario::running(817, 3, 0);
    let leader = s.leader();
    let lost = s.others(leader)[0];
    s.run_for(seconds(15));
    let began = s.world.now();
    s.must_write(leader, "key-1", "1", seconds(5));
    let old = s.world.node(lost).readable_image();
    (2..10).for_each(|n| s.must_write(leader, &format!("key-{n}"), "1", seconds(5)));
    let took = s.world.now() - began;
    assert!(took < seconds(1), "{took:?}");
    s.nodes().for_each(|node| s.crash(node, Crash::PowerCut));
    s.world.node(lost).restore(&old);
    s.nodes().for_each(|node| s.world.restart(node));
    s.must_stop(lost, ErrorKind::Refused, seconds(20));
    s.must_write(leader, "without", "3", seconds(10));
    s.assert_sound();
}

#[test]
fn a_node_without_a_record_of_the_meeting_is_let_in_by_a_member_that_acts() {
    for seed in 820..830 {
        let s = Scenario::new(seed, 3, 0);
        s.nodes().for_each(|node| s.start(node, 1));
        s.run_for(Duration::from_millis(2 + 3 * (seed - 820)));
        s.crash(THREE, Crash::PowerCut);
        s.run_for(seconds(3));
        s.world.restart(THREE);
        s.must_write(ONE, "key", "1", seconds(15));
        s.crash(ONE, Crash::PowerCut);
        s.must_write(THREE, "key", "2", seconds(15));
        s.assert_sound();
    }
}

/// B62: two clusters are wired across. Neither takes the other's node for its own.
#[test]
fn a_node_of_another_cluster_is_held_off() {
    let s = Scenario::running(831, 3, 0);
    s.crash(THREE, Crash::Kill);
    s.run_for(seconds(1));
    s.world.node(THREE).wipe();
    let member = |node| Member { node: NodeId(node), host: format!("n{node}"), peer_port: 7000 };
    let mut other = ClusterConfig::new(ClusterId(7), 1, (1..=3).map(member).collect());
    other.max_command = 64 << 10;
    s.world.start(THREE, 1, move |runtime| {
        let other = other.clone();
        async move {
            let config = NodeConfig { io_memory: 0, ..NodeConfig::new(THREE, "") };
            purlin::init_on(&runtime, &other, &config, 1).await.expect("a directory");
        }
    });
    s.must_reach("its directory", seconds(20), || !s.world.is_running(THREE));
    s.start_changed(THREE, |setup| setup.cluster.id = ClusterId(7));
    let elections = s.elections(GROUP);
    for n in 0..10 {
        s.must_write(ONE, &format!("key-{n}"), "1", seconds(2));
        s.run_for(seconds(1));
    }
    assert!(s.elections(GROUP) <= elections + 1, "it has caused elections");
    assert!(s.world.is_running(THREE), "taken for a node of ours, and refused: {:?}", s.stops());
    s.assert_sound();
}
