//! The schedules of safety I2 to I5, against what a shard remembers of its peers.

use super::*;
use crate::Advertised;
use purlin_rsm::{ClusterId, Fork};

const SILENCE: u64 = 20;
const A: NodeId = NodeId(1);

fn book() -> PeerBook {
    PeerBook::new([1, 2, 3].map(|node| (NodeId(node), None)), [], SILENCE)
}

fn start(number: u64, boot: u64, kept: u64) -> Start {
    Start { number, boot: BootId(boot), kept: Sequence(kept) }
}

/// Node 1, shard 0.
fn facts(incarnation: u64, starts: &[Start]) -> Facts {
    Facts {
        cluster: ClusterId(1),
        fork: Fork(0),
        config_hash: 1,
        node: A,
        incarnation: Incarnation(incarnation),
        shard: ShardId(0),
        shards: 2,
        starts: starts.into(),
        voters: Vec::new(),
        table: Vec::new(),
        acting: true,
        advertised: Advertised::default(),
    }
}

fn meet(book: &mut PeerBook, facts: &Facts, durable: u64) {
    assert_eq!(book.check(facts), Ok(()));
    book.admit(facts, Sequence(durable));
}

fn silence(book: &mut PeerBook) {
    (0..=SILENCE).for_each(|_| book.beat());
}

fn gone_back(book: &mut PeerBook, starts: &[Start]) -> GoneBack {
    match book.check(&facts(7, starts)) {
        Err(Refusal::WentBack { node, incarnation, shard, how }) => {
            assert_eq!((node, incarnation, shard), (A, Incarnation(7), ShardId(0)));
            how
        }
        other => panic!("{other:?}"),
    }
}

/// Safety I2 and I3: "A and B commit, A is wiped and made anew."
#[test]
fn another_incarnation_of_a_known_node_is_refused() {
    let mut book = book();
    meet(&mut book, &facts(7, &[start(1, 10, 0)]), 5);
    assert_eq!(book.table(), [(A, Incarnation(7))]);
    let wiped = facts(8, &[start(1, 99, 0)]);
    let (expected, got) = (Incarnation(7), Incarnation(8));
    let refusal = Refusal::OtherIncarnation { node: A, expected, got };
    silence(&mut book);
    assert_eq!(book.check(&wiped), Err(refusal));
    // Across our own restart too, and on every shard of the wiped node.
    let members = [1, 2, 3].map(|node| (NodeId(node), None));
    let mut book = PeerBook::new(members, book.take_changes(), SILENCE);
    assert_eq!(book.check(&wiped), Err(refusal));
    assert_eq!(book.check(&Facts { shard: ShardId(1), ..wiped }), Err(refusal));
}

#[test]
fn a_node_is_no_member_until_the_table_names_it() {
    let mut book = PeerBook::new([(NodeId(2), None)], [], SILENCE);
    let facts = facts(7, &[start(1, 10, 0)]);
    assert_eq!(book.check(&facts), Err(Refusal::NotMember { node: A }));
    book.set_table([(A, Incarnation(7)), (NodeId(2), Incarnation(9))]);
    meet(&mut book, &facts, 0);
    // Re-entry names another incarnation, and the old one is out.
    book.set_table([(A, Incarnation(8)), (NodeId(2), Incarnation(9))]);
    assert!(matches!(book.check(&facts), Err(Refusal::OtherIncarnation { .. })));
}

#[test]
fn starts_that_go_on_are_welcome() {
    let mut book = book();
    meet(&mut book, &facts(7, &[start(1, 10, 0)]), 5);
    assert!(book.saw(PeerShard::new(A, ShardId(0)), Incarnation(7), BootId(10), Sequence(50)));
    silence(&mut book);
    // Kept exactly what was durable, and two starts that we never saw.
    let starts = [start(1, 10, 0), start(2, 20, 50), start(3, 30, 50), start(4, 40, 80)];
    meet(&mut book, &facts(7, &starts), 80);
    let memory = book.take_changes()[0];
    assert_eq!((memory.start, memory.boot, memory.durable), (4, BootId(40), Sequence(80)));
    assert!(!memory.fenced);
    // The same start again, on a new connection.
    meet(&mut book, &facts(7, &starts), 90);
}

/// Safety I4, first: "the start that a peer remembers is missing at its end".
#[test]
fn a_directory_older_than_the_remembered_start_is_fenced() {
    let mut book = book();
    meet(&mut book, &facts(7, &[start(1, 10, 0), start(2, 20, 5), start(3, 30, 9)]), 9);
    silence(&mut book);
    // A copy from the time of start 1 starts anew.
    let restored = [start(1, 10, 0), start(2, 99, 4)];
    assert_eq!(gone_back(&mut book, &restored), GoneBack::StartMissing { start: 3 });
    // One refusal is for good, also when the directory has caught up in number.
    let (node, incarnation, shard) = (A, Incarnation(7), ShardId(0));
    let later = facts(7, &[start(1, 10, 0), start(2, 99, 4), start(3, 30, 9)]);
    assert_eq!(book.check(&later), Err(Refusal::Fenced { node, incarnation, shard }));
    assert!(book.take_changes()[0].fenced);
}

/// Safety I4, second: the remembered start "has another id".
#[test]
fn a_directory_whose_remembered_start_was_another_process_is_fenced() {
    let mut book = book();
    meet(&mut book, &facts(7, &[start(1, 10, 0), start(2, 20, 5)]), 9);
    silence(&mut book);
    let (expected, got) = (BootId(20), BootId(99));
    assert_eq!(
        gone_back(&mut book, &[start(1, 10, 0), start(2, 99, 5), start(3, 98, 20)]),
        GoneBack::OtherBoot { start: 2, expected, got }
    );
}

/// Safety I4, third: "or its successor kept less than the peer remembers".
#[test]
fn a_directory_that_lost_durable_batches_is_fenced() {
    let mut book = book();
    meet(&mut book, &facts(7, &[start(1, 10, 0)]), 0);
    assert!(book.saw(PeerShard::new(A, ShardId(0)), Incarnation(7), BootId(10), Sequence(50)));
    silence(&mut book);
    let (durable, kept) = (Sequence(50), Sequence(49));
    assert_eq!(
        gone_back(&mut book, &[start(1, 10, 0), start(2, 20, 49), start(3, 30, 900)]),
        GoneBack::KeptLess { start: 1, durable, kept }
    );
}

/// A shard may have had more starts than its headers list while we did not see it.
#[test]
fn a_list_that_begins_later_must_still_have_kept_as_much() {
    let seen = |durable| {
        let mut book = book();
        meet(&mut book, &facts(7, &[start(1, 10, 0)]), durable);
        silence(&mut book);
        book
    };
    let late = [start(30, 300, 60), start(31, 310, 70)];
    assert_eq!(seen(60).check(&facts(7, &late)), Ok(()));
    assert!(matches!(gone_back(&mut seen(61), &late), GoneBack::KeptLess { start: 1, .. }));
}

/// What the peer kept when it started was durable before, whatever its frames say later.
#[test]
fn what_a_start_kept_is_remembered_as_durable() {
    let mut book = book();
    meet(&mut book, &facts(7, &[start(1, 10, 70)]), 0);
    silence(&mut book);
    assert!(matches!(
        gone_back(&mut book, &[start(1, 10, 70), start(2, 20, 69)]),
        GoneBack::KeptLess { durable: Sequence(70), .. }
    ));
}

/// Safety I5: "After a power loss the half-open socket would refuse the restarted node."
#[test]
fn the_second_of_two_live_boots_waits_for_the_silence_of_the_first() {
    let mut book = book();
    let peer = PeerShard::new(A, ShardId(0));
    meet(&mut book, &facts(7, &[start(1, 10, 0)]), 0);
    let second = facts(7, &[start(1, 10, 0), start(2, 20, 30)]);
    let (node, shard, live, held_off) = (A, ShardId(0), BootId(10), BootId(20));
    let refusal = Refusal::DuplicateBoot { node, shard, live, held_off };
    for _ in 0..3 {
        (0..SILENCE).for_each(|_| book.beat());
        assert_eq!(book.check(&second), Err(refusal));
        // Trying does not prolong it, being heard does.
        assert!(book.saw(peer, Incarnation(7), BootId(10), Sequence(20)));
    }
    silence(&mut book);
    meet(&mut book, &second, 30);
    // The late frames of the first count for nothing.
    assert!(!book.saw(peer, Incarnation(7), BootId(10), Sequence(u64::MAX)));
    assert_eq!(book.memories().next().unwrap().durable, Sequence(30));
    assert_eq!(book.check(&second), Ok(()));
}

/// A copy that is started beside its original is held off, and does not fence the original.
#[test]
fn a_copy_of_a_running_directory_does_not_harm_the_original() {
    let mut book = book();
    let peer = PeerShard::new(A, ShardId(0));
    let original = facts(7, &[start(1, 10, 0), start(2, 20, 30)]);
    meet(&mut book, &original, 40);
    let copy = facts(7, &[start(1, 10, 0), start(2, 21, 30)]);
    assert!(matches!(book.check(&copy), Err(Refusal::DuplicateBoot { .. })));
    assert_eq!(book.check(&original), Ok(()));
    // Once the original is gone, the copy is behind it.
    assert!(book.saw(peer, Incarnation(7), BootId(20), Sequence(41)));
    silence(&mut book);
    assert!(matches!(book.check(&copy), Err(Refusal::WentBack { .. })));
}

/// A network may deliver the hello of a killed process after that of its successor.
#[test]
fn a_late_hello_of_an_older_start_fences_nobody() {
    let mut book = book();
    let first = facts(7, &[start(1, 10, 0)]);
    meet(&mut book, &first, 0);
    silence(&mut book);
    let second = facts(7, &[start(1, 10, 0), start(2, 20, 30)]);
    meet(&mut book, &second, 30);
    silence(&mut book);
    let (node, shard) = (A, ShardId(0));
    let refusal = Refusal::Superseded { node, shard, start: 1, latest: 2 };
    assert_eq!(book.check(&first), Err(refusal));
    assert_eq!(book.check(&second), Ok(()));
    // A directory that went back has drawn a new boot id, and is no late hello.
    assert!(matches!(
        gone_back(&mut book, &[start(1, 11, 0)]),
        GoneBack::StartMissing { start: 2 }
    ));
}

#[test]
fn a_fence_holds_for_one_shard_of_one_incarnation() {
    let mut book = book();
    meet(&mut book, &facts(7, &[start(2, 10, 0)]), 0);
    silence(&mut book);
    gone_back(&mut book, &[start(1, 99, 0)]);
    assert!(!book.saw(PeerShard::new(A, ShardId(0)), Incarnation(7), BootId(10), Sequence(9)));
    let other_shard = Facts { shard: ShardId(1), ..facts(7, &[start(1, 5, 0)]) };
    assert_eq!(book.check(&other_shard), Ok(()));
    book.set_table([(A, Incarnation(8))]);
    assert_eq!(book.check(&facts(8, &[start(1, 6, 0)])), Ok(()), "the way back: a new incarnation");
}

#[test]
fn what_is_remembered_survives_a_restart_of_the_one_who_remembers() {
    let mut first = book();
    let peer = PeerShard::new(A, ShardId(0));
    meet(&mut first, &facts(7, &[start(3, 30, 0)]), 0);
    assert!(first.saw(peer, Incarnation(7), BootId(30), Sequence(50)));
    let memories = first.take_changes();
    assert_eq!(first.take_changes(), []);
    assert!(first.saw(peer, Incarnation(7), BootId(30), Sequence(50)));
    assert_eq!(first.take_changes(), [], "nothing is new");
    let members = || [1, 2, 3].map(|node| (NodeId(node), None));
    let mut second = PeerBook::new(members(), memories.clone(), SILENCE);
    assert_eq!(second.table(), [(A, Incarnation(7))]);
    // Nobody was heard by this process, so nobody is held off, and what went back is noticed.
    assert_eq!(second.check(&facts(7, &[start(3, 30, 0), start(4, 40, 50)])), Ok(()));
    let mut third = PeerBook::new(members(), memories, SILENCE);
    assert!(matches!(
        gone_back(&mut third, &[start(3, 30, 0), start(4, 40, 49)]),
        GoneBack::KeptLess { .. }
    ));
}
