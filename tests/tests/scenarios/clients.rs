//! What clients are told, and in which order what they ask takes effect (safety E1, E2, E4; A5).

use crate::support::{ELECTION, ONE, agree, all, millis, number, one_leader, seconds};
use bytes::Bytes;
use purlin::{Caller, Completion, GroupId, NodeId, Request, RequestError, ShardId};
use purlin_rsm::reach::Recorder;
use purlin_tests::{
    cluster::{
        ClusterOptions, Limits,
        scenario::{GROUP, Pending, Scenario, calm, get, increment, set, value_in},
    },
    sim::{Crash, Random},
};
use std::{collections::BTreeMap, rc::Rc, time::Duration};

/// B94: a node that does not lead passes a command on once.
#[test]
fn an_increment_by_each_node_counts_once() {
    let s = Scenario::running(401, 3, 0);
    for n in 1..=9 {
        let at = NodeId(1 + (n as u32) % 3);
        assert_eq!(number(&s.increment(at, "counter", seconds(5))), Some(n), "at node {at}");
    }
    s.assert_sound();
}

/// A leader whose process stands still keeps its connections, and what was sent to it gets no reply. As soon
/// as another leader is known, a write ends as unknown and a read is asked again: nobody waits for the
/// deadline of 10 s. It holds behind another shard of the node too.
#[test]
fn requests_at_a_leader_that_fell_silent_end_with_the_next_leader() {
    for shards in [1, 2] {
        let s =
            Scenario::running_with(431, ClusterOptions { shards: vec![shards; 3], ..calm(3, 0) });
        let leader = s.leader();
        let other = s.others(leader)[0];
        let home = ShardId((GROUP.0 % u32::from(shards)) as u16);
        s.must_write(other, "key", "1", seconds(5));
        s.world.pause(leader, home);
        let (write, read) = {
            let write = s.submit(other, GROUP, set("key", "2"));
            let read = Scenario::submit(&s, other, GROUP, get("other"));
            (write, read)
        };
        let ended = || write.answer().is_some() && read.answer().is_some();
        s.must_reach("both have ended", seconds(3), ended);
        assert_eq!(write.answer(), Some(Err(RequestError::UNKNOWN)), "{shards} shards");
        assert_eq!(read.answer(), Some(Ok(None)), "{shards} shards");
        s.must_write(other, "key", "3", seconds(1));
        s.world.resume(leader, home);
        s.run_for(seconds(3));
        assert_eq!(s.must_read(leader, "key", seconds(5)).as_deref(), Some("3"));
        s.assert_sound();
    }
}

/// A node that was cut off finds its leader restarted. What it asks may be there before the leader has its connection
/// back: the reply waits for that. Nobody would notice if it were lost, since that same node leads again.
#[test]
fn a_reply_waits_for_the_connection_back_of_a_leader_that_has_restarted() {
    let reached = Recorder::install();
    for seed in 440..450 {
        let s = Scenario::running(seed, 3, 0);
        let leader = s.leader();
        let [gone, asks] = s.others(leader)[..] else { panic!("three nodes") };
        s.must_write(leader, "key", "1", seconds(5));
        s.run_for(seconds(1));
        s.world.isolate(asks);
        s.crash(gone, Crash::PowerCut);
        s.crash(leader, Crash::PowerCut);
        s.world.restart(leader);
        s.run_for(millis(100));
        s.world.heal();
        let ask = |_| {
            s.run_for(millis(20));
            s.submit(asks, GROUP, get("key"))
        };
        let reads: Vec<Pending> = (0..60).map(ask).collect();
        s.run_for(seconds(4));
        for (at, read) in reads.iter().enumerate() {
            assert_eq!(read.answer(), Some(Ok(Some("1".into()))), "seed {seed}, read {at}");
        }
        s.assert_sound();
    }
    assert!(reached.counts().contains_key("reply to a batch waits for a connection"));
}

/// A batch that finds a full channel to another shard goes out when there is room, and not with the next
/// heartbeat.
#[test]
fn requests_that_found_a_full_channel_wait_for_room_and_for_no_heartbeat() {
    let limits = vec![Limits { mesh: 4, ..Limits::default() }];
    let options = ClusterOptions { shards: vec![2], groups: 2, limits, ..calm(1, 0) };
    let s = Scenario::running_with(432, options);
    let groups = [GroupId(1), GroupId(2)];
    s.run_for(seconds(2));
    let ask = |n: usize| s.submit(ONE, groups[n % 2], set(&format!("key-{n}"), "1"));
    let began = s.world.now();
    let asked: Vec<Pending> = (0..200).map(ask).collect();
    s.must_reach("all are done", seconds(5), || asked.iter().all(Pending::is_done));
    let took = s.world.now() - began;
    // A heartbeat comes every 100 ms; 100 requests at 4 a time would need 25 of them, beside the writes.
    assert!(took < seconds(1), "it took {took:?}");
    s.assert_sound();
}

/// B96, safety A5: whatever leaders come and go, what was done counts once, what was not applied never,
/// and what is unknown once at most.
#[test]
fn increments_count_once_while_leaders_fall() {
    let mut done_in_all = 0;
    for seed in 402..406 {
        let s = Scenario::running(seed, 3, 0);
        let random = Random::new(seed, "falls");
        let mut asked: Vec<Pending> = Vec::new();
        for round in 0..10 {
            for _ in 0..10 {
                let at = *random.pick(&all(&s));
                asked.push(s.submit(at, GROUP, increment("counter")));
                s.run_for(random.duration(millis(0)..millis(5)));
            }
            let Some(leader) = s.leader_among(&all(&s)) else { continue };
            match round % 3 {
                0 => s.crash(leader, Crash::Kill),
                1 => s.crash(leader, Crash::PowerCut),
                _ => s.unplug(leader),
            }
            s.run_for(random.duration(millis(100)..millis(1500)));
            s.plug_in(leader);
            if !s.world.is_running(leader) {
                s.world.restart(leader);
            }
            s.run_for(random.duration(millis(1)..millis(700)));
        }
        agree(&s, &all(&s), "end", "1");
        s.run_for(seconds(12));
        let done = asked.iter().filter(|pending| pending.is_done()).count() as u64;
        let not_applied = asked.iter().filter(
            |pending| matches!(pending.answer(), Some(Err(error)) if error.is_definitely_not_applied()),
        );
        let most = (asked.len() - not_applied.count()) as u64;
        let sum = number(&s.read(NodeId(1), "counter", seconds(10))).expect("it was counted");
        assert!((done..=most).contains(&sum), "{sum} of {done} done and {most} possible");
        done_in_all += done;
        s.assert_sound();
    }
    assert!(done_in_all >= 80, "{done_in_all} were done");
}

/// B66: a deposed leader ends every request that waits, soon, and with a true outcome.
#[test]
fn requests_at_a_deposed_leader_end_and_are_told_the_truth() {
    let s = Scenario::running(406, 3, 0);
    let leader = one_leader(&s, &all(&s));
    let others = s.others(leader);
    s.unplug(leader);
    let writes: Vec<Pending> =
        (0..20).map(|n| s.submit(leader, GROUP, set(&format!("key-{n}"), "lost"))).collect();
    let reads: Vec<Pending> = (0..20).map(|_| s.submit(leader, GROUP, get("first"))).collect();
    s.must_write(others[0], "other", "1", seconds(15));
    s.plug_in(leader);
    s.must_reach("an end of all", seconds(12), || {
        writes.iter().chain(&reads).all(|pending| pending.answer().is_some())
    });
    assert!(!writes.iter().any(Pending::is_done), "done, and another leader has replaced it");
    for n in 0..20 {
        let found = s.must_read(leader, &format!("key-{n}"), seconds(5));
        assert_eq!(found, None, "replaced, and there");
    }
    for answer in reads.iter().filter_map(Pending::answer).flatten() {
        assert_eq!(answer.as_deref(), Some(&b"1"[..]));
    }
    s.assert_sound();
}

/// Safety E2: what was sent and not answered in time is in doubt, at whichever node it was asked.
#[test]
fn a_request_that_runs_out_of_time_is_unknown_if_it_may_have_been_taken() {
    for (seed, at_leader) in [(407, true), (408, false)] {
        let s = Scenario::running(seed, 3, 0);
        let leader = one_leader(&s, &all(&s));
        let at = if at_leader { leader } else { s.others(leader)[0] };
        // It can still be forwarded, and never be committed.
        let behind: Vec<NodeId> = s.others(leader).into_iter().filter(|node| *node != at).collect();
        behind.iter().for_each(|node| s.crash(*node, Crash::Kill));
        if !at_leader {
            s.world.node(at).hang_disk(seconds(60));
        }
        let write = s.submit(at, GROUP, set("key", "1"));
        s.must_reach("an end by the deadline", seconds(12), || write.answer().is_some());
        let answer = write.answer().expect("it has ended");
        assert!(matches!(answer, Err(RequestError::Unknown { .. })), "{answer:?}");
        s.assert_sound();
    }
}

/// What one caller has submitted, and what it was told.
struct Line {
    caller: Rc<Caller>,
    submitted: u64,
    told: BTreeMap<u64, Result<Option<Bytes>, RequestError>>,
}

impl Line {
    fn new(s: &Scenario, at: NodeId, shard: u16) -> Self {
        let caller = s.caller(at, ShardId(shard));
        Self { caller, submitted: 0, told: BTreeMap::new() }
    }

    fn submit(&mut self, group: GroupId, request: Request) -> u64 {
        self.submitted += 1;
        self.caller.submit(group, request, self.submitted);
        self.submitted
    }

    fn take(&mut self) {
        let mut completions = Vec::new();
        self.caller.take_completions(&mut completions);
        for Completion { tag, outcome } in completions {
            let outcome = outcome.map(|outcome| value_in(&outcome));
            assert!(self.told.insert(tag, outcome).is_none(), "{tag} has ended twice");
        }
    }

    fn is_done(&self, tag: u64) -> bool {
        matches!(self.told.get(&tag), Some(Ok(_)))
    }
}

/// Safety E1: one connection sets a key to ever larger numbers while the leader changes. No smaller
/// number comes over a larger one, whichever of them were bounced or lost on their way.
#[test]
fn what_one_connection_sets_never_goes_back_while_leaders_change() {
    for seed in 410..413 {
        let s = Scenario::running(seed, 5, 0);
        let random = Random::new(seed, "moves");
        let at = NodeId(1);
        let (mut line, mut seen) = (Line::new(&s, at, 0), 0);
        for round in 0..4 {
            let leader = one_leader(&s, &all(&s));
            // The leader is cut off from all others; or from all but the node of the connection, which
            // then sends to a node that knows that it no longer leads.
            let mut others = s.others(leader);
            if (round + seed) % 2 == 0 {
                others.retain(|node| *node != at);
            }
            s.world.partition(&[leader], &others);
            for step in 0..500 {
                if step == 400 {
                    s.world.heal();
                }
                let next = line.submitted + 1;
                line.submit(GROUP, set("key", &next.to_string()));
                s.run_for(random.duration(millis(1)..millis(9)));
                line.take();
                if step % 20 == 0
                    && let Some(found) = number(&s.read(NodeId(3), "key", millis(20)))
                {
                    assert!(found >= seen, "seed {seed}: {found} after {seen}");
                    seen = found;
                }
            }
        }
        s.must_reach("an end of all", seconds(15), || {
            line.take();
            line.told.len() as u64 == line.submitted
        });
        let done = line.told.keys().rev().copied().find(|tag| line.is_done(*tag)).expect("some");
        let last = number(&s.read(at, "key", seconds(10))).expect("it was set");
        assert!(last >= done.max(seen), "seed {seed}: {last} after {done} and {seen}");
        s.assert_sound();
    }
}

/// Safety E1: a batch arrives at a node that no longer leads, and is bounced. Later requests of its
/// connection wait behind it.
#[test]
fn requests_that_bounced_go_out_before_those_asked_since() {
    let mut bounced = 0;
    for seed in 430..436 {
        let s = Scenario::running(seed, 5, 0);
        let leader = one_leader(&s, &all(&s));
        let at = s.others(leader)[0];
        let far: Vec<NodeId> = s.others(leader).into_iter().filter(|node| *node != at).collect();
        s.world.partition(&[leader], &far);
        let leads = |node| s.status(node, GROUP).and_then(|status| status.leader);
        s.must_reach("it gives up", 4 * ELECTION, || leads(leader) != Some(leader));
        bounced += u32::from(leads(at) == Some(leader));
        let mut line = Line::new(&s, at, 0);
        for n in 1..=4 {
            line.submit(GROUP, set("key", &n.to_string()));
            s.run_for(Duration::from_micros(40));
        }
        s.world.heal();
        s.must_reach("an end of all", seconds(12), || {
            line.take();
            line.told.len() == 4
        });
        assert!((1..=4).all(|tag| line.is_done(tag)), "{:?}", line.told);
        let last = number(&s.read(at, "key", seconds(5)));
        assert_eq!(last, Some(4), "seed {seed}: an older one came last");
        s.assert_sound();
    }
    assert!(bounced >= 3, "only {bounced} of 6 were sent to a node that no longer leads");
}

/// Safety E1: an older request is on its way to a leader that was cut off, and may arrive there yet.
/// The node of its connection leads by now, and lets nothing younger pass.
#[test]
fn nothing_younger_passes_what_is_in_doubt_elsewhere() {
    let mut led = 0;
    for seed in 436..444 {
        let s = Scenario::running(seed, 3, 0);
        let leader = one_leader(&s, &all(&s));
        let at = s.others(leader)[0];
        s.unplug(leader);
        let mut line = Line::new(&s, at, 0);
        let older = line.submit(GROUP, set("key", "1"));
        let leads = || s.status(at, GROUP).and_then(|status| status.leader);
        s.must_reach("another leader", 6 * ELECTION, || leads().is_some_and(|now| now != leader));
        led += u32::from(leads() == Some(at));
        let younger = line.submit(GROUP, set("key", "2"));
        s.run_for(millis(300));
        line.take();
        assert!(line.told.contains_key(&older) || !line.told.contains_key(&younger), "it passed");
        s.plug_in(leader);
        s.must_reach("an end of both", seconds(12), || {
            line.take();
            line.told.len() == 2
        });
        assert!(line.is_done(younger), "{:?}", line.told);
        assert_eq!(number(&s.read(at, "key", seconds(5))), Some(2), "seed {seed}");
        s.assert_sound();
    }
    assert!(led >= 2, "the node of the connection led {led} times of 8");
}

/// Safety E2: a query sees what its connection has set before it, and nothing that it set after.
#[test]
fn a_query_sees_the_earlier_writes_of_its_connection_and_no_later_one() {
    for (seed, node) in [(418, 1), (419, 2), (420, 3)] {
        let s = Scenario::running(seed, 3, 0);
        let mut line = Line::new(&s, NodeId(node), 0);
        let pairs: Vec<(u64, u64)> = (0..100)
            .map(|n| {
                let write = line.submit(GROUP, set("key", &n.to_string()));
                // Sometimes the query comes while the write is under way.
                s.run_for(Duration::from_micros(20 * (n % 50)));
                (write, line.submit(GROUP, get("key")))
            })
            .collect();
        s.must_reach("an end of all", seconds(5), || {
            line.take();
            line.told.len() as u64 == line.submitted
        });
        for (n, (write, query)) in pairs.into_iter().enumerate() {
            assert!(line.is_done(write));
            assert_eq!(line.told[&query], Ok(Some(n.to_string().into())), "the {n}th query");
        }
        s.assert_sound();
    }
}

/// Safety E4: two shards that have more for each other than fits between them go on.
#[test]
fn two_shards_that_flood_each_other_go_on() {
    let options = ClusterOptions { shards: vec![2], groups: 2, ..calm(1, 0) };
    let s = Scenario::running_with(421, options);
    let mut lines: Vec<Line> = Vec::new();
    for place in 0..1200_u32 {
        let mut line = Line::new(&s, NodeId(1), (place % 2) as u16);
        // Group 1 lives on shard 1 and group 2 on shard 0: each is at the other one.
        let group = GroupId(1 + (place % 2));
        for n in 0..3 {
            line.submit(group, set(&format!("key-{place}-{n}"), "1"));
        }
        lines.push(line);
    }
    s.must_reach("an end of all", seconds(10), || {
        lines.iter_mut().for_each(Line::take);
        lines.iter().all(|line| line.told.len() == 3)
    });
    assert!(lines.iter().all(|line| (1..=3).all(|tag| line.is_done(tag))));
    s.assert_sound();
}

/// Safety E4: answers that find no room wait for it; their requests do not end by their deadline.
#[test]
fn answers_to_a_shard_that_stood_still_all_arrive() {
    let options = ClusterOptions { shards: vec![2], groups: 2, ..calm(1, 0) };
    let s = Scenario::running_with(425, options);
    s.world.node(NodeId(1)).hang_disk(seconds(3));
    // Group 1 lives on shard 1.
    let ask = |place: u32| {
        let mut line = Line::new(&s, NodeId(1), 0);
        line.submit(GROUP, set(&format!("key-{place}"), "1"));
        line
    };
    let mut lines: Vec<Line> = (0..900).map(ask).collect();
    // Until all of them have found their way to the other shard.
    s.run_for(seconds(2));
    s.world.pause(NodeId(1), ShardId(0));
    s.run_for(seconds(3));
    s.world.resume(NodeId(1), ShardId(0));
    s.must_reach("an end of all", seconds(2), || {
        lines.iter_mut().for_each(Line::take);
        lines.iter().all(|line| line.is_done(1))
    });
    s.assert_sound();
}

/// B36: what has run out of time, or had no leader, takes no room from what comes after.
#[test]
fn a_request_that_has_ended_makes_room_again_however_it_ended() {
    let s = Scenario::running(422, 3, 0);
    let leader = one_leader(&s, &all(&s));
    let follower = s.others(leader)[0];
    let value = "v".repeat(60_000);
    for round in 0..3 {
        // In doubt at the leader; parked or in doubt at the follower; both without a majority.
        all(&s).iter().for_each(|node| s.unplug(*node));
        for node in [leader, follower] {
            let mut line = Line::new(&s, node, 0);
            // Half of what a shard takes.
            for n in 0..500 {
                line.submit(GROUP, set(&format!("key-{n}"), &value));
            }
            s.run_for(millis(1));
            line.take();
            let refused = line.told.values().filter(|it| **it == Err(RequestError::Busy)).count();
            assert_eq!(refused, 0, "round {round}: refused at node {node}");
            s.run_for(seconds(12));
            line.take();
            assert_eq!(line.told.len(), 500, "all have ended by their deadline");
        }
        all(&s).iter().for_each(|node| s.plug_in(*node));
        agree(&s, &all(&s), "round", &round.to_string());
    }
    s.assert_sound();
}

/// B91, B98: commands up to the limit are accepted, and a longer command is refused before it is proposed.
#[test]
fn commands_up_to_the_limit_are_taken_at_every_node() {
    let s = Scenario::running(423, 3, 0);
    let limit = 64 << 10;
    let fits = |value: usize| match set("k", &"v".repeat(value)) {
        Request::Propose(command) => command.len() <= limit,
        Request::Query(_) => false,
    };
    let longest = (limit - 64..limit).rev().find(|value| fits(*value)).expect("some fit");
    for node in s.nodes() {
        for len in [longest - 1, longest, longest + 1, longest + 1000] {
            let value = "v".repeat(len);
            let answer = s.write(node, "k", &value, seconds(5));
            match len <= longest {
                true => {
                    assert!(matches!(answer, Some(Ok(_))), "{len} bytes: {answer:?}");
                    assert_eq!(s.must_read(node, "k", seconds(5)), Some(value));
                }
                false => assert!(
                    matches!(answer, Some(Err(RequestError::TooLarge { .. }))),
                    "{len} bytes: {answer:?}"
                ),
            }
        }
    }
    s.must_converge(2 * ELECTION);
    s.assert_sound();
}

/// B97: what a follower has missed crosses to it about once, and a stalled one is sent no more than its
/// connections hold.
#[test]
fn a_stalled_follower_is_sent_a_bounded_part_and_later_the_rest_once() {
    let s = Scenario::running(424, 3, 0);
    let leader = one_leader(&s, &all(&s));
    let stalled = s.others(leader)[0];
    let crossed = || s.world.bytes_delivered(leader, stalled);
    let value = "v".repeat(60_000);
    let before = crossed();
    s.world.pause(stalled, ShardId(0));
    (0..200).for_each(|n| s.must_write(leader, &format!("key-{n}"), &value, seconds(5)));
    let stuck = crossed() - before;
    assert!(stuck < 1 << 20, "{stuck} bytes went to a node that reads nothing");
    s.world.resume(stalled, ShardId(0));
    let missed = 200 * value.len() as u64;
    all(&s).iter().for_each(|node| {
        s.must_reach("it catches up", seconds(20), || s.applied(*node) >= s.applied(leader));
    });
    let bytes = crossed() - before;
    assert!(bytes < missed * 3 / 2, "{bytes} bytes for {missed}");
    s.assert_sound();
}
