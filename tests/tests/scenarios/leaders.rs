//! Which node leads: each its share, and none that cannot serve while another can.

use crate::support::{ELECTION, ONE, THREE, TWO, all, millis, one_leader, seconds};
use purlin::{GroupId, NodeId, RequestError, ShardId};
use purlin_rsm::reach::Recorder;
use purlin_tests::{
    cluster::{
        ClusterOptions,
        scenario::{Answer, GROUP, Scenario, calm, get, set},
    },
    sim::{Crash, Latency, LinkTrouble},
};

/// How many of the first `groups` groups each node leads, as that node says.
fn led(s: &Scenario, groups: u32) -> Vec<usize> {
    let leads = |node: NodeId, group: u32| {
        s.status(node, GroupId(group)).is_some_and(|status| status.leader == Some(node))
    };
    s.nodes().map(|node| (1..=groups).filter(|group| leads(node, *group)).count()).collect()
}

fn returning(groups: u32) -> ClusterOptions {
    let mut options = ClusterOptions { groups, ..calm(3, 0) };
    options.limits[0].raft.leaders_return = true;
    options
}

/// After a rolling restart the node that was last would lead next to nothing for ever.
#[test]
fn after_a_rolling_restart_each_node_leads_its_share() {
    let s = Scenario::running_with(900, returning(12));
    s.must_reach("each leads its share", seconds(20), || led(&s, 12) == [4, 4, 4]);
    for node in s.nodes() {
        s.crash(node, Crash::Kill);
        s.run_for(seconds(2));
        s.world.restart(node);
        s.run_for(seconds(2));
        assert_ne!(led(&s, 12), [4, 4, 4], "node {node} was away");
        s.must_write(node, "back", "1", seconds(5));
    }
    s.must_reach("each leads its share again", seconds(15), || led(&s, 12) == [4, 4, 4]);
    let elections = || (1..=12).map(|group| s.elections(GroupId(group))).sum::<usize>();
    let before = elections();
    s.run_for(seconds(30));
    assert_eq!((elections(), led(&s, 12)), (before, vec![4, 4, 4]), "they do not move to and fro");
    s.assert_sound();
}

/// A shard with two windows of groups looks at each in every other beat.
#[test]
fn groups_of_each_window_return() {
    let s = Scenario::running_with(903, returning(300));
    s.must_reach("each leads its share", seconds(60), || led(&s, 300) == [100; 3]);
    s.crash(TWO, Crash::Kill);
    s.run_for(seconds(3));
    s.world.restart(TWO);
    s.must_reach("each leads its share again", seconds(60), || led(&s, 300) == [100; 3]);
    s.assert_sound();
}

/// The machine of one group has stopped at the node that led it first. That node refuses this group, and the others
/// return all the same.
#[test]
fn a_group_that_cannot_return_keeps_no_other_from_it() {
    let s = Scenario::running_with(904, returning(24));
    s.must_reach("each leads its share", seconds(20), || led(&s, 24) == [8; 3]);
    // The first group that goes back to node 2, in the order in which they are looked at.
    let stuck = GroupId(1);
    s.poison("bad command", &[TWO]);
    s.submit(ONE, stuck, set("key", "bad command"));
    s.must_reach("the machine has stopped", seconds(5), || {
        s.control(TWO).latest().groups.stopped == 1
    });
    s.crash(TWO, Crash::Kill);
    s.run_for(seconds(3));
    s.world.restart(TWO);
    s.must_reach("the others return", seconds(12), || led(&s, 24)[1] == 7);
    s.run_for(seconds(20));
    assert_eq!(led(&s, 24)[1], 7);
    s.assert_sound();
}

/// Requests that come while a group is handed over wait for the next leader, and each is answered.
#[test]
fn no_request_fails_while_leaders_return() {
    let s = Scenario::running_with(901, returning(6));
    s.crash(TWO, Crash::Kill);
    s.run_for(seconds(2));
    s.world.restart(TWO);
    let mut pending = Vec::new();
    for n in 0..400 {
        let group = GroupId(1 + n % 6);
        pending.push(s.submit(ONE, group, set(&format!("key-{n}"), "v")));
        s.run_for(millis(20));
    }
    s.run_for(seconds(3));
    let failed: Vec<Answer> = pending
        .iter()
        .map(|pending| pending.answer())
        .filter(|answer| !matches!(answer, Some(Ok(_))))
        .collect();
    assert_eq!(failed, [], "of 400 writes while groups came back");
    assert_eq!(led(&s, 6), [2, 2, 2]);
    s.assert_sound();
}

/// The core of the leader stands still again and again, so that its loop meets in one turn the request for a vote that
/// ends the leadership, and requests that have come since.
#[test]
fn requests_that_come_with_the_end_of_a_leadership_wait_for_the_next_leader() {
    let s = Scenario::running_with(908, returning(30));
    let mut pending = Vec::new();
    for round in 0..2 {
        s.crash(TWO, Crash::Kill);
        s.run_for(seconds(2));
        s.world.restart(TWO);
        s.run_for(seconds(1));
        for n in 0..300 {
            s.world.pause(ONE, ShardId(0));
            for group in (1..=30).map(GroupId) {
                let request = set(&format!("key-{round}-{n}"), "v");
                pending.push(s.submit(ONE, group, request));
            }
            s.run_for(millis(16));
            s.world.resume(ONE, ShardId(0));
            s.run_for(millis(4));
        }
        s.must_reach("each leads its share", seconds(20), || led(&s, 30) == [10; 3]);
    }
    s.run_for(seconds(3));
    let answers = pending.iter().map(|pending| pending.answer());
    let failed: Vec<Answer> = answers.filter(|answer| !matches!(answer, Some(Ok(_)))).collect();
    assert_eq!(failed, [], "of 18,000 writes while groups came back");
    s.assert_sound();
}

/// A read that was under way when its leader gave the group up would fail, and the client would have to ask again. The
/// next leader is near to all nodes, and the others are far from each other: the votes overtake the reads.
#[test]
fn no_read_fails_while_leaders_return() {
    let mut options = ClusterOptions { groups: 10, ..calm(5, 0) };
    options.limits[0].raft.leaders_return = true;
    let s = Scenario::running_with(905, options);
    let far = LinkTrouble { delay: millis(30), ..LinkTrouble::default() };
    for (one, other) in s.nodes().flat_map(|one| s.others(one).into_iter().map(move |it| (one, it)))
    {
        if one != TWO && other != TWO {
            s.world.trouble_link(one, other, Some(far));
        }
    }
    s.crash(TWO, Crash::Kill);
    s.run_for(seconds(2));
    s.world.restart(TWO);
    let mut pending = Vec::new();
    for n in 0..4_000 {
        pending.push(s.submit(ONE, GroupId(1 + n % 10), get("key")));
        s.run_for(millis(1));
    }
    s.must_reach("each leads its share", seconds(10), || led(&s, 10) == [2; 5]);
    s.run_for(seconds(2));
    let failed: Vec<Answer> = pending
        .iter()
        .map(|pending| pending.answer())
        .filter(|answer| !matches!(answer, Some(Ok(_))))
        .collect();
    assert_eq!(failed, [], "of 4,000 reads while groups came back");
    s.assert_sound();
}

/// Some entry is always on its way to the disk of the leader, and without the third node the leader's own vote counts.
#[test]
fn a_group_returns_under_load_while_a_node_is_down() {
    let mut options = returning(3);
    options.world.disk.write = Latency::steady(millis(40), millis(1));
    let s = Scenario::running_with(906, options);
    s.must_reach("each leads its share", seconds(20), || led(&s, 3) == [1, 1, 1]);
    let leads = |node: NodeId, group: u32| {
        s.status(node, GroupId(group)).and_then(|it| it.leader) == Some(node)
    };
    let group = (1..=3).find(|group| leads(TWO, *group)).expect("its share");
    s.crash(TWO, Crash::Kill);
    s.must_reach("another leader", seconds(10), || leads(ONE, group) || leads(THREE, group));
    let (leader, other) = if leads(ONE, group) { (ONE, THREE) } else { (THREE, ONE) };
    s.crash(other, Crash::Kill);
    s.world.restart(TWO);
    let is_back = (0..4_000).any(|n| {
        s.submit(leader, GroupId(group), set(&format!("key-{n}"), "v"));
        s.run_for(millis(5));
        leads(TWO, group)
    });
    assert!(is_back, "20 seconds of writes, and it never went back");
    s.assert_sound();
}

/// A disk that stands now and then, for longer than an election timeout, would cost its groups that time again and again.
#[test]
fn no_group_returns_to_a_node_whose_disk_stands_now_and_then() {
    let reached = Recorder::install();
    let s = Scenario::running_with(907, returning(6));
    s.must_reach("each leads its share", seconds(20), || led(&s, 6) == [2, 2, 2]);
    s.crash(TWO, Crash::Kill);
    s.run_for(seconds(2));
    s.world.restart(TWO);
    s.run_for(seconds(1));
    for round in 0..10 {
        s.world.node(TWO).hang_disk(millis(700));
        (1..=6).for_each(|id| drop(s.submit(ONE, GroupId(id), set(&format!("{round}"), "v"))));
        s.run_for(millis(1500));
        assert_eq!(led(&s, 6)[1], 0, "in round {round}");
    }
    assert!(reached.counts().contains_key("shard whose disk stood tells that it is unfit to lead"));
    s.must_reach("each leads its share again", seconds(15), || led(&s, 6) == [2, 2, 2]);
    s.assert_sound();
}

/// A leader whose disk is full hands its group to a node with room, and there alone writes go on. When no node has
/// room, the reason is told, also by a node that passes the request on.
#[test]
fn a_leader_without_room_hands_over_to_a_node_with_room() {
    let s = Scenario::running(902, 3, 0);
    let full = one_leader(&s, &all(&s));
    let fill = |node: NodeId| s.world.node(node).set_quota(Some(s.world.node(node).used()));
    fill(full);
    let value = "v".repeat(60_000);
    let written = |n: u32| s.write(full, &format!("key-{n}"), &value, seconds(5));
    // Three segments of 1 MiB were ready, two of them are kept.
    (0..60).for_each(|n| drop(written(n)));
    s.run_for(seconds(2));
    let leader = one_leader(&s, &all(&s));
    assert_ne!(leader, full, "it handed over");
    for n in 60..80 {
        let answer = written(n);
        assert!(matches!(answer, Some(Ok(_))), "{answer:?}");
    }
    s.nodes().for_each(fill);
    // What was taken before there was no room waits for room; what comes behind it is refused.
    let is_told = |node: NodeId| {
        let answers = (80..400).map(|n| s.write(node, &format!("key-{n}"), &value, seconds(5)));
        answers.into_iter().any(|answer| answer == Some(Err(RequestError::NoSpace)))
    };
    for node in s.nodes() {
        assert!(is_told(node), "node {node} tells no reason");
    }
    assert_eq!(s.stops(), []);
    s.nodes().for_each(|node| s.world.node(node).set_quota(None));
    s.must_write(ONE, "resumed", "1", seconds(30));
    s.assert_sound();
}

/// Otherwise the node with the lowest id would lead all of them.
#[test]
fn groups_of_a_node_without_room_spread_over_the_others() {
    let s = Scenario::running_with(905, returning(12));
    s.must_reach("each leads its share", seconds(20), || led(&s, 12) == [4, 4, 4]);
    let full = s.world.node(ONE);
    full.set_quota(Some(full.used()));
    let value = "v".repeat(60_000);
    for n in 0..60 {
        s.submit(ONE, GroupId(1 + n % 12), set(&format!("key-{n}"), &value));
        s.run_for(millis(50));
    }
    s.must_reach("the others lead", seconds(10), || led(&s, 12) == [0, 6, 6]);
    full.set_quota(None);
    s.must_reach("each leads its share again", seconds(30), || led(&s, 12) == [4, 4, 4]);
    s.assert_sound();
}

/// A node that does not reach the leader cannot serve its groups. The group moves to a node that hears all, once.
#[test]
fn a_group_moves_to_the_node_that_hears_all_while_a_link_is_cut() {
    for seed in 910..913 {
        let s = Scenario::running(seed, 3, 0);
        let leader = one_leader(&s, &all(&s));
        let [cut_off, third] = s.others(leader)[..] else { panic!("three nodes") };
        let elections = s.elections(GROUP);
        s.world.partition(&[leader], &[cut_off]);
        s.must_reach("the third leads", seconds(6), || s.leader_among(&all(&s)) == Some(third));
        s.must_write(cut_off, "cut-off", "1", seconds(2));
        s.must_write(leader, "leader", "1", seconds(2));
        s.run_for(seconds(30));
        assert_eq!(s.elections(GROUP), elections + 1, "it moved once");
        s.must_write(cut_off, "later", "1", seconds(2));
        s.world.heal();
        s.run_for(seconds(10));
        assert_eq!(s.elections(GROUP), elections + 1, "it stays");
        s.assert_sound();
    }
}

/// A cluster whose machines take long to apply what their logs hold at a start: it is read in small pages.
fn slow_to_load() -> ClusterOptions {
    let mut options = calm(3, 0);
    options.world.disk.read = Latency::steady(millis(20), millis(30));
    options.limits[0].raft.apply_bytes_max = 2_000;
    options.limits[0].wal.tail_bytes_max = 1;
    options
}

fn write_many(s: &Scenario, at: NodeId) {
    // What comes at once would be one entry, which is read at once.
    for first in (0..3_000).step_by(40) {
        let write = |n| s.submit(at, GROUP, set(&format!("key-{n}"), "v"));
        let writes: Vec<_> = (first..first + 40).map(write).collect();
        s.must_reach("all are written", seconds(60), || writes.iter().all(|it| it.is_done()));
    }
    s.run_for(seconds(1));
}

/// A request at a leader that replays its log would stand until its deadline, with an unknown outcome.
#[test]
fn after_a_restart_of_all_requests_are_answered_loading_until_the_log_is_applied() {
    let s = Scenario::running_with(920, slow_to_load());
    write_many(&s, one_leader(&s, &all(&s)));
    s.nodes().for_each(|node| s.crash(node, Crash::Kill));
    s.run_for(seconds(1));
    s.nodes().for_each(|node| s.world.restart(node));
    s.must_reach("there is a leader", seconds(8), || s.leader_among(&all(&s)).is_some());
    let (mut loading, mut done) = (0, false);
    for n in 0..100 {
        let node = NodeId(1 + n % 3);
        match s.write(node, "key", "1", seconds(3)) {
            Some(Err(RequestError::Loading)) => loading += 1,
            Some(Ok(_)) => {
                done = true;
                break;
            }
            // Its leader was just elected, or handed its group over.
            Some(Err(RequestError::NoLeader { .. })) => {}
            other => panic!("the {n}th request: {other:?}"),
        }
        s.run_for(millis(200));
    }
    assert!(loading > 0 && done, "{loading} were answered LOADING; done: {done}");
    s.assert_sound();
}

/// A replica that is behind in applying lets a current one lead.
#[test]
fn a_replica_that_replays_gives_a_current_one_time_to_lead() {
    let reached = Recorder::install();
    for seed in 930..934 {
        let s = Scenario::running_with(seed, slow_to_load());
        write_many(&s, one_leader(&s, &all(&s)));
        let leader = one_leader(&s, &all(&s));
        let [behind, current] = s.others(leader)[..] else { panic!("three nodes") };
        s.crash(behind, Crash::Kill);
        s.run_for(seconds(1));
        s.world.restart(behind);
        s.must_reach("it follows", seconds(8), || {
            let told = s.status(behind, GROUP);
            told.is_some_and(|status| status.leader == Some(leader))
        });
        s.run_for(millis(300));
        assert!(s.applied(behind) < s.applied(current), "it replays");
        s.crash(leader, Crash::Kill);
        s.must_reach("the current one leads", 3 * ELECTION, || {
            s.leader_among(&[behind, current]) == Some(current)
        });
        s.must_write(current, "key", "1", seconds(3));
        s.assert_sound();
    }
    assert!(reached.counts().contains_key("replica waits for a fitter one to campaign"));
}
