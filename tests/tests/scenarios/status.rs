//! What a shard tells operators is true: of its groups, its peers, its disk, and of the nodes that it
//! waits for.

use crate::support::{ONE, THREE, TWO, agree, all, all_apply, millis, one_leader, seconds};
use purlin::{
    ControlError, FollowerState, FollowerStatus, GroupId, GroupStatus, NodeId, Problem, RoleKind,
    ShardState, ShardStatus,
};
use purlin_tests::{
    cluster::scenario::{GROUP, Scenario},
    sim::Crash,
};

fn group(s: &Scenario, node: NodeId) -> GroupStatus {
    let answer = s.control(node).group(GROUP);
    s.answer(answer).expect("the shard runs").expect("the group is there")
}

fn status(s: &Scenario, node: NodeId) -> ShardStatus {
    let answer = s.control(node).status();
    s.answer(answer).expect("the shard runs")
}

fn follower(status: &GroupStatus, node: NodeId) -> FollowerStatus {
    *status.raft.followers.iter().find(|follower| follower.node == node).expect("a voter")
}

#[test]
fn a_leader_tells_how_far_each_follower_is_and_a_follower_whom_it_follows() {
    let s = Scenario::running(700, 3, 0);
    let leader = one_leader(&s, &all(&s));
    let [far, near] = s.others(leader)[..] else { panic!("three nodes") };
    (0..5).for_each(|n| s.must_write(leader, "key", &n.to_string(), seconds(5)));
    all_apply(&s, &all(&s), s.applied(leader));
    s.run_for(seconds(2));
    let told = group(&s, leader);
    assert_eq!((told.raft.role, told.raft.leader), (RoleKind::Leader, Some(leader)));
    assert_eq!((told.raft.term, told.raft.applied), (s.term(), s.applied(leader)));
    let last = told.raft.last.index;
    assert_eq!((told.raft.committed, told.raft.durable), (last, last));
    assert_eq!((told.proposals, told.queries), (0, 0));
    for node in [far, near] {
        let other = follower(&told, node);
        assert_eq!((other.state, other.matched), (FollowerState::Replicate, last), "{other:?}");
        assert!(other.is_connected && other.is_confirmed && other.in_flight == 0, "{other:?}");
        let own = group(&s, node).raft;
        assert_eq!((own.role, own.leader), (RoleKind::Follower, Some(leader)));
        assert_eq!((own.term, own.last), (told.raft.term, told.raft.last));
        assert_eq!((own.applied, own.followers.len()), (s.applied(node), 0));
    }

    // One is cut off, and falls behind.
    s.unplug(far);
    s.run_for(seconds(10));
    agree(&s, &[leader, near], "without", "1");
    let told = group(&s, leader);
    let cut = follower(&told, far);
    assert_eq!((cut.matched, cut.is_confirmed), (last, false), "{cut:?}");
    assert!(told.raft.committed > last && follower(&told, near).matched > last, "{told:?}");

    s.plug_in(far);
    all_apply(&s, &all(&s), s.applied(leader));
    s.run_for(seconds(2));
    let told = group(&s, one_leader(&s, &all(&s)));
    assert!(
        told.raft.followers.iter().all(|it| it.matched == told.raft.last.index),
        "both hold all of it: {told:?}"
    );
    assert!(s.control(leader).latest().wal.figures.batches > 0);
    s.assert_sound();
}

#[test]
fn a_status_is_published_at_each_beat_and_counts_what_the_shard_does() {
    let s = Scenario::running(701, 3, 0);
    let leader = one_leader(&s, &all(&s));
    let control = s.control(leader);
    s.run_for(seconds(1));
    let before = control.latest();
    s.run_for(seconds(2));
    s.must_write(leader, "key", "value", seconds(5));
    s.run_for(millis(500));
    let after = control.latest();
    let (beats, time) = (after.beat - before.beat, after.at - before.at);
    let expected = time.as_millis() as u64 / 100;
    assert!(beats.abs_diff(expected) <= 1, "{beats} beats of 100 ms in {time:?}");
    assert!(matches!(after.state, ShardState::Serving), "{:?}", after.state);
    assert_eq!((after.problems.len(), after.waits_for.len()), (0, 0), "{after:?}");
    assert_eq!((after.groups.groups, after.groups.leading), (1, 1));
    let writes = after.wal.latency.count() - before.wal.latency.count();
    assert!(writes > 0 && after.wal.bytes() > 0 && after.wal.pending_bytes.max > 0, "{after:?}");
    assert!(after.turns.count() > before.turns.count());
    assert!(after.queues.requests.now == 0 && after.queues.requests.max > 0, "{after:?}");
    let peers: Vec<NodeId> = after.peers.iter().map(|peer| peer.peer.node).collect();
    assert_eq!(peers, s.others(leader));
    for peer in &after.peers {
        assert!(peer.outbound.is_up && peer.inbound.is_up, "{peer:?}");
        assert!(peer.silent_beats.is_some_and(|beats| beats <= 2), "{peer:?}");
        assert_eq!(peer.facts.as_ref().map(|facts| facts.node), Some(peer.peer.node));
    }

    // Fresh, it says the same; and there are no more groups than these.
    let asked = status(&s, leader);
    assert!(asked.beat >= after.beat && asked.groups == after.groups, "{asked:?}");
    let page = s.answer(control.groups(GroupId(0))).expect("the shard runs");
    assert_eq!(page.iter().map(|group| group.group).collect::<Vec<_>>(), [GROUP]);
    let page = s.answer(control.groups(GroupId(GROUP.0 + 1))).expect("the shard runs");
    assert_eq!(page, []);
    assert_eq!(s.answer(control.group(GroupId(9))), Ok(None));
    s.assert_sound();
}

#[test]
fn a_peer_that_is_gone_is_told_with_the_reason() {
    let s = Scenario::running(702, 3, 0);
    s.run_for(seconds(1));
    s.crash(THREE, Crash::Kill);
    s.run_for(seconds(2));
    let told = status(&s, ONE);
    let gone = told.peers.iter().find(|peer| peer.peer.node == THREE).expect("a member");
    assert!(!gone.outbound.is_up && !gone.inbound.is_up, "{gone:?}");
    assert!(gone.outbound.ended.is_some(), "{gone:?}");
    assert!(gone.silent_beats.is_some_and(|beats| beats > 10), "{gone:?}");
    s.assert_sound();
}

#[test]
fn a_shard_that_has_ended_answers_so_and_keeps_its_last_status() {
    let s = Scenario::running(703, 3, 0);
    let control = s.control(ONE);
    s.run_for(seconds(1));
    let beat = control.latest().beat;
    let waiting = control.status();
    s.crash(ONE, Crash::Kill);
    assert!(matches!(s.answer(waiting), Err(ControlError::Stopped)));
    assert!(matches!(s.answer(control.group(GROUP)), Err(ControlError::Stopped)));
    let last = control.latest();
    assert!(last.beat >= beat && matches!(last.state, ShardState::Failed(_)), "{last:?}");
}

#[test]
fn a_new_cluster_tells_whom_it_waits_for() {
    let s = Scenario::new(704, 3, 0);
    s.start(ONE, 1);
    s.run_for(seconds(2));
    let told = status(&s, ONE);
    assert!(matches!(told.state, ShardState::Meeting), "{:?}", told.state);
    assert_eq!(told.waits_for, [TWO, THREE]);
    s.start(TWO, 1);
    s.run_for(seconds(2));
    assert_eq!(status(&s, ONE).waits_for, [THREE]);
    s.start(THREE, 1);
    s.run_for(seconds(2));
    let told = status(&s, ONE);
    assert!(matches!(told.state, ShardState::Serving) && told.waits_for.is_empty(), "{told:?}");
    s.assert_sound();
}

#[test]
fn a_full_disk_is_a_problem_until_there_is_room_and_refusals_are_counted() {
    let s = Scenario::running(705, 3, 0);
    s.run_for(seconds(2));
    s.nodes().for_each(|node| s.world.node(node).set_quota(Some(s.world.node(node).used())));
    let value = "v".repeat(60_000);
    let leader = one_leader(&s, &all(&s));
    let is_full = |s: &Scenario| status(s, leader).problems.contains(&Problem::DiskFull);
    let mut answers = (0..400).map(|n| s.write(leader, &format!("key-{n}"), &value, seconds(3)));
    assert!(answers.any(|_| is_full(&s)), "24 MB went into full disks");
    let before = status(&s, leader).refusals.no_space;
    s.write(leader, "more", &value, seconds(1));
    assert_eq!(status(&s, leader).refusals.no_space, before + 1);
    s.nodes().for_each(|node| s.world.node(node).set_quota(None));
    s.must_write(leader, "resumed", "1", seconds(30));
    s.run_for(seconds(1));
    assert!(!is_full(&s));
    s.assert_sound();
}
