//! Elections: soon after a fault there is a leader, and no leader is replaced without need. Every
//! scenario checks that no term has two leaders.

use crate::support::{ELECTION, THREE, agree, all, all_apply, millis, one_leader, seconds};
use purlin::{GroupId, NodeId};
use purlin_tests::{
    cluster::{
        ClusterOptions,
        scenario::{GROUP, Scenario, calm, set},
    },
    sim::{Crash, DiskError, DiskFault, DiskOperation, Latency, Random},
};
use std::collections::BTreeSet;

/// B04, safety A1: a vote that the power takes back was never given.
#[test]
fn no_term_has_two_leaders_whatever_power_cuts_take() {
    let mut elections = 0;
    for seed in 300..304 {
        let mut options = calm(3, 0);
        let disk = &mut options.world.disk;
        disk.write = Latency::steady(millis(1), millis(60));
        disk.sync = disk.write;
        let s = Scenario::running_with(seed, options);
        let random = Random::new(seed, "cuts");
        for _ in 0..25 {
            let node = *random.pick(&all(&s));
            s.crash(node, Crash::PowerCut);
            s.run_for(random.duration(millis(1)..millis(40)));
            s.world.restart(node);
            s.run_for(random.duration(millis(1)..millis(2400)));
        }
        agree(&s, &all(&s), "end", "1");
        elections += s.elections(GROUP);
        s.assert_sound();
    }
    assert!(elections >= 20, "{elections} elections in four runs");
}

/// B09: its low term does not keep it from voting, and nobody waits for it to learn of theirs.
#[test]
fn a_node_that_missed_many_terms_takes_part_in_the_next_election() {
    let s = Scenario::running(310, 3, 0);
    let [one, two] = s.others(THREE)[..] else { panic!("three nodes") };
    s.unplug(THREE);
    one_leader(&s, &[one, two]);
    for _ in 0..4 {
        let leader = one_leader(&s, &[one, two]);
        s.crash(leader, Crash::Kill);
        s.run_for(millis(300));
        s.world.restart(leader);
        agree(&s, &[one, two], "key", "1");
    }
    let elections = s.elections(GROUP);
    assert!(elections >= 4, "{elections} elections");
    let leader = one_leader(&s, &[one, two]);
    s.crash(leader, Crash::Kill);
    s.plug_in(THREE);
    let other = s.others(leader).into_iter().find(|node| *node != THREE).expect("three nodes");
    s.must_reach("a leader of the two", 6 * ELECTION, || {
        s.leader_among(&[other, THREE]).is_some_and(|now| now != leader)
    });
    agree(&s, &[other, THREE], "with", "3");
    s.assert_sound();
}

/// B15: all live, and only one of them reaches a majority. The leader reaches that one alone, and its
/// heartbeats must not keep it quiet for long.
#[test]
fn the_bridge_of_a_star_is_elected_although_it_hears_the_old_leader() {
    for seed in 311..314 {
        let s = Scenario::running(seed, 5, 0);
        let leader = one_leader(&s, &all(&s));
        let bridge = s.others(leader)[0];
        let rim: Vec<NodeId> = all(&s).into_iter().filter(|node| *node != bridge).collect();
        for node in &rim {
            let others: Vec<NodeId> = rim.iter().copied().filter(|other| other != node).collect();
            s.world.partition(&[*node], &others);
        }
        s.must_reach("the bridge leads", 8 * ELECTION, || {
            s.leader_among(&[bridge]) == Some(bridge)
        });
        s.must_write(bridge, "key", "1", seconds(5));
        s.world.heal();
        agree(&s, &all(&s), "key", "2");
        s.assert_sound();
    }
}

/// B16: pre-votes are refused by those that hear a leader, and raise no term.
#[test]
fn a_node_that_returns_after_a_long_time_alone_deposes_nobody() {
    let s = Scenario::running(314, 3, 0);
    let leader = one_leader(&s, &all(&s));
    let alone = s.others(leader)[0];
    s.unplug(alone);
    s.run_for(seconds(20));
    let (term, elections) = (s.term(), s.elections(GROUP));
    s.plug_in(alone);
    agree(&s, &all(&s), "key", "1");
    s.run_for(seconds(2));
    assert_eq!((s.term(), s.elections(GROUP)), (term, elections), "it was disturbed");
    assert_eq!(one_leader(&s, &all(&s)), leader);
    s.assert_sound();
}

/// B16: only its way to the leader is cut. It elects nobody; the leader hands over to the third, which hears both.
#[test]
fn a_node_that_has_lost_only_the_leader_deposes_nobody() {
    let s = Scenario::running(319, 3, 0);
    let leader = one_leader(&s, &all(&s));
    let [lost, third] = s.others(leader)[..] else { panic!("three nodes") };
    s.world.partition(&[leader], &[lost]);
    let elections = s.elections(GROUP);
    // Nothing is written: its log is as good as theirs, and no reason to refuse it.
    s.run_for(seconds(20));
    assert_eq!(s.elections(GROUP), elections + 1, "the leader was deposed");
    assert_eq!(s.leader_among(&all(&s)), Some(third), "that is no hand-over");
    s.must_write(third, "key", "1", seconds(2));
    s.world.heal();
    agree(&s, &all(&s), "key", "1");
    s.assert_sound();
}

/// B17: a cut that never heals, in each direction, at a follower.
#[test]
fn a_follower_that_is_cut_one_way_for_ever_disturbs_nobody() {
    for (seed, way) in (315..).zip(["hears nobody", "is heard by nobody"]) {
        let s = Scenario::running(seed, 3, 0);
        let leader = one_leader(&s, &all(&s));
        let follower = s.others(leader)[0];
        let others = s.others(follower);
        match way {
            "hears nobody" => s.world.cut_one_way(&others, &[follower]),
            _ => s.world.cut_one_way(&[follower], &others),
        }
        let elections = s.elections(GROUP);
        for n in 0..30 {
            s.must_write(leader, &format!("key-{n}"), "1", seconds(2));
            s.run_for(seconds(1));
        }
        assert_eq!(s.elections(GROUP), elections, "a follower that {way} has caused elections");
        s.world.heal();
        agree(&s, &all(&s), "healed", "1");
        s.assert_sound();
    }
}

/// B17 at a leader: a node that cannot send, or that cannot receive, does not lead, however long that
/// lasts. The next leader may hand the group over once, to a node that still seems to hear all (safety T3).
#[test]
fn a_leader_that_is_cut_one_way_for_ever_is_replaced_and_disturbs_nobody() {
    for (seed, way) in (317..).zip(["hears nobody", "is heard by nobody"]) {
        let s = Scenario::running(seed, 3, 0);
        let leader = one_leader(&s, &all(&s));
        let others = s.others(leader);
        match way {
            "hears nobody" => s.world.cut_one_way(&others, &[leader]),
            _ => s.world.cut_one_way(&[leader], &others),
        }
        s.must_reach(&format!("another leader than one that {way}"), 4 * ELECTION, || {
            s.leader_among(&others).is_some_and(|now| now != leader)
        });
        let elections = s.elections(GROUP);
        s.must_write(others[0], "key", "1", seconds(12));
        s.run_for(seconds(30));
        let more = s.elections(GROUP) - elections;
        assert!(more <= 1, "one that {way} has caused {more} elections");
        let settled = s.elections(GROUP);
        s.run_for(seconds(30));
        assert_eq!(s.elections(GROUP), settled, "one that {way} goes on to cause elections");
        s.assert_sound();
    }
}

/// B85: it stops, and the others go on without it; started again, it takes part.
#[test]
fn a_leader_whose_disk_fails_is_replaced_soon() {
    for (seed, operation) in (320..).zip([DiskOperation::Write, DiskOperation::Sync]) {
        let durability = match operation {
            DiskOperation::Sync => purlin::Durability::OnSync,
            _ => purlin::Durability::EachWrite,
        };
        let s = Scenario::running_with(seed, ClusterOptions { durability, ..calm(3, 0) });
        let leader = one_leader(&s, &all(&s));
        let others = s.others(leader);
        // The segments in reserve are made by now: a failure there would be no failure of the log.
        s.run_for(seconds(2));
        let path_contains = "shard-0".to_owned();
        let error = DiskError::Device;
        s.world.node(leader).arm(DiskFault { operation, path_contains, times: 1, error });
        let offered = s.submit(leader, GROUP, set("key", "offered"));
        s.must_stop(leader, purlin::ErrorKind::Disk, seconds(5));
        assert!(!offered.is_done(), "acknowledged by a disk that has failed");
        s.must_reach("another leader", 4 * ELECTION, || {
            s.leader_among(&others).is_some_and(|now| now != leader)
        });
        agree(&s, &others, "other", "1");
        s.world.restart(leader);
        agree(&s, &all(&s), "all", "1");
        s.must_converge(seconds(5));
        s.assert_sound();
    }
}

/// Safety I4: until each peer has answered it, or an election timeout has passed, a restarted node helps
/// nobody to lead: its directory may have forgotten for whom it has voted.
#[test]
fn a_restarted_node_elects_nobody_before_an_election_timeout() {
    for seed in 330..338 {
        let s = Scenario::running(seed, 3, 0);
        let leader = one_leader(&s, &all(&s));
        let [one, two] = s.others(leader)[..] else { panic!("three nodes") };
        s.crash(one, Crash::Kill);
        s.run_for(millis(100));
        let elections = s.elections(GROUP);
        // The third notices at once that its leader is gone, and asks the only one that is left.
        s.crash(leader, Crash::Kill);
        s.world.restart(one);
        // The clocks of nodes differ by one in a hundred.
        s.run_for(millis(490));
        assert_eq!(s.elections(GROUP), elections, "it has voted, or campaigned");
        s.must_reach("a leader", 10 * ELECTION, || s.elections(GROUP) > elections);
        agree(&s, &[one, two], "key", "1");
        s.assert_sound();
    }
}

/// Safety R4: nobody notices that its process is another, but for its boot id.
#[test]
fn a_leader_whose_node_restarts_at_once_is_noticed() {
    for seed in 340..344 {
        let s = Scenario::running(seed, 3, 0);
        let leader = one_leader(&s, &all(&s));
        s.crash(leader, Crash::PowerCut);
        s.world.restart(leader);
        s.must_write(s.others(leader)[0], "key", "1", 12 * ELECTION);
        all_apply(&s, &all(&s), s.applied(s.others(leader)[0]));
        s.assert_sound();
    }
}

/// B101: groups that were quiet for long notice that the node of their leader is gone, each.
#[test]
fn every_quiet_group_moves_when_the_node_of_its_leader_is_cut_off() {
    let groups = 60;
    let s = Scenario::running_with(350, ClusterOptions { groups, ..calm(3, 0) });
    let each = || (1..=groups).map(GroupId);
    s.must_reach("a leader of each group", seconds(10), || {
        each().all(|group| s.status(NodeId(1), group).is_some_and(|it| it.leader.is_some()))
    });
    s.run_for(seconds(20));
    let leader_of = |at, group| s.status(at, group).and_then(|status| status.leader);
    let cut = NodeId(2);
    let led = each().filter(|group| leader_of(NodeId(1), *group) == Some(cut)).count();
    assert!(led >= 15, "node 2 leads {led} of {groups} groups");
    for group in each() {
        assert_eq!(s.elections(group), 1, "{group} has elected while it was quiet");
    }
    s.unplug(cut);
    let writes: Vec<_> =
        each().map(|group| s.submit(NodeId(1), group, set(&format!("key-{group}"), "1"))).collect();
    s.must_reach("an end of one write in each group", seconds(12), || {
        writes.iter().all(|write| write.answer().is_some())
    });
    let again: Vec<_> =
        each().map(|group| s.submit(NodeId(3), group, set(&format!("key-{group}"), "2"))).collect();
    s.must_reach("one more write in each group", seconds(2), || {
        again.iter().all(|write| write.is_done())
    });
    s.plug_in(cut);
    let nodes: BTreeSet<NodeId> = s.nodes().collect();
    s.must_reach("the same leader at all nodes, of each group", seconds(10), || {
        each().all(|group| {
            let leaders: BTreeSet<_> = nodes.iter().map(|node| leader_of(*node, group)).collect();
            leaders.len() == 1 && !leaders.contains(&None)
        })
    });
    s.assert_sound();
}

/// B102: many groups change their leader while a node is away. It is kept quiet by the new ones alone,
/// in each group.
#[test]
fn a_node_that_was_away_follows_the_present_leader_of_every_group() {
    let groups = 40;
    let s = Scenario::running_with(351, ClusterOptions { groups, ..calm(3, 0) });
    let each = || (1..=groups).map(GroupId);
    let leader_of = |at, group| s.status(at, group).and_then(|status| status.leader);
    s.run_for(seconds(3));
    for how in [Crash::Kill, Crash::PowerCut] {
        s.crash(THREE, how);
        s.run_for(seconds(3));
        s.crash(NodeId(1), Crash::Kill);
        s.world.restart(NodeId(1));
        s.run_for(seconds(1));
        s.world.restart(THREE);
        s.must_reach("one leader of each group at all nodes", seconds(15), || {
            each().all(|group| {
                let leader = leader_of(THREE, group);
                leader.is_some() && s.nodes().all(|node| leader_of(node, group) == leader)
            })
        });
        let terms = |group| s.status(THREE, group).map(|status| status.term);
        let before: Vec<_> = each().map(terms).collect();
        s.run_for(seconds(10));
        assert_eq!(each().map(terms).collect::<Vec<_>>(), before, "elections of quiet groups");
    }
    s.assert_sound();
}
