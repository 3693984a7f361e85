//! The tests of the raft lab of MIT's course 6.5840, by their names: what each of them asserts, on our
//! network and with our bounds. Its servers are our nodes, its `one` is [`agree`], its `Start` is
//! `submit`. What it calls unreliable loses and reorders messages; ours comes over connections that
//! wait, break, and flip bits. That no term has two leaders and no replicas differ is watched
//! throughout. Its tests of snapshots (3D) come with snapshots.

use crate::support::{
    ELECTION, agree, all, all_apply, applied_anywhere, millis, one_leader, seconds, shake, shaky,
};
use purlin::NodeId;
use purlin_tests::{
    cluster::scenario::{GROUP, Pending, Scenario, calm, increment, set},
    sim::{Crash, Random},
};
use std::collections::BTreeSet;

/// Unplugs these.
fn unplug(s: &Scenario, nodes: &[NodeId]) {
    nodes.iter().for_each(|node| s.unplug(*node));
}

fn plug_in(s: &Scenario, nodes: &[NodeId]) {
    nodes.iter().for_each(|node| s.plug_in(*node));
}

/// Offers commands to one node, all at once.
fn start(s: &Scenario, at: NodeId, what: &str, count: u32) -> Vec<Pending> {
    let offer = |n| s.submit(at, GROUP, set(&format!("{what}-{n}"), what));
    (0..count).map(offer).collect()
}

/// Nothing of what was offered is done, nor is anything else.
fn nothing_is_done(s: &Scenario, offered: &[Pending]) {
    let before = applied_anywhere(s);
    s.run_for(2 * ELECTION);
    assert!(!offered.iter().any(Pending::is_done), "done without a majority");
    assert_eq!(applied_anywhere(s), before, "committed without a majority");
}

/// What a lost leader was offered alone never happens, if it was told so; and it is told.
fn none_is_done(s: &Scenario, offered: &[Pending]) {
    s.must_reach("an end of what a lost leader was offered", seconds(12), || {
        offered.iter().all(|pending| pending.answer().is_some())
    });
    assert!(!offered.iter().any(Pending::is_done), "a lost leader's own command is done");
}

fn restart_all(s: &Scenario, how: Crash) {
    s.nodes().for_each(|node| s.crash(node, how));
    s.nodes().for_each(|node| s.world.restart(node));
}

fn restart_those_down(s: &Scenario) {
    s.nodes().filter(|node| !s.world.is_running(*node)).for_each(|node| s.world.restart(node));
}

// ---- 3A: elections

#[test]
fn test_initial_election() {
    let s = Scenario::running(101, 3, 0);
    let leader = one_leader(&s, &all(&s));
    let term = s.term();
    s.run_for(4 * ELECTION);
    assert_eq!((one_leader(&s, &all(&s)), s.term()), (leader, term), "an election for nothing");
    assert_eq!(s.elections(GROUP), 1);
    s.assert_sound();
}

#[test]
fn test_re_election() {
    let s = Scenario::running(102, 3, 0);
    let first = one_leader(&s, &all(&s));
    s.unplug(first);
    let second = one_leader(&s, &s.others(first));
    assert_ne!(first, second);
    let elections = s.elections(GROUP);
    // The old one comes back, and that disturbs nobody.
    s.plug_in(first);
    assert_eq!(one_leader(&s, &all(&s)), second);
    assert_eq!(s.elections(GROUP), elections);
    // Without a majority there is none.
    let third = s.others(second).into_iter().find(|node| *node != first).expect("three nodes");
    unplug(&s, &[second, third]);
    s.run_for(4 * ELECTION);
    assert_eq!(s.elections(GROUP), elections, "a leader of one of three");
    assert_ne!(s.leader_among(&[second]), Some(second), "a leader without a majority leads on");
    s.plug_in(third);
    one_leader(&s, &[first, third]);
    s.plug_in(second);
    one_leader(&s, &all(&s));
    s.assert_sound();
}

#[test]
fn test_many_elections() {
    let s = Scenario::running(103, 7, 0);
    let random = Random::new(103, "who is unplugged");
    one_leader(&s, &all(&s));
    for _ in 0..6 {
        let mut nodes = all(&s);
        random.shuffle(&mut nodes);
        let (down, up) = nodes.split_at(3);
        unplug(&s, down);
        // Either the leader is still there, or those that are left elect another.
        one_leader(&s, up);
        plug_in(&s, down);
    }
    one_leader(&s, &all(&s));
    s.assert_sound();
}

// ---- 3B: the log

#[test]
fn test_basic_agree() {
    let s = Scenario::running(111, 3, 0);
    for n in 1..=3 {
        let before = applied_anywhere(&s);
        agree(&s, &all(&s), "key", &n.to_string());
        assert_eq!(applied_anywhere(&s).0, before.0 + 1, "one entry for one command");
    }
    s.assert_sound();
}

/// Each command crosses to each follower once.
#[test]
fn test_rpc_byte() {
    let s = Scenario::running(112, 3, 0);
    let leader = one_leader(&s, &all(&s));
    let crossed = |node| s.world.bytes_delivered(leader, node);
    let before: Vec<u64> = s.others(leader).into_iter().map(crossed).collect();
    let (count, value) = (10, "v".repeat(50_000));
    (0..count).for_each(|n| agree(&s, &all(&s), &format!("key-{n}"), &value));
    let least = count * value.len() as u64;
    for (node, before) in s.others(leader).into_iter().zip(before) {
        let bytes = crossed(node) - before;
        // What is not a command: frames, heartbeats, and that node 1 may forward what it is asked.
        let forwarded = if leader != NodeId(1) && node == NodeId(1) { 1_000 * count } else { 0 };
        let limit = least + least / 20 + forwarded;
        assert!((least..limit).contains(&bytes), "{bytes} bytes to {node} for {least}");
    }
    s.assert_sound();
}

#[test]
fn test_follower_failure() {
    let s = Scenario::running(113, 3, 0);
    let leader = one_leader(&s, &all(&s));
    let [one, two] = s.others(leader)[..] else { panic!("three nodes") };
    s.unplug(one);
    (0..2).for_each(|n| agree(&s, &[leader, two], "key", &n.to_string()));
    s.unplug(two);
    let offered = start(&s, leader, "lost", 1);
    nothing_is_done(&s, &offered);
    s.assert_sound();
}

#[test]
fn test_leader_failure() {
    let s = Scenario::running(114, 3, 0);
    let first = one_leader(&s, &all(&s));
    s.unplug(first);
    let rest = s.others(first);
    (0..2).for_each(|n| agree(&s, &rest, "key", &n.to_string()));
    s.unplug(one_leader(&s, &rest));
    let offered: Vec<Pending> =
        s.nodes().flat_map(|node| start(&s, node, &format!("lost-{node}"), 1)).collect();
    nothing_is_done(&s, &offered);
    s.assert_sound();
}

/// A follower that was away catches up.
#[test]
fn test_fail_agree() {
    let s = Scenario::running(115, 3, 0);
    let leader = one_leader(&s, &all(&s));
    let away = s.others(leader)[0];
    s.unplug(away);
    let rest = s.others(away);
    (0..4).for_each(|n| agree(&s, &rest, &format!("key-{n}"), "1"));
    s.run_for(ELECTION);
    (4..6).for_each(|n| agree(&s, &rest, &format!("key-{n}"), "1"));
    s.plug_in(away);
    agree(&s, &all(&s), "back", "1");
    s.run_for(ELECTION);
    agree(&s, &all(&s), "still", "1");
    s.assert_sound();
}

/// Three of five are away.
#[test]
fn test_fail_no_agree() {
    let s = Scenario::running(116, 5, 0);
    let leader = one_leader(&s, &all(&s));
    let away = s.others(leader)[..3].to_vec();
    unplug(&s, &away);
    let offered = start(&s, leader, "lost", 1);
    nothing_is_done(&s, &offered);
    plug_in(&s, &away);
    // The majority may have a leader that never heard of it: then it must not be told as done.
    s.must_reach("an end", seconds(15), || offered[0].answer().is_some());
    agree(&s, &all(&s), "after", "1");
    let found = s.must_read(leader, "lost-0", seconds(5));
    let told = offered[0].answer().expect("it has ended");
    assert!(told.is_err() || found.as_deref() == Some("lost"), "{told:?}, and {found:?} was read");
    s.assert_sound();
}

/// Commands that are offered at once may share an entry, and each has its own effect.
#[test]
fn test_concurrent_starts() {
    let s = Scenario::running(117, 3, 0);
    let leader = one_leader(&s, &all(&s));
    let before = applied_anywhere(&s);
    let offered: Vec<Pending> =
        (0..5).map(|_| s.submit(leader, GROUP, increment("counter"))).collect();
    s.must_reach("all done", seconds(5), || offered.iter().all(Pending::is_done));
    let sums: BTreeSet<_> =
        offered.iter().map(|pending| format!("{:?}", pending.answer())).collect();
    assert_eq!(sums.len(), 5, "two had one effect: {sums:?}");
    let entries = applied_anywhere(&s).0 - before.0;
    assert!((1..=5).contains(&entries), "{entries} entries");
    s.assert_sound();
}

/// A lost leader's own entries give way, twice.
#[test]
fn test_rejoin() {
    let s = Scenario::running(118, 3, 0);
    let first = one_leader(&s, &all(&s));
    s.unplug(first);
    let stranded = start(&s, first, "stranded", 3);
    let rest = s.others(first);
    agree(&s, &rest, "key", "103");
    let second = one_leader(&s, &rest);
    s.unplug(second);
    s.plug_in(first);
    let third = rest.into_iter().find(|node| *node != second).expect("three nodes");
    agree(&s, &[first, third], "key", "104");
    s.plug_in(second);
    agree(&s, &all(&s), "key", "105");
    none_is_done(&s, &stranded);
    (0..3)
        .for_each(|n| assert_eq!(s.must_read(second, &format!("stranded-{n}"), seconds(5)), None));
    s.must_converge(seconds(5));
    s.assert_sound();
}

/// Two halves of five go on with logs that have nothing in common, and one comes over the other soon.
#[test]
fn test_backup() {
    let s = Scenario::running(119, 5, 0);
    let first = one_leader(&s, &all(&s));
    let others = s.others(first);
    // A leader and one follower: these two can commit nothing.
    let (mate, rest) = others.split_first().expect("five nodes");
    unplug(&s, rest);
    let stranded = start(&s, first, "stranded", 50);
    s.run_for(ELECTION / 2);
    unplug(&s, &[first, *mate]);
    plug_in(&s, rest);
    (0..50).for_each(|n| s.must_write(rest[0], &format!("kept-{n}"), "1", seconds(15)));
    // Again, with another leader and one that has fallen behind.
    let second = one_leader(&s, rest);
    let [behind, last] =
        rest.iter().copied().filter(|node| *node != second).collect::<Vec<_>>()[..]
    else {
        panic!("three are left")
    };
    s.unplug(behind);
    s.unplug(last);
    let stranded_too = start(&s, second, "stranded-too", 50);
    s.run_for(ELECTION / 2);
    s.unplug(second);
    plug_in(&s, &[first, *mate, behind]);
    let third = one_leader(&s, &[first, *mate, behind]);
    (0..50).for_each(|n| s.must_write(third, &format!("kept-again-{n}"), "1", seconds(10)));
    plug_in(&s, &[second, last]);
    agree(&s, &all(&s), "end", "1");
    none_is_done(&s, &stranded);
    none_is_done(&s, &stranded_too);
    for key in ["kept-0", "kept-49", "kept-again-0", "kept-again-49"] {
        assert_eq!(s.must_read(last, key, seconds(5)).as_deref(), Some("1"), "{key}");
    }
    s.must_converge(seconds(10));
    s.assert_sound();
}

/// Not too much is said for an election, for agreement, and for nothing.
#[test]
fn test_count() {
    let s = Scenario::new(120, 3, 0);
    let said = || s.world.deliveries();
    s.nodes().for_each(|node| s.start(node, 1));
    one_leader(&s, &all(&s));
    let election = said();
    assert!((1..=100).contains(&election), "{election} deliveries to meet and elect a leader");
    agree(&s, &all(&s), "first", "1");
    s.run_for(ELECTION);
    // Six directions of three nodes, each with its heartbeat, of which a delivery may be a part.
    let beats = |millis: u64| 2 * 6 * (millis / 100 + 1);
    let (before, began, count) = (said(), s.world.now(), 10);
    let leader = one_leader(&s, &all(&s));
    let offered = start(&s, leader, "key", count);
    s.must_reach("all done", seconds(5), || offered.iter().all(Pending::is_done));
    all_apply(&s, &all(&s), s.applied(leader));
    let agreement = said() - before;
    let limit = u64::from(count + 1 + 3) * 3 + beats((s.world.now() - began).as_millis() as u64);
    assert!(agreement <= limit, "{agreement} deliveries for {count} commands");
    s.run_for(ELECTION);
    let before = said();
    s.run_for(ELECTION);
    let idle = said() - before;
    assert!(idle <= beats(1000), "{idle} deliveries of an idle second");
    s.assert_sound();
}

// ---- 3C: what a power cut leaves

#[test]
fn test_persist1() {
    let s = Scenario::running(131, 3, 0);
    let mut n = 0;
    let mut next = |nodes: &[NodeId]| {
        n += 1;
        agree(&s, nodes, "key", &n.to_string());
    };
    next(&all(&s));
    restart_all(&s, Crash::PowerCut);
    next(&all(&s));
    let leader = one_leader(&s, &all(&s));
    s.crash(leader, Crash::PowerCut);
    s.world.restart(leader);
    next(&all(&s));
    let leader = one_leader(&s, &all(&s));
    s.crash(leader, Crash::PowerCut);
    next(&s.others(leader));
    s.world.restart(leader);
    next(&all(&s));
    let follower = s.others(one_leader(&s, &all(&s)))[0];
    s.crash(follower, Crash::PowerCut);
    next(&s.others(follower));
    s.world.restart(follower);
    next(&all(&s));
    assert_eq!(s.must_read(follower, "key", seconds(5)), Some(n.to_string()));
    s.assert_sound();
}

/// Five nodes, of which two and then another two are away, and all lose their power in between.
#[test]
fn test_persist2() {
    let s = Scenario::running(132, 5, 0);
    for round in 0..3_u32 {
        agree(&s, &all(&s), "key", &format!("{round}-a"));
        let leader = one_leader(&s, &all(&s));
        let place = |plus: u32| NodeId((leader.0 + plus - 1) % 5 + 1);
        let (early, late) = ([place(1), place(2)], [place(0), place(3), place(4)]);
        early.iter().for_each(|node| s.crash(*node, Crash::PowerCut));
        agree(&s, &late, "key", &format!("{round}-b"));
        late.iter().for_each(|node| s.crash(*node, Crash::PowerCut));
        // One of those that have seen all, and the two that have not.
        early.iter().for_each(|node| s.world.restart(*node));
        s.run_for(ELECTION);
        s.world.restart(late[1]);
        agree(&s, &[early[0], early[1], late[1]], "key-c", &format!("{round}-c"));
        let kept = s.must_read(early[0], "key", seconds(10));
        assert_eq!(kept, Some(format!("{round}-b")));
        restart_those_down(&s);
    }
    agree(&s, &all(&s), "end", "1");
    s.assert_sound();
}

/// The leader is away, the others lose their power, and the one that has seen less returns first.
#[test]
fn test_persist3() {
    let s = Scenario::running(133, 3, 0);
    agree(&s, &all(&s), "key", "101");
    let leader = one_leader(&s, &all(&s));
    let [behind, other] = s.others(leader)[..] else { panic!("three nodes") };
    s.unplug(behind);
    agree(&s, &[leader, other], "key", "102");
    s.crash(leader, Crash::PowerCut);
    s.crash(other, Crash::PowerCut);
    s.plug_in(behind);
    s.world.restart(leader);
    assert_eq!(s.must_read(behind, "key", seconds(15)).as_deref(), Some("102"));
    agree(&s, &[behind, leader], "key", "103");
    s.world.restart(other);
    agree(&s, &all(&s), "key", "104");
    s.assert_sound();
}

/// Figure 8 of the paper by chance: leaders that fall soon after they were given something.
#[test]
fn test_figure8() {
    let s = Scenario::running(134, 5, 0);
    let random = Random::new(134, "figure 8");
    for n in 0..60 {
        let up: Vec<NodeId> = s.nodes().filter(|node| s.world.is_running(*node)).collect();
        let _offered = up.iter().map(|node| start(&s, *node, &format!("{n}-{node}"), 1)).count();
        let pause = if random.chance(0.2) { millis(600) } else { millis(15) };
        s.run_for(random.duration(millis(1)..pause));
        if let Some(leader) = s.leader_among(&up).filter(|leader| up.contains(leader)) {
            s.crash(leader, Crash::PowerCut);
        }
        if s.nodes().filter(|node| s.world.is_running(*node)).count() < 3 {
            let down: Vec<_> = s.nodes().filter(|node| !s.world.is_running(*node)).collect();
            s.world.restart(*random.pick(&down));
            s.run_for(random.duration(millis(1)..millis(1500)));
        }
    }
    restart_those_down(&s);
    agree(&s, &all(&s), "end", "1");
    assert!(s.elections(GROUP) > 5, "{} elections", s.elections(GROUP));
    s.must_converge(seconds(20));
    s.assert_sound();
}

#[test]
fn test_unreliable_agree() {
    let s = Scenario::running_with(135, shaky(5, 0));
    let random = Random::new(135, "trouble");
    let mut offered = Vec::new();
    for n in 0..20 {
        let nodes = all(&s);
        offered.extend((0..4).map(|of| {
            let at = *random.pick(&nodes);
            s.submit(at, GROUP, set(&format!("{n}-{of}"), "1"))
        }));
        shake(&s, &random, millis(100));
    }
    s.must_reach("all ended", seconds(20), || offered.iter().all(|it| it.answer().is_some()));
    let done = offered.iter().filter(|pending| pending.is_done()).count();
    assert!(done >= 60, "{done} of 80 were done");
    for (place, _) in offered.iter().enumerate().filter(|(_, pending)| pending.is_done()) {
        let key = format!("{}-{}", place / 4, place % 4);
        assert_eq!(s.must_read(NodeId(1), &key, seconds(10)).as_deref(), Some("1"), "{key}");
    }
    agree(&s, &all(&s), "end", "1");
    s.assert_sound();
}

#[test]
fn test_figure8_unreliable() {
    let s = Scenario::running_with(136, shaky(5, 0));
    let random = Random::new(136, "figure 8");
    for n in 0..60 {
        let offered = s.nodes().map(|node| start(&s, node, &format!("{n}-{node}"), 1)).count();
        assert_eq!(offered, 5);
        let pause = if random.chance(0.2) { millis(600) } else { millis(20) };
        shake(&s, &random, random.duration(millis(1)..pause));
        let plugged = s.plugged();
        let leader = s.leader_among(&plugged).filter(|leader| plugged.contains(leader));
        if let Some(leader) = leader.filter(|_| random.chance(0.5)) {
            s.unplug(leader);
        }
        let away: Vec<_> = s.nodes().filter(|node| !s.plugged().contains(node)).collect();
        if away.len() > 2 {
            s.plug_in(*random.pick(&away));
            shake(&s, &random, millis(700));
        }
    }
    plug_in(&s, &all(&s));
    agree(&s, &all(&s), "end", "1");
    assert!(s.elections(GROUP) > 5, "{} elections", s.elections(GROUP));
    s.must_converge(seconds(20));
    s.assert_sound();
}

#[test]
fn test_reliable_churn() {
    churn(Scenario::running_with(137, calm(5, 1)), false);
}

#[test]
fn test_unreliable_churn() {
    churn(Scenario::running_with(138, shaky(5, 1)), true);
}

/// Clients ask all the while; nodes are unplugged, taken down and brought back.
fn churn(s: Scenario, is_shaken: bool) {
    let random = Random::new(s.world.seed(), "churn");
    for _ in 0..20 {
        let node = *random.pick(&all(&s));
        match random.below(5) {
            0 | 1 if s.plugged().len() > 3 => s.unplug(node),
            2 => s.plug_in(node),
            3 if s.nodes().filter(|node| s.world.is_running(*node)).count() > 3 => {
                s.crash(node, Crash::PowerCut);
            }
            _ => restart_those_down(&s),
        }
        let pause = random.duration(millis(50)..millis(700));
        if is_shaken { shake(&s, &random, pause) } else { s.run_for(pause) }
    }
    restart_those_down(&s);
    plug_in(&s, &all(&s));
    agree(&s, &all(&s), "end", "1");
    let (done, _, _) = s.judge();
    assert!(done >= 50, "{done} requests were done");
    s.must_converge(seconds(20));
    s.assert_sound();
}
