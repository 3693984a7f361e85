//! State machines that fail: a panic stops a group and not its shard, and a query ends alone (safety E6).

use crate::support::{ELECTION, all, millis, one_leader, seconds};
use purlin::{
    GroupId, GroupStatus, Index, MachineStop, NodeId, Problem, Request, RequestError, RoleKind,
    ShardId,
};
use purlin_tests::{
    cluster::{
        ClusterOptions,
        scenario::{GROUP, Scenario, calm, get, set, value_in},
    },
    sim::Crash,
};

/// It lies on shard 0 of two.
const POISONED: GroupId = GroupId(2);

/// Three nodes with two shards each, and a group on each shard.
fn two_shards(seed: u64) -> Scenario {
    let options = ClusterOptions { shards: vec![2; 3], groups: 2, ..calm(3, 0) };
    let s = Scenario::running_with(seed, options);
    let answer = s.ask(NodeId(1), POISONED, set("before", "1"), seconds(10));
    assert!(matches!(answer, Some(Ok(_))), "{answer:?}");
    s
}

fn group(s: &Scenario, node: NodeId, group: GroupId) -> GroupStatus {
    let answer = s.control(node).group(group);
    s.answer(answer).expect("the shard runs").expect("the group is there")
}

fn stop(s: &Scenario, node: NodeId, of: GroupId) -> MachineStop {
    group(s, node, of).machine.unwrap_or_else(|| panic!("the machine at node {node} has stopped"))
}

/// What a request to the poisoned group ends with, by each shard of a node.
fn refusals(s: &Scenario, node: NodeId, request: &Request) -> Vec<Option<RequestError>> {
    let ask = |shard| {
        let caller = s.caller(node, ShardId(shard));
        caller.submit(POISONED, request.clone(), 0);
        let mut completions = Vec::new();
        s.must_reach("a refusal at the deadline for a leader", millis(2500), || {
            caller.take_completions(&mut completions);
            !completions.is_empty()
        });
        completions.remove(0).outcome.err()
    };
    [0, 1].map(ask).to_vec()
}

#[test]
fn a_machine_that_panics_stops_its_group_at_each_replica_and_nothing_else() {
    let s = two_shards(801);
    s.poison("bad command", &all(&s));
    let leader = s.status(NodeId(1), POISONED).and_then(|it| it.leader).expect("a leader");
    let answer = s.ask(leader, POISONED, set("key", "bad command"), seconds(5));
    let Some(Err(RequestError::Unknown { index, .. })) = answer else { panic!("{answer:?}") };
    assert!(index > Index(1), "where the command stands is told: {index}");
    s.must_reach("each replica has stopped", seconds(10), || {
        let is_named = |node: NodeId| {
            let problems = s.control(node).latest().problems.clone();
            problems == [Problem::MachinesStopped { count: 1, first: vec![POISONED] }]
        };
        s.nodes().all(is_named)
    });
    // The last leader is forgotten too.
    s.run_for(3 * ELECTION);
    let Request::Propose(command) = set("key", "bad command") else { panic!("a proposal") };
    for node in all(&s) {
        let stop = stop(&s, node, POISONED);
        assert_eq!((stop.entry.index, stop.command_bytes), (index, command.len()), "{stop}");
        assert!(stop.to_string().contains("it panicked: poisoned"), "{stop}");
        for request in [set("after", "1"), get("before")] {
            let stopped = Some(RequestError::GroupStopped);
            assert_eq!(refusals(&s, node, &request), [stopped.clone(), stopped], "node {node}");
        }
        s.must_write(node, "another group", "1", seconds(5));
        let status = group(&s, node, POISONED);
        assert_eq!((status.raft.role, status.proposals), (RoleKind::Follower, 0));
    }
    // A start applies the log again, and comes to the same command.
    let before = s.applied(leader);
    s.crash(leader, Crash::Kill);
    s.start(leader, 2);
    s.must_reach("it has applied the other group", seconds(10), || s.applied(leader) >= before);
    s.run_for(seconds(3));
    assert_eq!(stop(&s, leader, POISONED).entry.index, index);
    s.must_write(leader, "after a start", "1", seconds(5));
    assert_eq!(s.stops(), []);
    s.assert_sound();
}

/// Its log and its vote still count: the group goes on with one sound replica beside it.
#[test]
fn a_group_goes_on_when_the_machine_of_one_replica_panics() {
    for seed in 0..4 {
        let s = Scenario::running(810 + seed, 3, 0);
        let leader = one_leader(&s, &all(&s));
        let [next, other] = s.others(leader)[..] else { panic!("three nodes") };
        // The machine of the leader fails, and then that of a follower.
        let hurt = if seed % 2 == 0 { leader } else { next };
        let sound = if seed % 2 == 0 { next } else { leader };
        s.poison("bad command", &[hurt]);
        s.write(leader, "key", "bad command", seconds(5));
        s.must_reach("a sound replica leads", seconds(5), || {
            s.leader_among(&all(&s)).is_some_and(|now| now != hurt)
        });
        s.must_write(hurt, "after", "1", seconds(5));
        s.must_reach("the machine has stopped", seconds(5), || {
            s.control(hurt).latest().groups.stopped == 1
        });
        let stopped = stop(&s, hurt, GROUP);
        assert!(stopped.entry.index > group(&s, hurt, GROUP).raft.applied, "{stopped}");
        s.crash(other, Crash::Kill);
        s.must_write(hurt, "with its acknowledgement", "1", seconds(10));
        assert_eq!(s.must_read(hurt, "key", seconds(5)).as_deref(), Some("bad command"));
        // And with its vote.
        s.crash(sound, Crash::Kill);
        s.start(sound, 1);
        s.must_write(sound, "with its vote", "1", seconds(20));
        assert_eq!(s.leader_among(&[sound, hurt]), Some(sound));
        s.assert_sound();
    }
}

/// During an election a node whose machine has stopped knows no leader, and another replica may be the next one.
#[test]
fn a_node_whose_machine_has_stopped_waits_for_another_leader_before_it_says_so() {
    let s = two_shards(815);
    let leader = s.status(NodeId(1), POISONED).and_then(|it| it.leader).expect("a leader");
    let [hurt, other] = s.others(leader)[..] else { panic!("three nodes") };
    s.poison("bad command", &[hurt]);
    let answer = s.ask(leader, POISONED, set("key", "bad command"), seconds(5));
    assert!(matches!(answer, Some(Ok(_))), "the others apply it: {answer:?}");
    s.must_reach("the machine has stopped", seconds(5), || {
        s.control(hurt).latest().groups.stopped == 1
    });
    s.crash(leader, Crash::Kill);
    let knows_none = || s.status(hurt, POISONED).is_some_and(|status| status.leader.is_none());
    s.must_reach("no leader is known", seconds(5), knows_none);
    // By each shard of the node: one has the group, and the other sends its batch there.
    let callers = [0, 1].map(|shard| s.caller(hurt, ShardId(shard)));
    callers.iter().for_each(|caller| caller.submit(POISONED, set("after", "1"), 7));
    let mut outcomes = Vec::new();
    s.must_reach("both are answered", seconds(3), || {
        callers.iter().for_each(|caller| caller.take_completions(&mut outcomes));
        outcomes.len() == 2
    });
    assert!(outcomes.iter().all(|it| it.outcome.is_ok()), "{outcomes:?}");
    assert_eq!(s.status(hurt, POISONED).and_then(|it| it.leader), Some(other));
    s.assert_sound();
}

/// Otherwise one client could stop all replicas of a group.
#[test]
fn a_query_that_panics_ends_without_an_answer_and_the_group_goes_on() {
    let s = Scenario::running(820, 3, 0);
    let leader = one_leader(&s, &all(&s));
    let other = s.others(leader)[0];
    s.poison("bad query", &all(&s));
    let caller = s.caller(leader, ShardId(0));
    caller.submit(GROUP, get("first"), 1);
    caller.submit(GROUP, get("bad query"), 2);
    caller.submit(GROUP, get("first"), 3);
    let mut completions = Vec::new();
    s.must_reach("all have ended", seconds(5), || {
        caller.take_completions(&mut completions);
        completions.len() == 3
    });
    let outcomes: Vec<_> = completions.into_iter().map(|it| it.outcome).collect();
    let value = |at: usize| outcomes[at].as_ref().ok().and_then(|outcome| value_in(outcome));
    assert_eq!((value(0), value(2)), (Some("1".into()), Some("1".into())), "{outcomes:?}");
    assert_eq!(outcomes[1], Err(RequestError::QueryFailed));
    // A peer is told so too.
    let answer = s.read(other, "bad query", seconds(5));
    assert_eq!(answer, Some(Err(RequestError::QueryFailed)));
    s.must_write(other, "after", "1", seconds(2));
    let status = group(&s, leader, GROUP);
    assert_eq!(
        (status.failed_queries, status.machine, status.raft.leader),
        (2, None, Some(leader))
    );
    s.assert_sound();
}
