//! Linearizable reads (safety R1, R2): never older than what was acknowledged before they were asked,
//! at whichever node, and never for ever.

use crate::support::{ELECTION, agree, all, millis, number, one_leader, seconds};
use purlin::NodeId;
use purlin_tests::{
    cluster::scenario::{GROUP, Pending, Scenario, get, set},
    sim::{Crash, LinkTrouble, Random},
};

/// B41: a new leader's commit index is old until its own term has committed.
#[test]
fn a_new_leader_reads_nothing_older_than_what_its_predecessor_acknowledged() {
    for seed in 600..612 {
        let s = Scenario::running(seed, 3, 0);
        for n in 0..3_u64 {
            let leader = one_leader(&s, &all(&s));
            let others = s.others(leader);
            // Acknowledged a moment before the leader falls: the others may not know that yet.
            let write = s.write(leader, "key", &n.to_string(), seconds(5));
            assert!(matches!(write, Some(Ok(_))), "{write:?}");
            s.crash(leader, Crash::PowerCut);
            let reads: Vec<Pending> =
                others.iter().map(|node| s.submit(*node, GROUP, get("key"))).collect();
            s.must_reach("another leader", 8 * ELECTION, || {
                s.leader_among(&others).is_some_and(|now| now != leader)
            });
            let more = others.iter().map(|node| s.submit(*node, GROUP, get("key")));
            let reads: Vec<Pending> = reads.into_iter().chain(more.collect::<Vec<_>>()).collect();
            s.must_reach("an end of all reads", seconds(12), || {
                reads.iter().all(|read| read.answer().is_some())
            });
            let done = reads.iter().filter(|read| read.is_done());
            assert!(done.clone().count() >= 2, "seed {seed}: no read was answered");
            done.for_each(|read| assert_eq!(number(&read.answer()), Some(n), "seed {seed}"));
            s.world.restart(leader);
            s.run_for(ELECTION);
        }
        s.assert_sound();
    }
}

/// B42, safety R1: an old leader that is cut off with its clients answers nothing, for however long.
#[test]
fn a_leader_that_is_cut_off_answers_no_read_at_all() {
    for seed in 612..616 {
        let s = Scenario::running(seed, 3, 0);
        let leader = one_leader(&s, &all(&s));
        s.run_for(seconds(1));
        s.unplug(leader);
        // From the first moment on: nobody else leads yet, but a round can no more be confirmed.
        let reads: Vec<Pending> = (0..20)
            .map(|_| {
                s.run_for(millis(100));
                s.submit(leader, GROUP, get("first"))
            })
            .collect();
        s.run_for(seconds(12));
        assert!(!reads.iter().any(Pending::is_done), "a read without a majority");
        assert!(reads.iter().all(|read| read.answer().is_some()), "a read without an end");
        s.assert_sound();
    }
}

/// B42, safety R1: an old leader that hears everything late believes that a majority follows it, while
/// another leads. It answers nothing that is older than what that one has acknowledged.
#[test]
fn a_leader_that_hears_late_answers_no_old_read() {
    for seed in 640..644 {
        let s = Scenario::running(seed, 3, 0);
        let leader = one_leader(&s, &all(&s));
        let others = s.others(leader);
        // As behind a queue that grows: answers come all the time, and are ever older.
        for step in 1..=30 {
            let trouble = LinkTrouble { delay: step * millis(100), ..LinkTrouble::default() };
            others.iter().for_each(|&from| s.world.trouble_link(from, leader, Some(trouble)));
            s.run_for(millis(150));
        }
        assert_eq!(s.leader_among(&[leader]), Some(leader), "answers come, though late");
        s.world.cut_one_way(&[leader], &others);
        let another = || s.leader_among(&others).filter(|now| *now != leader);
        s.must_reach("another leader", 4 * ELECTION, || another().is_some());
        s.must_write(another().expect("there is one"), "key", "new", seconds(1));
        assert_eq!(s.leader_among(&[leader]), Some(leader), "it still does not know");
        let read = s.submit(leader, GROUP, get("key"));
        s.run_for(seconds(12));
        assert_ne!(read.answer(), Some(Ok(None)), "a read of what was before");
        s.assert_sound();
    }
}

/// B50: what was read once is not unread by a restart.
#[test]
fn a_restarted_node_answers_nothing_older_than_before() {
    let s = Scenario::running(616, 3, 0);
    let random = Random::new(616, "restarts");
    for n in 0..20_u64 {
        let at = *random.pick(&all(&s));
        s.must_write(at, "key", &n.to_string(), seconds(15));
        let reader = *random.pick(&all(&s));
        assert_eq!(s.must_read(reader, "key", seconds(15)), Some(n.to_string()));
        let how = if random.chance(0.5) { Crash::Kill } else { Crash::PowerCut };
        s.crash(reader, how);
        s.world.restart(reader);
        assert_eq!(s.must_read(reader, "key", seconds(15)), Some(n.to_string()), "after {how:?}");
    }
    s.assert_sound();
}

/// B51, B45: reads alone, while leaders fall and come back. All end, and soon after each fall there are
/// some again.
#[test]
fn reads_alone_go_on_across_leader_changes() {
    let s = Scenario::running(617, 3, 0);
    s.must_write(NodeId(1), "key", "7", seconds(5));
    let mut reads: Vec<(NodeId, Pending)> = Vec::new();
    let ask = |node: NodeId| (node, s.submit(node, GROUP, get("key")));
    for round in 0..8 {
        let leader = one_leader(&s, &all(&s));
        let others = s.others(leader);
        reads.extend(all(&s).into_iter().map(ask));
        if round % 2 == 0 {
            s.crash(leader, Crash::Kill);
            // What was asked at a process that is gone has no answer.
            reads.retain(|(node, read)| *node != leader || read.answer().is_some());
        } else {
            s.world.partition(&[leader], &others);
        }
        reads.extend(others.iter().copied().map(ask));
        s.must_reach("another leader", 8 * ELECTION, || {
            s.leader_among(&others).is_some_and(|now| now != leader)
        });
        let now: Vec<_> = others.iter().copied().map(ask).collect();
        s.must_reach("reads at the new leader", seconds(2), || {
            now.iter().all(|(_, read)| read.is_done())
        });
        reads.extend(now);
        s.world.heal();
        if !s.world.is_running(leader) {
            s.world.restart(leader);
        }
    }
    s.run_for(seconds(12));
    for (node, read) in &reads {
        let answer = read.answer().unwrap_or_else(|| panic!("a read at node {node} has no end"));
        assert!(answer.is_err() || answer == Ok(Some("7".into())), "{answer:?}");
    }
    agree(&s, &all(&s), "end", "1");
    s.assert_sound();
}

/// Safety R1, R2: a read asked after a write was acknowledged sees it, at each node, under any trouble.
#[test]
fn a_read_sees_every_write_that_was_acknowledged_before_it() {
    for seed in 620..624 {
        let s = Scenario::running_with(seed, crate::support::shaky(3, 0));
        let random = Random::new(seed, "trouble");
        let mut newest = 0;
        let mut reads: Vec<(u64, Pending)> = Vec::new();
        for n in 1..=40_u64 {
            let at = *random.pick(&all(&s));
            // A counter only grows, whatever becomes of those that are not answered in time.
            if let Some(sum) = number(&s.increment(at, "key", millis(300))) {
                newest = sum;
            }
            reads.extend(all(&s).iter().map(|node| (newest, s.submit(*node, GROUP, get("key")))));
            if n % 8 == 0 {
                let cut = *random.pick(&all(&s));
                s.world.cut_one_way(&[cut], &s.others(cut));
            }
            if n % 8 == 4 {
                s.world.heal();
            }
        }
        s.world.heal();
        s.run_for(seconds(12));
        let done = reads.iter().filter(|(_, read)| read.is_done()).count();
        assert!(done >= 60, "{done} reads were answered");
        for (least, read) in reads.iter().filter(|(_, read)| read.is_done()) {
            let found = number(&read.answer()).unwrap_or(0);
            assert!(found >= *least, "seed {seed}: read {found} after {least} was acknowledged");
        }
        s.assert_sound();
    }
}

/// B66: what finds no leader waits for one, and is done as soon as there is one.
#[test]
fn a_request_that_finds_no_leader_goes_on_when_there_is_one() {
    for seed in 630..634 {
        let s = Scenario::running(seed, 3, 0);
        let leader = one_leader(&s, &all(&s));
        let others = s.others(leader);
        s.crash(leader, Crash::Kill);
        let knows_none =
            |node: &NodeId| s.status(*node, GROUP).is_some_and(|it| it.leader.is_none());
        s.must_reach("nobody leads", 2 * ELECTION, || others.iter().all(knows_none));
        let asked: Vec<Pending> = others
            .iter()
            .flat_map(|node| [get("first"), set("key", "1")].map(|ask| s.submit(*node, GROUP, ask)))
            .collect();
        s.must_reach("another leader", 8 * ELECTION, || s.leader_among(&others).is_some());
        s.must_reach("all done", seconds(1), || asked.iter().all(Pending::is_done));
        s.assert_sound();
    }
}
