//! The tests of the kvraft lab of MIT's course 6.5840 (4A), by their names. Its clerks are our clients,
//! of which every node has its own and every other one keeps several requests open; its appends are a
//! part of their operations. Every answer of every test is judged for linearizability, not only those
//! of the last. There are no sessions yet, so a clerk's retries are not tested: what a client asked
//! once must not happen twice. The lab's tests of snapshots (4B) come with snapshots.

use crate::support::{agree, millis, one_leader, seconds, shake, shaky};
use purlin::NodeId;
use purlin_tests::{
    cluster::{
        KeyValue,
        scenario::{GROUP, Scenario, calm, get, set},
    },
    sim::{Crash, Random},
    workload::WorkloadOptions,
};

/// What a test of the lab's `GenericTest` does, a few times over.
#[derive(Clone, Copy, Default)]
struct Kind {
    /// The network loses much.
    is_unreliable: bool,
    /// The nodes part in two at random, again and again.
    is_parted: bool,
    /// All nodes lose their power after each round.
    is_cut: bool,
    /// Clients at each node.
    clients: u32,
    /// Keys of each kind that they use.
    keys: u32,
}

const NODES: u32 = 5;
const ROUNDS: u32 = 3;

/// Clients ask while the network does what the kind of test says; then it heals and all nodes may
/// restart; and in the end everything that was answered had one order. Returns what was done.
fn generic(seed: u64, kind: Kind) -> usize {
    let base =
        if kind.is_unreliable { shaky(NODES, kind.clients) } else { calm(NODES, kind.clients) };
    let load = WorkloadOptions { keys: kind.keys, ..WorkloadOptions::default() };
    let subject = KeyValue::new(Random::new(seed, "workload"), load);
    let s = Scenario::with_subject(seed, base, subject).started();
    let random = Random::new(seed, "trouble");
    let all: Vec<NodeId> = s.nodes().collect();
    for round in 0..ROUNDS {
        for _ in 0..3 {
            if kind.is_parted {
                let mut nodes = all.clone();
                random.shuffle(&mut nodes);
                let (one, other) = nodes.split_at(random.below(u64::from(NODES)) as usize);
                s.world.heal();
                s.world.partition(one, other);
            }
            let pause = random.duration(millis(400)..millis(900));
            if kind.is_unreliable { shake(&s, &random, pause) } else { s.run_for(pause) }
        }
        s.world.heal();
        if kind.is_cut {
            all.iter().for_each(|node| s.crash(*node, Crash::PowerCut));
            s.run_for(millis(300));
            all.iter().for_each(|node| s.world.restart(*node));
        }
        agree(&s, &all, "round", &round.to_string());
    }
    let (done, _, _) = s.judge();
    s.must_converge(seconds(20));
    s.assert_sound();
    done
}

const ONE_CLIENT: Kind =
    Kind { is_unreliable: false, is_parted: false, is_cut: false, clients: 1, keys: 4 };
const CLIENTS: Kind = Kind { clients: 3, ..ONE_CLIENT };

/// The lab's single client: it goes on where it is until its shard ends.
#[test]
fn test_basic() {
    let done = generic(201, ONE_CLIENT);
    assert!(done >= 300, "{done} requests were done");
}

/// Requests one after the other take a third of a heartbeat at most, as the lab demands.
#[test]
fn test_speed() {
    let s = Scenario::running(202, 3, 0);
    let began = s.world.now();
    for n in 0..100 {
        s.must_write(NodeId(1), "key", &n.to_string(), seconds(5));
        assert_eq!(s.must_read(NodeId(1), "key", seconds(5)), Some(n.to_string()));
    }
    let each = (s.world.now() - began) / 200;
    assert!(each <= millis(100) / 3, "{each:?} for a request");
    s.assert_sound();
}

#[test]
fn test_concurrent() {
    let done = generic(203, CLIENTS);
    assert!(done >= 800, "{done} requests were done");
}

#[test]
fn test_unreliable() {
    let done = generic(204, Kind { is_unreliable: true, ..CLIENTS });
    assert!(done >= 200, "{done} requests were done");
}

/// All clients use the same keys, one of each kind.
#[test]
fn test_unreliable_one_key() {
    let done = generic(205, Kind { is_unreliable: true, keys: 1, ..CLIENTS });
    assert!(done >= 200, "{done} requests were done");
}

/// The majority goes on; the minority, in which is the old leader, answers nothing; after that
/// everything ends.
#[test]
fn test_one_partition() {
    let s = Scenario::running(206, NODES, 0);
    s.must_write(NodeId(1), "key", "13", seconds(5));
    let leader = one_leader(&s, &s.nodes().collect::<Vec<_>>());
    let others = s.others(leader);
    let (mate, majority) = others.split_first().expect("five nodes");
    let minority = [leader, *mate];
    s.world.partition(&minority, majority);
    s.must_write(majority[0], "key", "14", seconds(15));
    assert_eq!(s.must_read(majority[1], "key", seconds(5)).as_deref(), Some("14"));
    let write = s.submit(minority[0], GROUP, set("key", "15"));
    let read = s.submit(minority[1], GROUP, get("key"));
    s.run_for(seconds(1));
    assert_eq!((write.answer(), read.answer()), (None, None), "a minority has answered");
    s.must_write(majority[2], "key", "16", seconds(15));
    s.world.heal();
    s.must_reach("the ends of both", seconds(12), || {
        write.answer().is_some() && read.answer().is_some()
    });
    if let Some(Ok(value)) = read.answer() {
        assert!([&b"15"[..], b"16"].contains(&value.as_deref().unwrap_or_default()), "{value:?}");
    }
    let last = s.must_read(leader, "key", seconds(10));
    let expected = if write.is_done() { "15" } else { "16" };
    let is_unknown = matches!(write.answer(), Some(Err(purlin::RequestError::Unknown { .. })));
    assert!(is_unknown || last.as_deref() == Some(expected), "{last:?} after {:?}", write.answer());
    s.assert_sound();
}

#[test]
fn test_many_partitions_one_client() {
    let done = generic(207, Kind { is_parted: true, ..ONE_CLIENT });
    assert!(done >= 50, "{done} requests were done");
}

#[test]
fn test_many_partitions_many_clients() {
    let done = generic(208, Kind { is_parted: true, ..CLIENTS });
    assert!(done >= 150, "{done} requests were done");
}

#[test]
fn test_persist_one_client() {
    let done = generic(209, Kind { is_cut: true, ..ONE_CLIENT });
    assert!(done >= 100, "{done} requests were done");
}

#[test]
fn test_persist_concurrent() {
    let done = generic(210, Kind { is_cut: true, ..CLIENTS });
    assert!(done >= 300, "{done} requests were done");
}

#[test]
fn test_persist_concurrent_unreliable() {
    let done = generic(211, Kind { is_cut: true, is_unreliable: true, ..CLIENTS });
    assert!(done >= 100, "{done} requests were done");
}

#[test]
fn test_persist_partition() {
    let done = generic(212, Kind { is_cut: true, is_parted: true, ..CLIENTS });
    assert!(done >= 100, "{done} requests were done");
}

#[test]
fn test_persist_partition_unreliable() {
    let kind = Kind { is_cut: true, is_parted: true, is_unreliable: true, ..CLIENTS };
    let done = generic(213, kind);
    assert!(done >= 80, "{done} requests were done");
}

/// More clients on fewer keys.
#[test]
fn test_persist_partition_unreliable_linearizable() {
    let kind = Kind { is_cut: true, is_parted: true, is_unreliable: true, clients: 4, keys: 2 };
    let done = generic(214, kind);
    assert!(done >= 80, "{done} requests were done");
}
