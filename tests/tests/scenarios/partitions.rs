//! Links that are cut, both ways or one.

use crate::support::{ONE, millis, seconds};
use purlin::{NodeId, RequestError};
use purlin_tests::cluster::scenario::{Answer, Scenario};
use std::time::Duration;

/// B15, B17, B42: another leader soon, and the old one answers nothing that is stale.
#[test]
fn a_leader_that_is_cut_off_is_replaced_and_answers_nothing_stale() {
    for (seed, way) in (9..).zip(["both", "out", "in"]) {
        let s = Scenario::running(seed, 3, 0);
        s.must_write(ONE, "key", "old", seconds(5));
        let leader = s.leader();
        let others = s.others(leader);
        match way {
            "both" => s.world.partition(&[leader], &others),
            "out" => s.world.cut_one_way(&[leader], &others),
            _ => s.world.cut_one_way(&others, &[leader]),
        }
        s.must_reach(&format!("another leader, {way}"), seconds(4), || {
            s.leader_among(&others).is_some_and(|now| now != leader)
        });
        s.must_write(others[0], "key", "new", seconds(10));
        let read: Answer = s.read(leader, "key", seconds(12));
        let stale = matches!(&read, Some(Ok(value)) if value.as_deref() != Some(b"new"));
        assert!(!stale, "{way}: the old leader answered {read:?}");
        s.world.heal();
        assert_eq!(s.must_read(leader, "key", seconds(10)).as_deref(), Some("new"), "{way}");
        s.assert_sound();
    }
}

#[test]
fn a_minority_acknowledges_nothing() {
    let s = Scenario::running(12, 3, 0);
    let leader = s.leader();
    s.world.isolate(leader);
    let answer = s.write(leader, "lost", "1", seconds(12));
    assert!(!matches!(answer, Some(Ok(_))), "a write without a majority: {answer:?}");
    if let Some(Err(error)) = &answer {
        let is_honest = matches!(error, RequestError::Unknown { .. });
        assert!(is_honest, "it may yet be committed, and the answer was {error}");
    }
    s.assert_sound();
}

/// What a cut leaves behind is bounded. A cut of less than 1.5 s ends with TCP's next try, or with the silence of the
/// pair. After a longer one an attempt to connect ends after 500 ms, the next one begins at most 200 ms later, and an
/// election takes at most 1 s and the time of its messages.
#[test]
fn after_a_cut_of_any_length_a_write_is_acknowledged_within_two_seconds() {
    const SEEDS: u64 = 4;
    const MILLIS: [u64; 14] = [
        300, 500, 600, 700, 800, 1_000, 1_400, 1_500, 1_600, 2_000, 5_000, 14_000, 60_000, 120_000,
    ];
    for (seed, cut) in (40..).zip(MILLIS.repeat(SEEDS as usize)) {
        for way in ["both", "out", "in"] {
            let gap = gap_after_a_cut(seed, millis(cut), way);
            assert!(gap <= millis(2_000), "{gap:?} after a cut of {cut} ms, {way}, seed {seed}");
        }
    }
}

/// Cuts all nodes from each other for so long, and gives the time from the heal to the first write.
fn gap_after_a_cut(seed: u64, cut: Duration, way: &str) -> Duration {
    let s = Scenario::running(seed, 3, 0);
    s.must_write(ONE, "key", "before", seconds(5));
    let nodes: Vec<NodeId> = s.nodes().collect();
    for (at, node) in nodes.iter().enumerate() {
        match way {
            "both" => s.world.partition(&[*node], &nodes),
            "out" => s.world.cut_one_way(&[*node], &nodes[at + 1..]),
            _ => s.world.cut_one_way(&[*node], &nodes[..at]),
        }
    }
    s.run_for(cut);
    s.world.heal();
    let healed = s.world.now();
    s.must_write(ONE, "key", "after", seconds(30));
    s.assert_sound();
    s.world.now() - healed
}
